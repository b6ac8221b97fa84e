"""Jobs, runs, sweeps and commands whose recipes cut batches into shards."""

import json

import attrs
import numpy as np
import pytest
from small_runs import recorded, resumed, small_data, small_recipe

import pydnn as nn
from pydnn.cli import main
from pydnn.jobs.job import prepare
from pydnn.jobs.memory import bytes_of
from pydnn.numerics.blas_threads import blas_threads, using_blas_threads
from pydnn.recipes import read_recipe, write_recipe
from pydnn.recipes.layouts import layers_of
from pydnn.runs import Run, create_run, look_into
from pydnn.runs.inspect import read_tensors, write_tensors
from pydnn.runs.replay import verify
from pydnn.sweeps.stacks import why_not_stacked

NETWORK = "serial(dense(4), batch_norm(per_shard=True), relu, dropout(keep_prob=0.8), dense(1))"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    recorded(folder / "run", small_recipe(folder, network=NETWORK, shards=3))
    return Run.open(folder / "run")


class TestRecipe:
    def test_is_written_and_read(self, tmp_path):
        recipe = small_recipe(tmp_path, shards=3)
        assert "shards = 3\n" in write_recipe(recipe)
        assert read_recipe(write_recipe(recipe)) == recipe
        assert "shards" not in write_recipe(attrs.evolve(recipe, shards=1))

    @pytest.mark.parametrize("shards", [0, -1, 1.5, True, "2"])
    def test_refuses_what_is_no_number_of_shards(self, tmp_path, shards):
        with pytest.raises(nn.BadInput, match=r"^shards is"):
            small_recipe(tmp_path, shards=shards)


class TestPrepare:
    def refusal(self, folder, **changes):
        with pytest.raises(nn.BadInput) as refused:
            prepare(small_recipe(folder, **{"network": NETWORK, **changes}), small_data())
        return str(refused.value)

    def test_refuses_more_shards_than_examples_in_the_last_batch(self, tmp_path):
        # 40 examples in batches of 16 leave one of 8.
        message = self.refusal(tmp_path, network="dense(1)", shards=9)
        assert "shards are 9, but batches of 16 leave a batch of 8 of 40" in message
        for changes in (
            {"shards": 8},
            {"shards": 9, "batches": "mini_batches(16, keep_last=False)"},
        ):
            prepare(small_recipe(tmp_path, network="dense(1)", **changes), small_data())

    def test_refuses_more_shards_than_examples_in_all_batches(self, tmp_path):
        message = self.refusal(tmp_path, network="dense(1)", batches="full_batch", shards=41)
        assert "shards are 41, but each batch has only 40 of 40 training examples" in message
        assert "keep_last" not in message

    def test_refuses_shards_of_one_example_where_a_stage_mixes_examples(self, tmp_path):
        message = self.refusal(tmp_path, shards=5)
        assert "5 shards of a batch of 8 examples leave 1 in a shard, but batch_norm" in message

    def test_refuses_stages_by_name(self, tmp_path):
        network = "serial(dense(4), batch_norm, dense(1))"
        assert "batch_norm mixes all examples" in self.refusal(tmp_path, network=network, shards=2)


def test_a_rotated_job_works_with_shards():
    data = nn.Batch(nn.Key(1).normal((300, 20)), (nn.Key(2).uniform((1, 20)) < 0.5).astype(float))
    recipe = nn.Recipe(
        data="noise",
        network="serial(dense(4), tanh, dense(1))",
        loss="sigmoid_cross_entropy()",
        optimizer="gradient_descent(learning_rate=0.1)",
        iterations=5,
        rotate=True,
        shards=3,
    )
    job = prepare(recipe, data)
    assert job.train_step.rotated
    trained = nn.train(recipe, data)
    plain = nn.train(attrs.evolve(recipe, rotate=False, shards=1), data)
    assert np.abs(trained.model.predict(data.X) - plain.model.predict(data.X)).max() < 1e-12

    def own(step):
        return step

    with pytest.raises(nn.BadInput, match="part 'own' does not say that it treats all directions"):
        job.train_step.insert_after("backward", own)


