"""What a described part is: a value that prints, compares and travels as the call that made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from pydnn.checks import BadInput
from pydnn.records import Unchanging

if TYPE_CHECKING:
    from pydnn.descriptions.builders import Builder, Description

__all__ = ["DescribedPart"]


@attrs.frozen(eq=False, repr=False)
class DescribedPart(Unchanging):
    """A record of functions that remembers the builder and the options that made it.

    `repr(part)` is the call that builds it. Parts are equal if their descriptions are, and a pickle
    holds the call alone, so that a part can go to another process although its functions cannot.
    A part that was changed by `attrs.evolve`, or made by hand, has no description: it equals only
    itself, and cannot be pickled.

    Attributes:
        description: How to `build` it again.
        builder: What made it.
    """

    # `@described` alone fills them in, so that a changed part does not claim to be the old one.
    description: Description | None = attrs.field(default=None, init=False)
    builder: Builder | None = attrs.field(default=None, init=False)

    def __repr__(self) -> str:
        if self.builder is None:
            name = getattr(self, "name", None)
            return f"{type(self).__name__}({'' if name is None else f'name={name!r}'})"
        from pydnn.descriptions.text import call_of  # which needs this class

        return call_of(self)

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
        given: dict[str, Any] = dict(options)
        args = given.pop(self.builder.several, ()) if self.builder.several else ()
        return _call, (self.builder.function, tuple(args), given)


def _call(
    function: Callable[..., object], args: tuple[object, ...], options: Mapping[str, object]
) -> object:
    return function(*args, **options)


def _key(value: object) -> object:
    """What decides whether two values are equal, as a value that has a hash."""
    if isinstance(value, list | tuple):
        return tuple(map(_key, value))
    if isinstance(value, DescribedPart):
        if value.builder is None or value.description is None:
            return DescribedPart, id(value)
        [(name, options)] = value.description.items()
        rows = sorted((option, _key(given)) for option, given in options.items())
        return value.builder.family, name, tuple(rows)
    try:
        hash(value)
    except TypeError:  # what no description can hold, such as an array
        return type(value), id(value)
    return value
