"""One training step: a pipeline of named pure functions on one frozen record.

Each part is a function `Step -> Step` with a name. The pipeline can be inspected and changed by
these names, and each change gives a new pipeline.
"""

from __future__ import annotations

import importlib
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import attrs
import numpy as np
import toolz

from pydnn.checks import BadInput, expect_known
from pydnn.engines import in_use
from pydnn.keys import Key
from pydnn.numerics.underflow import ignoring_underflow
from pydnn.parameters import NO_PARAMS, Packed, pack
from pydnn.records import (
    AnyDType,
    Batch,
    Examples,
    FloatArray,
    Unchanging,
    keep_readonly,
    readonly,
)
from pydnn.tables import html_table

if TYPE_CHECKING:
    from pydnn.workers.interface import Executor

__all__ = [
    "Inside",
    "Part",
    "Shard",
    "Step",
    "StepFunction",
    "StepInfo",
    "TrainState",
    "TrainStep",
    "lighter",
    "part",
    "trace",
]


@keep_readonly
@attrs.frozen(unsafe_hash=False, slots=False)  # instances are created faster without slots
class TrainState:
    """Everything that the next step needs.

    Attributes:
        iteration: The number of steps taken so far.
        parameters: The network's parameters, in one vector.
        optimizer_state: The optimizer's own state.
        key: The training's key, from which the keys of all steps derive.
        statistics: The running statistics of stages such as batch normalization, in one vector.

    Example:
        >>> state = nn.initial_state(nn.dense(2), nn.adam(), (3,), key=nn.Key(1))
        >>> state.iteration, state.parameters
        (0, Packed(8 float64 numbers: W (2, 3), b (2, 1)))
    """

    iteration: int
    parameters: Packed
    optimizer_state: Any
    key: Key
    statistics: Packed = attrs.field(factory=lambda: pack(NO_PARAMS))


@attrs.frozen(slots=False)
class StepInfo:
    """What a reader wants to know about a step, and the next step does not need.

    Attributes:
        iteration: The number of the step, from 0.
        cost: The mean loss over the batch, in the loss's unit, with the parameters before the step.
        gradient_norm: The Euclidean norm of the vector of all gradients.
        observed: Values that the optimizer reports about its update, e.g. "learning_rate".
        measured: Values that `measure` computed with the parameters after the step; empty for
            steps that it skipped.

    Example:
        >>> StepInfo(iteration=0, cost=0.5, gradient_norm=2.0).cost
        0.5
    """

    iteration: int
    cost: float
    gradient_norm: float
    observed: Mapping[str, Any] = attrs.field(factory=dict)
    measured: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen
class Shard:
    """Which part of a batch a step record is for, where each batch is cut into shards.

    Attributes:
        number: The number of the shard, from 0.
        count: The number of shards of a batch.
        share: The share of the shard's examples in the weight of the whole batch. The cost of the
            shard, a mean over its own examples, counts by this share in that of the batch.

    Example:
        >>> Shard(0, 2, share=0.5)
        Shard(number=0, count=2, share=0.5)
    """

    number: int
    count: int
    share: float


Progress: TypeAlias = tuple[TrainState, StepInfo]

_new, _set = object.__new__, object.__setattr__

# The fields that parts fill, and the part of `make_train_step` that fills each.
_FILLED_BY = {
    "AL": "forward",
    "cache": "forward",
    "cost": "cost",
    "dAL": "cost",
    "grads": "backward",
    "statistics": "gather",
    "shards": "gradients",
    "updates": "update",
    "after": "update",
    "info": "update",
}


class NotFilled(BadInput):
    """A part read a field of its step that no part has filled yet."""


