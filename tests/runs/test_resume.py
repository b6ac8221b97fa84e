"""An interrupted run ends with the same bits as one without a break."""

import os

import attrs
import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st
from small_runs import recorded, resumed, saved_data, small_data, small_recipe

from pydnn import (
    BadInput,
    adagrad,
    adam,
    adamw,
    amsgrad,
    average_parameters,
    batch_norm,
    best,
    clip_by_global_norm,
    cosine_decay,
    dense,
    describe,
    dropout,
    full_batch,
    gradient_descent,
    l2_penalty,
    layer_norm,
    lion,
    mini_batches,
    momentum,
    nadam,
    nesterov,
    parallel,
    relu,
    residual,
    rmsprop,
    serial,
    step_decay,
    warm_up,
)
from pydnn.jobs.job import prepare
from pydnn.jobs.job import run as stream_of
from pydnn.optimizers import accumulate, chain, descend, gradient_noise, look, skip_not_finite
from pydnn.runs import Run, resume_run
from pydnn.runs.replay import verify
from pydnn.runs.state_arrays import state_fingerprint
from pydnn.stages import tanh

OPTIMIZERS = [
    gradient_descent(learning_rate=0.1),
    gradient_descent(learning_rate=warm_up(3, then=cosine_decay(0.1, steps=9))),
    momentum(learning_rate=0.05),
    nesterov(learning_rate=step_decay(0.1, factor=0.5, every=4)),
    adagrad(learning_rate=0.1),
    rmsprop(learning_rate=0.01),
    adam(learning_rate=0.01),
    adamw(learning_rate=0.01),
    amsgrad(learning_rate=0.01),
    nadam(learning_rate=0.01),
    lion(learning_rate=0.001),
    accumulate(adam(learning_rate=0.01), batches=3),
    skip_not_finite(momentum(learning_rate=0.1)),
    chain(
        clip_by_global_norm(0.5),
        gradient_noise(0.01),
        look("before", at="vector"),
        descend(0.1),
        average_parameters(decay=0.9),
    ),
]
NETWORKS = [
    serial(dense(3), tanh(), dense(1)),
    serial(dense(4), batch_norm(), relu(), dropout(keep_prob=0.7), dense(1)),
    serial(residual(dense(5), layer_norm(), relu()), parallel(dense(2), dropout(keep_prob=0.5)),
           dense(1)),
]  # fmt: skip
BATCHES = [full_batch(), mini_batches(7), mini_batches(16, keep_last=False),
           mini_batches(9, shuffle=False)]  # fmt: skip


@example_count(30, quick=2)
@given(
    st.sampled_from(range(len(NETWORKS))),
    st.sampled_from(range(len(OPTIMIZERS))),
    st.sampled_from(range(len(BATCHES))),
    st.sampled_from(["float64", "float32"]),
    st.integers(0, 1000),
    st.integers(2, 14),
    st.data(),
)
def test_run_n_is_run_k_and_resume_and_replay(
    tmp_path_factory, network, optimizer, batches, dtype, seed, n, data
):
    folder = tmp_path_factory.mktemp("runs")
    recipe = small_recipe(
        folder,
        network=describe(NETWORKS[network]),
        optimizer=describe(OPTIMIZERS[optimizer]),
        batches=describe(BATCHES[batches]),
        dtype=dtype,
        seed=seed,
        iterations=n,
        validation=data.draw(st.sampled_from([0.0, 0.25])),
        standardize=data.draw(st.booleans()),
        penalties=data.draw(st.sampled_from([(), (describe(l2_penalty(0.3)),)])),
        evaluate_every=data.draw(st.sampled_from([0, 2])),
    )
    examples = small_data_in(dtype)
    k = data.draw(st.integers(1, n))
    whole = recorded(folder / "whole", recipe, examples, every=data.draw(st.integers(1, n)))
    recorded(folder / "cut", recipe, examples, every=data.draw(st.integers(1, n)), steps=k)
    state = resumed(folder / "cut", every=data.draw(st.integers(1, n)))
    assert state_fingerprint(state) == state_fingerprint(whole)
    runs = [Run.open(folder / name) for name in ("whole", "cut")]
    assert runs[0].fingerprint == runs[1].fingerprint == state_fingerprint(whole)
    assert list(runs[0].infos) == list(runs[1].infos)
    for run in runs:
        assert all(verified.mismatch is None for verified in verify(run))


