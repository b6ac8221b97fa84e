"""`pydnn diff`: what two runs differ in, and where they part."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pydnn.checks import Json
from pydnn.cli.output import say, say_json
from pydnn.cli.run_options import Commands, add_allow_option
from pydnn.runs import Run
from pydnn.runs.diff import Apart, Difference, Parting, difference
from pydnn.runs.mismatches import Mismatch, apart_in_words, bits_of, in_hex
from pydnn.storage.run_files import run_folder_of

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "diff",
        help="find where two runs part",
        description="Tell what differs in the recipes, data and machines of two runs, the first "
        "step at which they part, and the first tensor of that step which differs. Exit status: "
        "0 where all steps are the same bits, 1 where they are not.",
        epilog="example: pydnn diff runs/0001 runs/0002",
    )
    parser.add_argument("folder", type=run_folder_of, metavar="RUN_A", help="a recorded run")
    parser.add_argument("other", type=run_folder_of, metavar="RUN_B", help="that of another one")
    for name, run in (("data", "RUN_A"), ("other-data", "RUN_B")):
        parser.add_argument(
            f"--{name}", metavar="NAME", help=f"where the data of {run} is now, if not where it was"
        )
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="go on where data or functions of your own are not what they were",
    )
    add_allow_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    found = difference(
        Run.open(args.folder, data=args.data, anyway=args.anyway, allow=args.allow),
        Run.open(args.other, data=args.other_data, anyway=args.anyway, allow=args.allow),
    )
    if args.json:
        say_json(_as_json(found))
    else:
        say(*_lines(found, args.folder, args.other))
    return 0 if found.parting is None and len(set(found.iterations)) == 1 else 1


def _lines(found: Difference, a: Path, b: Path) -> list[str]:
    lines = [f"{'':11}  {a} | {b}"]
    lines += [f"recipe       {name}: {x} | {y}" for name, x, y in found.recipe]
    lines += [f"data         {told}" for told in found.data]
    lines += [f"environment  {name}: {x} | {y}" for name, x, y in found.environment]
    lines.append(f"iterations   {found.iterations[0]} | {found.iterations[1]}")
    if found.parting is None:
        few = min(found.iterations)
        return [*lines, f"all bits of the {few} steps that both have are the same"]
    return [*lines, *_parting_lines(found.parting)]


def _parting_lines(parting: Parting) -> list[str]:
    where = f"at step {parting.step}" if parting.step >= 0 else "before the first step"
    lines = [f"they part {where}"]
    mismatch = parting.mismatch
    if mismatch is not None:
        values = f"{in_hex(mismatch.recorded)} | {in_hex(mismatch.here)}"
        lines.append(f"  recorded {mismatch.quantity}: {values}{mismatch.apart}")
    lines += [f"  {note}" for note in parting.notes]
    if parting.apart is not None:
        lines += _apart_lines(parting.apart)
    return lines


def _apart_lines(apart: Apart) -> list[str]:
    x, y = apart.first
    if not isinstance(x, np.generic):
        return [f"  first in {apart.tensor}: {x} | {y}"]
    by = "" if apart.gap is None else f", by at most {apart_in_words(apart.gap, apart.ulps)}"
    verb = "differs" if apart.count == 1 else "differ"
    index = f"[{', '.join(map(str, apart.index))}]" if apart.index else "it"
    return [
        f"  first in {apart.tensor}: {apart.count} of {apart.size} numbers {verb}{by}",
        f"  the first is {index}: {in_hex(x)} | {in_hex(y)}",
    ]


def _as_json(found: Difference) -> dict[str, Json]:
    return {
        "recipe": found.recipe,
        "data": found.data,
        "environment": found.environment,
        "iterations": found.iterations,
        "parting": None if found.parting is None else _parting_json(found.parting),
    }


def _parting_json(parting: Parting) -> dict[str, Json]:
    return {
        "step": parting.step,
        "recorded": None if parting.mismatch is None else _mismatch_json(parting.mismatch),
        "tensor": None if parting.apart is None else _apart_json(parting.apart),
        "notes": parting.notes,
    }


def _mismatch_json(mismatch: Mismatch) -> dict[str, Json]:
    return {
        "quantity": mismatch.quantity,
        "values": [bits_of(mismatch.recorded), bits_of(mismatch.here)],
        "ulps": mismatch.ulps,
        "ulps_of": mismatch.dtype,
    }


def _apart_json(apart: Apart) -> dict[str, Json]:
    values = [bits_of(v) if isinstance(v, np.generic) else v for v in apart.first]
    return {
        "tensor": apart.tensor,
        "count": apart.count,
        "size": apart.size,
        "gap": apart.gap,
        "ulps": apart.ulps,
        "index": apart.index,
        "values": values,
    }