class _Unfilled:
    """A class attribute behind a field: Python reads it only while the record lacks the field."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, step: Step | None, owner: type) -> object:
        if step is None:
            return self
        raise NotFilled(
            f"step.{self._name} is not filled yet: put this part after {_FILLED_BY[self._name]!r}."
        )


def _hidden(name: str) -> property:
    return property(lambda step: step.__dict__.get(name))


# `attrs.evolve` reads each field under its name for attrs, here with an underscore. Under these
# names an unfilled field is None instead of an error, so that an unfinished step can be evolved.
_FIELDS = {
    "state": attrs.field(),
    "batch": attrs.field(),
    "shard": attrs.field(default=None),
} | {f"_{name}": attrs.field(default=None, alias=name) for name in _FILLED_BY}


@keep_readonly
@attrs.frozen(these=_FIELDS, init=False, eq=False, repr=False, slots=False)
class Step:
    """The record that flows through a training step, where each part fills its fields.

    Reading a field that no part has filled yet raises `BadInput`. To change a record, use
    `attrs.evolve(step, grads=...)`.

    Attributes:
        state: The training state before this step.
        batch: The examples X (n_x, m) and labels Y (n_y, m) of this step.
        shard: Which part of the batch these examples are, inside the part *gradients* of a step
            with shards; None elsewhere.
        AL: The network's output (n_out, m); from *forward*.
        cache: The values that the network's backward pass needs; from *forward*.
        cost: The mean loss over the batch; from *cost*.
        dAL: The gradient of the cost with respect to AL; from *cost*.
        grads: The gradients of all parameters, in one vector; from *backward*.
        statistics: The running statistics of stages, including this batch; from *gather*.
        shards: The records of the shards, each computed again when it is asked for, e.g.
            `step.shards[0].AL`; from *gradients*, in a step with shards.
        updates: The vector that is added to the parameters; from *update*.
        after: The training state after this step; from *update*.
        info: The info for readers; from *update*.

    Example:
        >>> state = nn.initial_state(nn.dense(1), nn.adam(), (1,), key=nn.Key(1))
        >>> Step(state, nn.Batch([[1.0]], [[2.0]])).filled
        ('state', 'batch')
    """

    state: TrainState
    batch: Batch
    shard: Shard | None
    AL: FloatArray
    cache: Any
    cost: float
    dAL: FloatArray
    grads: Packed
    statistics: Packed
    shards: Sequence[Step]
    updates: FloatArray
    after: TrainState
    info: StepInfo

    def __init__(  # noqa: D107
        self, state: TrainState, batch: Batch, shard: Shard | None = None, **filled: object
    ) -> None:
        for name in filled:
            expect_known("field of a step", name, _FILLED_BY)
        fields = {name: value for name, value in filled.items() if value is not None}
        for name in ("AL", "dAL", "updates"):
            array = fields.get(name)
            if isinstance(array, np.ndarray):
                fields[name] = readonly(array)
        start = {"state": state, "batch": batch} | ({"shard": shard} if shard else {})
        _set(self, "__dict__", start | fields)

    def with_fields(self, **fields: object) -> Step:
        """This record with `fields` filled in: a fast `attrs.evolve` that checks nothing.

        Arrays among the values must be read-only already. Every part of every step calls this,
        and it takes a seventh of the time of `attrs.evolve`.
        """
        step: Step = _new(Step)
        _set(step, "__dict__", self.__dict__ | fields)
        return step

    @property
    def filled(self) -> tuple[str, ...]:
        """The names of the filled fields, in the order in which they were filled."""
        return tuple(self.__dict__)

    def filled_since(self, before: Step) -> tuple[str, ...]:
        """The names of the fields whose values differ from those of an earlier record."""
        known = before.__dict__
        return tuple(name for name, value in self.__dict__.items() if known.get(name) is not value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Step):
            return NotImplemented
        mine, its = (
            {n: v for n, v in s.__dict__.items() if n not in _NOT_COMPARED} for s in (self, other)
        )
        return mine.keys() == its.keys() and all(_same(mine[n], its[n]) for n in mine)

    __hash__ = None  # type: ignore[assignment]  # like other records of arrays

    def __repr__(self) -> str:
        shown = (f"{name}={_summary(value)}" for name, value in self.__dict__.items())
        return f"Step({', '.join(shown)})"


_NOT_COMPARED = ("cache", "shards")  # what follows from the other fields


# Class attributes instead of properties or slots: Python looks into the record first, so reading a
# filled field costs nothing extra, and only an unfilled one reaches the descriptor below.
for _name in _FILLED_BY:
    setattr(Step, _name, _Unfilled(_name))
    setattr(Step, f"_{_name}", _hidden(_name))
Step.shard = None


def _same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(np.asarray(a), np.asarray(b))
    return bool(a == b)


def _summary(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)


StepFunction: TypeAlias = Callable[[Step], Step]


class Whole(Protocol):
    """A form of a step that takes several steps in one call."""

    def most(self, state: TrainState, batch: Batch, /) -> int:
        """Return how many steps with batches like this one are worth a call; 0 for none."""

    def take(self, state: TrainState, batches: Sequence[Batch], /) -> Iterator[Progress]:
        """Yield the results of the first steps, until the next one is taken part by part."""


class Inside(Protocol):
    """What a part does with parts inside it, as *gradients* does with those of a shard."""

    def part(self, parts: tuple[Part, ...], /) -> Part:
        """Return the part that has these parts inside it."""

    def started(self, state: TrainState, batch: Batch, shard: int, /) -> Step:
        """Return the record with which the parts inside begin on one shard of the batch."""

    def alone(self, function: StepFunction, /) -> StepFunction:
        """Return the function as a shard is computed: with the same bits on every worker."""

    def keeps(self, examples: Examples, /) -> bool:
        """Whether those who compute the shards should receive all examples once."""

    def computed_by(self, executor: Executor | None, /) -> Inside:
        """Return the same with another executor."""


@attrs.frozen
class Part(Unchanging):
    """One named function of a training step.

    Attributes:
        name: The part's name in the step.
        function: A pure function `Step -> Step`.
        needs: The fields of `Step` that the function reads.
        gives: The fields of `Step` that the function fills.
        isotropic: Whether the function treats all directions alike, so that rotated parameters,
            gradients and examples give the same results, rotated; see `pydnn.jobs.rotation`.
            Clipping the norm of the gradient does, clipping each number does not.
        trusted: Whether to skip the checks of its results; only for pydnn's own parts.
        rotated: Whether it works in a rotated basis, where every part must be isotropic.
        parts: The parts inside this one, in order; empty for most.
        inside: What this part does with the parts inside it; None if there are none.

    Example:
        >>> step = nn.make_train_step(nn.dense(1), nn.mean_squared(), nn.adam())
        >>> sorted(step.parts[1].needs), sorted(step.parts[1].gives)
        (['AL'], ['cost', 'dAL'])
    """

    name: str
    function: StepFunction
    needs: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()
    isotropic: bool = attrs.field(default=False, kw_only=True)
    trusted: bool = attrs.field(default=False, kw_only=True, repr=False)
    rotated: bool = attrs.field(default=False, kw_only=True, repr=False)
    parts: tuple[Part, ...] = attrs.field(default=(), kw_only=True, repr=False)
    inside: Inside | None = attrs.field(default=None, kw_only=True, repr=False)

    @property
    def title(self) -> str:
        """The name, with the names of the parts inside it."""
        inner = ", ".join(part.title for part in self.parts)
        return f"{self.name}({inner})" if inner else self.name

    def __call__(self, step: Step) -> Step:
        """Apply the part to a step's record, and check the result unless the part is trusted.

        Raises:
            BadInput: If the part reads a field too early, or does not return a `Step` whose
                fields fit the parameters; the message names the part.
        """
        if self.trusted:
            return self.function(step)
        try:
            after = self.function(step)
        except NotFilled as error:
            raise BadInput(f"part {self.name!r}: {error}") from error
        _expect_step(self, step, after)
        return after

    def __reduce__(self) -> tuple[Any, ...]:
        if self.inside is not None:
            return self.inside.part, (self.parts,)
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(Part)}
        del fields["function"], fields["parts"], fields["inside"]
        return _remade, (self._origin, fields)

    @property
    def _origin(self) -> Any:
        """How another process can get the function: its maker's call, its name, or itself."""
        function = self.function
        name = getattr(function, "__qualname__", "")
        code, *maker = getattr(function, _MAKER, (None,))
        if code is not None and code is getattr(function, "__code__", None):
            return tuple(maker)  # the closure cannot be pickled, but the call that made it can
        if "<" in name:
            raise BadInput(
                f"part {self.name!r} cannot be pickled, because its function {name} is inside "
                "another one: define it at the top level of a module."
            )
        if not name:  # e.g. a partial, which pickle can handle
            return function
        module = function.__module__
        # After `@part`, the name in the module refers to the part instead of its function.
        return function if _named(module, name) is function else (_named, (module, name), {})


