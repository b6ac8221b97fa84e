"""The environment of a run: versions, BLAS, CPU, threads, and a fingerprint of the arithmetic.

Unlike the mathematics, this module reads the environment variables, the CPU and the libraries of
this process. The arithmetic fingerprint predicts, before a run is replayed, which operations
compute the recorded bits here and which do not.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import os
import platform
import re
import reprlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import h5py
import numpy as np

from pydnn import __version__
from pydnn.checks import BadInput
from pydnn.engines import engine_in_use
from pydnn.numerics import ARITHMETICS, Numerics, fast
from pydnn.numerics.battery import arithmetic_fingerprint
from pydnn.numerics.blas_threads import THREADS, blas_threads, using_blas_threads
from pydnn.processors import usable_cores
from pydnn.storage.files import RESTORE

__all__ = [
    "NOT_SET",
    "UNKNOWN",
    "VARIABLES",
    "Environment",
    "as_recorded",
    "current_environment",
    "environment_text",
    "read_environment",
]

NOT_SET, UNKNOWN = "not set", "unknown"

VARYING_THREADS = ("OMP_DYNAMIC", "MKL_DYNAMIC")
DISPATCH = (
    "OPENBLAS_CORETYPE",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_DEBUG_CPU_TYPE",
    "BLIS_ARCH_TYPE",
    "GLIBC_TUNABLES",
)


# All environment variables that can change the bits.
VARIABLES = (*THREADS, *VARYING_THREADS, *DISPATCH)

_PACKAGES = ("numpy", "h5py", "toolz", "attrs")
BUFFER = 8192  # NumPy's default, in elements


def _copied(texts: Mapping[str, str]) -> dict[str, str]:
    return dict(texts)


@attrs.frozen(unsafe_hash=False)
class Environment:
    """Everything that the bits of a run may depend on besides its recipe and its data.

    Attributes:
        versions: The versions of Python, pydnn and its dependencies, by name.
        machine: "system", "architecture", "byte order", "C library" if it is known, and "cores",
            the number of cores that the process may use.
        blas: "name" and "version" of NumPy's BLAS; "threads" if their number is
            known; with threadpoolctl, also "kernel".
        cpu: The SIMD extensions that NumPy was built for, then those that it detected here.
        variables: The environment variables among `VARIABLES` that are set.
        numerics: The name of the arithmetic.
        arithmetic: For each operation, the SHA-256 of its results on a fixed battery of numbers.
        engine: The engine that did the work, "numpy" or "compiled". No bit depends on it, so two
            environments that differ only here are equal.
    """

    versions: Mapping[str, str] = attrs.field(converter=_copied)
    machine: Mapping[str, str] = attrs.field(converter=_copied)
    blas: Mapping[str, str] = attrs.field(converter=_copied)
    cpu: tuple[str, ...]
    variables: Mapping[str, str] = attrs.field(converter=_copied)
    numerics: str
    arithmetic: Mapping[str, str] = attrs.field(converter=_copied)
    engine: str = attrs.field(default="numpy", eq=False)


def current_environment(numerics: Numerics = fast, *, one_thread: bool = False) -> Environment:
    """The environment of this process as it is now. This takes some milliseconds.

    Args:
        numerics: The arithmetic.
        one_thread: Whether BLAS computes with one thread, as for recipes with shards.
    """
    if one_thread:
        with using_blas_threads(1):
            return current_environment(numerics)
    config = np.show_config(mode="dicts")
    simd = config.get("SIMD Extensions", {})
    return Environment(
        versions=_versions(),
        machine=_machine(),
        blas=_blas(config.get("Build Dependencies", {}).get("blas", {})),
        cpu=tuple(map(str, (*simd.get("baseline", ()), *simd.get("found", ())))),
        variables={name: plain(os.environ[name]) for name in VARIABLES if name in os.environ},
        numerics=numerics.name,
        arithmetic=arithmetic_fingerprint(numerics),
        engine=engine_in_use(),
    )


_DIGITS_OF_THREADS = 4  # in an environment, which may come from a stranger


@contextlib.contextmanager
def as_recorded(environment: Environment) -> Iterator[None]:
    """A context in which BLAS has as many threads as in `environment`, if its bits depend on them.

    The number belongs to the whole process, see `using_blas_threads`. Nothing changes if the number
    is unknown or the arithmetic is exact.
    """
    numerics, threads = ARITHMETICS.get(environment.numerics), environment.blas.get("threads", "")
    known = threads.isdecimal() and len(threads) <= _DIGITS_OF_THREADS and int(threads) > 0
    if numerics is None or numerics.exact or not known:
        yield
        return
    with using_blas_threads(int(threads)):
        yield


def _versions() -> dict[str, str]:
    versions = {
        "python": platform.python_version(),
        "hdf5": h5py.version.hdf5_version,
        "pydnn": __version__,  # not from the metadata: another distribution is called pydnn
    }
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # it runs from source, without metadata
            continue
    return versions


def _machine() -> dict[str, str]:
    facts = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "byte order": sys.byteorder,
        "C library": " ".join(platform.libc_ver()).strip(),
        "cores": str(usable_cores()),
    }
    return {name: plain(text) for name, text in facts.items() if text}


def _blas(built_with: Mapping[str, object]) -> dict[str, str]:
    loaded = _loaded_blas()
    facts = {
        "name": built_with.get("name"),
        "version": built_with.get("version"),
        "kernel": loaded.get("architecture"),
        "threads": blas_threads() or loaded.get("num_threads"),
    }
    return {name: plain(str(value)) for name, value in facts.items() if value is not None}


def _loaded_blas() -> Mapping[str, object]:
    """The report of threadpoolctl about NumPy's BLAS; empty if threadpoolctl is not installed."""
    try:
        threadpoolctl = importlib.import_module("threadpoolctl")
    except ImportError:
        return {}
    with warnings.catch_warnings():  # about conflicts of other libraries
        warnings.simplefilter("ignore")
        libraries = [x for x in threadpoolctl.threadpool_info() if x.get("user_api") == "blas"]
    package = Path(np.__file__).parent.resolve()
    beside = (package, package.with_name("numpy.libs"))
    own = [
        library
        for library in libraries
        if any(map(Path(library["filepath"]).resolve().is_relative_to, beside))
    ]
    # A system's NumPy uses a BLAS outside its own folder. That one must be the only BLAS in the
    # process, because SciPy brings another.
    candidates = own or libraries
    return candidates[0] if len(candidates) == 1 else {}


