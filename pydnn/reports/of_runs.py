"""The report of several runs: what differs between them, and what came of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import write_recipe
from pydnn.reports.charts import aligned, line_chart, mean_series, table
from pydnn.reports.ending import short_ending
from pydnn.reports.markup import Markup, element
from pydnn.reports.of_run import Known
from pydnn.reports.page import Section, page
from pydnn.reports.record import share_verified
from pydnn.reports.words import capital, short, value_in_words, words_for
from pydnn.runs.run import Run

__all__ = ["report_of_runs"]

_MOST_PAIRS = 50  # of runs with equal recipes


def report_of_runs(runs: Sequence[Run]) -> str:
    """The report of several runs side by side, as the text of an HTML file.

    Runs whose recipes differ in nothing but their seeds are drawn as their mean, with a band from
    the lowest to the highest.

    Args:
        runs: Two or more runs.

    Raises:
        BadInput: If there is one run or none, or a run has no step.
    """
    if len(runs) < 2:
        raise BadInput(f"there are {len(runs)} runs, expected two or more: give more runs.")
    for run in runs:
        if not run.iterations:
            raise BadInput(f"{run.path} has no step yet: train it first, or leave it out.")
    names = _names(runs)
    groups = _groups(runs, names)
    sections = [
        Section("differences", "What differs", list(_differences(runs, names))),
        Section("results", "Results", [_results(runs, names)]),
        Section("curves", "Curves", [element("div", *_curves(runs, groups), class_="charts")]),
        Section("repeated", "Runs that should be equal", list(_repeated(runs, names))),
        Section("recipes", "Recipes", list(_recipes(runs, names))),
    ]
    what = ", ".join(short(data, 120) for data in dict.fromkeys(run.recipe.data for run in runs))
    listed = ", ".join(map(short, names))
    return page(f"{len(runs)} runs", [f"{listed}: trained on {what}."], sections)


def _names(runs: Sequence[Run]) -> list[str]:
    """The names of the folders; if two are equal, with the folder around them."""
    names = [run.path.name for run in runs]
    if len(set(names)) < len(names):
        names = ["/".join(run.path.absolute().parts[-2:]) for run in runs]
    return names


def _differences(runs: Sequence[Run], names: Sequence[str]) -> Iterator[Markup]:
    rows = []
    for field in attrs.fields(Recipe):
        values = [value_in_words(getattr(run.recipe, field.name)) for run in runs]
        if len(set(values)) > 1:
            rows.append([field.name.replace("_", " "), *values])
    if rows:
        yield table(["recipe", *names], rows, texts=1 + len(names))
    else:
        yield element("p", "The recipes are equal.")
    data = {tuple(sorted(a.sha256 for a in r.folder.pins.data["train"].values())) for r in runs}
    if len(data) > 1:
        yield element("p", "The runs were not all trained on the same examples.")


def _last(run: Run) -> dict[str, float]:
    """The last cost and the last measured values of a run, and what its model gets on test data."""
    measured = {
        name: float(column.values[-1])
        for (kind, name), column in run.rows.columns.items()
        if kind == "measured" and len(column.values)
    }
    return {"cost of the last batch": float(run.costs[-1]), **measured, **_tested(run)}


def _tested(run: Run) -> Mapping[str, float]:
    """The cost and the metrics of the model that a run kept, on its test part, if that is there."""
    known = Known.of(run, [])
    if known.model is None or "test" not in (parts := known.parts):
        return {}
    return known.measured({"test": parts["test"]})


def _results(runs: Sequence[Run], names: Sequence[str]) -> Markup:
    last = [_last(run) for run in runs]
    known = list(dict.fromkeys(name for values in last for name in values))
    ended = [short_ending(run) for run in runs]
    verified = [share_verified(run) for run in runs]
    if len(runs) < len(known):  # the longer side of a table goes down the page
        first = [
            ["ended", *ended],
            ["steps", *(f"{run.iterations:,}" for run in runs)],
            ["steps that were replayed", *verified],
        ]
        values_of = ([words_for(k), *aligned([v.get(k, np.nan) for v in last])] for k in known)
        return table(["", *names], [*first, *values_of])
    columns = [aligned([values.get(k, np.nan) for values in last]) for k in known]
    rows = [
        [
            name,
            ended[i],
            f"{run.iterations:,}",
            verified[i],
            *(column[i] for column in columns),
        ]
        for i, (name, run) in enumerate(zip(names, runs, strict=True))
    ]
    return table(["run", "ended", "steps", "replayed", *map(words_for, known)], rows, texts=2)


def _groups(runs: Sequence[Run], names: Sequence[str]) -> dict[str, list[int]]:
    """The places of runs by the name of their curve: those that differ in the seed alone."""
    by_recipe: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        text = write_recipe(attrs.evolve(run.recipe, seed=0, iterations=1))
        by_recipe.setdefault(text, []).append(place)
    groups = {}
    for places in by_recipe.values():
        name = names[places[0]]
        if len(places) > 1:
            seeds = len({runs[place].recipe.seed for place in places})
            of = "with other seeds" if seeds > 1 else "of the same recipe"
            name = f"{name} and {len(places) - 1} more {of}"
        groups[name] = places
    return groups


def _curves(runs: Sequence[Run], groups: dict[str, list[int]]) -> Iterator[Markup]:
    yield line_chart(
        "Cost of each batch",
        [
            mean_series(
                name, [(np.arange(r.rows.start, r.rows.stop), r.costs) for r in _of(runs, places)]
            )
            for name, places in groups.items()
        ],
        y_label="cost",
        log=None,
    )
    measured = dict.fromkeys(
        name for run in runs for (kind, name) in run.rows.columns if kind == "measured"
    )
    for name in measured:
        series = []
        for group, places in groups.items():
            every = (run.rows.curves.get(("measured", name)) for run in _of(runs, places))
            if curves := [curve for curve in every if curve is not None]:
                series.append(mean_series(group, curves))
        words = words_for(name)
        yield line_chart(capital(words), series, y_label=words, log=None)


def _of(runs: Sequence[Run], places: Sequence[int]) -> list[Run]:
    return [runs[place] for place in places]


def _repeated(runs: Sequence[Run], names: Sequence[str]) -> Iterator[Markup]:
    """The first step at which two runs of one recipe on the same data have other bits."""
    by_start: dict[tuple[str, str], list[int]] = {}
    for place, run in enumerate(runs):
        text = write_recipe(attrs.evolve(run.recipe, iterations=1, data=""))
        data = run.folder.pins.data["train"]["X"].sha256
        by_start.setdefault((text, data), []).append(place)
    pairs = [pair for places in by_start.values() for pair in itertools.combinations(places, 2)]
    rows = []
    for i, j in pairs[:_MOST_PAIRS]:
        ours, theirs = (runs[k].rows.always["checksum"] for k in (i, j))
        n = min(len(ours), len(theirs))
        unlike = np.flatnonzero(ours[:n] != theirs[:n])
        same = f"all {n:,} common steps have the same bits"
        rows.append(
            [names[i], names[j], f"differ from step {unlike[0]:,} on" if unlike.size else same]
        )
    if rows:
        yield table(["run", "run", "parameters after each step"], rows, texts=3)


def _recipes(runs: Sequence[Run], names: Sequence[str]) -> Iterator[Markup]:
    for name, run in zip(names, runs, strict=True):
        code = element("pre", element("code", write_recipe(run.recipe)))
        yield element("details", element("summary", f"Recipe of {name}"), code)
