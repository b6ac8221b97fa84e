"""What a job takes, worked out from its shapes before any of it is made, and what there is.

A file can claim a network of any size. Nothing here takes more memory for a larger one.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from pydnn.builders import build, find_builder, is_description
from pydnn.checks import BadInput
from pydnn.keys import Key
from pydnn.packing import Layout, Tree, layout_of, leaves
from pydnn.stages.base import Shape, Stage, map_stages

if TYPE_CHECKING:
    from pydnn.recipes import Recipe

__all__ = [
    "Layer",
    "bytes_of",
    "expect_room",
    "free_memory",
    "layers_of",
    "readable",
    "undrawn",
]


@attrs.frozen
class Layer:
    """A stage that is not a combinator, and its sizes.

    Attributes:
        place: Where it is in the network, e.g. "2" or "1/0".
        stage: Its name.
        arrays: Names and shapes of its parameters, in words.
        outputs: Numbers that it makes of one example.
        parameters: How many there are.
    """

    place: str
    stage: str
    arrays: str
    outputs: int
    parameters: int


def undrawn(description: Any) -> Any:
    """The same description with zeros, which take no memory, for every initializer.

    With it a network of any claimed size can be laid out.
    """
    if isinstance(description, list | tuple):
        return [undrawn(part) for part in description]
    if not is_description(description):
        return description
    [(name, options)] = description.items()
    options = {option: undrawn(value) for option, value in options.items()}
    if "initializer" in find_builder(name).options:
        options["initializer"] = {"zeros": {}}
    return {name: options}


def layers_of(recipe: Recipe, features: int) -> tuple[list[Layer], Layout]:
    """The layers of a recipe's network on so many features, and how its parameters lie.

    Raises:
        BadInput: If the stages do not fit each other, or so many features.
    """
    layers: list[Layer] = []

    def noted(path: str, stage: Stage) -> Stage:
        def init(key: Key, shape: Shape) -> tuple[Tree, Shape]:
            params, shape_out = stage.init(key, shape)
            layout = layout_of(params)
            arrays = ", ".join(f"{slot.name} {slot.shape}" for slot in layout.slots)
            place, outputs = path.removesuffix("/"), math.prod(shape_out)
            layers.append(Layer(place, stage.name, arrays, outputs, layout.size))
            return params, shape_out

        return attrs.evolve(stage, init=init)

    network = map_stages(noted, build(undrawn(recipe.network), family="stage"))
    try:
        return layers, layout_of(network.init(Key(0), (features,))[0])
    except BadInput:
        raise
    except (ValueError, OverflowError, MemoryError) as error:  # NumPy's, of shapes past any size
        raise BadInput(f"the network cannot be laid out ({error}): make it smaller.") from error


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


def _shrunk(template: Any) -> Tree:
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
