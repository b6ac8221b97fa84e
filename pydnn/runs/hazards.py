"""Settings of this process and machine that may change the bits of a training."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import attrs
import numpy as np

from pydnn.numerics import Numerics, fast
from pydnn.numerics.blas_threads import THREADS
from pydnn.numerics.portable.platform_checks import (
    adds_exactly,
    flushes_to_zero,
    pointer_bits,
    rounds_to_nearest,
)
from pydnn.runs.environment import BUFFER, DISPATCH, VARYING_THREADS, plain

__all__ = ["Hazard", "hazards"]


@attrs.frozen
class Hazard:
    """A setting of this process that the bits of its results depend on.

    Attributes:
        what: The name of the setting, e.g. "OPENBLAS_CORETYPE".
        found: Its value here.
        advice: What the value means, and what to do.
        breaks: Whether it may change results; otherwise it is shown for information.
    """

    what: str
    found: str
    advice: str
    breaks: bool


def hazards(numerics: Numerics = fast) -> list[Hazard]:
    """The settings of this process that can break the promise of the same bits.

    Args:
        numerics: The arithmetic. Portable arithmetic depends on fewer settings.
    """
    if numerics.exact:
        return list(_hazards_of_processor())
    return [*_hazards_of_variables(os.environ), *_hazards_of_processor(), *_hazards_of_process()]


def _hazards_of_variables(variables: Mapping[str, str]) -> Iterator[Hazard]:
    threads = [name for name in THREADS if name in variables]
    for name in threads:
        advice = "products may have other bits with another number: replay runs with this one"
        yield Hazard(name, plain(variables[name]), advice, breaks=False)
    if not threads:
        advice = (
            "BLAS uses one thread per core, and products may have other bits with another number: "
            "set OPENBLAS_NUM_THREADS to keep it the same"
        )
        yield Hazard("thread count", "set by no variable", advice, breaks=False)
    for name in VARYING_THREADS:
        if variables.get(name, "").strip(" .").lower() in ("1", "true", "t", "yes", "on"):
            advice = "the number of threads may change from one product to the next: unset it"
            yield Hazard(name, plain(variables[name]), advice, breaks=True)
    for name in DISPATCH:
        if name in variables:
            advice = "libraries may use other functions than they would for this CPU: unset it"
            yield Hazard(name, plain(variables[name]), advice, breaks=True)


def _hazards_of_processor() -> Iterator[Hazard]:
    """The settings that break even portable arithmetic."""
    for dtype in (np.float64, np.float32):
        if flushes_to_zero(dtype):
            name = np.dtype(dtype).name
            advice = (
                "a library that was compiled with -ffast-math has switched this on for the whole "
                "process: find that library among your imports and remove it"
            )
            yield Hazard(f"tiny {name} numbers", "flushed to zero", advice, breaks=True)
        if not rounds_to_nearest(dtype):
            name = np.dtype(dtype).name
            advice = "a library has called fesetround: find it among your imports and remove it"
            yield Hazard(f"{name} rounding", "not to the nearest", advice, breaks=True)
    if (bits := pointer_bits()) < 64:
        advice = "32-bit programs may round twice and use other functions: use a 64-bit Python"
        yield Hazard("pointers", f"{bits} bits", advice, breaks=True)
    if not adds_exactly():
        advice = "portable arithmetic has other bits with it: use NumPy's own wheel"
        yield Hazard("BLAS", "does not add whole numbers exactly", advice, breaks=True)


def _hazards_of_process() -> Iterator[Hazard]:
    if (size := np.getbufsize()) != BUFFER:
        advice = f"some sums have other bits: call numpy.setbufsize({BUFFER})"
        yield Hazard("NumPy's buffer", f"{size} elements", advice, breaks=True)
