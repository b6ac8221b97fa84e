import argparse
import itertools

import attrs
import numpy as np
import pytest

from pydnn import Batch, Key, describe, mini_batches
from pydnn.cli.recipe_options import add_recipe_options, recipe_of
from pydnn.descriptions.text import read_description
from pydnn.jobs.job import prepare
from pydnn.recipes.cats import cats_recipe
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import write_recipe
from pydnn.recipes.tutorial import tutorial_recipe
from pydnn.runs.state_arrays import state_fingerprint

X = Key(1).at("X").normal((4, 24))
BATCH = Batch(X, (X[:1] > 0).astype(float))
RECIPE = Recipe(
    data="given",
    network=read_description("serial(dense(3), relu, dense(1))"),
    loss={"sigmoid_cross_entropy": {}},
    optimizer=read_description("gradient_descent(learning_rate=0.1)"),
    iterations=4,
)
# All random choices of a job; the first value of each is the default of a recipe.
WEIGHTS = (None, "tutorial()", "tutorial(seed=3)")
SHARES = (0.0, 0.25)
BATCHES = ({"full_batch": {}}, describe(mini_batches(8)))
NETWORKS = (
    "serial(dense(3), relu, dense(1))",
    "serial(dense(3), relu, dropout(keep_prob=0.5), dense(1))",
)


def recipe_from(*argv):
    parser = argparse.ArgumentParser()
    add_recipe_options(parser)
    return recipe_of(parser.parse_args([str(arg) for arg in argv]))


def first_things(recipe):
    """All that depends on the seed: the initial state, the first batch, the output in training."""
    job = prepare(recipe, BATCH)
    batch = next(job.batches)
    _, info = job.train_step(job.state, batch)
    return state_fingerprint(job.state), batch.X.tobytes(), info.cost


@pytest.mark.parametrize(
    ("weights", "share", "batches", "network"),
    list(itertools.product(WEIGHTS, SHARES, BATCHES, NETWORKS)),
)
def test_a_seed_changes_everything_that_is_drawn(tmp_path, weights, share, batches, network):
    recipe = attrs.evolve(
        RECIPE,
        network=read_description(network),
        weights=weights and read_description(weights),
        validation=share,
        batches=batches,
    )
    path = tmp_path / "recipe.toml"
    path.write_text(write_recipe(recipe))
    one, again, other = (first_things(recipe_from(path, "--seed", seed)) for seed in (5, 5, 6))
    assert one == again
    assert one[0] != other[0]
    assert (one[1] != other[1]) == (share > 0 or "mini_batches" in batches)
    assert one[2] != other[2]


def test_a_seed_decides_the_tutorials_weights_however_the_job_is_asked_for(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(write_recipe(recipe_from("--layers", 3)))
    for recipe in (recipe_from("--layers", 3, "--seed", 6), recipe_from(path, "--seed", 6)):
        job = prepare(recipe, BATCH)
        W = np.random.RandomState(6).randn(3, 4) / 2
        np.testing.assert_array_equal(job.inputs.lift(job.state.parameters)["0/W"], W)


def test_weights_of_a_stated_seed_stay_where_both_are_options():
    recipe = recipe_from("--seed", 6, "--weights", "tutorial(seed=3)")
    assert (recipe.seed, recipe.weights) == (6, {"tutorial": {"seed": 3}})


def test_a_recipe_that_states_the_seed_of_its_weights_keeps_it_without_the_option(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(write_recipe(attrs.evolve(RECIPE, weights={"tutorial": {"seed": 3}}, seed=9)))
    recipe = recipe_from(path, "--iterations", 2)
    assert (recipe.seed, recipe.weights) == (9, {"tutorial": {"seed": 3}})


def test_recipes_in_pydnn_have_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipe_from("tutorial") == tutorial_recipe()
    changed = recipe_from("cats", "--data", "photos", "--iterations", 5)
    assert changed == attrs.evolve(cats_recipe(), data="photos", iterations=5)
    (tmp_path / "cats").write_text(write_recipe(RECIPE))  # a file of that name is the recipe
    assert recipe_from("cats").network == RECIPE.network


def test_shards_are_an_option(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(write_recipe(attrs.evolve(RECIPE, shards=3)))
    assert [recipe_from(path).shards, recipe_from(path, "--shards", 4).shards] == [3, 4]
    assert recipe_from().shards == 1
