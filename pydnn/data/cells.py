"""Cells of a delimited text, read with NumPy instead of one Python object each.

Numbers take a few operations on all cells at once: eight digits are one integer of 64 bits, which
becomes their value in three multiplications. The last 16 bytes of a cell tell most texts apart, so
that equal ones are decoded once.
"""

from __future__ import annotations

import functools
from typing import TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.records import FloatArray

__all__ = ["Cells", "cut"]

Integers: TypeAlias = NDArray[np.intp]
Words: TypeAlias = NDArray[np.uint64]
Truths: TypeAlias = NDArray[np.bool_]
Bytes: TypeAlias = NDArray[np.uint8]

# Numbers
_WORD = np.dtype("<u8")  # eight bytes of which the first one is the lowest
_EIGHT = _WORD.itemsize
_DIGITS = 3 * _EIGHT  # the most digits before the point, and behind it
_BEFORE = b" " * (_DIGITS - 1) + b"\n"  # in front of a text
_PLUS, _MINUS, _ZERO, _POINT, _BREAK, _E = b"+-0.\ne"
_SMALL = 0x20  # the bit in which E and e differ
_ZEROS = np.uint64(0x3030303030303030)  # eight digits 0
_TO_HIGH, _HIGH = np.uint64(0x7676767676767676), np.uint64(0x8080808080808080)
_PAIRS = np.uint64(0x000000FF000000FF)
_FIRST_PAIRS = np.uint64(100 + (1_000_000 << 32))
_LAST_PAIRS = np.uint64(1 + (10_000 << 32))
_INTEGERS = np.array([10**power for power in range(20)], np.uint64)
_MOST = 9.2e18  # of an integer: it has 63 bits, and sums are estimated in float64
_FITTING = 18  # digits that are never more than that
_EXACT = np.uint64(2**53)  # up to here, float64 holds every integer
_TENS = np.array([float(10**power) for power in range(23)])  # all of them are exact
_MOST_POWER = 250  # of ten, so that products neither overflow nor lose bits below
_HALF = 2.0**27 + 1  # a product with it cuts off the lower 26 bits (Dekker 1971)
_SLACK = 2.0**-98  # more than the relative error of a product of pairs, which is below 2^-102

# Texts
_WIDTH = 16  # bytes of a cell that are looked at
_WINDOW = np.dtype((np.void, _WIDTH))
# Row k keeps the last k bytes.
_MASKS = np.where(np.tri(_WIDTH + 1, _WIDTH, -1, bool)[:, ::-1], 255, 0).astype(np.uint8)
_FEW = 500  # lines in which it takes longer to find equal texts than to decode all
_SLOTS = 8  # of a table, for each line, so that few texts share one
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio mixes well (Knuth 6.4)


