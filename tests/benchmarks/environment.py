"""Describe the machine that measurements were made on."""

import os
import platform
from pathlib import Path

# What measures the compiled engine waits for its kernels. Otherwise it would measure NumPy until
# another process has compiled them.
os.environ.setdefault("PYDNN_COMPILE", "here")


def environment():
    """Return the processor, its cores, the versions and the kernel of BLAS, in one line."""
    import numpy as np  # imported here, since the suite must stay small to measure memory

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores; Python "
        f"{platform.python_version()}, NumPy {np.__version__}, {blas['name']} {blas['version']}, "
        f"kernel {_kernel()}"
    )


def _kernel():
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown, because threadpoolctl is not installed"
    # SciPy and others may have loaded another BLAS.
    kernels = [i for i in threadpool_info() if i["user_api"] == "blas" and "numpy" in i["filepath"]]
    return kernels[0].get("architecture", "unknown") if kernels else "unknown"


def _processor():
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
