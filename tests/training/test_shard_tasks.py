"""Shards that an executor computes: the same bits as in the thread that trains."""

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pydnn as nn
from pydnn.data.stored import Stored
from pydnn.runs.state_arrays import state_fingerprint
from pydnn.storage.mapped import open_stored
from pydnn.training.shard_tasks import _run_length
from pydnn.workers import Spec, Task, serial, threads
from pydnn.workers.encoding import decoded, encoded


@pytest.mark.parametrize(
    ("shards", "workers", "length"),
    [(8, 1, 8), (8, 2, 4), (8, 3, 1), (8, 4, 2), (8, 8, 1), (8, 99, 1), (7, 2, 4), (5, 1, 8)],
)
def test_a_task_has_as_many_shards_as_leave_no_worker_idle(shards, workers, length):
    assert _run_length(shards, workers) == length


POINTS = nn.Batch(
    nn.Key(1).at("X").normal((6, 23)),
    (nn.Key(1).at("Y").uniform((1, 23)) > 0.5) * 1.0,
    nn.Key(1).at("weights").uniform((1, 23)),
)
STAGES = st.lists(
    st.sampled_from(
        [
            "dense(6)",
            "relu()",
            "dropout(keep_prob=0.7)",
            "layer_norm()",
            "batch_norm(per_shard=true)",
            "residual(dense(6), tanh())",
        ]
    ),
    max_size=3,
)
RECIPES = st.builds(
    lambda stages, **fields: nn.Recipe(
        "points",
        f"serial(dense(6), {', '.join([*stages, 'dense(1)'])})",
        "sigmoid_cross_entropy()",
        iterations=4,
        batches="mini_batches(15, keep_last=false)",
        **fields,
    ),
    STAGES,
    optimizer=st.sampled_from(["adam()", "momentum(learning_rate=0.1)"]),
    shards=st.integers(2, 7),
    dtype=st.sampled_from(["float32", "float64"]),
    numerics=st.sampled_from(["fast", "portable"]),
    standardize=st.booleans(),
    penalties=st.sampled_from([(), ("l2_penalty(strength=0.1)",)]),
)


@pytest.fixture(scope="module")
def workers():
    with threads(2) as two, threads(3) as three:
        yield [serial(), Sent(), Sent(keeps_data=True), two, three]


class Sent:
    """Encodes and decodes all tasks and results, as an executor of other processes does."""

    workers = 2

    def __init__(self, *, keeps_data=False):
        self.keeps = lambda size: keeps_data
        self._inner = serial()
        self.sent = []
        self._specs = {}

    def map(self, tasks):
        results = []
        for task in tasks:
            task.spec.expect_sendable()
            spec = self._specs.setdefault(task.spec.digest, _sent_spec(task.spec))
            self.sent.append(set(task.arguments))
            arguments = decoded(b"".join(encoded(task.arguments)))
            (result,) = self._inner.map([Task(task.name, spec, arguments)])
            results.append(decoded(b"".join(encoded(result))))
        return results


def _sent_spec(spec):
    texts = decoded(b"".join(encoded(spec.texts)))
    return Spec(**{**texts, "allow": tuple(texts["allow"])}, arrays=spec.arrays)


@given(RECIPES)
@settings(max_examples=4)
def test_no_bit_depends_on_who_computes_the_shards(workers, recipe):
    fingerprints = {
        state_fingerprint(nn.train(recipe, POINTS, executor=executor).last)
        for executor in [None, *workers]
    }
    assert len(fingerprints) == 1


RECIPE = nn.Recipe(
    "points", "serial(dense(4), relu(), dense(1))", "sigmoid_cross_entropy()", "adam()",
    iterations=3, shards=4,
)  # fmt: skip


@attrs.frozen
class Counting:
    """Counts the tasks that it receives."""

    counts: list

    workers = 2

    def keeps(self, size):
        return False

    def map(self, tasks):
        self.counts.append(len(tasks))
        return serial().map(tasks)


def test_prepare_train_and_a_step_take_an_executor():
    counts = []
    executor = Counting(counts)
    nn.train(RECIPE, POINTS, executor=executor)
    job = nn.jobs.prepare(RECIPE, POINTS, executor=executor)
    nn.train(job)
    nn.train(job, executor=executor)
    assert counts == [2] * 9
    job.train_step.computed_by(None)(job.state, POINTS)
    assert len(counts) == 9
    assert repr(job.train_step) == repr(nn.jobs.prepare(RECIPE, POINTS).train_step)


