"""Messages between processes: JSON for numbers and texts, followed by the raw bytes of arrays.

Unlike pickle, reading a message calls nothing. What is read back has the same bits, dtypes, shapes
and memory order, because the bits of a product may depend on the order.
"""

from __future__ import annotations

import json
import math
import mmap
import re
import struct
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from pydnn.checks import BadInput, Json, is_shape
from pydnn.records import AnyArray, freeze

__all__ = ["array_at", "decoded", "encoded", "memory_order"]

Buffer: TypeAlias = "bytes | bytearray | memoryview"

_LINE = 64  # bytes of a cache line; arrays begin at one, as those in memory do
_HEAD = struct.Struct("<4sQ")  # a mark, and the length of the JSON
_MARK = b"pdn1"
_DTYPE = re.compile(r"[<>|][biufcU][0-9]{1,9}")
_MOST_AXES = 32
_DAMAGED = "a message between workers is damaged"


def encoded(values: Mapping[str, Json | AnyArray]) -> list[bytes | memoryview]:
    """The message of some values by name, in pieces to write one after the other.

    Arrays that lie densely in memory are not copied.

    Raises:
        BadInput: If a value is neither JSON nor an array of numbers or texts.

    Example:
        >>> message = b"".join(encoded({"count": 3, "X": np.zeros((2, 1))}))
        >>> decoded(message)
        {'count': 3, 'X': array([[0.],
               [0.]])}
    """
    plain: dict[str, Json] = {}
    listed, arrays = [], []
    for name, value in values.items():
        if not isinstance(value, np.ndarray):
            plain[name] = value
            continue
        if not _DTYPE.fullmatch(value.dtype.str):
            raise BadInput(f"{name} is an array of {value.dtype}, expected numbers or texts.")
        order = memory_order(value)
        listed.append([name, value.dtype.str, list(value.shape), order])
        arrays.append(np.ascontiguousarray(value.transpose(order)))
    try:
        text = json.dumps([list(values), plain, listed], default=_plain).encode()
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"a task cannot be sent ({error}): give numbers, texts and arrays."
        ) from error
    pieces: list[bytes | memoryview] = [_HEAD.pack(_MARK, len(text)) + text]
    at = len(pieces[0])
    for array in arrays:
        data = array.reshape(-1).view(np.uint8).data
        gap = -at % _LINE
        pieces += [b"\0" * gap, data] if gap else [data]
        at += gap + data.nbytes
    return pieces


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__}")


def memory_order(array: AnyArray) -> list[int]:
    """The axes of an array in the order of its memory, from the largest to the smallest steps."""
    order = list(range(array.ndim))
    if not array.flags.c_contiguous:
        order.sort(key=lambda axis: -abs(array.strides[axis]))  # a stable order for equal strides
    return order


def decoded(message: Buffer) -> dict[str, Json | AnyArray]:
    """The values of a message, as `encoded` received them; arrays are read-only views of it.

    Raises:
        BadInput: If the message is damaged.
    """
    view = memoryview(message)
    if len(view) < _HEAD.size:
        raise BadInput(f"{_DAMAGED}: it has {len(view)} bytes.")
    mark, length = _HEAD.unpack_from(view)
    if mark != _MARK or length > len(view) - _HEAD.size:
        raise BadInput(f"{_DAMAGED} or from another version of pydnn: use one version everywhere.")
    at = _HEAD.size + length
    try:
        names, plain, listed = json.loads(bytes(view[_HEAD.size : at]))
        arrays = {}
        for name, *place in listed:
            at += -at % _LINE
            arrays[name] = array_at(view, at, *place)
            at += arrays[name].nbytes
        return {name: arrays[name] if name in arrays else plain[name] for name in names}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise (
            error if isinstance(error, BadInput) else BadInput(f"{_DAMAGED} ({error}).")
        ) from error


def array_at(
    buffer: Buffer | mmap.mmap, at: int, dtype: str, shape: list[int], order: list[int]
) -> AnyArray:
    """The read-only array whose bytes begin at `at` in a buffer.

    Args:
        buffer: The bytes.
        at: The offset of the first one.
        dtype: The dtype, as NumPy writes it with its byte order, e.g. "<f8".
        shape: The shape.
        order: The axes in the order of memory, see `memory_order`.

    Raises:
        BadInput: If there is no such array, or it does not fit into the buffer.
    """
    if not (
        _DTYPE.fullmatch(dtype)
        and len(shape) <= _MOST_AXES
        and is_shape(shape)
        and sorted(order) == list(range(len(shape)))
    ):
        raise BadInput(f"{_DAMAGED}: an array has dtype {dtype!r}, shape {shape}, order {order}.")
    kind = np.dtype(dtype)
    count = math.prod(shape)
    if not count * kind.itemsize:
        return freeze(np.zeros(shape, kind))
    if not 0 <= at <= len(buffer) - count * kind.itemsize:
        raise BadInput(f"{_DAMAGED}: an array of shape {shape} does not fit into it.")
    dense = np.frombuffer(buffer, kind, count, at).reshape([shape[axis] for axis in order])
    return freeze(dense.transpose(np.argsort(order)) if len(order) > 1 else dense)
