import itertools

import attrs
import numpy as np
import pytest
import toolz
from helpers import arrays_in, frozen
from hypothesis import given
from hypothesis import strategies as st

from pydnn import BadInput, Batch, Key, batches_of, build, describe, full_batch, mini_batches
from pydnn.batches import split, split_fold
from pydnn.data import Stored
from pydnn.jobs.inputs import expect_data
from pydnn.jobs.standardization import fit_standardization

KEY = Key(6)


def numbered(m, weights=False):
    """Examples that tell which they are."""
    X = np.arange(m, dtype=float)[np.newaxis]
    return Batch(frozen(X), frozen(10 * X), frozen(100 * X + 1) if weights else None)


def seen(batches):
    return [b.X[0].astype(int).tolist() for b in batches]


@given(st.integers(1, 30), st.integers(1, 30), st.booleans(), st.booleans())
def test_an_epoch_has_every_example_once(m, size, shuffle, keep_last):
    if size > m:
        return
    batching = mini_batches(size, shuffle=shuffle, keep_last=keep_last)
    count = batching.per_epoch(m)
    three = seen(toolz.take(3 * count, batches_of(batching, numbered(m), KEY)))
    for epoch in toolz.partition_all(count, three):
        examples = sorted(itertools.chain(*epoch))
        if keep_last:
            assert examples == list(range(m))
        else:
            assert len(set(examples)) == len(examples) == m - m % size
            assert {len(batch) for batch in epoch} == {size}


def test_labels_and_weights_stay_with_their_examples():
    for batch in toolz.take(4, batches_of(mini_batches(3), numbered(7, weights=True), KEY)):
        np.testing.assert_array_equal(batch.Y, 10 * batch.X)
        np.testing.assert_array_equal(batch.weights, 100 * batch.X + 1)
        assert not any(a.flags.writeable for a in arrays_in(batch))


@given(st.integers(0, 40))
def test_which_batch_is_iteration_k_depends_on_key_and_k_alone(k):
    data, batching = numbered(10), mini_batches(4)
    one_by_one = toolz.nth(k, batches_of(batching, data, KEY))
    assert batching.at(data, KEY, k) == one_by_one
    assert next(batches_of(batching, data, KEY, start=k)) == one_by_one


def test_each_epoch_and_key_has_its_own_order_unless_it_is_not_shuffled():
    data = numbered(50)
    orders = seen(toolz.take(2, batches_of(mini_batches(50), data, KEY)))
    orders += seen(toolz.take(1, batches_of(mini_batches(50), data, Key(7))))
    assert len({tuple(order) for order in orders}) == 3
    plain = seen(toolz.take(2, batches_of(mini_batches(2, shuffle=False), numbered(3), KEY)))
    assert plain == [[0, 1], [2]]


def test_the_memory_order_of_the_data_does_not_change_a_batch():
    X = Key(1).normal((5, 9))
    by_row = Batch(frozen(X), frozen(X[:1]))
    by_column = Batch(frozen(np.asfortranarray(X)), frozen(X[:1]))
    for batching in (mini_batches(4), mini_batches(4, shuffle=False)):
        assert batching.at(by_row, KEY, 3) == batching.at(by_column, KEY, 3)


def test_a_full_batch_is_the_data():
    data = numbered(3)
    assert list(toolz.take(2, batches_of(full_batch(), data, KEY))) == [data, data]
    assert full_batch().per_epoch(3) == 1


def test_batchings_are_described():
    for batching in (full_batch(), mini_batches(4, keep_last=False)):
        again = build(describe(batching), family="batches")
        assert again.at(numbered(9), KEY, 2) == batching.at(numbered(9), KEY, 2)


# Splitting data


@given(st.lists(st.integers(2, 30), min_size=1, max_size=4), st.floats(0.05, 0.95))
def test_each_class_is_split_in_the_same_share(counts, share):
    Y = np.repeat(np.arange(len(counts)), counts)[np.newaxis].astype(float)
    data = Batch(np.arange(Y.size, dtype=float)[np.newaxis], Y)
    train, validation = split(data, KEY, share=share)
    both = np.concatenate([train.X, validation.X], axis=1)[0]
    assert sorted(both) == list(range(Y.size))
    for label, count in enumerate(counts):
        found = np.count_nonzero(label == validation.Y)
        assert found == min(max(1, round(share * count)), count - 1)
    assert (np.diff(train.X) > 0).all()
    assert split(data, KEY, share=share) == (train, validation)


