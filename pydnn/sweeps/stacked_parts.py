"""The parts of a stacked training step, made from the parts for one training.

A stack of R networks of one shape is a network itself. Its parameters have a `stacked_layout`: W
(R, n_out, n_in) and b (R, n_out, 1). Activations have one more axis, (features, R, m). Features
still come first, so elementwise stages and most combinators work unchanged. If all trainings use
the same examples, the axis R has stride 0, and nothing is copied.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np

from pydnn.checks import expect_examples
from pydnn.descriptions.builders import build, find_builder
from pydnn.descriptions.parts import Description, is_description
from pydnn.keys import Key
from pydnn.losses import Loss, MeanOf
from pydnn.numerics import Numerics
from pydnn.numerics.underflow import bare
from pydnn.optimizers.base import GradientTransformation
from pydnn.optimizers.fused import carried_out
from pydnn.optimizers.schedules import Schedule
from pydnn.parameters import NO_PARAMS, Layout, Packed, Tree
from pydnn.penalties import Penalty, SumOf
from pydnn.records import AnyDType, FloatArray, freeze, maker_of, readonly, scalar
from pydnn.stages.base import EVALUATION, Context, Stage
from pydnn.stages.dense import DenseCache, DenseGrads, DenseParams
from pydnn.sweeps.stacked_arithmetic import by_run, gathered, means, norms, products, sums
from pydnn.sweeps.stacked_layout import rows_of, vector_of

__all__ = [
    "not_elementwise",
    "rate_of",
    "stacked_loss",
    "stacked_network",
    "stacked_numerics",
    "stacked_optimizer",
    "stacked_penalty",
    "with_rate",
]


def stacked_network(network: Stage, seeds: Sequence[int]) -> Stage:
    """Return the network of a stack of trainings, whose keys have these seeds."""
    if network.parts and network.rebuild is not None:
        rebuild = network.rebuild_stacked or network.rebuild
        return rebuild(*[stacked_network(part, seeds) for part in network.parts])
    if network.affine:
        return _dense(network)
    return network if network.elementwise else _each(network, seeds)


def _dense(stage: Stage) -> Stage:
    """Return the stack of a dense stage: Z (n_out, R, m) = W A_prev + b for each training."""

    def forward(
        params: DenseParams, A_prev: FloatArray, context: Context = EVALUATION
    ) -> tuple[FloatArray, DenseCache]:
        Z = products(context.numerics, params.W, by_run(A_prev))
        Z += params.b
        return by_run(freeze(Z)), DenseCache(readonly(A_prev), context.numerics)

    def backward(
        params: DenseParams, cache: DenseCache, dZ: FloatArray
    ) -> tuple[FloatArray, DenseGrads]:
        dW, db = np.empty_like(params.W), np.empty_like(params.b)
        fill(cache, dZ, (dW, db))
        return pull_back(params, cache, dZ), DenseGrads(freeze(dW), freeze(db))

    def backward_into(
        params: DenseParams,
        cache: DenseCache,
        dZ: FloatArray,
        out: tuple[FloatArray, FloatArray],
        needs_dA_prev: bool,
    ) -> FloatArray | None:
        fill(cache, dZ, out)
        return pull_back(params, cache, dZ) if needs_dA_prev else None

    def fill(cache: DenseCache, dZ: FloatArray, out: tuple[FloatArray, FloatArray]) -> None:
        products(cache.numerics, by_run(dZ), cache.A_prev.transpose(1, 2, 0), out=out[0])
        sums(cache.numerics, by_run(dZ), out=out[1])

    def pull_back(params: DenseParams, cache: DenseCache, dZ: FloatArray) -> FloatArray:
        W = params.W.transpose(0, 2, 1)
        return by_run(freeze(products(cache.numerics, W, by_run(dZ))))

    return attrs.evolve(stage, forward=forward, backward=backward, backward_into=backward_into)


def _each(stage: Stage, seeds: Sequence[int]) -> Stage:
    """Return the stack of any stage without statistics, called for one training at a time."""

    def forward(
        params: Tree, A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, list[object]]:
        pairs = [
            stage.forward(_row(params, r), A_prev[:, r], _with_seed(context, seed))
            for r, seed in enumerate(seeds)
        ]
        return _abreast([A for A, _ in pairs]), [cache for _, cache in pairs]

    def backward(params: Tree, caches: list[object], dA: FloatArray) -> tuple[FloatArray, Tree]:
        pairs = [stage.backward(_row(params, r), cache, dA[:, r]) for r, cache in enumerate(caches)]
        dA_prev = _abreast([dA_prev for dA_prev, _ in pairs])
        return dA_prev, _tree_of([grads for _, grads in pairs])

    return attrs.evolve(stage, forward=forward, backward=backward, backward_into=None)


def _abreast(matrices: Sequence[FloatArray]) -> FloatArray:
    """Return the matrices (features, m) of R trainings as one array (features, R, m)."""
    return by_run(freeze(gathered(matrices)))


def _with_seed(context: Context, seed: int) -> Context:
    """Return the same context with the key of one training: its seed, and the same path."""
    key = context.key and Key(seed, context.key.path)
    return Context(context.training, key, context.numerics)


def _row(tree: Tree, r: int) -> Tree:
    """Return the tree of training `r`."""
    if isinstance(tree, tuple):
        return tuple(_row(part, r) for part in tree)
    fields = attrs.astuple(tree, recurse=False)
    return type(tree)(
        *(part[r] if isinstance(part, np.ndarray) else _row(part, r) for part in fields)
    )


def _tree_of(trees: Sequence[Tree]) -> Tree:
    """Return the tree of the stack, from the trees of the trainings."""
    first = trees[0]
    if isinstance(first, np.ndarray):
        return freeze(np.stack(trees))
    if isinstance(first, tuple):
        return tuple(map(_tree_of, zip(*trees, strict=True))) if first else NO_PARAMS
    columns = zip(*(attrs.astuple(tree, recurse=False) for tree in trees), strict=True)
    return maker_of(type(first))(*map(_tree_of, columns))


def stacked_loss(loss: Loss) -> Loss:
    """Return the loss of a stack: from AL (n_y, R, m) to the costs (R,) and dAL.

    If the cost is a plain mean, the examples of all trainings are treated as one batch. Only the
    means are computed for each training.
    """
    mean: Any = bare(loss.function)
    plain = isinstance(mean, MeanOf) and mean.weigh is None

    def function(
        AL: FloatArray, Y: FloatArray, weights: FloatArray | None, context: Context
    ) -> tuple[Any, FloatArray]:
        # With labels in several rows, the order in memory changes the bits of sums.
        if not plain or weights is not None or len(Y) > 1:
            return each(AL, Y, weights, context)
        k, R, m = AL.shape
        expect_examples(m)
        beside = AL.reshape(k, R * m), Y.reshape(1, R * m)
        losses, slopes = mean.entries(*beside, context.numerics)
        slopes /= scalar(losses.size // R, slopes.dtype)
        costs = means(context.numerics, by_run(losses.reshape(-1, R, m)))
        dAL = slopes.reshape(k, R, m)
        return costs, freeze(dAL if k == 1 else by_run(by_run(dAL).copy()))

    def each(
        AL: FloatArray, Y: FloatArray, weights: FloatArray | None, context: Context
    ) -> tuple[Any, FloatArray]:
        pairs = [
            loss.function(AL[:, r], Y[:, r], None if weights is None else weights[:, r], context)
            for r in range(AL.shape[1])
        ]
        return np.array([cost for cost, _ in pairs]), _abreast([dAL for _, dAL in pairs])

    return attrs.evolve(loss, function=function)


def stacked_penalty(penalties: Sequence[Penalty], layout: Layout) -> Penalty:
    """Return the penalty of a stack; the strengths of the trainings may differ.

    Args:
        penalties: One penalty for each training, which differ only in strength.
        layout: How the parameters of one training lie in its vector.
    """
    functions = [bare(penalty.function) for penalty in penalties]
    terms = [function for function in functions if isinstance(function, SumOf)]

    def function(parameters: Packed, m: int, numerics: Numerics) -> tuple[Any, FloatArray]:
        rows = freeze(rows_of(layout, parameters.vector))
        if len(terms) == len(penalties):
            costs, gradients = together(rows, m, numerics)
        else:
            packed = map(layout.packed, rows)
            own = (
                penalty.function(run, m, numerics)
                for penalty, run in zip(penalties, packed, strict=True)
            )
            costs, gradients = map(np.array, zip(*own, strict=True))
        return costs, freeze(vector_of(layout, gradients))

    def together(rows: FloatArray, m: int, numerics: Numerics) -> tuple[FloatArray, FloatArray]:
        expect_examples(m)
        gradients = np.zeros_like(rows)
        factors = np.array([term.strength / (2 * m) for term in terms])
        total = np.zeros(len(rows))
        for stretch in layout.selected(terms[0].only):
            w = rows[:, stretch]
            sizes = terms[0].size(w, None)
            total += means(numerics, sizes[:, np.newaxis]) * w.shape[1]
            gradients[:, stretch] = terms[0].slope(w, None) * factors[:, np.newaxis].astype(w.dtype)
        return factors * total, gradients

    return Penalty(function)


def stacked_numerics(numerics: Numerics, layout: Layout) -> Numerics:
    """Return the arithmetic whose norm of a stack's vector is the norm of each training, (R,)."""
    return attrs.evolve(
        numerics,
        norm=lambda vector: norms(numerics, rows_of(layout, vector)),  # type: ignore[arg-type, return-value]
    )


