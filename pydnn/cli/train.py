"""`pydnn train`: a recipe's job, or the tutorial's, and every option of it."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.cli.recipe_options import add_recipe_options, recipe_of
from pydnn.cli.scores import Score, scores_of
from pydnn.data import DataSet, load_data_set
from pydnn.recipes import DTYPES, Job, prepare, run
from pydnn.runs import MODEL_FILE, Model, save_model
from pydnn.training import NotFinite, StepInfo, TrainState, progress
from pydnn.training.streams import Stream

__all__ = ["add_to"]


def add_to(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "train",
        help="train a network and save it",
        description="Train the job of a recipe; without one the tutorial's network, on the cats "
        "that pydnn draws itself. Options go before what the recipe says.",
        epilog="example: pydnn train digits.toml --optimizer 'adam(learning_rate=0.001)'",
    )
    add_recipe_options(parser)
    option = parser.add_argument
    option(
        "--run",
        type=Path,
        metavar="DIR",
        dest="folder",
        help="where the model goes; it must not exist yet (default: the next runs/NNNN)",
    )
    option("--plot", type=Path, metavar="FILE", help="save a plot of the costs, e.g. costs.png")
    option("--quiet", action="store_true", help="print nothing but the model's path")
    option("--json", action="store_true", help="print one JSON object with all results instead")
    parser.set_defaults(run=_run)


@attrs.frozen
class _Trained:
    """Where a training has got to, and what stopped it early, if something did."""

    state: TrainState
    costs: list[float]
    stopped: BaseException | None = None


def _run(args: argparse.Namespace) -> int:
    recipe = recipe_of(args)
    if args.plot:
        _plots().expect_plottable(args.plot)
    data = load_data_set(recipe.data, dtype=DTYPES[recipe.dtype])
    job = prepare(recipe, data.train)
    say = _silent if args.quiet or args.json else print

    with _new_folder(args.folder) as folder:
        say(_opening(data, recipe.data))
        begin = time.perf_counter()
        trained = _train(job, say, quiet=args.quiet)
        seconds = time.perf_counter() - begin
        model = _model(job, data, trained)
        path = folder / MODEL_FILE
        save_model(path, model)
    costs = trained.costs
    if args.plot and costs:
        plots = _plots()
        plots.save_plot(plots.plot_costs(costs, title=_title(recipe.optimizer)), args.plot)
    if trained.stopped:
        return _report_stop(trained.stopped, path)

    scores = scores_of(model, data)
    say(f"cost {costs[-1]:.6f} after {len(costs)} iterations, {seconds:.1f} s")
    if trained.state.iteration < len(costs):
        say(f"best {recipe.watch} after {trained.state.iteration} iterations, which is kept")
    for part, part_score in scores.items():
        say(f"{part} {part_score}")
    if args.json:
        print(_as_json(trained, scores, seconds, folder))
    else:
        print(path if args.quiet else f"model {path}")
    return 0


def _opening(data: DataSet, name: str) -> str:
    kind = "examples" if data.image_shape is None else "images"
    train, test = data.train.X.shape[1], data.test.X.shape[1]
    return f"training on {train} {kind} of {name}, to be tested on {test}"


def _model(job: Job, data: DataSet, trained: _Trained) -> Model:
    return Model(
        job.recipe,
        trained.state.parameters,
        np.array(trained.costs),
        len(data.train.X),
        trained.state.statistics,
        job.standardization,
        data.image_shape,
        data.classes,
    )


def _train(job: Job, say: Callable[[str], None], *, quiet: bool) -> _Trained:
    """Fold the job's step; where that ends, and the cost of every step taken."""
    state = job.state
    costs: list[float] = []
    by: Callable[[Stream], Stream] = lambda stream: stream  # noqa: E731
    if sys.stderr.isatty() and not quiet:
        by, say = _with_bar(job.recipe.iterations, say)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # NotFinite says it better
            for after, info in run(job, by=by):
                state = after
                if info.iteration < len(costs):  # early stopping hands back the best one
                    continue
                costs.append(info.cost)
                _report_step(info, say, evaluated=bool(job.recipe.evaluate_every))
    except (BadInput, NotFinite, KeyboardInterrupt, BrokenPipeError) as error:
        if isinstance(error, BadInput) and not costs:  # then there is nothing to keep
            raise
        return _Trained(state, costs, error)
    return _Trained(state, costs)


def _report_step(info: StepInfo, say: Callable[[str], None], *, evaluated: bool) -> None:
    if info.measured:
        shown = [n for n in info.measured if n.endswith(("cost", "accuracy", "r_squared"))]
        told = "".join(f"  {name} {info.measured[name]:.4f}" for name in shown)
        say(f"after {info.iteration + 1:5} iterations  cost {info.cost:.6f}{told}")
    elif info.iteration % 100 == 0 and not evaluated:
        say(f"iteration {info.iteration:5}  cost {info.cost:.6f}")


def _with_bar(
    iterations: int, say: Callable[[str], None]
) -> tuple[Callable[[Stream], Stream], Callable[[str], None]]:
    """A way for the stream under a progress bar, and to print without tearing the bar."""
    if find_spec("tqdm") is None:
        print("pydnn: for a progress bar, run pip install 'pydnn[progress]'", file=sys.stderr)
        return lambda stream: stream, say
    from tqdm import tqdm

    printing = say if say is _silent else tqdm.write
    return partial(progress, total=iterations), printing


def _report_stop(stopped: BaseException, path: Path) -> int:
    kept = f"what was trained before is in {path}"
    if isinstance(stopped, BadInput | NotFinite):
        print(f"pydnn: {str(stopped).removesuffix('.')}; {kept}", file=sys.stderr)
        return 2
    if isinstance(stopped, BrokenPipeError):  # nobody reads on, e.g. `pydnn train | head`
        raise stopped
    print(f"pydnn: interrupted; {kept}", file=sys.stderr)
    return 130


def _as_json(trained: _Trained, scores: dict[str, Score], seconds: float, folder: Path) -> str:
    accuracies = {
        f"{part}_accuracy": score.metrics["accuracy"]
        for part, score in scores.items()
        if "accuracy" in score.metrics
    }
    return json.dumps(
        {
            "costs": trained.costs,
            **accuracies,
            "scores": {part: dict(score.metrics) for part, score in scores.items()},
            "iterations": len(trained.costs),
            "kept_iteration": trained.state.iteration,
            "seconds": seconds,
            "run": str(folder),
        }
    )


def _title(optimizer: Any) -> str:
    match optimizer:
        case {"gradient_descent": {"learning_rate": int() | float() as rate}}:
            return f"Learning rate = {rate:g}"
    return str(next(iter(optimizer)))


@contextlib.contextmanager
def _new_folder(wanted: Path | None) -> Iterator[Path]:
    """Make the run's folder before the work, so that a bad place is refused at once.

    It is removed again if nothing came to be in it.
    """
    folder = _next_folder(Path("runs")) if wanted is None else wanted
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise BadInput(
            f"{folder} exists already, expected a new one: give another --run."
        ) from None
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be made ({error.strerror}): give a --run that can be written."
        ) from error
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # that is how rmdir says that it holds something
            folder.rmdir()


def _next_folder(parent: Path) -> Path:
    """The first of runs/0001, runs/0002, … that does not exist."""
    numbered = (parent / f"{number:04}" for number in itertools.count(1))
    return next(folder for folder in numbered if not folder.exists())


def _plots() -> Any:
    from pydnn import plots  # here, since few trainings want one

    return plots


def _silent(text: str) -> None:
    pass
