"""Transposed convolutions, which make images and sequences larger."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_count, expect_flag, expect_shape
from pydnn.descriptions.builders import described
from pydnn.keys import Key
from pydnn.numerics.geometry import Geometry
from pydnn.parameters import Tree, Views
from pydnn.records import WEIGHTS, FloatArray, arrays, contiguous, freeze, maker_of
from pydnn.stages.base import Context, Shape, Stage, backward_from
from pydnn.stages.convolution import (
    ConvCache,
    ConvGrads,
    KernelGrads,
    KernelParams,
    as_image,
    convolution_onnx,
    draw_kernel,
    expect_channels,
    expect_groups,
    expect_kernel,
    expect_room,
    geometry_along,
    unlike_image,
)
from pydnn.stages.initializers import Initializer, he_normal
from pydnn.stages.windows import Padding, PerAxis, WindowedAxis, Windows, expect_per_axis

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = ["TransposedConvParams", "transposed_conv"]

_cache = maker_of(ConvCache)


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class TransposedConvParams:
    """Kernels W and bias b (C_out, 1), which broadcasts over places and examples.

    W is (k_H, k_W, C_out / groups, C_in) for images and (k, C_out / groups, C_in) for sequences.

    Raises:
        BadInput: If W has another number of axes, or b does not have one row per channel.
    """

    W: FloatArray = attrs.field(metadata=WEIGHTS)
    b: FloatArray

    def __attrs_post_init__(self) -> None:
        expect_kernel(self.W)
        rows = -(-len(self.b) // self.W.shape[-2]) * self.W.shape[-2]  # a multiple, one per group
        hint = "give one bias per channel of the output"
        expect_shape("b", self.b, (max(rows, self.W.shape[-2]), 1), hint=hint)


@described("stage", drawn_by=["initializer"])
def transposed_conv(
    filters: int,
    size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = "valid",
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    bias: bool = True,
    initializer: Initializer = he_normal(),  # noqa: B008 - frozen
) -> Stage[Any, ConvCache]:
    """Make a transposed convolution of images (H, W, C_in) or of sequences (T, C_in).

    Each number of the input adds a kernel times itself to the output, and kernels of neighboring
    places begin `stride` apart. So it makes images larger, by about the stride. It is the adjoint
    of `conv` with the same options: its forward pass is the gradient of the input there.

    An axis of n places becomes one of stride (n - 1) + dilation (size - 1) + 1 - before - after +
    output_padding, as in PyTorch and ONNX. The parameters are W (k_H, k_W, filters / groups, C_in),
    or (k, filters / groups, C_in) for sequences, and b (filters, 1).

    Args:
        filters: Number of channels of the output, 1 or more.
        size: Height and width of a kernel, e.g. 3 or (3, 5); its length for sequences.
        stride: Distance between the kernels of neighboring places, one number or one for each axis.
        padding: Places that are cut off the output: "valid" for none; "same" for an output of
            stride n places along each axis, as in Keras; a number for each side; or a pair
            (before, after) for each axis, e.g. [(1, 1), (0, 2)].
        output_padding: Places that are added at the end of each axis, fewer than the stride. `conv`
            with these options makes the same n places of several sizes; this chooses one of them.
        dilation: Distance between neighboring numbers of a kernel, one number or one for each axis.
        groups: Number of equal groups of channels: the outputs of a group depend on its inputs
            alone. It must divide C_in and `filters`.
        bias: Whether there is a bias b.
        initializer: How the weights are drawn, as a matrix with one row for each channel of the
            input; the biases start at 0. For an initializer such as he_normal, n_in is k_H k_W C_in
            / groups, divided by the strides, and n_out is k_H k_W filters / groups.

    Raises:
        BadInput: If an option is out of its range, or `output_padding` is not 0 with "same". Its
            functions raise it for inputs that have other axes, channels or another dtype than W.
            Sequences of unequal length are refused: padding would be mixed into valid steps.

    References:
        Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016, chapter 4.

    Example:
        >>> stage = nn.transposed_conv(1, 2, stride=2, initializer=nn.constant(1.0))
        >>> params, shape_out = stage.init(nn.Key(0), (2, 2, 1))
        >>> shape_out
        (4, 4, 1)
        >>> A_prev = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
        >>> stage.forward(params, A_prev, nn.Context())[0][:, :, 0, 0]
        array([[1., 1., 2., 2.],
               [1., 1., 2., 2.],
               [3., 3., 4., 4.],
               [3., 3., 4., 4.]])
    """
    filters = expect_count("filters", filters, hint="give one kernel or more")
    groups = expect_count("groups", groups, hint="give the number of groups of channels")
    bias = expect_flag("bias", bias)
    windows = Windows.of(size, stride=stride, padding=padding, dilation=dilation)
    hint = "give 0 or more places, fewer than the stride"
    extra = expect_per_axis("output_padding", output_padding, least=0, hint=hint)
    if windows.padding == "same" and extra not in (0, (0,), (0, 0)):
        raise BadInput(
            f"output_padding is {extra} and padding is 'same', which gives stride n places of "
            "output: leave out one of them."
        )
    expect_groups("transposed_conv", groups, filters, "filters")

    @functools.lru_cache(maxsize=256)
    def placed(shape_in: Shape) -> tuple[tuple[WindowedAxis, ...], Geometry]:
        axes = windows.transposed_over(shape_in, extra)
        return axes, geometry_along(axes, groups)

    def init(key: Key, shape_in: Shape) -> tuple[Any, Shape]:
        axes = windows.transposed_over(shape_in, extra)
        C = shape_in[-1]
        expect_groups("transposed_conv", groups, C, "channels")
        shape_out = (*[axis.length for axis in axes], filters)
        hint = "give fewer filters, or a smaller size or stride"
        expect_room("transposed_conv", shape_out, hint=hint)
        shape = (*[axis.size for axis in axes], filters // groups, C)
        window, strides = (math.prod(getattr(a, n) for a in axes) for n in ("size", "stride"))
        fans = (max(1, window * C // (groups * strides)), window * filters // groups)
        W = draw_kernel(initializer, key.at("W"), shape, fans=fans)
        # A broadcast 0 takes no memory, however many filters a file may claim.
        if bias:
            return TransposedConvParams(W, np.broadcast_to(0.0, (filters, 1))), shape_out
        return KernelParams(W), shape_out

    def forward(params: Any, A_prev: FloatArray, context: Context) -> tuple[FloatArray, ConvCache]:
        W, numerics = params.W, context.numerics
        expect_channels("transposed_conv", A_prev, W, W.shape[-1])
        _, geometry = placed(A_prev.shape[:-1])
        kernel = as_image(W)
        shape = (*geometry.size, filters // groups, W.shape[-1])
        if kernel.shape != shape:
            hint = "give parameters that init of this stage made"
            expect_shape("W", W, shape[4 - W.ndim :], hint=hint)
        image = contiguous(as_image(A_prev))
        Z = numerics.convolution.input_gradient(kernel, image, geometry)
        if bias:
            Z += params.b
        return unlike_image(freeze(Z), A_prev.ndim), _cache(image, geometry, numerics)

    def backward_into(
        params: Any, cache: ConvCache, dZ: FloatArray, out: Views, needs_dA_prev: bool
    ) -> FloatArray | None:
        # The input of the adjoint convolution is the output here, and the other way round.
        W, numerics, geometry = as_image(params.W), cache.numerics, cache.geometry
        gradient = np.ascontiguousarray(as_image(dZ))
        dW = out[0].reshape(W.shape)
        numerics.convolution.weight_gradient(gradient, cache.A_prev, geometry, out=dW)
        if bias:
            out[1][...] = numerics.sum(gradient, axis=(0, 1, 3)).reshape(-1, 1)
        if not needs_dA_prev:
            return None
        dA_prev = freeze(numerics.convolution.product(gradient, W, geometry))
        return unlike_image(dA_prev, dZ.ndim)

    def onnx(params: Any, A_prev: Value, statistics: Tree) -> Value:
        axes, _ = placed(A_prev.shape)
        ends = [axis.length + axis.before + axis.after for axis in axes]
        reach = [(axis.count - 1) * axis.stride + axis.extent for axis in axes]
        added = tuple(end - to for end, to in zip(ends, reach, strict=True))
        return convolution_onnx(
            "ConvTranspose", params, A_prev, axes, output_padding=added, group=groups
        )

    gradients = ConvGrads if bias else KernelGrads
    return Stage(
        "transposed_conv",
        init,
        forward,
        backward_from(backward_into, gradients),
        backward_into=backward_into,
        gradients=gradients,
        onnx=onnx,
    )
