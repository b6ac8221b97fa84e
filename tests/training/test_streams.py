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
    TrainState,
    average_parameters,
    batch_norm,
    best,
    dense,
    dropout,
    evaluation,
    gradient_descent,
    initial_state,
    make_train_step,
    mean_squared,
    measure,
    output_of,
    poisson,
    relu,
    scan,
    serial,
    sigmoid_cross_entropy,
    stop_after,
    stop_early,
)
from pydnn.metrics import mean_absolute_error, score
from pydnn.optimizers import chain, look
from pydnn.parameters import pack
from pydnn.training import StepInfo, step_context, stop_at, tee, thin, trace, value_of
from pydnn.training.stopping import Watch, Watched, watched_in

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


def test_tee_calls_its_function_with_every_pair_and_yields_it():
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


NAN = float("nan")
WATCHED = {  # costs, options, the last step, the iteration of the best state
    "patience runs out": ([5, 4, 3, 4, 5, 6], {"patience": 2}, 4, 2),
    "the last cost is the best": ([5, 4, 3], {"patience": 2}, 2, 2),
    "the stream ends first": ([5, 4, 6], {"patience": 9}, 2, 1),
    "the state before all steps": ([1, 2, 3], {"patience": 2}, 2, 0),
    "upwards": ([1, 2, 3, 2], {"patience": 2, "higher_is_better": True}, 3, 2),
    "hardly better": ([5, 4.9, 4.8, 4.7], {"patience": 3, "least_change": 0.5}, 3, 0),
    "no numbers": ([NAN, 2, NAN], {"patience": 5}, 2, 1),
}
START = TrainState(0, EMPTY, (), Key(0))


@pytest.mark.parametrize(("costs", "options", "last", "kept"), WATCHED.values(), ids=WATCHED)
def test_early_stopping_ends_with_the_last_step_and_best_gives_the_best_state(
    costs, options, last, kept
):
    stopped = list(stop_early(stream(costs), watch="cost", **options))
    assert iterations(stopped) == list(range(last + 1))
    patience = options.pop("patience")
    state, info = best(iter(stopped), watch="cost", start=START, **options)
    assert (state.iteration, info.iteration) == (kept, kept)
    measured = stop_early(
        stream(range(len(costs)), costs), watch="score", patience=patience, **UP | options
    )
    state, info = best(measured, watch="score", **UP | options)
    assert (state.iteration, info.iteration) == (kept + 1, kept)
    assert info.measured["score"] == costs[kept]


UP = {"higher_is_better": False}  # for a name that `metrics.higher_is_better` does not know


def test_a_cost_belongs_to_the_state_before_its_step():
    # One weight w, and the cost (w - 2)^2 times the mean of x^2, which is 2, by hand.
    X = np.array([[1.0, 2.0, -1.0]])
    network, optimizer = serial(dense(1)), gradient_descent(learning_rate=0.8)
    step = make_train_step(network, mean_squared(), optimizer)
    state = initial_state(network, optimizer, (1,), key=Key(1))
    data = Batch(X, 2 * X)

    def training():
        return stop_early(scan(step, state, itertools.repeat(data, 50)), watch="cost", patience=3)

    pairs = list(training())
    costs = [info.cost for _, info in pairs]
    assert len(costs) == 4
    assert costs == sorted(costs)
    kept, info = best(training(), watch="cost", start=state)
    assert kept is state
    assert info.cost == costs[0]
    assert mean_squared()(output_of(network, kept, X), data.Y)[0] == costs[0]


BEFORE_THE_STEP = {
    "cost": {"watch": "cost"},
    "gradient_norm": {"watch": "gradient_norm"},
    "observed": {"watch": "raw", "higher_is_better": False},
}


@pytest.mark.parametrize("options", BEFORE_THE_STEP.values(), ids=BEFORE_THE_STEP)
def test_the_best_state_has_the_value_that_is_watched(options):
    # The steps are so large that values improve and worsen at random.
    optimizer = chain(look("raw"), gradient_descent(learning_rate=9))
    network = serial(dense(4), relu(), dense(1))
    step = make_train_step(network, LOSS, optimizer)
    begin = initial_state(network, optimizer, (3,), key=KEY)
    kept, info = best(scan(step, begin, itertools.repeat(DATA, 30)), start=begin, **options)
    again = step(kept, DATA)[1]
    assert value_of(again, options["watch"]) == value_of(info, options["watch"])
    values = [value_of(i, options["watch"]) for _, i in scan(step, begin, [DATA] * 30)]
    assert value_of(info, options["watch"]) == min(values)
    target = sorted(values)[3]
    *_, (reached, _) = stop_at(
        scan(step, begin, itertools.repeat(DATA, 30)), target=target, **options
    )
    assert value_of(step(reached, DATA)[1], options["watch"]) <= target


