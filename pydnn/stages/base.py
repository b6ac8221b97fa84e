"""The contract of a stage: pure init, forward and backward, and the context they are called in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, cast

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.descriptions.parts import DescribedPart
from pydnn.engines import compilable, expression_of, in_use
from pydnn.keys import Key
from pydnn.numerics import Numerics, fast, passes
from pydnn.numerics.underflow import bare, belongs, ignoring_in
from pydnn.parameters import NO_PARAMS, Classes, Layout, Tree, Views, leaves
from pydnn.records import FloatArray, IntArray, arrays, freeze, maker_of, readonly
from pydnn.tables import html_table

if TYPE_CHECKING:  # with defaults, plain `Stage` means a stage of any parameters and caches
    from typing_extensions import TypeVar

    from pydnn.stages.graph import Value

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
    "backward_from",
    "combined_statistics",
    "elementwise",
    "expect_stages",
    "expect_takes_lengths",
    "flat",
    "gradients_layout",
    "gradients_layouts",
    "in_stage",
    "init_nothing",
    "into",
    "left_out",
    "map_stages",
    "onnx_of",
    "onnx_of_part",
]

Shape = tuple[int, ...]  # of one example: (n_x,) for columns of n_x features
Trees = tuple[Tree, ...]  # parameters or gradients of a combinator: one tree per inner stage
Caches = tuple[object, ...]  # one cache per inner stage


@attrs.frozen(eq=False)
class Context:
    """What a forward pass depends on besides its parameters and its input.

    Attributes:
        training: Whether this is a training step. Dropout and batch normalization behave
            differently outside of one.
        key: The randomness of a stage that declares itself `random`; None outside of training.
        numerics: The arithmetic for products, sums and elementary functions.
        statistics: What a stage with `statistics` has gathered in training so far.
        lengths: The number of valid steps of each sequence (m,); None if all steps are valid. See
            the attribute `lengths` of `Stage`.

    Example:
        >>> context = nn.Context(training=True, key=nn.Key(7))
        >>> A, cache = nn.dropout(keep_prob=0.5).forward((), np.ones((1, 4)), context)
        >>> A
        array([[0., 2., 2., 2.]])
    """

    training: bool = False
    key: Key | None = None
    numerics: Numerics = fast
    statistics: Tree | None = None
    lengths: IntArray | None = None

    def below(self, part: int) -> Context:
        """Return the context for inner stage number `part` of a combinator."""
        return Context(
            self.training,
            self.key.at(part) if self.key else None,
            self.numerics,
            self.statistics[part] if self.statistics else None,
            self.lengths,
        )

    def after_steps(self) -> Context:
        """Return the context for stages whose input has no steps any more: without lengths."""
        return Context(self.training, self.key, self.numerics, self.statistics)


EVALUATION = Context()


@attrs.frozen(eq=False, field_transformer=ignoring_in("absorb"))
class Statistics(Generic[Params, Cache]):
    """What a stage gathers over training steps besides its parameters, such as a running mean.

    `TrainState` carries these values from one step to the next, and evaluation uses them.

    Attributes:
        init: `(params) -> statistics`: the values before the first step, an attrs record of arrays.
        absorb: `(statistics, cache) -> statistics`: the values after a training step whose forward
            pass returned `cache`.
        read_in_training: Whether `forward` reads `context.statistics` in training, too, as a stage
            does that carries its state from batch to batch.
    """

    init: Callable[[Params], Tree]
    absorb: Callable[[Tree, Cache], Tree]
    read_in_training: bool = False


class BackwardInto(Protocol[Params_in, Cache_in]):
    """A backward pass that writes the gradients into arrays that its caller made for this call."""

    def __call__(
        self,
        params: Params_in,
        cache: Cache_in,
        dA: FloatArray,
        out: Views,
        needs_dA_prev: bool,
        /,
    ) -> FloatArray | None:
        """Write the gradients into `out`, and return dA_prev, or None if it is not needed."""


_FUNCTIONS = ("init", "forward", "backward", "backward_into", "onnx")


@attrs.frozen(eq=False, repr=False, field_transformer=ignoring_in(*_FUNCTIONS))
class Stage(DescribedPart, Generic[Params, Cache]):
    """A layer, an activation, a combinator or a whole network: a record of three pure functions.

    The type `Stage[DenseParams, DenseCache]` means a stage with these parameters and this cache,
    so that a type checker finds a wrong one; plain `Stage` means any stage. The flags tell the
    rest of the library what holds for the stage. `attrs.evolve(stage, forward=...)` keeps the
    flags, so change those that no longer hold.

    Attributes:
        name: The stage's name in messages.
        init: `(key, shape_in) -> (params, shape_out)`, with the shapes of one example.
        forward: `(params, A_prev, context) -> (A, cache)`, with examples along the last axis.
        backward: `(params, cache, dA) -> (dA_prev, grads)`, where `grads` mirrors `params` field
            by field. No stage divides by m, since the loss owns the mean.
        backward_into: `(params, cache, dA, out, needs_dA_prev) -> dA_prev`, optional: the same
            computation as `backward`, without copying gradients. It writes them into `out`, a
            tuple that mirrors `params` and holds a writable array for each gradient, made for this
            call. It may return None if `needs_dA_prev` is False. A stage whose `backward` alone
            was replaced loses it.
        random: Whether `forward` draws from `context.key`.
        mixes_examples: Whether, in training, the output for an example depends on the other
            examples of the batch, so that a batch must have at least two.
        per_shard: For a stage that mixes examples: whether it may mix those of each shard alone,
            where batches are cut into shards.
        elementwise: Whether each output number depends only on the input number at the same
            place, so that the stage takes arrays of any shape. Such a stage has no parameters.
        output_range: The least and the largest number that the output may hold, infinity for no
            bound; None for any numbers.
        affine: Whether the output is W A_prev + b, with `DenseParams` as parameters.
        in_sequence: Whether each inner stage takes the output of the one before it, and the first
            one takes the input of the combinator.
        statistics: How the stage gathers statistics in training; None if it gathers none.
        lengths: What the stage does with sequences of unequal length, whose numbers of valid steps
            are `context.lengths`. "kept": a valid step of the output depends on no padding, and
            the output has the same steps as the input. "ended": the same, but the output has no
            steps, e.g. only the last valid one is left. "refused": the stage would mix padding
            into valid steps, so batches with lengths are refused.
        ids: For a stage whose input holds ids, whole numbers from 0 on: how many there are. They
            have no gradient, so dA_prev is 0. None for a stage that takes any numbers.
        gradients: The class of `grads`; None if it is the class of `params`.
        onnx: `(params, A_prev, statistics) -> A`, optional: the computation outside of training,
            written with operators of ONNX. A_prev and A are values of `pydnn.stages.graph`, with
            examples along the first axis. A stage whose `forward` alone was replaced loses it.
        parts: The inner stages of a combinator, in order; empty for any other stage.
        rebuild: The function that makes the same combinator of other inner stages.
        rebuild_stacked: The same for arrays (features, R, m) of R trainings at the same time; None
            if `rebuild` takes them, too.

    Example:
        >>> network = nn.serial(nn.dense(3), nn.relu())
        >>> params, shape_out = network.init(nn.Key(0), (2,))
        >>> params
        (DenseParams(W=float64 (3, 2), b=float64 (3, 1)), ())
        >>> AL, caches = network.forward(params, np.ones((2, 5)), nn.Context())
        >>> AL.shape
        (3, 5)
    """

    name: str
    init: Callable[[Key, Shape], tuple[Params, Shape]]
    forward: Callable[[Params, FloatArray, Context], tuple[FloatArray, Cache]]
    backward: Callable[[Params, Cache, FloatArray], tuple[FloatArray, Tree]]
    backward_into: BackwardInto[Params, Cache] | None = attrs.field(default=None, kw_only=True)
    random: bool = attrs.field(default=False, kw_only=True)
    mixes_examples: bool = attrs.field(default=False, kw_only=True)
    per_shard: bool = attrs.field(default=False, kw_only=True)
    elementwise: bool = attrs.field(default=False, kw_only=True)
    output_range: tuple[float, float] | None = attrs.field(default=None, kw_only=True)
    affine: bool = attrs.field(default=False, kw_only=True)
    in_sequence: bool = attrs.field(default=False, kw_only=True)
    statistics: Statistics[Params, Cache] | None = attrs.field(default=None, kw_only=True)
    lengths: Literal["refused", "kept", "ended"] = attrs.field(default="refused", kw_only=True)
    ids: int | None = attrs.field(default=None, kw_only=True)
    gradients: type | None = attrs.field(default=None, kw_only=True)
    onnx: Callable[[Params, Value, Tree], Value] | None = attrs.field(default=None, kw_only=True)
    parts: tuple[Stage, ...] = attrs.field(default=(), kw_only=True)
    rebuild: Callable[..., Stage] | None = attrs.field(default=None, kw_only=True)
    rebuild_stacked: Callable[..., Stage] | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        # `attrs.evolve` may have replaced one function of a pair: training would go on with the
        # faster form of the old one.
        if self.backward_into is not None and not belongs(self.backward_into, self.backward):
            object.__setattr__(self, "backward_into", None)
        if self.onnx is not None and not belongs(self.onnx, self.forward):
            object.__setattr__(self, "onnx", None)

    def _repr_html_(self) -> str:
        return html_table("network", ["parameters", "stage"], list(_rows(self, "")))

    @property
    def needs_place(self) -> bool:
        """Whether `forward` needs a context of its own, for its key or its statistics."""
        return self.random or self.statistics is not None


def _rows(stage: Stage, path: str) -> Iterator[list[str]]:
    """One table row per stage of a network: the path of its parameters, and how it is written."""
    if not stage.parts:
        yield [path.removesuffix("/"), repr(stage)]
    elif path:
        yield [path.removesuffix("/"), stage.name]
    for i, part in enumerate(stage.parts):
        yield from _rows(part, f"{path}{i}/")


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class ElementwiseCache:
    """What the backward pass of an elementwise stage may need: Z, A, and the arithmetic."""

    Z: FloatArray
    A: FloatArray
    numerics: Numerics


_cache = maker_of(ElementwiseCache)  # faster than the class: each step calls it per activation


def elementwise(
    name: str,
    forward: Callable[[FloatArray, Numerics], FloatArray],
    backward: Callable[[FloatArray, FloatArray, FloatArray, Numerics], FloatArray],
    *,
    output_range: tuple[float, float] | None = None,
) -> Stage[tuple[()], ElementwiseCache]:
    """Make a stage without parameters that maps each number independently, as activations do.

    Args:
        name: The stage's name in messages.
        forward: `(Z, numerics) -> A`, of Z's shape.
        backward: `(dA, Z, A, numerics) -> dZ`, which is dA times the slope of A at Z.
        output_range: The least and the largest number that A may hold, if there are such; see
            `Stage`.

    Example:
        >>> square = nn.elementwise("square", lambda Z, _: Z * Z, lambda dA, Z, A, _: dA * 2 * Z)
        >>> A, cache = square.forward((), np.array([[1.0, 3.0]]), nn.Context())
        >>> dZ, _ = square.backward((), cache, np.ones((1, 2)))
        >>> A, dZ
        (array([[1., 9.]]), array([[2., 6.]]))
    """

    def stage_forward(
        params: tuple[()], Z: FloatArray, context: Context
    ) -> tuple[FloatArray, ElementwiseCache]:
        numerics = context.numerics
        if in_use.forms is None or Z.nbytes < passes.WORTH_A_LOOP:
            A = _own(forward(Z, numerics), Z)
        else:
            A = computed(forward, Z, numerics=numerics)
        return A, _cache(readonly(Z), A, numerics)

    def stage_backward(
        params: tuple[()], cache: ElementwiseCache, dA: FloatArray
    ) -> tuple[FloatArray, tuple[()]]:
        return stage_backward_into(params, cache, dA, (), True), NO_PARAMS

    def stage_backward_into(
        params: tuple[()], cache: ElementwiseCache, dA: FloatArray, out: Views, needs_dA_prev: bool
    ) -> FloatArray:
        if in_use.forms is None or dA.nbytes < passes.WORTH_A_LOOP:
            return _own(backward(dA, cache.Z, cache.A, cache.numerics), dA)
        return computed(backward, dA, cache.Z, cache.A, numerics=cache.numerics)

    def computed(
        function: Callable[..., FloatArray], *operands: FloatArray, numerics: Numerics
    ) -> FloatArray:
        made: FloatArray | None = None
        forms = in_use.forms  # another thread may change it
        if forms is not None:
            made = forms.layers.activated(function, operands, numerics)
        return _own(function(*operands, numerics), operands[0]) if made is None else made

    means = expression_of(forward), expression_of(backward)
    if means[0] is not None and means[1] is not None:
        # A compiled step needs the expressions, and asks the functions of the stage for them.
        compilable(stage_forward, means=means[0])
        compilable(stage_backward_into, means=means[1])

    def onnx(params: tuple[()], Z: Value, statistics: Tree) -> Value:
        # A `Value` instead of an array records the operators that `forward` applies to it.
        return cast(Any, forward)(Z, Z.numerics)  # type: ignore[no-any-return]

    return Stage(
        name,
        init_nothing,
        stage_forward,
        stage_backward,
        backward_into=stage_backward_into,
        elementwise=True,
        output_range=output_range,
        lengths="kept",
        onnx=onnx,
    )


def _own(result: FloatArray, argument: FloatArray) -> FloatArray:
    """Make the `result` of a user's function of `argument` read-only."""
    # The function may return its argument: freezing that would change the caller's array.
    return readonly(result) if result is argument else freeze(result)


