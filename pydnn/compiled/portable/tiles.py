"""Products of matrices tile by tile, where every product of two numbers is exact in float64.

BLAS needs operands and results as whole matrices in memory, and reads them again and again. Here a
tile of the result is computed in the registers of the processor, from operands that are packed in
the order in which it reads them: `LINES` neighboring lines together, one term after the other. The
lines of the left operand are its rows, those of the right one its columns.

Where products are exact, a multiplication fused with an addition rounds as both do one after the
other. So the compiler may fuse them here, where the processor can.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from pydnn.compiled.kernels import features_of_processor, kernel
from pydnn.records import FloatArray

__all__ = [
    "LINES",
    "TERMS",
    "WIDE",
    "add_tile",
    "copy_columns",
    "copy_lines",
    "fill_lengths",
    "multiply_block",
    "pack",
    "pack_in_blocks",
    "set_nearest",
    "set_squares",
    "set_tile",
    "terms_of_a_block",
    "written_for_llvm",
]


def _float64s_of_a_register() -> int:
    features = features_of_processor().split(",")
    return 8 if "+avx512f" in features else 4 if "+avx" in features else 2


LINES = _float64s_of_a_register()  # packed together, and rows of a tile
_REGISTERS = 3  # side by side in a row of a tile
WIDE = LINES * _REGISTERS  # columns of a tile
TERMS = 192  # at most, that are added at a time, so that what a tile reads stays in the first cache

_INT, _FLOAT = ir.IntType(64), ir.DoubleType()
_VECTOR = ir.VectorType(_FLOAT, LINES)
_ZERO = ir.Constant(_VECTOR, [0.0] * LINES)


def written_for_llvm(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function for kernels, whose instructions `function` writes from the types."""
    written: Callable[..., Any] = intrinsic(function)
    return written


def _begins(context: Any, builder: Any, array_type: Any, array: Any, start: Any) -> Any:
    return builder.gep(make_array(array_type)(context, builder, array).data, [start])


def _vector_at(builder: Any, begin: Any, offset: Any) -> Any:
    return builder.bitcast(builder.gep(begin, [offset]), _VECTOR.as_pointer())


def _in_all_places(builder: Any, number: Any) -> Any:
    vector = builder.insert_element(_ZERO, number, ir.IntType(32)(0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LINES), [0] * LINES)
    return builder.shuffle_vector(vector, _ZERO, lanes)


