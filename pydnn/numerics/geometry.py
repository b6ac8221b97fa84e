"""Where the windows of a convolution or of a pool lie on an image."""

from __future__ import annotations

import attrs
from numpy.lib.stride_tricks import as_strided

from pydnn.numerics.memory import empty
from pydnn.records import FloatArray

__all__ = ["Geometry", "Pair", "padded", "spread", "windows_of"]

Pair = tuple[int, int]


@attrs.frozen
class Geometry:
    """The sizes that place the windows, each for the vertical and the horizontal axis.

    A sequence is an image of one row, whose windows have one row, too.

    Attributes:
        image: The height and the width of the image.
        size: The height and the width of a window, in numbers of its rows and columns.
        stride: The distance between neighboring windows.
        padding: The rows of zeros (above, below) and the columns (left, right) around the image.
        dilation: The distance between neighboring rows and columns of a window.
        groups: The number of groups into which a convolution divides the channels.
        extent: What a window covers: dilation (size - 1) + 1.
        places: How many windows lie on the image.
    """

    image: Pair
    size: Pair
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1
    extent: Pair = attrs.field(init=False, eq=False)
    places: Pair = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        extents, places = [], []
        for n, k, s, (before, after), d in zip(
            self.image, self.size, self.stride, self.padding, self.dilation, strict=True
        ):
            extents.append(d * (k - 1) + 1)
            places.append((before + n + after - extents[-1]) // s + 1)
        object.__setattr__(self, "extent", tuple(extents))
        object.__setattr__(self, "places", tuple(places))

    @property
    def width(self) -> int:
        """The number of columns of the padded image."""
        return self.image[1] + sum(self.padding[1])

    def met(self, axis: int, offset: int) -> tuple[slice, slice]:
        """Return the windows whose place number `offset` along an axis is in the image, and where.

        Returns:
            A slice of the windows, and a slice of the image with one place for each of them. Both
            are empty if this place lies in the padding for all windows.
        """
        n, s, count = self.image[axis], self.stride[axis], self.places[axis]
        start = offset * self.dilation[axis] - self.padding[axis][0]
        first = min(count, max(0, -(start // s)))
        stop = max(first, min(count, (n - 1 - start) // s + 1))
        begin = start + first * s
        end = begin + (stop - first - 1) * s + 1 if stop > first else begin
        return slice(first, stop), slice(begin, end, s)

    @property
    def is_padded(self) -> bool:
        """Whether there are any zeros around the image."""
        return self.padding != ((0, 0), (0, 0))

    def reversed(self) -> tuple[Geometry, Pair, Pair]:
        """Return how the gradient of the input is a convolution, too.

        Put the gradients dZ of the places `stride` apart on an image of zeros, with the first at
        `start`: then dA_prev has one window at each place of the input, with the kernel turned
        upside down and left to right.

        Returns:
            The geometry of these windows; `start`, which may be negative if the padding is wider
            than the kernel; and the stride.
        """
        (h, w), (above, left) = self.extent, (self.padding[0][0], self.padding[1][0])
        image = (self.image[0] + h - 1, self.image[1] + w - 1)
        turned = Geometry(image, self.size, dilation=self.dilation, groups=self.groups)
        return turned, (h - 1 - above, w - 1 - left), self.stride


def padded(A: FloatArray, geometry: Geometry) -> FloatArray:
    """Return the image A (H, W, C, m) with the zeros around it; A itself if there are none."""
    if not geometry.is_padded:
        return A
    (above, below), (left, right) = geometry.padding
    H, W = geometry.image
    image = empty((above + H + below, left + W + right, *A.shape[2:]), A.dtype)
    image[:above] = 0
    image[above + H :] = 0
    image[above : above + H, :left] = 0
    image[above : above + H, left + W :] = 0
    image[above : above + H, left : left + W] = A
    return image


def spread(dZ: FloatArray, image: Pair, start: Pair, stride: Pair) -> FloatArray:
    """Return zeros (*image, F, m) with the numbers of dZ (H', W', F, m), `stride` apart.

    Args:
        dZ: The numbers.
        image: The height and the width of the result.
        start: The row and column of the first number; numbers outside of the result are left out.
        stride: The distance of neighboring numbers.
    """
    spread_out = empty((*image, *dZ.shape[2:]), dZ.dtype)
    spread_out[...] = 0
    from_, to = [], []
    for n, first, s, count in zip(image, start, stride, dZ.shape, strict=False):
        left_out = max(0, -(first // s))  # of those before the image
        kept = max(left_out, min(count, -((first - n) // s)))
        from_.append(slice(left_out, kept))
        to.append(slice(first + s * left_out, max(0, first + s * (kept - 1) + 1), s))
    if all(some.stop > some.start for some in from_):
        spread_out[to[0], to[1]] = dZ[from_[0], from_[1]]
    return spread_out


def windows_of(image: FloatArray, geometry: Geometry) -> FloatArray:
    """Return the windows of a padded image as a read-only view (H', W', k_H, k_W, C, m)."""
    row, column, channel, example = image.strides
    (down, right), (lower, further) = geometry.stride, geometry.dilation
    return as_strided(
        image,
        (*geometry.places, *geometry.size, *image.shape[2:]),
        (down * row, right * column, lower * row, further * column, channel, example),
        writeable=False,
    )
