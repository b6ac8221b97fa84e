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
        help="write a page about a run, about several side by side, or about a sweep",
        description="Write an HTML file about a recorded run: results, curves, mistakes, network, "
        "recipe, environment, and what has been verified. Of several runs, it shows what differs "
        "and their results. Of the folder of a recorded sweep, it shows which options matter, the "
        "best trainings and those that failed. The file holds everything, and needs no network "
        "and no script.",
    )
    add_run_options(parser, example="runs/0001 runs/0002 --out both.html", several=True)
    sweep = option_group(parser, "of a sweep", "sweeps/first --best-by 'validation accuracy'")
    sweep.add_argument(
        "--best-by",
        metavar="NAME",
        default="",
        help="the score that decides which training is best (default: validation cost, or train "
        "cost if no examples are held back)",
    )
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
    if not args.replace and args.out.exists():
        raise BadInput(f"{args.out} exists already: choose another name, or give --replace.")
    text = _page(args)
    data = text.encode()
    write_atomically(args.out, lambda path: path.write_bytes(data), replace=args.replace)
    if args.json:
        say_json({"file": str(args.out), "bytes": len(data)})
    else:
        say(f"{args.out}, {len(data):,} bytes")
    return 0


def _page(args: argparse.Namespace) -> str:
    from pydnn import reports  # here, since few commands need them
    from pydnn.sweeps.recorded import is_sweep

    sweeps = [folder for folder in args.folders if is_sweep(folder)]
    if sweeps and len(args.folders) > 1:
        raise BadInput(
            f"{sweeps[0]} is a sweep, expected it alone: leave the other folders out, or give the "
            "folders of its runs."
        )
    if sweeps:
        return reports.report_of_sweep(sweeps[0], by=args.best_by, allow=args.allow)
    if args.best_by:
        raise BadInput(
            f"--best-by is {args.best_by!r}, but {args.folders[0]} is not a sweep: leave it out."
        )
    runs = [
        Run.open(folder, data=args.data, anyway=args.anyway, allow=args.allow)
        for folder in args.folders
    ]
    return reports.report_of_run(runs[0]) if len(runs) == 1 else reports.report_of_runs(runs)