# Optimizers


def not_elementwise(optimizer: Description) -> str:
    """Return the name of the innermost part of an optimizer that is not elementwise, or ""."""
    if build(optimizer, family="optimizer").elementwise:
        return ""
    [(name, options)] = optimizer.items()
    return next(filter(None, map(not_elementwise, _optimizers_in(options.values()))), name)


def _optimizers_in(values: Iterable[object]) -> Iterator[Description]:
    """Yield the descriptions of optimizers among the values of options."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _optimizers_in(value)
        elif is_description(value) and find_builder(next(iter(value))).family == "optimizer":
            yield value


def rate_of(optimizer: Description) -> float | None:
    """Return the learning rate of an optimizer, or None if it cannot differ within a stack.

    It can differ if it is a number, and multiplying by it is the last thing the optimizer does.
    """
    part: GradientTransformation = build(optimizer, family="optimizer")
    rate = part.learning_rate
    if not part.rate_last or isinstance(rate, Schedule) or rate is None:
        return None
    changed = with_rate(optimizer, 1.0)
    same = changed is not None and build(changed, family="optimizer").learning_rate == 1.0
    return rate if same else None


def with_rate(optimizer: Description, rate: float) -> Description | None:
    """Return the optimizer with another learning rate, or None if it has no such option.

    The option is its own `learning_rate`, or else that of the last part inside it.
    """
    [(name, options)] = optimizer.items()
    if "learning_rate" in find_builder(name).options:
        return {name: {**options, "learning_rate": rate}}
    for option, value in options.items():
        *before, last = value if isinstance(value, list | tuple) and value else [value]
        inner = next(_optimizers_in([last]), None)
        if inner is not None and (changed := with_rate(inner, rate)) is not None:
            several = isinstance(value, list | tuple)
            return {name: {**options, option: [*before, changed] if several else changed}}
    return None


def stacked_optimizer(
    optimizers: Sequence[Description], layout: Layout, dtype: AnyDType
) -> GradientTransformation:
    """Return the optimizer of a stack, whose trainings may differ only in their learning rate.

    It must be elementwise. If rates differ, the optimizer is built with rate 1, and its updates are
    multiplied by the rate of each training, at the point where a training alone multiplies by its
    rate. So each training has the bits that it has alone.
    """
    if all(optimizer == optimizers[0] for optimizer in optimizers):
        alone: GradientTransformation = build(optimizers[0], family="optimizer")
        return alone
    of_rate_1 = with_rate(optimizers[0], 1.0)
    assert of_rate_1 is not None
    inner: GradientTransformation = build(of_rate_1, family="optimizer")
    rates = np.array([rate_of(optimizer) for optimizer in optimizers], np.float64)

    @functools.lru_cache(maxsize=1)
    def by_entry(factor: float) -> FloatArray:
        with np.errstate(over="ignore"):  # a training alone would have an infinite rate, too
            column = (rates * factor)[:, np.newaxis].astype(dtype)
        return freeze(vector_of(layout, np.broadcast_to(column, (len(rates), layout.size))))

    def update(
        grads: FloatArray, state: Any, params: Packed, context: Context = EVALUATION
    ) -> tuple[FloatArray, Any]:
        if inner.begin is None:
            updates, state = inner.update(grads, state, params, context)
            return freeze(updates * by_entry(1.0)), state
        work = inner.begin(state, grads.dtype, context.numerics)
        updates, *after = carried_out(work, grads, params, factors=by_entry(work.factor))
        return updates, work.state(*after)

    return attrs.evolve(
        inner,
        update=update,
        begin=None,
        observe=lambda state: {**inner.observe(state), "learning_rate": rates},
    )
