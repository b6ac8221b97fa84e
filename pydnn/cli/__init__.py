"""The command line: `pydnn train | sweep | resume | replay | inspect | diff | prune | doctor | …`.

Results go to the standard output, progress and complaints to the standard error stream. Exit
status: 0 done, 1 a verification found a difference, 2 bad input or usage, 130 interrupted. A
user's mistake gets one line that says what is wrong, what was expected and what to do.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pydnn.checks import BadInput, path_of, printable
from pydnn.cli import (
    board,
    completion,
    data,
    diff,
    doctor,
    evaluate,
    export,
    inspect,
    parts,
    predict,
    prune,
    replay,
    report,
    resume,
    sample,
    summary,
    sweep,
    train,
)
from pydnn.cli.output import ReaderGone, complain, flush_results, say, undisturbed, usable_streams
from pydnn.cli.progress import progress_shown
from pydnn.engines import notes_to
from pydnn.long_work import work_shown
from pydnn.other_names import suggestion
from pydnn.storage.run_files import run_folder_of

__all__ = ["main"]

# What `pydnn` alone prints.
_MOST_USED = """\
The five commands that you need most:

  pydnn train --data photos/           train a network, record it and save it
  pydnn evaluate runs/0001             measure how well a trained model does
  pydnn predict runs/0001 photo.jpg    say what your own pictures show
  pydnn resume runs/0001               continue a run that was interrupted or has ended
  pydnn replay runs/0001               repeat a run and compare every step bit for bit

pydnn --help lists all commands. pydnn train --help lists the options of train, and so on.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, by default that of this process; return its exit status."""
    with usable_streams():
        try:
            try:
                argv = sys.argv[1:] if argv is None else argv
                parser = _parser(argv[0] if argv else "")
                if completion.ASKED_BY_THE_SHELL in os.environ:
                    completion.complete(parser)
                args = parser.parse_args(argv)
                with progress_shown() as show, work_shown(show), notes_to(complain):
                    status: int = args.run(args)
            finally:  # also after an error, so that a closed pipe raises here and not later
                flush_results()
            return status
        except BadInput as error:
            return _refused(error)
        except ReaderGone:
            return 1
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            return _refused(f"{what}: choose another place.")
        except MemoryError as error:
            return _refused(f"there is not enough memory ({error}): use less data.")
        except KeyboardInterrupt:
            with undisturbed():
                complain("interrupted")
            return 130


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for read in (path_of, run_folder_of):
            self.register("type", read, _with_reason(read))

    # argparse lets the main parser refuse what a command does not know. Here the command's own
    # parser does, which can name the nearest of its options, and the --help that lists them.
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [text for action in self._actions for text in action.option_strings]
            name = unknown[0].partition("=")[0]
            near = suggestion(name, options) if name.startswith("-") else ""
            message = f"unrecognized arguments: {' '.join(unknown)}"
            self.error(f"{message}; {near}" if near else message)
        return known, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError:
            near = suggestion(str(value), map(str, action.choices or ()))
            if not near:
                raise
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}; {near}") from None

    def error(self, message: str) -> NoReturn:
        self.exit(2, printable(f"{self.prog}: {message}: see {self.prog} --help") + "\n")


def _with_reason(read: Callable[[str], object]) -> Callable[[str], object]:
    """The function `read`, changed so that argparse also prints the reason of a refusal."""

    def read_or_explain(text: str) -> object:
        try:
            return read(text)
        except BadInput as error:
            raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error

    return read_or_explain


def _refused(message: object) -> int:
    complain(message)
    return 2


def _show_most_used(args: argparse.Namespace) -> int:
    say(*_MOST_USED.splitlines())
    return 0


_COMMANDS = (
    train,
    sweep,
    resume,
    replay,
    inspect,
    diff,
    report,
    board,
    prune,
    doctor,
    summary,
    evaluate,
    predict,
    sample,
    export,
    parts,
    data,
    completion,
)


def _parser(name: str = "") -> argparse.ArgumentParser:
    """The parser of the command called `name`; of all commands if none has that name."""
    parser = _Parser(
        prog="pydnn",
        description="Train deep networks as a fold of pure functions, on NumPy alone.",
        epilog="example: pydnn train --plot costs.png",
    )
    parser.set_defaults(run=_show_most_used)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    # To make the parsers of all commands takes longer than to run one of the shorter ones.
    named = [command for command in _COMMANDS if command.__name__ == f"{__name__}.{name}"]
    for command in named or _COMMANDS:
        command.add_to(commands)
    return parser
