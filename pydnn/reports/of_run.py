"""The report of one run: what was trained on what, what came of it, and how it went."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.data import DataSet
from pydnn.jobs.job import Job, prepare
from pydnn.jobs.model import Model, load_model, model_of
from pydnn.recipes.layouts import layers_of
from pydnn.recipes.toml import write_recipe
from pydnn.records import AnyArray, Examples
from pydnn.reports.charts import Series, aligned, histogram, line_chart, number, table
from pydnn.reports.ending import Ending, ending_of, how_it_ended
from pydnn.reports.judging import Judged, judged, judgment, mistakes
from pydnn.reports.markup import Markup, element
from pydnn.reports.page import Section, page
from pydnn.reports.record import recorded, what_is_verified
from pydnn.reports.words import capital, short, value_in_words, words_for
from pydnn.runs.inspect import Tensor, look_into_next, look_into_steps, summary_of
from pydnn.runs.run import NotRepeated, Run
from pydnn.storage.run_files import MODEL_FILE
from pydnn.training.finite import ignoring_overflow

__all__ = ["Known", "report_of_run"]

_MOST_STEPS = 6  # that are computed again to look into them
_MOST_SIZE = 2 * 10**9  # multiplications to get there, which take about a second
_LEAST_SIZE = 10**6  # multiplications in the time that a step takes at least
_MOST_LAYERS = 8  # whose histograms are drawn
_BINS = 30
_PARTS = ("train", "validation", "test")


def report_of_run(run: Run) -> str:
    """The report of a run, as the text of an HTML file.

    What needs the data of the run is left out if the data is not there or has changed, with a note
    that says so. If the run has no step yet, nothing has come of it, and its record is shown alone.

    Args:
        run: The run.
    """
    notes: list[str] = []
    known = Known.of(run, notes)
    ending = ending_of(run, notes, data=known.data is not None)
    sections = [
        Section("ending", "How it ended", list(how_it_ended(run, ending))),
        *(_what_came_of_it(run, known, notes) if run.iterations or ending.diverged else ()),
        Section("recipe", "Recipe", [element("pre", element("code", write_recipe(run.recipe)))]),
        Section("verified", "What has been verified", list(what_is_verified(run))),
        Section("record", "Record", list(recorded(run))),
    ]
    lead = [
        _sentence(run, known, ending),
        *(element("span", note, class_="note") for note in notes),
    ]
    return page(f"Run {short(run.path.name)}", lead, sections)


def _what_came_of_it(run: Run, known: Known, notes: list[str]) -> Iterator[Section]:
    found = _judged(known, notes)
    shape = getattr(known.data, "image_shape", None)
    vocabulary = known.model.vocabulary if known.model else None
    wrong = mistakes(found, image_shape=shape, vocabulary=vocabulary) if found else ()
    yield Section("results", "Results", list(_results(run, known)))
    yield Section("curves", "Curves", list(_curves(run)))
    yield Section("predictions", "Predictions", list(judgment(found) if found else ()))
    yield Section("mistakes", "Most wrong", list(wrong))
    yield Section("network", "Network", list(_network(run, known, notes)))


@attrs.frozen(eq=False)
class Known:
    """What the data of a run lets a report compute: the model and all examples; or nothing.

    Attributes:
        model: The model that the training kept; None if the data is not there.
        job: The job, whose examples are not rotated.
        data: The raw data.
    """

    model: Model | None = None
    job: Job | None = None
    data: DataSet | Examples | None = None

    @staticmethod
    def of(run: Run, notes: list[str]) -> Known:
        """What is known of a run; if its data is not there, a note says so."""
        try:
            data, model = run.data, None
            rotated = run.folder.pins.rotated is not None
            job = prepare(attrs.evolve(run.recipe, rotate=False), data) if rotated else run.job
            with contextlib.suppress(BadInput):  # e.g. while the training goes on
                model = load_model(run.path / MODEL_FILE, allow=run.allow)
            if model is None:
                model = model_of(run.job, run.state(run.iterations), run.costs, data)
            return Known(model, job, data)
        except BadInput as error:
            notes.append(f"Some parts are left out, because they need the data: {error}")
            return Known()

    @property
    def parts(self) -> dict[str, Any]:
        """The examples of each part as network inputs."""
        assert self.job is not None
        parts: dict[str, Any] = dict(self.job.data)
        test = self.data.test if isinstance(self.data, DataSet) else None
        if test is not None and test.count:
            parts["test"] = self.job.inputs.of(test)
        return {name: parts[name] for name in _PARTS if name in parts}

    def measured(self, parts: Mapping[str, Any]) -> Mapping[str, float]:
        """The cost and the metrics of the model on these parts."""
        assert self.job is not None
        # A model has what an evaluation reads of a state.
        evaluate: Callable[[Any], Mapping[str, float]] = self.job.evaluation(parts)
        with ignoring_overflow():
            return evaluate(self.model)


def _sentence(run: Run, known: Known, ending: Ending) -> str:
    recipe = run.recipe
    pins = run.folder.pins
    m = pins.data["train"]["X"].shape[-1]
    used = known.job.data["train"].count if known.job else m  # others are held back
    examples = f"{m:,}" if used == m else f"{used:,} of {m:,}"
    _, layout = layers_of(recipe, pins.shape)
    why = "diverged" if ending.diverged else ending.why or "not ended"
    steps = f"{run.iterations:,} of {run.goal:,} steps"
    kept = known.model.iteration if known.model else None
    best = (
        f" The state after {kept:,} steps was kept." if kept not in (None, run.iterations) else ""
    )
    optimizer = short(value_in_words(recipe.optimizer), 199)
    return (
        f"A network of {layout.size:,} parameters, trained on {examples} examples of "
        f"{short(recipe.data, 120)} by {optimizer} for {steps} ({why}).{best}"
    )


# Results


def _results(run: Run, known: Known) -> Iterator[Markup]:
    if known.model is None or known.job is None:
        last = {k: float(c.values[-1]) for (_, k), c in run.rows.columns.items() if len(c.values)}
        rows = [["cost", number(float(cost))] for cost in run.costs[-1:]]
        rows += [[words_for(name), number(value)] for name, value in last.items()]
        if rows:
            yield table(["measured", "last value"], rows)
        return
    parts = known.parts
    values = known.measured(parts)
    names = list(dict.fromkeys(name.split(" ", 1)[1] for name in values))
    rows = [
        ["examples", *(f"{part.count:,}" for part in parts.values())],
        *(
            [words_for(name), *aligned([values.get(f"{part} {name}", np.nan) for part in parts])]
            for name in names
        ),
    ]
    yield table(["", *parts], rows, caption="The model that was kept, on each part of the data")
    targets = known.model.columns and known.model.columns.targets
    if targets and targets.mean.size:
        yield element(
            "p",
            "Costs and errors, here and in the curves, are those of the targets as they are scaled "
            f"for training: {short(targets.words, 199)}. Predictions below are in the units of the "
            "data.",
            class_="note",
        )


# Curves


def _curves(run: Run) -> Iterator[Markup]:
    if run.iterations:
        yield element("div", *_charts(run), class_="charts")


def _charts(run: Run) -> Iterator[Markup]:
    steps = np.arange(run.rows.start, run.rows.stop)
    measured = {name: c for (kind, name), c in run.rows.curves.items() if kind == "measured"}
    observed = {name: c for (kind, name), c in run.rows.curves.items() if kind == "observed"}
    costs = [Series("each batch", steps, run.costs)]
    costs += [
        Series(name.removesuffix(" cost"), *curve)
        for name, curve in measured.items()
        if name.endswith(" cost")
    ]
    yield line_chart("Cost", costs, y_label="cost", log=None)
    by_metric: dict[str, list[Series]] = {}
    for name, curve in measured.items():
        part, _, metric = name.partition(" ")
        if metric and metric != "cost":
            by_metric.setdefault(metric, []).append(Series(part, *curve))
    for metric, series in by_metric.items():
        words = words_for(metric)
        yield line_chart(capital(words), series, y_label=words, log=None)
    norms = Series("gradient", steps, run.rows.always["gradient_norm"])
    yield line_chart("Norm of the gradient", [norms], y_label="Euclidean norm", log=True)
    for name, curve in observed.items():
        words = words_for(name)
        yield line_chart(capital(words), [Series(words, *curve)], y_label=words, log=None)


# Predictions


def _judged(known: Known, notes: list[str]) -> Judged | None:
    if known.model is None or known.data is None:
        return None
    try:
        with ignoring_overflow():
            return judged(known.model, known.data)
    except BadInput as error:  # e.g. after a training that diverged
        notes.append(f"The predictions are left out: {error}")
        return None


# The network


def _network(run: Run, known: Known, notes: list[str]) -> Iterator[Markup]:
    shape = run.folder.pins.shape
    layers, layout = layers_of(run.recipe, shape)
    looked: dict[int, list[Tensor]] = {}
    if known.model is not None and known.job is not None:
        steps = _steps_to_look_into(run, layout.size * known.job.batch.count)
        with ignoring_overflow():  # in the last steps of a training that diverged
            looked = _looked_into(run, steps, notes)
    norms = {step: _norms(tensors) for step, tensors in looked.items()}
    ends = sorted({min(norms), max(norms)}) if norms else []
    rows = []
    for layer in layers:
        size = "x".join(map(str, layer.shape))
        counted = f"{layer.parameters:,}" if layer.parameters else ""
        of_ends = [norms[step].get(layer.place) for step in ends]
        shown = ["" if norm is None else number(norm) for norm in of_ends]
        rows.append([layer.place, layer.stage, layer.arrays, size, counted, *shown])
    rows.append(["", "", "", "", f"{layout.size:,}", *("" for _ in ends)])
    names = [f"norm after {step:,} steps" for step in ends]
    yield table(["place", "stage", "arrays", "output", "parameters", *names], rows, texts=3)
    if looked:
        yield element("div", *_inside(looked), class_="charts")


def _looked_into(run: Run, steps: Sequence[int], notes: list[str]) -> dict[int, list[Tensor]]:
    """The arrays of some steps, and of the step after the last one, which shows its parameters.

    If this machine computes other bits than the recorded ones, a note says so: the report of a run
    is read on other machines, too.
    """
    try:
        looked = {record.info.iteration: t for record, t in look_into_steps(run, steps)}
    except NotRepeated as error:
        notes.append(f"Steps of the network are shown as this machine computes them: {error}")
        run = attrs.evolve(run, given=run.data, anyway=True)
        looked = {record.info.iteration: t for record, t in look_into_steps(run, steps)}
    tensors, error_after = look_into_next(run)
    if error_after is not None:  # of what comes after the parameters, some is not finite
        tensors = [tensor for tensor in tensors if tensor.part == "state"]
    return {**looked, run.iterations: tensors}


def _steps_to_look_into(run: Run, size: int) -> list[int]:
    """Steps that are evenly spaced, or if these would take long, those that have a stored state.

    Args:
        run: The run.
        size: The number of multiplications that a step takes, about.
    """
    even: list[int] = np.unique(np.linspace(0, run.iterations, _MOST_STEPS).astype(int)).tolist()
    del even[-1]  # the state after the last step is shown anyway
    held = [s.iteration for s in run.folder.holding if s.iteration < run.iterations]
    nearest = [max((h for h in held if h <= step), default=0) for step in even]
    away = sum(step - near for step, near in zip(even, nearest, strict=True))
    if away * max(size, _LEAST_SIZE) <= _MOST_SIZE:
        return even
    return sorted({0, *nearest} & {0, *held})


def _norms(tensors: Sequence[Tensor]) -> dict[str, float]:
    norms: dict[str, float] = {}
    for t in tensors:
        if t.part == "state" and not t.name.startswith(("running ", "optimizer")):
            norms[t.layer] = math.hypot(norms.get(t.layer, 0.0), summary_of(t).norm)
    return norms


def _inside(looked: Mapping[int, Sequence[Tensor]]) -> Iterator[Markup]:
    """Charts of what the looked-into steps have inside: dead units, weights and gradients."""
    dead: dict[str, dict[int, float]] = {}
    for step, tensors in looked.items():
        for tensor in tensors:
            share = summary_of(tensor).dead
            if share is not None:
                dead.setdefault(f"{tensor.layer} {tensor.stage}", {})[step] = share
    ever = {name: shares for name, shares in dead.items() if any(shares.values())}
    if ever and len(looked) > 1:
        series = [
            Series(n, list(s), list(s.values())) for n, s in list(ever.items())[:_MOST_LAYERS]
        ]
        yield line_chart("Share of units that are 0 for the whole batch", series, y_label="share")
    some = [s for i, s in enumerate(looked) if i in (0, len(looked) // 2, len(looked) - 1)]
    first = looked[min(looked)]
    for what, part, prefix in (("Weights", "state", ""), ("Gradients", None, "d")):
        places = dict.fromkeys((t.layer, t.name) for t in first if _is_of_weights(t, part, prefix))
        for layer, name in list(places)[:_MOST_LAYERS]:
            arrays = {
                step: t.array
                for step in some
                for t in looked[step]
                if (t.layer, t.name) == (layer, name) and _is_of_weights(t, part, prefix)
            }
            whose = f"stage {layer}" if layer else "the network"
            yield _histogram(f"{what} {name} of {whose}", arrays)


def _is_of_weights(tensor: Tensor, part: str | None, prefix: str) -> bool:
    if part is None:
        made = tensor.part not in ("state", "batch", "forward", "update", "gather")
        return made and tensor.name.startswith(prefix) and tensor.name.endswith("W")
    return tensor.part == part and tensor.name.endswith("W")


def _histogram(title: str, arrays: Mapping[int, AnyArray]) -> Markup:
    """The shares of numbers in equal intervals, one curve for each step."""
    size = max((array.size for array in arrays.values()), default=0)
    bins = int(np.clip(size**0.5, 5, _BINS))
    counts, edges = histogram(list(arrays.values()), bins)
    middles = edges[:-1] / 2 + edges[1:] / 2
    series = [
        Series(f"after {step:,} steps", middles, count / max(1, count.sum()))
        for step, count in zip(arrays, counts, strict=True)
    ]
    return line_chart(title, series, x_label="number", y_label="share of all")
