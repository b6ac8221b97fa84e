"""NumPy's own loops over numbers, called from kernels: exp, tanh, sums, products of matrices.

A ufunc holds one loop in C for each dtype, which is what it calls in the end. A kernel that calls
the same loop with the same arguments gets the same bits, whatever the loop does. So nothing here
knows how NumPy adds or which polynomial it evaluates.

`loop_of` finds a loop and compares it with the ufunc once in each process. Kernels get the loop as
an argument, since its address differs between processes:

    loop = loop_of(np.exp, dtype)          # in Python; None leaves the work to NumPy
    apply(loop, x, 0, y, 0, x.size)        # in a kernel: y = np.exp(x)

Arrays of kernels are passed with the place of the first number, so parts need no views. All parts
are contiguous, and their places and sizes are not checked.

On one core of a processor with AVX-512, exp of 16 numbers in float32 takes 13 ns in a kernel, and
250 ns from Python; tanh takes 18 and 260 ns. A sum of 16 numbers takes 7 and 860 ns.

Loops set flags of the processor, e.g. for overflow. No call of NumPy sees those of an earlier one,
since it clears them before it begins. So a kernel disturbs nobody, and it raises nothing inside
`np.errstate(over="raise")`. Its caller has to notice numbers that are not finite, and leave them to
NumPy, which says what it has to say about them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof
from numba.core import cgutils, types
from numba.extending import intrinsic

from pydnn.compiled.kernels import kernel, once_compiled
from pydnn.compiled.memory import clear
from pydnn.engines import give_up
from pydnn.records import AnyDType, FloatArray

__all__ = [
    "Loop",
    "apply",
    "apply_to_pairs",
    "call",
    "loop_of",
    "reduce",
    "sum_of",
    "sum_of_columns",
    "uncompared_loop",
]

Loop = tuple[int, int]  # the address of a function in C, and that of what it gets as its data


class _Head(ctypes.Structure):
    """The public fields of a ufunc, in numpy/ufuncobject.h, after those of every object."""

    _fields_ = [
        ("nin", ctypes.c_int),
        ("nout", ctypes.c_int),
        ("nargs", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("ntypes", ctypes.c_int),
    ]


@once_compiled
def loop_of(ufunc: np.ufunc, dtype: AnyDType) -> Loop | None:
    """Return the loop of a ufunc for kernels; None if there is none with the bits of the ufunc.

    Args:
        ufunc: A function of one number such as `np.exp`, or of two such as `np.add`.
        dtype: The dtype of all of its numbers, float32 or float64.

    Example:
        >>> loop_of(np.exp, np.dtype("i8")) is None
        True
    """
    loop = uncompared_loop(ufunc, dtype)
    compare = _unary_is_equal if ufunc.nin == 1 else _binary_is_equal
    try:
        with np.errstate(all="ignore"):
            return loop if loop is not None and compare(ufunc, loop, dtype) else None
    except Exception as error:  # numba may raise anything
        give_up(error)
        return None


def uncompared_loop(ufunc: np.ufunc, dtype: AnyDType) -> Loop | None:
    """Return the first loop of a ufunc for a dtype; None if there is none, or it cannot be read.

    Args:
        ufunc: The ufunc.
        dtype: The dtype of all of its operands, float32 or float64.
    """
    kinds = f"{dtype.char * ufunc.nin}->{dtype.char * ufunc.nout}"
    if dtype.char not in "fd" or not dtype.isnative or kinds not in ufunc.types:
        return None
    head = _Head.from_address(id(ufunc) + object.__basicsize__)
    if (head.nin, head.nout, head.ntypes) != (ufunc.nin, ufunc.nout, len(ufunc.types)):
        return None  # this NumPy has other fields
    place = ufunc.types.index(kinds)
    function, data = head.functions[place], head.data[place] if head.data else None
    return (function, data or 0) if function else None


def _numbers(dtype: AnyDType) -> FloatArray:
    """Return numbers of all sizes, with extreme ones in between."""
    facts: Any = np.finfo(dtype)
    least = float(facts.smallest_subnormal)
    extremes = [0.0, -0.0, np.inf, -np.inf, np.nan, facts.max, -facts.max, facts.tiny, 1.0, -1.0]
    extremes += [least, -3 * least, 88.5, -104.0, 709.5, -745.0]
    random = np.random.default_rng(0)
    rest = random.normal(size=112) * 10.0 ** random.integers(-9, 4, 112)
    numbers = np.concatenate([extremes, extremes, rest, np.abs(rest)]).astype(dtype)
    return random.permutation(numbers)


def _unary_is_equal(ufunc: Callable[..., Any], loop: Loop, dtype: AnyDType) -> bool:
    numbers = _numbers(dtype)
    y = np.empty_like(numbers)
    for count in (*range(1, 71), numbers.size):
        x, out = numbers[:count], y[:count]
        _apply(loop, x, out)
        in_place = x.copy()
        _apply_in_place(loop, in_place)
        if not out.tobytes() == in_place.tobytes() == ufunc(x).tobytes():
            return False
    return True


def _binary_is_equal(ufunc: np.ufunc, loop: Loop, dtype: AnyDType) -> bool:
    numbers = _numbers(dtype)
    numbers = numbers[np.isfinite(numbers)]
    out = np.empty_like(numbers)
    for count in (*range(1, 71), numbers.size):
        x, y = numbers[:count], numbers[-count:]
        _apply_to_pairs(loop, x, y, out[:count])
        same = out[:count].tobytes() == ufunc(x, y).tobytes()
        # A sum begins with 0, and a maximum with the first number.
        begin = int(ufunc.identity is None)
        out[0] = y[0] if begin else ufunc.identity
        _reduce(loop, y[begin:], out)
        if not same or out[0].tobytes() != ufunc.reduce(y).tobytes():
            return False
    return True


@kernel
def _apply(loop: Loop, x: FloatArray, y: FloatArray) -> None:
    apply(loop, x, 0, y, 0, x.size)


@kernel
def _apply_in_place(loop: Loop, x: FloatArray) -> None:
    apply(loop, x, 0, x, 0, x.size)


@kernel
def _apply_to_pairs(loop: Loop, x: FloatArray, y: FloatArray, out: FloatArray) -> None:
    apply_to_pairs(loop, x, 0, y, 0, 1, out, 0, x.size)


@kernel
def _reduce(loop: Loop, x: FloatArray, total: FloatArray) -> None:
    reduce(loop, x, 0, x.size, total, 0)


def call(
    context: Any,
    builder: Any,
    loop: Any,
    operands: list[tuple[Any, Any, Any]],
    sizes: list[Any],
    steps: list[Any],
) -> None:
    """Write the call of a loop of NumPy, for an intrinsic.

    Args:
        context: That of the compiler.
        builder: What writes the code.
        loop: The loop, as a tuple of the kernel.
        operands: For each operand its type, the array, and the place of its first number.
        sizes: The sizes that the loop gets.
        steps: The distances that it gets, in numbers.
    """
    i64, byte = ir.IntType(64), ir.IntType(8).as_pointer()
    size = context.get_abi_sizeof(context.get_value_type(operands[0][0].dtype))

    def listed(kind: Any, values: list[Any]) -> Any:
        # In the first block of the kernel, or else a loop of calls would use up the stack.
        room = cgutils.alloca_once(builder, kind, size=len(values))
        for i, value in enumerate(values):
            builder.store(value, builder.gep(room, [i64(i)]))
        return room

    def pointer(kind: Any, array: Any, at: Any) -> Any:
        first = builder.gep(context.make_array(kind)(context, builder, array).data, [at])
        return builder.bitcast(first, byte)

    arguments = [
        listed(byte, [pointer(*operand) for operand in operands]),
        listed(i64, sizes),
        listed(i64, [builder.mul(step, i64(size)) for step in steps]),
        builder.inttoptr(builder.extract_value(loop, 1), byte),
    ]
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments]).as_pointer()
    builder.call(builder.inttoptr(builder.extract_value(loop, 0), kind), arguments)


_LOOP, _SIZE = typeof((0, 0)), types.int64
_ONE, _ZERO = ir.IntType(64)(1), ir.IntType(64)(0)


def _write_apply(context: Any, loop: Any, x: Any, at_x: Any, y: Any, at_y: Any, count: Any) -> Any:
    """Set a part of `y` to a function of a part of `x`, which may be the same part, in a kernel.

    Args:
        context: That of the compiler; callers leave it out.
        loop: That of a function of one number, see `loop_of`.
        x: An array in C order.
        at_x: The place of the first number of the part.
        y: An array in C order of the same dtype.
        at_y: As for `x`.
        count: The size of both parts.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loop, x, at_x, y, at_y, count = arguments
        operands = [(signature.args[1], x, at_x), (signature.args[3], y, at_y)]
        call(context, builder, loop, operands, [count], [_ONE, _ONE])
        return context.get_dummy_value()

    return types.void(_LOOP, x, _SIZE, y, _SIZE, _SIZE), generate


