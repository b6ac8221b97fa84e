"""Evaluates states of a training while it goes on."""

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
from pydnn.sequences import columns_with_labels
from pydnn.stages.base import Context, Stage
from pydnn.training.pipeline import StepInfo, TrainState
from pydnn.training.step import output_of
from pydnn.training.streams import Measure, Stream

__all__ = ["evaluation", "is_number", "measure", "value_of", "values_of"]


def measure(stream: Stream, *, every: int, function: Measure) -> Stream:
    """Measure the state after every `every` steps, and add the results to `info.measured`.

    Args:
        stream: The steps of a training.
        every: The number of steps before the first measurement and between two measurements.
        function: The measurement, `(state) -> {name: number}`, e.g. an `evaluation`.

    Returns:
        A stream of the same steps.

    Raises:
        BadInput: If `every` is not an integer of at least 1.

    Example:
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=4)
        >>> steps = nn.jobs.run(nn.jobs.prepare(recipe, nn.Batch([[0.0, 1.0]], [[1.0, 3.0]])))
        >>> steps = measure(steps, every=2, function=lambda state: {"after": state.iteration})
        >>> [dict(info.measured) for state, info in steps]
        [{}, {'after': 2}, {}, {'after': 4}]
    """
    every = expect_count("every", every, hint="give a number of steps")
    return _measured(stream, every, function)


def _measured(stream: Stream, every: int, function: Measure) -> Stream:
    for state, info in stream:
        # By the iteration, not by a count of pairs, so a resumed training measures the same steps.
        if state.iteration % every == 0:
            # The stream may have passed through another `measure` before.
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
    """Make the function that computes cost and metrics of a state, outside of training.

    Args:
        network: The network to evaluate.
        loss: The loss, for the cost and the predictions.
        data: Batches by name, e.g. {"validation": batch}, as network inputs.
        metrics: Functions of predictions and labels by name; by default the metrics of the loss's
            task, as in `score`. If each step of a sequence has a label, they get all valid steps
            of all examples as columns. If a prediction is infinite or NaN, all metrics are NaN.
        numerics: The arithmetic.

    Returns:
        A function from a state to numbers by name, e.g. "validation cost" and "validation
        accuracy".

    Example:
        >>> network, loss = nn.dense(1, initializer=nn.constant(0.0)), nn.sigmoid_cross_entropy()
        >>> state = nn.initial_state(network, nn.adam(), (2,), key=nn.Key(1))
        >>> evaluate = evaluation(network, loss, {"test": nn.Batch([[1, 2], [3, 4]], [[0, 1]])})
        >>> result = evaluate(state)
        >>> f"{result['test cost']:.4f}", result["test accuracy"]
        ('0.6931', 0.5)
    """

    def evaluate(state: TrainState) -> dict[str, float]:
        results = {}
        for name, batch in data.items():
            AL = output_of(network, state, batch.X, lengths=batch.lengths, numerics=numerics)
            context = Context(numerics=numerics, lengths=batch.lengths)
            results[f"{name} cost"] = loss(AL, batch.Y, batch.weights, context)[0]
            task = loss.task(AL.shape[-2])
            predictions, Y = columns_with_labels(loss.predict(AL, context), batch.Y, batch.lengths)
            if not np.isfinite(predictions).all():
                # Metrics refuse NaN, but training may continue from here, so do not raise.
                scores = dict.fromkeys(METRICS[task] if metrics is None else metrics, math.nan)
            elif metrics is None:
                scores = score(task, predictions, Y, numerics=numerics)
            else:
                scores = {m: function(predictions, Y) for m, function in metrics.items()}
            results |= {f"{name} {metric}": value for metric, value in scores.items()}
        return results

    return evaluate


def value_of(info: StepInfo, name: str) -> float | None:
    """The number called `name` in `info`; None if this step does not have it.

    A measured value describes the state after the step. Every other value describes the state
    before it.

    Args:
        info: The info of a step.
        name: "cost", "gradient_norm", or the name of an observed or measured value.

    Example:
        >>> value_of(nn.training.StepInfo(0, cost=0.5, gradient_norm=2.0), "cost")
        0.5
    """
    if name in ("cost", "gradient_norm"):
        return float(getattr(info, name))
    value = info.measured.get(name, info.observed.get(name))
    return None if value is None else float(value)


def values_of(info: StepInfo) -> dict[str, float]:
    """All numbers in `info` by name; see `value_of`.

    Observed values of the optimizer that are not single numbers, such as vectors, are left out.

    Example:
        >>> values_of(nn.training.StepInfo(0, cost=0.5, gradient_norm=2.0))
        {'cost': 0.5, 'gradient_norm': 2.0}
    """
    values = {"cost": float(info.cost), "gradient_norm": float(info.gradient_norm)}
    for name in dict.fromkeys((*info.observed, *info.measured)):
        value = info.measured.get(name, info.observed.get(name))
        if name not in values and is_number(value):
            values[name] = float(value)
    return values


def is_number(value: object) -> TypeGuard[bool | int | float]:
    """Whether a value is a single real number, a Python or a NumPy one.

    Example:
        >>> is_number(np.float32(1)), is_number("1")
        (True, False)
    """
    return isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating)
