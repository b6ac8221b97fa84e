"""The tutorial's model of names: published losses, by a composed step and by the recipe."""

import itertools
from pathlib import Path

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


def recipe_network(recipe):
    return repr(nn.build(recipe.network))


def test_the_recipe_can_be_written_and_read():
    recipe = letters_recipe()
    assert read_recipe(write_recipe(recipe)) == recipe


def expect_published(losses):
    # Six decimals. Rounding errors have grown to the seventh one at step 14000, where the last
    # figure depends on the order in which a BLAS adds; 2000 steps later publications part.
    np.testing.assert_allclose(losses[:-1], PUBLISHED[:-1], rtol=0, atol=0.6e-6)
    np.testing.assert_allclose(losses[-1], PUBLISHED[-1], rtol=0, atol=5e-6)


@pytest.mark.slow
def test_a_carried_state_is_recorded_resumed_and_replayed(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("\n".join(SOME) + "\n")
    recipe = letters_recipe(iterations=9, units=5)
    Path("letters.toml").write_text(write_recipe(recipe))
    assert command("train", "letters.toml", "--run", "whole", "--quiet")[0] == 0
    shipped = ("letters", "--run", "shipped", "--iterations", 9, "--quiet")
    assert command("train", *shipped, "--network", recipe_network(recipe))[0] == 0
    assert command("diff", "whole", "shipped")[0] == 0
    half = ("--run", "half", "--iterations", 5)
    assert command("train", "letters.toml", *half, "--quiet")[0] == 0
    assert command("resume", "half", "--iterations", 9, "--quiet")[0] == 0
    status, out, _ = command("diff", "whole", "half")
    assert "all bits of the 9 steps that both have are the same" in out
    assert status == 0
    assert command("replay", "half")[0] == 0


@pytest.mark.slow
@needs_names
def test_a_composed_step_gives_the_published_losses():
    infos = (info for _, info in trained(shuffled_names(), fast))
    losses = smoothed(info.cost for info in infos)
    reached = list(itertools.islice(losses, 0, 1000 * len(PUBLISHED), 1000))
    expect_published(reached)


@pytest.mark.slow
@needs_names
def test_the_recipe_gives_the_published_losses(tmp_path):
    recipe = letters_recipe(iterations=1000 * (len(PUBLISHED) - 1) + 1)
    losses = smoothed(costs_of(recipe, shuffled_names(), tmp_path))
    reached = list(itertools.islice(losses, 0, None, 1000))
    expect_published(reached)


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
