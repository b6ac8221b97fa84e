import numpy as np
import pytest
from helpers import same_bits, with_extremes
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs numba")

import pydnn as nn
from pydnn import engines
from pydnn.compiled import pooling
from pydnn.engines import using_engine
from pydnn.numerics import fast, portable
from pydnn.stages.windows import WindowedAxis

POOLS = {
    "max": nn.max_pool,
    "average": nn.average_pool,
    "average with padding": lambda *a, **k: nn.average_pool(*a, count_padding=True, **k),
}
pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@pytest.fixture
def every_size(monkeypatch):
    """Arrays of any size are compiled, not only large ones."""
    monkeypatch.setattr(pooling, "_LEAST", 0)


@np.errstate(all="ignore")
def expect_same(stage, A_prev, numerics=fast):
    results = []
    for engine in ("numpy", "compiled"):
        with using_engine(engine):
            A, cache = stage.forward((), A_prev, nn.Context(training=True, numerics=numerics))
            dA = with_extremes(nn.Key(2).normal(A.shape), A.dtype, nn.Key(3))
            results.append((A, stage.backward((), cache, dA)[0]))
    for one, other in zip(*results, strict=True):
        assert same_bits(one, other)
        assert one.strides == other.strides
        assert not other.flags.writeable


def with_ties(shape, dtype):
    numbers = np.round(nn.Key(1).normal(shape))
    return with_extremes(numbers, dtype, nn.Key(4))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(POOLS)), image=pairs, size=pairs, stride=pairs,
    padding=st.sampled_from([0, 1, ((0, 1), (1, 0)), "same"]), C=st.integers(1, 3),
    m=st.integers(0, 19), dtype=st.sampled_from(["f4", "f8"]),
    numerics=st.sampled_from([fast, portable]), rows=st.booleans(),
)  # fmt: skip
def test_pools_give_the_bits_of_numpy(
    kind, image, size, stride, padding, C, m, dtype, numerics, rows
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooling, "_LEAST", 0)
        patch.setattr(pooling, "_LANES", 16)
        shape = (*(n + 3 for n in image), C)
        if not rows:
            shape, size, stride = shape[1:], size[:1], stride[:1]
            padding = padding[:1] if isinstance(padding, tuple) else padding
        stage = POOLS[kind](size, stride=stride, padding=padding)
        try:
            stage.init(nn.Key(0), shape)
        except nn.BadInput:
            assume(False)
        expect_same(stage, with_ties((*shape, m), dtype), numerics)


def test_the_gradient_of_a_tie_goes_to_the_first_place(every_size):
    A_prev = np.array([0.0, -0.0, 5.0, 5.0]).reshape(2, 2, 1, 1)
    stage = nn.max_pool(2)
    with using_engine("compiled"):
        A, cache = stage.forward((), A_prev, nn.Context())
        dA_prev, _ = stage.backward((), cache, np.array([[[[3.0]]]]))
        assert engines.engine_in_use() == "compiled"
    np.testing.assert_array_equal(A.ravel(), [5.0])
    np.testing.assert_array_equal(dA_prev.ravel(), [0.0, 0.0, 3.0, 0.0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("padding", [((1, 0), (0, 0)), ((0, 0), (1, 0)), ((2, 0), (0, 2)), 1])
def test_windows_beyond_the_edges_have_the_bits_of_numpy(kind, padding, every_size):
    for size, stride in (((3, 3), (3, 3)), ((3, 3), (2, 3)), ((3, 3), (4, 4))):
        stage = POOLS[kind](size, stride=stride, padding=padding)
        expect_same(stage, with_ties((10, 9, 1, 3), "f8"))


def test_a_kernel_that_fails_leaves_the_work_to_numpy(every_size, monkeypatch):
    def fails(*arguments):
        raise RuntimeError("no room")

    for name, stage in (("_choose", nn.max_pool(2)), ("_spread", nn.average_pool(2, stride=1))):
        monkeypatch.setattr(pooling, name, fails)
        monkeypatch.setattr(engines, "_failed", False)
        with pytest.warns(RuntimeWarning, match="failed .RuntimeError: no room., so NumPy does"):
            expect_same(stage, with_ties((4, 4, 2, 3), "f8"))


def test_other_numbers_stay_with_numpy(every_size):
    axes = [WindowedAxis(4, 2), WindowedAxis(4, 2)]
    for dtype in ("f2", np.dtype("f8").newbyteorder()):
        X, A = np.ones((4, 4, 1, 1), dtype), np.ones((2, 2, 1, 1), dtype)
        assert not pooling.to_first_maximum(X, A, A, axes, False, np.zeros_like(X))
        assert not pooling.spread(A, axes, np.zeros_like(X))


@pytest.mark.parametrize("kind", ["max", "average"])
def test_small_arrays_and_other_orders_stay_with_numpy(kind, monkeypatch):
    done = []
    for name in ("_choose", "_spread"):
        monkeypatch.setattr(pooling, name, lambda *_: done.append("spread"))
    stage = POOLS[kind](2, stride=1)
    expect_same(stage, np.ones((4, 4, 2, 3)))
    assert not done
    monkeypatch.setattr(pooling, "_LEAST", 0)
    with using_engine("compiled"):
        _, cache = stage.forward((), np.ones((4, 4, 2, 3)), nn.Context())
        dA = np.ones((3, 3, 3, 2))
        stage.backward((), cache, dA.transpose(1, 2, 3, 0))
        assert not done
        stage.backward((), cache, np.ones((3, 3, 2, 3)))
    assert done == ["spread"]