@attrs.frozen(eq=False)
class Cells:
    """The places of the cells of a text, all (lines, columns).

    Attributes:
        text: The text in UTF-8, after other bytes, so that 24 bytes stand before each end.
        starts: The place of the first byte of each cell.
        points: The place of the first point or letter e in it, else its end.
        stops: The place behind its last byte.
        inside: The number of points and letters e in it.
        exponents: The place of the last of them if that is a letter, else the end of the cell; None
            if there are no such letters.
        has_points: Whether `inside` is above 0 anywhere.
    """

    text: bytes
    starts: Integers
    points: Integers
    stops: Integers
    inside: Integers
    exponents: Integers | None
    has_points: bool

    def decimals(self, columns: list[int]) -> tuple[FloatArray, Truths]:
        """The numbers in some columns, and which of them are right, both (columns, lines).

        A number is right if it is written with digits, at most one point and a sign, and perhaps
        an exponent; its digits are an integer of 63 bits; and it is clear how to round it to the
        nearest float64. Empty cells are NaN.
        """
        lines, width = self.stops.shape
        every = columns == list(range(width))

        def of(places: Integers) -> Integers:
            return (places if every else places.take(columns, axis=1)).ravel()

        starts, stops = of(self.starts), of(self.stops)
        signs = np.frombuffer(self.text, np.uint8).take(starts)
        negative = signs == _MINUS
        cells = _Numbers(
            self.text, starts + (negative | (signs == _PLUS)), of(self.points), stops,
            of(self.inside), None if self.exponents is None else of(self.exponents),
        )  # fmt: skip
        longer = cells.longer(has_points=self.has_points)
        if 2 * len(longer) < len(stops):
            numbers, right = cells.short(has_points=self.has_points)
            if longer.size:
                numbers[longer], right[longer] = cells.only(longer).long()
        else:
            numbers, right = cells.long()
        if negative.any():
            numbers.view(np.uint64)[...] ^= negative.astype(np.uint64) << np.uint64(63)
        empty = starts == stops
        if empty.any():
            numbers[empty], right[empty] = np.nan, True
        return numbers.reshape(lines, -1).T, right.reshape(lines, -1).T

    def texts(self, column: int, lines: Integers) -> list[str]:
        """The texts in some lines of a column."""
        starts, stops = self.starts[lines, column].tolist(), self.stops[lines, column].tolist()
        return [self.text[start:stop].decode() for start, stop in zip(starts, stops, strict=True)]

    def different(self, column: int) -> tuple[Integers, Integers]:
        """Lines that hold every text of a column, and where each line's text is among them.

        Most texts are in one of these lines only. Long ones may be in more, and so may a text whose
        slot in a table of hashes goes to another one.
        """
        starts, ends = (
            np.ascontiguousarray(places[:, column]) for places in (self.starts, self.stops)
        )
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

    def _last(self, ends: Integers, lengths: Integers) -> Bytes:
        """The last bytes of each cell, with 0 in front of a cell's first byte."""
        windows = np.ndarray(len(self.text) - _WIDTH + 1, _WINDOW, self.text, strides=(1,))
        masks = _MASKS.view(_WINDOW).ravel().take(lengths, mode="clip").view(np.uint8)
        chosen = windows[ends - _WIDTH].view(np.uint8)
        chosen &= masks
        return chosen


