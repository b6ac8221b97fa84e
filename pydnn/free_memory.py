"""The memory that is free on this machine for one more process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["free_memory", "readable"]


def readable(size: int) -> str:
    """A number of bytes in the unit that people would choose, e.g. "1.5 MiB"."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{size} B" if unit == "B" else f"{value:,.1f} {unit}"


def free_memory() -> int | None:
    """Bytes that this process can still take, or at least no fewer; None if nobody says.

    That is the least of what the system has available and what limits on its control group and
    its address space leave.
    """
    known = [_available(), _left_in_group(), _left_in_address_space()]
    return min((size for size in known if size is not None), default=None)


def _available() -> int | None:
    if sys.platform == "win32":
        return _available_on_windows()
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:  # all that there is, where the system does not say what of it is free
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _available_on_windows() -> int | None:
    import ctypes  # here, since other systems do without

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
    """What the limits of the control groups around this process leave, which containers set.

    Args:
        root: Where the system shows its control groups.
        groups: The text that says which this process is in; by default the system's own.
    """
    try:
        lines = (groups or Path("/proc/self/cgroup").read_text()).splitlines()
    except OSError:
        return None
    left = []
    for line in lines:
        number, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if number == "0" and not kinds:
            top, limit, usage = root, "memory.max", "memory.current"
        elif "memory" in kinds.split(","):
            top, limit, usage = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = top / path.lstrip("/")
        for group in (folder, *folder.parents):
            try:
                used = int((group / usage).read_text()) - _cached(group)
                left.append(max(0, int((group / limit).read_text()) - used))
            except (OSError, ValueError):  # no such file, or "max"
                pass
            if group == top:
                break
    return min(left, default=None)


def _cached(group: Path) -> int:
    """Bytes of files that a control group keeps in memory and gives up when it needs room."""
    try:
        lines = (group / "memory.stat").read_text().splitlines()
        return sum(int(v) for k, v in map(str.split, lines) if k == "inactive_file")
    except (OSError, ValueError):
        return 0


def _left_in_address_space() -> int | None:
    try:
        import resource  # Windows has none
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
