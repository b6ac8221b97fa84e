"""Shards computed by workers: the task "shard", and the step's side of it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.descriptions.builders import build, describe
from pydnn.descriptions.parts import DescribedPart
from pydnn.descriptions.text import own_builders, read_description, write_description
from pydnn.keys import Key
from pydnn.numerics import ARITHMETICS
from pydnn.parameters import NO_PARAMS, Layout, pack
from pydnn.records import AnyDType, Batch, Examples, maker_of
from pydnn.stages.base import Shape, Stage
from pydnn.storage.remembered import FileState, state_of
from pydnn.training.pipeline import Part, Shard, TrainState
from pydnn.training.selected import Selected
from pydnn.training.shards import Sharding, ShardResult, add_up, examples_between, gradient_of_shard
from pydnn.training.step import make_train_step
from pydnn.workers.failures import NoData
from pydnn.workers.interface import Arguments, Executor, Result, Spec, Task
from pydnn.workers.sent_data import paths_in, received, sent
from pydnn.workers.tasks import Kind

__all__ = ["SHARD", "bytes_once", "results_by"]

_EXAMPLES = ("X", "Y", "weights", "lengths")


def results_by(
    executor: Executor, sharding: Sharding, parts: tuple[Part, ...]
) -> Callable[[TrainState, Batch, list[float]], list[ShardResult]]:
    """Return the function that lets an executor compute the results of all shards of a batch.

    Each task is a run of neighboring shards, whose results the worker adds as `add_up` does. So the
    function gives fewer results than there are shards, and the same sum.

    Args:
        executor: The executor.
        sharding: The sharding of the step.
        parts: The parts to apply to each shard. Workers in other processes have only those that
            `make_train_step` makes.
    """
    without_data, shards = _spec(sharding, parts), sharding.shards
    latest: list[tuple[Examples, Spec]] = []  # the data that the workers keep

    def with_data(data: Examples) -> Spec:
        if not latest or latest[0][0] is not data:
            facts, arrays = sent(data)
            facts = {**without_data.facts, "data": facts}
            spec = attrs.evolve(without_data, facts=facts, arrays=arrays, live=None)
            latest[:] = [(data, spec)]
        return latest[0][1]

    def results(state: TrainState, batch: Batch, shares: list[float]) -> list[ShardResult]:
        if isinstance(batch, Selected) and not (without_data.only_here or batch.refused):
            try:
                return computed(state, batch, shares, batch)
            except NoData as error:
                latest.clear()
                batch.refuse(str(error))
        return computed(state, batch, shares, None)

    def computed(
        state: TrainState, batch: Batch, shares: list[float], selected: Selected | None
    ) -> list[ShardResult]:
        spec = without_data if selected is None else with_data(selected.examples)
        length = _run_length(shards, max(1, executor.workers))  # workers may join or be lost
        common: dict[str, Any] = {
            "parameters": state.parameters.vector,
            "statistics": state.statistics.vector,
            "iteration": state.iteration,
            "seed": state.key.seed,
            "path": list(state.key.path),
            "shards": sharding.shards,
        }
        m = batch.count
        starts = [shard * m // shards for shard in range(shards + 1)]
        tasks = []
        for first in range(0, shards, length):
            end = min(first + length, shards)
            own = slice(starts[first], starts[end])
            examples = _arrays(batch, own) if selected is None else _rows(selected, own)
            bounds = [start - starts[first] for start in starts[first : end + 1]]
            which: dict[str, Any] = {"first": first, "bounds": bounds, "shares": shares[first:end]}
            tasks.append(Task("shard", spec, {**common, **examples, **which}))
        values: list[Any] = executor.map(tasks)
        return [ShardResult(v["cost"], v["vector"], v.get("statistics")) for v in values]

    return results


def bytes_once(examples: Examples) -> int | None:
    """The number of bytes to send once to workers that keep the data; None if it cannot be sent.

    Of data in files, these are the numbers of its rows and whatever else is in memory.
    """
    try:
        return sum(array.nbytes for array in sent(examples)[1].values())
    except BadInput:  # examples of the user's own class or functions, or compressed ones
        return None


def _arrays(batch: Batch, own: slice) -> dict[str, Any]:
    """The arrays of some examples of a batch."""
    arrays = {name: getattr(batch, name) for name in _EXAMPLES}
    return {name: None if a is None else a[..., own] for name, a in arrays.items()}


def _rows(batch: Selected, own: slice) -> dict[str, Any]:
    """The numbers of these examples, for workers that have the data."""
    if isinstance(batch.which, slice):
        chosen = range(*batch.which.indices(batch.examples.count))[own]
        return {"rows": [chosen.start, chosen.stop, chosen.step]}
    return {"rows": batch.which[own]}


@functools.lru_cache(maxsize=64)
def _run_length(shards: int, workers: int) -> int:
    """The number of shards in a task: the largest power of two that leaves no worker idle.

    The sum of shards from a multiple of a power of two on is a sum in the tree of `add_up`, so the
    length changes no bit.
    """
    length = best = 1
    while length < shards:
        length *= 2
        runs = -(-shards // length)
        rounds, last = -(-runs // workers), shards - (runs - 1) * length
        # If a worker alone does the last run, it may be shorter than the others.
        busiest = (rounds - 1) * length + (last if runs % workers == 1 % workers else length)
        if busiest <= -(-shards // workers):
            best = length
    return best


def _spec(sharding: Sharding, parts: tuple[Part, ...]) -> Spec:
    """What a worker prepares to compute shards with these parts."""
    live = _Worker(sharding.network, attrs.evolve(sharding, executor=None).part(parts))
    described = {
        "network": sharding.network,
        "loss": sharding.loss,
        "optimizer": sharding.optimizer,
    }
    name = sharding.numerics.name
    if only_here := _only_here(sharding, parts, described):
        return Spec(live=live, only_here=only_here)
    texts = {name: write_description(describe(part)) for name, part in described.items()}
    augment = [write_description(describe(part)) for part in sharding.augment]
    own = [builder for text in (*texts.values(), *augment) for builder in own_builders(text)]
    return Spec(
        facts={**texts, "augment": augment, "numerics": name, "shards": sharding.shards},
        allow=tuple(dict.fromkeys(builder.partition(":")[0] for builder in own)),
        portable=sharding.numerics.exact,
        live=live,
    )


def _only_here(
    sharding: Sharding, parts: tuple[Part, ...], described: Mapping[str, DescribedPart]
) -> str:
    """What workers in other processes would not have, in words; "" if they can have everything."""
    for part in parts:
        if part.function not in sharding.made:
            return f"the part {part.name!r} inside gradients"
    if len(parts) < len(sharding.made):
        return "other parts inside gradients than it was made with"
    for what, described_part in (*described.items(), *(("augment", p) for p in sharding.augment)):
        if described_part.description is None:
            return f"the {what} {described_part!r}, which has no description"
    if ARITHMETICS.get(sharding.numerics.name) is not sharding.numerics:
        return f"the arithmetic {sharding.numerics.name!r}, which pydnn does not know by that name"
    return ""


@attrs.frozen(eq=False)
class _Worker:
    """What a worker has prepared to compute shards."""

    network: Stage
    gradients: Part
    data: Examples | None = attrs.field(default=None, repr=False)
    files: Mapping[Path, FileState] = attrs.field(factory=dict)  # as they were when data was opened
    _layouts: dict[tuple[Shape, str], tuple[Layout, Layout]] = attrs.field(init=False, factory=dict)

    def layouts(self, shape_in: Shape, dtype: AnyDType) -> tuple[Layout, Layout]:
        """How parameters and statistics lie in their vectors, for examples of this shape."""
        key = shape_in, dtype.name
        if key not in self._layouts:
            parameters = pack(self.network.init(Key(0), shape_in)[0], dtype=dtype)
            kept = self.network.statistics
            statistics = pack(kept.init(parameters.tree) if kept else NO_PARAMS, dtype=dtype)
            self._layouts[key] = parameters.layout, statistics.layout
        return self._layouts[key]


def _prepared(spec: Spec) -> _Worker:
    facts: Any = spec.facts

    def built(family: str, text: str) -> Any:
        return build(read_description(text, family=family, allow=spec.allow), family=family)

    network = built("stage", facts["network"])
    train_step = make_train_step(
        network,
        built("loss", facts["loss"]),
        built("optimizer", facts["optimizer"]),
        augment=[built("augmentation", text) for text in facts["augment"]],
        numerics=ARITHMETICS[facts["numerics"]],
        shards=facts["shards"],
    )
    if "data" not in facts:
        return _Worker(network, train_step.parts[0])
    files = {path: state_of(path) for path in map(Path, paths_in(facts["data"])) if path.is_file()}
    data: Any = received(facts["data"], spec.arrays)
    return _Worker(network, train_step.parts[0], data, files)


@np.errstate(under="ignore")
def _run(worker: _Worker, arguments: Arguments) -> Result:
    values: Any = arguments
    parameters = values["parameters"]
    rows = values.get("rows")
    if rows is None or worker.data is None:
        examples: Batch = _batch(*(values[name] for name in _EXAMPLES))
    else:
        examples = worker.data.take(slice(*rows) if isinstance(rows, list) else rows)
        for path, opened in worker.files.items():  # after the rows were read
            if not path.is_file() or state_of(path) != opened:
                raise NoData(f"{path} has changed since this worker opened it: restore it.")
    layouts = worker.layouts(examples.X.shape[:-1], parameters.dtype)
    state = TrainState(
        values["iteration"],
        layouts[0].packed(parameters),
        (),
        Key(values["seed"], tuple(values["path"])),
        layouts[1].packed(values["statistics"]),
    )
    bounds, shares = values["bounds"], values["shares"]
    result = add_up(
        gradient_of_shard(
            worker.gradients,
            state,
            examples_between(examples, start, stop),
            Shard(values["first"] + place, values["shards"], shares[place]),
        )
        for place, (start, stop) in enumerate(itertools.pairwise(bounds))
    )
    kept = {} if result.statistics is None else {"statistics": result.statistics}
    return {"cost": result.cost, "vector": result.vector, **kept}


_batch = maker_of(Batch)  # without checks, because the examples were checked as a batch
SHARD = Kind(_prepared, _run, one_thread=True)
