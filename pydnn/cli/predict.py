"""`pydnn predict`: classify a person's own pictures with a trained model."""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs
import numpy as np

from pydnn.checks import BadInput, BadRow, Json, path_of
from pydnn.cli.output import MOST_OF_DATA, say, say_json
from pydnn.cli.run_options import (
    Commands,
    add_mapped_option,
    add_model_options,
    model_of,
    option_group,
)
from pydnn.data import columns_of, load_photo
from pydnn.data.stored_tables import StoredTable
from pydnn.data.table_files import holds_examples, is_hdf5, read_examples
from pydnn.data.tables import Table
from pydnn.jobs.inputs import expect_finite_from
from pydnn.jobs.loading import data_of, rows_in
from pydnn.jobs.model import Model
from pydnn.jobs.scores import expect_like_training, names_of, predicted
from pydnn.jobs.targets import Targets
from pydnn.recipes.recipe import DTYPES
from pydnn.records import Examples, FloatArray
from pydnn.storage.files import is_free, write_atomically
from pydnn.training.evaluation import MOST_INPUTS

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "predict",
        help="predict the rows of a table, or say what your own pictures show",
        description="Print what a trained model predicts for the rows of a table, for pictures of "
        "any size and format, or for examples in arrays.",
    )
    add_model_options(parser, example="runs/0001 photo.jpg")
    pictures = option_group(parser, "what to predict", "runs/0001 cat.png dog.jpg")
    pictures.add_argument(
        "files",
        type=path_of,
        nargs="+",
        metavar="FILE",
        help="the file of a picture; or of a table (CSV, TSV, Parquet, npz, npy or HDF5), if the "
        "model was trained on one; or of other examples: an npy or npz file of X with the examples "
        "along its first axis, and for sequences lengths, or a data set that training takes too, "
        "HDF5 or npz, of which pydnn predicts the test part, or all examples if it has none",
    )
    table = option_group(parser, "rows of a table", "runs/0001 new.csv --out predictions.csv")
    table.add_argument(
        "--out", type=path_of, metavar="FILE", help="write the predictions to a new CSV file"
    )
    table.add_argument(
        "--proba", action="store_true", help="also write the probability of each class"
    )
    add_mapped_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if not args.files:  # before Python 3.13, argparse counts a lone "--" as one, and drops it
        raise BadInput("no file is named, expected one or more: name a picture or a table.")
    model = model_of(args.folder, allow=args.allow, unverified=args.unverified)
    if model.columns is not None:
        return _predict_rows(args, model)
    if args.out or args.proba:
        option = "--out" if args.out else "--proba"
        raise BadInput(
            f"{option} was given, but {args.folder} was not trained on a table: leave it out, or "
            "use --json."
        )
    if model.vocabulary is not None:
        raise BadInput(
            f"{args.folder} was trained on a text, expected a model of images or tables: see "
            "pydnn sample, which lets it write one, or pydnn evaluate."
        )
    files = [
        path for path in args.files if path.suffix.lower() in (".npy", ".npz") or _is_set(path)
    ]
    if files and (model.image_shape is None or _is_set(files[0])):
        if len(args.files) > 1:
            raise BadInput(
                f"there are {len(args.files)} files, expected one of examples: predict one after "
                "the other."
            )
        return _predict_examples(args, model, _examples_in(files[0], model, args.mapped))
    if model.image_shape is None:
        raise BadInput(
            f"{args.folder} was not trained on images or on a table, expected an npy, npz or HDF5 "
            "file of examples: give one, or the folder of another run."
        )
    photos = np.stack([load_photo(path, size=model.image_shape[:2]) for path in args.files])
    X = columns_of(photos, dtype=DTYPES[model.recipe.dtype])
    task, P = predicted(model, X, args.files)
    if P.ndim > 2:
        raise _for_each_place(args.folder)
    names = names_of(model, task, len(P))
    answers = [_answer(task, names, column.tolist()) for column in _of_each(task, P).T]
    if args.json:
        rows = [{"file": str(f), **a} for f, (a, _) in zip(args.files, answers, strict=True)]
        say_json({"predictions": rows})
        return 0
    for path, (_, words) in zip(args.files, answers, strict=True):
        say(f"{path}: {words}" if len(answers) > 1 else words)
    return 0


def _for_each_place(folder: Path) -> BadInput:
    return BadInput(
        f"{folder} predicts something for each place of a picture, expected one answer for each "
        "picture: use Model.predict in Python."
    )


def _is_set(path: Path) -> bool:
    """Whether a file holds examples with labels, as a training takes them."""
    return path.is_file() and (is_hdf5(path) or holds_examples(path))


def _examples_in(path: Path, model: Model, mapped: bool | None) -> Examples:
    """The examples of a file; of a data set, the test part, or all if it has none."""
    if not _is_set(path):
        return read_examples(path, mapped=mapped)
    recipe = attrs.evolve(model.recipe, test="")  # which no share is drawn for
    size = model.image_shape and model.image_shape[:2]
    data = data_of(recipe, path, image_size=size, mapped=mapped)
    expect_like_training(model, data)
    return data.test if data.test.count else data.train


