"""`pydnn inspect`: rebuild one step of a run exactly, and show its tensors."""

from __future__ import annotations

import argparse
from pathlib import Path

import attrs

from pydnn.checks import BadInput, Json, expect_count, expect_known, path_of
from pydnn.cli.output import MOST_OF_DATA, say, say_json, say_table
from pydnn.cli.run_options import Commands, add_run_options, option_group
from pydnn.runs import Run
from pydnn.runs.csv_log import csv_lines
from pydnn.runs.inspect import Summary, Tensor, look_into, summary_of, write_tensors
from pydnn.storage.files import write_text
from pydnn.training import Step

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "inspect",
        help="show the tensors of one step of a run",
        description="Rebuild one step of a run exactly, from the nearest segment before it, and "
        "show all its activations, caches, gradients and updates.",
    )
    add_run_options(parser, example="runs/0001 --step 1234 --data photos/")
    step = option_group(
        parser, "which step and tensors", "runs/0001 --step 1234 --part backward --layer 2"
    )
    option = step.add_argument
    which = step.add_mutually_exclusive_group(required=True)
    which.add_argument("--step", type=int, metavar="N", help="number of the step, from 0")
    which.add_argument(
        "--csv",
        action="store_true",
        help="print the numbers of all steps as comma-separated values instead",
    )
    option(
        "--part",
        "--stage",
        metavar="NAME",
        help="one part of the step alone: state, batch, forward, cost, backward, …",
    )
    option(
        "--layer", metavar="N", help="one stage of the network alone, by its place, e.g. 2 or 1/0"
    )
    option(
        "--shard", type=int, metavar="N", help="one shard of the batch alone, by its number, from 0"
    )
    option(
        "--out",
        type=path_of,
        metavar="FILE",
        help="write the tensors to a new HDF5 file, or the values to a new text file",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    run = Run.open(args.folder, data=args.data, anyway=args.anyway, allow=args.allow)
    if args.csv:
        for option in ("part", "layer", "shard", "json"):
            if getattr(args, option) not in (None, False):
                raise BadInput(
                    f"--csv prints numbers of all steps, but --{option} is about one step: "
                    f"leave out --csv or --{option}."
                )
        return _write_csv(run, args.out)
    step, all_tensors = look_into(run, args.step)
    tensors = _chosen(all_tensors, args.part, args.layer, args.shard)
    if args.out is not None:
        write_tensors(args.out, tensors)
    rows = [(tensor, summary_of(tensor)) for tensor in tensors]
    if args.json:
        say_json(_as_json(run, step, rows))
        return 0
    info = step.info
    say(f"step {info.iteration} of {run.path}")
    if run.job.inputs.rotation is not None:
        say(f"in {run.job.inputs.rotation}")
    say(f"cost {info.cost:.9g} ({info.cost.hex()})")
    say(f"gradient norm {info.gradient_norm:.9g} ({info.gradient_norm.hex()})")
    say()
    _print_table(rows)
    if args.out is not None:
        say("", f"arrays in {args.out}")
    return 0


def _write_csv(run: Run, path: Path | None) -> int:
    lines = csv_lines(list(run.infos))
    if path is None:
        for line in lines:
            say(line, most=MOST_OF_DATA)
        return 0
    write_text(path, "".join(f"{line}\n" for line in lines))
    say(f"{run.iterations} steps in {path}")
    return 0


def _chosen(
    tensors: list[Tensor], part: str | None, layer: str | None, shard: int | None
) -> list[Tensor]:
    if shard is not None:
        last = max((t.shard for t in tensors if t.shard is not None), default=None)
        if last is None:
            raise BadInput(
                f"--shard is {shard}, but the recipe of the run has no shards: leave it out."
            )
        hint = "shards are numbered from 0"
        expect_count("--shard", shard, least=0, most=last, hint=hint)
        tensors = [tensor for tensor in tensors if tensor.shard == shard]
    if part is not None:
        expect_known("part of the step", part, {tensor.part for tensor in tensors})
        tensors = [tensor for tensor in tensors if tensor.part == part]
    if layer is not None:
        inside = [t for t in tensors if t.layer == layer or t.layer.startswith(f"{layer}/")]
        if not inside and not any(tensor.layer for tensor in tensors):
            raise BadInput(f"--layer is {layer!r}, but part {part!r} has no layers: leave it out.")
        if not inside:
            expect_known("layer", layer, {tensor.layer for tensor in tensors if tensor.layer})
        tensors = inside
    return tensors


def _as_json(run: Run, step: Step, rows: list[tuple[Tensor, Summary]]) -> dict[str, Json]:
    return {
        "run": str(run.path),
        "step": step.info.iteration,
        "cost": step.info.cost,
        "gradient_norm": step.info.gradient_norm,
        "tensors": [
            ({} if t.shard is None else {"shard": t.shard})
            | {"part": t.part, "layer": t.layer, "stage": t.stage, "name": t.name}
            | attrs.asdict(summary)
            for t, summary in rows
        ],
    }


def _print_table(rows: list[tuple[Tensor, Summary]]) -> None:
    table: list[tuple[str, ...]] = [
        ("part", "layer", "stage", "tensor", "shape", "min", "max", "norm", "dead units")
    ]
    for tensor, summary in rows:
        shape = " x ".join(map(str, summary.shape)) or "number"
        numbers = [_number(n) for n in (summary.low, summary.high, summary.norm)]
        dead = "" if summary.dead is None else f"{summary.dead:.0%}"
        part = tensor.part if tensor.shard is None else f"shard {tensor.shard}: {tensor.part}"
        table.append((part, tensor.layer, tensor.stage, tensor.name, shape, *numbers, dead))
    say_table(table, align="<<<<<>>>>")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
