"""Whole training steps of small networks, each compiled from a text that its description gives.

A step of a network such as 2-16-16-1 is a hundred calls of NumPy, which take ten times as long as
their arithmetic. So `text_of_step` writes the parts *forward*, *cost*, *backward* and *update* as
one function: products and sums by the kernels of `pydnn.compiled.portable`, and everything that is
computed number by number as loops, traced from the functions of the stages, the loss and the
optimizer. Every operation is that of the NumPy path, so all bits are equal.

It is for `portable` arithmetic, dense stages with elementwise ones and dropout between them, losses
of single numbers and of classes, and elementwise optimizers. Any other step, and any whose arrays
are large, is taken part by part as before, and so is one that meets an infinity, a NaN, or a
product that has to be rounded without any error: the text returns False, and its results are not
used.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.compiled.kernels import kernel, kernel_from_text
from pydnn.compiled.portable import elementary
from pydnn.compiled.portable.forms import unwritten
from pydnn.compiled.portable.losses import cross_entropy_of_classes
from pydnn.compiled.portable.nearest import nearest_product
from pydnn.compiled.portable.products import product_by_tree
from pydnn.compiled.portable.sums import sum_of_all, sum_of_squares, sum_rows
from pydnn.compiled.tracing import Program, Symbol, Untraceable
from pydnn.engines import expression_of, give_up, mask_of, parts_in_turn
from pydnn.losses import Loss, MeanOf
from pydnn.numerics import portable
from pydnn.numerics.portable.products import FEW
from pydnn.numerics.underflow import bare
from pydnn.optimizers.base import GradientTransformation
from pydnn.optimizers.fused import PendingUpdate
from pydnn.parameters import Layout, Packed, Slot
from pydnn.records import AnyArray, AnyDType, Batch, FloatArray, IntArray, freeze
from pydnn.stages.base import Stage, gradients_layouts
from pydnn.stages.dense import dense_backward_into, dense_forward
from pydnn.training.finite import NotFinite
from pydnn.training.pipeline import Step, StepInfo, TrainState, TrainStep, made_by
from pydnn.training.step import make_train_step

__all__ = ["generated_text", "text_of_step", "whole_step"]

_MOST_MULTIPLICATIONS = 1 << 16  # of one product; BLAS is faster for more
_NUMBERS = 4096  # parameters; with more, a step is mostly arithmetic
_IMPLEMENTED = (
    portable  # the arithmetic whose functions this package has, and no changed copy of it
)


# The text


class _Arithmetic:
    """Stands for the arithmetic while a function is traced: its functions become calls."""

    def __getattr__(self, name: str) -> Callable[[Symbol], Symbol]:
        if name not in _FUNCTIONS:
            raise Untraceable(f"{name} of the arithmetic")

        def applied(x: Symbol) -> Symbol:
            program = x.program
            return program.assigned(f"{program.type}({name}(float64({program.text_of(x)[0]})))")

        return applied


_FUNCTIONS = ("erf", "exp", "expm1", "log", "log1p", "logistic", "positive_part", "tanh")


class _Labeled(Symbol):
    """An array whose shape a loss compares with that of the labels: here they are equal."""

    shape = ()


class _Text:
    """The lines of a step, and the numbers that the traced functions bring themselves."""

    def __init__(self, dtype: AnyDType) -> None:
        self.program = Program(dtype)
        self.lines: list[str] = []

    def add(self, *lines: str) -> None:
        """Add lines at the level of the function's body."""
        self.lines += [f"    {line}" for line in lines]

    def loop(
        self,
        count: str,
        reads: dict[str, str],
        function: Callable[..., Sequence[object]],
        writes: Sequence[str],
        *,
        truths: Sequence[str] = (),
        kind: type[Symbol] = Symbol,
        then: Sequence[str] = (),
    ) -> None:
        """Add a loop over `i` from 0 to `count` that computes numbers from numbers.

        Args:
            count: The text of the number of rounds.
            reads: For each argument of the function, the text of its vector.
            function: The function of symbols, which returns one for each text in `writes`.
            writes: The texts of the places of its results.
            truths: The arguments that are truth values.
            kind: The class of the symbols.
            then: A suffix for the value of each place, e.g. a division.
        """
        program = self.program
        program.lines = []
        symbols = [kind(program, name, boolean=name in truths, writable=False) for name in reads]
        values = [program.text_of(value)[0] for value in function(*symbols)]
        suffixes = then or [""] * len(writes)
        rounds = [
            *(f"{name} = {vector}[i]" for name, vector in reads.items()),
            *program.lines,
            *(
                f"{place}[i] = {value}{suffix}"
                for place, value, suffix in zip(writes, values, suffixes, strict=True)
            ),
        ]
        self.add(f"for i in range({count}):", *(f"    {line}" for line in rounds))