def test_a_split_without_classes_has_the_share():
    data = Batch(np.zeros((1, 10)), np.arange(10.0)[np.newaxis])
    train, validation = split(data, KEY, share=0.3, stratified=False)
    assert (train.Y.size, validation.Y.size) == (7, 3)
    assert split(data, Key(9), share=0.3, stratified=False)[1] != validation


@given(st.lists(st.integers(2, 20), min_size=1, max_size=4), st.integers(2, 20), st.booleans())
def test_each_example_is_in_one_fold_and_folds_have_the_sizes_of_scikit_learn(
    counts, folds, stratified
):
    selection = pytest.importorskip("sklearn.model_selection")
    folds = min(folds, *counts)
    # In scikit-learn, classes count in the order of their first examples.
    Y = np.concatenate([np.arange(len(counts)), np.repeat(np.arange(len(counts)), counts)])
    data = Batch(np.arange(Y.size, dtype=float)[np.newaxis], Y[np.newaxis].astype(float))
    parts = [
        split_fold(data, KEY, which=which, folds=folds, stratified=stratified)
        for which in range(1, folds + 1)
    ]
    held_back = np.concatenate([fold.X[0] for _, fold in parts])
    assert sorted(held_back) == list(range(Y.size))
    for train, fold in parts:
        assert sorted([*train.X[0], *fold.X[0]]) == list(range(Y.size))
        assert (np.diff(train.X) > 0).all()
        assert (np.diff(fold.X) > 0).all()
    oracle = selection.StratifiedKFold if stratified else selection.KFold
    expected = [Y[fold] for _, fold in oracle(folds).split(data.X.T, Y)]
    assert [fold.Y.size for _, fold in parts] == [labels.size for labels in expected]
    if stratified:
        assert [np.bincount(fold.Y[0].astype(int)).tolist() for _, fold in parts] == [
            np.bincount(labels).tolist() for labels in expected
        ]


def test_folds_depend_on_the_key_alone():
    data = Batch(np.zeros((1, 40)), np.arange(40.0)[np.newaxis])
    first, again, other = (
        split_fold(data, key, which=2, folds=4, stratified=False) for key in (KEY, KEY, Key(9))
    )
    assert first == again
    assert first != other


