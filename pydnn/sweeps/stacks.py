"""A stack of jobs of one shape: one train_step, state and stream of batches for `scan`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.batches import EpochBatches, WholeData
from pydnn.descriptions.builders import build
from pydnn.jobs.job import Job
from pydnn.parameters import Layout, leaves
from pydnn.recipes.layouts import layers_of
from pydnn.recipes.recipe import Recipe, with_seed
from pydnn.records import Batch, FloatArray, freeze, keep_readonly, maker_of
from pydnn.sweeps.stacked_layout import rows_of, stacked_layout, vector_of
from pydnn.sweeps.stacked_parts import (
    not_elementwise,
    rate_of,
    stacked_loss,
    stacked_network,
    stacked_numerics,
    stacked_optimizer,
    stacked_penalty,
    with_rate,
)
from pydnn.training import NotFinite, StepInfo, TrainState, TrainStep, make_train_step
from pydnn.training.finite import ignoring_overflow

__all__ = ["Stack", "StackInfo", "stack_of", "stacking_key", "why_not_stacked"]


@keep_readonly
@attrs.frozen(eq=False)
class StackInfo:
    """What a reader may want to know about a step of a stack, as `StepInfo` for one training.

    Attributes:
        iteration: The number of the step, from 0.
        costs: The cost of each training, (R,).
        gradient_norms: The length of the gradient of each training, (R,).
        observed: What the optimizer reports, by name: a number for all trainings, or an array (R,).
    """

    iteration: int
    costs: FloatArray
    gradient_norms: FloatArray
    observed: Mapping[str, object]


@attrs.frozen(eq=False)
class Stack:
    """R jobs whose steps are taken together.

    `scan(stack.train_step, stack.state, stack.batches)` folds all of them, with a `StackInfo` for
    each step.

    Attributes:
        jobs: The jobs, which have one shape and the same iteration.
        train_step: The step of the whole stack.
        state: The states of all jobs, in the layout `stacked_layout(layout, R)`.
        batch_at: `(k) -> batch` for iteration k, with X (n_x, R, m) and Y (n_y, R, m).
        layout: How the parameters of one job lie in its vector.
    """

    jobs: tuple[Job, ...]
    train_step: Callable[[TrainState, Batch], tuple[TrainState, StackInfo]]
    state: TrainState
    batch_at: Callable[[int], Batch] = attrs.field(repr=False)
    layout: Layout = attrs.field(repr=False)

    @property
    def batches(self) -> Iterator[Batch]:
        """The batches of all iterations to come, in order."""
        return map(self.batch_at, range(self.state.iteration, self.jobs[0].recipe.iterations))

    def state_of(self, run: int, state: TrainState) -> TrainState:
        """Return the state of one training of the stack, with the bits that it has alone.

        Args:
            run: The number of the training in the stack.
            state: A state of the stack.
        """
        job = self.jobs[run]

        def own(vector: FloatArray) -> FloatArray:
            return freeze(rows_of(self.layout, vector)[run].copy())

        return TrainState(
            state.iteration,
            self.layout.packed(own(state.parameters.vector)),
            _mapped(lambda values: own(values[0]), [state.optimizer_state]),
            job.state.key,
            job.state.statistics,
        )

    def info_of(self, run: int, info: StackInfo) -> StepInfo:
        """Return the info of one training of the stack, with the bits that it has alone.

        Args:
            run: The number of the training in the stack.
            info: The info of a step of the stack.
        """
        observed = {
            name: float(value[run]) if isinstance(value, np.ndarray) else value
            for name, value in info.observed.items()
        }
        cost, norm = float(info.costs[run]), float(info.gradient_norms[run])
        return StepInfo(info.iteration, cost, norm, observed)


def stacking_key(recipe: Recipe) -> Recipe:
    """Return the recipe without what may differ between the trainings of a stack.

    The seed, the number of the fold, a constant learning rate and the strengths of penalties are
    set to 1. Only trainings with equal keys can be stacked.
    """
    optimizer = recipe.optimizer
    if rate_of(optimizer) is not None:
        optimizer = with_rate(optimizer, 1.0) or optimizer
    penalties = tuple(
        {name: {**options, "strength": 1.0} if "strength" in options else options}
        for penalty in recipe.penalties
        for name, options in penalty.items()
    )
    fold = recipe.fold and (1, recipe.fold[1])
    changed = attrs.evolve(recipe, optimizer=optimizer, penalties=penalties, fold=fold)
    return with_seed(changed, 1)


def why_not_stacked(jobs: Sequence[Job]) -> str:
    """Return why jobs whose recipes have one `stacking_key` cannot be stacked; "" if they can."""
    first = jobs[0]
    if first.recipe.shards > 1:
        return "its batches are cut into shards"
    if first.network.statistics is not None:
        return "its network gathers statistics"
    if reason := _several_axes(first):
        return reason
    name = not_elementwise(first.recipe.optimizer)
    if name:
        return f"{name} may use all numbers of a training together"
    memory = leaves((first.state.optimizer_state,))
    if any(array.shape != first.state.parameters.vector.shape for array in memory):
        return "its optimizer keeps arrays of other shapes than the parameters"
    batching = first.batching
    if not isinstance(batching.at, WholeData | EpochBatches):
        name = next(iter(batching.description or ["a function"]))
        return f"batches by {name} may be of any kind"
    if len({(job.data["train"].shape, job.data["train"].count) for job in jobs}) > 1:
        return "trainings hold back different numbers of examples"
    with ignoring_overflow():
        same = _has_the_bits_of_each(stack_of(jobs))
    return "" if same else "a stacked step would give other bits than separate steps"


def _several_axes(job: Job) -> str:
    """Return where a job has arrays of other axes than (features, m), which a stack cannot hold."""
    train = job.data["train"]
    if not isinstance(train, Batch):
        return "its examples stay in files"
    if len(train.shape) > 1 or len(train.label_shape) > 1:
        return "its examples or labels have several axes"
    if train.has_lengths:
        return "its sequences have lengths"
    for layer in layers_of(job.recipe, train.shape)[0]:
        if len(layer.shape) > 1:
            return f"outputs of {layer.stage} in place {layer.place or 0} have several axes"
    return ""


def _has_the_bits_of_each(stack: Stack) -> bool:
    """Return whether the stack gives the bits of separate trainings, by trying some steps.

    `stacked_arithmetic` compares each operation; this compares whole steps. It tries the first
    three, since an optimizer has no memory in the first one, and the last of an epoch, whose batch
    may be smaller.
    """
    first = stack.jobs[0]
    start = first.state.iteration
    last = start - 1 + first.batching.per_epoch(first.data["train"].count)
    return _same_steps(stack, range(start, start + _TRIED)) and _same_steps(stack, [last])


_TRIED = 3  # steps


def _same_steps(stack: Stack, steps: Iterable[int]) -> bool:
    """Return whether these steps have the same bits in the stack and in each training alone."""
    together, alone = stack.state, {run: job.state for run, job in enumerate(stack.jobs)}
    for k in steps:
        together, info = stack.train_step(together, stack.batch_at(k))
        rows = rows_of(stack.layout, together.parameters.vector)
        for run, state in list(alone.items()):
            job = stack.jobs[run]
            batch = job.batching.at(job.data["train"], state.key, k)
            try:
                alone[run], own_info = job.train_step(state, batch)
            except NotFinite:  # training will report it when it gets there
                del alone[run]
                continue
            if (
                rows[run].tobytes() != alone[run].parameters.vector.tobytes()
                or stack.info_of(run, info) != own_info
            ):
                return False
    return True


def stack_of(jobs: Sequence[Job]) -> Stack:
    """Return the stack of jobs whose recipes have one `stacking_key`; it starts at their states."""
    first, runs = jobs[0], len(jobs)
    layout = first.state.parameters.layout
    recipes = [job.recipe for job in jobs]
    penalties = [
        stacked_penalty([build(penalty, family="penalty") for penalty in column], layout)
        for column in zip(*(recipe.penalties for recipe in recipes), strict=True)
    ]
    dtype = first.state.parameters.vector.dtype
    train_step = make_train_step(
        stacked_network(first.network, [job.state.key.seed for job in jobs]),
        stacked_loss(first.loss),
        stacked_optimizer([recipe.optimizer for recipe in recipes], layout, dtype),
        penalties=penalties,
        numerics=stacked_numerics(first.numerics, layout),
    )

    def joined(vectors: Sequence[FloatArray]) -> FloatArray:
        return freeze(vector_of(layout, np.stack(vectors)))

    states = [job.state for job in jobs]
    state = TrainState(
        first.state.iteration,
        stacked_layout(layout, runs).packed(joined([state.parameters.vector for state in states])),
        _mapped(joined, [state.optimizer_state for state in states]),
        first.state.key,
        first.state.statistics,
    )
    return Stack(tuple(jobs), _with_stack_info(train_step), state, _batches(jobs), layout)


def _with_stack_info(
    train_step: TrainStep,
) -> Callable[[TrainState, Batch], tuple[TrainState, StackInfo]]:
    """Wrap a step to return a `StackInfo`, whose costs and gradient norms are arrays (R,)."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StackInfo]:
        after, info = train_step(state, batch)
        costs: Any = info.cost  # the loss and the arithmetic of a stack return arrays
        norms: Any = info.gradient_norm
        return after, StackInfo(info.iteration, costs, norms, info.observed)

    return step


