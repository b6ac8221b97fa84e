"""`pydnn doctor`: what changes bits here, whether a run can be replayed, when workers pay off."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np

from pydnn.checks import BadInput, Json, install_command
from pydnn.cli.blas_speed import advice, seconds_of_a_product
from pydnn.cli.output import complain, say, say_json, say_table
from pydnn.cli.recipe_options import recipe_at
from pydnn.cli.run_options import Commands, add_allow_option, option_group
from pydnn.descriptions.builders import NotAllowed
from pydnn.engines import CompiledEngine, chosen_engine, compiled_engine, notes_to
from pydnn.free_memory import readable
from pydnn.jobs.job import Job, prepare
from pydnn.jobs.loading import data_of
from pydnn.numerics import Numerics
from pydnn.runs import Run
from pydnn.runs.environment import Environment, current_environment
from pydnn.runs.environment_changes import environment_changes, what_to_expect
from pydnn.runs.hazards import Hazard, hazards
from pydnn.storage.run_files import RECIPE, run_folder_of

if TYPE_CHECKING:
    from pydnn.workers.probing import Speed

__all__ = ["add_to"]

_DIGITS = 16
_ON_ANY_MACHINE = ", and on any machine: its arithmetic is portable"
_TO_LEARN_MORE = f"{install_command('doctor')} shows the BLAS's kernel"


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "doctor",
        help="show what can change the bits of results on this machine, whether a run can be "
        "replayed here, and when a cluster pays off",
        description="Show what can change the bits of results in this process: versions, BLAS, "
        "CPU, a fingerprint of each operation, and hazards; also the engine that does the work, "
        "and the speed of BLAS's threads. With a run, show instead what has changed since it was "
        "recorded, and whether it can be replayed here. "
        "Exit status: 1 if it cannot. With --cluster, measure the workers of a cluster and the "
        "connection to them, and say from which size of shards a recipe gains.",
    )
    run = option_group(parser, "which run or recipe", "runs/0001 --data photos/")
    run.add_argument(
        "folder",
        nargs="?",
        type=run_folder_of,
        metavar="RUN|RECIPE",
        help="the folder of a recorded run; with --cluster also the file of a recipe",
    )
    run.add_argument(
        "--data", metavar="NAME", help="where the run's data is now (default: where it was)"
    )
    run.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="measure a Dask cluster: tcp://HOST:PORT of its scheduler, or local:N for a cluster "
        "of N processes on this machine",
    )
    add_allow_option(run)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.cluster is not None:
        return _measure(args)
    if args.folder is not None:
        return _examine(args)
    if args.data is not None:
        raise BadInput(
            "--data is there without a run, expected both: give pydnn doctor RUN --data."
        )
    here, known_hazards = current_environment(), hazards()
    seconds, chosen = seconds_of_a_product(), chosen_engine()
    with notes_to(lambda text: None):  # the rows say what is wrong
        compiled = compiled_engine()
    if args.json:
        by_threads: dict[str, Json] = {str(threads): s for threads, s in seconds.items()}
        say_json(
            {
                **_as_json(here, known_hazards),
                "seconds_of_a_product": by_threads,
                "engine": {"chosen": chosen, **attrs.asdict(compiled)},
            }
        )
    else:
        rows = [
            *_environment_rows(here),
            *_hazard_rows(known_hazards),
            *_engine_rows(chosen, compiled),
            *_product_rows(seconds),
        ]
        say_table(rows, align="<<")
    return 0


def _as_json(here: Environment, known_hazards: Sequence[Hazard]) -> dict[str, Json]:
    return {"environment": attrs.asdict(here), "hazards": [attrs.asdict(h) for h in known_hazards]}


def _environment_rows(here: Environment) -> Iterator[tuple[str, str]]:
    """The rows that describe an environment: a name and a value each."""
    yield from sorted(here.versions.items())
    yield from here.machine.items()
    yield "BLAS", f"{here.blas.get('name', 'unknown')} {here.blas.get('version', '')}".rstrip()
    details = {
        f"BLAS {name}": here.blas[name] for name in ("kernel", "threads") if name in here.blas
    }
    yield from details.items()
    if "kernel" not in here.blas:
        yield "", _TO_LEARN_MORE
    yield "CPU features", " ".join(here.cpu) or "none"
    yield from here.variables.items()
    yield "", ""
    yield "operation", f"fingerprint of {here.numerics} arithmetic"
    yield from ((name, digits[:_DIGITS]) for name, digits in here.arithmetic.items())
    yield "", ""


def _hazard_rows(hazards: Iterable[Hazard]) -> Iterator[tuple[str, str]]:
    for hazard in hazards:
        weight = "hazard" if hazard.breaks else "note"
        yield weight, f"{hazard.what}: {hazard.found}; {hazard.advice}"


def _engine_rows(chosen: str, compiled: CompiledEngine) -> Iterator[tuple[str, str]]:
    """The rows that say who does the work, and whether what is compiled is kept."""
    if not compiled.numba:
        yield "engine", f"numpy; {compiled.problem}"
        return
    work = {
        "numpy": "numpy does all the work",
        "compiled": f"numba {compiled.numba} compiles for every training",
        "auto": f"numba {compiled.numba} compiles for long trainings, numpy does the others",
    }
    yield "engine", f"{chosen}: {work[chosen]}"
    kept = f"kept in {compiled.folder}, {readable(compiled.kept)}"
    yield (
        "compiled loops",
        f"compiled in each process: {compiled.problem}" if compiled.problem else kept,
    )


def _product_rows(seconds: Mapping[int, float]) -> Iterator[tuple[str, str]]:
    """The rows that say how long a product takes by the number of BLAS's threads."""
    if seconds:
        times = ", ".join(
            f"{1e3 * s:.2g} ms with {threads} thread{'' if threads == 1 else 's'}"
            for threads, s in seconds.items()
        )
        yield "BLAS speed", f"a product of 512 x 784 and 784 x 128 numbers takes {times}"
    if found := advice(seconds):
        yield "advice", found


