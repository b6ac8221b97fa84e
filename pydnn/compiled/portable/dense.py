"""Dense stages of a small network, forward and backward, in one piece of memory, their room.

Specification: that of `pydnn.numerics.portable.nearest` for float32 numbers, and that of
`pydnn.numerics.portable.products` for float64 numbers, whose kernels end with `by_tree`.

In a step, each float32 matrix is an operand of two or three products. So `_widen` converts it to
float64 once, and computes the lengths of its rows and columns, of which the bounds of errors are
made. Such an operand (p q + p + q,) has the numbers of a matrix (p, q), then the lengths of its
rows, then those of its columns.

Some kernels may add in any order, and multiply and add in one operation, which is exact for a
product of two float32 numbers. This changes which entries are settled by `nearest_sum`, but no
result.
"""

from __future__ import annotations

import math

import numpy as np

from pydnn.compiled.arithmetics import (
    DA,
    DZ,
    FIRST_OWN,
    N_IN,
    N_OUT,
    NEEDED,
    TERMS,
    B,
    W,
    Z,
)
from pydnn.compiled.kernels import kernel, kernel_in_any_order
from pydnn.compiled.memory import to_read
from pydnn.compiled.portable.blocks import COLUMNS_OF_A_BLOCK, multiply_blocks
from pydnn.compiled.portable.nearest import nearest_sum
from pydnn.compiled.portable.products import product_by_tree
from pydnn.compiled.portable.sums import fold
from pydnn.records import FloatArray, IntArray

__all__ = [
    "A_WIDE",
    "DZ_WIDE",
    "W_WIDE",
    "backward",
    "backward_by_tree",
    "forward",
    "forward_by_tree",
]

# Where the operands made of W, A and dZ begin in the room in float64. TERMS is where it has room
# for a product, or for the terms of a sum.
W_WIDE, A_WIDE, DZ_WIDE = range(FIRST_OWN, FIRST_OWN + 3)

_ULP = 2.0**-53

# Whether an operand is transposed is always given by a variable: for each combination of constants
# numba would compile a kernel again.


@kernel
def _matrix(room: FloatArray, start: int, rows: int, columns: int) -> FloatArray:
    return room[start : start + rows * columns].reshape(rows, columns)


@kernel
def _add_bias(b: FloatArray, Z: FloatArray) -> None:
    for i in range(b.size):
        add = b[i]
        for j in range(Z.shape[1]):
            Z[i, j] = Z[i, j] + add


@kernel
def _sum_rows(dZ: FloatArray, room: FloatArray, db: FloatArray) -> None:
    """Fill db (n_out,) with the sums of the rows of dZ (n_out, m), by the tree of `sums`."""
    n_out, m = dZ.shape
    turned = room[: n_out * m].reshape(m, n_out)  # so that one loop adds numbers of all rows
    for i in range(n_out):
        for j in range(m):
            turned[j, i] = dZ[i, j]
    fold(room, m, n_out)
    for i in range(n_out):
        db[i] = room[i] + db.dtype.type(0.0)


@kernel
def forward(
    p: FloatArray,
    stage: IntArray,
    m: int,
    x: FloatArray,
    wide: FloatArray,
    narrow: FloatArray,
    calls: IntArray,
) -> bool:
    """Fill Z (n_out, m) with W A + b, and the operands of W and A.

    Args:
        p: The parameters.
        stage: What is known of the stage.
        m: The number of examples.
        x: The numbers of A (n_in, m).
        wide: The room of the step, in float64.
        narrow: The same in the dtype of the step.
        calls: Not used.

    Returns:
        Whether all numbers are certain.
    """
    n_in, n_out = stage[N_IN], stage[N_OUT]
    w, a = wide[stage[W_WIDE] :], wide[stage[A_WIDE] :]
    out = _matrix(narrow, stage[Z], n_out, m)
    _widen(_matrix(p, stage[W], n_out, n_in), w)
    _widen(x.reshape(n_in, m), a)
    left, right, product = (
        _matrix(w, 0, n_out, n_in),
        _matrix(a, 0, n_in, m),
        _matrix(wide, stage[TERMS], n_out, m),
    )
    multiply_blocks(left, False, right, product)
    rows, columns = w[n_out * n_in :], a[n_in * m + n_in :]
    sure = _settle(product, left, False, rows, right, True, columns, out)
    _add_bias(p[stage[B] : stage[B] + n_out], out)
    return sure


@kernel
def backward(
    p: FloatArray,
    stage: IntArray,
    m: int,
    x: FloatArray,
    wide: FloatArray,
    narrow: FloatArray,
    sums: FloatArray,
    grads: FloatArray,
    calls: IntArray,
) -> bool:
    """Fill dW with dZ A^T, db with the sums of dZ, and dA with W^T dZ if anybody needs it.

    Args:
        p: The parameters.
        stage: What is known of the stage.
        m: The number of examples.
        x: The numbers of A (n_in, m).
        wide: The room of the step, in float64, with the operands that `forward` has filled.
        narrow: The same in the dtype of the step.
        sums: Room for the sums.
        grads: The gradients, in the layout of the parameters.
        calls: Not used.

    Returns:
        Whether all numbers are certain.
    """
    n_in, n_out = stage[N_IN], stage[N_OUT]
    w, a, d = wide[stage[W_WIDE] :], wide[stage[A_WIDE] :], wide[stage[DZ_WIDE] :]
    dZ_ = _matrix(to_read(narrow), stage[DZ], n_out, m)
    _sum_rows(dZ_, sums, grads[stage[B] : stage[B] + n_out])
    _widen(dZ_, d)
    left, right = _matrix(wide, stage[DZ_WIDE], n_out, m), _matrix(wide, stage[A_WIDE], n_in, m)
    # A product of rows with rows would end with sums inside registers, which take longer.
    width = max(n_in, COLUMNS_OF_A_BLOCK)
    columns_of_A = _matrix(wide, stage[TERMS], m, width)
    product = _matrix(wide, stage[TERMS] + m * width, n_out, width)
    _turn(right, columns_of_A)
    multiply_blocks(left, False, columns_of_A, product)
    rows, columns = d[n_out * m :], a[n_in * m :]
    dW = _matrix(grads, stage[W], n_out, n_in)
    if not _settle(product, left, False, rows, right, False, columns, dW):
        return False
    if not stage[NEEDED]:
        return True
    left, right, product = (
        _matrix(w, 0, n_out, n_in),
        _matrix(d, 0, n_out, m),
        _matrix(wide, stage[TERMS], n_in, m),
    )
    multiply_blocks(left, True, right, product)
    rows, columns = w[n_out * n_in + n_out :], d[n_out * m + n_out :]
    dA_ = _matrix(narrow, stage[DA], n_in, m)
    return _settle(product, left, True, rows, right, True, columns, dA_)