DATA = Batch(np.ones((2, 3)), np.zeros((1, 3)))
REFUSED = {
    "larger than the data": (
        lambda: batches_of(mini_batches(4), DATA, KEY),
        "batches of 4 are larger than the data, 3 examples: give a size of at most 3",
    ),
    "no size": (lambda: mini_batches(0), "size is 0, expected an integer"),
    "a lone example": (
        lambda: split(Batch(np.ones((1, 3)), [[0, 0, 1]]), KEY),
        "label 1 has 1 example, expected two or more to split",
    ),
    "nothing to split": (
        lambda: split(Batch(np.ones((1, 1)), [[0]]), KEY, stratified=False),
        "there are 1 examples, expected two",
    ),
    "one fold": (lambda: split_fold(DATA, KEY, which=1, folds=1), "folds is 1, expected an int"),
    "no such fold": (
        lambda: split_fold(DATA, KEY, which=3, folds=2), "which is 3, expected at most 2",
    ),
    "more folds than examples": (
        lambda: split_fold(DATA, KEY, which=1, folds=4, stratified=False),
        "there are 3 examples for 4 folds, expected as many or more: use fewer folds",
    ),
    "more folds than examples of a class": (
        lambda: split_fold(Batch(np.ones((1, 5)), [[0, 0, 0, 7, 7]]), KEY, which=1, folds=3),
        "label 7 has 2 examples, expected 3 or more, one for each fold",
    ),
    "all of it": (lambda: split(DATA, KEY, share=1), "share is 1, expected a number below 1"),
    "other features": (
        lambda: fit_standardization(DATA.X)(np.ones((3, 1))),
        r"X has shape \(3, 1\), expected \(2, m\)",
    ),
    "NaN": (
        lambda: expect_data(attrs.evolve(DATA, X=[[1, 2, 3], [4, np.nan, 5]])),
        "X holds nan in row 1, column 1, expected finite numbers",
    ),
    "NaN among labels": (
        lambda: expect_data(attrs.evolve(DATA, Y=[[1, np.nan, 3]])),
        "Y holds nan in row 0, column 1",
    ),
    "infinity": (
        lambda: fit_standardization(np.array([[np.inf]])), "X holds inf in row 0, column 0",
    ),
    "spread of two roundings": (
        lambda: fit_standardization([[1e6, 1e6 + 2e-10, 1e6]]),
        "feature 0 goes from 1000000.0 to 1000000.0000000002, a spread too small",
    ),
    "spread below the range": (
        lambda: fit_standardization([[1.0, 2], [0, 1e-310]]), "feature 1 .* too small",
    ),
    "spread below the range of float32": (
        lambda: fit_standardization(np.float32([[0, 1e-40]])), "feature 0 .* too small",
    ),
    "spread beyond the range": (
        lambda: fit_standardization([[-1.7e308, 1.7e308, 1.7e308]]), "feature 0 .* too large",
    ),
    "a value far from those that were fitted": (
        lambda: fit_standardization([[0.0, 1e-5]])([[0.0, 1e306]]),
        "feature 0 of example 1 is 1e.306, too far from the mean 5e-06",
    ),
    "NaN to standardize": (
        lambda: fit_standardization([[0.0, 1]])([[np.nan]]), "X holds nan in row 0, column 0",
    ),
    "no examples to fit": (
        lambda: fit_standardization(np.ones((2, 0))), r"X has shape \(2, 0\), expected examples",
    ),
    "labels": (
        lambda: expect_data(attrs.evolve(DATA, Y=[[1, 2, 3, 4]])),
        r"Y has shape \(1, 4\), expected \(n",
    ),
    "weights": (
        lambda: expect_data(attrs.evolve(DATA, weights=[[1, 2]])), "give one weight per example",
    ),
    "one axis": (lambda: expect_data(attrs.evolve(DATA, X=[1, 2, 3])), "put examples in columns"),
    "no examples": (
        lambda: expect_data(Batch(np.ones((2, 0)), np.ones((1, 0)))), r"X has shape \(2, 0\)",
    ),
    "texts": (lambda: Batch([["a"]], [[0]]), "array of <U1.*expected numbers"),
    "objects": (lambda: Batch([[None]], [[0]]), "array of object.*expected numbers"),
    "complex numbers": (lambda: Batch([[1j]], [[0]]), "array of complex128.*expected numbers"),
    "ragged": (lambda: Batch([[1, 2], [3]], [[0]]), "rows of unequal length.*expected"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()


MISSHAPEN = {
    "one row of X": (([1, 2], [[1, 2]]), r"X has shape \(2,\), expected \(n_x, m\): put"),
    "one row of Y": (([[1, 2]], [1, 2]), r"Y has shape \(2,\), expected \(n_y, 2\): put"),
    "other counts": (
        (np.ones((3, 5)), np.ones((1, 4))), r"Y has shape \(1, 4\), expected \(n_y, 5\)",
    ),
    "a number": ((1.0, 2.0), r"X has shape \(\), expected"),
    "weights as a row": (([[1, 2]], [[1, 2]], [1, 2]), r"weights has shape \(2,\), expected \(1"),
    "too many weights": (
        ([[1, 2]], [[1, 2]], [[1, 2, 3]]), r"weights has shape \(1, 3\), expected \(1, 2\)",
    ),
    "weights of each label": (
        ([[1, 2]], [[1, 2], [3, 4]], np.ones((2, 2))), r"weights has shape \(2, 2\), expected",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "message"), MISSHAPEN.values(), ids=MISSHAPEN)
def test_a_batch_checks_its_own_shapes(given, message):
    with pytest.raises(BadInput, match=message):
        Batch(*given)
    Batch([[1, 2]], [[1, 2]])
    Batch(np.ones((2, 0)), np.ones((1, 0)))
    Batch(np.ones((2, 3, 4)), np.ones((1, 4)), np.ones((1, 4)), [1, 2, 1, 2])


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long doubles are float64 here")
@pytest.mark.parametrize("name", ["X", "Y", "weights"])
def test_numbers_that_differ_from_machine_to_machine_are_refused(name):
    arrays = {"X": np.ones((2, 3)), "Y": np.ones((1, 3)), "weights": np.ones((1, 3))}
    arrays[name] = arrays[name].astype(np.longdouble)
    with pytest.raises(BadInput, match=rf"^{name} is (float128|float96), .* expected float64"):
        expect_data(Batch(**arrays))
    if name == "X":
        with pytest.raises(BadInput, match=r"^X is float"):
            fit_standardization(arrays["X"])


@pytest.mark.parametrize(
    ("Y", "advice"),
    [
        (np.ones(7), "pass X.T and Y[np.newaxis]"),
        (np.ones((1, 7)), "pass X.T"),
        (np.ones((7, 1)), "pass X.T and Y.T"),
    ],
)
def test_examples_in_rows_are_named_as_such(Y, advice):
    with pytest.raises(BadInput, match=r"X has shape \(7, 4\) and Y .* one column") as refused:
        Batch(np.ones((7, 4)), Y)
    assert str(refused.value).endswith(f": {advice}.")


# Data in files, and orders of many examples


class Numbers:
    """Examples that are their own numbers, and count how many are taken."""

    def __init__(self, count):
        self.count, self.shape, self.label_shape = count, (1,), (1,)
        self.has_weights = self.has_lengths = False

    def take(self, which):
        numbers = np.arange(*which.indices(self.count)) if isinstance(which, slice) else which
        return Batch(numbers[np.newaxis], numbers[np.newaxis])


@given(st.integers(1, 200), st.integers(1, 30), st.booleans())
def test_batches_of_stored_examples_are_those_of_the_same_ones_in_memory(m, size, shuffle):
    if size > m:
        return
    batching, data = mini_batches(size, shuffle=shuffle), numbered(m)
    stored = Stored(data.X.T, data.Y.T)
    for k in range(2 * batching.per_epoch(m)):
        assert batching.at(stored, KEY, k) == batching.at(data, KEY, k)
    assert full_batch().at(stored, KEY, 3) == data


def two_epochs(batching, m):
    data, count = Numbers(m), batching.per_epoch(m)
    return [seen(batching.at(data, KEY, k) for k in range(e, e + count)) for e in (0, count)]


def test_an_order_too_long_for_memory_is_computed_batch_by_batch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pydnn.batches._MOST_ORDERED", 100)
        batching = mini_batches(7)
        epochs = [
            seen(batching.at(Numbers(101), KEY, k) for k in range(e, e + 15)) for e in (0, 15)
        ]
    for epoch in epochs:
        assert sorted(itertools.chain(*epoch)) == list(range(101))
    assert epochs[0] != epochs[1]
    billion = mini_batches(4).at(Numbers(10**12), KEY, 10**11)
    assert len(set(seen([billion])[0])) == 4


@given(st.integers(1, 400), st.integers(1, 50), st.integers(1, 120))
def test_an_epoch_mixed_in_windows_has_every_example_once(m, size, window):
    if size > m:
        return
    batching = mini_batches(size, window=window)
    count = batching.per_epoch(m)
    epochs = [
        seen(batching.at(Numbers(m), KEY, k) for k in range(e, e + count)) for e in (0, count)
    ]
    for epoch in epochs:
        assert sorted(itertools.chain(*epoch)) == list(range(m))
    if m > 12:
        assert epochs[0] != epochs[1]
    again = batching.at(Numbers(m), KEY, batching.per_epoch(m) - 1)  # without the batches before it
    assert seen([again]) == epochs[0][-1:]


def test_a_window_reads_from_few_places():
    m, window = 1600, 320  # blocks of 20
    batching = mini_batches(32, window=window)
    order = list(itertools.chain(*seen(batching.at(Numbers(m), KEY, k) for k in range(50))))
    for start in range(0, m, window):
        blocks = {number // 20 for number in order[start : start + window]}
        assert len(blocks) == 16
    assert order[:320] != sorted(order[:320])


def test_a_window_needs_shuffling():
    with pytest.raises(BadInput, match=r"window is 10, but shuffle is False"):
        mini_batches(4, shuffle=False, window=10)
    with pytest.raises(BadInput, match="window is 0"):
        mini_batches(4, window=0)
    assert mini_batches(4) == mini_batches(4, window=None)
