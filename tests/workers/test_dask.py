"""The executor on a cluster of Dask: what crosses the wire, and what the user learns."""

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import attrs
import numpy as np
import pytest
import toolz
from small_runs import small_data

import pydnn as nn
from pydnn import BadInput
from pydnn.checks import MissingExtra
from pydnn.data.stored import Stored
from pydnn.jobs.job import prepare, run
from pydnn.numerics.blas_threads import blas_threads
from pydnn.runs import record, resume_run
from pydnn.runs.state_arrays import state_fingerprint
from pydnn.storage.mapped import open_stored
from pydnn.training.selected import Selected
from pydnn.workers import Spec, Task, dask, sent_data, threads
from pydnn.workers.encoding import decoded
from pydnn.workers.joining import own_report
from pydnn.workers.tasks import Kind

module = sys.modules["pydnn.workers.dask"]  # the package has a function of this name
X = np.arange(12.0).reshape(3, 4)
SPEC = Spec(facts={"a": 1}, arrays={"X": X})


def received(pieces):
    """What arrives on the other side, where every piece is a memory of its own."""
    return [memoryview(bytearray(piece)) for piece in pieces]


def asked(keeper, tasks, specs=()):
    result = keeper.work(*received(send(tasks, specs)))
    answer = decoded(module._joined(received([result] if isinstance(result, bytes) else result)))
    return module._mappings_in(answer) if "mappings" in answer else answer


def send(tasks, specs=()):
    return module._message_of(tasks, specs)


def test_a_keeper_answers_tasks_once_it_has_their_spec():
    keeper = module.Keeper()
    tasks = [Task("echo", SPEC, {"n": n, "X": X.T, "none": None}) for n in range(3)]
    assert asked(keeper, tasks) == {"unknown": SPEC.digest}
    for specs in ([SPEC], []):
        results = asked(keeper, tasks, specs)
        assert [result["n"] for result in results] == [0, 1, 2]
        for result in results:
            assert list(result) == ["n", "X", "none"]
            assert result["X"].tobytes("A") == X.T.tobytes("A")
            assert result["X"].flags.f_contiguous
            assert not result["X"].flags.writeable


def test_a_keeper_forgets_all_but_the_latest_specs():
    keeper = module.Keeper()
    specs = [Spec(facts={"n": n}) for n in range(5)]
    for spec in specs:
        asked(keeper, [Task("echo", spec)], [spec])
    assert "unknown" in asked(keeper, [Task("echo", specs[0])])
    assert asked(keeper, [Task("echo", specs[1])]) == [{}]


def test_a_keeper_prepares_a_spec_with_its_arrays_once(monkeypatch):
    prepared = []
    kind = Kind(lambda spec: prepared.append(spec) or len(prepared), lambda n, _: {"n": n})
    monkeypatch.setattr("pydnn.workers.tasks.ECHO", kind)
    keeper = module.Keeper()
    for specs in ([SPEC], [], []):
        assert asked(keeper, [Task("echo", SPEC)], specs) == [{"n": 1}]
    (spec,) = prepared
    assert (spec.texts, spec.digest) == (SPEC.texts, SPEC.digest)
    assert spec.arrays["X"].tolist() == X.tolist()


def test_an_array_that_tasks_share_crosses_once():
    large = np.zeros(1000)
    sizes = [
        sum(len(piece) for piece in send([Task("echo", SPEC, {"p": large})] * count))
        for count in (1, 8)
    ]
    assert sizes[1] - sizes[0] < 1000


def test_arrays_lie_in_memory_as_those_that_numpy_makes():
    """NumPy computes products of arrays at odd addresses in another way."""
    arrays = {"a": np.zeros(3, np.float32), "b": np.zeros(5), "c": np.zeros(1)}
    for results in range(3):
        message = send([Task("echo", SPEC, {"n": "x" * results, **arrays})])
        values = decoded(module._joined(received(message)))
        places = [v.ctypes.data % 16 for v in values.values() if isinstance(v, np.ndarray)]
        assert places == [0, 0, 0]


def test_errors_cross_as_plain_text(monkeypatch):
    keeper = module.Keeper()
    answer = asked(keeper, [Task("echo", SPEC)], [SPEC])
    assert answer == [{}]
    for error in (BadInput("size is 0."), ZeroDivisionError("by zero"), SystemExit(3)):

        def fail(prepared, arguments, error=error):
            raise error

        monkeypatch.setattr("pydnn.workers.tasks.ECHO", Kind(lambda spec: None, fail))
        answer = asked(keeper, [Task("echo", SPEC)])
        assert answer["error"] == {"class": type(error).__name__, "line": str(error)}
        assert not answer["about files"]


