import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pydnn as nn
from pydnn.checks import BadInput
from pydnn.probability_curves import calibration_curve, roc_curve


def test_an_roc_curve_by_hand():
    false, true = roc_curve([0.9, 0.8, 0.8, 0.1], [True, False, True, False])
    assert false.tolist() == [0, 0, 0.5, 1]
    assert true.tolist() == [0, 0.5, 1, 1]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_the_area_below_an_roc_curve_is_the_metric(pairs):
    scores, positive = (np.array(column) for column in zip(*pairs, strict=True))
    if positive.all() or not positive.any():
        return
    false, true = roc_curve(scores / 5, positive)
    area = np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2)
    expected = nn.metrics.roc_auc(scores[np.newaxis] / 5, positive[np.newaxis] * 1.0)
    assert area == pytest.approx(expected)
    assert (np.diff(false) >= 0).all()
    assert (np.diff(true) >= 0).all()


def test_curves_agree_with_scikit_learn():
    calibration = pytest.importorskip("sklearn.calibration")
    metrics = pytest.importorskip("sklearn.metrics")
    p = nn.Key(1).uniform(200)
    right = nn.Key(2).uniform(200) < p
    shares, means = calibration.calibration_curve(right, p, n_bins=10)
    ours = calibration_curve(p, right)
    assert np.allclose(ours[0], means)
    assert np.allclose(ours[1], shares)
    false, true, _ = metrics.roc_curve(right, p, drop_intermediate=False)
    assert np.allclose(roc_curve(p, right), (false, true))


def test_a_probability_of_one_is_in_the_last_interval():
    means, shares, counts = calibration_curve([1.0, 0.95, 0.0], [True, False, False])
    assert means.tolist() == [0.0, 0.975]
    assert shares.tolist() == [0.0, 0.5]
    assert counts.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: roc_curve([0.1], [True]), "some of each kind"),
        (lambda: roc_curve([0.1, np.nan], [True, False]), "infinite numbers or NaN"),
        (lambda: roc_curve([0.1, 0.2], [1, 0]), "bool"),
        (lambda: calibration_curve([2.0], [True]), "from 0 to 1"),
        (lambda: calibration_curve([0.5], [True, False]), "one truth value per number"),
        (lambda: calibration_curve([0.5], [True], bins=0), "bins is 0"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(BadInput, match=words):
        call()
