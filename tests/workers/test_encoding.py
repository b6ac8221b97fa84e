"""Messages between workers: what is read back has the same bits and the same memory order."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from pydnn import BadInput
from pydnn.workers.encoding import decoded, encoded


def sent(values):
    return decoded(b"".join(encoded(values)))


ARRAYS = st_np.arrays(
    st.sampled_from(["<f4", "<f8", ">f8", "<i8", "|u1", "|b1", "<U3"]),
    st_np.array_shapes(min_dims=0, min_side=0, max_side=4),
)


@given(ARRAYS, st.randoms(use_true_random=False))
def test_an_array_comes_back_with_its_bytes_dtype_shape_and_memory_order(array, random):
    axes = list(range(array.ndim))
    random.shuffle(axes)
    array = array.transpose(axes)
    back = sent({"a": array, "n": 1})["a"]
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    if all(side > 1 for side in array.shape):  # otherwise strides do not matter
        assert back.strides == array.strides
    assert not back.flags.writeable


def test_numbers_texts_and_their_order_come_back():
    values = {"b": [1, {"x": None}], "a": 0.1, "猫": float("inf"), "flag": np.bool_(True)}
    assert sent(values) == values
    assert list(sent(values)) == list(values)


def test_gaps_between_entries_are_not_sent():
    X = np.arange(12.0).reshape(3, 4)
    assert sent({"X": X[:, 1:3]})["X"].tolist() == X[:, 1:3].tolist()
    assert sent({"X": X[::-1].T})["X"].tolist() == X[::-1].T.tolist()


def test_what_is_neither_json_nor_an_array_of_numbers_is_refused():
    with pytest.raises(BadInput, match="a task cannot be sent"):
        encoded({"f": print})
    with pytest.raises(BadInput, match="x is an array of object"):
        encoded({"x": np.array([print])})


def message(text, rest=b""):
    return struct.pack("<4sQ", b"pdn1", len(text)) + text + rest


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"pdn1" + b"\xff" * 8,
        message(b"nonsense"),
        message(b"[[], {}]"),
        message(b'[["a"], {}, []]'),
        message(b'[["a"], {}, [["a", "<f8", [99999999999], [0]]]]'),
        message(b'[["a"], {}, [["a", "|O8", [1], [0]]]]', b"\0" * 99),
        message(b'[["a"], {}, [["a", "<f8", [1, 1], [0, 0]]]]', b"\0" * 99),
        message(b'[["a"], {}, [["a", "<f8", [-1], [0]]]]', b"\0" * 99),
        message(b"[" * 100_000),
    ],
)
def test_a_damaged_message_is_refused(bad):
    with pytest.raises(BadInput, match="a message between workers is damaged"):
        decoded(bad)


def test_a_message_is_json_and_raw_bytes():
    whole = b"".join(encoded({"a": np.array([1.0]), "n": 2}))
    length = struct.unpack_from("<Q", whole, 4)[0]
    assert json.loads(whole[12 : 12 + length])[0] == ["a", "n"]
    assert whole.endswith(np.array([1.0]).tobytes())
