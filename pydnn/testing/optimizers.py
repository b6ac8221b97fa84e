"""The laws of a gradient transformation, such as an optimizer, and the check of all of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_count
from pydnn.descriptions.builders import build, describe
from pydnn.keys import Key
from pydnn.optimizers.base import GradientTransformation
from pydnn.parameters import Packed, pack
from pydnn.records import FloatArray, arrays, freeze
from pydnn.stages.base import Context
from pydnn.testing.global_state import restored_global_state
from pydnn.testing.nested import deviation, difference, leaves_of, snapshot
from pydnn.testing.purity import expect_runs, purity_faults
from pydnn.testing.reports import Proof, Trial, checked_call

__all__ = ["assert_gradient_transformation"]

Loop = Callable[[Sequence[FloatArray], FloatArray], FloatArray]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class _Params:
    """Arrays with the names of a dense layer's, W (2, 3) and b (2, 1)."""

    W: FloatArray
    b: FloatArray


def assert_gradient_transformation(
    transformation: GradientTransformation,
    *,
    params: Packed | None = None,
    steps: int = 60,
    descends: bool | None = None,
    shrinks_to_zero: bool = True,
    reference: Loop | None = None,
    rtol: float = 1e-11,
    key: Key = Key(0),  # noqa: B008 - frozen
) -> Proof:
    """Check all laws of an optimizer or another gradient transformation.

    - *state*: updates have the shape and dtype of gradients, and the state keeps its records and
      their shapes;
    - *purity*: `init` and `update` are pure, at the start and later, see `assert_pure`;
    - *zero gradients*: parameters and gradients that are all 0 give updates of 0;
    - *elementwise*: if declared, another gradient of one number changes that number only;
    - *descent*: an optimizer lowers a quadratic cost;
    - *resume*: continuing from a saved state gives the same bits;
    - *key*: another key gives other bits if randomness is declared, and only then;
    - *reference*: parameters agree with those of a loop written by hand;
    - *precision*: float32 stays float32;
    - *observed*: `observe` returns a mapping with names as keys;
    - *description*: a transformation built from its description does the same.

    Args:
        transformation: The transformation to check.
        params: Parameters to start from, in float64; by default they are drawn.
        steps: Number of updates, 4 or more.
        descends: Whether it must lower a cost, as a whole optimizer does; by default, whether it
            observes a learning rate.
        shrinks_to_zero: Whether updates must be 0 if parameters and gradients are. Pass False for
            a transformation that adds noise.
        reference: `(gradients, vector) -> vector` after all updates: the optimizer as a loop
            written by hand from the paper.
        rtol: The largest error against `reference`, relative to the largest parameter.
        key: The key to draw from.

    Returns:
        The proof: which laws hold.

    Raises:
        BrokenLaw: If a law is broken; it lists all faults by law.
        BadInput: If it is not a gradient transformation, or other arguments do not fit it.

    Example:
        >>> from pydnn.testing import assert_gradient_transformation
        >>> def by_hand(gradients, vector):
        ...     for g in gradients:
        ...         vector = vector - 0.1 * g
        ...     return vector
        >>> proof = assert_gradient_transformation(
        ...     nn.gradient_descent(learning_rate=0.1), reference=by_hand
        ... )
        >>> "reference" in proof.laws
        True
    """
    if not isinstance(transformation, GradientTransformation):
        raise BadInput(
            f"got {transformation!r}, expected a gradient transformation: call its builder."
        )
    expect_count("steps", steps, least=4, hint="give the number of updates")
    if params is None:
        params = pack((_Params(key.at("W").normal((2, 3)), key.at("b").normal((2, 1))),))
    if params.vector.dtype != np.float64:
        raise BadInput(f"params are {params.vector.dtype}, expected float64: pack them again.")
    hint = "fix it, or give params that it takes"
    with restored_global_state():
        state = checked_call("init of the transformation", transformation.init, params, hint=hint)
    gradients = _gradients(params.vector.size, steps, key)
    context = Context(training=True, key=key.at("update"))
    trial = Trial(_name(transformation))
    arguments = {"grads": gradients[0], "state": state, "params": params, "context": context}
    expect_runs(f"update of {trial.subject}", transformation.update, arguments, hint=hint)
    training = _Training(transformation, params, key)
    _try_state(trial, training, gradients)
    if "state" in trial.broken:
        return trial.proof()
    _try_purity(trial, training, gradients)
    _try_elementwise(trial, training, gradients)
    if shrinks_to_zero and not transformation.random:
        _try_zero(trial, transformation, params, context)
    observed = transformation.observe(state)
    if descends or (descends is None and "learning_rate" in observed):
        _try_descent(trial, training, steps)
    _try_resume(trial, training, gradients)
    _try_key(trial, transformation, params, gradients, key)
    if reference is not None:
        with trial.law("reference") as fault:
            expected = reference([g.copy() for g in gradients], params.vector.copy())
            actual = training.along(gradients)[0][-1].vector
            mismatch = deviation(expected, actual, tolerance=rtol)
            if mismatch:
                fault(f"parameters{mismatch} after {steps} updates")
    _try_precision(trial, transformation, params, gradients, context)
    with trial.law("observed") as fault:
        _, states = training.along(gradients[:2])
        observed = transformation.observe(states[-1])
        if not isinstance(observed, Mapping) or not all(isinstance(name, str) for name in observed):
            fault(f"observe returns {observed!r}, expected a mapping with names as keys")
    if transformation.description is not None:
        with trial.law("description") as fault:
            built = build(describe(transformation), family="optimizer")
            others = _Training(built, params, key).along(gradients)
            mismatch = difference(
                snapshot(training.along(gradients), "training"), snapshot(others, "training")
            )
            if mismatch:
                fault(f"built again, {mismatch} before")
    return trial.proof()


