import threading

import numpy as np
import pytest

from pydnn import BadInput, Batch
from pydnn.prefetch import prefetched

DATA = Batch([[0.0, 1.0, 2.0]], [[0.0, 1.0, 1.0]])


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("pydnn-next")]


def test_batches_come_in_order_and_are_made_on_one_thread():
    makers = []

    def batches():
        for k in range(3):
            makers.append(threading.current_thread())
            yield DATA.take(slice(k, k + 1))

    assert [b.X[0, 0] for b in prefetched(batches())] == [0, 1, 2]
    assert len(set(makers)) == 1
    assert makers[0] is not threading.current_thread()
    assert not threads()
    assert list(prefetched(iter(()))) == []


def test_the_next_batch_is_made_before_it_is_asked_for():
    made = threading.Semaphore(0)

    def batches():
        for _ in range(3):
            made.release()
            yield DATA

    stream = prefetched(batches())
    next(stream)
    assert made.acquire(timeout=10)
    assert made.acquire(timeout=10)
    assert not made.acquire(blocking=False)  # and no more than one ahead
    stream.close()


def test_an_error_arrives_at_the_step_it_belongs_to():
    def batches():
        yield DATA
        yield DATA
        raise BadInput("row 7 is damaged.")

    stream = prefetched(batches())
    assert next(stream) is DATA
    assert next(stream) is DATA
    with pytest.raises(BadInput, match="row 7"):
        next(stream)
    assert not threads()


@pytest.mark.parametrize("end", ["close", "drop"])
def test_the_end_of_a_stream_ends_its_thread(end):
    stream = prefetched(iter([DATA] * 5))
    next(stream)
    assert threads()
    if end == "close":
        stream.close()
    del stream
    assert not threads()


def test_batches_are_made_under_the_rules_of_the_step_for_overflow():
    def batches():
        yield DATA
        yield Batch(np.array([[1e300]]) * 1e300, [[0.0]])

    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        list(prefetched(batches()))
    with np.errstate(over="ignore"):
        assert len(list(prefetched(batches()))) == 2