def _examine(args: argparse.Namespace) -> int:
    try:
        run = Run.open(args.folder, data=args.data, allow=args.allow)
    except NotAllowed:  # the user decides what is allowed; this says nothing about the run
        raise
    except BadInput as error:
        if not (args.folder / RECIPE).is_file():
            raise
        return _refuse(args, str(error).rstrip("."))  # the run's files or functions have changed
    here = run.environment_here
    known_hazards = hazards(run.numerics)
    recorded = run.environments
    changes = environment_changes(recorded[-1], here)
    expected = next(filter(None, (what_to_expect(there, here) for there in recorded)), None)
    differences = _data_differences(run)
    unsound = _why_unsound(run.numerics)
    reason = "; ".join(text for text in (unsound, expected, *differences[:1]) if text)
    if args.json:
        verdict: dict[str, Json] = {
            "run": str(run.path),
            "recorded": attrs.asdict(recorded[-1]),
            "changes": [{"what": w, "recorded": a, "here": b} for w, a, b in changes],
            "expected": expected,
            "data": {"name": args.data or run.recipe.data, "differences": differences},
            "replayable": not reason,
            "reason": reason or None,
        }
        say_json({**_as_json(here, known_hazards), **verdict})
        return 1 if reason else 0
    _print_changes(changes)
    say_table(_hazard_rows(hazard for hazard in known_hazards if hazard.breaks), align="<<")
    for line in differences or ["as it was recorded"]:
        say(f"data {args.data or run.recipe.data!r}: {line}")
    if reason:
        return _refuse(args, reason)
    say(f"this run can be replayed here{_ON_ANY_MACHINE if run.numerics.exact else ''}")
    return 0


def _measure(args: argparse.Namespace) -> int:
    """Measure a cluster, and say from which size of shards the recipe gains."""
    from pydnn import workers  # only those who ask for workers need it
    from pydnn.workers.probing import cost_of_shards, measure_speed

    job, numerics, dtype = None, "fast", "float64"
    if args.folder is not None:
        changes = {} if args.data is None else {"data": args.data}
        recipe = recipe_at(args.folder, allow=args.allow, changes=changes)
        job = prepare(attrs.evolve(recipe, shards=2), data_of(recipe))
        numerics, dtype = recipe.numerics, recipe.dtype
    with workers.dask(args.cluster, on_refused=complain) as executor:
        speed = measure_speed(executor, numerics=numerics, dtype=dtype)
        cost = None if job is None else cost_of_shards(job, executor)
    gains = speed.least_shard(cost or speed.dense(np.dtype(dtype).itemsize))
    if args.json:
        shard = math.ceil(gains) if math.isfinite(gains) else None
        say_json({**attrs.asdict(speed), "gains_from_shards_of": shard})
        return 0
    say_table(_speed_rows(speed, numerics, dtype), align="<<")
    say(_verdict(speed, job, gains))
    return 0


def _speed_rows(speed: Speed, numerics: str, dtype: str) -> Iterator[tuple[str, str]]:
    yield "workers", f"{speed.workers}, with the bits of this process"
    yield "round trip", f"{1e3 * speed.round_trip:.1f} ms"
    yield "connection", f"{speed.bytes_per_second / 1e9:.2f} GB/s"
    operations = f"{speed.operations_per_second / 1e9:,.1f} GFLOP/s"
    yield "each worker", f"{operations} in {dtype}, {numerics} arithmetic"
    yield "", ""


def _verdict(speed: Speed, job: Job | None, gains: float) -> str:
    """From which size of shards the recipe gains, in one line."""
    which = "networks of dense layers gain" if job is None else "this recipe gains"
    if speed.workers == 1:
        return f"{which} nothing: there is one worker, as fast as this process; start more"
    if not math.isfinite(gains):
        return (
            f"{which} nothing on this cluster: sending an example takes longer than computing its "
            "gradient"
        )
    shard = math.ceil(gains)
    batch = speed.workers * shard
    line = (
        f"{which} from shards of about {shard:,} examples on: with {speed.workers} workers, from "
        f"batches of {batch:,}"
    )
    if job is None:
        return line
    data = job.data["train"]
    own = -(-data.count // job.batching.per_epoch(data.count))
    return f"{line}; its batches have {own:,}{'' if own >= batch else ', so it would lose'}"


def _refuse(args: argparse.Namespace, reason: str) -> int:
    if args.json:
        verdict: dict[str, Json] = {
            "run": str(args.folder),
            "replayable": False,
            "reason": reason,
        }
        say_json({**_as_json(current_environment(), hazards()), **verdict})
    else:
        say(f"this run cannot be replayed here: {reason}")
    return 1


def _why_unsound(numerics: Numerics) -> str | None:
    """Why `replay` would refuse a run of this arithmetic here; None if it would not."""
    try:
        numerics.expect_sound()
    except BadInput as error:
        return str(error).rstrip(".")
    return None


def _data_differences(run: Run) -> list[str]:
    """How the data differs from the data that the run recorded, or why it cannot be read."""
    try:
        return run.changes
    except BadInput as error:
        return [str(error).rstrip(".")]


def _print_changes(changes: Sequence[tuple[str, str, str]]) -> None:
    if not changes:
        say("the environment is as it was recorded")
        return
    say_table([("", "recorded", "here"), *changes], align="<<<")
