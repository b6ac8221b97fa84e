"""Numbers that differ from the recorded ones: which is the first, and how large the gap is."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import attrs
import numpy as np

from pydnn.fingerprints import same_bits, ulps_apart
from pydnn.parameters import Packed
from pydnn.runs.history import Column, Rows
from pydnn.runs.segments import Segment
from pydnn.runs.state_arrays import arrays_of, state_fingerprint
from pydnn.training import TrainState

__all__ = [
    "Mismatch",
    "apart_in_words",
    "bits_of",
    "fingerprint_mismatch",
    "first_mismatch",
    "in_hex",
    "mismatches",
    "state_mismatch",
    "ulps_in_words",
]


@attrs.frozen
class Mismatch:
    """A number of a step that differs from the recorded one.

    Attributes:
        step: The number of the step; -1 for the initial state.
        quantity: The name of the number, e.g. "cost" or "observed learning_rate".
        recorded: The number in the run; None if the run has none.
        here: The number that was computed here; None if there is none.
        dtype: The dtype of the training; the distance is counted in its ulps.
    """

    step: int
    quantity: str
    recorded: np.generic | None
    here: np.generic | None
    dtype: str = "float64"

    @property
    def ulps(self) -> int | None:
        """The distance of the two numbers in floats of `dtype`; 0 if it is less than one float.

        None if they are not two floats of the same dtype.
        """
        a, b = self.recorded, self.here
        if not (isinstance(a, np.floating) and isinstance(b, np.floating)) or a.dtype != b.dtype:
            return None
        # Rows hold all numbers as float64. Between two neighboring floats of float32 lie 2**29 of
        # float64, so a distance in these would say nothing about a training in float32.
        with np.errstate(over="ignore", under="ignore"):
            return ulps_apart(*(np.asarray(number).astype(self.dtype) for number in (a, b)))

    @property
    def gap(self) -> float | None:
        """The absolute difference of the two numbers; None if `ulps` is None."""
        if self.ulps is None or self.recorded is None or self.here is None:
            return None
        return abs(float(self.here) - float(self.recorded))

    @property
    def apart(self) -> str:
        """The distance as the end of a sentence; empty if `gap` is None."""
        if self.gap is None:
            return ""
        return f", {apart_in_words(self.gap, self.ulps, self.dtype)} apart"

    def __str__(self) -> str:
        where = f"step {self.step}" if self.step >= 0 else "before the first step"
        values = f"recorded {in_hex(self.recorded)}, here {in_hex(self.here)}"
        return f"{where}: {self.quantity} differs, {values}{self.apart}"


def first_mismatch(recorded: Rows, here: Rows, *, dtype: str) -> Mismatch | None:
    """The first number of the steps in `here` that differs from the recorded one; None if none.

    Args:
        recorded: The recorded rows, which include those of the same steps.
        here: The rows that were computed again.
        dtype: The dtype of the training, e.g. "float32".
    """
    return next(mismatches(recorded, here, dtype=dtype), None)


def mismatches(
    recorded: Rows, here: Rows, *, dtype: str, measured: Collection[str] = ()
) -> Iterator[Mismatch]:
    """All numbers of the steps in `here` that differ from the recorded ones, step by step.

    Args:
        recorded: The recorded rows, which include those of the same steps.
        here: The rows that were computed again.
        dtype: The dtype of the training, e.g. "float32".
        measured: The names of the measurements that were made again. No step depends on the
            others, so they are compared only if `here` has them.
    """
    then = recorded.between(here.start, here.stop)
    unlike = np.zeros(len(here), bool)
    for name in here.always:
        unlike |= ~same_bits(then.always[name], here.always[name])
    not_made = [
        (kind, name)
        for kind, name in then.columns
        if kind == "measured" and name not in measured and (kind, name) not in here.columns
    ]
    then = then.without(not_made)
    for column in {*then.columns, *here.columns}:
        if not _same(then.columns.get(column), here.columns.get(column)):
            unlike[:] = True  # it differs at some step: the loop below compares all of them
    for i in np.flatnonzero(unlike).tolist():
        step = here.start + i
        a, b = then.numbers(step), here.numbers(step)
        for quantity in dict.fromkeys([*a, *b]):
            x, y = a.get(quantity), b.get(quantity)
            if x is None or y is None or not same_bits(np.asarray(x), np.asarray(y)).all():
                yield Mismatch(step, quantity, x, y, dtype)


def _same(a: Column | None, b: Column | None) -> bool:
    return (
        a is not None
        and b is not None
        and np.array_equal(a.steps, b.steps)
        and bool(same_bits(a.values, b.values).all())
    )


def state_mismatch(recorded: TrainState, here: TrainState, *, step: int) -> Mismatch | None:
    """The first number of the state after a step that differs from the recorded one; None if none.

    Args:
        recorded: The recorded state.
        here: The state that was computed again.
        step: The number of the step.
    """
    then, now = arrays_of(recorded), arrays_of(here)
    for name, array in then.items():
        other = now[name]
        if array.shape != other.shape or array.dtype != other.dtype:
            kinds = (np.str_(f"{a.dtype} {a.shape}") for a in (array, other))
            return Mismatch(step, f"{name} of the state", *kinds)
        places = np.flatnonzero(~same_bits(array, other))
        if places.size:
            i = int(places[0])
            packed = getattr(recorded, name, None)
            where = _where(packed, i) if isinstance(packed, Packed) else f"{name}[{i}]"
            count = f"{places.size} of {array.size} numbers, the first {where}"
            what, dtype = f"the state after it ({count})", recorded.parameters.vector.dtype.name
            return Mismatch(step, what, array.flat[i], other.flat[i], dtype)
    return None


def fingerprint_mismatch(segment: Segment, here: TrainState) -> Mismatch | None:
    """The mismatch if a state does not have the fingerprint that a segment holds; else None."""
    computed = state_fingerprint(here)
    if computed == segment.state_sha256:
        return None
    pair = (np.str_(digits[:16]) for digits in (segment.state_sha256, computed))
    return Mismatch(segment.iteration - 1, "the fingerprint of the state after it", *pair)


def _where(packed: Packed, i: int) -> str:
    """The array, and the index in it, that entry `i` of a vector belongs to."""
    slot = next(slot for slot in packed.layout.slots if slot.start <= i < slot.stop)
    index = np.unravel_index(i - slot.start, slot.shape)
    return f"{slot.name}[{', '.join(str(int(n)) for n in index)}]"


def ulps_in_words(ulps: int, dtype: str = "float64") -> str:
    """A distance in units in the last place, in words; beyond a million it is rounded.

    >>> ulps_in_words(1), ulps_in_words(0, "float32"), ulps_in_words(2_000_000)
    ('1 ulp', 'less than 1 ulp of float32', '2.0e+06 ulps')
    """
    of = "" if dtype == "float64" else f" of {dtype}"
    if ulps > 10**6:
        return f"{ulps:.1e} ulps{of}"
    return (f"{ulps} ulp{'s' * (ulps != 1)}" if ulps else "less than 1 ulp") + of


def apart_in_words(gap: float, ulps: int | None, dtype: str = "float64") -> str:
    """A distance of two floats in words, as a number and in ulps of `dtype`.

    >>> apart_in_words(2.2e-16, 1)
    '2.2e-16 (1 ulp)'
    """
    return f"{gap:.3g}" + ("" if ulps is None else f" ({ulps_in_words(ulps, dtype)})")


def in_hex(number: np.generic | None) -> str:
    """All bits of a number for people: hexadecimal, followed by the decimals of a float.

    >>> in_hex(np.float64(0.5))
    '0x1.0000000000000p-1 (0.5)'
    """
    bits = bits_of(number)
    if bits is None:
        return "none"
    return f"{bits} ({float(number):.9g})" if isinstance(number, np.floating) else bits


def bits_of(number: np.generic | None) -> str | None:
    """All bits of a number in hexadecimal; None for None."""
    if number is None or isinstance(number, np.str_):
        return number
    return float(number).hex() if isinstance(number, np.floating) else hex(int(number))
