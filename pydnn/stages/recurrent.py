"""What the recurrent stages share: their parameters, the loop over the steps, and the stage itself.

A recurrent stage goes over the T steps of sequences X (T, n, m) and keeps a state a (units, m). A
`Cell` says what one step computes. The products of a step take one operand, a column [x; 1; a] for
each example, so that the bias is a column of the weights [W_x, b, W_a], and each entry of a product
is one dot product.

Sequences of unequal length are sorted by length, the longest first. So the sequences that are still
valid at a step are the first columns, and no step computes anything for padding. In reverse the
stage starts at the last valid step of each sequence. The state of a sequence stays as it is at
steps that are not valid.

Arrays of all steps are *packed*: the numbers (rows, alive) of each step lie one step after the
other in one vector, where `alive` is the number of sequences that are valid at the step.

References:
    Chetlur et al., cuDNN: efficient primitives for deep learning, 2014, for the library that
    introduced packed sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import (
    BadInput,
    expect_count,
    expect_flag,
    expect_known,
    expect_same_dtype,
    expect_shape,
)
from pydnn.keys import Key
from pydnn.numerics import Numerics
from pydnn.numerics.memory import empty
from pydnn.parameters import Tree, Views
from pydnn.records import WEIGHTS, AnyDType, FloatArray, arrays, freeze, keep_readonly
from pydnn.sequences import expect_lengths
from pydnn.stages.base import Context, Shape, Stage, Statistics, backward_from
from pydnn.stages.initializers import Initializer

if TYPE_CHECKING:
    from pydnn.stages.graph import Attribute, Value

__all__ = [
    "Cell",
    "LearnedParams",
    "Operator",
    "Records",
    "RecurrentCache",
    "RecurrentGrads",
    "RecurrentParams",
    "State",
    "Steps",
    "backward_over_steps",
    "blocks",
    "forward_over_steps",
    "joined",
    "recurrent_stage",
    "split",
]

_MOST_WEIGHTS = 1 << 48  # 2 PiB of float64: a file may claim any size


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class RecurrentParams:
    """The weights and biases of a recurrent stage.

    Attributes:
        W_x: Weights of the input, (g units, n), for a cell with g gates: `units` rows of each.
        W_a: Weights of the state, (g units, units).
        b: Biases, (g units, 1).

    Raises:
        BadInput: If the shapes do not belong together.
    """

    W_x: FloatArray = attrs.field(metadata=WEIGHTS)
    W_a: FloatArray = attrs.field(metadata=WEIGHTS)
    b: FloatArray

    def __attrs_post_init__(self) -> None:
        expect_shape("W_x", self.W_x, ("rows", "n"), hint="give one row of weights per gate")
        rows = len(self.W_x)
        expect_shape("W_a", self.W_a, (rows, "units"), hint="give one row per row of W_x")
        expect_shape("b", self.b, (rows, 1), hint="give one bias per row of W_x")


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class RecurrentGrads:
    """Gradients dW_x, dW_a and db of the cost, each of the shape of its parameter."""

    dW_x: FloatArray
    dW_a: FloatArray
    db: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class LearnedParams(RecurrentParams):
    """As `RecurrentParams`, and the learned state before the first step, a_0 (units, 1)."""

    a_0: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class LearnedGrads(RecurrentGrads):
    """As `RecurrentGrads`, and the gradient da_0 (units, 1)."""

    da_0: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class State:
    """The state of a recurrent stage between two steps: a (units, m), which is also its output."""

    a: FloatArray


@keep_readonly
@attrs.frozen(eq=False)
class Steps:
    """Which examples are valid at which step, and where they lie in packed arrays.

    Attributes:
        T: The number of steps of the batch.
        m: The number of examples.
        columns: The examples in the order of their lengths, the longest first; None if all
            sequences have T steps.
        alive: For each step up to the longest sequence, the number of valid examples.
        reverse: Whether the stage goes from the last valid step to the first.
    """

    T: int
    m: int
    columns: NDArray[np.intp] | None
    alive: tuple[int, ...]
    reverse: bool

    @classmethod
    def of(cls, T: int, m: int, lengths: NDArray[np.int64] | None, reverse: bool) -> Steps:
        """Return the steps of a batch with these lengths."""
        if lengths is not None:
            lengths = expect_lengths(lengths, T, m)
            if int(lengths.min()) < T:
                columns = freeze(np.argsort(-lengths, kind="stable"))
                alive = [int((lengths > t).sum()) for t in range(int(lengths.max()))]
                return cls(T, m, columns, tuple(alive), reverse)
        return cls(T, m, None, (m,) * T, reverse)

    @property
    def order(self) -> range:
        """The steps in the order in which the forward pass takes them."""
        last = len(self.alive)
        return range(last - 1, -1, -1) if self.reverse else range(last)

    def room(self, rows: int, dtype: AnyDType) -> FloatArray:
        """Return a new packed array with this number of rows at each step."""
        return empty(rows * sum(self.alive), dtype)

    def views(self, packed: FloatArray) -> list[FloatArray]:
        """Return the view (rows, alive) of each step in a packed array."""
        if self.columns is None:
            return list(packed.reshape(self.T, -1, self.m))
        rows = len(packed) // sum(self.alive)
        views, start = [], 0
        for alive in self.alive:
            stop = start + rows * alive
            views.append(packed[start:stop].reshape(rows, alive))
            start = stop
        return views

    def at(self, array: FloatArray, t: int) -> FloatArray:
        """Return the columns of step t of `array` (T, rows, m) that are valid, in sorted order."""
        if self.columns is None:
            step: FloatArray = array[t]
            return step
        valid: FloatArray = array[t][:, self.columns[: self.alive[t]]]
        return valid

    def fill(self, inputs: FloatArray, X: FloatArray) -> None:
        """Fill the rows of x and 1 in the packed operands [x; 1; a], from the inputs X."""
        n = X.shape[1]
        if self.columns is None:
            whole = inputs.reshape(self.T, -1, self.m)
            whole[:, :n], whole[:, n] = X, 1
            return
        for t, operand in enumerate(self.views(inputs)):
            operand[:n], operand[n] = self.at(X, t), 1

    def sorted(self, array: FloatArray) -> FloatArray:
        """Return a new array with the columns of `array` (rows, m) in the order of lengths."""
        if self.columns is None:
            return array.copy()
        picked: FloatArray = array[:, self.columns]
        return np.ascontiguousarray(picked)

    def unsorted(self, array: FloatArray) -> FloatArray:
        """Undo `sorted`, and return a read-only array."""
        if self.columns is None:
            return freeze(array)
        restored = np.empty_like(array)
        restored[:, self.columns] = array
        return freeze(restored)

    def unpacked(self, packed: FloatArray) -> FloatArray:
        """Return the read-only array (T, rows, m) of a packed array, with 0 in the padding."""
        if self.columns is None:
            return freeze(packed).reshape(self.T, -1, self.m)
        views = self.views(packed)
        array = np.zeros((self.T, len(views[0]), self.m), packed.dtype)
        for t, view in enumerate(views):
            array[t][:, self.columns[: self.alive[t]]] = view
        return freeze(array)

    def summed_product(
        self, left: FloatArray, right: FloatArray, rows: tuple[slice, slice], numerics: Numerics
    ) -> FloatArray:
        """Return the sum over all steps of left[rows[0]] right[rows[1]]^T, of packed arrays."""
        lefts, rights = self.views(left), self.views(right)
        if self.columns is None:
            a = left.reshape(self.T, -1, self.m)[:, rows[0]]
            b = right.reshape(self.T, -1, self.m)[:, rows[1]]
            return numerics.summed_matmul(a, b.swapaxes(1, 2))
        a = np.concatenate([view[rows[0]] for view in lefts], axis=1)
        b = np.concatenate([view[rows[1]] for view in rights], axis=1)
        return numerics.matmul(a, b.T)


@keep_readonly
@attrs.frozen(eq=False)
class RecurrentCache:
    """What the backward pass of a recurrent stage needs. The arrays are packed, see `Steps`.

    Attributes:
        inputs: The operands [x; 1; a] of the products of each step.
        outputs: The state a after each step.
        kept: What the cell keeps of each step, e.g. its gates.
        steps: Which examples are valid at which step.
        after: The state of each example after its last valid step, in a record of the cell.
        numerics: The arithmetic of the forward pass.
    """

    inputs: FloatArray
    outputs: FloatArray
    kept: tuple[FloatArray, ...]
    steps: Steps
    after: Any
    numerics: Numerics


@attrs.frozen
class Records:
    """The classes of the parameters and of the gradients of a stage."""

    params: type
    grads: type


Weights = tuple[FloatArray, ...]  # the operands of a cell's products, which it prepares once
# The name of an operator of ONNX, its W, R and B of one direction, and its further attributes
Operator: TypeAlias = "tuple[str, list[FloatArray], dict[str, Attribute]]"


def blocks(rows: FloatArray, units: int) -> list[FloatArray]:
    """Return the blocks of `units` rows that lie one below the other, e.g. one of each gate."""
    return [rows[k : k + units] for k in range(0, len(rows), units)]


def joined(params: RecurrentParams) -> FloatArray:
    """Return the weights [W_x, b, W_a] of the operand [x; 1; a]."""
    W_x, W_a = params.W_x, params.W_a
    W = empty((len(W_x), W_x.shape[1] + 1 + W_a.shape[1]), W_x.dtype)
    return np.concatenate([W_x, params.b, W_a], axis=1, out=W)


def split(dW: FloatArray, n: int) -> dict[str, FloatArray]:
    """Return the gradients of W_x, W_a and b from that of [W_x, b, W_a]."""
    return {"dW_x": dW[:, :n], "dW_a": dW[:, n + 1 :], "db": dW[:, n : n + 1]}


@attrs.frozen(eq=False)
class Cell:
    """What one step of a recurrent stage computes, and the classes of its arrays.

    By default, a step has one product: that of the weights [W_x, b, W_a] and its operand.

    Functions get arrays of one step, with one column per valid example. `state` holds the arrays of
    the state, which they replace; the first of them is a.

    Attributes:
        name: The name of the stage.
        gates: The number of blocks of `units` rows in W_x.
        rows: The number of blocks of `units` rows of pre-activations; those of W_x come first.
        kept: `(n, units) -> rows`, the rows of each array that a step keeps for the backward pass.
        forward: `(weights, inputs, kept, state, a, numerics)`: fill `kept`, the new state and `a`
            from the operand [x; 1; a] and the state.
        backward: `(weights_back, inputs, kept, a, da, dstate, dZ, numerics)`: from the gradient
            `da` of the output of the step, which it may overwrite, fill the gradients dZ of the
            pre-activations, and turn `dstate` after the step into that before it.
        weights: `(params) -> weights`, the left operands of the products of all steps.
        weights_back: The same for the backward pass. The first one takes the first rows of dZ to
            dx; by default, the second one takes dZ to the state.
        gradients: `(product, n, units) -> gradients` by name, where `product(rows of dZ, rows of an
            operand, number of the operand)` sums over all steps and examples. They may be views.
        state: The class of the state.
        records: The classes of the parameters and of the gradients.
        learned: The same with a learned state before the first step.
    """

    name: str
    gates: int
    rows: int
    kept: Callable[[int, int], tuple[int, ...]]
    forward: Callable[..., None]
    backward: Callable[..., None]
    weights: Callable[[Any], Weights] = lambda params: (joined(params),)
    weights_back: Callable[[Any], Weights] = lambda params: (params.W_x.T, params.W_a.T)
    gradients: Callable[[Callable[..., FloatArray], int, int], dict[str, FloatArray]] = (
        lambda product, n, units: split(product(np.s_[:], np.s_[:]), n)
    )
    state: type = State
    records: Records = Records(RecurrentParams, RecurrentGrads)
    learned: Records = Records(LearnedParams, LearnedGrads)


def forward_over_steps(
    cell: Cell,
    params: RecurrentParams,
    X: FloatArray,
    before: Any | None,
    context: Context,
    *,
    reverse: bool,
) -> tuple[FloatArray, RecurrentCache]:
    """Compute the outputs A (T, units, m) of a cell for sequences X (T, n, m).

    Args:
        cell: The cell.
        params: The parameters of the cell.
        X: The sequences.
        before: The state before the first step; None for 0.
        context: The arithmetic, and the lengths of the sequences.
        reverse: Whether to go from the last valid step to the first.

    Raises:
        BadInput: If the shapes or dtypes do not fit.
    """
    units, n = params.W_a.shape[1], params.W_x.shape[1]
    if X.ndim != 3 or X.shape[1] != n or not len(X):
        hint = "give one matrix (n, m) per step, with examples in columns, and at least one step"
        expect_shape("X", X, ("T", n, "m"), hint=hint)
        raise BadInput(f"X has shape {X.shape}, expected (T, {n}, m) with T above 0: {hint}.")
    if len(params.W_x) != cell.gates * units:
        shape = (cell.gates * units, n)
        hint = f"give {cell.name} {cell.gates} rows per unit, and W_a one column per unit"
        expect_shape("W_x", params.W_x, shape, hint=hint)
    dtype, (T, _, m), numerics = params.W_x.dtype, X.shape, context.numerics
    expect_same_dtype("X", X, dtype)
    steps = Steps.of(T, m, context.lengths, reverse)
    state = [steps.sorted(array) for array in _state_of(cell, before, (units, m), dtype)]
    inputs, outputs = steps.room(n + 1 + units, dtype), steps.room(units, dtype)
    kept = [steps.room(rows, dtype) for rows in cell.kept(n, units)]
    weights = tuple(map(numerics.prepare, cell.weights(params)))
    into = list(zip(*map(steps.views, kept), strict=True)) or [()] * len(steps.alive)
    operands, results = steps.views(inputs), steps.views(outputs)
    steps.fill(inputs, X)
    for t in steps.order:
        operand, a, alive = operands[t], results[t], steps.alive[t]
        now = state if alive == m else [array[:, :alive] for array in state]
        operand[n + 1 :] = now[0]
        cell.forward(weights, operand, into[t], now, a, numerics)
        if steps.columns is None:
            state[0] = a  # `outputs` holds it, so no copy is needed
        else:
            now[0][...] = a
    after = cell.state(*map(steps.unsorted, state))
    A = steps.unpacked(outputs)
    packed = tuple(map(freeze, kept))
    return A, RecurrentCache(freeze(inputs), freeze(outputs), packed, steps, after, numerics)


def _state_of(
    cell: Cell, state: Any | None, shape: tuple[int, int], dtype: AnyDType
) -> list[FloatArray]:
    names = [field.name for field in attrs.fields(cell.state)]
    if state is None:
        return [np.zeros(shape, dtype) for _ in names]
    if not isinstance(state, cell.state):
        raise BadInput(
            f"the state is {state!r}, expected a {cell.state.__name__}: give one, or None."
        )
    given = [getattr(state, name) for name in names]
    for name, array in zip(names, given, strict=True):
        hint = "give the state before the first step, with examples in columns"
        expect_shape(name, array, shape, hint=hint)
        expect_same_dtype(name, array, dtype)
    return given


def backward_over_steps(
    cell: Cell,
    params: RecurrentParams,
    cache: RecurrentCache,
    dA: FloatArray | None,
    after: Any | None = None,
) -> tuple[FloatArray, Any, Any]:
    """Compute the gradients of the inputs, the state before the first step, and the parameters.

    Args:
        cell: The cell.
        params: The parameters of the forward pass.
        cache: The cache of the forward pass.
        dA: The gradient of all outputs, (T, units, m), of which padding is ignored; None for 0.
        after: The gradient of the state after the last valid steps, in a record; None for 0.

    Returns:
        dX (T, n, m); the gradient of the state before the first step; and those of the parameters.
        Both are in records of the cell.
    """
    dX, before, grads = _pulled_back(cell, params, cache, dA, after, needs_dX=True)
    assert dX is not None
    own = {name: freeze(array.copy()) for name, array in grads.items()}
    return dX, before, cell.records.grads(**own)


def _pulled_back(
    cell: Cell,
    params: RecurrentParams,
    cache: RecurrentCache,
    dA: FloatArray | None,
    after: Any | None,
    *,
    needs_dX: bool,
) -> tuple[FloatArray | None, Any, dict[str, FloatArray]]:
    """Do the same as `backward_over_steps`, with gradients by name, which may be views."""
    steps, numerics, dtype = cache.steps, cache.numerics, params.W_x.dtype
    units, n, m = params.W_a.shape[1], params.W_x.shape[1], steps.m
    if dA is not None:
        hint = "give the gradient of each output"
        expect_shape("dA", dA, (steps.T, units, m), hint=hint)
    dstate = [steps.sorted(array) for array in _state_of(cell, after, (units, m), dtype)]
    dZ, room = steps.room(cell.rows * units, dtype), empty(units * m, dtype)
    dX = steps.room(n, dtype) if needs_dX else None
    weights = tuple(map(numerics.prepare, cell.weights_back(params)))
    kept = list(zip(*map(steps.views, cache.kept), strict=True)) or [()] * len(steps.alive)
    operands, outputs, slopes = map(steps.views, (cache.inputs, cache.outputs, dZ))
    dinputs = [] if dX is None else steps.views(dX)
    for t in reversed(steps.order):
        alive = steps.alive[t]
        now = dstate if alive == m else [array[:, :alive] for array in dstate]
        da = room[: units * alive].reshape(units, alive)
        if dA is None:
            da[...] = now[0]
        else:
            np.add(now[0], steps.at(dA, t), da)
        cell.backward(weights, operands[t], kept[t], outputs[t], da, now, slopes[t], numerics)
        if dinputs:
            numerics.matmul(weights[0], slopes[t][: cell.gates * units], out=dinputs[t])

    def product(rows: slice, operand_rows: slice, operand: int = 0) -> FloatArray:
        chosen = cache.kept[operand - 1] if operand else cache.inputs
        return steps.summed_product(dZ, chosen, (rows, operand_rows), numerics)

    before = cell.state(*map(steps.unsorted, dstate))
    return (
        None if dX is None else steps.unpacked(dX),
        before,
        cell.gradients(product, n, units),
    )


def recurrent_stage(
    cell: Cell,
    units: int,
    *,
    output: str,
    reverse: bool,
    initial: str,
    examples: int | None,
    initializer: Initializer,
    recurrent_initializer: Initializer,
    biases: Mapping[str, Sequence[float]],
    onnx: Callable[[Any], Operator],
) -> Stage[Any, RecurrentCache]:
    """Make the stage that applies a cell to each step.

    Args:
        cell: The cell.
        units: The number of units, 1 or more.
        output: "all" for the outputs of all steps, "last" for that of the last valid step.
        reverse: Whether to go from the last valid step to the first.
        initial: The state before the first step: "zero", "learned", or "carried" from the batch
            before in training.
        examples: The number of examples of a batch, for a carried state.
        initializer: How the weights (units, n) of the input are drawn, for each gate.
        recurrent_initializer: How the weights (units, units) of a are drawn, for each gate.
        biases: The first biases by name, one number for each block of `units` rows.
        onnx: `(params) -> operator`, the stage as an operator of ONNX.

    Raises:
        BadInput: If an option is wrong, or the options do not fit each other.
    """
    units = expect_count("units", units, hint="give the layer one unit or more")
    expect_known("output", output, ("all", "last"))
    expect_known("initial", initial, ("zero", "learned", "carried"))
    reverse = expect_flag("reverse", reverse)
    carried, learned, last = initial == "carried", initial == "learned", output == "last"
    if carried != (examples is not None):
        raise BadInput(
            f"initial is {initial!r} and examples is {examples}, expected a number with 'carried' "
            "and None otherwise: give the number of examples in every batch, or leave examples out."
        )
    if examples is not None:
        hint = "give the number of examples in every batch"
        examples = expect_count("examples", examples, hint=hint)
        if reverse:
            raise BadInput(
                "reverse is True and initial is 'carried', expected one of them: leave one out, "
                "since a pass from the last step to the first cannot go on from the batch before."
            )
    names = [field.name for field in attrs.fields(cell.state)]
    records = cell.learned if learned else cell.records

    def init(key: Key, shape_in: Shape) -> tuple[Any, Shape]:
        if len(shape_in) != 2:
            raise BadInput(
                f"examples have shape {shape_in}, expected (T, n), n numbers at each of T steps: "
                "reshape them, e.g. with reshape(T, n), or let a recurrent stage before this one "
                "return all steps, by output='all'."
            )
        T, n = shape_in
        count = cell.gates * units * (n + units)
        if count > _MOST_WEIGHTS:
            raise BadInput(
                f"{units} units of {n} inputs have {count} weights, more than any machine holds: "
                "give fewer units."
            )
        arrays = {
            "W_x": _drawn_blocks(initializer, key.at("W_x"), cell.gates, (units, n)),
            "W_a": _drawn_blocks(recurrent_initializer, key.at("W_a"), cell.gates, (units, units)),
        }
        arrays |= {name: _repeated(numbers, units) for name, numbers in biases.items()}
        if learned:
            arrays |= {f"{name}_0": _repeated([0.0], units) for name in names}
        return records.params(**arrays), (units,) if last else (T, units)

    def forward(params: Any, X: FloatArray, context: Context) -> tuple[FloatArray, RecurrentCache]:
        before = None
        if learned:
            shape = (units, X.shape[-1])
            before = cell.state(*[np.broadcast_to(getattr(params, f"{s}_0"), shape) for s in names])
        elif carried and context.training:
            if X.shape[-1] != examples:
                raise BadInput(
                    f"{cell.name} carries the state of {examples} examples from batch to batch, "
                    f"but got a batch of {X.shape[-1]}: give batches of {examples}, or change "
                    "examples."
                )
            before = context.statistics
        A, cache = forward_over_steps(cell, params, X, before, context, reverse=reverse)
        return (cache.after.a if last else A), cache

    def backward_into(
        params: Any, cache: RecurrentCache, dA: FloatArray, out: Views, needs_dA_prev: bool
    ) -> FloatArray | None:
        after = None
        if last:
            zeros = [np.broadcast_to(dA.dtype.type(0), dA.shape) for _ in names[1:]]
            after, dA_all = cell.state(dA, *zeros), None
        else:
            dA_all = dA
        dX, before, grads = _pulled_back(cell, params, cache, dA_all, after, needs_dX=needs_dA_prev)
        if learned:
            for name in names:
                grads[f"d{name}_0"] = cache.numerics.sum(getattr(before, name), axis=1)
        for field, target in zip(attrs.fields(records.grads), out, strict=True):
            target[...] = grads[field.name]
        return dX

    def zeros_before(params: Any) -> Any:
        zero = np.broadcast_to(params.W_x.dtype.type(0), (units, examples or 0))
        return cell.state(*[zero] * len(names))

    def as_operator(params: Any, X: Value, statistics: Tree) -> Value:
        states = [getattr(params, f"{name}_0") for name in names if learned]
        return _onnx(onnx(params), X, states, last=last, reverse=reverse)

    statistics: Statistics[Any, RecurrentCache] = Statistics(
        zeros_before, lambda before, cache: cache.after, read_in_training=True
    )
    return Stage(
        cell.name,
        init,
        forward,
        backward_from(backward_into, records.grads),
        backward_into=backward_into,
        statistics=statistics if carried else None,
        lengths="ended" if last else "kept",
        gradients=records.grads,
        onnx=as_operator,
    )


def _onnx(
    operator: Operator, X: Value, before: Sequence[FloatArray], *, last: bool, reverse: bool
) -> Value:
    """Write a recurrent stage as an operator of ONNX, which takes time first, then examples.

    Args:
        operator: The operator.
        X: The sequences, (m, T, n).
        before: The arrays (units, 1) of the state before the first step; none for 0.
        last: Whether the output is that of the last step alone.
        reverse: Whether to go from the last step to the first.
    """
    name, arrays, attributes = operator
    steps = X.op("Transpose", perm=(1, 0, 2))
    units = arrays[1].shape[1]
    states = []
    if before:
        one, count = (X.constant(np.array([number])) for number in (1, units))
        shape = one.op("Concat", X.op("Shape", dtype=np.int64, start=0, end=1), count, axis=0)
        states = [X.constant(state.T[np.newaxis]).op("Expand", shape) for state in before]
    A = steps.op(
        name,
        *[array[np.newaxis] for array in arrays],
        None,
        *states,
        outputs=2 if last else 1,
        output=1 if last else 0,
        hidden_size=units,
        dtype=None,
        direction="reverse" if reverse else "forward",
        **attributes,
    )
    if last:
        return A.op("Squeeze", np.array([0]))
    return A.op("Squeeze", np.array([1])).op("Transpose", perm=(1, 0, 2))


def _drawn_blocks(
    initializer: Initializer, key: Key, gates: int, shape: tuple[int, int]
) -> FloatArray:
    """Draw the weights of each gate, and return them one below the other."""
    blocks = [initializer.draw(key.at(gate), shape) for gate in range(gates)]
    if not any(any(block.strides) for block in blocks) and blocks[0].size:
        # Equal numbers that take no memory, however many units a file may claim.
        return np.broadcast_to(blocks[0][:1, :1], (gates * shape[0], shape[1]))
    return np.concatenate(blocks)


def _repeated(numbers: Sequence[float], units: int) -> FloatArray:
    """Return a column with `units` rows of each number."""
    if not any(numbers):
        return np.broadcast_to(0.0, (len(numbers) * units, 1))  # takes no memory, too
    return np.repeat(numbers, units).reshape(-1, 1)
