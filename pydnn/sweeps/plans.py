"""Which runs a sweep has: a recipe with every combination of seeds and other values."""

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
    """One run of a sweep: its recipe, and what it was given beside its seed, by name."""

    recipe: Recipe
    setting: Mapping[str, Any]


def variations(
    recipe: Recipe, *, seeds: int | Sequence[int] = 1, over: Mapping[str, Sequence[object]]
) -> tuple[Variation, ...]:
    """Every combination of values in `over`, and each of these with every seed.

    Args:
        recipe: What they have in common.
        seeds: The seeds; or how many, which are then those from the recipe's own on.
        over: Values by the names that `varied` takes, e.g. {"optimizer.learning_rate": [0.1]}.
    """
    given = _seeds(recipe, seeds)
    for name, values in over.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise BadInput(f"{name} is to have {values!r}, expected a list of values: give one.")
    count = len(given) * math.prod(map(len, over.values()))
    if count > _MOST_RUNS:
        raise BadInput(f"the sweep has {count:,} runs, expected at most {_MOST_RUNS:,}: vary less.")
    settings = [
        dict(zip(over, values, strict=True)) for values in itertools.product(*over.values())
    ]
    runs = []
    for setting in settings:
        changed = recipe
        for name, value in setting.items():
            changed = varied(changed, name, value)
        runs += [Variation(with_seed(changed, seed), setting) for seed in given]
    return tuple(runs)


def _seeds(recipe: Recipe, seeds: int | Sequence[int]) -> list[int]:
    if isinstance(seeds, str) or not isinstance(seeds, Sequence):
        hint = "give how many, or a list of seeds"
        count = expect_count("seeds", seeds, most=_MOST_RUNS, hint=hint)
        return list(range(recipe.seed, recipe.seed + count))
    hint = "give seeds of 0 or more"
    given = [expect_count("seeds", seed, least=0, most=MOST_SEED, hint=hint) for seed in seeds]
    if not given or len(set(given)) < len(given):
        raise BadInput(f"seeds are {given}, expected one or more, each once: give e.g. [1, 2, 3].")
    return given


def varied(recipe: Recipe, name: str, value: object) -> Recipe:
    """The recipe with another value in the place called `name`.

    Args:
        recipe: What is changed.
        name: A field, e.g. "batches"; or an option of the part that a field describes, with dots
            between: "optimizer.learning_rate", "penalties.strength" where there is but one
            penalty, "penalties.0.strength", "network.1.units" for the second stage.
        value: What it is to be; for a part, its description or the part itself.

    Raises:
        BadInput: If there is no such place, with the names that there are, or the value does not
            fit.
    """
    if hasattr(value, "description"):
        value = describe(value)
    field, *path = name.split(".")
    expect_known("part of a recipe to vary", field, attrs.fields_dict(Recipe))
    if field == "seed":
        raise BadInput("seed is not a value to vary beside the seeds: give these as seeds.")
    if field == "data":  # its name alone would change, since a sweep trains on the data it is given
        raise BadInput(
            "data is not a value to vary, since all runs of a sweep train on the same data: "
            "sweep over each data set separately."
        )
    return attrs.evolve(recipe, **{field: _within(name, getattr(recipe, field), path, value)})


def _within(name: str, inside: object, path: Sequence[str], value: object) -> Any:
    """The description, list or value `inside`, with `value` at the end of the path."""
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
        raise BadInput(f"{name} goes into {inside!r}, which has no parts: name a place before it.")
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