def test_a_step_needs_the_activations_of_one_shard(tmp_path):
    recipe = small_recipe(tmp_path)
    layers, layout = layers_of(recipe, (5,))
    whole = bytes_of(recipe, layers, layout, shape=(5,), examples=40)
    parts = bytes_of(attrs.evolve(recipe, shards=2), layers, layout, shape=(5,), examples=40)
    assert whole["activations, batch of 14"] == 2 * parts["activations, shard of 7"]
    assert parts["gradients"] == 3 * whole["gradients"]


def test_a_run_can_be_replayed_and_resumed(tmp_path, run):
    assert not any(verified.mismatch for verified in verify(run))
    recorded(tmp_path / "run", run.recipe, steps=6)
    last = resumed(tmp_path / "run")
    assert last.parameters.vector.tobytes() == run.state(12).parameters.vector.tobytes()


class TestInspect:
    def test_shows_each_shard_and_their_sum(self, run):
        step, tensors = look_into(run, 5)
        named = {str(tensor): tensor.array for tensor in tensors}
        total = named["gradients, layer 0, gradient of W"]
        parts = [named[f"shard {s}, backward, layer 0 (dense), dW"] for s in range(3)]
        assert total.tobytes() == ((parts[0] + parts[1]) + parts[2]).tobytes()
        assert len(step.shards) == 3
        assert len(tensors) == len({tensor.place for tensor in tensors})

    def test_tensors_are_read_as_they_were_written(self, tmp_path, run):
        _, tensors = look_into(run, 2)
        write_tensors(tmp_path / "tensors.h5", tensors)
        again = read_tensors(tmp_path / "tensors.h5")
        assert [tensor.place for tensor in again] == [tensor.place for tensor in tensors]

    @pytest.mark.slow
    def test_on_the_command_line(self, capsys, run, tmp_path):
        command = ["inspect", str(run.path), "--step", "5", "--part", "forward"]
        assert main([*command, "--shard", "1"]) == 0
        assert "shard 1: forward  0      dense" in capsys.readouterr().out
        assert main([*command, "--shard", "1", "--json"]) == 0
        assert {t["shard"] for t in json.loads(capsys.readouterr().out)["tensors"]} == {1}
        assert main([*command, "--shard", "3"]) == 2
        assert "--shard is 3, expected at most 2" in capsys.readouterr().err
        recorded(tmp_path / "whole", small_recipe(tmp_path, iterations=1))
        assert main(["inspect", str(tmp_path / "whole"), "--step", "0", "--shard", "0"]) == 2
        assert "the recipe of the run has no shards" in capsys.readouterr().err


def test_a_sweep_says_why_trainings_with_shards_are_not_stacked(tmp_path):
    recipe = small_recipe(tmp_path, network="serial(dense(3), relu, dense(1))", shards=2)
    jobs = [prepare(attrs.evolve(recipe, seed=seed), small_data()) for seed in (1, 2)]
    assert why_not_stacked(jobs) == "its batches are cut into shards"


def test_a_run_knows_the_parts_inside_its_step(tmp_path):
    @nn.part(needs=["grads"], gives=["grads"])
    def same(record):
        return record

    job = prepare(
        small_recipe(tmp_path, network="dense(1)", shards=2),
        small_data().train,
        step=lambda step: step.insert_after("backward", same),
    )
    with create_run(tmp_path / "run", job, small_data()):
        pass
    with pytest.raises(nn.BadInput, match="cost, backward, same"):
        Run.open(tmp_path / "run").expect_own_step()


@pytest.mark.slow
@pytest.mark.skipif(blas_threads() is None, reason="the threads of this BLAS cannot be changed")
def test_a_run_can_be_resumed_with_another_number_of_blas_threads(tmp_path):
    recipe = small_recipe(tmp_path, network=NETWORK, shards=3)
    last = []
    for name, first, then in (("a", 1, 2), ("b", 2, 1)):
        with using_blas_threads(first):
            recorded(tmp_path / name, recipe, steps=6)
        with using_blas_threads(then):
            last.append(resumed(tmp_path / name).parameters.vector.tobytes())
            assert not any(one.mismatch for one in verify(Run.open(tmp_path / name)))
    assert last[0] == last[1]
