"""The speed of workers, and the size of a shard from which they pay."""

import math

import numpy as np
import pytest

import pydnn as nn
from pydnn.workers import Spec, Task, serial, threads
from pydnn.workers.probing import Cost, Speed, cost_of_shards, measure_speed


def test_a_shard_pays_when_the_work_it_takes_off_exceeds_the_time_on_the_wire():
    # Two workers, 0.01 s there and back, 1e6 bytes a second, 0.001 s and 100 bytes an example.
    speed = Speed(2, round_trip=0.01, bytes_per_second=1e6, operations_per_second=1e9)
    cost = Cost(seconds=0.001, parameters=1000, example=100)
    m = speed.least_shard(cost)
    assert m == pytest.approx((0.01 + 2 * 2 * 1000 / 1e6) / (0.001 - 2 * 100 / 1e6))
    on_cluster = 0.01 + m * 0.001 + 2 * (2 * 1000 + m * 100) / 1e6
    assert on_cluster == pytest.approx(2 * m * 0.001)  # what one thread takes for both shards


def test_one_worker_and_examples_that_are_larger_than_their_work_never_pay():
    cost = Cost(seconds=0.001, parameters=1000, example=100)
    assert Speed(1, 0.01, 1e6, 1e9).least_shard(cost) == math.inf
    assert Speed(2, 0.01, 1e3, 1e9).least_shard(cost) == math.inf


def test_for_dense_layers_speed_and_connection_alone_decide():
    """With many workers, a shard pays from R / B times the bytes of a number, over 3."""
    speed = Speed(1000, round_trip=0.0, bytes_per_second=1e9, operations_per_second=1e11)
    assert speed.least_shard(speed.dense(4)) == pytest.approx(4 * 1e11 / (3 * 1e9), rel=2e-3)


@pytest.mark.parametrize(("numerics", "dtype"), [("fast", "float32"), ("portable", "float64")])
def test_the_speed_of_any_executor_can_be_measured(numerics, dtype):
    with threads(2) as executor:
        speed = measure_speed(executor, numerics=numerics, dtype=dtype)
    assert speed.workers == 2
    assert all(number > 0 for number in (speed.round_trip, speed.operations_per_second))


def test_a_probe_gives_the_result_of_the_other_task_too():
    spec = Spec()
    (result,) = serial().map([Task("probe", spec, {"task": "echo", "n": 3})])
    assert result["n"] == 3
    assert result["seconds"] > 0


def test_shards_of_a_recipe_are_measured_with_its_own_examples():
    X = np.ones((6, 50), np.float32)
    recipe = nn.Recipe(
        "points", "dense(2)", "mean_squared()", "adam()", iterations=1, dtype="float32", shards=2
    )
    job = nn.jobs.prepare(recipe, nn.Batch(X, X[:2]))
    cost = cost_of_shards(job, serial())
    assert (cost.parameters, cost.example) == (4 * (6 * 2 + 2), 4 * (6 + 2))
    assert 0 < cost.seconds < 1
