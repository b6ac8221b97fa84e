"""What a figure was measured on."""

import os
import platform
from pathlib import Path

import numpy as np


def environment():
    """Machine, versions and threads, in one line."""
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
