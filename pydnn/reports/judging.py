"""How good a model's predictions are, as charts and tables: for classes and for numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import attrs
import numpy as np

from pydnn.data import DataSet
from pydnn.data.tables import NUMBER, Table, TableBatch
from pydnn.data.texts import Vocabulary
from pydnn.jobs.model import Model
from pydnn.jobs.scores import names_of, predicted
from pydnn.metrics import classes_of, confusion_matrix, most_likely
from pydnn.probability_curves import calibration_curve, roc_curve
from pydnn.records import Batch, Examples, FloatArray, IntArray, keep_readonly
from pydnn.reports.charts import (
    STYLES,
    Series,
    bar_chart,
    histogram,
    line_chart,
    number,
    scrolling,
    table,
)
from pydnn.reports.markup import Markup, element
from pydnn.reports.pictures import picture
from pydnn.reports.words import short
from pydnn.sequences import columns_with_labels, labels_of_steps

__all__ = ["Judged", "judged", "judgment", "mistakes"]

_MOST_JUDGED = 20_000  # examples
_MOST_CLASSES = 20  # whose confusion people read
_SHOWN = 12  # mistakes
_LONGEST_NAME = 40  # characters of a class
_LONGEST_CELL = 120  # characters of a table's value
_CURVE = 200  # points of a curve
_BLANK = {"\n": "(end of line)", " ": "(space)"}  # symbols that nobody would see


@keep_readonly
@attrs.frozen(eq=False)
class Judged:
    """The predictions of a model for examples of one part of the data, with their labels.

    Attributes:
        part: The part, "test" or "train".
        task: One of `losses.TASKS`.
        batch: The raw examples.
        P: The predictions (n_out, m): probabilities, or numbers.
        Y: The labels, (1, m) or (n_out, m).
        names: The names of the classes; None for numbers.
        total: How many examples the part has, of which these are the first.
        example_of: The example of each column (m,) if each is a step of a sequence; else None.
    """

    part: str
    task: str
    batch: Batch
    P: FloatArray
    Y: FloatArray
    names: tuple[str, ...] | None
    total: int
    example_of: IntArray | None = None

    @property
    def of_true_class(self) -> FloatArray:
        """The probability of the true class of each column (m,)."""
        if self.task == "two classes":
            given: FloatArray = np.where(self.Y[0] == 1, self.P[0], 1 - self.P[0])
        else:
            given = self.P[self.Y[0].astype(np.int64), np.arange(self.P.shape[1])]
        return given

    @property
    def predicted_class(self) -> FloatArray:
        """The predicted class of each column (1, m)."""
        return classes_of(self.P) if self.task == "two classes" else most_likely(self.P)


def judged(model: Model, data: DataSet | Examples) -> Judged:
    """The predictions for the test part, or for the training part if there is no test part.

    Raises:
        BadInput: If the data does not fit the model.
    """
    if isinstance(data, DataSet):
        parts = {"test": data.test, "train": data.train}
    else:
        parts = {"train": data}
    part, examples = next((p, e) for p, e in parts.items() if e.count)
    few = examples.count <= _MOST_JUDGED
    batch = examples.in_memory() if few else examples.take(slice(0, _MOST_JUDGED))
    X: FloatArray | Table = batch.X
    Y = batch.Y
    if model.columns is not None and isinstance(batch, TableBatch):
        X, Y = batch.table, model.columns.targets.labels(batch.target)
    numbers = [f"example {i}" for i in range(batch.count)]
    task, P = predicted(model, X, numbers, lengths=batch.lengths)
    example_of: IntArray | None = None
    if P.ndim > 2:
        each = np.broadcast_to(np.arange(batch.count), (*P.shape[:-2], batch.count))
        example_of = labels_of_steps(each, P.shape, batch.lengths)[0]
    P, Y = columns_with_labels(P, Y, batch.lengths)
    names = names_of(model, task, len(P))
    symbols = model.vocabulary.symbols if model.vocabulary else ()
    if example_of is not None and not model.classes and len(symbols) == len(names or ()):
        names = tuple(_BLANK.get(symbol, symbol) for symbol in symbols)
    names = names and tuple(short(name, _LONGEST_NAME) for name in names)
    return Judged(part, task, batch, P, Y, names, examples.count, example_of)


def judgment(predictions: Judged) -> Iterator[Markup]:
    """Tables and charts of the predictions."""
    what = "examples" if predictions.example_of is None else "steps of examples"
    some = (
        ""
        if predictions.batch.count == predictions.total
        else f"the first {predictions.batch.count:,} of "
    )
    yield element(
        "p",
        f"Judged on {some}{predictions.total:,} examples of the {predictions.part} part.",
        class_="note",
    )
    if predictions.task in ("two classes", "many classes"):
        assert predictions.names is not None
        yield from _confusion(predictions, predictions.names)
        charts = [_roc(predictions, predictions.names), _calibration(predictions, what)]
        yield element("div", *charts, class_="charts")
    elif predictions.task == "several labels":
        assert predictions.names is not None
        yield element("div", _roc(predictions, predictions.names), class_="charts")
    else:
        yield element("div", *_residuals(predictions), class_="charts")


def _confusion(predictions: Judged, names: Sequence[str]) -> Iterator[Markup]:
    counts = confusion_matrix(predictions.predicted_class, predictions.Y, classes=len(names))
    if len(names) > _MOST_CLASSES:
        off = counts - np.diag(np.diag(counts))
        order = np.argsort(-off, axis=None, kind="stable")[:_MOST_CLASSES]
        pairs = [np.unravel_index(i, off.shape) for i in order]
        rows = [[names[i], names[j], number(float(off[i, j]))] for i, j in pairs if off[i, j]]
        yield table(
            ["class", "predicted as", "times"],
            rows,
            caption="The most frequent confusions",
            texts=2,
        )
        return
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows_of_cells = []
    for name, row, shares in zip(names, counts, counts / totals, strict=True):
        cells = [
            element("td", f"{n:,}", style=f"background: rgba(var(--cell), {0.45 * share:.2f})")
            for n, share in zip(row.tolist(), shares.tolist(), strict=True)
        ]
        rows_of_cells.append(element("tr", element("th", name, scope="row"), *cells))
    head = element("tr", element("td"), *(element("th", name, scope="col") for name in names))
    caption = "Examples of each class (row) by the class that the model predicts (column)"
    inner = element(
        "table",
        element("thead", head),
        element("tbody", *rows_of_cells),
        class_="confusion",
    )
    yield scrolling(inner, caption, caption)


def _roc(predictions: Judged, names: Sequence[str]) -> Markup:
    """The shares of false and true positives at every threshold, for each class or label."""
    if predictions.task == "two classes":
        rows = [(names[1], predictions.P[0], predictions.Y[0] == 1)]
    elif predictions.task == "several labels":
        rows = [(n, p, y == 1) for n, p, y in zip(names, predictions.P, predictions.Y, strict=True)]
    else:
        rows = [(n, predictions.P[k], predictions.Y[0] == k) for k, n in enumerate(names)]
    curves = []
    for name, probabilities, positive in rows[:STYLES]:
        if positive.all() or not positive.any():
            continue
        false, true = roc_curve(probabilities, positive)
        kept = np.unique(np.linspace(0, len(true) - 1, _CURVE).astype(np.int64))
        curves.append(Series(name, false[kept], true[kept]))
    more = "" if len(rows) <= STYLES else f", the first {STYLES} of {len(rows)} classes"
    return line_chart(
        f"ROC curve{more}",
        curves,
        x_label="false positive rate",
        y_label="true positive rate",
        diagonal=True,
    )


def _calibration(predictions: Judged, what: str) -> Markup:
    """How often predictions are right, by the probability that the model gave them."""
    sure = predictions.P[0] if predictions.task == "two classes" else predictions.P.max(axis=0)
    right = (
        predictions.Y[0] == 1
        if predictions.task == "two classes"
        else predictions.predicted_class[0] == predictions.Y[0]
    )
    means, shares, _ = calibration_curve(sure, right)
    return line_chart(
        "Calibration",
        [Series(f"share of {what}", means, shares)],
        x_label="predicted probability, mean of a tenth",
        y_label="share that is so",
        diagonal=True,
    )


def _residuals(predictions: Judged) -> Iterator[Markup]:
    for row, (P, Y) in enumerate(zip(predictions.P[:2], predictions.Y[:2], strict=True)):
        of = f", output {row}" if len(predictions.P) > 1 else ""
        order = np.argsort(Y, kind="stable")
        yield line_chart(
            f"Predicted and true{of}",
            [Series("examples", Y[order], P[order])],
            x_label="true",
            y_label="predicted",
            diagonal=True,
            dots=True,
        )
        with np.errstate(over="ignore", invalid="ignore"):  # of a model that diverged
            [counts], edges = histogram([P - Y], 24)
        yield bar_chart(f"Errors{of}", counts, edges, x_label="predicted minus true")


def mistakes(
    predictions: Judged, *, image_shape: tuple[int, ...] | None, vocabulary: Vocabulary | None
) -> Iterator[Markup]:
    """The examples that the predictions are most wrong about, as what they are."""
    if predictions.example_of is not None:
        if predictions.names is not None and vocabulary is not None:
            yield _least_probable(predictions, predictions.example_of, vocabulary)
        return
    if predictions.task == "several labels":
        return
    m = predictions.batch.count
    if predictions.task == "regression":
        far = np.abs(predictions.P - predictions.Y).max(axis=0)
    else:
        far = np.where(
            predictions.predicted_class[0] == predictions.Y[0], -1.0, 1 - predictions.of_true_class
        )
    worst = [i for i in np.argsort(-far, kind="stable")[: min(_SHOWN, m)].tolist() if far[i] > 0]
    if not worst:
        yield element("p", "No example is wrong.", class_="note")
        return
    if image_shape is not None and isinstance(predictions.batch, Batch):
        yield element(
            "div",
            *(
                element(
                    "figure",
                    picture(predictions.batch.X[..., i].reshape(image_shape), f"example {i}"),
                    element("figcaption", f"{i}: {_verdict(predictions, i)}"),
                )
                for i in worst
            ),
            class_="pictures",
        )
    elif isinstance(predictions.batch, TableBatch):
        values = predictions.batch.table.take(np.array(worst))
        cells = [values.texts(name) for name in values.names]
        rows = [
            [str(i), _verdict(predictions, i), *(_cell(c[k] or "") for c in cells)]
            for k, i in enumerate(worst)
        ]
        of_texts = (i for i, column in enumerate(values.columns, 2) if column.kind != NUMBER)
        yield table(["row", "verdict", *values.names], rows, texts={0, 1, *of_texts})
    else:
        yield table(
            ["example", "verdict"], [[str(i), _verdict(predictions, i)] for i in worst], texts=2
        )


def _cell(text: str) -> str:
    """A value of a table: a number with decimals is rounded, another text loses its middle."""
    if "." in text or "e" in text:
        with contextlib.suppress(ValueError):
            return f"{float(text):.6g}"
    return short(text, _LONGEST_CELL)


def _least_probable(predictions: Judged, example_of: IntArray, vocabulary: Vocabulary) -> Markup:
    """The texts whose symbols the model gave the lowest probabilities, on average."""
    batch = predictions.batch
    sums = np.bincount(example_of, weights=predictions.of_true_class, minlength=batch.count)
    means = sums / np.bincount(example_of, minlength=batch.count)
    rows = []
    for i in np.argsort(means, kind="stable")[:_SHOWN].tolist():
        steps = None if batch.lengths is None else int(batch.lengths[i])
        text = vocabulary.text(batch.X[:steps, i])
        rows.append([str(i), text, number(float(means[i]), 2)])
    return table(["example", "text", "mean probability of its symbols"], rows, texts=2)


def _verdict(predictions: Judged, i: int) -> str:
    if predictions.names is None:
        p, y = (
            ", ".join(number(v) for v in array[:, i].tolist())
            for array in (predictions.P, predictions.Y)
        )
        return f"predicted {p}, true {y}"
    predicted_name, true = (
        predictions.names[int(array[0, i])]
        for array in (predictions.predicted_class, predictions.Y)
    )
    probability = number(float(predictions.of_true_class[i]), 2)
    return f"predicted as {predicted_name}, is {true} (probability {probability})"
