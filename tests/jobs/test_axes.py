"""Jobs on images and sequences, whose examples have several axes, with stages of a user's own."""

import json
import math

import attrs
import numpy as np
import own_parts
import pytest
from resealing import resealed
from small_runs import recorded, resumed

import pydnn as nn
from pydnn import BadInput, Batch, Key, describe
from pydnn.batches import split
from pydnn.data import DataSet
from pydnn.jobs.job import prepare
from pydnn.jobs.memory import bytes_of
from pydnn.jobs.model import load_model, model_of
from pydnn.jobs.rebuilding import rebuilding
from pydnn.jobs.scores import score_on, scores_of
from pydnn.jobs.standardization import fit_standardization
from pydnn.recipes.layouts import layers_of
from pydnn.recipes.recipe import Recipe
from pydnn.runs import Run
from pydnn.runs.diff import difference, difference_from_run
from pydnn.runs.inspect import look_into, summary_of
from pydnn.runs.replay import verify
from pydnn.storage.hdf5 import open_hdf5, read_text
from pydnn.sweeps import run_sweep, sweep
from pydnn.training import NotFinite

IMAGES = nn.serial(own_parts.step_by_step(4), nn.relu(), own_parts.mean_of_places(), nn.dense(1))
LAST = nn.serial(own_parts.step_by_step(4), own_parts.last_step(), nn.dense(3))
EACH = nn.serial(own_parts.step_by_step(4), nn.relu(), own_parts.step_by_step(3))


def recipe_of(network, loss, **changes):
    recipe = Recipe(
        data="x",
        network=describe(network),
        loss=describe(loss),
        optimizer=describe(nn.adam(learning_rate=0.01)),
        batches=describe(nn.mini_batches(8)),
        iterations=6,
        seed=3,
    )
    return attrs.evolve(recipe, **changes)


def images(m=20, shape=(5, 4, 3), key=1):
    X = Key(key).at("X").normal((*shape, m))
    return Batch(X, np.arange(m)[np.newaxis] % 2)


def sequences(m=20, T=6, n=2, *, each=False, key=1, lengths=True):
    X = Key(key).at("X").normal((T, n, m))
    Y = np.arange(T * m).reshape(T, m) % 3 if each else np.arange(m)[np.newaxis] % 3
    return Batch(X, Y, None, 1 + np.arange(m) % T if lengths else None)


CLASSES = recipe_of(IMAGES, nn.sigmoid_cross_entropy())
OF_LAST = recipe_of(LAST, nn.softmax_cross_entropy())
OF_EACH = recipe_of(EACH, nn.softmax_cross_entropy())


# Batches and inputs


def test_batches_take_the_examples_along_the_last_axis():
    data = sequences(m=5, each=True)
    batch = nn.mini_batches(2, shuffle=False).at(data, Key(1), 1)
    assert batch == Batch(data.X[..., 2:4], data.Y[:, 2:4], None, data.lengths[2:4])
    order = nn.mini_batches(5).at(data, Key(1), 0)
    columns = [int(np.flatnonzero((order.X[..., [i]] == data.X).all((0, 1)))[0]) for i in range(5)]
    assert sorted(columns) == [0, 1, 2, 3, 4]
    assert order == Batch(data.X[..., columns], data.Y[:, columns], None, data.lengths[columns])


def test_inputs_and_batches_have_each_example_contiguous():
    job = prepare(CLASSES, images())
    for batch in (job.data["train"], next(job.batches)):
        assert np.moveaxis(batch.X, -1, 0).flags.c_contiguous
        assert not batch.X.flags.writeable


def test_memory_order_changes_no_bit():
    X = images().X
    orders = [
        X,
        np.asfortranarray(X),
        np.moveaxis(np.ascontiguousarray(np.moveaxis(X, 1, 0)), 0, 1),
    ]
    states = [nn.train(CLASSES, Batch(x, images().Y)).state for x in orders]
    assert states[0] == states[1] == states[2]


