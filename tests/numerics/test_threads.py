import concurrent.futures
import os
import signal
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import Key
from pydnn.numerics import in_blocks
from pydnn.numerics import threads as module


@pytest.fixture(params=[1, 2, 3, 4])
def threads(request, monkeypatch):
    monkeypatch.setattr(module, "worker_threads", lambda: request.param)
    monkeypatch.setattr(module, "WORTH_A_THREAD", 1)
    return request.param


def hypotenuse(a, b, c, longest):
    np.multiply(a, a, out=c)
    c += b * b
    np.sqrt(c, out=c)
    np.maximum(a, b, out=longest)


@given(st.integers(1, 5000), st.sampled_from(["float32", "float64"]))
def test_neither_blocks_nor_threads_change_any_bit(size, dtype):
    a, b = (Key(i).normal((size,)).astype(dtype) for i in (1, 2))
    expected = [np.empty_like(a), np.empty_like(a)]
    hypotenuse(a, b, *expected)
    for count in (1, 2, 3, 4):
        for block in (64, 1000, 1 << 20):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, "worker_threads", lambda count=count: count)
                patch.setattr(module, "WORTH_A_THREAD", 1)
                patch.setattr(module, "_BLOCK", block)
                made = in_blocks(hypotenuse, a, b, results=2)
            assert [x.tobytes() for x in made] == [x.tobytes() for x in expected]
            assert not any(x.flags.writeable for x in made)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(65_536, [65_536]), (65_537, [65_536, 1]), (150_000, [65_536, 65_536, 18_928])],
)
def test_large_vectors_are_cut_into_blocks_of_half_a_mebibyte(size, expected):
    seen = []
    in_blocks(lambda a, b, made: seen.append(a.size), np.zeros(size), np.zeros(size))
    assert seen == expected


def test_a_vector_of_half_a_mebibyte_is_not_cut():
    seen, vector = [], np.zeros(65_536)
    in_blocks(lambda a, made: seen.append(a), vector)
    assert [a is vector for a in seen] == [True]


@pytest.mark.parametrize(("size", "expected"), [((1 << 21) - 1, 1), (1 << 21, 2)])
def test_sixteen_mebibytes_get_a_second_thread(size, expected, monkeypatch):
    monkeypatch.setattr(module, "worker_threads", lambda: 2)
    seen = []
    in_blocks(lambda a, made: seen.append((a.size, threading.get_ident())), np.zeros(size))
    sizes, threads = zip(*seen, strict=True)
    assert len(set(threads)) == expected
    assert sum(sizes) == size
    assert 0 not in sizes


def test_four_threads_are_at_work_at_once(monkeypatch):
    monkeypatch.setattr(module, "worker_threads", lambda: 4)
    monkeypatch.setattr(module, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(module, "_BLOCK", 800)
    meeting = threading.Barrier(4, timeout=20)
    in_blocks(lambda a, made: meeting.wait(), np.zeros(400))


def test_an_error_in_any_thread_is_raised_after_all_have_stopped(threads, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 800)
    a = np.arange(1000.0)
    for bad in (0.0, 999.0):  # in the first and in the last part

        def kernel(x, out, bad=bad):
            if bad in x:
                raise KeyError(bad)
            out[:] = x

        with pytest.raises(KeyError):
            in_blocks(kernel, a)


def test_all_threads_have_the_error_state_of_the_caller(threads, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 800)
    a = np.zeros(1000)
    a[-1] = -1
    with np.errstate(invalid="raise"), pytest.raises(FloatingPointError):
        in_blocks(np.sqrt, a)
    with np.errstate(invalid="ignore"):
        assert np.isnan(in_blocks(np.sqrt, a)[0][-1])


def test_several_threads_may_call_at_once(threads, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 800)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        vectors = [np.full(1000, float(i)) for i in range(60)]
        for vector, made in zip(
            vectors, pool.map(lambda v: in_blocks(np.negative, v)[0], vectors), strict=True
        ):
            np.testing.assert_array_equal(made, -vector)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(module, "worker_threads", lambda: 2)
    monkeypatch.setattr(module, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(module, "_BLOCK", 800)
    vector = np.arange(1000.0)
    in_blocks(np.negative, vector)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # instead of waiting forever for missing threads
        made = in_blocks(np.negative, vector)[0]
        os._exit(0 if (made == -vector).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    ("variables", "cores", "expected"),
    [
        ({}, 1, 1),
        ({}, 3, 3),
        ({}, 8, 4),
        ({"OPENBLAS_NUM_THREADS": "1"}, 3, 1),
        ({"OMP_NUM_THREADS": "1"}, 3, 1),
        ({"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "3"}, 4, 2),
        ({"OPENBLAS_NUM_THREADS": "many"}, 3, 3),
        ({"OMP_NUM_THREADS": "0"}, 3, 3),
        ({"OPENBLAS_NUM_THREADS": "1000"}, 3, 3),
        ({"OPENBLAS_NUM_THREADS": "1000"}, 8, 4),
        ({}, None, 1),
        ({"OMP_NUM_THREADS": "2"}, None, 1),
    ],
)
@pytest.mark.parametrize("source", ["sched_getaffinity", "cpu_count"])
def test_there_are_as_many_threads_as_blas_may_use(variables, cores, expected, source, monkeypatch):
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if source == "cpu_count":
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: cores)
    else:
        of_process = {0: range(cores or 0)}  # 0 is this process
        monkeypatch.setattr(os, "sched_getaffinity", of_process.__getitem__, raising=False)
    assert module.worker_threads.__wrapped__() == expected


def test_work_that_cannot_be_done_fails_before_any_part_of_it(threads):
    """Parts that change arrays must not be done while others fail."""
    done, vector = [], np.zeros(8)

    def work(start, stop):
        if not done:
            done.append(-1)
            raise RuntimeError("not yet")
        done.append(stop - start)

    with pytest.raises(RuntimeError, match="not yet"):
        module.shared_out(work, vector)
    assert done == [-1]
    module.shared_out(work, vector)
    assert sum(done) == 8 - 1
