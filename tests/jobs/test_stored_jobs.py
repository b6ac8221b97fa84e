"""Jobs whose examples stay in files: each gives the bits of the same examples in memory."""

import pickle
import sys

import attrs
import numpy as np
import pytest

import pydnn as nn
from pydnn import BadInput, Recipe
from pydnn.data import DataSet, Stored
from pydnn.jobs import prepare
from pydnn.jobs.job import run
from pydnn.jobs.scores import scores_of
from pydnn.jobs.training import train
from pydnn.runs.state_arrays import state_fingerprint
from pydnn.sweeps import run_sweep, sweep

M = 90


def stored(kind="classes", dtype=np.float64, m=M, seed=1, whole=True):
    """Examples as they would be in files, in the dtype that they have there."""
    rng = np.random.default_rng(seed)
    shape = {"images": (6, 5, 2), "sequences": (4, 3)}.get(kind, (7,))
    X = rng.integers(0, 256, (m, *shape)).astype("u1")
    Y = (X.reshape(m, -1)[:, 0] % 3).astype("u1")
    if kind == "regression":
        Y = X[:, :2].astype(">f4") / 7
    if kind == "two":
        Y = (X[:, 0] > 100).astype("i8")
    weights = rng.integers(1, 5, m).astype("f4") if kind == "weighted" else None
    lengths = rng.integers(1, 5, m) if kind == "sequences" else None
    return Stored(X if whole else X.astype("<f4") / 3, Y, weights, lengths, dtype=dtype)


LOSSES = {"regression": "mean_squared", "two": "sigmoid_cross_entropy"}
OUTPUTS = {"regression": 2, "two": 1}


def recipe(kind="classes", **changes):
    end = f"dense({OUTPUTS.get(kind, 3)})"
    begin = {
        "images": "conv(3, 3), relu, global_average_pool,",
        "sequences": "gru(4, output='last'),",
    }.get(kind, "dense(4), tanh,")
    fields = {
        "data": "stored",
        "network": f"serial({begin} {end})",
        "loss": f"{LOSSES.get(kind, 'softmax_cross_entropy')}()",
        "optimizer": nn.adam(learning_rate=0.01),
        "batches": nn.mini_batches(16),
        "iterations": 8,
        "standardize": True,
        "validation": 0.2,
        "evaluate_every": 4,
    }
    return Recipe(**fields | changes)


def results(recipe, data):
    """All numbers of a training: costs, measurements and the last state."""
    job = prepare(recipe, data)
    pairs = list(run(job))
    return (
        [(info.cost, info.gradient_norm, dict(info.measured)) for _, info in pairs],
        state_fingerprint(pairs[-1][0]),
    )


@pytest.fixture
def blocks(monkeypatch):
    """Let even few examples come in several blocks."""
    monkeypatch.setattr("pydnn.records._NUMBERS_IN_A_BLOCK", 64)
    monkeypatch.setattr(sys.modules["pydnn.numerics.fast"], "_NUMBERS_OF_ROWS", 64)


CASES = {
    "classes": {},
    "two": {"class_weights": "balanced"},
    "regression": {},
    "weighted": {"class_weights": (1.0, 2.0, 0.5)},
    "images": {"augment": ["random_flip"]},
    "sequences": {},
}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        *[(kind, {}) for kind in CASES],
        ("classes", {"dtype": "float32"}),
        ("classes", {"numerics": "portable"}),
        ("images", {"numerics": "portable"}),
    ],
)
def test_training_on_files_gives_the_bits_of_training_in_memory(kind, changes, blocks):
    changes = CASES[kind] | changes
    dtype = changes.get("dtype", "float64")
    data = stored(kind, dtype)
    test = stored(kind, dtype, m=20, seed=2)
    one = recipe(kind, **changes)
    in_files = DataSet(data, test)
    in_memory = DataSet(data.in_memory(), test.in_memory())
    assert results(one, in_files) == results(one, in_memory)
    if "images" not in kind:
        whole = attrs.evolve(one, batches=nn.full_batch(), validation=0.0, rotate=None)
        assert results(whole, in_files) == results(whole, in_memory)


def test_folds_and_windows_are_those_of_data_in_memory(blocks):
    data = stored(whole=False)
    for changes in (
        {"validation": 0.0, "fold": (2, 3)},
        {"batches": nn.mini_batches(16, window=32)},
        {"batches": nn.mini_batches(16, shuffle=False)},
    ):
        one = recipe(**changes)
        assert results(one, data) == results(one, data.in_memory())


def test_a_job_keeps_its_examples_in_their_files(blocks):
    job = prepare(recipe(), stored())
    assert isinstance(job.data["train"], Stored)
    assert isinstance(job.data["validation"], Stored)
    assert pickle.loads(pickle.dumps(job.data["train"])).count == job.data["train"].count
    assert job.batch == stored()
    assert job.batch != stored(seed=2)


def test_the_order_of_a_large_split_takes_half_of_the_memory(monkeypatch):
    data = stored()
    small = prepare(recipe(), data).data["validation"].in_memory()
    monkeypatch.setattr("pydnn.batches._MOST_KEPT", 10)
    job = prepare(recipe(), data)
    assert job.data["train"].only_rows.dtype == np.uint32
    assert job.data["validation"].in_memory() == small
    assert results(recipe(), data) == results(recipe(), data.in_memory())


