"""Products of small float64 matrices whose last bits do not matter, in blocks in registers.

A block has 8 columns and 4 rows, or 1. Each term adds the products of 4 numbers with 8 numbers to
sums that stay in the registers of the processor. The compiler does not find this by itself: the
plain loops read and write each sum for every 4 terms, and take 2.7 times as long for a product of
16 x 16 and 16 x 32. So the instructions of a block are written with LLVM's vectors, which it turns
into those of any processor.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pydnn.compiled.kernels import kernel
from pydnn.records import FloatArray

__all__ = ["COLUMNS_OF_A_BLOCK", "multiply_blocks"]

COLUMNS_OF_A_BLOCK, _ROWS = 8, 4
_SIZE = 8  # bytes of a number


def _block(rows: int) -> Any:
    """Return the function that fills one block of a product."""

    def block(
        typing: Any,
        left: Any,
        row_step: Any,
        term_step: Any,
        right: Any,
        terms: Any,
        out: Any,
        columns: Any,
    ) -> Any:
        """Fill rows of `out` with sums over `terms` of left[row, term] * right[term, :].

        Args:
            typing: How numba knows types.
            left: The address of the first number of the left operand.
            row_step: The number of numbers from there to the next row.
            term_step: The number of numbers from there to the next term.
            right: The address of the first number of the columns.
            terms: The number of terms, 1 or more.
            out: The address of the first number of the result.
            columns: The number of columns of `right` and `out`.
        """
        i64, f64 = ir.IntType(64), ir.DoubleType()
        line = ir.VectorType(f64, COLUMNS_OF_A_BLOCK)
        places = ir.VectorType(ir.IntType(32), COLUMNS_OF_A_BLOCK)

        def instructions(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            left, row_step, term_step, right, terms, out, columns = args
            left, right, out = (
                builder.inttoptr(each, f64.as_pointer()) for each in (left, right, out)
            )
            fused = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(line, [line] * 3),
                f"llvm.fmuladd.v{COLUMNS_OF_A_BLOCK}f64",
            )

            def place(start: Any, *steps: Any) -> Any:
                for count, step in steps:
                    start = builder.gep(start, [builder.mul(count, step)])
                return start

            before, loop = builder.block, builder.append_basic_block("term")
            builder.branch(loop)
            builder.position_at_end(loop)
            term = builder.phi(i64)
            sums = [builder.phi(line) for _ in range(rows)]
            others = builder.load(
                builder.bitcast(place(right, (term, columns)), line.as_pointer()), align=_SIZE
            )
            added = []
            for row, total in enumerate(sums):
                number = builder.load(place(left, (i64(row), row_step), (term, term_step)))
                first = builder.insert_element(line(ir.Undefined), number, ir.IntType(32)(0))
                each = builder.shuffle_vector(first, line(ir.Undefined), places(None))
                added.append(builder.call(fused, [each, others, total]))
                total.add_incoming(line(None), before)
                total.add_incoming(added[-1], loop)
            following = builder.add(term, i64(1))
            term.add_incoming(i64(0), before)
            term.add_incoming(following, loop)
            end = builder.append_basic_block("sums")
            builder.cbranch(builder.icmp_signed("<", following, terms), loop, end)
            builder.position_at_end(end)
            for row, total in enumerate(added):
                to = builder.bitcast(place(out, (i64(row), columns)), line.as_pointer())
                builder.store(total, to, align=_SIZE)
            return context.get_dummy_value()

        address, count = types.uintp, types.int64
        return types.void(address, count, count, address, count, address, count), instructions

    return intrinsic(block)


_block_of_four, _block_of_one = _block(_ROWS), _block(1)


@kernel
def multiply_blocks(left: FloatArray, turned: bool, right: FloatArray, product: FloatArray) -> None:
    """Fill `product` (m, n) with the rounded product of `left` (m, k) and `right` (k, n).

    Args:
        left: The left operand, in C order; (k, m) if `turned`.
        turned: Whether `left` is transposed.
        right: The right operand, in C order, with k of 1 or more.
        product: The product, in C order.
    """
    (m, n), k = product.shape, len(right)
    row_step, term_step = (1, m) if turned else (k, 1)
    if n < COLUMNS_OF_A_BLOCK:
        for i in range(m):
            for j in range(n):
                total = 0.0
                for term in range(k):
                    number = left[term, i] if turned else left[i, term]
                    total += number * right[term, j]
                product[i, j] = total
        return
    rows, columns, out = left.ctypes.data, right.ctypes.data, product.ctypes.data
    for start in range(0, n, COLUMNS_OF_A_BLOCK):
        j = min(start, n - COLUMNS_OF_A_BLOCK)  # the last two blocks may have columns in common
        for i in range(0, m - _ROWS + 1, _ROWS):
            _block_of_four(
                rows + _SIZE * i * row_step,
                row_step,
                term_step,
                columns + _SIZE * j,
                k,
                out + _SIZE * (i * n + j),
                n,
            )
        for i in range(m - m % _ROWS, m):
            _block_of_one(
                rows + _SIZE * i * row_step,
                row_step,
                term_step,
                columns + _SIZE * j,
                k,
                out + _SIZE * (i * n + j),
                n,
            )
