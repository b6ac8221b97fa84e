import itertools
from functools import partial

import attrs
import numpy as np
import pytest
import toolz
from hypothesis import given
from hypothesis import strategies as st

from pydnn import (
    BadInput,
    Batch,
    Key,
    StepInfo,
    TrainState,
    average_parameters,
    batch_norm,
    chain,
    dense,
    dropout,
    evaluation,
    gradient_descent,
    initial_state,
    look,
    make_train_step,
    mean_absolute_error,
    measure,
    output_of,
    relu,
    scan,
    score,
    serial,
    sigmoid_cross_entropy,
    step_context,
    stop_after,
    stop_at,
    stop_early,
    tee,
    thin,
    trace,
    value_of,
)
from pydnn.packing import pack
from pydnn.training.streams import watched_in

EMPTY = pack(())


def stream(costs, measured=None):
    """A stream of these costs; `measured` gives some steps a "score"."""
    for i, cost in enumerate(costs):
        found = {"score": measured[i]} if measured and measured[i] is not None else {}
        info = StepInfo(i, cost, 1.0, {"learning_rate": 0.5}, found)
        yield TrainState(i + 1, EMPTY, (), Key(0)), info


def iterations(pairs):
    return [info.iteration for _, info in pairs]


def test_thinning_keeps_every_nth_and_the_last():
    assert iterations(thin(stream(range(10)), every=4)) == [0, 4, 8, 9]
    assert iterations(thin(stream(range(9)), every=4)) == [0, 4, 8]
    assert iterations(thin(stream([]), every=4)) == []


def test_a_tee_shows_every_pair_and_hands_it_on():
    shown = []
    pairs = list(tee(stream([3, 2]), to=lambda state, info: shown.append((state, info))))
    assert shown == pairs == list(stream([3, 2]))


def test_measuring_adds_to_what_was_measured_every_n_steps():
    def found(state):
        return {"iteration": float(state.iteration)}

    measured = measure(
        measure(stream(range(6)), every=2, function=found),
        every=3,
        function=lambda state: {"again": 7.0},
    )
    assert [info.measured for _, info in measured] == [
        {}, {"iteration": 2}, {"again": 7}, {"iteration": 4}, {}, {"iteration": 6, "again": 7},
    ]  # fmt: skip


def test_values_are_found_by_name():
    _, info = next(stream([3.0], [0.9]))
    names = ("cost", "gradient_norm", "learning_rate", "score", "nothing")
    assert [value_of(info, name) for name in names] == [3.0, 1.0, 0.5, 0.9, None]


@pytest.mark.parametrize(
    ("costs", "options", "expected"),
    [
        ([5, 4, 3, 4, 5, 6], {"patience": 2}, [0, 1, 2, 3, 4, 2]),
        ([5, 4, 3], {"patience": 2}, [0, 1, 2]),  # the best one is the last
        ([5, 4, 6], {"patience": 9}, [0, 1, 2, 1]),  # the stream ends before patience does
        ([1, 2, 3, 2], {"patience": 2, "higher_is_better": True}, [0, 1, 2, 3, 2]),
        ([5, 4.9, 4.8, 4.7], {"patience": 3, "least_change": 0.5}, [0, 1, 2, 3, 0]),
        ([float("nan"), 2, float("nan")], {"patience": 5}, [0, 1, 2, 1]),
    ],
)
def test_early_stopping_ends_with_the_best(costs, options, expected):
    assert iterations(stop_early(stream(costs), watch="cost", **options)) == expected


@pytest.mark.parametrize("cut", range(8))
@pytest.mark.parametrize(
    ("costs", "options"),
    [
        ([5, 4, 3, 4, 5, 6, 7], {"patience": 3}),
        ([5, 4, 6, 7, 1, 2, 3], {"patience": 3}),
        ([5, float("nan"), 4.9, 4.8, 3, 2, 1], {"patience": 9, "least_change": 0.5}),
        ([1, 2, 3, 2, 2, 2, 2], {"patience": 4, "higher_is_better": True}),
    ],
)
def test_early_stopping_goes_on_from_what_was_watched_before(costs, options, cut):
    whole = list(stop_early(stream(costs), watch="cost", **options))
    steps = max(info.iteration for _, info in whole) + 1
    pairs = list(stream(costs))
    before, after = pairs[: min(cut, steps)], iter(pairs[min(cut, steps) :])
    seen = watched_in(
        [info for _, info in before], watch="cost", **options,
        state_after=lambda iteration: pairs[iteration][0],
    )  # fmt: skip
    rest = list(stop_early(after, watch="cost", **options, since=seen))
    assert set(iterations([*before, *rest])) == set(iterations(whole))
    kept = rest[-1] if rest else before[-1]
    assert kept == whole[-1]


def test_early_stopping_waits_where_a_step_has_no_value():
    scores = [None, 3.0, None, 2.0, None, 2.5, None, None]
    pairs = list(stop_early(stream(range(8), scores), watch="score", patience=4))
    assert iterations(pairs) == [0, 1, 2, 3, 4, 5, 6, 7, 3]
    assert pairs[-1][1].measured == {"score": 2.0}


def test_stopping_at_a_target():
    assert iterations(stop_at(stream([5, 4, 3, 2]), watch="cost", target=3.5)) == [0, 1, 2]
    up = stop_at(stream([1, 2, 3]), watch="cost", target=2, higher_is_better=True)
    assert iterations(up) == [0, 1]
    assert iterations(stop_at(stream([1, 2]), watch="score", target=2)) == [0, 1]


