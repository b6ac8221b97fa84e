import pickle

import attrs
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import BadInput, Batch
from pydnn.data import Table
from pydnn.jobs import Columns, fit_columns, load_model, prepare, train
from pydnn.jobs.columns import (
    BooleanColumn,
    CategoryColumn,
    DroppedColumn,
    NumberColumn,
    columns_of,
    plain_of,
)
from pydnn.jobs.loading import examples_in
from pydnn.jobs.rebuilding import rebuilding
from pydnn.jobs.scores import score_on
from pydnn.jobs.targets import Targets
from pydnn.losses import mean_squared, poisson, sigmoid_cross_entropy, softmax_cross_entropy
from pydnn.recipes import Recipe

NAN = float("nan")
HOUSES = {
    "size": [1.0, None, 3.0, 8.0],
    "new": [True, True, None, False],
    "city": ["Rome", "Oslo", "Rome", None],
    "floor": [2, 2, 2, 2],
    "owner": ["a", "b", "c", "d"],
    "price": [100.0, 200.0, 300.0, 400.0],
    "kind": ["flat", "house", "flat", "house"],
}
BATCH = Table.of(HOUSES).examples("price", ignore="kind")
FLATS = Table.of(HOUSES).examples("kind", ignore="price")


def fitted(batch=BATCH, loss=None, **options):
    return fit_columns(batch, loss=loss or mean_squared(), **options)


def test_each_kind_of_column_becomes_its_features():
    columns = fitted()
    deviation = float(np.std([1.0, 3.0, 3.0, 8.0]))
    assert columns.parts == (
        NumberColumn("size", 3.0, 3.75, deviation, True),
        BooleanColumn("new", 1.0, True),
        CategoryColumn("city", ("Rome",), True, True),
        DroppedColumn("floor", "it is always 2"),
        DroppedColumn("owner", "every row has another text"),
    )
    assert columns.features == (
        *("size", "size missing", "new", "new missing"),
        *("city=Rome", "city other", "city missing"),
    )
    size = (np.array([1.0, 3.0, 3.0, 8.0]) - 3.75) / deviation
    assert columns(BATCH.table).tolist() == [
        size.tolist(),
        [0, 1, 0, 0],
        [1, 1, 1, 0],
        [0, 0, 1, 0],
        [1, 0, 1, 0],
        [0, 1, 0, 0],
        [0, 0, 0, 1],
    ]


def test_numbers_stay_as_they_are_where_the_recipe_does_not_standardize():
    X = fitted(standardize=False)(BATCH.table)
    assert X[0].tolist() == [1.0, 3.0, 3.0, 8.0]


def test_the_columns_of_another_table_may_come_in_any_order_and_some_need_not_come():
    columns = fitted()
    rows = {"city": ["Lima", "Rome"], "new": [None, False], "size": [NAN, 3.75], "kind": ["?", "?"]}
    X = columns(Table.of(rows))
    assert X[0].tolist() == [(3.0 - 3.75) / columns.parts[0].deviation, 0.0]
    assert X[1:4].tolist() == [[1, 0], [1, 0], [1, 0]]
    assert X[4:].tolist() == [[0, 1], [1, 0], [0, 0]]


def test_a_text_that_training_did_not_have_gives_zeros_where_there_is_no_other():
    batch = Table.of({"c": ["a", "b", "a", "b"], "y": [1, 2, 3, 4]}).examples("y")
    columns = fitted(batch)
    assert columns.features == ("c=a", "c=b")
    assert columns(Table.of({"c": ["z", None, "b"]})).tolist() == [[0, 0, 0], [0, 0, 1]]


def test_the_most_frequent_categories_have_features_and_the_rest_is_other():
    texts = [f"t{i:03}" for i in range(120) for _ in range(2)] + ["t119"]
    batch = Table.of({"c": texts, "y": np.arange(241)}).examples("y")
    [part] = fitted(batch).parts
    assert len(part.categories) == 100
    assert {"t000", "t098", "t119"} <= set(part.categories)
    assert part.other
    X = fitted(batch)(batch.table)
    assert X[-1].sum() == 40
    np.testing.assert_array_equal(X.sum(axis=0), 1)