@attrs.frozen
class _Mask:
    """A mask that a stage draws in each step.

    Attributes:
        number: The number of the stage.
        path: Its place in the network, as in the keys of the NumPy path.
        rows: The number of its inputs; 0 for those of the network.
        draw: `(shape, dtype, key) -> mask`.
    """

    number: int
    path: tuple[int, ...]
    rows: int
    draw: Callable[..., FloatArray]


@attrs.frozen
class _Plan:
    """The text of a step, and what is needed to call it.

    Attributes:
        text: The source, which is the same for the same description.
        constants: The numbers that the traced functions brought themselves.
        pairs: The numbers of inputs and outputs of each dense stage.
        results: The number of vectors that the update fills.
        labels: The number of rows of the labels.
        masks: The masks of stages that multiply by one.
    """

    text: str
    constants: tuple[float, ...]
    pairs: tuple[tuple[int, int], ...]
    results: int
    labels: int
    masks: tuple[_Mask, ...]

    def takes(self, m: int, dtype: AnyDType) -> bool:
        """Whether the products with m examples are those for which the kernels are faster."""
        if dtype == np.float32:
            return all(n_in * n_out * m <= _MOST_MULTIPLICATIONS for n_in, n_out in self.pairs)
        # A larger left operand is cut into slices, whose products are left to BLAS.
        return all(max(n_in, m) * n_out <= FEW for n_in, n_out in self.pairs)


def text_of_step(
    network: Stage,
    loss: Loss,
    pending: PendingUpdate,
    layout: Layout,
    dtype: AnyDType,
    truths: Sequence[bool],
) -> _Plan:
    """Write a step as one function.

    Args:
        network: The network.
        loss: The loss.
        pending: An update of the optimizer.
        layout: The layout of the parameters.
        dtype: The dtype of all numbers.
        truths: For each vector that `pending` reads, whether it holds truth values.

    Raises:
        Untraceable: If the step has a part that has no compiled form.
    """
    text, pairs, masks = _Text(dtype), [], []
    paths, stages = zip(*_in_order(network), strict=True)
    kind = text.program.type
    slots = iter(layout.slots)
    places: dict[int, tuple[Slot, Slot]] = {}
    text.add("m = X.shape[1]", "A0 = X.copy()", "p = parameters.copy()", "places = empty(0, int64)")
    # Variables, since numba would compile a kernel again for each combination of constants.
    text.add("straight, turned = m < 0, m >= 0")
    for number, stage in enumerate(stages):
        A, Z = f"A{number}", f"A{number + 1}"
        if _is_dense(stage):
            W, b = next(slots), next(slots)
            places[number] = W, b
            n_out, n_in = W.shape
            pairs.append((n_in, n_out))
            text.add(
                f"W{number} = {_part('p', W)}",
                f"b{number} = p[{b.start}:{b.stop}]",
                f"{Z} = empty(({n_out}, m), {kind})",
                f"if product(W{number}, straight, {A}, straight, places, {Z}):",
                "    return False, 0.0, 0.0",
                f"for r in range({n_out}):",
                f"    bias, row = b{number}[r], {Z}[r]",
                "    for i in range(m):",
                "        row[i] = row[i] + bias",
            )
            continue
        text.add(f"{Z} = empty_like({A})", f"x, y = {A}.reshape(-1), {Z}.reshape(-1)")
        draw = _mask_of(stage)
        if draw is not None:
            masks.append(_Mask(number, paths[number], pairs[-1][1] if pairs else 0, draw))
            text.add(f"z = D{number}.reshape(-1)")
            text.loop("x.size", {"A": "x", "D": "z"}, lambda A, D: [A * D], ["y"])
        else:
            forward = _expression(stage.forward)
            text.loop("x.size", {"Z": "x"}, lambda Z, f=forward: [f(Z, _Arithmetic())], ["y"])
    if not places or next(slots, None) is not None:
        raise Untraceable("a network without dense stages, or with other parameters")
    labels = _add_cost(text, loss, f"A{len(stages)}", pairs[-1][1])
    first = min(places)
    for number in range(len(stages) - 1, first - 1, -1):
        dZ, dA = f"dA{number + 1}", f"dA{number}"
        if _mask_of(stages[number]) is not None:
            text.add(
                f"{dA} = empty_like({dZ})",
                f"x, y, z = {dZ}.reshape(-1), {dA}.reshape(-1), D{number}.reshape(-1)",
            )
            text.loop("x.size", {"dA": "x", "D": "z"}, lambda dA, D: [dA * D], ["y"])
            continue
        if number not in places:
            stage = stages[number]
            backward = _expression(stage.backward_into or stage.backward)
            text.add(
                f"{dA} = empty_like({dZ})",
                f"x, y, z, w = {dZ}.reshape(-1), A{number}.reshape(-1), A{number + 1}.reshape(-1), "
                f"{dA}.reshape(-1)",
            )
            text.loop(
                "x.size",
                {"dA": "x", "Z": "y", "A": "z"},
                lambda dA, Z, A, f=backward: [f(dA, Z, A, _Arithmetic())],
                ["w"],
            )
            continue
        W, b = places[number]
        text.add(
            f"if product({dZ}, straight, A{number}, turned, places, {_part('grads', W)}):",
            "    return False, 0.0, 0.0",
            f"sum_rows({dZ}, grads[{b.start}:{b.stop}])",
        )
        if number > first:
            text.add(
                f"{dA} = empty_like(A{number})",
                f"if product(W{number}, turned, {dZ}, straight, places, {dA}):",
                "    return False, 0.0, 0.0",
            )
    results = _add_update(text, pending, truths)
    text.add("return True, cost, sum_of_squares(grads)")
    numbers = [f"n{i}" for i in range(len(pending.numbers))]
    constants = [f"c{i}" for i in range(len(text.program.constants))]
    scalars = ["factor", *numbers, *constants]
    read = [f"x{i}" for i in range(len(truths))]
    arrays = ["X", "Y", *(f"D{mask.number}" for mask in masks), "parameters", *read]
    arrays += ["grads", *results]
    head = [
        f"def loop({', '.join([*scalars, *arrays])}):",
        *(f"    {name} = {kind}({name})" for name in scalars),
    ]
    lines = "\n".join([*head, *text.lines]) + "\n"
    constants_ = tuple(text.program.constants)
    return _Plan(lines, constants_, tuple(pairs), len(results), labels, tuple(masks))


