import signal
import threading

import pytest

from pydnn.cli.training import _noting_interrupts


@pytest.mark.parametrize(
    ("number", "plain"),
    [(signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)],
)
def test_an_interruption_is_noted_and_a_second_raises(number, plain):
    before = signal.signal(number, plain)
    try:
        with _noting_interrupts() as come:
            assert come == []
            signal.raise_signal(number)
            assert come == [number]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert signal.getsignal(number) == plain
    finally:
        signal.signal(number, before)


def test_a_handler_of_somebody_else_stays():
    def theirs(number, frame):
        raise AssertionError

    before = signal.signal(signal.SIGINT, theirs)
    try:
        with _noting_interrupts():
            assert signal.getsignal(signal.SIGINT) is theirs
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_of_the_main_thread_no_handler_is_set():
    def hold():
        with _noting_interrupts() as come:
            noted.append(come)

    noted = []
    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert noted == [[]]
