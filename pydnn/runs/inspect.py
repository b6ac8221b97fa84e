"""The tensors of one step of a run: its activations, caches, gradients and updates, by name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

import attrs
import numpy as np

from pydnn.checks import AnyPath, BadInput, path_of
from pydnn.jobs.job import Job
from pydnn.parameters import Packed, Tree, Views
from pydnn.records import AnyArray, Batch, FloatArray, keep_readonly
from pydnn.runs.run import Run
from pydnn.runs.state_arrays import arrays_of
from pydnn.stages import Stage, map_stages
from pydnn.stages.base import Context, into
from pydnn.storage.hdf5 import open_hdf5, read_array, write_hdf5
from pydnn.training import NotFinite, Step, TrainState, trace
from pydnn.training.finite import ignoring_overflow

__all__ = [
    "Summary",
    "Tensor",
    "look_into",
    "look_into_next",
    "look_into_steps",
    "read_tensors",
    "state_tensors",
    "summary_of",
    "write_tensors",
]


@keep_readonly
@attrs.frozen(eq=False)
class Tensor:
    """One array of a step.

    Attributes:
        part: The part of the step that made it, e.g. "forward"; "state" or "batch" for an array
            that the step began with.
        layer: The place of its stage in the network, e.g. "2"; empty if it belongs to no stage.
        stage: The name of that stage, e.g. "dense"; empty if it belongs to no stage.
        name: Its own name, e.g. "A", "cache.Z" or "dW".
        array: Its numbers.
        shard: The number of its shard, where batches are cut into shards; None if it belongs to
            the whole step.
    """

    part: str
    layer: str
    stage: str
    name: str
    array: AnyArray
    shard: int | None = None

    @property
    def place(self) -> tuple[int | None, str, str, str]:
        """Its shard, part, layer and name, which identify the same tensor in another run."""
        return self.shard, self.part, self.layer, self.name

    def __str__(self) -> str:
        layer = f"layer {self.layer} ({self.stage}), " if self.stage else ""
        if not layer and self.layer:
            layer = f"layer {self.layer}, "
        shard = "" if self.shard is None else f"shard {self.shard}, "
        return f"{shard}{self.part}, {layer}{self.name}"


@attrs.frozen
class Summary:
    """A summary of a tensor that fits on a line.

    Attributes:
        shape: The shape of the tensor.
        low: The smallest entry; None if the tensor is empty.
        high: The largest entry; None if the tensor is empty.
        norm: The Euclidean norm.
        dead: For the output of a stage, the share of units that are 0 for all examples, and at
            all places or steps; else None.
    """

    shape: tuple[int, ...]
    low: float | None
    high: float | None
    norm: float
    dead: float | None


def summary_of(tensor: Tensor) -> Summary:
    """The shape, range, norm and share of dead units of a tensor.

    >>> summary_of(Tensor("forward", "1", "relu", "A", np.array([[0.0, 0.0], [3.0, 4.0]])))
    Summary(shape=(2, 2), low=0.0, high=4.0, norm=5.0, dead=0.5)
    """
    array = tensor.array.astype(np.float64)
    low, high = (float(array.min()), float(array.max())) if array.size else (None, None)
    scale = float(np.abs(array).max(initial=0.0))
    norm = scale * float(np.sqrt(((array / scale) ** 2).sum())) if scale else 0.0
    dead = None
    if (tensor.part, tensor.name) == ("forward", "A") and array.ndim >= 2 and array.size:
        others = tuple(axis for axis in range(array.ndim) if axis != array.ndim - 2)
        dead = float((array == 0).all(axis=others).mean())
    return Summary(tensor.array.shape, low, high, norm, dead)


def look_into(run: Run, step: int) -> tuple[Step, list[Tensor]]:
    """Compute one step of a run again: its record, and all its arrays in the order of computation.

    Args:
        run: The run.
        step: The number of the step, from 0.

    Raises:
        BadInput: If there is no such step.
        NotRepeated: If the step has other bits than the recorded ones.
    """
    return next(look_into_steps(run, [step]))


def look_into_steps(run: Run, steps: Iterable[int]) -> Iterator[tuple[Step, list[Tensor]]]:
    """Look into several steps of a run, one after the other, for which its job is made once.

    Raises:
        BadInput: If there is no such step.
        NotRepeated: If a step has other bits than the recorded ones.
    """
    inside: _Inside | None = None
    for step in steps:
        state, batch = run.before(step)  # refuses a step that there is not, before any work
        inside = inside or _Inside.of(run)
        kept: list[Tensor] = []
        with run.as_recorded(step):
            record = inside.look(state, batch, kept)
        run.expect_repeated(record)
        yield record, kept


def look_into_next(run: Run) -> tuple[list[Tensor], NotFinite | None]:
    """Compute the step that would follow the last recorded one.

    Returns:
        All its arrays in the order of computation, and the error if a number in it is not finite;
        the arrays then end there. If the training diverged, that is the step which ended it.
    """
    state = run.state(run.iterations)
    inside = _Inside.of(run)
    job = inside.job
    kept: list[Tensor] = []
    batch = job.batching.at(job.data["train"], state.key, state.iteration)
    try:
        with ignoring_overflow():
            inside.look(state, batch, kept)
    except NotFinite as error:
        return kept, error
    return kept, None


@attrs.frozen(eq=False)
class _Inside:
    """The job of a run, whose stages append all that they compute to `tensors`."""

    job: Job
    tensors: list[Tensor]

    @staticmethod
    def of(run: Run) -> _Inside:
        tensors: list[Tensor] = []

        def watched(network: Stage) -> Stage:
            return map_stages(lambda path, stage: _watched(path, stage, tensors), network)

        return _Inside(run.job_through(watched), tensors)

    def look(self, state: TrainState, batch: Batch, kept: list[Tensor]) -> Step:
        """Take a step; its arrays are in `kept` as far as it came, whether it fails or not."""
        job, tensors = self.job, self.tensors
        kept += _given(Step(state, batch))
        for shard in (*range(job.recipe.shards if job.recipe.shards > 1 else 0), None):
            tensors.clear()  # of what was computed before
            before = Step(state, batch)
            try:
                for name, record in trace(job.train_step, state, batch, shard=shard):
                    if "shards" in record.filled_since(before):  # each shard has shown its own
                        tensors.clear()
                    tensors += _made(name, before, record)
                    before = record
            finally:
                kept += [attrs.evolve(tensor, shard=shard) for tensor in tensors]
        return before


def _watched(path: str, stage: Stage, tensors: list[Tensor]) -> Stage:
    """The same stage, which also appends all that it computes to `tensors`."""
    layer = path.removesuffix("/")

    def keep(part: str, name: str, array: AnyArray) -> None:
        view = array.view()
        view.flags.writeable = False  # on the view, because the stage may go on filling its array
        tensors.append(Tensor(part, layer, stage.name, name, view))

    def forward(params: Tree, A_prev: FloatArray, context: Context) -> tuple[FloatArray, object]:
        A, cache = stage.forward(params, A_prev, context)
        keep("forward", "A", A)
        for name, array in _arrays("cache", cache):
            keep("forward", name, array)
        return A, cache

    pull_back = into(stage)

    def backward_into(
        params: Tree, cache: object, dA: FloatArray, out: Views, needs_dA_prev: bool
    ) -> FloatArray | None:
        keep("backward", "dA", dA)
        dA_prev = pull_back(params, cache, dA, out, needs_dA_prev)
        for name, array in zip(_gradient_names(stage, params), out, strict=True):
            keep("backward", name, array)
        if dA_prev is not None:
            keep("backward", "dA_prev", dA_prev)
        return dA_prev

    return attrs.evolve(stage, forward=forward, backward_into=backward_into)


def _gradient_names(stage: Stage, params: Tree) -> list[str]:
    if isinstance(params, tuple):  # the stage has no parameters
        return []
    return [field.name for field in attrs.fields(stage.gradients or type(params))]


def _arrays(path: str, value: object) -> Iterator[tuple[str, AnyArray]]:
    """The arrays in a cache, each with its path."""
    if isinstance(value, np.ndarray):
        yield path, value
    elif isinstance(value, tuple | list):
        for i, part in enumerate(value):
            yield from _arrays(f"{path}.{i}", part)
    elif attrs.has(cls := type(value)):
        for field in attrs.fields(cls):
            yield from _arrays(f"{path}.{field.name}", getattr(value, field.name))


def _given(step: Step) -> Iterator[Tensor]:
    """The tensors that a step begins with: its state and its batch."""
    yield from state_tensors("state", step.state)
    for name in ("X", "Y", "weights", "lengths"):
        array = getattr(step.batch, name)
        if array is not None:
            yield Tensor("batch", "", "", name, array)


def state_tensors(part: str, state: TrainState) -> Iterator[Tensor]:
    """The arrays and numbers of a state, by layer."""
    yield from _packed(part, state.parameters, "")
    yield from _packed(part, state.statistics, "running ")
    for name, array in arrays_of(state).items():
        if name.startswith("optimizer"):
            yield Tensor(part, "", "", name, array)


def _packed(part: str, packed: Packed, prefix: str) -> Iterator[Tensor]:
    for slot in packed.layout.slots:
        layer, _, name = slot.name.rpartition("/")
        yield Tensor(part, layer, "", prefix + name, packed[slot.name])


def _made(part: str, before: Step, after: Step) -> Iterator[Tensor]:
    """The tensors that a part of the step has put into the record, without those of its stages."""
    made = after.filled_since(before)
    for name in ("AL", "cost", "dAL", "updates"):
        if name in made:
            value = getattr(after, name)
            if name == "updates":
                yield from _packed(part, after.state.parameters.with_vector(value), "update of ")
            else:
                yield Tensor(part, "", "", name, np.asarray(value))
    if "grads" in made and ("grads" in before.filled or "shards" in made):  # e.g. penalties
        yield from _packed(part, after.grads, "gradient of ")
    if "statistics" in made:
        yield from _packed(part, after.statistics, "running ")
    if "info" in made:
        yield Tensor(part, "", "", "gradient_norm", np.asarray(after.info.gradient_norm))
    if "after" in made:
        yield from state_tensors(part, after.after)


# Tensors in a file

_INDEX = "index"  # the name of the array that describes the others


def write_tensors(path: AnyPath, tensors: Sequence[Tensor]) -> None:
    """Write tensors to a new HDF5 file, each at part/layer/name, e.g. "forward/2/A".

    Raises:
        BadInput: If the file exists, or cannot be written.
    """
    arrays: dict[str, AnyArray] = {}
    index = []
    for tensor in tensors:
        shard = "" if tensor.shard is None else f"shard {tensor.shard}"
        name = "/".join(filter(None, (shard, tensor.part, tensor.layer, tensor.name)))
        while name in arrays:  # a stage may be called more than once in a step
            name += "'"
        arrays[name] = tensor.array
        index.append([name, tensor.part, tensor.layer, tensor.stage, tensor.name, shard])
    text = np.frombuffer(json.dumps(index).encode(), np.uint8)
    write_hdf5(path_of(path), arrays={**arrays, _INDEX: text})


def read_tensors(path: AnyPath) -> list[Tensor]:
    """Read the tensors from a file that `write_tensors` wrote.

    Raises:
        BadInput: If the file is damaged, or another kind of file.
    """
    with open_hdf5(path_of(path)) as file:
        text = read_array(file, _INDEX, dtype=np.uint8, shape=("n",)).tobytes()
        tensors = []
        for path_inside, part, layer, stage, name, shard in _index(path, text):
            array = read_array(file, path_inside, dtype=np.number, shape=None)
            number = int(shard.removeprefix("shard ")) if shard else None
            tensors.append(Tensor(part, layer, stage, name, array, number))
        return tensors


def _index(path: AnyPath, text: bytes) -> list[list[str]]:
    try:
        index = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{_INDEX} in {path} is damaged ({error}): write it again.") from error
    match index:
        case [*entries] if all(
            isinstance(entry, list)
            and len(entry) in (5, 6)
            and all(isinstance(word, str) for word in entry)
            and _SHARD.fullmatch("".join(entry[5:]))
            for entry in entries
        ):
            return [[*entry, ""][:6] for entry in entries]
    raise BadInput(f"{_INDEX} in {path} does not name its arrays: write it again.")


_SHARD = re.compile("(shard [0-9]{1,9})?")
