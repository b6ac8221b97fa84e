"""What a stage is: three pure functions, and the context in which they are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from pydnn.checks import BadInput
from pydnn.descriptions.parts import DescribedPart
from pydnn.keys import Key
from pydnn.numerics import Numerics, fast
from pydnn.numerics.underflow import bare, to_ignoring
from pydnn.parameters import NO_PARAMS, Layout, Tree, leaves
from pydnn.records import FloatArray, arrays, freeze, maker_of, readonly

__all__ = [
    "EVALUATION",
    "Context",
    "ElementwiseCache",
    "Shape",
    "Stage",
    "Statistics",
    "combined_statistics",
    "elementwise",
    "expect_stages",
    "gradients_layout",
    "in_stage",
    "map_stages",
    "thrifty_backward",
]

Shape = tuple[int, ...]  # of one example: (n_x,) for columns of n_x features


@attrs.frozen(eq=False)
class Context:
    """What a stage may know about the call beside its arguments.

    Attributes:
        training: Whether this is a training step; some stages are off outside of one.
        key: Where a stage that declares itself `random` draws from; None outside of training.
        numerics: The arithmetic to use for products, sums and functions.
        statistics: What a stage that keeps `statistics` has gathered in training so far.
    """

    training: bool = False
    key: Key | None = None
    numerics: Numerics = fast
    statistics: Tree | None = None

    def below(self, part: int) -> Context:
        """The context for the stage that is number `part` of a combinator."""
        return Context(
            self.training,
            self.key.at(part) if self.key else None,
            self.numerics,
            self.statistics[part] if self.statistics else None,
        )


EVALUATION = Context()


@attrs.frozen(eq=False)
class Statistics:
    """What a stage gathers over training steps, beside its parameters, and uses afterwards.

    It is state like any other: `TrainState` carries it, and a step gives the next one.

    Attributes:
        init: `(params) -> statistics`, before any step; an attrs record of arrays.
        absorb: `(statistics, cache) -> statistics`, with what one training step's forward pass
            has seen, as told by its cache.
    """

    init: Callable[[Tree], Tree]
    absorb: Callable[[Tree, Any], Tree] = attrs.field(converter=to_ignoring)


@attrs.frozen(eq=False, repr=False)
class Stage(DescribedPart):
    """One stage of a network, and a network itself: a record of three pure functions.

    Attributes:
        name: What messages call it.
        init: `(key, shape_in) -> (params, shape_out)`, shapes being those of one example.
        forward: `(params, A_prev, context) -> (A, cache)`, examples in columns.
        backward: `(params, cache, dA) -> (dA_prev, grads)`; `grads` mirrors `params` field by
            field, and nothing here divides by m, since the loss owns the mean.
        thrifty: Whether `backward` also takes two keywords: `out`, a writable array for each of
            its gradients, made for this one call and seen by nobody else (a tuple that mirrors
            `params`), which it fills, and gives None for grads; and `wants_dA_prev`, which is
            False where nobody will use dA_prev, so that it gives None for that.
        random: Whether `forward` draws from `context.key`.
        mixes_examples: Whether in training what it makes of an example depends on the others of
            the batch, so that a batch needs two or more.
        statistics: What it gathers in training and uses afterwards, if it does.
        gradients: The class of `grads`; None where it is that of `params`.
        parts: The stages that a combinator is made of, in their order.
        rebuild: Makes a combinator again, of other parts.
    """

    name: str
    init: Callable[[Key, Shape], tuple[Tree, Shape]] = attrs.field(
        converter=to_ignoring, repr=False
    )
    forward: Callable[[Tree, FloatArray, Context], tuple[FloatArray, Any]] = attrs.field(
        converter=to_ignoring, repr=False
    )
    backward: Callable[..., tuple[FloatArray | None, Tree]] = attrs.field(
        converter=to_ignoring, repr=False
    )
    thrifty: bool = attrs.field(default=False, kw_only=True)
    random: bool = attrs.field(default=False, kw_only=True)
    mixes_examples: bool = attrs.field(default=False, kw_only=True)
    statistics: Statistics | None = attrs.field(default=None, kw_only=True)
    gradients: type | None = attrs.field(default=None, kw_only=True)
    parts: tuple[Stage, ...] = attrs.field(default=(), kw_only=True)
    rebuild: Callable[..., Stage] | None = attrs.field(default=None, kw_only=True)

    @property
    def needs_place(self) -> bool:
        """Whether `forward` must be told its own place, for its key or its statistics."""
        return self.random or self.statistics is not None


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class ElementwiseCache:
    """What an elementwise stage's backward pass may need: Z, A, and the arithmetic."""

    Z: FloatArray
    A: FloatArray
    numerics: Numerics


