"""`pydnn predict`: what a trained model sees in a person's own pictures."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from pydnn.checks import BadInput, path_of
from pydnn.cli.output import say, say_json
from pydnn.cli.run_options import add_allow_option, model_of
from pydnn.data import columns_of, load_photo
from pydnn.recipes import DTYPES
from pydnn.runs import predictions

__all__ = ["add_to"]


def add_to(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "predict",
        help="say what is in pictures of your own",
        description="Say of each picture, of any size and format, what a trained model sees in it.",
        epilog="example: pydnn predict runs/0001 photo.jpg",
    )
    parser.add_argument("folder", type=path_of, metavar="RUN", help="a run, or the file of a model")
    parser.add_argument("photos", type=path_of, nargs="+", metavar="PHOTO", help="a picture's file")
    add_allow_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    model = model_of(args.folder, allow=args.allow)
    if model.image_shape is None or model.classes is None:
        raise BadInput(
            f"{args.folder} was not trained on images, so it sees nothing in pictures: "
            "give the folder of a model that was."
        )
    photos = np.stack([load_photo(path, size=model.image_shape[:2]) for path in args.photos])
    X = columns_of(photos, dtype=DTYPES[model.recipe.dtype])
    answers = []
    predicted = predictions(model, X)
    if len(predicted) == 1:  # of class 1 alone
        predicted = np.concatenate([1 - predicted, predicted])
    for path, column in zip(args.photos, predicted.T, strict=True):
        # Of two that are equally probable the first is told, as `classes_of` has it.
        label = int(column.argmax())
        answers.append((path, model.classes[label], float(column[label])))
    if args.json:
        keys = ("file", "class", "probability")
        rows = [dict(zip(keys, (str(path), *rest), strict=True)) for path, *rest in answers]
        say_json({"predictions": rows})
        return 0
    for path, name, p in answers:
        say(f"{path}: {name} ({p:.2f})" if len(answers) > 1 else f"{name} ({p:.2f})")
    return 0
