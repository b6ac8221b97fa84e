"""Where a run is computed: versions, BLAS, CPU, threads, and the bits that they all lead to.

This module is at the edge: it reads this process's environment variables, CPU and libraries. An
environment's arithmetic fingerprint says, before anything is repeated, which operations of the
`fast` arithmetic give the recorded bits here, and which do not.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import json
import math
import os
import platform
import re
import reprlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np
from numpy.typing import ArrayLike

from pydnn import __version__
from pydnn.checks import BadInput
from pydnn.fingerprints import fingerprint
from pydnn.keys import Key
from pydnn.numerics import TENANTS, Numerics, fast, portable
from pydnn.numerics.portable.soundness import (
    adds_exactly,
    flushes_to_zero,
    pointer_bits,
    rounds_to_nearest,
)
from pydnn.records import FloatArray

__all__ = [
    "NOT_SET",
    "UNKNOWN",
    "VARIABLES",
    "Environment",
    "Hazard",
    "arithmetic_differences",
    "arithmetic_fingerprint",
    "current_environment",
    "environment_changes",
    "environment_text",
    "hazards",
    "read_environment",
    "variables_to_repeat",
    "what_to_expect",
]

NOT_SET, UNKNOWN = "not set", "unknown"

_THREADS_OF_OPENBLAS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
_THREADS = (
    *_THREADS_OF_OPENBLAS,
    "OPENBLAS_DEFAULT_NUM_THREADS",
    "OMP_THREAD_LIMIT",
    "MKL_NUM_THREADS",
    "MKL_DOMAIN_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_VARYING_THREADS = ("OMP_DYNAMIC", "MKL_DYNAMIC")
_DISPATCH = (
    "OPENBLAS_CORETYPE",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_DEBUG_CPU_TYPE",
    "BLIS_ARCH_TYPE",
    "GLIBC_TUNABLES",
)
# The environment variables that can change the bits.
VARIABLES = (*_THREADS, *_VARYING_THREADS, *_DISPATCH)

_PACKAGES = ("numpy", "h5py", "toolz", "attrs")
_BUFFER = 8192  # NumPy's default, in elements


def _own(texts: Mapping[str, str]) -> dict[str, str]:
    return dict(texts)


@attrs.frozen(unsafe_hash=False)
class Environment:
    """What the bits of a run may depend on besides its recipe and its data.

    Attributes:
        versions: Of Python, pydnn, and what pydnn stands on, by name.
        machine: "system", "architecture", "byte order", "C library" where it is known, and
            "cores", those that the process may use.
        blas: "name" and "version" of NumPy's BLAS; its "kernel" and "threads" as well, where
            threadpoolctl is there to ask.
        cpu: The SIMD extensions that NumPy was built for, then those that it found.
        variables: Those of `VARIABLES` that are set.
        numerics: Name of the arithmetic.
        arithmetic: The SHA-256 of what each of its operations gives on a fixed battery.
    """

    versions: Mapping[str, str] = attrs.field(converter=_own)
    machine: Mapping[str, str] = attrs.field(converter=_own)
    blas: Mapping[str, str] = attrs.field(converter=_own)
    cpu: tuple[str, ...]
    variables: Mapping[str, str] = attrs.field(converter=_own)
    numerics: str
    arithmetic: Mapping[str, str] = attrs.field(converter=_own)


@attrs.frozen
class Hazard:
    """Something about this process that the bits of its results depend on.

    Attributes:
        what: What it is about, e.g. "OPENBLAS_CORETYPE".
        found: How it is here.
        advice: What that means, and what to do.
        breaks: Whether results are, or may be, other than elsewhere for it; else it is told for
            information.
    """

    what: str
    found: str
    advice: str
    breaks: bool


def current_environment(numerics: Numerics = fast) -> Environment:
    """The environment of this process, as it is now; it takes some milliseconds."""
    config: Any = np.show_config(mode="dicts")
    simd = config.get("SIMD Extensions", {})
    return Environment(
        versions=_versions(),
        machine=_machine(),
        blas=_blas(config.get("Build Dependencies", {}).get("blas", {})),
        cpu=tuple(map(str, (*simd.get("baseline", ()), *simd.get("found", ())))),
        variables={name: _plain(os.environ[name]) for name in VARIABLES if name in os.environ},
        numerics=numerics.name,
        arithmetic=arithmetic_fingerprint(numerics),
    )


def _versions() -> dict[str, str]:
    versions = {
        "python": platform.python_version(),
        "hdf5": h5py.version.hdf5_version,
        "pydnn": __version__,  # not that of a distribution, of which another has this name
    }
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from its source, never installed
            continue
    return versions


def _machine() -> dict[str, str]:
    found = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "byte order": sys.byteorder,
        "C library": " ".join(platform.libc_ver()).strip(),
        "cores": str(_cores()),
    }
    return {name: _plain(text) for name, text in found.items() if text}


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _blas(built_with: Mapping[str, Any]) -> dict[str, str]:
    asked = _loaded_blas()
    found = {
        "name": built_with.get("name"),
        "version": built_with.get("version"),
        "kernel": asked.get("architecture"),
        "threads": asked.get("num_threads"),
    }
    return {name: _plain(str(value)) for name, value in found.items() if value is not None}


def _loaded_blas() -> Mapping[str, Any]:
    """What threadpoolctl, if it is installed, says of the BLAS that NumPy uses."""
    try:
        threadpoolctl: Any = importlib.import_module("threadpoolctl")
    except ImportError:
        return {}
    with warnings.catch_warnings():  # of libraries that quarrel: nothing to do with us
        warnings.simplefilter("ignore")
        libraries = [x for x in threadpoolctl.threadpool_info() if x.get("user_api") == "blas"]
    package = Path(np.__file__).parent.resolve()
    beside = (package, package.with_name("numpy.libs"))
    own = [
        library
        for library in libraries
        if any(map(Path(library["filepath"]).resolve().is_relative_to, beside))
    ]
    # One that is no part of NumPy's wheel is NumPy's if there is no other: SciPy brings its own.
    candidates = own or libraries
    return candidates[0] if len(candidates) == 1 else {}


def _plain(text: str) -> str:
    """The text as one line that any terminal can show and `read_environment` takes."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return shown if len(shown) <= _LONGEST_TEXT else shown[: _LONGEST_TEXT - 1] + "…"


