"""`pydnn export`: write a trained model to a file for other tools."""

from __future__ import annotations

import argparse

from pydnn.checks import path_of
from pydnn.cli.output import complain, say, say_json
from pydnn.cli.run_options import (
    Commands,
    add_model_options,
    model_of,
    option_group,
    was_given_lengths,
)

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "export",
        help="write a trained model for other tools",
        description="Write a trained model to a new file: as model.onnx, which other programs and "
        "languages can run, or its weights alone as weights.safetensors or weights.npz.",
    )
    add_model_options(parser, example="runs/0001 model.onnx")
    file = option_group(parser, "which file", "runs/0001 weights.safetensors")
    file.add_argument(
        "file",
        type=path_of,
        metavar="FILE",
        help="the file to write; the format is that of its ending: .onnx, .safetensors or .npz",
    )
    file.add_argument("--replace", action="store_true", help="overwrite FILE if it exists")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    model = model_of(args.folder, allow=args.allow, unverified=args.unverified)
    model.export(args.file, replace=args.replace)
    if args.file.suffix.lower() == ".onnx" and was_given_lengths(args.folder):
        complain(
            f"{args.file} has no input for the lengths of sequences: give it sequences of one "
            "length in each call, without padding"
        )
    size = args.file.stat().st_size
    if args.json:
        say_json({"file": str(args.file), "bytes": size})
    else:
        say(f"{args.file}, {size:,} bytes")
    return 0
