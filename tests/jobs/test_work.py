import attrs
import pytest

import pydnn as nn
from pydnn.jobs.work import work_of_update

RECIPE = nn.Recipe("x", "serial(dense(2), relu)", "mean_squared()", "adam()", 3)


@pytest.mark.parametrize(
    ("changes", "shape", "examples", "expected"),
    [
        ({}, (4,), 5, 10 + (2 + 2) * 5),
        ({"batches": "mini_batches(2)"}, (4,), 5, 10 + (2 + 2) * 2),
        ({"network": "conv(3, 3)"}, (6, 5, 2), 7, 3 * 3 * 2 * 3 + 3 + 4 * 3 * 3 * 7),
        ({"numerics": "portable"}, (4,), 5, 200_000 + 30),
    ],
    ids=["all examples at once", "batches", "images", "exact"],
)
def test_an_update_computes_parameters_and_the_outputs_for_a_batch(
    changes, shape, examples, expected
):
    assert work_of_update(attrs.evolve(RECIPE, **changes), shape, examples) == expected


def test_the_work_of_a_job_is_that_of_the_updates_that_are_left():
    job = nn.jobs.job.prepare(RECIPE, nn.Batch(nn.Key(1).normal((4, 5)), nn.Key(2).normal((2, 5))))
    assert (job.work_of(2), job.work) == (60, 90)


def test_a_network_that_does_not_fit_the_examples_is_refused():
    with pytest.raises(nn.BadInput, match="expected"):
        work_of_update(attrs.evolve(RECIPE, network="conv(3, 3)"), (4,), 5)
