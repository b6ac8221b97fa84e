"""`pydnn sweep`: train a recipe with several seeds or options, and compare the results."""

from __future__ import annotations

import argparse
import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import toolz

from pydnn import plots
from pydnn.checks import BadInput, Json, expect_count, expect_known, fixed, path_of, printable
from pydnn.cli.output import complain, say, say_json
from pydnn.cli.recipe_options import add_recipe_options, recipe_for_data, recipe_of, typed
from pydnn.cli.run_options import Commands, add_mapped_option, option_group
from pydnn.cli.train import plain_folder
from pydnn.cli.worker_options import add_worker_options, executor_of
from pydnn.data import lasting_name
from pydnn.descriptions.parts import is_description
from pydnn.descriptions.text import read_values, write_description
from pydnn.jobs.loading import data_of
from pydnn.metrics import METRICS
from pydnn.recipes.recipe import Recipe
from pydnn.storage.run_files import MODEL_FILE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pydnn.sweeps import Outcome, Spread, Sweep, SweepResult, Variation
    from pydnn.workers import Executor

__all__ = ["add_to"]

_MOST_OF_A_SETTING = 100  # characters, to which all lines of the table are filled up
_RATE, _STRENGTH = "optimizer.learning_rate", "penalties.strength"


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "sweep",
        help="train a recipe with several seeds or options, and compare the results",
        description="Train a recipe, or the tutorial's network, with every combination of seeds "
        "and other values, and print the mean, the spread and the best. Small networks of one "
        "shape are trained at the same time; each has the same bits as when it is trained alone.",
    )
    add_recipe_options(parser)
    varied = option_group(
        parser, "what to vary", "digits.toml --seeds 5 --vary 'batches.size=32,64'"
    )
    option = varied.add_argument
    option(
        "--seeds",
        default="1",
        metavar="N or N,N",
        help="how many seeds, counted from --seed; or a list of seeds (default: 1)",
    )
    option("--learning-rates", metavar="RATE,RATE", help="learning rates of the optimizer")
    option(
        "--penalty-strengths",
        metavar="N,N",
        help="strengths of the recipe's penalty, or of an l2_penalty if it has none",
    )
    option(
        "--vary",
        action="append",
        default=[],
        metavar="NAME=V,V",
        help="values of any part of the recipe or of its options, e.g. 'network.0.units=10,20' or "
        "'optimizer=adam,lion'; can be repeated",
    )
    option(
        "--folds",
        type=int,
        metavar="N",
        help="cross-validation: train N times, and hold back another N-th of the examples each "
        "time, instead of a share",
    )
    option("--one-by-one", action="store_true", help="train one network after the other")
    best = option_group(parser, "which is the best", "--validation 0.2 --save-best best")
    option = best.add_argument
    option("--best-by", metavar="NAME", default="", help="e.g. 'validation accuracy' (default: "
           "validation cost, or train cost if no examples are held back)")  # fmt: skip
    option(
        "--save-best",
        type=path_of,
        metavar="DIR",
        help="a new folder for the best model, for evaluate and predict",
    )
    recorded = option_group(parser, "where it is recorded", "--seeds 8 --record sweeps/first")
    recorded.add_argument(
        "--record",
        type=path_of,
        metavar="DIR",
        help="record each training as a run in this folder, for replay, diff and evaluate; if the "
        "folder already has runs of this sweep, the sweep goes on without repeating finished ones",
    )
    option = parser.add_argument
    option("--plot", type=path_of, metavar="FILE", help="save a plot of all costs, e.g. sweep.png")
    option("--json", action="store_true", help="print one JSON object with all results instead")
    add_mapped_option(parser)
    add_worker_options(parser, example="digits.toml --seeds 8 --executor processes --workers 4")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.folds is not None:
        _expect_folds(args)
        # A fold is held back, so that 'validation cost' can be watched.
        args.validation, args.fold = 0.0, (1, args.folds)
    recipe = recipe_of(args)
    over = _over(args)
    _check_score(args.best_by)
    if _STRENGTH in over and not recipe.penalties:
        recipe = attrs.evolve(recipe, penalties=({"l2_penalty": {"strength": 0.0}},))
    if args.plot:
        plots.expect_plottable(args.plot)
    with executor_of(args) as executor:  # first, so that workers start while the data is read
        data = data_of(recipe, mapped=args.mapped)
        recipe = recipe_for_data(args, recipe, data)
        from pydnn.sweeps import sweep  # here, because no other command needs it

        plan = sweep(
            recipe,
            data,
            seeds=_seeds(args.seeds),
            over=over,
            together=not args.one_by_one,
            folds=args.folds,
        )
        plan = attrs.evolve(plan, place=lasting_name(recipe.data))  # where workers find it, too
        for note in (*data.notes, *plan.notes):
            complain(note)
        best_folder = args.save_best and plain_folder(args.save_best, option="--save-best")
        with best_folder or contextlib.nullcontext():
            return _swept(args, plan, executor)


