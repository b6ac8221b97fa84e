"""How a training ended: what stopped it, at which step, and how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.jobs.parts import watch_of
from pydnn.reports.charts import number, table
from pydnn.reports.markup import Markup, element
from pydnn.reports.words import words_for
from pydnn.runs.inspect import Tensor, look_into_next
from pydnn.runs.run import Run
from pydnn.training import NotFinite

__all__ = ["DIVERGED", "Ending", "ending_of", "how_it_ended", "short_ending"]

DIVERGED, FINISHED, STOPPED = "not finite", "finished", "stopped early"
_MOST_TENSORS = 12  # with numbers that are not finite
_LAST_STEPS = 8  # before the training diverged


@attrs.frozen(eq=False)
class Ending:
    """How a training ended.

    Attributes:
        why: The recorded reason, e.g. "interrupted"; "" if the record has no end, because the
            training goes on or its process was killed.
        error: What was not finite in the step after the last recorded one; None if nothing was, or
            it was not looked for.
        tensors: The arrays of that step, in the order of computation.
    """

    why: str
    error: NotFinite | None = None
    tensors: Sequence[Tensor] = ()

    @property
    def diverged(self) -> bool:
        """Whether numbers that are not finite ended the training."""
        return self.why == DIVERGED or self.error is not None


def why_ended(run: Run) -> str:
    """The recorded reason why a training ended; "" if its record has no end."""
    ends = [end.why for end in run.folder.ends if end.iteration == run.iterations]
    return ends[-1] if ends else ""


def short_ending(run: Run) -> str:
    """How a training ended, in a word or two.

    Example:
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=5)
        >>> data = nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]])
        >>> job = nn.jobs.prepare(recipe, data)
        >>> with nn.runs.create_run("ended", job, data) as recording:
        ...     for state, info in nn.runs.record(recording, nn.jobs.run(job)):
        ...         pass
        >>> short_ending(nn.Run.open("ended", data=data))
        'finished'
    """
    return why_ended(run) or "without an end"


def ending_of(run: Run, notes: list[str], *, data: bool) -> Ending:
    """How the training of a run ended; if it diverged, its last step is computed again.

    Args:
        run: The run.
        notes: What could not be looked into is appended here, in words.
        data: Whether the data of the run is there.
    """
    why = why_ended(run)
    if data and (why == DIVERGED or (not why and not run.iterations)):
        try:
            tensors, error = look_into_next(run)
        except BadInput as failed:
            notes.append(f"The step that was not finite is left out: {failed}")
            return Ending(why)
        if error is not None:
            return Ending(why, error, tensors)
        if why == DIVERGED:
            notes.append(
                "The record says that the training diverged, but here the next step has only "
                "finite numbers: this machine computes differently, or the record has changed."
            )
    return Ending(why)


def how_it_ended(run: Run, ending: Ending) -> Iterator[Markup]:
    """What stopped a training before its goal, and how to go on; nothing if it reached its goal."""
    if ending.diverged:
        yield from _diverged(run, ending)
    elif ending.why == STOPPED:
        yield from _stopped_early(run)
    elif ending.why != FINISHED or run.iterations < run.goal:
        yield from _unfinished(run, ending.why)


def _diverged(run: Run, ending: Ending) -> Iterator[Markup]:
    step = run.iterations if ending.error is None else ending.error.iteration
    where = "" if ending.error is None else f", first in {ending.error.where}"
    yield element(
        "p",
        f"The training diverged: step {step:,} computed numbers that are not finite{where}. "
        "All recorded steps before it are finite. Try a smaller learning rate, or look for "
        "extreme values in the data.",
    )
    rows = [row for row in map(_not_finite, ending.tensors) if row]
    if rows:
        more = f", the first {_MOST_TENSORS} of {len(rows)}" if len(rows) > _MOST_TENSORS else ""
        yield table(
            ["array", "size", "infinite", "NaN", "first at", "number there"],
            rows[:_MOST_TENSORS],
            caption=f"Arrays of step {step:,} that are not finite, in the order of "
            f"computation{more}",
        )
    steps = range(max(0, run.iterations - _LAST_STEPS), run.iterations)
    if steps:
        yield _last_steps(run, steps)


def _not_finite(tensor: Tensor) -> list[str]:
    """The row of a tensor in the table of those that are not finite; empty if it is finite."""
    array = tensor.array
    finite = np.isfinite(array)
    if finite.all():
        return []
    index = np.argwhere(~finite)[0].tolist()
    nan = int(np.isnan(array).sum())
    infinite = int((~finite).sum()) - nan
    first = array[tuple(index)]
    value = "NaN" if np.isnan(first) else number(float(first))
    place = f"[{', '.join(map(str, index))}]" if index else ""
    return [str(tensor), f"{array.size:,}", f"{infinite:,}", f"{nan:,}", place, value]


def _last_steps(run: Run, steps: range) -> Markup:
    numbers = {"cost": run.costs, "gradient norm": run.rows.always["gradient_norm"]}
    rows = [[f"{step:,}", *(number(float(v[step])) for v in numbers.values())] for step in steps]
    observed = {name: c for (kind, name), c in run.rows.columns.items() if kind == "observed"}
    for name, column in observed.items():
        values = dict(zip(column.steps.tolist(), column.values.tolist(), strict=True))
        for row, step in zip(rows, steps, strict=True):
            row.append(number(values[step]) if step in values else "")
        numbers[words_for(name)] = column.values
    return table(["step", *numbers], rows, caption="The last steps before it")


def _stopped_early(run: Run) -> Iterator[Markup]:
    watch = watch_of(run.recipe)
    if watch is None:
        why = f"It ended before its {run.goal:,} steps."
    else:
        why = (
            f"It stopped early, after {run.iterations:,} of at most {run.goal:,} steps: "
            f"the {words_for(run.recipe.watch)} was no better for {run.recipe.patience:,} steps."
        )
    yield element("p", why)


def _unfinished(run: Run, why: str) -> Iterator[Markup]:
    steps = f"step {run.iterations:,} of {run.goal:,}"
    if why in ("interrupted", "cut short"):
        said = f"The training was {why} after {steps}, by whoever ran it and not by its recipe."
    elif why:
        said = f"The training ended after {steps} ({why})."
    else:
        said = (
            f"The record reaches {steps} and has no end: the training goes on, or its process was "
            "killed."
        )
    command = element("code", f"pydnn resume {shlex.quote(run.path.name)}")
    yield element(
        "p", said, " ", command, " goes on from there, to the same bits as without a break."
    )
