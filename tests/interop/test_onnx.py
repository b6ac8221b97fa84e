import functools
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from interop.onnx_runners import RUNNERS, assert_near
from own_parts import cube_root, squared_relu
from test_laws import SHAPES, STAGES

import pydnn as nn
from pydnn import BadInput, Batch, Key
from pydnn.data import Table
from pydnn.interop.onnx import IN_FLOAT32, graph_of
from pydnn.interop.onnx_file import onnx_file
from pydnn.jobs import load_model
from pydnn.jobs.inputs import Inputs
from pydnn.jobs.model import Model
from pydnn.jobs.standardization import Standardization
from pydnn.parameters import pack
from pydnn.recipes.toml import read_recipe
from pydnn.stages.base import onnx_of
from pydnn.stages.graph import _UFUNCS, Graph
from pydnn.testing.examples import after_training, draw_stage

DTYPES = ["float64", "float32"]
TOP = Path(__file__).parents[2]


def in_dtype(tree, dtype):
    return pack(tree, dtype=dtype).tree


def written(stage, params, statistics, shape, dtype, **options):
    """The ONNX file of one stage alone, from X to A."""
    graph = Graph(dtype, **options)
    A = onnx_of(stage, params, graph.input("X", shape), statistics)
    graph.output("A", A, stage.init(Key(0), shape)[1])
    return onnx_file(graph, producer_version="", metadata={})


@pytest.mark.sampled(4)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("run", RUNNERS)
def test_every_stage_computes_the_same_as_onnx(name, dtype, run):
    stage, shape = STAGES[name], SHAPES.get(name, (3,))
    drawn = draw_stage(stage, shape, 7, Key(3))
    context = after_training(stage, drawn)
    params = in_dtype(drawn.params, dtype)
    statistics = in_dtype(context.statistics or (), dtype)
    context = attrs.evolve(context, statistics=statistics if context.statistics else None)
    if (name, run) == ("rnn, relu", "onnx"):
        pytest.skip("onnx.reference has no ReLU in recurrent networks")
    # onnxruntime lacks some operators in float64, which exported models therefore compute in
    # float32; onnx.reference has them, so there every digit counts.
    single = IN_FLOAT32 if run == "onnxruntime" else frozenset()
    file = written(stage, params, statistics, shape, dtype, in_float32=single)
    compute = RUNNERS[run](file)
    casts = dtype == "float64" and any(operator.encode() in file for operator in single)
    precision = "float32 between casts" if casts else dtype

    def agrees(X):
        expected, _ = stage.forward(params, X, context)
        [found] = compute(None, {"X": np.ascontiguousarray(np.moveaxis(X, -1, 0))})
        assert_near(np.moveaxis(found, 0, -1), expected, dtype, computed=precision)

    if stage.ids is not None:
        agrees(drawn.A_prev.astype(dtype))
        return
    # Numbers of all sizes that a network meets, and zeros of both signs.
    agrees((drawn.A_prev * [1, 1, 3, 10, 40, 0, -0.0]).astype(dtype))
    # Quarters, whose sums are exact: a norm of numbers that are nearly equal magnifies roundings.
    # Small ones, because attention multiplies them by each other and then takes their exponentials.
    quarters = st.integers(-12, 12).map(lambda n: n / 4)
    example_count(8)(given(arrays(dtype, (*shape, 3), elements=quarters))(agrees))()


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_function_of_numpy_that_is_written_computes_the_same(dtype, run):
    X = np.linspace(0.1, 2.4, 24).astype(dtype).reshape(8, 3)
    graph = Graph(dtype)
    Z, expected = graph.input("X", (3,)), {}
    for ufunc in _UFUNCS:
        with np.errstate(all="ignore"):
            values = [X - 1, 3 - X][: ufunc.nin]
            ours = [Z - 1, 3 - Z][: ufunc.nin]
            if ufunc in (np.log, np.sqrt, np.reciprocal, np.power, np.float_power):
                values, ours = [X, X / 2][: ufunc.nin], [Z, Z / 2][: ufunc.nin]
            if ufunc in LOGICAL:
                values, ours = [v > 0 for v in values], [v > 0 for v in ours]
            made = ufunc(*ours)
            if made.dtype == bool:
                made = np.where(made, 1.0, 0.0)
            graph.output(ufunc.__name__, made, (3,))
            expected[ufunc.__name__] = ufunc(*values).astype(dtype)
    compute = RUNNERS[run](onnx_file(graph, producer_version="", metadata={}))
    found = dict(zip(graph.outputs, compute(None, {"X": X}), strict=True))
    for name, array in expected.items():
        assert_near(found[name], array, dtype)


