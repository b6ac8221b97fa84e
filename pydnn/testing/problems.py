"""The subject of a gradient check: outputs as a function of one vector, and their gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.losses import Loss
from pydnn.parameters import Layout, Slot, Tree, layout_of, leaves
from pydnn.records import FloatArray, freeze
from pydnn.stages.base import Context, Stage
from pydnn.testing.reports import checked_call

__all__ = [
    "Problem",
    "expect_float64",
    "network_problem",
    "problem_of_function",
    "problem_of_loss",
    "problem_of_stage",
]


@attrs.frozen(eq=False)
class Problem:
    """Arrays that lie in one vector, outputs that depend on it, and the gradient to check.

    Attributes:
        subject: What is checked, e.g. "stage dense".
        slots: The places of the arrays in the vector.
        vector: The point at which gradients are compared, (n,).
        outputs: `(vector) -> outputs` (k,); the vector may be complex.
        weights: The weight of each output, (k,): dA for a stage, 1 for a cost.
        gradient: `(vector) -> gradient` (n,) of the weighted sum of outputs: what is checked.
    """

    subject: str
    slots: tuple[Slot, ...]
    vector: FloatArray
    outputs: Callable[[FloatArray], FloatArray]
    weights: FloatArray
    gradient: Callable[[FloatArray], FloatArray]


def problem_of_stage(
    stage: Stage, params: Tree, A_prev: FloatArray, dA: FloatArray, context: Context
) -> Problem:
    """Return the problem for a stage: gradients of sum(dA * output) by parameters and A_prev.

    Ids in A_prev cannot move a little, so they have no differences to compare with.
    """
    layout = layout_of(params)
    _expect_all_float64(layout, params, ("A_prev", A_prev), ("dA", dA))
    size, what = layout.size, f"stage {stage.name}"
    moves = stage.ids is None

    def outputs(vector: FloatArray) -> FloatArray:
        X = freeze(vector[size:].reshape(A_prev.shape)) if moves else A_prev
        return stage.forward(layout.tree(freeze(vector[:size])), X, context)[0].ravel()

    def gradient(vector: FloatArray) -> FloatArray:
        tree = layout.tree(vector[:size])
        X = freeze(vector[size:].reshape(A_prev.shape)) if moves else A_prev
        A, cache = checked_call(f"forward of {what}", stage.forward, tree, X, context, hint=_HINT)
        _expect_output(what, A, dA)
        dA_prev, grads = checked_call(
            f"backward of {what}", stage.backward, tree, cache, dA, hint=_HINT
        )
        joined = _joined(layout, grads, ("A_prev", A_prev.shape, dA_prev))
        return joined if moves else joined[:size]

    return Problem(
        what,
        (*layout.slots, Slot("A_prev", A_prev.shape, size)) if moves else layout.slots,
        _flat(*leaves(params), A_prev)[: None if moves else size],
        outputs,
        dA.ravel(),
        gradient,
    )


def problem_of_loss(
    loss: Loss, AL: FloatArray, Y: FloatArray, weights: FloatArray | None, context: Context
) -> Problem:
    """Return the problem for a loss: the gradient of the cost by AL."""
    expect_float64("AL", AL)

    def outputs(vector: FloatArray) -> FloatArray:
        cost, _ = loss(freeze(vector.reshape(AL.shape)), Y, weights, context)
        return np.array([cost])

    def gradient(vector: FloatArray) -> FloatArray:
        _, dAL = checked_call(
            f"loss {loss.name}", loss, vector.reshape(AL.shape), Y, weights, context, hint=_HINT
        )
        _expect_gradient("AL", dAL, AL.shape)
        return np.ravel(dAL)

    slots = (Slot("AL", AL.shape, 0),)
    return Problem(f"loss {loss.name}", slots, _flat(AL), outputs, np.ones(1), gradient)


def network_problem(
    network: Stage,
    loss: Loss,
    params: Tree,
    X: FloatArray,
    Y: FloatArray,
    weights: FloatArray | None,
    context: Context,
) -> Problem:
    """Return the problem for a network with a loss: gradients of the cost by parameters and X."""
    layout = layout_of(params)
    _expect_all_float64(layout, params, ("X", X))
    size, moves = layout.size, network.ids is None

    def parts(vector: FloatArray) -> tuple[Tree, FloatArray]:
        inputs = freeze(vector[size:].reshape(X.shape)) if moves else X
        return layout.tree(freeze(vector[:size])), inputs

    def outputs(vector: FloatArray) -> FloatArray:
        tree, inputs = parts(vector)
        cost, _ = loss(network.forward(tree, inputs, context)[0], Y, weights, context)
        return np.array([cost])

    def gradient(vector: FloatArray) -> FloatArray:
        tree, inputs = parts(vector)
        AL, cache = checked_call(
            "forward of the network", network.forward, tree, inputs, context, hint=_HINT
        )
        _, dAL = checked_call(f"loss {loss.name}", loss, AL, Y, weights, context, hint=_HINT)
        dX, grads = checked_call(
            "backward of the network", network.backward, tree, cache, dAL, hint=_HINT
        )
        joined = _joined(layout, grads, ("X", X.shape, dX))
        return joined if moves else joined[:size]

    slots = (*layout.slots, Slot("X", X.shape, size)) if moves else layout.slots
    vector = _flat(*leaves(params), X)[: None if moves else size]
    subject = f"network {network.name} with {loss.name}"
    return Problem(subject, slots, vector, outputs, np.ones(1), gradient)


def problem_of_function(
    function: Callable[..., float],
    gradients: Callable[..., Mapping[str, FloatArray]],
    arrays: Mapping[str, FloatArray],
) -> Problem:
    """Return the problem for a function: the gradients of its value by all `arrays`.

    Args:
        function: `(**arrays) -> number`.
        gradients: `(**arrays) -> {name: gradient}`, with a gradient for every array.
        arrays: The arguments of the function by name, in float64.
    """
    slots: list[Slot] = []
    for name, array in arrays.items():
        expect_float64(name, array)
        slots.append(Slot(name, array.shape, slots[-1].stop if slots else 0))
    what = f"function {getattr(function, '__name__', type(function).__name__)}"

    def parts(vector: FloatArray) -> dict[str, FloatArray]:
        return {s.name: freeze(vector[s.start : s.stop].reshape(s.shape)) for s in slots}

    def gradient(vector: FloatArray) -> FloatArray:
        by_name = checked_call(
            f"the gradient of {what}", lambda: gradients(**parts(vector)), hint=_HINT
        )
        for slot in slots:
            _expect_gradient(slot.name, by_name.get(slot.name), slot.shape)
        return _flat(*(by_name[slot.name] for slot in slots))

    vector = _flat(*arrays.values())
    return Problem(
        what,
        tuple(slots),
        vector,
        lambda vector: np.array([function(**parts(vector))]),
        np.ones(1),
        gradient,
    )


_HINT = "fix it, or give arrays that it takes"


def expect_float64(name: str, array: object) -> None:
    """Raise BadInput for any other precision, where differences would show only rounding."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float64:
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise BadInput(
            f"{name} is {kind}, expected an array of float64, in which gradients are compared: "
            f"give {name}.astype(np.float64)."
        )