def _swept(args: argparse.Namespace, plan: Sweep, executor: Executor | None) -> int:
    from pydnn.cli.live_table import live_table
    from pydnn.sweeps import SweepResult, outcomes

    begin = time.perf_counter()
    try:
        with live_table(plan, by=args.best_by, called=_called, setting=_setting_of) as table:
            by_number = {}
            stream = outcomes(
                plan,
                executor=executor,
                record=args.record,
                on_progress=table.on_progress,
                on_begin=table.on_begin,
            )
            with contextlib.closing(stream):
                for number, outcome in stream:
                    by_number[number] = outcome
                    table.on_end(number, outcome)
    except KeyboardInterrupt:
        if args.record is None:
            raise
        complain(f"interrupted; the same command goes on with the sweep in {args.record}")
        return 130
    result = SweepResult(tuple(by_number[number] for number in range(len(plan.runs))))
    seconds = time.perf_counter() - begin
    best = result.best(args.best_by)
    _report(args, result, best, seconds, _folders(args, plan))
    if args.plot:
        plots.save_plot(_plot(result, best, plan.recipe), args.plot)
    if args.save_best:
        result.outcomes[best].model.save(args.save_best / MODEL_FILE)
    return 0


# The question


def _expect_folds(args: argparse.Namespace) -> None:
    hint = "give the number of folds, e.g. 5"
    expect_count("--folds", args.folds, least=2, hint=hint)
    for option, value in (("--validation", args.validation), ("--fold", args.fold)):
        if value:
            raise BadInput(
                f"--folds and {option} contradict each other: each of the folds is held back once, "
                f"so leave {option} out."
            )
    if args.save_best:
        raise BadInput(
            "--save-best and --folds are both present, but no training of a fold has all examples: "
            "choose the best setting, and train it with pydnn train."
        )


def _over(args: argparse.Namespace) -> dict[str, list[object]]:
    texts = [(_RATE, args.learning_rates), (_STRENGTH, args.penalty_strengths)]
    for text in args.vary:
        name, equals, values = text.partition("=")
        if not equals:
            raise BadInput(
                f"--vary is {text!r}, expected a name and values: "
                "give e.g. --vary optimizer.learning_rate=0.1,0.3."
            )
        texts.append((name.strip(), values))
    over: dict[str, list[object]] = {}
    for name, values in texts:
        if values is None:
            continue
        if name in over:
            raise BadInput(
                f"{name} is varied twice, expected once: put all values into one option."
            )
        try:
            over[name] = read_values(values, allow=typed(values))
        except BadInput as error:
            raise BadInput(f"values of {name}: {error}") from error
    return over


def _check_score(name: str) -> None:
    """Refuse a score that no task has, before the work starts."""
    if name:
        scores = dict.fromkeys(["cost", *toolz.concat(METRICS.values())])
        parts = ("train", "validation", "test")
        expect_known("score", name, [f"{part} {score}" for part in parts for score in scores])


def _seeds(text: str) -> int | list[int]:
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers:
        raise BadInput(
            f"--seeds is {text!r}, expected a number of seeds, or seeds separated by commas: "
            "give e.g. --seeds 32."
        )
    return numbers[0] if "," not in text else numbers


# The answer


def _folders(args: argparse.Namespace, plan: Sweep) -> list[Path]:
    """The folders of the recorded runs; empty if nothing is recorded."""
    if args.record is None:
        return []
    from pydnn.sweeps.recording import folder_of

    return [args.record / folder_of(variation.recipe) for variation in plan.runs]


def _report(
    args: argparse.Namespace, result: SweepResult, best: int, seconds: float, runs: list[Path]
) -> None:
    by = args.best_by or result.selector
    model = args.save_best and args.save_best / MODEL_FILE
    if args.json:
        say_json(_as_json(result, best, by, seconds, model, runs))
        return
    say(*_table(result))
    say()
    say(*_in_words(result, best, by, seconds))
    if runs:
        say(f"recorded in {args.record}, the best in {runs[best]}")
    if model:
        say(f"model {model}")


def _spreads(result: SweepResult) -> dict[str, Spread]:
    """The spread of the last step's cost, and of the scores that people look at first."""
    shown = [name for name in result.names if name.endswith(("accuracy", "r_squared"))]
    held_back = [name for name in result.names if name == "validation cost"]
    from pydnn.sweeps import spread_of

    final = [float(o.costs[-1]) for o in result.outcomes if len(o.costs) and o.scores]
    spreads = {name: result.spread(name) for name in [*held_back, *shown]}
    return {"final cost": spread_of(final), **spreads}


