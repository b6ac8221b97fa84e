"""One training step: a pipeline of named pure functions on one frozen record.

Each part is `Step -> Step`. The pipeline stays a thing that can be looked into: its parts have
names, and each change of it gives a new pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import attrs
import toolz

from pydnn.checks import BadInput, expect_known
from pydnn.keys import Key
from pydnn.packing import NO_PARAMS, Packed, pack
from pydnn.records import Batch, FloatArray, arrays

__all__ = ["Part", "Step", "StepFunction", "StepInfo", "TrainState", "TrainStep", "part", "trace"]


@attrs.frozen(unsafe_hash=False, slots=False)  # without slots they are made in less time
class TrainState:
    """All that the next step needs.

    Attributes:
        iteration: Steps taken so far.
        parameters: The network's parameters, in one vector.
        optimizer_state: What the optimiser remembers.
        key: The training's key; what a step draws is addressed below it.
        statistics: What stages such as batch normalisation have gathered, in one vector.
    """

    iteration: int
    parameters: Packed
    optimizer_state: Any
    key: Key
    statistics: Packed = attrs.field(factory=lambda: pack(NO_PARAMS))


@attrs.frozen(slots=False)
class StepInfo:
    """All of a step that only a reader needs.

    Attributes:
        iteration: The step's number, from 0; the cost is that of the parameters before it.
        cost: Mean over the batch, in the loss's unit.
        gradient_norm: Euclidean length of the vector of all gradients.
        observed: What the optimiser shows of this update, such as "learning_rate".
        measured: What `measure` has found with the parameters after the step; empty where it
            did not look.
    """

    iteration: int
    cost: float
    gradient_norm: float
    observed: Mapping[str, Any] = attrs.field(factory=dict)
    measured: Mapping[str, float] = attrs.field(factory=dict)


_new, _set = object.__new__, object.__setattr__

# None until a part fills the field; that none is read before is seen to when a step is built.
_UNFILLED: Any = None


@attrs.frozen(unsafe_hash=False, field_transformer=arrays, slots=False)
class Step:
    """What flows through a training step; each part fills in what it is named for.

    Attributes:
        state: The training's state before this step.
        batch: The examples X (n_x, m) and Y (n_y, m) of this step.
        AL: The network's output (n_y, m); from *forward*.
        cache: What the network's backward pass needs; from *forward*.
        cost: From *cost*.
        dAL: Gradient of the cost with respect to AL; from *cost*.
        grads: Gradients of all parameters, in one vector; from *backward*.
        statistics: What stages have gathered, this step's batch among it; from *gather*.
        updates: What is added to the vector of parameters; from *update*.
        after: The training's state after this step; from *update*.
        info: What a reader needs; from *update*.
    """

    state: TrainState
    batch: Batch
    AL: FloatArray = _UNFILLED
    cache: Any = attrs.field(default=_UNFILLED, eq=False)
    cost: float = _UNFILLED
    dAL: FloatArray = _UNFILLED
    grads: Packed = _UNFILLED
    statistics: Packed = _UNFILLED
    updates: FloatArray = _UNFILLED
    after: TrainState = _UNFILLED
    info: StepInfo = _UNFILLED

    def having(self, **fields: Any) -> Step:
        """This record with `fields` filled in: `attrs.evolve` for values known to be right.

        The values are taken as they are, so arrays among them must be read-only already. It
        takes a seventh of the time, of which every part of every step has its share.
        """
        step: Step = _new(Step)
        _set(step, "__dict__", self.__dict__ | fields)
        return step


# What is not filled in is found at the class, so that `having` hands on only what there is.
for _field in attrs.fields(Step):
    setattr(Step, _field.name, _UNFILLED)

StepFunction: TypeAlias = Callable[[Step], Step]


@attrs.frozen
class Part:
    """One named function of a pipeline, with the fields of `Step` that it needs and gives."""

    name: str
    function: StepFunction
    needs: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()


def part(*, needs: Iterable[str] = (), gives: Iterable[str] = ()) -> Callable[[StepFunction], Part]:
    """Decorate a `Step -> Step` function with the fields of `Step` that it needs and gives."""

    def decorate(function: StepFunction) -> Part:
        return Part(function.__name__, function, frozenset(needs), frozenset(gives))

    return decorate


@attrs.frozen(eq=False)
class TrainStep:
    """A training step `(TrainState, Batch) -> (TrainState, StepInfo)`, made of named parts.

    Raises:
        BadInput: Where a part needs what no part before it gives, or a name comes twice.
    """

    parts: tuple[Part, ...]
    _run: StepFunction = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        _expect_fit(self.parts)
        object.__setattr__(self, "_run", toolz.compose_left(*(p.function for p in self.parts)))

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        """Take one step; neither argument changes."""
        start: Step = _new(Step)
        _set(start, "__dict__", {"state": state, "batch": batch})
        step = self._run(start)
        return step.after, step.info

    @property
    def names(self) -> tuple[str, ...]:
        """The parts' names, in their order."""
        return tuple(p.name for p in self.parts)

    def replace(self, name: str, function: StepFunction | Part) -> TrainStep:
        """The same pipeline with another function in the place called `name`.

        A plain function is taken to need and give what the one before did.
        """
        i = self._index(name)
        new = (
            function
            if isinstance(function, Part)
            else attrs.evolve(self.parts[i], function=function)
        )
        return TrainStep((*self.parts[:i], new, *self.parts[i + 1 :]))

    def insert_before(self, name: str, function: StepFunction | Part) -> TrainStep:
        """The same pipeline with one more part right before the one called `name`."""
        return self._insert(self._index(name), function)

    def insert_after(self, name: str, function: StepFunction | Part) -> TrainStep:
        """The same pipeline with one more part right after the one called `name`."""
        return self._insert(self._index(name) + 1, function)

    def without(self, name: str) -> TrainStep:
        """The same pipeline without the part called `name`."""
        i = self._index(name)
        return TrainStep(self.parts[:i] + self.parts[i + 1 :])

    def _insert(self, i: int, function: StepFunction | Part) -> TrainStep:
        new = function if isinstance(function, Part) else Part(_name_of(function), function)
        return TrainStep((*self.parts[:i], new, *self.parts[i:]))

    def _index(self, name: str) -> int:
        expect_known("part of the step", name, self.names)
        return self.names.index(name)