def _multiply_add(builder: Any) -> Callable[[Any, Any, Any], Any]:
    """Return a function of vectors that gives x y + z, fused if the processor can."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    function = get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LINES}f64")
    return lambda x, y, z: builder.call(function, [x, y, z])


def _sums_over(
    builder: Any, count: Any, sums: int, terms: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """Write a loop over `count` steps, one or more, which adds to `sums` vectors."""
    before = builder.block
    loop, after = (builder.append_basic_block(name) for name in ("terms", "sums"))
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(_INT)
    totals = [builder.phi(_VECTOR) for _ in range(sums)]
    added = terms(step, totals)
    following = builder.add(step, _INT(1))
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    for phi, first, later in zip(
        [step, *totals], [_INT(0), *[_ZERO] * sums], [following, *added], strict=True
    ):
        phi.add_incoming(first, before)
        phi.add_incoming(later, loop)
    builder.position_at_end(after)
    return added


def _tile(adds: bool) -> Callable[..., Any]:
    def typed(_: Any, *kinds: Any) -> tuple[Any, Callable[..., Any]]:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            registers, terms, *rest = arguments
            right_group, out_row = rest[6:]
            left, right, out = (
                _begins(context, builder, signature.args[i + 2], *rest[i : i + 2])
                for i in (0, 2, 4)
            )
            blocks = [builder.append_basic_block(f"tile{i}") for i in range(_REGISTERS)]
            after = builder.append_basic_block("after")
            choice = builder.switch(registers, blocks[-1])
            for i, block in enumerate(blocks, 1):
                choice.add_case(_INT(i), block)
                builder.position_at_end(block)
                _write_tile(builder, i, terms, left, right, out, right_group, out_row, adds)
                builder.branch(after)
            builder.position_at_end(after)
            return context.get_dummy_value()

        return types.void(*kinds), generate

    return typed


def _write_tile(
    builder: Any,
    registers: int,
    terms: Any,
    left: Any,
    right: Any,
    out: Any,
    right_group: Any,
    out_row: Any,
    adds: bool,
) -> None:
    multiply_add = _multiply_add(builder)

    def add_products(term: Any, totals: list[Any]) -> list[Any]:
        place = builder.mul(term, _INT(LINES))
        groups = [builder.add(place, builder.mul(right_group, _INT(i))) for i in range(registers)]
        columns = [builder.load(_vector_at(builder, right, group), align=8) for group in groups]
        added = []
        for i in range(LINES):
            number = builder.load(builder.gep(left, [builder.add(place, _INT(i))]))
            row = _in_all_places(builder, number)
            some = totals[i * registers : (i + 1) * registers]
            added += [multiply_add(row, *pair) for pair in zip(columns, some, strict=True)]
        return added

    sums = _sums_over(builder, terms, LINES * registers, add_products)
    for i, total in enumerate(sums):
        row, register = divmod(i, registers)
        offset = builder.add(builder.mul(out_row, _INT(row)), _INT(register * LINES))
        place = _vector_at(builder, out, offset)
        if adds:
            total = builder.fadd(builder.load(place, align=8), total)
        builder.store(total, place, align=8)


@written_for_llvm
def set_tile(
    typing: Any,
    registers: int,
    terms: int,
    left: FloatArray,
    left_start: int,
    right: FloatArray,
    right_start: int,
    out: FloatArray,
    out_start: int,
    right_group: int,
    out_row: int,
) -> Any:
    """Fill a tile of `LINES` rows and up to `WIDE` columns of a product.

    Args:
        typing: Numba's own.
        registers: The number of groups of `LINES` columns.
        terms: The number of terms, 1 or more.
        left: Packed rows.
        left_start: Where those of the tile begin in `left`.
        right: Packed columns.
        right_start: Where those of the tile begin in `right`.
        out: The result.
        out_start: Where the tile begins in `out`.
        right_group: The numbers in `right` from one group of lines to the next.
        out_row: The numbers in `out` from one row to the next.
    """
    return _tile(False)(
        typing,
        registers,
        terms,
        left,
        left_start,
        right,
        right_start,
        out,
        out_start,
        right_group,
        out_row,
    )


@written_for_llvm
def add_tile(
    typing: Any,
    registers: int,
    terms: int,
    left: FloatArray,
    left_start: int,
    right: FloatArray,
    right_start: int,
    out: FloatArray,
    out_start: int,
    right_group: int,
    out_row: int,
) -> Any:
    """Add a tile of a product to `out`; see `set_tile`."""
    return _tile(True)(
        typing,
        registers,
        terms,
        left,
        left_start,
        right,
        right_start,
        out,
        out_start,
        right_group,
        out_row,
    )


@written_for_llvm
def set_squares(
    typing: Any, terms: int, packed: FloatArray, start: int, squares: FloatArray
) -> Any:
    """Fill `squares` with the sums of the squares of a group of packed lines.

    Args:
        typing: Numba's own.
        terms: The number of terms, 1 or more.
        packed: Packed lines.
        start: Where the group begins.
        squares: The sums (LINES,).
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        terms, packed, start, squares = arguments
        group = _begins(context, builder, signature.args[1], packed, start)
        multiply_add = _multiply_add(builder)

        def add_squares(term: Any, totals: list[Any]) -> list[Any]:
            place = builder.mul(term, _INT(LINES))
            numbers = builder.load(_vector_at(builder, group, place), align=8)
            # In turn, since each addition waits for the one before it.
            return [*totals[1:], multiply_add(numbers, numbers, totals[0])]

        first, *others = _sums_over(builder, terms, 4, add_squares)
        for total in others:
            first = builder.fadd(first, total)
        into = _begins(context, builder, signature.args[3], squares, _INT(0))
        builder.store(first, _vector_at(builder, into, _INT(0)), align=8)
        return context.get_dummy_value()

    return types.void(terms, packed, start, squares), generate


