"""Builders and the parts that they make; a part prints, compares and pickles as its call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard

import attrs

from pydnn.checks import BadInput
from pydnn.records import Unchanging

__all__ = ["Builder", "DescribedPart", "Description", "is_description", "written"]

Description = Mapping[str, Mapping[str, object]]
_WIDTH = 88  # columns of written calls


def is_description(value: object) -> TypeGuard[Description]:
    """Return whether `value` is the name of a builder with its options."""
    return (
        isinstance(value, Mapping)
        and len(value) == 1
        and all(isinstance(n, str) and isinstance(o, Mapping) for n, o in value.items())
    )


@attrs.frozen(eq=False)
class Builder:
    """A function that makes parts, as `@described` registers it.

    Attributes:
        name: The name in descriptions: `dense`, or `module:function` outside pydnn.
        family: The family of the parts that it makes, e.g. "stage".
        signature: The options and their defaults.
        function: The function itself, whose parts remember their description.
        drawn_by: The names of the options that are initializers.
    """

    name: str
    family: str
    signature: inspect.Signature
    function: Callable[..., Any]
    drawn_by: tuple[str, ...] = ()

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        """The options by name, in order."""
        return self.signature.parameters

    @property
    def several(self) -> str | None:
        """The option that takes any number of parts, as in `serial`; None if there is none."""
        kinds = {parameter.kind: name for name, parameter in self.options.items()}
        return kinds.get(inspect.Parameter.VAR_POSITIONAL)


@attrs.frozen(eq=False, repr=False)
class DescribedPart(Unchanging):
    """A record of functions that remembers the builder and the options that made it.

    `repr(part)` is the call that makes it. Parts with equal descriptions are equal. A pickle holds
    only the call, so a part can go to another process although its functions cannot. A part that
    was changed by `attrs.evolve`, or made by hand, has no description: it equals only itself, and
    cannot be pickled.

    Attributes:
        description: The plain data from which `build` makes an equal part; None without a builder.
        builder: The builder that made it; None without one.
    """

    # Not arguments of the class: `attrs.evolve` makes a different part, whose call is unknown.
    description: Description | None = attrs.field(default=None, init=False)
    builder: Builder | None = attrs.field(default=None, init=False)

    def __repr__(self) -> str:
        if self.builder is None:
            name = getattr(self, "name", None)
            return f"{type(self).__name__}({'' if name is None else f'name={name!r}'})"
        return written(self, repr)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DescribedPart):
            return NotImplemented
        return self is other or _key(self) == _key(other)

    def __hash__(self) -> int:
        return hash(_key(self))

    def __reduce__(self) -> tuple[object, ...]:
        if self.builder is None or self.description is None:
            raise BadInput(
                f"{self!r} cannot be pickled, since it was not made by a builder: make it with a "
                "function under @described(…)."
            )
        [(name, options)] = self.description.items()
        if "<locals>" in name:
            raise BadInput(
                f"{name}(…) cannot be pickled, since its builder is inside a function: define the "
                "builder at the top of a module."
            )
        keywords: dict[str, Any] = dict(options)
        args = keywords.pop(self.builder.several, ()) if self.builder.several else ()
        return _call, (self.builder.function, tuple(args), keywords)


def _call(
    function: Callable[..., object], args: tuple[object, ...], options: Mapping[str, object]
) -> object:
    return function(*args, **options)


def _key(value: object) -> object:
    """Return a hashable value that is equal for equal parts."""
    if isinstance(value, list | tuple):
        return tuple(map(_key, value))
    if isinstance(value, DescribedPart):
        if value.builder is None or value.description is None:
            return DescribedPart, id(value)
        [(name, options)] = value.description.items()
        rows = sorted((option, _key(setting)) for option, setting in options.items())
        return value.builder.family, name, tuple(rows)
    try:
        hash(value)
    except TypeError:  # e.g. an array, which a description cannot hold
        return type(value), id(value)
    return value


_Plain = Callable[[object], str]
_Find = Callable[[str], Builder | None]


def written(value: object, plain: _Plain, find: _Find = lambda name: None) -> str:
    """Return the call that makes a part; a call too long for a line has a line per argument.

    Args:
        value: A part, or a description.
        plain: The function that writes what is not a part, e.g. `repr`.
        find: The function from the name in a description to its builder. By default it finds none,
            so descriptions are not written as calls.
    """
    return _laid_out(_line(value, plain, find), "")


@attrs.frozen
class _Line:
    """A value written on one line and, if it is a call, its arguments.

    Each is made once, from those inside it. To write a value again at each depth would double the
    time with each part around it.
    """

    text: str
    head: str = ""
    arguments: tuple[tuple[str, _Line], ...] = ()


def _line(value: object, plain: _Plain, find: _Find) -> _Line:
    if isinstance(value, list | tuple):
        items = tuple(("", _line(item, plain, find)) for item in value)
        return _Line(f"[{', '.join(item.text for _, item in items)}]", "[", items)
    builder, description = None, value
    if isinstance(value, DescribedPart):
        builder, description = value.builder, value.description
    if not is_description(description):
        return _Line(plain(value))
    [(name, options)] = description.items()
    builder = builder or find(name)
    if builder is None:
        return _Line(plain(value))
    arguments: list[tuple[str, _Line]] = []
    positional = True
    for parameter in builder.options.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            several = options.get(parameter.name)
            if isinstance(several, Iterable):
                arguments += [("", _line(item, plain, find)) for item in several]
        elif parameter.name not in options:
            positional = False
        else:
            bare = positional and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            label = "" if bare else f"{parameter.name}="
            arguments.append((label, _line(options[parameter.name], plain, find)))
    text = ", ".join(label + argument.text for label, argument in arguments)
    return _Line(f"{name}({text})", f"{name}(", tuple(arguments))


def _laid_out(line: _Line, indent: str) -> str:
    if not line.arguments or len(indent) + len(line.text) <= _WIDTH:
        return line.text
    if line.head == "[":
        return f"[{', '.join(_laid_out(item, indent) for _, item in line.arguments)}]"
    deeper = indent + "    "
    rows = [f"{deeper}{label}{_laid_out(a, deeper)},\n" for label, a in line.arguments]
    return f"{line.head}\n{''.join(rows)}{indent})"
