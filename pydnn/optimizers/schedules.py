"""Schedules: numbers that depend only on the iteration, such as a learning rate that decays.

A schedule is called with the number of updates so far, which starts at 0. Wherever a schedule is
expected, a plain number means one that never changes.
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
_ROUNDING = 1e-9  # bound on the rounding error of share * steps, for any number of steps in use


@attrs.frozen(eq=False, repr=False)
class Schedule(DescribedPart):
    """A function from an iteration, 0 or more, to a number; call it as `schedule(iteration)`.

    Attributes:
        at: `(iteration, numerics) -> number`, with the arithmetic for powers and cosines.
        steps: Iterations after which the number no longer changes; None if it always changes, or
            never does.
        empty: The reason why a phase of the schedule has no iterations, which makes `train` refuse
            it; "" if every phase has some.

    Example:
        >>> halving = nn.step_decay(0.1, factor=0.5, every=100)
        >>> halving(0), halving(99), halving(100)
        (0.1, 0.1, 0.05)
    """

    at: Callable[[int, Numerics], float]
    steps: int | None = attrs.field(default=None, kw_only=True)
    empty: str = attrs.field(default="", kw_only=True)

    def __call__(self, iteration: int, numerics: Numerics = fast) -> float:
        """Return the number at `iteration`.

        Raises:
            BadInput: If it is not a finite number.
        """
        try:
            number = self.at(iteration, numerics)
            finite = math.isfinite(number)
        except ArithmeticError:  # unlike NumPy's, Python's floats raise on overflow and 1 / 0
            number, finite = math.inf, False
        if not finite:
            raise BadInput(
                f"the schedule is {number} at iteration {iteration}, expected a finite number: "
                "give one that grows more slowly, or train fewer iterations."
            )
        return number


def as_schedule(name: str, value: float | Schedule, *, least: float | None = None) -> Schedule:
    """Return `value` if it is a schedule, or else the schedule that always gives this number.

    Args:
        name: What error messages call the number.
        value: A schedule or a number.
        least: Lower bound of the number; by default it must be above 0.

    Raises:
        BadInput: If `value` is neither a schedule nor a finite number in this range.

    Example:
        >>> nn.optimizers.as_schedule("learning_rate", 0.1)(1000)
        0.1
    """
    if isinstance(value, Schedule):
        return value
    hint = "give a number, e.g. 0.0075, or a schedule"
    number = expect_real(name, value, positive=least is None, least=least, hint=hint)
    return Schedule(lambda iteration, numerics: number)


@described("schedule")
def constant_rate(value: float) -> Schedule:
    """Give `value` at every iteration.

    Raises:
        BadInput: If `value` is not a finite number of at least 0.

    Example:
        >>> nn.optimizers.constant_rate(0.1)(1000)
        0.1
    """
    return as_schedule("value", value, least=0)


@described("schedule")
def step_decay(initial: float, *, factor: float, every: int) -> Schedule:
    """Multiply `initial` by `factor` once more after every `every` iterations.

    Args:
        initial: The first value, above 0.
        factor: The factor, above 0.
        every: Number of iterations between two changes.

    Raises:
        BadInput: If an argument is out of its range.

    Example:
        >>> schedule = nn.step_decay(0.1, factor=0.5, every=100)
        >>> [schedule(i) for i in (0, 99, 100, 200)]
        [0.1, 0.1, 0.05, 0.025]
    """
    return exponential_decay(initial, factor=factor, every=every, staircase=True)


@described("schedule")
def exponential_decay(
    initial: float, *, factor: float, every: int = 1, staircase: bool = False
) -> Schedule:
    """Decay exponentially: `initial` * `factor` ** (iteration / `every`).

    Args:
        initial: The first value, above 0.
        factor: The factor per `every` iterations, above 0.
        every: Number of iterations that one factor takes.
        staircase: Whether iteration / every is rounded down, so that the value changes in steps.

    Raises:
        BadInput: If an argument is out of its range.

    Example:
        >>> schedule = nn.exponential_decay(0.8, factor=0.25, every=2)
        >>> [schedule(i) for i in (0, 1, 2, 3)]
        [0.8, 0.4, 0.2, 0.1]
    """
    initial = _expect_rate("initial", initial)
    factor = expect_real("factor", factor, positive=True, hint="give e.g. 0.95")
    elapsed = _elapsed(every, staircase)
    return Schedule(
        lambda iteration, numerics: initial * numerics.power(factor, elapsed(iteration))
    )


@described("schedule")
def inverse_time_decay(
    initial: float,
    *,
    decay: float,
    every: int = 1,
    staircase: bool = False,
    power: float = 1.0,
) -> Schedule:
    """Decay hyperbolically: `initial` / (1 + `decay` * iteration / `every`) ** `power`.

    The tutorial's course decays by epoch: use `staircase=True`, and set `every` to the number of
    iterations in one epoch, or in its fixed interval of epochs.

    Args:
        initial: The first value, above 0.
        decay: The decay rate, 0 or more.
        every: Number of iterations that count as 1.
        staircase: Whether iteration / every is rounded down, so that the value changes in steps.
        power: The power of time by which the value is divided, above 0.

    Raises:
        BadInput: If an argument is out of its range.

    Example:
        >>> schedule = nn.inverse_time_decay(0.6, decay=1.0, every=100)
        >>> [round(schedule(i), 4) for i in (0, 100, 200)]
        [0.6, 0.3, 0.2]
    """
    initial = _expect_rate("initial", initial)
    decay = expect_real("decay", decay, least=0, hint="give e.g. 1")
    power = expect_real("power", power, positive=True, hint="1 is the inverse of time")
    elapsed = _elapsed(every, staircase)

    def at(iteration: int, numerics: Numerics) -> float:
        divisor = 1 + decay * elapsed(iteration)
        return initial / (divisor if power == 1 else numerics.power(divisor, power))

    return Schedule(at)


@described("schedule")
def polynomial_decay(
    initial: float, *, steps: int, final: float = 0.0, power: float = 1.0
) -> Schedule:
    """Go from `initial` to `final` in `steps` iterations, as (1 - iteration / steps) ** `power`.

    Args:
        initial: The first value, above 0.
        steps: Number of iterations until the value is `final` and stays there.
        final: The last value, 0 or more.
        power: The exponent, above 0; 1 is a straight line.

    Raises:
        BadInput: If an argument is out of its range.

    Example:
        >>> schedule = nn.polynomial_decay(0.1, steps=100)
        >>> [round(schedule(i), 4) for i in (0, 25, 50, 100, 200)]
        [0.1, 0.075, 0.05, 0.0, 0.0]
    """
    initial, final, steps = _expect_descent(initial, final, steps)
    power = expect_real("power", power, positive=True, hint="1 is a straight line")

    def at(iteration: int, numerics: Numerics) -> float:
        remaining = 1 - min(iteration / steps, 1.0)
        return final + (initial - final) * numerics.power(remaining, power)

    return Schedule(at, steps=steps)


@described("schedule")
def cosine_decay(initial: float, *, steps: int, final: float = 0.0) -> Schedule:
    """Go from `initial` to `final` in `steps` iterations, along half a cosine wave.

    Args:
        initial: The first value, above 0.
        steps: Number of iterations until the value is `final` and stays there.
        final: The last value, 0 or more.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, 2017,
        equation 5.

    Example:
        >>> schedule = nn.cosine_decay(0.1, steps=100)
        >>> [round(schedule(i), 4) for i in (0, 25, 50, 75, 100)]
        [0.1, 0.0854, 0.05, 0.0146, 0.0]
    """
    initial, final, steps = _expect_descent(initial, final, steps)
    return Schedule(
        lambda iteration, numerics: _cosine(initial, final, iteration / steps, numerics),
        steps=steps,
    )


@described("schedule")
def warm_up(steps: int, *, then: float | Schedule) -> Schedule:
    """Rise linearly to the first value of `then` in `steps` iterations, then follow `then`.

    The first value is 1 / (steps + 1) of that value: a rate of 0 would waste the first iteration.

    Args:
        steps: Number of iterations of the rise.
        then: The schedule, or the number above 0, that follows it.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Goyal et al., Accurate, large minibatch SGD, 2017, section 2.2.

    Example:
        >>> schedule = nn.warm_up(3, then=0.4)
        >>> [round(schedule(i), 4) for i in range(5)]
        [0.1, 0.2, 0.3, 0.4, 0.4]
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
    """Rise to `peak` and fall again within `steps` iterations, both along half a cosine wave.

    Args:
        peak: The largest value, above 0.
        steps: Number of iterations of the whole cycle, 2 or more; its last value stays.
        rising: Share of the iterations that rise, above 0 and below 1.
        start_divisor: The first value is `peak` divided by this.
        final_divisor: The last value is the first value divided by this.

    Raises:
        BadInput: If an argument is out of its range.

    References:
        Smith and Topin, Super-convergence, 2018, with the shape and defaults that PyTorch gave it.

    Example:
        >>> schedule = nn.one_cycle(0.1, steps=10)
        >>> [round(schedule(i), 4) for i in (0, 1, 2, 5, 9)]
        [0.004, 0.052, 0.1, 0.0611, 0.0]
    """
    peak = _expect_rate("peak", peak)
    steps = expect_count("steps", steps, least=2, hint="give the iterations of the whole cycle")
    rising = expect_real("rising", rising, positive=True, below=1, hint="give e.g. 0.3")
    hint = "give the number to divide the peak by"
    start = peak / expect_real("start_divisor", start_divisor, positive=True, hint=hint)
    final = start / expect_real("final_divisor", final_divisor, positive=True, hint=hint)
    # PyTorch's phases end at these iterations, of which the first need not be a whole number.
    top, last = rising * steps - 1, steps - 1
    empty = ""
    if top < _ROUNDING:
        empty = (
            f"steps is {steps} and rising is {rising:g}, which leaves no iteration for the way up: "
            "give more steps, or a larger rising"
        )

    def at(iteration: int, numerics: Numerics) -> float:
        if iteration <= top:
            # With top 0 the rise is one iteration, which is at the peak.
            return _cosine(start, peak, iteration / top if top > _ROUNDING else 1.0, numerics)
        return _cosine(peak, final, (iteration - top) / (last - top), numerics)

    return Schedule(at, steps=last, empty=empty)


