import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import (
    BadInput,
    Batch,
    cosine_decay,
    dense,
    exponential_decay,
    gradient_descent,
    inverse_time_decay,
    mean_squared,
    one_cycle,
    polynomial_decay,
    portable,
    serial,
    step_decay,
    warm_up,
)
from pydnn.jobs.job import prepare
from pydnn.numerics import fast
from pydnn.optimizers import constant_rate, joined, schedules
from pydnn.optimizers.schedules import Schedule
from pydnn.recipes.recipe import Recipe

# Values by iteration, computed by hand.
WORKED = {
    "constant_rate": (constant_rate(0.3), {0: 0.3, 99: 0.3}),
    "step_decay": (
        step_decay(1, factor=0.5, every=10), {0: 1, 9: 1, 10: 0.5, 19: 0.5, 20: 0.25},
    ),
    "exponential_decay": (exponential_decay(8, factor=0.25, every=2), {0: 8, 1: 4, 2: 2, 4: 0.5}),
    "inverse_time_decay": (inverse_time_decay(1, decay=1, every=2), {0: 1, 1: 2 / 3, 2: 0.5}),
    # The course's formula, 0.2 / (1 + 1 * epoch), with epochs of 5 iterations.
    "inverse_time_decay, by epoch": (
        inverse_time_decay(0.2, decay=1, every=5, staircase=True),
        {0: 0.2, 4: 0.2, 5: 0.1, 9: 0.1, 10: 0.2 / 3},
    ),
    "polynomial_decay": (
        polynomial_decay(1, steps=4, final=0.2, power=2), {0: 1, 2: 0.4, 4: 0.2, 9: 0.2},
    ),
    "cosine_decay": (
        cosine_decay(1, steps=6, final=0.5), {0: 1, 2: 0.875, 3: 0.75, 6: 0.5, 7: 0.5},
    ),
    "warm_up": (
        warm_up(3, then=exponential_decay(4, factor=0.5)), {0: 1, 1: 2, 2: 3, 3: 4, 4: 2},
    ),
    # It rises over 3 of 10 steps, so until step 2, and falls until step 9.
    "one_cycle": (
        one_cycle(50, steps=10, start_divisor=25, final_divisor=2),
        {0: 2, 1: 26, 2: 50, 9: 1, 20: 1},
    ),
    "one_cycle, half way down": (
        one_cycle(50, steps=10, rising=0.4, start_divisor=25, final_divisor=2),
        {3: 50, 6: 25.5, 8: 1 + 24.5 * (1 - math.sqrt(3) / 2), 9: 1},
    ),
    "inverse_time_decay, slower": (inverse_time_decay(1, decay=0.5), {0: 1, 2: 0.5}),
    "joined, below 1": (joined([0.5, 0.25], starts=[2]), {1: 0.5, 2: 0.25}),
    "joined": (
        joined([1, step_decay(8, factor=0.5, every=2)], starts=[3]), {0: 1, 2: 1, 3: 8, 5: 4},
    ),
    "joined, both changing": (
        joined([exponential_decay(8, factor=0.5), exponential_decay(9, factor=3)], starts=[2]),
        {0: 8, 1: 4, 2: 9, 3: 27},
    ),
}  # fmt: skip


def test_every_schedule_has_a_worked_example():
    builders = {name for name in schedules.__all__ if hasattr(getattr(schedules, name), "family")}
    assert {name.partition(",")[0] for name in WORKED} == builders


@pytest.mark.parametrize(("schedule", "values"), WORKED.values(), ids=WORKED)
def test_portable_arithmetic_gives_the_same_values_up_to_rounding(schedule, values):
    for iteration, value in values.items():
        assert schedule(iteration, portable) == pytest.approx(value, rel=1e-15)
    for iteration in range(30):
        assert schedule(iteration, portable) == pytest.approx(schedule(iteration), rel=1e-14)
    assert schedule(0, portable) == schedule(0)  # exact, in any arithmetic


@pytest.mark.parametrize(("schedule", "values"), WORKED.values(), ids=WORKED)
def test_values_match_worked_examples(schedule, values):
    assert {i: schedule(i) for i in values} == pytest.approx(values, rel=1e-14)


