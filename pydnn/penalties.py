"""Penalties: what is added to the cost for large weights, and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np

from pydnn.checks import expect_examples, expect_real
from pydnn.descriptions.builders import described
from pydnn.descriptions.parts import DescribedPart
from pydnn.numerics import Numerics
from pydnn.numerics.underflow import ignoring_in
from pydnn.parameters import Packed, expect_names
from pydnn.records import FloatArray, freeze

__all__ = ["Penalty", "l1_penalty", "l2_penalty"]


@attrs.frozen
class SumOf:
    """The `function` of a penalty: strength / 2m times a sum over the weights that it counts.

    Attributes:
        strength: The course's lambda.
        only: Names of the arrays that it counts.
        size: What it sums of each weight.
        slope: The derivative of `size`.
    """

    strength: float
    only: tuple[str, ...]
    size: Callable[[FloatArray], FloatArray]
    slope: Callable[[FloatArray], FloatArray]

    def __call__(self, parameters: Packed, m: int, numerics: Numerics) -> tuple[float, FloatArray]:
        """The cost for a batch of m examples, and its gradient (size,)."""
        expect_examples(m)
        gradient = np.zeros_like(parameters.vector)
        factor, total = self.strength / (2 * m), 0.0
        for stretch in parameters.layout.selected(self.only):
            w = parameters.vector[stretch]
            total += numerics.mean(self.size(w)) * w.size
            gradient[stretch] = self.slope(w) * w.dtype.type(factor)
        return factor * total, freeze(gradient)


@attrs.frozen(eq=False, repr=False, field_transformer=ignoring_in("function"))
class Penalty(DescribedPart):
    """A term of the cost that depends on the parameters alone.

    Attributes:
        function: `(parameters, m, numerics) -> (cost, gradient)` for a batch of m examples; the
            gradient is a vector in the layout of the parameters.
        isotropic: Whether all directions of an array are alike to it, as with its length.
    """

    function: Callable[[Packed, int, Numerics], tuple[float, FloatArray]]
    isotropic: bool = attrs.field(default=False, kw_only=True)


@described("penalty")
def l2_penalty(strength: float, *, only: Sequence[str] = ("W",)) -> Penalty:
    """Strength / 2m times the sum of squared weights, as in the tutorial's course.

    Args:
        strength: The course's lambda; 0 or more.
        only: Names of the arrays that it counts, as `Layout.selected` takes them.
    """
    return _penalty(strength, only, lambda w: w * w, lambda w: 2 * w, isotropic=True)


@described("penalty")
def l1_penalty(strength: float, *, only: Sequence[str] = ("W",)) -> Penalty:
    """Strength / 2m times the sum of absolute weights; the slope at 0 is taken as 0.

    Args:
        strength: The course's lambda; 0 or more.
        only: Names of the arrays that it counts, as `Layout.selected` takes them.
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
