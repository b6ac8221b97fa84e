"""Training steps of networks, taken by one compiled function, one or several at a time.

A step of a network such as 2-16-16-1 is a hundred calls of NumPy, which take ten times as long as
their arithmetic. So `pydnn.compiled.step_text` writes the whole step as one function, which also
takes as many steps in turn as there are batches in its arguments. All states between come out of
it, so whoever reads the stream of a training cannot tell how many steps were taken at once.

It is for `fast` and `portable` arithmetic, dense stages with elementwise ones and dropout between
them, losses of single numbers and of classes, and elementwise optimizers. Any other step, and any
whose arrays are large, is taken part by part as before, and so is one that meets an infinity, a
NaN, or a product that has to be rounded without any error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from operator import is_

import attrs
import numpy as np

from pydnn import engines
from pydnn.checks import BadInput
from pydnn.compiled import team
from pydnn.compiled.arithmetics import Arithmetic
from pydnn.compiled.aside import is_awaited
from pydnn.compiled.fast.step import in_fast
from pydnn.compiled.kernels import kernel_from_text
from pydnn.compiled.loops import to_read
from pydnn.compiled.portable.step import in_portable
from pydnn.compiled.step_text import NAMES, WHICH, Mask, Plan, text_of_step
from pydnn.compiled.tracing import Untraceable
from pydnn.engines import give_up
from pydnn.losses import Loss
from pydnn.numerics import empty
from pydnn.optimizers.base import GradientTransformation
from pydnn.optimizers.fused import PendingUpdate
from pydnn.parameters import Layout, Packed
from pydnn.records import (
    AnyArray,
    AnyDType,
    Batch,
    FloatArray,
    IntArray,
    contiguous,
    freeze,
    keep_readonly,
    readonly,
)
from pydnn.stages.base import Stage
from pydnn.training.finite import LONG, watch_finite
from pydnn.training.pipeline import StepInfo, TrainState, TrainStep, made_by
from pydnn.training.step import make_train_step

__all__ = ["Whole", "generated_text", "whole_of"]

# The arithmetics themselves, and no changed copies of them
_ARITHMETICS = (in_fast, in_portable)

# What one call may do: about a millisecond, so that an interruption is answered at once.
_BYTES, _STEPS = 1 << 20, 256

# Bytes of X from which a call takes steps with one batch only, since it would copy several, and how
# many bytes of examples are read ahead.
_LARGE, _AHEAD = 1 << 16, 1 << 24

_Pair = tuple[TrainState, StepInfo]
_new, _set = object.__new__, object.__setattr__


@keep_readonly
@attrs.frozen(eq=False)
class _Inputs:
    """The examples of several steps, as the function takes them.

    Attributes:
        batch: The first batch.
        X: The numbers of the examples, a row for each batch that differs from the others.
        Y: The numbers of the labels.
        which: For each step, the row that it takes.
        stages: What is known of each stage with so many examples.
        size: The size of the room in numbers of 8 bytes.
        copied: Whether the numbers had to be copied.
    """

    batch: Batch
    X: FloatArray
    Y: FloatArray
    which: Sequence[int]
    stages: IntArray
    size: int
    copied: bool


@attrs.define(eq=False)
class _Planned:
    """A compiled step for one dtype and layout.

    Attributes:
        layout: The layout of the parameters.
        plan: The plan.
        function: The compiled function.
        calls: What its kernels call.
        read: The further vectors that the optimizer reads.
        last: The last batch and what was made of it, since a training may take one batch again.
    """

    layout: Layout
    plan: Plan
    function: Callable[..., int]
    calls: IntArray
    read: list[AnyArray]
    last: _Inputs | None = None

    def inputs(self, batches: Sequence[Batch]) -> _Inputs | None:
        """Return the inputs for the first batches; None if the text is not for the first one."""
        first, last = batches[0], self.last  # another thread may change it
        if last is None or last.batch is not first:
            last = self._of_one(first)
            # Whoever has the memory under a batch may change it, which a copy would not show.
            self.last = None if last is None or last.copied else last
        if last is None or len(batches) == 1:
            return last
        rows, which, made = {id(first): 0}, [0], [last]
        for batch in batches[1:]:
            if id(batch) not in rows:
                other = self._of_one(batch)
                if other is None or other.stages is not last.stages or batch.X.nbytes > _LARGE:
                    break
                rows[id(batch)] = len(made)
                made.append(other)
            which.append(rows[id(batch)])
        X, Y = last.X, last.Y
        if len(made) > 1:
            X, Y = (freeze(np.concatenate([getattr(one, name) for one in made])) for name in "XY")
        return attrs.evolve(last, X=X, Y=Y, which=which)

    def _of_one(self, batch: Batch) -> _Inputs | None:
        plan, X, Y = self.plan, batch.X, batch.Y
        if batch.weights is not None or batch.lengths is not None or X.ndim != 2:
            return None
        n_in, m = X.shape
        fits = n_in == plan.stages[0].n_in and Y.shape == (plan.labels, m)
        # Not by identity, since an array that was pickled has a dtype of its own.
        if not (fits and X.dtype == plan.dtype == Y.dtype):
            return None
        made = plan.arithmetic.as_vector(X)
        if made is None or not plan.takes(m, made[1]):
            return None
        x, y = made[0][np.newaxis], contiguous(Y).reshape(1, -1)
        copied = not (np.may_share_memory(x, X) and np.may_share_memory(y, Y))
        return _Inputs(batch, readonly(x), y, (0,), *plan.places(m, made[1]), copied)


@attrs.frozen(eq=False)
class Whole:
    """The parts of a step that one function takes at once.

    Attributes:
        network: The network.
        loss: The loss.
        optimizer: The optimizer.
        watched: Whether every number after a step must be finite.
        arithmetic: The arithmetic.
        plans: For each dtype and layout, the plan and the compiled function; None if there is no
            compiled form.
    """

    network: Stage
    loss: Loss
    optimizer: GradientTransformation
    watched: bool
    arithmetic: Arithmetic
    plans: dict[tuple[str, int], _Planned | None] = attrs.field(init=False, factory=dict)

    def most(self, state: TrainState, batch: Batch) -> int:
        """Return how many steps with batches like this one are worth a call; 0 if none has a form.

        Args:
            state: The state before the first step.
            batch: Its examples.
        """
        planned = self._planned(state)
        inputs = None if planned is None else planned.inputs([batch])
        if planned is None or inputs is None:
            return 0
        plan, m = planned.plan, batch.X.shape[1]
        numbers = (1 + plan.before) * plan.size + sum(mask.rows * m for mask in plan.masks)
        limits = (
            _STEPS,
            self.arithmetic.multiplications / plan.multiplications(m),
            _BYTES / (numbers * plan.dtype.itemsize),
            _AHEAD / batch.X.nbytes,
        )
        return max(1, int(min(limits)))

    def take(self, state: TrainState, batches: Sequence[Batch]) -> Iterator[_Pair]:
        """Take a step for each batch, and return the states after them, and what a reader needs.

        Args:
            state: The state before the first step.
            batches: The examples of the steps, one batch or more.

        Returns:
            The results, which end early if the next step has to be taken part by part.
        """
        planned = self._planned(state)
        inputs = None if planned is None else planned.inputs(batches)
        if planned is None or inputs is None:
            return iter(())
        plan, dtype = planned.plan, planned.plan.dtype
        pendings = self._pendings(state, dtype, len(inputs.which))
        vectors = state.parameters.vector, *pendings[0].before
        if not all([plan.reads(vector) for vector in vectors]):
            return iter(())
        table = _table(pendings, inputs.which, plan.constants)
        count, m = len(table), inputs.batch.X.shape[1]
        made = [empty((count, plan.size), dtype) for _ in range(1 + plan.before)]
        masks = [self._masks(plan.masks, state, m, count)] if plan.masks else ()
        team.begin_for(made[0][0])
        try:
            done = planned.function(
                table,
                inputs.stages,
                inputs.X,
                inputs.Y,
                *masks,
                *vectors,
                *made,
                *planned.read,
                empty(inputs.size, _FLOAT64),
                planned.calls,
            )
        except Exception as error:  # numba may raise anything
            give_up(error)
            return iter(())
        return self._results(state, table[:done], [freeze(each) for each in made], pendings)

    def _results(
        self,
        state: TrainState,
        table: FloatArray,
        vectors: Sequence[FloatArray],
        pendings: Sequence[PendingUpdate],
    ) -> Iterator[_Pair]:
        """Yield the results of steps up to the first one that needs another way.

        Args:
            state: The state before the first step.
            table: What differs from step to step, filled in.
            vectors: The parameters and the vectors of the optimizer after each step.
            pendings: The updates of the steps.
        """
        layout, key, statistics = state.parameters.layout, state.key, state.statistics
        observe, length, dtype = self.optimizer.observe, self.arithmetic.length, vectors[0].dtype
        # Records are made in the shortest way, since this takes as long as the arithmetic does.
        rows = zip(table[:, :WHICH].tolist(), pendings, *vectors, strict=False)
        for iteration, ((cost, square), pending, moved, *after) in enumerate(rows, state.iteration):
            norm = length(square, dtype)
            if not norm < LONG:
                return
            optimizer_state = pending.state(*after)
            parameters: Packed = _new(Packed)
            _set(parameters, "__dict__", {"vector": moved, "layout": layout})
            then: TrainState = _new(TrainState)
            fields = {
                "iteration": iteration + 1,
                "parameters": parameters,
                "optimizer_state": optimizer_state,
                "key": key,
                "statistics": statistics,
            }
            _set(then, "__dict__", fields)
            info: StepInfo = _new(StepInfo)
            fields = {
                "iteration": iteration,
                "cost": cost,
                "gradient_norm": norm,
                "observed": observe(optimizer_state),
                "measured": {},
            }
            _set(info, "__dict__", fields)
            yield then, info

    def _begun(self, state: TrainState) -> PendingUpdate:
        """Return the update that begins at a state."""
        begin = self.optimizer.begin
        assert begin is not None
        return begin(state.optimizer_state, state.parameters.vector.dtype, self.arithmetic.numerics)

    def _pendings(self, state: TrainState, dtype: AnyDType, count: int) -> list[PendingUpdate]:
        """Return the updates of several steps, of which only the numbers matter after the first.

        They are known before the vectors are, unless they depend on these. Then there are fewer, or
        some of their numbers are NaN.
        """
        pending, numerics, begin = (
            self._begun(state),
            self.arithmetic.numerics,
            self.optimizer.begin,
        )
        assert begin is not None
        pendings, kernel = [pending], pending.kernel
        if count == 1:
            return pendings
        unknown = [freeze(np.full_like(vector, math.nan)) for vector in pending.before]
        for ahead in range(1, count):
            try:
                pending = begin(pending.state(*unknown), dtype, numerics)
            except Exception:  # whatever a function raises for NaN
                break
            if pending is pendings[0]:  # nothing changes from step to step
                return pendings * count
            if pending.kernel is not kernel or not all(map(is_, pending.before, unknown)):
                break
            if ahead in (1, count - 1) and not self._is_known(pending, pendings[-1], dtype):
                return pendings[:1]
            pendings.append(pending)
        return pendings

    def _is_known(self, pending: PendingUpdate, before: PendingUpdate, dtype: AnyDType) -> bool:
        """Return whether the numbers of an update depend on no vector, as far as this can be tried.

        A comparison with NaN is false, so a number that is chosen by one does not become NaN.

        Args:
            pending: The update, from vectors of NaN.
            before: The update before it.
            dtype: The dtype of the vectors.
        """
        begin, known = self.optimizer.begin, (pending.factor, pending.numbers)
        assert begin is not None
        for number in (0.0, math.inf, -math.inf):
            vectors = [freeze(np.full_like(vector, number)) for vector in before.before]
            try:
                with np.errstate(all="ignore"):
                    other = begin(before.state(*vectors), dtype, self.arithmetic.numerics)
            except Exception:  # whatever a function raises for such numbers
                return False
            if (other.factor, other.numbers) != known or other.kernel is not pending.kernel:
                return False
        return True

    def _masks(self, masks: Sequence[Mask], state: TrainState, m: int, count: int) -> FloatArray:
        """Return the masks that stages draw in the next steps, a row for each step."""
        dtype, start = state.parameters.vector.dtype, state.iteration
        rows = []
        for key in (state.key.at("step", start + k) for k in range(count)):
            drawn = [mask.draw((mask.rows, m), dtype, key.at(*mask.path)) for mask in masks]
            rows.append(np.concatenate([mask.ravel() for mask in drawn]))
        return np.array(rows)

    def _planned(self, state: TrainState) -> _Planned | None:
        """Return the plan for the dtype and the layout of these parameters; None if none works."""
        parameters = state.parameters
        layout = parameters.layout
        key = (parameters.vector.dtype.char, id(layout))  # its hash would take longer than the step
        try:
            planned = self.plans[key]
        except KeyError:
            missed, planned = engines.kernels_missed, self._compiled(state)
            if engines.kernels_missed == missed:
                self.plans[key] = planned
        return None if planned is None or is_awaited(planned.function) else planned

    def _compiled(self, state: TrainState) -> _Planned | None:
        dtype, layout = state.parameters.vector.dtype, state.parameters.layout
        calls = self.arithmetic.calls(dtype)
        if calls is None:
            return None
        try:
            pending = self._begun(state)
            plan = self.plan(state, pending)
        except Exception:  # `Untraceable`, or what a function itself raises for symbols
            return None
        function = kernel_from_text(plan.text, {**NAMES, **self.arithmetic.names(dtype)})
        read = [to_read(read(layout)) for read in pending.read]
        return _Planned(layout, plan, function, calls, read)

    def plan(self, state: TrainState, pending: PendingUpdate) -> Plan:
        """Write the text of the step; raise `Untraceable` if there is none."""
        dtype, layout = state.parameters.vector.dtype, state.parameters.layout
        if any(vector.dtype != dtype for vector in pending.before):
            raise Untraceable("an optimizer with vectors of another dtype")
        truths = [_is_of_truths(read(layout), dtype) for read in pending.read]
        truths += [False] * len(pending.before)
        return text_of_step(
            self.network, self.loss, pending, layout, dtype, truths, self.watched, self.arithmetic
        )


_FLOAT64 = np.dtype(np.float64)


def _is_of_truths(vector: AnyArray, dtype: AnyDType) -> bool:
    if vector.dtype not in (dtype, np.bool_):
        raise Untraceable("an optimizer with vectors of another dtype")
    return vector.dtype == np.bool_


def _table(
    pendings: Sequence[PendingUpdate], which: Sequence[int], constants: Sequence[float]
) -> FloatArray:
    """Return what differs from step to step, up to the first number that is not known yet."""
    first = pendings[0]
    if pendings[-1] is first:  # as in `_pendings`
        table = np.array([(0.0, 0.0, 0, first.factor, *first.numbers, *constants)] * len(pendings))
    else:
        table = np.array(
            [(0.0, 0.0, 0, each.factor, *each.numbers, *constants) for each in pendings]
        )
    if len(which) > 1:
        table[:, WHICH] = which[: len(table)]
        known = np.isfinite(table).all(axis=1)
        return table if known.all() else table[: np.argmin(known)]
    return table


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
        def loop(table, stages, X, Y, p, moved_, room, calls):
    """
    try:
        whole = _whole_of(step)
        return whole.plan(state, whole._begun(state)).text
    except Untraceable as error:
        raise BadInput(
            f"this training step is not compiled as a whole, because it has {error}: expected "
            "dense stages with activations and dropout, and an elementwise optimizer."
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
    numerics = options["numerics"]
    arithmetic = [each for each in _ARITHMETICS if each.numerics is numerics]
    reasons = {
        f"{numerics.name!r} arithmetic": not arithmetic,
        "penalties": options["penalties"],
        "augmentation": options["augment"],
        "a network that keeps statistics": network.statistics is not None,
        "an optimizer whose update is not number by number": optimizer.begin is None,
    }
    for reason, holds in reasons.items():
        if holds:
            raise Untraceable(reason)
    return Whole(network, loss, optimizer, bool(rest), *arithmetic)
