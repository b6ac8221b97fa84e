"""How much memory this process can still use."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from pydnn.processors import groups_of

__all__ = ["free_memory", "readable"]

_NO_LIMIT = 2**62  # version 1 of control groups writes the largest integer, rounded to a page


def readable(size: int) -> str:
    """Return a number of bytes as text in a convenient unit.

    Example:
        >>> readable(1_572_864)
        '1.5 MiB'
    """
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{size} B" if unit == "B" else f"{value:,.1f} {unit}"


def free_memory() -> int | None:
    """Return an estimate, never too low, of the bytes this process can still use; None if unknown.

    It is the smallest of three numbers: the memory available on the system, and what the limits on
    the process's control group and on its address space leave.
    """
    limits = [_available(), _left_in_group(), _left_in_address_space()]
    return min((size for size in limits if size is not None), default=None)


def _available() -> int | None:
    if sys.platform == "win32":
        return _available_on_windows()
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:  # all memory, where the system does not say how much of it is available
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _available_on_windows() -> int | None:
    import ctypes  # here, since only Windows needs it

    class Status(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *[(name, ctypes.c_ulonglong) for name in ("total", "available", *"abcde")],
        ]

    status = Status(length=ctypes.sizeof(Status))
    windows = getattr(ctypes, "windll", None)
    if windows is None or not windows.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.available)


def _left_in_group(root: Path = Path("/sys/fs/cgroup"), groups: str | None = None) -> int | None:
    """Return the bytes that control groups, which containers use, leave to this process.

    Args:
        root: The directory where the system shows its control groups.
        groups: The list of this process's groups; None reads it from the system.
    """
    left = []
    for group, unified in groups_of("memory", root, groups):
        limit, usage = ("max", "current") if unified else ("limit_in_bytes", "usage_in_bytes")
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            most = int((group / f"memory.{limit}").read_text())
            if most < _NO_LIMIT:  # counting what a group uses takes most of the time
                used = int((group / f"memory.{usage}").read_text()) - _cached(group)
                left.append(max(0, most - used))
    return min(left, default=None)


def _cached(group: Path) -> int:
    """Return the bytes of cached files, which a control group gives up when it needs memory."""
    try:
        lines = (group / "memory.stat").read_text().splitlines()
        return sum(int(v) for k, v in map(str.split, lines) if k == "inactive_file")
    except (OSError, ValueError):
        return 0


def _left_in_address_space() -> int | None:
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        used = 0
    return max(0, limit - used)
