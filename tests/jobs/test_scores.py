"""What `train`, `sweep`, `evaluate` and `predict` make of data that does not fit, and of scores."""

import json
from pathlib import Path

import attrs
import h5py
import numpy as np
import pytest

from pydnn import (
    BadInput,
    Batch,
    Key,
    dense,
    describe,
    gradient_descent,
    losses,
    relu,
    serial,
)
from pydnn.data import DataSet, ImageSet, save_catvnoncat, save_table
from pydnn.jobs.expectations import expect_test
from pydnn.jobs.job import prepare
from pydnn.jobs.model import Model, load_model
from pydnn.jobs.scores import names_of, score_on, scores_of
from pydnn.recipes.recipe import Recipe
from pydnn.runs import create_run
from pydnn.sweeps import sweep

M = 12


def recipe_of(loss, outputs, **changes):
    network = serial(dense(3), relu(), dense(outputs))
    loss, optimizer = describe(loss), describe(gradient_descent(learning_rate=0.1))
    return Recipe("t.h5", describe(network), loss, optimizer, 3, **changes)


def data_of(classes, **changes):
    """Examples on a line; labels are numbers of classes, or numbers where there are none."""
    Y = (np.arange(M) % (classes or M)).astype(float)[np.newaxis]
    X = np.concatenate([Y, 1 - Y]) + Key(1).normal((2, M)) / 9
    return DataSet(Batch(X, Y), Batch(X[:, :5], Y[:, :5]), **changes)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with a table of three classes; what to give commands to train on it."""
    monkeypatch.chdir(tmp_path)
    save_table("t.h5", data_of(3))
    network, loss = "serial(dense(3), relu, dense(3))", "softmax_cross_entropy"
    return ("--data", "t.h5", "--network", network, "--loss", loss, "--iterations", "3")


def put(name, values):
    with h5py.File("t.h5", "a") as file:
        del file[name]
        file[name] = values


def set_nan(name, *index):
    with h5py.File("t.h5", "a") as file:
        file[name][index] = np.nan


DAMAGE = {
    "nan in test_X": (
        lambda: set_nan("test_X", 3, 1),
        "test_X in t.h5 holds nan in row 3, column 1",
    ),
    "nan in test_Y": (
        lambda: set_nan("test_Y", 4, 0),
        "test_Y in t.h5 holds nan in row 4, column 0",
    ),
    "nan in train_X": (
        lambda: set_nan("train_X", 2, 0),
        "train_X in t.h5 holds nan in row 2, column 0",
    ),
    "a class of the test part alone": (lambda: put("test_Y", [0, 1, 2, 3, 1]), "label 3"),
    "a negative label": (lambda: put("test_Y", [0, -1, 2, 0, 1]), "label -1"),
    "half a label": (lambda: put("test_Y", [0, 0.5, 2, 0, 1]), "label 0.5"),
    "other columns": (lambda: put("test_X", np.zeros((5, 4))), "test_X, transposed, has shape"),
    "other labels": (lambda: put("test_Y", np.zeros((5, 2))), "test_Y, transposed, has shape"),
    "too many names": (
        lambda: save_names(5),
        "names 5 classes, but the network has outputs for 3",
    ),
}


def save_names(count):
    with h5py.File("t.h5", "a") as file:
        file["classes"] = np.array([f"c{i}" for i in range(count)], "S")


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("how", ["train", "train --no-record", "sweep"])
def test_a_test_part_that_does_not_fit_is_refused_before_the_work(
    command, work, how, damage, message
):
    damage()
    status, out, err = command(*how.split(), *work)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["train_X", "test_X", "test_Y"])
def test_evaluate_locates_what_is_not_finite(command, work, name):
    assert command("train", *work)[0] == 0
    set_nan(name, 1, 0)
    for options in ((), ("--json",)):
        status, out, err = command("evaluate", "runs/0001", *options)
        assert (status, out) == (2, "")
        assert f"{name} in {Path('t.h5').resolve()} holds nan in row 1, column 0" in err


@pytest.mark.parametrize("rows", [0, None])
def test_without_test_examples_there_are_no_test_scores(command, work, rows):
    with h5py.File("t.h5", "a") as file:
        del file["test_X"], file["test_Y"]
        if rows is not None:
            file["test_X"], file["test_Y"] = np.zeros((0, 2)), np.zeros(0)
    status, out, err = command("train", *work)
    assert (status, err) == (0, "")
    assert "to be tested on none" in out
    assert "\ntest " not in out
    for argv in (["evaluate", "runs/0001", "--json"], ["train", *work, "--json"]):
        scores = json.loads(command(*argv)[1])
        assert list(scores.get("scores", scores)) == ["train"]
    assert command("replay", "runs/0001")[0] == 0
    assert command("sweep", *work, "--seeds", "2")[0] == 0


def test_python_refuses_a_test_part_that_does_not_fit_as_well(tmp_path):
    data = data_of(3)
    recipe = recipe_of(losses.softmax_cross_entropy(), 3, standardize=True)
    job = prepare(recipe, data.train)
    expect_test(job, data.test)
    expect_test(job, Batch(data.test.X[:, :0], data.test.Y[:, :0]))
    expect_test(job, attrs.evolve(data.test, Y=data.test.Y * 0))  # one class is enough
    wrong = {
        "test X holds nan in row 1, column 2": {"X": put_in(data.test.X, (1, 2), np.nan)},
        "test Y holds inf in row 0, column 2": {"Y": put_in(data.test.Y, (0, 2), np.inf)},
        "test part: label 7": {"Y": put_in(data.test.Y, (0, 2), 7)},
        "test X has shape": {"X": data.test.X[:1]},
        "test Y has shape": {"Y": np.ones((2, 5))},
        "test part: the weight of example 1": {"weights": [[1, -1, 1, 1, 1]]},
    }
    for message, fields in wrong.items():
        test = attrs.evolve(data.test, **fields)
        with pytest.raises(BadInput, match=message):
            expect_test(job, test)
        with pytest.raises(BadInput, match=message):
            sweep(recipe, data.train, test=test)
    narrow = attrs.evolve(data.train, X=data.train.X * 1e-20)
    with pytest.raises(BadInput, match=r"test part: feature 0 of example 0 .* too far from"):
        expect_test(prepare(recipe, narrow), Batch(np.full((2, 1), 1e300), [[0]]))
    whole = attrs.evolve(data, test=attrs.evolve(data.test, Y=data.test.Y + 1))
    with (
        pytest.raises(BadInput, match="test part: label 3"),
        create_run(tmp_path / "r", job, whole),
    ):
        pass
    assert not (tmp_path / "r").exists()


def put_in(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def test_float32_is_asked_of_the_test_part_before_training():
    data = data_of(2)
    recipe = recipe_of(losses.sigmoid_cross_entropy(), 1, dtype="float32")
    job, test = (
        prepare(recipe, data.train),
        attrs.evolve(data.test, X=put_in(data.test.X, (0, 1), 1e200)),
    )
    with pytest.raises(BadInput, match="test part: X as float32 holds inf in row 0, column 1"):
        expect_test(job, test)


def test_evaluate_says_when_the_data_is_not_what_was_recorded(command, work):
    assert command("train", *work)[0] == 0
    assert command("evaluate", "runs/0001")[2] == ""
    with h5py.File("t.h5", "a") as file:
        file["test_X"][0, 0] += 1
    for name, options in (("t.h5", ()), ("t.h5", ("--data", "t.h5", "--json"))):
        status, out, err = command("evaluate", "runs/0001", *options)
        assert status == 0
        assert out
        assert err.count("\n") == 1
        assert err.rstrip().endswith("test X differs from what was recorded")
        assert f"{name} is not the data that runs/0001 was trained on" in err
    Path("runs/0001/recipe.toml").unlink()  # a model without a run has nothing to compare with
    assert command("evaluate", "runs/0001")[2] == ""


def test_classes_in_another_order_are_refused_with_both_orders(command, work):
    save_table("named.h5", attrs.evolve(data_of(3), classes=("a", "b", "c")))
    assert command("train", *work, "--data", "named.h5")[0] == 0
    assert command("evaluate", "runs/0001", "--data", "t.h5")[0] == 0  # which names none
    save_table("other.h5", attrs.evolve(data_of(3), classes=("b", "a", "c")))
    status, out, err = command("evaluate", "runs/0001", "--data", "other.h5")
    assert (status, out) == (2, "")
    assert "the model's classes are 0 a, 1 b, 2 c, but those of the data are 0 b, 1 a, 2 c" in err


def test_photos_in_another_order_are_refused(command, work):
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[1] = 9
    for folder, names in (("one", ("non-cat", "cat")), ("two", ("cat", "non-cat"))):
        photos = ImageSet(images, np.array([0, 1]), names)
        save_catvnoncat(folder, photos, photos)
    assert command("train", "--data", "one", "--iterations", "1")[0] == 0
    status, _, err = command("evaluate", "runs/0001", "--data", "two")
    assert status == 2
    assert "are 0 non-cat, 1 cat, but those of the data are 0 cat, 1 non-cat" in err


def test_means_over_classes_are_called_macro_and_classes_have_rows(command, work):
    save_names(3)
    assert command("train", *work)[0] == 0
    _, plain, _ = command("evaluate", "runs/0001")
    assert "; macro precision 0." in plain
    assert ", macro recall " in plain
    assert ", macro f1 " in plain
    assert ", macro roc_auc " in plain
    assert ", log_loss " in plain
    _, out, _ = command("evaluate", "runs/0001", "--per-class")
    lines = out.splitlines()
    assert lines[0] == plain.splitlines()[0]
    assert lines[1].split() == ["class", "precision", "recall", "f1", "count"]
    assert [line.split()[0] for line in lines[2:5]] == ["c0", "c1", "c2"]
    assert [line.split()[-1] for line in lines[2:5]] == ["4", "4", "4"]
    _, out, _ = command("evaluate", "runs/0001", "--per-class", "--json")
    train = json.loads(out)["train"]
    recalls = [row["recall"] for row in train["classes"]]
    assert train["recall"] == pytest.approx(np.mean(recalls))
    assert sum(row["count"] for row in train["classes"]) == M


def test_a_class_that_occurs_nowhere_has_null_scores(command, work):
    assert command("train", *work)[0] == 0
    model = load_model(Path("runs/0001/model.h5"))
    X = model.parameters.with_vector(model.parameters.vector * 0)  # always class 0
    attrs.evolve(model, parameters=X).save(Path("runs/0001/model.h5"), replace=True)
    put("test_Y", [0, 0, 1, 0, 0])
    _, out, _ = command("evaluate", "runs/0001", "--per-class", "--json")
    rows = json.loads(out, parse_constant=pytest.fail)["test"]["classes"]
    assert rows[2] == {"class": "2", "precision": None, "recall": None, "f1": None, "count": 0}
    assert rows[0]["precision"] == 0.8
    lines = command("evaluate", "runs/0001", "--per-class")[1].splitlines()
    assert ["2", "-", "-", "-", "0"] in [line.split() for line in lines]


def test_two_classes_are_not_called_macro(command, work):
    save_table("two.h5", data_of(2))
    argv = ("--data", "two.h5", "--network", "serial(dense(3), relu, dense(1))", "--loss")
    assert command("train", *argv, "sigmoid_cross_entropy", "--iterations", "3")[0] == 0
    assert "macro" not in command("evaluate", "runs/0001")[1]
    _, out, _ = command("evaluate", "runs/0001", "--per-class")
    assert [line.split()[0] for line in out.splitlines()[2:4]] == ["0", "1"]
    assert command("train", *argv, "mean_squared", "--iterations", "3")[0] == 0
    status, _, err = command("evaluate", "runs/0002", "--per-class")
    assert status == 2
    assert "trained with mean_squared predicts numbers, which have no classes" in err


def test_the_end_says_that_validation_examples_are_among_the_training_ones(command, work):
    _, out, _ = command("train", *work, "--validation", "0.25")
    assert "of 12 right), with the 3 held back for validation" in out
    _, out, _ = command("evaluate", "runs/0001")
    assert "of 12 right), with those held back for validation; macro" in out
    assert "held back" not in command("evaluate", "runs/0001", "--data", "t.h5")[1]


def test_an_infinite_error_is_null_in_json(command, work):
    save_table("r.h5", data_of(0))
    argv = ["--data", "r.h5", "--network", "dense(1)", "--loss", "mean_squared"]
    assert command("train", *argv, "--iterations", "2", "--learning-rate", "0.01")[0] == 0
    X = data_of(0)
    far = attrs.evolve(X, test=Batch(X.test.X * 1e300, X.test.Y))
    save_table("far.h5", far)
    _, out, _ = command("evaluate", "runs/0001", "--data", "far.h5", "--json")
    assert json.loads(out, parse_constant=pytest.fail)["test"]["r_squared"] is None


def test_a_huge_feature_is_standardized_and_its_model_is_read_again(command, work):
    data = data_of(3)
    huge = Batch(put_in(data.train.X, (0, 0), 1e200), data.train.Y)
    save_table("huge.h5", DataSet(huge, data.test))
    argv = ("train", *work, "--data", "huge.h5", "--standardize")
    assert command(*argv)[0] == 0
    assert command("evaluate", "runs/0001")[0] == 0
    narrow = Batch(data.train.X * [[0], [1e-14]] + [[0], [1]], data.train.Y)
    save_table("narrow.h5", DataSet(narrow, data.test))
    status, out, err = command("train", *work, "--data", "narrow.h5", "--standardize")
    assert (status, out) == (2, "")
    assert "feature 1 goes from 0.99" in err
    assert "a spread too small to be standardized" in err
    assert not Path("runs/0002").exists()


def model_of(loss, outputs, *, classes=None, bias=0.0):
    """A model of 4 x 4 images that says the same of every image."""
    recipe = attrs.evolve(recipe_of(loss, outputs), network=describe(serial(dense(outputs))))
    Y = np.arange(4.0)[np.newaxis] % max(outputs, 2)
    labels = np.repeat(Y, outputs, axis=0) if "softmax" not in loss.name else Y
    parameters = prepare(recipe, Batch(np.ones((48, 4)), labels)).state.parameters
    vector = np.zeros(parameters.vector.size)
    vector[-outputs:] = bias
    parameters = parameters.with_vector(vector)
    return Model(recipe, parameters, np.zeros(1), 48, image_shape=(4, 4, 3), classes=classes)


@pytest.fixture
def photo(tmp_path, monkeypatch):
    image_module = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    image_module.new("RGB", (9, 9), "red").save("p.png")
    (tmp_path / "m").mkdir()
    return "p.png"


SAID = {
    "mean squared": (model_of(losses.mean_squared(), 1, bias=1.99), "1.99", {"numbers": [1.99]}),
    "two numbers": (
        model_of(losses.huber(), 2, bias=[1.5, -7], classes=("a", "b")),
        "1.5, -7", {"numbers": [1.5, -7]},
    ),
    "counts": (
        model_of(losses.poisson(), 1, bias=np.log(3), classes=("cat", "dog")),
        "3", {"numbers": [pytest.approx(3)]},
    ),
    "two classes": (
        model_of(losses.sigmoid_cross_entropy(), 1, bias=np.log(3), classes=("a", "b")),
        "b (0.75)", {"class": "b", "probability": pytest.approx(0.75)},
    ),
    "a tie": (
        model_of(losses.sigmoid_cross_entropy(), 1, classes=("a", "b")),
        "a (0.50)", {"class": "a", "probability": 0.5},
    ),
    "without names": (
        model_of(losses.sigmoid_cross_entropy(), 1, bias=np.log(3)),
        "1 (0.75)", {"class": "1", "probability": pytest.approx(0.75)},
    ),
    "three classes": (
        model_of(losses.softmax_cross_entropy(), 3, bias=[0, np.log(2), 0], classes=tuple("abc")),
        "b (0.50)", {"class": "b", "probability": pytest.approx(0.5)},
    ),
    "several labels": (
        model_of(losses.sigmoid_cross_entropy(), 2, bias=[np.log(3), -9], classes=("a", "b")),
        "a (0.75)", {"labels": {"a": pytest.approx(0.75), "b": pytest.approx(0, abs=1e-3)}},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "words", "answer"), SAID.values(), ids=SAID)
def test_the_answer_for_a_picture_is_the_losss_prediction(command, photo, model, words, answer):
    model.save(Path("m/model.h5"))
    status, out, err = command("predict", "m", photo)
    assert (status, out, err) == (0, words + "\n", "")
    _, out, _ = command("predict", "m", photo, "--json")
    assert json.loads(out) == {"predictions": [{"file": photo, **answer}]}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (model_of(losses.sigmoid_cross_entropy(), 1, classes=("a", "b", "c")), "names 3 classes"),
        (model_of(losses.softmax_cross_entropy(), 3, classes=("a", "b")), "has outputs for 3"),
        (
            model_of(losses.poisson(), 1, bias=800),
            "prediction for p.png is inf, expected a finite number",
        ),
    ],
)
def test_predictions_that_mean_nothing_are_refused(command, photo, model, message):
    model.save(Path("m/model.h5"))
    status, out, err = command("predict", "m", photo)
    assert (status, out) == (2, "")
    assert message in err


def test_classes_without_names_are_called_by_their_numbers():
    assert names_of(model_of(losses.softmax_cross_entropy(), 3), "many classes", 3) == tuple("012")
    assert names_of(model_of(losses.huber(), 3), "regression", 3) is None
    one = model_of(losses.sigmoid_cross_entropy(), 1, classes=("a",))
    with pytest.raises(BadInput, match=r"names 1 classes \(a\), but its network has outputs for 2"):
        names_of(one, "two classes", 1)


def test_scores_name_the_part_and_the_example_that_do_not_fit():
    model = attrs.evolve(model_of(losses.sigmoid_cross_entropy(), 1), image_shape=None)
    good = Batch(np.ones((48, 2)), [[0, 1]])
    nan = attrs.evolve(good, X=put_in(good.X, (5, 1), np.nan))
    with pytest.raises(BadInput, match="test part: X holds nan in row 5, column 1"):
        scores_of(model, DataSet(good, nan))
    with pytest.raises(BadInput, match="train part: labels hold 2 in column 1"):
        scores_of(model, DataSet(attrs.evolve(good, Y=[[0, 2]]), good))
    with pytest.raises(BadInput, match="examples have 47 features, but the model takes 48"):
        scores_of(model, DataSet(*[attrs.evolve(part, X=part.X[1:]) for part in (good, good)]))
    infinite = attrs.evolve(model_of(losses.poisson(), 1, bias=800), image_shape=None)
    with pytest.raises(BadInput, match="prediction for example 0 is inf"):
        score_on(infinite, good)
