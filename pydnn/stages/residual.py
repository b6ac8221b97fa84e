"""Residual connection: A = A_prev + f(A_prev)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from pydnn.checks import BadInput
from pydnn.descriptions.builders import described
from pydnn.keys import Key
from pydnn.numerics.underflow import bare
from pydnn.parameters import Tree, Views
from pydnn.records import FloatArray, freeze
from pydnn.stages.base import Caches, Context, Shape, Stage, Trees, expect_stages, into
from pydnn.stages.serial import serial

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = ["residual"]


@described("stage")
def residual(*stages: Stage) -> Stage[Trees, Caches]:
    """Add a chain of stages to its own input: A = A_prev + f(A_prev), where f is the chain.

    Args:
        *stages: The stages of f in order, whose output must have the shape of the input.

    Raises:
        BadInput: If there is no stage, or something that is not a stage. `init` raises it if the
            output of f does not have the shape of its input.

    References:
        He et al., Deep residual learning for image recognition, 2016, equation 1.

    Example:
        >>> block = nn.residual(nn.dense(3, initializer=nn.constant(0.5)))
        >>> params, _ = block.init(nn.Key(0), (3,))
        >>> A, _ = block.forward(params, np.array([[1.0], [2.0], [3.0]]), nn.Context())
        >>> A.T
        array([[4., 5., 6.]])
    """
    expect_stages("residual", stages)
    inner = serial(*stages)
    inner_forward, inner_backward = bare(inner.forward), bare(inner.backward)
    inner_backward_into = into(inner)
    inner_onnx = inner.onnx
    assert inner_onnx is not None  # serial always has the field

    def init(key: Key, shape: Shape) -> tuple[Trees, Shape]:
        params, shape_out = inner.init(key, shape)
        if shape_out != shape:
            advice = f"end them with e.g. dense({shape[-1]})"
            if shape_out[:-1] != shape[:-1]:
                advice = 'keep the places of the examples, e.g. by padding="same" and stride 1'
            raise BadInput(
                f"residual stages give shape {shape_out} for {shape}, expected the same: {advice}."
            )
        return params, shape

    def forward(params: Trees, A_prev: FloatArray, context: Context) -> tuple[FloatArray, Caches]:
        A, caches = inner_forward(params, A_prev, context)
        return freeze(A_prev + A), caches

    def backward(params: Trees, caches: Caches, dA: FloatArray) -> tuple[FloatArray, Trees]:
        inner_dA, grads = inner_backward(params, caches, dA)
        return freeze(dA + inner_dA), grads

    def backward_into(
        params: Trees, caches: Caches, dA: FloatArray, out: Views, needs_dA_prev: bool
    ) -> FloatArray | None:
        inner_dA = inner_backward_into(params, caches, dA, out, needs_dA_prev)
        return None if inner_dA is None else freeze(dA + inner_dA)

    def onnx(params: Trees, A_prev: Value, statistics: Tree) -> Value:
        return A_prev.op("Add", inner_onnx(params, A_prev, statistics))

    return attrs.evolve(
        inner,
        name="residual",
        init=init,
        forward=forward,
        backward=backward,
        backward_into=backward_into,
        in_sequence=False,
        onnx=onnx,
        rebuild=residual,
    )
