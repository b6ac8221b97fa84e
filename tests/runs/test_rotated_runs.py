"""Runs that were trained in another basis: how they are recorded, read and lifted."""

import attrs
import numpy as np
import pytest
from small_runs import recorded, resumed

from pydnn import (
    BadInput,
    Batch,
    Key,
    dense,
    describe,
    momentum,
    relu,
    serial,
    sigmoid_cross_entropy,
)
from pydnn.data import DataSet, save_table
from pydnn.fingerprints import fingerprint
from pydnn.jobs.job import prepare, run
from pydnn.recipes.recipe import Recipe
from pydnn.runs import Run
from pydnn.runs.diff import difference
from pydnn.runs.inspect import look_into
from pydnn.runs.provenance import Pin
from pydnn.runs.replay import verify
from pydnn.runs.state_arrays import state_fingerprint

X = Key(1).at("X").normal((60, 8))
DATA = DataSet(
    Batch(X, [[0, 1] * 4]),
    Batch(X[:, :4], [[0, 1] * 2]),
)


@pytest.fixture
def recipe(tmp_path):
    save_table(tmp_path / "wide.h5", DATA)
    return Recipe(
        data=str(tmp_path / "wide.h5"),
        network=describe(serial(dense(3), relu(), dense(1))),
        loss=describe(sigmoid_cross_entropy()),
        optimizer=describe(momentum(learning_rate=0.05)),
        iterations=400,
    )


@pytest.mark.slow
def test_what_was_chosen_is_recorded_and_not_chosen_again(tmp_path, recipe):
    recorded(tmp_path / "run", recipe, DATA, every=150, steps=300)
    run = Run.open(tmp_path / "run")
    assert run.recipe == recipe  # unchanged
    rotated = run.job.data["train"].X
    assert rotated.shape == (11, 8)
    pin = Pin((11, 8), "float64", fingerprint({"rotated": rotated.T}))
    assert run.folder.pins.rotated == pin
    # For one more step, rotation would not be worthwhile; but the states are in this basis.
    whole = recorded(tmp_path / "whole", recipe, DATA, every=150)
    assert state_fingerprint(resumed(tmp_path / "run", every=150)) == state_fingerprint(whole)
    short = attrs.evolve(recipe, iterations=1)
    assert prepare(short, DATA.train).inputs.rotation is None
    recorded(tmp_path / "short", short, DATA)
    resumed(tmp_path / "short", iterations=400, every=150)
    longer = Run.open(tmp_path / "short")
    assert longer.job.inputs.rotation is None
    assert longer.parameters()["0/W"].shape == (3, 60)


def test_a_replay_computes_every_step_again(tmp_path, recipe):
    recorded(tmp_path / "run", recipe, DATA, every=150)
    run = Run.open(tmp_path / "run")
    assert [result.mismatch for result in verify(run)] == [None] * 4
    step, tensors = look_into(run, 220)
    assert step.batch.X.shape == (11, 8)
    assert {str(t): t.array.shape for t in tensors}["state, layer 0, W"] == (3, 11)


@pytest.mark.slow
def test_parameters_are_for_examples_as_they_are(tmp_path, recipe):
    recorded(tmp_path / "run", recipe, DATA, every=150)
    recorded(tmp_path / "plain", attrs.evolve(recipe, rotate=False), DATA, every=150)
    rotated, plain = Run.open(tmp_path / "run"), Run.open(tmp_path / "plain")
    assert rotated.state(400).parameters["0/W"].shape == (3, 11)
    for iteration in (0, 123, 400):
        here, there = (r.parameters(iteration) for r in (rotated, plain))
        np.testing.assert_allclose(here.vector, there.vector, atol=1e-12)
    np.testing.assert_allclose(rotated.costs, plain.costs, rtol=1e-9)


@pytest.mark.slow
def test_two_bases_are_a_difference(tmp_path, recipe):
    recorded(tmp_path / "run", recipe, DATA, every=150)
    recorded(tmp_path / "plain", attrs.evolve(recipe, rotate=False), DATA, every=150)
    result = difference(Run.open(tmp_path / "run"), Run.open(tmp_path / "plain"))
    assert result.recipe == [("rotate", "True", "False")]
    assert result.parting.step == -1
    assert result.parting.apart.first == ("float64 (3, 11)", "float64 (3, 60)")


def test_a_basis_of_other_bits_is_refused(tmp_path, recipe):
    recorded(tmp_path / "run", recipe, DATA, every=150)

    def elsewhere(recipe, batch, **options):  # a machine that rounds differently
        job = prepare(recipe, batch, **options)
        X = job.data["train"].X.copy()
        X[0, 0] = np.nextafter(X[0, 0], 9)
        train = attrs.evolve(job.data["train"], X=X)
        return attrs.evolve(job, data={"train": train})

    result = Run.open(tmp_path / "run", prepare=elsewhere)
    with pytest.raises(BadInput, match=r"^the change of basis .* has other bits here"):
        list(verify(result))
    with pytest.raises(BadInput, match=r"its model\.h5 can be used"):
        result.parameters()
    anyway = Run.open(tmp_path / "run", prepare=elsewhere, anyway=True)
    assert anyway.parameters()["0/W"].shape == (3, 60)


def test_it_goes_on_in_a_stream_as_any_other(tmp_path, recipe):
    state = recorded(tmp_path / "run", recipe, DATA, every=150)
    *_, (straight, _) = run(prepare(recipe, DATA.train))
    assert state_fingerprint(state) == state_fingerprint(straight)
