"""Decoupled weight decay: decay as a part of the update, not of the cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pydnn.checks import expect_real
from pydnn.descriptions.builders import described
from pydnn.engines import compilable
from pydnn.optimizers.base import GradientTransformation
from pydnn.optimizers.layers import on_named_arrays
from pydnn.records import FloatArray

__all__ = ["decay_l1", "decay_weights"]


@described("optimizer")
def decay_weights(rate: float, *, only: Sequence[str] = ("W",)) -> GradientTransformation:
    """Add `rate` times each weight to its gradient, for decoupled weight decay.

    In a chain, put it after `scale_by_adam` and its like and before `descend`: each weight then
    shrinks by learning rate times `rate` times itself per update.

    Args:
        rate: The decay rate, 0 or more.
        only: The arrays that decay, as `Layout.selected` takes them. The default is all W, so
            that biases and the scales and shifts of normalizations do not decay.

    Raises:
        BadInput: If `rate` is negative, or `only` is not a list of names. `update` raises it for a
            name that no parameter has.

    References:
        Loshchilov and Hutter, Decoupled weight decay regularization, 2019, algorithm 2.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1, initializer=nn.constant(5.0)).init(nn.Key(0), (1,))[0])
        >>> optimizer = nn.optimizers.chain(nn.decay_weights(0.01), nn.optimizers.descend(0.1))
        >>> updates, _ = optimizer.update(np.zeros(2), optimizer.init(params), params)
        >>> updates
        array([-0.005, -0.   ])
    """
    rate = expect_real("rate", rate, least=0, hint="give e.g. 0.01")
    return on_named_arrays(only, _decay_kernel, rate, isotropic=True)


@compilable
def _decay_kernel(rate: FloatArray, g: FloatArray, p: FloatArray, u: FloatArray) -> None:
    np.multiply(p, rate, u)
    u += g


@described("optimizer")
def decay_l1(rate: float, *, only: Sequence[str] = ("W",)) -> GradientTransformation:
    """Add `rate` times the sign of each weight to its gradient: a decoupled L1 penalty.

    Args:
        rate: The decay rate, 0 or more.
        only: The arrays that decay, as `Layout.selected` takes them; all W by default.

    Raises:
        BadInput: If `rate` is negative, or `only` is not a list of names. `update` raises it for a
            name that no parameter has.

    Example:
        >>> from pydnn.parameters import pack
        >>> params = pack(nn.dense(1, initializer=nn.constant(5.0)).init(nn.Key(0), (1,))[0])
        >>> updates, _ = nn.optimizers.decay_l1(0.01).update(np.zeros(2), (), params)
        >>> updates
        array([0.01, 0.  ])
    """
    rate = expect_real("rate", rate, least=0, hint="give e.g. 0.001")
    return on_named_arrays(only, _decay_l1_kernel, rate)


@compilable
def _decay_l1_kernel(rate: FloatArray, g: FloatArray, p: FloatArray, u: FloatArray) -> None:
    np.sign(p, u)
    u *= rate
    u += g
