"""Schedules: numbers that depend on the iteration alone, such as a learning rate that decays.

A schedule is called with the number of updates made before, from 0. Where one is wanted, a plain
number may be given, too: it stays what it is.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence

import attrs

from pydnn.checks import BadInput, expect_count, expect_real
from pydnn.descriptions.builders import described
from pydnn.descriptions.parts import DescribedPart
from pydnn.numerics import Numerics, fast

__all__ = [
    "Schedule",
    "as_schedule",
    "constant_rate",
    "cosine_decay",
    "exponential_decay",
    "inverse_time_decay",
    "joined",
    "one_cycle",
    "polynomial_decay",
    "step_decay",
    "warm_up",
]
_ROUNDING = 1e-9  # what a product of a share and a number of steps may be off by


@attrs.frozen(eq=False, repr=False)
class Schedule(DescribedPart):
    """A function `at` from an iteration, 0 or more, to a number.

    Attributes:
        at: `(iteration, numerics) -> number`, with the arithmetic for powers and cosines.
        steps: Iterations after which the number stays the same; None if it never does, or always.
        empty: Why a phase of it has no iterations, with the numbers that make it so; a training
            refuses such a schedule. "" where every phase has some.
    """

    at: Callable[[int, Numerics], float]
    steps: int | None = attrs.field(default=None, kw_only=True)
    empty: str = attrs.field(default="", kw_only=True)

    def __call__(self, iteration: int, numerics: Numerics = fast) -> float:
        """The number at `iteration`.

        Raises:
            BadInput: If it is not a finite number.
        """
        try:
            number = self.at(iteration, numerics)
            finite = math.isfinite(number)
        except ArithmeticError:  # Python's own numbers overflow and divide by 0 so
            number, finite = math.inf, False
        if not finite:
            raise BadInput(
                f"the schedule is {number} at iteration {iteration}, expected a finite number: "
                "give one that grows more slowly, or train fewer iterations."
            )
        return number


def as_schedule(name: str, value: float | Schedule, *, least: float | None = None) -> Schedule:
    """A number as the schedule that stays there; above 0 unless a `least` value is given."""
    if isinstance(value, Schedule):
        return value
    hint = "give a number, e.g. 0.0075, or a schedule"
    number = expect_real(name, value, positive=least is None, least=least, hint=hint)
    return Schedule(lambda iteration, numerics: number)


@described("schedule")
def constant_rate(value: float) -> Schedule:
    """`value`, always."""
    return as_schedule("value", value, least=0)


@described("schedule")
def step_decay(initial: float, *, factor: float, every: int) -> Schedule:
    """`initial`, times `factor` once more after `every` so many iterations."""
    return exponential_decay(initial, factor=factor, every=every, staircase=True)


@described("schedule")
def exponential_decay(
    initial: float, *, factor: float, every: int = 1, staircase: bool = False
) -> Schedule:
    """Initial * factor ** (iteration / every); with `staircase`, in steps of `every`."""
    initial = _expect_rate("initial", initial)
    factor = expect_real("factor", factor, positive=True, hint="give e.g. 0.95")
    elapsed = _elapsed(every, staircase)
    return Schedule(
        lambda iteration, numerics: initial * numerics.power(factor, elapsed(iteration))
    )


@described("schedule")
def inverse_time_decay(
    initial: float, *, decay: float, every: int = 1, staircase: bool = False
) -> Schedule:
    """Initial / (1 + decay * iteration / every); with `staircase`, in steps of `every`.

    The tutorial's course decays by epoch, which is `staircase=True` with `every` set to the
    iterations of one epoch, or of its fixed interval of epochs.
    """
    initial = _expect_rate("initial", initial)
    decay = expect_real("decay", decay, least=0, hint="give e.g. 1")
    elapsed = _elapsed(every, staircase)
    return Schedule(lambda iteration, numerics: initial / (1 + decay * elapsed(iteration)))


@described("schedule")
def polynomial_decay(
    initial: float, *, steps: int, final: float = 0.0, power: float = 1.0
) -> Schedule:
    """From `initial` to `final` in `steps` iterations, by (1 - share of steps done) ** power."""
    initial, final, steps = _expect_descent(initial, final, steps)
    power = expect_real("power", power, positive=True, hint="1 is a straight line")

    def at(iteration: int, numerics: Numerics) -> float:
        left = 1 - min(iteration / steps, 1.0)
        return final + (initial - final) * numerics.power(left, power)

    return Schedule(at, steps=steps)


@described("schedule")
def cosine_decay(initial: float, *, steps: int, final: float = 0.0) -> Schedule:
    """From `initial` to `final` in `steps` iterations, along half a wave of the cosine.

    References:
        Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, 2017,
        equation 5.
    """
    initial, final, steps = _expect_descent(initial, final, steps)
    return Schedule(
        lambda iteration, numerics: _cosine(initial, final, iteration / steps, numerics),
        steps=steps,
    )


@described("schedule")
def warm_up(steps: int, *, then: float | Schedule) -> Schedule:
    """Up to the first value of `then`, in `steps` equal steps, and on with `then` from there.

    The first iteration has one share of `steps` + 1 of that value, so that it is not lost at 0.

    References:
        Goyal et al., Accurate, large minibatch SGD, 2017, section 2.2.
    """
    steps = expect_count("steps", steps, hint="give the number of iterations to warm up")
    after = as_schedule("then", then)

    def at(iteration: int, numerics: Numerics) -> float:
        if iteration >= steps:
            return after(iteration - steps, numerics)
        return after(0, numerics) * (iteration + 1) / (steps + 1)

    end = None if after.steps is None else steps + after.steps
    return Schedule(at, steps=end, empty=after.empty)


@described("schedule")
def one_cycle(
    peak: float,
    *,
    steps: int,
    rising: float = 0.3,
    start_divisor: float = 25.0,
    final_divisor: float = 1e4,
) -> Schedule:
    """Up to `peak` and down again over `steps` iterations, both along half a wave of the cosine.

    Args:
        peak: The largest value.
        steps: Iterations of the whole cycle, 2 or more; its last value stays.
        rising: Share of the steps on the way up.
        start_divisor: The first value is peak / start_divisor,
        final_divisor: and the last one that, divided by final_divisor.

    References:
        Smith and Topin, Super-convergence, 2018, with the shape and defaults that PyTorch gave it.
    """
    peak = _expect_rate("peak", peak)
    steps = expect_count("steps", steps, least=2, hint="give the iterations of the whole cycle")
    rising = expect_real("rising", rising, positive=True, below=1, hint="give e.g. 0.3")
    hint = "give what the peak is divided by"
    start = peak / expect_real("start_divisor", start_divisor, positive=True, hint=hint)
    final = start / expect_real("final_divisor", final_divisor, positive=True, hint=hint)
    top, last = rising * steps - 1, steps - 1
    empty = ""
    if top < _ROUNDING:
        empty = (
            f"steps is {steps} and rising is {rising:g}, which leaves no iteration for the way up: "
            "give more steps, or let a larger share of them rise"
        )

    def at(iteration: int, numerics: Numerics) -> float:
        if iteration <= top:
            # The way up may be the peak alone.
            return _cosine(start, peak, iteration / top if top > _ROUNDING else 1.0, numerics)
        return _cosine(peak, final, (iteration - top) / (last - top), numerics)

    return Schedule(at, steps=last, empty=empty)


@described("schedule")
def joined(schedules: Sequence[float | Schedule], *, starts: Sequence[int]) -> Schedule:
    """Schedules one after the other, each counting from 0 where it begins.

    Args:
        schedules: Two or more.
        starts: The iterations at which the second and later ones begin, going up.
    """
    pieces = [as_schedule("schedules", piece, least=0) for piece in schedules]
    begins = [0, *(expect_count("starts", s, hint="give iterations") for s in starts)]
    if len(begins) != len(pieces):
        raise BadInput(
            f"there are {len(pieces)} schedules and {len(starts)} starts, expected one start "
            "fewer than schedules: the first one begins at 0."
        )
    if any(a >= b for a, b in itertools.pairwise(begins)):
        raise BadInput(f"starts are {list(starts)}, expected numbers that go up: sort them.")
    for piece, (begin, end) in zip(pieces, itertools.pairwise(begins), strict=False):
        piece(end - begin - 1)  # refuses a piece that leaves the range of numbers

    def at(iteration: int, numerics: Numerics) -> float:
        i = bisect.bisect_right(begins, iteration) - 1
        return pieces[i](iteration - begins[i], numerics)

    last = pieces[-1].steps
    return Schedule(
        at,
        steps=None if last is None else begins[-1] + last,
        empty=next((piece.empty for piece in pieces if piece.empty), ""),
    )


def _elapsed(every: int, staircase: bool) -> Callable[[int], float]:
    """How often `every` iterations have passed; as a whole number in a staircase."""
    every = expect_count("every", every, hint="give a number of iterations")
    return (lambda i: i // every) if staircase else (lambda i: i / every)


def _cosine(initial: float, final: float, share: float, numerics: Numerics) -> float:
    wave = numerics.cosine(math.pi * min(share, 1.0))
    return final + (initial - final) * 0.5 * (1 + wave)


def _expect_rate(name: str, value: float) -> float:
    return expect_real(name, value, positive=True, hint="give the first value, e.g. 0.0075")


def _expect_descent(initial: float, final: float, steps: int) -> tuple[float, float, int]:
    return (
        _expect_rate("initial", initial),
        expect_real("final", final, least=0, hint="give the value at the end"),
        expect_count("steps", steps, hint="give the number of iterations"),
    )
