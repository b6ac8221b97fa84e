"""`pydnn evaluate`: how well a trained model does on data."""

from __future__ import annotations

import argparse
from typing import Any

from pydnn.checks import BadInput, path_of
from pydnn.cli.output import say, say_json
from pydnn.cli.run_options import add_allow_option, model_of, place_of_data
from pydnn.cli.scores import scores_of
from pydnn.data import load_data_set
from pydnn.recipes import DTYPES

__all__ = ["add_to"]


def add_to(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="measure how well a trained model does",
        description="Measure a trained model on training and test examples, by all the metrics "
        "of its task.",
        epilog="example: pydnn evaluate runs/0001 --data photos/",
    )
    parser.add_argument("folder", type=path_of, metavar="RUN", help="a run, or the file of a model")
    parser.add_argument(
        "--data", metavar="NAME", help="other data (default: what the model was trained on)"
    )
    add_allow_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    model = model_of(args.folder, allow=args.allow)
    dtype = DTYPES[model.recipe.dtype]
    name = args.data or place_of_data(args.folder) or model.recipe.data
    try:
        data = load_data_set(name, dtype=dtype)
    except BadInput as error:
        if args.data:
            raise
        raise BadInput(f"{str(error).rstrip('.')}; or say with --data where it is now.") from error
    scores = scores_of(model, data)
    if args.json:
        say_json({part: dict(score.metrics) for part, score in scores.items()})
        return 0
    for part, score in scores.items():
        say(f"{part} {score}" + (f"; {score.others}" if score.others else ""))
    return 0
