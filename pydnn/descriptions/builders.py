"""Described builders: their parts remember the builder and the plain options that made them.

`describe(dense(20))` is `{"dense": {"units": 20}}`, and `build` makes an equal part from it.
Recipes, run files and the command line all use this form. A builder outside pydnn is called
`module:function`. pydnn knows it once its module has been imported. `import_own` alone imports a
module because a text names it, and only if the user has allowed that module.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs

from pydnn.checks import (
    MOST_BITS,
    BadInput,
    Json,
    expect_known,
    expect_options,
    plain_number,
    shown,
)
from pydnn.descriptions.parts import Builder, DescribedPart, Description, is_description
from pydnn.descriptions.renames import current_name, current_option, current_value

__all__ = [
    "NotAllowed",
    "Unread",
    "build",
    "builders_of",
    "describe",
    "described",
    "expect_allowed",
    "find_builder",
    "import_own",
    "modules",
    "plain_numbers",
]

_Options = ParamSpec("_Options")
_Part = TypeVar("_Part")


class NotAllowed(BadInput):
    """A file names code outside pydnn that the user has not allowed to run."""


@attrs.frozen
class Unread:
    """A part of a recipe that could not be read: its text, and the error that `build` raises.

    A run can be inspected without the parts that its reader does not need, e.g. without code that
    is not allowed here.
    """

    text: str
    reason: BadInput = attrs.field(eq=False, repr=False)


# From (family, name) to the builder. Only `described` adds to it, when a module is imported, so a
# file that names some other object, e.g. os:system, never gets it called.
_BUILDERS: dict[tuple[str, str], Builder] = {}
_FAMILIES: set[str] = set()
_MODULES_OF_PYDNN = [
    "augmentation",
    "batches",
    "data",
    "losses",
    "optimizers",
    "penalties",
    "stages",
]


def _known() -> dict[tuple[str, str], Builder]:
    """Return all builders, after loading the modules of pydnn that have some."""
    _load_modules()
    return _BUILDERS


@functools.cache
def _load_modules() -> None:
    for module in _MODULES_OF_PYDNN:
        importlib.import_module(f"pydnn.{module}")


def described(
    family: str, *, drawn_by: Sequence[str] = ()
) -> Callable[[Callable[_Options, _Part]], Callable[_Options, _Part]]:
    """Decorate a function that makes a part, so that the part remembers the call.

    Args:
        family: The kind of part: "stage", "loss", "optimizer", "initializer", "schedule",
            "penalty", "batches", "weights", "augmentation" or "text".
        drawn_by: The names of options that are initializers. A file can claim a network of any
            size, so pydnn first lays its parameters out with zeros, which take no memory, and
            draws weights only when the size is known to fit.

    Returns:
        A decorator. The decorated function makes equal parts from equal options.

    Raises:
        BadInput: If `drawn_by` names an option that the function does not have, or the function
            has options without names. The decorated function raises it for an option of the wrong
            kind, or if the function returns anything but a part.

    Example:
        >>> __name__ = "my_parts"  # as if this were written in my_parts.py
        >>> @nn.described("stage")
        ... def double():
        ...     return nn.elementwise(
        ...         "double",
        ...         forward=lambda Z, numerics: 2 * Z,
        ...         backward=lambda dA, Z, A, numerics: 2 * dA,
        ...     )
        >>> nn.serial(nn.dense(3), double())
        serial(dense(3), my_parts:double())
    """

    def decorate(builder: Callable[_Options, _Part]) -> Callable[_Options, _Part]:
        # In a spawned process the main module has this second name.
        module = builder.__module__.replace("__mp_main__", "__main__")
        pydnns = module.partition(".")[0] == __name__.partition(".")[0]
        name = builder.__name__ if pydnns else f"{module}:{builder.__qualname__}"
        signature = inspect.signature(builder)
        for option in drawn_by:
            expect_known(f"option of {name}", option, signature.parameters)
        _expect_signature(name, signature)

        several = inspect.Parameter.VAR_POSITIONAL
        named = [p.name for p in signature.parameters.values() if p.kind is not several]

        @functools.wraps(builder)
        def describing(*args: _Options.args, **options: _Options.kwargs) -> _Part:
            # A description read from a file has plain numbers, so every builder gets plain ones.
            args, options = plain_numbers(args), plain_numbers(options)
            expect_options(name, options, named)
            if len(named) == len(signature.parameters):
                _expect_kinds(name, builder, {**dict(zip(named, args, strict=False)), **options})
            else:
                _expect_kinds(name, builder, options)
            part = builder(*args, **options)
            if not isinstance(part, DescribedPart):
                raise BadInput(
                    f"{name} made {shown(part)}, expected a part of family {family!r}: return "
                    "what one of pydnn's own builders makes."
                )
            arguments = signature.bind(*args, **options).arguments
            # A copy, since a builder may return one object each time, or another builder's part.
            part = attrs.evolve(part)
            object.__setattr__(part, "description", {name: _without_defaults(signature, arguments)})
            object.__setattr__(part, "builder", made_by)
            return part

        vars(describing)["family"] = family  # for readers; the registry decides
        _FAMILIES.add(family)
        made_by = Builder(name, family, signature, describing, tuple(drawn_by))
        if "<locals>" not in name:  # nobody can find a function inside another by its name
            _BUILDERS[family, name] = made_by
        return describing

    return decorate


def _expect_signature(name: str, signature: inspect.Signature) -> None:
    """Refuse options without names, since a description holds options by name."""
    for i, option in enumerate(signature.parameters.values()):
        if option.kind in (option.VAR_KEYWORD, option.POSITIONAL_ONLY) or (
            option.kind is option.VAR_POSITIONAL and i > 0
        ):
            raise BadInput(
                f"{name} takes {option}, expected options that have names, after at most one "
                f"*{option.name}: give each a name."
            )


def _expect_kinds(name: str, builder: Callable[..., object], options: Mapping[str, object]) -> None:
    """Refuse options that are not of the kind that the builder's annotations state.

    Numbers are left to the builder, which knows their bounds. So are options that may be of
    several kinds.
    """
    kinds = _kinds(builder)
    for option, value in options.items():
        kind, expected = kinds.get(option, (object, ""))
        if not isinstance(value, kind):
            raise BadInput(f"{option} of {name} is {shown(value)}, expected {expected}.")


@functools.cache
def _kinds(builder: Callable[..., object]) -> dict[str, tuple[tuple[type, ...], str]]:
    """Return the types, and words for them, of options that take only parts, lists or texts."""
    try:
        hints = get_type_hints(builder)
    except Exception:  # a user's annotations may have names that only type checkers see
        return {}
    kinds = {}
    for option, hint in hints.items():
        several = get_origin(hint) in (Union, UnionType)
        alternatives = set(get_args(hint) if several else (hint,))
        empty = (NoneType,) if NoneType in alternatives else ()
        types = [get_origin(kind) or kind for kind in alternatives - {NoneType}]
        if types == [str]:
            kinds[option] = ((str, *empty), "a text: put it in quotes")
        elif types == [Sequence]:
            kinds[option] = ((Iterable, *empty), "a list: put what it holds in brackets")
        elif all(isinstance(kind, type) and attrs.has(kind) for kind in types):
            words = " or ".join(kind.__name__ for kind in types)
            kinds[option] = ((*types, *empty), f"a part of the kind {words}: call its builder")
    return kinds


def describe(part: object) -> dict[str, dict[str, Json]]:
    """Return the call that made `part` as plain data, from which `build` makes an equal part.

    It holds only the options that differ from the builder's defaults.

    Raises:
        BadInput: If no described builder made the part or one of its options.

    Example:
        >>> nn.describe(nn.adam(learning_rate=nn.cosine_decay(0.1, steps=100)))
        {'adam': {'learning_rate': {'cosine_decay': {'initial': 0.1, 'steps': 100}}}}
    """
    description = getattr(part, "description", None)
    if description is None:
        raise BadInput(f"{part!r} cannot be described: make it with a builder under @described(…).")
    return {
        name: {option: _plain(f"{name}({option}=…)", value) for option, value in options.items()}
        for name, options in description.items()
    }


def build(description: Description, *, family: str | None = None) -> Any:
    """Make the part that `description` describes.

    Args:
        description: The name of a builder with its options, which may be descriptions, too.
        family: The family that the part must have, e.g. "loss"; None allows any.

    Raises:
        BadInput: If the builder is not known, an option is unknown, missing or wrong, or a builder
            outside pydnn fails. This function imports no module: pydnn knows a builder outside it
            once its module has been imported.

    Example:
        >>> nn.build({"dense": {"units": 20}})
        dense(20)
    """
    if isinstance(description, Unread):
        raise description.reason
    if not is_description(description):
        raise BadInput(
            f"{shown(description)} is not a description: give one name with its options, "
            'e.g. {"dense": {"units": 20}}, or call describe(…) on a part.'
        )
    [(name, options)] = description.items()
    name = current_name(name)
    builder = find_builder(name, family)
    today = [current_option(name, option) for option in options]
    for option in today:
        if today.count(option) > 1:
            raise BadInput(f"{name} has {option} twice, under an old name too: give it once.")
    arguments: dict[str, Any] = {
        option: current_value(name, option, _rebuilt(value))
        for option, value in zip(today, options.values(), strict=True)
    }
    for option in arguments:
        expect_known(f"option of {name}", option, builder.options)
    args = arguments.pop(builder.several, ()) if builder.several else ()
    try:
        builder.signature.bind(*args, **arguments)
    except TypeError as error:
        raise BadInput(f"{name} cannot be built: {error}.") from error
    try:
        return builder.function(*args, **arguments)
    except (BadInput, KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:
        if ":" not in name:
            raise
        raise BadInput(f"{name} cannot be built ({_reason(error)}): fix it.") from error


def find_builder(name: str, family: str | None = None) -> Builder:
    """Return the described builder called `name`, without importing anything to find it.

    Raises:
        BadInput: If there is no such builder, with the nearest name; or if it makes parts of
            another `family`.
    """
    known = _known()
    families = _FAMILIES if family is None else (family,)
    fitting = [known[made, name] for made in families if (made, name) in known]
    if len(fitting) == 1:
        return fitting[0]
    makers = sorted(f for f, n in _BUILDERS if n == name)
    if fitting:
        raise BadInput(f"{name!r} is a {' and a '.join(makers)}: say which with family=….")
    if ":" not in name:
        names = [n for f, n in _BUILDERS if family in (None, f) and ":" not in n]
        expect_known(family or "builder", name, names, listed_by="`pydnn parts`")
    if makers:
        raise BadInput(f"{name} makes a part of family {makers[0]!r}, expected {family!r}.")
    raise BadInput(
        f"there is no {family or 'part'} builder {name!r}: import its module first, in which the "
        "function is decorated with @described(…)."
    )


def builders_of(family: str | None = None) -> list[Builder]:
    """Return all known builders, or those of one `family`, sorted by family and name."""
    known = sorted(_known().items())
    return [builder for (made, _), builder in known if family in (None, made)]


def modules(allow: Iterable[str]) -> tuple[str, ...]:
    """Return the names of modules in `allow`, which may also be a single name."""
    return (allow,) if isinstance(allow, str) else tuple(allow)


def expect_allowed(name: str, allow: Iterable[str]) -> None:
    """Refuse a name `module:function` from a file, unless the user allowed its module.

    Args:
        name: The name of the builder in the file.
        allow: The names of modules that may be imported, each with all modules below it.

    Raises:
        NotAllowed: If the module is not allowed, even if it is imported already.
        BadInput: If it is a module of pydnn, whose builders have names without a module.
    """
    module, _, function = name.partition(":")
    if module.partition(".")[0] == __name__.partition(".")[0]:
        raise BadInput(f"{name} is not how builders of pydnn are named: write {function}.")
    if not any(module == allowed or module.startswith(f"{allowed}.") for allowed in modules(allow)):
        top = module.partition(".")[0]
        raise NotAllowed(
            f"{name} is code outside pydnn, which a file may not run: if you trust it, say "
            f"--allow {top}, or allow=[{top!r}] in Python."
        )


def import_own(name: str, allow: Iterable[str]) -> None:
    """Import the module of `module:function` if the user allowed it, see `expect_allowed`.

    Raises:
        NotAllowed: If the user did not allow it.
        BadInput: If the module cannot be imported, or has no such builder.
    """
    expect_allowed(name, allow)
    module, _, function = name.partition(":")
    if module not in sys.modules:
        _import(module, name)
    if any(n == name for _, n in _BUILDERS):
        return
    # A package may re-export a builder of a module below it. Look only into its dictionary: asking
    # a module for an attribute may run its code.
    imported = vars(sys.modules[module]).get(function)
    for builder in list(_BUILDERS.values()):
        if builder.function is imported:
            _BUILDERS[builder.family, name] = builder
            return
    raise BadInput(
        f"{name} is not a builder: decorate a function of that name with @described(…) at the "
        f"top of the module {module}."
    )


def _import(module: str, name: str) -> None:
    try:
        importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise BadInput(f"the module of {name} needs {error.name}: install that.") from error
        raise BadInput(
            f"the module {module} of {name} was not found: add the folder that it is in to "
            "PYTHONPATH, e.g. PYTHONPATH=. pydnn …; the current folder is not searched."
        ) from error
    except BaseException as error:  # a module may raise anything, even SystemExit
        raise BadInput(
            f"the module of {name} cannot be imported ({_reason(error)}): fix it."
        ) from error


def _reason(error: BaseException) -> str:
    """Return what code outside pydnn raised, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")


