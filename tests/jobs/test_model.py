import copy
import json
import pickle
from pathlib import Path

import attrs
import h5py
import numpy as np
import pytest
import toolz
from resealing import flip, replaced, resealed
from small_runs import recorded, small_recipe

from pydnn import (
    BadInput,
    Batch,
    Key,
    Recipe,
    batch_norm,
    dense,
    describe,
    output_of,
    relu,
    serial,
    softmax_cross_entropy,
    train,
)
from pydnn.jobs.job import prepare, run
from pydnn.jobs.model import Model, load_model
from pydnn.jobs.standardization import Standardization
from pydnn.parameters import pack
from pydnn.recipes.toml import read_recipe
from pydnn.recipes.tutorial import tutorial_recipe
from pydnn.runs import Run
from pydnn.runs.diff import difference_from_run


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
    model.save(tmp_path / "model.h5")
    again = load_model(tmp_path / "model.h5")
    assert again == model
    assert again.parameters.vector.tobytes() == model.parameters.vector.tobytes()
    assert not again.parameters.vector.flags.writeable


@pytest.mark.parametrize("way", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_model_can_be_copied_and_pickled(model, way):
    again = way(model)
    assert again == model
    assert not again.parameters.vector.flags.writeable
    X = Key(2).uniform((12, 3))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_predictions_are_those_of_the_network_by_hand(model):
    X = Key(2).uniform((12, 3))
    A = np.maximum(model.parameters["0/W"] @ X, 0)
    expected = 1 / (1 + np.exp(-(model.parameters["2/W"] @ A)))
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-14)


def attribute(name, value):
    return lambda file: file.attrs.create(name, np.bytes_(value))


def in_recipe(old, new):
    def change(file):
        text = file.attrs["recipe"].decode()
        assert old in text
        attribute("recipe", text.replace(old, new))(file)

    return change


def in_inputs(**changes):
    def change(file):
        attribute("inputs", json.dumps(json.loads(file.attrs["inputs"]) | changes))(file)

    return change


NETWORK = (
    """network = "serial(dense(3, initializer=zeros()), relu(), dense(1, initializer=zeros()))\""""
)
DAMAGE = {
    "a newer format": (
        attribute("format", "pydnn model 6"),
        "has format 'pydnn model 6', expected 'pydnn model 3': a newer pydnn wrote it, so install",
    ),
    "an older format": (attribute("format", "pydnn model 2"), "'pydnn model 3': train it again"),
    "another format": (
        attribute("format", "x"),
        "is an HDF5 file of the format 'x', expected a run or a model",
    ),
    "no recipe": (lambda file: file.attrs.__delitem__("recipe"), "there is no attribute"),
    "recipe that is not TOML": (attribute("recipe", "{"), "recipe in .*: the recipe is not TOML"),
    "recipe that lacks all": (attribute("recipe", "#"), "recipe in .*: the recipe lacks data, net"),
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
        in_recipe("dense(3", f"dense({1 << 70}"),
        "model.h5: units is 1180591620717411303424, expected at most",
    ),
    "inputs that are no JSON": (attribute("inputs", "{"), "inputs in .* are damaged"),
    "inputs that are a list": (attribute("inputs", "[]"), "inputs in .* are not a mapping"),
    "no inputs": (attribute("inputs", "{}"), "inputs in .* are {}, expected features, an image's"),
    "another image": (in_inputs(image_shape=[4, 4, 3]), "inputs in .*, expected features"),
    "endless features": (in_inputs(features=1 << 60, image_shape=None), "inputs in .*, expected"),
    "no classes": (in_inputs(classes=[]), "inputs in .*, expected features"),
    "one class": (in_inputs(classes=["cat"]), "inputs in .*, expected features"),
    "two of one name": (in_inputs(classes=["cat", "cat"]), "inputs in .*, expected features"),
    "half a surrogate": (in_inputs(classes=["a", "\ud800"]), "inputs in .*, expected features"),
    "an iteration after the end": (in_inputs(iteration=3), "inputs in .* say iteration 3"),
    "a strange iteration": (in_inputs(iteration=True), "inputs in .* say iteration True"),
    "chunks": (
        replaced("parameters", np.zeros(43), chunks=(43,)), "parameters in .* is in chunks"
    ),
    "texts of varying size": (
        lambda file: file.attrs.create("recipe", "x"), "recipe in .* is not a text of fixed size"
    ),
    "classes": (in_inputs(classes=[1, 2]), "inputs in .*, expected features"),
    "parameters of another size": (replaced("parameters", np.zeros(3)), r"parameters .*shape \(3,"),
    "parameters of another dtype": (
        replaced("parameters", np.zeros(43, np.float32)),
        "parameters in .* holds float32, expected float64",
    ),
    "parameters with NaN": (replaced("parameters", np.full(43, np.nan)), "parameters .* holds nan"),
}  # fmt: skip