def test_a_split_takes_lengths_and_labels_along():
    data = sequences(each=True)
    train, held_back = split(data, Key(1), share=0.25, stratified=False)
    assert (train.X.shape, held_back.lengths.shape) == ((6, 2, 15), (5,))
    assert sorted([*train.lengths, *held_back.lengths]) == sorted(data.lengths)
    with pytest.raises(BadInput, match=r"label [\d, ]+ has 1 example.*stratified"):
        split(attrs.evolve(data, Y=data.Y + np.arange(20)), Key(1))


# Standardization


def test_each_channel_is_standardized_over_all_places():
    X = images().X * [[1.0], [2.0], [3.0]] + 5
    standardized = fit_standardization(X)(X)
    np.testing.assert_allclose(standardized.mean(axis=(0, 1, 3)), 0, atol=1e-13)
    np.testing.assert_allclose(standardized.std(axis=(0, 1, 3)), 1)
    columns = fit_standardization(X[0, 0])(X[0, 0])
    assert columns.shape == (3, 20)


def test_padded_steps_do_not_count_in_a_standardization():
    data = sequences()
    padded = np.where(np.arange(6)[:, None, None] < data.lengths, data.X, 1e6)
    fitted = fit_standardization(padded, lengths=data.lengths)
    valid = [data.X[t, :, i] for i in range(20) for t in range(data.lengths[i])]
    np.testing.assert_allclose(fitted.mean[:, 0], np.mean(valid, axis=0))
    np.testing.assert_allclose(fitted.deviation[:, 0], np.std(valid, axis=0))


def test_ids_are_not_standardized():
    with pytest.raises(BadInput, match=r"X has shape \(3, 2\) and lengths, so each step is one id"):
        fit_standardization(np.ones((3, 2)), lengths=np.array([1, 2]))


def test_the_arrays_of_a_batch_are_taken_as_one():
    data = sequences()
    trained = nn.train(OF_LAST, (data.X, data.Y, None, data.lengths))
    assert trained.state == nn.train(OF_LAST, data).state
    with pytest.raises(BadInput, match=r"pass np\.moveaxis\(X, 0, -1\)"):
        nn.train(CLASSES, (np.moveaxis(images().X, -1, 0), images().Y))


# Padding


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("recipe", [OF_LAST, OF_EACH], ids=["last", "each"])
def test_padding_changes_no_bit(recipe, standardize):
    each = recipe is OF_EACH
    recipe = attrs.evolve(
        recipe, standardize=standardize, evaluate_every=3, validation=0.3, numerics="portable"
    )
    data = sequences(each=each)
    junk = np.where(np.arange(6)[:, None, None] < data.lengths, data.X, 7.0)
    Y = np.where(np.arange(6)[:, None] < data.lengths, data.Y, 2) if each else data.Y
    longer = np.concatenate([junk, np.full((3, 2, 20), -3.0)])
    more_labels = np.concatenate([Y, np.ones((3, 20))]) if each else Y
    first, second, third = (
        nn.train(recipe, attrs.evolve(data, X=X, Y=labels))
        for X, labels in ((data.X, data.Y), (junk, Y), (longer, more_labels))
    )
    assert first.state == second.state == third.state
    assert first.costs.tolist() == second.costs.tolist() == third.costs.tolist()
    measured = first.job.evaluation()
    assert measured(first.state) == third.job.evaluation()(third.state)


def test_lengths_of_equal_size_give_the_bits_of_none():
    data = sequences(lengths=False)
    whole = attrs.evolve(data, lengths=np.full(20, 6))
    assert nn.train(OF_LAST, data).state == nn.train(OF_LAST, whole).state


# Metrics


