"""Charts as SVG, written by hand: small, the same bytes for the same numbers, and without scripts.

Colors, dashes and fonts come from the style sheet of the page, so charts follow its light and dark
form. Each series has a dash of its own as well as a color, for gray paper and for color-blind
readers. A table below each chart holds numbers to read and to listen to.
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Collection, Iterator, Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pydnn.records import AnyArray, FloatArray, freeze, keep_readonly
from pydnn.reports.markup import Markup, element, joined
from pydnn.reports.words import short
from pydnn.training.finite import ignoring_overflow

__all__ = [
    "STYLES",
    "Series",
    "aligned",
    "bar_chart",
    "group_chart",
    "histogram",
    "line_chart",
    "mean_series",
    "number",
    "scrolling",
    "small_chart",
    "table",
    "ticks",
]

STYLES = 8  # of series in the style sheet, after which they repeat
_WIDTH, _HEIGHT = 480, 250  # of a chart, in units of its view box
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 10, 42  # around the axes
_ABOVE = 14  # for the name of the vertical axis, which is easier to read there than turned around
_COLUMNS = 320  # of a curve: of all points in a column, the least and the greatest are drawn
_SMALL_WIDTH, _SMALL_HEIGHT = 320, 60  # pixels of a curve in a notebook
_MOST_DOTS = 600
_NEAR_ZERO = 0.5  # of the largest number: an axis whose numbers are all above that leaves out 0
_DECADE = 10.0  # of numbers closer to each other than this, a linear axis shows more
_LEAST_SPAN = 1e-300  # of an axis with ticks
_LETTER = 7  # units of the view box that a letter takes
_MOST_MARKS = 14  # below an axis of many groups
_DOTS_OF_A_GROUP = 60
_GOLDEN = (5**0.5 - 1) / 2
_GREATEST = float(np.finfo(np.float64).max)
_EQUAL = 1e-9  # numbers that are closer than this in proportion would have equal ticks
_LISTED = 9  # points of a series in the table below a chart


def _floats(values: ArrayLike) -> FloatArray:
    return freeze(np.array(values, np.float64))


def _maybe_floats(values: ArrayLike | None) -> FloatArray | None:
    return None if values is None else _floats(values)


@keep_readonly
@attrs.frozen(eq=False)
class Series:
    """A curve: its name, and the numbers y at the places x, in order.

    Attributes:
        name: The name in the legend; a long one loses its middle.
        x: The places (n,).
        y: The numbers (n,); those that are infinite or NaN leave a gap.
        low: The lower edge of a band around the curve (n,); None for no band.
        high: The upper edge.
    """

    name: str = attrs.field(converter=short)
    x: FloatArray = attrs.field(converter=_floats)
    y: FloatArray = attrs.field(converter=_floats)
    low: FloatArray | None = attrs.field(default=None, converter=_maybe_floats)
    high: FloatArray | None = attrs.field(default=None, converter=_maybe_floats)


def number(value: float, digits: int = 4) -> str:
    """A number as people read it: with a few significant digits, and "-" for a missing one.

    Example:
        >>> number(0.0123456), number(1234567.0), number(3.0), number(float("nan"))
        ('0.01235', '1,234,567', '3', '-')
    """
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    size = abs(value)
    if value == int(value) and size < 1e9:
        return f"{int(value):,}"
    if size >= 1e6 or size < 1e-4:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - math.floor(math.log10(size)))
    return f"{value:,.{places}f}"


def aligned(values: Sequence[float], digits: int = 4) -> list[str]:
    """Numbers with equally many decimals, so that their points stand below each other.

    There are as many as the largest number needs for `digits` digits. Counts, numbers that need
    exponents, and numbers that would lose all their digits are written as `number` writes them.

    Example:
        >>> aligned([0.14841, 0.034629, 1.0, float("nan")]), aligned([250.0, 1200.0])
        (['0.1484', '0.0346', '1.0000', '-'], ['250', '1,200'])
    """
    finite = [abs(value) for value in values if math.isfinite(value)]
    largest = max(finite, default=0.0)
    smallest = min(filter(None, finite), default=largest)
    counts = largest > 1 and all(value == int(value) for value in finite)  # no shares, 0 to 1
    if counts or not 1e-4 <= largest < 1e6 or smallest < largest * 10.0 ** (1 - digits):
        return [number(value, digits) for value in values]
    places = max(0, digits - math.ceil(math.log10(largest)))
    return [f"{value:,.{places}f}" if math.isfinite(value) else number(value) for value in values]


def ticks(low: float, high: float, most: int = 6, *, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` of them.

    Args:
        low: The least number.
        high: The greatest number.
        most: How many there may be.
        whole: Whether they are whole numbers, such as those of steps.

    Example:
        >>> ticks(0.0, 0.7), ticks(0, 2499)
        ([0.0, 0.2, 0.4, 0.6], [0.0, 500.0, 1000.0, 1500.0, 2000.0])
    """
    span = high - low
    if not _LEAST_SPAN < span < math.inf:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    steps = [f * power for f in (1, 2, 2.5, 5, 10, 20, 50, 100)]
    step = next(s for s in steps if span / s <= most - 1 + 1e-9 and (s == round(s) or not whole))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