def _predict_examples(args: argparse.Namespace, model: Model, examples: Examples) -> int:
    """Print the prediction for each example, or for each step of it."""
    rows: list[Json] = []
    for answers, each_step in _answers(args.folder, model, examples):
        number = len(rows)
        if not args.json:
            say(f"example {number}: {'; '.join(words for _, words in answers)}")
        inside = {"steps": [answer for answer, _ in answers]} if each_step else answers[0][0]
        rows.append({"example": number, **inside})
    if args.json:
        say_json({"predictions": rows})
    return 0


def _answers(
    folder: Path, model: Model, examples: Examples
) -> Iterator[tuple[list[tuple[dict[str, Json], str]], bool]]:
    """The answers for each example, and whether there is one for each of its steps."""
    few, start = math.prod(examples.shape) * examples.count <= MOST_INPUTS, 0
    for block in [examples.in_memory()] if few else examples.blocks():
        expect_finite_from(start, block, ["X"], examples)
        names_of_examples = [f"example {start + number}" for number in range(block.count)]
        task, P = predicted(model, block.X, names_of_examples, lengths=block.lengths)
        if P.ndim > 3:
            raise _for_each_place(folder)
        names = names_of(model, task, P.shape[-2])
        P = np.concatenate([1 - P, P], axis=-2) if task == "two classes" else P
        for number in range(block.count):
            steps = P[..., number].reshape(-1, P.shape[-2])
            if block.lengths is not None and P.ndim > 2:
                steps = steps[: int(block.lengths[number])]
            yield [_answer(task, names, step.tolist()) for step in steps], P.ndim > 2
        start += block.count


def _predict_rows(args: argparse.Namespace, model: Model) -> int:
    columns = model.columns
    assert columns is not None
    if len(args.files) > 1:
        raise BadInput(
            f"there are {len(args.files)} files, expected one table: predict one after the other."
        )
    if args.out and not is_free(args.out):
        raise BadInput(f"{args.out} exists already, expected a new file: give another --out.")
    table = rows_in(args.files[0], columns, mapped=args.mapped)
    parts = _predicted_rows(model, table)
    task, P = next(parts)
    names = names_of(model, task, len(P))
    if args.proba and names is None:
        raise BadInput(
            f"{args.folder} predicts numbers, which have no probabilities: leave out --proba."
        )
    every = itertools.chain([P], (P for _, P in parts))
    if args.json:
        columns_of_all = (column.tolist() for P in every for column in _of_each(task, P).T)
        answers = (_answer(task, names, numbers)[0] for numbers in columns_of_all)
        say_json({"predictions": [{"row": row, **a} for row, a in enumerate(answers, 1)]})
        return 0
    lines = _csv(columns.targets, task, every, names or (), proba=args.proba)
    if not args.out:
        for line in lines:
            say(line, most=MOST_OF_DATA)
        return 0

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.writelines(f"{line}\n".encode() for line in lines)

    write_atomically(args.out, write)
    say(f"{table.rows} predictions in {args.out}")
    return 0


def _predicted_rows(model: Model, table: Table | StoredTable) -> Iterator[tuple[str, FloatArray]]:
    """The task and the predictions for rows, block by block if they are many and in a file."""
    few, start = table.rows * len(table.columns) <= MOST_INPUTS, 0
    for block in [table] if few or isinstance(table, Table) else table.blocks():
        names = [f"row {start + number + 1}" for number in range(block.rows)]
        try:
            yield predicted(model, block, names)
        except BadRow as error:
            raise error.after(start) from error
        start += block.rows


def _of_each(task: str, P: FloatArray) -> FloatArray:
    """The probability of each class; of two classes the network returns that of class 1 alone."""
    return np.concatenate([1 - P, P]) if task == "two classes" else P


def _csv(
    targets: Targets, task: str, every: Iterable[FloatArray], names: Sequence[str], *, proba: bool
) -> Iterator[str]:
    """The predictions as records of a CSV file: a column of each target, and of each class."""
    yield _record([*targets.names, *(f"P({name})" for name in names if proba)])
    for P in every:
        predictions = targets.of_predictions(P)
        columns = [predictions] if predictions.ndim == 1 else list(predictions.T)
        if proba:
            columns += list(_of_each(task, P))
        rows = zip(*(map(_cell, column.tolist()) for column in columns), strict=True)
        yield from map(_record, rows)


def _record(cells: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _cell(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _answer(
    task: str, names: Sequence[str] | None, numbers: list[float]
) -> tuple[dict[str, Json], str]:
    """The answer for one picture, as JSON and in words.

    It is a class, the probability of each label, or numbers.
    """
    if names is None:
        return {"numbers": numbers}, ", ".join(f"{number:.6g}" for number in numbers)
    if task == "several labels":
        labels = dict(zip(names, numbers, strict=True))
        likely = [f"{name} ({p:.2f})" for name, p in labels.items() if p > 0.5]
        return {"labels": labels}, ", ".join(likely) or "none"
    # Of two equally probable classes the first one wins, as in `classes_of`.
    p = max(numbers)
    name = names[numbers.index(p)]
    return {"class": name, "probability": p}, f"{name} ({p:.2f})"