def init_nothing(key: Key, shape_in: Shape) -> tuple[tuple[()], Shape]:
    """Serve as the `init` of a stage without parameters whose output has its input's shape."""
    return NO_PARAMS, shape_in


def map_stages(function: Callable[[str, Stage], Stage], stage: Stage, path: str = "") -> Stage:
    """Rebuild a network with every stage that is not a combinator replaced.

    Args:
        function: `(path, stage) -> stage`, the replacement. The path is the prefix of the stage's
            parameter names, e.g. "2/" for "2/W" and "2/b".
        stage: The network.
        path: The prefix of the network's own parameter names.

    Example:
        >>> network = nn.serial(nn.dense(3), nn.relu(), nn.dense(1))
        >>> nn.stages.map_stages(lambda path, stage: nn.elu() if path == "1/" else stage, network)
        serial(dense(3), elu(), dense(1))
    """
    if not stage.parts or stage.rebuild is None:
        return function(path, stage)
    parts = [map_stages(function, part, f"{path}{i}/") for i, part in enumerate(stage.parts)]
    return stage.rebuild(*parts)


def gradients_layout(stage: Stage, layout: Layout) -> Layout:
    """Return the layout in one vector of the gradients of `stage`, whose parameters have `layout`.

    Each gradient has the name of its parameter, e.g. "0/W".
    """
    return layout.mirrored(_gradient_classes(stage))