# The battery. What its shapes tell apart was measured with OpenBLAS 0.3.31 on two cores, in
# processes of their own: kernels (SkylakeX, Haswell, Sandybridge), and 1, 2, 3, 4, 6, 8, 12 and
# 16 threads. Small products differ by kernel alone. Those of (97, 450, 211) and (33, 1000, 65)
# differ by the threads, too, as do the product of a matrix with its own transpose, for which
# NumPy has BLAS work out one half, and lengths of vectors just above 10,000 entries.
_PRODUCTS = ((1, 20, 209), (20, 7, 300), (64, 500, 1), (33, 1000, 65), (97, 450, 211))
_FEW_BY_MANY = (4, 1000, 1000)  # the way of `fast` with examples of many features
_OWN_TRANSPOSE = (300, 100)
_SPANNING = ((400, 70), (8200, 8))
_LENGTH, _LENGTHS = 10_001, 16
_POOL = 450 * 211
_POINTS = 3001  # an odd number: what is left over by wide instructions counts as well


def arithmetic_fingerprint(numerics: Numerics) -> dict[str, str]:
    """The SHA-256, by operation of `numerics`, of what it gives on a fixed battery of numbers.

    Two processes with the same fingerprints need not agree on every product, for BLAS has other
    ways for other shapes; those with unlike ones will not agree.
    """
    pool = Key(0).at("arithmetic").uniform(_POOL) - 0.5
    pools = (pool, pool.astype(np.float32))
    return {
        operation: fingerprint(
            {
                f"{given.dtype} {number}": result
                for given in pools
                for number, result in enumerate(
                    _BATTERIES.get(operation, _of_reals)(getattr(numerics, operation), given)
                )
            }
        )
        for operation in _operations()
    }


def _operations() -> list[str]:
    return [field.name for field in attrs.fields(Numerics) if field.name != "name"]


