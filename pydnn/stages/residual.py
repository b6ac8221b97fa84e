"""Stages around which the input is led, and added to what they give."""

from __future__ import annotations

import attrs

from pydnn.checks import BadInput
from pydnn.descriptions.builders import described
from pydnn.keys import Key
from pydnn.numerics.underflow import bare
from pydnn.parameters import Tree
from pydnn.records import FloatArray, freeze
from pydnn.stages.base import Context, Shape, Stage, expect_stages
from pydnn.stages.serial import serial

__all__ = ["residual"]


@described("stage")
def residual(*stages: Stage) -> Stage:
    """A = A_prev + f(A_prev), where f is the `stages` one after the other.

    References:
        He et al., Deep residual learning for image recognition, 2016, equation 1.

    Raises:
        BadInput: When initialised, if f gives another shape than it takes.
    """
    expect_stages("residual", stages)
    inner = serial(*stages)
    inner_forward, inner_backward = bare(inner.forward), bare(inner.backward)

    def init(key: Key, shape: Shape) -> tuple[Tree, Shape]:
        params, shape_out = inner.init(key, shape)
        if shape_out != shape:
            raise BadInput(
                f"residual stages give shape {shape_out} for {shape}, expected the same: "
                f"end them with e.g. dense({shape[0]})."
            )
        return params, shape

    def forward(params: Tree, A_prev: FloatArray, context: Context) -> tuple[FloatArray, Tree]:
        A, caches = inner_forward(params, A_prev, context)
        return freeze(A_prev + A), caches

    def backward(
        params: Tree,
        caches: Tree,
        dA: FloatArray,
        *,
        out: Tree | None = None,
        wants_dA_prev: bool = True,
    ) -> tuple[FloatArray | None, Tree]:
        inner_dA, grads = inner_backward(params, caches, dA, out=out, wants_dA_prev=wants_dA_prev)
        return freeze(dA + inner_dA) if inner_dA is not None else None, grads

    return attrs.evolve(
        inner, name="residual", init=init, forward=forward, backward=backward, rebuild=residual
    )
