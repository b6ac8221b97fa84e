"""Looking into one step of a run: every activation, cache, gradient and update of it, by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import attrs
import numpy as np

from pydnn.checks import AnyPath, BadInput, path_of
from pydnn.parameters import Packed, Tree, Views
from pydnn.records import AnyArray, FloatArray, keep_readonly
from pydnn.runs.run import Run
from pydnn.runs.state_arrays import arrays_of
from pydnn.stages import Stage, map_stages
from pydnn.stages.base import Context, into
from pydnn.storage.hdf5 import open_hdf5, read_array, write_hdf5
from pydnn.training import Step, TrainState, trace

__all__ = [
    "Summary",
    "Tensor",
    "look_into",
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
        part: The part of the step that made it, e.g. "forward"; "state" and "batch" for what the
            step was given.
        layer: The place in the network of the stage that it belongs to, e.g. "2"; "" for none.
        stage: That stage's name, e.g. "dense"; "" for none.
        name: Its own, e.g. "A", "cache.Z" or "dW".
        array: Its numbers.
    """

    part: str
    layer: str
    stage: str
    name: str
    array: AnyArray

    @property
    def place(self) -> tuple[str, str, str]:
        """What it has in common with that of another run."""
        return self.part, self.layer, self.name

    def __str__(self) -> str:
        layer = f"layer {self.layer} ({self.stage}), " if self.stage else ""
        if not layer and self.layer:
            layer = f"layer {self.layer}, "
        return f"{self.part}, {layer}{self.name}"


@attrs.frozen
class Summary:
    """What can be told of a tensor in a line.

    Attributes:
        shape: Its shape.
        low: The least entry; None where it has none.
        high: The greatest entry.
        norm: Its Euclidean length.
        dead: Of a stage's output, the share of units that are 0 for every example.
    """

    shape: tuple[int, ...]
    low: float | None
    high: float | None
    norm: float
    dead: float | None


def summary_of(tensor: Tensor) -> Summary:
    """Shape, range, length and share of dead units of a tensor."""
    array = tensor.array.astype(np.float64)
    low, high = (float(array.min()), float(array.max())) if array.size else (None, None)
    scale = float(np.abs(array).max(initial=0.0))
    norm = scale * float(np.sqrt(((array / scale) ** 2).sum())) if scale else 0.0
    dead = None
    if (tensor.part, tensor.name) == ("forward", "A") and array.ndim == 2 and array.size:
        dead = float((array == 0).all(axis=1).mean())
    return Summary(tensor.array.shape, low, high, norm, dead)


def look_into(run: Run, step: int) -> tuple[Step, list[Tensor]]:
    """The record of the step of that number, and every array of it in the order of its making.

    Raises:
        BadInput: If there is no such step.
        NotRepeated: If it does not come out as it was recorded.
    """
    state, batch = run.before(step)
    seen: list[Tensor] = []
    job = run.job_through(lambda network: map_stages(lambda p, s: _watched(p, s, seen), network))
    seen[:] = _given(Step(state, batch))  # and not what was seen when the job was prepared
    before = Step(state, batch)
    for name, record in trace(job.train_step, state, batch):
        seen += _made(name, before, record)
        before = record
    run.expect_repeated(before)
    return before, seen


def _watched(path: str, stage: Stage, seen: list[Tensor]) -> Stage:
    """The same stage, which also puts whatever it makes into `seen`."""
    layer = path.removesuffix("/")

    def see(part: str, name: str, array: AnyArray) -> None:
        view = array.view()
        view.flags.writeable = False  # a stage that fills an array still writes to its own
        seen.append(Tensor(part, layer, stage.name, name, view))

    def forward(params: Tree, A_prev: FloatArray, context: Context) -> tuple[FloatArray, object]:
        A, cache = stage.forward(params, A_prev, context)
        see("forward", "A", A)
        for name, array in _arrays("cache", cache):
            see("forward", name, array)
        return A, cache

    pull_back = into(stage)

    def backward_into(
        params: Tree, cache: object, dA: FloatArray, out: Views, needs_dA_prev: bool
    ) -> FloatArray | None:
        see("backward", "dA", dA)
        dA_prev = pull_back(params, cache, dA, out, needs_dA_prev)
        for name, array in zip(_gradient_names(stage, params), out, strict=True):
            see("backward", name, array)
        if dA_prev is not None:
            see("backward", "dA_prev", dA_prev)
        return dA_prev

    return attrs.evolve(stage, forward=forward, backward_into=backward_into)


