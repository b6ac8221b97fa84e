"""Checks that a table in a file is trained, judged and pinned to the same bits as in memory."""

import sys

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydnn import BadInput, Recipe, fast, portable
from pydnn.checks import BadRow
from pydnn.cli import main
from pydnn.data import DataSet, Table, load_data_set, store_table, table_data
from pydnn.data.stored_tables import open_stored_table
from pydnn.jobs import fit_columns, train
from pydnn.jobs.scores import scores_of
from pydnn.losses import mean_squared, sigmoid_cross_entropy, softmax_cross_entropy
from pydnn.recipes.automatic import recipe_for
from pydnn.runs.provenance import data_differences, pins_of
from pydnn.workers.sent_data import received, sent

NUMBER = st.none() | st.sampled_from([-1.5, -0.0, 0.0, 0.1, 2.0, 3.0, 1e9])
FEATURES = {
    "numbers": NUMBER,
    "more numbers": NUMBER,
    "few numbers": st.none() | st.integers(0, 2).map(float),
    "truths": st.none() | st.booleans(),
    "texts": st.none() | st.sampled_from(["a", "b", "ü", ""]),
}
LOSSES = {
    "price": mean_squared,
    "cheap": sigmoid_cross_entropy,
    "kind": softmax_cross_entropy,
    "grade": softmax_cross_entropy,
}


@st.composite
def tables(draw):
    rows = draw(st.integers(2, 40))
    columns = {name: [draw(value) for _ in range(rows)] for name, value in FEATURES.items()}
    price = [draw(st.floats(-5, 5)) for _ in range(rows)]
    grade = [draw(st.integers(0, 3)) for _ in range(rows)]
    targets = {
        "price": price,
        "cheap": [p < 0 for p in price],
        "kind": [f"kind {g}" for g in grade],
        "grade": grade,
    }
    return Table.of(columns | targets)


def in_a_file(folder, table):
    store_table(folder / "table.h5", [table])
    return open_stored_table(folder / "table.h5")


@pytest.fixture
def small_pieces(monkeypatch):
    """Blocks and sums of a few rows, as those of a file with very many rows are."""
    for name, value in SMALL.items():
        monkeypatch.setattr(name, value)


SMALL = {
    "pydnn.records._NUMBERS_IN_A_BLOCK": 32,
    "pydnn.jobs.medians._MOST_SORTED": 8,
    "pydnn.jobs.fitting_columns._SAMPLE": 20,
}


def result_of(function):
    """What a function returns, or the message of its refusal."""
    try:
        return function()
    except BadInput as error:
        return str(error)


@pytest.mark.parametrize("target", LOSSES)
@settings(max_examples=8)
@given(table=tables(), numerics=st.sampled_from([fast, portable]), kept=st.integers(0, 2**40))
def test_columns_are_fitted_to_the_same_bits(tmp_path_factory, target, table, numerics, kept):
    stored = in_a_file(tmp_path_factory.mktemp("table"), table)
    others = [name for name in LOSSES if name != target]
    rows = np.flatnonzero([kept >> row & 1 for row in range(table.rows)])[::-1]
    rows = rows if rows.size else np.arange(table.rows)
    options = {"loss": LOSSES[target](), "numerics": numerics}
    batch = table.examples(target, ignore=others).take(rows)
    expected = result_of(lambda: fit_columns(batch, **options))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(name, value)
        for module in ("fast", "portable.sums"):
            patch.setattr(sys.modules[f"pydnn.numerics.{module}"], "_NUMBERS_OF_ROWS", 8)
        examples = stored.examples(target, ignore=others).only(rows)
        fitted = result_of(lambda: fit_columns(examples, **options))
        assert repr(fitted) == repr(expected)  # floats print all their bits
        if isinstance(fitted, str):
            return
        assert fitted == expected
        converted = examples.then(fitted.examples)
        for block, start in zip(converted.blocks(), range(0, 40, converted.count), strict=False):
            assert start or block == fitted.examples(batch).take(slice(0, block.count))


RECIPE = Recipe(
    "table",
    "serial(dense(4), relu(), dense(3))",
    "softmax_cross_entropy()",
    "adam(learning_rate=0.01)",
    12,
    batches="mini_batches(16)",
    standardize=True,
    evaluate_every=4,
    target="kind",
)


def made_table(rows=120):
    rng = np.random.default_rng(5)
    size = np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows))
    city = rng.choice(["Rome", "Oslo", "Bern"], rows).astype(object)
    city[rng.random(rows) < 0.1] = None
    return Table.of(
        {
            "size": size,
            "new": rng.random(rows) < 0.5,
            "city": city,
            "floor": rng.integers(0, 9, rows),
            "number": np.arange(rows),
            "weight": rng.integers(1, 4, rows),
            "price": rng.normal(size=rows) * 100,
            "kind": rng.choice(["flat", "house", "tent"], rows),
        }
    )