def _write_apply_to_pairs(
    context: Any,
    loop: Any,
    x: Any,
    at_x: Any,
    y: Any,
    at_y: Any,
    step_y: Any,
    out: Any,
    at_out: Any,
    count: Any,
) -> Any:
    """Set a part of `out` to a function of parts of `x` and `y`, in a kernel.

    Args:
        context: That of the compiler; callers leave it out.
        loop: That of a function of two numbers such as `np.maximum`, see `loop_of`.
        x: An array in C order; it may be the same part as that of `out`.
        at_x: The place of the first number of the part.
        y: As for `x`.
        at_y: As for `x`.
        step_y: 1, or 0 if the same number of `y` belongs to all numbers of `x`.
        out: An array in C order.
        at_out: As for `x`.
        count: The size of the parts.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loop, x, at_x, y, at_y, step_y, out, at_out, count = arguments
        kinds = signature.args
        operands = [(kinds[1], x, at_x), (kinds[3], y, at_y), (kinds[6], out, at_out)]
        call(context, builder, loop, operands, [count], [_ONE, step_y, _ONE])
        return context.get_dummy_value()

    return types.void(_LOOP, x, _SIZE, y, _SIZE, _SIZE, out, _SIZE, _SIZE), generate


def _write_reduce(
    context: Any, loop: Any, x: Any, at_x: Any, count: Any, total: Any, at_total: Any
) -> Any:
    """Combine the number of `total` with all numbers of a part of `x`, in a kernel.

    `np.maximum.reduce` begins with the first number as the total, and continues with the others.
    For sums see `sum_of`.

    Args:
        context: That of the compiler; callers leave it out.
        loop: That of a function of two numbers such as `np.maximum`, see `loop_of`.
        x: An array in C order.
        at_x: The place of the first number of the part.
        count: The size of the part.
        total: An array in C order.
        at_total: The place of the number.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loop, x, at_x, count, total, at_total = arguments
        result = (signature.args[4], total, at_total)
        operands = [result, (signature.args[1], x, at_x), result]
        call(context, builder, loop, operands, [count], [_ZERO, _ONE, _ZERO])
        return context.get_dummy_value()

    return types.void(_LOOP, x, _SIZE, _SIZE, total, _SIZE), generate


