"""Windows that slide over the places of an example: their options, and where they lie on each axis.

Convolutions and pools share these. The places are the steps T of a sequence (T, C), or the rows and
columns of an image (H, W, C); every window covers all channels C.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TypeAlias

import attrs

from pydnn.checks import BadInput, expect_count, shown
from pydnn.stages.base import Shape

__all__ = [
    "MOST_NUMBERS",
    "Edges",
    "Padding",
    "PerAxis",
    "WindowedAxis",
    "Windows",
    "expect_edges",
    "expect_per_axis",
    "expect_places",
]

PerAxis: TypeAlias = int | Sequence[int]  # one number for all axes, or a list with one for each
# "valid", "same", one number for all sides, or a list with a number or a pair for each axis
Padding: TypeAlias = str | int | Sequence[int | Sequence[int]]
Edges: TypeAlias = int | tuple[tuple[int, int], ...]  # checked: for all sides, or (before, after)

MOST_NUMBERS = 1 << 48  # of a padded example: a file may claim any size
# A padded example exists in memory, however few windows lie on it. It may have this many numbers,
# or a few times those of the example itself or of one kernel if that is more.
_MOST_PADDED, _TIMES = 1 << 24, 8


@attrs.frozen
class WindowedAxis:
    """The windows along one axis.

    Attributes:
        length: Number of places of the input.
        size: Number of places that a window covers.
        stride: Places from the start of one window to the start of the next.
        dilation: Places from one covered place to the next; 1 if they are neighbors.
        before: Places of padding before the first place of the input.
        after: Places of padding after the last one.
    """

    length: int
    size: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def extent(self) -> int:
        """Places from the first to the last that a window covers, with gaps."""
        return (self.size - 1) * self.dilation + 1

    @property
    def padded(self) -> int:
        """Number of places of the input with its padding."""
        return self.before + self.length + self.after

    @property
    def count(self) -> int:
        """Number of windows, which is the number of places of the output."""
        return max(0, (self.padded - self.extent) // self.stride + 1)

    def places(
        self, offset: int, first: int = 0, stop: int | None = None
    ) -> tuple[slice, slice] | None:
        """Return the windows whose place number `offset` lies inside the input, and where.

        Args:
            offset: A place of the windows, from 0 to size - 1.
            first: The first window to look at.
            stop: The window to stop at, which is left out; by default all windows are looked at.

        Returns:
            A slice of the windows, and a slice of the input with one place for each of them. None
            if this place lies in the padding for all these windows.
        """
        start = offset * self.dilation - self.before  # of window 0
        first = max(first, -(start // self.stride))
        last = min(
            self.count if stop is None else stop, (self.length - 1 - start) // self.stride + 1
        )
        if first >= last:
            return None
        begin, end = start + first * self.stride, start + (last - 1) * self.stride
        return slice(first, last), slice(begin, end + 1, self.stride)


@attrs.frozen
class Windows:
    """The checked options of windows; `Windows.of` makes them.

    A tuple has one entry for each axis; a number stands for all axes.

    Attributes:
        size: Number of places that a window covers.
        stride: Places from the start of one window to the start of the next.
        padding: "valid", "same", or places of padding: pairs (before, after) in a tuple.
        dilation: Places from one covered place to the next.
    """

    size: int | tuple[int, ...]
    stride: int | tuple[int, ...]
    padding: str | Edges
    dilation: int | tuple[int, ...]

    @classmethod
    def of(
        cls,
        size: PerAxis,
        *,
        stride: PerAxis = 1,
        padding: Padding = "valid",
        dilation: PerAxis = 1,
    ) -> Windows:
        """Check the options of a builder.

        Args:
            size: Number of places that a window covers: a number for all axes, or a list with one
                for each axis.
            stride: Places from the start of one window to the start of the next, in the same form.
            padding: Zeros around the input. "valid" is none. "same" gives ceil(length / stride)
                places of output; if their number is odd, the extra one comes last. A number is for
                all sides. A list has a number, or a pair (before, after), for each axis.
            dilation: Places from one covered place to the next, in the form of `size`.

        Raises:
            BadInput: If an option has another form, or lists of different lengths.
        """
        checked = cls(
            expect_per_axis("size", size, hint="give 3, or (3, 5) for three rows and five columns"),
            expect_per_axis("stride", stride, hint="give 2, or (2, 1) for every second row"),
            _padding(padding),
            expect_per_axis("dilation", dilation, hint="give 2, or (1, 2) for columns alone"),
        )
        lengths = {name: len(value) for name, value in checked._lists()}
        if len(set(lengths.values())) > 1:
            sizes = ", ".join(f"{name} has {n}" for name, n in lengths.items())
            raise BadInput(f"lists differ in length ({sizes}): give one entry for each axis.")
        return checked

    def _lists(self) -> list[tuple[str, tuple[object, ...]]]:
        fields = attrs.asdict(self, recurse=False).items()
        return [(name, value) for name, value in fields if isinstance(value, tuple)]

    def over(self, shape_in: Shape, *, has_kernel: bool = True) -> tuple[WindowedAxis, ...]:
        """Return the windows along each axis of places of examples of shape (T, C) or (H, W, C).

        Args:
            shape_in: The shape of an example.
            has_kernel: Whether there is one weight or more for each place of a window.

        Raises:
            BadInput: If the examples are neither (T, C) nor (H, W, C), the options are for another
                number of axes, a window is larger than the padded example, or padding takes far
                more memory than the example and the kernel.
        """
        return _over(self, tuple(map(int, shape_in)), has_kernel)

    def transposed_over(
        self, shape_in: Shape, output_padding: int | tuple[int, ...] = 0
    ) -> tuple[WindowedAxis, ...]:
        """Return the windows along each axis of the output of a transposed convolution.

        There is one window for each place of its input. The field `length` of an axis is the size
        of the output: stride (n - 1) + extent - before - after + output_padding for n places of
        the input, or stride n with padding "same".

        Raises:
            BadInput: If the examples are neither (T, C) nor (H, W, C), the options are for another
                number of axes, or the output would have no place.
        """
        return _transposed_over(self, tuple(map(int, shape_in)), output_padding)


@functools.lru_cache(maxsize=256)
def _over(options: Windows, shape_in: Shape, has_kernel: bool) -> tuple[WindowedAxis, ...]:
    _expect_axes(options._lists(), shape_in)
    places = shape_in[:-1]
    axes = tuple(_axis(options, i, length) for i, length in enumerate(places))
    for i, axis in enumerate(axes):
        if axis.extent > axis.padded:
            padding = (
                f" and {axis.before} + {axis.after} of padding" if axis.padded > axis.length else ""
            )
            raise BadInput(
                f"a window reaches over {axis.extent} places of axis {i}, but examples of shape "
                f"{shape_in} have {axis.length}{padding}: give a smaller size or dilation, or "
                "more padding."
            )
    if math.prod(axis.padded for axis in axes) * shape_in[-1] > MOST_NUMBERS:
        raise BadInput(
            f"examples of shape {shape_in} have {' x '.join(str(a.padded) for a in axes)} places "
            "with their padding, more than any machine holds: give less padding."
        )
    _expect_little_padding(axes, shape_in, has_kernel)
    return axes


def _expect_little_padding(
    axes: tuple[WindowedAxis, ...], shape: Shape, has_kernel: bool = True
) -> None:
    """Refuse padding that takes far more memory than an example of this shape and one kernel."""
    numbers = math.prod(axis.padded for axis in axes) * shape[-1]
    own = math.prod(axis.length for axis in axes) * shape[-1]
    kernel = math.prod(axis.size for axis in axes) * shape[-1] if has_kernel else 0
    most = max(_MOST_PADDED, _TIMES * own, _TIMES * kernel)
    if numbers > most:
        places = " x ".join(str(axis.padded) for axis in axes)
        raise BadInput(
            f"examples of shape {shape} have {places} places with their padding, {shown(numbers)} "
            f"numbers, expected at most {most}: give less padding."
        )


@functools.lru_cache(maxsize=256)
def _transposed_over(
    options: Windows, shape_in: Shape, output_padding: int | tuple[int, ...]
) -> tuple[WindowedAxis, ...]:
    lists = options._lists()
    if isinstance(output_padding, tuple):
        lists.append(("output_padding", output_padding))
    _expect_axes(lists, shape_in)
    axes = []
    for i, n in enumerate(shape_in[:-1]):
        extra = _of(output_padding, i)
        axis = _axis(options, i, n * _of(options.stride, i))
        if options.padding != "same":
            reach = (n - 1) * axis.stride + axis.extent
            axis = attrs.evolve(axis, length=reach - axis.before - axis.after + extra)
            if extra >= axis.stride:
                raise BadInput(
                    f"output_padding is {extra} along axis {i}, expected less than the stride "
                    f"{axis.stride}: give at most {axis.stride - 1}."
                )
        if axis.length < 1:
            raise BadInput(
                f"padding of {axis.before} + {axis.after} leaves nothing of {reach} places along "
                f"axis {i}: give less."
            )
        axes.append(axis)
    shape_out = (*(axis.length for axis in axes), shape_in[-1])
    _expect_little_padding(tuple(axes), shape_out)
    return tuple(axes)


def _expect_axes(lists: Sequence[tuple[str, tuple[object, ...]]], shape_in: Shape) -> None:
    """Refuse examples without places, and options that list other numbers of axes."""
    expect_places(shape_in)
    places = shape_in[:-1]
    for name, value in lists:
        if len(value) != len(places):
            entries = f"each of {len(places)} axes" if len(places) > 1 else "1 axis"
            raise BadInput(
                f"{name} has {len(value)} entries for examples of shape {shape_in}, expected one "
                f"for {entries}: {_instead(name, value, shape_in)}."
            )


def _instead(name: str, value: tuple[object, ...], shape_in: Shape) -> str:
    if len(shape_in) == 2 and len(value) == 2:
        return f"put reshape{(*shape_in, 1)} before this stage if they are images without channels"
    return "give one number for all axes, or a list with one entry for each"


def expect_places(shape_in: Shape) -> None:
    """Refuse examples that are neither (T, C) nor (H, W, C), and say which reshape helps."""
    if len(shape_in) == 1:
        [n] = shape_in
        color, gray = math.isqrt(n // 3), math.isqrt(n)
        if n == color * color * 3:
            example = f"reshape({color}, {color}, 3)"
        elif n == gray * gray:
            example = f"reshape({gray}, {gray}, 1)"
        else:
            example = f"reshape({n}, 1)"
        raise BadInput(
            f"examples have shape {shape_in}, expected images (H, W, C) or sequences (T, C): put "
            f"a reshape before this stage, e.g. {example}."
        )
    if len(shape_in) not in (2, 3):
        raise BadInput(
            f"examples have shape {shape_in}, expected images (H, W, C) or sequences (T, C): put "
            "a reshape before this stage."
        )


def _of(value: int | tuple[int, ...], i: int) -> int:
    return value[i] if isinstance(value, tuple) else value


def _axis(options: Windows, i: int, length: int) -> WindowedAxis:
    size, stride, dilation = (_of(v, i) for v in (options.size, options.stride, options.dilation))
    axis = WindowedAxis(length, size, stride, dilation)
    padding = options.padding
    if isinstance(padding, str):
        reach = (-(-length // axis.stride) - 1) * axis.stride + axis.extent
        total = max(0, reach - length) if padding == "same" else 0
        return attrs.evolve(axis, before=total // 2, after=total - total // 2)
    before, after = padding[i] if isinstance(padding, tuple) else (padding, padding)
    return attrs.evolve(axis, before=before, after=after)


def expect_per_axis(
    name: str, value: object, *, least: int = 1, hint: str
) -> int | tuple[int, ...]:
    """Return one whole number for all axes, or a tuple with one for each, of at least `least`.

    Raises:
        BadInput: If it has another form.
    """
    if not isinstance(value, list | tuple):
        return expect_count(name, value, least=least, hint=hint)
    if not 1 <= len(value) <= 2:
        raise BadInput(f"{name} has {len(value)} entries, expected 1 or 2: {hint}.")
    return tuple(expect_count(name, each, least=least, hint=hint) for each in value)


def _padding(value: object) -> str | Edges:
    hint = 'give "valid", "same", 1, (1, 2) for rows and columns, or ((0, 1), (2, 2)) for all sides'
    if isinstance(value, str) and value in ("valid", "same"):
        return value
    if isinstance(value, str):
        raise BadInput(f"padding is {shown(value)}, which pydnn does not know: {hint}.")
    return expect_edges("padding", value, hint=hint)


def expect_edges(name: str, value: object, *, hint: str) -> Edges:
    """Return numbers of places at the edges of each axis: one number, or pairs (before, after).

    Args:
        name: The name of the value in messages.
        value: One number for every side, or a list with a number or a pair for each axis.
        hint: What the user should do, without a full stop.

    Raises:
        BadInput: If it has another form.
    """
    if not isinstance(value, list | tuple):
        return expect_count(name, value, least=0, hint=hint)
    if not 1 <= len(value) <= 2:
        raise BadInput(f"{name} has {len(value)} entries, expected one for each axis: {hint}.")
    return tuple(_pair(name, each, hint) for each in value)


def _pair(name: str, value: object, hint: str) -> tuple[int, int]:
    pair = value if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2:
        raise BadInput(f"{name} has {shown(value)} for one axis, expected a pair: {hint}.")
    before, after = (expect_count(name, each, least=0, hint=hint) for each in pair)
    return before, after
