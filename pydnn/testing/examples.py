"""Random parameters, inputs, labels and gradients to try laws with, drawn from a key."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_count
from pydnn.keys import Key
from pydnn.losses import Loss
from pydnn.parameters import Tree, layout_of, leaves
from pydnn.records import FloatArray, IntArray, freeze, keep_readonly
from pydnn.sequences import expect_lengths
from pydnn.stages.base import Context, Shape, Stage
from pydnn.testing.global_state import restored_global_state
from pydnn.testing.reports import checked_call

__all__ = ["DrawnLoss", "DrawnStage", "after_training", "draw_labels", "draw_loss", "draw_stage"]

_GATHERED = 3  # training steps that fill the running statistics before they are used


@keep_readonly
@attrs.frozen(eq=False)
class DrawnStage:
    """The arguments of a stage's functions.

    Attributes:
        params: The parameters of the stage.
        A_prev: The input.
        dA: A gradient with respect to the output.
        shape_out: The shape of one example's output, as `init` promised.
        training: The context of a training step.
    """

    params: Tree
    A_prev: FloatArray
    dA: FloatArray
    shape_out: Shape
    training: Context


def draw_stage(
    stage: Stage,
    shape_in: Shape,
    examples: int,
    key: Key,
    *,
    params: Tree | None = None,
    A_prev: FloatArray | None = None,
    lengths: IntArray | None = None,
) -> DrawnStage:
    """Draw the arguments of a stage's functions.

    Args:
        stage: The stage.
        shape_in: The shape of one example.
        examples: The number of examples.
        key: The key to draw from.
        params: Parameters to use; by default those of `init` plus noise, so that biases are not 0.
        A_prev: Input to use; by default normal numbers, or ids for a stage that takes ids.
        lengths: The number of valid steps of each example; by default all steps are valid.

    Raises:
        BadInput: If `init` raises, or does not return parameters and a shape; or if `lengths` do
            not fit the input.
    """
    expect_count("examples", examples, hint="give the number of columns of the input")
    if A_prev is not None:
        shape_in = A_prev.shape[:-1]
    what = f"init of stage {stage.name}"
    with restored_global_state():
        result = checked_call(
            what, stage.init, key.at("init"), shape_in, hint="give a shape_in that it takes"
        )
    try:
        initial, shape_out = result
        layout = layout_of(initial)
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"{what} does not give parameters and a shape ({error}): return (params, shape_out)."
        ) from error
    if params is None:
        vectors = [np.ravel(leaf) for leaf in leaves(initial)] or [np.empty(0)]
        # Biases start at 0 and scales at 1, where many mistakes do not show.
        noise = 0.5 * key.at("parameters").normal(layout.size)
        params = layout.tree(freeze(np.concatenate(vectors) + noise))
    if A_prev is None:
        shape_all = (*shape_in, examples)
        if stage.ids is None:
            A_prev = freeze(key.at("input").normal(shape_all))
        else:
            A_prev = freeze(key.at("input").integers(stage.ids, shape_all).astype(np.float64))
    shape = (*shape_out, A_prev.shape[-1])
    dA = freeze(key.at("gradient").normal(shape))
    if lengths is not None:
        lengths = expect_lengths(lengths, len(A_prev), A_prev.shape[-1])
    training = Context(training=True, key=key.at("step"), lengths=lengths)
    if stage.statistics is not None and stage.statistics.read_in_training:
        # The state before the first step is 0, where many mistakes do not show.
        statistics = stage.statistics.init(params)
        before = attrs.evolve(training, statistics=statistics)
        with restored_global_state():
            hint = "fix it, or give arrays that it takes"
            what = f"forward of stage {stage.name}"
            _, cache = checked_call(what, stage.forward, params, A_prev, before, hint=hint)
        training = attrs.evolve(before, statistics=stage.statistics.absorb(statistics, cache))
    return DrawnStage(params, A_prev, dA, tuple(shape_out), training)


def after_training(stage: Stage, drawn: DrawnStage) -> Context:
    """Return the context of evaluation after some training steps, with their statistics."""
    if stage.statistics is None:
        return Context(lengths=drawn.training.lengths)
    statistics = stage.statistics.init(drawn.params)
    for _ in range(_GATHERED):
        context = attrs.evolve(drawn.training, statistics=statistics)
        _, cache = stage.forward(drawn.params, drawn.A_prev, context)
        statistics = stage.statistics.absorb(statistics, cache)
    return Context(statistics=statistics, lengths=drawn.training.lengths)


@keep_readonly
@attrs.frozen(eq=False)
class DrawnLoss:
    """The arguments of a loss, except weights: outputs AL (n_out, m) and labels Y."""

    AL: FloatArray
    Y: FloatArray


def draw_loss(
    loss: Loss,
    outputs: int | None,
    examples: int,
    key: Key,
    *,
    AL: FloatArray | None = None,
    Y: FloatArray | None = None,
) -> DrawnLoss:
    """Draw outputs and labels that fit a loss.

    Args:
        loss: The loss.
        outputs: The number of rows of AL; by default that of Y, or else 3.
        examples: The number of examples; ignored if AL or Y is passed.
        key: The key to draw from.
        AL: Outputs to use; by default normal numbers.
        Y: Labels to use; by default those that `draw_labels` draws.
    """
    expect_count("examples", examples, hint="give the number of columns of AL")
    if AL is None:
        rows = outputs or (len(Y) if Y is not None else 3)
        AL = freeze(key.at("AL").normal((rows, examples if Y is None else Y.shape[1])))
    if Y is None:
        Y = draw_labels(loss.task(len(AL)), AL.shape, key.at("labels"), loss.expect_labels)
    return DrawnLoss(AL, Y)


def draw_labels(
    task: str,
    shape: tuple[int, int],
    key: Key,
    expect: Callable[[FloatArray, int], None] | None = None,
) -> FloatArray:
    """Draw labels Y for outputs of a shape.

    Args:
        task: One of `pydnn.losses.TASKS`.
        shape: The shape (n_out, m) of the outputs.
        key: The key to draw from.
        expect: The loss's check of labels: counts are drawn if it refuses normal numbers.
    """
    n_out, m = shape
    if task == "many classes":
        return freeze(key.integers(n_out, (1, m)).astype(np.float64))
    if task in ("two classes", "several labels"):
        return freeze(key.integers(2, shape).astype(np.float64))
    numbers = freeze(key.normal(shape))
    if expect is None:
        return numbers
    try:
        expect(numbers, n_out)
    except BadInput:
        return freeze(1.0 + key.at("counts").integers(6, shape))
    return numbers