def test_classes_are_named_and_predictions_are_names():
    columns = fitted(FLATS, softmax_cross_entropy())
    assert columns.targets.classes == ("flat", "house")
    assert columns.targets(FLATS.target).tolist() == [[0, 1, 0, 1]]
    P = np.array([[0.9, 0.2], [0.1, 0.8]])
    assert columns.targets.of_predictions(P).tolist() == ["flat", "house"]
    assert columns.targets.of_predictions(P[1:]).tolist() == ["flat", "house"]
    other = Table.of({"kind": ["house", "house"]})
    assert columns.targets(other).tolist() == [[1, 1]]


def test_classes_that_are_numbers_or_truth_values_have_names_too():
    numbers = Table.of({"x": [1, 2, 3], "y": [10, 9, 10.5]}).examples("y")
    assert fitted(numbers, softmax_cross_entropy()).targets.classes == ("9", "10", "10.5")
    truths = Table.of({"x": [1, 2], "y": [True, False]}).examples("y")
    assert fitted(truths, sigmoid_cross_entropy()).targets.classes == ("false", "true")


def test_targets_of_regression_are_scaled_and_predictions_scaled_back():
    targets = fitted().targets
    Y = targets(BATCH.target)
    np.testing.assert_allclose([Y.mean(), Y.std()], [0, 1], atol=1e-15)
    np.testing.assert_allclose(targets.in_units(Y), BATCH.Y, rtol=1e-15)
    assert targets.labels(BATCH.target).tolist() == BATCH.Y.tolist()
    counts = fitted(loss=poisson()).targets
    assert counts(BATCH.target).tolist() == BATCH.Y.tolist()


def test_several_targets_are_numbers_or_labels():
    data = {"x": [1.0, 2.0, 3.0], "a": [1, 0, 1], "b": [False, True, True]}
    batch = Table.of(data).examples(["a", "b"])
    labels = fitted(batch, sigmoid_cross_entropy()).targets
    assert (labels.meaning, labels.classes) == ("labels", ("a", "b"))
    assert labels(batch.target).tolist() == [[1, 0, 1], [0, 1, 1]]
    P = np.array([[0.7, 0.2, 0.4], [0.1, 0.8, 0.9]])
    assert labels.of_predictions(P).tolist() == [[True, False], [False, True], [False, True]]
    numbers = fitted(batch).targets
    assert numbers.of_predictions(P).tolist() == P.T.tolist()


CELLS = st.one_of(st.none(), st.floats(-1e6, 1e6).map(lambda x: round(x, 3)))
WORDS = st.one_of(st.none(), st.sampled_from(["a", "b", "ü", ""]))


@st.composite
def tables(draw):
    m = draw(st.integers(3, 12))
    columns = {
        "n": draw(st.lists(CELLS, min_size=m, max_size=m)),
        "t": draw(st.lists(WORDS, min_size=m, max_size=m)),
        "b": draw(st.lists(st.none() | st.booleans(), min_size=m, max_size=m)),
        "k": list(map(float, range(m))),
        "y": [float(i % 3) for i in range(m)],
    }
    kept = {name for name, values in columns.items() if any(v not in (None, "") for v in values)}
    return Table.of({name: values for name, values in columns.items() if name in kept})


@given(tables())
def test_what_is_fitted_comes_back_from_a_file_and_gives_the_same_bits(table):
    batch = table.examples("y")
    columns = fitted(batch)
    X = columns(batch.table)
    assert X.shape == (len(columns.features), table.rows)
    assert np.isfinite(X).all()
    text, numbers = plain_of(columns)
    again = columns_of("it", text, lambda n: numbers["column_numbers"], numbers["target_scales"])
    assert again == columns == pickle.loads(pickle.dumps(columns)) == fitted(batch)
    assert again(batch.table).tobytes() == X.tobytes()
    turned = table.select(reversed(table.names))
    assert columns(turned).tobytes() == X.tobytes()
    rows = [columns(table.take([i])) for i in range(table.rows)]
    assert np.hstack(rows).tobytes() == X.tobytes()


