import numpy as np
import pytest
from helpers import frozen

from pydnn import BadInput, Context, Key, dense, embedding, fast, one_hot, portable, serial
from pydnn.stages import EVALUATION
from pydnn.stages.dense import DenseParams
from pydnn.stages.embedding import EmbeddingParams, expect_ids
from pydnn.stages.initializers import normal, zeros
from pydnn.testing import assert_onnx, assert_stage

PARAMS = EmbeddingParams([[0.0, 0.5], [1.0, 2.0], [3.0, 4.0]])
IDS = np.array([[2.0, 0.0], [1.0, 2.0]])  # two steps of two examples
both = pytest.mark.parametrize("numerics", [fast, portable], ids=lambda one: one.name)


@both
def test_embedding_matches_worked_example(numerics):
    stage = embedding(3, 2)
    A, cache = stage.forward(PARAMS, IDS, Context(numerics=numerics))
    np.testing.assert_array_equal(A, [[[3, 0], [4, 0.5]], [[1, 3], [2, 4]]])
    dA = np.array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    dA_prev, grads = stage.backward(PARAMS, cache, dA)
    # Id 2 is at step 0 of example 0 and at step 1 of example 1.
    np.testing.assert_array_equal(grads.dW, [[2, 4], [5, 7], [1 + 6, 3 + 8]])
    np.testing.assert_array_equal(dA_prev, np.zeros((2, 2)))


def test_one_hot_matches_worked_example():
    A, cache = one_hot(3).forward((), IDS, EVALUATION)
    np.testing.assert_array_equal(A[0], [[0, 1], [0, 0], [1, 0]])
    np.testing.assert_array_equal(A[1], [[0, 0], [1, 0], [0, 1]])
    assert one_hot(3).forward((), IDS.astype(np.float32), EVALUATION)[0].dtype == np.float32
    np.testing.assert_array_equal(one_hot(3).backward((), cache, A)[0], np.zeros((2, 2)))


def test_the_id_after_the_last_one_stands_for_nothing():
    A, cache = one_hot(2).forward((), IDS, EVALUATION)
    np.testing.assert_array_equal(A[0], [[0, 1], [0, 0]])  # of the ids 2 and 0
    np.testing.assert_array_equal(one_hot(2).backward((), cache, A)[0], np.zeros((2, 2)))
    lengths = np.array([1, 2])
    A, _ = one_hot(2).forward((), np.array([[2.0, 0], [9, 1]]), Context(lengths=lengths))
    np.testing.assert_array_equal(A, [[[0, 1], [0, 0]], [[0, 0], [0, 1]]])


@both
def test_an_embedding_is_a_dense_layer_of_one_hot_columns(numerics):
    key, context = Key(1), Context(numerics=numerics)
    params, shape = embedding(7, 4).init(key, (5,))
    assert shape == (5, 4)
    ids, dA = key.at("ids").integers(7, (5, 6)).astype(float), key.at("dA").normal((5, 4, 6))
    chain = serial(one_hot(7), dense(4))
    tree = ((), DenseParams(params.W.T, np.zeros((4, 1))))
    A, cache = embedding(7, 4).forward(params, ids, context)
    expected, caches = chain.forward(tree, ids, context)
    np.testing.assert_array_equal(A, expected)
    _, grads = embedding(7, 4).backward(params, cache, dA)
    np.testing.assert_allclose(grads.dW, chain.backward(tree, caches, dA)[1][1].dW.T, rtol=1e-13)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 1, 3)])
