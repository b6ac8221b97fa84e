"""Penalties: terms of the cost that grow with the weights, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np

from pydnn.checks import expect_examples, expect_real
from pydnn.descriptions.builders import described
from pydnn.descriptions.parts import DescribedPart
from pydnn.numerics import Numerics, empty
from pydnn.numerics.underflow import ignoring_in
from pydnn.parameters import Layout, Packed, expect_names
from pydnn.records import FloatArray, freeze, scalar

__all__ = ["Penalty", "l1_penalty", "l2_penalty"]


@attrs.frozen
class SumOf:
    """The `function` of a penalty: strength / 2m times a sum over selected weights.

    Attributes:
        strength: Lambda in the tutorial's course.
        only: The names of the arrays to sum over.
        size: `(w, out) -> out`: the term of each weight in the sum, in a new array if `out` is
            None.
        slope: `(w, out) -> out`: the derivative of `size`, as above.
    """

    strength: float
    only: tuple[str, ...]
    size: Callable[[FloatArray, FloatArray | None], FloatArray]
    slope: Callable[[FloatArray, FloatArray | None], FloatArray]
    # The layout of the last call with its stretches and the gaps between them, since all steps of a
    # training have one layout.
    _known: list[tuple[Layout, list[slice], list[slice]]] = attrs.field(
        init=False, eq=False, factory=list
    )

    def __call__(self, parameters: Packed, m: int, numerics: Numerics) -> tuple[float, FloatArray]:
        """The cost for a batch of m examples, and its gradient (size,)."""
        expect_examples(m)
        vector, layout = parameters.vector, parameters.layout
        gradient = empty(vector.size, vector.dtype)
        factor, total = self.strength / (2 * m), 0.0
        if not self._known or self._known[0][0] is not layout:
            self._known[:] = [(layout, *_stretches_and_gaps(layout, self.only))]
        _, stretches, gaps = self._known[0]
        for stretch in stretches:
            # The sizes lie where the slopes come later, so that nothing else is allocated.
            w, slopes = vector[stretch], gradient[stretch]
            total += numerics.mean(self.size(w, slopes)) * w.size
            self.slope(w, slopes)
            slopes *= scalar(factor, w.dtype)
        for gap in gaps:
            gradient[gap] = 0
        return factor * total, freeze(gradient)


def _stretches_and_gaps(layout: Layout, only: Sequence[str]) -> tuple[list[slice], list[slice]]:
    stretches = layout.selected(only)
    starts = [0, *(stretch.stop for stretch in stretches)]
    stops = [*(stretch.start for stretch in stretches), layout.size]
    return stretches, [slice(*ends) for ends in zip(starts, stops, strict=True)]


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
    return _penalty(strength, only, _square, _double, isotropic=True)


def _square(w: FloatArray, out: FloatArray | None) -> FloatArray:
    return np.multiply(w, w, out)


def _double(w: FloatArray, out: FloatArray | None) -> FloatArray:
    return np.add(w, w, out)


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
    size: Callable[[FloatArray, FloatArray | None], FloatArray],
    slope: Callable[[FloatArray, FloatArray | None], FloatArray],
    *,
    isotropic: bool,
) -> Penalty:
    """Strength / 2m times the sum of `size` over the selected arrays, whose slope is `slope`."""
    strength = expect_real("strength", strength, least=0, hint="give lambda, e.g. 0.7")
    function = SumOf(strength, tuple(expect_names(only)), size, slope)
    return Penalty(function, isotropic=isotropic)
