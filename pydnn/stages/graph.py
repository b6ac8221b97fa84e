"""A network written as a graph of ONNX operators, which other programs can run.

The field `onnx` of a stage says how it computes outside of training. That function gets a `Value`
instead of an array: NumPy's operators and functions on it add nodes to the graph, and `Value.op`
adds any operator of ONNX. `pydnn.interop.onnx` writes the file.

In a graph the examples lie along the first axis, as other programs expect: an array of shape (n, m)
in pydnn has shape (m, n) here, and in general the last axis comes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeAlias, cast

import attrs
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import ArrayLike, DTypeLike

from pydnn.checks import BadInput
from pydnn.numerics import Numerics
from pydnn.numerics.fast import error_function
from pydnn.numerics.interface import Convolution
from pydnn.records import AnyArray, AnyDType

__all__ = ["DTYPE_CODES", "Attribute", "Graph", "Node", "Value"]

Attribute: TypeAlias = "int | float | str | tuple[int, ...] | tuple[str, ...]"  # of a node


@attrs.frozen
class Node:
    """One operator of a graph, with the names of its inputs and outputs."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


class Graph:
    """A graph: inputs, constants and nodes, in the order in which they are added.

    Args:
        dtype: The dtype of all floating-point numbers in the graph.
        known: Arrays that get these names as constants, e.g. the parameters "0/W" and "0/b".
        in_float32: Operators that a graph of float64 applies in float32, between casts, because the
            programs that it is for do not have them in float64.

    Attributes:
        inputs: For each input by name, the dtype and the shape of one example, in which a name
            such as "T" stands for any size. Add all inputs before the first node.
        outputs: For each output by name, the dtype and the shape of one example.
        constants: The constants by name.
        nodes: The nodes in order.
    """

    def __init__(
        self,
        dtype: DTypeLike,
        known: Mapping[str, AnyArray] = {},
        *,
        in_float32: frozenset[str] = frozenset(),
    ) -> None:
        """Make an empty graph."""
        self.dtype: AnyDType = np.dtype(dtype)
        self.in_float32 = in_float32
        self.inputs: dict[str, tuple[AnyDType, tuple[int | str, ...]]] = {}
        self.outputs: dict[str, tuple[AnyDType, tuple[int | str, ...]]] = {}
        self.constants: dict[str, AnyArray] = {}
        self.nodes: list[Node] = []
        self._known = {_place(array): name for name, array in known.items()}
        self._names: dict[object, str] = {}

    def input(self, name: str, shape: tuple[int, ...], dtype: DTypeLike | None = None) -> Value:
        """Add an input with examples of this shape; the dtype of text is `object`."""
        chosen: AnyDType = self.dtype if dtype is None else np.dtype(dtype)
        self.inputs[name] = chosen, shape
        return Value(self, name, chosen).shaped(lambda: shape)

    def output(self, name: str, value: Value, shape: tuple[int, ...]) -> None:
        """Make `value` an output of the graph with this name, with examples of this shape."""
        name = self._free(name)
        self.outputs[name] = value.dtype, shape
        self.nodes.append(Node("Identity", (value.name,), (name,), {}))

    def with_any_steps(self, other: Graph) -> Graph:
        """Let sequences have any number of steps, if that does not change the graph.

        Args:
            other: The graph of the same network for sequences of one step more.
        """
        if self.nodes == other.nodes and _same_arrays(self.constants, other.constants):
            for ours, theirs in ((self.inputs, other.inputs), (self.outputs, other.outputs)):
                for name, (dtype, shape) in ours.items():
                    sizes = zip(shape, theirs[name][1], strict=True)
                    ours[name] = dtype, tuple(n if n == k else "T" for n, k in sizes)
        return self

    def _free(self, name: str) -> str:
        """Return the name, with underscores after it if an input or a constant has it already.

        Inputs are columns of a table, which may have any name. All other names are distinct anyway.
        """
        while name in self.inputs or name in self.constants:
            name += "_"
        return name

    def constant(self, array: ArrayLike, dtype: DTypeLike | None = None) -> str:
        """Add a constant, and return its name; equal constants share one.

        Args:
            array: Numbers, truth values or texts. An array in `known`, or a view of all its
                numbers, gets the name it has there.
            dtype: The dtype of the constant; by default floats get the dtype of the graph.
        """
        original = np.asarray(array)
        if dtype is None and original.dtype.kind == "f":
            dtype = self.dtype
        name = self._known.get(_place(original))
        values = original.astype(original.dtype if dtype is None else dtype)
        # What is known by its place is recognized by that, and everything else by its entries.
        entries: object = original.strides
        if name is None:
            entries = tuple(values.ravel()) if values.dtype == object else values.tobytes()
        content = name, values.dtype.str, values.shape, entries
        if content not in self._names:
            if name is None or name in self.constants:
                name = f"constant_{len(self.constants)}"
            name = self._free(name)
            self._names[content] = name
            self.constants[name] = values
        return self._names[content]

    def add(
        self,
        operator: str,
        inputs: Iterable[str],
        attributes: Mapping[str, Attribute] = {},
        *,
        outputs: int = 1,
    ) -> tuple[str, ...]:
        """Add a node, and return the names of its outputs."""
        number = len(self.nodes)
        names = [self._free(f"{operator}_{number}")]
        names += [self._free(f"{operator}_{number}_{output}") for output in range(1, outputs)]
        self.nodes.append(Node(operator, tuple(inputs), tuple(names), dict(attributes)))
        return tuple(names)


