"""What the functions that kernels get from LLVM compute, in Python.

Without numba's compiler a kernel is the Python function that it was written as. Its loops then
compute the same bits, and a mutant of them takes no seconds to compile. Only functions whose
instructions are written for LLVM cannot run. These stand in for them.
"""

import ctypes

import numpy as np
from numpy.lib.stride_tricks import as_strided

__all__ = ["intrinsic"]


def intrinsic(function):
    """Do as `numba.extending.intrinsic`, and return what computes the same in Python."""
    name = function.__name__
    assert name in STAND_INS, f"nothing in {__file__} stands in for {name}"
    return STAND_INS[name](function)


def _plain(stand_in):
    return lambda function: stand_in


def _copy(source, at, target, to, n):
    target.reshape(-1)[to : to + n] = _within(source, at, n)


def _to_read(array):
    view = array.view()
    view.flags.writeable = False
    return view


def _clear(target, to, n):
    _within(target, to, n)[:] = 0


def _within(array, start, n):
    """Return a part of a vector; beyond its ends there is an error instead of other memory."""
    assert 0 <= start <= start + n <= array.size
    return array.reshape(-1)[start : start + n]


_LOOP = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)


def _call(loop, pointers, sizes, steps):
    """Call a loop of NumPy."""
    lists = [np.array(some, np.int64) for some in (pointers, sizes, steps)]
    _LOOP(loop[0])(*(some.ctypes.data for some in lists), loop[1] or None)


def _first(array, start):
    return array.ctypes.data + int(start) * array.itemsize


def _matmul(
    loop, a, at_a, row_a, column_a, b, at_b, row_b, column_b, out, at_out, row_out, m, n, k
):  # fmt: skip
    for array, start, *steps in (
        (a, at_a, (m, row_a), (k, column_a)), (b, at_b, (k, row_b), (n, column_b)),
        (out, at_out, (m, row_out), (n, 1)),
    ):  # fmt: skip
        _within(array, start, 1 + sum((count - 1) * step for count, step in steps))
    size = a.itemsize
    steps = [0, 0, 0, row_a, column_a, row_b, column_b, row_out, 1]
    pointers = _first(a, at_a), _first(b, at_b), _first(out, at_out)
    _call(loop, pointers, [1, m, k, n], [size * step for step in steps])


def _outer(gemm, a, at_a, b, at_b, out, at_out, m, n):
    column, row = (_within(x, at, n)[:] for x, at, n in ((a, at_a, m), (b, at_b, n)))
    _matrix(out, at_out, n, m, n)[:] = column[:, np.newaxis].dot(row[np.newaxis])


def _add_scaled(axpy, scale, x, at_x, y, at_y, count):
    _within(y, at_y, count)[:] += scale * _within(x, at_x, count)


def _apply(loop, x, at_x, y, at_y, count):
    _within(x, at_x, count), _within(y, at_y, count)
    _call(loop, [_first(x, at_x), _first(y, at_y)], [count], [x.itemsize] * 2)


def _apply_to_pairs(loop, x, at_x, y, at_y, step_y, out, at_out, count):
    _within(x, at_x, count), _within(out, at_out, count)
    _within(y, at_y, count if step_y else 1)
    pointers = _first(x, at_x), _first(y, at_y), _first(out, at_out)
    _call(loop, pointers, [count], [x.itemsize, step_y * x.itemsize, x.itemsize])


def _reduce(loop, x, at_x, count, total, at_total):
    _within(x, at_x, count), _within(total, at_total, 1)
    result = _first(total, at_total)
    _call(loop, [result, _first(x, at_x), result], [count], [0, x.itemsize, 0])


def _matrix(array, start, row, m, n):
    some = _within(array, start, (m - 1) * row + n)
    return as_strided(some, (m, n), (row * array.itemsize, array.itemsize))


def _high_half(x, y):
    return np.uint64(int(x) * int(y) >> 64)


def _block_of(function):
    rows = function.__closure__[function.__code__.co_freevars.index("rows")].cell_contents
    width = function.__globals__["COLUMNS_OF_A_BLOCK"]

    def numbers(address, shape, steps):
        size = 1 + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
        memory = np.frombuffer((ctypes.c_double * size).from_address(address))
        return as_strided(memory, shape, [8 * step for step in steps])

    def block(left, row_step, term_step, right, terms, out, columns):
        numbers(out, (rows, width), (columns, 1))[:] = numbers(
            left, (rows, terms), (row_step, term_step)
        ) @ numbers(right, (terms, width), (columns, 1))

    return block


def _set_tile_of(function, adds=False):
    lines = function.__globals__["LINES"]

    def set_tile(groups, terms, left, left_at, right, right_at, out, out_at, right_group, out_row):
        rows = _within(left, left_at, terms * lines).reshape(terms, lines)
        result = _matrix(out, out_at, out_row, lines, groups * lines)
        with np.errstate(all="ignore"):
            for i in range(groups):
                columns = _within(right, right_at + i * right_group, terms * lines)
                tile = rows.T @ columns.reshape(terms, lines)
                place = result[:, i * lines : (i + 1) * lines]
                place[:] = place + tile if adds else tile

    return set_tile


def _set_squares_of(function):
    lines = function.__globals__["LINES"]

    def set_squares(terms, packed, start, squares):
        with np.errstate(all="ignore"):
            group = _within(packed, start, terms * lines).reshape(terms, lines)
            _within(squares, 0, lines)[:] = np.square(group).sum(axis=0)

    return set_squares


def _set_nearest_of(function):
    lines, wide = function.__globals__["LINES"], function.__globals__["WIDE"]

    def set_nearest(product, rows, row, columns, column, out, start, stride):
        with np.errstate(all="ignore"):
            bound = np.multiply.outer(_within(rows, row, lines), _within(columns, column, wide))
            total = _matrix(product, row * wide, wide, lines, wide)
            lower, upper = (np.float32(total + sign * bound) for sign in (-1, 1))
            _matrix(out, start, stride, lines, wide)[:] = upper + np.float32(0.0)
            return bool((lower != upper).any())

    return set_nearest


def _copy_lines_of(function):
    lines = function.__globals__["LINES"]

    def copy_lines(blocks, numbers, start, stride, packed, place):
        n = blocks * lines
        rows = _matrix(numbers, start, stride, lines, n)
        _within(packed, place, n * lines).reshape(n, lines)[:] = rows.T

    return copy_lines


def _copy_columns_of(function):
    lines = function.__globals__["LINES"]

    def copy_columns(terms, numbers, start, stride, packed, place):
        columns = _matrix(numbers, start, stride, terms, lines)
        _within(packed, place, terms * lines).reshape(terms, lines)[:] = columns

    return copy_columns


STAND_INS = {
    "_copy": _plain(_copy),
    "_clear": _plain(_clear),
    "_to_read": _plain(_to_read),
    "_write_matmul": _plain(_matmul),
    "_write_outer": _plain(_outer),
    "_write_add_scaled": _plain(_add_scaled),
    "_write_apply": _plain(_apply),
    "_write_apply_to_pairs": _plain(_apply_to_pairs),
    "_write_reduce": _plain(_reduce),
    "_high_half": _plain(_high_half),
    "block": _block_of,
    "set_tile": _set_tile_of,
    "add_tile": lambda function: _set_tile_of(function, adds=True),
    "set_squares": _set_squares_of,
    "set_nearest": _set_nearest_of,
    "copy_lines": _copy_lines_of,
    "copy_columns": _copy_columns_of,
}