_MAKER = "_pydnn_maker"  # the attribute of a function that says which call made it


def made_again_by(maker: Callable[..., Any], *args: Any, **options: Any) -> Callable[[Part], Part]:
    """Let parts whose functions `maker(*args, **options)` made be pickled as that call."""

    def remember(part: Part) -> Part:
        # With the function's code, because functools.wraps copies attributes to other functions.
        code = getattr(part.function, "__code__", None)
        setattr(part.function, _MAKER, (code, maker, args, options))
        return part

    return remember


def made_by(part: Part) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None:
    """The call `(maker, args, options)` that made a part's function; None if that is unknown."""
    code, *maker = getattr(part.function, _MAKER, (None,))
    if code is None or code is not getattr(part.function, "__code__", None):
        return None
    called, args, options = maker
    return called, args, options


def _named(module: str, name: str) -> Any:
    return operator.attrgetter(name)(importlib.import_module(module))


def _remade(origin: Any, fields: dict[str, Any]) -> Part:
    if isinstance(origin, tuple):
        maker, args, options = origin
        origin = maker(*args, **options)
    if isinstance(origin, TrainStep):
        origin = next(p for p in _all_parts(origin.parts) if p.name == fields["name"])
    return Part(function=origin.function if isinstance(origin, Part) else origin, **fields)