@given(st.integers(1, 99), st.floats(1e-6, 1.0))
def test_values_are_exact_where_phases_meet(steps, rate):
    assert warm_up(steps, then=rate)(steps) == rate
    cycle = one_cycle(rate, steps=10, rising=0.5, start_divisor=3, final_divisor=1.7)
    assert cycle(4) == rate


@given(st.integers(2, 50), st.integers(0, 80))
def test_decays_never_rise_and_stay_within_their_ends(steps, i):
    for schedule in (cosine_decay(1, steps=steps), polynomial_decay(1, steps=steps, power=3)):
        assert 0 <= schedule(i + 1) <= schedule(i) <= 1
    cycle = one_cycle(1, steps=steps)
    assert 1 / 25 / 1e4 <= cycle(i) <= 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: step_decay(0, factor=0.5, every=2), "initial is 0, expected a number above 0"),
        (lambda: step_decay(1, factor=0.5, every=0), "every is 0, expected an integer"),
        (lambda: cosine_decay(1, steps=0), "steps is 0"),
        (lambda: step_decay(1, factor=0, every=2), "factor is 0, expected a number above 0"),
        (lambda: inverse_time_decay(1, decay=-1), "decay is -1, expected a number of at least 0"),
        (lambda: polynomial_decay(1, steps=2, power=0), "power is 0, expected a number above 0"),
        (lambda: one_cycle(1, steps=10, rising=0), "rising is 0, expected a number above 0"),
        (lambda: one_cycle(1, steps=9, start_divisor=0), "start_divisor is 0, expected a number"),
        (lambda: one_cycle(1, steps=9, final_divisor=0), "final_divisor is 0, expected a number"),
        (lambda: one_cycle(1, steps=10, rising=1), "rising is 1, expected a number below 1"),
        (lambda: warm_up(2, then=-1), "then is -1, expected a number above 0.*or a schedule"),
        (lambda: joined([1, 2], starts=[]), "2 schedules and 0 starts, expected one start fewer"),
        (lambda: joined([1, 2, 3], starts=[5, 5]), r"starts are \[5, 5\], expected increasing"),
        (lambda: constant_rate(math.inf), "value is inf"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(BadInput, match=message):
        make()


EMPTY = {  # steps and rising: the way up ends at step steps * rising - 1
    "half of 2": (2, 0.5), "a tenth of 10": (10, 0.1), "a hundredth of 100": (100, 0.01),
    "a fifth of 5": (5, 0.2), "less than one step": (2, 0.3), "by rounding": (49, 1 / 49),
    "a third of 3": (3, 1 / 3),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "rising"), EMPTY.values(), ids=EMPTY)
def test_a_cycle_without_a_way_up_names_steps_and_rising(steps, rising):
    cycle = one_cycle(1.0, steps=steps, rising=rising)
    assert cycle.empty.startswith(f"steps is {steps} and rising is {rising:g}, which leaves no it")
    assert warm_up(3, then=cycle).empty == joined([0.1, cycle], starts=[2]).empty == cycle.empty
    # PyTorch's peak is at step steps * rising - 1, which is step 0 or earlier here.
    assert cycle(0) == pytest.approx(1.0 if steps * rising > 0.999 else 0.811, abs=1e-3)


@given(st.integers(2, 200), st.floats(0.001, 0.999))
def test_a_cycle_has_a_positive_value_at_every_iteration(steps, rising):
    schedule = one_cycle(1.0, steps=steps, rising=rising)
    assert bool(schedule.empty) == (steps * rising - 1 < 1e-9)
    rates = [schedule(i) for i in range(steps + 3)]
    assert all(0 < rate <= 1 + 1e-12 for rate in rates)
    assert schedule.steps == steps - 1
    assert rates[steps - 1 :] == [rates[steps - 1]] * 4


ENDLESS = {
    "growth": lambda: exponential_decay(0.1, factor=1.1)(100_000),
    "growth in steps": lambda: step_decay(0.1, factor=10, every=1)(400),
    "portable": lambda: exponential_decay(0.1, factor=1.1)(100_000, portable),
    "after a warm-up": lambda: warm_up(5, then=exponential_decay(0.1, factor=1.1))(100_000),
    "a user's own": lambda: Schedule(lambda i, numerics: math.nan)(0),
    "an infinite number": lambda: Schedule(lambda i, numerics: math.inf)(3),
}  # fmt: skip