def plain(text: str) -> str:
    """The text as one line that any terminal can show and that `read_environment` accepts."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return shown if len(shown) <= _LONGEST_TEXT else shown[: _LONGEST_TEXT - 1] + "…"


def environment_text(environment: Environment) -> str:
    """The environment as JSON that people can read."""
    return json.dumps(attrs.asdict(environment), indent=2, sort_keys=True) + "\n"


_LONGEST_FILE = 1 << 20
_LONGEST_NAME, _LONGEST_TEXT, _MOST_ENTRIES = 100, 4096, 256
_SHA256 = re.compile("[0-9a-f]{64}")
_FIELDS = tuple(field.name for field in attrs.fields(Environment))


def read_environment(text: str, where: str) -> Environment:
    """Read the environment from a text of `environment_text`.

    Args:
        text: The text, which may come from a stranger.
        where: The place of the text for messages, e.g. the path of the file.

    Raises:
        BadInput: If the text is damaged. The message names the place and the wrong field.
    """
    if len(text) > _LONGEST_FILE:
        raise BadInput(f"{where} is larger than a mebibyte, expected less: {RESTORE}.")
    try:
        plain: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where} is damaged ({error}): {RESTORE}.") from error
    if not isinstance(plain, dict):
        raise _misfit(where, "it", plain, "an object of JSON")
    plain.setdefault("engine", "numpy")  # the only one that older versions had
    for name in (*_FIELDS, *plain):
        if name not in plain:
            raise BadInput(f"{where} has no {name}, expected one: {RESTORE}.")
        if name not in _FIELDS:
            raise BadInput(f"{where} has an unknown field {_short(name)}: remove it.")
    environment = Environment(
        **{name: _texts(where, name, plain[name]) for name in _FIELDS if name in _MAPPINGS},
        cpu=_names(where, "cpu", plain["cpu"]),
        numerics=_text(where, "numerics", plain["numerics"]),
        engine=_text(where, "engine", plain["engine"], most=_LONGEST_NAME),
    )
    # `diff` may set these variables for a child process. Other variables could do anything there.
    for name in environment.variables:
        if name not in VARIABLES:
            raise _misfit(where, "variables", name, "names of variables that can change the bits")
    for name, digits in environment.arithmetic.items():
        if not _SHA256.fullmatch(digits):
            raise _misfit(where, f"arithmetic of {name}", digits, "64 hexadecimal digits")
    return environment


_MAPPINGS = ("versions", "machine", "blas", "variables", "arithmetic")


def _texts(where: str, field: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > _MOST_ENTRIES:
        raise _misfit(where, field, value, f"an object of up to {_MOST_ENTRIES} texts")
    _names(where, field, list(value))
    return {name: _text(where, f"{name} in {field}", text) for name, text in value.items()}


def _names(where: str, field: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MOST_ENTRIES:
        raise _misfit(where, field, value, f"a list of up to {_MOST_ENTRIES} names")
    return tuple(_text(where, f"a name in {field}", name, most=_LONGEST_NAME) for name in value)


def _text(where: str, field: str, value: object, *, most: int = _LONGEST_TEXT) -> str:
    # Other characters could control a terminal, or are halves of surrogate pairs.
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise _misfit(where, field, value, f"a text of up to {most} letters that can be shown")
    return value


def _misfit(where: str, field: str, value: object, expected: str) -> BadInput:
    return BadInput(f"{where}: {field} is {_short(value)}, expected {expected}: {RESTORE}.")


def _short(value: object) -> str:
    return cut(reprlib.repr(value))  # unlike repr, it limits the depth


def cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
