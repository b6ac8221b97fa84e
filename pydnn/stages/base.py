"""What a stage is: three pure functions, and the context in which they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Protocol

import attrs

from pydnn.checks import BadInput
from pydnn.descriptions.parts import DescribedPart
from pydnn.keys import Key
from pydnn.numerics import Numerics, fast
from pydnn.numerics.underflow import bare, belongs, ignoring_in
from pydnn.parameters import NO_PARAMS, Classes, Layout, Tree, Views, leaves
from pydnn.records import FloatArray, arrays, freeze, maker_of, readonly
from pydnn.tables import html_table

if TYPE_CHECKING:  # `Stage` alone is then a stage of any parameters and caches
    from typing_extensions import TypeVar

    Params = TypeVar("Params", default=Any)
    Cache = TypeVar("Cache", default=Any)
    Params_in = TypeVar("Params_in", default=Any, contravariant=True)
    Cache_in = TypeVar("Cache_in", default=Any, contravariant=True)
else:
    from typing import TypeVar

    Params, Cache, Params_in, Cache_in = map(TypeVar, ("Params", "Cache", "Params_in", "Cache_in"))

__all__ = [
    "EVALUATION",
    "BackwardInto",
    "Caches",
    "Context",
    "ElementwiseCache",
    "Shape",
    "Stage",
    "Statistics",
    "Trees",
    "combined_statistics",
    "elementwise",
    "expect_stages",
    "flat",
    "gradients_layout",
    "in_stage",
    "init_nothing",
    "into",
    "left_out",
    "map_stages",
]

Shape = tuple[int, ...]  # of one example: (n_x,) for columns of n_x features
Trees = tuple[Tree, ...]  # the parameters, or the gradients, of a combinator's parts
Caches = tuple[object, ...]  # and their caches


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


@attrs.frozen(eq=False, field_transformer=ignoring_in("absorb"))
class Statistics(Generic[Params, Cache]):
    """What a stage gathers over training steps, beside its parameters, and uses afterwards.

    It is state like any other: `TrainState` carries it, and a step gives the next one.

    Attributes:
        init: `(params) -> statistics`, before any step; an attrs record of arrays.
        absorb: `(statistics, cache) -> statistics`, with what one training step's forward pass
            has seen, as told by its cache.
    """

    init: Callable[[Params], Tree]
    absorb: Callable[[Tree, Cache], Tree]


class BackwardInto(Protocol[Params_in, Cache_in]):
    """A backward pass that writes the gradients into arrays which were made for this call."""

    def __call__(
        self,
        params: Params_in,
        cache: Cache_in,
        dA: FloatArray,
        out: Views,
        needs_dA_prev: bool,
        /,
    ) -> FloatArray | None:
        """Write the gradients into `out`, and return dA_prev, or None where it is not needed."""


_FUNCTIONS = ("init", "forward", "backward", "backward_into")


@attrs.frozen(eq=False, repr=False, field_transformer=ignoring_in(*_FUNCTIONS))
class Stage(DescribedPart, Generic[Params, Cache]):
    """One stage of a network, and a network itself: a record of three pure functions.

    `Stage[DenseParams, DenseCache]` is a stage with these parameters and this cache, so that a
    type checker finds a wrong one; `Stage` alone is any stage. Its flags say what the rest of the
    library may rely on. `attrs.evolve(stage, forward=...)` keeps them, so change those that no
    longer hold.

    Attributes:
        name: What messages call it.
        init: `(key, shape_in) -> (params, shape_out)`, shapes being those of one example.
        forward: `(params, A_prev, context) -> (A, cache)`, examples in columns.
        backward: `(params, cache, dA) -> (dA_prev, grads)`; `grads` mirrors `params` field by
            field, and nothing here divides by m, since the loss owns the mean.
        backward_into: `(params, cache, dA, out, needs_dA_prev) -> dA_prev`, if there is a way to
            compute the gradients without copying them: it writes them into `out`, a tuple that
            mirrors `params` with a writable array for each gradient, which was made for this one
            call. It may return None where `needs_dA_prev` is False. It computes the same as
            `backward`: a stage whose `backward` was replaced alone has none.
        random: Whether `forward` draws from `context.key`.
        mixes_examples: Whether in training what it makes of an example depends on the others of
            the batch, so that a batch needs two or more.
        elementwise: Whether each number of its output depends on one number of its input alone,
            at the same place, so that it can be given arrays of any shape. It has no parameters.
        affine: Whether it gives W A_prev + b, its parameters being `DenseParams`.
        in_sequence: Whether its parts are fed one after the other, the first with its own input.
        statistics: What it gathers in training and uses afterwards, if it does.
        gradients: The class of `grads`; None where it is that of `params`.
        parts: The stages that a combinator is made of, in their order.
        rebuild: Makes a combinator again, of other parts.
    """

    name: str
    init: Callable[[Key, Shape], tuple[Params, Shape]]
    forward: Callable[[Params, FloatArray, Context], tuple[FloatArray, Cache]]
    backward: Callable[[Params, Cache, FloatArray], tuple[FloatArray, Tree]]
    backward_into: BackwardInto[Params, Cache] | None = attrs.field(default=None, kw_only=True)
    random: bool = attrs.field(default=False, kw_only=True)
    mixes_examples: bool = attrs.field(default=False, kw_only=True)
    elementwise: bool = attrs.field(default=False, kw_only=True)
    affine: bool = attrs.field(default=False, kw_only=True)
    in_sequence: bool = attrs.field(default=False, kw_only=True)
    statistics: Statistics[Params, Cache] | None = attrs.field(default=None, kw_only=True)
    gradients: type | None = attrs.field(default=None, kw_only=True)
    parts: tuple[Stage, ...] = attrs.field(default=(), kw_only=True)
    rebuild: Callable[..., Stage] | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.backward_into is not None and not belongs(self.backward_into, self.backward):
            object.__setattr__(self, "backward_into", None)

    def _repr_html_(self) -> str:
        return html_table("network", ["parameters", "stage"], list(_rows(self, "")))

    @property
    def needs_place(self) -> bool:
        """Whether `forward` must be told its own place, for its key or its statistics."""
        return self.random or self.statistics is not None


def _rows(stage: Stage, path: str) -> Iterator[list[str]]:
    """A row for each stage in a network, with the path of its parameters."""
    if not stage.parts:
        yield [path.removesuffix("/"), repr(stage)]
    elif path:
        yield [path.removesuffix("/"), stage.name]
    for i, part in enumerate(stage.parts):
        yield from _rows(part, f"{path}{i}/")


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class ElementwiseCache:
    """What an elementwise stage's backward pass may need: Z, A, and the arithmetic."""

    Z: FloatArray
    A: FloatArray
    numerics: Numerics


