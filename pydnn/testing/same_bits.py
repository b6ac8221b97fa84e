"""Whether a function gives the same bits elsewhere: with other threads, CPU features, and so on.

The function runs in child processes, each with another environment, and the bits of all that it
gives are compared. `fast` arithmetic promises the same bits in one environment alone, so this
shows what depends on what; a function without products and sums keeps its bits in all.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import operator
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import TypedDict

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_known
from pydnn.tables import text_table

__all__ = ["ENVIRONMENTS", "BitsReport", "bits_report", "same_bits"]

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


@attrs.frozen
class _Environment:
    """What is another in a child process."""

    variables: Mapping[str, str] = attrs.field(factory=dict)
    layout: str = ""


def _threads(count: int) -> _Environment:
    return _Environment(dict.fromkeys(_THREADS, str(count)))


def _without_dispatch() -> _Environment:
    """NumPy's loops for any CPU that it supports, without those for this one's features."""
    core = importlib.import_module("numpy._core._multiarray_umath")
    on = [name for name in core.__cpu_dispatch__ if core.__cpu_features__.get(name)]
    return _Environment({"NPY_DISABLE_CPU_FEATURES": " ".join(on)} if on else {})


ENVIRONMENTS: Mapping[str, Callable[[], _Environment]] = {
    "the same again": _Environment,
    "1 thread": lambda: _threads(1),
    "2 threads": lambda: _threads(2),
    "no CPU dispatch": _without_dispatch,
    "BLAS for Haswell": lambda: _Environment({"OPENBLAS_CORETYPE": "Haswell"}),
    "hash seed 0": lambda: _Environment({"PYTHONHASHSEED": "0"}),
    "hash seed 4242": lambda: _Environment({"PYTHONHASHSEED": "4242"}),
    "Fortran order": lambda: _Environment(layout="Fortran order"),
    "strides": lambda: _Environment(layout="strides"),
    "offset": lambda: _Environment(layout="offset"),
}


@attrs.frozen(eq=False)
class BitsReport:
    """What each environment gave, against the first child's, in which nothing is another.

    Attributes:
        function: Its name.
        differing: For each environment, the first result whose bits are others there, in words;
            "" where all are the same.
    """

    function: str
    differing: Mapping[str, str]

    @property
    def same(self) -> bool:
        """Whether the bits are the same everywhere."""
        return not any(self.differing.values())

    def __str__(self) -> str:
        others = [name for name, told in self.differing.items() if told]
        verdict = f"other bits with {', '.join(others)}" if others else "the same bits everywhere"
        rows = [[name, told or "the same bits"] for name, told in self.differing.items()]
        return f"{self.function}: {verdict}\n{text_table(['environment', 'result'], rows)}"


def same_bits(
    function: Callable[..., object], *args: object, environments: Iterable[str] | None = None
) -> BitsReport:
    """Run `function(*args)` in child processes, and compare all bits of what it gives.

    Args:
        function: One that a child can import: defined at the top of a module or of a test file.
        args: What it is called with, which must be possible to pickle.
        environments: Names among `ENVIRONMENTS`; by default all of them.

    Raises:
        AssertionError: If bits differ: its message names the environments.
        BadInput: If the function cannot be imported, or raises.
    """
    report = bits_report(function, *args, environments=environments)
    if not report.same:
        raise AssertionError(str(report))
    return report


def bits_report(
    function: Callable[..., object], *args: object, environments: Iterable[str] | None = None
) -> BitsReport:
    """The report of `same_bits`, whether bits differ or not."""
    chosen = list(ENVIRONMENTS if environments is None else environments)
    for name in chosen:
        expect_known("environment", name, ENVIRONMENTS)
    job = _job(function, args)
    first = _run(function, job, _Environment())
    found = {name: _run(function, job, ENVIRONMENTS[name]()) for name in chosen}
    told = {name: _difference(first, other) for name, other in found.items()}
    return BitsReport(function.__qualname__, told)


class _Job(TypedDict):
    """What a child process gets: where the function is, and its arguments, pickled."""

    module: str
    file: str
    name: str
    args: str
    path: list[str]
    layout: str


def _job(function: Callable[..., object], args: tuple[object, ...]) -> _Job:
    name = getattr(function, "__qualname__", "")
    if not name or "<" in name:
        raise BadInput(
            f"{name or function!r} cannot be imported by a child process: "
            "define it with def, at the top of a module."
        )
    try:
        pickled = pickle.dumps(args)
    except Exception as error:  # whatever an argument of the user's own may do
        raise BadInput(
            f"the arguments cannot be pickled ({error}): give arrays or records."
        ) from error
    return {
        "module": function.__module__,
        "file": getattr(getattr(function, "__code__", None), "co_filename", ""),
        "name": name,
        "args": base64.b64encode(pickled).decode(),
        "path": [entry for entry in sys.path if entry],
        "layout": "",
    }


def _run(
    function: Callable[..., object], job: _Job, environment: _Environment
) -> dict[str, list[str]]:
    variables = os.environ | dict(environment.variables)
    command = [sys.executable, "-c", "from pydnn.testing.same_bits import child; child()"]
    text = json.dumps({**job, "layout": environment.layout})
    variables["PYTHONPATH"] = os.pathsep.join(job["path"])
    done = subprocess.run(command, input=text, capture_output=True, text=True, env=variables)
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2]
        raise BadInput(f"{function.__qualname__} raised in a child process ({said}): mend it.")
    found: dict[str, list[str]] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return found


def child() -> None:
    """What a child process does: read a job, run it, and print its bits."""
    from pydnn.testing.nested import relaid, snapshot

    job: _Job = json.load(sys.stdin)
    function = operator.attrgetter(job["name"])(_module_of(job))
    args = pickle.loads(base64.b64decode(job["args"]))  # which the parent has just written
    if job["layout"]:
        args = relaid(args, job["layout"])
    leaves = snapshot(function(*args), "result")
    told = {where: _told(leaf) for where, leaf in leaves.items()}
    print("\n" + json.dumps(told))


def _module_of(job: _Job) -> ModuleType:
    if job["module"] != "__main__":
        try:
            return importlib.import_module(job["module"])
        except ImportError:  # as a test's file, which pytest imports in its own way
            pass
    spec = importlib.util.spec_from_file_location("_same_bits", job["file"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["_same_bits"] = module
    spec.loader.exec_module(module)
    return module


def _told(leaf: object) -> list[str]:
    """A leaf as text that has all its bits, for an array entry by entry."""
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f":
        return [f"{leaf.dtype} {leaf.shape}", *(float(x).hex() for x in leaf.ravel())]
    if isinstance(leaf, np.ndarray):
        return [f"{leaf.dtype} {leaf.shape}", *map(repr, leaf.ravel().tolist())]
    if isinstance(leaf, float):
        return ["float", leaf.hex()]
    return [repr(leaf) if isinstance(leaf, bool | int | str | None) else type(leaf).__name__]


def _difference(first: Mapping[str, list[str]], other: Mapping[str, list[str]]) -> str:
    for where, entries in first.items():
        found = other.get(where)
        if found is None or found[0] != entries[0] or len(found) != len(entries):
            return f"{where} is {found[0] if found else 'missing'} instead of {entries[0]}"
        wrong = [i for i, (a, b) in enumerate(zip(entries, found, strict=True)) if a != b]
        if wrong:
            return (
                f"{where} differs in {len(wrong)} of {len(entries) - 1} numbers, "
                f"first number {wrong[0] - 1}: {found[wrong[0]]} instead of {entries[wrong[0]]}"
            )
    return ""
