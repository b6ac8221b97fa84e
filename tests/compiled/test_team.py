"""The team that does OpenBLAS's jobs: the same bits, at any moment, and no harm to anybody."""

import concurrent.futures
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import types

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

pytest.importorskip("numba", reason="the compiled engine needs numba")

from compiled.test_hazards import interrupted_after

import pydnn as nn
from pydnn.compiled import team
from pydnn.engines import using_engine
from pydnn.numerics.blas_threads import blas_libraries, blas_threads, using_blas_threads
from pydnn.processors import usable_cores

KEY = nn.Key(1)
TEAM = team._team()
pytestmark = pytest.mark.skipif(
    TEAM is None or usable_cores() < 2, reason="needs Linux, NumPy's OpenBLAS, and two cores"
)
A, B = (KEY.at(name).normal((256, 256)) for name in "AB")
with using_blas_threads(2):
    AB = A @ B


@pytest.fixture(autouse=True)
def two_threads():
    with using_blas_threads(2):
        yield
    team.rest()


def rounds():
    return TEAM._numbers("round")[0]


def with_team(function):
    """Return the result, and whether the team took part."""
    team.begin()
    before = rounds()
    try:
        return function(), rounds() > before
    finally:
        team.rest()


def works():
    product, took_part = with_team(lambda: A @ B)
    return took_part and np.array_equal(product, AB)


SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1e-45, -1e-310, 1e308, 3e38]


@given(st.data())
def test_a_product_has_the_bits_of_openblas_alone(data):
    m, n, k = (data.draw(st.integers(1, 150)) for _ in range(3))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    a, b = rng.normal(size=(m, k)), rng.normal(size=(n, k)).T
    for x in (a, b):
        for _ in range(data.draw(st.integers(0, 3))):
            x[rng.integers(x.shape[0]), rng.integers(x.shape[1])] = rng.choice(SPECIAL)
    with np.errstate(all="ignore"):
        a, b = a.astype(dtype), b.astype(dtype)
        assert with_team(lambda: a @ b)[0].tobytes() == (a @ b).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["a @ b", "a.T @ b", "a @ b.T", "a @ a.T", "v @ v[0]"])
def test_the_team_takes_part_in_large_products(dtype, order):
    names = {name: KEY.at(name).normal((513, 513)).astype(dtype) for name in "ab"}
    names["v"] = KEY.at("v").normal((1025, 1025)).astype(dtype)
    alone = eval(order, names)
    product, took_part = with_team(lambda: eval(order, names))
    assert took_part
    assert product.tobytes() == alone.tobytes()


def test_linear_algebra_has_the_bits_of_openblas_alone():
    symmetric = A @ A.T + np.eye(256)
    for function in (np.linalg.inv, np.linalg.cholesky, np.linalg.qr, np.linalg.eigh):
        alone = function(symmetric)
        result, took_part = with_team(lambda function=function: function(symmetric))
        assert all(np.array_equal(*pair) for pair in zip(result, alone, strict=True))
        assert took_part


def test_threads_that_multiply_at_the_same_time_get_the_bits_of_one():
    team.begin()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        products = list(pool.map(lambda _: A @ B, range(60)))
    assert all(np.array_equal(product, AB) for product in products)
    assert works()


def test_the_number_of_threads_changes_only_while_the_team_has_no_work(monkeypatch):
    team.begin()
    counts, works_now, waits = [], threading.Event(), threading.Event()
    monkeypatch.setattr(team, "time", types.SimpleNamespace(sleep=lambda _: waits.set()))

    def change():
        assert works_now.wait(30)
        with using_blas_threads(1):
            counts.append(blas_threads())

    def job(place, data, argument):
        works_now.set()
        assert waits.wait(30)
        counts.append(blas_threads())

    thread = threading.Thread(target=change)
    thread.start()
    handed(job, 1)
    thread.join()
    assert counts == [2, 1]
    assert works()


JOB = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


