"""Reads the folder of a recorded sweep: what came of each training, also of those that failed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs
import numpy as np

from pydnn.checks import AnyPath, BadInput, path_of
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import read_recipe
from pydnn.records import FloatArray, freeze, keep_readonly
from pydnn.runs.folder import read_folder
from pydnn.runs.run import Run
from pydnn.storage.files import read_small_text
from pydnn.storage.run_files import RECIPE
from pydnn.sweeps.planned import RUN_NAME, read_planned
from pydnn.sweeps.recording import OUTCOME, SWEEP_FILE, folder_of, read_outcome
from pydnn.sweeps.results import SweepResult

__all__ = ["SweptRun", "is_sweep", "read_sweep", "swept_runs"]

_MOST_COSTS = 400  # of a training that stay in memory


@keep_readonly
@attrs.frozen(eq=False)
class SweptRun:
    """What came of one training of a sweep.

    Attributes:
        name: Its name: that of the folder of its run if it is recorded.
        recipe: Its recipe.
        scores: The cost and the metrics of its model on each part of the data; empty if it failed
            or is not finished.
        steps: The number of steps that it took.
        at: The steps of `costs`: at most 400, evenly spaced.
        costs: The cost of each of these steps.
        stopped: Why it ended before its last iteration; "" if it did not.
        finished: Whether it has an outcome.
        begun: Whether it is more than planned.
    """

    name: str
    recipe: Recipe
    scores: Mapping[str, float]
    steps: int
    at: FloatArray
    costs: FloatArray
    stopped: str = ""
    finished: bool = True
    begun: bool = True

    @property
    def failed(self) -> bool:
        """Whether it is finished and has no scores."""
        return self.finished and not self.scores

    @property
    def failure(self) -> str:
        """Why it has no scores; "" if it has."""
        if self.scores:
            return ""
        return self.stopped or "the outputs of its model are not finite"


def is_sweep(path: AnyPath) -> bool:
    """Whether `path` is the folder of a recorded sweep."""
    return (path_of(path) / SWEEP_FILE).is_file()


def swept_runs(result: SweepResult) -> tuple[SweptRun, ...]:
    """What came of the trainings of a sweep that is in memory, in the order of the sweep."""
    return tuple(
        SweptRun(
            f"training {number}",
            outcome.recipe,
            outcome.scores,
            len(outcome.costs),
            *_thinned(outcome.costs),
            outcome.stopped,
        )
        for number, outcome in enumerate(result.outcomes)
    )


def read_sweep(path: AnyPath, *, allow: Iterable[str] = ()) -> tuple[Recipe, tuple[SweptRun, ...]]:
    """The recipe that the trainings of a recorded sweep have in common, and what came of each.

    Trainings that are planned, go on, were interrupted, or whose files are damaged are there too,
    and say so. Those that have not begun come last, in the order in which they will begin.

    Args:
        path: The folder of the sweep.
        allow: The names of the modules outside pydnn that may be imported for the recipe.

    Raises:
        NotAllowed: If the recipe names a module that is not allowed.
        BadInput: If `path` is not the folder of a sweep, or has no training.
    """
    path = path_of(path)
    if not is_sweep(path):
        raise BadInput(f"{path} has no {SWEEP_FILE}, expected the folder of a sweep: check it.")
    allow = tuple(allow)
    try:
        recipe = read_recipe(read_small_text(path / SWEEP_FILE, links=False), allow=allow)
    except BadInput as error:
        raise type(error)(f"{path / SWEEP_FILE}: {error}") from error
    runs = []
    none = freeze(np.empty(0))
    for folder in sorted(entry for entry in path.iterdir() if RUN_NAME.fullmatch(entry.name)):
        try:
            own = read_recipe(read_small_text(folder / RECIPE, links=False), allow=allow)
            runs.append(_read(folder, own, allow))
        except BadInput as error:
            runs.append(SweptRun(folder.name, recipe, {}, 0, none, none, str(error), False))
    begun = {run.name for run in runs}
    for name, text in read_planned(path).items():
        with contextlib.suppress(BadInput):  # it is no part of the record
            own = read_recipe(text, allow=allow)
            if name not in begun and folder_of(own) == name:
                why = "planned, not begun"
                runs.append(SweptRun(name, own, {}, 0, none, none, why, False, begun=False))
    if not runs:
        raise BadInput(f"{path} has no training yet, expected one or more: start the sweep again.")
    return recipe, tuple(runs)


def _read(folder: Path, recipe: Recipe, allow: tuple[str, ...]) -> SweptRun:
    if (folder / OUTCOME).exists():
        outcome = read_outcome(folder, recipe, allow)
        costs = outcome.costs
        at = _thinned(costs)
        return SweptRun(folder.name, recipe, outcome.scores, len(costs), *at, outcome.stopped)
    content = read_folder(folder, anyway=True, allow=allow)
    if content.problem is not None:
        raise BadInput(content.problem.message)
    run = Run(content, allow=allow)
    why = [end.why for end in content.ends if end.iteration == run.iterations]
    said = why[-1] if why else "it goes on, or its process was killed"
    return SweptRun(
        folder.name,
        recipe,
        {},
        run.iterations,
        *_thinned(run.costs),
        f"not finished, after step {run.iterations:,} of {run.goal:,} ({said})",
        finished=False,
    )


def _thinned(costs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Every k-th step and its cost; k is a power of 2, so that curves of any length share steps."""
    stride = 1
    while len(costs) > stride * _MOST_COSTS:
        stride *= 2
    return freeze(np.arange(0, len(costs), stride, dtype=np.float64)), freeze(
        costs[::stride].copy()
    )
