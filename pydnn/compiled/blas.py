"""NumPy's own products of matrices, called from kernels.

A small product goes from Python to BLAS and back, which takes several times as long as its
arithmetic. While two threads do that, each also waits for the other's turn in Python. A kernel
calls the function that NumPy would call, with the same arguments, so it computes the same bits, and
several threads never wait for each other.

There are three products, from the simplest one on:

- `matmul` has the bits of `np.matmul`, for parts of matrices in either order. It calls the loop of
  that ufunc, which chooses among the functions of BLAS, and copes with vectors.
- `dot` has the bits of `a.dot(b)`. That method calls the same functions of BLAS as `np.matmul`, in
  the same way, unless sums have a single term: then `np.matmul` has a loop of its own, which adds
  each product to 0, and the method calls BLAS.
- `product` has the bits of `pydnn.numerics.fast.matmul`, which chooses between the two by size.

Kernels get `products_of(dtype)` as an argument, since addresses differ between processes:

    products = products_of(dtype)                                   # in Python; None: use NumPy
    product(products, W, 0, False, A, 0, False, Z, 0, n, m, n_in)   # in a kernel: Z = W A
    product(products, dZ, 0, False, A, 0, True, dW, 0, n, n_in, m)  # dW = dZ A^T
    product(products, W, 0, True, dZ, 0, False, dA, 0, n_in, m, n)  # dA = W^T dZ

In float32, on one core of a processor with AVX-512, these three take 0.20, 0.31 and 0.21
microseconds for W (16, 16) and 32 examples, and 0.60, 0.71 and 0.60 if Python calls NumPy. For
W (16, 2) the first two take 74 and 90 ns, for W (1, 16) they take 65, 89 and 133 ns. Nearly all of
that is the time of BLAS itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof
from numba.core import types
from numba.extending import intrinsic

from pydnn.compiled.kernels import kernel, once_compiled
from pydnn.compiled.memory import clear
from pydnn.compiled.ufuncs import Loop, call, sum_of, uncompared_loop
from pydnn.engines import give_up
from pydnn.numerics.blas_threads import blas_libraries
from pydnn.numerics.fast import FEW_COLUMNS, MANY, SMALL, TINY
from pydnn.numerics.small_products import LITTLE_WORK, MOST_ROWS, ONE_THREADS_WORK
from pydnn.records import AnyDType, FloatArray

__all__ = [
    "Products",
    "dot",
    "is_a_product",
    "matmul",
    "matmul_loop",
    "product",
    "products_of",
    "sum_of_rows",
]

# The loop of `np.matmul`, and where BLAS has gemm and axpy.
Products = tuple[int, int, int, int]

_BY_ROWS, _TRANSPOSED = 101, 112  # as cblas.h numbers them

# The names that OpenBLAS gives its functions if sizes are 64-bit integers, as NumPy's packages do.
_NAMES = ("scipy_cblas_{}64_", "cblas_{}64_", "cblas_{}_64")


@once_compiled
def matmul_loop(dtype: AnyDType) -> Loop | None:
    """Return the loop of `np.matmul` for `matmul`; None if kernels cannot call it.

    Args:
        dtype: The dtype of the operands, float32 or float64.
    """
    loop = uncompared_loop(np.matmul, dtype)
    try:
        if loop and _is_equal(functools.partial(_matmul_matrices, loop), np.matmul, dtype):
            return loop
    except Exception as error:  # numba may raise anything
        give_up(error)
    return None


@once_compiled
def products_of(dtype: AnyDType) -> Products | None:
    """Return what `dot` and `product` call; None if kernels cannot call it.

    Args:
        dtype: The dtype of the operands, float32 or float64.
    """
    loop = matmul_loop(dtype)
    letter = {"f": "s", "d": "d"}.get(dtype.char)
    gemm, axpy = (_address(f"{letter}{name}") for name in ("gemm", "axpy"))
    if not (loop and gemm and axpy):
        return None
    products = (*loop, gemm, axpy)
    try:
        if _is_equal(functools.partial(_dot_matrices, products), np.dot, dtype):
            return products
    except Exception as error:  # numba may raise anything
        give_up(error)
    return None


def _address(function: str) -> int:
    """Return where BLAS has a function; 0 if it is not found."""
    for library in blas_libraries():
        for name in _NAMES:
            with contextlib.suppress(AttributeError):
                found = getattr(library, name.format(function))
                return ctypes.cast(found, ctypes.c_void_p).value or 0
    return 0


def _is_equal(ours: Callable[..., object], theirs: Callable[..., Any], dtype: AnyDType) -> bool:
    """Return whether products of matrices of several shapes and orders have equal bits.

    Args:
        ours: `(a, b, out)`, which fills `out`.
        theirs: `(a, b, out)` of NumPy.
        dtype: The dtype of the matrices.
    """
    sizes = (1, 2, 19)
    numbers: FloatArray = np.random.default_rng(0).normal(size=3 * 19 * 19).astype(dtype)
    numbers[::7] = 0
    numbers[::11] *= -0.0
    for m, n, k in (*itertools.product(sizes, sizes, (1, 2, 37 // 2)), (5, 19, 37)):
        a, b = numbers[: m * k], numbers[-k * n :]
        for left in (a.reshape(m, k), a.reshape(k, m).T):
            for right in (b.reshape(k, n), b.reshape(n, k).T):
                out, expected = np.full((m, n), np.nan, dtype), np.empty((m, n), dtype)
                ours(left, right, out)
                theirs(left, right, expected)
                if out.tobytes() != expected.tobytes():
                    return False
    return True


def _matmul_matrices(loop: Loop, a: FloatArray, b: FloatArray, out: FloatArray) -> None:
    (row_a, column_a), (row_b, column_b) = ([s // x.itemsize for s in x.strides] for x in (a, b))
    left, right = _vector(a), _vector(b)
    _fill_by_matmul(loop, left, right, out, a.shape[1], row_a, column_a, row_b, column_b)


def _dot_matrices(products: Products, a: FloatArray, b: FloatArray, out: FloatArray) -> None:
    turned_a, turned_b = (not x.flags.c_contiguous for x in (a, b))
    left, right, (m, n) = _vector(a), _vector(b), out.shape
    dot(products, left, 0, turned_a, right, 0, turned_b, out.reshape(-1), 0, m, n, a.shape[1])


def _vector(matrix: FloatArray) -> FloatArray:
    return matrix.reshape(-1, order="A")


@kernel
def _fill_by_matmul(
    loop: Loop,
    a: FloatArray,
    b: FloatArray,
    out: FloatArray,
    k: int,
    row_a: int,
    column_a: int,
    row_b: int,
    column_b: int,
) -> None:
    m, n = out.shape
    matmul(loop, a, 0, row_a, column_a, b, 0, row_b, column_b, out, 0, n, m, n, k)


_LOOP, _SIZE = typeof((0, 0)), types.int64


def _write_matmul(
    context: Any,
    loop: Any,
    a: Any,
    at_a: Any,
    row_a: Any,
    column_a: Any,
    b: Any,
    at_b: Any,
    row_b: Any,
    column_b: Any,
    out: Any,
    at_out: Any,
    row_out: Any,
    m: Any,
    n: Any,
    k: Any,
) -> Any:
    """Fill a part of `out` with `np.matmul` of parts of `a` and `b`, inside a kernel.

    One of the two distances of each operand is 1: `column_a` for rows in C order, `row_a` for a
    transposed operand.

    Args:
        context: That of the compiler; callers leave it out.
        loop: See `matmul_loop`.
        a: An array in C order that holds the left operand (m, k).
        at_a: Numbers before the first one of the operand.
        row_a: Numbers from a row of the operand to the next.
        column_a: Numbers from a column of the operand to the next.
        b: An array in C order that holds the right operand (k, n).
        at_b: As for `a`.
        row_b: As for `a`.
        column_b: As for `a`.
        out: An array in C order that holds the result (m, n), and shares no memory with others.
        at_out: As for `a`.
        row_out: As for `a`.
        m: Rows of the result.
        n: Columns of the result.
        k: Terms of each sum.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loop, a, at_a, row_a, column_a, b, at_b, row_b, column_b, out, at_out, *rest = arguments
        row_out, m, n, k = rest
        kinds, one, none = signature.args, ir.IntType(64)(1), ir.IntType(64)(0)
        operands = [(kinds[1], a, at_a), (kinds[5], b, at_b), (kinds[9], out, at_out)]
        # It would take a stack of products, of which there is one here.
        sizes, within_stack = [one, m, k, n], [none] * 3
        steps = [*within_stack, row_a, column_a, row_b, column_b, row_out, one]
        call(context, builder, loop, operands, sizes, steps)
        return context.get_dummy_value()

    signature = types.void(
        _LOOP, a, _SIZE, _SIZE, _SIZE, b, _SIZE, _SIZE, _SIZE, out, _SIZE, _SIZE, _SIZE, _SIZE,
        _SIZE,
    )  # fmt: skip
    return signature, generate


