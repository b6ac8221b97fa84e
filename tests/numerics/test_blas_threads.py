import threading

import pytest

from pydnn.numerics.blas_threads import blas_threads, using_blas_threads

needs_control = pytest.mark.skipif(
    blas_threads() is None, reason="the threads of this BLAS cannot be changed"
)


@needs_control
def test_the_number_returns_after_the_context_and_after_an_error():
    before = blas_threads()
    with using_blas_threads(1):
        assert blas_threads() == 1
    assert blas_threads() == before
    with pytest.raises(ZeroDivisionError), using_blas_threads(1):
        _ = 1 / 0
    assert blas_threads() == before


@needs_control
def test_contexts_may_overlap_in_several_threads():
    before = blas_threads()
    entered, leave = threading.Event(), threading.Event()

    def stay():
        with using_blas_threads(1):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=stay)
    with using_blas_threads(1):
        thread.start()
        entered.wait()
    assert blas_threads() == 1  # of the other thread
    leave.set()
    thread.join()
    assert blas_threads() == before


def test_without_control_the_context_does_nothing(monkeypatch):
    monkeypatch.setattr("pydnn.numerics.blas_threads._functions", lambda: None)
    with using_blas_threads(3):
        assert blas_threads() is None
