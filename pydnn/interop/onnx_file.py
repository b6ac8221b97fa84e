"""The bytes of an ONNX file.

pydnn writes them itself, because the format is only a few nested messages. So the bytes depend on
the graph alone, and the package onnx is not needed.

References:
    The ONNX authors, onnx.proto, 2022, for the numbers of the fields.
    Google, Protocol Buffers, Encoding, for how a field is written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

import numpy as np

from pydnn.checks import BadInput
from pydnn.records import AnyArray, AnyDType
from pydnn.stages.graph import DTYPE_CODES, Attribute, Graph, Node

__all__ = ["IR_VERSION", "OPSET", "onnx_file"]

IR_VERSION, OPSET = 8, 17
_MOST_BYTES = 2**31 - 1  # that readers take as one message


def onnx_file(graph: Graph, *, producer_version: str, metadata: Mapping[str, str]) -> bytes:
    """The bytes of the file that holds a graph.

    Args:
        graph: The graph.
        producer_version: The version of pydnn.
        metadata: Texts by name.

    Raises:
        BadInput: If it would be larger than 2 GB, which the format does not allow.
    """
    numbers = sum(array.nbytes for array in graph.constants.values() if array.dtype != object)
    if numbers > _MOST_BYTES - (1 << 24):
        raise BadInput(
            f"the parameters take {numbers:,} bytes, but an ONNX file holds less than 2 GB: "
            "export them as model.safetensors."
        )
    model = [
        _number(1, IR_VERSION),
        _text(2, "pydnn"),
        _text(3, producer_version),
        _message(7, _graph(graph)),
        _message(8, [_text(1, ""), _number(2, OPSET)]),
        *(_message(14, [_text(1, name), _text(2, text)]) for name, text in metadata.items()),
    ]
    return b"".join(model)


def _graph(graph: Graph) -> list[bytes]:
    return [
        *(_message(1, _node(number, node)) for number, node in enumerate(graph.nodes)),
        _text(2, "pydnn"),
        *(_message(5, _tensor(name, array)) for name, array in graph.constants.items()),
        *(_message(11, _info(name, *of)) for name, of in graph.inputs.items()),
        *(_message(12, _info(name, *of)) for name, of in graph.outputs.items()),
    ]


def _node(number: int, node: Node) -> list[bytes]:
    return [
        *(_text(1, name) for name in node.inputs),
        *(_text(2, name) for name in node.outputs),
        _text(3, f"{number}_{node.operator}"),
        _text(4, node.operator),
        *(_message(5, _attribute(name, value)) for name, value in node.attributes.items()),
    ]


def _attribute(name: str, value: Attribute) -> list[bytes]:
    head = _text(1, name)
    if isinstance(value, str):
        return [head, _text(4, value), _number(20, 3)]
    if isinstance(value, float):
        return [head, _key(2, 5) + struct.pack("<f", value), _number(20, 1)]
    if isinstance(value, int):
        return [head, _number(3, value), _number(20, 2)]
    texts = [_text(9, each) for each in value if isinstance(each, str)]
    if texts:
        return [head, *texts, _number(20, 8)]
    return [head, *(_number(8, int(each)) for each in value), _number(20, 7)]


def _tensor(name: str, array: AnyArray) -> list[bytes]:
    head = [*(_number(1, size) for size in array.shape), _number(2, DTYPE_CODES[array.dtype.name])]
    if array.dtype == object:
        return [*head, *(_text(6, str(text)) for text in array.ravel()), _text(8, name)]
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return [*head, _text(8, name), _bytes(9, little.tobytes())]


def _info(name: str, dtype: AnyDType, shape: Iterable[int | str]) -> list[bytes]:
    """The type of an input or output: any number of examples, each of this shape."""
    sizes = ("m", *shape)  # a name stands for any size
    axes = [_text(2, size) if isinstance(size, str) else _number(1, size) for size in sizes]
    tensor = [
        _number(1, DTYPE_CODES[dtype.name]),
        _message(2, [_message(1, [axis]) for axis in axes]),
    ]
    return [_text(1, name), _message(2, [_message(1, tensor)])]


# The fields of a message: a key of the field's number and kind, and what it holds.


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(value: int) -> bytes:
    """An integer in pieces of seven bits, lowest first; negative integers have 64 bits."""
    value &= 2**64 - 1
    pieces = bytearray()
    while value > 127:
        pieces.append(value & 127 | 128)
        value >>= 7
    pieces.append(value)
    return bytes(pieces)


def _number(field: int, value: int) -> bytes:
    return _key(field, 0) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _key(field, 2) + _varint(len(content)) + content


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _message(field: int, fields: Iterable[bytes]) -> bytes:
    return _bytes(field, b"".join(fields))
