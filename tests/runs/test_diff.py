import os
import subprocess
import sys

import attrs
import numpy as np
import pytest
from small_runs import flipping, recorded, small_data, small_recipe

from pydnn import (
    Batch,
    adam,
    dense,
    describe,
    described,
    full_batch,
    gradient_descent,
    leaky_relu,
    relu,
    serial,
    step_decay,
)
from pydnn.data import DataSet, save_table
from pydnn.keys import Key
from pydnn.records import freeze
from pydnn.runs import Run
from pydnn.runs.diff import difference
from pydnn.stages import Stage, tanh
from pydnn.stages.base import elementwise


@described("stage")
def turned_tanh() -> Stage:
    """The function tanh computed in another way, with some other bits."""

    def forward(Z, numerics):
        return 1 - 2 / (1 + np.exp(2 * Z))

    return elementwise("tanh", forward, lambda dA, Z, A, _: dA * (1 - A * A))


def compared(folder, **changes):
    """The difference between a small run and one with `changes` in recipe, data or step."""
    options = {name: changes.pop(name) for name in ("change", "data", "every") if name in changes}
    if not (folder / "a").exists():
        recorded(folder / "a", small_recipe(folder), every=options.get("every", 4))
    recipe = small_recipe(folder, **changes)
    recorded(folder / "b", recipe, **options)
    b = Run.open(folder / "b", data=options.get("data"), allow=[__name__])
    return difference(Run.open(folder / "a"), b)


def test_the_same_job_twice_has_no_difference(tmp_path):
    result = compared(tmp_path)
    assert (result.recipe, result.data, result.environment) == ([], [], [])
    assert result.parting is None
    assert result.iterations == (12, 12)


def test_segments_and_evaluations_do_not_count_as_different_bits(tmp_path):
    recorded(tmp_path / "a", small_recipe(tmp_path), every=5)
    result = compared(tmp_path, evaluate_every=2)
    assert result.recipe == [("evaluate_every", "0", "2")]
    assert result.parting is None


def test_a_changed_seed_is_found(tmp_path):
    result = compared(tmp_path, seed=4)
    assert result.recipe == [("seed", "3", "4")]
    assert result.parting.step == -1
    assert result.parting.apart.tensor == "state, layer 0, W"
    assert (result.parting.apart.count, result.parting.apart.size) == (20, 20)


@pytest.mark.parametrize("step", [3, 7])
def test_a_changed_learning_rate_at_a_step_is_found(tmp_path, step):
    rates = [step_decay(0.01, factor=factor, every=step) for factor in (1.0, 0.5)]
    recorded(
        tmp_path / "a", small_recipe(tmp_path, optimizer=describe(adam(learning_rate=rates[0])))
    )
    result = compared(tmp_path, optimizer=describe(adam(learning_rate=rates[1])))
    assert result.parting.step == step
    assert result.parting.mismatch.quantity == "observed learning_rate"
    assert (result.parting.mismatch.recorded, result.parting.mismatch.here) == (0.01, 0.005)
    assert result.parting.apart.tensor == "update, layer 0, update of W"
    assert result.parting.notes == ()


def test_one_flipped_pixel_in_the_data_is_found(tmp_path):
    data = small_data()
    X = data.train.X.copy()
    X.view(np.uint64)[3, 17] ^= np.uint64(1 << 30)  # a lower bit may be lost in the first sum
    result = compared(tmp_path, data=attrs.evolve(data, train=Batch(X, data.train.Y)))
    assert len(result.data) == 1
    assert result.data[0].startswith(
        "train X: 1 of 200 numbers differs, the first is feature 3 of example 17: "
    )
    apart = result.parting.apart
    assert (apart.tensor, apart.count, apart.ulps) == ("batch, X", 1, 1 << 30)
    assert result.parting.step in (0, 1, 2)  # the first epoch contains example 17


@pytest.mark.parametrize("step", [2, 6])
def test_one_bit_of_one_weight_at_a_step_is_found(tmp_path, step):
    result = compared(tmp_path, change=flipping(step, index=(1, 2), bit=3), every=1)
    parting = result.parting
    assert parting.step == step
    assert parting.mismatch.quantity == "checksum of the parameters after it"
    assert parting.apart.tensor == "update, layer 0, W"
    assert (parting.apart.count, parting.apart.ulps, parting.apart.index) == (1, 8, (1, 2))
    assert f"step {step} of {tmp_path / 'b'} does not follow from its recipe" in parting.notes[0]


@pytest.mark.slow
def test_one_bit_is_found_at_its_step_where_no_segment_ends_there(tmp_path):
    parting = compared(tmp_path, change=flipping(5)).parting
    assert parting.step == 5
    assert "step 5 of" in parting.notes[0]
    assert parting.notes[1] == "this is from the states that both have recorded after step 7"
    assert parting.apart.tensor == "update, layer 0, W"


