"""The difference of two runs, down to the first step and the first tensor that differ.

The records alone show the step; the runs are not repeated. Only this one step is computed again for
each run, if necessary in a process with the BLAS threads and CPU features of that run.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import toolz

import pydnn
from pydnn.checks import BadInput
from pydnn.data import DataSet
from pydnn.descriptions.parts import is_description
from pydnn.descriptions.text import write_description
from pydnn.fingerprints import same_bits, ulps_apart
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import write_recipe
from pydnn.records import AnyArray, FloatArray
from pydnn.runs.environment_changes import environment_changes, variables_to_repeat, what_to_expect
from pydnn.runs.history import ALWAYS, Rows
from pydnn.runs.inspect import Tensor, look_into, read_tensors, state_tensors, write_tensors
from pydnn.runs.mismatches import Mismatch, first_mismatch
from pydnn.runs.run import NotRepeated, Run

if TYPE_CHECKING:
    from pydnn.runs.run import Run
from pydnn.jobs.model import Model

__all__ = ["Apart", "Difference", "Parting", "difference", "difference_from_run"]

Row = tuple[str, str, str]  # a name, and its value in either run


@attrs.frozen
class Apart:
    """A tensor that differs between two runs.

    Attributes:
        tensor: The place of the tensor, in words.
        count: The number of entries that differ.
        size: The number of all entries.
        gap: The largest absolute difference of two entries; None for anything but floats.
        ulps: The largest distance of two entries in floats; None for anything but floats.
        index: The index of the first entry that differs.
        first: The value of that entry in either run.
    """

    tensor: str
    count: int
    size: int
    gap: float | None
    ulps: int | None
    index: tuple[int, ...]
    first: tuple[Any, Any]


@attrs.frozen
class Parting:
    """The first step at which two runs differ.

    Attributes:
        step: The number of the step; -1 for the initial state.
        mismatch: The recorded number that differs; None if only the states of segments differ.
        apart: The first tensor of the step that differs; None if none does.
        notes: Remarks, e.g. that a record does not follow from its recipe.
    """

    step: int
    mismatch: Mismatch | None
    apart: Apart | None
    notes: tuple[str, ...] = ()


@attrs.frozen
class Difference:
    """The differences between two runs.

    Attributes:
        recipe: The keys that differ, and both values.
        data: The differences of their data, in words.
        environment: The differences of machines and libraries, and both values.
        iterations: The number of steps of either run.
        parting: The first step that differs; None if all steps that both have are the same bits.
    """

    recipe: list[Row]
    data: list[str]
    environment: list[Row]
    iterations: tuple[int, int]
    parting: Parting | None


def difference(a: Run, b: Run) -> Difference:
    """Compare two runs: recipes, data, machines, and the first step with different bits.

    Args:
        a: One run.
        b: The other run.

    Raises:
        BadInput: If a step must be computed again, and its data cannot be loaded.
    """
    return Difference(
        _recipes(*(_as_trained(run) for run in (a, b))),
        _data(a, b),
        environment_changes(a.environments[-1], b.environments[-1]),
        (a.iterations, b.iterations),
        _parting(a, b),
    )


def _as_trained(run: Run) -> Recipe:
    return attrs.evolve(run.recipe, rotate=run.folder.pins.rotated is not None)


def _recipes(a: Recipe, b: Recipe) -> list[Row]:
    names = [field.name for field in attrs.fields(Recipe)]
    rows = [(name, getattr(a, name), getattr(b, name)) for name in names]
    return [(name, _written(x), _written(y)) for name, x, y in rows if x != y]


def _written(value: object) -> str:
    if is_description(value):
        return " ".join(write_description(value).split())
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    return str(value)


def _data(a: Run, b: Run) -> list[str]:
    differences = []
    for part in dict.fromkeys([*a.folder.pins.data, *b.folder.pins.data]):
        x, y = (run.folder.pins.data.get(part, {}) for run in (a, b))
        for name in dict.fromkeys([*x, *y]):
            if x.get(name) != y.get(name):
                differences.append(f"{part} {name}: {_entries(a, b, part, name)}")
    return differences


def _entries(a: Run, b: Run, part: str, name: str) -> str:
    """The entries in which an array of the data differs, in words."""
    try:
        x, y = (_array(run, part, name) for run in (a, b))
    except BadInput as error:
        return f"its fingerprints differ, and it cannot be compared ({str(error).rstrip('.')})"
    if x is None or y is None:
        return "only one of them has it"
    apart = _apart("", x, y)
    if apart is None:
        return "its fingerprints differ, but its entries do not"
    if not apart.index:
        return f"{apart.first[0]} | {apart.first[1]}"
    *place, example = apart.index
    where = f"feature {place[0]} of " if len(place) == 1 else f"place {place} of " if place else ""
    verb = "differs" if apart.count == 1 else "differ"
    values = " | ".join(f"{float(v):.9g}" for v in apart.first)
    return (
        f"{apart.count} of {apart.size} numbers {verb}, the first is {where}example "
        f"{example}: {values}"
    )


def _array(run: Run, part: str, name: str) -> AnyArray | None:
    data = run.data
    batch = (getattr(data, part) if isinstance(data, DataSet) else data).in_memory()
    array: AnyArray | None = getattr(batch, name)
    return array


# The first step that differs


def _parting(a: Run, b: Run) -> Parting | None:
    stop = min(a.iterations, b.iterations)
    x, y = (run.rows.between(0, stop) for run in (a, b))
    mismatch = first_mismatch(*_comparable(x, y), dtype=_coarser(a, b))
    first = _from_states(a, b, upto=0)
    if first is not None or mismatch is None:
        return first or _from_states(a, b, upto=stop) or _from_measurements((a, b), x, y)
    step = mismatch.step
    earlier = _from_states(a, b, upto=step)
    if earlier is not None:  # rows do not show everything, e.g. not the running statistics
        return earlier
    tensors, reasons = zip(*(_tensors(run, step) for run in (a, b)), strict=True)
    failures = tuple(filter(None, reasons))
    if not failures:
        return Parting(step, mismatch, _first_apart(*tensors))
    # The step cannot be computed again. The next recorded states still show a difference.
    later = _from_states(a, b, upto=stop)
    apart, more = (later.apart, later.notes) if later else (None, ())
    return Parting(step, mismatch, apart, (*failures, *more))


def _comparable(a: Rows, b: Rows) -> tuple[Rows, Rows]:
    """The columns that both runs have, without the measurements of evaluations."""
    both = [name for name in a.columns if name in b.columns and name[0] == "observed"]
    x, y = (
        Rows(rows.start, {n: rows.always[n] for n in ALWAYS}, {n: rows.columns[n] for n in both})
        for rows in (a, b)
    )
    return x, y


def _coarser(a: Run, b: Run) -> str:
    """The coarser dtype of both runs, in whose ulps their numbers are compared."""
    dtypes = {run.recipe.dtype for run in (a, b)}
    return min(dtypes, key=lambda name: np.dtype(name).itemsize)


def _from_measurements(runs: tuple[Run, Run], a: Rows, b: Rows) -> Parting | None:
    """The first step of which only measurements differ, not states; None if there is none."""
    different = []
    for name in {*a.columns} & {*b.columns}:
        x, y = a.columns[name], b.columns[name]
        _, i, j = np.intersect1d(x.steps, y.steps, return_indices=True)
        for place in np.flatnonzero(~same_bits(x.values[i], y.values[j]))[:1]:
            step = int(x.steps[i[place]])
            values = x.values[i[place]], y.values[j[place]]
            different.append(Mismatch(step, " ".join(name), *values, _coarser(*runs)))
    first = min(different, key=lambda mismatch: (mismatch.step, mismatch.quantity), default=None)
    note = "only evaluations differ; all numbers of the training itself are the same"
    return None if first is None else Parting(first.step, first, None, (note,))


def _from_states(a: Run, b: Run, *, upto: int) -> Parting | None:
    """The first difference of states that both runs have recorded, up to an iteration.

    States of optimizers count only where both have the same arrays.
    """
    others = {segment.iteration: segment for segment in b.segments}
    for segment in a.segments:
        other = others.get(segment.iteration)
        if segment.iteration > upto or other is None or segment.state_sha256 == other.state_sha256:
            continue
        step = segment.iteration - 1
        part = "state" if step < 0 else "update"
        try:  # a state that is not stored is computed again
            states = [run.state(segment.iteration) for run in (a, b)]
        except BadInput as error:
            return Parting(step, None, None, (str(error).rstrip("."),))
        x, y = (list(state_tensors(part, state)) for state in states)
        apart = _first_apart(x, y)
        if apart is not None:
            note = f"this is from the states that both have recorded after step {step}"
            return Parting(step, None, apart, (note,) if step >= 0 else ())
    return None


def _tensors(run: Run, step: int) -> tuple[list[Tensor], str]:
    """All tensors of a step, computed like the run, and the reason if they cannot be computed."""
    here = run.environment_here
    expected = what_to_expect(run.environment_of(step), here)
    try:
        if expected is None:
            return look_into(run, step)[1], ""
        return _elsewhere(run, step), ""
    except NotRepeated as error:
        return [], f"step {step} of {run.path} does not follow from its recipe: {error.mismatch}"
    except BadInput as error:
        return [], str(error).rstrip(".")


def _elsewhere(run: Run, step: int) -> list[Tensor]:
    """All tensors of a step, computed in a process with the run's threads and CPU features."""
    environment = dict(os.environ)
    for name, value in variables_to_repeat(run.environment_of(step)).items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.h5"
        failure = _called((run, step, path), environment)
        if failure is not None:
            raise BadInput(
                f"step {step} of {run.path} cannot be computed as it was recorded ({failure})."
            )
        return read_tensors(path)