def trace(train_step: TrainStep, state: TrainState, batch: Batch) -> Iterator[tuple[str, Step]]:
    """Take one step part by part, yielding each part's name with the record after it.

    Nothing runs until the next pair is asked for, so a reader can look at, test or time the
    parts one by one.
    """
    step = Step(state, batch)
    for p in train_step.parts:
        step = p.function(step)
        yield p.name, step


def _name_of(function: StepFunction) -> str:
    # A partial or a toolz composition has no name of its own; a curried function does.
    return getattr(function, "__name__", None) or type(function).__name__


def _expect_fit(parts: tuple[Part, ...]) -> None:
    """Refuse parts in an order in which one would miss what it needs."""
    for i, p in enumerate(parts):
        if p.name in [other.name for other in parts[:i]]:
            raise BadInput(f"two parts are called {p.name!r}: give each a name of its own.")
        given = set().union(*(other.gives for other in parts[:i]))
        for field in sorted(p.needs - given):
            maker = next((other.name for other in parts if field in other.gives), None)
            where = f"that {maker!r} gives later" if maker else "that no part gives"
            advice = f"put {maker!r} before {p.name!r}" if maker else "insert a part that gives it"
            raise BadInput(f"part {p.name!r} needs {field!r}, {where}: {advice}.")
    missing = sorted({"after", "info"} - set().union(*(p.gives for p in parts)))
    if missing:
        raise BadInput(
            f"no part gives {' and '.join(map(repr, missing))}, so the step would end with "
            "nothing: keep the part 'update', or insert one that does its work."
        )