def _table(result: SweepResult) -> Iterator[str]:
    """One line for each score of each setting, under a heading."""
    settings = [
        (printable(_setting(own.outcomes[0].setting), most=_MOST_OF_A_SETTING), own)
        for own in result.by_setting
    ]
    wide = max([len(name) for name, _ in settings])
    gap = wide + 2 if wide else 0
    yield (" " * gap + f"{'':20}{'mean':>12}{'deviation':>12}{'min':>12}{'max':>12}{'count':>7}")
    for name, own in settings:
        known = {score: spread for score, spread in _spreads(own).items() if spread.count}
        if not known:
            yield f"{name:{gap}}every training diverged"
        for number, (score, spread) in enumerate(known.items()):
            numbers = (spread.mean, spread.deviation, spread.least, spread.greatest)
            columns = "".join(f"{value:12.6g}" for value in numbers)
            yield f"{'' if number else name:{gap}}{score:20}{columns}{spread.count:7}".rstrip()


def _in_words(result: SweepResult, best: int, by: str, seconds: float) -> Iterator[str]:
    outcome = result.outcomes[best]
    others = [n for n in result.names if n.endswith(("accuracy", "r_squared")) and n != by]
    scores = ", ".join(f"{name} {fixed(outcome.scores[name], 4)}" for name in others)
    if outcome.recipe.fold:
        own = next(own for own in result.by_setting if outcome in own.outcomes)
        spread, setting = own.spread(by), _setting(outcome.setting)
        yield (
            f"best mean {by} {spread.mean:.6g} +- {spread.deviation:.2g} over {spread.count} "
            f"trainings{f': {setting}' if setting else ''}"
        )
    else:
        yield f"best by {by} {outcome.scores[by]:.6g}: {_called(outcome)}; {scores}"
    count = len(result.outcomes)
    yield f"{count} training{'s' if count > 1 else ''} in {seconds:.1f} s"
    together = sum(not o.why_not_stacked for o in result.outcomes)
    if together:
        yield f"  {together} at the same time, in stacks of networks of one shape"
    for reason in dict.fromkeys(o.why_not_stacked for o in result.outcomes if o.why_not_stacked):
        yield f"  {sum(o.why_not_stacked == reason for o in result.outcomes)} one by one: {reason}"
    for own in result.by_setting:
        lost = [outcome for outcome in own.outcomes if not outcome.scores]
        if lost:
            yield f"  {len(lost)} diverged, e.g. {_called(lost[0])}: " + (
                lost[0].stopped or "its outputs are not finite"
            )


def _called(training: Outcome | Variation) -> str:
    recipe, setting = training.recipe, _setting_of(training)
    fold = ", fold {} of {}".format(*recipe.fold) if recipe.fold else ""
    return f"seed {recipe.seed}{fold}" + (f", {setting}" if setting else "")


def _setting_of(training: Outcome | Variation) -> str:
    return _setting(training.setting)


def _setting(setting: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in setting.items())


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return " ".join(write_description(value).split()) if is_description(value) else str(value)


def _as_json(
    result: SweepResult, best: int, by: str, seconds: float, model: Path | None, runs: list[Path]
) -> dict[str, Json]:
    trainings: list[Json] = [
        {
            "seed": outcome.recipe.seed,
            **({"fold": list(outcome.recipe.fold)} if outcome.recipe.fold else {}),
            "setting": dict(outcome.setting),
            "scores": {name: _number(value) for name, value in outcome.scores.items()},
            "iterations": len(outcome.costs),
            "kept_iteration": outcome.model.iteration,
            "stopped": outcome.stopped,
            "together": not outcome.why_not_stacked,
            "costs": outcome.costs.tolist(),
            **({"run": str(runs[number])} if runs else {}),
        }
        for number, outcome in enumerate(result.outcomes)
    ]
    spreads: list[Json] = [
        {
            "setting": dict(own.outcomes[0].setting),
            "scores": {
                name: {n: _number(v) for n, v in attrs.asdict(spread).items()}
                for name, spread in _spreads(own).items()
            },
        }
        for own in result.by_setting
    ]
    results: dict[str, Json] = {
        "runs": trainings,
        "spread": spreads,
        "best": best,
        "best_by": by,
        "seconds": seconds,
    }
    return {**results, "model": str(model)} if model else results


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plot(result: SweepResult, best: int, recipe: Recipe) -> Figure:
    names = [_setting(outcome.setting) for outcome in result.outcomes]
    costs = result.costs
    rows: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        rows.setdefault(name, []).append(number)
    seeds = len(next(iter(rows.values())))
    of = "fold" if recipe.fold else "seed"
    settings = f" of {len(rows)} settings each" if len(rows) > 1 else ""
    loss = next(iter(recipe.loss))
    return plots.plot_sweep(
        {name: costs[numbers] for name, numbers in rows.items()},
        best=(names[best], rows[names[best]].index(best)),
        title=f"{seeds} {of}{'s' if seeds > 1 else ''}{settings}",
        ylabel=f"cost ({'nats' if 'cross_entropy' in loss else loss} per example)",
    )