def _called(arguments: tuple[Run, int, Path], environment: Mapping[str, str]) -> str | None:
    """Let a new Python call `write_step`; return why that failed, or None."""
    pickled = pickle.dumps(arguments)
    # The child must import from this process's import path alone, not from the current folder,
    # where a stranger may have put modules.
    paths = [*filter(None, sys.path), str(Path(pydnn.__file__).parents[1])]
    code = f"import sys; sys.path[:] = {paths!r}; import {__name__} as m; m.write_step()"
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            env=environment,
            stdin=subprocess.PIPE,  # carries the arguments; its end tells that this process ended
            stdout=subprocess.DEVNULL,
            stderr=errors,
        ) as process,
    ):
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # the child may have ended already
            process.stdin.write(pickled)
            process.stdin.flush()
        status = process.wait()
        errors.seek(0)
        lines = errors.read(_LONGEST_REPORT).decode(errors="replace").splitlines()
    if not status:
        return None
    line: str = toolz.last([f"exit status {status}", *lines])
    return line.partition(": ")[2].rstrip(".") or line


_LONGEST_REPORT = 1 << 16


def write_step() -> None:
    """Write all tensors of a step of a run to a file; a child process calls this.

    The run, the step and the file come through standard input. The child ends as soon as that input
    ends, i.e. when the parent has ended.
    """
    run, step, path = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_input, daemon=True).start()
    write_tensors(path, look_into(run, step)[1])


