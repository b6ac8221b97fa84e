"""Kernels: functions that numba compiles on first use, and keeps on disk for the next process.

Numba stores what it compiled as pickles, and unpickling runs whatever a file says. So kernels are
kept in a folder of their own that nobody but the user can write to. Where there is no such folder,
every process compiles its kernels again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import os
import platform
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import llvmlite
import numba
import numpy as np
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name
from numba.core.types.misc import unliteral

from pydnn import __version__, engines
from pydnn.engines import note
from pydnn.storage.cache import VARIABLE, cache_folder

__all__ = [
    "comes_first",
    "complain_once",
    "features_of_processor",
    "inlined_kernel",
    "kernel",
    "kernel_folder",
    "kernel_from_text",
    "kernel_in_any_order",
    "kernel_of_source",
    "make_kernel_folder",
    "once_compiled",
    "source_of",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Strict IEEE 754: no operation is contracted, reordered or replaced. With NumPy's error model a
# division is not checked, which would keep the loop from using vectors of the processor.
_OPTIONS = {"error_model": "numpy", "boundscheck": False, "nogil": True}


def kernel(function: _Function) -> _Function:
    """Compile a function on its first call for each combination of types, and keep the result.

    Kernels may call other kernels. A kernel that fills arrays must get other arrays to read:
    the compiler cannot use vectors of the processor where it must fear that they overlap.

    Example:
        >>> @kernel
        ... def doubled(a, out):
        ...     for i in range(out.size):
        ...         out[i] = a[i] + a[i]
    """
    return _compiled_by(function, False)


def kernel_in_any_order(function: _Function) -> _Function:
    """Do the same for a kernel with the same results in whatever order it adds.

    Its sums may be reordered, and a product and a sum be rounded once. That is for sums which only
    serve to find a result that does not depend on their last bits.
    """
    return _compiled_by(function, {"contract", "reassoc"})


def inlined_kernel(function: _Function) -> _Function:
    """Do the same for a function of numbers that must be a part of the loops that call it.

    The compiler does that with small functions anyway. It uses no vectors of the processor in a
    loop that calls a function.
    """
    return _compiled_by(function, False, inlined=True)


def _compiled_by(
    function: _Function, fastmath: bool | set[str], inlined: bool = False
) -> _Function:
    compiled: Any = numba.njit(**_OPTIONS, fastmath=fastmath, forceinline=inlined)(function)
    with contextlib.suppress(AttributeError):  # a numba without it only compiles more
        compiled.get_call_template = functools.partial(_for_any_number, compiled.get_call_template)
    if kernel_folder() is not None:
        # The same as njit(cache=True), but in our folder. If a version of numba has other names for
        # these things, kernels are compiled again in every process.
        try:
            from pydnn.compiled.aside import not_asked_in_vain
            from pydnn.compiled.keeping import Kept

            compiled._cache = Kept(compiled.py_func)
            compiled._compile_for_args = not_asked_in_vain(compiled)
        except Exception as error:
            complain_once(f"numba {numba.__version__} does not let pydnn keep kernels ({error})")
    result: _Function = compiled
    return result


def _for_any_number(resolve: Callable[..., Any], args: Any, kws: Any) -> Any:
    # Or else numba compiles a kernel once more for each constant that another one calls it with.
    general = {name: unliteral(kind) for name, kind in kws.items()}
    return resolve([unliteral(kind) for kind in args], general)


def kernel_from_text(text: str, names: dict[str, Any] | None = None) -> Callable[..., Any]:
    """Compile the only function that a generated text defines; equal texts are compiled once.

    The text is written beside the compiled kernels, so that tracebacks and debuggers can show it.

    Args:
        text: The source of a function called `loop`.
        names: What it may use besides the functions of NumPy in `TEXT_NAMES`, e.g. other kernels.
            Their sources must be part of pydnn, which the place of the kernels depends on.
    """
    return _from_text(text, tuple(sorted((names or {}).items())))


TEXT_NAMES = {
    "float32": np.float32,
    "float64": np.float64,
    "sqrt": np.sqrt,
    "empty": np.empty,
    "isnan": np.isnan,
    "abs": np.abs,
    "copysign": np.copysign,
}


_deciding = 0


def once_compiled(function: _Function) -> _Function:
    """Compute a function once for all arguments, if all kernels that it needs are compiled.

    Otherwise the next call computes it again.
    """
    kept: dict[tuple[object, ...], Any] = {}

    @functools.wraps(function)
    def remembered(*args: Any) -> Any:
        global _deciding
        if args not in kept:
            before = engines.kernels_missed
            _deciding += 1
            try:
                result = function(*args)
            finally:
                _deciding -= 1
            if engines.kernels_missed != before:
                return result
            kept[args] = result
        return kept[args]

    vars(remembered)["cache_clear"] = kept.clear
    return remembered  # type: ignore[return-value]


@functools.cache
def _from_text(text: str, names: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    digest = hashlib.sha256(text.encode()).hexdigest()[:24]
    folder = kernel_folder()
    path = "<generated by pydnn>" if folder is None else str(folder / f"loop_{digest}.py")
    if folder is not None:
        _write(Path(path), text)
    # A kernel on disk refers to its module by name.
    module = ModuleType(f"{__name__.rpartition('.')[0]}.loop_{digest}")
    vars(module).update({"__file__": path, **TEXT_NAMES, **dict(names)})
    vars(module)["_source"] = text, names
    sys.modules[module.__name__] = module
    exec(compile(text, path, "exec"), vars(module))
    compiled: Callable[..., Any] = kernel(vars(module)["loop"])
    return compiled


def comes_first(function: Callable[..., Any]) -> bool:
    """Return whether a kernel should be compiled before others, which may then not be needed.

    That holds for generated texts that call other kernels, as those of whole steps do, and for what
    a function that is computed `once_compiled` calls, since others depend on its result.
    """
    return _deciding > 0 or bool(getattr(sys.modules[function.__module__], "_source", (0, ()))[1])


def source_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return as plain data where a kernel comes from, for another process.

    Args:
        function: Its Python function.

    Raises:
        LookupError: If it is made of something that is not in a module of its own.
    """
    text, names = getattr(sys.modules[function.__module__], "_source", ("", ()))
    if not text:
        return _place_of(getattr(sys.modules[function.__module__], function.__name__))
    plain = {
        name: value if isinstance(value, int | float) else _place_of(value) for name, value in names
    }
    return {"text": text, "names": plain}