def _name(transformation: GradientTransformation) -> str:
    description = transformation.description
    return "the transformation" if description is None else f"optimizer {next(iter(description))}"


@attrs.frozen(eq=False)
class _Training:
    """A sequence of updates, as a training makes them."""

    transformation: GradientTransformation
    params: Packed
    key: Key

    def along(
        self, gradients: Sequence[FloatArray], *, since: tuple[Packed, object, int] | None = None
    ) -> tuple[list[Packed], list[object]]:
        """Return the parameters and states before the first gradient, and after each one.

        Args:
            gradients: The gradients in order, each (size,).
            since: Parameters, state and number of updates to continue from.
        """
        params, state, first = since or (self.params, self.transformation.init(self.params), 0)
        all_params, states = [params], [state]
        for i, g in enumerate(gradients, start=first):
            context = Context(training=True, key=self.key.at("step", i))
            updates, state = self.transformation.update(g, state, params, context)
            params = params.with_vector(freeze(params.vector + updates))
            all_params.append(params)
            states.append(state)
        return all_params, states


def _gradients(size: int, steps: int, key: Key) -> list[FloatArray]:
    """Return normal gradients whose size changes over time, as in training; some are tiny."""
    # With scales of 1, 1e-4 and 1e-8 by turns, so that an epsilon in the wrong place shows.
    sizes = np.exp(np.sin(np.arange(steps) / 5))[:, np.newaxis] * 10.0 ** -(np.arange(size) % 3 * 4)
    return [freeze(g) for g in sizes * key.at("gradients").normal((steps, size))]


def _try_state(trial: Trial, training: _Training, gradients: Sequence[FloatArray]) -> None:
    with trial.law("state") as fault:
        state = training.transformation.init(training.params)
        context = Context(training=True, key=training.key)
        for g in gradients[:3]:
            updates, after = training.transformation.update(g, state, training.params, context)
            if getattr(updates, "shape", None) != g.shape or updates.dtype != g.dtype:
                fault(
                    f"updates are {getattr(updates, 'dtype', type(updates).__name__)} "
                    f"{getattr(updates, 'shape', '')}, gradients are {g.dtype} {g.shape}"
                )
                return
            mismatch = _kind_difference(state, after)
            if mismatch:
                fault(mismatch)
                return
            state = after


def _kind_difference(before: object, after: object) -> str | None:
    """Describe the first leaf whose dtype or shape differs between two states, if one does."""
    old, new = snapshot(before, "state"), snapshot(after, "state")
    if type(before) is not type(after):
        return f"the state is a {type(after).__name__}, init gave a {type(before).__name__}"
    if old.keys() != new.keys():
        return f"the state has {sorted(new)}, init gave {sorted(old)}"
    for where, leaf in old.items():
        if isinstance(leaf, np.ndarray):
            other = new[where]
            # An empty array may grow: `look` has no vector before the first update.
            if (
                not isinstance(other, np.ndarray)
                or other.dtype != leaf.dtype
                or (leaf.size and other.shape != leaf.shape)
            ):
                kind = (
                    f"{getattr(other, 'dtype', type(other).__name__)} {getattr(other, 'shape', '')}"
                )
                return f"{where} is {kind} after an update, {leaf.dtype} {leaf.shape} before"
    return None


def _try_elementwise(trial: Trial, training: _Training, gradients: Sequence[FloatArray]) -> None:
    if not training.transformation.elementwise:
        return
    with trial.law("elementwise") as fault:
        changed = [freeze(np.concatenate([g[:1] + 0.5, g[1:]])) for g in gradients[:4]]
        before, after = (training.along(each)[0][-1].vector for each in (gradients[:4], changed))
        if not np.array_equal(before[1:], after[1:]):
            fault(
                "elementwise=True is declared, but another gradient of one number changes other "
                "numbers, too"
            )


