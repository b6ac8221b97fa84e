"""From a function of NumPy arrays to the text of one loop over their numbers.

The function is called once with symbols instead of arrays. Each operation adds a line with the same
operation on numbers, so the loop has the operations of the function, in its order, and gives the
same bits. An operation that is not listed here makes the function untraceable, and NumPy executes
it as before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from pydnn.records import AnyDType

__all__ = ["Program", "Symbol", "Untraceable"]


class Untraceable(Exception):  # noqa: N818
    """A function does something that has no compiled form."""


class Program:
    """The lines of a loop over numbers of one dtype, while a function is traced.

    Attributes:
        dtype: The dtype of all numbers.
        lines: The assignments of one round, in order.
        constants: The numbers that the function brings itself, e.g. the slope of a leaky relu.
            They are arguments of the loop, so that functions that differ only in them share it.
    """

    def __init__(self, dtype: AnyDType) -> None:  # noqa: D107
        self.dtype = dtype
        self.lines: list[str] = []
        self.constants: list[float] = []
        self._names = (f"t{number}" for number in itertools.count())

    @property
    def type(self) -> str:
        """The name of the dtype, by which a loop converts its numbers."""
        return self.dtype.name

    def assigned(self, expression: str, *, boolean: bool = False) -> Symbol:
        """Add a line, and return the symbol of its value."""
        name = next(self._names)
        self.lines.append(f"{name} = {expression}")
        return Symbol(self, name, boolean=boolean)

    def text_of(self, operand: object) -> tuple[str, bool]:
        """Return the text of an operand, and whether it is a boolean."""
        if isinstance(operand, Symbol):
            if operand.name is None:
                raise Untraceable("memory is read before it is filled")
            return operand.name, operand.boolean
        if isinstance(operand, bool) or not isinstance(
            operand, int | float | np.generic | np.ndarray
        ):
            raise Untraceable(f"{type(operand).__name__} as an operand")
        if isinstance(operand, np.generic | np.ndarray) and not isinstance(operand, float):
            if operand.ndim or operand.dtype != self.dtype:
                raise Untraceable("an array, or a number of another dtype, as an operand")
        elif isinstance(operand, np.float64) and self.dtype != np.float64:
            raise Untraceable("a number of another dtype as an operand")
        with np.errstate(over="ignore"):
            number = float(self.dtype.type(operand))
        if number in _IN_TEXT and not (number == 0 and math.copysign(1, number) < 0):
            return f"{self.type}({number!r})", False
        self.constants.append(number)
        return f"c{len(self.constants) - 1}", False

    def apply(self, ufunc: np.ufunc, operands: Sequence[object]) -> Symbol:
        """Add the line of an operation of NumPy, and return the symbol of its result."""
        if ufunc not in _OPERATIONS:
            raise Untraceable(f"np.{ufunc.__name__}")
        expression, takes_booleans, boolean = _OPERATIONS[ufunc]
        texts = []
        for operand in operands:
            text, is_boolean = self.text_of(operand)
            if is_boolean and not takes_booleans:  # NumPy converts it, too
                text = self.assigned(f"{self.type}(1.0) if {text} else {self.type}(0.0)").name or ""
            elif takes_booleans and not is_boolean:
                raise Untraceable(f"np.{ufunc.__name__} of numbers")
            texts.append(text)
        return self.assigned(expression(self.type, *texts), boolean=boolean)

    def chosen(self, condition: object, a: object, b: object) -> Symbol:
        """Add the line of `np.where`."""
        (test, is_boolean), (first, one), (second, other) = map(self.text_of, (condition, a, b))
        if not is_boolean or one or other:
            raise Untraceable("np.where of such operands")
        return self.assigned(f"{first} if {test} else {second}")

    def clipped(self, a: object, low: object, high: object) -> Symbol:
        """Add the line of `np.clip` with two numbers as its limits."""
        (x, _), (least, _), (most, _) = map(self.text_of, (a, low, high))
        return self.assigned(f"{least} if {x} < {least} else ({most} if {x} > {most} else {x})")


class Symbol(NDArrayOperatorsMixin):
    """Stands for an array while a function is traced.

    Attributes:
        name: The variable that holds its number; None for memory that is still empty.
        boolean: Whether it holds truth values, as the result of a comparison does.
        writable: Whether the function may fill it.
    """

    # Neither its size nor its shape: a function that asks for them is untraceable.

    def __init__(  # noqa: D107
        self, program: Program, name: str | None, *, boolean: bool = False, writable: bool = True
    ) -> None:
        self.program = program
        self.name = name
        self.boolean = boolean
        self.writable = writable

    @property
    def dtype(self) -> AnyDType:
        """The dtype of the array that it stands for."""
        return self.program.dtype

    def fill(self, value: Symbol) -> Symbol:
        """Make this the place of a value."""
        if not self.writable or value.boolean != self.boolean:
            raise Untraceable("an argument is overwritten, or filled with truth values")
        self.name = value.name
        return self

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: object, out: Any = None, **options: object
    ) -> Symbol:
        if method != "__call__" or options:
            raise Untraceable(f"np.{ufunc.__name__}.{method} with {', '.join(options)}")
        result = self.program.apply(ufunc, inputs)
        if out is None:
            return result
        (place,) = out
        if not isinstance(place, Symbol):
            raise Untraceable("a result in an array of the function's own")
        return place.fill(result)

    def __array_function__(
        self, function: Any, types: Any, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Symbol | None:
        if function is np.empty_like and len(args) == 1 and not options:
            return Symbol(self.program, None)
        if function is np.where and len(args) == 3:
            return self.program.chosen(*args)
        if function is np.clip and len(args) in (3, 4) and not options:
            clipped = self.program.clipped(*args[:3])
            return args[3].fill(clipped) if len(args) == 4 else clipped
        if function is np.copyto and len(args) == 2 and set(options) <= {"where"}:
            place, value = args
            if options:
                value = self.program.chosen(options["where"], value, place)
            place.fill(self.program.assigned(self.program.text_of(value)[0]))
            return None
        raise Untraceable(f"np.{function.__name__}")

    def __bool__(self) -> bool:
        raise Untraceable("a branch that depends on the numbers")

    def __getattr__(self, name: str) -> Any:
        raise Untraceable(f"the attribute {name} of an array")

    __hash__ = None  # type: ignore[assignment]


_IN_TEXT = (0.0, 0.5, 1.0, 2.0, -1.0)

_Expression = Callable[..., str]


def _infix(operator: str) -> _Expression:
    return lambda type, x, y: f"{x} {operator} {y}"


# Of two equal numbers, as -0.0 and 0.0, these give the second one. NumPy's do so where processors
# have vectors of x86; `Program` of another processor is never asked, see `same_as_numpy`.
def _extreme(sign: str) -> _Expression:
    return lambda type, x, y: f"{x} if {x} {sign} {y} or {x} != {x} else {y}"


def _sign(type: str, x: str) -> str:
    zero = f"{type}(0.0)"
    otherwise = f"({type}(-1.0) if {x} < {zero} else ({zero} if {x} == {zero} else {x}))"
    return f"{type}(1.0) if {x} > {zero} else {otherwise}"


# ufunc: (expression, whether it takes truth values, whether it gives them)
_OPERATIONS: dict[np.ufunc, tuple[_Expression, bool, bool]] = {
    np.add: (_infix("+"), False, False),
    np.subtract: (_infix("-"), False, False),
    np.multiply: (_infix("*"), False, False),
    np.divide: (_infix("/"), False, False),
    np.negative: (lambda type, x: f"-{x}", False, False),
    np.absolute: (lambda type, x: f"abs({x})", False, False),
    np.sqrt: (lambda type, x: f"sqrt({x})", False, False),
    np.square: (lambda type, x: f"{x} * {x}", False, False),
    np.reciprocal: (lambda type, x: f"{type}(1.0) / {x}", False, False),
    np.sign: (_sign, False, False),
    np.maximum: (_extreme(">"), False, False),
    np.minimum: (_extreme("<"), False, False),
    np.greater: (_infix(">"), False, True),
    np.greater_equal: (_infix(">="), False, True),
    np.less: (_infix("<"), False, True),
    np.less_equal: (_infix("<="), False, True),
    np.equal: (_infix("=="), False, True),
    np.not_equal: (_infix("!="), False, True),
    np.isnan: (lambda type, x: f"{x} != {x}", False, True),
    np.logical_and: (_infix("and"), True, True),
    np.logical_or: (_infix("or"), True, True),
    np.logical_not: (lambda type, x: f"not {x}", True, True),
}
