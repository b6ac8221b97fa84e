"""Described builders: parts that remember the builder and the plain options that made them.

`describe(dense(20))` is `{"dense": {"units": 20}}`, and `build` makes the same part from that
again. Run files, recipes and the command line all speak this one form. A builder of a user's
own is named `module:function`, and found again by import.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import attrs

from pydnn.checks import BadInput, expect_known, plain_number

__all__ = [
    "Description",
    "build",
    "describe",
    "described",
    "find_builder",
    "is_description",
    "plain_numbers",
]

Description = Mapping[str, Mapping[str, Any]]

_Options = ParamSpec("_Options")
_Part = TypeVar("_Part")

# Filled while pydnn is imported and only read afterwards: (family, name) -> builder.
_BUILDERS: dict[tuple[str, str], Callable[..., Any]] = {}


def described(
    family: str,
) -> Callable[[Callable[_Options, _Part]], Callable[_Options, _Part]]:
    """Make a builder whose parts remember it; they are attrs records with a `description`.

    Args:
        family: What the builder makes: "stage", "loss", "optimizer", "initializer", "schedule",
            "penalty", "batches" or "weights".
    """

    def decorate(builder: Callable[_Options, _Part]) -> Callable[_Options, _Part]:
        own = builder.__module__.partition(".")[0] == __name__.partition(".")[0]
        name = builder.__name__ if own else f"{builder.__module__}:{builder.__qualname__}"
        signature = inspect.signature(builder)

        @functools.wraps(builder)
        def describing(*args: _Options.args, **options: _Options.kwargs) -> _Part:
            # Here, once for all builders: a file that holds the description has plain numbers.
            args, options = plain_numbers(args), plain_numbers(options)
            part = builder(*args, **options)
            given = signature.bind(*args, **options).arguments
            return attrs.evolve(part, description={name: _without_defaults(signature, given)})  # type: ignore[misc]

        describing.family = family  # type: ignore[attr-defined]
        if own:
            _BUILDERS[family, name] = describing
        return describing

    return decorate


def describe(part: Any) -> dict[str, dict[str, Any]]:
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
        BadInput: If the builder or one of its options is unknown or missing.
    """
    if not is_description(description):
        raise BadInput(
            f"{description!r} describes nothing: "
            'give one name with its options, e.g. {"dense": {"units": 20}}.'
        )
    [(name, options)] = description.items()
    builder = find_builder(name, family)
    options = {option: _rebuilt(value) for option, value in options.items()}
    signature = inspect.signature(builder)
    for option in options:
        expect_known(f"option of {name}", option, signature.parameters)
    several = [p.name for p in signature.parameters.values() if p.kind is p.VAR_POSITIONAL]
    args = options.pop(several[0], ()) if several else ()
    try:
        signature.bind(*args, **options)
    except TypeError as error:
        raise BadInput(f"{name} cannot be built: {error}.") from error
    return builder(*args, **options)


def find_builder(name: str, family: str | None = None) -> Callable[..., Any]:
    """The described builder called `name`; of a user's own, imported from its module.

    Raises:
        BadInput: If there is none, with the nearest name; or it is of another `family`.
    """
    if ":" in name:
        return _import(name, family)
    known = {n: b for (f, n), b in _BUILDERS.items() if family in (None, f)}
    expect_known(family or "builder", name, known)
    makers = [f for f, n in _BUILDERS if n == name and family in (None, f)]
    if len(makers) > 1:
        raise BadInput(f"{name!r} is a {' and a '.join(makers)}: say which with family=….")
    return known[name]


def _import(name: str, family: str | None) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    try:
        builder: Any = importlib.import_module(module)
        for attribute in function.split("."):
            builder = getattr(builder, attribute)
    except (ImportError, AttributeError) as error:
        raise BadInput(
            f"builder {name!r} was not found ({error}): "
            "put its module on the import path, under the name it had."
        ) from error
    except Exception as error:  # whatever a module of the user's own may do
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInput(f"the module of {name!r} cannot be imported ({reason}): mend it.") from error
    made = getattr(builder, "family", None)
    if made is None or family not in (None, made):  # a file may not call just any function
        wanted = family or "part"
        raise BadInput(f"{name!r} is no {wanted} builder: decorate it with @described(…).")
    return builder  # type: ignore[no-any-return]


def _without_defaults(signature: inspect.Signature, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        option: value
        for option, value in given.items()
        if not _same(value, signature.parameters[option].default)
    }


def _same(value: Any, default: Any) -> bool:
    if hasattr(value, "description"):
        return bool(value.description == getattr(default, "description", None))
    return type(value) is type(default) and bool(value == default)


def _plain(where: str, value: Any) -> Any:
    if hasattr(value, "description"):
        return describe(value)
    if isinstance(value, list | tuple):
        return [_plain(where, item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise BadInput(
        f"{where} is {value!r}, which plain data cannot hold: "
        "give a number, a text, a list of these, or a part made by a described builder."
    )


def plain_numbers(value: Any) -> Any:
    """The same options or descriptions with Python's numbers where they held NumPy's scalars."""
    if isinstance(value, dict):
        return {name: plain_numbers(item) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain_numbers, value))
    return plain_number(value)


def _rebuilt(value: Any) -> Any:
    if is_description(value):
        return build(value)
    return tuple(map(_rebuilt, value)) if isinstance(value, list | tuple) else value


def is_description(value: Any) -> bool:
    """Whether `value` is one builder's name with its options."""
    return (
        isinstance(value, Mapping)
        and len(value) == 1
        and all(isinstance(n, str) and isinstance(o, Mapping) for n, o in value.items())
    )