@attrs.frozen(eq=False)
class _Numbers:
    """The places of numbers without their signs, in one axis; see `Cells`."""

    text: bytes
    begins: Integers
    points: Integers
    stops: Integers
    inside: Integers
    exponents: Integers | None

    def only(self, which: Integers) -> _Numbers:
        return _Numbers(
            self.text,
            self.begins[which],
            self.points[which],
            self.stops[which],
            self.inside[which],
            None if self.exponents is None else self.exponents[which],
        )

    def longer(self, *, has_points: bool) -> Integers:
        """Those that `short` does not read."""
        longer = self._counts(has_points) > _EIGHT
        if self.exponents is not None:
            longer |= self.exponents != self.stops
        return np.flatnonzero(longer)

    def short(self, *, has_points: bool) -> tuple[FloatArray, Truths]:
        """The numbers of at most eight digits, without exponents, and which are right."""
        words = self._words(self.stops)
        counts = self._counts(has_points)
        right = counts > 0
        if not has_points:
            return _joined(words, counts, right).view(np.int64).astype(np.float64), right
        right &= self.inside <= 1
        behind = self.stops - self.points - self.inside
        # The bytes before the point move up, over the point.
        ninth = np.frombuffer(self.text, np.uint8).take(self.stops - _EIGHT - 1) ^ _ZERO
        moved = words << (self.inside * 8).view(np.uint64)
        moved |= (ninth * self.inside).view(np.uint64)
        fraction = (behind * 8).view(np.uint64)
        moved <<= fraction
        moved >>= fraction
        others = np.uint64(64) - fraction
        words >>= others
        words <<= others
        words |= moved
        numbers = _joined(words, counts, right).view(np.int64).astype(np.float64)
        numbers /= _TENS.take(behind, mode="clip")
        return numbers, right

    def _counts(self, has_points: bool) -> Integers:
        """The numbers of digits, if there is no exponent."""
        counts = self.stops - self.begins
        if has_points:
            counts -= self.inside
        return counts

    def long(self) -> tuple[FloatArray, Truths]:
        """All numbers, and which are right."""
        right = np.ones(len(self.stops), np.bool_)
        powers, stops, inside = np.zeros(1, np.intp), self.stops, self.inside
        if self.exponents is not None:
            stops = self.exponents
            inside = inside - (stops != self.stops)
            powers = self._powers(self.exponents, right)
            points = np.frombuffer(self.text, np.uint8).take(self.points)
            right &= (inside == 0) | (points == _POINT)
        before, behind = self.points - self.begins, stops - self.points
        behind -= behind > 0  # the point itself
        right &= (inside <= 1) & (before + behind > 0)
        integers = self._integers(self.points, before, right)
        if behind.any():
            fractions = self._integers(stops, behind, right)
            tens = _INTEGERS.take(behind, mode="clip")
            long = np.flatnonzero(before + behind > _FITTING)
            estimates = integers[long].astype(np.float64) * tens[long] + fractions[long]
            right[long] &= estimates < _MOST
            integers *= tens
            integers += fractions
            powers = powers - behind
        return _scaled(integers, powers, right), right

    def _powers(self, exponents: Integers, right: Truths) -> Integers:
        """The powers of ten that are written as exponents; others are marked in `right`."""
        powers = np.zeros(len(right), np.intp)
        which = np.flatnonzero(exponents != self.stops)
        stops, begins = self.stops[which], exponents[which] + 1
        signs = np.frombuffer(self.text, np.uint8).take(begins)
        negative = signs == _MINUS
        begins += negative | (signs == _PLUS)
        are_right = begins < stops
        values = self._integers(stops, stops - begins, are_right)
        are_right &= values <= 2 * _MOST_POWER
        signed = np.minimum(values, 2 * _MOST_POWER).astype(np.intp)
        np.negative(signed, out=signed, where=negative)
        powers[which], right[which] = signed, are_right
        return powers

    def _integers(self, stops: Integers, counts: Integers, right: Truths) -> Words:
        """The integers of `counts` digits before `stops`; others are marked in `right`."""
        integers = _joined(self._words(stops), np.minimum(counts, _EIGHT), right)
        for done in range(_EIGHT, _DIGITS, _EIGHT):
            longer = _few(counts > done)
            if longer is None:
                return integers
            are_right = right[longer]
            left = np.clip(counts[longer] - done, 0, _EIGHT)
            higher = _joined(self._words(stops[longer] - done), left, are_right)
            are_right &= higher <= np.uint64(_MOST / 10**done)
            right[longer] = are_right
            higher *= _INTEGERS[done]
            integers[longer] += higher
        right &= counts <= _DIGITS
        return integers

    def _words(self, stops: Integers) -> Words:
        """The eight bytes before each place, less that of the digit 0 if they are digits."""
        windows = np.ndarray(len(self.text) - _EIGHT + 1, _WORD, self.text, strides=(1,))
        words: Words = windows[stops - _EIGHT].astype(np.uint64, copy=False)
        words ^= _ZEROS
        return words


def _joined(words: Words, counts: Integers, right: Truths) -> Words:
    """The integers whose digits are the last `counts` bytes; others are marked in `right`."""
    others = np.uint64(64) - (counts * 8).view(np.uint64)
    words >>= others  # the bytes before the digits
    words <<= others
    spare = words + _TO_HIGH  # one for all operations, so that both stay in the cache
    spare |= words
    spare &= _HIGH
    right &= spare == 0  # each byte is at most 9
    # Neighbors are joined: digits to pairs, and four pairs at once to the integer.
    np.right_shift(words, np.uint64(8), out=spare)
    words *= np.uint64(10)
    words += spare
    np.right_shift(words, np.uint64(16), out=spare)
    spare &= _PAIRS
    words &= _PAIRS
    words *= _FIRST_PAIRS
    spare *= _LAST_PAIRS
    words += spare
    words >>= np.uint64(32)
    return words


