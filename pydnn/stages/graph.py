"""A network written down as a graph of ONNX operators, for other programs to run.

A stage says with its field `onnx` how it computes outside of training. That function gets a `Value`
instead of an array: NumPy's operators and functions on it write nodes, and `Value.op` writes any
operator of ONNX. The file format is not known here, see `pydnn.interop.onnx`.

In a graph the examples lie along the first axis, as other programs want it: what is (n, m) in pydnn
is (m, n) here, and in general the last axis comes first.
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
from pydnn.records import AnyArray, AnyDType

__all__ = ["DTYPE_CODES", "Attribute", "Graph", "Node", "Value"]

Attribute: TypeAlias = "int | float | str | tuple[int, ...] | tuple[str, ...]"  # of a node


@attrs.frozen
class Node:
    """One operator at work: `outputs` are the names of what it makes of its `inputs`."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


class Graph:
    """Inputs, constants and nodes, in the order in which they are written.

    Args:
        dtype: Of all floating-point numbers in it.
        known: Arrays whose names are known, e.g. the parameters "0/W" and "0/b".

    Attributes:
        inputs: The dtype and the shape of one example of each input, by name. They come first,
            before any node.
        outputs: The same of each output.
        constants: Arrays by name.
        nodes: The nodes.
    """

    def __init__(self, dtype: DTypeLike, known: Mapping[str, AnyArray] = {}) -> None:
        """An empty graph."""
        self.dtype: AnyDType = np.dtype(dtype)
        self.inputs: dict[str, tuple[AnyDType, tuple[int, ...]]] = {}
        self.outputs: dict[str, tuple[AnyDType, tuple[int, ...]]] = {}
        self.constants: dict[str, AnyArray] = {}
        self.nodes: list[Node] = []
        self._known = {_place(array): name for name, array in known.items()}
        self._names: dict[object, str] = {}

    def input(self, name: str, shape: tuple[int, ...], dtype: DTypeLike | None = None) -> Value:
        """A new input of examples of this shape; text is of the dtype `object`."""
        chosen: AnyDType = self.dtype if dtype is None else np.dtype(dtype)
        self.inputs[name] = chosen, shape
        return Value(self, name, chosen)

    def output(self, name: str, value: Value, shape: tuple[int, ...]) -> None:
        """Let the graph give a value out under this name, with examples of this shape."""
        name = self._free(name)
        self.outputs[name] = value.dtype, shape
        self.nodes.append(Node("Identity", (value.name,), (name,), {}))

    def _free(self, name: str) -> str:
        """The name, with as many underscores as keep it from being that of an input.

        Inputs are columns of a table and may have any name; all other names keep apart as they are.
        """
        while name in self.inputs or name in self.constants:
            name += "_"
        return name

    def constant(self, array: ArrayLike, dtype: DTypeLike | None = None) -> str:
        """The name of a constant, which equal constants share.

        Args:
            array: Numbers, truth values or texts; floats are converted to the graph's dtype. A view
                of all numbers of an array whose name is known gets that name.
            dtype: Another dtype.
        """
        given = np.asarray(array)
        if dtype is None and given.dtype.kind == "f":
            dtype = self.dtype
        name = self._known.get(_place(given))
        values = given.astype(given.dtype if dtype is None else dtype)
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
        """Write a node; the names of what it makes."""
        number = len(self.nodes)
        names = [self._free(f"{operator}_{number}")]
        names += [self._free(f"{operator}_{number}_{output}") for output in range(1, outputs)]
        self.nodes.append(Node(operator, tuple(inputs), tuple(names), dict(attributes)))
        return tuple(names)


def _place(array: AnyArray) -> tuple[int, int, int]:
    """Where an array lies in memory, by which a view of it is recognized."""
    return array.__array_interface__["data"][0], array.size, array.itemsize


