from statistics import NormalDist

import numpy as np
import pytest

from pydnn.numerics.quantiles import normal_quantile


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-8, 1e-15])
def testnormal_quantiles_agree_with_an_independent_implementation(scale):
    p = (np.arange(1, 1000) / 1000) * scale
    expected = [NormalDist().inv_cdf(float(q)) for q in p]
    np.testing.assert_allclose(normal_quantile(p), expected, rtol=1e-14, atol=1e-15)


def test_the_middle_and_both_sides_have_known_quantiles():
    quantiles = normal_quantile(np.array([0.5, 0.975, 0.025]))
    np.testing.assert_allclose(quantiles, [0.0, 1.959963984540054, -1.959963984540054])
