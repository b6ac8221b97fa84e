"""The command `pydnn`.

The wheel holds this file as the module `pydnn_command`, outside the package. The command starts
there, before it imports pydnn and NumPy, so it can answer an interruption during those imports.
"""
# PYTHON_ARGCOMPLETE_OK: a system that completes all Python commands on Tab looks for these words.

import contextlib
import os
import signal
from typing import NoReturn


def main() -> int:
    """Run the command line of this process; return its exit status."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    try:
        if ours:
            # An import may turn the KeyboardInterrupt raised inside it into any other error.
            signal.signal(signal.SIGINT, _end)
        from pydnn.cli import main as run

        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return run()
    except KeyboardInterrupt:
        _end()
    finally:
        if ours:  # the work is done, and an interrupt while Python ends would show a traceback
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end(*signal_and_frame: object) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, b"pydnn: interrupted\n")
    os._exit(130)