@pytest.mark.slow
def test_steps_up_and_down_that_cancel_in_a_sum_are_found_at_their_step(tmp_path):
    def both(train_step):
        def nudge(record):
            if record.info.iteration != 4:
                return record
            parameters = record.after.parameters
            vector = parameters.vector.copy()
            vector.view(np.uint64)[[0, 3]] += np.array([1, 2**64 - 1], np.uint64)
            parameters = parameters.with_vector(freeze(vector))
            return record.with_fields(after=attrs.evolve(record.after, parameters=parameters))

        return train_step.insert_after("update", nudge)

    parting = compared(tmp_path, change=both, every=1).parting
    assert parting.step == 4
    assert (parting.apart.tensor, parting.apart.count) == ("update, layer 0, W", 2)


def test_a_stage_replaced_by_a_mathematically_equal_one_is_found(tmp_path):
    network = serial(dense(6), tanh(), dense(1))
    other = serial(dense(6), turned_tanh(), dense(1))
    descent = describe(gradient_descent(learning_rate=0.1))  # so that every bit leaves a trace
    recorded(tmp_path / "a", small_recipe(tmp_path, network=describe(network), optimizer=descent))
    result = compared(tmp_path, network=describe(other), optimizer=descent)
    assert [name for name, _, _ in result.recipe] == ["network"]
    apart = result.parting.apart
    assert apart.tensor == "forward, layer 1 (tanh), A"
    assert result.parting.step == 0
    assert 0 < apart.count <= apart.size
    assert apart.ulps < 100


@pytest.mark.slow
def test_another_optimizer_and_another_shape_are_found(tmp_path):
    result = compared(tmp_path, optimizer=describe(gradient_descent(learning_rate=0.01)))
    assert result.parting.step == 0
    assert result.parting.apart.tensor == "update, layer 0, update of W"
    recorded(tmp_path / "c", small_recipe(tmp_path, network=describe(serial(dense(7), dense(1)))))
    wider = difference(Run.open(tmp_path / "a"), Run.open(tmp_path / "c"))
    assert wider.parting.step == -1
    assert wider.parting.apart.first == ("float64 (4, 5)", "float64 (7, 5)")


def test_signs_of_zeros_that_no_cost_shows_do_not_count_as_different(tmp_path):
    networks = [serial(dense(6), stage, dense(1)) for stage in (relu(), leaky_relu(slope=0.0))]
    recorded(tmp_path / "a", small_recipe(tmp_path, network=describe(networks[0])))
    result = compared(tmp_path, network=describe(networks[1]))
    assert result.parting is None


def test_a_state_that_differs_where_no_row_does_is_found(tmp_path):
    def change(train_step):
        def shift(record):
            if record.info.iteration != 10:
                return record
            statistics = record.after.statistics
            after = attrs.evolve(
                record.after, statistics=statistics.with_vector(statistics.vector + 1)
            )
            return record.with_fields(after=after)

        return train_step.insert_after("update", shift)

    parting = compared(tmp_path, change=change).parting
    assert (parting.step, parting.mismatch) == (11, None)
    assert parting.apart.tensor == "update, layer 1, running mean"


def test_a_shorter_run_is_the_beginning_of_a_longer_one(tmp_path):
    recorded(tmp_path / "a", small_recipe(tmp_path), steps=7)
    result = compared(tmp_path)
    assert result.iterations == (7, 12)
    assert result.parting is None


@pytest.mark.slow
def test_another_thread_count_of_blas_is_found_and_rebuilt_as_it_was(tmp_path):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    blas = [x for x in threadpoolctl.threadpool_info() if x["user_api"] == "blas"]
    if len(os.sched_getaffinity(0)) < 2 or {x["internal_api"] for x in blas} != {"openblas"}:
        pytest.skip("needs OpenBLAS and two cores")
    X = Key(1).at("X").normal((1000, 300))
    data = DataSet(Batch(X, (X[:1] > 0).astype(float)), Batch(X[:, :9], (X[:1, :9] > 0) * 1.0))
    save_table(tmp_path / "wide.h5", data)
    for threads in ("1", "2"):
        command = [sys.executable, "-m", "pydnn", "train", "--data", "wide.h5", "--layers", "33"]
        done = subprocess.run(
            [*command, "--iterations", "4", "--run", threads, "--quiet"],
            cwd=tmp_path, env=os.environ | {"OPENBLAS_NUM_THREADS": threads},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    result = difference(Run.open(tmp_path / "1"), Run.open(tmp_path / "2"))
    changed = {what: (a, b) for what, a, b in result.environment}
    assert changed["BLAS threads"] == ("1", "2")
    if result.parting is None:
        pytest.skip(
            "this BLAS gives the products of this network the same bits with 1 and 2 threads"
        )
    assert result.parting.step == 0
    assert result.parting.notes == ()
    assert result.parting.apart.tensor.startswith(("forward, layer", "backward, layer"))
    assert result.parting.apart.ulps < 10**6
    in_memory = [Run.open(tmp_path / threads, data=data) for threads in ("1", "2")]
    assert difference(*in_memory) == result


def test_full_batches_and_other_names_of_parts_still_compare(tmp_path):
    result = compared(tmp_path, batches=describe(full_batch()))
    assert result.parting.apart.tensor == "batch, X"
    assert result.parting.apart.first == ("float64 (5, 16)", "float64 (5, 40)")