JOBS = {
    "classes": {},
    "validation, weights and class weights": {
        "validation": 0.25,
        "ignore": ["number", "price"],
        "example_weights": "weight",
        "class_weights": "balanced",
    },
    "a test share": {"test": 0.2, "dtype": "float32"},
    "portable": {"numerics": "portable", "test": 0.2, "iterations": 3},
    "numbers": {
        "target": "price",
        "network": "serial(dense(3), tanh(), dense(1))",
        "loss": "mean_squared()",
        "test": 0.25,
        "ignore": ["number"],
    },
    "whole batches": {"batches": "full_batch()"},
}


@pytest.mark.parametrize("job", JOBS)
def test_a_job_has_the_bits_of_memory(tmp_path, small_pieces, job):
    table, recipe = made_table(), attrs.evolve(RECIPE, rotate=False, **JOBS[job])
    store_table(tmp_path / "table.h5", [table])
    options = {
        "target": recipe.target,
        "test": recipe.test,
        "ignore": recipe.ignore,
        "weights": recipe.example_weights,
    }
    memory = load_data_set(tmp_path / "table.h5", mapped=False, **options)
    stored = load_data_set(tmp_path / "table.h5", mapped=True, **options)
    assert memory == table_data(table, **options)
    ours, theirs = train(recipe, stored), train(recipe, memory)
    assert ours.job.inputs == theirs.job.inputs
    assert ours.costs.tobytes() == theirs.costs.tobytes()
    for a, b in zip(ours.state.parameters.vector, theirs.state.parameters.vector, strict=True):
        assert a == b
    assert scores_of(ours.model, stored) == scores_of(theirs.model, memory)
    pins = pins_of(recipe, memory, [])
    assert pins_of(recipe, stored, []) == pins
    assert not data_differences(pins, stored)
    rows = table.select(name for name in table.names if name != "kind")
    kept = open_stored_table(tmp_path / "table.h5").select(rows.names)
    if job != "classes":
        return
    np.testing.assert_array_equal(ours.model.predict(kept), theirs.model.predict(rows))


@pytest.mark.parametrize("target", ["kind", "price", "new", "floor"])
def test_the_automatic_recipe_is_that_of_memory(tmp_path, target):
    table = made_table()
    stored = in_a_file(tmp_path, table)
    assert recipe_for(stored.examples(target)) == recipe_for(table.examples(target))


def test_another_process_finds_the_rows_in_the_file(tmp_path):
    table = made_table()
    examples = in_a_file(tmp_path, table).examples("kind", ignore="number", weights="weight")
    some = examples.only(np.array([7, 3]))
    facts, arrays = sent(DataSet(examples, some))
    assert sum(array.nbytes for array in arrays.values()) < 100
    data = received(facts, arrays)
    assert data.train.in_memory() == examples.in_memory()
    assert data.test.in_memory() == some.in_memory()


def test_rows_in_a_file_are_predicted_block_by_block(tmp_path, small_pieces, monkeypatch, capsys):
    table = made_table()
    store_table(tmp_path / "rows.h5", [table])
    train(RECIPE, table).model.save(tmp_path / "model.h5")
    options = [str(tmp_path / "model.h5"), str(tmp_path / "rows.h5"), "--proba", "--unverified"]
    printed = []
    for free in (None, 0):
        monkeypatch.setattr("pydnn.storage.mapped.free_memory", lambda free=free: free)
        monkeypatch.setattr("pydnn.cli.predict.MOST_INPUTS", 10)
        out = str(tmp_path / f"{free}.csv")
        assert main(["predict", *options, "--out", out]) == 0
        printed.append((tmp_path / f"{free}.csv").read_text())
    assert printed[0].count("\n") == 121
    lines = [[line.split(",") for line in text.splitlines()] for text in printed]
    assert [line[0] for line in lines[0]] == [line[0] for line in lines[1]]
    numbers = [np.array([line[1:] for line in every[1:]], float) for every in lines]
    np.testing.assert_allclose(*numbers, rtol=1e-13)
    capsys.readouterr()


def test_a_wrong_row_is_named_by_its_number_in_the_file(tmp_path, small_pieces):
    table = made_table()
    model = train(RECIPE, table).model
    values = table.values.copy()
    values[table.names.index("size"), 77] = 1e308
    wrong = in_a_file(tmp_path, Table(table.columns, values))
    few = attrs.evolve(model.inputs.columns.parts[0], deviation=1e-5)
    with pytest.raises(BadRow) as caught:
        list(wrong.examples("kind").then(few_of(few)).blocks())
    assert "in row 78, expected a finite number" in str(caught.value)


def few_of(part):
    """A function that converts the first column of a batch."""
    return lambda batch: attrs.evolve(batch, X=part(batch.features[0], batch.X[0]), features=())
