import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import BadInput, chain, gradient_descent, scale
from pydnn.packing import pack
from pydnn.stages.dense import DenseParams

PARAMS = pack((DenseParams([[1.0, 2.0]], [[3.0]]),))
GRADS = np.array([10.0, -20.0, 0.0])


def test_gradient_descent_goes_downhill_by_the_rate():
    optimizer = gradient_descent(learning_rate=0.1)
    updates, state = optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates, [-1, 2, 0], rtol=1e-15)
    assert optimizer.observe(state) == {"learning_rate": 0.1}
    assert not updates.flags.writeable


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=4))
def test_a_chain_does_one_part_after_the_other(factors):
    chained = chain(*map(scale, factors))
    updates, state = chained.update(GRADS, chained.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates, GRADS * math.prod(factors), rtol=1e-13, atol=1e-290)
    assert state == ((),) * len(factors)


def test_a_chain_shows_what_its_parts_show():
    parts = chain(scale(2), gradient_descent(learning_rate=0.5))
    assert parts.observe(parts.init(PARAMS)) == {"learning_rate": 0.5}


def test_float32_stays_float32():
    updates, _ = scale(0.1).update(GRADS.astype(np.float32), (), PARAMS)
    assert updates.dtype == np.float32


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf, "fast"])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(BadInput, match=r"learning_rate is .*: give a step size, e\.g\. 0\.0075"):
        gradient_descent(learning_rate=rate)