NOT_FITTED = {
    "all missing": ({"x": [None, None], "y": [1, 2]}, mean_squared(), r"column 'x' has no values"),
    "constant target": (
        {"x": [1, 2], "y": [3, 3]},
        mean_squared(),
        r"target 'y' is 3 in every row",
    ),
    "one class": (
        {"x": [1, 2], "y": ["a", "a"]},
        softmax_cross_entropy(),
        r"target 'y' is 'a' in every row, expected two classes or more",
    ),
    "three classes for two": (
        {"x": [1, 2, 3], "y": ["a", "b", "c"]},
        sigmoid_cross_entropy(),
        r"target 'y' has 3 classes \(a, b, c\), expected 2 for sigmoid_cross_entropy: use softmax",
    ),
    "texts for numbers": (
        {"x": [1, 2], "y": ["a", "b"]},
        mean_squared(),
        r"target 'y' holds texts, e\.g\. 'a', expected numbers: for classes",
    ),
    "nothing left": ({"x": [1, 1], "y": [1, 2]}, mean_squared(), r"no column is left to learn"),
    "too narrow": (
        {"x": [1.0, 1.0 + 1e-15], "y": [1, 2]},
        mean_squared(),
        r"column 'x' goes from 1\.0 to 1\.000000000000001, a spread too small",
    ),
    "target too wide": (
        {"x": [1, 2], "y": [-1e308, 1e308]},
        mean_squared(),
        r"target 'y' goes from .* a spread too large",
    ),
}


@pytest.mark.parametrize(("data", "loss", "message"), NOT_FITTED.values(), ids=NOT_FITTED)
def test_columns_that_cannot_be_used_are_refused_by_name(data, loss, message):
    with pytest.raises(BadInput, match=message):
        fitted(Table.of(data).examples("y"), loss)


def test_several_targets_of_one_softmax_are_refused():
    batch = Table.of({"x": [1, 2], "a": [0, 1], "b": [0, 1]}).examples(["a", "b"])
    with pytest.raises(BadInput, match=r"there are 2 targets \(a, b\), expected one for softmax"):
        fitted(batch, softmax_cross_entropy())


ROWS = {"size": [1.0], "new": [True], "city": ["Rome"]}
NOT_APPLIED = {
    "missing column": (
        {"sizes": [1.0], "new": [True], "city": ["Rome"]},
        r"the table has no column 'size', which the model was trained on: did you mean 'sizes'\?",
    ),
    "new column": (ROWS | {"garden": [1]}, r"column 'garden' is not one of those in training"),
    "texts for numbers": (
        ROWS | {"size": ["big"]},
        r"column 'size' holds texts, e\.g\. 'big' in row 1, expected numbers as in training",
    ),
    "numbers for texts": (
        ROWS | {"city": [3]},
        r"column 'city' holds numbers, e\.g\. '3' in row 1",
    ),
    "infinite": (ROWS | {"size": [np.inf]}, r"column 'size' holds inf in row 1, expected a finite"),
}


@pytest.mark.parametrize(("data", "message"), NOT_APPLIED.values(), ids=NOT_APPLIED)
def test_rows_unlike_those_of_training_are_refused_by_name(data, message):
    with pytest.raises(BadInput, match=message):
        fitted()(Table.of(data))


def test_a_column_without_values_fits_any_kind():
    X = fitted()(Table.of({"size": [None], "new": [None], "city": [None]}))
    assert X[:, 0].tolist()[1:] == [1, 1, 1, 0, 0, 1]


READ_CLASSES = {
    "texts that look like numbers": (["1", "01", "A"], "01", "01"),
    "texts that look like truth values": (["true", "True", "maybe"], "True", "True"),
    "texts of decimals": (["1.0", "1", "-"], "1.0", "1.0"),
    "numbers, however they are written": ([1, 2, 30], "30.0", "30"),
    "truth values, however they are written": ([True, False], "TRUE", "true"),
}


