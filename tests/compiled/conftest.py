import itertools
import sys

import numpy as np
import pytest

from pydnn import engines


@pytest.fixture
def texts_as_they_stand(monkeypatch):
    """Generated texts are executed by Python, since compiling each takes from 0.2 to 3 seconds.

    The kernels that they call are compiled.
    """
    from pydnn.compiled import kernels  # here, since it imports numba

    # Without the team of threads, of which a process has one.
    modules = [
        module
        for name, module in sys.modules.items()
        if name.startswith("pydnn.compiled.") and name != "pydnn.compiled.team"
    ]

    def forget():
        for remembered in itertools.chain(*(vars(module).values() for module in modules)):
            if hasattr(remembered, "cache_clear"):
                remembered.cache_clear()

    def executed(text, names=None):
        namespace = {**kernels.TEXT_NAMES, **(names or {})}
        exec(text, namespace)
        return np.errstate(all="ignore")(namespace["loop"])

    for module in modules:
        if module is not kernels and hasattr(module, "kernel_from_text"):
            monkeypatch.setattr(module, "kernel_from_text", executed)
    monkeypatch.setattr(engines, "_failed", False)
    forget()
    yield
    forget()