def _gradient_names(stage: Stage, params: Tree) -> list[str]:
    if isinstance(params, tuple):  # a stage without any
        return []
    return [field.name for field in attrs.fields(stage.gradients or type(params))]


def _arrays(path: str, value: object) -> Iterator[tuple[str, AnyArray]]:
    """The arrays below a cache, each with the path to it."""
    if isinstance(value, np.ndarray):
        yield path, value
    elif isinstance(value, tuple | list):
        for i, part in enumerate(value):
            yield from _arrays(f"{path}.{i}", part)
    elif attrs.has(cls := type(value)):
        for field in attrs.fields(cls):
            yield from _arrays(f"{path}.{field.name}", getattr(value, field.name))


def _given(step: Step) -> Iterator[Tensor]:
    """What a step is given: its state and its batch."""
    yield from state_tensors("state", step.state)
    for name in ("X", "Y", "weights"):
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
    """What a part of the step has put into the record, beside what its stages made."""
    made = after.filled_since(before)
    for name in ("AL", "cost", "dAL", "updates"):
        if name in made:
            value = getattr(after, name)
            if name == "updates":
                yield from _packed(part, after.state.parameters.with_vector(value), "update of ")
            else:
                yield Tensor(part, "", "", name, np.asarray(value))
    if "grads" in made and "grads" in before.filled:  # e.g. penalties
        yield from _packed(part, after.grads, "gradient of ")
    if "statistics" in made:
        yield from _packed(part, after.statistics, "running ")
    if "info" in made:
        yield Tensor(part, "", "", "gradient_norm", np.asarray(after.info.gradient_norm))
    if "after" in made:
        yield from state_tensors(part, after.after)


# Tensors in a file of their own

_INDEX = "index"  # the data set that says what the others are


def write_tensors(path: AnyPath, tensors: Sequence[Tensor]) -> None:
    """Write tensors to a new HDF5 file, each at stage/layer/name, e.g. "forward/2/A".

    Raises:
        BadInput: If the file exists, or cannot be written.
    """
    arrays: dict[str, AnyArray] = {}
    index = []
    for tensor in tensors:
        name = "/".join(filter(None, (tensor.part, tensor.layer, tensor.name)))
        while name in arrays:  # of a stage that is called more than once in a step
            name += "'"
        arrays[name] = tensor.array
        index.append([name, tensor.part, tensor.layer, tensor.stage, tensor.name])
    text = np.frombuffer(json.dumps(index).encode(), np.uint8)
    write_hdf5(path_of(path), arrays={**arrays, _INDEX: text})


def read_tensors(path: AnyPath) -> list[Tensor]:
    """The tensors of a file that `write_tensors` wrote."""
    with open_hdf5(path_of(path)) as file:
        text = read_array(file, _INDEX, dtype=np.uint8, shape=("n",)).tobytes()
        tensors = []
        for path_inside, part, layer, stage, name in _index(path, text):
            array = read_array(file, path_inside, dtype=np.number, shape=None)
            tensors.append(Tensor(part, layer, stage, name, array))
        return tensors


def _index(path: AnyPath, text: bytes) -> list[list[str]]:
    try:
        index = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{_INDEX} in {path} is damaged ({error}): write it again.") from error
    match index:
        case [*entries] if all(
            isinstance(entry, list)
            and len(entry) == 5
            and all(isinstance(word, str) for word in entry)
            for entry in entries
        ):
            return list(entries)
    raise BadInput(f"{_INDEX} in {path} does not name its arrays: write it again.")