def _try_purity(trial: Trial, training: _Training, gradients: Sequence[FloatArray]) -> None:
    transformation = training.transformation
    with trial.law("purity") as fault:
        _, faults = purity_faults(
            transformation.init, training.params, shares=["result"], names=["params"]
        )
        for text in faults:
            fault(f"init {text.replace('result', 'state')}")
        params, states = training.along(gradients[:3])
        for i in (0, 3):
            context = Context(training=True, key=training.key.at("step", i))
            # A part that only observes returns its gradients, and one that accumulates its state.
            _, faults = purity_faults(
                transformation.update,
                gradients[i],
                states[i],
                params[i],
                context,
                shares=["result"],
                names=["grads", "state", "params", "context"],
            )
            for text in faults:
                fault(
                    "update " + text.replace("result[0]", "updates").replace("result[1]", "state")
                )


def _try_zero(
    trial: Trial, transformation: GradientTransformation, params: Packed, context: Context
) -> None:
    with trial.law("zero gradients") as fault:
        zeros = freeze(np.zeros_like(params.vector))
        zero_params = params.with_vector(zeros)
        state = transformation.init(zero_params)
        for i in range(3):
            updates, state = transformation.update(zeros, state, zero_params, context)
            if np.any(updates):
                index = int(np.flatnonzero(updates)[0])
                fault(
                    f"update {i} moves entry {index} by {updates[index]:.9g}, though parameters "
                    "and gradients are all 0"
                )


def _try_descent(trial: Trial, training: _Training, steps: int) -> None:
    """Check that the cost curvature / 2 * |vector|**2 is lower after some updates."""
    with trial.law("descent") as fault:
        transformation = training.transformation
        params, curvature = training.params, 1.0
        for _ in range(40):
            first = _first_move(training, params, curvature)
            if first <= 0.1 * float(np.linalg.norm(params.vector)):
                break
            # Until the first step is small: less curvature shortens steps that are proportional to
            # the gradient, and larger parameters make steps of a fixed length relatively shorter.
            curvature /= 2
            params = params.with_vector(freeze(2 * params.vector))
        start, state = params, transformation.init(params)
        for i in range(steps):
            context = Context(training=True, key=training.key.at("step", i))
            updates, state = transformation.update(
                freeze(curvature * params.vector), state, params, context
            )
            params = params.with_vector(freeze(params.vector + updates))
        before, after = (float(p.vector @ p.vector) for p in (start, params))
        if not after < before:
            fault(
                f"after {steps} updates the squared length of the parameters is {after:.9g}, and "
                f"was {before:.9g}"
            )


def _first_move(training: _Training, params: Packed, curvature: float) -> float:
    """Return the length of the longest of the first updates; accumulated ones begin with 0."""
    state, longest = training.transformation.init(params), 0.0
    for i in range(4):
        context = Context(training=True, key=training.key.at("step", i))
        updates, state = training.transformation.update(
            freeze(curvature * params.vector), state, params, context
        )
        longest = max(longest, float(np.linalg.norm(updates)))
    return longest


def _try_resume(trial: Trial, training: _Training, gradients: Sequence[FloatArray]) -> None:
    with trial.law("resume") as fault:
        middle = len(gradients) // 2
        params, states = training.along(gradients)
        saved = copy.deepcopy(states[middle])
        resumed, later = training.along(gradients[middle:], since=(params[middle], saved, middle))
        mismatch = difference(
            snapshot(params[-1], "params"), snapshot(resumed[-1], "params")
        ) or difference(snapshot(states[-1], "state"), snapshot(later[-1], "state"))
        if mismatch:
            fault(f"resumed from the state after {middle} updates, {mismatch} straight through")


def _try_key(
    trial: Trial,
    transformation: GradientTransformation,
    params: Packed,
    gradients: Sequence[FloatArray],
    key: Key,
) -> None:
    with trial.law("key") as fault:
        first, second = (
            snapshot(_Training(transformation, params, key.at("draw", i)).along(gradients)[0][-1])
            for i in range(2)
        )
        mismatch = difference(first, second)
        if mismatch and not transformation.random:
            fault(
                f"another key gives other updates, though random=True is not declared: {mismatch}"
            )
        if transformation.random and not mismatch:
            fault("random=True is declared, but another key gives the same updates")


def _try_precision(
    trial: Trial,
    transformation: GradientTransformation,
    params: Packed,
    gradients: Sequence[FloatArray],
    context: Context,
) -> None:
    with trial.law("precision") as fault:
        single = pack(params.tree, dtype=np.float32)
        state = transformation.init(single)
        for g in gradients[:2]:
            updates, state = transformation.update(
                freeze(g.astype(np.float32)), state, single, context
            )
            for where, leaf in (*leaves_of(updates, "updates"), *leaves_of(state, "state")):
                if isinstance(leaf, np.ndarray) and leaf.size and leaf.dtype == np.float64:
                    fault(f"{where} is float64, although gradients and parameters are float32")