def _write_outer(
    context: Any,
    gemm: Any,
    a: Any,
    at_a: Any,
    b: Any,
    at_b: Any,
    out: Any,
    at_out: Any,
    m: Any,
    n: Any,
) -> Any:
    """Fill a part of `out` (m, n) with a column (m, 1) by a row (1, n), as `ndarray.dot` does."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        gemm, a, at_a, b, at_b, out, at_out, m, n = arguments
        i32, i64, kinds = ir.IntType(32), ir.IntType(64), signature.args
        real = context.get_value_type(kinds[1].dtype)
        turned, one = i32(_TRANSPOSED), i64(1)  # a vector is in both orders, and NumPy takes this
        arguments = [
            *(i32(_BY_ROWS), turned, turned, m, n, one, real(1.0)),
            *(_place(context, builder, kinds[1], a, at_a), m),
            *(_place(context, builder, kinds[3], b, at_b), one),
            *(real(0.0), _place(context, builder, kinds[5], out, at_out), n),
        ]
        _call(builder, gemm, arguments)
        return context.get_dummy_value()

    return types.void(_SIZE, a, _SIZE, b, _SIZE, out, _SIZE, _SIZE, _SIZE), generate


def _write_add_scaled(
    context: Any,
    axpy: Any,
    scale: Any,
    x: Any,
    at_x: Any,
    y: Any,
    at_y: Any,
    count: Any,
) -> Any:
    """Add a multiple of a part of `x` to a part of `y`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        axpy, scale, x, at_x, y, at_y, count = arguments
        one, kinds = ir.IntType(64)(1), signature.args
        x, y = (
            _place(context, builder, kinds[i], array, at)
            for i, array, at in ((2, x, at_x), (4, y, at_y))
        )
        _call(builder, axpy, [count, scale, x, one, y, one])
        return context.get_dummy_value()

    return types.void(_SIZE, x.dtype, x, _SIZE, y, _SIZE, _SIZE), generate


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def _call(builder: Any, address: Any, arguments: list[Any]) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments]).as_pointer()
    builder.call(builder.inttoptr(address, kind), arguments)


