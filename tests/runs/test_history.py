import itertools
import math
import sys

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import recorded, small_data, small_recipe

from pydnn import BadInput, adam, describe
from pydnn.checks import MissingExtra
from pydnn.optimizers import chain, descend, look, skip_not_finite
from pydnn.runs import Run
from pydnn.runs.history import ALWAYS, Column, history_of, joined, read_rows, row_arrays, rows_of
from pydnn.training import StepInfo, values_of

NAMES = st.sampled_from(["learning_rate", "skipped", "validation cost", "é", ""])
NUMBERS = st.floats(allow_nan=False) | st.integers(-(2**53), 2**53) | st.booleans()
FLOATS = st.floats(allow_nan=False)
STEPS = st.tuples(
    FLOATS,
    FLOATS,
    st.dictionaries(NAMES, NUMBERS, max_size=3),
    st.dictionaries(NAMES, FLOATS, max_size=3),
    st.integers(0, 2**64 - 1),
)


@st.composite
def taken_steps(draw, *, least=0):
    """The number of the first step, and pairs of info and checksum of consecutive steps."""
    start = draw(st.integers(0, 2**40))
    steps = draw(st.lists(STEPS, min_size=least, max_size=8))
    taken = [
        (StepInfo(start + i, cost, norm, observed, measured), words)
        for i, (cost, norm, observed, measured, words) in enumerate(steps)
    ]
    return start, taken


def as_read(rows):
    """The same rows after a round trip through the arrays of a file."""
    arrays = row_arrays(rows)

    def read(name, dtype, shape):
        assert arrays[name].dtype == np.dtype(dtype)
        return arrays[name]

    columns = tuple(rows.columns)
    return read_rows(read, start=rows.start, stop=rows.stop, columns=columns, where="a file")


def same(a, b):
    assert (a.start, a.stop, a.columns) == (b.start, b.stop, b.columns)
    for name in ALWAYS:
        np.testing.assert_array_equal(a.always[name], b.always[name])
    return True


SEEN = [
    (StepInfo(4, 0.5, 2.0, {"rate": 0.1}, {"train cost": 0.4}), 7),
    (StepInfo(5, 0.25, 1.0, {"rate": 0.2}), 2**64 - 1),
    (StepInfo(6, 0.125, 0.5, {"rate": 0.1, "skipped": 1}, {"train cost": 0.1}), 9),
]


def test_the_rows_of_three_steps():
    rows = rows_of(SEEN, start=4)
    assert (rows.start, rows.stop, len(rows)) == (4, 7, 3)
    assert {name: values.dtype for name, values in rows.always.items()} == ALWAYS
    np.testing.assert_array_equal(rows.always["cost"], [0.5, 0.25, 0.125])
    np.testing.assert_array_equal(rows.always["checksum"], np.array([7, 2**64 - 1, 9], "u8"))
    assert rows.columns == {
        ("observed", "rate"): Column(np.array([4, 5, 6]), np.array([0.1, 0.2, 0.1])),
        ("measured", "train cost"): Column(np.array([4, 6]), np.array([0.4, 0.1])),
        ("observed", "skipped"): Column(np.array([6]), np.array([1.0])),
    }
    assert not rows.always["cost"].flags.writeable
    assert rows.numbers(6) == {
        "cost": 0.125,
        "gradient norm": 0.5,
        "observed rate": 0.1,
        "measured train cost": 0.1,
        "observed skipped": 1.0,
        "checksum of the parameters after it": 9,
    }
    assert list(rows.numbers(5)) == [
        "cost", "gradient norm", "observed rate", "checksum of the parameters after it"
    ]  # fmt: skip
    assert set(rows.without([("measured", "train cost")]).columns) == {
        ("observed", "rate"),
        ("observed", "skipped"),
    }


@given(taken_steps())
def test_the_infos_of_steps_come_back(steps):
    start, taken = steps
    rows = rows_of(taken, start=start)
    infos = list(rows.infos())
    assert infos == [info for info, _ in taken]
    # -0.0 == 0.0, but their bits differ.
    assert [math.copysign(1, i.cost) for i in infos] == [math.copysign(1, i.cost) for i, _ in taken]
    assert list(as_read(rows).infos()) == infos
    assert same(as_read(rows), rows)


@given(taken_steps(), st.integers(-3, 11), st.integers(-3, 11))
def test_the_rows_between_two_steps_are_those_of_the_steps_between(steps, a, b):
    first, taken = steps
    rows = rows_of(taken, start=first)
    part = rows.between(first + a, first + b)
    expected = [info for info, _ in taken if first + a <= info.iteration < first + b]
    assert list(part.infos()) == expected
    assert len(part) == len(expected)
    assert rows.start <= part.start <= part.stop <= rows.stop
    assert all(column.steps.size for column in part.columns.values())


@given(taken_steps(least=1), st.lists(st.integers(0, 8), max_size=3))
def test_rows_that_were_cut_are_joined_again(steps, cuts):
    start, taken = steps
    rows = rows_of(taken, start=start)
    places = [0, *sorted(min(cut, len(taken)) for cut in cuts), len(taken)]
    parts = [rows.between(start + a, start + b) for a, b in itertools.pairwise(places)]
    whole = joined(parts)
    assert list(whole.infos()) == [info for info, _ in taken]
    assert (whole.start, whole.stop) == (rows.start, rows.stop)


