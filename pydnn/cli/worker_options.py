"""Options for who does the work: this thread, several threads or processes, or a cluster."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pydnn.checks import BadInput, expect_count
from pydnn.cli.output import complain
from pydnn.cli.run_options import option_group
from pydnn.engines import ENGINES, VARIABLE, chosen_engine, using_engine
from pydnn.processors import usable_cores

if TYPE_CHECKING:
    from pydnn.workers import Executor

__all__ = ["EXECUTORS", "add_worker_options", "check_worker_options", "executor_of"]

_MOST_WORKERS = {"serial": 1, "threads": 256, "processes": 256}
EXECUTORS = tuple(_MOST_WORKERS)


def add_worker_options(parser: argparse.ArgumentParser, *, example: str) -> None:
    """Add the group for who does the work. No result depends on it."""
    option = option_group(parser, "who does the work", example).add_argument
    option(
        "--executor",
        choices=EXECUTORS,
        help="do the work in this process, in several of its threads, or in several processes; the "
        "result has the same bits (default: this process, or processes with --workers)",
    )
    option(
        "--workers",
        type=int,
        metavar="N",
        help="how many threads or processes (default: one for each core)",
    )
    option(
        "--cluster",
        metavar="ADDRESS",
        help="do the work on a Dask cluster: tcp://HOST:PORT of its scheduler, or local:N to start "
        "a cluster of N processes on this machine",
    )
    option(
        "--engine",
        choices=ENGINES,
        help="do elementwise work with NumPy, or with loops that numba compiles for this "
        "processor, to the same bits; auto compiles for long trainings; where numba is missing, "
        f"NumPy does all the work (default: {VARIABLE} if it is set, else auto)",
    )


def check_worker_options(args: argparse.Namespace) -> None:
    """Refuse wrong options before the work starts.

    Raises:
        BadInput: If a number is wrong, or options contradict each other.
    """
    if args.workers is not None:
        most = _MOST_WORKERS[args.executor or "processes"]
        if most == 1 < args.workers:
            raise BadInput(
                f"--executor {args.executor} has one worker, but --workers is {args.workers}: "
                "choose threads or processes, or leave --workers out."
            )
        hint = "give the number of threads or processes"
        expect_count("--workers", args.workers, most=most, hint=hint)
    if args.cluster is not None:
        other = "executor" if args.executor is not None else "workers"
        if getattr(args, other) is not None:
            raise BadInput(
                f"--cluster and --{other} contradict each other, expected one: leave --{other} "
                "out, because a cluster knows how many workers it has."
            )


@contextlib.contextmanager
def executor_of(args: argparse.Namespace) -> Iterator[Executor | None]:
    """The executor that the options name, until the context ends; None if they name none.

    The engine that the options name is chosen until then, too.

    Raises:
        BadInput: If the options are wrong, or the cluster does not answer.
        MissingExtra: If a cluster is asked for and Dask is not installed.
    """
    check_worker_options(args)
    with using_engine(args.engine or chosen_engine()), _executor_of(args) as executor:
        yield executor


@contextlib.contextmanager
def _executor_of(args: argparse.Namespace) -> Iterator[Executor | None]:
    name = args.executor or (args.workers and "processes")
    if not name and args.cluster is None:
        yield None
        return
    from pydnn import workers  # only those who ask for workers need it

    count = args.workers or usable_cores()
    makers: dict[str, Callable[[], contextlib.AbstractContextManager[Executor]]] = {
        "serial": workers.serial,
        "threads": lambda: workers.threads(count),
        "processes": lambda: workers.processes(count),
        "cluster": lambda: workers.dask(args.cluster, on_refused=complain),
    }
    with makers["cluster" if args.cluster is not None else name]() as executor:
        yield executor