def _add_cost(text: _Text, loss: Loss, Z: str, n_out: int) -> int:
    """Add the cost and its gradient, and return the number of rows of the labels."""
    mean = bare(loss.function)
    if not isinstance(mean, MeanOf) or mean.weigh is not None:
        raise Untraceable("a cost that is not a plain mean")
    entries, dZ, kind = _expression(mean.entries), f"d{Z}", text.program.type
    if _is_of_classes(entries) and n_out > 1:
        text.add(
            f"z, {dZ} = empty(m, {kind}), empty_like({Z})",
            f"if not cross_entropy_of_classes({Z}, Y, z, {dZ}):",
            "    return False, 0.0, 0.0",
            f"count, w = {kind}(m), {dZ}.reshape(-1)",
            "for i in range(w.size):",
            "    w[i] = w[i] / count",
        )
        rows = 1
    else:
        text.add(
            f"losses, {dZ} = empty_like({Z}), empty_like({Z})",
            f"count = {kind}({Z}.size)",
            f"x, y, z, w = {Z}.reshape(-1), Y.reshape(-1), losses.reshape(-1), {dZ}.reshape(-1)",
        )
        text.loop(
            "x.size",
            {"AL": "x", "Y_": "y"},
            lambda AL, Y: entries(AL, Y, _Arithmetic()),
            ["z", "w"],
            kind=_Labeled,
            then=["", " / count"],
        )
        rows = n_out
    text.add("cost = sum_of_all(z) / float64(z.size)")
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


def _add_update(text: _Text, pending: PendingUpdate, truths: Sequence[bool]) -> list[str]:
    """Add the update, and return the names of the vectors that it fills."""
    kernel_, program = _expression(pending.kernel), text.program
    names = [f"x{i}" for i in range(len(truths))]
    count = len(pending.numbers)
    numbers = [Symbol(program, f"n{i}", writable=False, single=True) for i in range(count)]
    results = ["u", *(f"y{i}" for i in range(len(pending.before))), "moved"]

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
    return results


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