def gradients_layouts(stage: Stage) -> Callable[[Layout], Layout]:
    """Return `gradients_layout` of `stage` as a function that remembers its latest result."""
    known: list[tuple[Layout, Layout]] = []

    def layout_of(layout: Layout) -> Layout:
        if not known or known[0][0] is not layout:
            known[:] = [(layout, gradients_layout(stage, layout))]
        return known[0][1]

    return layout_of


def _gradient_classes(stage: Stage) -> Classes:
    return tuple(map(_gradient_classes, stage.parts)) if stage.parts else stage.gradients


def combined_statistics(
    stages: tuple[Stage, ...], caches: Callable[[Cache], Caches]
) -> Statistics[Trees, Cache] | None:
    """Return the statistics of a combinator: a tuple with one entry per inner stage.

    Args:
        stages: The inner stages.
        caches: Function from the combinator's cache to the tuple of the inner stages' caches.

    Returns:
        The statistics; None if no inner stage has any.
    """
    inner = [stage.statistics for stage in stages]
    if not any(inner):
        return None

    def init(params: Trees) -> Trees:
        return tuple(
            s.init(tree) if s else NO_PARAMS for s, tree in zip(inner, params, strict=True)
        )

    absorbers = [bare(s.absorb) if s else None for s in inner]

    def absorb(statistics: Trees, cache: Cache) -> Trees:
        rows = zip(absorbers, statistics, caches(cache), strict=True)
        return tuple(a(tree, part) if a else NO_PARAMS for a, tree, part in rows)

    return Statistics(init, absorb, any(s.read_in_training for s in inner if s))


