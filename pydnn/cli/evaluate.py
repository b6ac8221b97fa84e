"""`pydnn evaluate`: measure a trained model on data."""

from __future__ import annotations

import argparse

import attrs

from pydnn.checks import BadInput, Json
from pydnn.cli.output import complain, say, say_json, say_table
from pydnn.cli.run_options import (
    Commands,
    add_mapped_option,
    add_model_options,
    model_of,
    option_group,
    place_of_data,
    place_of_test,
    unlike_recorded,
)
from pydnn.data import DataSet
from pydnn.jobs.loading import data_of, examples_in
from pydnn.jobs.scores import Score, scores_of

__all__ = ["add_to"]

_FEW = 20  # classes whose table people read


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="measure how well a trained model does",
        description="Measure a trained model on training and test examples, by all the metrics "
        "of its task.",
    )
    add_model_options(parser, example="runs/0001")
    measured = option_group(parser, "what to measure", "runs/0001 --data photos/ --per-class")
    measured.add_argument(
        "--data",
        metavar="NAME",
        help="other data (default: the data that the model was trained on)",
    )
    measured.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="leave out the pictures of a folder that cannot be read",
    )
    measured.add_argument(
        "--per-class",
        action="store_true",
        help="also print precision, recall, f1 and the number of examples of each class",
    )
    add_mapped_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    model = model_of(args.folder, allow=args.allow, unverified=args.unverified)
    recorded = place_of_data(args.folder) or model.recipe.data
    name = recorded if args.data is None else args.data
    try:
        size = model.image_shape and model.image_shape[:2]
        recipe = model.recipe
        if args.skip_unreadable:
            recipe = attrs.evolve(recipe, skip_unreadable=True)
        if model.columns is not None and args.data is not None:
            batch = examples_in(
                name, model.columns, weights=recipe.example_weights, mapped=args.mapped
            )
            data = DataSet(batch.first(0), batch)  # the whole file is one part
        else:
            if args.data is None and (test := place_of_test(args.folder)):
                recipe = attrs.evolve(recipe, test=test)
            if args.data is not None and not isinstance(recipe.test, str):
                recipe = attrs.evolve(recipe, test="")  # all of other data is judged
            data = data_of(
                recipe, name, image_size=size, vocabulary=model.vocabulary, mapped=args.mapped
            )
    except BadInput as error:
        if args.data is not None:
            raise
        raise BadInput(f"{str(error).rstrip('.')}; or give its place with --data.") from error
    for note in data.notes:
        complain(note)
    # Of a table, people ask for the classes first, and there are few.
    few = model.columns is not None and 0 < len(model.classes or ()) <= _FEW
    scores = scores_of(model, data, by_class=args.per_class or few)
    other = model.columns is not None and args.data is not None  # so it is meant to be other data
    if not other and (different := unlike_recorded(args.folder, data)):
        complain(
            f"{name} is not the data that {args.folder} was trained on: {', '.join(different)} "
            f"{'differs' if len(different) == 1 else 'differ'} from what was recorded"
        )
    if args.json:
        say_json({part: _plain(score) for part, score in scores.items()})
        return 0
    for part, score in scores.items():
        line = score.line(
            part, held_back="those" if model.recipe.holds_back and not args.data else ""
        )
        say(line + (f"; {score.others}" if score.others else ""))
        if score.table:
            say_table(score.table, align="<" + ">" * (len(score.table[0]) - 1))
        if 0 < len(score.confusion) <= _FEW:
            say()
            say_table(score.confusion_table, align="<" + ">" * len(score.confusion))
    return 0


def _plain(score: Score) -> dict[str, Json]:
    if not score.classes:
        return dict(score.metrics)
    rows = [{"class": name, **row} for name, row in score.classes.items()]
    return {**score.metrics, "classes": rows, "confusion": score.confusion}
