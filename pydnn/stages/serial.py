"""Stages one after the other: the combinator that makes a network, itself a stage."""

from __future__ import annotations

from pydnn.builders import described
from pydnn.checks import BadInput
from pydnn.keys import Key
from pydnn.packing import NO_PARAMS, Tree
from pydnn.records import FloatArray
from pydnn.stages.base import Context, Shape, Stage, pull_back

__all__ = ["serial"]


@described("stage")
def serial(*stages: Stage) -> Stage:
    """Feed each stage with what the one before it gives.

    Parameters and gradients are tuples with one tree per stage; so are the caches.

    Raises:
        BadInput: If there is no stage, or something else than a stage; later, from its
            functions, what a stage refuses, with the stage's place and name before it.
    """
    if not stages:
        raise BadInput("serial has no stages, expected one or more: give e.g. serial(dense(1)).")
    for i, stage in enumerate(stages):
        if not isinstance(stage, Stage):
            raise BadInput(f"serial got {stage!r} as stage {i}, expected a Stage.")

    def init(key: Key, shape: Shape) -> tuple[Tree, Shape]:
        params = []
        for i, stage in enumerate(stages):
            try:
                tree, shape = stage.init(key.at(i), shape)
            except BadInput as error:
                raise _in_stage(i, stage, error) from error
            params.append(tree)
        return tuple(params), shape

    def forward(params: Tree, A: FloatArray, context: Context) -> tuple[FloatArray, Tree]:
        caches = []
        for i, (stage, tree) in enumerate(zip(stages, params, strict=True)):
            try:
                A, cache = stage.forward(tree, A, context.below(i) if stage.random else context)
            except BadInput as error:
                raise _in_stage(i, stage, error) from error
            caches.append(cache)
        return A, tuple(caches)

    def backward(
        params: Tree,
        caches: Tree,
        dA: FloatArray,
        *,
        out: Tree | None = None,
        wants_dA_prev: bool = True,
    ) -> tuple[FloatArray | None, Tree]:
        # Where nobody wants dA_prev, the pass ends at the first stage that has parameters.
        first = 0 if wants_dA_prev else _first_with_params(params)
        into = out or (None,) * len(stages)
        grads: list[Tree] = [NO_PARAMS] * len(stages)
        flowing: FloatArray | None = dA
        for i in range(len(stages) - 1, first - 1, -1):
            flowing, grads[i] = pull_back(
                stages[i],
                params[i],
                caches[i],
                flowing,  # type: ignore[arg-type]  # None comes from the first stage alone
                out=into[i],
                wants_dA_prev=wants_dA_prev or i > first,
            )
        return flowing if wants_dA_prev else None, tuple(grads)

    return Stage(
        "serial",
        init,
        forward,
        backward,
        thrifty=True,
        random=any(stage.random for stage in stages),
        parts=stages,
    )


def _first_with_params(params: Tree) -> int:
    return next((i for i, tree in enumerate(params) if _has_arrays(tree)), len(params))


def _has_arrays(tree: Tree) -> bool:
    return any(map(_has_arrays, tree)) if isinstance(tree, tuple) else True


def _in_stage(i: int, stage: Stage, error: BadInput) -> BadInput:
    return BadInput(f"stage {i} ({stage.name}): {error}")