def test_metrics_are_over_all_valid_steps_of_all_examples():
    data = sequences(m=3, T=3, each=True)  # of 1, 2 and 3 steps
    job = prepare(attrs.evolve(OF_EACH, batches=describe(nn.full_batch())), data)
    measured = job.evaluation()(job.state)
    P = job.loss.predict(job.output(job.state, data.X, lengths=data.lengths))
    right = [P[t, :, i].argmax() == data.Y[t, i] for i in range(3) for t in range(i + 1)]
    assert measured["train accuracy"] == np.mean(right)
    losses = [-np.log(P[t, int(data.Y[t, i]), i]) for i in range(3) for t in range(i + 1)]
    assert measured["train log_loss"] == pytest.approx(np.mean(losses))
    assert measured["train cost"] == pytest.approx(np.mean(losses))
    model = model_of(job, job.state, [])
    score = score_on(model, data, by_class=True)
    assert (score.total, score.metrics["accuracy"]) == (6, np.mean(right))
    assert sum(row["count"] for row in score.classes.values()) == 6
    assert np.sum(score.confusion) == 6
    assert nn.metrics.score("many classes", P, data.Y, lengths=data.lengths) == score.metrics
    by_class = nn.metrics.score_by_class("many classes", P, data.Y, lengths=data.lengths)
    assert [row["count"] for row in by_class] == [r["count"] for r in score.classes.values()]


def test_early_stopping_watches_valid_steps():
    recipe = attrs.evolve(
        OF_EACH, validation=0.3, evaluate_every=1, watch="validation accuracy", patience=2,
        iterations=30,
    )  # fmt: skip
    assert nn.train(recipe, sequences(each=True)).why == "stopped early"


# Models


def test_a_model_of_images_is_written_and_read_again(tmp_path):
    recipe = attrs.evolve(CLASSES, standardize=True)
    data = DataSet(images(), images(6, key=2), classes=["a", "b"])
    model = nn.train(recipe, data).model
    assert (model.shape, model.features) == ((5, 4, 3), 60)
    model.save(tmp_path / "model.h5")
    again = load_model(tmp_path / "model.h5", allow=["own_parts"])
    assert again == model
    P = again.predict(data.test.X)
    assert P.shape == (1, 6)
    np.testing.assert_array_equal(P, model.predict(np.asfortranarray(data.test.X)))
    assert again.predict_proba(data.test.X).shape == (2, 6)
    assert scores_of(again, data)["test"].total == 6


def test_a_model_takes_other_sizes_where_no_parameter_depends_on_them():
    model = nn.train(CLASSES, images()).model
    assert model.predict(images(m=2, shape=(9, 7, 3)).X).shape == (1, 2)
    assert not model.takes((9, 7, 2))
    model = nn.train(OF_EACH, sequences(each=True)).model
    longer = sequences(T=9, each=True)
    P = model.predict(longer.X, lengths=longer.lengths)
    assert P.shape == (9, 3, 20)
    assert model.predict_proba(longer.X).shape == (9, 3, 20)
    assert score_on(model, longer).total == longer.lengths.sum()
    np.testing.assert_allclose(model.predict(longer.X[:, :, 3:4])[:, :, 0], P[:, :, 3])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (20, 5, 4, 3),
            r"X has shape \(20, 5, 4, 3\), expected \(5, 4, 3, m\).*moveaxis\(X, 0, -1",
        ),
        ((60, 20), r"X has shape \(60, 20\), expected \(5, 4, 3, m\): put examples along the last"),
        ((5, 4, 2, 20), r"X has shape \(5, 4, 2, 20\), expected \(5, 4, 3, m\)"),
        ((0, 4, 3, 20), r"X has shape \(0, 4, 3, 20\), expected \(5, 4, 3, m\)"),
    ],
)
def test_examples_of_other_shapes_are_refused(shape, message):
    model = nn.train(CLASSES, images()).model
    with pytest.raises(BadInput, match=message):
        model.predict(np.zeros(shape))


def test_a_model_of_images_takes_them_in_columns():
    model = attrs.evolve(nn.train(CLASSES, images()).model, image_shape=(5, 4, 3))
    X = images().X
    np.testing.assert_array_equal(model.predict(X.reshape(60, 20)), model.predict(X))


@pytest.mark.parametrize("last", [nn.dense(3), nn.global_max_pool(), nn.gru(3, output="last")])
def test_a_model_of_sequences_predicts_nothing_for_no_examples(last):
    network = nn.serial(nn.lstm(3), nn.attention(1), last)
    data = sequences(each=last.name == "dense")
    model = nn.train(recipe_of(network, nn.softmax_cross_entropy()), data).model
    some, none = model.outputs(data.X[..., :2]), data.X[..., :0]
    assert model.outputs(none).shape == (*some.shape[:-1], 0)
    assert model.outputs(none, lengths=[]).shape == (*some.shape[:-1], 0)
    assert model.predict(none).shape[-1] == 0