def _products(matmul: Any, pool: FloatArray) -> Iterator[ArrayLike]:
    for m, k, n in _PRODUCTS:
        a, b = _matrix(pool, m, k), _matrix(pool[::-1], k, n)
        yield matmul(a, b)
        yield matmul(_matrix(pool, k, m).T, b, out=np.empty((m, n), pool.dtype))  # as W.T dZ is
        yield matmul(a, _matrix(pool, n, k).T)  # as dZ A_prev.T is
    m, k, n = _FEW_BY_MANY
    if pool.dtype == np.float32:  # in float64 it would take as long as all the rest
        yield matmul(_matrix(pool, m, k), _matrix(pool, n, k).T)
    X = _matrix(pool, *_OWN_TRANSPOSE)
    yield matmul(X.T, X)


def _sums(add: Any, pool: FloatArray) -> Iterator[ArrayLike]:
    for rows, columns in ((20, 100), (33, 1000)):
        for a in (_matrix(pool, rows, columns), _matrix(pool, columns, rows).T):
            yield add(a, axis=1)
            yield add(a, axis=0, out=np.empty((1, columns), pool.dtype))


def _means(mean: Any, pool: FloatArray) -> Iterator[ArrayLike]:
    a = _matrix(pool, 211, 450)
    yield from (mean(a[:3]), mean(a), mean(a.T))
    yield mean(a[:, :400].T)  # NumPy's buffer size changes it


def _norms(norm: Any, pool: FloatArray) -> Iterator[ArrayLike]:
    yield norm(pool[:100])
    yield from (norm(pool[start : start + _LENGTH]) for start in range(_LENGTHS))


def _bases(orthonormal_basis: Any, pool: FloatArray) -> Iterator[ArrayLike]:
    if pool.dtype == np.float64:  # it takes no others
        yield from (orthonormal_basis(_matrix(pool, n, k)) for n, k in _SPANNING)


def _of_reals(function: Any, pool: FloatArray) -> Iterator[ArrayLike]:
    near = pool[:_POINTS]  # within 1/2 of 0; by powers of two the others are exact, too
    for x in (near, near * 16, near / 64, near[::3]):
        yield function(x)


def _of_positives(function: Any, pool: FloatArray) -> Iterator[ArrayLike]:
    return _of_reals(lambda x: function(np.abs(x) + x.dtype.type(2.0**-20)), pool)


def _powers(power: Any, pool: FloatArray) -> Iterator[ArrayLike]:
    yield [power(1 - 0.1**i, n) for i in (1, 2, 3) for n in (*range(1, 20), 0.5, 1000)]


def _cosines(cosine: Any, pool: FloatArray) -> Iterator[ArrayLike]:
    yield [cosine(math.pi * i / 50) for i in range(51)]


def _matrix(pool: FloatArray, rows: int, columns: int) -> FloatArray:
    """A new contiguous matrix of the pool's numbers, over and over where it has too few."""
    return np.resize(pool[: rows * columns], (rows, columns))


_BATTERIES: dict[str, Callable[[Any, FloatArray], Iterator[ArrayLike]]] = {
    "matmul": _products,
    "sum": _sums,
    "mean": _means,
    "norm": _norms,
    "orthonormal_basis": _bases,
    "log": _of_positives,
    "power": _powers,
    "cosine": _cosines,
    "log1p": _of_positives,
}


# Version 0.1.0 rounded squares to 28 digits inside the portable cosine, so that a cosine below
# 1e-15 had other last bits than it has now. Schedules add 1 to every cosine, where those bits
# vanish: the two fingerprints stand for the same trainings.
_SAME_TRAININGS = {
    "1d9be03515f99b14816a2bc036bcba9eeef5b083ba3a0f8371779735afc0a7e5": (
        "4f1b74611cb2bfa085408145613e6956c5048414fec5556acef49ea856d18792"
    )
}


def arithmetic_differences(recorded: Environment, here: Environment) -> tuple[str, ...]:
    """The recorded operations whose fingerprints differ, or are not here.

    One that is only here was not there yet when the run was recorded, and had no part in it.
    """
    ordered = [n for n in _operations() if n in recorded.arithmetic]
    ordered += sorted({*recorded.arithmetic}.difference(ordered))
    a, b = (
        {name: _SAME_TRAININGS.get(digits, digits) for name, digits in side.arithmetic.items()}
        for side in (recorded, here)
    )
    return tuple(name for name in ordered if a.get(name) != b.get(name))


_NAMED = 3


