"""The tutorial's model of names: published losses, by a composed step and by the recipe."""

import itertools

import attrs
import numpy as np
import pytest
from letters_model import (
    FINGERPRINTS,
    LETTERS,
    NAMES,
    PUBLISHED,
    portable_fingerprint,
    shuffled_names,
    smoothed,
    trained,
)

import pydnn as nn
from pydnn import fast, portable
from pydnn.jobs.job import prepare, run
from pydnn.recipes import letters_recipe, read_recipe, write_recipe

needs_names = pytest.mark.skipif(
    not NAMES.exists(), reason="needs the file with 1,536 names: set PYDNN_NAMES to its path"
)
SOME = ["aab", "trex", "abcdefghijklmnopqrstuvwxyz", "zoo"]


def costs_of(recipe, names, folder):
    path = folder / "names.txt"
    path.write_text("\n".join(names) + "\n")
    job = prepare(attrs.evolve(recipe, data=str(path)), nn.text(path))
    return (info.cost for _, info in run(job))


@pytest.mark.parametrize("numerics", [fast, portable], ids=str)
def test_the_recipe_takes_the_composed_step(numerics, tmp_path):
    recipe = attrs.evolve(letters_recipe(iterations=9), numerics=numerics.name)
    costs = list(costs_of(recipe, SOME, tmp_path))
    expected = [info.cost for _, info in itertools.islice(trained(SOME, numerics), 9)]
    # The recipe pads names to the longest one, so other products are rounded.
    np.testing.assert_allclose(costs, expected, rtol=1e-12)
    assert costs[0] == pytest.approx(4 * np.log(27), rel=0.01)


def test_the_recipe_can_be_written_and_read():
    recipe = letters_recipe()
    assert read_recipe(write_recipe(recipe)) == recipe


@pytest.mark.slow
@needs_names
def test_a_composed_step_gives_the_published_losses():
    infos = (info for _, info in trained(shuffled_names(), fast))
    losses = smoothed(info.cost for info in infos)
    reached = list(itertools.islice(losses, 0, 1000 * len(PUBLISHED), 1000))
    assert [round(float(loss), 6) for loss in reached] == list(PUBLISHED)


@pytest.mark.slow
@needs_names
def test_the_recipe_gives_the_published_losses(tmp_path):
    recipe = letters_recipe(iterations=1000 * (len(PUBLISHED) - 1) + 1)
    losses = smoothed(costs_of(recipe, shuffled_names(), tmp_path))
    reached = list(itertools.islice(losses, 0, None, 1000))
    assert [round(float(loss), 6) for loss in reached] == list(PUBLISHED)


@needs_names
def test_the_first_published_losses_come_soon():
    names = shuffled_names()
    assert len(names) == 1536
    assert set("".join(names)) == set(LETTERS[1:])
    losses = smoothed(info.cost for _, info in trained(names, fast))
    assert round(float(next(losses)), 6) == PUBLISHED[0]


@needs_names
def test_portable_arithmetic_gives_the_same_bits_on_every_machine():
    assert portable_fingerprint(50) == FINGERPRINTS[50]
