"""What a stage is: three pure functions, and the context in which they are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from pydnn.builders import Description
from pydnn.checks import BadInput
from pydnn.keys import Key
from pydnn.numerics import Numerics, fast
from pydnn.packing import NO_PARAMS, Tree, leaves
from pydnn.records import FloatArray

__all__ = ["EVALUATION", "Context", "Shape", "Stage", "elementwise", "pull_back"]

Shape = tuple[int, ...]  # of one example: (n_x,) for columns of n_x features


@attrs.frozen
class Context:
    """What a stage may know about the call beside its arguments.

    Attributes:
        training: Whether this is a training step; some stages are off outside of one.
        key: Where a stage that declares itself `random` draws from; None outside of training.
        numerics: The arithmetic to use for products, sums and functions.
    """

    training: bool = False
    key: Key | None = None
    numerics: Numerics = fast

    def below(self, part: int) -> Context:
        """The context for the stage that is number `part` of a combinator."""
        return attrs.evolve(self, key=self.key.at(part)) if self.key else self


EVALUATION = Context()


@attrs.frozen(eq=False)
class Stage:
    """One stage of a network, and a network itself: a record of three pure functions.

    Attributes:
        name: What messages call it.
        init: `(key, shape_in) -> (params, shape_out)`, shapes being those of one example.
        forward: `(params, A_prev, context) -> (A, cache)`, examples in columns.
        backward: `(params, cache, dA) -> (dA_prev, grads)`; `grads` mirrors `params` field by
            field, and nothing here divides by m, since the loss owns the mean.
        thrifty: Whether `backward` also takes two keywords: `out`, a writable array for each of
            its gradients, made for this one call and seen by nobody else (a tuple that mirrors
            `params`), which it fills instead of making its own; and `wants_dA_prev`, which is
            False where nobody will use dA_prev, so that it gives None for it.
        random: Whether `forward` draws from `context.key`.
        parts: The stages that a combinator is made of, in their order.
        description: How to `build` it again; filled in by `@described`.
    """

    name: str
    init: Callable[[Key, Shape], tuple[Tree, Shape]] = attrs.field(repr=False)
    forward: Callable[[Tree, FloatArray, Context], tuple[FloatArray, Any]] = attrs.field(repr=False)
    backward: Callable[..., tuple[FloatArray | None, Tree]] = attrs.field(repr=False)
    thrifty: bool = attrs.field(default=False, kw_only=True, repr=False)
    random: bool = attrs.field(default=False, kw_only=True, repr=False)
    parts: tuple[Stage, ...] = attrs.field(default=(), kw_only=True, repr=False)
    description: Description | None = attrs.field(default=None, kw_only=True, repr=False)


def elementwise(
    name: str,
    forward: Callable[[FloatArray, Context], tuple[FloatArray, Any]],
    backward: Callable[[Any, FloatArray], FloatArray],
) -> Stage:
    """A stage without parameters that maps each number by itself, as activations do.

    Args:
        name: What messages call it.
        forward: `(Z, context) -> (A, cache)`.
        backward: `(cache, dA) -> dZ`.
    """
    return Stage(
        name=name,
        init=lambda key, shape_in: (NO_PARAMS, shape_in),
        forward=lambda params, Z, context: forward(Z, context),
        backward=lambda params, cache, dA: (backward(cache, dA), NO_PARAMS),
    )


def pull_back(
    stage: Stage,
    params: Tree,
    cache: Any,
    dA: FloatArray,
    *,
    out: Tree | None = None,
    wants_dA_prev: bool = True,
) -> tuple[FloatArray | None, Tree]:
    """Call the backward pass of any `stage`, saving what a thrifty one can save.

    Where `out` is given it holds the gradients afterwards, whoever computed them.
    """
    if stage.thrifty:
        return stage.backward(params, cache, dA, out=out, wants_dA_prev=wants_dA_prev)
    dA_prev, grads = stage.backward(params, cache, dA)
    if out:  # not for None, nor for the empty tuple of a stage without parameters
        _copy_gradients(stage, grads, out)
    return dA_prev, grads


def _copy_gradients(stage: Stage, grads: Tree, out: Tree) -> None:
    given, expected = list(leaves(grads)), list(_flat(out))
    if [g.shape for g in given] != [e.shape for e in expected]:
        raise BadInput(
            f"gradients of stage {stage.name} have shapes {[g.shape for g in given]}, expected "
            f"{[e.shape for e in expected]}: give one for each parameter array, in its order."
        )
    for target, gradient in zip(expected, given, strict=True):
        target[...] = gradient


def _flat(out: Tree) -> Any:
    for part in out:
        if isinstance(part, tuple):
            yield from _flat(part)
        else:
            yield part
