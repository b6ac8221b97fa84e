"""Options of the commands that work on a recorded run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["add_run_options", "warn"]


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the run's folder, where its data is, and whether to go on in spite of changes."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="the folder of a recorded run")
    parser.add_argument(
        "--data", metavar="NAME", help="where its data is now (default: where it was)"
    )
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="go on where data, functions of your own or the machine are not what they were",
    )


def warn(message: str) -> None:
    """Tell a person something on the standard error stream, in one line."""
    print(f"pydnn: {message}", file=sys.stderr)
