"""What came of a sweep: the outcome of each run, and what they are together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_known
from pydnn.jobs.model import Model
from pydnn.metrics import higher_is_better
from pydnn.recipes.recipe import Recipe
from pydnn.records import FloatArray, freeze

__all__ = ["Outcome", "Spread", "SweepResult", "higher_is_better", "spread_of"]


@attrs.frozen(unsafe_hash=False)
class Outcome:
    """What came of one run.

    Attributes:
        model: The run's model, whose recipe is its own: with it, `prepare` and `run` give the
            same again, to the bit. Its parameters are the best ones where early stopping says so.
        setting: The values that it was given besides its seed, by name.
        scores: Cost and metrics of the model on each part of the data, e.g. "validation
            accuracy"; none, where numbers stopped being finite.
        stopped: What ended it before its last iteration; "" where nothing did.
        why_not_stacked: Why it was trained alone; "" if it was trained in a stack with others.
    """

    model: Model
    setting: Mapping[str, Any]
    scores: Mapping[str, float]
    stopped: str = ""
    why_not_stacked: str = ""

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run."""
        return self.model.recipe

    @property
    def costs(self) -> FloatArray:
        """The cost of each of its steps, (iterations,)."""
        return self.model.costs


@attrs.frozen
class Spread:
    """Mean, standard deviation of a sample, least and greatest of so many numbers.

    The deviation is 0 for one number. Those that are not finite are left out of the count.
    """

    mean: float
    deviation: float
    least: float
    greatest: float
    count: int


def spread_of(values: Iterable[float]) -> Spread:
    """The spread of the finite ones among `values`; of none, it is NaN."""
    known = np.array([value for value in values if math.isfinite(value)], np.float64)
    if not known.size:
        return Spread(math.nan, math.nan, math.nan, math.nan, 0)
    deviation = float(known.std(ddof=1)) if known.size > 1 else 0.0
    mean, least, greatest = map(float, (known.mean(), known.min(), known.max()))
    return Spread(mean, deviation, least, greatest, known.size)


@attrs.frozen(unsafe_hash=False)
class SweepResult:
    """The outcomes of all runs, in the order of the sweep."""

    outcomes: tuple[Outcome, ...]

    @property
    def costs(self) -> FloatArray:
        """The cost of each step of each run, (R, iterations); NaN after the end of a run."""
        longest = max(len(outcome.costs) for outcome in self.outcomes)
        costs = np.full((len(self.outcomes), longest), np.nan)
        for row, outcome in zip(costs, self.outcomes, strict=True):
            row[: len(outcome.costs)] = outcome.costs
        return freeze(costs)

    @property
    def names(self) -> list[str]:
        """Names of the scores, which are those of every run that has some."""
        return list(next((o.scores for o in self.outcomes if o.scores), {}))

    def values(self, name: str) -> FloatArray:
        """The score called `name` of every run, (R,); NaN where a run has none."""
        expect_known("score", name, self.names)
        return freeze(np.array([o.scores.get(name, math.nan) for o in self.outcomes]))

    def spread(self, name: str) -> Spread:
        """Mean and spread over all runs of the score called `name`."""
        return spread_of(self.values(name).tolist())

    @property
    def by_setting(self) -> list[SweepResult]:
        """One result for each setting, of its runs with every seed."""
        settings = []
        for outcome in self.outcomes:
            if outcome.setting not in settings:
                settings.append(outcome.setting)
        return [
            SweepResult(tuple(o for o in self.outcomes if o.setting == setting))
            for setting in settings
        ]

    @property
    def selector(self) -> str:
        """What runs are compared by, unless told otherwise: the cost on data held back, if any.

        It is never one on test data, since what was chosen by these is no longer judged by them.
        """
        return "validation cost" if "validation cost" in self.names else "train cost"

    def best(self, by: str = "") -> int:
        """The number of the run that is best by a score, by default the `selector`.

        Raises:
            BadInput: If there is no such score, or no run has a finite one.
        """
        if not self.names:
            raise BadInput("no run has stayed finite: try smaller learning rates.")
        by = by or self.selector
        values = self.values(by)
        sign = -1.0 if higher_is_better(by) else 1.0
        signed = [sign * value if math.isfinite(value) else math.inf for value in values]
        return signed.index(min(signed))