def test_several_workers_without_shards_are_refused_and_one_is_not():
    alone = attrs.evolve(RECIPE, shards=1)
    with threads(2) as two, pytest.raises(nn.BadInput, match="not cut into shards") as refused:
        nn.train(alone, POINTS, executor=two)
    assert "\n" not in str(refused.value)
    with threads(1) as one:
        nn.train(alone, POINTS, executor=one)


def test_a_changed_part_inside_is_computed_in_this_process_and_refused_by_others():
    @nn.part(needs=["grads"], gives=["grads"])
    def halve(step):
        return attrs.evolve(step, grads=step.grads.with_vector(step.grads.vector / 2))

    def change(step):
        return step.insert_after("backward", halve)

    alone, shared, other = (
        nn.jobs.prepare(RECIPE, POINTS, step=change, executor=executor)
        for executor in (None, Counting([]), Sent())
    )
    fingerprints = {state_fingerprint(nn.train(job).last) for job in (alone, shared)}
    assert len(fingerprints) == 1
    with pytest.raises(nn.BadInput, match="the part 'halve' inside gradients"):
        nn.train(other)


def test_numbers_that_are_not_finite_are_found_with_their_place():
    recipe = attrs.evolve(RECIPE, optimizer="momentum(learning_rate=1e200)", iterations=20)
    with threads(2) as executor:
        errors = [
            _error(lambda executor=executor: nn.train(recipe, POINTS, executor=executor))
            for executor in (None, executor)
        ]
    assert (errors[0].iteration, errors[0].where) == (errors[1].iteration, errors[1].where)


def _error(function):
    with pytest.raises(nn.NotFinite) as raised:
        function()
    return raised.value


def test_shards_multiply_with_one_thread_of_blas_with_and_without_an_executor():
    from pydnn.numerics.blas_threads import blas_threads, using_blas_threads

    if blas_threads() is None:
        pytest.skip("the threads of this BLAS cannot be changed")
    seen = []

    @nn.part(needs=["grads"], gives=["grads"])
    def note(step):
        seen.append(blas_threads())
        return step

    def change(step):
        return step.insert_after("backward", note)

    with using_blas_threads(2):
        for executor in (None, Counting([])):
            nn.train(nn.jobs.prepare(RECIPE, POINTS, step=change, executor=executor))
        after = blas_threads()
    assert set(seen) == {1}
    assert after == 2


@pytest.mark.parametrize("batches", ["full_batch()", "mini_batches(9, shuffle=false)"])
def test_workers_that_keep_the_data_receive_numbers_of_examples(batches):
    recipe = attrs.evolve(RECIPE, batches=batches)
    keeping, receiving = Sent(keeps_data=True), Sent()
    alone, *others = (
        nn.train(recipe, POINTS, executor=executor) for executor in (None, keeping, receiving)
    )
    assert {state_fingerprint(other.last) for other in others} == {state_fingerprint(alone.last)}
    assert all("rows" in names and "X" not in names for names in keeping.sent)
    assert all("X" in names for names in receiving.sent)


def test_a_step_gathers_no_inputs_for_workers_that_keep_the_data(monkeypatch):
    job = nn.jobs.prepare(
        attrs.evolve(RECIPE, penalties=("l2_penalty(strength=0.1)",)),
        POINTS,
        executor=Sent(keeps_data=True),
    )
    batch = next(job.batches)
    job.train_step(job.state, batch)
    assert "X" not in batch._made
    assert np.array_equal(batch.X, POINTS.X)


def test_examples_in_files_give_the_bits_of_those_in_memory(tmp_path):
    X = (nn.Key(1).uniform((40, 6)) * 255).astype(np.uint8)
    Y = (X[:, 0] > 100).astype(np.uint8)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "Y.npy", Y)
    places = (open_stored(tmp_path / name)["X"] for name in ("X.npy", "Y.npy"))
    recipe = attrs.evolve(RECIPE, batches="mini_batches(16)", standardize=True, iterations=5)
    with threads(2) as executor:
        fingerprints = {
            state_fingerprint(nn.train(recipe, data, executor=who).last)
            for data in (nn.Batch(X.T, Y[np.newaxis]), Stored(*places))
            for who in (None, executor, Sent(), Sent(keeps_data=True))
        }
    assert len(fingerprints) == 1
