"""`pydnn report`: a page about recorded runs, in one file."""

from __future__ import annotations

import argparse

from pydnn.checks import BadInput, path_of
from pydnn.cli.output import say, say_json
from pydnn.cli.run_options import Commands, add_run_options, option_group
from pydnn.runs import Run
from pydnn.storage.files import write_atomically

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "report",
        help="write a page about a run, or about several side by side",
        description="Write an HTML file about a recorded run: results, curves, mistakes, network, "
        "recipe and environment. Of several runs, it shows what differs and their results. The "
        "file holds everything, and needs no network and no script.",
    )
    add_run_options(parser, example="runs/0001 runs/0002 --out both.html", several=True)
    file = option_group(parser, "which file", "runs/0001 --out report.html --replace")
    file.add_argument(
        "--out",
        type=path_of,
        default=path_of("report.html"),
        metavar="FILE",
        help="the file to write (default: report.html)",
    )
    file.add_argument("--replace", action="store_true", help="overwrite FILE if it exists")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from pydnn.reports import report_of_run, report_of_runs  # here, since few commands need them

    if not args.replace and args.out.exists():
        raise BadInput(f"{args.out} exists already: choose another name, or give --replace.")
    runs = [
        Run.open(folder, data=args.data, anyway=args.anyway, allow=args.allow)
        for folder in args.folders
    ]
    text = report_of_run(runs[0]) if len(runs) == 1 else report_of_runs(runs)
    data = text.encode()
    write_atomically(args.out, lambda path: path.write_bytes(data), replace=args.replace)
    if args.json:
        say_json({"file": str(args.out), "bytes": len(data)})
    else:
        say(f"{args.out}, {len(data):,} bytes")
    return 0