NOT_COUNTS = (True, 12.0, -12, 0, 2**64, 10**400, 1e300, float("nan"), "12", [12], {})


@pytest.mark.parametrize("value", NOT_COUNTS, ids=str)
def test_a_size_that_is_not_a_whole_number_is_refused_before_it_is_used(tmp_path, model, value):
    path = tmp_path / "model.h5"
    model.save(path)
    for changes in (
        {"features": value, "image_shape": None},
        {"image_shape": [value, 2, 3]},
        {"image_shape": [2, value, 3]},
        {"image_shape": [2, 2, value]},
    ):
        resealed(path, in_inputs(**{"features": 12, "image_shape": [2, 2, 3]} | changes))
        with pytest.raises(BadInput, match=r"inputs in .*, expected features"):
            load_model(path)


def test_one_feature_is_not_a_truth_value(tmp_path):
    """True equals 1, and so passes every comparison of sizes."""
    line = train(LINE, Batch([[0.0, 1.0]], [[1.0, 3.0]])).model
    line.save(tmp_path / "line.h5")
    assert load_model(tmp_path / "line.h5").features == 1
    resealed(tmp_path / "line.h5", in_inputs(features=True))
    with pytest.raises(BadInput, match=r"inputs in .* are {'features': True"):
        load_model(tmp_path / "line.h5")


LINE = Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=1)


@pytest.mark.parametrize(("change", "message"), DAMAGE.values(), ids=DAMAGE)
def test_an_inconsistent_model_is_refused_in_one_line(tmp_path, model, change, message):
    path = tmp_path / "model.h5"
    model.save(path)
    resealed(path, change)
    with pytest.raises(BadInput, match=message) as refusal:
        load_model(path)
    assert "\n" not in str(refusal.value)


def test_a_model_keeps_statistics_and_standardization(tmp_path):
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
        recipe, state.parameters, np.zeros(30), 5, state.statistics, job.inputs,
        classes=("a", "b", "c"),
    )  # fmt: skip
    model.save(tmp_path / "model.h5")
    again = load_model(tmp_path / "model.h5")
    assert again == model
    inside = output_of(job.network, state, job.data["train"].X)
    np.testing.assert_array_equal(again.predict(X), job.loss.predict(inside))
    for name, value in (("deviation", np.zeros((5, 1))), ("mean", np.full((5, 1), np.nan))):
        bad = tmp_path / f"{name}.h5"
        model.save(bad)
        resealed(bad, lambda file, name=name, value=value: file[name].write_direct(value))
        with pytest.raises(BadInput, match=f"{name} in .* (is not above 0|holds nan)"):
            load_model(bad)


def test_an_existing_model_is_kept(tmp_path, model):
    model.save(tmp_path / "model.h5")
    with pytest.raises(BadInput, match=r"model\.h5 exists already"):
        attrs.evolve(model, classes=("a", "b")).save(tmp_path / "model.h5")
    assert load_model(tmp_path / "model.h5") == model


# Damage, and models of pydnn 0.1.0

OLD = Path(__file__).parents[1] / "old_runs"


def same_bits(one, other):
    return one.parameters.vector.tobytes() == other.parameters.vector.tobytes()


def test_a_changed_byte_anywhere_is_noticed(tmp_path, model):
    """And never ends the process, or never ends, as it did where HDF5 read the file first."""
    path = tmp_path / "model.h5"
    model.save(path)
    size = path.stat().st_size
    draws = np.random.default_rng(1)
    for position in {*range(0, 80), *draws.integers(0, size, 400).tolist()}:
        flip(path, position, 1 << position % 8)
        with pytest.raises(BadInput, match=r"in .* is damaged: "):
            load_model(path)
        with pytest.raises(BadInput, match=r"in .* is damaged: "):
            load_model(path, unverified=True)  # which is for those without a checksum alone
        flip(path, position, 1 << position % 8)
    assert load_model(path) == model


