"""Check the fast convolutions against the plain ones, which copy every window into a matrix."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pydnn import Key
from pydnn.numerics import threads
from pydnn.numerics.fast_convolution import convolution
from pydnn.numerics.geometry import Geometry
from pydnn.numerics.image_products import convolution_by

plain = convolution_by(np.matmul)
pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
padding = st.tuples(*[st.tuples(*[st.sampled_from([0, 0, 1, 6])] * 2)] * 2)


def drawn(geometry, C, F, m, dtype=float):
    """Return A_prev, W, a bias and dZ."""
    key, groups = Key(1), geometry.groups
    shapes = [
        (*geometry.image, C * groups, m), (*geometry.size, C, F * groups), (F * groups, 1),
        (*geometry.places, F * groups, m),
    ]  # fmt: skip
    return [key.at(i).normal(shape).astype(dtype) for i, shape in enumerate(shapes)]


def results(arithmetic, geometry, A_prev, W, b, dZ):
    return (
        arithmetic.product(A_prev, W, geometry),
        arithmetic.product(A_prev, W, geometry, bias=b),
        arithmetic.weight_gradient(A_prev, dZ, geometry),
        arithmetic.input_gradient(W, dZ, geometry),
    )


@settings(max_examples=50, deadline=None)
@given(
    image=st.tuples(st.integers(1, 9), st.integers(1, 9)), size=pairs, stride=pairs,
    padding=padding, dilation=st.sampled_from([(1, 1), (1, 1), (2, 1)]),
    groups=st.sampled_from([1, 1, 2]), C=st.integers(1, 3), F=st.integers(1, 3),
    m=st.sampled_from([1, 2, 16, 19]),
)  # fmt: skip
def test_fast_convolutions_give_the_plain_results(
    image, size, stride, padding, dilation, groups, C, F, m
):
    geometry = Geometry(image, size, stride, padding, dilation, groups)
    room = [n + sum(pair) for n, pair in zip(image, padding, strict=True)]
    assume(all(n <= most for n, most in zip(geometry.extent, room, strict=True)))
    arrays = drawn(geometry, C, F, m)
    found, expected = results(convolution, geometry, *arrays), results(plain, geometry, *arrays)
    for one, other in zip(found, expected, strict=True):
        assert one.flags.c_contiguous
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


# Large enough for several threads and for products that are cut into pieces
LARGE = {
    "small products": (Geometry((12, 13), (3, 3), padding=((1, 1), (1, 1))), 4, 6),
    "strides": (Geometry((16, 17), (5, 5), (2, 3), ((2, 2), (0, 4))), 4, 6),
    "pieces": (Geometry((9, 10), (3, 3)), 12, 40),
    "products that BLAS shares out": (Geometry((7, 7), (5, 5)), 32, 32),
    "size 1": (Geometry((9, 10), (1, 1)), 32, 32),
    "depthwise": (Geometry((16, 17), (3, 3), groups=6), 1, 2),
}


@pytest.mark.parametrize(("geometry", "C", "F"), LARGE.values(), ids=LARGE)
def test_large_convolutions_have_the_plain_results_and_no_bit_depends_on_threads(
    geometry, C, F, monkeypatch
):
    arrays = drawn(geometry, C, F, 64)
    expected = results(plain, geometry, *arrays)
    found = []
    for count in (1, 2, 3):
        monkeypatch.setattr(threads, "worker_threads", lambda count=count: count)
        found.append(results(convolution, geometry, *arrays))
    for one, *others, right in zip(*found, expected, strict=True):
        np.testing.assert_allclose(one, right, rtol=1e-11, atol=1e-11)
        for other in others:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("geometry", "C", "F"), LARGE.values(), ids=LARGE)
def test_float32_stays_float32(geometry, C, F):
    arrays = drawn(geometry, C, F, 16, np.float32)
    for one, other in zip(
        results(convolution, geometry, *arrays), results(plain, geometry, *arrays), strict=True
    ):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_the_gradient_of_a_kernel_goes_into_the_array_of_the_caller():
    geometry = Geometry((5, 5), (3, 3))
    A_prev, W, _, dZ = drawn(geometry, 2, 3, 16)
    out = np.empty_like(W)
    assert convolution.weight_gradient(A_prev, dZ, geometry, out=out) is out
    np.testing.assert_array_equal(out, convolution.weight_gradient(A_prev, dZ, geometry))