def handed(function, count):
    """Hand jobs to the team as OpenBLAS does; return (place, job, argument) of each, in order."""
    calls, data = [], ctypes.create_string_buffer(24 * count)

    def job(place, mine, argument):
        calls.append((place, (mine - ctypes.addressof(data)) // 24, argument))
        function(place, mine, argument)

    types_ = ctypes.c_int, JOB, ctypes.c_int, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int
    ctypes.CFUNCTYPE(None, *types_)(TEAM._run)(1, JOB(job), count, 24, data, 7)
    return sorted(calls, key=lambda call: call[1])


def test_jobs_are_done_at_the_same_time_in_places_that_openblas_does_not_use():
    team.begin()
    meet = threading.Barrier(2)
    (place, *first), (other, *second) = handed(lambda *_: meet.wait(30), 2)
    assert (first, second) == ([0, 7], [1, 7])
    with TEAM.reserved():
        [(spare, *alone)] = handed(lambda *_: None, 1)
    assert alone == [0, 7]
    places = team._places(next(blas_libraries()))
    assert len({place, other, spare}) == 3
    # OpenBLAS's own threads have the first places, and one team of the largest size the last ones.
    assert {place, other} <= set(range(places - team._MOST, places))
    assert team._MOST <= spare + 1 < places - team._MOST + 1


def test_a_product_of_one_job_is_computed_while_the_team_is_taken():
    # OpenBLAS cuts a product with few rows into one job, and no memory after that is a job.
    rows, v = KEY.at("rows").normal((3, 200_000)), KEY.at("v").normal(200_000)
    columns = np.asfortranarray(rows)
    expected = rows @ v, columns @ v
    team.begin()
    with TEAM.reserved():
        products = rows @ v, columns @ v
    assert all(np.array_equal(*pair) for pair in zip(products, expected, strict=True))


def interrupted_in(monkeypatch, name):
    """Let a function of the team be interrupted once, after it did its work."""
    function = getattr(TEAM, name)

    def interrupts(*args):
        monkeypatch.setattr(TEAM, name, function)
        function(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(TEAM, name, interrupts)


def test_an_interruption_between_reservation_and_use_keeps_nobody_waiting(monkeypatch):
    interrupted_in(monkeypatch, "_reserve")
    with pytest.raises(KeyboardInterrupt), using_blas_threads(1):
        pass
    assert np.array_equal(A @ B, AB)
    assert works()


def test_an_interruption_after_openblas_got_the_team_leaves_it_to_the_next_rest(monkeypatch):
    interrupted_in(monkeypatch, "_receive")
    with pytest.raises(KeyboardInterrupt):
        team.begin()
    assert TEAM.at_work
    team.rest()
    assert TEAM._receiver.value is None
    assert works()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_an_interrupted_stop_is_finished_before_the_team_works_again(monkeypatch):
    assert works()
    interrupted_in(monkeypatch, "_advance")
    with pytest.raises(KeyboardInterrupt):
        TEAM.stop()
    assert np.array_equal(A @ B, AB)
    assert works()
    assert [thread.is_alive() for thread in TEAM._threads] == [True]


@pytest.mark.parametrize("fails", ["pydnn team", ""])
def test_a_system_that_starts_no_more_threads_leaves_openblas_its_own(fails, monkeypatch):
    def start(thread):
        if fails in thread.name:
            raise RuntimeError("can't start new thread")
        real(thread)

    real = threading.Thread.start
    TEAM.stop()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        patch.setattr(TEAM, "_ended", False)
        team.begin()
        assert not TEAM.at_work
        assert np.array_equal(A @ B, AB)
    assert works()


def test_the_number_of_threads_may_change_while_others_multiply():
    team.begin()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        # Of small integers, so that every order of the sums has the same bits.
        a = np.arange(256.0 * 256).reshape(256, 256) % 7
        futures = [pool.submit(lambda: [a @ a for _ in range(20)]) for _ in range(4)]
        while not all(future.done() for future in futures):
            with using_blas_threads(1):
                pass
    expected = a @ a
    assert all(np.array_equal(expected, each) for future in futures for each in future.result())
    assert works()


def test_the_thread_of_a_team_of_two_leaves_the_core_of_its_caller():
    cores, others = os.sched_getaffinity(0), []
    two = sorted(cores)[:2]
    team.begin()

    def multiply():
        for core in two:
            os.sched_setaffinity(0, {core})
            before = rounds()
            others.append(np.array_equal(A @ B, AB) and rounds() > before)
            others.extend(os.sched_getaffinity(each.native_id) for each in TEAM._threads)

    thread = threading.Thread(target=multiply)
    thread.start()
    thread.join()
    assert others == [True, cores - {two[0]}, True, cores - {two[1]}]


def test_the_team_works_from_the_first_large_array_on_while_the_compiled_engine_is_in_use():
    network, optimizer = nn.dense(300), nn.adam()
    step = nn.make_train_step(network, nn.mean_squared(), optimizer)
    state = nn.initial_state(network, optimizer, (300,), key=KEY, dtype=np.float32)
    batch = nn.Batch(np.ones((300, 64), np.float32), np.zeros((300, 64), np.float32))
    with using_engine("compiled"):
        assert not TEAM.at_work
        state, _ = step(state, batch)
        assert TEAM.at_work
        before = rounds()
        compiled = step(state, batch)[0].parameters.vector
        assert rounds() > before
        with using_engine("numpy"):
            assert not TEAM.at_work
            assert np.array_equal(step(state, batch)[0].parameters.vector, compiled)
        step(state, batch)
        assert TEAM.at_work
    assert not TEAM.at_work


def test_openblas_keeps_its_own_threads_where_the_team_is_of_no_use(monkeypatch):
    def begins():
        team.begin()
        return TEAM.at_work

    with using_blas_threads(1):
        assert not begins()
    with monkeypatch.context() as patch:
        patch.setattr(team, "usable_cores", lambda: 1)
        assert not begins()
    TEAM._receive(1)  # somebody else receives the jobs
    try:
        assert not begins()
        assert TEAM._receiver.value == 1
    finally:
        TEAM._receive(None)
    assert works()


def test_a_system_without_one_of_the_functions_goes_on_as_before(monkeypatch):
    monkeypatch.setattr(team, "_OF_BLAS", ("no_such_function",))
    monkeypatch.setattr(team, "_team", team.functools.cache(team._team.__wrapped__))
    team.begin()
    team.rest()
    assert team._team() is None
    assert TEAM._receiver.value is None


def test_a_team_that_was_stopped_begins_again():
    assert works()
    TEAM.stop()
    assert TEAM._threads == []
    assert np.array_equal(A @ B, AB)
    assert works()
    assert len(TEAM._threads) == blas_threads() - 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_and_its_parent_have_teams_of_their_own():
    team.begin()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        good = not TEAM.at_work and np.array_equal(A @ B, AB) and works()
        os._exit(0 if good else 1)
    assert not TEAM.at_work
    assert works()
    assert os.waitpid(child, 0)[1] == 0


# Python may run a callback, e.g. of a weak reference, at the moment of an interruption.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_at_any_moment_leaves_a_team_that_works():
    for seconds in np.geomspace(1e-5, 0.01, 30):
        TEAM.stop()
        with contextlib.suppress(KeyboardInterrupt), interrupted_after(seconds):
            team.begin()
            for _ in range(1000):
                A @ B
        team.rest()
    assert works()
    assert [thread.is_alive() for thread in TEAM._threads] == [True] * (blas_threads() - 1)


PROGRAM = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = "2"
import threading
import numpy as np
from pydnn.compiled import team
a = np.ones((300, 300))
def multiply():
    while True:
        a @ a
team.begin()
a @ a
threading.Thread(target=multiply, daemon=True).start()
a @ a
print(team._team().at_work)
"""


def test_a_process_ends_while_a_thread_multiplies():
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n", "")


AT_EXIT = """
import atexit, os
os.environ["OPENBLAS_NUM_THREADS"] = "2"
import numpy as np
from pydnn.compiled import team
def report():  # after the end of the team, since the function that was registered last comes first
    theirs = team._team()
    theirs.begin()
    print(theirs._receiver.value, theirs._threads, np.array_equal(a @ a, product))
atexit.register(report)
a = np.ones((300, 300))
product = a @ a
team.begin()
a @ a
print(len(team._team()._threads))
"""


def test_the_threads_end_and_openblas_has_its_own_before_python_ends():
    ended = subprocess.run(
        [sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1\nNone [] True\n", "")
