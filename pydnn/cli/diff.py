"""`pydnn diff`: how two runs differ, and the first step at which their bits differ."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pydnn.checks import Json
from pydnn.cli.output import say, say_json
from pydnn.cli.run_options import Commands, add_allow_option, option_group
from pydnn.runs import Run
from pydnn.runs.diff import Apart, Difference, Parting, difference
from pydnn.runs.mismatches import Mismatch, apart_in_words, bits_of, in_hex
from pydnn.storage.run_files import run_folder_of

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "diff",
        help="find the first number in which two runs differ",
        description="Show how the recipes, data and machines of two runs differ, the first step "
        "with different bits, and the first tensor of that step which differs. Exit status: 0 if "
        "all steps have the same bits, 1 if not.",
    )
    runs = option_group(parser, "which runs", "runs/0001 runs/0002")
    runs.add_argument("folder", type=run_folder_of, metavar="RUN_A", help="a recorded run")
    runs.add_argument("other", type=run_folder_of, metavar="RUN_B", help="another recorded run")
    for name, run in (("data", "RUN_A"), ("other-data", "RUN_B")):
        runs.add_argument(
            f"--{name}",
            metavar="NAME",
            help=f"where the data of {run} is now (default: where it was)",
        )
    runs.add_argument(
        "--anyway",
        action="store_true",
        help="continue even if the data or your own functions have changed",
    )
    add_allow_option(runs)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    result = difference(
        Run.open(args.folder, data=args.data, anyway=args.anyway, allow=args.allow),
        Run.open(args.other, data=args.other_data, anyway=args.anyway, allow=args.allow),
    )
    if args.json:
        say_json(_as_json(result))
    else:
        say(*_lines(result, args.folder, args.other))
    return 0 if result.parting is None and len(set(result.iterations)) == 1 else 1


def _lines(result: Difference, a: Path, b: Path) -> list[str]:
    lines = [f"{'':11}  {a} | {b}"]
    lines += [f"recipe       {name}: {x} | {y}" for name, x, y in result.recipe]
    lines += [f"data         {line}" for line in result.data]
    lines += [f"environment  {name}: {x} | {y}" for name, x, y in result.environment]
    lines.append(f"iterations   {result.iterations[0]} | {result.iterations[1]}")
    if result.parting is None:
        steps = min(result.iterations)
        return [*lines, f"all bits of the {steps} steps that both have are the same"]
    return [*lines, *_parting_lines(result.parting)]


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
    gap = "" if apart.gap is None else f", by at most {apart_in_words(apart.gap, apart.ulps)}"
    verb = "differs" if apart.count == 1 else "differ"
    index = f"[{', '.join(map(str, apart.index))}]" if apart.index else "it"
    return [
        f"  first in {apart.tensor}: {apart.count} of {apart.size} numbers {verb}{gap}",
        f"  the first is {index}: {in_hex(x)} | {in_hex(y)}",
    ]


def _as_json(result: Difference) -> dict[str, Json]:
    return {
        "recipe": result.recipe,
        "data": result.data,
        "environment": result.environment,
        "iterations": result.iterations,
        "parting": None if result.parting is None else _parting_json(result.parting),
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