def _place_of(value: Any) -> dict[str, str]:
    module = value.__module__
    for name, other in vars(sys.modules[module]).items():
        if other is value:
            return {"module": module, "name": name}
    raise LookupError(f"{value} has no name in {module}")


def kernel_of_source(source: dict[str, Any]) -> Any:
    """Return the kernel that `source_of` has described."""
    if "module" in source:
        return getattr(importlib.import_module(source["module"]), source["name"])
    names = {
        name: value if isinstance(value, int | float) else kernel_of_source(value)
        for name, value in source["names"].items()
    }
    return kernel_from_text(source["text"], names)


def _write(path: Path, text: str) -> None:
    """Write the source of a kernel, which is only there to be read by people and debuggers."""
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:  # e.g. a full disk; numba then says the same of the kernel
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@functools.cache
def kernel_folder() -> Path | None:
    """Return the folder that keeps compiled kernels; None if there is no safe one."""
    try:
        return make_kernel_folder()
    except OSError as error:
        complain_once(str(error))
        return None


def make_kernel_folder() -> Path:
    """Return the folder that keeps compiled kernels, and make it if it does not exist.

    It is called after everything that the kernels depend on: the processor, the versions of numba,
    LLVM, NumPy, Python and pydnn, and the sources of this package and of `pydnn.numerics`, whose
    constants become part of the kernels.

    Raises:
        OSError: If there is no safe folder, with the reason.
    """
    top = cache_folder() / "compiled"
    digest = hashlib.sha256("\n".join(_everything_kernels_depend_on()).encode()).hexdigest()
    folder = top / digest[:24]
    try:
        if top.parts[0].startswith("~"):
            raise OSError(f"this user has no home: set {VARIABLE} to a folder of your own")
        # Not with `parents` alone, which would let the group write to them if the umask does.
        top.parent.parent.mkdir(parents=True, exist_ok=True)
        for path in (top.parent, top, folder):
            path.mkdir(exist_ok=True, mode=0o700)
            _expect_ours(path)
    except OSError as error:
        raise OSError(f"{top} cannot keep them ({error.strerror or error})") from error
    return folder


def _expect_ours(folder: Path) -> None:
    """Refuse a folder that anybody else may write to, or that somebody else made.

    Raises:
        OSError: With the reason.
    """
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode):
        raise OSError(f"{folder} is a link or a file, expected a folder")
    if not os.access(folder, os.W_OK):
        raise OSError(f"{folder} cannot be written to")
    if sys.platform == "win32":  # the folder of an account is closed to other accounts
        return
    if facts.st_uid != os.geteuid():
        raise OSError(f"{folder} belongs to another user")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(f"other users can write to {folder}: run chmod go-w {folder}")


def features_of_processor() -> str:
    """Return the features for which kernels are compiled, e.g. "+avx2,-avx512f".

    They are those of this processor, unless numba's environment variables choose others.
    """
    chosen: str | None = numba.config.CPU_FEATURES
    return get_host_cpu_features().flatten() if chosen is None else chosen


def _everything_kernels_depend_on() -> list[str]:
    package = Path(__file__).parent
    sources = [
        f"{path.relative_to(folder).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for folder in (package, package.with_name("numerics"))
        for path in sorted(folder.rglob("*.py"))
    ]
    versions = [__version__, numba.__version__, llvmlite.__version__, np.__version__]
    name = numba.config.CPU_NAME or get_host_cpu_name()
    processor = [platform.machine(), name, features_of_processor()]
    return [*versions, *processor, sys.implementation.cache_tag or "", *sources]


@functools.cache
def complain_once(reason: str) -> None:
    """Tell the user, once for each reason, that kernels are not kept."""
    note(f"compiled kernels are not kept for the next process: {reason}")
