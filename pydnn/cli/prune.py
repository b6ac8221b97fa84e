"""`pydnn prune`: drop states of a run to save disk space; the run can still be replayed."""

from __future__ import annotations

import argparse

import attrs

from pydnn.cli.output import say, say_json
from pydnn.cli.run_options import Commands, add_allow_option, option_group
from pydnn.runs.pruning import prune
from pydnn.storage.run_files import run_folder_of

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "prune",
        help="delete stored states of a run to save space; pydnn can compute them again",
        description="Drop the states of a run, except the first, the newest and those before a "
        "change of the machine. The recipe, the numbers of every step and the fingerprints of all "
        "states stay, so the run can still be resumed, replayed and inspected: pydnn computes a "
        "dropped state again when it is needed.",
    )
    run = option_group(parser, "which run", "runs/0001")
    run.add_argument(
        "folder", type=run_folder_of, metavar="RUN", help="the folder of a recorded run"
    )
    add_allow_option(run)
    kept = option_group(parser, "what to keep", "runs/0001 --every 5 --dry-run")
    kept.add_argument(
        "--every", type=int, metavar="N", help="keep the state of every Nth segment, too"
    )
    kept.add_argument("--dry-run", action="store_true", help="only print what would be dropped")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    pruned = prune(args.folder, every=args.every, dry_run=args.dry_run, allow=args.allow)
    if args.json:
        say_json({"run": str(args.folder), "dry_run": args.dry_run, **attrs.asdict(pruned)})
        return 0
    verb = "would drop" if args.dry_run else "dropped"
    of = len(pruned.dropped) + len(pruned.kept)
    megabytes = [f"{count / 1e6:.1f} MB" for count in (pruned.freed, pruned.size)]
    say(f"{verb} {len(pruned.dropped)} of {of} states of {args.folder}, {megabytes[0]}")
    kept = ", ".join(map(str, pruned.kept)) or "none"
    say(f"states that are stored: after {kept} steps; the run takes {megabytes[1]}")
    return 0