LOGICAL = {np.logical_and, np.logical_or, np.logical_not, np.bitwise_and, np.bitwise_or, np.invert}


def test_an_activation_of_ones_own_is_written_by_what_it_does():
    X = np.array([[-8.0, 0.0, 27.0]])
    compute = RUNNERS["onnx"](written(cube_root(), (), (), (1,), "float64"))
    [found] = compute(None, {"X": X.T})
    np.testing.assert_allclose(found.T, [[-2, 0, 3]], atol=1e-15)


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda Z, _: np.sort(Z), "np.sort"),
        (lambda Z, _: np.spacing(Z), "np.spacing"),
        (lambda Z, _: np.add.accumulate(Z), "np.add"),
        (lambda Z, _: np.clip(Z, 0, 1, casting="no"), r"np.clip .*\(.*casting"),
        (lambda Z, _: Z if Z > 0 else -Z, "a decision"),
        (lambda Z, _: np.vectorize(abs)(Z), "what needs the numbers"),
        (lambda Z, numerics: numerics.sum(Z, axis=0), "a product, sum"),
    ],
)
def test_what_onnx_cannot_express_is_refused_with_its_place(function, what):
    own = nn.elementwise("mine", function, lambda dA, Z, A, _: dA)
    with pytest.raises(BadInput, match=rf"stage 1 \(mine\): {what}.* in another way in the field"):
        written(nn.serial(nn.relu(), own), ((), ()), (), (2,), "float64")


def test_a_stage_that_does_not_say_how_it_is_written_is_refused_with_what_to_do():
    with pytest.raises(BadInput, match=r"stage 0 \(squared_relu\): .* does not say .* field onnx"):
        written(nn.serial(squared_relu()), ((),), (), (2,), "float64")


def test_a_stage_or_loss_whose_computation_was_replaced_alone_is_not_written_as_before():
    stage = attrs.evolve(nn.relu(), forward=nn.sigmoid().forward)
    assert stage.onnx is None
    assert attrs.evolve(nn.relu(), name="mine").onnx is not None
    assert attrs.evolve(nn.poisson(), predict=nn.mean_squared().predict).onnx is None
    assert attrs.evolve(nn.poisson(), name="mine").onnx is not None


# Whole models

LOSSES = {
    "two classes": (nn.sigmoid_cross_entropy(), 1, None),
    "two classes, named": (nn.sigmoid_cross_entropy(), 1, ("dog", "猫")),
    "many classes": (nn.softmax_cross_entropy(), 3, None),
    "many classes, named": (nn.softmax_cross_entropy(), 3, ("a", "b", "c")),
    "several labels": (nn.sigmoid_cross_entropy(), 3, ("a", "b", "c")),
    "numbers": (nn.mean_squared(), 2, None),
    "numbers, huber": (nn.huber(), 2, None),
    "numbers, absolute": (nn.mean_absolute(), 2, None),
    "counts": (nn.poisson(), 1, None),
}


