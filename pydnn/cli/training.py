"""What `train` and `resume` share: the fold with its reports, and what is told at its end."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from pydnn import plots
from pydnn.checks import BadInput, Json, expect_count, expect_real, fixed, install_command, path_of
from pydnn.cli import output
from pydnn.data import DataSet
from pydnn.descriptions.parts import Description
from pydnn.jobs.job import Job
from pydnn.jobs.scores import Score, scores_of
from pydnn.jobs.training import Trained, train
from pydnn.records import FloatArray
from pydnn.runs import Recording, record
from pydnn.runs.logs import logs_of
from pydnn.runs.pruning import size_of
from pydnn.runs.recording import MOST_BYTES, RunMoved
from pydnn.runs.state_arrays import state_fingerprint
from pydnn.storage.run_files import MODEL_FILE
from pydnn.training import NotFinite, StepInfo, progress
from pydnn.training.stopping import Watched
from pydnn.training.streams import Stream, logged

__all__ = ["Say", "add_training_options", "check_training_options", "say_of", "train_job"]

Say = Callable[..., None]  # takes lines


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add what has no part in any bit of a training: how it is recorded, shown and told."""
    option = parser.add_argument
    option(
        "--checkpoint-every",
        type=int,
        metavar="N",
        help="steps from one segment of the run to the next (default: such that it has at most "
        "about 20, and that writing them takes at most 2 %% of the time)",
    )
    option(
        "--run-size",
        type=float,
        default=MOST_BYTES / 1e6,
        metavar="MB",
        help="megabytes that the segments of the run may have; beyond that, states are dropped "
        "evenly, but for the newest, and computed again when they are needed (default: "
        "%(default)g)",
    )
    option(
        "--tensorboard",
        type=path_of,
        metavar="DIR",
        help="write the numbers of every step to event files in a folder of DIR that is called as "
        "the run is; tensorboard --logdir DIR shows them",
    )
    option(
        "--csv",
        type=path_of,
        metavar="FILE",
        help="write the numbers of every step to FILE as comma-separated values",
    )
    option("--plot", type=path_of, metavar="FILE", help="save a plot of the costs, e.g. costs.png")
    option("--quiet", action="store_true", help="print nothing but the model's path")
    option("--json", action="store_true", help="print one JSON object with all results instead")


def say_of(args: argparse.Namespace) -> Say:
    """How this command line wants to be told what goes on."""
    return _silent if args.quiet or args.json else output.say


def check_training_options(args: argparse.Namespace) -> None:
    """Refuse options that do not fit, before the work."""
    if args.checkpoint_every is not None:
        hint = "give the steps from one segment to the next"
        expect_count("--checkpoint-every", args.checkpoint_every, hint=hint)
    expect_real("--run-size", args.run_size, least=0, hint="give a number of megabytes")
    if args.plot:
        plots.expect_plottable(args.plot)


def train_job(
    args: argparse.Namespace,
    job: Job,
    data: DataSet,
    folder: Path,
    *,
    recording: Recording | None,
    costs: FloatArray,
    watched: Watched | None = None,
) -> int:
    """Train a job, save its model, and tell how well it does; the exit status.

    Args:
        args: The command line's, with the options of `add_training_options`.
        job: From the state on where it begins.
        data: What the model is judged on.
        folder: Where the model goes.
        recording: Where each step is recorded, if it is.
        costs: Of the steps before, if there were any.
        watched: What early stopping has watched in them.
    """
    say = say_of(args)
    begin = time.perf_counter()
    trained = _train(args, job, data, folder, say, recording, costs, watched)
    seconds = time.perf_counter() - begin
    path = folder / MODEL_FILE
    try:
        if recording is None:
            trained.model.save(path)
        elif isinstance(trained.error, BadInput):
            recording.save(trained.state, trained.costs)
        else:
            recording.end(trained.why, state=trained.state)
    except BadInput:
        if trained.error is None:
            raise
        return _report_stop(trained.error, folder)  # the cause, of which this came
    if args.plot and len(trained.costs):
        figure = plots.plot_costs(trained.costs, title=_title(job.recipe.optimizer))
        plots.save_plot(figure, args.plot)
    if trained.error:
        return _report_stop(trained.error, path)
    try:
        scores = scores_of(trained.model, data)
    except BadInput as error:  # e.g. where a prediction is beyond the range of numbers
        return _report_stop(error, path)
    if args.json:
        output.say_json(_as_json(trained, scores, seconds, folder))
        return 0
    _tell(say, trained, scores, seconds)
    if recording is not None:
        say(f"recorded in {folder}, {size_of(folder) / 1e6:.1f} MB")
    output.say(path if args.quiet else f"model {path}")
    return 0