def small_data_in(dtype):
    data = small_data()
    parts = {
        part: attrs.evolve(getattr(data, part), X=getattr(data, part).X.astype(dtype),
                           Y=getattr(data, part).Y.astype(dtype))
        for part in ("train", "test")
    }  # fmt: skip
    return attrs.evolve(data, **parts)


@pytest.mark.slow
def test_resuming_twice_in_a_row_and_past_the_end(tmp_path):
    whole = recorded(tmp_path / "whole", small_recipe(tmp_path, iterations=23))
    recorded(tmp_path / "cut", small_recipe(tmp_path, iterations=9), steps=5)
    resumed(tmp_path / "cut", steps=2)
    assert Run.open(tmp_path / "cut").iterations == 7
    resumed(tmp_path / "cut")
    assert Run.open(tmp_path / "cut").iterations == 9
    resumed(tmp_path / "cut", iterations=15)
    resumed(tmp_path / "cut", iterations=23)
    assert Run.open(tmp_path / "cut").fingerprint == state_fingerprint(whole)
    assert Run.open(tmp_path / "cut").goal == 23


def test_the_goal_of_a_run_that_was_interrupted_past_its_first_end_is_kept(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path, iterations=6))
    resumed(tmp_path / "run", iterations=20, steps=5)
    assert resumed(tmp_path / "run").iteration == 20


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    state = recorded(tmp_path / "run", small_recipe(tmp_path))
    before = sorted(os.listdir(tmp_path / "run" / "segments"))
    assert resumed(tmp_path / "run") == state
    assert sorted(os.listdir(tmp_path / "run" / "segments")) == before


@pytest.fixture(scope="module")
def stopped_early(tmp_path_factory):
    """A recipe that stops early, the folder of its run, the last state and the best state."""
    folder = tmp_path_factory.mktemp("stopped")
    recipe = small_recipe(
        folder, iterations=60, validation=0.3, evaluate_every=2, watch="validation cost",
        patience=8, optimizer=describe(adam(learning_rate=0.3)),
    )  # fmt: skip
    last = recorded(folder / "whole", recipe)
    kept, _ = best(stream_of(prepare(recipe, small_data().train)), watch="validation cost")
    assert kept.iteration < last.iteration < 60  # it does stop early
    return recipe, folder / "whole", last, kept


@pytest.mark.parametrize(
    "k", [20, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 4, 9, 13))]
)
def test_early_stopping_goes_on_as_without_a_break(tmp_path, k, stopped_early):
    recipe, whole, last, kept = stopped_early
    cut = tmp_path / "cut"
    recorded(cut, recipe, steps=k, every=3)
    for _ in range(2):  # a training that has stopped early stays stopped
        assert resumed(cut) == last
    assert Run.open(whole).fingerprint == Run.open(cut).fingerprint
    for path in (whole, cut):
        with resume_run(path) as opened:
            assert (opened.watched.kept, opened.watched.last) == (kept, last)


def test_a_run_that_watches_its_cost_keeps_the_state_of_that_cost(tmp_path):
    recipe = small_recipe(
        tmp_path,
        iterations=40,
        watch="cost",
        patience=5,
        optimizer=describe(adam(learning_rate=0.5)),
    )
    recorded(tmp_path / "run", recipe)
    with resume_run(tmp_path / "run") as opened:
        costs = opened.run.costs
        assert opened.watched.kept.iteration == costs.argmin()
        assert opened.watched.kept == opened.run.state(int(costs.argmin()))
        assert opened.watched.last.iteration == len(costs)