@pytest.mark.parametrize(("classes", "written", "name"), READ_CLASSES.values(), ids=READ_CLASSES)
def test_classes_in_a_file_are_those_of_training(tmp_path, classes, written, name):
    table = Table.of({"x": range(2 * len(classes)), "y": classes * 2})
    columns = fit_columns(table.examples("y"), loss=softmax_cross_entropy())
    path = tmp_path / "t.csv"
    path.write_text(f"x,y\n1,{written}\n2,{written}\n")
    labels = columns.targets.labels(examples_in(path, columns).target)
    assert [columns.targets.classes[int(number)] for number in labels[0]] == [name, name]


def test_targets_unlike_those_of_training_are_refused_by_name():
    targets = fitted(FLATS, softmax_cross_entropy()).targets
    with pytest.raises(BadInput, match=r"'kind' holds 'tent' in row 2, expected a class"):
        targets(Table.of({"kind": ["flat", "tent"]}))
    with pytest.raises(BadInput, match=r"target 'price' holds texts, e\.g\. 'x', expected numbers"):
        fitted().targets(Table.of({"price": ["x"]}))
    with pytest.raises(BadInput, match=r"target 'price' is nan in row 1"):
        fitted().targets(Table.of({"price": [None]}))


def test_the_summary_says_what_becomes_of_each_column():
    rows = fitted().summary
    assert rows[0] == ("column", "kind", "features", "becomes")
    assert rows[3] == ("city", "text", "3", "one of Rome, other, missing")
    assert rows[4] == ("floor", "dropped", "0", "left out, because it is always 2")
    assert rows[-1][:2] == ("price", "target")


# Jobs and models

RNG = np.random.default_rng(1)
M = 60
FLOWERS = {
    "length": np.where(RNG.random(M) < 0.1, NAN, RNG.normal(50, 10, M)),
    "color": np.array(["red", "white", "blue"])[RNG.integers(0, 3, M)],
    "tall": RNG.random(M) < 0.5,
    "place": [f"p{i}" for i in range(M)],
}
FLOWERS["kind"] = np.where(FLOWERS["color"] == "red", "rose", "lily")
FLOWERS["weight"] = 1000 * np.nan_to_num(FLOWERS["length"], nan=50.0)
TABLE = Table.of(FLOWERS)
NETWORK = "serial(dense(4), relu, dense(2))"
RECIPE = Recipe(
    *("t", NETWORK, "softmax_cross_entropy()", "adam(learning_rate=0.05)", 60),
    standardize=True,
    validation=0.25,
)
CLASSES = TABLE.examples("kind", ignore="weight")
WEIGHTS = TABLE.examples("weight", ignore="kind")
REGRESSION = attrs.evolve(
    RECIPE, network="serial(dense(8), relu, dense(1))", loss="mean_squared()", iterations=300
)


@pytest.fixture(scope="module")
def classifier():
    return train(RECIPE, CLASSES).model


def test_columns_are_fitted_on_the_training_part_alone():
    job = prepare(RECIPE, CLASSES)
    held_back = job.data["validation"].X.shape[1]
    assert held_back == 15
    whole = prepare(attrs.evolve(RECIPE, validation=0.0), CLASSES)
    means = [j.inputs.columns.parts[0].mean for j in (job, whole)]
    assert means[0] != means[1]
    X = job.data["train"].X
    assert abs(X[0].mean()) < 1e-12


def test_a_job_of_a_table_is_made_again_with_the_same_bits():
    job = prepare(RECIPE, CLASSES)
    again = pickle.loads(pickle.dumps(rebuilding(job)))()
    assert again.state == job.state
    assert again.inputs == job.inputs
    assert again.data["train"].X.tobytes() == job.data["train"].X.tobytes()


def test_a_model_of_a_table_predicts_names_of_rows_in_any_form(classifier):
    names = classifier.predict(TABLE)
    assert set(names.tolist()) <= {"rose", "lily"}
    assert (names == FLOWERS["kind"]).mean() > 0.9
    rows = [{"length": None, "color": "red", "tall": True}]
    assert classifier.predict(rows).tolist() == ["rose"]
    P = classifier.predict_proba(TABLE)
    assert P.shape == (M, 2)
    assert classifier.classes == ("lily", "rose")
    np.testing.assert_allclose(P.sum(axis=1), 1)
    assert classifier.outputs(TABLE).T.tobytes() == P.tobytes()