def test_training_that_is_rotated_takes_its_examples_into_memory():
    rng = np.random.default_rng(3)
    data = Stored(rng.integers(0, 256, (20, 400)).astype("u1"), rng.integers(0, 2, 20))
    one = recipe(
        "two", network=nn.dense(1), optimizer=nn.gradient_descent(learning_rate=0.1),
        batches=nn.full_batch(), iterations=400, standardize=False, evaluate_every=0,
        validation=0.0,
    )  # fmt: skip
    job = prepare(one, data)
    assert job.inputs.rotation is not None
    short = attrs.evolve(one, iterations=20, rotate=True)
    assert results(short, data) == results(short, data.in_memory())


def test_a_full_batch_that_does_not_fit_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr("pydnn.jobs.memory.free_memory", lambda: 10_000)
    with pytest.raises(
        BadInput, match=r"at least .*all examples, in one batch .* has 9.8 KiB free"
    ):
        prepare(recipe(batches=nn.full_batch(), validation=0.0), stored())
    monkeypatch.setattr("pydnn.jobs.rotating.free_memory", lambda: 10_000)
    monkeypatch.setattr("pydnn.jobs.memory.free_memory", lambda: 1_000_000)
    wide = Stored(np.zeros((20, 400), "u1"), np.arange(20) % 2)
    plain = nn.gradient_descent(learning_rate=0.1)
    one = recipe("two", network=nn.dense(1), optimizer=plain, rotate=True, standardize=False)
    with pytest.raises(BadInput, match="training is rotated to save time, for which all examples"):
        prepare(one, wide)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"X": np.where(np.arange(M * 7) == 500, np.nan, 1.0).reshape(M, 7)},
            "X holds nan in row 71, column 3",
        ),
        ({"X": np.full((M, 7), 1e39), "dtype": np.float32}, r"X holds inf in row 0, column 0"),
        ({"Y": np.where(np.arange(M) == 70, np.inf, 1.0)}, r"Y holds inf in row 70, column 0"),
        ({"weights": -np.ones(M)}, "the weight of example 0 is -1, expected 0 or more"),
        ({"weights": np.zeros(M)}, "weights sum to 0 over the train part"),
        ({"Y": np.where(np.arange(M) == 71, 7, 1)}, r"label 7 at index \(0, 71\), expected"),
        ({"Y": np.ones(M)}, "class 0 of 3 never occurs"),
        ({"Y": np.arange(M) % 2}, "class 2 of 3 never occurs"),
    ],
)  # fmt: skip
def test_examples_in_files_are_refused_by_their_place(changes, message, blocks):
    with pytest.raises(BadInput, match=message):
        prepare(recipe(), attrs.evolve(stored(), **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Y": np.where(np.arange(M) == 71, 7, 1)}, r"test part: label 7 at index \(0, 71\)"),
        ({"X": np.full((M, 7), np.nan)}, r"test part: X holds nan in row 0, column 0"),
    ],
)
def test_a_test_part_in_files_is_refused_by_its_place(changes, message, blocks):
    with pytest.raises(BadInput, match=message):
        prepare(recipe(), DataSet(stored(), attrs.evolve(stored(), **changes)))


def test_a_class_may_be_in_one_block_alone(blocks):
    Y = np.where(np.arange(M) < M - 4, np.arange(M) % 2, 2)
    data = attrs.evolve(stored(), Y=Y)
    assert results(recipe(), data) == results(recipe(), data.in_memory())


def test_models_score_files_as_they_score_memory(blocks, monkeypatch):
    for kind, most in (("classes", 10), ("regression", 1 << 22)):
        monkeypatch.setattr(sys.modules["pydnn.training.evaluation"], "MOST_INPUTS", 10)
        monkeypatch.setattr(sys.modules["pydnn.training.evaluation"], "MOST_OUTPUTS", most)
        data = stored(kind)
        model = train(recipe(kind, iterations=2, evaluate_every=0), data).model
        by_class = kind != "regression"
        ours = scores_of(model, DataSet(data, data), by_class=by_class)
        theirs = scores_of(model, DataSet(data.in_memory(), data.in_memory()), by_class=by_class)
        assert ours == theirs
        assert (
            model.predict(data) == model.predict(data.in_memory().X, lengths=data.lengths)
        ).all()


@pytest.mark.parametrize("kind", ["classes", "regression", "weighted", "sequences"])
def test_an_evaluation_in_blocks_is_that_of_data_in_memory_and_near_that_at_once(
    kind, blocks, monkeypatch
):
    data = stored(kind)
    one = recipe(kind, validation=0.0, numerics="portable")
    job = prepare(one, data)
    inside = prepare(one, data.in_memory())
    at_once = inside.evaluation()(job.state)
    monkeypatch.setattr(sys.modules["pydnn.training.evaluation"], "MOST_INPUTS", 10)
    together = job.evaluation()(job.state)  # with outputs of all blocks together again
    assert together == inside.evaluation()(job.state) == at_once
    monkeypatch.setattr(sys.modules["pydnn.training.evaluation"], "MOST_OUTPUTS", 10)
    apart = job.evaluation()(job.state)
    assert apart == inside.evaluation()(job.state)
    assert list(apart) == list(at_once)
    for name, value in at_once.items():
        assert apart[name] == pytest.approx(value, rel=2e-3 if "auc" in name else 1e-12)


def test_a_sweep_over_files_gives_the_results_of_one_in_memory(blocks):
    data = stored()
    one = recipe(iterations=3)
    over = {"optimizer.learning_rate": [0.01, 0.1]}
    ours, theirs = (
        run_sweep(sweep(one, examples, seeds=2, over=over))
        for examples in (DataSet(data, data), DataSet(data.in_memory(), data.in_memory()))
    )
    for left, right in zip(ours.outcomes, theirs.outcomes, strict=True):
        assert left.scores == right.scores
        assert left.model.parameters == right.model.parameters
        assert left.why_not_stacked == "its examples stay in files"