@pytest.mark.parametrize("call", ENDLESS.values(), ids=ENDLESS)
def test_a_number_that_is_not_finite_is_refused_with_its_iteration(call):
    with pytest.raises(BadInput, match=r"the schedule is (inf|nan) at iteration \d+, expected"):
        call()


def test_joined_refuses_a_piece_that_overflows():
    growing = exponential_decay(0.1, factor=1.1)
    with pytest.raises(BadInput, match="the schedule is inf at iteration 99999"):
        joined([growing, 0.1], starts=[100_000])
    joined([growing, 0.1], starts=[100])


ENDS = {
    "constant": (constant_rate(0.1), None),
    "cosine": (cosine_decay(0.1, steps=7), 7),
    "polynomial": (polynomial_decay(0.1, steps=7), 7),
    "warm-up": (warm_up(3, then=0.1), None),
    "warm-up, then cosine": (warm_up(3, then=cosine_decay(0.1, steps=7)), 10),
    "joined": (joined([0.2, cosine_decay(0.1, steps=7)], starts=[5]), 12),
    "joined, ending with a constant": (joined([cosine_decay(0.1, steps=7), 0.1], starts=[5]), None),
    "one cycle": (one_cycle(0.1, steps=10), 9),
    "endless": (inverse_time_decay(0.1, decay=1), None),
}


@pytest.mark.parametrize(("schedule", "end"), ENDS.values(), ids=ENDS)
def test_steps_is_the_iteration_from_which_the_value_is_constant(schedule, end):
    assert schedule.steps == end
    if end is not None:
        assert schedule(end) == schedule(end + 1) == schedule(10 * end) != schedule(end - 1)


EXTREME = st.sampled_from([1e-308, 1e-200, 1e-9, 0.5, 1.0, 1.5, 3.0, 1e200, 1e308])
COUNTS = st.sampled_from([1, 2, 3, 10**6, 2**53, 2**63 - 1])
SIMPLE = st.one_of(
    st.builds(constant_rate, EXTREME),
    st.builds(step_decay, EXTREME, factor=EXTREME, every=COUNTS),
    st.builds(
        exponential_decay, EXTREME, factor=EXTREME, every=COUNTS, staircase=st.booleans()
    ),
    st.builds(inverse_time_decay, EXTREME, decay=EXTREME, every=COUNTS, staircase=st.booleans()),
    st.builds(polynomial_decay, EXTREME, steps=COUNTS, final=EXTREME, power=EXTREME),
    st.builds(cosine_decay, EXTREME, steps=COUNTS, final=EXTREME),
    st.builds(
        one_cycle,
        EXTREME,
        steps=COUNTS.filter(lambda steps: steps > 1),
        rising=st.sampled_from([1e-300, 0.3, 1 - 2**-53]),
        start_divisor=EXTREME,
        final_divisor=EXTREME,
    ),
)  # fmt: skip


@st.composite
def extreme_schedules(draw):
    inner = draw(SIMPLE)
    wrapper = draw(st.sampled_from(["alone", "warm_up", "joined"]))
    if wrapper == "warm_up":
        return warm_up(draw(COUNTS), then=inner)
    return joined([inner, inner], starts=[draw(COUNTS)]) if wrapper == "joined" else inner


@given(st.data(), st.sampled_from([0, 1, 1000, 10**6, 2**53 - 1, 2**53, 2**63 - 1, 10**400]))
def test_extreme_options_give_a_finite_number_or_a_one_line_error(data, iteration):
    try:
        schedule = data.draw(extreme_schedules())
    except BadInput:
        return  # refused when it is built, as `joined` does
    for numerics in (fast, portable):
        try:
            value = schedule(iteration, numerics)
        except BadInput as error:
            message = str(error)
            assert "\n" not in message
            assert len(message) < 300 + len(str(iteration))
        else:
            assert math.isfinite(value)


@pytest.mark.parametrize(
    "schedule", [exponential_decay(0.1, factor=1.5), step_decay(0.1, factor=1e200, every=10)]
)
def test_prepare_refuses_a_schedule_that_would_overflow_later(schedule):
    batch = Batch([[1.0, 2.0]], [[1.0, 0.0]])
    recipe = Recipe("x", serial(dense(1)), mean_squared(), gradient_descent(learning_rate=schedule),
                    iterations=100_000)  # fmt: skip
    with pytest.raises(BadInput, match="the schedule is inf at iteration 99999, expected a finite"):
        prepare(recipe, batch)