def test_a_model_of_a_table_is_read_as_it_was_saved(tmp_path, classifier):
    classifier.save(tmp_path / "model.h5")
    again = load_model(tmp_path / "model.h5")
    assert again == classifier
    assert again.outputs(TABLE).tobytes() == classifier.outputs(TABLE).tobytes()
    with h5py.File(tmp_path / "model.h5") as file:
        assert file.attrs["format"] == b"pydnn model 4"


def test_a_table_prepares_a_job_as_its_examples_do():
    recipe = attrs.evolve(RECIPE, target="kind", ignore=("weight",))
    assert prepare(recipe, FLOWERS).state == prepare(RECIPE, CLASSES).state
    with pytest.raises(BadInput, match=r"or a table and, in the recipe, its target"):
        prepare(RECIPE, TABLE)


def test_columns_of_more_than_a_mebibyte_of_text_are_saved(tmp_path):
    names = {f"{'n' * 1000}{number}": [0.0, 1.0, 2.0] for number in range(1100)}
    examples = Table.of(names | {"y": ["a", "b", "b"]}).examples("y")
    recipe = Recipe("t", "dense(1)", "sigmoid_cross_entropy()", "adam()", 1)
    model = train(recipe, examples).model
    model.save(tmp_path / "model.h5")
    assert load_model(tmp_path / "model.h5") == model


def test_two_classes_of_one_output_have_two_probabilities():
    recipe = attrs.evolve(RECIPE, network="dense(1)", loss="sigmoid_cross_entropy()", iterations=5)
    model = train(recipe, CLASSES).model
    P = model.predict_proba(TABLE)
    assert P.shape == (M, 2)
    assert (model.predict(TABLE) == np.where(P[:, 1] > 0.5, "rose", "lily")).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_numbers_are_predicted_in_the_units_of_the_table(dtype):
    model = train(attrs.evolve(REGRESSION, dtype=dtype), WEIGHTS).model
    predictions = model.predict(TABLE)
    assert predictions.shape == (M,)
    scores = score_on(model, WEIGHTS)
    assert scores.metrics["r_squared"] > 0.9
    assert scores.metrics["mean_absolute_error"] > 10  # grams, and not deviations
    with pytest.raises(BadInput, match=r"predicts numbers, which have no probabilities"):
        model.predict_proba(TABLE)


def test_a_rotated_job_of_a_table_predicts_as_others_do():
    table = Table.of({f"x{i}": RNG.normal(size=9) for i in range(40)} | {"y": np.arange(9.0)})
    recipe = attrs.evolve(REGRESSION, optimizer="gradient_descent(learning_rate=0.1)", iterations=9)
    plain, rotated = (
        train(attrs.evolve(recipe, validation=0.0, rotate=rotate), table.examples("y"))
        for rotate in (False, True)
    )
    assert rotated.job.inputs.rotation is not None
    np.testing.assert_allclose(plain.model.predict(table), rotated.model.predict(table), rtol=1e-9)


def test_a_network_of_other_outputs_than_the_classes_is_refused():
    message = r"target 'kind' has 2 classes \(lily, rose\), but the network has 3 outputs: end it"
    with pytest.raises(BadInput, match=message):
        prepare(attrs.evolve(RECIPE, network="dense(3)"), CLASSES)
    with pytest.raises(BadInput, match=r"there are 1 targets \(weight\), but the network has 2"):
        prepare(attrs.evolve(REGRESSION, network="dense(2)"), WEIGHTS)


def test_a_class_of_one_example_is_refused_by_name_where_some_are_held_back():
    data = FLOWERS | {"kind": ["tulip", *FLOWERS["kind"][1:].tolist()]}
    batch = Table.of(data).examples("kind", ignore="weight")
    recipe = attrs.evolve(RECIPE, network="dense(3)")
    with pytest.raises(BadInput, match=r"class 'tulip' of 'kind' has 1 example, expected two or"):
        prepare(recipe, batch)
    assert prepare(attrs.evolve(recipe, validation=0.0), batch).inputs.columns.targets.classes