def test_a_keeper_uses_as_many_threads_of_blas_as_the_program(monkeypatch):
    used = []
    kind = Kind(lambda spec: None, lambda prepared, arguments: used.append(blas_threads()) or {})
    monkeypatch.setattr("pydnn.workers.tasks.ECHO", kind)
    monkeypatch.setattr(module, "blas_threads", lambda: 2)
    asked(module.Keeper(), [Task("echo", SPEC)], [SPEC])
    assert used in ([2], [None])


def test_parts_without_descriptions_do_not_leave_this_process():
    with pytest.raises(BadInput, match="no descriptions"):
        send([], [Spec(live=object())])


@pytest.mark.parametrize(
    "cluster",
    ["127.0.0.1:8786", "http://a:1", "tcp://a", "tcp://a:1/x", "local:", "local:-1", "", 3, None],
)
def test_what_is_no_cluster_is_refused(cluster):
    with pytest.raises(BadInput, match=r"the cluster is .*expected tcp://HOST:PORT"):
        dask(cluster)


@pytest.mark.parametrize("count", [0, 257, 9999])
def test_a_wrong_number_of_processes_is_refused(count):
    with pytest.raises(BadInput, match=f"local:{count}, expected 1 to 256"):
        dask(f"local:{count}")


def test_a_wrong_time_is_refused():
    with pytest.raises(BadInput, match="patience"):
        dask("local:1", patience=0)


def test_without_dask_one_line_says_what_to_install(monkeypatch):
    for name in ("dask", "distributed"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"of Dask needs distributed.*pip install 'distributed"):
        dask("local:1")


@pytest.fixture
def client():
    """A cluster in this process, which is quick to start."""
    distributed = pytest.importorskip("distributed", reason="needs the extra dask")
    options = {"dashboard_address": None, "threads_per_worker": 1}
    with distributed.Client(processes=False, n_workers=2, **options) as client:
        yield client


def test_tasks_go_to_the_workers_of_a_client_which_stays_open(client, monkeypatch):
    tasks = [Task("echo", SPEC, {"n": n, "X": X + n}) for n in range(5)]
    with dask(client) as executor:
        assert executor.workers == 2
        results = executor.map(tasks)
        assert [(r["n"], r["X"][0, 0]) for r in results] == [(n, n) for n in range(5)]
        assert executor.map([]) == []
        assert sorted((k, r["n"]) for k, r in executor.each(tasks)) == [(n, n) for n in range(5)]
        with pytest.raises(BadInput, match="there is no task"):
            executor.map([*tasks, Task("ecko", SPEC)])
        with pytest.raises(BadInput, match="there is no task"):
            list(executor.each([*tasks, Task("ecko", SPEC)]))
        started = executor.each(tasks)
        next(started)
        started.close()
    with pytest.raises(BadInput, match="closed"):
        executor.map(tasks)
    assert client.submit(sum, [1, 2]).result() == 3


def test_only_tasks_like_quick_ones_keep_a_worker_from_listening(client, monkeypatch):
    threads_of = Kind(
        lambda spec: None, lambda _, n: {**n, "thread": threading.current_thread().name}
    )
    monkeypatch.setattr("pydnn.workers.tasks.ECHO", threads_of)
    tasks = [Task("echo", SPEC, {"X": np.zeros(20_000)}), Task("echo", SPEC, {"X": X})]
    names = []
    with dask(client) as executor:
        for seconds in (1e9, 0.0, 0.0):
            monkeypatch.setattr(module, "_QUICK", seconds)
            names.append({result["thread"] for result in executor.map(tasks)})
            assert [*executor.map(tasks[:1])[0]] == ["X", "thread"]
        monkeypatch.setattr(module, "_QUICK", 1e9)
        executor.map(tasks)
        names.append({result["thread"] for _, result in executor.each(tasks)})
    apart = [all("Actor" in name for name in some) for some in names]
    assert apart == [True, False, True, True]


def test_short_messages_cross_as_one_piece():
    for size, count in ((10, 1), (30_000, 3)):
        tasks = [Task("echo", SPEC, {"a": np.ones(size), "b": np.zeros(1)})]
        packed = module._packed(send(tasks))
        assert isinstance(packed, bytes) == (count == 1)
        assert b"".join([packed] if count == 1 else packed) == b"".join(send(tasks))


