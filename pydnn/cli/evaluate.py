"""`pydnn evaluate`: how well a trained model does on data."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pydnn.cli.scores import score
from pydnn.data import load_images
from pydnn.runs import MODEL_FILE, load_model

__all__ = ["add_to"]


def add_to(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="measure a trained model's accuracy",
        description="Measure the accuracy of a trained model on training and test images.",
        epilog="example: pydnn evaluate runs/0001 --data photos/",
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="the folder of a trained model")
    parser.add_argument(
        "--data",
        metavar="drawn-cats|DIR",
        help="the drawn cats, or a directory (default: what the model was trained on)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    model = load_model(args.folder / MODEL_FILE)
    train, test = (score(model, images) for images in load_images(args.data or model.recipe.data))
    if args.json:
        print(json.dumps({"train_accuracy": train.accuracy, "test_accuracy": test.accuracy}))
    else:
        print(f"train accuracy {train}\ntest accuracy {test}")
    return 0