def model_with(loss, n_out, classes, dtype, *, standardize=True, image_shape=None):
    network = nn.serial(nn.dense(5), nn.batch_norm(), nn.gelu(), nn.dense(n_out))
    features = 4 if image_shape is None else 12
    recipe = nn.Recipe(
        "drawn", network, loss, nn.adam(), iterations=1, standardize=standardize, dtype=dtype
    )
    drawn = draw_stage(network, (features,), 9, Key(5))
    statistics = after_training(network, drawn).statistics
    fitted = Standardization(
        Key(6).normal((features, 1)), 0.5 + Key(7).uniform((features, 1))
    )  # fmt: skip
    return Model(
        recipe,
        pack(drawn.params, dtype=dtype),
        np.zeros(1),
        features,
        pack(statistics, dtype=dtype),
        Inputs(dtype, "fast", fitted if standardize else None),
        image_shape,
        classes,
    )


def answer(names, number):
    return int(number) if names is None else names[number]


def test_all_losses_are_in_the_table():
    table = {loss.name for loss, *_ in LOSSES.values()}
    assert table == {b.name for b in nn.descriptions.builders.builders_of("loss")
                     if ":" not in b.name}  # fmt: skip


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("run", RUNNERS)
def test_predictions_and_labels_are_those_of_the_model(name, dtype, run):
    loss, n_out, classes = LOSSES[name]
    model = model_with(loss, n_out, classes, dtype)
    compute = RUNNERS[run](model.to_onnx())

    @example_count(8)
    @given(arrays(dtype, (4, 6), elements=st.floats(-5, 5, width=32)))
    def agrees(X):
        P = model.predict(X)
        outputs = compute(None, {"X": np.ascontiguousarray(X.T)})
        if loss.task(n_out) == "regression":
            [values] = outputs
            assert_near(values.T, P, dtype)
            return
        label, probabilities = outputs
        if loss.task(n_out) == "several labels":
            assert_near(probabilities.T, P, dtype)
            np.testing.assert_array_equal(label.T, probabilities.T > 0.5)
            return
        if n_out == 1:
            P = np.concatenate([1 - P, P])
        assert_near(probabilities.T, P, dtype)
        expected = [answer(classes, column.argmax()) for column in probabilities]
        assert list(label) == expected

    agrees()


@pytest.mark.parametrize("run", RUNNERS)
def test_images_go_in_as_bytes(run):
    loss, n_out, classes = LOSSES["two classes, named"]
    model = model_with(loss, n_out, classes, "float64", image_shape=(2, 2, 3))
    images = Key(1).integers(256, (5, 2, 2, 3)).astype(np.uint8)
    _, probabilities = RUNNERS[run](model.to_onnx())(None, {"images": images})
    assert_near(probabilities.T[1:], model.predict(nn.data.columns_of(images)), "float64")


@pytest.mark.parametrize("run", RUNNERS)
def test_images_with_all_their_axes_go_in_as_bytes(run):
    images, _ = nn.data.drawn_cats(train_count=6, test_count=1)
    batch = nn.data.to_batch(images)
    data = nn.data.DataSet(batch, batch, image_shape=(64, 64, 3), classes=("non-cat", "cat"))
    network = nn.serial(nn.conv(2, 5, stride=9), nn.relu(), nn.stages.flatten(), nn.dense(1))
    recipe = nn.Recipe("cats", network, nn.sigmoid_cross_entropy(), nn.adam(), 2, dtype="float32")
    model = nn.train(recipe, data).model
    assert model.shape == (64, 64, 3)
    _, probabilities = RUNNERS[run](model.to_onnx())(None, {"images": images.images})
    assert_near(probabilities.T[1:], model.predict(batch.X), "float32")
    assert_near(probabilities.T[1:], model.predict(data.unflattened().test.X), "float32")