def _end_with_input() -> None:
    while os.read(0, 1):  # not `sys.stdin`: Python cannot exit while a thread holds its lock
        pass
    os._exit(1)


def _first_apart(a: Sequence[Tensor], b: Sequence[Tensor]) -> Apart | None:
    """The first tensor, in the order of computation, that both have and that differs."""
    others = _numbered(b)
    for place, tensor in _numbered(a).items():
        other = others.get(place)
        if other is not None:
            apart = _apart(str(tensor), tensor.array, other.array)
            if apart is not None:
                return apart
    return None


def _numbered(tensors: Sequence[Tensor]) -> dict[tuple[object, ...], Tensor]:
    """The tensors by place and number, because a stage may be called more than once in a step."""
    numbered: dict[tuple[object, ...], Tensor] = {}
    for tensor in tensors:
        number = 0
        while (*tensor.place, number) in numbered:
            number += 1
        numbered[*tensor.place, number] = tensor
    return numbered


def _apart(name: str, a: AnyArray, b: AnyArray) -> Apart | None:
    if a.shape != b.shape or a.dtype != b.dtype:
        kinds = f"{a.dtype} {a.shape}", f"{b.dtype} {b.shape}"
        size = max(a.size, b.size)
        return Apart(name, size, size, None, None, (), kinds)
    places = np.argwhere(~same_bits(a, b))
    if not len(places):
        return None
    index = tuple(int(i) for i in places[0])
    gap, ulps = None, None
    if a.dtype.kind == "f":
        ulps = ulps_apart(a, b)
        with np.errstate(invalid="ignore", over="ignore"):  # the arrays may hold infinities
            gap = float(np.nanmax(np.abs(b.astype(float) - a), initial=0.0))
    return Apart(name, len(places), a.size, gap, ulps, index, (a[index], b[index]))


def difference_from_run(model: Model, run: Run) -> str | None:
    """The first thing in which a model is not the result of a run, in words; None if it is.

    A model of pydnn 0.1.0 does not say which state early stopping kept. Then only its recipe and
    its costs are compared.

    Raises:
        NotRepeated: If a step of the run has other bits than the recorded ones.
    """
    job, costs = run.job, run.costs[: len(model.costs)]
    if _goalless(model.recipe) != _goalless(run.recipe):
        return "its recipe"
    if costs.tobytes() != model.costs.tobytes():
        return "one of its costs"
    data = run.data
    if model.columns != job.inputs.columns:
        return "what its columns become"
    if model.columns is None and isinstance(data, DataSet):
        known = data.image_shape, data.classes
        if (model.image_shape, model.classes) != known:
            return "what its inputs are"
    if model.iteration is None and model.recipe.patience:
        return None
    iteration = len(model.costs) if model.iteration is None else model.iteration
    if iteration != len(model.costs) and not model.recipe.patience:
        return "its number of iterations"
    segment = run.folder.segment_at(iteration)
    state = (run.stored(segment) if segment else None) or run.state(iteration)
    pairs = {
        "one of its parameters": (
            model.parameters.vector,
            job.inputs.lift(state.parameters).vector,
        ),
        "one of its statistics": (model.statistics.vector, state.statistics.vector),
    }
    if different := next((name for name, (a, b) in pairs.items() if _bits(a) != _bits(b)), None):
        return different
    fitted, ours = (
        inputs.standardization
        and (_bits(inputs.standardization.mean), _bits(inputs.standardization.deviation))
        for inputs in (model.inputs, job.inputs)
    )
    return None if fitted == ours else "its standardization"


def _goalless(recipe: Recipe) -> str:
    """The text of a recipe without its iterations, which resume can raise."""
    return write_recipe(attrs.evolve(recipe, iterations=1))


def _bits(array: FloatArray) -> tuple[object, ...]:
    return array.dtype, array.shape, array.tobytes()
