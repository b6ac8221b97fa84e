"""Evaluates states of a training while it goes on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeGuard

import attrs
import numpy as np

from pydnn.checks import expect_count
from pydnn.losses import Loss
from pydnn.metrics import METRICS, Metric, score, tally
from pydnn.numerics import Numerics, fast
from pydnn.records import Batch, Examples, FloatArray, each_block, freeze, keep_readonly
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
    data: Mapping[str, Examples],
    *,
    metrics: Mapping[str, Metric] | None = None,
    numerics: Numerics = fast,
) -> Measure:
    """Make the function that computes cost and metrics of a state, outside of training.

    Args:
        network: The network to evaluate.
        loss: The loss, for the cost and the predictions.
        data: Examples by name, e.g. {"validation": batch}, as network inputs. Those of more than
            2**24 numbers go through the network block by block, in memory and in files alike.
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
        for name, examples in data.items():
            cost, scores = _evaluated(network, loss, examples, state, metrics, numerics)
            results[f"{name} cost"] = cost
            results |= {f"{name} {metric}": value for metric, value in scores.items()}
        return results

    return evaluate


MOST_INPUTS, MOST_OUTPUTS = 1 << 24, 1 << 22  # numbers that are evaluated at once


@keep_readonly
@attrs.frozen
class Outputs:
    """The outputs of a network for some examples, and these without the numbers of their X."""

    AL: FloatArray
    examples: Batch


def outputs_over(
    outputs: Callable[[Batch], FloatArray],
    examples: Examples,
    *,
    labels: Callable[[Batch], FloatArray] = lambda batch: batch.Y,
    together: bool = False,
) -> list[Outputs] | Iterator[Outputs]:
    """The outputs of a network for all examples: a list of one part, or parts one by one.

    Few examples go through the network at once, and more of them in blocks, whose outputs are put
    together again if they are few. The sizes decide, and not the memory of the machine, so that
    equal examples have equal parts everywhere.

    Args:
        outputs: The network's outputs, or predictions, for a batch.
        examples: The examples.
        labels: The labels of a batch.
        together: Whether there has to be one part, whatever its size.
    """
    if math.prod(examples.shape) * examples.count <= MOST_INPUTS:
        return [_outputs(outputs, labels, examples.in_memory())]
    parts = each_block(partial(_outputs, outputs, labels), examples.blocks())
    first = next(parts)
    parts = itertools.chain([first], parts)
    of_each = (first.AL.size + first.examples.Y.size) / first.AL.shape[-1]
    if of_each * examples.count > MOST_OUTPUTS and not together:
        return parts
    every = list(parts)
    return [Outputs(_joined([p.AL for p in every]), _all_of([p.examples for p in every]))]


def _outputs(
    outputs: Callable[[Batch], FloatArray], labels: Callable[[Batch], FloatArray], batch: Batch
) -> Outputs:
    none = np.broadcast_to(np.zeros((), batch.X.dtype), (len(batch.X), batch.count))
    return Outputs(outputs(batch), Batch(none, labels(batch), batch.weights, batch.lengths))


def _all_of(parts: Sequence[Batch]) -> Batch:
    weights = [p.weights for p in parts if p.weights is not None]
    lengths = [p.lengths for p in parts if p.lengths is not None]
    return Batch(
        np.broadcast_to(parts[0].X[:, :1], (len(parts[0].X), sum(p.count for p in parts))),
        _joined([p.Y for p in parts]),
        _joined(weights) if weights else None,
        np.concatenate(lengths) if lengths else None,
    )


def _joined(arrays: Sequence[FloatArray]) -> FloatArray:
    return freeze(np.concatenate(arrays, axis=-1))


def _evaluated(
    network: Stage,
    loss: Loss,
    examples: Examples,
    state: TrainState,
    metrics: Mapping[str, Metric] | None,
    numerics: Numerics,
) -> tuple[float, dict[str, float]]:
    """The cost and the metrics of a state on some examples."""

    def outputs(batch: Batch) -> FloatArray:
        return output_of(network, state, batch.X, lengths=batch.lengths, numerics=numerics)

    def cost_of(part: Outputs) -> float:
        context = Context(numerics=numerics, lengths=part.examples.lengths)
        return loss(part.AL, part.examples.Y, part.examples.weights, context)[0]

    def labeled(part: Outputs) -> tuple[FloatArray, FloatArray]:
        lengths = part.examples.lengths
        predictions = loss.predict(part.AL, Context(numerics=numerics, lengths=lengths))
        return columns_with_labels(predictions, part.examples.Y, lengths)

    parts = outputs_over(outputs, examples, together=metrics is not None or loss.mixes_examples)
    if isinstance(parts, list):
        [part] = parts
        task, (P, Y) = loss.task(part.AL.shape[-2]), labeled(part)
        if not np.isfinite(P).all():
            # Metrics refuse NaN, but training may continue from here, so do not raise.
            scores = dict.fromkeys(METRICS[task] if metrics is None else metrics, math.nan)
        elif metrics is None:
            scores = score(task, P, Y, numerics=numerics)
        else:
            scores = {name: function(P, Y) for name, function in metrics.items()}
        return cost_of(part), scores
    costs, sizes, known, finite = [], [], None, True
    for part in parts:
        P, Y = labeled(part)
        task = loss.task(part.AL.shape[-2])
        costs.append(cost_of(part))
        sizes.append(loss.weight_of(part.AL.shape, part.examples, numerics))
        finite = finite and bool(np.isfinite(P).all())
        if finite:
            known = (known or tally(task, numerics=numerics)).plus(P, Y)
    scores = known.scores() if finite and known else dict.fromkeys(METRICS[task], math.nan)
    return mean_of_parts(costs, sizes, numerics), scores


def mean_of_parts(
    means: Sequence[float], sizes: Sequence[float], numerics: Numerics = fast
) -> float:
    """The mean over all examples, from the means and the weights of parts of them.

    Example:
        >>> mean_of_parts([1.0, 4.0], [2.0, 1.0])
        2.0
    """
    largest = max(sizes)  # since a sum of weights could overflow
    if not largest > 0:
        return 0.0
    shares = np.array([[size / largest] for size in sizes])
    weighted = np.array([[mean] for mean in means]) * shares
    total = numerics.sum(np.hstack([weighted, shares]), axis=0)[0]
    return float(total[0] / total[1])


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
