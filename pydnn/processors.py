"""How many processor cores this process may use, and BLAS with it.

This module imports nothing that loads NumPy, because OpenBLAS reads the environment variables only
when it is loaded.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

__all__ = ["THREADS_OF_OPENBLAS", "groups_of", "set_up_openblas", "usable_cores"]

# The environment variables that set the number of OpenBLAS's threads when a program starts.
THREADS_OF_OPENBLAS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")

_PATIENCE = "12"  # of a thread of OpenBLAS: 2**12 cycles, a microsecond or two
_GROUPS = Path("/sys/fs/cgroup")


def groups_of(
    controller: str, root: Path = _GROUPS, groups: str | None = None
) -> Iterator[tuple[Path, bool]]:
    """Yield the folders of the control groups that limit this process, the innermost ones first.

    Containers use control groups. Systems without them yield nothing.

    Args:
        controller: What is limited, such as "memory" or "cpu".
        root: The directory where the system shows its control groups.
        groups: The list of this process's groups; None reads it from the system.

    Yields:
        Each folder, and whether its files are those of version 2.
    """
    try:
        lines = (groups or Path("/proc/self/cgroup").read_text()).splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        unified = number == "0" and not controllers
        if not unified and controller not in controllers.split(","):
            continue
        top = root if unified else root / controller
        folder = top / path.lstrip("/")
        for group in (folder, *folder.parents):
            yield group, unified
            if group == top:
                break


def usable_cores() -> int:
    """Return how many cores this process may use, by its affinity and the limits of its container.

    A limit of 2.5 cores counts as 2, since threads that wait for each other would stand still
    together.
    """
    return max(1, min([_cores_of_affinity(), *(int(quota) for quota in _quotas())]))


def _cores_of_affinity() -> int:
    has_affinity = hasattr(os, "sched_getaffinity")
    return (len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()) or 1


def _quotas(root: Path = _GROUPS, groups: str | None = None) -> Iterator[float]:
    """The cores' worth of time that each control group grants, if it has a limit."""
    for group, unified in groups_of("cpu", root, groups):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            if unified:
                quota, period = (group / "cpu.max").read_text().split()
            else:
                quota, period = (
                    (group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
                )
            if int(quota) > 0:  # "max" is a ValueError, and -1 means no limit
                yield int(quota) / int(period)


def set_up_openblas(variables: MutableMapping[str, str] = os.environ) -> None:
    """Give OpenBLAS as many threads as there are cores, and let them sleep soon after a product.

    OpenBLAS counts the cores of the affinity, but does not know of the limits of a container: with
    2 cores on a machine with 64 it would start 64 threads, which wait for each other.

    After a product, a thread looks for the next one for some 25 ms before it sleeps. While other
    processes use the cores, it takes their time from the threads that work. A step of a network
    784-512-256-10 took 61 ms beside two busy processes, and takes 24 ms if threads look for a
    microsecond. Alone it takes 7 ms either way. Neither changes a bit.

    Args:
        variables: The environment variables, which OpenBLAS reads when it is loaded. What the user
            has set stays.
    """
    variables.setdefault("OPENBLAS_THREAD_TIMEOUT", _PATIENCE)
    if any(variables.get(name) for name in THREADS_OF_OPENBLAS):
        return
    cores = usable_cores()
    if cores < _cores_of_affinity():
        variables["OPENBLAS_NUM_THREADS"] = str(cores)
