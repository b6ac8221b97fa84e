"""The results of a sweep: the outcome of each training, and statistics of all."""

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
    """The outcome of one training of a sweep.

    Attributes:
        model: The trained model. With early stopping it has the best parameters. Training its
            recipe alone gives the same bits.
        setting: The values that were varied, by name; seed and fold are not among them.
        scores: The cost and the metrics of the model on each part of the data, e.g. "validation
            accuracy"; empty if the training diverged.
        stopped: Why training ended before its last iteration; "" if it did not.
        why_not_stacked: Why it was trained alone; "" if it was trained in a stack with others.
    """

    model: Model
    setting: Mapping[str, Any]
    scores: Mapping[str, float]
    stopped: str = ""
    why_not_stacked: str = ""

    @property
    def recipe(self) -> Recipe:
        """The recipe of this training."""
        return self.model.recipe

    @property
    def costs(self) -> FloatArray:
        """The cost of each step, (iterations,)."""
        return self.model.costs


@attrs.frozen
class Spread:
    """Statistics of numbers.

    Attributes:
        mean: The mean.
        deviation: The standard deviation of a sample; 0 for one number.
        least: The smallest number.
        greatest: The largest number.
        count: How many numbers there are.
    """

    mean: float
    deviation: float
    least: float
    greatest: float
    count: int


def spread_of(values: Iterable[float]) -> Spread:
    """Return statistics of the finite numbers among `values`; all NaN if there are none.

    Example:
        >>> spread_of([1.0, 2.0, 3.0, float("nan")])
        Spread(mean=2.0, deviation=1.0, least=1.0, greatest=3.0, count=3)
    """
    finite = np.array([value for value in values if math.isfinite(value)], np.float64)
    if not finite.size:
        return Spread(math.nan, math.nan, math.nan, math.nan, 0)
    deviation = float(finite.std(ddof=1)) if finite.size > 1 else 0.0
    mean, least, greatest = map(float, (finite.mean(), finite.min(), finite.max()))
    return Spread(mean, deviation, least, greatest, finite.size)


@attrs.frozen(unsafe_hash=False)
class SweepResult:
    """The outcomes of all trainings of a sweep.

    Attributes:
        outcomes: The outcomes, in the order of the sweep.
    """

    outcomes: tuple[Outcome, ...]

    @property
    def costs(self) -> FloatArray:
        """The cost of each step of each of R trainings, (R, iterations); NaN after its end."""
        longest = max(len(outcome.costs) for outcome in self.outcomes)
        costs = np.full((len(self.outcomes), longest), np.nan)
        for row, outcome in zip(costs, self.outcomes, strict=True):
            row[: len(outcome.costs)] = outcome.costs
        return freeze(costs)

    @property
    def names(self) -> list[str]:
        """The names of the scores; all trainings that did not diverge have the same ones."""
        return list(next((o.scores for o in self.outcomes if o.scores), {}))

    def values(self, name: str) -> FloatArray:
        """Return the score called `name` of each of R trainings, (R,); NaN if it diverged."""
        expect_known("score", name, self.names)
        return freeze(np.array([o.scores.get(name, math.nan) for o in self.outcomes]))

    def spread(self, name: str) -> Spread:
        """Return statistics over all trainings of the score called `name`."""
        return spread_of(self.values(name).tolist())

    @property
    def by_setting(self) -> list[SweepResult]:
        """One result for each setting, with its trainings for all seeds and folds."""
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
        """The score that chooses the best training by default.

        It is the cost on held-back data, or without these the cost on training data. It is never a
        score on test data: once test data have chosen a model, they no longer judge it fairly.
        """
        return "validation cost" if "validation cost" in self.names else "train cost"

    def best(self, by: str = "") -> int:
        """Return the number of the best training by a score, by default the `selector`.

        With folds, it is one of the best setting, see `best_setting`: a training may have the best
        score of all only because the examples of its fold are easy.

        Raises:
            BadInput: If there is no such score, or every training diverged.
        """
        by, sign = self._choosing(by)
        setting: object = None
        if any(outcome.recipe.fold for outcome in self.outcomes):
            setting = self.by_setting[self.best_setting(by)].outcomes[0].setting
        signed = [
            sign * value if math.isfinite(value) and setting in (None, o.setting) else math.inf
            for o, value in zip(self.outcomes, self.values(by).tolist(), strict=True)
        ]
        return signed.index(min(signed))

    def best_setting(self, by: str = "") -> int:
        """Return the number of the setting in `by_setting` whose mean of a score is the best.

        The mean is that over all its seeds and folds. Settings in which fewer trainings diverged
        come first.

        Args:
            by: The score, by default the `selector`.

        Raises:
            BadInput: If there is no such score, or every training diverged.
        """
        by, sign = self._choosing(by)
        ranks = []
        for own in self.by_setting:
            values = [outcome.scores.get(by, math.nan) for outcome in own.outcomes]
            spread = spread_of(values)
            ranks.append((len(values) - spread.count, sign * spread.mean if spread.count else 0.0))
        return ranks.index(min(ranks))

    def _choosing(self, by: str) -> tuple[str, float]:
        """Return the score that chooses, and the sign with which lower values are better."""
        if not self.names:
            raise BadInput(
                "every training diverged, expected one that stays finite: try smaller learning "
                "rates."
            )
        by = by or self.selector
        expect_known("score", by, self.names)
        return by, -1.0 if higher_is_better(by) else 1.0
