"""Describe the machine that measurements were made on."""

import os
import platform
from pathlib import Path


def environment():
    """Return the processor, its cores and the versions, in one line."""
    import numpy as np  # imported here, since the suite must stay small to measure memory

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores; Python "
        f"{platform.python_version()}, NumPy {np.__version__}, {blas['name']} {blas['version']}"
    )


def _processor():
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
