"""Trainings of a sweep as tasks of an executor.

Recipes go to the workers as texts, and models come back as the bytes of their files. Each worker
receives the data once, or only its name if the workers can load it themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from pydnn.checks import BadInput, Json
from pydnn.data import DataSet, lasting_name
from pydnn.jobs.loading import data_of
from pydnn.jobs.model import model_bytes, model_in
from pydnn.recipes.toml import read_recipe, read_toml, write_recipe
from pydnn.records import AnyArray, Examples
from pydnn.runs.provenance import data_differences, pins_of, pins_text, read_pins
from pydnn.sweeps.chunks import Chunk, outcomes_of, together_in_memory
from pydnn.sweeps.recording import Recorder, SweepFolder
from pydnn.sweeps.results import Outcome
from pydnn.sweeps.training import OnProgress
from pydnn.workers.interface import Arguments, Executor, Result, Spec, Task, Value
from pydnn.workers.sent_data import received, sent
from pydnn.workers.tasks import Kind

if TYPE_CHECKING:
    from pydnn.sweeps.running import OnBegin, Sweep

__all__ = ["TRAIN", "outcomes_by"]


def outcomes_by(
    executor: Executor,
    plan: Sweep,
    chunks: Iterable[Chunk],
    folder: SweepFolder | None,
    on_progress: OnProgress,
    on_begin: OnBegin,
) -> Generator[tuple[int, Outcome], None, None]:
    """Let an executor do the trainings of a sweep, and yield their outcomes as they end.

    Args:
        executor: The executor.
        plan: The sweep.
        chunks: The trainings, each chunk of which is one task.
        folder: The folder in which each training is recorded; None to record nothing.
        on_progress: Called with the number of steps of each task that has ended.
        on_begin: Called with the numbers of the trainings of each task that begins.
    """
    spec = _spec_of(plan)
    begun: list[Chunk] = []

    def tasks() -> Iterable[Task]:
        for chunk in chunks:
            begun.append(chunk)
            on_begin(chunk.numbers)
            yield Task("train", spec, _arguments(plan, chunk, folder))

    stream: Any = executor.each(tasks())
    with contextlib.closing(stream):  # if the caller stops early, so do the workers
        for which, result in stream:
            chunk = begun[which]
            for place, number in enumerate(chunk.numbers):
                on_progress(plan.runs[number].recipe.iterations)
                yield number, _read_outcome(result, place, spec.allow)


def _spec_of(plan: Sweep) -> Spec:
    """What each worker prepares once: the data."""
    recipe = plan.recipe
    facts: dict[str, Json] = {}
    arrays: dict[str, AnyArray] = {}
    if plan.place:
        if isinstance(recipe.test, str) and recipe.test:
            recipe = attrs.evolve(recipe, test=lasting_name(recipe.test))
        text = pins_text(recipe, pins_of(recipe, plan.data, ()))
    else:
        text = write_recipe(recipe)
        facts, arrays = sent(plan.data)
    return Spec(
        recipe=text,
        place=plan.place,
        facts=facts,
        arrays=arrays,
        allow=plan.own_modules,
        portable=all(variation.recipe.arithmetic.exact for variation in plan.runs),
        live=_Worker(plan.data, plan.own_modules),
    )


def _arguments(plan: Sweep, chunk: Chunk, folder: SweepFolder | None) -> dict[str, Value]:
    recipes = [plan.runs[number].recipe for number in chunk.numbers]
    arguments: dict[str, Value] = {
        "recipes": [write_recipe(recipe) for recipe in recipes],
        "why_not": chunk.why_not_stacked,
    }
    if folder is not None:
        arguments["folder"] = [str(folder.path), folder.digest]
    return arguments


# What a worker does


@attrs.frozen(eq=False)
class _Worker:
    """What a worker has prepared to train: the data, and the modules that recipes may name."""

    data: DataSet | Examples
    allow: tuple[str, ...]


def _prepared(spec: Spec) -> _Worker:
    if not spec.place:
        data: Any = received(spec.facts, spec.arrays)
        return _Worker(together_in_memory(data), spec.allow)
    recipe = read_recipe(spec.recipe, allow=spec.allow)
    try:
        data = data_of(recipe, spec.place)
    except BadInput as error:
        raise BadInput(f"a worker cannot load the data: {error}") from error
    if different := data_differences(read_pins(read_toml(spec.recipe)), data):
        raise BadInput(
            f"a worker has other data at {spec.place} ({different[0]}), expected the same data "
            "everywhere: give a path that leads all workers to the same data."
        )
    return _Worker(together_in_memory(data), spec.allow)


def _run(worker: _Worker, arguments: Arguments) -> Result:
    values: Any = arguments
    recipes = [read_recipe(text, allow=worker.allow) for text in values["recipes"]]
    recorder = None
    if "folder" in values:
        path, digest = values["folder"]
        folder = SweepFolder(Path(path), digest)
        folder.expect_here()
        recorder = Recorder(folder, worker.data, worker.allow)
    result: dict[str, Value] = {}
    for place, outcome in outcomes_of(
        worker.data, recipes, why_not=values["why_not"], recorder=recorder
    ):
        result[f"{place} model"] = np.frombuffer(model_bytes(outcome.model), np.uint8)
        result[f"{place} outcome"] = {
            "scores": dict(outcome.scores),
            "stopped": outcome.stopped,
            "why_not_stacked": outcome.why_not_stacked,
        }
    return result


TRAIN = Kind(prepare=_prepared, run=_run)


def _read_outcome(result: Result, place: int, allow: Iterable[str]) -> Outcome:
    values: Any = result
    content = values[f"{place} model"].tobytes()
    model = model_in(content, where="the result of a worker", allow=allow)
    return Outcome(model, {}, **values[f"{place} outcome"])