@pytest.mark.parametrize("run", RUNNERS)
def test_a_model_of_images_takes_bytes_and_standardizes_channels(run):
    network = nn.serial(nn.conv(2, 2), nn.relu(), nn.flatten(), nn.dense(1))
    recipe = nn.Recipe(
        "x", network, nn.sigmoid_cross_entropy(), nn.adam(), iterations=1, standardize=True
    )
    pictures = Key(1).integers(256, (6, 4, 3, 3)).astype(np.uint8)
    X = np.moveaxis(pictures / 255, 0, -1)
    model = nn.train(recipe, nn.Batch(X, [[0, 1, 0, 1, 1, 0]])).model
    for written, name, examples in (
        (attrs.evolve(model, image_shape=(4, 3, 3)), "images", pictures),
        (model, "X", np.moveaxis(X, -1, 0)),
    ):
        _, probabilities = RUNNERS[run](written.to_onnx())(None, {name: examples})
        assert_near(
            probabilities.T[1:], model.predict(X), "float64", computed="float32 between casts"
        )


def trained_on_sequences(network):
    recipe = nn.Recipe("x", network, nn.softmax_cross_entropy(), nn.adam(), iterations=1)
    X = Key(1).normal((5, 2, 6))
    lengths = [1, 2, 3, 4, 5, 5]
    return nn.train(recipe, nn.Batch(X, [[0, 1, 2, 0, 1, 2]], lengths=lengths)).model, X, lengths


@pytest.mark.parametrize("run", RUNNERS)
def test_a_recurrent_model_takes_each_sequence_at_its_own_length(run):
    network = nn.serial(
        nn.bidirectional(nn.gru(3)), nn.lstm(4, output="last", reverse=True), nn.dense(3)
    )
    model, X, lengths = trained_on_sequences(network)
    compute = RUNNERS[run](model.to_onnx())
    P = model.predict_proba(X, lengths=lengths)
    for i, length in enumerate(lengths):
        alone = np.ascontiguousarray(X[:length, :, i])[np.newaxis]
        _, probabilities = compute(None, {"X": alone})
        assert_near(probabilities[0], P[:, i], "float64", computed="float32 between casts")


def test_a_file_says_which_sizes_are_free():
    recurrent, _, _ = trained_on_sequences(nn.serial(nn.gru(3, output="last"), nn.dense(3)))
    assert graph_of(recurrent).inputs["X"][1] == ("T", 2)
    assert graph_of(recurrent).outputs["probabilities"][1] == (3,)
    fixed, _, _ = trained_on_sequences(
        nn.serial(nn.attention(1, causal=True), nn.gru(3, output="last"), nn.dense(3))
    )
    assert graph_of(fixed).inputs["X"][1] == (5, 2)


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("loss", [nn.softmax_cross_entropy(), nn.sigmoid_cross_entropy()])
def test_a_model_of_steps_gives_an_answer_for_each(loss, run):
    n_out = 3 if loss.task(2) == "many classes" else 1
    network = nn.serial(nn.dense(4), nn.gelu(), nn.dense(n_out))
    recipe = nn.Recipe("x", network, loss, nn.adam(), iterations=1, standardize=True)
    X, Y = Key(1).normal((4, 2, 6)), np.arange(24).reshape(4, 6) % max(n_out, 2)
    model = nn.train(recipe, nn.Batch(X, Y, lengths=[1, 2, 3, 4, 4, 4])).model
    label, probabilities = RUNNERS[run](model.to_onnx())(None, {"X": np.moveaxis(X, -1, 0)})
    P = model.predict_proba(X)
    assert_near(np.moveaxis(probabilities, 0, -1), P, "float64")
    np.testing.assert_array_equal(label.T, P.argmax(axis=1))


def test_the_file_says_what_it_is():
    onnx = pytest.importorskip("onnx")
    model = model_with(*LOSSES["many classes, named"], "float32")
    read = onnx.load_from_string(model.to_onnx())
    assert read.ir_version == 8
    assert [(each.domain, each.version) for each in read.opset_import] == [("", 17)]
    assert (read.producer_name, read.producer_version) == ("pydnn", nn.__version__)
    described = {prop.key: prop.value for prop in read.metadata_props}
    assert read_recipe(described["recipe"]) == model.recipe
    assert json.loads(described["classes"]) == ["a", "b", "c"]
    assert len(described["parameters_sha256"]) == 64
    names = {constant.name for constant in read.graph.initializer}
    assert {"0/W", "0/b", "1/gamma", "1/beta", "1/mean", "3/W", "3/b"} <= names
    assert {node.domain for node in read.graph.node} == {""}