def test_a_worker_that_does_not_see_a_file_is_named(client, monkeypatch, tmp_path):
    missing = tmp_path / "there.npy"

    def opened(spec):
        try:
            return missing.read_bytes()
        except OSError as error:
            raise BadInput(f"{missing.name} cannot be read.") from error

    kind = Kind(opened, lambda prepared, arguments: {})
    monkeypatch.setattr("pydnn.workers.tasks.ECHO", kind)
    line = r"worker \S+: there\.npy cannot be read.*under the same path"
    with dask(client) as executor, pytest.raises(BadInput, match=line):
        executor.map([Task("echo", SPEC)])


def mapped(folder, m=200):
    """Examples in a file."""
    np.save(folder / "X.npy", (nn.Key(1).uniform((m, 6)) * 255).astype(np.uint8))
    return Stored(open_stored(folder / "X.npy")["X"], np.arange(m) % 2)


def test_a_worker_that_does_not_see_mapped_data_is_named_and_receives_examples(
    client, monkeypatch, tmp_path
):
    data, recipe = mapped(tmp_path), attrs.evolve(RECIPE, iterations=3)
    alone = state_fingerprint(nn.train(recipe, data).last)
    placed = sent_data._place_of

    def elsewhere(array):
        return placed(array) | {"path": str(tmp_path / "elsewhere.npy")}

    monkeypatch.setattr(sent_data, "_place_of", elsewhere)
    line = r"every step: worker \S+: \S+elsewhere\.npy does not exist here"
    with dask(client) as executor, pytest.warns(UserWarning, match=line) as warned:
        trained = nn.train(recipe, data, executor=executor)
    assert len(warned) == 1
    assert state_fingerprint(trained.last) == alone


def test_a_worker_whose_mapped_file_changes_is_named_and_receives_examples(client, tmp_path):
    data, recipe = mapped(tmp_path), attrs.evolve(RECIPE, iterations=3)
    alone = state_fingerprint(nn.train(recipe, data).last)
    with dask(client) as executor:
        assert state_fingerprint(nn.train(recipe, data, executor=executor).last) == alone
        job = nn.jobs.prepare(recipe, data, executor=executor)
        batch = job.batching.at(Selected.of(job.data["train"]), job.state.key, 0)
        before = job.train_step(job.state, batch)
        os.utime(tmp_path / "X.npy", ns=(5, 5))
        line = r"every step: worker \S+: \S+X\.npy has changed"
        with pytest.warns(UserWarning, match=line) as warned:
            after = job.train_step(job.state, batch)
    assert len(warned) == 1
    assert state_fingerprint(before[0]) == state_fingerprint(after[0])


def test_workers_with_other_bits_compute_only_what_is_portable(client, monkeypatch):
    other = attrs.evolve(own_report(), versions=own_report().versions | {"numpy": "1.0"})
    monkeypatch.setattr(module, "own_report", lambda: other)
    with pytest.warns(UserWarning, match=r"has numpy 1\.0, expected"):
        executor = dask(client)
    with executor:
        with pytest.raises(BadInput, match=r"has numpy 1\.0, expected"):
            executor.map([Task("echo", SPEC)])
        portable = attrs.evolve(SPEC, portable=True)
        assert executor.map([Task("echo", portable, {"n": 1})]) == [{"n": 1}]


RECIPE = nn.Recipe(
    "points",
    "serial(dense(5), dropout(keep_prob=0.8), tanh(), dense(1))",
    "sigmoid_cross_entropy()",
    "adam()",
    iterations=40,
    batches="mini_batches(20)",
    shards=4,
)
POINTS = nn.Batch(
    nn.Key(1).at("X").normal((6, 50)), (nn.Key(1).at("Y").uniform((1, 50)) > 0.5) * 1.0
)


@pytest.fixture(scope="module")
def serially():
    return state_fingerprint(nn.train(RECIPE, POINTS).last)


