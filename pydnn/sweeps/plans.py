"""The plan of a sweep: one recipe with every combination of seeds and other values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from pydnn.checks import MOST_SEED, BadInput, expect_count, expect_known
from pydnn.descriptions.builders import describe, find_builder
from pydnn.descriptions.parts import is_description
from pydnn.recipes.recipe import Recipe, with_seed

__all__ = ["Variation", "variations", "varied"]


_MOST_RUNS = 100_000


@attrs.frozen
class Variation:
    """One training of a sweep.

    Attributes:
        recipe: The recipe of this training, with its seed and its fold.
        setting: The values that were varied, by name; seed and fold are not among them.
    """

    recipe: Recipe
    setting: Mapping[str, Any]


def variations(
    recipe: Recipe,
    *,
    seeds: int | Sequence[int] = 1,
    over: Mapping[str, Sequence[object]],
    folds: int | None = None,
) -> tuple[Variation, ...]:
    """Return one `Variation` for each combination of values, seeds and folds.

    Args:
        recipe: The recipe that all have in common.
        seeds: The seeds, or their number; they then begin with the seed of the recipe.
        over: Lists of values by the names that `varied` takes, e.g.
            {"optimizer.learning_rate": [0.1]}.
        folds: The number of folds that are held back in turn; None for no folds.

    Raises:
        BadInput: If a name, a value or a seed does not fit, or there are too many combinations.
    """
    all_seeds = _seeds(recipe, seeds)
    if folds is not None:
        hint = "give the number of folds, e.g. 5, or leave it out"
        folds = expect_count("folds", folds, least=2, most=_MOST_RUNS, hint=hint)
        recipe = attrs.evolve(recipe, validation=0.0, fold=(1, folds))
    for name in ("validation", "fold"):
        if folds and name in over:
            raise BadInput(
                f"{name} is varied and folds is {folds}, expected only one of them, since both say "
                "which examples are held back: leave one out."
            )
    for name, values in over.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise BadInput(
                f"the values of {name} are {values!r}, expected a list: put them in brackets."
            )
    count = len(all_seeds) * (folds or 1) * math.prod(map(len, over.values()))
    if count > _MOST_RUNS:
        raise BadInput(
            f"the sweep has {count:,} trainings, expected at most {_MOST_RUNS:,}: vary less."
        )
    settings = [
        dict(zip(over, values, strict=True)) for values in itertools.product(*over.values())
    ]
    runs = []
    for setting in settings:
        changed = recipe
        for name, value in setting.items():
            changed = varied(changed, name, value)
        for seed in all_seeds:
            seeded = with_seed(changed, seed)
            runs += [Variation(one, setting) for one in (_each_fold(seeded) if folds else [seeded])]
    return tuple(runs)


def _each_fold(recipe: Recipe) -> list[Recipe]:
    """The recipe for each of as many folds as it has."""
    _, folds = recipe.fold or (1, 1)
    return [attrs.evolve(recipe, fold=(which, folds)) for which in range(1, folds + 1)]


def _seeds(recipe: Recipe, seeds: int | Sequence[int]) -> list[int]:
    if isinstance(seeds, str) or not isinstance(seeds, Sequence):
        hint = "give how many, or a list of seeds"
        count = expect_count("seeds", seeds, most=_MOST_RUNS, hint=hint)
        return list(range(recipe.seed, recipe.seed + count))
    hint = "give seeds of 0 or more"
    listed = [expect_count("seeds", seed, least=0, most=MOST_SEED, hint=hint) for seed in seeds]
    if not listed or len(set(listed)) < len(listed):
        raise BadInput(f"seeds are {listed}, expected one or more, each once: give e.g. [1, 2, 3].")
    return listed


def varied(recipe: Recipe, name: str, value: object) -> Recipe:
    """Return the recipe with another value in the place called `name`.

    Args:
        recipe: The recipe to change.
        name: A field, e.g. "batches", or an option inside a field: "optimizer.learning_rate",
            "network.1.units" for the second stage, "penalties.0.strength" for the first penalty,
            "penalties.strength" for the only penalty.
        value: The new value; for a part, the part or its description.

    Raises:
        BadInput: If there is no such place, or the value does not fit.

    Example:
        >>> recipe = nn.Recipe(
        ...     data="points", network=nn.dense(1), loss=nn.mean_squared(),
        ...     optimizer=nn.adam(), iterations=10,
        ... )
        >>> varied(recipe, "optimizer.learning_rate", 0.1).optimizer
        {'adam': {'learning_rate': 0.1}}
    """
    if hasattr(value, "description"):
        value = describe(value)
    field, *path = name.split(".")
    expect_known("part of a recipe to vary", field, attrs.fields_dict(Recipe))
    if field == "seed":
        raise BadInput("seed is not a value to vary: pass seeds=… instead.")
    if field == "data":  # only the name would change: the examples are an argument of the sweep
        raise BadInput(
            "data is not a value to vary, since a whole sweep trains on the same data: "
            "sweep over each data set separately."
        )
    return attrs.evolve(recipe, **{field: _within(name, getattr(recipe, field), path, value)})


def _within(name: str, inside: object, path: Sequence[str], value: object) -> Any:
    """Return a description, list or value with the place at the end of `path` replaced."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if is_description(inside):
        [(builder, options)] = inside.items()
        known = find_builder(builder)
        if known.several and step.isdecimal():
            inner = _within(name, options[known.several], path, value)
            return {builder: {**options, known.several: inner}}
        expect_known(f"option of {builder}", step, known.options)
        return {builder: {**options, step: _within(name, options.get(step), rest, value)}}
    if not isinstance(inside, list | tuple):
        raise BadInput(f"{name} goes into {inside!r}, which has no parts: shorten the name.")
    if step.isdecimal() and int(step) < len(inside):
        number = int(step)
    elif not step.isdecimal() and len(inside) == 1:
        number, rest = 0, path
    else:
        raise BadInput(
            f"{name} names none of the {len(inside)} parts there: "
            "give the number of one, from 0, after the dot."
        )
    changed = _within(name, inside[number], rest, value)
    return [*inside[:number], changed, *inside[number + 1 :]]