MADE = """
import numpy as np, pydnn as nn
from pydnn.jobs.model import model_of
from pydnn.jobs.job import prepare
recipe = nn.Recipe("x", "serial(dense(3), gelu(), dense(2))", nn.softmax_cross_entropy(),
                   nn.adam(), iterations=1, numerics="portable")
job = prepare(recipe, nn.Batch([[0.0, 1.0], [1.0, 3.0]], [[0, 1]]))
model = model_of(job, job.state, [])
content = model.to_onnx()
"""


def test_the_same_model_gives_the_same_bytes_on_every_machine():
    here = {}
    exec(MADE, here)
    content = onnx_file(graph_of(here["model"]), producer_version="", metadata={})
    assert hashlib.sha256(content).hexdigest()[:16] == "042d9d8424eca20c"


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes_in_every_process():
    here = {}
    exec(MADE, here)
    there = subprocess.run(
        [sys.executable, "-c", f"{MADE}\nimport sys; sys.stdout.buffer.write(content)"],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        check=True,
    )
    assert there.stdout == here["content"]


def test_a_file_beyond_what_the_format_allows_is_refused():
    graph = Graph("float32")
    graph.constants["0/W"] = np.broadcast_to(np.float32(0), (1 << 15, 1 << 14))
    with pytest.raises(BadInput, match=r"take 2,147,483,648 bytes.*model\.safetensors"):
        onnx_file(graph, producer_version="", metadata={})


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((TOP / "examples").glob("*.toml")), ids=lambda p: p.name)
def test_recipes_of_the_examples_give_the_labels_of_predict(path):
    pytest.importorskip("sklearn")
    recipe = read_recipe(path.read_text())
    data = nn.data.load_data_set(recipe.data)
    model = nn.train(recipe, data).model
    expected = [data.classes[k] for k in model.predict(data.test.X).argmax(axis=0)]
    for run in RUNNERS.values():
        label, _ = run(model.to_onnx())(None, {"X": np.ascontiguousarray(data.test.X.T)})
        assert list(label) == expected


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNNERS)
def test_the_tutorials_photos_give_the_labels_of_predict(run, cats_directory):
    recipe = attrs.evolve(nn.recipes.tutorial.tutorial_recipe(), iterations=100)
    data = nn.data.load_data_set(cats_directory)
    model = nn.train(attrs.evolve(recipe, data=str(cats_directory)), data).model
    images = nn.data.load_catvnoncat(cats_directory)[1].images
    label, _ = RUNNERS[run](model.to_onnx())(None, {"images": images})
    P = model.predict(data.test.X)[0]
    assert list(label) == [data.classes[int(p > 0.5)] for p in P]


def test_a_saved_model_is_exported_as_the_trained_one(tmp_path):
    recipe = nn.Recipe("line", nn.dense(1), nn.mean_squared(), nn.adam(), iterations=3)
    model = nn.train(recipe, Batch([[0.0, 1.0]], [[1.0, 3.0]])).model
    model.save(tmp_path / "model.h5")
    assert load_model(tmp_path / "model.h5").to_onnx() == model.to_onnx()


# Tables