def test_higher_is_better_is_known_for_metrics():
    scores = [0.7, 0.9, 0.8, 0.95, 0.6]
    pairs = [
        (state, attrs.evolve(info, measured={"validation accuracy": info.cost}))
        for state, info in stream(scores)
    ]
    assert best(iter(pairs), watch="validation accuracy")[1].iteration == 3
    assert iterations(stop_early(iter(pairs), watch="validation accuracy", patience=1)) == [0, 1, 2]
    assert iterations(stop_at(iter(pairs), watch="validation accuracy", target=0.8)) == [0, 1]
    down = best(iter(pairs), watch="validation accuracy", higher_is_better=False)
    assert down[1].iteration == 4


@pytest.mark.parametrize("cut", range(8))
@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize(
    ("costs", "options", "patience"),
    [
        ([5, 4, 3, 4, 5, 6, 7], {}, 3),
        ([5, 4, 6, 7, 1, 2, 3], {}, 3),
        ([5, NAN, 4.9, 4.8, 3, 2, 1], {"least_change": 0.5}, 9),
        ([1, 2, 3, 2, 2, 2, 2], {"higher_is_better": True}, 4),
    ],
)
def test_early_stopping_continues_from_the_record_of_earlier_steps(
    costs, options, patience, cut, measured
):
    watch = Watch("score" if measured else "cost", **{**UP, **options})
    pairs = list(stream(costs, costs))
    states = [START, *(state for state, _ in pairs)]
    whole = list(stop_early(iter(pairs), watch=watch.name, patience=patience, since=Watched(watch)))
    cut = min(cut, len(whole))
    seen = watched_in([info for _, info in pairs[:cut]], watch=watch, state_at=states.__getitem__)
    rest = list(stop_early(iter(pairs[cut:]), watch=watch.name, patience=patience, since=seen))
    assert [*pairs[:cut], *rest] == whole
    expected = Watched(watch, START)
    for state, info in whole:
        expected = expected.after(state, info)
    for state, info in rest:
        seen = seen.after(state, info)
    assert (seen.kept, seen.last, seen.waited) == (
        expected.kept, expected.last, expected.waited,
    )  # fmt: skip


def test_early_stopping_waits_where_a_step_has_no_value():
    scores = [None, 3.0, None, 2.0, None, 2.5, None, None, None]
    pairs = list(stop_early(stream(range(9), scores), watch="score", patience=4, **UP))
    assert iterations(pairs) == [0, 1, 2, 3, 4, 5, 6, 7]
    state, info = best(iter(pairs), watch="score", **UP)
    assert (state.iteration, info.measured) == (4, {"score": 2.0})


def test_stopping_at_a_target_ends_with_the_state_that_reaches_it():
    # A cost describes the state before its step: cost 3 of step 2 is of the state after step 1.
    assert iterations(stop_at(stream([5, 4, 3, 2]), watch="cost", target=3.5)) == [0, 1]
    assert iterations(stop_at(stream([3, 2, 1]), watch="cost", target=3.5)) == []
    assert iterations(stop_at(stream([5, 4]), watch="cost", target=3.5)) == [0, 1]
    up = stop_at(stream([1, 2, 3]), watch="cost", target=2, higher_is_better=True)
    assert iterations(up) == [0]
    scores = [None, 5.0, None, 2.0, 1.0]
    reached = stop_at(stream(range(5), scores), watch="score", target=2, **UP)
    assert iterations(reached) == [0, 1, 2, 3]


def test_an_error_comes_after_every_pair_before_it():
    def failing():
        yield from stream([3, 2])
        raise ZeroDivisionError

    stopped = stop_at(failing(), watch="cost", target=0)
    assert iterations([next(stopped), next(stopped)]) == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(stopped)


def test_stopping_after_a_time_reads_the_clock_when_consumed():
    times = iter([10.0, 11.0, 12.0, 13.5, 99.0])
    stopped = stop_after(stream(range(9)), seconds=3, clock=lambda: next(times))
    assert iterations(stopped) == [0, 1, 2]


