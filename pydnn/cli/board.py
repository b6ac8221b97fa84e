"""`pydnn board`: a local page of all runs below a folder, also while they train."""

from __future__ import annotations

import argparse

from pydnn.checks import expect_count, path_of
from pydnn.cli.output import flush_results, say
from pydnn.cli.run_options import Commands, add_allow_option, option_group

__all__ = ["add_to"]

_PORT = 8123


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "board",
        help="show all runs on a local page, also while they train",
        description="Serve a page on this machine alone that lists all runs and sweeps below a "
        "folder, shows their curves while they train in other terminals, compares runs, and opens "
        "their reports and steps. It changes no file. Ctrl-C ends it.",
    )
    which = option_group(parser, "which runs", "runs/ --open")
    which.add_argument(
        "folder",
        nargs="?",
        type=path_of,
        default=path_of("runs"),
        metavar="FOLDER",
        help="the folder of the runs (default: runs)",
    )
    which.add_argument(
        "--data", metavar="NAME", help="where the runs' data is now (default: where it was)"
    )
    add_allow_option(which)
    where = option_group(parser, "where the page is", "runs/ --port 0 --open")
    where.add_argument(
        "--port",
        type=int,
        default=_PORT,
        metavar="N",
        help=f"the port of the page, 0 for any that is free (default: {_PORT})",
    )
    where.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from pydnn.board import Board, make_server  # here, since no other command needs it

    hint = "give the number of a port, or 0 for any that is free"
    port = expect_count("--port", args.port, least=0, most=65535, hint=hint)
    board = Board(args.folder, data=args.data, allow=args.allow)
    with make_server(board, port=port) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        say(f"{args.folder} at {address} until you press Ctrl-C")
        flush_results()
        if args.open:
            import webbrowser

            webbrowser.open(address)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            say("ended")
    return 0
