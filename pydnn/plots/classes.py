"""Plots of how well classes are told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from pydnn.checks import BadInput, expect_shape
from pydnn.plots.figures import PLAIN, SHARES, axes_of, shown, style_of, without_tex
from pydnn.probability_curves import calibration_curve, roc_curve
from pydnn.records import FloatArray, readonly

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_calibration", "plot_confusion", "plot_decisions", "plot_roc"]

_MOST_NUMBERS = 15  # classes for which each cell shows its number
_LINE = 45  # letters of all names of classes that fit below each other's columns
_PLACES = 200  # of a decision boundary, along each axis
_MARKERS = "osD^v<>"


@without_tex()
def plot_confusion(
    counts: ArrayLike, names: Sequence[str] | None = None, *, title: str = "Confusion"
) -> Figure:
    """Plot a confusion matrix: how many examples of a class (row) are predicted as each (column).

    Args:
        counts: The counts (K, K), e.g. from `nn.metrics.confusion_matrix`.
        names: The names of the K classes; by default their numbers.
        title: The title of the plot.

    Returns:
        A matplotlib figure, in which the color of a cell is its share of the row.

    Raises:
        BadInput: If the shape of the counts does not fit the names.
        MissingExtra: If matplotlib is not installed.

    Example:
        >>> figure = plot_confusion([[8, 2], [1, 9]], ["dog", "cat"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['8', '2', '1', '9']
    """
    table = np.asarray(counts)
    K = len(table) if names is None else len(names)
    expect_shape("counts", table, (K, K), hint="give one row and one column per class")
    labels = [shown(name, 30) for name in (names or map(str, range(K)))]
    side = min(4.0 + 0.35 * K, 12.0)
    figure, axes = axes_of(title, x_label="predicted as", y_label="class", size=(side, side))
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.grid(visible=False)
    axes.imshow(shares, cmap=SHARES, vmin=0, vmax=1)
    long = K * max(map(len, labels), default=0) > _LINE
    axes.set_xticks(range(K), labels, rotation=90 if long else 0)
    axes.set_yticks(range(K), labels)
    if K <= _MOST_NUMBERS:
        for (i, j), count in np.ndenumerate(table):
            color = "white" if shares[i, j] > 0.6 else "black"
            axes.text(j, i, f"{count:,}", ha="center", va="center", color=color)
    return figure


@without_tex()
def plot_roc(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]], *, title: str = "ROC curve"
) -> Figure:
    """Plot ROC curves: the true positive rate against the false positive rate.

    Args:
        curves: By name, the scores (m,) and whether each example is positive (m,).
        title: The title of the plot.

    Returns:
        A matplotlib figure.

    Raises:
        BadInput: If a curve is refused by `roc_curve`, or there is none.
        MissingExtra: If matplotlib is not installed.

    Example:
        >>> figure = plot_roc({"cats": ([0.1, 0.6, 0.4, 0.9], [False, False, True, True])})
        >>> figure.axes[0].lines[1].get_label()
        'cats, area 0.750'
    """
    if not curves:
        raise BadInput("there are no curves, expected one or more: give scores and labels.")
    figure, axes = axes_of(
        title,
        x_label="false positive rate",
        y_label="true positive rate",
        size=(4.6, 4.6),
    )
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8, linestyle=(0, (1, 2)))
    for number, (name, (scores, positive)) in enumerate(curves.items()):
        false, true = roc_curve(scores, positive)
        area = float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))
        label = f"{shown(name, 40)}, area {area:.3f}"
        axes.plot(false, true, linewidth=1.4, label=label, **style_of(number))
    axes.set_aspect("equal")
    axes.legend(frameon=False, fontsize="small", loc="lower right")
    return figure


@without_tex()
def plot_calibration(
    probabilities: ArrayLike, right: ArrayLike, *, bins: int = 10, title: str = "Calibration"
) -> Figure:
    """Plot how often predictions are right against the probability that they gave.

    Args:
        probabilities: The probability of each prediction (m,).
        right: Whether each prediction is right (m,).
        bins: The number of equal intervals of probabilities.
        title: The title of the plot.

    Returns:
        A matplotlib figure, with the number of predictions in each interval at its point.

    Raises:
        BadInput: If `calibration_curve` refuses the numbers.
        MissingExtra: If matplotlib is not installed.

    Example:
        >>> figure = plot_calibration([0.2, 0.9, 0.95], [False, True, False], bins=2)
        >>> figure.axes[0].lines[1].get_xydata().round(3).tolist()
        [[0.2, 0.0], [0.925, 0.5]]
    """
    means, shares, counts = calibration_curve(probabilities, right, bins=bins)
    figure, axes = axes_of(
        title, x_label="predicted probability", y_label="share that is right", size=(4.6, 4.6)
    )
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8, linestyle=(0, (1, 2)))
    axes.plot(means, shares, color=PLAIN, marker="o", markersize=4, linewidth=1.2)
    for mean, share, count in zip(means, shares, counts, strict=True):
        axes.annotate(
            f"{count:,}", (mean, share), (5, -3), textcoords="offset points", va="top", fontsize=7
        )
    axes.set_aspect("equal")
    axes.set_xlim(0, 1.05)
    axes.set_ylim(-0.05, 1.05)
    return figure


@without_tex()
def plot_decisions(
    predict: Callable[[FloatArray], ArrayLike],
    X: ArrayLike,
    Y: ArrayLike,
    *,
    title: str = "Decisions",
    names: Sequence[str] | None = None,
) -> Figure:
    """Plot which class a model predicts at each place of a plane, and the examples on it.

    Args:
        predict: The model: `(X) -> probabilities`, from examples (2, m) to (1, m) for two classes
            or (K, m) for K, e.g. `model.predict`.
        X: The examples (2, m).
        Y: Their class numbers (1, m).
        title: The title of the plot.
        names: The names of the classes; by default their numbers.

    Returns:
        A matplotlib figure.

    Raises:
        BadInput: If X does not have two features, or Y not one label per example.
        MissingExtra: If matplotlib is not installed.

    Example:
        >>> X, Y = [[-1.0, 1.0], [0.0, 0.5]], [[0, 1]]
        >>> figure = plot_decisions(lambda X: (X[:1] > 0) * 1.0, X, Y)
        >>> len(figure.axes[0].collections) >= 3  # the areas, and the examples of two classes
        True
    """
    X, Y = readonly(X), readonly(Y)
    expect_shape("X", X, (2, "m"), hint="give examples with two features")
    expect_shape("Y", Y, (1, X.shape[1]), hint="give one class number per example")
    figure, axes = axes_of(title, x_label="feature 0", y_label="feature 1", size=(5.0, 4.6))
    low, high = X.min(axis=1), X.max(axis=1)
    margin = np.where(high > low, 0.08 * (high - low), 1.0)
    ends = zip(low - margin, high + margin, strict=True)
    across, up = (np.linspace(start, stop, _PLACES) for start, stop in ends)
    plane = np.stack([axis.ravel() for axis in np.meshgrid(across, up)])
    P = np.asarray(predict(plane), np.float64)
    if len(P) == 1:
        P = np.concatenate([1 - P, P])
    K = len(P)
    colors = [str(style_of(k)["color"]) for k in range(K)]
    axes.grid(visible=False)
    for k in range(K):
        # How far a class is above all others: the boundary is where this is 0.
        lead = (P[k] - np.delete(P, k, axis=0).max(axis=0)).reshape(_PLACES, _PLACES)
        if lead.max() > 0:
            axes.contourf(across, up, lead, levels=[0, np.inf], colors=[colors[k]], alpha=0.2)
        if lead.min() < 0 < lead.max():
            axes.contour(across, up, lead, levels=[0], colors="black", linewidths=0.7)
    for k in range(K):
        own = Y[0] == k
        label = shown(names[k], 30) if names else str(k)
        marker = _MARKERS[k % len(_MARKERS)]
        axes.scatter(X[0, own], X[1, own], s=14, c=colors[k], marker=marker, label=label)
    axes.legend(edgecolor="none", fontsize="small")  # on a ground, since examples may lie below it
    return figure
