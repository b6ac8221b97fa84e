"""Numbers that are not the recorded ones: the first of them, and how far apart the two are."""

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
    """A number of a step that is not the recorded one.

    Attributes:
        step: The step's number; -1 for the initial state.
        quantity: E.g. "cost", or "observed learning_rate".
        recorded: The number in the run; None where it has none.
        here: The number that was computed now; None where there is none.
        dtype: The dtype that the run is trained in, in whose ulps the distance is counted.
    """

    step: int
    quantity: str
    recorded: np.generic | None
    here: np.generic | None
    dtype: str = "float64"

    @property
    def ulps(self) -> int | None:
        """How many floats of `dtype` lie from one number to the other, 0 for less than one.

        None where that means nothing.
        """
        a, b = self.recorded, self.here
        if not (isinstance(a, np.floating) and isinstance(b, np.floating)) or a.dtype != b.dtype:
            return None
        # Rows hold the numbers of every run as float64, which has 2**29 floats for one of float32.
        with np.errstate(over="ignore", under="ignore"):
            return ulps_apart(*(np.asarray(number).astype(self.dtype) for number in (a, b)))

    @property
    def gap(self) -> float | None:
        """The difference of the two as a number; None where that means nothing."""
        if self.ulps is None or self.recorded is None or self.here is None:
            return None
        return abs(float(self.here) - float(self.recorded))

    @property
    def apart(self) -> str:
        """The end of a sentence on how far apart the two are; "" where that means nothing."""
        if self.gap is None:
            return ""
        return f", {apart_in_words(self.gap, self.ulps, self.dtype)} apart"

    def __str__(self) -> str:
        where = f"step {self.step}" if self.step >= 0 else "before the first step"
        told = f"recorded {in_hex(self.recorded)}, here {in_hex(self.here)}"
        return f"{where}: {self.quantity} differs, {told}{self.apart}"


def first_mismatch(recorded: Rows, here: Rows, *, dtype: str) -> Mismatch | None:
    """The first number of the steps of `here`, trained in `dtype`, that is not the recorded one."""
    return next(mismatches(recorded, here, dtype=dtype), None)


def mismatches(
    recorded: Rows, here: Rows, *, dtype: str, measured: Collection[str] = ()
) -> Iterator[Mismatch]:
    """Every number of the steps of `here` that is not the recorded one, in their order.

    Args:
        recorded: Rows among which are those of the same steps.
        here: Rows that were computed again.
        dtype: The dtype that the run is trained in, e.g. "float32".
        measured: Names of the measurements that were made again, at whatever steps they belong.
            Others, which no step depends on, are compared only where `here` has them.
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
            unlike[:] = True  # somewhere: the numbers of each step will tell
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
    """The first number of a state, after the step of that number, that is not the recorded one."""
    then, now = arrays_of(recorded), arrays_of(here)
    for name, array in then.items():
        other = now[name]
        if array.shape != other.shape or array.dtype != other.dtype:
            told = (np.str_(f"{a.dtype} {a.shape}") for a in (array, other))
            return Mismatch(step, f"{name} of the state", *told)
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
    """That a state is not the one of a segment, which may hold no more of it than a fingerprint."""
    found = state_fingerprint(here)
    if found == segment.state_sha256:
        return None
    told = (np.str_(digits[:16]) for digits in (segment.state_sha256, found))
    return Mismatch(segment.iteration - 1, "the fingerprint of the state after it", *told)


def _where(packed: Packed, i: int) -> str:
    """The name of the array, and the index in it, of entry `i` of a vector."""
    slot = next(slot for slot in packed.layout.slots if slot.start <= i < slot.stop)
    index = np.unravel_index(i - slot.start, slot.shape)
    return f"{slot.name}[{', '.join(str(int(n)) for n in index)}]"


def ulps_in_words(ulps: int, dtype: str = "float64") -> str:
    """A distance in units in the last place, exact where anybody would count them."""
    of = "" if dtype == "float64" else f" of {dtype}"
    if ulps > 10**6:
        return f"{ulps:.1e} ulps{of}"
    return (f"{ulps} ulp{'s' * (ulps != 1)}" if ulps else "less than 1 ulp") + of


def apart_in_words(gap: float, ulps: int | None, dtype: str = "float64") -> str:
    """How far apart two floats are: as a number, and in units in the last place of `dtype`."""
    return f"{gap:.3g}" + ("" if ulps is None else f" ({ulps_in_words(ulps, dtype)})")


def in_hex(number: np.generic | None) -> str:
    """All bits of a number, for people: hexadecimal, and for a float its decimals, too."""
    bits = bits_of(number)
    if bits is None:
        return "none"
    return f"{bits} ({float(number):.9g})" if isinstance(number, np.floating) else bits


def bits_of(number: np.generic | None) -> str | None:
    """All bits of a number in hexadecimal; None for none."""
    if number is None or isinstance(number, np.str_):
        return number
    return float(number).hex() if isinstance(number, np.floating) else hex(int(number))