def expect_takes_lengths(stage: Stage) -> None:
    """Raise BadInput if a stage, or an inner stage, refuses sequences of unequal length."""
    if stage.lengths != "refused":
        return
    if stage.in_sequence:
        for i, part in enumerate(stage.parts):
            if part.lengths == "refused":
                try:
                    expect_takes_lengths(part)
                except BadInput as error:
                    raise in_stage(i, part, error) from error
    raise BadInput(
        f"{stage.name} got sequences of unequal length, but it would mix the padding into valid "
        "steps: put a stage before it that ends the steps, e.g. lstm(8, output='last'), or give "
        "sequences of equal length, without lengths."
    )


def expect_stages(name: str, stages: tuple[Stage, ...]) -> None:
    """Raise BadInput unless the combinator `name` got one stage or more, and nothing else."""
    if not stages:
        raise BadInput(f"{name} has no stages, expected one or more: give e.g. {name}(dense(1)).")
    for i, stage in enumerate(stages):
        if not isinstance(stage, Stage):
            raise BadInput(
                f"{name} got {stage!r} as stage {i}, expected a Stage: call its builder, e.g. "
                "relu() instead of relu."
            )


def in_stage(i: int, stage: Stage, error: BadInput) -> BadInput:
    """Return the `error` of inner stage number `i`, with the stage's number and name before it."""
    return BadInput(f"stage {i} ({stage.name}): {error}")


