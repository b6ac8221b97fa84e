"""The command line: `pydnn train | sweep | resume | replay | inspect | diff | prune | doctor | …`.

Results go to the standard output, progress and complaints to the standard error stream. Exit
status: 0 done, 1 a verification found a difference, 2 bad input or usage, 130 interrupted. A
user's mistake gets one line that says what was wrong, what was expected and what to do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pydnn.checks import BadInput, path_of, printable
from pydnn.cli import (
    data,
    diff,
    doctor,
    evaluate,
    inspect,
    parts,
    predict,
    prune,
    replay,
    resume,
    summary,
    sweep,
    train,
)
from pydnn.cli.output import ReaderGone, complain, flush_results, undisturbed, usable_streams
from pydnn.other_names import suggestion
from pydnn.storage.run_files import run_folder_of

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, by default that of this process; return its exit status."""
    with usable_streams():
        try:
            try:
                args = _parser().parse_args(argv)
                status: int = args.run(args)
            finally:  # whatever comes of it, so that a closed pipe is met here
                flush_results()
            return status
        except BadInput as error:
            return _refused(error)
        except ReaderGone:
            return 1
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            return _refused(f"{what}: choose a place that can be used.")
        except MemoryError as error:
            return _refused(f"there is not enough memory ({error}): give less data.")
        except KeyboardInterrupt:
            with undisturbed():
                complain("interrupted")
            return 130


class _Parser(argparse.ArgumentParser):
    """Complains in one line."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for read in (path_of, run_folder_of):
            self.register("type", read, _with_reason(read))

    # Each command's parser complains of what it does not know: it knows the nearest option, and
    # its --help shows them all.
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [text for action in self._actions for text in action.option_strings]
            name = unknown[0].partition("=")[0]
            near = suggestion(name, options) if name.startswith("-") else ""
            message = f"unrecognized arguments: {' '.join(unknown)}"
            self.error(f"{message}; {near}" if near else message)
        return found, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(2, printable(f"{self.prog}: {message}: see {self.prog} --help") + "\n")


def _with_reason(read: Callable[[str], object]) -> Callable[[str], object]:
    """The function `read`, so that argparse says why a text is refused, not just that it is."""

    def reading(text: str) -> object:
        try:
            return read(text)
        except BadInput as error:
            raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error

    return reading


def _refused(message: object) -> int:
    complain(message)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pydnn",
        description="Train deep networks as a fold of pure functions, on NumPy alone.",
        epilog="example: pydnn train --plot costs.png",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in (
        train,
        sweep,
        resume,
        replay,
        inspect,
        diff,
        prune,
        doctor,
        summary,
        evaluate,
        predict,
        parts,
        data,
    ):
        command.add_to(commands)
    return parser
