"""The text of a training step of a network, as its description gives it.

It is one function with the parts *forward*, *cost*, *backward* and *update* of one step or several:
dense stages and the loss of classes by kernels of the arithmetic, and everything that is computed
number by number as loops, traced from the functions of the stages, the loss and the optimizer.
Every operation is that of the NumPy path, so all bits are equal. Sizes and the order of stages are
no part of the text, so networks that differ only in them share one compiled function.

The function is `loop(table, stages, X, Y, masks, p, *before, moved, *after, *read, room, calls)`,
and returns how many steps it took:

    table   (steps, ...) what differs from step to step: first room for the cost and the sum of the
            squares of the gradients, then which batch it takes, and the numbers of the update
    stages  (stages, ...) what is known of each stage, see `pydnn.compiled.arithmetics`
    X       (batches, n_x m) and Y (batches, rows m), the numbers of the examples
    masks   (steps, numbers) of all stages that multiply by one; left out if none does
    p       (size,) the parameters before the first step, and the vectors of the optimizer
    moved   (steps, size) the parameters after each step, and the vectors of the optimizer
    read    the other vectors that the optimizer reads
    room    memory for everything between
    calls   the functions outside of this package that the arithmetic calls

It stops before a step that needs the NumPy path: a number is not finite, a product has to be
rounded without any error, or a label is no class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np

from pydnn.compiled import arithmetics
from pydnn.compiled.arithmetics import (
    COLUMNS,
    DA,
    DZ,
    KIND,
    MASK,
    N_IN,
    N_OUT,
    NEEDED,
    TURNED,
    A,
    Arithmetic,
    B,
    W,
    Z,
)
from pydnn.compiled.kernels import kernel
from pydnn.compiled.tracing import Program, Symbol, Untraceable, needed_for
from pydnn.engines import expression_of, mask_of, parts_in_turn
from pydnn.losses import Loss, MeanOf
from pydnn.numerics.underflow import bare
from pydnn.optimizers.fused import PendingUpdate
from pydnn.parameters import Layout, Slot
from pydnn.records import AnyDType, FloatArray, IntArray
from pydnn.stages.base import Stage
from pydnn.stages.dense import dense_backward_into, dense_forward

__all__ = ["COST", "NAMES", "SQUARE", "WHICH", "Mask", "Plan", "text_of_step"]

COST, SQUARE, WHICH, _NUMBERS_FROM = range(4)  # columns of the table


@kernel
def all_finite(vector: FloatArray) -> bool:
    """Return whether all numbers of a vector are finite, in a kernel."""
    others = 0
    for i in range(vector.size):
        others += not abs(vector[i]) < np.inf
    return others == 0


# What a text may use in every arithmetic
NAMES: dict[str, Any] = {
    **{name: getattr(arithmetics, name) for name in ("A", "DA", "DZ", "KIND", "MASK", "NEEDED")},
    **{name: getattr(arithmetics, name) for name in ("N_IN", "N_OUT", "TERMS", "Z")},
    "COST": COST,
    "SQUARE": SQUARE,
    "WHICH": WHICH,
    "all_finite": all_finite,
    "inf": math.inf,
}


class _Labeled(Symbol):
    """An array whose shape a loss compares with that of the labels: here they are equal."""

    shape = ()


class _Text:
    """The lines of a step, and the numbers that the traced functions bring themselves.

    Attributes:
        program: The program that functions are traced into.
        lines: The lines.
        vectors: The largest number of vectors that calls between two loops need.
    """

    def __init__(self, dtype: AnyDType, arithmetic: Arithmetic) -> None:
        self.program = Program(dtype, arithmetic.called)
        self.lines: list[str] = []
        self.vectors = 0

    def add(self, *lines: str, level: int = 0) -> None:
        """Add lines of the step."""
        self.lines += ["    " * level + line for line in lines]

    def loop(
        self,
        count: str,
        reads: dict[str, str],
        function: Callable[..., Sequence[object]],
        writes: Sequence[str | None],
        *,
        truths: Sequence[str] = (),
        kind: type[Symbol] = Symbol,
        then: Sequence[str] = (),
        level: int = 0,
    ) -> None:
        """Add a loop over `i` from 0 to `count` that computes numbers from numbers.

        Where the function calls one of NumPy's, there are several loops: each but the last one
        computes the arguments of a call, from the beginning.

        Args:
            count: The text of the number of rounds.
            reads: For each argument of the function, the text of its vector.
            function: The function of symbols, which returns one for each text in `writes`.
            writes: The texts of the places of its results; None for a result that nobody reads.
            truths: The arguments that are truth values.
            kind: The class of the symbols.
            then: A suffix for the value of each place, e.g. a division.
            level: How far the loop is indented.
        """
        program = self.program
        program.lines, program.calls = [], []
        symbols = [kind(program, name, boolean=name in truths, writable=False) for name in reads]
        values = [program.text_of(value)[0] for value in function(*symbols)]
        first = [f"{name} = {vector}[i]" for name, vector in reads.items()]

        def add(lines: Sequence[str], stores: dict[str, str]) -> None:
            self.add(f"for i in range({count}):", level=level)
            self.add(*needed_for(stores.values(), [*first, *lines]), level=level + 1)
            self.add(*(f"{place}[i] = {value}" for place, value in stores.items()), level=level + 1)

        vectors = dict(reads)  # by the variables that hold a number of theirs
        for number, call in enumerate(program.calls, start=1):
            result = vectors[call.result] = f"e{number}"
            self.add(f"{result} = terms[{number} * {count} : {number + 1} * {count}]", level=level)
            if call.argument not in vectors:
                self.add(f"e0 = terms[:{count}]", level=level)
                add(program.lines[: call.before], {"e0": call.argument})
            argument = vectors.get(call.argument, "e0")
            self.add(f"call(calls[{call.function}], {argument}, {result})", level=level)
        self.vectors = max(self.vectors, len(program.calls))
        places = zip(writes, values, then or [""] * len(writes), strict=True)
        add(program.lines, {place: f"{value}{suffix}" for place, value, suffix in places if place})


@attrs.frozen
class Mask:
    """A mask that a stage draws in each step.

    Attributes:
        path: The place of the stage in the network, as in the keys of the NumPy path.
        rows: The number of its inputs.
        draw: `(shape, dtype, key) -> mask`.
    """

    path: tuple[int, ...]
    rows: int
    draw: Callable[..., FloatArray]


@attrs.frozen
class _Placed:
    """A stage in the order of the network.

    Attributes:
        kind: 0 for a dense stage; else the number of its loops in the text.
        n_in: The number of its inputs.
        n_out: The number of its outputs.
        slots: The places of W and b in the parameters; none for other stages.
        draws: Whether it multiplies by a mask.
    """

    kind: int
    n_in: int
    n_out: int
    slots: tuple[Slot, ...] = ()
    draws: bool = False


@attrs.frozen(eq=False)
class Plan:
    """The text of a step, and what is needed to call it.

    Attributes:
        text: The source, which is the same for the same parts.
        constants: The numbers that the traced functions brought themselves; in the table, they
            follow the factor and the numbers of the update.
        stages: The stages.
        labels: The number of rows of the labels.
        masks: The masks of stages that multiply by one.
        size: The number of parameters.
        before: The number of vectors of the optimizer.
        vectors: How many vectors calls between two loops fill.
        dtype: The dtype of all numbers.
        arithmetic: The arithmetic.
    """

    text: str
    constants: tuple[float, ...]
    stages: tuple[_Placed, ...]
    labels: int
    masks: tuple[Mask, ...]
    size: int
    before: int
    vectors: int
    dtype: AnyDType
    arithmetic: Arithmetic
    # Of each m, since to compute them takes longer than a step.
    _places: dict[tuple[int, bool], tuple[IntArray, int]] = attrs.field(init=False, factory=dict)
    _taken: dict[tuple[int, bool], bool] = attrs.field(init=False, factory=dict)

    @property
    def _products(self) -> list[tuple[int, int]]:
        return [(stage.n_in, stage.n_out) for stage in self.stages if stage.slots]

    def takes(self, m: int, turned: bool) -> bool:
        """Whether steps with m examples are those for which the kernels are faster.

        Args:
            m: The number of examples.
            turned: Whether X holds one example after the other. Only products know such an order.
        """
        key = m, turned
        if key not in self._taken:
            straight = not turned or self.stages[0].kind == 0
            suits = self.arithmetic.suits(self._products, m, self.dtype)
            self._taken[key] = m > 0 and straight and suits
        return self._taken[key]

    def reads(self, vector: FloatArray) -> bool:
        """Whether the function can read a vector of parameters, which it does without a check."""
        flags = vector.flags
        in_order = flags.c_contiguous and flags.aligned
        return vector.shape == (self.size,) and vector.dtype == self.dtype and in_order

    def multiplications(self, m: int) -> int:
        """The number of multiplications in all products with m examples."""
        return 3 * m * sum(n_in * n_out for n_in, n_out in self._products)

    def places(self, m: int, turned: bool) -> tuple[IntArray, int]:
        """Return what is known of each stage, and the size of the room in numbers of 8 bytes."""
        # The array stays writable, since numba takes longer for one that is not.
        key = m, turned
        if key not in self._places:
            self._places[key] = self._placed(m, turned)
        return self._places[key]

    def _placed(self, m: int, turned: bool) -> tuple[IntArray, int]:
        known = np.zeros((len(self.stages), COLUMNS), np.int64)
        most = m * max(max(stage.n_in, stage.n_out) for stage in self.stages)
        # The losses, the gradients, and the terms of the sums of dZ come first.
        start = first = self.stages[-1].n_out * m + self.size + most
        mask = needed = 0
        known[0, TURNED] = turned
        for s, (row, stage) in enumerate(zip(known, self.stages, strict=True)):
            n_in, n_out = stage.n_in, stage.n_out
            row[[KIND, N_IN, N_OUT, NEEDED]] = stage.kind, n_in, n_out, needed
            inputs = n_in * m if s else 0  # X has memory of its own
            row[[A, Z]] = start, start + inputs
            start += inputs
            if stage.slots:
                needed = 1
                row[[W, B]] = [slot.start for slot in stage.slots]
            if stage.draws:
                row[MASK] = mask
                mask += n_in * m
        start += self.stages[-1].n_out * m
        known[:, [DA, DZ]] = known[:, [A, Z]] + (start - first)
        end = 2 * start - first
        places, count = self.arithmetic.places, self.vectors
        return known, places(known, self.stages, m, most, count, end, self.dtype)


def text_of_step(
    network: Stage,
    loss: Loss,
    pending: PendingUpdate,
    layout: Layout,
    dtype: AnyDType,
    truths: Sequence[bool],
    watched: bool,
    arithmetic: Arithmetic,
) -> Plan:
    """Write a step as one function.

    Args:
        network: The network.
        loss: The loss.
        pending: An update of the optimizer.
        layout: The layout of the parameters.
        dtype: The dtype of all numbers.
        truths: For each vector that `pending` reads, whether it holds truth values.
        watched: Whether a step needs the NumPy path if a parameter after it is not finite.
        arithmetic: The arithmetic.

    Raises:
        Untraceable: If the step has a part that has no compiled form.
    """
    text, slots = _Text(dtype, arithmetic), iter(layout.slots)
    rows = layout.slots[0].shape[-1] if layout.slots else 0
    stages: list[_Placed] = []
    masks: list[Mask] = []
    kinds: dict[str, int] = {}
    loops: list[_Elementwise] = []
    for path, stage in _in_order(network):
        if _is_dense(stage):
            places = next(slots), next(slots)
            stages.append(_Placed(0, rows, places[0].shape[0], places))
            rows = places[0].shape[0]
            continue
        draw = _mask_of(stage)
        if draw is not None:
            masks.append(Mask(path, rows, draw))
        own = _elementwise(stage, arithmetic) if draw is None else _MASKED
        kind = kinds.setdefault(own.text(dtype, arithmetic), len(loops) + 1)
        if kind > len(loops):
            loops.append(own)
        stages.append(_Placed(kind, rows, rows, draws=draw is not None))
    if not any(stage.slots for stage in stages) or next(slots, None) is not None:
        raise Untraceable("a network without dense stages, or with other parameters")
    _add_forward(text, loops)
    labels = _add_cost(text, loss, rows, arithmetic)
    _add_backward(text, loops)
    _add_update(text, pending, truths)
    return Plan(
        _whole_text(text, bool(masks), pending, truths, watched, arithmetic),
        tuple(text.program.constants),
        tuple(stages),
        labels,
        tuple(masks),
        layout.size,
        len(pending.before),
        text.vectors,
        dtype,
        arithmetic,
    )


@attrs.frozen
class _Elementwise:
    """What a stage does number by number.

    Attributes:
        forward: The function of what it reads forward: its input `x`, or `x` and the mask `D`.
        backward: The function of what it reads backward: the gradient `v` of its output, its input
            `x` and its output `y`, or `v` and `D`.
        reads: The names of what both read.
    """

    forward: Callable[..., Symbol]
    backward: Callable[..., Symbol]
    reads: tuple[str, str]

    def add(self, text: _Text, number: int) -> None:
        """Add the loop of the forward function, or of the backward function if `number` is 1."""
        reads = {f"{name}_": name for name in self.reads[number]}
        function, place = ((self.forward, "y"), (self.backward, "w"))[number]
        text.loop("size", reads, lambda *symbols: [function(*symbols)], [place], level=2)

    def text(self, dtype: AnyDType, arithmetic: Arithmetic) -> str:
        """Return the text of both loops alone, by which equal stages are recognized."""
        text = _Text(dtype, arithmetic)
        self.add(text, 0)
        self.add(text, 1)
        return "\n".join([*text.lines, *map(float.hex, text.program.constants)])


_MASKED = _Elementwise(lambda x, D: x * D, lambda v, D: v * D, ("xD", "vD"))


def _elementwise(stage: Stage, arithmetic: Arithmetic) -> _Elementwise:
    forward = _expression(stage.forward)
    backward = _expression(stage.backward_into or stage.backward)
    return _Elementwise(
        lambda x: forward(x, arithmetic.traced),
        lambda v, x, y: backward(v, x, y, arithmetic.traced),
        ("x", "vxy"),
    )


def _add_forward(text: _Text, loops: Sequence[_Elementwise]) -> None:
    text.add(
        "x = X[int(table[k, WHICH])]",
        "for s in range(len(stages)):",
        "    stage = stages[s]",
        "    kind, size = stage[KIND], stage[N_IN] * m",
        "    if s > 0:",
        "        x = narrow[stage[A] : stage[A] + size]",
        "    if kind == 0:",
        "        if not forward(p, stage, m, x, room, narrow, calls):",
        "            return k",
        "        continue",
        "    y = narrow[stage[Z] : stage[Z] + size]",
    )
    _add_loops(text, loops, 0)


def _add_backward(text: _Text, loops: Sequence[_Elementwise]) -> None:
    text.add(
        "for s in range(len(stages) - 1, -1, -1):",
        "    stage = stages[s]",
        "    kind, size = stage[KIND], stage[N_IN] * m",
        "    x = X[int(table[k, WHICH])]",
        "    if s > 0:",
        "        x = narrow[stage[A] : stage[A] + size]",
        "    if kind == 0:",
        "        if not backward(p, stage, m, x, room, narrow, sums, grads, calls):",
        "            return k",
        "        continue",
        "    if stage[NEEDED] == 0:",
        "        break",
        "    y = narrow[stage[Z] : stage[Z] + size]",
        "    v, w = narrow[stage[DZ] : stage[DZ] + size], narrow[stage[DA] : stage[DA] + size]",
    )
    _add_loops(text, loops, 1)


def _add_loops(text: _Text, loops: Sequence[_Elementwise], number: int) -> None:
    for kind, loop in enumerate(loops, start=1):
        text.add(f"if kind == {kind}:", level=1)
        if "D" in loop.reads[number]:
            text.add("D = masks[k, stage[MASK] : stage[MASK] + size]", level=2)
        loop.add(text, number)


def _add_cost(text: _Text, loss: Loss, n_out: int, arithmetic: Arithmetic) -> int:
    """Add the cost and its gradient, and return the number of rows of the labels."""
    mean = bare(loss.function)
    if not isinstance(mean, MeanOf) or mean.weigh is not None:
        raise Untraceable("a cost that is not a plain mean")
    entries, kind = _expression(mean.entries), text.program.type
    text.add(
        "size = n_out * m",
        "x, y = narrow[at_Z : at_Z + size], Y[int(table[k, WHICH])]",
        "w = narrow[at_dZ : at_dZ + size]",
    )
    if _is_of_classes(entries) and n_out > 1:
        text.add(
            "losses = narrow[:m]",
            "if not cross_entropy_of_classes(x, y, losses, w, terms, calls):",
            "    return k",
            f"count = {kind}(m)",
            "for i in range(size):",
            "    w[i] = w[i] / count",
        )
        rows = 1
    else:
        text.add("losses = narrow[:size]", f"count = {kind}(size)")
        text.loop(
            "size",
            {"AL": "x", "Y_": "y"},
            lambda AL, Y: entries(AL, Y, arithmetic.traced),
            ["losses", "w"],
            kind=_Labeled,
            then=["", " / count"],
        )
        rows = n_out
    text.add("cost = mean_of(losses, terms, calls)", "if not abs(cost) < inf:", "    return k")
    return rows


def _is_of_classes(entries: Callable[..., Any]) -> bool:
    """Whether the losses are the cross-entropy of classes, which has a kernel of its own."""

    class AskedError(Exception):
        pass

    class Arithmetic:
        def cross_entropy_of_classes(self, *_: object) -> None:
            raise AskedError

    try:
        entries(None, None, Arithmetic())
    except AskedError:
        return True
    except Exception:  # whatever another loss raises for None
        pass
    return False


def _add_update(text: _Text, pending: PendingUpdate, truths: Sequence[bool]) -> None:
    kernel_, program = _expression(pending.kernel), text.program
    names = [f"x{i}" for i in range(len(truths))]
    count = len(pending.numbers)
    numbers = [Symbol(program, f"n{i}", writable=False, single=True) for i in range(count)]
    results = [None, *(f"y{i}" for i in range(len(pending.before))), "moved"]

    def function(*vectors: Symbol) -> list[Symbol]:
        made = [Symbol(program, None) for _ in results]
        kernel_(
            Symbol(program, "factor", writable=False, single=True), *numbers, *vectors, *made[:-1]
        )
        made[-1].fill(vectors[1] + made[0])
        return made

    reads = {"g": "grads", "t": "p", **{f"v{i}": name for i, name in enumerate(names)}}
    of_truths = [f"v{i}" for i, is_truth in enumerate(truths) if is_truth]
    text.loop("p.size", reads, function, results, truths=of_truths)
    if text.program.calls:
        raise Untraceable("an optimizer that calls functions such as exp")
    text.add("square = square_of(grads, terms, calls)")


def _whole_text(
    text: _Text,
    has_masks: bool,
    pending: PendingUpdate,
    truths: Sequence[bool],
    watched: bool,
    arithmetic: Arithmetic,
) -> str:
    """Put the lines together to a function."""
    kind, reads = text.program.type, range(len(pending.read))
    scalars = ["factor", *(f"n{i}" for i in range(len(pending.numbers)))]
    scalars += [f"c{i}" for i in range(len(text.program.constants))]
    before = ["p", *(f"x{i}" for i in range(len(reads), len(truths)))]
    after = ["moved", *(f"y{i}" for i in range(len(before) - 1))]
    arguments = ["table", "stages", "X", "Y", *["masks"] * has_masks, *before]
    arguments += [*(f"{name}_" for name in after), *(f"x{i}" for i in reads), "room", "calls"]
    begin = [
        "last, m = stages[len(stages) - 1], X.shape[1] // stages[0, N_IN]",
        "n_out, at_Z, at_dZ = last[N_OUT], last[Z], last[DZ]",
        f"narrow = room.view({kind})",
        f"terms = {arithmetic.terms}",
        "grads = narrow[n_out * m : n_out * m + p.size]",
        "sums = narrow[n_out * m + p.size :]",
        *arithmetic.before,
    ]
    step = [
        *(f"{name} = {kind}(table[k, {_NUMBERS_FROM + i}])" for i, name in enumerate(scalars)),
        *(f"{name} = {name}_[k]" for name in after),
        *text.lines,
        *["if not all_finite(moved):", "    return k"] * watched,
        "table[k, COST], table[k, SQUARE] = cost, square",
        f"{', '.join(before)} = {', '.join(after)}",
    ]
    lines = [
        f"def loop({', '.join(arguments)}):",
        *(f"    {line}" for line in begin),
        "    for k in range(len(table)):",
        *(f"        {line}" for line in step),
        "    return len(table)",
    ]
    return "\n".join(lines) + "\n"


def _in_order(network: Stage, *path: int) -> Iterator[tuple[tuple[int, ...], Stage]]:
    """Yield the places and stages of a network in sequence, those of inner sequences, too."""
    backward = network.backward_into or network.backward
    if parts_in_turn(bare(network.forward), bare(backward)) is not network.parts:
        yield path, network
        return
    for number, part in enumerate(network.parts):
        yield from _in_order(part, *path, number)


def _is_dense(stage: Stage) -> bool:
    into = stage.backward_into
    mine = bare(stage.forward), into and bare(into)
    return mine == (dense_forward, dense_backward_into)


def _mask_of(stage: Stage) -> Callable[..., Any] | None:
    if stage.backward_into is not None:
        return None
    return mask_of(bare(stage.forward), bare(stage.backward))


def _expression(function: Callable[..., Any]) -> Callable[..., Any]:
    expression = expression_of(bare(function))
    if expression is None:
        raise Untraceable(f"{function} is not declared to be compilable")
    return expression
