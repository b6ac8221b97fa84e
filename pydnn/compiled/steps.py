"""Training steps of small networks, taken by one compiled function, one or several at a time.

A step of a network such as 2-16-16-1 is a hundred calls of NumPy, which take ten times as long as
their arithmetic. So `pydnn.compiled.step_text` writes the whole step as one function, which also
takes as many steps in turn as there are batches in its arguments. All states between come out of
it, so whoever reads the stream of a training cannot tell how many steps were taken at once.

It is for `portable` arithmetic, dense stages with elementwise ones and dropout between them, losses
of single numbers and of classes, and elementwise optimizers. Any other step, and any whose arrays
are large, is taken part by part as before, and so is one that meets an infinity, a NaN, or a
product that has to be rounded without any error.

On a processor without AVX-512, a step of 2-16-16-1 on 32 examples in float32 takes the function 10
microseconds: 2 for sums in products, 4 for conversions to float64 and the proofs that each result
is the nearest float32, 1 for the cost and the sums, and 2 for everything elementwise. A single call
takes 22 more, for records, arrays and numba's checks of arguments. So an arithmetic that adds in
the order of the index, instead of exactly, would not make single steps much faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.compiled.kernels import kernel_from_text
from pydnn.compiled.loops import to_read
from pydnn.compiled.portable import dense, elementary
from pydnn.compiled.portable.losses import cross_entropy_of_classes
from pydnn.compiled.portable.sums import fold
from pydnn.compiled.step_text import COST, FUNCTIONS, SQUARE, WHICH, Mask, Plan, text_of_step
from pydnn.compiled.tracing import Untraceable
from pydnn.engines import give_up
from pydnn.losses import Loss
from pydnn.numerics import portable
from pydnn.optimizers.base import GradientTransformation
from pydnn.optimizers.fused import PendingUpdate
from pydnn.parameters import Layout, Packed
from pydnn.records import AnyArray, AnyDType, Batch, FloatArray, contiguous, freeze
from pydnn.stages.base import Stage
from pydnn.training.finite import LONG, watch_finite
from pydnn.training.pipeline import StepInfo, TrainState, TrainStep, made_by
from pydnn.training.step import make_train_step

__all__ = ["Whole", "generated_text", "whole_of"]

_NUMBERS = 4096  # parameters; with more, a step is mostly arithmetic
_IMPLEMENTED = (
    portable  # the arithmetic whose functions this package has, and no changed copy of it
)

# What one call may do: about a millisecond, so that an interruption is answered at once.
_MULTIPLICATIONS, _BYTES, _STEPS = 2e6, 1 << 20, 256

_NAMES: dict[str, Any] = {
    **{name: getattr(elementary, name) for name in FUNCTIONS},
    **{name: getattr(dense, name) for name in ("A", "DA", "DZ", "KIND", "MASK", "NEEDED", "N_IN")},
    **{name: getattr(dense, name) for name in ("N_OUT", "TERMS", "Z")},
    "COST": COST,
    "SQUARE": SQUARE,
    "WHICH": WHICH,
    "cross_entropy_of_classes": cross_entropy_of_classes,
    "fold": fold,
}
_BY_DTYPE: dict[str, dict[str, Any]] = {
    "f": {"backward": dense.backward, "forward": dense.forward},
    "d": {"backward": dense.backward_by_tree, "forward": dense.forward_by_tree},
}

_Compiled = Callable[..., int]
_Planned = tuple[Layout, Plan, _Compiled]
_Pair = tuple[TrainState, StepInfo]


@attrs.frozen(eq=False)
class Whole:
    """The parts of a step that one function takes at once.

    Attributes:
        network: The network.
        loss: The loss.
        optimizer: The optimizer.
        watched: Whether every number after a step must be finite.
        plans: For each dtype and layout, the layout, the plan and the compiled function; None if
            there is no compiled form.
    """

    network: Stage
    loss: Loss
    optimizer: GradientTransformation
    watched: bool
    plans: dict[tuple[str, int], _Planned | None] = attrs.field(init=False, factory=dict)

    def most(self, state: TrainState, batch: Batch) -> int:
        """Return how many steps with batches like this one are worth a call; 0 if none has a form.

        Args:
            state: The state before the first step.
            batch: Its examples.
        """
        begun, vector = self._begun(state), state.parameters.vector
        planned = self._planned(state.parameters, begun)
        if planned is None or not _takes(planned[1], batch):
            return 0
        plan, m = planned[1], batch.X.shape[1]
        numbers = (1 + len(begun.before)) * vector.size + batch.X.size + batch.Y.size
        numbers += sum(mask.rows * m for mask in plan.masks)
        limits = (
            _STEPS,
            _MULTIPLICATIONS / plan.multiplications(m),
            _BYTES / (numbers * vector.itemsize),
        )
        return max(1, int(min(limits)))

    def take(self, state: TrainState, batches: Sequence[Batch]) -> list[_Pair]:
        """Take a step for each batch, and return the states after them, and what a reader needs.

        Args:
            state: The state before the first step.
            batches: The examples of the steps, one batch or more.

        Returns:
            The results of the first steps, or none, if the next one has to be taken part by part.
        """
        begun, first = self._begun(state), batches[0]
        planned = self._planned(state.parameters, begun)
        if planned is None or not _takes(planned[1], first):
            return []
        layout, plan, function = planned
        batches = _alike(batches)
        vector, count, m = state.parameters.vector, len(batches), first.X.shape[1]
        pendings = self._pendings(begun, vector.dtype, count)
        batches, count = batches[: len(pendings)], len(pendings)
        X, Y, which = _stacked(batches)
        rows = zip(which, pendings, strict=True)
        table = np.array(
            [(0.0, 0.0, b, each.factor, *each.numbers, *plan.constants) for b, each in rows]
        )
        V = np.empty((count + 1, 1 + len(begun.before), layout.size), vector.dtype)
        V[0, 0] = vector
        for i, before in enumerate(begun.before):
            V[0, i + 1] = before
        masks = [self._masks(plan.masks, state, m, count)] if plan.masks else []
        read = [to_read(read(layout)) for read in begun.read]
        stages, size = plan.places(m)
        room = np.empty(size)
        try:
            done = function(table, stages, X, Y, *masks, V, *read, room)
        except Exception as error:  # numba may raise anything
            give_up(error)
            return []
        freeze(V)
        if self.watched and done and not np.isfinite(V[1 : done + 1, 0]).all():
            done = int(np.argmin(np.isfinite(V[1 : done + 1, 0]).all(axis=1)))
        return self._results(state, table[:done, :WHICH], V[1 : done + 1], pendings)

    def _results(
        self,
        state: TrainState,
        numbers: FloatArray,
        vectors: FloatArray,
        pendings: Sequence[PendingUpdate],
    ) -> list[_Pair]:
        """Return the results of steps up to the first one that needs another way.

        Args:
            state: The state before the first step.
            numbers: The cost and the sum of the squares of the gradients of each step.
            vectors: The parameters and the vectors of the optimizer after each step.
            pendings: The updates of the steps.
        """
        layout, key, statistics = state.parameters.layout, state.key, state.statistics
        start, observe, optimizer_state = state.iteration, self.optimizer.observe, None
        longest = LONG if self.watched else math.inf
        dtype = vectors.dtype
        results: list[_Pair] = []
        # Plain loops over lists, since their time counts beside that of the steps.
        rows = zip(numbers.tolist(), vectors, pendings, strict=False)
        for iteration, ((cost, square), (moved, *after), pending) in enumerate(rows, start):
            norm = math.sqrt(square) if _LEAST <= square <= _MOST else _length(square, dtype)
            if not (norm < longest and -math.inf < cost < math.inf):
                break
            optimizer_state = pending.state(*after)
            state = TrainState(
                iteration + 1, layout.packed(moved), optimizer_state, key, statistics
            )
            results.append((state, StepInfo(iteration, cost, norm, observe(optimizer_state))))
        return results

    def _begun(self, state: TrainState) -> PendingUpdate:
        """Return the update that begins at a state."""
        begin = self.optimizer.begin
        assert begin is not None
        return begin(state.optimizer_state, state.parameters.vector.dtype, portable)

    def _pendings(self, pending: PendingUpdate, dtype: AnyDType, count: int) -> list[PendingUpdate]:
        """Return the updates of several steps, of which only the numbers matter after the first.

        They are known before the vectors are, unless they depend on these. Then there are fewer.
        """
        begin, pendings = self.optimizer.begin, [pending]
        assert begin is not None
        unknown = [freeze(np.full_like(vector, math.nan)) for vector in pending.before]
        for _ in range(count - 1):
            try:
                later = begin(pending.state(*unknown), dtype, portable)
            except Exception:  # whatever a function raises for NaN
                break
            before = zip(later.before, unknown, strict=True)
            if later.kernel is not pending.kernel or any(v is not place for v, place in before):
                break
            if any(math.isnan(number) for number in (later.factor, *later.numbers)):
                break
            pendings.append(later)
            pending = later
        return pendings

    def _masks(self, masks: Sequence[Mask], state: TrainState, m: int, count: int) -> FloatArray:
        """Return the masks that stages draw in the next steps, a row for each step."""
        dtype, start = state.parameters.vector.dtype, state.iteration
        rows = []
        for key in (state.key.at("step", start + k) for k in range(count)):
            drawn = [mask.draw((mask.rows, m), dtype, key.at(*mask.path)) for mask in masks]
            rows.append(np.concatenate([mask.ravel() for mask in drawn]))
        return np.array(rows)

    def _planned(self, parameters: Packed, pending: PendingUpdate) -> _Planned | None:
        """Return the plan for the dtype and the layout of these parameters."""
        dtype, layout = parameters.vector.dtype, parameters.layout
        key = (dtype.char, id(layout))  # its hash would take longer than the step
        if key not in self.plans:
            self.plans[key] = None
            try:
                plan = self.plan(parameters, pending)
            except Exception:  # `Untraceable`, or what a function itself raises for symbols
                return None
            self.plans[key] = (
                layout,
                plan,
                kernel_from_text(plan.text, {**_NAMES, **_BY_DTYPE[dtype.char]}),
            )
        return self.plans[key]

    def plan(self, parameters: Packed, pending: PendingUpdate) -> Plan:
        """Write the text of the step; raise `Untraceable` if there is none."""
        dtype, layout = parameters.vector.dtype, parameters.layout
        if any(vector.dtype != dtype for vector in pending.before):
            raise Untraceable("an optimizer with vectors of another dtype")
        if parameters.vector.size > _NUMBERS:
            raise Untraceable(f"{parameters.vector.size} parameters, more than {_NUMBERS}")
        truths = [_is_of_truths(read(layout), dtype) for read in pending.read]
        truths += [False] * len(pending.before)
        return text_of_step(self.network, self.loss, pending, layout, dtype, truths)


def _is_of_truths(vector: AnyArray, dtype: AnyDType) -> bool:
    if vector.dtype not in (dtype, np.bool_):
        raise Untraceable("an optimizer with vectors of another dtype")
    return vector.dtype == np.bool_


def _takes(plan: Plan, batch: Batch) -> bool:
    """Whether the text is for batches like this one."""
    X, Y = batch.X, batch.Y
    if batch.weights is not None or batch.lengths is not None or X.ndim != 2:
        return False
    n_in, m = X.shape
    return (
        X.dtype is plan.dtype
        and Y.dtype is plan.dtype
        and n_in == plan.stages[0].n_in
        and Y.shape == (plan.labels, m)
        and m > 0
        and plan.takes(m)
    )


def _alike(batches: Sequence[Batch]) -> Sequence[Batch]:
    """Return the batches before the first one that has another form than they."""
    X, Y = batches[0].X, batches[0].Y
    for k, batch in enumerate(batches):
        if batch is batches[0]:
            continue
        if (
            batch.X.shape != X.shape
            or batch.Y.shape != Y.shape
            or batch.X.dtype is not X.dtype
            or batch.Y.dtype is not Y.dtype
            or batch.weights is not None
            or batch.lengths is not None
        ):
            return batches[:k]
    return batches


def _stacked(batches: Sequence[Batch]) -> tuple[FloatArray, FloatArray, list[int]]:
    """Return all X and Y, read-only and in C order, and which of them each step takes."""
    if len(batches) == 1:
        X, Y = contiguous(batches[0].X), contiguous(batches[0].Y)
        return X[np.newaxis], Y[np.newaxis], [0]
    places = {id(batch): batch for batch in batches}
    if len(places) == 1:
        X, Y = contiguous(batches[0].X), contiguous(batches[0].Y)
        return X[np.newaxis], Y[np.newaxis], [0] * len(batches)
    numbers = {place: number for number, place in enumerate(places)}
    X, Y = (
        freeze(np.array([getattr(batch, name) for batch in places.values()], order="C"))
        for name in ("X", "Y")
    )
    return X, Y, [numbers[id(batch)] for batch in batches]


def _length(square: float, dtype: AnyDType) -> float:
    """Return the length of gradients with a sum of squares outside of these limits; NaN if unknown.

    If the sum of squares of at most `_NUMBERS` numbers lies between the limits, none of them is
    so small or so large that its length would have to be computed in another way.
    """
    # Squares of float32 numbers do not underflow in float64.
    return 0.0 if square == 0.0 and dtype == np.float32 else math.nan


_LEAST, _MOST = _NUMBERS * 2.0**-399, 2.0**399


def whole_of(step: TrainStep) -> Whole | None:
    """Return the parts to take at once; None if some have no such form."""
    try:
        return _whole_of(step)
    except Untraceable:
        return None


def generated_text(step: TrainStep, state: TrainState) -> str:
    """Return the text of the compiled step of a network.

    Args:
        step: The step.
        state: A state before it, of which only shapes and dtypes matter.

    Raises:
        BadInput: If the step has no compiled form, with the reason.

    Example:
        >>> network, optimizer = nn.dense(1), nn.gradient_descent(learning_rate=0.1)
        >>> step = nn.make_train_step(network, nn.mean_squared(), optimizer, numerics=nn.portable)
        >>> state = nn.initial_state(network, optimizer, (3,), key=nn.Key(1))
        >>> print(generated_text(step, state).splitlines()[0])
        def loop(table, stages, X, Y, V, room):
    """
    try:
        whole = _whole_of(step)
        return whole.plan(state.parameters, whole._begun(state)).text
    except Untraceable as error:
        raise BadInput(
            f"this training step is not compiled as a whole, because it has {error}: expected "
            "portable arithmetic and a small network of dense stages and activations."
        ) from error


def _whole_of(step: TrainStep) -> Whole:
    """Return the parts to take at once; raise `Untraceable` if some have no such form."""
    first, rest = step.parts[:4], step.parts[4:]
    for part in step.parts:
        if not part.trusted:
            raise Untraceable(f"the part {part.name!r}, which is not pydnn's own")
    if [part.name for part in first] != ["forward", "cost", "backward", "update"]:
        raise Untraceable(f"other parts than forward, cost, backward and update: {step}")
    made = [made_by(part) for part in first]
    if made[0] is None or made[0][0] is not make_train_step or any(m != made[0] for m in made):
        raise Untraceable("parts that were not made together")
    for part in rest:
        if (made_by(part) or [None])[0] is not watch_finite:
            raise Untraceable(f"the part {part.name!r} after the update")
    _, (network, loss, optimizer), options = made[0]
    reasons = {
        f"{options['numerics'].name!r} arithmetic": options["numerics"] is not _IMPLEMENTED,
        "penalties": options["penalties"],
        "augmentation": options["augment"],
        "a network that keeps statistics": network.statistics is not None,
        "an optimizer whose update is not number by number": optimizer.begin is None,
    }
    for reason, holds in reasons.items():
        if holds:
            raise Untraceable(reason)
    return Whole(network, loss, optimizer, watched=bool(rest))
