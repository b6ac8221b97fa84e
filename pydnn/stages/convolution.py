"""Convolutions of images and of sequences: kernels that slide over them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_count, expect_flag, expect_same_dtype, expect_shape
from pydnn.descriptions.builders import described
from pydnn.keys import Key
from pydnn.numerics import Numerics
from pydnn.numerics.geometry import Geometry
from pydnn.parameters import Tree, Views, kernel_of, matrix_of
from pydnn.records import WEIGHTS, FloatArray, arrays, freeze, maker_of, readonly
from pydnn.stages.base import Context, Shape, Stage, backward_from
from pydnn.stages.initializers import Initializer, he_normal
from pydnn.stages.windows import Padding, PerAxis, WindowedAxis, Windows, expect_places

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = [
    "ConvCache",
    "ConvGrads",
    "ConvParams",
    "KernelGrads",
    "KernelParams",
    "as_image",
    "conv",
    "convolution_onnx",
    "depthwise_conv",
    "draw_kernel",
    "expect_channels",
    "expect_groups",
    "expect_room",
    "geometry_along",
    "geometry_of",
    "unlike_image",
]

_MOST_WEIGHTS = 1 << 48  # 2 PiB of float64: a file may claim any size
_MOST_NUMBERS = 1 << 36  # of one example: 512 GiB of float64


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class ConvParams:
    """Kernels W and bias b (C_out, 1), which broadcasts over places and examples.

    W is (k_H, k_W, C_in / groups, C_out) for images and (k, C_in / groups, C_out) for sequences.

    Raises:
        BadInput: If W has another number of axes, or b does not have one row per kernel.
    """

    W: FloatArray = attrs.field(metadata=WEIGHTS)
    b: FloatArray

    def __attrs_post_init__(self) -> None:
        expect_kernel(self.W)
        hint = "give one bias per channel of the output"
        expect_shape("b", self.b, (self.W.shape[-1], 1), hint=hint)


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class ConvGrads:
    """Gradients dW, with the shape of W, and db (C_out, 1) of the cost."""

    dW: FloatArray
    db: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class KernelParams:
    """Kernels W without a bias, as in `ConvParams`.

    Raises:
        BadInput: If W has another number of axes.
    """

    W: FloatArray = attrs.field(metadata=WEIGHTS)

    def __attrs_post_init__(self) -> None:
        expect_kernel(self.W)


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class KernelGrads:
    """The gradient dW, with the shape of W, of the cost."""

    dW: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class ConvCache:
    """What the backward pass needs.

    Attributes:
        A_prev: The input, (H, W, C_in, m); a sequence is an image (1, T, C_in, m) of one row.
        geometry: Where the windows lie.
        numerics: The arithmetic of the forward pass.
    """

    A_prev: FloatArray
    geometry: Geometry
    numerics: Numerics


_cache = maker_of(ConvCache)


def expect_kernel(W: FloatArray) -> None:
    """Raise BadInput unless W has the axes of a kernel, for images or for sequences."""
    if W.ndim not in (3, 4):
        hint = "a kernel of sequences has the axes (k, C_in, C_out)"
        expect_shape("W", W, ("k_H", "k_W", "C_in", "C_out"), hint=hint)


@described("stage", drawn_by=["initializer"])
def conv(
    filters: int,
    size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    groups: int = 1,
    bias: bool = True,
    initializer: Initializer = he_normal(),  # noqa: B008 - frozen
) -> Stage[Any, ConvCache]:
    """Make a convolution of images (H, W, C_in) or of sequences (T, C_in) with `filters` kernels.

    At each place, Z is the product of the kernels with the window of the input that begins there:
    Z[p, q, f] = b[f] + the sum over i, j, c of W[i, j, c, f] A_prev[stride p + dilation i, stride q
    + dilation j, c]. The output has shape (H', W', filters), or (T', filters), with H' = floor((H +
    padding - dilation (k_H - 1) - 1) / stride) + 1.

    The parameters are W (k_H, k_W, C_in / groups, filters), or (k, C_in / groups, filters) for
    sequences, and b (filters, 1). They do not depend on H, W and T, so the functions of the stage
    take images and sequences of any size on which a window fits.

    Args:
        filters: Number of channels of the output, 1 or more.
        size: Height and width of a kernel, e.g. 3 or (3, 5); its length for sequences.
        stride: Distance between neighboring windows, one number or one for each axis.
        padding: Zeros around the input: "valid" for none; "same" for an output of ceil(n / stride)
            along each axis of size n, where the extra one of an odd number of zeros comes last; a
            number for all sides; or a pair (before, after) for each axis, e.g. [(1, 1), (0, 2)], or
            [(2, 0)] for sequences.
        dilation: Distance between neighboring numbers of a kernel, one number or one for each axis.
        groups: Number of equal groups of channels: the outputs of a group depend on its inputs
            alone. It must divide C_in and `filters`.
        bias: Whether there is a bias b.
        initializer: How the weights are drawn, as a matrix with one row for each filter; the
            biases start at 0. For an initializer such as he_normal, n_in is k_H k_W C_in / groups,
            and n_out is k_H k_W filters / groups.

    Raises:
        BadInput: If an option is out of its range. Its functions raise it for inputs that have
            other axes, channels or another dtype than W, or are smaller than a window.

    References:
        Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016.

    Example:
        >>> stage = nn.conv(1, 2, initializer=nn.constant(1.0))
        >>> params, shape_out = stage.init(nn.Key(0), (3, 3, 1))
        >>> params, shape_out
        (ConvParams(W=float64 (2, 2, 1, 1), b=float64 (1, 1)), (2, 2, 1))
        >>> A_prev = np.arange(9.0).reshape(3, 3, 1, 1)
        >>> Z, cache = stage.forward(params, A_prev, nn.Context())
        >>> Z[:, :, 0, 0]
        array([[ 8., 12.],
               [20., 24.]])
    """
    filters = expect_count("filters", filters, hint="give one kernel or more")
    groups = expect_count("groups", groups, hint="give the number of groups of channels")
    expect_groups("conv", groups, filters, "filters")

    def shape_of(channels: int) -> tuple[int, int, int]:
        expect_groups("conv", groups, channels, "channels")
        return groups, channels // groups, filters

    windows = Windows.of(size, stride=stride, padding=padding, dilation=dilation)
    bias = expect_flag("bias", bias)
    return _stage("conv", windows, shape_of, lambda W: groups, bias, initializer)


@described("stage", drawn_by=["initializer"])
def depthwise_conv(
    size: PerAxis,
    *,
    multiplier: int = 1,
    stride: PerAxis = 1,
    padding: Padding = "valid",
    dilation: PerAxis = 1,
    bias: bool = True,
    initializer: Initializer = he_normal(),  # noqa: B008 - frozen
) -> Stage[Any, ConvCache]:
    """Make a convolution that keeps channels apart: each output depends on one channel only.

    It is `conv` with as many groups as the input has channels, and `multiplier` filters for each
    channel. The outputs of a channel lie one after the other.

    Args:
        size: Height and width of a kernel, e.g. 3 or (3, 5); its length for sequences.
        multiplier: Number of filters for each channel of the input.
        stride: Distance between neighboring windows, as in `conv`.
        padding: Zeros around the input, as in `conv`.
        dilation: Distance between neighboring numbers of a kernel, as in `conv`.
        bias: Whether there is a bias b.
        initializer: How the weights W (k_H, k_W, 1, C_in multiplier) are drawn, as in `conv`.

    Raises:
        BadInput: As `conv`.

    References:
        Chollet, Xception: Deep learning with depthwise separable convolutions, 2017.

    Example:
        >>> stage = nn.depthwise_conv(2, initializer=nn.constant(1.0))
        >>> params, shape_out = stage.init(nn.Key(0), (3, 2))
        >>> params, shape_out
        (ConvParams(W=float64 (2, 1, 2), b=float64 (2, 1)), (2, 2))
        >>> stage.forward(params, np.array([[[1.0], [5.0]], [[2.0], [6.0]], [[3.0], [7.0]]]),
        ...               nn.Context())[0][:, :, 0]
        array([[ 3., 11.],
               [ 5., 13.]])
    """
    multiplier = expect_count("multiplier", multiplier, hint="give the filters of a channel")
    return _stage(
        "depthwise_conv",
        Windows.of(size, stride=stride, padding=padding, dilation=dilation),
        lambda channels: (channels, 1, channels * multiplier),
        lambda W: W.shape[-1] // multiplier,
        expect_flag("bias", bias),
        initializer,
    )


def _stage(
    name: str,
    windows: Windows,
    kernel_for: Callable[[int], tuple[int, int, int]],
    groups_of: Callable[[FloatArray], int],
    bias: bool,
    initializer: Initializer,
) -> Stage[Any, ConvCache]:
    """Make the stage of a convolution.

    Args:
        name: The name of the stage.
        windows: The checked options of its windows.
        kernel_for: From the number of channels of the input to the number of groups, and to the
            last two axes of W.
        groups_of: From W to the number of groups.
        bias: Whether there is a bias.
        initializer: How W is drawn.
    """

    def init(key: Key, shape_in: Shape) -> tuple[Any, Shape]:
        expect_places(shape_in)
        groups, C, F = kernel_for(shape_in[-1])
        axes = windows.over(shape_in)
        shape_out = (*[axis.count for axis in axes], F)
        expect_room(name, shape_out, hint="give fewer filters, or less padding")
        W = draw_kernel(initializer, key.at("W"), (*[axis.size for axis in axes], C, F), groups)
        # A broadcast 0 takes no memory, however many filters a file may claim.
        params = ConvParams(W, np.broadcast_to(0.0, (F, 1))) if bias else KernelParams(W)
        return params, shape_out

    def forward(params: Any, A_prev: FloatArray, context: Context) -> tuple[FloatArray, ConvCache]:
        W, numerics = params.W, context.numerics
        groups = groups_of(W)
        expect_channels(name, A_prev, W, groups * W.shape[-2])
        geometry = geometry_of(windows, A_prev.shape[:-1], groups)
        kernel = as_image(W)
        if kernel.shape[:2] != geometry.size:
            shape = (*geometry.size[4 - W.ndim :], *W.shape[-2:])
            expect_shape("W", W, shape, hint="give parameters that init of this stage made")
        image = readonly(np.ascontiguousarray(as_image(A_prev)))
        b = params.b if bias else None
        Z = numerics.convolution.product(image, kernel, geometry, bias=b)
        return unlike_image(freeze(Z), A_prev.ndim), _cache(image, geometry, numerics)

    def backward_into(
        params: Any, cache: ConvCache, dZ: FloatArray, out: Views, needs_dA_prev: bool
    ) -> FloatArray | None:
        W, numerics, geometry = as_image(params.W), cache.numerics, cache.geometry
        gradient = np.ascontiguousarray(as_image(dZ))
        dW = out[0].reshape(W.shape)
        numerics.convolution.weight_gradient(cache.A_prev, gradient, geometry, out=dW)
        if bias:
            out[1][...] = numerics.sum(gradient, axis=(0, 1, 3)).reshape(-1, 1)
        if not needs_dA_prev:
            return None
        dA_prev = freeze(numerics.convolution.input_gradient(W, gradient, geometry))
        return unlike_image(dA_prev, dZ.ndim)

    def onnx(params: Any, A_prev: Value, statistics: Tree) -> Value:
        axes = windows.over(A_prev.shape)
        return convolution_onnx("Conv", params, A_prev, axes, group=groups_of(params.W))

    gradients = ConvGrads if bias else KernelGrads
    return Stage(
        name,
        init,
        forward,
        backward_from(backward_into, gradients),
        backward_into=backward_into,
        gradients=gradients,
        onnx=onnx,
    )


def convolution_onnx(
    operator: str,
    params: Any,
    A_prev: Value,
    axes: tuple[WindowedAxis, ...],
    **attributes: Any,
) -> Value:
    """Write a convolution as an operator of ONNX, which takes channels before places.

    Args:
        operator: The name of the operator.
        params: The parameters.
        A_prev: The input, with examples along the first axis.
        axes: The windows along each axis.
        **attributes: Further attributes of the operator.
    """
    n, has_bias = len(axes), not isinstance(params, KernelParams)
    Z = A_prev.op("Transpose", perm=(0, n + 1, *range(1, n + 1))).op(
        operator,
        params.W.transpose(n + 1, n, *range(n)),
        *([params.b[:, 0]] if has_bias else []),
        pads=(*[axis.before for axis in axes], *[axis.after for axis in axes]),
        strides=tuple(axis.stride for axis in axes),
        dilations=tuple(axis.dilation for axis in axes),
        **attributes,
    )
    return Z.op("Transpose", perm=(0, *range(2, n + 2), 1))


@functools.lru_cache(maxsize=256)
def geometry_of(windows: Windows, shape: Shape, groups: int = 1) -> Geometry:
    """Return where windows lie on examples of shape (H, W, C), or (T, C) as an image of one row.

    Raises:
        BadInput: If the windows are for another number of axes, or larger than the padded example.
    """
    return geometry_along(windows.over(shape), groups)


def geometry_along(axes: tuple[WindowedAxis, ...], groups: int) -> Geometry:
    """Return where windows lie, from the windows along each axis; a sequence is one row."""
    rows, columns = axes if len(axes) == 2 else (WindowedAxis(1, 1), *axes)
    return Geometry(
        (rows.length, columns.length),
        (rows.size, columns.size),
        (rows.stride, columns.stride),
        ((rows.before, rows.after), (columns.before, columns.after)),
        (rows.dilation, columns.dilation),
        groups,
    )


def draw_kernel(
    initializer: Initializer,
    key: Key,
    shape: Shape,
    groups: int = 1,
    *,
    fans: tuple[int, int] | None = None,
) -> FloatArray:
    """Draw the weights of a kernel.

    Args:
        initializer: How the weights are drawn.
        key: The key to draw from.
        shape: The shape of the kernel, (…, C_in / groups, C_out).
        groups: The number of groups of channels.
        fans: How many inputs an output depends on, and how many outputs on an input; by default
            those of a convolution.

    Raises:
        BadInput: If the kernel has more weights than any machine holds.
    """
    *size, C, F = shape
    if math.prod(shape) > _MOST_WEIGHTS:
        raise BadInput(
            f"a kernel of shape {shape} has {math.prod(shape)} weights, more than any machine "
            "holds: give fewer filters, or smaller kernels."
        )
    window = math.prod(size)
    fans = fans or (window * C, window * F // groups)
    return kernel_of(initializer.matrix(key, matrix_of(shape), fans=fans), shape)


def expect_groups(name: str, groups: int, count: int, what: str) -> None:
    """Raise BadInput unless a number of filters or channels has equal groups."""
    if count % groups:
        raise BadInput(
            f"groups of {name} is {groups}, expected a divisor of {count} {what}: give another "
            "number of groups."
        )


def expect_room(name: str, shape_out: Shape, *, hint: str) -> None:
    """Raise BadInput if examples that a stage gives have more numbers than any machine holds."""
    if math.prod(shape_out) > _MOST_NUMBERS:
        raise BadInput(
            f"{name} gives examples of shape {shape_out}, more numbers than any machine holds: "
            f"{hint}."
        )


def expect_channels(name: str, A_prev: FloatArray, W: FloatArray, channels: int) -> None:
    """Raise BadInput unless A_prev is a batch with these channels and the axes and dtype of W."""
    if A_prev.ndim != W.ndim or A_prev.shape[-2] != channels:
        sides = ("H", "W") if W.ndim == 4 else ("T",)
        hint = f"the weights of {name} are for {channels} channels"
        expect_shape("A_prev", A_prev, (*sides, channels, "m"), hint=hint)
    if A_prev.dtype is not W.dtype:
        expect_same_dtype("A_prev", A_prev, W.dtype)


def as_image(array: FloatArray) -> FloatArray:
    """Return a batch of sequences, or their kernel, as images of one row; images as they are."""
    return array[np.newaxis] if array.ndim == 3 else array


def unlike_image(array: FloatArray, axes: int) -> FloatArray:
    """Return an array as it was before `as_image` gave it four axes."""
    return array if axes == array.ndim else array[0]