def what_to_expect(recorded: Environment, here: Environment) -> str | None:
    """Why a run that was recorded there will not be repeated here; None where it should be.

    Portable arithmetic has the same bits on every machine, so no difference of machines or threads
    explains other ones.
    """
    operations = arithmetic_differences(recorded, here)
    if not operations:
        return None
    named = "; ".join(
        f"{_cut(name)}: recorded {recorded.arithmetic.get(name, 'none')[:8]}, "
        f"here {here.arithmetic.get(name, 'none')[:8]}"
        for name in operations[:_NAMED]
    )
    if _is_portable(recorded):
        expected = (
            f"portable arithmetic has the same bits on every machine, but that of "
            f"{_enumerated(operations)} differs ({named}): the code of one of the two is another, "
            "or its process was not sound: ask pydnn doctor about this one"
        )
    else:
        expected = (
            f"this machine computes {_enumerated(operations)} differently ({named}): "
            f"{_cut(recorded.numerics)} runs will not match"
        )
    return "; ".join([expected, *itertools.islice(_causes(recorded, here), _NAMED)])


def _enumerated(names: tuple[str, ...]) -> str:
    shown = [_cut(name) for name in names[:_NAMED]]
    shown += [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if shown[1:] else shown)


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _causes(recorded: Environment, here: Environment) -> Iterator[str]:
    """What may be behind other bits, the likeliest first."""
    changes = environment_changes(recorded, here)
    rows = {what: (_cut(a), _cut(b)) for what, a, b in changes if UNKNOWN not in (a, b)}
    if _is_portable(recorded):
        rows = {what: rows[what] for what in rows if what == "pydnn version"}
    variables = list(VARIABLES)
    if "BLAS threads" in rows:
        yield "recorded with {} BLAS threads, here {}".format(*rows["BLAS threads"])
        variables = [name for name in variables if name not in _THREADS]
    libraries = ("BLAS", "BLAS kernel", "BLAS version", "numpy version")
    for what in (*variables, *libraries, "CPU features", "pydnn version"):
        if what in rows:
            yield "recorded with {} {}, here {}".format(what, *rows[what])


def _is_portable(environment: Environment) -> bool:
    return TENANTS.get(environment.numerics) is portable


def environment_changes(a: Environment, b: Environment) -> list[tuple[str, str, str]]:
    """What differs between two environments: rows of what it is, how it is in `a`, and in `b`."""
    in_a, in_b = _told(a), _told(b)
    return [
        (what, in_a.get(what, UNKNOWN), in_b.get(what, UNKNOWN))
        for what in dict.fromkeys([*in_a, *in_b])
        if in_a.get(what) != in_b.get(what)
    ]


def _told(environment: Environment) -> dict[str, str]:
    """Everything about an environment, by what it is called."""
    blas = environment.blas
    return {
        **{f"{name} version": text for name, text in sorted(environment.versions.items())},
        **environment.machine,
        **{"BLAS" if name == "name" else f"BLAS {name}": blas[name] for name in sorted(blas)},
        "CPU features": " ".join(environment.cpu) or "none",
        **{name: environment.variables.get(name, NOT_SET) for name in VARIABLES},
        "numerics": environment.numerics,
        **{f"arithmetic of {n}": digits[:16] for n, digits in environment.arithmetic.items()},
    }