matmul: Any = intrinsic(_write_matmul)
_outer: Any = intrinsic(_write_outer)
_add_scaled: Any = intrinsic(_write_add_scaled)


@kernel
def dot(
    products: Products,
    a: FloatArray,
    at_a: int,
    turned_a: bool,
    b: FloatArray,
    at_b: int,
    turned_b: bool,
    out: FloatArray,
    at_out: int,
    m: int,
    n: int,
    k: int,
) -> None:
    """Fill a part of `out` with `a.dot(b)`; see `product` for the arguments."""
    function, data, gemm, axpy = products
    if k == 0 or (k == 1 and 1 in (m, n)):
        clear(out, at_out, m * n)  # axpy adds to it
    if k > 1:
        row_a, column_a = (1, m) if turned_a else (k, 1)
        row_b, column_b = (1, k) if turned_b else (n, 1)
        matmul((function, data), a, at_a, row_a, column_a, b, at_b, row_b, column_b,
               out, at_out, n, m, n, k)  # fmt: skip
    elif k == 1 and m == 1 and n == 1:
        out[at_out] = a[at_a] * b[at_b]
    elif k == 1 and m == 1:
        _add_scaled(axpy, a[at_a], b, at_b, out, at_out, n)
    elif k == 1 and n == 1:
        _add_scaled(axpy, b[at_b], a, at_a, out, at_out, m)
    elif k == 1:
        _outer(gemm, a, at_a, b, at_b, out, at_out, m, n)


