import json

import attrs
import h5py
import numpy as np
import pytest

from pydnn import BadInput, Batch, Key
from pydnn.recipes import prepare, tutorial_recipe
from pydnn.runs import Model, load_model, probabilities, save_model


@pytest.fixture
def model():
    recipe = tutorial_recipe(hidden=(3,), iterations=5)
    X = Key(1).uniform((12, 4))
    job = prepare(recipe, Batch(X, [[0, 1, 0, 1]]))
    costs = np.array([0.7, 0.1 + 0.2])
    return Model(recipe, job.state.parameters, (2, 2, 3), ("non-cat", "cat"), costs)


def test_a_model_is_read_as_it_was_saved(tmp_path, model):
    save_model(tmp_path / "model.h5", model)
    again = load_model(tmp_path / "model.h5")
    assert again == model
    assert again.parameters.vector.tobytes() == model.parameters.vector.tobytes()
    assert not again.parameters.vector.flags.writeable


def test_probabilities_are_those_of_the_network_by_hand(model):
    X = Key(2).uniform((12, 3))
    A = np.maximum(model.parameters["0/W"] @ X, 0)
    expected = 1 / (1 + np.exp(-(model.parameters["2/W"] @ A)))
    np.testing.assert_allclose(probabilities(model, X), expected, rtol=1e-14)


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


def in_recipe(**changes):
    def change(file):
        recipe = json.loads(file.attrs["recipe"])
        file.attrs["recipe"] = json.dumps(recipe | changes)

    return change


DAMAGE = {
    "another format": (attribute("format", "x"), "has format 'x', expected 'pydnn model 1'"),
    "no recipe": (lambda file: file.attrs.__delitem__("recipe"), "there is no attribute"),
    "recipe that is no JSON": (attribute("recipe", "{"), "recipe in .* is damaged"),
    "recipe that is a list": (attribute("recipe", "[]"), "recipe in .* is no mapping"),
    "unknown stage": (in_recipe(network={"dens": {}}), "there is no stage 'dens'"),
    "a stranger's code": (in_recipe(network={"os:getcwd": {}}), "'os:getcwd' is no stage builder"),
    "strange network": (in_recipe(network=3), "describes nothing"),
    "strange stages": (
        in_recipe(network={"serial": {"stages": [{"dense": {"units": "x"}}]}}), "units is 'x'"
    ),
    "huge units": (
        in_recipe(network={"serial": {"stages": [{"dense": {"units": 1 << 40}}]}}),
        r"parameters in .* has shape \(43,\), expected \(14293651161088,\)",
    ),
    "endless units": (
        in_recipe(network={"serial": {"stages": [{"dense": {"units": 1 << 70}}]}}),
        "network in .* cannot be laid out",
    ),
    "images": (attribute("images", "{}"), "images in .* are {}, expected a shape and two classes"),
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


def test_an_existing_model_is_kept(tmp_path, model):
    save_model(tmp_path / "model.h5", model)
    with pytest.raises(BadInput, match=r"model\.h5 exists already"):
        save_model(tmp_path / "model.h5", attrs.evolve(model, classes=("a", "b")))
    assert load_model(tmp_path / "model.h5") == model
