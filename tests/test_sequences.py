"""Tests of sequences of unequal length: lengths, columns of valid steps, and losses per step."""

import functools
import operator

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pydnn as nn
from pydnn.sequences import (
    columns_of_steps,
    expect_lengths,
    labels_of_steps,
    steps_of_columns,
    valid_steps,
)

RNG = np.random.default_rng(0)


def test_columns_are_the_valid_steps_by_step_and_then_by_example():
    array = np.arange(12).reshape(3, 2, 2)  # T, n, m
    expected = [[0, 1, 4, 5, 9], [2, 3, 6, 7, 11]]
    assert columns_of_steps(array, np.array([2, 3])).tolist() == expected


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.data())
def test_columns_go_back_to_their_steps(T, n, m, data):
    lengths = np.array(data.draw(st.lists(st.integers(1, T), min_size=m, max_size=m)))
    array = RNG.normal(size=(T, n, m))
    back = steps_of_columns(columns_of_steps(array, lengths), array.shape, lengths)
    valid = valid_steps(lengths, T)[:, np.newaxis]
    assert np.array_equal(back, np.where(valid, array, 0))
    assert np.array_equal(steps_of_columns(columns_of_steps(array), array.shape), array)


def test_full_lengths_give_the_same_columns_as_none():
    array = RNG.normal(size=(3, 2, 4))
    full = np.full(4, 3)
    assert np.array_equal(columns_of_steps(array, full), columns_of_steps(array))


def test_labels_of_steps_are_numbers_or_columns():
    numbers = np.array([[0, 1], [2, 0]])
    one_hot = np.zeros((2, 3, 2))
    for t, i in np.ndindex(2, 2):
        one_hot[t, numbers[t, i], i] = 1
    assert labels_of_steps(numbers, (2, 3, 2)).tolist() == [[0, 1, 2, 0]]
    assert labels_of_steps(one_hot, (2, 3, 2)).argmax(axis=0).tolist() == [0, 1, 2, 0]
    with pytest.raises(nn.BadInput, match=r"Y has shape \(1, 2\), expected \(2, 2\)"):
        labels_of_steps(np.array([[0, 1]]), (2, 3, 2))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1, 0], "length of example 1 is 0, expected a whole number from 1 to 3"),
        ([4, 1], "length of example 0 is 4"),
        ([1.5, 1], "length of example 0 is 1.5"),
        ([np.nan, 1], "length of example 0 is nan"),
        ([1], r"lengths has shape \(1,\), expected \(2,\)"),
        ([True, True], "lengths hold bool"),
        (["a", "b"], "lengths hold <U1"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(lengths, message):
    with pytest.raises(nn.BadInput, match=message):
        expect_lengths(lengths, T=3, m=2)
    with pytest.raises(nn.BadInput, match=message):
        nn.Batch(np.ones((3, 1, 2)), np.ones((1, 2)), lengths=lengths)


Z = RNG.normal(size=(4, 3, 2))
Y = RNG.integers(0, 3, size=(4, 2)).astype(float)
LENGTHS = np.array([4, 2])
PADDED = nn.Context(lengths=LENGTHS)


def _losses_by_example():
    one = nn.softmax_cross_entropy()
    return [
        [one(Z[t, :, i : i + 1], Y[t : t + 1, i : i + 1])[0] for t in range(LENGTHS[i])]
        for i in range(2)
    ]


def test_a_cost_per_step_is_the_mean_over_all_valid_steps():
    cost, dAL = nn.softmax_cross_entropy()(Z, Y, None, PADDED)
    assert cost == pytest.approx(np.mean(functools.reduce(operator.iadd, _losses_by_example(), [])))
    assert not dAL[2:, :, 1].any()
    assert dAL.flags.c_contiguous
    assert not dAL.flags.writeable


def test_a_cost_of_sums_is_the_mean_over_examples():
    cost, dAL = nn.softmax_cross_entropy(steps="sum")(Z, Y, None, PADDED)
    assert cost == pytest.approx(np.mean([sum(own) for own in _losses_by_example()]))
    _, mean_dAL = nn.softmax_cross_entropy()(Z, Y, None, PADDED)
    assert np.allclose(dAL, mean_dAL * 3)  # six valid steps of two examples


@pytest.mark.parametrize("steps", ["mean", "sum"])
def test_an_example_of_weight_two_counts_as_two(steps):
    loss = nn.softmax_cross_entropy(steps=steps)
    weighted, _ = loss(Z, Y, np.array([[1.0, 2.0]]), PADDED)
    twice = [0, 1, 1]
    context = attrs.evolve(PADDED, lengths=LENGTHS[twice])
    assert weighted == pytest.approx(loss(Z[..., twice], Y[:, twice], None, context)[0])


@pytest.mark.parametrize("loss", [nn.mean_squared(), nn.sigmoid_cross_entropy(), nn.huber()])
def test_padding_changes_no_bit_of_a_cost_per_step(loss):
    labels = (Z > 0).astype(float)
    cost, dAL = loss(Z, labels, None, PADDED)
    other = np.where(valid_steps(LENGTHS, 4)[:, np.newaxis], Z, 1e9)
    other_cost, other_dAL = loss(other, labels, None, PADDED)
    assert cost == other_cost
    assert np.array_equal(dAL, other_dAL)


def test_the_gradient_per_step_is_that_of_the_cost():
    loss = nn.softmax_cross_entropy()
    _, dAL = loss(Z, Y, None, PADDED)
    for place in [(0, 1, 0), (1, 2, 1), (3, 0, 1)]:
        shift = np.zeros_like(Z)
        shift[place] = 1e-6
        slope = (loss(Z + shift, Y, None, PADDED)[0] - loss(Z - shift, Y, None, PADDED)[0]) / 2e-6
        assert slope == pytest.approx(dAL[place], abs=1e-8)


def test_predictions_per_step_are_probabilities():
    P = nn.softmax_cross_entropy().predict(Z)
    assert P.shape == Z.shape
    assert np.allclose(P.sum(axis=1), 1)


def test_class_weights_need_the_mean_over_steps():
    with pytest.raises(nn.BadInput, match="class_weights are given with steps 'sum'"):
        nn.softmax_cross_entropy(class_weights=[1, 2], steps="sum")


def test_a_network_that_mixes_steps_refuses_lengths_by_name():
    mixing = nn.Stage("mixing", nn.relu().init, nn.relu().forward, nn.relu().backward)
    network = nn.serial(nn.relu(), nn.serial(mixing))
    assert (nn.relu().lengths, network.lengths) == ("kept", "refused")
    with pytest.raises(
        nn.BadInput, match=r"stage 1 \(serial\): stage 0 \(mixing\): mixing got seq"
    ):
        network.forward(((), ((),)), Z, PADDED)


def test_stages_after_the_end_of_the_steps_get_no_lengths():
    def last(params, A, context):
        return A[context.lengths - 1, :, np.arange(A.shape[-1])].T, None

    def any_context(params, A, context):
        assert context.lengths is None
        return A, None

    ends = nn.Stage("last", nn.relu().init, last, None, lengths="ended")
    after = nn.Stage("after", nn.relu().init, any_context, None)
    network = nn.serial(nn.relu(), ends, after)
    assert network.lengths == "ended"
    A, _ = network.forward(((), (), ()), Z, PADDED)
    assert np.array_equal(A[:, 1], np.maximum(Z[1, :, 1], 0))