@given(st.permutations(["thin", "tee", "measure", "early", "target", "time"]))
def test_functions_from_stream_to_stream_compose_in_any_order(order):
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
        "stop_early has nothing to watch: no step had 'validation cost', this one has cost, "
        "gradient_norm, learning_rate",
    ),
    "no best": (
        lambda: best(stream([1, 2, 3]), watch="validation cost"),
        "best has nothing to watch: no step had 'validation cost', this one has cost",
    ),
    "no step": (lambda: best(stream([]), watch="cost"), "no step has 'cost'"),
    "no start": (
        lambda: best(stream([3, 2, 1]), watch="cost"),
        "'cost' of step 0 describes the state before that step.*give best start=state",
    ),
    "thinned before": (
        lambda: best(thin(stream([5, 4, 3, 2]), every=2), watch="cost", start=START),
        "'cost' of step 2 describes the state before that step.*thin the stream after best",
    ),
    "a name of ones own": (
        lambda: stop_early(stream([]), watch="score", patience=1),
        "'score' may be better when it is higher or when it is lower",
    ),
    "a rate": (
        lambda: stop_at(stream([]), watch="learning_rate", target=1),
        "'learning_rate' may be better when it is higher or when it is lower",
    ),
    "which way": (
        lambda: best(stream([]), watch="cost", higher_is_better="up"),
        "higher_is_better is 'up'",
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


# A network with dropout and statistics, so that every field of a step is used

KEY = Key(12)
X = KEY.at("X").normal((3, 40))
DATA = Batch(X, (X[:1] + X[1:2] > 0))
NETWORK = serial(dense(8), batch_norm(), relu(), dropout(keep_prob=0.9), dense(1))
LOSS = sigmoid_cross_entropy()
OPTIMIZER = chain(look("raw"), gradient_descent(learning_rate=0.5), average_parameters())
STEP = make_train_step(NETWORK, LOSS, OPTIMIZER)
START = initial_state(NETWORK, OPTIMIZER, (3,), key=KEY)


@pytest.mark.parametrize("loss", [LOSS, poisson(), mean_squared()])
def test_an_evaluation_that_overflows_is_nan_and_does_not_end_training(loss):
    far = attrs.evolve(DATA, X=np.full(X.shape, 1e308))
    network = serial(dense(1))
    state = initial_state(network, OPTIMIZER, (3,), key=KEY)
    big = state.parameters.with_vector(np.full(state.parameters.vector.shape, 9.0))
    with np.errstate(over="ignore", invalid="ignore"):
        values = evaluation(network, loss, {"far": far})(attrs.evolve(state, parameters=big))
    scores = {name: value for name, value in values.items() if name != "far cost"}
    if loss is LOSS:  # whose probabilities are 1 there
        assert all(np.isfinite(value) for value in scores.values())
    else:
        assert len(scores) == 2
        assert all(np.isnan(value) for value in scores.values())
        own = {"mae": mean_absolute_error, "never called": lambda P, Y: 1 / 0}
        with np.errstate(over="ignore", invalid="ignore"):
            evaluate = evaluation(network, loss, {"far": far}, metrics=own)
            values = evaluate(attrs.evolve(state, parameters=big))
        assert np.isnan([values["far mae"], values["far never called"]]).all()


def test_an_evaluation_uses_running_statistics_as_outside_of_training():
    evaluate = evaluation(NETWORK, LOSS, {"train": DATA, "same": DATA})
    run = scan(STEP, START, itertools.repeat(DATA, 60))
    state, info = toolz.last(measure(run, every=20, function=evaluate))
    only = evaluation(NETWORK, LOSS, {"x": DATA}, metrics={"mae": mean_absolute_error})(state)
    assert set(only) == {"x cost", "x mae"}
    AL = output_of(NETWORK, state, X)
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


def test_any_step_can_be_repeated_from_its_state():
    pairs = list(scan(STEP, START, itertools.repeat(DATA, 12)))
    middle = pairs[6][0]
    again = list(scan(STEP, middle, itertools.repeat(DATA, 5)))
    for (expected, told), (found, retold) in zip(pairs[7:], again, strict=True):
        assert found == expected
        assert told == retold


def test_each_step_drops_other_units_and_a_stage_alone_can_use_its_context():
    first, second = (
        dict(trace(STEP, attrs.evolve(START, iteration=i), DATA))["forward"].AL for i in (0, 1)
    )
    assert (first != second).any()
    AL, _ = NETWORK.forward(START.parameters.tree, X, step_context(KEY, 1))
    np.testing.assert_array_equal(AL, second)


def test_what_a_chain_observes_is_in_the_info():
    _, info = STEP(START, DATA)
    assert set(info.observed) == {"raw", "learning_rate"}
    assert info.observed["raw"] == info.gradient_norm