def left_out(i: int, stage: Stage) -> BadInput:
    """Make the error for inner stage `i`, whose `backward_into` omitted a needed dA_prev."""
    return in_stage(
        i,
        stage,
        BadInput(
            "backward_into returned None, expected dA_prev: return None only if needs_dA_prev is "
            "False."
        ),
    )


def into(stage: Stage[Params, Cache]) -> BackwardInto[Params, Cache]:
    """Return a backward pass of `stage` that writes the gradients into arrays.

    This is the stage's own `backward_into`, or else its `backward` followed by a copy.
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


def backward_from(
    backward_into: BackwardInto[Params, Cache], gradients: type
) -> Callable[[Params, Cache, FloatArray], tuple[FloatArray, Any]]:
    """Return the `backward` of a stage from its `backward_into` and the class of its gradients."""

    def backward(params: Params, cache: Cache, dA: FloatArray) -> tuple[FloatArray, Any]:
        out = tuple(np.empty(part.shape, part.dtype) for part in leaves(cast(Tree, params)))
        dA_prev = backward_into(params, cache, dA, out, True)
        assert dA_prev is not None
        return dA_prev, gradients(*map(freeze, out))

    return backward


def onnx_of(stage: Stage, params: Tree, A_prev: Value, statistics: Tree) -> Value:
    """Write the computation of a stage outside of training as operators of ONNX.

    Args:
        stage: The stage.
        params: The parameters of the stage.
        A_prev: The value in the graph that the stage takes as input.
        statistics: The statistics of the stage; () if it has none.

    Returns:
        The output of the stage, as a value in the same graph.

    Raises:
        BadInput: If the stage has no field `onnx`, or computes something that ONNX cannot express.
    """
    if stage.onnx is None:
        raise BadInput(
            f"{stage.name} does not say how it is written in ONNX: give its Stage the field onnx, "
            "(params, A_prev, statistics) -> A; see help(pydnn.stages.graph)."
        )
    A = stage.onnx(params, A_prev, statistics)
    return A if A is A_prev else A.shaped(lambda: stage.init(Key(0), A_prev.shape)[1])


def onnx_of_part(i: int, stage: Stage, params: Trees, A_prev: Value, statistics: Tree) -> Value:
    """Do the same as `onnx_of` for inner stage `i` of a combinator.

    Args:
        i: The number of the inner stage.
        stage: The inner stage.
        params: The parameters of all inner stages.
        A_prev: The value in the graph that the stage takes as input.
        statistics: The statistics of all inner stages; () if there are none.

    Raises:
        BadInput: As `onnx_of`, with the number and name of the stage before the message.
    """
    try:
        return onnx_of(stage, params[i], A_prev, statistics[i] if statistics else NO_PARAMS)
    except BadInput as error:
        raise in_stage(i, stage, error) from error


def _copy_gradients(stage: Stage, grads: Tree, out: Views) -> None:
    gradients, targets = list(leaves(grads)), list(flat(out))
    if [g.shape for g in gradients] != [t.shape for t in targets]:
        raise BadInput(
            f"gradients of stage {stage.name} have shapes {[g.shape for g in gradients]}, expected "
            f"{[t.shape for t in targets]}: give one for each parameter array, in the same order."
        )
    for target, gradient in zip(targets, gradients, strict=True):
        target[...] = gradient


def flat(out: Views) -> Iterator[FloatArray]:
    """Yield the arrays of a nested tuple of views, in order."""
    for part in out:
        if isinstance(part, tuple):
            yield from flat(part)
        else:
            yield part
