"""Shards that an executor computes: the same bits as in the thread that trains."""

import os

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pydnn as nn
from pydnn.data import Table, read_table
from pydnn.data.image_folders import Pixels
from pydnn.data.stored import Stored, StoredArray
from pydnn.data.stored_tables import store_table
from pydnn.data.watching import WatchedFiles
from pydnn.runs.state_arrays import state_fingerprint
from pydnn.storage.mapped import open_stored
from pydnn.training.shard_tasks import _run_length
from pydnn.training.streams import scan
from pydnn.workers import Spec, Task, processes, serial, threads
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


# Examples in files: workers map the files themselves


def in_files(folder, m=60, *, weights=False):
    """Examples in two files."""
    X = (nn.Key(1).uniform((m, 6)) * 255).astype(np.uint8)
    np.save(folder / "X.npy", X)
    np.save(folder / "Y.npy", (X[:, 0] > 100).astype(np.uint8))
    places = (open_stored(folder / name)["X"] for name in ("X.npy", "Y.npy"))
    return Stored(*places, X[:, 1] / 7.0 if weights else None)


def table_in_a_file(folder, m=60):
    """An imported table of numbers, texts and truth values, of which some are missing."""
    numbers = nn.Key(1).at("x").normal((m,))
    columns = {
        "x": [None if i % 7 == 3 else float(x) for i, x in enumerate(numbers)],
        "city": [("Rome", "Oslo", "Bern", None)[i * i % 4] for i in range(m)],
        "old": [i % 3 == 0 for i in range(m)],
        "weight": [1.0 + i % 4 for i in range(m)],
        "y": ["yes" if x > 0 else "no" for x in numbers],
    }
    store_table(folder / "table.h5", [Table.of(columns)])
    return read_table(folder / "table.h5", mapped=True).examples("y", weights="weight")


def sequences_in_a_file(folder):
    np.save(folder / "X.npy", (nn.Key(1).uniform((60, 5, 2)) * 255).astype(np.uint8))
    lengths = np.arange(60) % 5 + 1
    return Stored(open_stored(folder / "X.npy")["X"], lengths % 2, lengths=lengths)


IN_FILES = attrs.evolve(RECIPE, batches="mini_batches(16)", standardize=True, iterations=4)
CASES = {
    "arrays": (in_files, {}),
    "weights": (lambda folder: in_files(folder, weights=True), {"validation": 0.2}),
    "classes": (in_files, {"class_weights": "balanced", "dtype": "float32"}),
    "pixels": (lambda folder: in_files(folder).then(Pixels()), {"fold": (1, 3)}),
    "in order": (in_files, {"batches": "mini_batches(16, shuffle=False)"}),
    "a table": (table_in_a_file, {"validation": 0.2, "class_weights": "balanced"}),
    "a table at once": (table_in_a_file, {"batches": "full_batch()"}),
    "sequences": (
        sequences_in_a_file,
        {"network": "serial(gru(3, output='last'), dense(1))", "class_weights": (1.0, 3.0)},
    ),
}


@pytest.mark.parametrize(("made", "changes"), CASES.values(), ids=CASES)
def test_workers_map_files_themselves_and_receive_numbers_of_examples(made, changes, tmp_path):
    recipe, data = attrs.evolve(IN_FILES, **changes), made(tmp_path)
    keeping = Sent(keeps_data=True)
    fingerprints = {
        state_fingerprint(nn.train(recipe, data, executor=who).last)
        for who in (None, Sent(), keeping)
    }
    assert len(fingerprints) == 1
    assert all("rows" in names and "X" not in names for names in keeping.sent)


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


def test_no_inputs_are_gathered_here_when_workers_map_the_file(tmp_path):
    job = nn.jobs.prepare(IN_FILES, in_files(tmp_path), executor=Sent(keeps_data=True))
    batch = next(job.batches)
    job.train_step(job.state, batch)
    assert set(batch._made) == {"Y", "weights", "lengths"}
    expected = job.batching.at(job.data["train"], job.state.key, 0)
    assert np.array_equal(batch.X, expected.X)
    part = batch.take(slice(2, 5))
    assert (part.count, part.shape, part.label_shape) == (3, (6,), (1,))
    assert np.array_equal(part.X, expected.X[:, 2:5])
    assert np.array_equal(batch.take(np.array([3, 0])).Y, expected.Y[:, [3, 0]])


class Elsewhere(Sent):
    """Workers at which the data is in another place."""

    def __init__(self, path):
        super().__init__(keeps_data=True)
        self.path = path

    def map(self, tasks):
        there = str(self.path)
        for task in tasks:
            if "data" in task.spec.facts:
                task.spec.facts["data"]["train"]["X"]["path"] = there
                task.spec.__dict__.pop("digest", None)
        return super().map(tasks)