@written_for_llvm
def set_nearest(
    typing: Any,
    product: FloatArray,
    rows: FloatArray,
    row: int,
    columns: FloatArray,
    column: int,
    out: FloatArray,
    start: int,
    stride: int,
) -> Any:
    """Round a tile to float32, and return whether an entry is in doubt.

    Args:
        typing: Numba's own.
        product: A product, `WIDE` numbers for each row.
        rows: A factor for each of its rows. That of an entry's row times that of its column bounds
            the error of the entry.
        row: The first row of the tile.
        columns: A factor for each column.
        column: The place of the factor of the first column of the tile.
        out: The result, float32.
        start: Where the tile begins in `out`.
        stride: The numbers in `out` from one row to the next.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        product, rows, row, columns, column, out, start, stride = arguments
        kinds = signature.args
        numbers = _begins(context, builder, kinds[0], product, builder.mul(row, _INT(WIDE)))
        of_rows = _begins(context, builder, kinds[1], rows, row)
        of_columns = _begins(context, builder, kinds[3], columns, column)
        into = _begins(context, builder, kinds[5], out, start)
        narrow = ir.VectorType(ir.FloatType(), LINES)
        doubts = ir.Constant(ir.VectorType(ir.IntType(1), LINES), [0] * LINES)
        for i, register in itertools.product(range(LINES), range(_REGISTERS)):
            place = _INT(register * LINES)
            row = _in_all_places(builder, builder.load(builder.gep(of_rows, [_INT(i)])))
            column = builder.load(_vector_at(builder, of_columns, place), align=8)
            bound = builder.fmul(row, column)
            here = _INT(i * WIDE + register * LINES)
            total = builder.load(_vector_at(builder, numbers, here), align=8)
            lower = builder.fptrunc(builder.fsub(total, bound), narrow)
            upper = builder.fptrunc(builder.fadd(total, bound), narrow)
            doubts = builder.or_(doubts, builder.fcmp_unordered("!=", lower, upper))
            # Adding +0.0 turns -0.0 into +0.0.
            upper = builder.fadd(upper, ir.Constant(narrow, [0.0] * LINES))
            place = builder.add(place, builder.mul(stride, _INT(i)))
            there = builder.bitcast(builder.gep(into, [place]), narrow.as_pointer())
            builder.store(upper, there, align=1)
        bits = ir.IntType(LINES)
        return builder.icmp_unsigned("!=", builder.bitcast(doubts, bits), bits(0))

    kinds: tuple[Any, ...] = (product, rows, row, columns, column, out, start, stride)
    return types.boolean(*kinds), generate


@written_for_llvm
def copy_lines(
    typing: Any,
    blocks: int,
    numbers: FloatArray,
    start: int,
    stride: int,
    packed: FloatArray,
    place: int,
) -> Any:
    """Pack blocks of `LINES` terms of `LINES` lines, each of which lies in a row of `numbers`.

    Args:
        typing: Numba's own.
        blocks: The number of blocks, 1 or more.
        numbers: The lines, float64 or float32.
        start: Where the first line begins.
        stride: The numbers from one line to the next.
        packed: The packed lines.
        place: Where they begin.
    """

    def copy(builder: Any, block: Any, begin: Any, into: Any, stride: Any, kind: Any) -> None:
        first = builder.mul(block, _INT(LINES))
        offsets = [builder.add(first, builder.mul(stride, _INT(i))) for i in range(LINES)]
        vectors = [_loaded(builder, begin, offset, kind) for offset in offsets]
        half, width = LINES // 2, ir.IntType(32)
        evens = [i // 2 + LINES * (i % 2) for i in range(LINES)]
        interleaved = [
            ir.Constant(ir.VectorType(width, LINES), [place + shift for place in evens])
            for shift in (0, half)
        ]
        # Interleaving each vector with that half of them away, again and again, transposes them.
        for _ in range(LINES.bit_length() - 1):
            vectors = [
                builder.shuffle_vector(vectors[i], vectors[i + half], places)
                for i in range(half)
                for places in interleaved
            ]
        for i, vector in enumerate(vectors):
            place = builder.add(builder.mul(first, _INT(LINES)), _INT(i * LINES))
            builder.store(_widened(builder, vector), _vector_at(builder, into, place), align=8)

    return _copying(copy, blocks, numbers, start, stride, packed, place)


@written_for_llvm
def copy_columns(
    typing: Any,
    terms: int,
    numbers: FloatArray,
    start: int,
    stride: int,
    packed: FloatArray,
    place: int,
) -> Any:
    """Pack `LINES` lines, each of which lies in a column of `numbers`; see `copy_lines`."""

    def copy(builder: Any, term: Any, begin: Any, into: Any, stride: Any, kind: Any) -> None:
        vector = _loaded(builder, begin, builder.mul(stride, term), kind)
        place = _vector_at(builder, into, builder.mul(term, _INT(LINES)))
        builder.store(_widened(builder, vector), place, align=8)

    return _copying(copy, terms, numbers, start, stride, packed, place)


def _copying(copy: Callable[..., None], *kinds: Any) -> tuple[Any, Callable[..., Any]]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count, numbers, start, stride, packed, place = arguments
        begin = _begins(context, builder, signature.args[1], numbers, start)
        into = _begins(context, builder, signature.args[4], packed, place)
        kind = begin.type.pointee

        def copy_step(step: Any, _: list[Any]) -> list[Any]:
            copy(builder, step, begin, into, stride, kind)
            return []

        _sums_over(builder, count, 0, copy_step)
        return context.get_dummy_value()

    return types.void(*kinds), generate


def _loaded(builder: Any, begin: Any, offset: Any, kind: Any) -> Any:
    vector = ir.VectorType(kind, LINES).as_pointer()
    # An array of a caller may begin at any byte.
    return builder.load(builder.bitcast(builder.gep(begin, [offset]), vector), align=1)


def _widened(builder: Any, vector: Any) -> Any:
    return vector if vector.type == _VECTOR else builder.fpext(vector, _VECTOR)


@kernel
def pack(
    numbers: FloatArray,
    turned: bool,
    start: int,
    stop: int,
    first: int,
    last: int,
    packed: FloatArray,
) -> None:
    """Fill `packed` with lines from `start` to before `stop`, and with lines of zeros after them.

    Args:
        numbers: The lines, one in each row; one in each column if `turned`.
        turned: Whether `numbers` is transposed.
        start: The first line.
        stop: The line after the last one.
        first: The first term that is packed.
        last: The term after the last one.
        packed: The packed lines, float64.
    """
    terms = last - first
    for place in range(0, packed.size, LINES * terms):
        group = packed[place : place + LINES * terms].reshape(terms, LINES)
        line = start + place // terms
        end = min(line + LINES, stop)
        block = numbers[first:last, line:end] if turned else numbers[line:end, first:last]
        if end - line < LINES:
            group[:, :] = 0.0
            for i in range(end - line):
                for term in range(terms):
                    group[term, i] = np.float64(block[term, i] if turned else block[i, term])
        elif turned:
            stride = numbers.shape[1]
            copy_columns(terms, numbers, first * stride + line, stride, packed, place)
        else:
            stride, whole = numbers.shape[1], terms - terms % LINES
            if whole:
                copy_lines(whole // LINES, numbers, line * stride + first, stride, packed, place)
            for term in range(whole, terms):
                for i in range(LINES):
                    group[term, i] = np.float64(block[i, term])


@kernel
def terms_of_a_block(k: int) -> int:
    """Return how many terms of k are added at a time: blocks of equal size, but for the last."""
    blocks = (k + TERMS - 1) // TERMS
    return (k + blocks - 1) // blocks


@kernel
def pack_in_blocks(
    numbers: FloatArray, turned: bool, start: int, stop: int, packed: FloatArray
) -> None:
    """Pack all terms of lines, block after block; see `pack`."""
    k = numbers.shape[0] if turned else numbers.shape[1]
    lines, size = packed.size // k, terms_of_a_block(k)
    for first in range(0, k, size):
        last = min(first + size, k)
        pack(numbers, turned, start, stop, first, last, packed[first * lines : last * lines])


@kernel
def multiply_block(
    left: FloatArray,
    left_start: int,
    lines: int,
    height: int,
    right: FloatArray,
    right_start: int,
    width: int,
    k: int,
    low: int,
    high: int,
    product: FloatArray,
    place: int,
) -> None:
    """Fill `product` with that of packed rows and `WIDE` packed columns, tile after tile.

    Args:
        left: Packed rows of k terms.
        left_start: Where they begin in `left`.
        lines: How many rows were packed together.
        height: How many of them are multiplied.
        right: Packed columns.
        right_start: Where those begin that are multiplied.
        width: How many of them are multiplied, and perhaps a few more; `WIDE` or more for all.
        k: The number of terms.
        low: The first term that may not be 0.
        high: The term after the last one that may not be 0.
        product: Room for products, `WIDE` numbers for each row.
        place: Where this product begins in it.
    """
    size, empty = terms_of_a_block(k), True
    registers = min((width + LINES - 1) // LINES, _REGISTERS)
    for first in range(0, k, size):
        begin, end, terms = max(first, low), min(first + size, high), min(size, k - first)
        if begin >= end:
            continue
        skipped, group, count = (begin - first) * LINES, terms * LINES, end - begin
        columns = right_start + first * WIDE + skipped
        for row in range(0, height, LINES):
            rows, here = left_start + first * lines + row * terms + skipped, place + row * WIDE
            if empty:
                set_tile(registers, count, left, rows, right, columns, product, here, group, WIDE)
            else:
                add_tile(registers, count, left, rows, right, columns, product, here, group, WIDE)
        empty = False
    if empty:
        product[place : place + height * WIDE] = 0.0


@kernel
def fill_lengths(packed: FloatArray, k: int, lengths: FloatArray) -> None:
    """Fill `lengths` with those of lines of k terms, packed in blocks; their bits do not matter."""
    squares, size = np.empty(LINES), terms_of_a_block(k)
    lengths[:] = 0.0
    for first in range(0, k, size):
        terms = min(size, k - first)
        for line in range(0, lengths.size, LINES):
            set_squares(terms, packed, first * lengths.size + line * terms, squares)
            for i in range(LINES):
                lengths[line + i] += squares[i]
    for line in range(lengths.size):
        lengths[line] = math.sqrt(lengths[line])
