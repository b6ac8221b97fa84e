import attrs
import numpy as np
import pytest

from pydnn.records import Batch, FloatArray, arrays, readonly


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Pair:
    first: FloatArray
    second: FloatArray = None
    note: str = ""


def test_readonly_is_a_view_that_refuses_writes_and_leaves_the_caller_its_own():
    mine = np.zeros(3)
    view = readonly(mine)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    mine[0] = 2
    assert view[0] == 2


@pytest.mark.parametrize(
    ("given", "dtype"), [([1, 2], "f8"), (np.float32([1]), "f4"), (np.array([True]), "f8")]
)
def test_readonly_makes_floats_and_keeps_their_precision(given, dtype):
    assert readonly(given).dtype == dtype


def test_records_compare_by_value():
    assert Pair(np.ones(2)) == Pair(np.ones(2))
    assert Pair(np.ones(2)) != Pair(np.zeros(2))
    assert Pair(np.ones(2)) != Pair(np.ones(3))
    assert Pair(np.ones(2), np.ones(1)) != Pair(np.ones(2))


def test_records_print_shapes_and_not_walls_of_numbers():
    assert repr(Pair(np.ones((20, 12288)))) == (
        "Pair(first=float64 (20, 12288), second=None, note='')"
    )


def test_records_are_frozen_and_have_no_hash():
    batch = Batch(np.ones((2, 3)), np.ones((1, 3)))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        batch.X = np.zeros(1)
    with pytest.raises(ValueError, match="read-only"):
        batch.X[0, 0] = 5
    with pytest.raises(TypeError, match="unhashable type: 'Batch'"):
        hash(batch)
