"""NumPy's own products of matrices, called from kernels.

A stack of small products goes from Python to BLAS and back for each of its matrices, and so does
each piece of work between two products. While two threads do that, each waits for the other's turn
in Python. A kernel calls the function of BLAS that NumPy would call, with the same arguments, so it
computes the same bits, and several threads never wait for each other.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from pydnn.compiled.kernels import kernel
from pydnn.engines import give_up
from pydnn.numerics.blas_threads import blas_libraries
from pydnn.records import AnyDType, FloatArray

__all__ = ["multiply", "product_function"]

_BY_ROWS, _AS_IT_IS, _TRANSPOSED = 101, 111, 112  # as cblas.h numbers them

# The names that OpenBLAS gives its product if sizes are 64-bit integers, as NumPy's packages do.
_NAMES = ("scipy_cblas_{}gemm64_", "cblas_{}gemm64_", "cblas_{}gemm_64")


@functools.cache
def product_function(dtype: AnyDType) -> int:
    """Return where BLAS has its product of matrices of this dtype; 0 if kernels cannot call it."""
    letter = {"f": "s", "d": "d"}.get(dtype.char)
    if letter is None or not dtype.isnative:
        return 0
    for library in blas_libraries():
        for name in _NAMES:
            with contextlib.suppress(AttributeError):
                found = getattr(library, name.format(letter))
                address = ctypes.cast(found, ctypes.c_void_p).value or 0
                product = functools.partial(_product, address)
                try:
                    return address if _has_the_bits_of_numpy(product, dtype) else 0
                except Exception as error:  # numba may raise anything
                    give_up(error)
    return 0


def _has_the_bits_of_numpy(
    product: Callable[[FloatArray, FloatArray], FloatArray], dtype: AnyDType
) -> bool:
    m, n, k = 5, 19, 37
    numbers: FloatArray = np.random.default_rng(0).normal(size=(m + n) * k).astype(dtype)
    a, b = numbers[: m * k].reshape(m, k), numbers[m * k :]
    return all(
        product(a, right).tobytes() == np.matmul(a, right).tobytes()
        for right in (b.reshape(k, n), b.reshape(n, k).T)
    )


def _product(address: int, a: FloatArray, b: FloatArray) -> FloatArray:
    out = np.empty((len(a), b.shape[1]), a.dtype)
    turned = b.flags.f_contiguous
    row = b.strides[turned] // b.itemsize
    _fill_product(address, turned, a, b.reshape(-1, order="A"), out, row)
    return out


@kernel
def _fill_product(
    address: int, turned: bool, a: FloatArray, b: FloatArray, out: FloatArray, row_b: int
) -> None:
    (m, n), k = out.shape, a.shape[1]
    multiply(address, turned, a, 0, k, b, 0, row_b, out, 0, n, m, n, k)


def _multiply(
    context: Any,
    address: Any,
    turned: Any,
    a: Any,
    at_a: Any,
    row_a: Any,
    b: Any,
    at_b: Any,
    row_b: Any,
    out: Any,
    at_out: Any,
    row_out: Any,
    m: Any,
    n: Any,
    k: Any,
) -> Any:
    """Fill a part of `out` with the product of parts of `a` and `b`, inside a kernel.

    Args:
        context: That of the compiler; callers leave it out.
        address: See `product_function`.
        turned: Whether `b` holds the right operand transposed, (n, k).
        a: An array in C order that holds the left operand, (m, k).
        at_a: Numbers before the first one of the operand.
        row_a: Numbers from a row of the operand to the next.
        b: An array in C order that holds the right operand, (k, n).
        at_b: As for `a`.
        row_b: As for `a`.
        out: An array in C order that holds the result, (m, n), and shares no memory with others.
        at_out: As for `a`.
        row_out: As for `a`.
        m: Rows of the result, 2 or more: NumPy calls other functions for vectors.
        n: Columns of the result, 2 or more.
        k: Terms of each sum, 2 or more.
    """
    number, size = a.dtype, types.int64
    signature = types.void(
        size, types.boolean, a, size, size, b, size, size, out, size, size, size, size, size
    )

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, turned, a, at_a, row_a, b, at_b, row_b, out, at_out, row_out, m, n, k = arguments
        i32, i64 = ir.IntType(32), ir.IntType(64)
        real = context.get_value_type(number)
        pointer = real.as_pointer()

        def first(array: Any, place: int, start: Any) -> Any:
            struct = context.make_array(signature.args[place])(context, builder, array)
            return builder.gep(struct.data, [start])

        kinds = [i32, i32, i32, i64, i64, i64, real, pointer, i64, pointer, i64, real, pointer, i64]
        function = builder.inttoptr(address, ir.FunctionType(ir.VoidType(), kinds).as_pointer())
        order = builder.select(turned, i32(_TRANSPOSED), i32(_AS_IT_IS))
        left, right, result = first(a, 2, at_a), first(b, 5, at_b), first(out, 8, at_out)
        builder.call(
            function,
            [i32(_BY_ROWS), i32(_AS_IT_IS), order, m, n, k, real(1.0), left, row_a, right, row_b,
             real(0.0), result, row_out],
        )  # fmt: skip
        return context.get_dummy_value()

    return signature, generate


multiply: Any = intrinsic(_multiply)
