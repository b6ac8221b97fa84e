import numpy as np
import pytest
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("numba", reason="the compiled engine needs numba")

from compiled.portable.both_engines import numbers

from pydnn import softmax_cross_entropy
from pydnn.compiled.fast.step import in_fast
from pydnn.compiled.portable.step import in_portable
from pydnn.numerics.underflow import bare

entries = bare(softmax_cross_entropy().function).entries
DTYPES = [pytest.param(np.float32, marks=pytest.mark.slow), np.float64]
in_both = pytest.mark.parametrize("arithmetic", [in_fast, in_portable], ids=["fast", "portable"])


@np.errstate(all="ignore")  # where Python executes the kernel
def by_kernel(arithmetic, Z, Y):
    m, dtype = Z.shape[1], Z.dtype
    losses, slopes, terms = np.empty(m, dtype), np.empty_like(Z), np.empty(Z.size + 3 * m, dtype)
    kernel = arithmetic.names(dtype)["cross_entropy_of_classes"]
    vectors = Z.reshape(-1), Y.reshape(-1), losses, slopes.reshape(-1), terms
    return kernel(*vectors, arithmetic.calls(dtype)), losses, slopes


@in_both
@pytest.mark.parametrize("dtype", DTYPES)
@example_count(1000, quick=60)
@given(data=st.data())
def test_every_bit_is_that_of_numpys_form(arithmetic, dtype, data):
    K, m = data.draw(st.tuples(st.integers(2, 20), st.integers(1, 9)))
    elements = data.draw(st.sampled_from([numbers(dtype), st.floats(-9, 9, width=32)]))
    Z = data.draw(arrays(dtype, (K, m), elements=elements))
    Y = data.draw(arrays(dtype, (1, m), elements=st.integers(0, K - 1).map(dtype)))
    done, losses, slopes = by_kernel(arithmetic, Z, Y)
    with np.errstate(all="ignore"):
        expected = entries(Z, Y, arithmetic.numerics)
    if done:
        assert (losses.tobytes(), slopes.tobytes()) == tuple(e.tobytes() for e in expected)
    else:  # a step with such a cost is refused, and computed by NumPy
        assert not np.isfinite(expected[0]).all()


@in_both
def test_the_loss_of_a_certain_class_is_the_zero_of_numpys_form(arithmetic):
    Z, Y = np.array([[50.0, 3.0], [0.0, 3.0]]), np.zeros((1, 2))
    done, losses, slopes = by_kernel(arithmetic, Z, Y)
    expected = entries(Z, Y, arithmetic.numerics)
    assert done
    assert losses[0] == 0.0
    assert (losses.tobytes(), slopes.tobytes()) == tuple(each.tobytes() for each in expected)


@in_both
def test_logits_infinitely_far_below_the_largest_are_left_to_the_numpy_path(arithmetic):
    largest = np.finfo(np.float64).max
    for other in (-np.inf, -largest):
        done, *_ = by_kernel(arithmetic, np.array([[largest], [other]]), np.zeros((1, 1)))
        assert not done


@in_both
@pytest.mark.parametrize("label", [-1.0, 3.0, 0.5, np.nan, np.inf])
def test_labels_that_are_no_classes_are_left_to_the_numpy_path(arithmetic, label):
    done, *_ = by_kernel(arithmetic, np.ones((3, 2)), np.array([[0.0, label]]))
    assert not done
