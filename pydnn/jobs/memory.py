"""The memory that a job needs, and the memory that is free."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pydnn.checks import BadInput
from pydnn.descriptions.builders import build
from pydnn.parameters import Layout, Template, Tree, layout_of, leaves

if TYPE_CHECKING:
    from pydnn.recipes.recipe import Recipe

from pydnn.recipes.layouts import Layer

__all__ = ["bytes_of", "expect_room", "free_memory", "readable"]


def bytes_of(
    recipe: Recipe, layers: list[Layer], layout: Layout, *, examples: int
) -> dict[str, int]:
    """Bytes of what a training step holds at least, by what they are for.

    Args:
        recipe: The job.
        layers: Those of its network, and
        layout: how its parameters lie, see `layers_of`.
        examples: How many the training part has.
    """
    item = np.dtype(recipe.dtype).itemsize
    per_epoch: int = build(recipe.batches, family="batches").per_epoch(examples)
    m = -(-examples // per_epoch)
    outputs = sum(layer.outputs for layer in layers)
    return {
        "parameters": layout.size * item,
        "gradients": layout.size * item,
        "state of the optimiser": _state_bytes(recipe, layout),
        f"activations, batch of {m}": outputs * m * item,
    }


def _state_bytes(recipe: Recipe, layout: Layout) -> int:
    """Bytes of an optimizer's state, as those for arrays of one number each tell it.

    What remembers a number for each parameter has as many entries as there are parameters.
    """
    small = layout_of(_shrunk(layout.template))
    one_each = small.packed(np.zeros(small.size, recipe.dtype))
    state = build(recipe.optimizer, family="optimizer").init(one_each)
    return sum(
        layout.size * array.itemsize if array.size == small.size else array.nbytes
        for array in leaves((state,))
    )


def _shrunk(template: Template) -> Tree:
    """The tree of a layout's template with one number in the place of each array."""
    if isinstance(template, tuple):
        return tuple(map(_shrunk, template))
    return template.cls(*[np.zeros((1,) * len(slot.shape)) for slot in template.slots])


def expect_room(needed: Mapping[str, int]) -> None:
    """Refuse what takes more memory than is free, before any of it is made.

    Args:
        needed: Bytes, by what they are for.

    Raises:
        BadInput: With both sizes. Where the system does not say what is free, nothing is refused.
    """
    total, free = sum(needed.values()), free_memory()
    if free is not None and total > free:
        most = sorted(needed.items(), key=lambda item: -item[1])[:3]
        parts = ", ".join(f"{what} {readable(size)}" for what, size in most)
        raise BadInput(
            f"a training step takes at least {readable(total)} ({parts}), but this machine has "
            f"{readable(free)} free: make the network or its batches smaller, or set dtype to "
            "float32."
        )


def readable(size: int) -> str:
    """A number of bytes in the unit that people would choose, e.g. "1.5 MiB"."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{size} B" if unit == "B" else f"{value:,.1f} {unit}"


# What there is


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