_cache = maker_of(ElementwiseCache)


def elementwise(
    name: str,
    forward: Callable[[FloatArray, Numerics], FloatArray],
    backward: Callable[[FloatArray, FloatArray, FloatArray, Numerics], FloatArray],
) -> Stage:
    """A stage without parameters that maps each number by itself, as activations do.

    Args:
        name: What messages call it.
        forward: `(Z, numerics) -> A`.
        backward: `(dA, Z, A, numerics) -> dZ`, which is dA times the slope of A at Z.
    """

    def stage_forward(
        params: Tree, Z: FloatArray, context: Context
    ) -> tuple[FloatArray, ElementwiseCache]:
        numerics = context.numerics
        A = freeze(forward(Z, numerics))
        return A, _cache(readonly(Z), A, numerics)

    def stage_backward(
        params: Tree, cache: ElementwiseCache, dA: FloatArray
    ) -> tuple[FloatArray, Tree]:
        return freeze(backward(dA, cache.Z, cache.A, cache.numerics)), NO_PARAMS

    return Stage(name, lambda key, shape_in: (NO_PARAMS, shape_in), stage_forward, stage_backward)


def map_stages(function: Callable[[str, Stage], Stage], stage: Stage, path: str = "") -> Stage:
    """The same network with `function(path, part)` for every stage that is no combinator.

    A part's path is where its parameters lie, e.g. "2/" for those called "2/W" and "2/b".
    """
    if not stage.parts or stage.rebuild is None:
        return function(path, stage)
    parts = [map_stages(function, part, f"{path}{i}/") for i, part in enumerate(stage.parts)]
    return stage.rebuild(*parts)


def gradients_layout(stage: Stage, layout: Layout) -> Layout:
    """How the gradients of `stage` lie in one vector, for parameters that lie as in `layout`.

    The arrays keep their parameters' names.
    """
    return layout.mirrored(_gradient_classes(stage))


def _gradient_classes(stage: Stage) -> Any:
    return tuple(map(_gradient_classes, stage.parts)) if stage.parts else stage.gradients


def combined_statistics(
    stages: tuple[Stage, ...], caches: Callable[[Any], Tree] = lambda cache: cache
) -> Statistics | None:
    """The statistics of a combinator: a tuple of those of its parts, or None where none has any.

    Args:
        stages: The parts.
        caches: From the combinator's cache to the tuple of its parts' caches.
    """
    gatherers = [stage.statistics for stage in stages]
    if not any(gatherers):
        return None

    def init(params: Tree) -> Tree:
        return tuple(
            g.init(tree) if g else NO_PARAMS for g, tree in zip(gatherers, params, strict=True)
        )

    absorbers = [bare(g.absorb) if g else None for g in gatherers]

    def absorb(statistics: Tree, cache: Any) -> Tree:
        rows = zip(absorbers, statistics, caches(cache), strict=True)
        return tuple(a(tree, part) if a else NO_PARAMS for a, tree, part in rows)

    return Statistics(init, absorb)


def expect_stages(name: str, stages: tuple[Stage, ...]) -> None:
    """Refuse a combinator `name` of no stages, or of something else."""
    if not stages:
        raise BadInput(f"{name} has no stages, expected one or more: give e.g. {name}(dense(1)).")
    for i, stage in enumerate(stages):
        if not isinstance(stage, Stage):
            raise BadInput(
                f"{name} got {stage!r} as stage {i}, expected a Stage: call its builder."
            )


def in_stage(i: int, stage: Stage, error: BadInput) -> BadInput:
    """What a combinator's part number `i` refused, with its place and name before it."""
    return BadInput(f"stage {i} ({stage.name}): {error}")


def thrifty_backward(stage: Stage) -> Callable[..., tuple[FloatArray | None, Tree]]:
    """The backward pass of any `stage`, with the keywords `out` and `wants_dA_prev`.

    Where `out` is given it holds the gradients afterwards, whoever computed them, and None is
    given for the records of them.
    """
    stage_backward = bare(stage.backward)
    if stage.thrifty:
        return stage_backward

    def backward(
        params: Tree,
        cache: Any,
        dA: FloatArray,
        *,
        out: Tree | None = None,
        wants_dA_prev: bool = True,
    ) -> tuple[FloatArray | None, Tree]:
        dA_prev, grads = stage_backward(params, cache, dA)
        if out:  # not for None, nor for the empty tuple of a stage without parameters
            _copy_gradients(stage, grads, out)
        return dA_prev, grads if out is None else None

    return backward


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
