"""How numba keeps compiled kernels in pydnn's folder.

numba has no public interface for this, so a version of it may have other names. Then importing this
module fails, or its methods do, and kernels are compiled again in every process.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

from numba.core import caching

from pydnn.compiled.aside import is_left_to_another
from pydnn.compiled.kernels import complain_once, kernel_folder
from pydnn.engines import NotCompiledYet

__all__ = ["Kept"]


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """Says where numba keeps a kernel: in our folder, under the name and the line of its source."""

    def __init__(self, line: int) -> None:
        self._line = line

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator:
        return cls(py_func.__code__.co_firstlineno)

    def get_cache_path(self) -> str:
        return str(kernel_folder())

    def ensure_cache_path(self) -> None:
        pass  # it exists, or no kernel would be kept

    def get_source_stamp(self) -> str:
        return ""  # the name of the folder depends on all sources

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Results(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_Locator]  # noqa: RUF012


class Kept(caching.Cache):  # type: ignore[misc]
    """What numba asks for a compiled kernel before it compiles one."""

    _impl_class = _Results

    def __init__(self, py_func: Any) -> None:  # noqa: D107
        self._cache_file: Any
        super().__init__(py_func)
        if self._cache_path != str(kernel_folder()):  # a setting of numba names another class
            raise OSError("NUMBA_CACHE_LOCATOR_CLASSES names another folder: unset it")

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the kernel for the types `sig`; None if this process has to compile it.

        Raises:
            NotCompiledYet: If another process compiles it.
        """
        found = None
        try:
            with self._file_of(sig):
                found = super().load_overload(sig, target_context)
        except Exception:  # a file is damaged, e.g. cut off: both are written again
            with contextlib.suppress(Exception), self._file_of(sig):
                self.flush()
        if found is None and is_left_to_another(self._py_func, sig):
            raise NotCompiledYet
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the kernel for the types `sig`, if that is possible."""
        try:
            with self._file_of(sig):
                super().save_overload(sig, data)
        except Exception as error:  # e.g. a full disk
            complain_once(str(getattr(error, "strerror", None) or error))

    @contextlib.contextmanager
    def _file_of(self, sig: Any) -> Any:
        """Work with a file for these types alone.

        numba numbers the kernels of a function in one index. Two processes that compile at the same
        time for different types would give both the same number, and one would then execute the
        kernel of the other.
        """
        types = hashlib.sha256(str(sig).encode()).hexdigest()[:16]
        name = f"{self._impl.filename_base}.{types}"
        shared = self._cache_file
        self._cache_file = caching.IndexDataCacheFile(self._cache_path, name, "")
        try:
            yield
        finally:
            self._cache_file = shared