def _part(vector: str, slot: Slot) -> str:
    return f"{vector}[{slot.start}:{slot.stop}].reshape({slot.shape[0]}, {slot.shape[1]})"


# The step


@kernel
def _product(
    a: FloatArray,
    a_turned: bool,
    b: FloatArray,
    b_turned: bool,
    places: IntArray,
    out: FloatArray,
) -> int:
    """Fill `out` with a product of float64 matrices; return 0, as `nearest_product` does."""
    product_by_tree(a, a_turned, b, b_turned, out)
    return 0


_NAMES: dict[str, Any] = {
    **{name: getattr(elementary, name) for name in _FUNCTIONS},
    "cross_entropy_of_classes": cross_entropy_of_classes,
    "empty": np.empty,
    "empty_like": np.empty_like,
    "int64": np.int64,
    "sum_of_all": sum_of_all,
    "sum_of_squares": sum_of_squares,
    "sum_rows": sum_rows,
}


_Compiled = Callable[..., Any]


@attrs.frozen(eq=False)
class _Whole:
    """The parts of a step that one function takes at once.

    Attributes:
        network: The network.
        loss: The loss.
        optimizer: The optimizer.
        rest: The functions of the parts after *update*.
        layouts: From the layout of the parameters to that of the gradients.
        plans: For each dtype and layout, the layout, the plan and the compiled function; None if
            there is no compiled form.
    """

    network: Stage
    loss: Loss
    optimizer: GradientTransformation
    rest: tuple[Callable[[Step], Step], ...]
    layouts: Callable[[Layout], Layout]
    plans: dict[tuple[str, int], tuple[Layout, _Plan, _Compiled] | None]

    def planned(
        self, parameters: Packed, pending: PendingUpdate, vectors: Sequence[AnyArray]
    ) -> tuple[Layout, _Plan, _Compiled] | None:
        """The plan for the dtype and the layout of these parameters."""
        dtype, layout = parameters.vector.dtype, parameters.layout
        key = (dtype.char, id(layout))  # its hash would take longer than the step
        if key not in self.plans:
            self.plans[key] = None
            try:
                plan = self.plan(parameters, pending, vectors)
            except Exception:  # `Untraceable`, or what a function itself raises for symbols
                return None
            names = {**_NAMES, "product": nearest_product if dtype == np.float32 else _product}
            self.plans[key] = layout, plan, kernel_from_text(plan.text, names)
        return self.plans[key]

    def plan(
        self, parameters: Packed, pending: PendingUpdate, vectors: Sequence[AnyArray]
    ) -> _Plan:
        """Write the text of the step; raise `Untraceable` if there is none."""
        dtype = parameters.vector.dtype
        if any(vector.dtype not in (dtype, np.bool_) for vector in vectors):
            raise Untraceable("an optimizer with vectors of another dtype")
        if parameters.vector.size > _NUMBERS:
            raise Untraceable(f"{parameters.vector.size} parameters, more than {_NUMBERS}")
        truths = [vector.dtype == np.bool_ for vector in vectors]
        return text_of_step(self.network, self.loss, pending, parameters.layout, dtype, truths)


_wholes: weakref.WeakKeyDictionary[TrainStep, _Whole | None] = weakref.WeakKeyDictionary()


