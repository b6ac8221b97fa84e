"""Evaluation of a training's states while it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeGuard

import attrs
import numpy as np

from pydnn.checks import expect_count
from pydnn.losses import Loss
from pydnn.metrics import METRICS, Metric, score
from pydnn.numerics import Numerics, fast
from pydnn.records import Batch
from pydnn.stages.base import Context, Stage
from pydnn.training.pipeline import StepInfo, TrainState
from pydnn.training.step import output_of
from pydnn.training.streams import Measure, Stream

__all__ = ["evaluation", "is_number", "measure", "value_of", "values_of"]


def measure(stream: Stream, *, every: int, function: Measure) -> Stream:
    """Add to `info.measured` what `function` measures of the state after every `every` steps.

    Args:
        stream: What is measured.
        every: Steps between two measurements, and before the first one.
        function: `(state) -> {name: number}`, e.g. an `evaluation`.
    """
    every = expect_count("every", every, hint="give a number of steps")
    return _measured(stream, every, function)


def _measured(stream: Stream, every: int, function: Measure) -> Stream:
    for state, info in stream:
        if state.iteration % every == 0:
            # Another measurement may have been there before.
            measured = {**info.measured, **function(state)}
            info = attrs.evolve(info, measured=measured)
        yield state, info


def evaluation(
    network: Stage,
    loss: Loss,
    data: Mapping[str, Batch],
    *,
    metrics: Mapping[str, Metric] | None = None,
    numerics: Numerics = fast,
) -> Measure:
    """The function from a state to cost and metrics on named data sets, outside of training.

    Args:
        network: What is judged,
        loss: by this loss,
        data: on these data sets, e.g. {"validation": batch}.
        metrics: What is measured besides the cost: functions of what the loss predicts, and of
            labels. By default those of the loss's task, as `score` gives them. All of them are
            NaN, and none is called, where a prediction is not a finite number.
        numerics: The arithmetic.

    Returns:
        The function. Its result has names such as "validation cost" and "validation accuracy".
    """

    def evaluate(state: TrainState) -> dict[str, float]:
        found = {}
        for name, batch in data.items():
            AL = output_of(network, state, batch.X, numerics=numerics)
            context = Context(numerics=numerics)
            found[f"{name} cost"] = loss(AL, batch.Y, batch.weights, context)[0]
            predictions = loss.predict(AL, context)
            task = loss.task(len(AL))
            if not np.isfinite(predictions).all():
                # Training may go on from there, so an evaluation on its way must not end it.
                scores = dict.fromkeys(METRICS[task] if metrics is None else metrics, math.nan)
            elif metrics is None:
                scores = score(task, predictions, batch.Y, numerics=numerics)
            else:
                scores = {m: function(predictions, batch.Y) for m, function in metrics.items()}
            found |= {f"{name} {metric}": value for metric, value in scores.items()}
        return found

    return evaluate


def value_of(info: StepInfo, name: str) -> float | None:
    """The number called `name` in `info`: "cost", "gradient_norm", or observed or measured.

    None where this step does not have it. What is measured describes the state after the step;
    everything else describes the state before it.
    """
    if name in ("cost", "gradient_norm"):
        return float(getattr(info, name))
    value = info.measured.get(name, info.observed.get(name))
    return None if value is None else float(value)


def values_of(info: StepInfo) -> dict[str, float]:
    """All numbers in `info` by their names, as `value_of` gives them.

    What the optimizer shows and is not a single number, such as a vector, is left out.
    """
    values = {"cost": float(info.cost), "gradient_norm": float(info.gradient_norm)}
    for name in dict.fromkeys((*info.observed, *info.measured)):
        value = info.measured.get(name, info.observed.get(name))
        if name not in values and is_number(value):
            values[name] = float(value)
    return values


def is_number(value: object) -> TypeGuard[bool | int | float]:
    """Whether something is a single real number, of Python's or of NumPy's."""
    return isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating)
