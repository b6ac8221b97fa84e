"""Inverted dropout: in training, each number is kept by chance, and made larger for it."""

from __future__ import annotations

import attrs

from pydnn.checks import BadInput, expect_real
from pydnn.descriptions.builders import described
from pydnn.parameters import NO_PARAMS
from pydnn.records import FloatArray, arrays, freeze, readonly
from pydnn.stages.base import Context, Stage, init_nothing

__all__ = ["DropoutCache", "dropout"]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class DropoutCache:
    """What the backward pass needs: D, 0 or 1 / keep_prob for each number; None outside training.

    D has the shape of A_prev.
    """

    D: FloatArray | None = None


@described("stage")
def dropout(*, keep_prob: float) -> Stage[tuple[()], DropoutCache]:
    """Keep each number with probability `keep_prob`, and divide it by that; else make it 0.

    The mask is addressed by the training's key, the iteration and this stage's place, so that a
    step has the same mask whenever it is taken. Outside of training nothing happens.

    References:
        Srivastava et al., Dropout, 2014; section 10 for the scaling in training.
    """
    hint = "give the probability of keeping a number, e.g. 0.8"
    keep_prob = expect_real("keep_prob", keep_prob, positive=True, most=1, hint=hint)

    def forward(
        params: tuple[()], A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, DropoutCache]:
        if not context.training:
            return readonly(A_prev), DropoutCache()
        if context.key is None:
            raise BadInput("dropout has no key in training: give Context(training=True, key=…).")
        kept = context.key.uniform(A_prev.shape) < keep_prob
        D = freeze(kept / A_prev.dtype.type(keep_prob))
        return freeze(A_prev * D), DropoutCache(D)

    def backward(
        params: tuple[()], cache: DropoutCache, dA: FloatArray
    ) -> tuple[FloatArray, tuple[()]]:
        dA_prev = readonly(dA) if cache.D is None else freeze(dA * cache.D)
        return dA_prev, NO_PARAMS

    return Stage("dropout", init_nothing, forward, backward, random=True)
