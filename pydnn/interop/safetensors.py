"""Arrays in safetensors files, written in one canonical way and read as data from strangers.

A file is the length of its header in 8 bytes, the header in JSON, and the bytes of all arrays, one
after the other. That is little enough to be written here, where an array that is not in C order
cannot be written wrongly, equal arrays give equal bytes, and the sizes in a stranger's file are
checked before anything is made.

References:
    The safetensors authors, Safetensors, https://github.com/huggingface/safetensors, section Format
"""

from __future__ import annotations

import contextlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path

import numpy as np

from pydnn.checks import BadInput, is_count, is_shape, shown
from pydnn.interop.stored import Stored
from pydnn.records import AnyArray, AnyDType
from pydnn.storage.files import open_regular

__all__ = ["is_safetensors", "open_safetensors", "safetensors_bytes"]

_MOST_HEADER = 1 << 22  # bytes: room for thirty thousand arrays
_DTYPES: dict[str, AnyDType] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # the upper half of a float32
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}  # fmt: skip
_CODES = {dtype: code for code, dtype in reversed(_DTYPES.items()) if code != "BF16"}


def safetensors_bytes(arrays: Mapping[str, AnyArray], *, about: str) -> bytes:
    """The bytes of a file of named arrays; the same arrays and text give the same bytes.

    Args:
        arrays: Numbers or truth values of any memory order.
        about: A text, which the file has as its metadata `pydnn`.
    """
    little = {n: np.asarray(a, a.dtype.newbyteorder("<"), order="C") for n, a in arrays.items()}
    # The largest numbers first, so that each array begins at a multiple of its numbers' size.
    ordered = dict(sorted(little.items(), key=lambda item: -item[1].itemsize))
    header: dict[str, object] = {"__metadata__": {"pydnn": about}}
    start = 0
    for name, array in ordered.items():
        stop = start + array.nbytes
        header[name] = {
            "dtype": _CODES[array.dtype],
            "shape": array.shape,
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(a.tobytes() for a in ordered.values())


def is_safetensors(head: bytes) -> bool:
    """Whether the first bytes of a file, at least 9, look like those of a safetensors file."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MOST_HEADER


@contextlib.contextmanager
def open_safetensors(path: Path) -> Iterator[list[Stored]]:
    """The arrays of a file, in the order of their bytes.

    Raises:
        BadInput: If the file is missing or damaged: its header does not say of every byte which
            array has it, or an array has another size than its shape and dtype.
    """
    with open_regular(path, what="a safetensors file") as file:
        size = file.seek(0, 2)
        header, start = _header(path, file, size)
        arrays = []
        for name, of in header.items():
            if name != "__metadata__":
                arrays.append(_array(path, name, of))
        arrays.sort(key=lambda array: array[3:])
        _expect_whole(path, arrays, size - start)
        yield [_stored(path, file, start, *array) for array in arrays]


_Array = tuple[str, str, tuple[int, ...], int, int]  # name, dtype, shape, first byte, end


def _header(path: Path, file: BufferedReader, size: int) -> tuple[dict[str, object], int]:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _MOST_HEADER):
        raise _damaged(path, f"its header claims {length:,} bytes of {size:,}")
    text = file.read(length)
    try:
        header = json.loads(text.decode(), object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not JSON with each name once ({error})") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a mapping")
    return header, 8 + length


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a name is there twice")
    return mapping


def _array(path: Path, name: str, of: object) -> _Array:
    match of:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [start, stop], **rest} if (
            not rest and is_shape(shape) and is_count(start) and is_count(stop)
        ):
            if dtype not in _DTYPES:
                known = ", ".join(_DTYPES)
                raise BadInput(
                    f"{name} in {path} has dtype {shown(dtype)}, expected one of {known}: convert "
                    "it before it is saved."
                )
            if math.prod(shape) * _DTYPES[dtype].itemsize == stop - start:
                return name, dtype, tuple(shape), start, stop
    raise _damaged(path, f"{name} is {shown(of)}")


def _expect_whole(path: Path, arrays: list[_Array], size: int) -> None:
    """Refuse arrays that overlap, leave bytes out, or go beyond the end of the file."""
    end = 0
    for name, _, _, start, stop in arrays:
        if start != end:
            what = "overlaps another array" if start < end else "leaves bytes out before it"
            raise _damaged(path, f"{name} {what}")
        end = stop
    if end != size:
        raise _damaged(path, f"its arrays have {end:,} bytes, but {size:,} follow the header")


def _stored(
    path: Path,
    file: BufferedReader,
    origin: int,
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    start: int,
    stop: int,
) -> Stored:
    def read() -> AnyArray:
        file.seek(origin + start)
        raw = file.read(stop - start)
        if len(raw) != stop - start:
            raise _damaged(path, "it has become shorter")
        array = np.frombuffer(raw, _DTYPES[dtype]).reshape(shape)
        if dtype == "BF16":
            return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    return Stored(name, shape, read)


def _damaged(path: Path, why: str) -> BadInput:
    return BadInput(f"{path} is not a whole safetensors file ({why}): download or save it again.")
