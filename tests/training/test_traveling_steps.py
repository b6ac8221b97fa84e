"""Steps, states, batches, jobs and models in pickles, copies and other processes."""

import copy
import functools
import multiprocessing
import pickle

import attrs
import numpy as np
import pytest
import toolz

from pydnn import (
    BadInput,
    Batch,
    Key,
    adam,
    batch_norm,
    dense,
    dropout,
    fast,
    initial_state,
    l2_penalty,
    make_train_step,
    portable,
    relu,
    serial,
    sigmoid_cross_entropy,
    watch_finite,
)
from pydnn.jobs.job import prepare, run
from pydnn.recipes import Recipe
from pydnn.training import Part, TrainStep, part, trace

NETWORK = serial(dense(3), batch_norm(), relu(), dropout(keep_prob=0.5), dense(1))
LOSS, OPTIMIZER = sigmoid_cross_entropy(), adam()
BATCH = Batch(np.arange(12.0).reshape(4, 3), np.array([[0.0, 1.0, 1.0]]))
START = initial_state(NETWORK, OPTIMIZER, (4,), key=Key(1))
STEP = make_train_step(NETWORK, LOSS, OPTIMIZER, penalties=[l2_penalty(0.1)])


@part(needs=["grads"], gives=["grads"])
def halve(step):
    return attrs.evolve(step, grads=step.grads.with_vector(step.grads.vector / 2))


def same(step):
    return step


STEPS = {
    "as it was made": STEP,
    "with a watch": STEP.insert_after("update", watch_finite(NETWORK)),
    "with a declared part": STEP.insert_after("backward", halve),
    "with a function": STEP.insert_after("backward", same).without("penalties"),
    "with a partial": STEP.insert_after("backward", Part("again", functools.partial(same))),
    "portable": make_train_step(NETWORK, LOSS, OPTIMIZER, numerics=portable),
}


def there(value):
    return pickle.loads(pickle.dumps(value))


def test_a_step_prints_the_names_of_its_parts_in_order():
    assert repr(STEP) == "TrainStep(forward, cost, backward, penalties, gather, update)"


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_step_does_the_same_after_pickling(step):
    again = there(step)
    assert again.names == step.names
    assert [(p.needs, p.gives, p.trusted) for p in again.parts] == [
        (p.needs, p.gives, p.trusted) for p in step.parts
    ]
    (here, info), (other, other_info) = step(START, BATCH), again(there(START), there(BATCH))
    assert here.parameters.vector.tobytes() == other.parameters.vector.tobytes()
    assert (info, here) == (other_info, other)


def wrapped(step_function):
    @functools.wraps(step_function)
    def inner(step):
        return step_function(step)

    return inner


NOT_PICKLED = {
    "a lambda": lambda step: step.insert_after("backward", Part("mine", lambda s: s)),
    "a wrapper": lambda step: step.replace("cost", wrapped(step.parts[1].function)),
}


@pytest.mark.parametrize("change", NOT_PICKLED.values(), ids=NOT_PICKLED)
def test_a_step_with_a_function_that_has_no_name_is_refused_by_pickle(change):
    with pytest.raises(BadInput, match=r"cannot be pickled, because its function .* is inside"):
        pickle.dumps(change(STEP))


def test_a_step_of_a_network_that_no_builder_made_is_refused_by_pickle():
    network = attrs.evolve(NETWORK)
    with pytest.raises(BadInput, match="cannot be pickled, since it was not made by a builder"):
        pickle.dumps(make_train_step(network, LOSS, OPTIMIZER))


def test_a_step_is_its_own_copy():
    step = NOT_PICKLED["a lambda"](STEP)
    assert copy.copy(step) is step
    assert copy.deepcopy(step) is step


@pytest.mark.parametrize("way", [there, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deep"])
def test_states_batches_and_records_of_a_step_stay_read_only(way):
    after, _ = STEP(START, BATCH)
    record = toolz.last(trace(STEP, START, BATCH))[1]
    for value in (START, after, BATCH, record.after):
        assert way(value) == value
    arrays = [way(after).parameters.vector, way(BATCH).X, way(after).statistics.vector]
    arrays += [moment for moment in way(after).optimizer_state if isinstance(moment, np.ndarray)]
    assert not any(array.flags.writeable for array in arrays)


@pytest.mark.parametrize("numerics", [fast, portable])
def test_an_arithmetic_is_found_by_its_name(numerics):
    assert there(numerics) is numerics
    assert copy.deepcopy(numerics) is numerics
    own = attrs.evolve(numerics, name="own", log=np.log)
    # Convolutions in portable arithmetic are partial applications, which are never equal.
    assert pickle.dumps(there(own)) == pickle.dumps(own)
    assert there(own).log is np.log


def job_of(**options):
    recipe = Recipe(
        data="mine", network=NETWORK, loss=LOSS, optimizer=OPTIMIZER, iterations=3, **options
    )
    return prepare(recipe, BATCH)


@pytest.mark.parametrize(
    "options", [{}, {"standardize": True, "numerics": "portable"}, {"dtype": "float32"}]
)
def test_a_job_trains_to_the_same_bits_after_pickling(options):
    job = job_of(**options)
    for other in (there(job), copy.deepcopy(job)):
        assert isinstance(other.train_step, TrainStep)
        assert last_bits(other) == last_bits(job)


def test_a_rotated_job_stays_rotated():
    wide = Batch(np.random.default_rng(1).normal(size=(50, 3)), BATCH.Y)
    recipe = Recipe(
        data="wide",
        network=serial(dense(2), relu(), dense(1)),
        loss=LOSS,
        optimizer={"gradient_descent": {"learning_rate": 0.1}},
        iterations=3,
        rotate=True,
    )
    job = prepare(recipe, wide)
    assert there(job).train_step.rotated
    assert last_bits(there(job)) == last_bits(job)


def last_bits(job):
    return toolz.last(run(job))[0].parameters.vector.tobytes()


@pytest.mark.slow
def test_a_spawned_process_trains_a_job_of_this_one():
    job = job_of()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(last_bits, [job]) == last_bits(job)