def whole_step(step: TrainStep, state: TrainState, batch: Batch) -> Step | None:
    """Take a step at once; None if it has no compiled form, or must be taken part by part.

    Args:
        step: The step.
        state: The state before the step.
        batch: The examples.

    Returns:
        The record with the fields of *cost*, *backward* and *update*, but without AL, dAL and the
        cache.
    """
    try:
        whole = _wholes[step]
    except KeyError:
        try:
            whole = _whole_of(step)
        except Untraceable:
            whole = None
        _wholes[step] = whole
    if whole is None or batch.weights is not None or batch.lengths is not None:
        return None
    parameters, X, Y = state.parameters, batch.X, batch.Y
    before, layout, dtype = parameters.vector, parameters.layout, parameters.vector.dtype
    pending, vectors = _begun(whole.optimizer, state)
    planned = whole.planned(parameters, pending, vectors)
    if planned is None or X.ndim != 2 or X.dtype is not dtype or Y.dtype is not dtype:
        return None
    _, plan, function = planned
    (n_in, _), m = plan.pairs[0], X.shape[1]
    if len(X) != n_in or Y.shape != (plan.labels, m) or not m or not plan.takes(m, dtype):
        return None
    grads = np.empty(before.size, dtype)
    results = [np.empty(before.size, dtype) for _ in range(plan.results)]
    examples = np.ascontiguousarray(X), np.ascontiguousarray(Y)
    masks = []
    if plan.masks:
        key = state.key.at("step", state.iteration)
        for mask in plan.masks:
            masks.append(mask.draw((mask.rows or len(X), m), dtype, key.at(*mask.path)))
    read = map(unwritten, (*examples, *masks, before, *vectors))
    try:
        done, cost, square = function(
            pending.factor, *pending.numbers, *plan.constants, *read, grads, *results
        )
    except Exception as error:  # numba may raise anything
        give_up(error)
        return None
    if not (done and math.isfinite(cost) and math.isfinite(square)):
        return None
    updates, *vectors_after, moved = map(freeze, results)
    after = TrainState(
        state.iteration + 1,
        layout.packed(moved),
        pending.state(*vectors_after),
        state.key,
        state.statistics,
    )
    gradient = whole.layouts(layout).packed(freeze(grads))
    norm = math.sqrt(square) if _LEAST <= square <= _MOST else portable.norm(grads)
    observed = whole.optimizer.observe(after.optimizer_state)
    info = StepInfo(state.iteration, cost, norm, observed)
    record = Step(state, batch).with_fields(
        cost=cost, grads=gradient, updates=updates, after=after, info=info
    )
    try:
        for function in whole.rest:
            record = function(record)
    except NotFinite:  # part by part, the message can say where
        return None
    return record


# If the sum of squares of at most `_NUMBERS` numbers lies between these, none of them is so small
# or so large that its length would have to be computed in another way.
_LEAST, _MOST = _NUMBERS * 2.0**-399, 2.0**399


def generated_text(step: TrainStep, state: TrainState) -> str:
    """Return the text of the compiled step of a network.

    Args:
        step: The step.
        state: A state before it, of which only shapes and dtypes matter.

    Raises:
        BadInput: If the step has no compiled form, with the reason.

    Example:
        >>> network, optimizer = nn.dense(1), nn.gradient_descent(learning_rate=0.1)
        >>> step = nn.make_train_step(network, nn.mean_squared(), optimizer, numerics=nn.portable)
        >>> state = nn.initial_state(network, optimizer, (3,), key=nn.Key(1))
        >>> print(generated_text(step, state).splitlines()[0])
        def loop(factor, X, Y, parameters, grads, u, moved):
    """
    try:
        whole = _whole_of(step)
        return whole.plan(state.parameters, *_begun(whole.optimizer, state)).text
    except Untraceable as error:
        raise BadInput(
            f"this training step is not compiled as a whole, because it has {error}: expected "
            "portable arithmetic and a small network of dense stages and activations."
        ) from error


def _begun(
    optimizer: GradientTransformation, state: TrainState
) -> tuple[PendingUpdate, tuple[AnyArray, ...]]:
    """Return the update that begins at a state, and the vectors that it reads."""
    assert optimizer.begin is not None
    layout, vector = state.parameters.layout, state.parameters.vector
    pending = optimizer.begin(state.optimizer_state, vector.dtype, portable)
    return pending, (*[read(layout) for read in pending.read], *pending.before)


def _whole_of(step: TrainStep) -> _Whole:
    """Return the parts to take at once; raise `Untraceable` if some have no such form."""
    first, rest = step.parts[:4], step.parts[4:]
    for part in step.parts:
        if not part.trusted:
            raise Untraceable(f"the part {part.name!r}, which is not pydnn's own")
    if [part.name for part in first] != ["forward", "cost", "backward", "update"]:
        raise Untraceable(f"other parts than forward, cost, backward and update: {step}")
    made = [made_by(part) for part in first]
    if made[0] is None or made[0][0] is not make_train_step or any(m != made[0] for m in made):
        raise Untraceable("parts that were not made together")
    _, (network, loss, optimizer), options = made[0]
    reasons = {
        f"{options['numerics'].name!r} arithmetic": options["numerics"] is not _IMPLEMENTED,
        "penalties": options["penalties"],
        "augmentation": options["augment"],
        "a network that keeps statistics": network.statistics is not None,
        "an optimizer whose update is not number by number": optimizer.begin is None,
    }
    for reason, holds in reasons.items():
        if holds:
            raise Untraceable(reason)
    functions = tuple(part.function for part in rest)
    return _Whole(network, loss, optimizer, functions, gradients_layouts(network), {})
