"""`pydnn completion`: make a shell complete pydnn's commands, options and names on Tab."""

from __future__ import annotations

import argparse

from pydnn.checks import import_extra
from pydnn.cli.output import say
from pydnn.cli.run_options import Commands, option_group

__all__ = ["ASKED_BY_THE_SHELL", "add_to", "complete"]

ASKED_BY_THE_SHELL = "_ARGCOMPLETE"  # argcomplete's variable: set while a shell completes a line


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "completion",
        help="print a script that completes pydnn's commands in bash or zsh",
        description="Print a script for bash or zsh. A shell that evaluates it completes the "
        "commands, options and names of pydnn when you press Tab. Add the example as a line to "
        "~/.bashrc; for zsh, add it to ~/.zshrc, with zsh instead of bash.",
        epilog='example: eval "$(pydnn completion bash)"',
    )
    which = option_group(parser, "which shell", "zsh")
    which.add_argument("shell", choices=["bash", "zsh"], help="the shell that you use")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    argcomplete = import_extra("argcomplete", extra="completion", purpose="completing on Tab")
    say(*argcomplete.shellcode(["pydnn"], shell=args.shell).splitlines())
    return 0


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell with all ways to complete its line, then end the process."""
    argcomplete = import_extra("argcomplete", extra="completion", purpose="completing on Tab")
    argcomplete.autocomplete(parser, always_complete_options=False)