CHANGES = {
    "cut": lambda whole, at: whole[:at],
    "doubled": lambda whole, at: whole[:at] + whole[at:] + whole[at:],
    "inserted": lambda whole, at: whole[:at] + b"\0" + whole[at:],
    "zeros": lambda whole, at: whole[:at] + bytes(20) + whole[at + 20 :],
    "swapped": lambda whole, at: whole[at:] + whole[:at],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_other_damage_is_noticed(tmp_path, model, change):
    model.save(tmp_path / "model.h5")
    whole = (tmp_path / "model.h5").read_bytes()
    for at in range(1, len(whole), len(whole) // 20):
        if (changed := change(whole, at)) != whole:
            (tmp_path / "damaged.h5").write_bytes(changed)
            with pytest.raises(BadInput):
                load_model(tmp_path / "damaged.h5")


def test_the_array_that_has_changed_is_named(tmp_path, model):
    path = tmp_path / "model.h5"
    model.save(path)
    flip(path, path.read_bytes().index(model.parameters.vector.tobytes()) + 5)
    with pytest.raises(BadInput, match=r"^parameters in .*model\.h5 is damaged"):
        load_model(path)


def test_a_recipe_of_any_length_is_kept(tmp_path, model):
    recipe = attrs.evolve(model.recipe, data="x" * 70_000)
    attrs.evolve(model, recipe=recipe).save(tmp_path / "model.h5")
    assert load_model(tmp_path / "model.h5").recipe == recipe


@pytest.mark.parametrize("name", ["rotated", "stopped"])
def test_a_model_without_a_checksum_is_refused_unless_unverified_is_set(name):
    path = OLD / name / "model.h5"
    with pytest.raises(BadInput, match=r"has no checksum.*pydnn resume RUN.*--unverified"):
        load_model(path)
    old = load_model(path, unverified=True)
    assert old.iteration is None
    with h5py.File(path) as file:
        assert old.parameters.vector.tobytes() == file["parameters"][:].tobytes()
        assert old.recipe == read_recipe(file.attrs["recipe"])


@pytest.mark.slow
def test_an_old_model_that_is_damaged_ends_in_one_line_or_in_a_model(tmp_path):
    path = tmp_path / "model.h5"
    whole = (OLD / "stopped" / "model.h5").read_bytes()
    heap = whole.index(b"GCOL")
    draws = np.random.default_rng(2)
    refusals = []
    for position in {*range(heap, heap + 40), *draws.integers(0, len(whole), 60).tolist()}:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(draws.integers(8))
        path.write_bytes(damaged)
        try:
            load_model(path, unverified=True)
        except BadInput as error:
            refusals.append(str(error))
    assert len(refusals) > 20
    assert not any("\n" in line for line in refusals)


# Models and their runs


@pytest.fixture(scope="module")
def run_and_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    recipe = small_recipe(folder)
    recorded(folder / "run", recipe)
    opened = Run.open(folder / "run")
    return opened, Model(
        opened.recipe, opened.job.inputs.lift(opened.parameters()), opened.costs,
        len(opened.data.train.X), opened.stored(opened.segments[-1]).statistics,
        opened.job.inputs, opened.data.image_shape, opened.data.classes,
        opened.iterations,
    )  # fmt: skip


def test_a_model_is_that_of_its_run(run_and_model):
    opened, own = run_and_model
    assert difference_from_run(own, opened) is None
    assert difference_from_run(attrs.evolve(own, iteration=None), opened) is None
    more = attrs.evolve(own.recipe, iterations=own.recipe.iterations + 5)
    assert difference_from_run(attrs.evolve(own, recipe=more), opened) is None


def other_vector(packed):
    vector = packed.vector.copy()
    vector[-1] = np.nextafter(vector[-1], 9)
    return packed.with_vector(vector)


FOREIGN = {
    "its recipe": lambda m: attrs.evolve(m, recipe=attrs.evolve(m.recipe, seed=99)),
    "one of its costs": lambda m: attrs.evolve(m, costs=m.costs + 1),
    "one of its parameters": lambda m: attrs.evolve(m, parameters=other_vector(m.parameters)),
    "its number of iterations": lambda m: attrs.evolve(m, iteration=m.iteration - 1),
    "what its inputs are": lambda m: attrs.evolve(m, classes=("x", "y")),
}


@pytest.mark.parametrize(("what", "change"), FOREIGN.items(), ids=FOREIGN)
def test_a_model_of_another_run_is_recognized(run_and_model, what, change):
    opened, own = run_and_model
    assert difference_from_run(change(own), opened) == what


def test_of_two_models_of_one_run_the_shorter_is_its_own_as_well(run_and_model):
    opened, own = run_and_model
    state = opened.state(own.iteration - 1)
    shorter = attrs.evolve(
        own, parameters=opened.job.inputs.lift(state.parameters), costs=own.costs[:-1],
        iteration=own.iteration - 1, statistics=state.statistics,
    )  # fmt: skip
    assert difference_from_run(shorter, opened) is None


def test_parameters_of_a_rotated_job_are_refused_before_a_file_is_written(tmp_path):
    X = Key(1).uniform((40, 6))
    job = prepare(
        attrs.evolve(tutorial_recipe(hidden=(3,), iterations=5), rotate=True),
        Batch(X, [[0, 1, 0, 1, 1, 0]]),
    )
    rotated = Model(job.recipe, job.state.parameters, [0.7], 40)
    with pytest.raises(BadInput, match=r"0/W \(3, 9\), expected 0/W \(3, 40\).* job\.inputs\.lift"):
        rotated.save(tmp_path / "model.h5")
    with pytest.raises(
        BadInput, match=r"A_prev has shape \(40, 6\), expected \(9, m\).*job\.inputs\.lift"
    ):
        rotated.predict(X)
    with pytest.raises(BadInput, match=r"job\.inputs\.lift"):
        output_of(job.network, job.state, X)
    assert list(tmp_path.iterdir()) == []
    lifted = attrs.evolve(rotated, parameters=job.inputs.lift(job.state.parameters))
    lifted.save(tmp_path / "model.h5")
    assert load_model(tmp_path / "model.h5") == lifted


def with_vector(model, change):
    vector = change(model.parameters.vector.copy())
    return pack(model.parameters.layout.tree(vector), dtype=vector.dtype)


def with_nan(vector):
    vector[3] = np.nan
    return vector


UNCHANGING = Standardization(np.zeros((12, 1)), np.ones((12, 1)))
UNREADABLE = {
    "of other features": (lambda m: {"shape": 27, "image_shape": (3, 3, 3)}, "on 27 features"),
    "of another image": (lambda m: {"image_shape": (3, 3, 3)}, "inputs in the model are"),
    "of one class": (lambda m: {"classes": ("cat",)}, "inputs in the model are"),
    "of another network": (
        lambda m: {"recipe": tutorial_recipe(hidden=(4,))}, r"expected 0/W \(4, 12\) for the",
    ),
    "of fewer layers": (
        lambda m: {"recipe": tutorial_recipe(hidden=(3, 2))}, r"expected 2/W \(2, 3\) for the",
    ),
    "in another dtype": (
        lambda m: {"parameters": with_vector(m, lambda v: v.astype(np.float32))},
        "parameters is float32",
    ),
    "with a NaN": (lambda m: {"parameters": with_vector(m, with_nan)}, "parameters holds nan"),
    "with statistics": (lambda m: {"statistics": m.parameters}, "statistics have 0/W"),
    "with costs in two rows": (lambda m: {"costs": np.ones((2, 2))}, r"costs has shape \(2, 2\)"),
    "of a later iteration": (lambda m: {"iteration": 3}, "say iteration 3, expected at most 2"),
    "without standardization": (
        lambda m: {"recipe": attrs.evolve(m.recipe, standardize=True)}, "lacks a standardization",
    ),
    "with standardization": (
        lambda m: {"inputs": attrs.evolve(m.inputs, standardization=UNCHANGING)},
        "has a standardization",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_model_that_could_not_be_read_is_not_written(tmp_path, model, change, message):
    changed = attrs.evolve(model, **change(model))
    with pytest.raises(BadInput, match=message) as caught:
        changed.save(tmp_path / "model.h5")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_run_stands_for_the_model_in_it(tmp_path):
    batch = Batch([[0.0, 1.0]], [[1.0, 3.0]])
    recipe = Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=2)
    (tmp_path / "run").mkdir()
    train(recipe, batch).model.save(tmp_path / "run" / "model.h5")
    assert load_model(tmp_path / "run").recipe == recipe
    with pytest.raises(BadInput, match="is a directory"):
        load_model(tmp_path)


def test_pictures_that_are_not_columns_are_refused_with_the_way_to_make_them():
    batch = Batch(np.eye(12), np.ones((1, 12)))
    recipe = Recipe("pictures", "dense(1)", "mean_squared()", "adam()", iterations=1)
    model = attrs.evolve(train(recipe, batch).model, image_shape=(2, 2, 3))
    with pytest.raises(BadInput, match=r"shape \(2, 2, 3\), expected .*columns_of"):
        model.predict(np.ones((2, 2, 3)))
