"""Cells of a delimited text, read column by column with NumPy instead of one Python object each.

A cell's last 16 bytes stand in a row of a matrix. That holds most numbers, which then take a few
operations on all cells at once, and it tells most texts apart, so that equal ones are decoded once.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.records import FloatArray

__all__ = ["Cells", "cut"]

Integers: TypeAlias = NDArray[np.intp]
Bytes: TypeAlias = NDArray[np.uint8]

_WIDTH = 16  # bytes of a cell that are looked at
_WINDOW = np.dtype((np.void, _WIDTH))
# Row k keeps the last k bytes.
_MASKS = np.where(np.tri(_WIDTH + 1, _WIDTH, -1, bool)[:, ::-1], 255, 0).astype(np.uint8)
_EXACT = 2**53  # up to here, float64 holds every integer
_TENS = np.array([float(10**k) for k in range(_WIDTH + 2)])  # all of them are exact
_PLUS, _MINUS, _ZERO = b"+-0"
_DOT = (ord(".") - _ZERO) % 256
_FEW = 500  # lines in which it takes longer to find equal texts than to decode all
_SLOTS = 8  # of a table, for each line, so that few texts share one
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio mixes well (Knuth 6.4)


@attrs.frozen(eq=False)
class Cells:
    """The places of the cells of a text, one row for each column.

    Attributes:
        text: The text in UTF-8, after 16 other bytes, so that 16 bytes stand before each end.
        starts: The place of the first byte of each cell, (columns, lines).
        ends: The place behind the last byte of each cell, (columns, lines).
    """

    text: bytes
    starts: Integers
    ends: Integers

    @property
    def has_empty(self) -> bool:
        """Whether some cell is empty."""
        return bool(np.any(self.starts == self.ends))

    def decimals(self, columns: list[int]) -> tuple[FloatArray, NDArray[np.bool_]]:
        """The numbers in some columns, and which of them are right, both (columns, lines).

        A number is right if it is written with digits, at most one point and a sign, and is short:
        then its digits are an integer that float64 holds exactly, as is the power of ten below it,
        so the one division rounds to the nearest float64 (Clinger 1990). Empty cells are NaN.
        """
        starts, ends = self.starts[columns].ravel(), self.ends[columns].ravel()
        first = np.frombuffer(self.text, np.uint8)[starts]
        negative, empty = first == _MINUS, starts == ends
        lengths = ends - starts - (negative | (first == _PLUS))
        digits = self._last(ends, lengths, zero=_ZERO)
        dots = np.flatnonzero(digits == _DOT)
        digits[dots] = 0
        dotted, decimals = dots // _WIDTH, _WIDTH - 1 - dots % _WIDTH
        least = np.ones(len(ends), np.intp)  # of characters, one of which is a digit
        least[dotted] = 2
        right = (lengths >= least) & (lengths <= _WIDTH)
        right[np.flatnonzero(digits > 9) // _WIDTH] = False
        right[dotted[1:][dotted[1:] == dotted[:-1]]] = False  # two points
        # Neighbors are joined until one integer is left of each cell.
        integers: NDArray[np.unsignedinteger] = digits
        for power, dtype in enumerate((np.uint8, np.uint16, np.uint32, np.uint64)):
            left: NDArray[np.unsignedinteger] = integers[::2].astype(dtype)
            left *= 10 ** (1 << power)
            integers = left + integers[1::2]
        right &= integers <= _EXACT
        numbers = integers.astype(np.float64)
        # The point still counts as a digit 0: the part before it is ten times too large.
        scale, together = _TENS[decimals], numbers[dotted]
        before = np.floor(together / _TENS[decimals + 1])
        numbers[dotted] = (together - before * 9 * scale) / scale
        np.negative(numbers, out=numbers, where=negative)
        numbers[empty] = np.nan
        shape = (len(columns), self.ends.shape[1])
        return numbers.reshape(shape), (right | empty).reshape(shape)

    def texts(self, column: int, lines: Integers) -> list[str]:
        """The texts in some lines of a column."""
        starts, ends = self.starts[column, lines].tolist(), self.ends[column, lines].tolist()
        return [self.text[start:end].decode() for start, end in zip(starts, ends, strict=True)]

    def different(self, column: int) -> tuple[Integers, Integers]:
        """Lines that hold every text of a column, and where each line's text is among them.

        Most texts are in one of these lines only. Long ones may be in more, and so may a text whose
        slot in a table of hashes goes to another one.
        """
        starts, ends = self.starts[column], self.ends[column]
        lengths, rows = ends - starts, np.arange(len(ends))
        if len(rows) < _FEW:
            return rows, rows
        low, high = self._last(ends, lengths).view(np.uint64).reshape(-1, 2).T
        hash_bits = (_SLOTS * len(rows)).bit_length()
        slots = ((high * _ODD ^ low) * _ODD) >> np.uint64(64 - hash_bits)
        owners = np.empty(1 << hash_bits, np.intp)
        owners[slots] = rows
        owner = owners[slots]
        alike = (low == low[owner]) & (high == high[owner]) & (lengths <= _WIDTH)
        owner = np.where(alike, owner, rows)  # others in the same slot keep their own texts
        own = np.flatnonzero(owner == rows)
        places = np.empty(len(rows), np.intp)
        places[own] = np.arange(len(own))
        return own, places[owner]

    def _last(self, ends: Integers, lengths: Integers, *, zero: int = 0) -> Bytes:
        """The last bytes of each cell less `zero`, with 0 in front of a cell's first byte."""
        windows = np.ndarray(len(self.text) - _WIDTH + 1, _WINDOW, self.text, strides=(1,))
        masks = _MASKS.view(_WINDOW).ravel().take(lengths, mode="clip").view(np.uint8)
        chosen = windows[ends - _WIDTH].view(np.uint8)
        chosen -= np.uint8(zero)
        chosen &= masks
        return chosen


def cut(text: str, delimiter: str, columns: int) -> Cells | None:
    """The cells of lines without quotes; None if a line has more or fewer than `columns`.

    Args:
        text: The lines, separated by line feeds. None is blank, and none holds a zero byte.
        delimiter: The character between the cells of a line.
        columns: The number of cells of each line.
    """
    # In UTF-8, a zero byte is never a part of another character; the delimiter may have some.
    data = (" " * (_WIDTH - 1) + "\n" + text.replace(delimiter, "\0") + "\n").encode()
    chars = np.frombuffer(data, np.uint8)
    breaks = chars == ord("\n")
    places = np.flatnonzero(breaks | (chars == 0))
    starts, ends = places[:-1] + 1, places[1:]
    if len(ends) % columns:
        return None
    last = np.arange(columns) == columns - 1
    if not np.array_equal(breaks[ends], np.tile(last, len(ends) // columns)):
        return None
    return Cells(data, *(np.ascontiguousarray(x.reshape(-1, columns).T) for x in (starts, ends)))