def _scaled(integers: Words, powers: Integers, right: Truths) -> FloatArray:
    """The float64 nearest to integers of 63 bits times powers of ten.

    Where it is not clear which one is nearest, this is marked in `right`.
    """
    numbers = integers.view(np.int64).astype(np.float64)
    # One division of numbers that float64 holds exactly rounds to the nearest (Clinger 1990).
    numbers /= _TENS.take(-powers, mode="clip")
    hard = _few((integers > _EXACT) | (powers > 0) | (powers <= -len(_TENS)))
    if hard is None:
        return numbers
    # Each factor is a pair of float64, whose sum has twice the bits.
    whole = integers[hard].view(np.int64)
    high = whole.astype(np.float64)
    with np.errstate(invalid="ignore"):  # of those that are not right, 2^63 may be one
        low = (whole - high.astype(np.int64)).astype(np.float64)
    rows = np.broadcast_to(powers, numbers.shape)[hard] + _MOST_POWER
    ten, ten_low = (tens.take(rows, mode="clip") for tens in _pairs_of_tens())
    product = high * ten
    (a, b), (c, d) = _halves(high), _halves(ten)
    error = (((a * c - product) + a * d) + b * c) + b * d  # product + error is exact (Dekker 1971)
    error += high * ten_low + low * ten
    nearest = product + error
    error -= nearest - product
    slack = nearest * _SLACK
    sure = (nearest + (error - slack) == nearest) & (nearest + (error + slack) == nearest)
    right[hard] &= sure & (rows >= 0) & (rows <= 2 * _MOST_POWER)
    numbers[hard] = nearest
    return numbers


def _few(chosen: Truths) -> Integers | slice | None:
    """The places of some; all if that is most of them, and None if it is none."""
    places = np.flatnonzero(chosen)
    if 2 * len(places) > len(chosen):
        return slice(None)  # arrays are not copied, which takes longer than a few places
    return places if places.size else None


def _halves(numbers: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Two numbers of 26 bits each, whose sum is the number."""
    scaled = numbers * _HALF
    high = scaled - (scaled - numbers)
    return high, numbers - high


@functools.cache
def _pairs_of_tens() -> FloatArray:
    """The nearest float64 of each power of ten, and below it that of the rest, (2, powers)."""
    pairs = []
    for power in range(-_MOST_POWER, _MOST_POWER + 1):
        above, below = 10 ** max(0, power), 10 ** max(0, -power)
        high = above / below  # Python divides integers to the nearest float64
        a, b = high.as_integer_ratio()
        pairs.append((high, (above * b - a * below) / (b * below)))
    return np.array(pairs).T


def cut(text: bytes, delimiter: str, columns: int) -> Cells | None:
    """The cells of lines without quotes; None if a line has more or fewer than `columns`.

    Args:
        text: The lines in UTF-8, separated by line feeds; there may be one after the last. None is
            blank, and none holds a zero byte.
        delimiter: The character between the cells of a line.
        columns: The number of cells of each line.
    """
    between = delimiter.encode()
    if len(between) > 1:  # in UTF-8, a zero byte is never a part of another character
        text, between = text.replace(between, b"\0"), b"\0"
    text = b"".join((_BEFORE, text, b"" if text.endswith(b"\n") else b"\n"))
    chars = np.frombuffer(text, np.uint8)
    marked = (chars == between[0]) | (chars == _BREAK)
    marked |= chars == _POINT
    marked |= (chars | _SMALL) == _E
    marks = np.flatnonzero(marked)
    kinds = chars.take(marks)
    breaks = kinds == _BREAK
    of_cells = breaks | (kinds == between[0])
    which = np.flatnonzero(of_cells)
    befores, ends = which[:-1], which[1:]
    if len(ends) % columns:
        return None
    are_last = breaks.take(ends).reshape(-1, columns)
    if are_last[:, :-1].any() or not are_last[:, -1].all():
        return None
    inside = ends - befores - 1
    letters = (kinds | _SMALL) == _E
    letters &= ~of_cells
    exponents = None
    if letters.any():
        exponents = marks.take(ends - (letters.take(ends - 1) & (inside > 0)))
        exponents = exponents.reshape(-1, columns)
    if len(marks) == len(which):  # without points, marks need not be looked up
        starts, points, stops = marks[:-1] + 1, marks[1:], marks[1:]
    else:
        starts, points = marks.take(befores) + 1, marks.take(befores + 1)
        stops = marks.take(ends)
    return Cells(
        text,
        starts=starts.reshape(-1, columns),
        points=points.reshape(-1, columns),
        stops=stops.reshape(-1, columns),
        inside=inside.reshape(-1, columns),
        exponents=exponents,
        has_points=len(marks) > len(which),
    )