def test_lengths_for_a_model_are_checked():
    model = nn.train(OF_LAST, sequences()).model
    X = sequences().X
    for lengths, message in (([7] * 20, "length of example 0 is 7"), ([1], r"lengths has shape")):
        with pytest.raises(BadInput, match=message):
            model.predict(X, lengths=lengths)
    with pytest.raises(BadInput, match=r"mean_of_places.* unequal length"):
        nn.train(CLASSES, images()).model.predict(images().X, lengths=[1] * 20)


# Early refusals


REFUSED = {
    "lengths where places are mixed": (
        CLASSES, attrs.evolve(images(), lengths=np.full(20, 5)),
        r"stage 2 \(mean_of_places\): .*unequal length",
    ),
    "labels of whole examples": (
        OF_EACH, sequences(), r"Y has shape \(1, 20\), but the network's output.*\(6, 3\).*'last'",
    ),
    "labels of other steps": (
        OF_EACH, attrs.evolve(sequences(), Y=np.zeros((5, 20))), r"Y has shape \(5, 20\), but the",
    ),
    "labels of steps": (OF_LAST, sequences(each=True), r"Y has shape \(6, 20\), expected \(1, m\)"),
    "a class beyond the outputs": (
        OF_EACH, attrs.evolve(sequences(each=True), Y=np.full((6, 20), 3)), r"label 3 at .*0 to 2",
    ),
    "weights of classes of steps": (
        attrs.evolve(OF_EACH, class_weights="balanced"), sequences(each=True),
        r"class_weights is 'balanced', but each step has a label, expected one class per example",
    ),
    "rotation": (
        attrs.evolve(CLASSES, rotate=True), images(),
        r"rotate is true, but examples have the shape \(5, 4, 3\)",
    ),
    "ids that are mixed": (
        recipe_of(own_parts.step_by_step(3), nn.softmax_cross_entropy()),
        Batch(np.ones((6, 20)), np.arange(20)[np.newaxis] % 3, None, np.full(20, 2)),
        r"X has shape \(6, 20\) and lengths, .*embedding",
    ),
    "ids that are standardized": (
        recipe_of(nn.serial(nn.relu(), nn.relu()), nn.mean_squared(), standardize=True),
        Batch(np.ones((6, 20)), np.ones((6, 20)), None, np.full(20, 2)), r"and lengths",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("recipe", "data", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_is_refused_before_any_work(recipe, data, message):
    with pytest.raises(BadInput, match=message) as refusal:
        prepare(recipe, data)
    assert "\n" not in str(refusal.value)


def test_images_with_the_examples_first_are_refused():
    X = np.zeros((20, 5, 4, 3))
    for Y in (np.zeros((1, 20)), np.zeros(20), np.zeros((20, 1))):
        with pytest.raises(
            BadInput, match=r"X has shape \(20, 5, 4, 3\).*np\.moveaxis\(X, 0, -1\)"
        ):
            Batch(X, Y)


CARRIED = nn.serial(own_parts.running_total(2, 5), own_parts.step_by_step(3), own_parts.last_step())
OF_CARRIED = recipe_of(CARRIED, nn.softmax_cross_entropy(), batches=describe(nn.mini_batches(5)))


def test_a_carried_state_needs_equal_batches():
    prepare(OF_CARRIED, sequences())
    with pytest.raises(BadInput, match=r"batches of 5 leave a batch of 3 of 23 .*keep_last=False"):
        prepare(OF_CARRIED, sequences(m=23))
    shorter = describe(nn.mini_batches(5, keep_last=False))
    prepare(attrs.evolve(OF_CARRIED, batches=shorter), sequences(m=23))
    with pytest.raises(BadInput, match=r"stage 0 \(running_total\): got 4 examples, expected 5"):
        prepare(attrs.evolve(OF_CARRIED, batches=describe(nn.mini_batches(4))), sequences())


# Runs


RUNS = {
    "images": (CLASSES, DataSet(images(), images(6, key=2))),
    "each step": (OF_EACH, DataSet(sequences(each=True), sequences(5, each=True, key=2))),
    "a carried state": (OF_CARRIED, DataSet(sequences(), sequences(5, key=2))),
}


@pytest.fixture(params=RUNS)
def recipe_and_data(request):
    return RUNS[request.param]


@pytest.mark.slow
def test_a_run_is_recorded_resumed_and_repeated(tmp_path, recipe_and_data):
    recipe, data = recipe_and_data
    recipe = attrs.evolve(recipe, evaluate_every=2)
    whole = recorded(tmp_path / "whole", recipe, data, every=3)
    recorded(tmp_path / "cut", recipe, data, every=3, steps=2)
    options = {"data": data, "allow": ["own_parts"]}
    assert resumed(tmp_path / "cut", **options) == whole
    run = Run.open(tmp_path / "whole", **options)
    assert all(result.mismatch is None for result in verify(run))
    assert difference_from_run(model_of(run.job, whole, run.costs, data), run) is None
    step, tensors = look_into(run, 4)
    names = {(t.part, t.stage, t.name): summary_of(t) for t in tensors}
    outputs = [t for t in tensors if (t.part, t.name) == ("forward", "A")]
    assert outputs[0].array.ndim == data.train.X.ndim
    assert all(0 <= summary_of(t).dead <= 1 for t in outputs)
    assert names["batch", "", "X"].shape == step.batch.X.shape
    assert (("batch", "", "lengths") in names) == (data.train.lengths is not None)


def test_a_run_knows_its_data_again(tmp_path):
    recipe, data = RUNS["each step"]
    recorded(tmp_path / "run", recipe, data)
    X, Y, lengths = data.train.X.copy(), data.train.Y, data.train.lengths
    X[0, 1, 3] += 1
    shorter = np.where(np.arange(20) == 4, lengths - 1, lengths)
    for train, message in (
        (Batch(X, Y, None, lengths), r"^train X differs \(recorded float64 \(6, 2, 20\)"),
        (Batch(data.train.X, Y, None, shorter), r"^train lengths differs \(recorded int64 \(20,\)"),
        (Batch(data.train.X, Y), r"^train lengths differs .*here none\)"),
    ):
        run = Run.open(tmp_path / "run", data=DataSet(train, data.test), allow=["own_parts"])
        with pytest.raises(BadInput, match=message):
            run.data  # noqa: B018 - which is checked
    recorded(tmp_path / "other", recipe, DataSet(Batch(X, Y, None, shorter), data.test))
    a = Run.open(tmp_path / "run", data=data, allow=["own_parts"])
    b = Run.open(
        tmp_path / "other", data=DataSet(Batch(X, Y, None, shorter), data.test),
        allow=["own_parts"],
    )  # fmt: skip
    said = difference(a, b).data
    assert "place [0, 1] of example 3" in said[0]
    assert "the first is example 4: 5 | 4" in said[1]


def test_a_job_is_built_again_in_another_process(recipe_and_data):
    recipe, data = recipe_and_data
    job = prepare(recipe, data)
    assert rebuilding(job)().state == job.state


def test_a_step_that_diverges_names_its_stage():
    recipe = attrs.evolve(
        OF_CARRIED, optimizer=describe(nn.gradient_descent(learning_rate=1e120)), iterations=9
    )
    with pytest.raises(NotFinite, match=r"forward, stage 1 \(step_by_step\)"):
        nn.train(recipe, attrs.evolve(sequences(), X=sequences().X * 1e100))


# Sweeps, memory and the command line


def test_trainings_that_cannot_be_stacked_are_trained_one_by_one(recipe_and_data):
    recipe, data = recipe_and_data
    outcomes = run_sweep(sweep(attrs.evolve(recipe, iterations=2), data, seeds=4)).outcomes
    assert {outcome.why_not_stacked for outcome in outcomes} <= {
        "its examples or labels have several axes", "its network gathers statistics"
    }  # fmt: skip
    alone = nn.train(attrs.evolve(recipe, iterations=2, seed=4), data)
    assert outcomes[1].model.parameters == alone.state.parameters


def test_the_layers_of_images_have_shapes():
    layers, layout = layers_of(CLASSES, (5, 4, 3))
    assert [layer.shape for layer in layers] == [(5, 4, 4), (5, 4, 4), (4,), (1,)]
    needed = bytes_of(CLASSES, layers, layout, shape=(5, 4, 3), examples=20)
    kept = 5 * 4 * 3 + 2 * 5 * 4 * 4 + 4 + 1  # the examples and the outputs
    made = 2 * 5 * 4 * 4 + (2 * 5 * 4 * 4 + 4 + 1) / 2  # of the relu, and half of the outputs
    assert needed["activations, batch of 7"] == 8 * 7 * math.ceil(kept + made)


# Files from strangers


SHAPES = [
    [], [5], [5, 4, 0], [5, 4, -3], [5, True, 3], [5, 4.0, 3], ["5", 4, 3], None, "5,4,3",
    [1] * 8, [1 << 20, 1 << 20], [1 << 62, 1 << 62, 3], [5, 4, 2],
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_model_whose_shape_is_damaged_is_refused_in_one_line(tmp_path, shape):
    model = nn.train(CLASSES, images()).model
    model.save(tmp_path / "model.h5")

    def change(file):
        inputs = json.loads(file.attrs["inputs"]) | {"shape": shape}
        file.attrs.create("inputs", np.bytes_(json.dumps(inputs)))

    resealed(tmp_path / "model.h5", change)
    with pytest.raises(BadInput, match=r"expected shape|expected \(|train it again") as refusal:
        load_model(tmp_path / "model.h5", allow=["own_parts"])
    assert "\n" not in str(refusal.value)


def test_files_of_columns_have_their_old_format(tmp_path):
    for network, data, number in ((nn.dense(1), Batch(np.ones((2, 4)), np.ones((1, 4))), 3),
                                  (IMAGES, images(), 5)):  # fmt: skip
        recipe = recipe_of(network, nn.mean_squared(), batches="full_batch()")
        nn.train(recipe, data).model.save(tmp_path / f"{number}.h5")
        with open_hdf5(tmp_path / f"{number}.h5", sealed=True) as file:
            assert read_text(file, "format") == f"pydnn model {number}"


@pytest.mark.parametrize(
    ("network", "shape", "lengths", "noted"),
    [
        ("serial(conv(2, 3), flatten(), dense(1))", (6, 5), None, True),
        ("serial(max_pool(2), flatten(), dense(1))", (6, 5), None, True),
        ("serial(reshape(6, 5, 1), conv(2, 3), flatten(), dense(1))", (6, 5), None, False),
        ("serial(conv(2, 3), flatten(), dense(1))", (20, 5), None, False),  # few numbers each
        ("serial(conv(2, 3), flatten(), dense(1))", (6, 5, 1), None, False),
        ("serial(conv(2, 3), gru(2, output='last'), dense(1))", (6, 5), None, False),
        ("serial(gru(2, output='last'), dense(1))", (6, 5), [6, 4, 2], False),
        ("serial(dense(2), flatten(), dense(1))", (6, 5), None, False),
        ("serial(flatten(), dense(1))", (6, 5), None, False),
    ],
)
def test_a_note_says_that_examples_with_two_axes_are_sequences_if_they_could_be_gray_images(
    network, shape, lengths, noted
):
    X, Y = np.linspace(-1.0, 1.0, 3 * math.prod(shape)).reshape(*shape, 3), [[0.0, 1.0, 0.0]]
    recipe = Recipe("x", network, "sigmoid_cross_entropy()", "adam()", iterations=1)
    notes = prepare(recipe, Batch(X, Y, lengths=lengths)).notes
    advice = (
        "sequences of 6 steps with 5 numbers each: if they are gray images, put reshape(6, 5, 1)"
    )
    assert [advice in note for note in notes] == [True] * noted