_cache = maker_of(ElementwiseCache)  # which every step of a network calls for each activation


def elementwise(
    name: str,
    forward: Callable[[FloatArray, Numerics], FloatArray],
    backward: Callable[[FloatArray, FloatArray, FloatArray, Numerics], FloatArray],
) -> Stage[tuple[()], ElementwiseCache]:
    """A stage without parameters that maps each number by itself, as activations do.

    Args:
        name: What messages call it.
        forward: `(Z, numerics) -> A`.
        backward: `(dA, Z, A, numerics) -> dZ`, which is dA times the slope of A at Z.
    """

    def stage_forward(
        params: tuple[()], Z: FloatArray, context: Context
    ) -> tuple[FloatArray, ElementwiseCache]:
        numerics = context.numerics
        A = _own(forward(Z, numerics), Z)
        return A, _cache(readonly(Z), A, numerics)

    def stage_backward(
        params: tuple[()], cache: ElementwiseCache, dA: FloatArray
    ) -> tuple[FloatArray, tuple[()]]:
        return _own(backward(dA, cache.Z, cache.A, cache.numerics), dA), NO_PARAMS

    def stage_backward_into(
        params: tuple[()], cache: ElementwiseCache, dA: FloatArray, out: Views, needs_dA_prev: bool
    ) -> FloatArray:
        return _own(backward(dA, cache.Z, cache.A, cache.numerics), dA)

    return Stage(
        name,
        init_nothing,
        stage_forward,
        stage_backward,
        backward_into=stage_backward_into,
        elementwise=True,
    )


def _own(made: FloatArray, argument: FloatArray) -> FloatArray:
    """What a function made, read-only; its caller's own array stays as it is."""
    return readonly(made) if made is argument else freeze(made)


def init_nothing(key: Key, shape_in: Shape) -> tuple[tuple[()], Shape]:
    """The `init` of a stage without parameters whose output has the shape of its input."""
    return NO_PARAMS, shape_in


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


def _gradient_classes(stage: Stage) -> Classes:
    return tuple(map(_gradient_classes, stage.parts)) if stage.parts else stage.gradients


def combined_statistics(
    stages: tuple[Stage, ...], caches: Callable[[Cache], Caches]
) -> Statistics[Trees, Cache] | None:
    """The statistics of a combinator: a tuple of those of its parts, or None where none has any.

    Args:
        stages: The parts.
        caches: From the combinator's cache to the tuple of its parts' caches.
    """
    gatherers = [stage.statistics for stage in stages]
    if not any(gatherers):
        return None

    def init(params: Trees) -> Trees:
        return tuple(
            g.init(tree) if g else NO_PARAMS for g, tree in zip(gatherers, params, strict=True)
        )

    absorbers = [bare(g.absorb) if g else None for g in gatherers]

    def absorb(statistics: Trees, cache: Cache) -> Trees:
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


def left_out(i: int, stage: Stage) -> BadInput:
    """The refusal of part number `i`, whose `backward_into` leaves out a dA_prev that is needed."""
    return in_stage(
        i,
        stage,
        BadInput(
            "backward_into returned None, expected dA_prev: leave it out only where needs_dA_prev "
            "is False."
        ),
    )


def into(stage: Stage[Params, Cache]) -> BackwardInto[Params, Cache]:
    """The backward pass of any `stage` as one that writes the gradients into arrays.

    It is the stage's own `backward_into`, or else its `backward`, whose gradients are copied.
    """
    if stage.backward_into is not None:
        return bare(stage.backward_into)
    backward = bare(stage.backward)

    def backward_into(
        params: Params, cache: Cache, dA: FloatArray, out: Views, needs_dA_prev: bool
    ) -> FloatArray:
        dA_prev, grads = backward(params, cache, dA)
        if out:
            _copy_gradients(stage, grads, out)
        return dA_prev

    return backward_into


def _copy_gradients(stage: Stage, grads: Tree, out: Views) -> None:
    given, expected = list(leaves(grads)), list(flat(out))
    if [g.shape for g in given] != [e.shape for e in expected]:
        raise BadInput(
            f"gradients of stage {stage.name} have shapes {[g.shape for g in given]}, expected "
            f"{[e.shape for e in expected]}: give one for each parameter array, in its order."
        )
    for target, gradient in zip(expected, given, strict=True):
        target[...] = gradient


def flat(out: Views) -> Iterator[FloatArray]:
    """The arrays of a tuple of views, in their order."""
    for part in out:
        if isinstance(part, tuple):
            yield from flat(part)
        else:
            yield part