def test_ids_may_have_any_axes(shape):
    ids = Key(1).integers(3, (*shape, 5)).astype(float)
    for stage, params in ((embedding(3, 2), PARAMS), (one_hot(3), ())):
        _, shape_out = stage.init(Key(0), shape)
        A, cache = stage.forward(params, ids, EVALUATION)
        assert A.shape == (*shape_out, 5)
        assert A.flags.c_contiguous
        assert stage.backward(params, cache, A)[0].shape == ids.shape
        vectors = PARAMS.W if params else np.eye(3)
        np.testing.assert_array_equal(np.moveaxis(A, -1, 0)[2], vectors[ids[..., 2].astype(int)])
        if len(shape) == 2:  # other shapes are in the table of all stages
            assert_stage(stage, shape_in=shape)
            assert_onnx(stage, shape_in=shape)


def test_padding_may_hold_anything_and_its_gradient_does_not_count():
    context = Context(lengths=frozen(np.array([2, 1])))
    for stage, params in ((embedding(3, 2), PARAMS), (one_hot(3), ())):
        results = []
        for padding in (0.0, -1.0, 0.5, np.nan, 1e300):
            ids, dA = IDS.copy(), np.ones((2, 2 if params else 3, 2))
            ids[1, 1] = dA[1, :, 1] = padding
            A, cache = stage.forward(params, ids, context)
            np.testing.assert_array_equal(A[1, :, 1], 0)
            dA_prev, grads = stage.backward(params, cache, dA)
            assert not dA_prev.any()
            results.append((A.tobytes(), grads.dW.tobytes() if params else b""))
        assert len(set(results)) == 1


def test_vectors_are_drawn_by_the_initializer():
    params, _ = embedding(5, 3, initializer=normal(scale=2)).init(Key(1).at(0), (4,))
    np.testing.assert_array_equal(params.W, 2 * Key(1).at(0, "W").normal((5, 3)))


def test_ids_of_many_words_need_float64():
    ids = np.array([[2.0**24 + 1]])
    assert expect_ids(ids, 2**24 + 2) == [[2**24 + 1]]
    with pytest.raises(BadInput, match="ids of 16777218 words are float32, which holds whole"):
        expect_ids(ids.astype(np.float32), 2**24 + 2)


def lookup(*ids, words=3):
    stage, params = embedding(words, 2), EmbeddingParams(np.zeros((words, 2)))
    return lambda: stage.forward(params, np.array(ids), EVALUATION)


REFUSED = {
    "beyond the vocabulary": (
        lookup([0.0, 1.0], [2.0, 3.0]),
        "the id at step 1 of example 1 is 3, expected a whole number from 0 to 2: give ids",
    ),
    "below 0": (lookup([0.0, -1.0]), "the id at step 0 of example 1 is -1, expected"),
    "not whole": (lookup([0.0], [0.25]), "the id at step 1 of example 0 is 0.25, expected"),
    "not a number": (lookup([np.nan]), "the id at step 0 of example 0 is nan, expected"),
    "huge": (lookup([1e300]), r"the id at step 0 of example 0 is 1e\+300, expected"),
    "places": (lookup([[0.0]], [[9.0]]), r"the id at place \(1, 0\) of example 0 is 9, expected"),
    "single ids": (lookup(0.0, 9.0), "the id of example 1 is 9, expected"),
    "one hot": (
        lambda: one_hot(1).forward((), IDS, EVALUATION), "the id at step 0 of example 0 is 2",
    ),
    "no words": (lambda: embedding(0, 2), "words is 0, expected an integer of at least 1"),
    "no units": (lambda: embedding(2, 0), "units is 0, expected an integer of at least 1"),
    "no words, one hot": (lambda: one_hot(0), "words is 0, expected an integer of at least 1"),
    "more words than any machine holds": (
        lambda: embedding(10**12, 10**6).init(Key(0), (3,)), "have .* weights, more than any",
    ),
    "more numbers than any machine holds": (
        lambda: one_hot(10**12).init(Key(0), (10**6,)), "make .* numbers of each example, more",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()


def test_the_largest_vocabulary_can_be_laid_out_without_memory():
    _, shape = embedding(2**24, 2**24, initializer=zeros()).init(Key(1), (3,))
    assert shape == (3, 2**24)
