"""What laws are tried with: parameters, inputs, labels and gradients, drawn by a key."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_count
from pydnn.keys import Key
from pydnn.losses import Loss
from pydnn.parameters import Tree, layout_of, leaves
from pydnn.records import FloatArray, freeze, keep_readonly
from pydnn.stages.base import Context, Shape, Stage
from pydnn.testing.global_state import kept_world
from pydnn.testing.reports import called

__all__ = ["DrawnLoss", "DrawnStage", "after_training", "draw_labels", "draw_loss", "draw_stage"]

_GATHERED = 3  # training steps before which running statistics are worth being used


@keep_readonly
@attrs.frozen(eq=False)
class DrawnStage:
    """All that a stage's functions are called with.

    Attributes:
        params: Its parameters.
        A_prev: Its input.
        dA: A gradient of its output.
        shape_out: Of one example's output, as `init` promises.
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
) -> DrawnStage:
    """Draw what is not given: parameters near those of `init`, and a normal input."""
    expect_count("examples", examples, hint="give the columns of the input")
    if A_prev is not None:
        shape_in = A_prev.shape[:-1]
    what = f"init of stage {stage.name}"
    with kept_world():
        made = called(
            what, stage.init, key.at("init"), shape_in, hint="give shape_in that it takes"
        )
    try:
        first, shape_out = made
        layout = layout_of(first)
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"{what} gives no parameters and shape ({error}): give (params, shape_out)."
        ) from error
    if params is None:
        moved = [np.ravel(leaf) for leaf in leaves(first)] or [np.empty(0)]
        noise = 0.5 * key.at("parameters").normal(layout.size)
        params = layout.tree(freeze(np.concatenate(moved) + noise))
    if A_prev is None:
        A_prev = freeze(key.at("input").normal((*shape_in, examples)))
    shape = (*shape_out, A_prev.shape[-1])
    dA = freeze(key.at("gradient").normal(shape))
    training = Context(training=True, key=key.at("step"))
    return DrawnStage(params, A_prev, dA, tuple(shape_out), training)


def after_training(stage: Stage, drawn: DrawnStage) -> Context:
    """The context of use after some training, with the statistics that were gathered in it."""
    if stage.statistics is None:
        return Context()
    statistics = stage.statistics.init(drawn.params)
    for _ in range(_GATHERED):
        _, cache = stage.forward(drawn.params, drawn.A_prev, drawn.training)
        statistics = stage.statistics.absorb(statistics, cache)
    return Context(statistics=statistics)


@keep_readonly
@attrs.frozen(eq=False)
class DrawnLoss:
    """All that a loss is called with, but for weights."""

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
    """Draw what is not given: normal outputs, and labels that the loss takes."""
    expect_count("examples", examples, hint="give the columns of AL")
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
    """Labels Y of a `task` for outputs (n_out, m) of that shape: numbers, or counts if need be."""
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
