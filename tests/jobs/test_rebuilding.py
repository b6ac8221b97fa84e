import multiprocessing
import pickle
from functools import partial

import attrs
import numpy as np
import own_parts
import pytest

from pydnn import BadInput, Batch, Key, dense, relu, serial
from pydnn.data import DataSet, save_table
from pydnn.jobs.job import prepare
from pydnn.jobs.rebuilding import rebuild, rebuilding
from pydnn.jobs.training import train
from pydnn.recipes import Recipe, write_recipe

X = Key(1).normal((40, 12))
BATCH = Batch(X, X[:1] > 0)
RECIPE = Recipe(
    "points",
    serial(dense(3), relu(), own_parts.cube_root(), dense(1)),
    "sigmoid_cross_entropy()",
    "momentum(learning_rate=0.1)",
    20,
    validation=0.25,
    evaluate_every=2,
    watch="validation cost",
    patience=6,
    standardize=True,
    seed=4,
)
ROTATED = attrs.evolve(
    RECIPE, network="serial(dense(3), relu(), dense(1))", validation=0.0, watch="", patience=0,
    rotate=True,
)  # fmt: skip


def halved(train_step):
    def halve(step):
        return step.with_fields(grads=step.grads.with_vector(step.grads.vector / 2))

    return train_step.insert_after("backward", halve)


def halving(recipe, batch, **options):
    return prepare(recipe, batch, step=halved, **options)


def bits_of(again):
    trained = train(again())
    return trained.last.parameters.vector.tobytes(), trained.why, trained.costs.tolist()


def in_another_process(function, argument):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, [argument])


@pytest.mark.parametrize("recipe", [RECIPE, ROTATED], ids=["early stopping", "rotated"])
def test_a_job_is_rebuilt_to_the_same_bits(recipe):
    job = prepare(recipe, BATCH)
    again = pickle.loads(pickle.dumps(rebuilding(job)))
    rebuilt = again()
    assert rebuilt.recipe == job.recipe
    assert rebuilt.state == job.state
    assert (rebuilt.inputs.rotation is None) == (job.inputs.rotation is None)
    assert rebuilt.inputs.plain == job.inputs.plain
    assert bits_of(again) == bits_of(lambda: job)


@pytest.mark.slow
def test_another_process_rebuilds_a_job_from_its_recipe_and_the_name_of_its_data(tmp_path):
    save_table(tmp_path / "points.h5", DataSet(BATCH, BATCH))
    job = prepare(attrs.evolve(RECIPE, data=str(tmp_path / "points.h5")), BATCH)
    again = rebuilding(job, tmp_path / "points.h5")
    assert len(pickle.dumps(again)) < X.nbytes
    assert in_another_process(bits_of, again) == bits_of(lambda: job)


def test_a_rebuilt_job_has_the_basis_of_the_first_one():
    wide = attrs.evolve(ROTATED, rotate=None, iterations=1)
    assert prepare(wide, BATCH).inputs.rotation is None
    job = rebuild(write_recipe(wide), BATCH, rotated=True)
    assert job.inputs.rotation is not None
    assert job.recipe == wide


def test_a_users_prepare_function_rebuilds_its_job():
    job = halving(RECIPE, BATCH)
    for made_by in (halving, partial(prepare, step=halved)):
        again = pickle.loads(pickle.dumps(rebuilding(job, prepare=made_by)))
        assert bits_of(again) == bits_of(lambda: job)
    with pytest.raises(
        BadInput, match=r"was made of forward, cost, backward, halve, .* but is now"
    ):
        rebuilding(job)()
    with pytest.raises(BadInput, match=r"prepare is .*<lambda>, which another process cannot find"):
        rebuilding(job, prepare=lambda recipe, batch: job)


def test_a_text_names_only_modules_that_are_allowed():
    text = write_recipe(RECIPE)
    with pytest.raises(BadInput, match="own_parts"):
        rebuild(text, BATCH, rotated=False)
    assert rebuild(text, BATCH, rotated=False, allow=["own_parts"]).recipe == RECIPE
    with pytest.raises(BadInput, match="there is no data set 'points'"):
        rebuild(text, "points", rotated=False, allow=["own_parts"])
    with pytest.raises(BadInput, match=r"X holds nan"):
        rebuild(RECIPE, Batch(np.full((40, 12), np.nan), BATCH.Y), rotated=False)
