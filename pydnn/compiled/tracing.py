"""From a function of NumPy arrays to the text of one loop over their numbers.

The function is called once with symbols instead of arrays. Each operation adds a line with the same
operation on numbers, so the loop has the operations of the function, in its order, and gives the
same bits. An operation that is not listed here makes the function untraceable, and NumPy executes
it as before. So does one of which NumPy gives other bits on this processor; see `same_as_numpy`.

Functions such as exp, whose bits only NumPy's own loop has, can be called between two loops: the
first one stores the argument, the loop of NumPy fills a vector, and the second one reads it.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from pydnn.records import AnyArray, AnyDType

__all__ = ["Call", "Program", "Symbol", "Untraceable", "needed_for", "same_as_numpy"]


class Untraceable(Exception):  # noqa: N818
    """A function does something that has no compiled form."""


@attrs.frozen
class Call:
    """A call of a function of NumPy for all numbers at once, between two loops.

    Attributes:
        function: The name of the function.
        argument: The text of its argument, as the loop before it computes it.
        result: The variable that holds its result in the loop after it.
        before: How many of the program's lines come before it.
    """

    function: str
    argument: str
    result: str
    before: int


class Program:
    """The lines of a loop over numbers of one dtype, while a function is traced.

    Attributes:
        dtype: The dtype of all numbers.
        called: The functions of NumPy that can be called between two loops, by their names.
        lines: The assignments of one round, in order.
        calls: The calls of such functions, in order.
        constants: The numbers that the function brings itself, e.g. the slope of a leaky relu.
            They are arguments of the loop, so that functions that differ only in them share it.
    """

    def __init__(  # noqa: D107
        self, dtype: AnyDType, called: Mapping[Any, str] | None = None
    ) -> None:
        self.dtype = dtype
        self.called = called or {}
        self.lines: list[str] = []
        self.calls: list[Call] = []
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

    def number_of(self, operand: object) -> str:
        """Return the text of an operand, where NumPy would convert a truth value to a number."""
        text, is_boolean = self.text_of(operand)
        if not is_boolean:
            return text
        return str(self.assigned(f"{self.type}(1.0) if {text} else {self.type}(0.0)").name)

    def apply(self, function: Callable[..., Any], operands: Sequence[object]) -> Symbol:
        """Add the line of an operation of NumPy, and return the symbol of its result."""
        if function in self.called:
            return self._call(self.called[function], *operands)
        if function not in _OPERATIONS:
            raise Untraceable(f"np.{function.__name__}")
        if not same_as_numpy(function, self.dtype):
            raise Untraceable(f"np.{function.__name__}, which has other bits on this processor")
        expression, takes_booleans, boolean = _OPERATIONS[function]
        if function is np.clip and any(
            isinstance(limit, Symbol) and not limit.single for limit in operands[1:]
        ):
            raise Untraceable("np.clip with vectors as limits, which treats zeros in another way")
        if takes_booleans:
            texts, are_booleans = zip(*map(self.text_of, operands), strict=True)
            if not all(are_booleans):
                raise Untraceable(f"np.{function.__name__} of numbers")
        else:
            # Of truth values alone, NumPy's results have other dtypes, as their sum is one itself.
            if not any(isinstance(each, Symbol) and not each.boolean for each in operands):
                raise Untraceable(f"np.{function.__name__} of truth values")
            texts = tuple(map(self.number_of, operands))
        return self.assigned(expression(self.type, *texts), boolean=boolean)

    def _call(self, function: str, operand: object) -> Symbol:
        if not isinstance(operand, Symbol) or operand.boolean:
            raise Untraceable(f"np.{function} of something else than numbers")
        argument, before = self.text_of(operand)[0], len(self.lines)
        result = self.assigned(f"e{len(self.calls) + 1}[i]")
        self.calls.append(Call(function, argument, str(result.name), before))
        return result

    def chosen(self, condition: object, a: object, b: object) -> Symbol:
        """Add the line of `np.where`."""
        (test, is_boolean), (first, one), (second, other) = map(self.text_of, (condition, a, b))
        # Of two Python numbers, `np.where` makes an array of int64 or float64.
        if not is_boolean or one or other or not (isinstance(a, Symbol) or isinstance(b, Symbol)):
            raise Untraceable("np.where of such operands")
        return self.assigned(f"{first} if {test} else {second}")


class Symbol(NDArrayOperatorsMixin):
    """Stands for an array while a function is traced.

    Attributes:
        name: The variable that holds its number; None for memory that is still empty.
        boolean: Whether it holds truth values, as the result of a comparison does.
        writable: Whether the function may fill it.
        single: Whether it stands for one number.
    """

    # Neither its size nor its shape: a function that asks for them is untraceable.

    def __init__(  # noqa: D107
        self,
        program: Program,
        name: str | None,
        *,
        boolean: bool = False,
        writable: bool = True,
        single: bool = False,
    ) -> None:
        self.program = program
        self.name = name
        self.boolean = boolean
        self.writable = writable
        self.single = single

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
        if function is np.full_like and len(args) == 2 and not options:
            return self.program.assigned(self.program.number_of(args[1]))
        if function is np.where and len(args) == 3:
            return self.program.chosen(*args)
        if function is np.clip and len(args) in (3, 4) and not options:
            clipped = self.program.apply(np.clip, args[:3])
            return args[3].fill(clipped) if len(args) == 4 else clipped
        if function is np.copyto and len(args) == 2 and set(options) <= {"where"}:
            place, value = args
            if options:
                value = self.program.chosen(options["where"], value, place)
            place.fill(self.program.assigned(self.program.number_of(value)))
            return None
        raise Untraceable(f"np.{function.__name__}")

    def __bool__(self) -> bool:
        raise Untraceable("a branch that depends on the numbers")

    def __getattr__(self, name: str) -> Any:
        raise Untraceable(f"the attribute {name} of an array")

    __hash__ = None  # type: ignore[assignment]


def needed_for(expressions: Iterable[str], lines: Sequence[str]) -> list[str]:
    """Return those of some assignments that compute what expressions depend on, in order."""
    names, kept = set(_NAME.findall(" ".join(expressions))), []
    for line in reversed(lines):
        name, _, expression = line.partition(" = ")
        if name in names:
            names |= set(_NAME.findall(expression))
            kept.append(line)
    return kept[::-1]


_NAME = re.compile(r"[A-Za-z_]\w*")
_IN_TEXT = (0.0, 0.5, 1.0, 2.0, -1.0)

_Expression = Callable[..., str]


def _infix(operator: str) -> _Expression:
    return lambda type, x, y: f"{x} {operator} {y}"


# Of two equal numbers, as -0.0 and 0.0, these give the second one. So do NumPy's on x86, but not on
# all processors.
def _extreme(sign: str) -> _Expression:
    return lambda type, x, y: f"{x} if {x} {sign} {y} or {x} != {x} else {y}"


def _sign(type: str, x: str) -> str:
    zero = f"{type}(0.0)"
    otherwise = f"({type}(-1.0) if {x} < {zero} else ({zero} if {x} == {zero} else {x}))"
    return f"{type}(1.0) if {x} > {zero} else {otherwise}"


def _clip(type: str, x: str, low: str, high: str) -> str:
    raised = f"({low} if {x} < {low} or {low} != {low} else {x})"
    return f"{high} if {raised} > {high} or {high} != {high} else {raised}"


# function: (expression, whether it takes truth values, whether it gives them)
_OPERATIONS: dict[Callable[..., Any], tuple[_Expression, bool, bool]] = {
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
    np.copysign: (lambda type, x, y: f"copysign({x}, {y})", False, False),
    np.maximum: (_extreme(">"), False, False),
    np.minimum: (_extreme("<"), False, False),
    np.clip: (_clip, False, False),
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


@functools.cache
def same_as_numpy(function: Callable[..., Any], dtype: AnyDType) -> bool:
    """Return whether an operation of NumPy gives the bits that its text says, on this processor.

    IEEE 754 leaves open which zero is the maximum of -0.0 and 0.0, and some processors take
    subnormal numbers for 0 in vectors. So the text is computed by Python for all combinations of
    special numbers, and compared with NumPy's results for arrays in several forms. NaN may have
    any bits. This takes a millisecond, once in a process.

    Args:
        function: The operation, one of those with a compiled form.
        dtype: The dtype of its operands.
    """
    expression, takes_booleans, _ = _OPERATIONS[function]
    if takes_booleans:
        return True
    names = ["x", "y", "z"][: getattr(function, "nin", 3)]
    known: dict[str, Any] = {dtype.name: dtype.type, "abs": np.abs, "sqrt": np.sqrt}
    known["copysign"] = np.copysign
    of_numbers = eval(f"lambda {', '.join(names)}: {expression(dtype.name, *names)}", known)
    limits: Any = np.finfo(dtype.name)
    few = [0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.0]
    specials = np.array(
        few if len(names) > 2 else [*few, 1.1, limits.smallest_subnormal, -limits.tiny], dtype
    )
    table = np.array(list(itertools.product(specials, repeat=len(names))))
    grid = table.T.copy()
    with np.errstate(all="ignore"):
        expected = np.array([of_numbers(*row) for row in table])
        made = []
        if function is not np.clip:
            made += [function(*grid), function(*np.repeat(grid, 2, axis=1)[:, ::2])]
        if len(names) > 1:  # numbers as the last operands
            others = itertools.product(specials, repeat=len(names) - 1)
            made.append(np.array([function(specials, *other) for other in others]).T.ravel())
    return all(_without_nan(result) == _without_nan(expected) for result in made)


def _without_nan(numbers: AnyArray) -> tuple[AnyDType, bytes]:
    """Return the dtype and the bits, which are equal for all NaN."""
    return numbers.dtype, np.where(np.isnan(numbers), np.nan, numbers).astype(
        numbers.dtype
    ).tobytes()
