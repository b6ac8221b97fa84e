import attrs
import numpy as np
import pytest

from pydnn.checks import BadInput
from pydnn.parameters import NO_PARAMS, layout_of, leaves, pack
from pydnn.stages.dense import DenseGrads, DenseParams

TREE = (
    DenseParams([[1, 2], [3, 4]], [[5], [6]]),
    NO_PARAMS,
    (NO_PARAMS, DenseParams([[7, 8]], [[9]])),
)


def test_arrays_lie_one_after_the_other():
    packed = pack(TREE)
    np.testing.assert_array_equal(packed.vector, np.arange(1.0, 10))
    assert [slot.name for slot in packed.layout.slots] == ["0/W", "0/b", "2/1/W", "2/1/b"]
    np.testing.assert_array_equal(packed["2/1/W"], [[7, 8]])


def test_the_tree_has_the_records_again_and_shares_the_vectors_memory():
    packed = pack(TREE)
    assert packed.tree == TREE
    assert all(np.shares_memory(leaf, packed.vector) for leaf in leaves(packed.tree))
    assert not any(leaf.flags.writeable for leaf in (*leaves(packed.tree), packed.vector))


def test_records_say_which_arrays_are_weights():
    assert [slot.name for slot in pack(TREE).layout.slots if slot.weights] == ["0/W", "2/1/W"]
    stacked = pack(TREE).layout.mirrored((DenseGrads, NO_PARAMS, (NO_PARAMS, DenseGrads)))
    assert stacked.slots == pack(TREE).layout.slots


def test_packing_copies_and_rounds_to_the_dtype():
    packed = pack((DenseParams(np.full((1, 1), 0.1), np.zeros((1, 1))),), dtype=np.float32)
    assert packed.vector.dtype == np.float32
    assert packed["0/W"][0, 0] == np.float32(0.1)


def test_other_numbers_keep_the_records_and_the_names():
    grads = pack((DenseGrads([[1, 2]], [[3]]),))
    doubled = grads.with_vector(grads.vector * 2)
    assert isinstance(doubled.tree[0], DenseGrads)
    np.testing.assert_array_equal(doubled.tree[0].dW, [[2, 4]])
    assert doubled.layout is grads.layout


def test_an_empty_network_has_an_empty_vector():
    assert pack((NO_PARAMS, (NO_PARAMS,))).vector.shape == (0,)


def test_shapes_and_not_numbers_are_printed():
    assert repr(pack(TREE[:1])) == "Packed(6 float64 numbers: 0/W (2, 2), 0/b (2, 1))"


def test_a_vector_of_another_size_and_an_unknown_name_are_refused():
    packed = pack(TREE)
    with pytest.raises(BadInput, match=r"vector has shape \(8,\), expected \(9,\)"):
        packed.with_vector(np.ones(8))
    with pytest.raises(BadInput, match=r"there is no parameter '2/W': did you mean"):
        packed["2/W"]


def test_parameters_that_are_not_records_are_refused():
    with pytest.raises(BadInput, match="parameters at 0/ are a dict, expected an attrs record"):
        layout_of(({"W": np.ones(1)},))


def test_views_refuse_writes_whatever_a_users_record_does():
    @attrs.frozen
    class Plain:
        gain: np.ndarray

    mine = np.ones(3)
    packed = layout_of((Plain(np.ones(3)),)).packed(mine)
    assert not packed.tree[0].gain.flags.writeable
    assert mine.flags.writeable


def test_leaves_of_the_state_of_an_optimizer_are_its_arrays():
    vector = np.arange(6.0)
    remembered = (3, (vector, 0.5), pack(DenseParams(np.ones((2, 1)), np.ones((2, 1)))), None)
    assert [leaf.size for leaf in leaves((remembered,))] == [6, 4]