@pytest.mark.parametrize("other", ["missing", "shorter", "other numbers"])
def test_a_worker_without_the_file_is_named_and_receives_examples(other, tmp_path):
    data, there = in_files(tmp_path), tmp_path / "there.npy"
    if other == "shorter":
        there.write_bytes((tmp_path / "X.npy").read_bytes()[:-1])
    if other == "other numbers":
        np.save(there, 1 ^ np.load(tmp_path / "X.npy"))
    executor = Elsewhere(there)
    with pytest.warns(
        UserWarning, match=r"examples are sent with every step: .*there\.npy"
    ) as warned:
        trained = nn.train(IN_FILES, data, executor=executor)
    assert len(warned) == 1
    assert "\n" not in str(warned[0].message)
    assert state_fingerprint(trained.last) == state_fingerprint(nn.train(IN_FILES, data).last)
    assert all("X" in names for names in executor.sent[1:])


def test_a_file_that_changes_at_a_worker_is_named_and_no_longer_read_there(tmp_path, monkeypatch):
    # Here the worker shares the file with this process, which would end the training.
    monkeypatch.setattr(WatchedFiles, "expect_unchanged", lambda files: None)
    data = in_files(tmp_path)
    steps, executor = [], Sent(keeps_data=True)

    def through(stream):
        for pair in stream:
            steps.append(pair)
            if len(steps) == 2:
                os.utime(tmp_path / "X.npy", ns=(5, 5))
            yield pair

    with pytest.warns(UserWarning, match=r"every step: .*X\.npy has changed since"):
        trained = nn.train(IN_FILES, data, executor=executor, through=through)
    assert state_fingerprint(trained.last) == state_fingerprint(nn.train(IN_FILES, data).last)
    assert {"rows" in names for names in executor.sent} == {True, False}


def test_functions_that_workers_do_not_have_let_examples_be_sent(tmp_path):
    data = in_files(tmp_path).then(lambda batch: attrs.evolve(batch, X=batch.X / 2))
    executor = Sent(keeps_data=True)
    trained = nn.train(IN_FILES, data, executor=executor)
    assert state_fingerprint(trained.last) == state_fingerprint(nn.train(IN_FILES, data).last)
    assert all("X" in names for names in executor.sent)


@pytest.mark.slow
def test_a_process_maps_a_file_itself(tmp_path):
    recipe, data = attrs.evolve(IN_FILES, batches="mini_batches(200)"), in_files(tmp_path, 400)
    with processes(1) as executor:
        trained = nn.train(recipe, data, executor=executor)
        assert executor._arena.segment is None  # which examples would need
    assert state_fingerprint(trained.last) == state_fingerprint(nn.train(recipe, data).last)


@pytest.mark.slow
@pytest.mark.parametrize("made", [lambda folder: in_files(folder, 30_000), table_in_a_file])
def test_processes_map_files_and_this_one_gathers_no_inputs(made, tmp_path, monkeypatch):
    data = made(tmp_path)
    recipe = attrs.evolve(IN_FILES, iterations=20, validation=0.1)
    alone = state_fingerprint(nn.train(recipe, data).last)
    job = nn.jobs.prepare(recipe, data)
    gathered = []
    take = StoredArray.take

    def counted(array, which):
        rows = take(array, which)
        gathered.append((array.path.name, rows.size))
        return rows

    monkeypatch.setattr(StoredArray, "take", counted)
    with processes(2) as executor:
        job = job.computed_by(executor)
        *_, (last, _) = scan(job.train_step, job.state, job.batches)
    assert state_fingerprint(last) == alone
    assert sum(size for name, size in gathered if name == "X.npy") <= 12  # two, for shapes


@pytest.mark.slow
def test_this_process_holds_no_examples_of_a_large_file(tmp_path):
    import tracemalloc

    with (tmp_path / "X.bin").open("wb") as file:
        file.truncate(2048 * 20_000)  # sparse
    X = StoredArray(tmp_path / "X.bin", 0, (2048, 20_000), np.uint8)
    data = Stored(X, np.arange(2048) % 2)
    recipe = attrs.evolve(
        RECIPE, network="serial(dense(1))", batches="mini_batches(1024)", iterations=4
    )
    job = nn.jobs.prepare(recipe, data)
    with processes(2) as executor:
        job = job.computed_by(executor)
        tracemalloc.start()
        try:
            for _ in scan(job.train_step, job.state, job.batches):
                pass
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 40_000_000  # a batch has 164 MB
