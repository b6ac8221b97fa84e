"""The laws of a gradient transformation, such as an optimiser."""

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
from pydnn.testing.global_state import kept_world
from pydnn.testing.nested import difference, leaves_of, snapshot, unlike
from pydnn.testing.purity import expect_runs, purity_faults
from pydnn.testing.reports import Proof, Trial, called

__all__ = ["assert_gradient_transformation"]

Loop = Callable[[Sequence[FloatArray], FloatArray], FloatArray]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class _Params:
    """Arrays of the names that most layers have, W (2, 3) and b (2, 1)."""

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
    """Try all laws of a gradient transformation at once.

    - *state*: updates have the shape and precision of gradients, and the state keeps its records
      and their shapes;
    - *purity*: of `init` and `update`, at the start and later on;
    - *zero gradients*: parameters that are 0, with gradients that are 0, are not moved;
    - *elementwise*: where it says so, another gradient of one number moves that number alone;
    - *descent*: a bowl is descended, by an optimiser;
    - *resume*: going on from a saved state gives the same bits;
    - *key*: another one gives other bits where randomness is declared, and only there;
    - *reference*: parameters go where the loop of a paper takes them;
    - *precision*: float32 stays float32;
    - *observed*: what is shown is a mapping by names;
    - *description*: what is built again does the same.

    Args:
        transformation: What is to be proved right.
        params: Parameters to be moved, instead of drawn ones.
        steps: How many updates are made.
        descends: Whether it is a whole optimiser; by default, whether it shows a learning rate.
        shrinks_to_zero: Whether nothing moves where all is 0; noise that is added does.
        reference: `(gradients, vector) -> vector` after all of them, as one would write the
            optimiser by hand, from the paper.
        rtol: How far from it parameters may be, beside the largest of them.
        key: Where everything is drawn from.

    Raises:
        BrokenLaw: With all that was found, by the names of laws.
        BadInput: If it is no gradient transformation, or is given what does not fit.
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
    hint = "mend it, or give params that it takes"
    with kept_world():
        state = called("init of the transformation", transformation.init, params, hint=hint)
    gradients = _gradients(params.vector.size, steps, key)
    context = Context(training=True, key=key.at("update"))
    trial = Trial(_name(transformation))
    given = {"grads": gradients[0], "state": state, "params": params, "context": context}
    expect_runs(f"update of {trial.subject}", transformation.update, given, hint=hint)
    drive = _Drive(transformation, params, key)
    _try_state(trial, drive, gradients)
    if "state" in trial.broken:
        return trial.proof()
    _try_purity(trial, drive, gradients)
    _try_elementwise(trial, drive, gradients)
    if shrinks_to_zero and not transformation.random:
        _try_zero(trial, transformation, params, context)
    shown = transformation.observe(state)
    if descends or (descends is None and "learning_rate" in shown):
        _try_descent(trial, drive, steps)
    _try_resume(trial, drive, gradients)
    _try_key(trial, transformation, params, gradients, key)
    if reference is not None:
        with trial.law("reference") as fault:
            expected = reference([g.copy() for g in gradients], params.vector.copy())
            found = drive.along(gradients)[0][-1].vector
            told = unlike(expected, found, tolerance=rtol)
            if told:
                fault(f"parameters{told} after {steps} updates")
    _try_precision(trial, transformation, params, gradients, context)
    with trial.law("observed") as fault:
        _, states = drive.along(gradients[:2])
        shown = transformation.observe(states[-1])
        if not isinstance(shown, Mapping) or not all(isinstance(name, str) for name in shown):
            fault(f"shows {shown!r}, expected a mapping by names")
    if transformation.description is not None:
        with trial.law("description") as fault:
            again = build(describe(transformation), family="optimizer")
            others = _Drive(again, params, key).along(gradients)
            told = difference(snapshot(drive.along(gradients), "run"), snapshot(others, "run"))
            if told:
                fault(f"built again, {told} before")
    return trial.proof()


def _name(transformation: GradientTransformation) -> str:
    description = transformation.description
    return "the transformation" if description is None else f"optimizer {next(iter(description))}"


@attrs.frozen(eq=False)
class _Drive:
    """Updates one after the other, as a training makes them."""

    transformation: GradientTransformation
    params: Packed
    key: Key

    def along(
        self, gradients: Sequence[FloatArray], *, since: tuple[Packed, object, int] | None = None
    ) -> tuple[list[Packed], list[object]]:
        """Parameters and states before the first gradient and after each of them."""
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
    """Normal gradients of a size that changes, as in a training, some of them tiny."""
    sizes = np.exp(np.sin(np.arange(steps) / 5))[:, np.newaxis] * 10.0 ** -(np.arange(size) % 3 * 4)
    return [freeze(g) for g in sizes * key.at("gradients").normal((steps, size))]


def _try_state(trial: Trial, drive: _Drive, gradients: Sequence[FloatArray]) -> None:
    with trial.law("state") as fault:
        state = drive.transformation.init(drive.params)
        context = Context(training=True, key=drive.key)
        for g in gradients[:3]:
            updates, after = drive.transformation.update(g, state, drive.params, context)
            if getattr(updates, "shape", None) != g.shape or updates.dtype != g.dtype:
                fault(
                    f"updates are {getattr(updates, 'dtype', type(updates).__name__)} "
                    f"{getattr(updates, 'shape', '')}, gradients {g.dtype} {g.shape}"
                )
                return
            told = _unlike_kind(state, after)
            if told:
                fault(told)
                return
            state = after


def _unlike_kind(before: object, after: object) -> str | None:
    """What is not the same in two states but for numbers."""
    old, new = snapshot(before, "state"), snapshot(after, "state")
    if type(before) is not type(after):
        return f"the state is a {type(after).__name__}, init gave a {type(before).__name__}"
    if old.keys() != new.keys():
        return f"the state has {sorted(new)}, init gave {sorted(old)}"
    for where, leaf in old.items():
        if isinstance(leaf, np.ndarray):
            other = new[where]
            # What has been seen of gradients may be as long as they are, from an empty start.
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


def _try_elementwise(trial: Trial, drive: _Drive, gradients: Sequence[FloatArray]) -> None:
    if not drive.transformation.elementwise:
        return
    with trial.law("elementwise") as fault:
        others = [np.concatenate([g[:1] + 0.5, g[1:]]) for g in gradients[:4]]
        moved, moved_by_others = (
            drive.along(each)[0][-1].vector for each in (gradients[:4], list(map(freeze, others)))
        )
        if not np.array_equal(moved[1:], moved_by_others[1:]):
            fault(
                "it says that it is elementwise, but another gradient of one number moves other "
                "numbers, too"
            )


def _try_purity(trial: Trial, drive: _Drive, gradients: Sequence[FloatArray]) -> None:
    transformation = drive.transformation
    with trial.law("purity") as fault:
        _, faults = purity_faults(
            transformation.init, drive.params, shares=["result"], names=["params"]
        )
        for text in faults:
            fault(f"init {text.replace('result', 'state')}")
        params, states = drive.along(gradients[:3])
        for i in (0, 3):
            context = Context(training=True, key=drive.key.at("step", i))
            # Gradients are handed on by parts that only look, and states by parts that wait.
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
        nothing = freeze(np.zeros_like(params.vector))
        zero = params.with_vector(nothing)
        state = transformation.init(zero)
        for i in range(3):
            updates, state = transformation.update(nothing, state, zero, context)
            if np.any(updates):
                index = int(np.flatnonzero(updates)[0])
                fault(f"update {i} moves entry {index} by {updates[index]:.9g} where all is 0")


def _try_descent(trial: Trial, drive: _Drive, steps: int) -> None:
    """A bowl so wide that the first step is a small one: half of bend times |vector|**2."""
    with trial.law("descent") as fault:
        transformation = drive.transformation
        params, bend = drive.params, 1.0
        for _ in range(40):
            first = _first_move(drive, params, bend)
            if first <= 0.1 * float(np.linalg.norm(params.vector)):
                break
            # A step in proportion to gradients gets shorter in a flatter bowl, one of a fixed
            # length beside a wider one.
            bend /= 2
            params = params.with_vector(freeze(2 * params.vector))
        start, state = params, transformation.init(params)
        for i in range(steps):
            context = Context(training=True, key=drive.key.at("step", i))
            updates, state = transformation.update(
                freeze(bend * params.vector), state, params, context
            )
            params = params.with_vector(freeze(params.vector + updates))
        before, after = (float(p.vector @ p.vector) for p in (start, params))
        if not after < before:
            fault(
                f"after {steps} updates the height of a bowl is {after:.9g}, and was {before:.9g}"
            )


def _first_move(drive: _Drive, params: Packed, bend: float) -> float:
    """The longest of the first updates, since the very first may wait for more batches."""
    state, longest = drive.transformation.init(params), 0.0
    for i in range(4):
        context = Context(training=True, key=drive.key.at("step", i))
        updates, state = drive.transformation.update(
            freeze(bend * params.vector), state, params, context
        )
        longest = max(longest, float(np.linalg.norm(updates)))
    return longest


def _try_resume(trial: Trial, drive: _Drive, gradients: Sequence[FloatArray]) -> None:
    with trial.law("resume") as fault:
        middle = len(gradients) // 2
        params, states = drive.along(gradients)
        saved = copy.deepcopy(states[middle])
        resumed, later = drive.along(gradients[middle:], since=(params[middle], saved, middle))
        told = difference(snapshot(params[-1], "params"), snapshot(resumed[-1], "params"))
        told = told or difference(snapshot(states[-1], "state"), snapshot(later[-1], "state"))
        if told:
            fault(f"resumed from the state after {middle} updates, {told} straight through")


def _try_key(
    trial: Trial,
    transformation: GradientTransformation,
    params: Packed,
    gradients: Sequence[FloatArray],
    key: Key,
) -> None:
    with trial.law("key") as fault:
        runs = [
            snapshot(_Drive(transformation, params, key.at("draw", i)).along(gradients)[0][-1])
            for i in range(2)
        ]
        told = difference(*runs)
        if told and not transformation.random:
            fault(f"another key gives other updates, though random=True is not declared: {told}")
        if transformation.random and not told:
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