def test_stopping_after_a_time_reads_the_clock_when_consumed():
    times = iter([10.0, 11.0, 12.0, 13.5, 99.0])
    stopped = stop_after(stream(range(9)), seconds=3, clock=lambda: next(times))
    assert iterations(stopped) == [0, 1, 2]


@given(st.permutations(["thin", "tee", "measure", "early", "target", "time"]))
def test_functions_from_stream_to_stream_go_in_any_order(order):
    functions = {
        "thin": partial(thin, every=1),
        "tee": partial(tee, to=lambda state, info: None),
        "measure": partial(measure, every=1, function=lambda state: {"x": 1.0}),
        "early": partial(stop_early, watch="cost", patience=50),
        "target": partial(stop_at, watch="cost", target=-1),
        "time": partial(stop_after, seconds=100),
    }
    pairs = list(toolz.pipe(stream([3, 2, 1]), *[functions[name] for name in order]))
    assert iterations(pairs) == [0, 1, 2]
    assert all(info.measured == {"x": 1.0} for _, info in pairs)


def test_nothing_runs_until_the_stream_is_consumed():
    def untouchable():
        raise AssertionError
        yield

    thin(untouchable(), every=2)
    measure(untouchable(), every=2, function=dict)
    stop_early(untouchable(), watch="cost", patience=1)
    stop_at(untouchable(), watch="cost", target=0)
    stop_after(untouchable(), seconds=1)


REFUSED = {
    "nothing to watch": (
        lambda: list(stop_early(stream([1, 2, 3]), watch="validation cost", patience=2)),
        "nothing to watch: no step had 'validation cost', this one has cost, gradient_norm, "
        "learning_rate",
    ),
    "no patience": (lambda: stop_early(stream([]), watch="cost", patience=0), "patience is 0"),
    "every 0": (lambda: thin(stream([]), every=0), "every is 0"),
    "measure every 0": (lambda: measure(stream([]), every=0, function=dict), "every is 0"),
    "no target": (lambda: stop_at(stream([]), watch="cost", target="low"), "target is 'low'"),
    "no time": (lambda: stop_after(stream([]), seconds=-1), "seconds is -1"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()


# With a network that has everything that flows through a step

KEY = Key(12)
X = KEY.at("X").normal((3, 40))
DATA = Batch(X, (X[:1] + X[1:2] > 0))
NETWORK = serial(dense(8), batch_norm(), relu(), dropout(keep_prob=0.9), dense(1))
LOSS = sigmoid_cross_entropy()
OPTIMIZER = chain(look("raw"), gradient_descent(learning_rate=0.5), average_parameters())
STEP = make_train_step(NETWORK, LOSS, OPTIMIZER)
START = initial_state(NETWORK, OPTIMIZER, (3,), key=KEY)


def test_an_evaluation_is_outside_of_training_with_what_was_gathered():
    evaluate = evaluation(NETWORK, LOSS, {"train": DATA, "same": DATA})
    run = scan(STEP, START, itertools.repeat(DATA, 60))
    state, info = toolz.last(measure(run, every=20, function=evaluate))
    only = evaluation(NETWORK, LOSS, {"x": DATA}, metrics={"mae": mean_absolute_error})(state)
    assert set(only) == {"x cost", "x mae"}
    AL = output_of(NETWORK, state.parameters, X, statistics=state.statistics)
    assert info.measured["train cost"] == LOSS(AL, DATA.Y)[0]
    assert info.measured["same accuracy"] == info.measured["train accuracy"] > 0.9
    expected = score("two classes", LOSS.predict(AL), DATA.Y)
    assert {name: info.measured[f"train {name}"] for name in expected} == expected


def test_statistics_flow_through_the_step_like_everything_else():
    assert STEP.names == ("forward", "cost", "backward", "gather", "update")
    first = dict(trace(STEP, START, DATA))
    Z = START.parameters["0/W"] @ X + START.parameters["0/b"]
    after = first["update"].after.statistics
    mean = Z.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(after["1/mean"], 0.1 * mean, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(
        after["1/variance"], 0.9 + 0.1 * Z.var(axis=1, ddof=1, keepdims=True), rtol=1e-12
    )
    np.testing.assert_array_equal(START.statistics["1/mean"], 0)


def test_any_step_can_be_taken_again_from_its_state():
    pairs = list(scan(STEP, START, itertools.repeat(DATA, 12)))
    middle = pairs[6][0]
    again = list(scan(STEP, middle, itertools.repeat(DATA, 5)))
    for (expected, told), (found, retold) in zip(pairs[7:], again, strict=True):
        assert found == expected
        assert told == retold


def test_each_step_drops_others_and_a_stage_alone_can_be_given_its_context():
    first, second = (
        dict(trace(STEP, attrs.evolve(START, iteration=i), DATA))["forward"].AL for i in (0, 1)
    )
    assert (first != second).any()
    AL, _ = NETWORK.forward(START.parameters.tree, X, step_context(KEY, 1))
    np.testing.assert_array_equal(AL, second)


def test_what_a_chain_shows_is_in_the_info():
    _, info = STEP(START, DATA)
    assert set(info.observed) == {"raw", "learning_rate"}
    assert info.observed["raw"] == info.gradient_norm
