"""`pydnn train`: the tutorial's job, and every option of it."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from pydnn.checks import BadInput
from pydnn.cli.scores import Score, score
from pydnn.data import load_images, to_batch
from pydnn.recipes import DTYPES, Job, prepare, tutorial_recipe
from pydnn.runs import MODEL_FILE, Model, save_model
from pydnn.training import NotFinite, TrainState, progress, scan

__all__ = ["add_to"]

SHOWN = " (default: %(default)s)"


def add_to(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "train",
        help="train a network and save it",
        description="Train the tutorial's network, by default on the cats that pydnn draws itself.",
        epilog="example: pydnn train --data photos/ --layers 20,7,5 --plot costs.png",
    )
    option = parser.add_argument
    option(
        "--data",
        default="drawn-cats",
        metavar="drawn-cats|DIR",
        help="the drawn cats, or a directory with train_catvnoncat.h5 and test_catvnoncat.h5"
        + SHOWN,
    )
    option("--layers", default="20,7,5", metavar="N,N", help="units of hidden layers" + SHOWN)
    option(
        "--learning-rate",
        type=float,
        default=0.0075,
        metavar="RATE",
        help="size of a step downhill" + SHOWN,
    )
    option("--iterations", type=int, default=2500, metavar="N", help="full-batch steps" + SHOWN)
    option("--seed", type=int, default=1, metavar="N", help="of the initial weights" + SHOWN)
    option("--dtype", choices=sorted(DTYPES), default="float64", help="precision" + SHOWN)
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


def _run(args: argparse.Namespace) -> int:
    recipe = tutorial_recipe(
        data=args.data,
        hidden=_units(args.layers),
        learning_rate=args.learning_rate,
        iterations=args.iterations,
        seed=args.seed,
        dtype=args.dtype,
    )
    if args.plot:
        _plots().expect_plottable(args.plot)
    train, test = load_images(args.data)
    job = prepare(recipe, to_batch(train, dtype=DTYPES[recipe.dtype]))
    say = _silent if args.quiet or args.json else print

    with _new_folder(args.folder) as folder:
        say(f"training on {len(train)} images of {recipe.data}, to be tested on {len(test)}")
        begin = time.perf_counter()
        state, costs, stopped = _train(job, recipe.iterations, say, quiet=args.quiet)
        seconds = time.perf_counter() - begin
        shape = train.images.shape[1:]
        model = Model(recipe, state.parameters, shape, train.classes, np.array(costs))
        path = folder / MODEL_FILE
        save_model(path, model)
    if args.plot and costs:
        plots = _plots()
        plots.save_plot(plots.plot_costs(costs, learning_rate=args.learning_rate), args.plot)
    if stopped:
        return _report_stop(stopped, path)

    train_score, test_score = score(model, train), score(model, test)
    say(f"cost {costs[-1]:.6f} after {len(costs)} iterations, {seconds:.1f} s")
    say(f"train accuracy {train_score}")
    say(f"test accuracy {test_score}")
    if args.json:
        print(_as_json(costs, train_score, test_score, seconds, folder))
    else:
        print(path if args.quiet else f"model {path}")
    return 0


def _train(
    job: Job, iterations: int, say: Callable[[str], None], *, quiet: bool
) -> tuple[TrainState, list[float], BaseException | None]:
    """Fold the job's step; the last good state, its costs, and what stopped it early, if so."""
    state, costs = job.state, []
    stream = scan(job.train_step, job.state, job.batches)
    if sys.stderr.isatty() and not quiet:
        stream, say = _with_bar(stream, iterations, say)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # NotFinite says it better
            for after, info in stream:
                state = after
                costs.append(info.cost)
                if info.iteration % 100 == 0:
                    say(f"iteration {info.iteration:5}  cost {info.cost:.6f}")
    except (NotFinite, KeyboardInterrupt, BrokenPipeError) as error:
        return state, costs, error
    return state, costs, None


def _with_bar(
    stream: Iterator[tuple[TrainState, Any]], iterations: int, say: Callable[[str], None]
) -> tuple[Iterator[tuple[TrainState, Any]], Callable[[str], None]]:
    """The stream under a progress bar, and a way to print that does not tear the bar."""
    if find_spec("tqdm") is None:
        print("pydnn: for a progress bar, run pip install 'pydnn[progress]'", file=sys.stderr)
        return stream, say
    from tqdm import tqdm

    printing = say if say is _silent else tqdm.write
    return progress(stream, total=iterations), printing


def _report_stop(stopped: BaseException, path: Path) -> int:
    kept = f"what was trained before is in {path}"
    if isinstance(stopped, NotFinite):
        print(f"pydnn: {stopped}; {kept}", file=sys.stderr)
        return 2
    if isinstance(stopped, BrokenPipeError):  # nobody reads on, e.g. `pydnn train | head`
        raise stopped
    print(f"pydnn: interrupted; {kept}", file=sys.stderr)
    return 130


def _as_json(
    costs: list[float], train_score: Score, test_score: Score, seconds: float, folder: Path
) -> str:
    return json.dumps(
        {
            "costs": costs,
            "train_accuracy": train_score.accuracy,
            "test_accuracy": test_score.accuracy,
            "iterations": len(costs),
            "seconds": seconds,
            "run": str(folder),
        }
    )


def _units(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if text.strip())
    except ValueError:
        raise BadInput(
            f"--layers is {text!r}, expected numbers of units with commas between: "
            "give e.g. --layers 20,7,5."
        ) from None


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