def _mapped(function: Callable[[Sequence[FloatArray]], FloatArray], values: Sequence[Any]) -> Any:
    """Combine the states of several optimizers into one, with `function` for their arrays.

    The states are records and tuples of vectors and numbers; numbers are the same in all of them.
    """
    first = values[0]
    if isinstance(first, np.ndarray):
        return function(values)
    if isinstance(first, tuple):
        return tuple(_mapped(function, column) for column in zip(*values, strict=True))
    if not attrs.has(type(first)):
        return first
    columns = zip(*(attrs.astuple(value, recurse=False) for value in values), strict=True)
    return type(first)(*(_mapped(function, column) for column in columns))


# Batches


def _batches(jobs: Sequence[Job]) -> Callable[[int], Batch]:
    """Return the function from an iteration to the batch of a stack: the batches of its jobs."""
    data = [job.data["train"].in_memory() for job in jobs]  # where they are already
    batching = jobs[0].batching
    shared = all(own is data[0] for own in data)
    X, Y = (_Columns([getattr(own, name) for own in data], shared) for name in ("X", "Y"))
    weighted = [own.weights for own in data if own.weights is not None]
    weights = _Columns(weighted, shared) if weighted else None
    if not isinstance(batching.at, EpochBatches):
        whole = _batch(X.all(), Y.all(), None if weights is None else weights.all(), None)
        return lambda k: whole
    m = data[0].X.shape[1]
    per_epoch, size = batching.per_epoch(m), batching.at.size
    order = functools.lru_cache(maxsize=2)(functools.partial(_orders, batching.at, jobs, m))

    def at(k: int) -> Batch:
        epoch, place = divmod(k, per_epoch)
        which = order(epoch)[:, place * size : (place + 1) * size]
        taken = None if weights is None else weights.taken(which)
        batch: Batch = _batch(X.taken(which), Y.taken(which), taken, None)
        return batch

    return at


_batch = maker_of(Batch)  # without checks: here the axis before the examples is the trainings


def _orders(batching: EpochBatches, jobs: Sequence[Job], m: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of the examples of each training in an epoch, (R, m)."""
    return np.array([batching.order(job.state.key, epoch, m) for job in jobs])


class _Columns:
    """The arrays (rows, m) of R trainings, or one that they share; each example is contiguous."""

    def __init__(self, arrays: Sequence[FloatArray], shared: bool) -> None:
        self._runs, self._shared = len(arrays), shared
        self._of_run = np.arange(len(arrays))[:, np.newaxis]
        self._columns = arrays[0].T if shared else np.stack([array.T for array in arrays])

    def all(self) -> FloatArray:
        """Return all columns, (rows, R, m); shared columns are not copied."""
        if self._shared:
            shape = (self._runs, *self._columns.shape)
            return freeze(np.broadcast_to(self._columns, shape).transpose(2, 0, 1))
        return freeze(self._columns.transpose(2, 0, 1))

    def taken(self, which: NDArray[np.int64]) -> FloatArray:
        """Return the columns `which` (R, m) of each training, (rows, R, m)."""
        place = which if self._shared else (self._of_run, which)
        return freeze(self._columns[place].transpose(2, 0, 1))
