"""The report of a sweep: which options matter, which trainings are best, and which failed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from pydnn.checks import AnyPath, BadInput, expect_known
from pydnn.descriptions.parts import is_description
from pydnn.metrics import higher_is_better
from pydnn.recipes.recipe import Recipe, with_seed
from pydnn.recipes.toml import write_recipe
from pydnn.reports.charts import (
    STYLES,
    Series,
    aligned,
    group_chart,
    line_chart,
    mean_series,
    number,
    table,
)
from pydnn.reports.markup import Markup, element
from pydnn.reports.page import Section, page
from pydnn.reports.words import short, value_in_words, words_for
from pydnn.sweeps.recorded import SweptRun, read_sweep, swept_runs
from pydnn.sweeps.results import Spread, SweepResult, spread_of

__all__ = ["report_of_sweep"]

_MOST_OPTIONS = 12  # that have charts
_MOST_COLUMNS = 8  # of options in a table
_MOST_SCORES = 5  # in a table
_MOST_VALUES = 24  # of an option in its chart
_MOST_BEST = 15
_MOST_SETTINGS = 40
_MOST_FOLDS = 12  # that have columns
_MOST_FAILED = 50
_MOST_LISTED = 500  # trainings
_LONG = 40  # characters of a value in a table
_DEFAULT = "default"  # in place of an option that only other trainings state
_CHOOSING = ("validation cost", "train cost")


def report_of_sweep(
    sweep: SweepResult | AnyPath, *, by: str = "", allow: Iterable[str] = ()
) -> str:
    """The report of a sweep, as the text of an HTML file.

    Args:
        sweep: What `run_sweep` returned, or the folder of a recorded sweep. Trainings in a folder
            may still go on.
        by: The score that decides which training is best, e.g. "validation accuracy"; by default
            the cost on held-back data, or else on training data.
        allow: The names of the modules outside pydnn that may be imported for a recipe in a folder.

    Raises:
        NotAllowed: If the recipe names a module that is not allowed.
        BadInput: If it is not the folder of a sweep, or there is no such score.

    Example:
        >>> from pydnn.sweeps import run_sweep, sweep
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=5)
        >>> rates = {"optimizer.learning_rate": [0.01, 0.1]}
        >>> plan = sweep(recipe, nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]]), over=rates)
        >>> text = report_of_sweep(run_sweep(plan))
        >>> "Which options matter" in text
        True
    """
    if isinstance(sweep, SweepResult):
        name, runs = "", swept_runs(sweep)
        recipe = runs[0].recipe
    else:
        recipe, runs = read_sweep(sweep, allow=allow)
        name = f" {short(str(sweep))}"
    known = _Sweep.of(runs, by)
    sections = [
        Section("options", "Which options matter", list(_options(known))),
        Section("best", "The best trainings", list(_best(known))),
        Section("settings", "Settings", list(_settings(known))),
        Section("folds", "Folds", list(_folds(known))),
        Section("curves", "Curves", list(_curves(known))),
        Section("failed", "Trainings without a result", list(_failed(known))),
        Section("trainings", "All trainings", list(_all(known))),
        Section("recipe", "Recipe", list(_recipe(known, recipe))),
    ]
    return page(f"Sweep{name}", _lead(known, recipe), sections)


@attrs.frozen(eq=False)
class _Sweep:
    """The trainings of a sweep, and what is varied.

    Attributes:
        runs: The trainings.
        options: The value of each training by the name of each varied option, in words.
        order: The distinct values of each option, in ascending order if they are numbers.
        by: The score that decides; "" if no training has scores.
        higher: Whether a higher score is better.
    """

    runs: Sequence[SweptRun]
    options: Mapping[str, Sequence[str]]
    order: Mapping[str, Sequence[str]]
    by: str
    higher: bool

    @staticmethod
    def of(runs: Sequence[SweptRun], by: str) -> _Sweep:
        names = list(next((run.scores for run in runs if run.scores), {}))
        if by and names:
            expect_known("score", by, names)
        by = by or next((name for name in _CHOOSING if name in names), "")
        higher = False
        if by:
            try:
                higher = higher_is_better(by)
            except BadInput:  # a measurement of the user's own
                higher = False
        # One fold for all: without any, early stopping would have no validation part to watch.
        same = [
            with_seed(attrs.evolve(run.recipe, fold=run.recipe.fold and (1, 2)), 1) for run in runs
        ]
        values = dict(_varied(same))
        words = {name: [_in_words(v) for v in of_one] for name, of_one in values.items()}
        order = {name: _ordered(words[name], values[name]) for name in words}
        return _Sweep(runs, words, order, by, higher)

    @property
    def scores(self) -> list[float]:
        """The deciding score of each training; NaN if it has none."""
        return [run.scores.get(self.by, math.nan) for run in self.runs]

    @property
    def ranked(self) -> list[int]:
        """The places of the trainings that have the score, the best first."""
        scores = self.scores
        sign = -1.0 if self.higher else 1.0
        known = [place for place, score in enumerate(scores) if math.isfinite(score)]
        return sorted(known, key=lambda place: (sign * scores[place], place))

    def setting(self, place: int) -> tuple[str, ...]:
        """The values of the options of a training."""
        return tuple(values[place] for values in self.options.values())

    @property
    def settings(self) -> list[tuple[tuple[str, ...], list[int], Spread]]:
        """Each setting, the places of its trainings, and the spread of their scores; best first."""
        places: dict[tuple[str, ...], list[int]] = {}
        for place in range(len(self.runs)):
            places.setdefault(self.setting(place), []).append(place)
        scores = self.scores
        rows = [(s, p, spread_of(scores[place] for place in p)) for s, p in places.items()]
        sign = -1.0 if self.higher else 1.0

        def rank(row: tuple[tuple[str, ...], list[int], Spread]) -> tuple[bool, int, float]:
            _, of_one, spread = row
            lost = sum(self.runs[place].failed for place in of_one)
            return not spread.count, lost, sign * spread.mean if spread.count else 0.0

        return sorted(rows, key=rank)

    @property
    def repeated(self) -> bool:
        """Whether a setting has several trainings, of other seeds or folds."""
        return len({self.setting(place) for place in range(len(self.runs))}) < len(self.runs)

    @property
    def heads(self) -> list[str]:
        """The names of the options for the heads of tables, of which there are not too many."""
        return [_named(name) for name in list(self.options)[:_MOST_COLUMNS]]

    def cells(self, place: int) -> list[str]:
        """The values of the options of a training, for a row of a table."""
        return [short(value, _LONG) for value in self.setting(place)[:_MOST_COLUMNS]]


# What is varied


class _Missing:
    def __str__(self) -> str:
        return _DEFAULT


_MISSING = _Missing()


def _varied(recipes: Sequence[Recipe]) -> Iterator[tuple[str, list[object]]]:
    """The name of each option in which recipes differ, as `sweeps.varied` takes it, and its values.

    Example:
        >>> recipes = [nn.Recipe("x", "dense(1)", "mean_squared", o, 5) for o in ("adam", "lion")]
        >>> [name for name, values in _varied(recipes)]
        ['optimizer']
    """
    for field in attrs.fields(Recipe):
        yield from _differing(field.name, [getattr(recipe, field.name) for recipe in recipes])


def _differing(name: str, values: list[Any]) -> Iterator[tuple[str, list[object]]]:
    first = values[0]
    if all(value == first and type(value) is type(first) for value in values):
        return
    if all(is_description(value) for value in values):
        builders = {builder for value in values for builder in value}
        if len(builders) == 1:
            [builder] = builders
            options = dict.fromkeys(option for value in values for option in value[builder])
            for option in options:
                inner = [value[builder].get(option, _MISSING) for value in values]
                parts = all(isinstance(v, list | tuple) and v for v in inner)
                parts = parts and all(is_description(part) for v in inner for part in v)
                yield from _differing(name if parts else f"{name}.{option}", inner)
            return
    lists = all(isinstance(value, list | tuple) for value in values)
    if lists and len({len(v) for v in values}) == 1 and is_description((*first, None)[0]):
        for i, each in enumerate(zip(*values, strict=True)):
            yield from _differing(name if len(first) == 1 else f"{name}.{i}", list(each))
        return
    yield name, values


def _in_words(value: object) -> str:
    return _DEFAULT if value is _MISSING else value_in_words(value)


def _ordered(words: Sequence[str], values: Sequence[object]) -> list[str]:
    """The distinct values, numbers in ascending order and others as they come."""
    first = dict(zip(words, values, strict=True))
    kinds = {type(value) for value in first.values()}
    if kinds <= {int, float}:
        numbers: Any = first
        return sorted(first, key=lambda word: numbers[word])
    return list(first)


def _named(option: str) -> str:
    return short(option, _LONG)


# The sections


def _lead(known: _Sweep, recipe: Recipe) -> list[str]:
    count = len(known.runs)
    seeds = len({run.recipe.seed for run in known.runs})
    folds = len({run.recipe.fold for run in known.runs})
    varied = [f"{len(known.order[name])} values of {_named(name)}" for name in known.options]
    varied += [f"{seeds} seeds"] if seeds > 1 else []
    varied += [f"{folds} folds"] if folds > 1 else []
    failed = sum(run.failed for run in known.runs)
    unfinished = sum(run.begun and not run.finished for run in known.runs)
    planned = sum(not run.begun for run in known.runs)
    ends = [
        f"{failed} failed" if failed else "",
        f"{unfinished} {'is' if unfinished == 1 else 'are'} not finished" if unfinished else "",
        f"{planned} planned and not begun" if planned else "",
    ]
    ended = "".join(f", {end}" for end in ends if end)
    lines = [
        f"{count} training{'s' if count > 1 else ''} on {short(recipe.data)}"
        f"{': ' + ', '.join(varied) if varied else ''}{ended}."
    ]
    if known.ranked:
        lines.append(_said_best(known))
    else:
        lines.append("No training has scores yet.")
    return lines


def _said_best(known: _Sweep) -> str:
    """The sentence that names the best training, or with folds the best setting."""
    if any(run.recipe.fold for run in known.runs):
        setting, places, spread = known.settings[0]
        return (
            f"The best mean {words_for(known.by)} is {number(spread.mean)}, with deviation "
            f"{number(spread.deviation, 2)} over {len(places)} trainings"
            f"{': ' + _of_setting(known, setting) if setting else ''}."
        )
    place = known.ranked[0]
    run = known.runs[place]
    what = _of_setting(known, known.setting(place))
    return (
        f"The best {words_for(known.by)} is {number(run.scores[known.by])}: {short(run.name)}, "
        f"seed {run.recipe.seed}{', ' + what if what else ''}."
    )


def _of_setting(known: _Sweep, setting: Sequence[str]) -> str:
    pairs = zip(known.options, setting, strict=True)
    return ", ".join(f"{_named(name)} {short(value, _LONG)}" for name, value in pairs)


def _options(known: _Sweep) -> Iterator[Markup]:
    if not known.ranked:
        return
    if not known.options:
        yield element("p", "All trainings have the same options.")
        return
    shares = {name: _explained(known, known.options[name]) for name in known.options}
    names = sorted(known.options, key=lambda name: -shares[name])
    rows = []
    for name in names:
        medians = {v: _median(known, name, v) for v in known.order[name]}
        finite = [v for v in medians if math.isfinite(medians[v])]
        order = sorted(finite, key=lambda v: medians[v], reverse=known.higher)
        best, worst = (
            [short(v, _LONG), number(medians[v])] if v else ["", ""]
            for v in (order[0] if order else "", order[-1] if len(order) > 1 else "")
        )
        rows.append([_named(name), best[0], worst[0], f"{shares[name]:.0%}", best[1], worst[1]])
    score = words_for(known.by)
    yield table(
        ["option", "best value", "worst value", "share explained", "best median", "worst median"],
        rows,
        texts=3,
    )
    yield element(
        "p",
        f"Share explained: how much of the variance of the ranks by {score} each option explains "
        "alone. The medians are over all trainings with the value.",
        class_="note",
    )
    charts = []
    for name in names[:_MOST_OPTIONS]:
        groups: dict[str, list[float]] = {}
        values = known.order[name]
        for value in values[:_MOST_VALUES]:
            key = _new_name(groups, short(value, _LONG))
            groups[key] = [
                score
                for own, score in zip(known.options[name], known.scores, strict=True)
                if own == value
            ]
        more = (
            f", the first {_MOST_VALUES} of {len(values)} values"
            if len(values) > len(groups)
            else ""
        )
        charts.append(
            group_chart(f"{_named(name)}{more}", groups, x_label=_named(name), y_label=score)
        )
    yield element("div", *charts, class_="charts")


def _new_name(names: Mapping[str, object], name: str) -> str:
    """The name, with a number after it if it is there already."""
    return name if name not in names else f"{name} ({len(names) + 1})"


def _median(known: _Sweep, name: str, value: str) -> float:
    scores = [s for own, s in zip(known.options[name], known.scores, strict=True) if own == value]
    finite = [score for score in scores if math.isfinite(score)]
    return float(np.median(finite)) if finite else math.nan


def _explained(known: _Sweep, values: Sequence[str]) -> float:
    """The share of the variance of the ranks of scores that lies between the values of an option.

    Ranks, because one training that nearly diverged would outweigh all others.
    """
    places = known.ranked
    scores = known.scores
    ordered = np.array([scores[place] for place in places])
    _, inverse = np.unique(ordered, return_inverse=True)
    firsts = np.bincount(inverse).cumsum()
    ranks = (firsts - (np.bincount(inverse) - 1) / 2)[inverse]  # equal scores share their rank
    total = float(((ranks - ranks.mean()) ** 2).sum())
    if not total:
        return 0.0
    between = 0.0
    for value in set(values):
        own = ranks[[values[place] == value for place in places]]
        if own.size:
            between += own.size * float((own.mean() - ranks.mean()) ** 2)
    return between / total


def _scores_shown(known: _Sweep) -> list[str]:
    """The scores of tables, the deciding one first."""
    names = list(next((run.scores for run in known.runs if run.scores), {}))
    first = [name for name in names if name == known.by]
    parts = ("validation ", "test ", "train ")
    rest = [name for part in parts for name in names if name.startswith(part)]
    kinds = ("cost", "accuracy", "r_squared", "f1", "roc_auc", "mean_absolute_error")
    rest = sorted(rest, key=lambda name: _place(kinds, name.partition(" ")[2]))
    return list(dict.fromkeys([*first, *rest]))[:_MOST_SCORES]


def _place(kinds: Sequence[str], name: str) -> int:
    return kinds.index(name) if name in kinds else len(kinds)


def _name(run: SweptRun) -> Markup:
    return element("span", short(run.name), class_="whole")


def _rows(known: _Sweep, places: Sequence[int]) -> tuple[list[str], list[list[object]], int]:
    """The head, the rows, and the number of columns of texts of a table of trainings."""
    scores = _scores_shown(known)
    folds = any(run.recipe.fold for run in known.runs)
    head = ["training", *known.heads, "seed", *(["fold"] if folds else []), "steps"]
    texts = 1 + len(known.heads)
    columns = [
        aligned([known.runs[place].scores.get(name, math.nan) for place in places])
        for name in scores
    ]
    rows: list[list[object]] = []
    for i, place in enumerate(places):
        run = known.runs[place]
        fold = [str(run.recipe.fold[0]) if run.recipe.fold else ""] if folds else []
        rows.append(
            [
                _name(run),
                *known.cells(place),
                str(run.recipe.seed),
                *fold,
                f"{run.steps:,}",
                *(column[i] for column in columns),
            ]
        )
    return [*head, *map(words_for, scores)], rows, texts


def _best(known: _Sweep) -> Iterator[Markup]:
    places = known.ranked[:_MOST_BEST]
    if not places:
        return
    head, rows, texts = _rows(known, places)
    yield table(head, rows, texts=texts, caption=f"By {words_for(known.by)}")


def _settings(known: _Sweep) -> Iterator[Markup]:
    """The spread of the score of each setting over its seeds and folds."""
    if not known.repeated or not known.by:
        return
    settings = known.settings
    some = settings[:_MOST_SETTINGS]
    statistics: list[Callable[[Spread], float]] = [
        lambda s: s.mean,
        lambda s: s.deviation,
        lambda s: s.least,
        lambda s: s.greatest,
    ]
    columns = [aligned([of(spread) for _, _, spread in some]) for of in statistics]
    rows = []
    for i, (_, places, _) in enumerate(some):
        failed = sum(known.runs[place].failed for place in places)
        cells = known.cells(places[0]) or ["the recipe as it is"]
        rows.append([*cells, str(len(places)), str(failed), *(column[i] for column in columns)])
    heads = known.heads or ["setting"]
    more = f", the best {len(some)} of {len(settings)}" if len(some) < len(settings) else ""
    yield table(
        [*heads, "trainings", "failed", "mean", "deviation", "min", "max"],
        rows,
        texts=len(heads),
        caption=f"{words_for(known.by)} of each setting{more}".capitalize(),
    )


def _folds(known: _Sweep) -> Iterator[Markup]:
    """The score of each setting on each of its folds, the mean over seeds."""
    folds = sorted({run.recipe.fold for run in known.runs if run.recipe.fold})
    if not folds or not known.by:
        return
    scores = known.scores
    if len(folds) <= _MOST_FOLDS:
        some = known.settings[:_MOST_SETTINGS]
        means = [
            [
                spread_of(scores[p] for p in places if known.runs[p].recipe.fold == fold).mean
                for fold in folds
            ]
            for _, places, _ in some
        ]
        columns = [aligned(column) for column in zip(*means, strict=True)]
        heads = known.heads or ["setting"]
        yield table(
            [*heads, *(f"fold {which}" for which, _ in folds)],
            [
                [
                    *(known.cells(places[0]) or ["the recipe as it is"]),
                    *(column[i] for column in columns),
                ]
                for i, (_, places, _) in enumerate(some)
            ],
            texts=len(heads),
            caption=f"{words_for(known.by)} on each fold".capitalize(),
        )
    groups = {
        str(which): [
            score
            for run, score in zip(known.runs, scores, strict=True)
            if run.recipe.fold == (which, of)
        ]
        for which, of in folds
    }
    chart = group_chart(
        "All trainings by fold", groups, x_label="fold", y_label=words_for(known.by)
    )
    yield element("div", chart, class_="charts")


def _curves(known: _Sweep) -> Iterator[Markup]:
    """The costs of the best settings, each as a mean with a band over its trainings."""
    series: list[Series] = []
    names: dict[str, None] = {}
    for setting, places, _ in known.settings:
        runs = [known.runs[place] for place in places if len(known.runs[place].costs)]
        if runs and len(series) < STYLES:
            name = _of_setting(known, setting) or "the recipe as it is"
            name = _new_name(names, short(name))
            names[name] = None
            series.append(mean_series(name, [(run.at, run.costs) for run in runs]))
    if not series:
        return
    settings = len(known.settings)
    more = f", of the best {len(series)} of {settings} settings" if settings > STYLES else ""
    chart = line_chart(f"Cost of each batch{more}", series, y_label="cost", log=None)
    yield element("div", chart, class_="charts")
    if any(one.low is not None for one in series):
        band = "The band goes from the lowest to the highest of the seeds and folds of a setting."
        yield element("p", band, class_="note")


def _failed(known: _Sweep) -> Iterator[Markup]:
    """The trainings without scores, each with the reason, and the options that they share."""
    runs = known.runs
    places = [place for place, run in enumerate(runs) if run.failure]
    places.sort(key=lambda place: (not runs[place].finished, not runs[place].begun))
    if not places:
        return
    diverged = {place for place in places if runs[place].failed}
    rows = []
    for name in known.options:
        for value in known.order[name]:
            of_value = [p for p, own in enumerate(known.options[name]) if own == value]
            lost = sum(place in diverged for place in of_value)
            if lost * len(known.runs) > len(diverged) * len(of_value):  # more than on average
                rows.append([_named(name), short(value, _LONG), f"{lost} of {len(of_value)}"])
    if rows:
        yield table(
            ["option", "value", "failed"],
            rows[:_MOST_FAILED],
            caption="Values that failed more often than others",
            texts=2,
        )
    some = places[:_MOST_FAILED]
    of_each: list[list[object]] = [
        [
            _name(known.runs[place]),
            *known.cells(place),
            element("span", _reason(known.runs[place]), class_="reason"),
            str(known.runs[place].recipe.seed),
            f"{known.runs[place].steps:,}",
        ]
        for place in some
    ]
    more = f", the first {len(some)} of {len(places)}" if len(some) < len(places) else ""
    yield table(
        ["training", *known.heads, "reason", "seed", "steps"],
        of_each,
        texts=2 + len(known.heads),
        caption=f"Each with its reason{more}",
    )


def _reason(run: SweptRun) -> str:
    """Why a training failed, without the advice, which is the same for all."""
    return short(run.failure.rpartition(": ")[0] or run.failure, 199)


def _all(known: _Sweep) -> Iterator[Markup]:
    places = list(range(len(known.runs)))[:_MOST_LISTED]
    if len(known.ranked) == len(known.runs) <= _MOST_BEST:
        return  # the table of the best shows all of them
    head, rows, texts = _rows(known, places)
    what = f"{len(known.runs):,} trainings"
    if len(places) < len(known.runs):
        what = f"The first {len(places):,} of {what}"
    yield element("details", element("summary", what), table(head, rows, texts=texts))


def _recipe(known: _Sweep, recipe: Recipe) -> Iterator[Markup]:
    if known.options or len(known.runs) > 1:
        names = ", ".join(["seed", *map(_named, known.options)])
        yield element("p", f"Trainings differ from it in {names}.", class_="note")
    yield element("pre", element("code", write_recipe(recipe)))
