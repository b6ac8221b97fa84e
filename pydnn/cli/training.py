"""What `train` and `resume` share: the training itself, and what they print about it."""

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

import attrs

from pydnn import plots
from pydnn.checks import BadInput, Json, expect_count, expect_real, fixed, install_command, path_of
from pydnn.cli import output
from pydnn.cli.run_options import Group
from pydnn.data import DataSet
from pydnn.descriptions.parts import Description
from pydnn.jobs.job import Job
from pydnn.jobs.scores import Score, scores_of
from pydnn.jobs.training import Trained, train
from pydnn.records import FloatArray
from pydnn.runs import Recording, record
from pydnn.runs.history import Rows
from pydnn.runs.logs import logs_of
from pydnn.runs.pruning import size_of
from pydnn.runs.recording import MOST_BYTES, RunMoved
from pydnn.runs.state_arrays import state_fingerprint
from pydnn.storage.run_files import MODEL_FILE
from pydnn.training import NotFinite, StepInfo, progress
from pydnn.training.stopping import Watched
from pydnn.training.streams import Stream, logged

__all__ = [
    "Say",
    "add_output_options",
    "add_recording_options",
    "check_training_options",
    "say_of",
    "train_job",
]

Say = Callable[..., None]  # takes lines


def add_recording_options(group: Group) -> None:
    """Add the options for what is recorded of a training. They do not affect the result."""
    option = group.add_argument
    option(
        "--checkpoint-every",
        type=int,
        metavar="N",
        help="steps from one segment of the run to the next (default: about 20 segments, or fewer "
        "if writing them would take more than 2 %% of the time)",
    )
    option(
        "--run-size",
        type=float,
        default=MOST_BYTES / 1e6,
        metavar="MB",
        help="megabytes for the segments of the run; if they take more, pydnn drops some of the "
        "states, never the newest, and computes them again when they are needed (default: "
        "%(default)g)",
    )
    option(
        "--tensorboard",
        type=path_of,
        metavar="DIR",
        help="write the numbers of every step to event files in a folder of DIR with the name of "
        "the run; tensorboard --logdir DIR shows them",
    )
    option(
        "--csv",
        type=path_of,
        metavar="FILE",
        help="write the numbers of every step to FILE as comma-separated values",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for what the command prints and plots. They do not affect the result."""
    option = parser.add_argument
    option("--plot", type=path_of, metavar="FILE", help="save a plot of the costs, e.g. costs.png")
    option("--quiet", action="store_true", help="print nothing but the model's path")
    option("--json", action="store_true", help="print one JSON object with all results instead")


def say_of(args: argparse.Namespace) -> Say:
    """The function that prints the progress of this command: `say`, or one that prints nothing."""
    return _silent if args.quiet or args.json else output.say


def check_training_options(args: argparse.Namespace) -> None:
    """Refuse wrong options before the work starts."""
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
    before: Rows | None = None,
) -> int:
    """Train a job, save the model, print its scores, and return the exit status.

    Args:
        args: The parsed command line, with the options that this module adds.
        job: The job, with the state that training starts from.
        data: The data set whose parts the model is scored on.
        folder: The folder for the model.
        recording: The recording that each step goes to; None to record nothing.
        costs: The costs of earlier steps; empty for a new training.
        watched: What early stopping has watched in those steps.
        before: The numbers of those steps.
    """
    say = say_of(args)
    begin = time.perf_counter()
    measured = _Measured() if before is None else _Measured.of(before)
    trained = _train(args, job, data, folder, say, recording, costs, watched, measured)
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
        return _report_stop(trained.error, folder)  # the first error, which caused this one
    if args.plot and len(trained.costs):
        title = _title(job.recipe.optimizer)
        figure = plots.plot_costs(trained.costs, title=title, measured=measured.costs)
        plots.save_plot(figure, args.plot)
    if trained.error:
        return _report_stop(trained.error, path)
    try:
        scores = scores_of(trained.model, data)
    except BadInput as error:  # e.g. a prediction overflows
        return _report_stop(error, path)
    if args.json:
        output.say_json(_as_json(trained, scores, seconds, folder))
        return 0
    _report(say, trained, scores, seconds)
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
    measured: _Measured,
) -> Trained:
    """Train the job; an interruption or an error ends it early, and the result says so."""
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
        evaluated = bool(job.recipe.evaluate_every)
        return _reported(stream, say, interrupted, measured, evaluated=evaluated)

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
        raise trained.error  # no step was taken, so there is nothing to save
    return trained


@attrs.frozen(eq=False)
class _Measured:
    """The costs of whole parts of the data that a training measures now and then.

    Attributes:
        costs: By part of the data, the iterations, and the cost of the state after each.
    """

    costs: dict[str, tuple[list[int], list[float]]] = attrs.field(factory=dict)

    @staticmethod
    def of(rows: Rows) -> _Measured:
        measured = _Measured()
        for (kind, name), (iterations, costs) in rows.curves.items():
            part, _, what = name.partition(" ")
            if kind == "measured" and what == "cost":
                measured.costs[part] = iterations.tolist(), costs.tolist()
        return measured

    def note(self, info: StepInfo) -> None:
        for name, value in info.measured.items():
            part, _, what = name.partition(" ")
            if what == "cost":
                iterations, costs = self.costs.setdefault(part, ([], []))
                iterations.append(info.iteration + 1)
                costs.append(value)


def _reported(
    stream: Stream, say: Say, interrupted: list[int], measured: _Measured, *, evaluated: bool
) -> Stream:
    """The same stream; each step is printed, and what it measured noted, after it was handed on."""
    with contextlib.closing(stream):  # type: ignore[type-var]  # it is a generator
        for pair in stream:
            yield pair
            measured.note(pair[1])
            _report_step(pair[1], say, evaluated=evaluated)
            if interrupted:
                raise KeyboardInterrupt


@contextlib.contextmanager
def _noting_interrupts() -> Iterator[list[int]]:
    """A list that collects interruptions: the first is only noted, a second raises.

    They are Ctrl-C, and the request to end that batch systems and shutdowns send before they kill.
    So training ends between two steps, when its state and files are complete. And no interruption
    gets lost, as KeyboardInterrupt would inside a finalizer, where Python only prints "Exception
    ignored" and goes on.
    """
    signals: list[int] = []

    def note(number: int, frame: object) -> None:
        signals.append(number)
        if len(signals) > 1:
            raise KeyboardInterrupt

    plain = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    here = threading.current_thread() is threading.main_thread()
    ours = {
        number: own for number, own in plain.items() if here and signal.getsignal(number) == own
    }
    for number in ours:
        signal.signal(number, note)
    try:
        yield signals
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)


def _report_step(info: StepInfo, say: Say, *, evaluated: bool) -> None:
    if info.measured:
        shown = [n for n in info.measured if n.endswith(("cost", "accuracy", "r_squared"))]
        measured = "".join(f"  {name} {fixed(info.measured[name], 4)}" for name in shown)
        say(f"after {info.iteration + 1:5} iterations  cost {fixed(info.cost, 6)}{measured}")
    elif info.iteration % 100 == 0 and not evaluated:
        say(f"iteration {info.iteration:5}  cost {fixed(info.cost, 6)}")


def _with_bar(iterations: int, say: Say) -> tuple[Callable[[Stream], Stream], Say]:
    """A wrapper that shows a stream's progress as a bar, and a `say` that prints above the bar."""
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
    kept = f"the training so far is in {path}"
    if isinstance(stopped, BadInput | NotFinite):
        output.complain(f"{str(stopped).removesuffix('.')}; {kept}")
        return 2
    if isinstance(stopped, output.ReaderGone):  # e.g. `pydnn train | head`
        raise stopped
    output.complain(f"interrupted; {kept}")
    return 130


def _report(say: Say, trained: Trained, scores: dict[str, Score], seconds: float) -> None:
    costs, watch = trained.costs.tolist(), trained.job.recipe.watch
    cost = f"cost {fixed(costs[-1], 6)} " if costs else ""
    say(f"{cost}after {len(costs)} iterations, {seconds:.1f} s")
    if trained.iteration < len(costs):
        say(f"best {watch} after {trained.iteration} iterations, which is kept")
    validation = trained.job.data.get("validation")
    held_back = "" if validation is None else f"the {validation.count}"
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
