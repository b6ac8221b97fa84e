"""Penalties: terms of the cost that grow with the weights, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np

from pydnn.checks import expect_examples, expect_real
from pydnn.descriptions.builders import described
from pydnn.descriptions.parts import DescribedPart
from pydnn.numerics import Numerics
from pydnn.numerics.underflow import ignoring_in
from pydnn.parameters import Layout, Packed, expect_names
from pydnn.records import FloatArray, freeze

__all__ = ["Penalty", "l1_penalty", "l2_penalty"]


@attrs.frozen
class SumOf:
    """The `function` of a penalty: strength / 2m times a sum over selected weights.

    Attributes:
        strength: Lambda in the tutorial's course.
        only: The names of the arrays to sum over.
        size: The term of each weight in the sum.
        slope: The derivative of `size`.
    """

    strength: float
    only: tuple[str, ...]
    size: Callable[[FloatArray], FloatArray]
    slope: Callable[[FloatArray], FloatArray]
    # The layout of the last call and its stretches, since all steps of a training have one layout.
    _known: list[tuple[Layout, list[slice]]] = attrs.field(init=False, eq=False, factory=list)

    def __call__(self, parameters: Packed, m: int, numerics: Numerics) -> tuple[float, FloatArray]:
        """The cost for a batch of m examples, and its gradient (size,)."""
        expect_examples(m)
        gradient = np.zeros_like(parameters.vector)
        factor, total = self.strength / (2 * m), 0.0
        for stretch in self._stretches(parameters.layout):
            w = parameters.vector[stretch]
            total += numerics.mean(self.size(w)) * w.size
            np.multiply(self.slope(w), w.dtype.type(factor), out=gradient[stretch])
        return factor * total, freeze(gradient)

    def _stretches(self, layout: Layout) -> list[slice]:
        if not self._known or self._known[0][0] is not layout:
            self._known[:] = [(layout, layout.selected(self.only))]
        return self._known[0][1]


@attrs.frozen(eq=False, repr=False, field_transformer=ignoring_in("function"))
class Penalty(DescribedPart):
    """A term of the cost that depends on the parameters alone.

    Attributes:
        function: `(parameters, m, numerics) -> (cost, gradient)` for a batch of m examples; the
            gradient is a vector in the layout of the parameters.
        isotropic: Whether it treats all directions of an array alike, as its norm does.

    Example:
        >>> l2_penalty(0.1).isotropic, l1_penalty(0.1).isotropic
        (True, False)
    """

    function: Callable[[Packed, int, Numerics], tuple[float, FloatArray]]
    isotropic: bool = attrs.field(default=False, kw_only=True)


@described("penalty")
def l2_penalty(strength: float, *, only: Sequence[str] = ("W",)) -> Penalty:
    """Add strength / 2m times the sum of squared weights, as in the tutorial's course.

    Args:
        strength: Lambda in the course, at least 0.
        only: The names of the arrays to sum over; see `Layout.selected`.

    Raises:
        BadInput: If `strength` is negative or not finite.

    Example:
        >>> network = nn.dense(1, initializer=nn.constant(3.0))
        >>> state = nn.initial_state(network, nn.adam(), (2,), key=nn.Key(1))
        >>> cost, gradient = l2_penalty(0.2).function(state.parameters, 10, nn.fast)
        >>> round(cost, 4), gradient
        (0.18, array([0.06, 0.06, 0.  ]))
    """
    return _penalty(strength, only, lambda w: w * w, lambda w: 2 * w, isotropic=True)


@described("penalty")
def l1_penalty(strength: float, *, only: Sequence[str] = ("W",)) -> Penalty:
    """Add strength / 2m times the sum of absolute weights; the slope at 0 is taken as 0.

    Args:
        strength: Lambda in the course, at least 0.
        only: The names of the arrays to sum over; see `Layout.selected`.

    Raises:
        BadInput: If `strength` is negative or not finite.

    Example:
        >>> network = nn.dense(1, initializer=nn.constant(3.0))
        >>> state = nn.initial_state(network, nn.adam(), (2,), key=nn.Key(1))
        >>> cost, gradient = l1_penalty(0.2).function(state.parameters, 10, nn.fast)
        >>> round(cost, 4), gradient
        (0.06, array([0.01, 0.01, 0.  ]))
    """
    return _penalty(strength, only, np.abs, np.sign, isotropic=False)


def _penalty(
    strength: float,
    only: Sequence[str],
    size: Callable[[FloatArray], FloatArray],
    slope: Callable[[FloatArray], FloatArray],
    *,
    isotropic: bool,
) -> Penalty:
    """Strength / 2m times the sum of `size` over the selected arrays, whose slope is `slope`."""
    strength = expect_real("strength", strength, least=0, hint="give lambda, e.g. 0.7")
    function = SumOf(strength, tuple(expect_names(only)), size, slope)
    return Penalty(function, isotropic=isotropic)