def test_only_single_numbers_are_stored_in_rows():
    observed = {
        "vector": np.zeros(3),
        "array of one": np.zeros(1),
        "text": "x",
        "none": None,
        "single": np.float32(0.1),
        "whole": np.int64(3),
        "truth": np.bool_(True),
    }
    rows = rows_of([(StepInfo(0, 1.0, 1.0, observed), 1)], start=0)
    [info] = rows.infos()
    assert info.observed == {"single": float(np.float32(0.1)), "whole": 3.0, "truth": 1.0}
    assert all(type(value) is float for value in info.observed.values())


def test_a_vector_that_an_optimiser_shows_is_left_out_of_a_recorded_run(tmp_path):
    optimizer = chain(look("before", at="vector"), look("norm"), descend(0.1))
    recorded(tmp_path / "run", small_recipe(tmp_path, optimizer=describe(optimizer)))
    infos = list(Run.open(tmp_path / "run").infos)
    assert all(set(info.observed) == {"norm", "learning_rate"} for info in infos)
    assert all(info.observed["norm"] > 0 for info in infos)


def test_a_cost_that_is_not_a_number_survives(tmp_path):
    optimizer = skip_not_finite(adam(learning_rate=0.01))
    recipe = small_recipe(tmp_path, optimizer=describe(optimizer))

    def spoilt(train_step):
        return train_step.insert_after("backward", spoil)

    def spoil(step):
        if step.state.iteration not in (2, 5):
            return step
        grads = step.grads.with_vector(np.full_like(step.grads.vector, np.nan))
        return attrs.evolve(step, grads=grads, cost=math.nan)

    recorded(tmp_path / "run", recipe, small_data(), change=spoilt)
    run = Run.open(tmp_path / "run")
    assert np.flatnonzero(np.isnan(run.costs)).tolist() == [2, 5]
    infos = list(run.infos)
    assert [info.observed["skipped"] for info in infos] == [0, 0, 1, 1, 1, *[2] * 7]
    assert math.isnan(infos[5].cost)
    assert math.isnan(infos[5].gradient_norm)


REFUSED = {
    "before the segment": [3, 5],
    "after the segment": [5, 8],
    "twice the same": [5, 5],
    "backwards": [6, 5],
    "so far apart that differences overflow": [4, -(2**63), -1, 7],
}


@pytest.mark.parametrize("steps", REFUSED.values(), ids=REFUSED)
def test_columns_of_steps_that_cannot_be_are_refused(steps):
    arrays = {name: np.zeros(4, dtype) for name, dtype in ALWAYS.items()}
    arrays |= {"column.0.steps": np.array(steps), "column.0.values": np.zeros(len(steps))}
    with pytest.raises(BadInput, match=r"^column\.0\.steps in a file are not those of the segm"):
        read_rows(
            lambda name, dtype, shape: arrays[name],
            start=4, stop=8, columns=[("observed", "a")], where="a file",
        )  # fmt: skip


def test_a_history_has_one_number_per_step_in_every_column():
    history = history_of(rows_of(SEEN, start=4))
    assert list(history) == ["step", "cost", "gradient_norm", "rate", "train cost", "skipped"]
    np.testing.assert_array_equal(history["step"], [4, 5, 6])
    np.testing.assert_array_equal(history["train cost"], [0.4, np.nan, 0.1])
    np.testing.assert_array_equal(history["skipped"], [np.nan, np.nan, 1.0])
    assert repr(history) == (
        "<History of 3 steps: step, cost, gradient_norm, rate, train cost, skipped>"
    )
    assert not any(column.flags.writeable for column in history.values())


@given(taken_steps())
def test_a_history_has_the_values_of_every_step(steps):
    start, taken = steps
    history = history_of(rows_of(taken, start=start))
    for i, (info, _) in enumerate(taken):
        numbers = {name: history[name][i] for name in history if name != "step"}
        expected = dict.fromkeys(numbers, math.nan) | values_of(info)
        np.testing.assert_array_equal(list(numbers.values()), list(expected.values()))


def test_a_column_that_is_not_there_is_named():
    history = history_of(rows_of(SEEN, start=4))
    with pytest.raises(BadInput, match=r"no column 'train_cost': did you mean 'train cost'"):
        history["train_cost"]
    assert "train_cost" not in history
    assert history.get("train_cost") is None


def test_the_history_of_a_run_as_a_data_frame(tmp_path):
    pandas = pytest.importorskip("pandas")
    recorded(tmp_path / "run", small_recipe(tmp_path, evaluate_every=4))
    frame = Run.open(tmp_path / "run").history.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.index.name == "step"
    assert frame["train cost"].count() == 3


def test_a_data_frame_without_pandas_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match="run pip install pandas"):
        history_of(rows_of(SEEN, start=4)).to_pandas()


def test_curves_stand_at_the_iteration_of_the_state_that_a_number_describes():
    info = StepInfo(19, 0.5, 2.0, {"learning_rate": 0.1}, {"test cost": 0.4})
    curves = rows_of([(info, 0)], start=19).curves
    plain = {name: (at.tolist(), values.tolist()) for name, (at, values) in curves.items()}
    assert plain == {
        ("observed", "learning_rate"): ([19], [0.1]),
        ("measured", "test cost"): ([20], [0.4]),
    }
