"""Losses: the cost of a network's output, and its gradient, in one function.

A loss works on logits where that is the stable form, and owns the mean over examples, so that
no stage below it divides by m.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from pydnn.builders import Description, described
from pydnn.checks import BadInput, expect_shape
from pydnn.records import FloatArray, freeze
from pydnn.stages.base import EVALUATION, Context
from pydnn.stages.sigmoid import logistic

__all__ = ["Loss", "sigmoid_cross_entropy"]


@attrs.frozen(eq=False)
class Loss:
    """A cost to make small: `loss(AL, Y)` gives the cost and dAL, its gradient.

    Attributes:
        name: What messages call it.
        function: `(AL, Y, context) -> (cost, dAL)`, the cost being a mean over examples.
        predict: `(AL, context) -> probabilities` of the labels, for logits AL.
        expect_labels: Refuses labels Y that the loss has no meaning for.
        description: How to `build` it again; filled in by `@described`.
    """

    name: str
    function: Callable[[FloatArray, FloatArray, Context], tuple[float, FloatArray]] = attrs.field(
        repr=False
    )
    predict: Callable[[FloatArray, Context], FloatArray] = attrs.field(repr=False)
    expect_labels: Callable[[FloatArray], None] = attrs.field(repr=False)
    description: Description | None = attrs.field(default=None, kw_only=True, repr=False)

    def __call__(
        self, AL: FloatArray, Y: FloatArray, context: Context = EVALUATION
    ) -> tuple[float, FloatArray]:
        """The cost of AL (n_y, m) against Y (n_y, m), and dAL (n_y, m)."""
        return self.function(AL, Y, context)


@described("loss")
def sigmoid_cross_entropy() -> Loss:
    """Binary cross-entropy of logits, in nats per example, for labels 0 and 1.

    References:
        Goodfellow, Bengio and Courville, Deep Learning, 2016, section 6.2.2.2.
    """
    return Loss("sigmoid_cross_entropy", _cross_entropy, _probabilities, _expect_binary)


def _cross_entropy(
    Z: FloatArray, Y: FloatArray, context: Context = EVALUATION
) -> tuple[float, FloatArray]:
    if Y.shape != Z.shape:
        expect_shape("Y", Y, Z.shape, hint="give one label per output and example")
    # From Z = 37 on, 1 - sigmoid(Z) is 0 in float64 and its log -inf; this form stays finite.
    e = context.numerics.exp(-np.abs(Z))
    losses = np.maximum(Z, 0) - Z * Y + context.numerics.log1p(e)
    A = np.where(Z >= 0, 1, e) / (1 + e)
    return context.numerics.mean(losses), freeze((A - Y) / Z.shape[1])


def _probabilities(Z: FloatArray, context: Context = EVALUATION) -> FloatArray:
    return freeze(logistic(Z, context.numerics))


def _expect_binary(Y: FloatArray) -> None:
    wrong = (Y != 0) & (Y != 1)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise BadInput(f"label {Y[index]:g} at index {index}, expected 0 or 1: recode them.")
