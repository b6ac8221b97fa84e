"""`pydnn sample`: let a model write texts."""

from __future__ import annotations

import argparse

from pydnn.checks import BadInput
from pydnn.cli.output import MOST_OF_DATA, say, say_json
from pydnn.cli.run_options import Commands, add_model_options, model_of, option_group
from pydnn.keys import Key

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "sample",
        help="let a model write texts",
        description="Let a model that was trained on a text write new ones, letter by letter or "
        "word by word.",
    )
    add_model_options(parser, example="runs/0001")
    drawn = option_group(
        parser, "what to draw", "runs/0001 --count 10 --temperature 0.8 --start Tyr"
    )
    drawn.add_argument(
        "--count", type=int, default=1, metavar="N", help="the number of texts (default: 1)"
    )
    drawn.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="below 1 more probable texts, above 1 more varied ones; 0 takes the most probable "
        "symbol each time (default: 1)",
    )
    drawn.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="another seed gives other texts (default: 1)",
    )
    drawn.add_argument(
        "--most",
        type=int,
        default=200,
        metavar="N",
        help="the largest number of letters or words in a text (default: 200)",
    )
    drawn.add_argument("--start", default="", metavar="TEXT", help="what every text begins with")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    model = model_of(args.folder, allow=args.allow, unverified=args.unverified)
    if model.vocabulary is None:
        raise BadInput(
            f"{args.folder} was not trained on a text, so it cannot write one: give a run that "
            "was, e.g. of pydnn train --data names.txt."
        )
    texts = model.sample(
        args.count,
        key=Key(args.seed),
        temperature=args.temperature,
        most=args.most,
        start=args.start,
    )
    if args.json:
        say_json({"samples": texts})
        return 0
    for number, text in enumerate(texts):
        if number and not model.vocabulary.lines:
            say()  # between texts of several lines
        say(*text.split("\n"), most=MOST_OF_DATA)
    return 0
