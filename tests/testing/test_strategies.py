import numpy as np
import pytest
from helpers import example_count
from hypothesis import find, given
from hypothesis import strategies as st

from pydnn import BadInput, Context, Key, describe, losses
from pydnn.parameters import pack
from pydnn.testing import assert_stage, strategies


@pytest.mark.slow
@example_count(20)
@given(strategies.networks(depth=2), st.integers(2, 4))
def test_networks_keep_the_laws_of_stages(network, examples):
    assert network.init(Key(1), (2,))[1] == (1,)
    assert_stage(network, shape_in=(2,), examples=examples)


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 2)], ids=str)
def test_networks_of_sequences_and_images_give_the_shape_that_they_promise(shape):
    @example_count(24)
    @given(
        strategies.networks(axes=len(shape), n_out=2, depth=2),
        strategies.batches(shape=shape, unequal=len(shape) == 2),
    )
    def give(network, batch):
        params, shape_out = network.init(Key(1), shape)
        A, _ = network.forward(params, batch.X, Context(training=True, key=Key(2)))
        assert A.shape == (*shape_out, batch.X.shape[-1]) == (*shape[:-1], 2, batch.X.shape[-1])
        if len(shape) == 2:
            assert ((batch.lengths >= 1) & (batch.lengths <= shape[0])).all()

    give()


@given(strategies.networks().flatmap(lambda n: strategies.parameters(n, (2,))))
def test_parameters_are_quarters_in_one_vector(params):
    assert not params.vector.flags.writeable
    np.testing.assert_array_equal(params.vector * 4, np.round(params.vector * 4))


@pytest.mark.parametrize("task", losses.TASKS)
def test_batches_fit_the_loss_of_their_task(task):
    @example_count(30)
    @given(strategies.batches(task, weighted=True), strategies.losses(task))
    def fits(batch, loss):
        n_out = 3 if task == "many classes" else len(batch.Y)
        cost, _ = loss(np.zeros((n_out, batch.X.shape[1])), batch.Y, batch.weights)
        assert np.isfinite(cost)
        assert loss.task(n_out) == task

    fits()


@example_count(30)
@given(strategies.step_records(), strategies.step_records(after="cost"))
def test_step_records_are_filled_up_to_their_part(last, early):
    assert last.after.iteration == 1
    assert early.cost is not None
    with pytest.raises(BadInput, match=r"step.grads is not filled yet: put this part after 'back"):
        _ = early.grads


@given(st.data())
def test_gradients_have_the_layout_of_parameters(data):
    params = pack(data.draw(strategies.networks()).init(Key(1), (2,))[0])
    assert data.draw(strategies.gradients(params)).shape == params.vector.shape


@pytest.mark.slow  # since it finds the simplest of hundreds of networks
def test_failing_networks_shrink_to_simple_ones():
    network = find(strategies.networks(), lambda n: len(n.parts) >= 2)
    assert describe(network) == {"serial": {"stages": [
        {"dense": {"units": 1}}, {"dense": {"units": 1}},
    ]}}  # fmt: skip


def test_failing_batches_shrink_to_simple_ones():
    batch = find(strategies.batches(), lambda b: b.X.size > 0)
    np.testing.assert_array_equal(batch.X, [[0], [0]])


def test_refusals():
    with pytest.raises(
        BadInput, match="there is no task 'many class': did you mean 'many classes'"
    ):
        strategies.labels("many class", 2, 3)
