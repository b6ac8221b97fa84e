import concurrent.futures
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import Key
from pydnn.numerics import blocks, in_blocks


@pytest.fixture(params=[1, 2, 3, 4])
def threads(request, monkeypatch):
    monkeypatch.setattr(blocks, "worker_threads", lambda: request.param)
    monkeypatch.setattr(blocks, "_WORTH_A_THREAD", 1)
    return request.param


def hypotenuse(a, b, c, longest):
    np.multiply(a, a, out=c)
    c += b * b
    np.sqrt(c, out=c)
    np.maximum(a, b, out=longest)


@given(st.integers(1, 5000), st.sampled_from(["float32", "float64"]))
def test_neither_blocks_nor_threads_have_a_part_in_any_bit(size, dtype):
    a, b = (Key(i).normal((size,)).astype(dtype) for i in (1, 2))
    expected = [np.empty_like(a), np.empty_like(a)]
    hypotenuse(a, b, *expected)
    for count in (1, 2, 3, 4):
        for block in (64, 1000, 1 << 20):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(blocks, "worker_threads", lambda count=count: count)
                patch.setattr(blocks, "_WORTH_A_THREAD", 1)
                patch.setattr(blocks, "_BLOCK", block)
                made = in_blocks(hypotenuse, a, b, results=2)
            assert [x.tobytes() for x in made] == [x.tobytes() for x in expected]
            assert not any(x.flags.writeable for x in made)


def test_an_error_in_any_thread_comes_out_when_all_have_stopped(threads, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", 800)
    a = np.arange(1000.0)
    for bad in (0.0, 999.0):  # in the first part, and in the last one

        def kernel(x, out, bad=bad):
            if bad in x:
                raise KeyError(bad)
            out[:] = x

        with pytest.raises(KeyError):
            in_blocks(kernel, a)


def test_the_error_state_is_that_of_whoever_asked(threads, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", 800)
    a = np.zeros(1000)
    a[-1] = -1
    with np.errstate(invalid="raise"), pytest.raises(FloatingPointError):
        in_blocks(np.sqrt, a)
    with np.errstate(invalid="ignore"):
        assert np.isnan(in_blocks(np.sqrt, a)[0][-1])


def test_more_than_one_thread_may_ask_at_once(threads, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", 800)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        vectors = [np.full(1000, float(i)) for i in range(60)]
        for vector, made in zip(
            vectors, pool.map(lambda v: in_blocks(np.negative, v)[0], vectors), strict=True
        ):
            np.testing.assert_array_equal(made, -vector)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_copy_of_a_process_has_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(blocks, "worker_threads", lambda: 2)
    monkeypatch.setattr(blocks, "_WORTH_A_THREAD", 1)
    monkeypatch.setattr(blocks, "_BLOCK", 800)
    vector = np.arange(1000.0)
    in_blocks(np.negative, vector)
    child = os.fork()
    if child == 0:
        made = in_blocks(np.negative, vector)[0]
        os._exit(0 if (made == -vector).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, min(CORES, 4)),
        ({"OPENBLAS_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OPENBLAS_NUM_THREADS": "many"}, min(CORES, 4)),
        ({"OMP_NUM_THREADS": "0"}, min(CORES, 4)),
        ({"OPENBLAS_NUM_THREADS": "1000"}, min(CORES, 4)),
    ],
)
def test_threads_are_as_many_as_blas_is_told_to_have(variables, expected, monkeypatch):
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert blocks.worker_threads.__wrapped__() == expected
