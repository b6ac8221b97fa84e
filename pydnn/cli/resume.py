"""`pydnn resume`: continue a run, to the same bits as without the interruption."""

from __future__ import annotations

import argparse

from pydnn.cli.output import complain
from pydnn.cli.run_options import Commands, add_mapped_option, add_run_options, option_group
from pydnn.cli.training import (
    add_output_options,
    add_recording_options,
    check_training_options,
    say_of,
    train_job,
)
from pydnn.cli.worker_options import add_worker_options, executor_of
from pydnn.data import DataSet
from pydnn.jobs.expectations import expect_test
from pydnn.runs import resume_run

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "resume",
        help="continue a run that was interrupted or has ended",
        description="Continue a run from its newest undamaged segment. The result has the same "
        "bits as if the training had never been interrupted. Damaged files move to the folder "
        "set-aside inside the run; nothing is deleted.",
    )
    add_run_options(parser, example="runs/0001")
    stop = option_group(parser, "when to stop", "runs/0001 --iterations 5000")
    stop.add_argument(
        "--iterations",
        type=int,
        metavar="N",
        help="steps of the whole training, including those already taken (default: as before)",
    )
    add_recording_options(option_group(parser, "how it is recorded", "runs/0001 --run-size 500"))
    add_mapped_option(parser)
    add_worker_options(parser, example="runs/0001 --executor processes --workers 4")
    add_output_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    check_training_options(args)
    resuming = resume_run(
        args.folder,
        iterations=args.iterations,
        data=args.data,
        anyway=args.anyway,
        allow=args.allow,
        most=int(args.run_size * 1e6),
        mapped=args.mapped,
    )
    with executor_of(args) as executor, resuming as resumed:
        for fault in resumed.recording.set_aside:
            complain(f"{fault.cause}; it is now {fault.path}")
        for path in resumed.recording.restored:
            complain(f"{path} is restored from the other files of the run")
        run, job = resumed.run, resumed.job.computed_by(executor)
        assert isinstance(run.data, DataSet)  # data that was opened by its name always is
        for note in (*run.data.notes, *job.notes):
            complain(note)
        expect_test(job, run.data.test, classes=run.data.classes)
        say_of(args)(
            f"going on from iteration {run.iterations} of {job.recipe.iterations} in {args.folder}"
        )
        return train_job(
            args,
            job,
            run.data,
            args.folder,
            recording=resumed.recording,
            costs=run.costs,
            watched=resumed.watched,
            before=run.rows,
        )
