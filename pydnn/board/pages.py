"""The pages of the board: the list of all runs, one run, several side by side, one step."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs
import numpy as np

from pydnn.board.choosing import chosen, ordered
from pydnn.board.finding import Found
from pydnn.board.frame import ago, duration, field, frame, link, live, run_link
from pydnn.board.heads import Catalog, Curves, Head, Listing
from pydnn.checks import BadInput
from pydnn.recipes.toml import write_recipe
from pydnn.records import FloatArray
from pydnn.reports.charts import Series, line_chart, number, scrolling, table
from pydnn.reports.markup import Markup, element, joined
from pydnn.reports.words import capital, words_for
from pydnn.runs.inspect import look_into, summary_of
from pydnn.runs.run import Run

__all__ = ["compare_page", "list_page", "problem_page", "run_page", "step_page"]

_PER_PAGE = 500
_MOST_COMPARED = 20
_MOST_CHARTS = 40
_MOST_ROWS = 200  # of numbers
_MOST_DRAWN = 8  # of the runs that are training, in one chart
_MOST_VARIED = 5  # columns of the list for what differs between the recipes
_MOST_MEASURED = 3  # columns of the list for what was measured
_MOST_POINTS, _STRETCHES = 400, 150  # of a curve, and of one that has more
_PARTS = ("train", "validation", "test")
_SOON, _LATER = 1000, 5000  # milliseconds until a page is asked for again


# The list


@attrs.frozen
class _View:
    """What a person asked the list to show."""

    text: str = ""
    sweep: str = ""
    by: str = ""
    downward: bool = False
    page: int = 1

    @staticmethod
    def of(query: Mapping[str, Sequence[str]]) -> _View:
        first = {name: values[0] for name, values in query.items() if values}
        page = first.get("page", "1")
        return _View(
            first.get("q", ""),
            first.get("sweep", ""),
            first.get("sort", ""),
            first.get("order", "") == "down",
            max(1, int(page)) if page.isdecimal() and len(page) < 9 else 1,
        )

    @property
    def rows(self) -> slice:
        return slice((self.page - 1) * _PER_PAGE, self.page * _PER_PAGE)

    def first(self, runs: Sequence[Found]) -> Sequence[Found]:
        """The runs on the page, if their names alone say which these are."""
        if self.text or self.by not in ("", "name"):
            return ()
        inside = [found for found in runs if not self.sweep or found.sweep == self.sweep]
        return (inside[::-1] if self.downward else inside)[self.rows]

    @property
    def link(self) -> str:
        pairs = {"q": self.text, "sweep": self.sweep, "sort": self.by}
        pairs |= {"order": "down" if self.downward else ""}
        pairs |= {"page": str(self.page) if self.page > 1 else ""}
        return link("/", *((name, value) for name, value in pairs.items() if value))


def list_page(catalog: Catalog, query: Mapping[str, Sequence[str]]) -> str:
    """The list of all runs below the folder, with the curves of those that are training."""
    view = _View.of(query)
    begun = time.monotonic()
    listing = catalog.listing(first=view.first)
    shown = ordered(
        chosen(listing.heads, view.text, sweep=view.sweep),
        view.by,
        downward=view.downward,
        now=listing.now,
    )
    pages = max(1, -(-len(shown) // _PER_PAGE))
    view = attrs.evolve(view, page=min(view.page, pages))
    here = shown[view.rows]
    content = [
        element("h1", "Runs"),
        live("summary", _summary(catalog, listing, shown, view), tag="p", class_="lead"),
        _filter_form(view),
        live("sweeps", *_sweeps(listing, view)),
        live("training", *_training(catalog, listing, view)),
    ]
    if here:
        content.append(_runs_form(listing, here, view, pages))
    else:
        none = "No run fits the filter." if listing.heads else "There is no run here yet."
        content.append(live("runs", element("p", none, class_="note")))
    busy = listing.training or listing.unread
    title = f"Runs in {catalog.root.name or catalog.root}"
    # A list of very many runs takes at most a fifth of the time of a processor's core.
    wait = max(_SOON if busy else _LATER, int(5000 * (time.monotonic() - begun)))
    return frame(title, *content, wait=wait, here="/")


def _summary(catalog: Catalog, listing: Listing, shown: Sequence[Head], view: _View) -> str:
    count = len(listing.heads)
    where = f"the sweep {view.sweep} in {catalog.root}" if view.sweep else str(catalog.root)
    parts = [f"{count:,} run{'' if count == 1 else 's'} in {where}"]
    if len(shown) < count:
        parts.append(f"{len(shown):,} shown")
    if training := len(listing.training):
        parts.append(f"{training:,} training now")
    if planned := sum(head.planned for head in listing.heads):
        parts.append(f"{planned:,} planned")
    if broken := sum(bool(head.problem) for head in listing.heads):
        parts.append(f"{broken:,} that cannot be read")
    if listing.unread:
        parts.append(f"{listing.unread:,} still to be read")
    return ", ".join(parts)


def _filter_form(view: _View) -> Markup:
    hint = "e.g. adam validation_accuracy>0.8"
    hidden = {"sweep": view.sweep, "sort": view.by, "order": "down" if view.downward else ""}
    help_text = element(
        "details",
        element("summary", "What can I write here?"),
        element(
            "p",
            "Each word must hold. A plain word is in the name of the run or in its recipe, e.g. ",
            element("code", "relu"),
            ". A word with =, <, >, <= or >= compares a value of the recipe, or the last value "
            "that was measured, e.g. ",
            element("code", "seed=3"),
            " or ",
            element("code", "validation_cost<0.4"),
            ".",
        ),
    )
    return element(
        "form",
        element("label", "Show runs with ", for_="filter"),
        element("input", id="filter", name="q", type="search", value=view.text, placeholder=hint,
                autocomplete="off", spellcheck="false"),
        *(field(name, value) for name, value in hidden.items() if value),
        element("button", "Show"),
        help_text,
        action="/", method="get", role="search", class_="filter",
    )  # fmt: skip


def _sweeps(listing: Listing, view: _View) -> Iterator[Markup]:
    sweeps: dict[str, list[Head]] = {}
    for head in listing.heads:
        if head.found.sweep:
            sweeps.setdefault(head.found.sweep, []).append(head)
    if not sweeps:
        return
    items = []
    for name, heads in sweeps.items():
        ended = sum(bool(head.why) for head in heads)
        to = attrs.evolve(view, sweep="" if view.sweep == name else name, page=1).link
        current = "true" if view.sweep == name else None
        planned = sum(head.planned for head in heads)
        more = f", {planned:,} not begun" if planned else ""
        note = f" {ended:,} of {len(heads):,} runs ended{more}, "
        items.append(
            element(
                "li",
                element("a", name, href=to, aria_current=current),
                element("span", note, class_="note"),
                element("a", f"report of {name}", href=link("/report", ("sweep", name))),
            )
        )
    yield element("h2", "Sweeps")
    yield element("ul", *items, class_="plain")


def _training(catalog: Catalog, listing: Listing, view: _View) -> Iterator[Markup]:
    heads = chosen(listing.training, view.text, sweep=view.sweep)
    if not heads:
        return
    yield element("h2", "Training now")
    drawn = heads[:_MOST_DRAWN]
    yield element("ul", *(_progress_line(head) for head in drawn), class_="plain")
    if len(heads) > len(drawn):
        yield element("p", f"And {len(heads) - len(drawn):,} more.", class_="note")
    curves = {head.name: catalog.curves(head.name) for head in drawn}
    yield element("div", *_side_by_side(curves, few=True), class_="charts")


def _progress_line(head: Head) -> Markup:
    return element("li", element("a", head.name, href=run_link(head.name)), " ", *_progress(head))


def _progress(head: Head) -> Iterator[Markup | str]:
    """A bar of the steps so far, and in words the speed and the time that is left."""
    goal = max(head.goal, head.steps, 1)
    words = f"{head.steps:,} of {goal:,} steps"
    if math.isfinite(head.speed):
        words += f", {number(head.speed, 3)} steps/s"
        if head.speed > 0:
            words += f", {duration((goal - head.steps) / head.speed)} left"
    yield element("progress", max=goal, value=head.steps, aria_label=f"Steps of {head.name}")
    yield element("span", f" {words}", class_="note")


def _runs_form(listing: Listing, here: Sequence[Head], view: _View, pages: int) -> Markup:
    buttons = element(
        "p",
        element("button", "Compare", formaction="/compare"),
        element("button", "Report", formaction="/report"),
        element("span", "of the selected runs", class_="note"),
        class_="buttons",
    )
    turning = []
    for page, words in ((view.page - 1, "Previous"), (view.page + 1, "Next")):
        if 1 <= page <= pages:
            turning.append(element("a", words, href=attrs.evolve(view, page=page).link))
    if pages > 1:
        turning.insert(0, element("span", f"Page {view.page} of {pages}"))
    return element(
        "form",
        element("h2", "Runs"),
        buttons,
        live("runs", _runs_table(listing, here, view)),
        element("p", joined(turning, " "), class_="buttons") if turning else None,
        method="get",
        action="/compare",
    )


def _runs_table(listing: Listing, here: Sequence[Head], view: _View) -> Markup:
    measured = _measured_columns(here, view)
    varied = _varied(here)
    if view.by in {key for head in here for key in head.recipe} and view.by not in varied:
        varied.append(view.by)
    columns = [("name", "run", False), ("state", "state", False), ("steps", "steps", True),
               ("changed", "changed", True), ("cost", "cost", True),
               *((name, words_for(name), True) for name in measured),
               *((key, key.replace("_", " "), False) for key in varied)]  # fmt: skip
    head_row = element(
        "tr",
        element("th", element("span", "Select", class_="hidden"), scope="col"),
        *(_sorting(view, *column) for column in columns),
    )
    rows = [_row(head, listing.now, measured, varied) for head in here]
    inner = element("table", element("thead", head_row), element("tbody", *rows), class_="runs")
    return scrolling(inner, "Runs")


def _sorting(view: _View, name: str, words: str, is_number: bool) -> Markup:
    sorted_by = (view.by or "name") == name
    # Numbers that are large come first at the first click, but costs that are small.
    down = is_number and not name.endswith(("cost", "loss"))
    down = not view.downward if sorted_by else down
    order = ("descending" if view.downward else "ascending") if sorted_by else None
    to = attrs.evolve(view, by=name, downward=down, page=1).link
    arrow = {"descending": " \u2193", "ascending": " \u2191", None: ""}[order]
    return element(
        "th",
        element("a", words, element("span", arrow, aria_hidden="true"), href=to),
        scope="col",
        aria_sort=order,
        class_="number" if is_number else None,
    )


def _measured_columns(heads: Sequence[Head], view: _View) -> list[str]:
    """The measured numbers to show: those on validation data first, and the one that sorts."""
    shown = _metrics_of(name for head in heads for name in head.values)[:_MOST_MEASURED]
    others = {name for head in heads for name in head.values} - {"cost", *shown}
    return [*shown, *([view.by] if view.by in others else [])]


def _metrics_of(names: Iterable[str]) -> list[str]:
    """The measured numbers among some names, each once, those on held-back data first."""
    parts = ("validation", "test", "train")
    measured = dict.fromkeys(filter(_is_measured, names))
    return sorted(measured, key=lambda name: parts.index(name.partition(" ")[0]))


def _is_measured(name: str) -> bool:
    part, _, metric = name.partition(" ")
    return part in _PARTS and bool(metric)


def _varied(heads: Sequence[Head]) -> list[str]:
    """The keys of the recipes whose values differ."""
    known = [head.recipe for head in heads if head.recipe]
    keys = dict.fromkeys(key for recipe in known for key in recipe)
    varied = [key for key in keys if len({str(recipe.get(key)) for recipe in known}) > 1]
    return [key for key in varied if key != "iterations"][:_MOST_VARIED]


def _row(head: Head, now: float, measured: Sequence[str], varied: Sequence[str]) -> Markup:
    name = element("a", head.name, href=run_link(head.name))
    select = field("run", head.name, "checkbox", aria_label=f"Select {head.name}")
    cells = [element("td", select), element("th", name, scope="row")]
    if head.problem:
        width = 4 + len(measured) + len(varied)
        cells.append(element("td", head.problem, colspan=width, class_="problem"))
    else:
        steps = f"{head.steps:,} of {head.goal:,}" if head.goal > head.steps else f"{head.steps:,}"
        changed = ago(head.silent(now)) if head.known and not head.planned else ""
        numbers = [steps if head.known else "", changed]
        numbers += [_number(head, name) for name in ("cost", *measured)]
        cells += [
            element("td", _state(head, now), class_=f"state {_kind(head, now)}"),
            *(element("td", text, class_="number") for text in numbers),
            *(_clipped(head.recipe.get(key, "")) for key in varied),
        ]
    return element("tr", *cells, data_key=head.name)


def _number(head: Head, name: str) -> str:
    return number(head.values[name]) if name in head.values else ""


def _clipped(value: object) -> Markup:
    """A cell with a text that may be long; its middle says less than its ends."""
    text = str(value)
    short = text if len(text) <= 48 else f"{text[:20]} \u2026 {text[-25:]}"
    return element("td", short, title=text if short != text else None)


def _state(head: Head, now: float) -> str:
    if not head.known:
        return "not read yet"
    if head.planned:
        return "planned"
    if head.training(now):
        return "training"
    return head.why or f"no end, silent for {duration(head.silent(now))}"


def _kind(head: Head, now: float) -> str:
    """A word for the style sheet, because reasons are texts from files."""
    if head.training(now):
        return "training"
    return {"finished": "good", "stopped early": "good", "not finite": "bad"}.get(head.why, "other")


# One run


def run_page(catalog: Catalog, name: str, query: Mapping[str, Sequence[str]]) -> str:
    """The page of one run: its state, curves and last numbers, and what can be done with it."""
    head = catalog.head(name)
    now = time.time()
    logarithmic = "log" in query
    content = [element("h1", f"Run {name}")]
    if head.problem:
        content.append(element("p", head.problem, class_="problem"))
    else:
        content.append(live("state", *_state_of_run(head, now)))
        content.append(_actions(head, logarithmic))
    curves = catalog.curves(name)
    if curves.problem and curves.problem != head.problem:
        content.append(element("p", curves.problem, class_="problem"))
    content.append(live("curves", *_curves(curves, logarithmic), class_="charts"))
    note = "A long curve shows means, in a band from the lowest value to the highest."
    thinned = any(_is_long(at) for n, (at, _) in curves.columns.items() if not _is_measured(n))
    content.append(live("means", element("p", note, class_="note") if thinned else None))
    content.append(live("numbers", *_last_numbers(head)))
    if head.recipe:
        rows = [[key.replace("_", " "), value] for key, value in head.recipe.items()]
        content += [element("h2", "Recipe"), table(["key", "value"], rows, texts=2)]
    if not head.training(now):
        return frame(f"Run {name}", *content, wait=_LATER)
    share = head.steps / max(head.goal, head.steps, 1)
    return frame(f"{share:.0%} of run {name}", *content, wait=_SOON)


def _state_of_run(head: Head, now: float) -> Iterator[Markup]:
    state = element("span", capital(_state(head, now)), class_=f"state {_kind(head, now)}")
    if head.training(now):
        yield element("p", state, " ", *_progress(head), class_="lead")
    else:
        steps = f", {head.steps:,} of {max(head.goal, head.steps):,} steps"
        when = "" if head.planned else f", {ago(head.silent(now))}"
        yield element("p", state, f"{steps}{when}.", class_="lead")


def _actions(head: Head, logarithmic: bool) -> Markup:
    scale = [] if logarithmic else [("log", "1")]
    report = element("a", "Report", href=link("/report", ("run", head.name)))
    links = [
        *([] if head.planned else [report]),
        element(
            "a",
            "Linear scale" if logarithmic else "Logarithmic scale",
            href=link("/run", ("run", head.name), *scale),
        ),
    ]
    last = max(0, head.recorded - 1)
    form = element(
        "form",
        field("run", head.name),
        element("label", "Look into step ", for_="step"),
        element("input", id="step", name="step", type="number", min=0, max=last, value=last),
        element("button", "Show"),
        action="/step", method="get",
    )  # fmt: skip
    return element("div", *links, form if head.recorded else None, class_="actions")


def _curves(curves: Curves, logarithmic: bool) -> Iterator[Markup]:
    """The charts of one run, one for each number, with the parts of the data in one chart."""
    by_metric: dict[str, list[Series]] = {}
    if "cost" in curves.columns:
        by_metric["cost"] = [_smooth("each batch", *curves.columns["cost"], band=True)]
    for name, (steps, values) in curves.columns.items():
        part, _, metric = name.partition(" ")
        if _is_measured(name):
            by_metric.setdefault(metric, []).append(Series(part, steps, values))
    for name, (steps, values) in curves.columns.items():
        if name != "cost" and not _is_measured(name):
            by_metric[name] = [_smooth(words_for(name), steps, values, band=True)]
    for metric, series in itertools.islice(by_metric.items(), _MOST_CHARTS):
        words = words_for(metric)
        log = logarithmic or metric == "gradient_norm"
        yield line_chart(capital(words), series, y_label=words, log=log)


def _is_long(steps: FloatArray) -> bool:
    return len(steps) > _MOST_POINTS


def _smooth(name: str, steps: FloatArray, values: FloatArray, *, band: bool = False) -> Series:
    """A curve of the mean of each of some equal stretches of steps, if it has more points.

    Of batches and of fast steps that are training, a curve would be noise or would have gaps.

    Args:
        name: The name of the curve.
        steps: The steps (n,), in order.
        values: The values (n,).
        band: Whether to draw a band from the lowest to the highest value of each stretch.
    """
    if not _is_long(steps):
        return Series(name, steps, values)
    edges = np.linspace(steps[0], steps[-1], _STRETCHES, endpoint=False)
    starts = np.unique(np.searchsorted(steps, edges))
    counts = np.diff(np.append(starts, len(steps)))
    with np.errstate(invalid="ignore", over="ignore"):  # of a training that diverged
        means = np.add.reduceat(values, starts) / counts
    low, high = np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)
    means = np.clip(means, low, high)  # the mean of equal numbers may have other last bits
    middles = np.add.reduceat(steps, starts) / counts
    if not band:
        return Series(name, middles, means)
    length = round(float(steps[-1] - steps[0]) / _STRETCHES)
    return Series(f"{name}, mean of {length:,} steps", middles, means, low, high)


def _last_numbers(head: Head) -> Iterator[Markup]:
    if not head.values:
        return
    metrics: dict[str, dict[str, float]] = {}
    others = {}
    for name, value in itertools.islice(head.values.items(), _MOST_ROWS):
        part, _, metric = name.partition(" ")
        if _is_measured(name):
            metrics.setdefault(metric, {})[part] = value
        else:
            others[name] = value
    yield element("h2", "Last numbers")
    yield table(["", "last step"], [[words_for(k), number(v)] for k, v in others.items()])
    if metrics:
        parts = [part for part in _PARTS if any(part in values for values in metrics.values())]
        rows = [
            [words_for(metric), *(number(values.get(part, math.nan)) for part in parts)]
            for metric, values in metrics.items()
        ]
        yield table(["measured last", *parts], rows)


# Several runs


def compare_page(catalog: Catalog, names: Sequence[str]) -> str:
    """Several runs side by side: what differs, the last numbers, and curves over each other.

    Raises:
        BadInput: If there is no run, or too many.
    """
    names = list(dict.fromkeys(names))
    if not names or len(names) > _MOST_COMPARED:
        raise BadInput(
            f"{len(names)} runs are selected, expected from 1 to {_MOST_COMPARED}: go back to the "
            "list and select as many."
        )
    heads = [catalog.head(name) for name in names]
    now = time.time()
    varied = _varied(heads)
    title = f"{len(names)} runs side by side" if len(names) > 1 else f"Run {names[0]}"
    report = link("/report", *(("run", name) for name in names))
    metrics = _metrics_of(name for head in heads for name in head.values)
    curves = {head.name: catalog.curves(head.name) for head in heads}
    content = [
        element("h1", title),
        element("div", element("a", "Report", href=report), class_="actions"),
        live("differences", *_differences(heads, varied, metrics, now)),
        live("curves", *_side_by_side(curves), class_="charts"),
    ]
    busy = any(head.training(now) for head in heads)
    return frame(title, *content, wait=_SOON if busy else _LATER)


def _differences(
    heads: Sequence[Head], varied: Sequence[str], metrics: Sequence[str], now: float
) -> Iterator[Markup]:
    body = [_named_row("state", [head.problem or _state(head, now) for head in heads])]
    body += [_named_row(k.replace("_", " "), [h.recipe.get(k, "default") for h in heads])
             for k in varied]  # fmt: skip
    body.append(_named_row("steps", [f"{head.steps:,}" for head in heads]))
    body += [_named_row(words_for(name), [_number(head, name) for head in heads])
             for name in ("cost", *metrics[:_MOST_ROWS])]  # fmt: skip
    links = (element("a", head.name, href=run_link(head.name)) for head in heads)
    first = element("tr", element("td"), *(element("th", one, scope="col") for one in links))
    inner = element("table", element("thead", first), element("tbody", *body), class_="compared")
    yield scrolling(inner, "What differs")


def _named_row(name: str, cells: Iterable[object]) -> Markup:
    return element("tr", element("th", name, scope="row"), *(element("td", cell) for cell in cells))


def _side_by_side(curves: Mapping[str, Curves], *, few: bool = False) -> Iterator[Markup]:
    """One chart for each number, with a curve for each run."""
    metrics = _metrics_of(name for one in curves.values() for name in one.columns)
    for name in ("cost", *metrics[: 2 if few else _MOST_CHARTS]):
        series = [
            _smooth(run, *one.columns[name]) for run, one in curves.items() if name in one.columns
        ]
        words = words_for(name)
        yield line_chart(capital(words), series, y_label=words)


# One step


def step_page(run: Run, name: str, step: int) -> str:
    """The tensors of one step of a run, which is computed again."""
    record, tensors = look_into(run, step)
    info = record.info
    rows = []
    for tensor in tensors:
        summary = summary_of(tensor)
        part = tensor.part if tensor.shard is None else f"shard {tensor.shard}: {tensor.part}"
        size = " x ".join(map(str, summary.shape)) or "number"
        low, high = ("" if v is None else number(v) for v in (summary.low, summary.high))
        dead = "" if summary.dead is None else f"{summary.dead:.0%}"
        texts = [part, tensor.layer, tensor.stage, tensor.name, size]
        rows.append([*texts, low, high, number(summary.norm), dead])
    last = run.iterations - 1
    places = {"First": 0, "Previous": step - 1, "Next": step + 1, "Last": last}
    links = [
        element("a", words, href=link("/step", ("run", name), ("step", str(place))))
        for words, place in places.items()
        if 0 <= place <= last and place != step
    ]
    names = ["part", "layer", "stage", "tensor", "shape", "min", "max", "norm", "dead units"]
    title = f"Step {info.iteration:,} of {name}"
    return frame(
        title,
        element("h1", "Step ", f"{info.iteration:,}", " of ",
                element("a", name, href=run_link(name))),
        element("p", f"Cost {number(info.cost)}, gradient norm {number(info.gradient_norm)}. The "
                "step was computed again and has the recorded bits.", class_="lead"),
        element("nav", *links, class_="actions", aria_label="Steps"),
        table(names, rows, texts=5),
        element("details", element("summary", "Recipe"),
                element("pre", element("code", write_recipe(run.recipe)))),
    )  # fmt: skip


# What cannot be shown


def problem_page(message: str) -> str:
    """A page with one line that says what is wrong."""
    return frame(
        "Not shown",
        element("h1", "This cannot be shown"),
        element("p", message, class_="problem"),
    )
