"""Check that a function gives the same bits with other threads, CPU features, layouts and so on.

The function runs in child processes with different environments, and the bits of its results are
compared. `fast` arithmetic promises the same bits in one environment only, so this shows on what
its results depend. A function without matrix products and sums keeps its bits in all environments.
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
    """What differs in a child process: environment variables, and the layout of arguments."""

    variables: Mapping[str, str] = attrs.field(factory=dict)
    layout: str = ""


def _threads(count: int) -> _Environment:
    return _Environment(dict.fromkeys(_THREADS, str(count)))


def _without_dispatch() -> _Environment:
    """Return an environment in which NumPy uses none of this CPU's optional features."""
    core = importlib.import_module("numpy._core._multiarray_umath")
    features = [name for name in core.__cpu_dispatch__ if core.__cpu_features__.get(name)]
    return _Environment({"NPY_DISABLE_CPU_FEATURES": " ".join(features)} if features else {})


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
    """The results in each environment, compared with a child process in this environment.

    Attributes:
        function: The name of the function.
        differing: For each environment, a description of the first result whose bits differ; "" if
            all bits are the same.
    """

    function: str
    differing: Mapping[str, str]

    @property
    def same(self) -> bool:
        """Whether the bits are the same in all environments."""
        return not any(self.differing.values())

    def __str__(self) -> str:
        others = [name for name, mismatch in self.differing.items() if mismatch]
        verdict = f"other bits with {', '.join(others)}" if others else "the same bits everywhere"
        rows = [[name, mismatch or "the same bits"] for name, mismatch in self.differing.items()]
        return f"{self.function}: {verdict}\n{text_table(['environment', 'result'], rows)}"


def same_bits(
    function: Callable[..., object], *args: object, environments: Iterable[str] | None = None
) -> BitsReport:
    """Run `function(*args)` in child processes, and compare all bits of its results.

    Args:
        function: A function that a child process can import: one defined at the top level of a
            module or of a test file.
        *args: Its arguments, which must pickle.
        environments: Names in `ENVIRONMENTS`; by default all of them.

    Returns:
        The report, in which no bit differs.

    Raises:
        AssertionError: If bits differ; the message is the report.
        BadInput: If the function cannot be imported or raises, or its arguments do not pickle.
    """
    report = bits_report(function, *args, environments=environments)
    if not report.same:
        raise AssertionError(str(report))
    return report


def bits_report(
    function: Callable[..., object], *args: object, environments: Iterable[str] | None = None
) -> BitsReport:
    """Return the report of `same_bits`, whether or not bits differ."""
    chosen = list(ENVIRONMENTS if environments is None else environments)
    for name in chosen:
        expect_known("environment", name, ENVIRONMENTS)
    job = _job(function, args)
    first = _run(function, job, _Environment())
    results = {name: _run(function, job, ENVIRONMENTS[name]()) for name in chosen}
    differing = {name: _difference(first, other) for name, other in results.items()}
    return BitsReport(function.__qualname__, differing)


class _Job(TypedDict):
    """The input of a child process: where to find the function, and its pickled arguments."""

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
            f"{name or function!r} cannot be imported by a child process, expected a function at "
            "the top level of a module: define it there with def."
        )
    try:
        pickled = pickle.dumps(args)
    except Exception as error:  # a user's class may raise anything
        raise BadInput(
            f"the arguments cannot be pickled ({error}), expected arguments that can: give arrays "
            "or records."
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
        error = done.stderr.strip().rpartition("\n")[2]
        raise BadInput(f"{function.__qualname__} raised in a child process ({error}): fix it.")
    # The last line, since the function itself may print.
    result: dict[str, list[str]] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return result


def child() -> None:
    """Read a job from standard input, run it, and print the bits of its results."""
    from pydnn.testing.nested import in_layout, snapshot

    job: _Job = json.load(sys.stdin)
    function = operator.attrgetter(job["name"])(_module_of(job))
    args = pickle.loads(base64.b64decode(job["args"]))  # safe: the parent has just written it
    if job["layout"]:
        args = in_layout(args, job["layout"])
    leaves = snapshot(function(*args), "result")
    texts = {where: _exact_text(leaf) for where, leaf in leaves.items()}
    print("\n" + json.dumps(texts))


def _module_of(job: _Job) -> ModuleType:
    if job["module"] != "__main__":
        try:
            return importlib.import_module(job["module"])
        except ImportError:  # e.g. a test file, which pytest imports in its own way
            pass
    spec = importlib.util.spec_from_file_location("_same_bits", job["file"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["_same_bits"] = module
    spec.loader.exec_module(module)
    return module


def _exact_text(leaf: object) -> list[str]:
    """Return a leaf as texts that keep all its bits: one for its kind, and one per number."""
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f":
        return [f"{leaf.dtype} {leaf.shape}", *(float(x).hex() for x in leaf.ravel())]
    if isinstance(leaf, np.ndarray):
        return [f"{leaf.dtype} {leaf.shape}", *map(repr, leaf.ravel().tolist())]
    if isinstance(leaf, float):
        return ["float", leaf.hex()]
    return [repr(leaf) if isinstance(leaf, bool | int | str | None) else type(leaf).__name__]


def _difference(first: Mapping[str, list[str]], other: Mapping[str, list[str]]) -> str:
    for where, entries in first.items():
        actual = other.get(where)
        if actual is None or actual[0] != entries[0] or len(actual) != len(entries):
            return f"{where} is {actual[0] if actual else 'missing'} instead of {entries[0]}"
        wrong = [i for i, (a, b) in enumerate(zip(entries, actual, strict=True)) if a != b]
        if wrong:
            return (
                f"{where} differs in {len(wrong)} of {len(entries) - 1} numbers, "
                f"first in number {wrong[0] - 1}: {actual[wrong[0]]} instead of {entries[wrong[0]]}"
            )
    return ""
