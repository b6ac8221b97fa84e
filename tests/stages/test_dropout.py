import numpy as np
import pytest

from pydnn import BadInput, Context, Key, dropout
from pydnn.stages import EVALUATION

X = np.arange(1.0, 9).reshape(2, 4)


def in_training(key):
    return Context(training=True, key=key)


def test_kept_numbers_are_scaled_and_the_others_zeroed_forward_and_backward():
    stage, key = dropout(keep_prob=0.5), Key(3)
    A, cache = stage.forward((), X, in_training(key))
    kept = key.uniform((2, 4)) < 0.5
    assert 0 < kept.sum() < 8
    np.testing.assert_array_equal(A, np.where(kept, 2 * X, 0))
    np.testing.assert_array_equal(stage.backward((), cache, X)[0], np.where(kept, 2 * X, 0))


def test_outside_of_training_the_output_is_the_input():
    A, cache = dropout(keep_prob=0.1).forward((), X, EVALUATION)
    np.testing.assert_array_equal(A, X)
    np.testing.assert_array_equal(dropout(keep_prob=0.1).backward((), cache, X)[0], X)


def test_per_channel_keeps_or_zeroes_a_channel_of_an_example_at_all_places():
    image, key = np.arange(1.0, 49).reshape(2, 3, 2, 4), Key(3)
    stage = dropout(keep_prob=0.5, per_channel=True)
    A, cache = stage.forward((), image, in_training(key))
    kept = key.uniform((2, 4)) < 0.5
    np.testing.assert_array_equal(A, np.where(kept, 2 * image, 0))
    np.testing.assert_array_equal(stage.backward((), cache, image)[0], A)
    alike = dropout(keep_prob=0.5).forward((), X, in_training(key))[0]
    np.testing.assert_array_equal(stage.forward((), X, in_training(key))[0], alike)


def test_the_mean_is_preserved_and_the_expected_share_is_kept():
    A, _ = dropout(keep_prob=0.8).forward((), np.ones((100, 1000)), in_training(Key(1)))
    assert np.mean(A != 0) == pytest.approx(0.8, abs=0.005)
    assert A.mean() == pytest.approx(1, abs=0.005)


def test_keep_prob_1_keeps_everything():
    np.testing.assert_array_equal(dropout(keep_prob=1).forward((), X, in_training(Key(1)))[0], X)


def test_a_number_is_kept_if_its_draw_is_strictly_below_keep_prob():
    drawn = float(Key(1).uniform((1, 1))[0, 0])
    A, _ = dropout(keep_prob=drawn).forward((), np.ones((1, 1)), in_training(Key(1)))
    assert A == 0
    A, _ = dropout(keep_prob=drawn + 2**-53).forward((), np.ones((1, 1)), in_training(Key(1)))
    assert A > 1


def test_refusals():
    for wrong in (0, 1.5, -1, np.nan):
        with pytest.raises(BadInput, match=r"keep_prob is .*give the probability of keeping"):
            dropout(keep_prob=wrong)
    with pytest.raises(BadInput, match="per_channel is 1, expected True or False"):
        dropout(keep_prob=0.5, per_channel=1)
    with pytest.raises(BadInput, match="dropout has no key in training: give Context"):
        dropout(keep_prob=0.5).forward((), X, Context(training=True))
