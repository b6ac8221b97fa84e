"""`pydnn predict`: classify a person's own pictures with a trained model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from pydnn.checks import BadInput, Json, path_of
from pydnn.cli.output import say, say_json
from pydnn.cli.run_options import Commands, add_model_options, model_of, option_group
from pydnn.data import columns_of, load_photo
from pydnn.jobs.scores import names_of, predicted
from pydnn.recipes.recipe import DTYPES

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "predict",
        help="say what your own pictures show",
        description="Print what a trained model says about pictures of any size and format.",
    )
    add_model_options(parser, example="runs/0001 photo.jpg")
    pictures = option_group(parser, "which pictures", "runs/0001 cat.png dog.jpg")
    pictures.add_argument(
        "photos", type=path_of, nargs="+", metavar="PHOTO", help="the file of a picture"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if not args.photos:  # before Python 3.13, argparse counts a lone "--" as one, and drops it
        raise BadInput("there is no picture, expected one or more: give a picture's file.")
    model = model_of(args.folder, allow=args.allow, unverified=args.unverified)
    if model.image_shape is None:
        raise BadInput(
            f"{args.folder} was not trained on images, expected a model that was: "
            "give the folder of another run."
        )
    photos = np.stack([load_photo(path, size=model.image_shape[:2]) for path in args.photos])
    X = columns_of(photos, dtype=DTYPES[model.recipe.dtype])
    task, P = predicted(model, X, args.photos)
    names = names_of(model, task, len(P))
    if task == "two classes":  # the network returns the probability of class 1 alone
        P = np.concatenate([1 - P, P])
    answers = [_answer(task, names, column.tolist()) for column in P.T]
    if args.json:
        rows = [{"file": str(f), **a} for f, (a, _) in zip(args.photos, answers, strict=True)]
        say_json({"predictions": rows})
        return 0
    for path, (_, words) in zip(args.photos, answers, strict=True):
        say(f"{path}: {words}" if len(answers) > 1 else words)
    return 0


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