def part(
    *, needs: Iterable[str] = (), gives: Iterable[str] = (), isotropic: bool = False
) -> Callable[[StepFunction], Part]:
    """Decorate a function `Step -> Step` to declare what it reads and fills.

    Args:
        needs: The fields of `Step` that the function reads.
        gives: The fields of `Step` that the function fills.
        isotropic: Whether the function treats all directions alike; see `Part`.

    Returns:
        A decorator that turns the function into a `Part`.

    Example:
        >>> import attrs
        >>> @part(needs=["grads"], gives=["grads"], isotropic=True)
        ... def halve(step):
        ...     half = step.grads.with_vector(step.grads.vector / 2)
        ...     return attrs.evolve(step, grads=half)
        >>> step = nn.make_train_step(nn.dense(1), nn.mean_squared(), nn.adam())
        >>> step.insert_after("backward", halve)
        TrainStep(forward, cost, backward, halve, update)
    """

    def decorate(function: StepFunction) -> Part:
        return Part(
            _name_of(function), function, frozenset(needs), frozenset(gives), isotropic=isotropic
        )

    return decorate


def own(
    *, needs: Iterable[str] = (), gives: Iterable[str] = (), isotropic: bool = True
) -> Callable[[StepFunction], Part]:
    """Like `part`, for pydnn's own parts, whose results need no checks."""

    def decorate(function: StepFunction) -> Part:
        return attrs.evolve(
            part(needs=needs, gives=gives, isotropic=isotropic)(function), trusted=True
        )

    return decorate


def lighter(*fields: str, function: StepFunction) -> Callable[[StepFunction], StepFunction]:
    """Let `function` replace a function in steps where no later part may read `fields`.

    It does the same, except that it need not fill these fields.
    """

    def mark(full: StepFunction) -> StepFunction:
        # With the function itself, because functools.wraps copies attributes to other functions.
        setattr(full, _LIGHTER, (full, frozenset(fields), function))
        return full

    return mark


_LIGHTER = "_pydnn_lighter"


class _NotAsked:
    """In the place of a step's compiled form before anybody asked for it."""


_NOT_ASKED = _NotAsked()