def _train(
    args: argparse.Namespace,
    job: Job,
    data: DataSet,
    folder: Path,
    say: Say,
    recording: Recording | None,
    costs: FloatArray,
    watched: Watched | None,
) -> Trained:
    """Train the job; what it came to, also where an interruption or an error ended it."""
    bar: Callable[[Stream], Stream] = lambda stream: stream  # noqa: E731
    if sys.stderr.isatty() and not args.quiet:
        bar, say = _with_bar(job.recipe.iterations - len(costs), say)

    def through(stream: Stream) -> Stream:
        stream = bar(stream)
        logs = {"tensorboard": args.tensorboard, "csv": args.csv}
        if recording is not None:
            stream = record(recording, stream, every=args.checkpoint_every, **logs)
        else:
            for log in logs_of(**logs, name=folder.resolve().name):
                stream = logged(stream, log)
        return _reported(stream, say, interrupted, evaluated=bool(job.recipe.evaluate_every))

    with _noting_interrupts() as interrupted:
        trained = train(
            job,
            data,
            through=through,
            costs=costs.tolist(),
            watched=watched,
            ending=(BadInput, NotFinite, KeyboardInterrupt, output.ReaderGone),
        )
    if isinstance(trained.error, BadInput) and len(trained.costs) == len(costs):
        raise trained.error  # nothing is new
    return trained


def _reported(stream: Stream, say: Say, interrupted: list[int], *, evaluated: bool) -> Stream:
    """The stream, each step of which is reported once it has been handed on."""
    with contextlib.closing(stream):  # type: ignore[type-var]  # which is a generator
        for pair in stream:
            yield pair
            _report_step(pair[1], say, evaluated=evaluated)
            if interrupted:
                raise KeyboardInterrupt


@contextlib.contextmanager
def _noting_interrupts() -> Iterator[list[int]]:
    """The signals of interruptions so far: the first is noted only, a second raises.

    A training then ends between two steps, where its state and its files are whole. Nor can
    the signal be lost, as it is where it raises while an object ends: Python says no more than
    "Exception ignored" of that, and goes on.
    """
    come: list[int] = []

    def note(number: int, frame: object) -> None:
        come.append(number)
        if len(come) > 1:
            raise KeyboardInterrupt

    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not (ours and threading.current_thread() is threading.main_thread()):
        yield come
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield come
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _report_step(info: StepInfo, say: Say, *, evaluated: bool) -> None:
    if info.measured:
        shown = [n for n in info.measured if n.endswith(("cost", "accuracy", "r_squared"))]
        measured = "".join(f"  {name} {fixed(info.measured[name], 4)}" for name in shown)
        say(f"after {info.iteration + 1:5} iterations  cost {fixed(info.cost, 6)}{measured}")
    elif info.iteration % 100 == 0 and not evaluated:
        say(f"iteration {info.iteration:5}  cost {fixed(info.cost, 6)}")


def _with_bar(iterations: int, say: Say) -> tuple[Callable[[Stream], Stream], Say]:
    """A way for the stream under a progress bar, and to print without tearing the bar."""
    if find_spec("tqdm") is None:
        output.complain(f"for a progress bar, run {install_command('progress')}")
        return lambda stream: stream, say
    from tqdm import tqdm

    def say_above_the_bar(*lines: object) -> None:
        with tqdm.external_write_mode(file=sys.stdout):
            say(*lines)

    return partial(progress, total=iterations), say_above_the_bar


def _report_stop(stopped: BaseException, path: Path) -> int:
    if isinstance(stopped, RunMoved):
        raise stopped
    kept = f"what was trained before is in {path}"
    if isinstance(stopped, BadInput | NotFinite):
        output.complain(f"{str(stopped).removesuffix('.')}; {kept}")
        return 2
    if isinstance(stopped, output.ReaderGone):  # nobody reads on, e.g. `pydnn train | head`
        raise stopped
    output.complain(f"interrupted; {kept}")
    return 130


def _tell(say: Say, trained: Trained, scores: dict[str, Score], seconds: float) -> None:
    costs, watch = trained.costs.tolist(), trained.job.recipe.watch
    cost = f"cost {fixed(costs[-1], 6)} " if costs else ""
    say(f"{cost}after {len(costs)} iterations, {seconds:.1f} s")
    if trained.iteration < len(costs):
        say(f"best {watch} after {trained.iteration} iterations, which is kept")
    validation = trained.job.data.get("validation")
    held_back = "" if validation is None else f"the {validation.X.shape[1]}"
    for part, score in scores.items():
        say(score.line(part, held_back=held_back))


def _as_json(
    trained: Trained, scores: dict[str, Score], seconds: float, folder: Path
) -> dict[str, Json]:
    accuracies = {
        f"{part}_accuracy": score.metrics["accuracy"]
        for part, score in scores.items()
        if "accuracy" in score.metrics
    }
    return {
        "costs": trained.costs.tolist(),
        **accuracies,
        "scores": {part: dict(score.metrics) for part, score in scores.items()},
        "iterations": len(trained.costs),
        "kept_iteration": trained.iteration,
        "fingerprint": state_fingerprint(trained.last),
        "seconds": seconds,
        "run": str(folder),
    }


def _title(optimizer: Description) -> str:
    match optimizer:
        case {"gradient_descent": {"learning_rate": int() | float() as rate}}:
            return f"Learning rate = {rate:g}"
    return str(next(iter(optimizer)))


def _silent(*lines: object) -> None:
    pass