@attrs.frozen
class _Axis:
    """A map of numbers to places in the view box, from `low` at `start` to `high` at `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False

    def __call__(self, values: ArrayLike) -> FloatArray:
        low, high = self._scaled(self.low), self._scaled(self.high)
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = self._scaled(np.asarray(values, np.float64))
        # In halves, because the difference of two numbers near the greatest overflows.
        span = high / 2 - low / 2
        share = (scaled / 2 - low / 2) / span if span > 0 else scaled * 0 + 0.5
        places: FloatArray = self.start + share * (self.end - self.start)
        return places

    def _scaled(self, values: ArrayLike) -> FloatArray:
        scaled: FloatArray = np.log10(values) if self.log else np.asarray(values, np.float64)
        return scaled

    @property
    def ticks(self) -> list[float]:
        if not self.log:
            return ticks(self.low, self.high, whole=self.whole)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        few = last - first <= 3  # powers of ten, between which there is room for more
        steps = range(first, last + 1, max(1, (last - first) // 5))
        values = [f * 10.0**power for power in steps for f in ((1, 2, 5) if few else (1,))]
        return [value for value in values if self.low <= value <= self.high]


def _axis(
    values: FloatArray,
    start: float,
    end: float,
    *,
    log: bool = False,
    zero: bool,
    round_: bool,
    whole: bool = False,
) -> _Axis:
    """The axis of some numbers.

    Args:
        values: All numbers on it.
        start: Its first place in the view box.
        end: Its last place.
        log: Whether it is logarithmic, if the numbers are far from each other.
        zero: Whether it begins at 0, unless all numbers are far above.
        round_: Whether it ends at ticks.
        whole: Whether its ticks are whole numbers.
    """
    finite = values[np.isfinite(values) & ((values > 0) if log else True)]
    if not finite.size:
        return _Axis(0.0, 1.0, start, end)
    low, high = float(finite.min()), float(finite.max())
    if log and high > _DECADE * low:
        return _Axis(low, high, start, end, log=True)
    if zero and low >= 0 and (low == high or low <= _NEAR_ZERO * high):
        low = 0.0
    if low == high == 0 and zero:
        high = 1.0
    elif high - low <= _EQUAL * max(abs(low), abs(high)):
        half = max(0.5, abs(low) * 1e-3)
        low, high = max(low - half, -_GREATEST), min(high + half, _GREATEST)
    round_ = round_ and _LEAST_SPAN < high - low < _GREATEST / 10
    for _ in range(2 if round_ else 0):  # the ends that are rounded may ask for longer steps
        marks = ticks(low, high)
        step = marks[1] - marks[0] if len(marks) > 1 else high - low
        low = max(step * math.floor(low / step + 1e-9), -_GREATEST)
        high = min(step * math.ceil(high / step - 1e-9), _GREATEST)
    return _Axis(low, high, start, end, whole=whole)


def _falls_far(values: FloatArray) -> bool:
    finite = values[np.isfinite(values)]
    return bool(finite.size and (finite > 0).all() and np.median(finite) < finite.max() / 100)


def mean_series(name: str, curves: Sequence[tuple[AnyArray, FloatArray]]) -> Series:
    """The mean of curves at the steps that all of them have, with a band over all of them.

    Args:
        name: The name of the series.
        curves: The steps and the values of each curve, one or more.
    """
    if len(curves) == 1:
        [(at, values)] = curves
        return Series(name, at, values)
    steps = curves[0][0]
    for others, _ in curves[1:]:
        steps = np.intersect1d(steps, others)
    rows = np.stack([values[np.searchsorted(at, steps)] for at, values in curves])
    with ignoring_overflow():  # before a training diverged
        return Series(name, steps, rows.mean(axis=0), rows.min(axis=0), rows.max(axis=0))


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str = "iteration",
    y_label: str = "",
    log: bool | None = False,
    diagonal: bool = False,
    dots: bool = False,
) -> Markup:
    """Curves over each other, with a legend and a table of some of their numbers.

    Args:
        title: What the chart shows.
        series: The curves; those without a finite number are left out.
        x_label: The name and unit of the horizontal axis.
        y_label: The name and unit of the vertical axis.
        log: Whether the vertical axis is logarithmic; numbers of 0 and below leave a gap then.
            None for one if all numbers are above 0 and most of them are below a hundredth of the
            greatest, so that a linear axis would show them as 0.
        diagonal: Whether to draw the line where x and y are equal.
        dots: Whether to draw the points, without lines between them.

    Example:
        >>> chart = line_chart("Cost", [Series("train", [0, 1, 2], [0.7, 0.5, 0.4])])
        >>> chart[:31], chart.count('class="line')
        ('<figure class="chart"><figcapti', 1)
    """
    drawn = [one for one in series if np.isfinite(one.y).any()]
    if not drawn:
        return _nothing(title)
    all_x = np.concatenate([one.x for one in drawn])
    bands = [edge for one in drawn for edge in (one.low, one.high) if edge is not None]
    all_y = np.concatenate([*(one.y for one in drawn), *bands])
    if diagonal:
        all_x = all_y = np.concatenate([all_x, all_y])
    log = _falls_far(all_y) if log is None else log
    whole = bool((all_x == np.rint(all_x)).all())
    x = _axis(all_x, _LEFT, _WIDTH - _RIGHT, zero=not dots, round_=diagonal, whole=whole)
    y = _axis(all_y, _HEIGHT - _BOTTOM, _TOP, log=log, zero=not dots, round_=True)
    y_label = "" if title.lower().startswith(y_label.lower()) else y_label
    parts: list[Markup] = [*_grid(x, y, x_label, y_label)]
    if diagonal:
        ends = np.array([x.low, x.high])
        parts.append(element("path", d=_path(x(ends), y(ends)), class_="reference"))
    for i, one in enumerate(drawn):
        parts += _curve(one, x, y, i % STYLES, dots)
    facts = joined((_facts(one, x_label) for one in drawn), "; ")
    names, listed = [one.name for one in drawn], _listed(drawn, x_label)
    return _figure(title, parts, names, facts, listed, above=_ABOVE if y_label else 0)


def _curve(one: Series, x: _Axis, y: _Axis, style: int, dots: bool) -> Iterator[Markup]:
    if one.low is not None and one.high is not None:
        places, low = _thinned(x(one.x), y(one.low))
        back, high = _thinned(x(one.x)[::-1], y(one.high)[::-1])
        known = np.isfinite(low), np.isfinite(high)
        outline = np.append(places[known[0]], back[known[1]])
        edges = np.append(low[known[0]], high[known[1]])
        if outline.size:
            yield element("path", d=Markup(_path(outline, edges) + "Z"), class_=f"band s{style}")
    if dots or len(one.x) == 1:
        chosen = np.unique(np.linspace(0, len(one.x) - 1, min(len(one.x), _MOST_DOTS)).astype(int))
        for across, up in zip(x(one.x[chosen]), y(one.y[chosen]), strict=True):
            if math.isfinite(up):
                yield element("circle", cx=_unit(across), cy=_unit(up), r="2", class_=f"s{style}")
        return
    yield element(
        "path",
        element("title", one.name),
        d=_path(*_thinned(x(one.x), y(one.y))),
        class_=f"line s{style}",
    )


def _thinned(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The points of a curve, or of each column of the chart those that are lowest and highest."""
    n = len(x)
    if n <= 4 * _COLUMNS:
        return x, y
    edges = np.linspace(0, n, _COLUMNS + 1).astype(np.int64)
    low, high = np.where(np.isfinite(y), y, np.inf), np.where(np.isfinite(y), y, -np.inf)
    kept = []
    for start, stop in itertools.pairwise(edges.tolist()):
        kept += sorted(
            {start + int(low[start:stop].argmin()), start + int(high[start:stop].argmax())}
        )
    kept = [0, *(k for k in kept if 0 < k < n - 1), n - 1]
    return x[kept], y[kept]