def _without_defaults(
    signature: inspect.Signature, arguments: Mapping[str, object]
) -> dict[str, object]:
    return {
        option: value
        for option, value in arguments.items()
        if not _same(value, signature.parameters[option].default)
    }


def _same(value: object, default: object) -> bool:
    return type(value) is type(default) and bool(value == default)


def _plain(where: str, value: object) -> Json:
    if isinstance(value, DescribedPart):
        return describe(value)
    if isinstance(value, list | tuple):
        return [_plain(where, item) for item in value]
    if value is None or isinstance(value, bool | float | str):
        return value
    if isinstance(value, int) and value.bit_length() <= MOST_BITS:
        return value
    raise BadInput(
        f"{where} is {shown(value)}, which a description cannot hold: "
        "give a number, a text, a list of these, or a part made by a described builder."
    )


def plain_numbers(value: object) -> Any:
    """Return the same options or descriptions with Python's numbers instead of NumPy's scalars."""
    if isinstance(value, dict):
        return {name: plain_numbers(item) for name, item in value.items()}
    if type(value) is list:
        return list(map(plain_numbers, value))
    if type(value) is tuple:
        return tuple(map(plain_numbers, value))
    return plain_number(value)


def _rebuilt(value: object) -> object:
    if is_description(value):
        return build(value)
    return tuple(map(_rebuilt, value)) if isinstance(value, list | tuple) else value
