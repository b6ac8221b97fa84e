"""Strategies for hypothesis: networks, parameters, batches, labels, gradients, step records.

Numbers are quarters between -2 and 2, and networks are short, so that a failing example is easy to
read after shrinking, and can be computed by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pydnn import (
    Batch,
    Key,
    batch_norm,
    conv,
    dense,
    dropout,
    gradient_descent,
    gru,
    initial_state,
    layer_norm,
    lstm,
    make_train_step,
    max_pool,
    mean_squared,
    parallel,
    residual,
    rnn,
    serial,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)
from pydnn.checks import expect_known, import_extra
from pydnn.losses import TASKS, Loss
from pydnn.parameters import Packed, pack
from pydnn.records import FloatArray, IntArray, freeze
from pydnn.stages.activations import identity, leaky_relu, relu, sigmoid, tanh
from pydnn.stages.base import Stage
from pydnn.training import Step, trace

__all__ = [
    "arrays",
    "batches",
    "gradients",
    "keys",
    "labels",
    "lengths",
    "losses",
    "networks",
    "parameters",
    "stages",
    "step_records",
]

if TYPE_CHECKING:
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy
else:
    st = import_extra(
        "hypothesis.strategies", extra="testing", purpose="drawing records by hypothesis"
    )

_PLAIN: tuple[Callable[[], Stage], ...] = (identity, relu, leaky_relu, tanh, sigmoid, layer_norm)


def keys() -> SearchStrategy[Key]:
    """Draw keys with small seeds."""
    return st.integers(0, 99).map(Key)


def arrays(*shape: int, low: float = -2.0, high: float = 2.0) -> SearchStrategy[FloatArray]:
    """Draw read-only arrays of a shape, with quarters from `low` to `high` as entries."""
    size = int(np.prod(shape))
    quarters = st.integers(int(4 * low), int(4 * high)).map(lambda n: n / 4)
    numbers = st.lists(quarters, min_size=size, max_size=size)
    return numbers.map(lambda row: freeze(np.array(row, np.float64).reshape(shape)))


def stages(*, axes: int = 1, random: bool = True, statistics: bool = True) -> SearchStrategy[Stage]:
    """Draw single stages that take examples of a number of axes and keep all axes but the last.

    Args:
        axes: 1 for columns (n,), 2 for sequences (T, n), 3 for images (H, W, n).
        random: Whether to include dropout.
        statistics: Whether to include batch_norm.
    """
    choices = [st.integers(1, 4).map(_last(axes)), st.sampled_from(_PLAIN).map(lambda make: make())]
    if axes == 2:
        makers = st.sampled_from((rnn, gru, lstm))
        choices.append(st.tuples(makers, st.integers(1, 3)).map(lambda pair: pair[0](pair[1])))
    if axes > 1:
        size = st.tuples(st.integers(1, 3), st.integers(1, 3))
        choices.append(size.map(lambda pair: conv(pair[0], pair[1], padding="same")))
        choices.append(st.integers(1, 3).map(lambda n: max_pool(n, stride=1, padding="same")))
    if random:
        choices.append(st.sampled_from([0.5, 0.75]).map(lambda keep: dropout(keep_prob=keep)))
    if statistics:
        choices.append(st.just(None).map(lambda _: batch_norm()))
    return st.one_of(choices)


def networks(
    *,
    n_out: int = 1,
    depth: int = 3,
    axes: int = 1,
    random: bool = True,
    statistics: bool = True,
) -> SearchStrategy[Stage]:
    """Draw networks that end with a dense layer at each step, or conv(n_out, 1) for images.

    Args:
        n_out: Units of the last layer.
        depth: The largest number of stages before it; some are residual or parallel ones.
        axes: The number of axes of an example, see `stages`.
        random: Whether to include dropout.
        statistics: Whether to include batch_norm.

    Example:
        >>> from hypothesis import given, settings
        >>> from pydnn.testing import strategies
        >>> @settings(max_examples=5)
        ... @given(strategies.networks(n_out=2))
        ... def test_last_layer(network):
        ...     assert network.init(nn.Key(0), (3,))[1] == (2,)
        >>> test_last_layer()
    """
    single = stages(axes=axes, random=random, statistics=statistics)
    shape_keeping: list[Callable[[], Stage]] = [tanh, relu, layer_norm]
    residuals = st.sampled_from(shape_keeping).map(lambda make: residual(make()))
    parallels = st.tuples(single, single).map(lambda pair: parallel(*pair))
    body = st.lists(st.one_of(single, residuals, parallels), max_size=depth)
    return body.map(lambda parts: serial(*parts, _last(axes)(n_out)))


def _last(axes: int) -> Callable[[int], Stage]:
    """Return `units -> layer`: a layer that is applied to each column, step or place."""
    return dense if axes < 3 else lambda units: conv(units, 1)


def parameters(stage: Stage, shape_in: tuple[int, ...]) -> SearchStrategy[Packed]:
    """Draw packed parameters of a stage, with quarters between -2 and 2 as entries."""
    layout = pack(stage.init(Key(0), shape_in)[0]).layout
    return arrays(layout.size).map(layout.packed)


def gradients(params: Packed) -> SearchStrategy[FloatArray]:
    """Draw gradients as a vector (size,) in the layout of `params`."""
    return arrays(params.vector.size)


def labels(task: str, n_out: int, m: int) -> SearchStrategy[FloatArray]:
    """Draw labels Y of m examples, for a task in `pydnn.losses.TASKS` and n_out outputs."""
    expect_known("task", task, TASKS)
    if task == "regression":
        return arrays(n_out, m)
    rows, largest = (1, n_out - 1) if task == "many classes" else (n_out, 1)
    numbers = st.lists(st.integers(0, largest), min_size=rows * m, max_size=rows * m)
    return numbers.map(lambda row: freeze(np.array(row, np.float64).reshape(rows, m)))


def lengths(T: int, m: int) -> SearchStrategy[IntArray]:
    """Draw the numbers of valid steps (m,) of sequences of at most T steps."""
    numbers = st.lists(st.integers(1, T), min_size=m, max_size=m)
    return numbers.map(lambda row: freeze(np.array(row, np.int64)))


def batches(
    task: str = "two classes",
    *,
    n_x: int = 2,
    n_out: int | None = None,
    m: int | None = None,
    weighted: bool = False,
    shape: tuple[int, ...] | None = None,
    unequal: bool = False,
) -> SearchStrategy[Batch]:
    """Draw batches with X (…, m), labels Y that fit the task, and weights and lengths if wanted.

    Args:
        task: One of `pydnn.losses.TASKS`.
        n_x: Number of features.
        n_out: Number of outputs; by default 1, 2 or 3, depending on the task.
        m: Number of examples; by default 1 to 5.
        weighted: Whether to draw weights of examples too.
        shape: The shape of one example, e.g. (T, n) for sequences; by default (n_x,).
        unequal: Whether to draw the lengths of sequences too.
    """
    outputs = n_out or {"two classes": 1, "many classes": 3, "several labels": 2}.get(task, 1)

    def of(count: int) -> SearchStrategy[Batch]:
        weights = arrays(1, count, low=0.25) if weighted else st.none()
        X = arrays(*(shape or (n_x,)), count)
        steps = lengths(shape[0], count) if shape and unequal else st.none()
        return st.builds(Batch, X, labels(task, outputs, count), weights, steps)

    return (st.integers(1, 5) if m is None else st.just(m)).flatmap(of)


def losses(task: str) -> SearchStrategy[Loss]:
    """Draw the usual loss of a task in `pydnn.losses.TASKS`."""
    expect_known("task", task, TASKS)
    makers: dict[str, Callable[[], Loss]] = {
        "many classes": softmax_cross_entropy,
        "regression": mean_squared,
    }
    return st.just(makers.get(task, sigmoid_cross_entropy)())


def step_records(*, after: str = "update") -> SearchStrategy[Step]:
    """Draw the record of a training step of a small network, right after the part `after`."""

    def of(network: Stage, batch: Batch, key: Key) -> Step:
        optimizer = gradient_descent(learning_rate=0.25)
        step = make_train_step(network, sigmoid_cross_entropy(), optimizer)
        expect_known("part of the step", after, step.names)
        state = initial_state(network, optimizer, batch.X.shape[:-1], key=key)
        return next(record for name, record in trace(step, state, batch) if name == after)

    return st.builds(of, networks(statistics=False), batches(), keys())