def _path(x: FloatArray, y: FloatArray) -> Markup:
    words, pen = [], "M"
    for across, up in zip(x.tolist(), y.tolist(), strict=True):
        if not math.isfinite(up) or not math.isfinite(across):
            pen = "M"
            continue
        words.append(f"{pen}{_unit(across)} {_unit(up)}")
        pen = "L"
    return Markup("".join(words))


def _unit(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _grid(x: _Axis | None, y: _Axis, x_label: str, y_label: str) -> Iterator[Markup]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for value in y.ticks:
        up = _unit(float(y(value)))
        yield element("path", d=f"M{_LEFT} {up}H{right}", class_="grid")
        yield element("text", _tick(value), x=_LEFT - 6, y=up, dy="0.32em", class_="end")
    if x is not None:
        for value in x.ticks:
            yield from _mark(_tick(value), float(x(value)))
    yield element("path", d=f"M{_LEFT} {bottom}H{right}", class_="axis")
    yield element("text", x_label, x=right, y=_HEIGHT - 6, class_="end label")
    if y_label:
        yield element("text", y_label, x=0, y=-3, class_="label")


def _mark(text: str, place: float) -> Iterator[Markup]:
    """A text below the horizontal axis."""
    across, bottom = _unit(place), _HEIGHT - _BOTTOM
    yield element("path", d=f"M{across} {bottom}v4", class_="tick")
    yield element("text", text, x=across, y=bottom + 17, class_="middle")


def _tick(value: float) -> str:
    """A round number without zeros at its end."""
    return f"{value:,.10g}" if 1e-4 <= abs(value) < 1e9 or not value else f"{value:.3g}"


def _facts(one: Series, x_label: str) -> str:
    """The ends and the extremes of a curve in words, for people who do not see it."""
    known = np.flatnonzero(np.isfinite(one.y))
    first, last = known[0], known[-1]
    least, greatest = known[one.y[known].argmin()], known[one.y[known].argmax()]
    return (
        f"{one.name}: {number(one.y[first])} at {x_label} {number(one.x[first])}, "
        f"{number(one.y[last])} at {number(one.x[last])}; lowest {number(one.y[least])} at "
        f"{number(one.x[least])}, highest {number(one.y[greatest])} at {number(one.x[greatest])}"
    )


def _listed(drawn: Sequence[Series], x_label: str) -> Markup:
    """A table of a few points of each curve, at places that most curves have, and the ends."""
    places, counts = np.unique(np.concatenate([one.x for one in drawn]), return_counts=True)
    shared = places[counts == counts.max()]
    chosen = np.unique(np.linspace(0, len(shared) - 1, _LISTED).astype(int))
    rows = []
    for place in sorted({*shared[chosen].tolist(), *places[[0, -1]].tolist()}):
        row = [number(place)]
        for one in drawn:
            found = np.flatnonzero(one.x == place)
            row.append(number(float(one.y[found[0]])) if found.size else "")
        rows.append(row)
    return table([x_label, *(one.name for one in drawn)], rows)


def _figure(
    title: str,
    parts: Sequence[Markup],
    names: Sequence[str],
    facts: str,
    listed: Markup,
    legend: Markup | None = None,
    *,
    above: int = _ABOVE,
) -> Markup:
    drawing = element(
        "svg",
        *parts,
        viewBox=f"0 {-above} {_WIDTH} {_HEIGHT + above}",
        role="img",
        aria_label=f"{title}. {facts}",
    )
    if len(names) > 1:
        keys = (
            element("li", _key(i % STYLES), element("span", name)) for i, name in enumerate(names)
        )
        legend = element("ul", *keys, class_="legend")
    numbers = element("details", element("summary", "Numbers"), listed)
    return element("figure", element("figcaption", title), drawing, legend, numbers, class_="chart")


def small_chart(title: str, series: Sequence[Series]) -> Markup:
    """Curves without axes, for a page that lacks the style sheet, such as a notebook.

    They have the color of the text around them, and each a dash of its own.

    Args:
        title: What the curves show, for people who do not see them.
        series: The curves; those without a finite number are left out.

    Example:
        >>> small_chart("Cost", [Series("train", [0, 1], [0.7, 0.5])]).count("<path")
        1
    """
    drawn = [one for one in series if np.isfinite(one.y).any()]
    if not drawn:
        return Markup("")
    x = _axis(
        np.concatenate([one.x for one in drawn]), 2, _SMALL_WIDTH - 2, zero=False, round_=False
    )
    y = _axis(
        np.concatenate([one.y for one in drawn]), _SMALL_HEIGHT - 2, 2, zero=True, round_=False
    )
    paths = (
        element(
            "path",
            d=_path(*_thinned(x(one.x), y(one.y))),
            fill="none",
            stroke="currentColor",
            stroke_width=1.2,
            stroke_linecap="round",  # so that a single number is a dot
            stroke_dasharray=f"{2 * number + 1} 2" if number else None,
        )
        for number, one in enumerate(drawn)
    )
    facts = joined((_facts(one, "iteration") for one in drawn), "; ")
    return element(
        "svg",
        *paths,
        viewBox=f"0 0 {_SMALL_WIDTH} {_SMALL_HEIGHT}",
        width=_SMALL_WIDTH,
        height=_SMALL_HEIGHT,
        role="img",
        aria_label=f"{title}. {facts}",
    )


def _key(style: int) -> Markup:
    line = element("path", d="M0 5H22", class_=f"line s{style}")
    return element("svg", line, viewBox="0 0 22 10", class_="key", aria_hidden="true")


def _nothing(title: str) -> Markup:
    none = element("p", "There are no finite numbers to draw.", class_="note")
    return element("figure", element("figcaption", title), none, class_="chart")


def group_chart(
    title: str,
    groups: Mapping[str, Sequence[float]],
    *,
    x_label: str = "",
    y_label: str = "",
) -> Markup:
    """Numbers of several groups side by side: a dot for each, and a line through their medians.

    If the names of the groups are too long to stand below them, letters stand for them.

    Args:
        title: What the chart shows.
        groups: The numbers of each group, by its name, in order.
        x_label: What the groups are.
        y_label: The name and unit of the numbers.

    Example:
        >>> chart = group_chart("Cost", {"0.1": [0.5, 0.7], "0.3": [0.4]}, x_label="rate")
        >>> chart.count("<circle"), chart.count('class="line')
        (3, 1)
    """
    finite = {name: [v for v in values if math.isfinite(v)] for name, values in groups.items()}
    numbers = _floats([value for values in finite.values() for value in values])
    if not numbers.size:
        return _nothing(title)
    log = _falls_far(numbers)
    y = _axis(numbers, _HEIGHT - _BOTTOM, _TOP, log=log, zero=False, round_=True)
    wide = (_WIDTH - _RIGHT - _LEFT) / len(groups)
    middles = [_LEFT + wide * (i + 0.5) for i in range(len(groups))]
    fits = max(map(len, groups)) * _LETTER < wide
    marks = list(groups) if fits else list(itertools.islice(_letters(), len(groups)))
    every = -(-len(groups) // _MOST_MARKS)
    medians = [float(np.median(values)) if values else math.nan for values in finite.values()]
    parts = [*_grid(None, y, x_label, y_label)]
    for mark, middle in list(zip(marks, middles, strict=True))[::every]:
        parts += _mark(mark, middle)
    parts.append(element("path", d=_path(_floats(middles), y(medians)), class_="line s0"))
    for values, middle in zip(finite.values(), middles, strict=True):
        parts += _dots_beside(values, y, middle, wide)
    keys = [element("li", f"{mark} = {name}") for mark, name in zip(marks, groups, strict=True)]
    facts = [f"{n}: median {number(m)}" for n, m in zip(groups, medians, strict=True)]
    rows = [
        [name, str(len(groups[name])), *aligned([median, min(values), max(values)])]
        for median, (name, values) in zip(medians, finite.items(), strict=True)
        if values
    ]
    listed = table([x_label or "group", "count", "median", "lowest", "highest"], rows)
    legend = None if fits else element("ul", *keys, class_="legend")
    return _figure(title, parts, [], "; ".join(facts), listed, legend)


def _dots_beside(values: Sequence[float], y: _Axis, middle: float, wide: float) -> Iterator[Markup]:
    """The dots of a group, beside each other, because equal numbers would hide each other."""
    some = values[:: -(-len(values) // _DOTS_OF_A_GROUP) or 1]
    room = min(wide / 2, 40) if len(some) > 1 else 0.0
    for i, up in enumerate(y(some).tolist()):
        if math.isfinite(up):
            # The golden ratio scatters them evenly, so that their order is not taken for a slope.
            across = _unit(middle + room * ((i * _GOLDEN + 0.5) % 1 - 0.5))
            yield element("circle", cx=across, cy=_unit(up), r="2.5", class_="s1")


def _letters() -> Iterator[str]:
    """Names of groups: A, B, …, Z, AA, AB and so on."""
    for count in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_uppercase, repeat=count))


def histogram(arrays: Sequence[ArrayLike], bins: int) -> tuple[list[NDArray[np.int64]], FloatArray]:
    """The counts of numbers in intervals of equal width, which several arrays have in common.

    Unlike that of NumPy, it leaves out what is not finite, and takes numbers of any size and range.

    Args:
        arrays: The numbers, of any shapes.
        bins: The number of intervals.

    Returns:
        The counts of each array (bins,), and the edges of the intervals (bins + 1,).

    Example:
        >>> [counts], edges = histogram([[-1e308, np.inf, 1e308]], 2)
        >>> counts.tolist(), edges.tolist()
        ([1, 1], [-1e+308, 0.0, 1e+308])
    """
    flat = [np.asarray(array, np.float64).ravel() for array in arrays]
    finite = [array[np.isfinite(array)] for array in flat]
    scale = max((float(np.abs(array).max(initial=0.0)) for array in finite), default=0.0) or 1.0
    scaled = [array / scale for array in finite]  # from -1 to 1, so that no span overflows
    low = min((float(array.min()) for array in scaled if array.size), default=0.0)
    high = max((float(array.max()) for array in scaled if array.size), default=0.0)
    if not high - low > 1e-12:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    counts = [np.histogram(array, bins=edges)[0] for array in scaled]
    with np.errstate(over="ignore"):
        return counts, np.clip(edges * scale, -_GREATEST, _GREATEST)


def bar_chart(
    title: str, counts: ArrayLike, edges: ArrayLike, *, x_label: str = "", y_label: str = "count"
) -> Markup:
    """A histogram: counts (k,) between the edges (k + 1,).

    Example:
        >>> bar_chart("Weights", [3, 1], [-1.0, 0.0, 1.0]).count("<rect")
        2
    """
    heights, places = _floats(counts), _floats(edges)
    if not heights.size or not np.isfinite(places).all():
        return _nothing(title)
    x = _axis(places, _LEFT, _WIDTH - _RIGHT, zero=False, round_=False)
    y = _axis(heights, _HEIGHT - _BOTTOM, _TOP, zero=True, round_=True)
    parts = [*_grid(x, y, x_label, y_label)]
    bottom = float(y(y.low))
    for left, right, height in zip(x(places[:-1]), x(places[1:]), heights, strict=True):
        top = float(y(height))
        if height > 0:
            parts.append(
                element(
                    "rect",
                    x=_unit(left),
                    y=_unit(top),
                    width=_unit(max(0.5, right - left - 1)),
                    height=_unit(bottom - top),
                    class_="s0",
                )
            )
    facts = f"{number(float(heights.sum()))} numbers from {number(x.low)} to {number(x.high)}"
    rows = [
        [f"{number(a)} to {number(b)}", number(n)]
        for a, b, n in zip(places[:-1], places[1:], heights, strict=True)
    ]
    return _figure(title, parts, [], facts, table([x_label or "from, to", y_label], rows))


def table(
    head: Sequence[object],
    rows: Sequence[Sequence[object]],
    *,
    caption: str | None = None,
    texts: int | Collection[int] = 1,
) -> Markup:
    """A table of texts, and of numbers, which stand to the right.

    Args:
        head: The names of the columns.
        rows: The cells.
        caption: The title of the table.
        texts: How many columns hold texts, from the left; or which ones.

    Example:
        >>> table(["part", "accuracy"], [["test", "0.86"]]).count('class="number"')
        2
    """
    left = range(texts) if isinstance(texts, int) else texts

    def cells(tag: str, row: Sequence[object], **attributes: object) -> Iterator[Markup]:
        for i, cell in enumerate(row):
            yield element(tag, cell, class_=None if i in left else "number", **attributes)

    body = [element("tr", *cells("td", row)) for row in rows]
    inner = element(
        "table",
        element("thead", element("tr", *cells("th", head, scope="col"))),
        element("tbody", *body),
    )
    # A region that can be scrolled must be reachable with the keyboard, and then it needs a name.
    name = caption or " and ".join(short(cell) for cell in head[:2] if str(cell))
    return scrolling(inner, name, caption)


def scrolling(inner: Markup, name: str, caption: str | None = None) -> Markup:
    """A wide table that scrolls alone, with its title above it, where the title has more room."""
    region = element("div", inner, class_="wide", tabindex="0", role="region", aria_label=name)
    return region if caption is None else joined([element("p", caption, class_="title"), region])