@described("schedule")
def joined(schedules: Sequence[float | Schedule], *, starts: Sequence[int]) -> Schedule:
    """Follow one schedule after the other; each counts iterations from its own start.

    Args:
        schedules: The schedules, or numbers of at least 0, in order.
        starts: The iterations at which the second and all later ones begin, in increasing order.

    Raises:
        BadInput: If there is not one start fewer than schedules, or the starts do not increase.

    Example:
        >>> schedule = nn.optimizers.joined([0.1, nn.cosine_decay(0.2, steps=10)], starts=[100])
        >>> schedule(0), schedule(99), schedule(100), schedule(105)
        (0.1, 0.1, 0.2, 0.1)
    """
    pieces = [as_schedule("schedules", piece, least=0) for piece in schedules]
    begins = [0, *(expect_count("starts", s, hint="give iterations") for s in starts)]
    if len(begins) != len(pieces):
        raise BadInput(
            f"there are {len(pieces)} schedules and {len(starts)} starts, expected one start "
            "fewer than schedules: the first one begins at 0."
        )
    if any(a >= b for a, b in itertools.pairwise(begins)):
        raise BadInput(f"starts are {list(starts)}, expected increasing numbers: sort them.")
    for piece, (begin, end) in zip(pieces, itertools.pairwise(begins), strict=False):
        piece(end - begin - 1)  # raises now, not in training, if the piece overflows by its end

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
    """Return the function iteration / `every`, rounded down if `staircase` is True."""
    every = expect_count("every", every, hint="give a number of iterations")
    return (lambda i: i // every) if staircase else (lambda i: i / every)


def _cosine(initial: float, final: float, share: float, numerics: Numerics) -> float:
    """Return the value after this share of half a cosine wave from `initial` to `final`."""
    wave = numerics.cosine(math.pi * min(share, 1.0))
    return final + (initial - final) * 0.5 * (1 + wave)


def _expect_rate(name: str, value: float) -> float:
    return expect_real(name, value, positive=True, hint="give the first value, e.g. 0.0075")


def _expect_descent(initial: float, final: float, steps: int) -> tuple[float, float, int]:
    return (
        _expect_rate("initial", initial),
        expect_real("final", final, least=0, hint="give the last value"),
        expect_count("steps", steps, hint="give the number of iterations"),
    )
