"""Weight decay as a part of the update."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pydnn.checks import expect_real
from pydnn.descriptions.builders import described
from pydnn.optimizers.base import GradientTransformation
from pydnn.optimizers.layers import on_named_arrays

__all__ = ["decay_l1", "decay_weights"]


@described("optimizer")
def decay_weights(rate: float, *, only: Sequence[str] = ("W",)) -> GradientTransformation:
    """Add `rate` times each weight: before `descend`, it decays by learning rate times `rate`.

    This is the decoupled form, which the steps before do not touch. By default biases, and the
    scales and shifts of normalisations, do not decay.

    References:
        Loshchilov and Hutter, Decoupled weight decay regularization, 2019, algorithm 2.
    """
    rate = expect_real("rate", rate, least=0, hint="give e.g. 0.01")
    return on_named_arrays(
        only, lambda grads, params: grads + params * grads.dtype.type(rate), isotropic=True
    )


@described("optimizer")
def decay_l1(rate: float, *, only: Sequence[str] = ("W",)) -> GradientTransformation:
    """Add `rate` times each weight's sign: the decoupled form of an L1 penalty."""
    rate = expect_real("rate", rate, least=0, hint="give e.g. 0.001")
    return on_named_arrays(
        only, lambda grads, params: grads + np.sign(params) * grads.dtype.type(rate)
    )
