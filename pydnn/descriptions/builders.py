"""Described builders: parts that remember the builder and the plain options that made them.

`describe(dense(20))` is `{"dense": {"units": 20}}`, and `build` makes the same part from that
again. Run files, recipes and the command line all speak this one form. A builder that a user
wrote is named `module:function`. It is known once its module has been imported, and only
`import_own` imports a module because a text names it: after the user has allowed that module.
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

from pydnn.checks import MOST_BITS, BadInput, Json, expect_known, plain_number, shown
from pydnn.descriptions.parts import Builder, DescribedPart, Description, is_description
from pydnn.descriptions.renames import current_name, current_option

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
    """A part of a recipe that nobody needs: its text as it stands, and why it cannot be built."""

    text: str
    reason: BadInput = attrs.field(eq=False, repr=False)


# (family, name) -> builder; `described` alone adds to it, when a module is imported. Nothing else
# makes a builder: a file can name any object there is, and some have every attribute.
_BUILDERS: dict[tuple[str, str], Builder] = {}
_MODULES_OF_PYDNN = ["batches", "losses", "optimizers", "penalties", "stages"]


def _known() -> dict[tuple[str, str], Builder]:
    """All builders, those of pydnn among them, whichever of its modules are loaded already."""
    for module in _MODULES_OF_PYDNN:
        importlib.import_module(f"pydnn.{module}")
    return _BUILDERS


def described(
    family: str, *, drawn_by: Sequence[str] = ()
) -> Callable[[Callable[_Options, _Part]], Callable[_Options, _Part]]:
    """Make a builder whose parts, each a `DescribedPart`, remember it.

    Args:
        family: What the builder makes: "stage", "loss", "optimizer", "initializer", "schedule",
            "penalty", "batches" or "weights".
        drawn_by: The builder's options that are initializers. A file can claim a network of any
            size, so its parameters are laid out with zeros, which take no memory, before any
            weight is drawn.

    Raises:
        BadInput: If the builder does not have an option that `drawn_by` names, or has options
            that no description can hold.
    """

    def decorate(builder: Callable[_Options, _Part]) -> Callable[_Options, _Part]:
        # A process that another one spawned has the main module under this second name.
        module = builder.__module__.replace("__mp_main__", "__main__")
        pydnns = module.partition(".")[0] == __name__.partition(".")[0]
        name = builder.__name__ if pydnns else f"{module}:{builder.__qualname__}"
        signature = inspect.signature(builder)
        for option in drawn_by:
            expect_known(f"option of {name}", option, signature.parameters)
        _expect_signature(name, signature)

        @functools.wraps(builder)
        def describing(*args: _Options.args, **options: _Options.kwargs) -> _Part:
            # Here, once for all builders: a file that holds the description has plain numbers.
            args, options = plain_numbers(args), plain_numbers(options)
            named = [
                p.name for p in signature.parameters.values() if p.kind is not p.VAR_POSITIONAL
            ]
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
            given = signature.bind(*args, **options).arguments
            # A copy, since a builder may return what it keeps, or what another builder made.
            part = attrs.evolve(part)
            object.__setattr__(part, "description", {name: _without_defaults(signature, given)})
            object.__setattr__(part, "builder", made_by)
            return part

        vars(describing)["family"] = family  # for readers; the registry decides
        made_by = Builder(name, family, signature, describing, tuple(drawn_by))
        if "<locals>" not in name:  # a function inside of another is not found by its name
            _BUILDERS[family, name] = made_by
        return describing

    return decorate


def _expect_signature(name: str, signature: inspect.Signature) -> None:
    """Refuse options that a description, which has a name for each, cannot give back."""
    for i, option in enumerate(signature.parameters.values()):
        if option.kind in (option.VAR_KEYWORD, option.POSITIONAL_ONLY) or (
            option.kind is option.VAR_POSITIONAL and i > 0
        ):
            raise BadInput(
                f"{name} takes {option}, expected options that have names, after at most one "
                f"*{option.name}: give each a name."
            )


def _expect_kinds(name: str, builder: Callable[..., object], options: Mapping[str, object]) -> None:
    """Refuse options of which the annotation says that they are of another kind.

    Numbers are left to the builder, which knows their bounds. So is everything that only some
    alternatives of an annotation would refuse.
    """
    kinds = _kinds(builder)
    for option, value in options.items():
        kind, wanted = kinds.get(option, (object, ""))
        if not isinstance(value, kind):
            raise BadInput(f"{option} of {name} is {shown(value)}, expected {wanted}.")


@functools.cache
def _kinds(builder: Callable[..., object]) -> dict[str, tuple[tuple[type, ...], str]]:
    """Of each option that takes parts, lists or texts alone: their types, and words for them."""
    try:
        hints = get_type_hints(builder)
    except Exception:  # names that only a type checker sees, in a user's own builder
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
    """The plain data from which `build` makes the same `part` again.

    Only options that differ from the builder's defaults are named.

    Raises:
        BadInput: If the part, or one of its options, was not made by a described builder.
    """
    description = getattr(part, "description", None)
    if description is None:
        raise BadInput(f"{part!r} cannot be described: make it with a builder under @described(…).")
    return {
        name: {option: _plain(f"{name}({option}=…)", value) for option, value in options.items()}
        for name, options in description.items()
    }


def build(description: Description, *, family: str | None = None) -> Any:
    """Make the part that `description` names, e.g. `{"dense": {"units": 20}}`.

    Args:
        description: One builder's name, with its options; those may be descriptions in turn.
        family: What is wanted, e.g. "loss"; a part of another family is then refused.

    Raises:
        BadInput: If the builder or one of its options is unknown or missing, or a builder outside
            pydnn fails. Such a builder is known once its module has been imported; this imports
            nothing.
    """
    if isinstance(description, Unread):
        raise description.reason
    if not is_description(description):
        raise BadInput(
            f"{shown(description)} describes nothing: give one name with its options, "
            'e.g. {"dense": {"units": 20}}; describe(…) gives that of a part.'
        )
    [(name, options)] = description.items()
    name = current_name(name)
    builder = find_builder(name, family)
    today = [current_option(name, option) for option in options]
    for option in today:
        if today.count(option) > 1:
            raise BadInput(f"{name} has {option} twice, under an old name too: give it once.")
    given: dict[str, Any] = dict(zip(today, map(_rebuilt, options.values()), strict=True))
    for option in given:
        expect_known(f"option of {name}", option, builder.options)
    args = given.pop(builder.several, ()) if builder.several else ()
    try:
        builder.signature.bind(*args, **given)
    except TypeError as error:
        raise BadInput(f"{name} cannot be built: {error}.") from error
    try:
        return builder.function(*args, **given)
    except (BadInput, KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:
        if ":" not in name:
            raise
        raise BadInput(f"{name} cannot be built ({_reason(error)}): fix it.") from error


def find_builder(name: str, family: str | None = None) -> Builder:
    """The described builder called `name`; nothing is imported to find it.

    Raises:
        BadInput: If there is none, with the nearest name; or it is of another `family`.
    """
    fitting = [b for (f, n), b in _known().items() if n == name and family in (None, f)]
    if len(fitting) == 1:
        return fitting[0]
    makers = sorted(f for f, n in _BUILDERS if n == name)
    if fitting:
        raise BadInput(f"{name!r} is a {' and a '.join(makers)}: say which with family=….")
    if ":" not in name:
        known = [n for f, n in _BUILDERS if family in (None, f) and ":" not in n]
        expect_known(family or "builder", name, known)
    if makers:
        raise BadInput(f"{name} makes a part of family {makers[0]!r}, expected {family!r}.")
    raise BadInput(
        f"there is no {family or 'part'} builder {name!r}: import its module first, in which the "
        "function is decorated with @described(…)."
    )


def builders_of(family: str | None = None) -> list[Builder]:
    """All builders that are known, or those of one `family`, sorted by family and name."""
    known = sorted(_known().items())
    return [builder for (made, _), builder in known if family in (None, made)]


def modules(allow: Iterable[str]) -> tuple[str, ...]:
    """The names in `allow`, which may be a single one."""
    return (allow,) if isinstance(allow, str) else tuple(allow)


def expect_allowed(name: str, allow: Iterable[str]) -> None:
    """Refuse the name `module:function` of a file, unless the user allowed its module.

    Args:
        name: The builder's name, as a file says it.
        allow: Names of the modules that may be imported, each with all modules below it.

    Raises:
        NotAllowed: If the module is not among these, even if it is imported already.
        BadInput: If it is a module of pydnn, whose builders have other names.
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
    """Import the module of `module:function`, if the user allowed it: see `expect_allowed`.

    Raises:
        NotAllowed: If the user did not.
        BadInput: If it cannot be imported, or has no such builder.
    """
    expect_allowed(name, allow)
    module, _, function = name.partition(":")
    if module not in sys.modules:
        _import(module, name)
    if any(n == name for _, n in _BUILDERS):
        return
    # A package may hand on what a module below it made. Only its own dictionary is looked into:
    # to ask some modules for an attribute is to run code.
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
    except BaseException as error:  # whatever a module may do, even end the process
        raise BadInput(
            f"the module of {name} cannot be imported ({_reason(error)}): fix it."
        ) from error


def _reason(error: BaseException) -> str:
    """What code outside pydnn raised, which may be anything, even an end of the process."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")


def _without_defaults(
    signature: inspect.Signature, given: Mapping[str, object]
) -> dict[str, object]:
    return {
        option: value
        for option, value in given.items()
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
        f"{where} is {shown(value)}, which plain data cannot hold: "
        "give a number, a text, a list of these, or a part made by a described builder."
    )


def plain_numbers(value: object) -> Any:  # of the type of `value`, where it holds no scalars
    """The same options or descriptions with Python's numbers where they held NumPy's scalars."""
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