def _same_arrays(ours: Mapping[str, AnyArray], theirs: Mapping[str, AnyArray]) -> bool:
    return ours.keys() == theirs.keys() and all(
        np.array_equal(array, theirs[name]) for name, array in ours.items()
    )


def _place(array: AnyArray) -> tuple[int, int, int]:
    """Return the address and size of an array in memory, which identify it and its full views."""
    return array.__array_interface__["data"][0], array.size, array.itemsize


class Value(NDArrayOperatorsMixin):
    """A placeholder for an array in a graph, with examples along the first axis.

    Operators, and the functions of NumPy that ONNX has too, add nodes to the graph:

        np.where(Z > 0, Z, 0.01 * Z)

    Attributes:
        graph: The graph of the value.
        name: The name of the value in the graph.
        dtype: The dtype of its entries: floats, truth values, integers, or `object` for texts.
    """

    def __init__(self, graph: Graph, name: str, dtype: AnyDType) -> None:
        """Make the value with this name and dtype in a graph."""
        self.graph, self.name, self.dtype = graph, name, dtype
        self._shape: Callable[[], tuple[int, ...]] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example, which is known for the input of every stage."""
        if self._shape is None:
            raise BadInput(
                f"the shape of {self.name} is not known: only the input of a stage has one, so "
                "read it there."
            )
        shape = self._shape()
        self._shape = lambda: shape
        return shape

    def shaped(self, shape: Callable[[], tuple[int, ...]]) -> Value:
        """Set the shape of one example, a function that is called when a stage reads it."""
        self._shape = shape
        return self

    def op(
        self,
        operator: str,
        *others: Value | ArrayLike | None,
        dtype: DTypeLike | None = None,
        outputs: int = 1,
        output: int = 0,
        **attributes: Attribute,
    ) -> Value:
        """Apply an operator of ONNX, opset 17, to this value and `others`.

        Args:
            operator: The name of the operator, e.g. "Gemm".
            *others: Its other inputs: values, or numbers and arrays, which become constants; None
                leaves an input out.
            dtype: The dtype of the result; by default that of this value.
            outputs: Number of outputs of the operator.
            output: The number of the output to return.
            **attributes: The attributes of the node, e.g. transB=1.
        """
        if operator in self.graph.in_float32 and self.dtype == np.float64:
            others = tuple(
                x.cast(np.float32) if isinstance(x, Value) and x.dtype == np.float64 else x
                for x in others
            )
            single = self.cast(np.float32)
            result = single.op(
                operator, *others, dtype=dtype, outputs=outputs, output=output, **attributes
            )
            return result.cast(np.float64)
        inputs = [self.name, *(self._named(other) for other in others)]
        names = self.graph.add(operator, inputs, attributes, outputs=outputs)
        return Value(self.graph, names[output], self.dtype if dtype is None else np.dtype(dtype))

    def cast(self, dtype: DTypeLike) -> Value:
        """Return the same entries in another dtype."""
        target: AnyDType = np.dtype(dtype)
        return self if target == self.dtype else self.op("Cast", dtype=target, to=_code(target))

    def constant(self, array: ArrayLike, dtype: DTypeLike | None = None) -> Value:
        """Add a constant to the same graph."""
        name = self.graph.constant(array, dtype)
        return Value(self.graph, name, self.graph.constants[name].dtype)

    def _named(self, other: Value | ArrayLike | None) -> str:
        if other is None:
            return ""
        if isinstance(other, Value):
            return other.name
        array = np.asarray(other)
        return self.graph.constant(array, self._float() if array.dtype.kind == "f" else None)

    @property
    def numerics(self) -> Numerics:
        """The arithmetic whose functions add nodes to the graph."""
        return WRITTEN

    def view(self) -> Value:
        """Return the value itself, which cannot be changed."""
        return self

    # NumPy calls these for its operators and functions.

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: object, out: object = None, **options: object
    ) -> Value:
        if method != "__call__" or options or ufunc not in _UFUNCS:
            _refuse(f"np.{ufunc.__name__}")
        # An operator such as += passes this value as `out`. It is ignored: Python binds the
        # variable on the left to the result.
        operator = _UFUNCS[ufunc]
        operands = [self._operand(each, ufunc) for each in inputs]
        if callable(operator):
            return cast(Value, operator(*operands))
        first, *others = operands
        return first.op(operator, *others, dtype=bool if ufunc in _TRUTHS else None)

    def __array_function__(
        self, function: Callable[..., object], types: object, args: Any, options: Any
    ) -> Value:
        if function not in _FUNCTIONS:
            _refuse(f"np.{function.__name__}")
        try:
            return cast(Value, _FUNCTIONS[function](self, *args, **options))
        except TypeError as error:
            raise BadInput(
                f"np.{function.__name__} cannot be written as operators of ONNX ({error}): write "
                "it in another way in the field onnx of the stage."
            ) from error

    def __array__(self, *options: object, **named: object) -> NoReturn:
        _refuse("what needs the numbers themselves")

    def __bool__(self) -> NoReturn:
        _refuse("a decision that depends on numbers")

    def _operand(self, operand: object, ufunc: np.ufunc) -> Value:
        if not isinstance(operand, Value):
            truth = isinstance(operand, bool | np.bool_)
            operand = self.constant(np.asarray(operand, None if truth else self._float()))
        if operand.dtype == bool and ufunc not in _LOGICAL:
            return operand.cast(self._float())
        return operand

    def _float(self) -> AnyDType:
        """Return the dtype of floats combined with this value: its own, or that of the graph."""
        return self.dtype if self.dtype.kind == "f" else self.graph.dtype


def _refuse(what: str) -> NoReturn:
    raise BadInput(
        f"{what} cannot be written as operators of ONNX: write it in another way in the field onnx "
        "of the stage."
    )


def _code(dtype: AnyDType) -> int:
    """Return the number of a dtype in ONNX."""
    return DTYPE_CODES[dtype.name]


DTYPE_CODES = {
    "float32": 1, "uint8": 2, "int32": 6, "int64": 7, "object": 8, "bool": 9, "float64": 11,
}  # fmt: skip


def _copysign(size: Value, sign: Value) -> Value:
    return cast(Value, np.abs(size) * np.where(cast(Any, sign < 0), -1.0, 1.0))


def _power(base: Value, exponent: Value) -> Value:
    return base.op("Pow", exponent)


_TRUTHS: dict[np.ufunc, str] = {
    np.less: "Less",
    np.greater: "Greater",
    np.less_equal: "LessOrEqual",
    np.greater_equal: "GreaterOrEqual",
    np.equal: "Equal",
}
_LOGICAL: dict[np.ufunc, str] = {
    np.logical_and: "And",
    np.logical_or: "Or",
    np.logical_not: "Not",
    np.bitwise_and: "And",
    np.bitwise_or: "Or",
    np.invert: "Not",
}
_Written: TypeAlias = "str | Callable[..., object]"
# Only operators that onnxruntime computes in float64 too.
_UFUNCS: dict[np.ufunc, _Written] = {
    **_TRUTHS,
    **_LOGICAL,
    np.not_equal: lambda a, b: a.op("Equal", b, dtype=bool).op("Not"),
    np.add: "Add",
    np.subtract: "Sub",
    np.multiply: "Mul",
    np.divide: "Div",
    np.negative: "Neg",
    np.positive: lambda x: x,
    np.absolute: "Abs",
    np.fabs: "Abs",
    np.sign: "Sign",
    np.floor: "Floor",
    np.ceil: "Ceil",
    np.maximum: "Max",
    np.minimum: "Min",
    np.exp: "Exp",
    np.expm1: lambda x: x.op("Exp") - 1.0,
    np.log: "Log",
    np.log1p: lambda x: (1.0 + x).op("Log"),
    np.sqrt: "Sqrt",
    np.square: lambda x: x * x,
    np.reciprocal: "Reciprocal",
    np.power: _power,
    np.float_power: _power,
    np.cbrt: lambda x: _copysign(_power(np.abs(x), x.constant(1 / 3)), x),
    np.tanh: "Tanh",
    np.sin: "Sin",
    np.cos: "Cos",
    np.copysign: _copysign,
}


def _where(value: Value, condition: object, chosen: object, otherwise: object) -> Value:
    floats = [v for v in (chosen, otherwise) if isinstance(v, Value) and v.dtype.kind == "f"]
    value = floats[0] if floats else value
    names = [each if isinstance(each, Value) else value.constant(np.asarray(each, value._float()))
             for each in (chosen, otherwise)]  # fmt: skip
    truth = condition if isinstance(condition, Value) else value.constant(np.asarray(condition))
    return truth.op("Where", *names, dtype=value._float())


def _clip(value: Value, x: Value, low: Any = None, high: Any = None) -> Value:
    x = x if low is None else cast(Value, np.maximum(cast(Any, x), low))
    return x if high is None else cast(Value, np.minimum(cast(Any, x), high))


_FUNCTIONS: dict[Callable[..., object], Callable[..., object]] = {
    np.where: _where,
    np.clip: _clip,
    # One number is enough, since operators of ONNX broadcast like NumPy's.
    np.full_like: lambda value, like, number: value.constant(np.asarray(number, value._float())),
    np.zeros_like: lambda value, like: value.constant(np.asarray(0, value._float())),
    np.ones_like: lambda value, like: value.constant(np.asarray(1, value._float())),
}


def _erf(Z: Any) -> Any:
    # onnxruntime has this operator for float32 only.
    return Z.op("Erf") if Z.dtype == np.float32 else error_function(Z)


def _unwritten(*args: object, **options: object) -> NoReturn:
    _refuse("a product, sum or norm of arrays")


WRITTEN = Numerics(
    name="written",
    matmul=_unwritten,
    summed_matmul=_unwritten,
    sum=_unwritten,
    convolution=Convolution(_unwritten, _unwritten, _unwritten),
    mean=_unwritten,
    norm=_unwritten,
    exp=np.exp,
    expm1=np.expm1,
    log=np.log,
    log1p=np.log1p,
    tanh=np.tanh,
    logistic=lambda Z: cast(Any, Z).op("Sigmoid"),
    gates=_unwritten,
    sum_groups=_unwritten,
    erf=_erf,
    positive_part=lambda Z: cast(Any, Z).op("Relu"),
    power=math.pow,
    cosine=math.cos,
    orthonormal_basis=_unwritten,
)