def test_a_person_is_told_which_columns_are_left_out_and_what_is_far_from_small():
    job = prepare(attrs.evolve(RECIPE, standardize=False), CLASSES)
    notes = "\n".join(job.notes)
    assert "column 'place' is left out, because every row has another text" in notes
    assert "those of 'length' are about" in notes
    assert "standardize = true" in notes
    assert "length" not in "\n".join(prepare(RECIPE, CLASSES).notes)


def test_arrays_and_tables_are_not_taken_for_one_another(classifier):
    with pytest.raises(BadInput, match=r"the table has no column 'length'"):
        classifier.predict(np.zeros((3, 2)))
    job = prepare(RECIPE, CLASSES)
    with pytest.raises(BadInput, match=r"the examples are arrays, but the job was prepared with"):
        job.inputs.examples(Batch([[1.0]], [[1.0]]))
    arrays = train(attrs.evolve(RECIPE, validation=0.0), Batch([[1.0, 2.0]], [[0, 1]])).model
    with pytest.raises(BadInput, match=r"X is a table, expected an array"):
        arrays.predict(TABLE)
    assert arrays.predict([[1.0]]).shape == (2, 1)
    assert arrays.predict_proba([[1.0]]).shape == (2, 1)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"parts": [], "targets": [["y"], "numbers", []], "apart": []}',
        '{"parts": [["number", "x", 1]], "targets": [["y"], "numbers", []], "apart": []}',
        '{"parts": [["dropped", "x", "so"]], "targets": [["y"], "numbers", []], "apart": []}',
        '{"parts": [["number", "x", true]], "targets": [["x"], "numbers", []], "apart": []}',
        '{"parts": [["number", "x", true]], "targets": [["y"], "classes", ["a"]], "apart": []}',
        '{"parts": [["number", "x", true]], "targets": [["y"], "numbers", []], "apart": [3]}',
        '{"parts": [["number", "\\ud800", true]], "targets": [["y"], "numbers", []], "apart": []}',
        '{"parts": [["text", "x", ["a", "a"], true, true]], "targets": [["y"], "numbers", []],'
        ' "apart": []}',
    ],
)
def test_damaged_columns_of_a_file_are_refused(text):
    with pytest.raises(BadInput, match=r"the columns in it are damaged"):
        columns_of("it", text, lambda count: np.ones((count, 3)), np.ones((1, 2)))


def test_a_model_whose_network_does_not_fit_its_columns_predicts_nothing(classifier):
    rows = TABLE.select(["length", "color", "tall"])
    for targets in (
        Targets(["kind"], "classes", ["lily"]),
        Targets(["a", "b", "c"], "numbers", [], np.zeros((3, 1)), np.ones((3, 1))),
    ):
        columns = attrs.evolve(classifier.columns, targets=targets)
        inputs = attrs.evolve(classifier.inputs, columns=columns)
        with pytest.raises(BadInput, match=r"but the network has 2 outputs"):
            attrs.evolve(classifier, inputs=inputs).predict(rows)


def test_columns_of_numbers_that_are_not_finite_are_refused():
    text, numbers = plain_of(fitted())
    for bad in (np.nan, np.inf):
        table = np.full_like(numbers["column_numbers"], bad)
        with pytest.raises(BadInput, match=r"the columns in it are damaged"):
            columns_of("it", text, lambda count, t=table: t, numbers["target_scales"])
    with pytest.raises(BadInput, match=r"the columns in it are damaged"):
        columns_of("it", text, lambda count: numbers["column_numbers"], np.array([[0.0, 0.0]]))
    assert isinstance(fitted(), Columns)


def test_a_model_whose_classes_are_not_those_of_its_columns_is_not_saved(tmp_path, classifier):
    with pytest.raises(BadInput, match=r"the classes None, but its columns make 6"):
        attrs.evolve(classifier, classes=None).save(tmp_path / "model.h5")
