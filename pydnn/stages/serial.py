"""Stages in sequence: the combinator that makes a network, which is a stage too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydnn.checks import BadInput
from pydnn.descriptions.builders import described
from pydnn.engines import expression_of, in_use, product_of, runs_in_turn
from pydnn.keys import Key
from pydnn.numerics.underflow import bare
from pydnn.parameters import NO_PARAMS, Tree, Views
from pydnn.records import FloatArray, freeze, maker_of
from pydnn.stages.base import (
    Caches,
    Context,
    ElementwiseCache,
    Shape,
    Stage,
    Trees,
    combined_statistics,
    expect_stages,
    expect_takes_lengths,
    in_stage,
    into,
    left_out,
    onnx_of_part,
)

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = ["serial"]


@described("stage")
def serial(*stages: Stage) -> Stage[Trees, Caches]:
    """Make a network: each stage takes the output of the one before it.

    Parameters, gradients and caches are tuples with one entry per stage.

    Args:
        *stages: One stage or more, in order.

    Raises:
        BadInput: If there is no stage, or something that is not a stage. Errors of an inner stage
            begin with its number and name.

    Example:
        >>> network = nn.serial(nn.dense(20), nn.relu(), nn.dense(1))
        >>> params, shape_out = network.init(nn.Key(0), (64,))
        >>> A, caches = network.forward(params, np.zeros((64, 7)), nn.Context())
        >>> A.shape
        (1, 7)
    """
    expect_stages("serial", stages)

    def init(key: Key, shape: Shape) -> tuple[Trees, Shape]:
        params = []
        for i, stage in enumerate(stages):
            try:
                tree, shape = stage.init(key.at(i), shape)
            except BadInput as error:
                raise in_stage(i, stage, error) from error
            params.append(tree)
        return tuple(params), shape

    forwards = tuple((bare(s.forward), s.needs_place, s.lengths == "ended") for s in stages)
    together = tuple(map(_together, stages, (*stages[1:], None)))
    backwards = tuple(bare(stage.backward) for stage in stages)
    backwards_into = tuple(map(into, stages))

    # The stages after this one get no lengths, since their input has no steps any more.
    last_with_steps = next((i for i, s in enumerate(stages) if s.lengths == "ended"), len(stages))
    refuses = any(stage.lengths == "refused" for stage in stages[:last_with_steps])

    @runs_in_turn(stages)
    def forward(params: Trees, A: FloatArray, context: Context) -> tuple[FloatArray, Caches]:
        if context.lengths is not None:
            expect_takes_lengths(network)
        caches: list[object] = []
        compiled = in_use.forms is not None and A.ndim == 2
        ready: tuple[FloatArray, object] | None = None
        for i, (stage_forward, needs_place, ends_steps) in enumerate(forwards):
            both = together[i] if compiled else None
            try:
                if ready is not None:  # it was computed together with the stage before
                    (A, cache), ready = ready, None
                elif both is not None and A.ndim == 2:
                    A, cache, ready = both(params[i], A, context)
                else:
                    A, cache = stage_forward(
                        params[i], A, context.below(i) if needs_place else context
                    )
            except BadInput as error:
                raise in_stage(i, stages[i], error) from error
            caches.append(cache)
            if ends_steps:
                context = context.after_steps()
        return A, tuple(caches)

    def backward(params: Trees, caches: Caches, dA: FloatArray) -> tuple[FloatArray, Trees]:
        grads: list[Tree] = [NO_PARAMS] * len(stages)
        for i in range(len(stages) - 1, -1, -1):
            dA, grads[i] = backwards[i](params[i], caches[i], dA)
        return dA, tuple(grads)

    @runs_in_turn(stages)
    def backward_into(
        params: Trees, caches: Caches, dA: FloatArray, out: Views, needs_dA_prev: bool
    ) -> FloatArray | None:
        # If nobody needs dA_prev, the pass ends at the first stage that has parameters: whatever
        # comes before it has no gradients, and its products would be wasted.
        at_first = needs_dA_prev or not isinstance(params[0], tuple)
        first = 0 if at_first else _first_with_params(params)
        for i in range(len(stages) - 1, first, -1):
            dA_prev = backwards_into[i](params[i], caches[i], dA, out[i], True)
            if dA_prev is None:
                raise left_out(i, stages[i])
            dA = dA_prev
        if first == len(stages):
            return None
        return backwards_into[first](params[first], caches[first], dA, out[first], needs_dA_prev)

    def onnx(params: Trees, A: Value, statistics: Tree) -> Value:
        for i, stage in enumerate(stages):
            A = onnx_of_part(i, stage, params, A, statistics)
        return A

    network = Stage(
        "serial",
        init,
        forward,
        backward,
        backward_into=backward_into,
        random=any(stage.random for stage in stages),
        mixes_examples=any(stage.mixes_examples for stage in stages),
        elementwise=all(stage.elementwise for stage in stages),
        in_sequence=True,
        ids=stages[0].ids,
        statistics=combined_statistics(stages, lambda caches: caches),
        lengths="refused" if refuses else "ended" if last_with_steps < len(stages) else "kept",
        onnx=onnx,
        parts=stages,
        rebuild=serial,
    )
    return network


_cache = maker_of(ElementwiseCache)  # a fifth of the time of the class
_Both = Callable[
    [Tree, FloatArray, Context],
    tuple[FloatArray, object, tuple[FloatArray, ElementwiseCache] | None],
]


def _together(stage: Stage, after: Stage | None) -> _Both | None:
    """The forward of a stage that adds a bias and of the activation after it, in one pass.

    It returns the output and the cache of the first stage, and those of the second one; None for
    these if there is no compiled form. It is for inputs (n_in, m), and for the compiled engine.
    """
    product = product_of(bare(stage.forward))
    expression = None if after is None else expression_of(bare(after.forward))
    if product is None or expression is None:
        return None

    def forward(
        params: Tree, A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, object, tuple[FloatArray, ElementwiseCache] | None]:
        Z, b, cache = product(params, A_prev, context)
        numerics = context.numerics
        forms = in_use.forms  # another thread may change it
        A = None if forms is None else forms.layers.biased(expression, Z, b, numerics)
        if A is None:
            Z += b
            return freeze(Z), cache, None
        return freeze(Z), cache, (A, _cache(Z, A, numerics))

    return forward


def _first_with_params(params: Trees) -> int:
    return next((i for i, tree in enumerate(params) if _has_arrays(tree)), len(params))


def _has_arrays(tree: Tree) -> bool:
    return any(map(_has_arrays, tree)) if isinstance(tree, tuple) else True