NAN = float("nan")
ROWS = {
    "size": [1.0, None, 3.0, 8.0, 2.0, 4.0],
    "rooms": [2, 3, 3, 5, 1, 2],
    "new": [True, True, None, False, True, False],
    "lift": [True, False, True, False, False, False],
    "city": ["Rome", "Oslo", "Rome", None, "Oslo", "Bonn"],
    "street": ["猫", "b c", "猫", "b c", "猫", "b c"],
    "floor": [2, 2, 2, 2, 2, 2],
    "label": ["x", "x", "y", "y", "z", "x"],  # the name of an output
}
PRICES = {
    "price": [100.0, 250.0, 300.0, 400.0, 120.0, 330.0],
    "kind": ["flat", "house", "flat", "house", "flat", "house"],
    "zone": ["a", "b", "c", "a", "b", "c"],
    "sold": [0, 1, 1, 0, 1, 0],
    "let": [1, 1, 0, 0, 1, 0],
}
TARGETS = {
    "numbers": ("price", nn.mean_squared(), 1),
    "several numbers": (["price", "sold"], nn.mean_squared(), 2),
    "two classes": ("kind", nn.sigmoid_cross_entropy(), 1),
    "many classes": ("zone", nn.softmax_cross_entropy(), 3),
    "several labels": (["sold", "let"], nn.sigmoid_cross_entropy(), 2),
}


@pytest.fixture(scope="module")
def table_models():
    @functools.cache
    def made(name, dtype, standardize=True):
        target, loss, n_out = TARGETS[name]
        names = [target] if isinstance(target, str) else target
        recipe = nn.Recipe(
            "rows", nn.serial(nn.dense(4), nn.gelu(), nn.dense(n_out)), loss, nn.adam(),
            iterations=3, dtype=dtype, standardize=standardize,
        )  # fmt: skip
        table = Table.of({**ROWS, **{name: PRICES[name] for name in names}})
        return nn.train(recipe, table.examples(target)).model

    return made


TEXTS = {"city", "street", "label"}


def onnx_column(name, values):
    """A column as an ONNX file takes it."""
    if name in TEXTS:
        return np.array(["" if value is None else value for value in values], object)
    return np.array([NAN if value is None else value for value in values], np.float64)


ROW = st.fixed_dictionaries(
    {
        "size": st.none() | st.floats(-1e3, 1e3, width=32),
        "rooms": st.none() | st.integers(-9, 9),
        "new": st.none() | st.booleans(),
        "lift": st.booleans(),
        "city": st.sampled_from(["Rome", "Oslo", "Bonn", "elsewhere", None]),
        "street": st.sampled_from(["猫", "b c", "犬", None]),
        "label": st.sampled_from(["x", "y", "?"]),
    }
)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("run", RUNNERS)
def test_rows_of_a_table_go_in_column_by_column(name, dtype, run, table_models):
    model = table_models(name, dtype)
    compute = RUNNERS[run](model.to_onnx())

    @example_count(8)
    @given(st.lists(ROW, min_size=1, max_size=5))
    def agrees(rows):
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        outputs = compute(None, {name: onnx_column(name, v) for name, v in columns.items()})
        table = Table.of(columns)
        P, predicted = model.outputs(table), model.predict(table)
        if name.endswith("numbers"):
            [values] = outputs
            assert_near(values.T, P, "float64", computed=dtype)
            return
        label, probabilities = outputs
        if name == "two classes":
            P = np.concatenate([1 - P, P])
        assert_near(probabilities.T, P, dtype)
        np.testing.assert_array_equal(label, predicted)

    agrees()


def test_columns_may_have_any_name_and_stay_as_they_are_where_nothing_is_standardized(table_models):
    model = table_models("many classes", "float64", standardize=False)
    graph = graph_of(model)
    assert list(graph.inputs) == ["size", "rooms", "new", "lift", "city", "street", "label"]
    assert list(graph.outputs) == ["label_", "probabilities"]
    table = Table.of(ROWS)
    rows = {name: onnx_column(name, ROWS[name]) for name in graph.inputs}
    for run in RUNNERS.values():
        label, probabilities = run(model.to_onnx())(None, rows)
        assert list(label) == list(model.predict(table))
        assert_near(probabilities, model.predict_proba(table), "float64")


def test_names_inside_a_file_keep_away_from_those_of_columns():
    graph = Graph("float64")
    x, y = (graph.input(name, ()) for name in ("Add_0", "constant_0"))
    graph.output("constant_0", (x + y) + 1.0, ())
    assert [node.outputs for node in graph.nodes] == [("Add_0_",), ("Add_1",), ("constant_0__",)]
