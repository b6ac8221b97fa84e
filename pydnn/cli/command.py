"""The command `pydnn`.

The wheel holds this file as the module `pydnn_command`, outside the package: the command starts
there, before pydnn and NumPy are imported, so that an interruption during those imports is
answered.
"""

import contextlib
import os
import signal
from typing import NoReturn


def main() -> int:
    """Run the command line of this process; return its exit status."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    try:
        if ours:
            # Raised inside an import, KeyboardInterrupt may come out as any other error.
            signal.signal(signal.SIGINT, _end)
        from pydnn.cli import main as run

        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return run()
    except KeyboardInterrupt:
        _end()
    finally:
        if ours:  # all is done, and Python's own end would show a traceback
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end(*signal_and_frame: object) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, b"pydnn: interrupted\n")
    os._exit(130)
