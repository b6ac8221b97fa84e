"""What the forms of NumPy's functions share: which arrays they take, and what follows a failure."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

from numpy.typing import NDArray

from pydnn.engines import give_up
from pydnn.records import FloatArray

__all__ = ["in_rows", "is_plain", "or_numpy", "unwritten"]

_Given = ParamSpec("_Given")


def or_numpy(form: Callable[_Given, bool]) -> Callable[_Given, bool]:
    """Return a form that gives up the compiled engine and returns False if numba fails."""

    @functools.wraps(form)
    def tried(*args: _Given.args, **keywords: _Given.kwargs) -> bool:
        try:
            return form(*args, **keywords)
        except Exception as error:
            give_up(error)
            return False

    return tried


def is_plain(array: FloatArray) -> bool:
    """Return whether kernels take the numbers of an array: float64 or float32 of this machine."""
    return array.dtype.char in "df" and array.dtype.isnative


def unwritten(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view: numba compiles once for arrays that may be written to, and again."""
    view = array.view()
    view.flags.writeable = False
    return view


def in_rows(matrix: FloatArray) -> tuple[FloatArray, bool] | None:
    """Return a matrix, or its transpose, in C order, and whether it was transposed.

    None if neither is in C order, or its numbers are of another kind, so kernels do not take it.
    """
    if not is_plain(matrix):
        return None
    if matrix.flags.c_contiguous:
        return unwritten(matrix), False
    return (unwritten(matrix.T), True) if matrix.flags.f_contiguous else None