apply: Any = intrinsic(_write_apply)
apply_to_pairs: Any = intrinsic(_write_apply_to_pairs)
reduce: Any = intrinsic(_write_reduce)


@kernel
def sum_of(add: Loop, x: FloatArray, at_x: int, count: int, total: FloatArray, at: int) -> None:
    """Set `total[at]` to the sum of a part of `x`: `np.add.reduce` of contiguous numbers.

    Args:
        add: The loop of `np.add`.
        x: An array in C order.
        at_x: The place of the first number of the part.
        count: The size of the part.
        total: A vector.
        at: The place of the sum.
    """
    total[at] = 0
    reduce(add, x, at_x, count, total, at)


@kernel
def sum_of_columns(
    add: Loop, a: FloatArray, at_a: int, out: FloatArray, at_out: int, m: int, n: int
) -> None:
    """Fill a part of `out` with `np.add.reduce(a, axis=0)` of a matrix in C order, in a kernel.

    Args:
        add: The loop of `np.add`.
        a: A vector that holds the matrix (m, n).
        at_a: The place of its first number.
        out: A vector that holds the sums (n,).
        at_out: The place of the first sum.
        m: Numbers of each sum.
        n: Columns of the matrix.
    """
    if n == 1:  # these numbers are contiguous, so NumPy adds them in pairs
        sum_of(add, a, at_a, m, out, at_out)
        return
    clear(out, at_out, n)
    for i in range(m):
        apply_to_pairs(add, out, at_out, a, at_a + i * n, 1, out, at_out, n)