class Value(NDArrayOperatorsMixin):
    """What stands for an array of a graph, examples along its first axis.

    Operators, and the functions of NumPy that ONNX has too, write nodes:

        np.where(Z > 0, Z, 0.01 * Z)

    Attributes:
        graph: The graph that it belongs to.
        name: Its name in the graph.
        dtype: Of its entries: floats, truth values, integers, or `object` for texts.
    """

    def __init__(self, graph: Graph, name: str, dtype: AnyDType) -> None:
        """What has this name and dtype in a graph."""
        self.graph, self.name, self.dtype = graph, name, dtype

    def op(
        self,
        operator: str,
        *others: Value | ArrayLike | None,
        dtype: DTypeLike | None = None,
        outputs: int = 1,
        output: int = 0,
        **attributes: Attribute,
    ) -> Value:
        """What an operator of ONNX, opset 17, makes of this value and `others`.

        Args:
            operator: Its name, e.g. "Gemm".
            others: Its other inputs: values, or numbers and arrays, which become constants; None
                for one that is left out.
            dtype: Of the result; by default that of this value.
            outputs: How many outputs the operator has to make.
            output: The number of the one that is wanted.
            attributes: Of the node, e.g. transB=1.
        """
        names = [self.name, *(self._named(other) for other in others)]
        made = self.graph.add(operator, names, attributes, outputs=outputs)
        return Value(self.graph, made[output], self.dtype if dtype is None else np.dtype(dtype))

    def cast(self, dtype: DTypeLike) -> Value:
        """The same entries in another dtype, that of the graph for floats."""
        wanted: AnyDType = np.dtype(dtype)
        return self if wanted == self.dtype else self.op("Cast", dtype=wanted, to=_code(wanted))

    def constant(self, array: ArrayLike, dtype: DTypeLike | None = None) -> Value:
        """A constant in the same graph."""
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
        """The arithmetic in which functions of arrays write themselves down."""
        return WRITTEN

    def view(self) -> Value:
        """Itself: nothing that is written down can be changed."""
        return self

    # NumPy calls these for its operators and functions.

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: object, out: object = None, **options: object
    ) -> Value:
        if method != "__call__" or options or ufunc not in _UFUNCS:
            _refuse(f"np.{ufunc.__name__}")
        # An operator such as += has this value as `out`; the name on its left is bound anew.
        written = _UFUNCS[ufunc]
        operands = [self._operand(each, ufunc) for each in inputs]
        if callable(written):
            return cast(Value, written(*operands))
        first, *others = operands
        return first.op(written, *others, dtype=bool if ufunc in _TRUTHS else None)

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
        """The dtype of floats beside this value: its own, or that of the graph."""
        return self.dtype if self.dtype.kind == "f" else self.graph.dtype


def _refuse(what: str) -> NoReturn:
    raise BadInput(
        f"{what} cannot be written as operators of ONNX: write it in another way in the field onnx "
        "of the stage."
    )


def _code(dtype: AnyDType) -> int:
    """The number that ONNX has for a dtype."""
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
# Those alone that onnxruntime computes in float64 too.
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
    # Of a single number, since operators of ONNX broadcast as NumPy's do.
    np.full_like: lambda value, like, number: value.constant(np.asarray(number, value._float())),
    np.zeros_like: lambda value, like: value.constant(np.asarray(0, value._float())),
    np.ones_like: lambda value, like: value.constant(np.asarray(1, value._float())),
}


def _erf(Z: Any) -> Any:
    # onnxruntime has the operator for float32 alone.
    return Z.op("Erf") if Z.dtype == np.float32 else error_function(Z)


def _unwritten(*args: object, **options: object) -> NoReturn:
    _refuse("a product, sum or norm of arrays")


WRITTEN = Numerics(
    name="written",
    matmul=_unwritten,
    sum=_unwritten,
    mean=_unwritten,
    norm=_unwritten,
    exp=np.exp,
    expm1=np.expm1,
    log=np.log,
    log1p=np.log1p,
    tanh=np.tanh,
    logistic=lambda Z: cast(Any, Z).op("Sigmoid"),
    erf=_erf,
    positive_part=lambda Z: cast(Any, Z).op("Relu"),
    power=math.pow,
    cosine=math.cos,
    orthonormal_basis=_unwritten,
)
