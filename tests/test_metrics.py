import numpy as np
import pytest

from pydnn import BadInput, accuracy, classes_of


def test_worked_numbers():
    predictions = classes_of(np.array([[0.2, 0.5, 0.50001, 1.0]]))
    np.testing.assert_array_equal(predictions, [[0, 0, 1, 1]])
    assert accuracy(predictions, np.array([[0, 1, 1, 1]])) == 0.75


def test_what_does_not_fit_is_refused():
    with pytest.raises(BadInput, match=r"predictions has shape \(1, 2\), expected \(1, 3\)"):
        accuracy(np.ones((1, 2)), np.ones((1, 3)))
    with pytest.raises(BadInput, match="there are no labels"):
        accuracy(np.ones((1, 0)), np.ones((1, 0)))