def test_what_is_unsound_or_half_written_is_set_aside_and_named(tmp_path):
    whole = recorded(tmp_path / "run", small_recipe(tmp_path), every=2)
    segments = tmp_path / "run" / "segments"
    damaged = segments / "0000000006.h5"
    bytes_before = {path.name: path.read_bytes() for path in segments.iterdir()}
    content = bytearray(damaged.read_bytes())
    content[-100] ^= 1
    damaged.write_bytes(content)
    (segments / ".0000000014.h5.1-2.part").write_bytes(b"half")
    with resume_run(tmp_path / "run") as opened:
        messages = {fault.path.name: fault.message for fault in opened.recording.set_aside}
        assert opened.run.iterations == 12
        assert opened.recording.restored == (damaged,)
    assert "0000000006.h5 is damaged" in messages[damaged.name]
    assert "left half-written" in messages[".0000000014.h5.1-2.part"]
    assert (tmp_path / "run" / "set-aside" / damaged.name).read_bytes() == content
    assert {path.name: path.read_bytes() for path in segments.iterdir()} == bytes_before
    assert state_fingerprint(resumed(tmp_path / "run")) == state_fingerprint(whole)


def test_two_processes_never_write_the_same_run(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path), steps=5)
    with resume_run(tmp_path / "run"), pytest.raises(BadInput, match="written by another process"):
        resumed(tmp_path / "run")
    resumed(tmp_path / "run")


def test_changed_data_is_refused(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path), steps=5)
    changed = small_data()
    X = changed.train.X.copy()
    X[2, 3] = np.nextafter(X[2, 3], 1)
    changed = attrs.evolve(changed, train=attrs.evolve(changed.train, X=X))
    with pytest.raises(BadInput, match=r"train X differs \(recorded float64 \(5, 40\) sha256 "):
        resumed(tmp_path / "run", data=changed)
    resumed(tmp_path / "run", data=changed, anyway=True)
    os.rename(saved_data(tmp_path), tmp_path / "moved.h5")
    recorded(tmp_path / "other", small_recipe(tmp_path, data=str(tmp_path / "gone.h5")), steps=5)
    with pytest.raises(
        BadInput, match=r"there is no data set .*; or give its place now with --data"
    ):
        resumed(tmp_path / "other")
    resumed(tmp_path / "other", data=str(tmp_path / "moved.h5"))


def test_another_machine_is_refused_or_with_anyway_recorded(tmp_path, monkeypatch):
    from pydnn.runs import run as run_module

    recorded(tmp_path / "run", small_recipe(tmp_path), steps=5)
    here = run_module.current_environment()
    there = attrs.evolve(here, arithmetic={**here.arithmetic, "exp": "0" * 64})
    monkeypatch.setattr(run_module, "current_environment", lambda numerics, **options: there)
    with pytest.raises(BadInput, match=r"computes exp differently.*resume it where it was rec"):
        resumed(tmp_path / "run")
    resumed(tmp_path / "run", anyway=True)
    run = Run.open(tmp_path / "run")
    assert run.environments == (here, there)
    assert run.environment_of(4) == here
    assert run.environment_of(5) == there
    assert len(run.folder.environments) == 2
    assert len({segment.environment for segment in run.segments}) == 2


REFUSED = {
    "no run": (lambda path: {"path": path / "none"}, "does not exist, expected the folder of a"),
    "no folder of a run": (lambda path: {"path": path}, "has no recipe.toml, expected the folder"),
    "fewer iterations": (
        lambda path: {"path": path / "run", "iterations": 3}, "has 5 iterations already"
    ),
    "no iterations": (lambda path: {"path": path / "run", "iterations": 0}, "iterations is 0"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_resumed_is_refused_in_one_line(tmp_path, options, message):
    recorded(tmp_path / "run", small_recipe(tmp_path), steps=5)
    with pytest.raises(BadInput, match=message) as refusal:
        resumed(**options(tmp_path))
    assert "\n" not in str(refusal.value)