@pytest.fixture
def cluster():
    """A cluster of processes on this machine, and a client of it."""
    distributed = pytest.importorskip("distributed", reason="needs the extra dask")
    options = {"dashboard_address": None, "threads_per_worker": 1, "host": "127.0.0.1"}
    with (
        distributed.LocalCluster(
            n_workers=1, memory_limit=None, silence_logs=logging.CRITICAL, **options
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield cluster, client


def wait_for(condition, seconds=60):
    for _ in range(int(seconds / 0.01)):
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
def test_one_recipe_has_the_same_bits_on_1_2_and_3_workers_and_on_one_that_joins(cluster, serially):
    cluster, client = cluster
    with dask(client) as executor:
        for workers in (1, 2, 3):
            cluster.scale(workers)
            assert wait_for(lambda workers=workers: executor.workers == workers)
            trained = nn.train(RECIPE, POINTS, executor=executor)
            assert state_fingerprint(trained.last) == serially
        cluster.scale(1)
        assert wait_for(lambda: executor.workers == 1)

        def adding(stream):
            for state, info in stream:
                if state.iteration == 10:
                    cluster.scale(2)
                    assert wait_for(lambda: executor.workers == 2)
                yield state, info

        trained = nn.train(RECIPE, POINTS, executor=executor, through=adding)
        assert state_fingerprint(trained.last) == serially
        assert all(member.specs for member in executor._members.values())  # both had tasks


@pytest.mark.slow
def test_workers_of_a_cluster_map_files_themselves(tmp_path):
    pytest.importorskip("distributed", reason="needs the extra dask")
    data = mapped(tmp_path, 5_000)
    recipe = attrs.evolve(RECIPE, batches="mini_batches(400)", standardize=True, iterations=20)
    alone = state_fingerprint(nn.train(recipe, data).last)
    with dask("local:2") as executor:
        assert state_fingerprint(nn.train(recipe, data, executor=executor).last) == alone


@pytest.mark.slow
def test_one_recipe_has_the_same_bits_with_workers_killed_at_random_moments(serially):
    pytest.importorskip("distributed", reason="needs the extra dask")
    killed = []

    def kill():
        process = random.choice(executor._cluster._children).process
        process.kill()
        killed.append(process.pid)

    def killing(stream):
        moments = sorted(random.sample(range(RECIPE.iterations), 5))
        for state, info in stream:
            if moments and state.iteration > moments[0]:
                moments.pop(0)
                assert wait_for(lambda: executor.workers == 2)
                timer = threading.Timer(random.uniform(0, 0.01), kill)
                timer.start()
                yield state, info
                timer.join()
            else:
                yield state, info

    with dask("local:2") as executor:
        trained = nn.train(RECIPE, POINTS, executor=executor, through=killing)
    assert state_fingerprint(trained.last) == serially
    assert len(killed) == 5


KILLED = """
import os, signal, sys
from pathlib import Path
from pydnn.jobs.job import prepare, run
from pydnn.runs import create_run, record
from pydnn.workers import dask
from small_runs import small_data, small_recipe

folder, run_folder = map(Path, sys.argv[1:])
recipe = small_recipe(folder, shards=2, network="serial(dense(4), relu(), dense(1))")
with dask("local:2") as executor:  # which imports this script nowhere else, so it needs no guard
    job = prepare(recipe, small_data().train, executor=executor)
    with create_run(run_folder, job, small_data()) as recording:
        for state, info in record(recording, run(job), every=4):
            if state.iteration == 7:
                print(*executor._client.run(os.getpid).values(), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_client_leaves_no_worker_and_its_run_goes_on_with_another_executor(tmp_path):
    pytest.importorskip("distributed", reason="needs the extra dask")
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    tests = Path(__file__).parents[1]
    killed = subprocess.run(
        [sys.executable, script, tmp_path, tmp_path / "run"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    pids = [int(pid) for pid in killed.stdout.split()]
    assert len(pids) == 2
    assert wait_for(lambda: not any(map(is_alive, pids)))
    with threads(2) as executor, resume_run(tmp_path / "run") as resumption:
        job = resumption.job
        assert job.state.iteration == 4
        job = attrs.evolve(job, train_step=job.train_step.computed_by(executor))
        state, _ = toolz.last(record(resumption.recording, run(job), every=4))
    alone = prepare(job.recipe, small_data().train)
    assert state_fingerprint(state) == state_fingerprint(toolz.last(run(alone))[0])


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


QUIET = """
from pydnn.workers import Spec, Task, dask
executor = dask("local:2")
print(executor.map([Task("echo", Spec(), {{"n": 1}})]))
{}
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["executor.close()", "executor = None"])
def test_a_cluster_on_this_machine_ends_without_a_word(end):
    pytest.importorskip("distributed", reason="needs the extra dask")
    command = [sys.executable, "-W", "error", "-c", QUIET.format(end)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[{'n': 1}]\n", "")
