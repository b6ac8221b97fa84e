import numpy as np
import pytest
from helpers import same_bits, with_extremes
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs numba")

from pydnn import Key, engines
from pydnn.compiled import blas, convolutions
from pydnn.engines import using_engine
from pydnn.numerics import threads
from pydnn.numerics.fast_convolution import convolution
from pydnn.numerics.geometry import Geometry

pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
padding = st.tuples(*[st.tuples(*[st.sampled_from([0, 0, 1, 6])] * 2)] * 2)

LARGE = {  # for several threads, and for products that are cut into pieces
    "small products": (Geometry((12, 13), (3, 3), padding=((1, 1), (1, 1))), 4, 6),
    "strides": (Geometry((16, 17), (5, 5), (2, 3), ((2, 2), (0, 4))), 4, 6),
    "pieces": (Geometry((9, 10), (3, 3)), 12, 40),
    "products that BLAS shares out": (Geometry((7, 7), (5, 5)), 32, 32),
    "size 1": (Geometry((9, 10), (1, 1)), 32, 32),
}

has_products = pytest.mark.skipif(
    not blas.matmul_loop(np.dtype("f8")), reason="kernels cannot call this BLAS"
)


@pytest.fixture
def made(monkeypatch):
    """The names of the kernels that were found."""
    return noted(monkeypatch)


def noted(monkeypatch):
    names = []

    def noting(name, function):
        def asked(*arguments):
            fill = function(*arguments)
            names.extend([name] * (fill is not None))
            return fill

        return asked

    for name in convolutions.__all__:
        monkeypatch.setattr(convolutions, name, noting(name, getattr(convolutions, name)))
    return names


def drawn(geometry, C, F, m, dtype, *, extremes):
    """Return A_prev, W, a bias and dZ."""
    key, groups = Key(1), geometry.groups
    shapes = [
        (*geometry.image, C * groups, m), (*geometry.size, C, F * groups), (F * groups, 1),
        (*geometry.places, F * groups, m),
    ]  # fmt: skip
    numbers = [key.at(i).normal(shape) for i, shape in enumerate(shapes)]
    if extremes:
        return [with_extremes(n, dtype, key.at("x", i)) for i, n in enumerate(numbers)]
    return [n.astype(dtype) for n in numbers]


@np.errstate(all="ignore")
def expect_same(geometry, A_prev, W, b, dZ):
    results = []
    for engine in ("numpy", "compiled"):
        with using_engine(engine):
            results.append(
                (
                    convolution.product(A_prev, W, geometry),
                    convolution.product(A_prev, W, geometry, bias=b),
                    convolution.weight_gradient(A_prev, dZ, geometry),
                    convolution.input_gradient(W, dZ, geometry),
                )
            )
    for one, other in zip(*results, strict=True):
        assert same_bits(one, other)
        assert one.strides == other.strides


@pytest.mark.slow
@has_products
@settings(max_examples=60, deadline=None)
@given(
    image=st.tuples(st.integers(1, 9), st.integers(1, 9)), size=pairs, stride=pairs,
    padding=padding, groups=st.sampled_from([1, 1, 2]), C=st.integers(1, 3), F=st.integers(1, 3),
    m=st.sampled_from([16, 19]), dtype=st.sampled_from(["f4", "f8"]), extremes=st.booleans(),
)  # fmt: skip
def test_convolutions_give_the_bits_of_numpy(
    image, size, stride, padding, groups, C, F, m, dtype, extremes
):
    geometry = Geometry(image, size, stride, padding, groups=groups)
    room = [n + sum(pair) for n, pair in zip(image, padding, strict=True)]
    assume(all(n <= most for n, most in zip(geometry.extent, room, strict=True)))
    expect_same(geometry, *drawn(geometry, C, F, m, dtype, extremes=extremes))


@pytest.mark.slow
@has_products
@pytest.mark.parametrize(("geometry", "C", "F"), LARGE.values(), ids=LARGE)
def test_large_convolutions_give_the_bits_of_numpy_on_any_number_of_threads(
    geometry, C, F, monkeypatch, made
):
    arrays = drawn(geometry, C, F, 65, "f4", extremes=False)
    for count in (1, 2):
        monkeypatch.setattr(threads, "worker_threads", lambda count=count: count)
        expect_same(geometry, *arrays)
    own = "input_gradient" if geometry.stride != (1, 1) else "product"
    assert made == ["product", "product", "weight_gradient", own] * 2


@has_products
def test_one_channel_and_one_filter_are_products_of_vectors(made):
    for geometry in (Geometry((3, 3), (1, 1)), Geometry((5, 6), (2, 3), (2, 2))):
        expect_same(geometry, *drawn(geometry, 1, 1, 16, "f8", extremes=False))
    assert "product" in made


def test_products_of_an_unknown_numpy_stay_with_it(made, monkeypatch):
    monkeypatch.setattr(convolutions, "matmul_loop", lambda dtype: None)
    geometry = LARGE["strides"][0]
    expect_same(geometry, *drawn(geometry, 2, 2, 16, "f8", extremes=False))
    assert made == []


def test_a_kernel_that_fails_leaves_the_work_to_numpy(monkeypatch):
    def fails(*arguments):
        raise RuntimeError("no room")

    for name in convolutions.__all__:
        monkeypatch.setattr(convolutions, name, lambda *arguments: fails)
    monkeypatch.setattr(engines, "_failed", False)
    geometry = LARGE["strides"][0]
    with pytest.warns(RuntimeWarning, match="failed .RuntimeError: no room., so NumPy does"):
        expect_same(geometry, *drawn(geometry, 2, 2, 16, "f8", extremes=False))
