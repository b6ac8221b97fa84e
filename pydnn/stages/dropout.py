"""Inverted dropout: in training, zero numbers at random and scale up those that remain."""

from __future__ import annotations

import attrs

from pydnn.checks import BadInput, expect_flag, expect_real
from pydnn.descriptions.builders import described
from pydnn.engines import multiplies_by
from pydnn.keys import Key
from pydnn.parameters import NO_PARAMS
from pydnn.records import AnyDType, FloatArray, arrays, freeze, readonly, scalar
from pydnn.stages.base import Context, Shape, Stage, init_nothing

__all__ = ["DropoutCache", "dropout"]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class DropoutCache:
    """What the backward pass needs: the mask.

    Attributes:
        D: 0 or 1 / keep_prob for each number, with the shape of A_prev, or of one place (C, m) if
            all places share it; None outside of training.
    """

    D: FloatArray | None = None


@described("stage")
def dropout(*, keep_prob: float, per_channel: bool = False) -> Stage[tuple[()], DropoutCache]:
    """In training, divide each number by `keep_prob` with this probability, and zero it otherwise.

    The mask depends only on the training's key, the iteration and the place of this stage in the
    network, so repeating a step repeats its mask. Outside of training, A = A_prev.

    Args:
        keep_prob: Probability of keeping a number, above 0 and at most 1.
        per_channel: Whether to keep or zero a channel of an example as a whole, at all places of an
            image (H, W, C) or all steps of a sequence (T, C). Neighboring places hold similar
            numbers, so zeroing some of them removes little.

    Raises:
        BadInput: If `keep_prob` is not in that range, or `per_channel` is not True or False.
            `forward` raises it if a context of training has no key.

    References:
        Srivastava et al., Dropout, 2014; section 10 for the scaling in training.
        Tompson et al., Efficient object localization using convolutional networks, 2015, for whole
        channels.

    Example:
        >>> stage, A_prev = nn.dropout(keep_prob=0.8), np.ones((1, 5))
        >>> stage.forward((), A_prev, nn.Context(training=True, key=nn.Key(5)))[0]
        array([[1.25, 1.25, 1.25, 0.  , 1.25]])
        >>> stage.forward((), A_prev, nn.Context())[0]
        array([[1., 1., 1., 1., 1.]])
    """
    hint = "give the probability of keeping a number, e.g. 0.8"
    keep_prob = expect_real("keep_prob", keep_prob, positive=True, most=1, hint=hint)
    per_channel = expect_flag("per_channel", per_channel)

    def mask(shape: Shape, dtype: AnyDType, key: Key) -> FloatArray:
        # Dividing here keeps the mean of each number, so nothing has to be scaled in evaluation.
        kept = key.uniform(shape[-2:] if per_channel else shape) < keep_prob
        return freeze(kept / scalar(keep_prob, dtype))

    @multiplies_by(mask)
    def forward(
        params: tuple[()], A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, DropoutCache]:
        if not context.training:
            return readonly(A_prev), DropoutCache()
        if context.key is None:
            raise BadInput("dropout has no key in training: give Context(training=True, key=…).")
        D = mask(A_prev.shape, A_prev.dtype, context.key)
        return freeze(A_prev * D), DropoutCache(D)

    @multiplies_by(mask)
    def backward(
        params: tuple[()], cache: DropoutCache, dA: FloatArray
    ) -> tuple[FloatArray, tuple[()]]:
        dA_prev = readonly(dA) if cache.D is None else freeze(dA * cache.D)
        return dA_prev, NO_PARAMS

    return Stage(
        "dropout",
        init_nothing,
        forward,
        backward,
        random=True,
        lengths="kept",
        onnx=lambda params, A_prev, statistics: A_prev,
    )
