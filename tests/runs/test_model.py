import json

import attrs
import h5py
import numpy as np
import pytest
import toolz

from pydnn import (
    BadInput,
    Batch,
    Key,
    batch_norm,
    dense,
    describe,
    output_of,
    relu,
    serial,
    softmax_cross_entropy,
)
from pydnn.recipes import prepare, run, tutorial_recipe
from pydnn.runs import Model, load_model, predictions, save_model


@pytest.fixture
def model():
    recipe = tutorial_recipe(hidden=(3,), iterations=5)
    X = Key(1).uniform((12, 4))
    job = prepare(recipe, Batch(X, [[0, 1, 0, 1]]))
    costs = np.array([0.7, 0.1 + 0.2])
    return Model(
        recipe, job.state.parameters, costs, 12, image_shape=(2, 2, 3), classes=("non-cat", "cat")
    )


def test_a_model_is_read_as_it_was_saved(tmp_path, model):
    save_model(tmp_path / "model.h5", model)
    again = load_model(tmp_path / "model.h5")
    assert again == model
    assert again.parameters.vector.tobytes() == model.parameters.vector.tobytes()
    assert not again.parameters.vector.flags.writeable


def test_predictions_are_those_of_the_network_by_hand(model):
    X = Key(2).uniform((12, 3))
    A = np.maximum(model.parameters["0/W"] @ X, 0)
    expected = 1 / (1 + np.exp(-(model.parameters["2/W"] @ A)))
    np.testing.assert_allclose(predictions(model, X), expected, rtol=1e-14)


def edit(path, change):
    with h5py.File(path, "a") as file:
        change(file)


def attribute(name, value):
    return lambda file: file.attrs.modify(name, value)


def replaced(value):
    def change(file):
        del file["parameters"]
        file["parameters"] = value

    return change


def in_recipe(old, new):
    def change(file):
        text = file.attrs["recipe"]
        assert old in text
        file.attrs["recipe"] = text.replace(old, new)

    return change


def in_inputs(**changes):
    def change(file):
        file.attrs["inputs"] = json.dumps(json.loads(file.attrs["inputs"]) | changes)

    return change


NETWORK = (
    """network = "serial(dense(3, initializer=zeros()), relu(), dense(1, initializer=zeros()))\""""
)
DAMAGE = {
    "another format": (attribute("format", "x"), "has format 'x', expected 'pydnn model 2'"),
    "no recipe": (lambda file: file.attrs.__delitem__("recipe"), "there is no attribute"),
    "recipe that is no TOML": (attribute("recipe", "{"), "recipe in .*: the recipe is no TOML"),
    "recipe that lacks all": (attribute("recipe", ""), "recipe in .*: the recipe lacks data, net"),
    "unknown stage": (in_recipe(NETWORK, 'network = "dens(3)"'), "there is no stage 'dens'"),
    "a stranger's code": (
        in_recipe(NETWORK, 'network = "os:getcwd()"'), "os:getcwd is code outside pydnn",
    ),
    "strange network": (in_recipe(NETWORK, "network = 3"), "network is 3, expected a text"),
    "strange stages": (in_recipe("dense(3", "dense('x'"), "units is 'x'"),
    "huge units": (
        in_recipe("dense(3", f"dense({1 << 40}"),
        r"parameters in .* has shape \(43,\), expected \(15393162788865,\)",
    ),
    "endless units": (
        in_recipe("dense(3", f"dense({1 << 70}"), "model.h5: the network cannot be laid out",
    ),
    "inputs that are no JSON": (attribute("inputs", "{"), "inputs in .* are damaged"),
    "inputs that are a list": (attribute("inputs", "[]"), "inputs in .* are no mapping"),
    "no inputs": (attribute("inputs", "{}"), "inputs in .* are {}, expected features, an image's"),
    "another image": (in_inputs(image_shape=[4, 4, 3]), "inputs in .*, expected features"),
    "endless features": (in_inputs(features=1 << 60, image_shape=None), "inputs in .*, expected"),
    "classes": (in_inputs(classes=[1, 2]), "inputs in .*, expected features"),
    "parameters of another size": (replaced(np.zeros(3)), r"parameters in .* has shape \(3,\)"),
    "parameters of another dtype": (
        replaced(np.zeros(43, np.float32)), "parameters in .* holds float32, expected float64"
    ),
    "parameters with NaN": (replaced(np.full(43, np.nan)), "parameters in .* holds nan"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), DAMAGE.values(), ids=DAMAGE)
def test_what_does_not_fit_itself_is_refused_in_one_line(tmp_path, model, change, message):
    path = tmp_path / "model.h5"
    save_model(path, model)
    edit(path, change)
    with pytest.raises(BadInput, match=message) as refusal:
        load_model(path)
    assert "\n" not in str(refusal.value)


def test_a_model_keeps_what_was_gathered_and_fitted(tmp_path):
    recipe = attrs.evolve(
        tutorial_recipe(iterations=30),
        network=describe(serial(dense(4), batch_norm(), relu(), dense(3))),
        loss=describe(softmax_cross_entropy()),
        weights=None,
        standardize=True,
        dtype="float32",
    )
    X = 100 + 7 * Key(1).normal((5, 40))
    job = prepare(recipe, Batch(X, np.arange(40)[np.newaxis] % 3))
    state, _ = toolz.last(run(job))
    model = Model(
        recipe, state.parameters, np.zeros(30), 5, state.statistics, job.standardization,
        classes=("a", "b", "c"),
    )  # fmt: skip
    save_model(tmp_path / "model.h5", model)
    again = load_model(tmp_path / "model.h5")
    assert again == model
    inside = output_of(job.network, state.parameters, job.data["train"].X,
                       statistics=state.statistics)  # fmt: skip
    np.testing.assert_array_equal(predictions(again, X), job.loss.predict(inside))
    for name, value in (("deviation", np.zeros((5, 1))), ("mean", np.full((5, 1), np.nan))):
        bad = tmp_path / f"{name}.h5"
        save_model(bad, model)
        edit(bad, lambda file, name=name, value=value: file[name].write_direct(value))
        with pytest.raises(BadInput, match=f"{name} in .* (is not above 0|holds nan)"):
            load_model(bad)


def test_an_existing_model_is_kept(tmp_path, model):
    save_model(tmp_path / "model.h5", model)
    with pytest.raises(BadInput, match=r"model\.h5 exists already"):
        save_model(tmp_path / "model.h5", attrs.evolve(model, classes=("a", "b")))
    assert load_model(tmp_path / "model.h5") == model
