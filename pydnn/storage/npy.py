"""Arrays in npy files, read as data from strangers."""

from __future__ import annotations

import ast
import math
import re
import struct
from collections.abc import Callable
from typing import IO

import numpy as np

from pydnn.checks import is_shape, shown
from pydnn.records import AnyArray, AnyDType

__all__ = [
    "NPY_DAMAGE",
    "NPY_MAGIC",
    "Member",
    "dtype_of_numbers",
    "dtype_of_values",
    "npy_array",
    "npy_header",
]

NPY_MAGIC = b"\x93NUMPY"
# What NumPy and Python's own parser raise for a damaged file depends on which part of it is hit.
NPY_DAMAGE = (
    struct.error, EOFError, OSError, ValueError, RuntimeError, OverflowError, LookupError,
    TypeError, SyntaxError, MemoryError, AttributeError,
)  # fmt: skip
_MOST_NPY_HEADER = 10_000  # bytes
_NUMBERS = re.compile(r"[<>|=][fiub](1|2|4|8)")
# Numbers, truth values, texts and dates, as numpy.save writes their dtypes.
_VALUES = re.compile(r"[<>|=]([fiubcmM][1-9]\d?|[US][1-9]\d{0,8})(\[\w{1,10}\])?")


class Member:
    """A reader of one file, perhaps in an archive, which counts the bytes that are left.

    Args:
        file: The open file.
        left: The number of bytes that the file claims to have; nothing is read beyond them.
    """

    def __init__(self, file: IO[bytes], left: int) -> None:
        """Begin at the present position of the file."""
        self._file, self.left = file, left

    def read(self, count: int = -1) -> bytes:
        """Read some of the bytes that are left, or all."""
        count = self.left if count < 0 else min(count, self.left)
        raw = self._file.read(count)
        self.left -= len(raw)
        return raw


def dtype_of_numbers(descr: object) -> AnyDType | None:
    """The dtype of numbers or truth values that an npy header names; None for any other."""
    return np.dtype(descr) if isinstance(descr, str) and _NUMBERS.fullmatch(descr) else None


def dtype_of_values(descr: object) -> AnyDType | None:
    """The dtype of values or records of them, from what an npy file's header says it is."""
    match descr:
        case str() if "O" in descr:
            raise ValueError("it holds Python objects, which are not read")
        case str() if _VALUES.fullmatch(descr):
            return np.dtype(descr)
        case [*fields] if fields and all(map(_is_field, fields)):
            return np.dtype(fields)
    return None


def _is_field(field: object) -> bool:
    match field:
        case (str(name), str(descr)):
            return bool(name) and dtype_of_values(descr) is not None
    return False


def npy_array(member: Member, dtype_of: Callable[[object], AnyDType | None]) -> AnyArray:
    """The array of an npy file, whose size is checked before memory is taken.

    Args:
        member: The bytes of the file, from its beginning to its end.
        dtype_of: A function that makes a dtype from what the file's header says it is, and gives
            None for what it does not accept.

    Raises:
        ValueError: Or another of `NPY_DAMAGE`, if the file is damaged or has another dtype.
    """
    shape, fortran, dtype = npy_header(member, dtype_of)
    raw = member.read()
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise ValueError("it ends too early")
    array: AnyArray = np.frombuffer(raw, dtype)
    array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def npy_header(
    member: Member, dtype_of: Callable[[object], AnyDType | None]
) -> tuple[tuple[int, ...], bool, AnyDType]:
    """The shape, the memory order and the dtype of an npy file.

    NumPy's own reader tries more than one parser on a header that it does not understand.

    Raises:
        ValueError: Or another of `NPY_DAMAGE`, if it is damaged, has another dtype, or claims
            another size than is left.
    """
    magic, version = member.read(6), tuple(member.read(2))
    if magic != NPY_MAGIC or version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError("it is not an npy file")
    length = int.from_bytes(member.read(2 if version == (1, 0) else 4), "little")
    if length > _MOST_NPY_HEADER:
        raise ValueError(f"its header claims {length} bytes")
    text = member.read(length).decode("utf-8" if version == (3, 0) else "latin1")
    match header := ast.literal_eval(text):
        case {"descr": descr, "fortran_order": bool(fortran), "shape": tuple(shape)} if (
            dtype := dtype_of(descr)
        ) and is_shape(shape):
            pass
        case _:
            raise ValueError(f"its header is {shown(header)}, not that of such an array")
    if math.prod(shape) * dtype.itemsize != member.left:
        raise ValueError(f"it claims the shape {shape}, but {member.left} bytes are there")
    return tuple(shape), fortran, dtype