@kernel
def forward_by_tree(
    p: FloatArray,
    stage: IntArray,
    m: int,
    x: FloatArray,
    wide: FloatArray,
    narrow: FloatArray,
    calls: IntArray,
) -> bool:
    """Do the same as `forward` for float64 numbers."""
    n_in, n_out = stage[N_IN], stage[N_OUT]
    out = _matrix(narrow, stage[Z], n_out, m)
    left, right = _matrix(p, stage[W], n_out, n_in), x.reshape(n_in, m)
    product_by_tree(left, False, right, False, out)
    _add_bias(p[stage[B] : stage[B] + n_out], out)
    return True


@kernel
def backward_by_tree(
    p: FloatArray,
    stage: IntArray,
    m: int,
    x: FloatArray,
    wide: FloatArray,
    narrow: FloatArray,
    sums: FloatArray,
    grads: FloatArray,
    calls: IntArray,
) -> bool:
    """Do the same as `backward` for float64 numbers."""
    n_in, n_out = stage[N_IN], stage[N_OUT]
    dZ_, A_ = _matrix(to_read(narrow), stage[DZ], n_out, m), x.reshape(n_in, m)
    _sum_rows(dZ_, sums, grads[stage[B] : stage[B] + n_out])
    product_by_tree(dZ_, False, A_, True, _matrix(grads, stage[W], n_out, n_in))
    if stage[NEEDED]:
        W_, dA_ = _matrix(p, stage[W], n_out, n_in), _matrix(narrow, stage[DA], n_in, m)
        product_by_tree(W_, True, dZ_, False, dA_)
    return True


@kernel_in_any_order
def _widen(numbers: FloatArray, operand: FloatArray) -> None:
    """Fill an operand with a matrix (p, q) of float32 numbers."""
    p, q = numbers.shape
    wide, rows, columns = operand[: p * q].reshape(p, q), operand[p * q :], operand[p * q + p :]
    for j in range(q):
        columns[j] = 0.0
    for i in range(p):
        total = 0.0
        for j in range(q):
            number = np.float64(numbers[i, j])
            wide[i, j] = number
            total += number * number
        rows[i] = math.sqrt(total)
        for j in range(q):
            columns[j] += wide[i, j] * wide[i, j]
    for j in range(q):
        columns[j] = math.sqrt(columns[j])


@kernel
def _turn(lines: FloatArray, turned: FloatArray) -> None:
    """Fill the first columns of `turned` (q, n) with the transpose of `lines` (p, q)."""
    p, q = lines.shape
    for i in range(p):
        for j in range(q):
            turned[j, i] = lines[i, j]


@kernel
def _settle(
    product: FloatArray,
    left: FloatArray,
    left_turned: bool,
    left_lengths: FloatArray,
    right: FloatArray,
    right_turned: bool,
    right_lengths: FloatArray,
    out: FloatArray,
) -> bool:
    """Fill `out` with the nearest float32 numbers, and return whether all are certain.

    Args:
        product: Rounded dot products (m, n), float64; there may be further columns.
        left: The rows (m, k) of the left operand in float64; (k, m) if `left_turned`.
        left_turned: Whether `left` holds one term of every row in each of its rows.
        left_lengths: The Euclidean length of each row (m,).
        right: The columns (n, k) of the right operand in float64; (k, n) if `right_turned`.
        right_turned: Whether `right` holds one term of every column in each of its rows.
        right_lengths: The Euclidean length of each column (n,).
        out: The result (m, n), float32.
    """
    (m, n), k = out.shape, right.shape[0] if right_turned else right.shape[1]
    # Eight more ulps than the proof needs, since the bound is rounded itself. One term is exact.
    bound_of_one = (k + 8) * _ULP if k > 1 else 0.0
    for i in range(m):
        row, doubts = left_lengths[i] * bound_of_one, 0
        for j in range(n):
            bound = row * right_lengths[j]
            nearest = np.float32(product[i, j] + bound)
            doubts += np.float32(product[i, j] - bound) != nearest
            out[i, j] = nearest + np.float32(0.0)
        if doubts:
            for j in range(n):
                bound = row * right_lengths[j]
                if np.float32(product[i, j] - bound) == np.float32(product[i, j] + bound):
                    continue
                if not bound < math.inf:  # an operand is infinite or no number
                    return False
                nearest, sure = nearest_sum(left, left_turned, i, right, right_turned, j)
                if not sure:
                    return False
                out[i, j] = nearest
    return True
