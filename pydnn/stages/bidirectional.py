"""A recurrent stage in both directions: one goes from the first step to the last, one back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_known
from pydnn.descriptions.builders import build, describe, described
from pydnn.keys import Key
from pydnn.numerics.underflow import bare
from pydnn.parameters import Tree, Views
from pydnn.records import FloatArray, freeze
from pydnn.stages.base import (
    Caches,
    Context,
    Shape,
    Stage,
    Trees,
    combined_statistics,
    expect_stages,
    in_stage,
    into,
    left_out,
    onnx_of_part,
)

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = ["bidirectional"]


@described("stage")
def bidirectional(*stages: Stage, merge: str = "concat") -> Stage[Trees, Caches]:
    """Apply a recurrent stage and its mirror image, which goes from the last step to the first.

    The mirror image has parameters of its own. With sequences of unequal length, it starts at the
    last valid step of each sequence. Parameters, gradients and caches are tuples with one entry for
    the stage and one for its mirror image.

    Args:
        *stages: A stage whose builder has the option `reverse`, e.g. lstm(8), or two stages to use
            instead of a stage and its mirror image.
        merge: "concat" for the outputs of both beside each other, as 2 units features; "sum" for
            their sum.

    Raises:
        BadInput: If the stage has no mirror image, or `merge` is neither of these. `init` raises it
            if the outputs of two stages differ in shape. Errors of an inner stage begin with its
            number, 0 or 1, and name.

    References:
        Schuster and Paliwal, Bidirectional recurrent neural networks, 1997.

    Example:
        >>> stage = nn.bidirectional(nn.gru(3))
        >>> params, shape_out = stage.init(nn.Key(0), (5, 2))
        >>> A, caches = stage.forward(params, np.ones((5, 2, 4)), nn.Context())
        >>> shape_out, A.shape
        ((5, 6), (5, 6, 4))
    """
    expect_stages("bidirectional", stages)
    expect_known("merge", merge, ("concat", "sum"))
    if len(stages) > 2:
        raise BadInput(f"bidirectional got {len(stages)} stages, expected 1 or 2: leave some out.")
    both = stages if len(stages) == 2 else (*stages, _mirrored(*stages))

    def rebuild(*parts: Stage) -> Stage[Trees, Caches]:
        unchanged = all(part is own for part, own in zip(parts, both, strict=True))
        return bidirectional(*(stages if unchanged else parts), merge=merge)

    return attrs.evolve(_of_both(both, merge == "concat"), rebuild=rebuild)


def _mirrored(stage: Stage) -> Stage:
    [(name, options)] = describe(stage).items()
    if stage.builder is None or "reverse" not in stage.builder.options:
        raise BadInput(
            f"bidirectional got {name}, which has no option reverse, expected a recurrent stage: "
            "give e.g. bidirectional(lstm(8))."
        )
    try:
        reverse = not options.get("reverse", False)
        mirrored: Stage = build({name: {**options, "reverse": reverse}}, family="stage")
    except BadInput as error:
        raise BadInput(f"bidirectional({name}): {error}") from error
    return mirrored


def _of_both(stages: tuple[Stage, ...], concatenates: bool) -> Stage[Trees, Caches]:
    """Make the stage that adds or concatenates the outputs of two stages."""

    def init(key: Key, shape_in: Shape) -> tuple[Trees, Shape]:
        params, shapes = [], []
        for i, stage in enumerate(stages):
            try:
                tree, shape = stage.init(key.at(i), shape_in)
            except BadInput as error:
                raise in_stage(i, stage, error) from error
            params.append(tree)
            shapes.append(shape)
            if shape != shapes[0]:
                raise BadInput(
                    f"bidirectional: stage 0 gives examples of shape {shapes[0]} and stage 1 of "
                    f"shape {shape}, expected the same: give both the same units and output."
                )
        *steps, units = shapes[0]
        return tuple(params), (*steps, len(stages) * units if concatenates else units)

    def forward(params: Trees, X: FloatArray, context: Context) -> tuple[FloatArray, Caches]:
        outputs, caches = [], []
        for i, stage in enumerate(stages):
            own = context.below(i) if stage.needs_place else context
            try:
                A, cache = forwards[i](params[i], X, own)
            except BadInput as error:
                raise in_stage(i, stage, error) from error
            outputs.append(A)
            caches.append(cache)
        A = np.concatenate(outputs, axis=-2) if concatenates else np.add(*outputs)
        return freeze(A), tuple(caches)

    forwards = tuple(bare(stage.forward) for stage in stages)
    backwards = tuple(bare(stage.backward) for stage in stages)
    backwards_into = tuple(map(into, stages))

    def gradients_of_outputs(dA: FloatArray) -> list[FloatArray]:
        if not concatenates:
            return [dA] * len(stages)
        return [freeze(np.ascontiguousarray(half)) for half in np.split(dA, len(stages), axis=-2)]

    def backward(params: Trees, caches: Caches, dA: FloatArray) -> tuple[FloatArray, Trees]:
        pairs = [
            backwards[i](params[i], caches[i], dA_own)
            for i, dA_own in enumerate(gradients_of_outputs(dA))
        ]
        (dX, _), (dX_mirrored, _) = pairs
        return freeze(dX + dX_mirrored), tuple(grads for _, grads in pairs)

    def backward_into(
        params: Trees, caches: Caches, dA: FloatArray, out: Views, needs_dA_prev: bool
    ) -> FloatArray | None:
        shares = []
        for i, dA_own in enumerate(gradients_of_outputs(dA)):
            share = backwards_into[i](params[i], caches[i], dA_own, out[i], needs_dA_prev)
            if share is not None:
                shares.append(share)
            elif needs_dA_prev:
                raise left_out(i, stages[i])
        return freeze(np.add(*shares)) if needs_dA_prev else None

    def onnx(params: Trees, X: Value, statistics: Tree) -> Value:
        first, second = (
            onnx_of_part(i, stage, params, X, statistics) for i, stage in enumerate(stages)
        )
        return first.op("Concat", second, axis=-1) if concatenates else first.op("Add", second)

    return Stage(
        "bidirectional",
        init,
        forward,
        backward,
        backward_into=backward_into,
        random=any(stage.random for stage in stages),
        mixes_examples=any(stage.mixes_examples for stage in stages),
        statistics=combined_statistics(stages, lambda caches: caches),
        lengths=stages[0].lengths if stages[0].lengths == stages[1].lengths else "refused",
        onnx=onnx,
        parts=stages,
    )
