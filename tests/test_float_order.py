import numpy as np
import pytest

from pydnn.float_order import floats_at, places_of


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_places_have_the_order_of_floats(dtype):
    ends = [-np.inf, np.finfo(dtype).min, -1, -np.finfo(dtype).tiny, -0.0]
    floats = np.array(ends + [-end for end in reversed(ends)], dtype)
    places = places_of(floats)
    assert (places[1:] > places[:-1]).all()
    after_one = np.nextafter(dtype(1), dtype(2))
    assert places_of(np.array([1, after_one], dtype)).tolist() == [places[7], places[7] + 1]


def test_floats_come_back_from_their_places():
    floats = np.array([-np.inf, -2.5, -0.0, 0.0, 5e-324, np.inf])
    assert floats_at(places_of(floats)).tobytes() == floats.tobytes()