def _expect_all_float64(layout: Layout, params: Tree, *named: tuple[str, FloatArray]) -> None:
    slots = zip(layout.slots, leaves(params), strict=True)
    for name, array in (*((slot.name, leaf) for slot, leaf in slots), *named):
        expect_float64(name, array)


def _expect_output(what: str, A: object, dA: FloatArray) -> None:
    if not isinstance(A, np.ndarray) or A.shape != dA.shape:
        shape = getattr(A, "shape", type(A).__name__)
        raise AssertionError(
            f"forward of {what} gives A of shape {shape}, init promised {dA.shape}"
        )
    if A.dtype != np.float64:
        raise AssertionError(f"forward of {what} gives A as {A.dtype} for float64 arguments")


def _expect_gradient(name: str, gradient: object, shape: tuple[int, ...]) -> None:
    if not isinstance(gradient, np.ndarray) or gradient.shape != shape:
        actual = getattr(gradient, "shape", type(gradient).__name__)
        raise AssertionError(f"the gradient of {name} has shape {actual}, expected {shape}")


def _joined(
    layout: Layout, grads: Tree, last: tuple[str, tuple[int, ...], FloatArray]
) -> FloatArray:
    """Return all gradients in one vector, in the order of the arrays they belong to."""
    try:
        gradients = list(leaves(grads))
    except Exception:  # a user's backward may return anything
        gradients = []
    if len(gradients) != len(layout.slots):
        names = [slot.name for slot in layout.slots]
        raise AssertionError(
            f"grads have {len(gradients)} arrays, expected one for each of {names}"
        )
    name, shape, gradient = last
    for slot, array in zip(layout.slots, gradients, strict=True):
        _expect_gradient(slot.name, array, slot.shape)
    _expect_gradient(name, gradient, shape)
    return _flat(*gradients, gradient)


def _flat(*arrays: FloatArray) -> FloatArray:
    return freeze(np.concatenate([np.ravel(array) for array in arrays]))