@attrs.frozen(eq=False, repr=False)
class TrainStep(Unchanging):
    """A training step `(TrainState, Batch) -> (TrainState, StepInfo)`, made of named parts.

    `make_train_step` makes one.

    Attributes:
        parts: The parts, in order.

    Raises:
        BadInput: If a part needs a field that no part before it fills, two parts have the same
            name, or the step works in a rotated basis and a part is not declared isotropic.

    Example:
        >>> step = nn.make_train_step(nn.dense(1), nn.mean_squared(), nn.adam())
        >>> step
        TrainStep(forward, cost, backward, update)
        >>> step.insert_after("update", nn.watch_finite(nn.dense(1)))
        TrainStep(forward, cost, backward, update, watch_finite)
    """

    parts: tuple[Part, ...]
    _run: StepFunction = attrs.field(init=False)
    _whole: Any = attrs.field(init=False, default=_NOT_ASKED)

    def __attrs_post_init__(self) -> None:
        _expect_names(self.parts)
        expect_fit(self.parts, ["after", "info"])
        if self.rotated and self.not_isotropic:
            raise BadInput(
                f"part {self.not_isotropic[0]!r} does not say that it treats all directions alike,"
                " but this step works in a rotated basis: insert the part in prepare(…, step=…), "
                "or declare it with part(isotropic=True)."
            )
        object.__setattr__(self, "_run", self._alone(composed(self.parts)))

    def __repr__(self) -> str:
        return f"TrainStep({', '.join(self.titles)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return TrainStep, (self.parts,)

    def _repr_html_(self) -> str:
        rows = [
            [p.title, ", ".join(sorted(p.needs)), ", ".join(sorted(p.gives))] for p in self.parts
        ]
        return html_table("training step", ["part", "needs", "gives"], rows)

    @ignoring_underflow
    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        """Take one step; neither argument changes."""
        if in_use.forms is not None:
            whole = self.whole
            if whole is not None:
                for taken in whole.take(state, [batch]):
                    return taken
        start: Step = _new(Step)
        _set(start, "__dict__", {"state": state, "batch": batch})
        step = self._run(start)
        return step.after, step.info

    def folded(self, state: TrainState, batches: Iterable[Batch]) -> Iterator[Progress]:
        """Take a step for each batch, and yield the results; several steps in a call if it can.

        Batches are read some steps ahead then. An error that reading one raises comes after the
        results of the steps before it.

        Args:
            state: The state before the first step.
            batches: The examples of the steps.

        Example:
            >>> network, optimizer = nn.dense(1), nn.adam()
            >>> step = nn.make_train_step(network, nn.mean_squared(), optimizer)
            >>> state = nn.initial_state(network, optimizer, (1,), key=nn.Key(1))
            >>> stream = step.folded(state, [nn.Batch([[1.0]], [[2.0]])] * 3)
            >>> [after.iteration for after, info in stream]
            [1, 2, 3]
        """
        source = iter(batches)
        for batch in source:
            whole = self.whole
            count = 1 if whole is None else whole.most(state, batch)
            if whole is None or count < 2:
                state, info = self(state, batch)
                yield state, info
                continue
            ahead, error = _read(source, count - 1)
            ahead.insert(0, batch)
            several = len(ahead)
            while ahead:
                count = 0
                for taken in (
                    whole.take(state, ahead[:several]) if several > 1 else [self(state, ahead[0])]
                ):
                    yield taken
                    state, count = taken[0], count + 1
                # Where one step has no form, the next ones may have none either, e.g. while all
                # gradients are 0. A call for many of them would be in vain each time.
                several = 2 * several if count else 1
                del ahead[:count]
            if error is not None:
                raise error

    @property
    def whole(self) -> Whole | None:
        """The form of this step that the compiled engine takes at once.

        None while NumPy does the work, and for a step that is taken part by part.
        """
        forms = in_use.forms  # another thread may change it
        if forms is None:
            return None
        if self._whole is _NOT_ASKED:
            object.__setattr__(self, "_whole", forms.steps.whole_of(self))
        whole: Whole | None = self._whole
        return whole

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts, in order."""
        return tuple(p.name for p in self.parts)

    @property
    def titles(self) -> tuple[str, ...]:
        """The names of the parts, each with the names of the parts inside it, in order."""
        return tuple(p.title for p in self.parts)

    @property
    def not_isotropic(self) -> tuple[str, ...]:
        """The names of the parts that are not declared isotropic."""
        return tuple(p.name for p in _all_parts(self.parts) if not (p.isotropic or p.parts))

    @property
    def rotated(self) -> bool:
        """Whether the step works in a rotated basis; see `pydnn.jobs.rotation`."""
        return any(p.rotated for p in _all_parts(self.parts))

    def in_rotated_basis(self) -> TrainStep:
        """The same step for a rotated basis, where only isotropic parts can be inserted."""
        return TrainStep(_in_rotated_basis(self.parts))

    def of_shard(self, state: TrainState, batch: Batch, shard: int) -> Step:
        """The record of one shard of the batch, with the fields that the parts inside fill.

        Args:
            state: The state before the step.
            batch: The whole batch.
            shard: The number of the shard, from 0.

        Raises:
            BadInput: If the step does not cut batches into shards, or there is no such shard.

        Example:
            >>> network, optimizer = nn.dense(1, initializer=nn.constant(0.0)), nn.adam()
            >>> step = nn.make_train_step(network, nn.mean_squared(), optimizer, shards=2)
            >>> state = nn.initial_state(network, optimizer, (1,), key=nn.Key(1))
            >>> step.of_shard(state, nn.Batch([[1.0, 2.0]], [[3.0, 5.0]]), 1).grads.vector
            array([-10.,  -5.])
        """
        *_, (_, record) = trace(self, state, batch, shard=shard)
        return record

    def computed_by(self, executor: Executor | None) -> TrainStep:
        """The same step, whose shards `executor` computes, to the same bits.

        Args:
            executor: The executor, e.g. `nn.workers.processes(4)`; None for the thread that calls
                the step.

        Raises:
            BadInput: If the step has no shards for several workers to share.
        """
        several = executor is not None and executor.workers > 1
        if several and self._sharded is None:
            raise BadInput(
                f"{executor} has several workers, but batches are not cut into shards for them to "
                "share: set shards, e.g. shards = 8, or leave the executor out."
            )
        return TrainStep(
            tuple(
                p if p.inside is None else p.inside.computed_by(executor).part(p.parts)
                for p in self.parts
            )
        )

    def keeps(self, examples: Examples) -> bool:
        """Whether the workers that compute shards should receive all examples once.

        They then gather those of their shards. Of examples in files they receive the place.
        """
        outer = self._sharded
        return outer is not None and outer.inside is not None and outer.inside.keeps(examples)

    def replace(self, name: str, function: StepFunction | Part) -> TrainStep:
        """The same step with the part called `name` replaced.

        A plain function is taken to need and give the same fields as the old part. It is not
        isotropic, because nothing is known about its treatment of directions.
        """

        def new(old: Part) -> tuple[Part, ...]:
            if isinstance(function, Part):
                return (function,)
            return (Part(name, function, old.needs, old.gives, rotated=old.rotated),)

        return self._with(name, new)

    def insert_before(self, name: str, function: StepFunction | Part) -> TrainStep:
        """The same step with another part right before the one called `name`."""
        return self._with(name, lambda old: (_as_part(function), old))

    def insert_after(self, name: str, function: StepFunction | Part) -> TrainStep:
        """The same step with another part right after the one called `name`."""
        return self._with(name, lambda old: (old, _as_part(function)))

    def without(self, name: str) -> TrainStep:
        """The same step without the part called `name`."""
        return self._with(name, lambda old: ())

    @property
    def _sharded(self) -> Part | None:
        """The part that cuts batches into shards, if there is one."""
        return next((p for p in self.parts if p.inside is not None), None)

    def _alone(self, function: StepFunction) -> StepFunction:
        """The function as it is called in a step with shards, whose bits no worker may change."""
        outer = self._sharded
        return function if outer is None or outer.inside is None else outer.inside.alone(function)

    def _with(self, name: str, new: Callable[[Part], tuple[Part, ...]]) -> TrainStep:
        """The same step with other parts instead of the one called `name`, at any depth."""
        expect_known("part of the step", name, [p.name for p in _all_parts(self.parts)])
        return TrainStep(_replaced(self.parts, name, new))


def _read(batches: Iterator[Batch], count: int) -> tuple[list[Batch], Exception | None]:
    """Read up to `count` batches, and return them with the error that ended it before, if any."""
    read: list[Batch] = []
    try:
        for batch in itertools.islice(batches, count):
            read.append(batch)
    except Exception as error:
        return read, error
    return read, None


def composed(parts: Sequence[Part]) -> StepFunction:
    """The function that applies parts in order."""
    functions = [_within(p, parts[i + 1 :]) for i, p in enumerate(parts)]
    run: StepFunction = toolz.compose_left(*functions)
    return run


def _within(p: Part, later: Sequence[Part]) -> StepFunction:
    """The function by which a part runs before `later` ones."""
    if not p.trusted:
        return p
    # Trusted parts by their functions, which saves a call of `Part` and its checks.
    marked, fields, light = getattr(p.function, _LIGHTER, (None, frozenset(), p.function))
    if marked is not p.function or any(not q.trusted or q.needs & fields for q in later):
        return p.function
    function: StepFunction = light
    return function


def _all_parts(parts: Iterable[Part]) -> Iterator[Part]:
    """The parts, each followed by those inside it."""
    for p in parts:
        yield p
        yield from _all_parts(p.parts)


def _replaced(
    parts: tuple[Part, ...], name: str, new: Callable[[Part], tuple[Part, ...]]
) -> tuple[Part, ...]:
    changed: list[Part] = []
    for p in parts:
        if p.name == name:
            changed += new(p)
        elif p.inside is not None and any(q.name == name for q in _all_parts(p.parts)):
            changed.append(p.inside.part(_replaced(p.parts, name, new)))
        else:
            changed.append(p)
    return tuple(changed)


def _in_rotated_basis(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    return tuple(
        attrs.evolve(p, rotated=True)
        if p.inside is None
        else p.inside.part(_in_rotated_basis(p.parts))
        for p in parts
    )


def _as_part(function: StepFunction | Part) -> Part:
    return function if isinstance(function, Part) else Part(_name_of(function), function)


def trace(
    train_step: TrainStep, state: TrainState, batch: Batch, *, shard: int | None = None
) -> Iterator[tuple[str, Step]]:
    """Take one step part by part, yielding each part's name with the record after it.

    A part runs only when its pair is asked for, so parts can be inspected, tested and timed.

    Args:
        train_step: The step.
        state: The state before the step.
        batch: The batch.
        shard: The number of a shard, to go through the parts inside *gradients* for that shard
            instead of the parts of the whole step.

    Raises:
        BadInput: If there is no such shard.

    Example:
        >>> network, optimizer = nn.dense(1), nn.adam()
        >>> step = nn.make_train_step(network, nn.mean_squared(), optimizer)
        >>> state = nn.initial_state(network, optimizer, (1,), key=nn.Key(1))
        >>> [name for name, record in trace(step, state, nn.Batch([[1.0]], [[2.0]]))]
        ['forward', 'cost', 'backward', 'update']
    """
    step, parts = Step(state, batch), train_step.parts
    if shard is not None:
        outer = train_step._sharded
        if outer is None or outer.inside is None:
            raise BadInput(
                f"shard is {shard}, but the step does not cut batches into shards: leave it out."
            )
        step, parts = outer.inside.started(state, batch, shard), outer.parts
    for p in parts:
        step = ignoring_underflow(train_step._alone(p))(step)
        yield p.name, step


def _name_of(function: StepFunction) -> str:
    # A partial or a toolz composition has no name of its own; a curried function does.
    return getattr(function, "__name__", None) or type(function).__name__


def _expect_names(parts: tuple[Part, ...]) -> None:
    names = [p.name for p in _all_parts(parts)]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise BadInput(f"two parts are called {name!r}: give them different names.")


def expect_fit(parts: tuple[Part, ...], results: Iterable[str], *, of: str = "the step") -> None:
    """Refuse parts in an order in which one would lack a field, or that do not give all results."""
    for i, p in enumerate(parts):
        given = set().union(*(other.gives for other in parts[:i]))
        for field in sorted(p.needs - given):
            maker = next((other.name for other in parts if field in other.gives), None)
            where = f"that {maker!r} gives later" if maker else "that no part gives"
            advice = f"put {maker!r} before {p.name!r}" if maker else "insert a part that gives it"
            inner = [q for other in parts for q in other.parts if field in q.gives]
            if maker is None and inner:
                where = f"that {inner[0].name!r} gives for each shard alone"
                advice = f"put {p.name!r} after {inner[0].name!r}, or read step.shards"
            raise BadInput(f"part {p.name!r} needs {field!r}, {where}: {advice}.")
    missing = sorted(set(results) - set().union(*(p.gives for p in parts)))
    if missing:
        keep = " or ".join(dict.fromkeys(repr(_FILLED_BY[name]) for name in missing))
        raise BadInput(
            f"no part gives {' and '.join(map(repr, missing))}, so {of} would have no result: "
            f"keep the part {keep}, or insert one that does its work."
        )


# Checks of what users' own parts return


def _expect_step(p: Part, before: Step, after: object) -> None:
    """Refuse the result of a part unless it is a `Step` whose fields fit each other."""
    if not isinstance(after, Step):
        what = "None" if after is None else f"a {type(after).__name__}"
        raise BadInput(
            f"part {p.name!r} returned {what}, expected a Step: end it with return step."
        )
    for name in sorted(p.gives - set(after.filled)):
        raise BadInput(f"part {p.name!r} did not fill step.{name}, which it gives: fill it.")
    changed = after.filled_since(before)
    for name in changed:
        value = getattr(after, name)
        kinds, kind_name = _KINDS.get(name, ((object,), "anything"))
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise BadInput(
                f"part {p.name!r} gives step.{name} as {_a(value)}, expected {kind_name}"
                f"{_HINTS.get(name, '')}."
            )
        _expect_like(p, name, value, after)
    if "after" in before.filled:
        for name in changed:
            if name not in ("after", "info"):
                raise BadInput(
                    f"part {p.name!r} changes step.{name} when the step is done, which has no "
                    "effect: put it before 'update'."
                )


_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "state": ((TrainState,), "TrainState"),
    "batch": ((Batch,), "Batch"),
    "AL": ((np.ndarray,), "an array"),
    "cost": ((int, float, np.integer, np.floating), "a number"),
    "dAL": ((np.ndarray,), "an array"),
    "grads": ((Packed,), "Packed"),
    "statistics": ((Packed,), "Packed"),
    "updates": ((np.ndarray,), "an array"),
    "after": ((TrainState,), "TrainState"),
    "info": ((StepInfo,), "StepInfo"),
}
_HINTS = {"grads": ": give e.g. step.grads.with_vector(vector)"}


def _a(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _expect_like(p: Part, name: str, value: object, step: Step) -> None:
    """Refuse a value whose dtype, shape or layout does not fit the step's parameters or AL."""
    parameters = step.state.parameters
    if isinstance(value, Packed):
        like = step.state.statistics if name == "statistics" else parameters
        _expect_packed(p, f"step.{name}", value, like)
    elif isinstance(value, TrainState):
        _expect_packed(p, f"step.{name}.parameters", value.parameters, parameters)
    elif isinstance(value, np.ndarray):
        shape = {"updates": parameters.vector, "dAL": step.__dict__.get("AL")}.get(name)
        expected = value.shape if shape is None else shape.shape
        _expect_array(p, f"step.{name}", value, parameters.vector.dtype, expected)


def _expect_packed(p: Part, name: str, value: Packed, like: Packed) -> None:
    if value.layout is not like.layout and value.layout.slots != like.layout.slots:
        raise BadInput(
            f"part {p.name!r} gives {name} in another layout than the parameters: keep the arrays' "
            "names and shapes, e.g. with with_vector."
        )
    _expect_array(p, name, value.vector, like.vector.dtype, like.vector.shape)


def _expect_array(
    p: Part, name: str, array: FloatArray, dtype: AnyDType, shape: tuple[int, ...]
) -> None:
    if array.dtype != dtype:
        raise BadInput(
            f"part {p.name!r} gives {name} in {array.dtype}, but the parameters are {dtype}: "
            f"convert it with .astype(np.{dtype})."
        )
    if array.shape != shape:
        raise BadInput(
            f"part {p.name!r} gives {name} of shape {array.shape}, expected {shape}: "
            "keep its shape."
        )
