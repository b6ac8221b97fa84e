"""Draw the results of the suite as a bar chart."""

import math

from matplotlib.figure import Figure

OURS, THEIRS, BOUND = "#c44e52", "#8ea9c9", "#bbbbbb"
TITLES = {  # of works whose names do not say enough
    "P1": "P1: the tutorial's job, full batch",
    "P2": "P2: 784-512-256-10, Adam",
    "P3": "P3: 2-16-16-1, gradient descent",
    "P4": "P4: 4096-4096-4096-10, momentum",
    "P5": "P5: cats by convolution, float64",
    "P5f32": "P5: cats by convolution, float32",
    "P6": "P6: LSTM 64-128-128-32, momentum",
    "sweep, 2-16-16-1, gradient descent": "sweep of 32, 2-16-16-1, gradient descent",
    "sweep, 2-16-16-1, Adam": "sweep of 32, 2-16-16-1, Adam",
    "sweep, digits, 64-16-10, Adam": "sweep of 32, digits, 64-16-10, Adam",
    "whole process": "start to trained model, P1's job",
    "import": "import",
    "memory, P1": "peak memory, P1's job",
    "memory, P4": "peak memory, P4",
}
MOST_LINEAR = 20  # with a larger ratio, the shortest bar would be invisible
SCALES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def save_bars(path, rows, *, note):
    """Draw one panel per work, with one bar per row, and save the picture to `path`."""
    works = list(dict.fromkeys(row.work for row in rows))
    lines = -(-len(works) // 2)
    columns = min(2, len(works))
    figure = Figure(figsize=(5.6 * columns, 2.3 * lines + 0.8), dpi=130, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, work in zip(panels, works, strict=False):
        _panel(panel, TITLES.get(work, work), [row for row in rows if row.work == work])
    for panel in panels[len(works) :]:
        panel.set_axis_off()
    figure.suptitle("pydnn and its peers: medians, lower is better")
    figure.supxlabel(note, fontsize=7, color="#555555")
    figure.savefig(path)


def _panel(axes, title, rows):
    least, most = (pick(row.median for row in rows) for pick in (min, max))
    factor, unit = (1e6, "MB") if rows[0].unit == "B" else _scale(least)
    medians = [row.median / factor for row in rows]
    bars = axes.barh([row.peer for row in rows], medians, color=[_color(row) for row in rows])
    axes.bar_label(bars, [_shown(value) for value in medians], padding=3, fontsize=8)
    axes.invert_yaxis()
    logarithmic = most > MOST_LINEAR * least
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(10 ** math.floor(math.log10(least / factor / 2)), most / factor * 3)
    else:
        axes.set_xlim(0, most / factor * 1.15)
    per_step = " a step" if title.startswith("P") else ""
    axes.set_xlabel(f"{unit}{per_step}{', logarithmic' if logarithmic else ''}", fontsize=8)
    axes.set_title(title, fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _shown(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _scale(seconds):
    return next((scale for scale in SCALES if seconds >= scale[0]), SCALES[-1])


def _color(row):
    if row.peer.startswith("pydnn"):
        return OURS
    bound = row.peer.startswith(("(", "allowed", "dependencies", "products"))
    return BOUND if bound else THEIRS