@kernel
def product(
    products: Products,
    a: FloatArray,
    at_a: int,
    turned_a: bool,
    b: FloatArray,
    at_b: int,
    turned_b: bool,
    out: FloatArray,
    at_out: int,
    m: int,
    n: int,
    k: int,
) -> None:
    """Fill a part of `out` with `fast.matmul(a, b)` of parts of `a` and `b`, in a kernel.

    All parts are contiguous. `is_a_product` says whether the sizes are allowed.

    Args:
        products: See `products_of`.
        a: A vector that holds the left operand (m, k).
        at_a: Numbers before the first one of the operand.
        turned_a: Whether the vector holds the operand transposed, (k, m).
        b: A vector that holds the right operand (k, n).
        at_b: As for `a`.
        turned_b: Whether the vector holds the operand transposed, (n, k).
        out: A vector that holds the result (m, n) in C order; it shares no memory with the others.
        at_out: As for `a`.
        m: Rows of the result.
        n: Columns of the result.
        k: Terms of each sum.
    """
    if m * k < SMALL and k * n < SMALL:
        dot(products, a, at_a, turned_a, b, at_b, turned_b, out, at_out, m, n, k)
        return
    function, data, _, _ = products
    row_a, column_a = (1, m) if turned_a else (k, 1)
    row_b, column_b = (1, k) if turned_b else (n, 1)
    cut = m <= MOST_ROWS and ONE_THREADS_WORK < m * k * n <= LITTLE_WORK
    columns = max(1, ONE_THREADS_WORK // (m * k) if cut else n)
    for start in range(0, n, columns):
        matmul((function, data), a, at_a, row_a, column_a,
               b, at_b + start * column_b, row_b, column_b,
               out, at_out + start, n, m, min(columns, n - start), k)  # fmt: skip


def is_a_product(m: int, n: int, k: int) -> bool:
    """Return whether `product` has the bits of `fast.matmul` for matrices (m, k) and (k, n).

    With few rows and a very large right operand, `fast` changes the order of an operand or of the
    result, which takes memory that kernels do not have.
    """
    return m > MOST_ROWS or k * n < MANY


@kernel
def sum_of_rows(
    products: Products,
    add: Loop,
    a: FloatArray,
    at_a: int,
    ones: FloatArray,
    out: FloatArray,
    at_out: int,
    m: int,
    n: int,
) -> None:
    """Fill a part of `out` with `fast.sum(a, axis=1)` of a part of `a` in C order, in a kernel.

    Args:
        products: See `products_of`.
        add: The loop of `np.add`, see `pydnn.compiled.ufuncs.loop_of`.
        a: A vector that holds the matrix (m, n).
        at_a: Numbers before the first one of the matrix.
        ones: A vector of `FEW_COLUMNS` ones.
        out: A vector that holds the sums (m, 1).
        at_out: As for `a`.
        m: Rows of the matrix.
        n: Numbers of each sum.
    """
    if m * n < TINY and n <= FEW_COLUMNS:
        dot(products, a, at_a, False, ones, 0, False, out, at_out, m, 1, n)
        return
    for i in range(m):
        sum_of(add, a, at_a + i * n, n, out, at_out + i)