def variables_to_repeat(environment: Environment) -> dict[str, str | None]:
    """The environment variables with which a child process repeats the bits of `environment`.

    Returns:
        Their values by name; None for one that must not be set.
    """
    variables = {name: environment.variables.get(name) for name in VARIABLES}
    threads = environment.blas.get("threads")
    if threads is not None and all(variables[name] is None for name in _THREADS_OF_OPENBLAS):
        variables |= {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    return variables


def hazards(numerics: Numerics = fast) -> list[Hazard]:
    """What in this process breaks or weakens the promise of the same bits by this arithmetic."""
    if numerics is not fast:
        return list(_hazards_of_processor())
    return [*_hazards_of_variables(os.environ), *_hazards_of_processor(), *_hazards_of_process()]


def _hazards_of_variables(variables: Mapping[str, str]) -> Iterator[Hazard]:
    threads = [name for name in _THREADS if name in variables]
    for name in threads:
        advice = "products may have other bits with another number: repeat runs with this one"
        yield Hazard(name, _plain(variables[name]), advice, breaks=False)
    if not threads:
        advice = (
            "BLAS takes as many as there are cores, and products may have other bits with another "
            "number: set OPENBLAS_NUM_THREADS to fix it"
        )
        yield Hazard("thread count", "set by no variable", advice, breaks=False)
    for name in _VARYING_THREADS:
        if variables.get(name, "").strip(" .").lower() in ("1", "true", "t", "yes", "on"):
            advice = "the number of threads may change from one product to the next: unset it"
            yield Hazard(name, _plain(variables[name]), advice, breaks=True)
    for name in _DISPATCH:
        if name in variables:
            advice = "other functions may be used than this CPU would get: unset it"
            yield Hazard(name, _plain(variables[name]), advice, breaks=True)


def _hazards_of_processor() -> Iterator[Hazard]:
    """What breaks portable arithmetic, too."""
    for dtype in (np.float64, np.float32):
        if flushes_to_zero(dtype):
            name = np.dtype(dtype).name
            advice = (
                "a library that was compiled with -ffast-math has switched this on for the whole "
                "process: find it among your imports, and leave it out"
            )
            yield Hazard(f"tiny {name} numbers", "flushed to zero", advice, breaks=True)
        if not rounds_to_nearest(dtype):
            name = np.dtype(dtype).name
            advice = "a library has called fesetround: find it among your imports, and leave it out"
            yield Hazard(f"{name} rounding", "not to the nearest", advice, breaks=True)
    if (bits := pointer_bits()) < 64:
        advice = "32-bit programs may round twice, and have other functions: use a 64-bit Python"
        yield Hazard("pointers", f"{bits} bits", advice, breaks=True)
    if not adds_exactly():
        advice = "portable arithmetic has other bits with it: use NumPy's own wheel"
        yield Hazard("BLAS", "does not add whole numbers exactly", advice, breaks=True)


def _hazards_of_process() -> Iterator[Hazard]:
    if (size := np.getbufsize()) != _BUFFER:
        advice = f"some sums have other bits: call numpy.setbufsize({_BUFFER})"
        yield Hazard("NumPy's buffer", f"{size} elements", advice, breaks=True)


def environment_text(environment: Environment) -> str:
    """The environment as JSON, for people, too."""
    return json.dumps(attrs.asdict(environment), indent=2, sort_keys=True) + "\n"


_LONGEST_FILE = 1 << 20
_LONGEST_NAME, _LONGEST_TEXT, _MOST_ENTRIES = 100, 4096, 256
_SHA256 = re.compile("[0-9a-f]{64}")
_FIELDS = tuple(field.name for field in attrs.fields(Environment))


def read_environment(text: str, where: str) -> Environment:
    """Read what `environment_text` wrote.

    Args:
        text: From a stranger, perhaps.
        where: What messages call its place, e.g. the file's path.

    Raises:
        BadInput: Naming the place, and the field that is not as it must be.
    """
    if len(text) > _LONGEST_FILE:
        raise BadInput(f"{where} is larger than a mebibyte, expected less: get the file again.")
    try:
        plain: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where} is damaged ({error}): get the file again.") from error
    if not isinstance(plain, dict):
        raise _misfit(where, "it", plain, "an object of JSON")
    for name in (*_FIELDS, *plain):
        if name not in plain:
            raise BadInput(f"{where} has no {name}, expected one: get the file again.")
        if name not in _FIELDS:
            raise BadInput(f"{where} has a field {_short(name)} that is not known: take it out.")
    environment = Environment(
        **{name: _texts(where, name, plain[name]) for name in _FIELDS if name in _MAPPINGS},
        cpu=_names(where, "cpu", plain["cpu"]),
        numerics=_text(where, "numerics", plain["numerics"]),
    )
    # They may be handed on to another process, where any other could do anything.
    for name in environment.variables:
        if name not in VARIABLES:
            raise _misfit(where, "variables", name, "names of those that change the bits")
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
    # Other letters could make a terminal do things, or are halves of letters.
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise _misfit(where, field, value, f"a text of up to {most} letters that can be shown")
    return value


def _misfit(where: str, field: str, value: object, expected: str) -> BadInput:
    return BadInput(
        f"{where}: {field} is {_short(value)}, expected {expected}: get the file again."
    )


def _short(value: object) -> str:
    return _cut(reprlib.repr(value))  # which does not go all the way down
