import signal

import pytest

from pydnn.cli.training import _noticing_interrupts


class Ending:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_while_an_object_ends_is_noticed():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with _noticing_interrupts() as come:
            assert come == []
            del Ending.made  # of which Python only says that it was ignored
            assert come == [signal.SIGINT]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


Ending.made = Ending()
