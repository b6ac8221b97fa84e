import itertools

import attrs
import numpy as np
import pytest

pytest.importorskip("numba", reason="the compiled engine needs numba")

from hypothesis import given, settings
from hypothesis import strategies as st

import pydnn as nn
from pydnn.compiled import layers
from pydnn.engines import expression_of, using_engine
from pydnn.numerics import fast, portable, threads
from pydnn.numerics.underflow import bare
from pydnn.stages.dense import DenseParams

EXTREMES = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e38, -3e38, 1.0, -1.0]
SHAPE = (33, 517)  # odd, and of more than 64 KiB
STAGES = {
    "relu": (nn.relu(), "both"),
    "leaky_relu": (nn.leaky_relu(slope=0.3), "both"),
    "elu": (nn.elu(alpha=0.7), "backward"),
    "selu": (nn.selu(), "backward"),
    "tanh": (nn.stages.tanh(), "backward"),
    "sigmoid": (nn.sigmoid(), "backward"),
    "gelu": (nn.gelu(), "neither"),
    "one's own": (nn.elementwise("own", lambda Z, _: Z + Z, lambda dA, Z, A, _: dA * 2), "neither"),
}


def some_numbers(name, dtype, *, order="C", offset=0):
    """Ordinary and extreme numbers, in an array that begins `offset` numbers after a cache line."""
    numbers = 3 * nn.Key(7).at(name).normal((SHAPE[0] * SHAPE[1] + offset,))
    numbers[offset::13][: 50 * len(EXTREMES)] = EXTREMES * 50
    with np.errstate(over="ignore", under="ignore"):
        vector = numbers.astype(dtype)[offset:]
    return vector.reshape(SHAPE) if order == "C" else vector.reshape(SHAPE[::-1]).T


def same_bits(a, b):
    """Whether two arrays have equal bits; all NaN are equal, since their payloads may differ."""
    return a.dtype == b.dtype and np.array_equal(
        *(np.where(np.isnan(x), np.nan, x).view(f"u{x.itemsize}") for x in (a, b))
    )


@pytest.fixture
def compiled(monkeypatch):
    """The number of results that loops computed."""
    made, run = [], layers.run

    def noted(*arguments):
        made.append(run(*arguments))
        return made[-1]

    monkeypatch.setattr(layers, "run", noted)
    return made


def each_stage():
    for name, dtype, numerics in itertools.product(
        STAGES, ("float32", "float64"), (fast, portable)
    ):
        quick = (name, dtype, numerics) == ("relu", "float32", fast)
        yield pytest.param(name, dtype, numerics, marks=() if quick else pytest.mark.slow)


@np.errstate(all="ignore")
@pytest.mark.parametrize(("name", "dtype", "numerics"), list(each_stage()))
def test_activations_give_the_bits_of_numpy(name, dtype, numerics, compiled):
    stage, which = STAGES[name]
    context = nn.Context(training=True, numerics=numerics)
    for order, offset in [("C", 0), ("C", 1), ("F", 0)]:
        Z = some_numbers("Z", dtype, order=order, offset=offset)
        dA = some_numbers("dA", dtype, order=order, offset=offset)
        results = {}
        for engine in ("numpy", "compiled"):
            with using_engine(engine):
                A, cache = stage.forward((), Z, context)
                results[engine] = A, stage.backward((), cache, dA)[0]
        for a, b in zip(*results.values(), strict=True):
            assert same_bits(a, b)
            assert not b.flags.writeable
            assert a.strides == b.strides
    assert len(compiled) == 3 * {"both": 2, "backward": 1, "neither": 0}[which]


@np.errstate(all="ignore")
def test_small_arrays_and_arrays_in_different_orders_stay_with_numpy(compiled):
    stage, context = nn.relu(), nn.Context()
    with using_engine("compiled"):
        _, cache = stage.forward((), np.ones((3, 4)), context)
        stage.backward((), cache, np.ones((3, 4)))
        assert not compiled
        Z, dA = some_numbers("Z", "float64"), some_numbers("dA", "float64", order="F")
        _, cache = stage.forward((), Z[:, ::2], context)
        _, cache = stage.forward((), Z[:, ::2].copy(), context)
        stage.backward((), cache, dA[:, ::2])
        assert len(compiled) == 1


@pytest.fixture
def with_bias(monkeypatch):
    """Whether each call of `biased` computed something."""
    made, original = [], layers.biased

    def noted(*arguments):
        A = original(*arguments)
        made.append(A is not None)
        return A

    monkeypatch.setattr(layers, "biased", noted)
    return made


def forward_of(stage, params, X, numerics=fast):
    """The bits of the outputs of two stages in turn and of their caches, which are read-only."""
    A, (first, second) = stage.forward(params, X, nn.Context(training=True, numerics=numerics))
    arrays = A, first.A_prev, second.Z, second.A
    assert not any(array.flags.writeable for array in arrays)
    return [np.where(np.isnan(array), np.nan, array).tobytes() for array in arrays]


def dense_params(W, b, dtype):
    with np.errstate(over="ignore", under="ignore"):
        W, b = (np.array(a).astype(dtype) for a in (W, b))
    return DenseParams(W, b), ()


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(["float32", "float64"]), st.integers(1, 9), st.integers(1, 9))
def test_a_bias_and_the_activation_after_it_give_the_bits_of_numpy(data, dtype, n, m):
    numbers = st.sampled_from(EXTREMES) | st.floats(-5, 5, width=32)
    column = st.lists(st.tuples(numbers), min_size=n, max_size=n)
    W, b = data.draw(column), data.draw(column)
    X = np.array([data.draw(st.lists(numbers, min_size=m, max_size=m))]).astype("f4").astype(dtype)
    stage = nn.serial(nn.dense(n), nn.relu())
    with np.errstate(all="ignore"):
        params, made = dense_params(W, b, dtype), []
        for engine in ("numpy", "compiled"):
            with using_engine(engine):
                made.append(forward_of(stage, params, X))
    assert made[0] == made[1]


@np.errstate(all="ignore")
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("numerics", [fast, pytest.param(portable, marks=pytest.mark.slow)])
def test_a_bias_is_added_in_the_pass_of_the_activation(dtype, numerics, with_bias, monkeypatch):
    monkeypatch.setattr(threads, "WORTH_A_THREAD", 1 << 12)
    monkeypatch.setattr(threads, "worker_threads", lambda: 3)
    W, b = nn.Key(1).at("W").normal((37, 5)), nn.Key(1).at("b").normal((37, 1))
    W[::4], b[1] = W[::4] * 1e30, -0.0
    X = nn.Key(1).at("X").normal((5, 64)).astype(dtype)
    both = {"relu": True, "leaky_relu": True, "tanh": False, "one's own": False}
    for name, is_compiled in both.items():
        stage = nn.serial(nn.dense(37), STAGES[name][0])
        made = []
        for engine in ("numpy", "compiled"):
            with using_engine(engine):
                made.append(forward_of(stage, dense_params(W, b, dtype), X, numerics))
        assert made[0] == made[1]
        assert with_bias == ([is_compiled] if name != "one's own" else []), name
        with_bias.clear()


def test_stages_after_two_that_were_joined_are_computed_as_ever(with_bias):
    stage = nn.serial(nn.dense(4), nn.relu(), nn.relu(), nn.dense(3), nn.relu(), nn.dense(2))
    params, _ = stage.init(nn.Key(1), (5,))
    X, dA = nn.Key(1).at("X").normal((5, 6)), np.ones((2, 6))
    made = []
    for engine in ("numpy", "compiled"):
        with using_engine(engine):
            A, cache = stage.forward(params, X, nn.Context(training=True))
            dX, grads = stage.backward(params, cache, dA)
            made.append([a.tobytes() for a in (A, dX, *nn.parameters.leaves((grads,)))])
    assert made[0] == made[1]
    assert with_bias == [True, True]


def test_only_the_forward_that_adds_a_bias_is_joined_with_the_next_one(with_bias):
    def own(params, A_prev, context):
        return dense.forward(params, A_prev, context)

    dense, params = nn.dense(3), dense_params(np.ones((3, 2)), np.ones((3, 1)), "float64")
    X = np.ones((2, 4))
    with using_engine("compiled"):
        nn.serial(attrs.evolve(dense, forward=own), nn.relu()).forward(params, X, nn.Context())
        steps = nn.serial(dense, nn.relu()).forward(params, np.ones((5, 2, 4)), nn.Context())[0]
        assert (with_bias, steps.shape) == ([], (5, 3, 4))
        nn.serial(dense, nn.relu()).forward(params, X, nn.Context())
        assert with_bias == [True]
        with pytest.raises(nn.BadInput, match=r"stage 0 \(dense\): A_prev has shape"):
            nn.serial(dense, nn.relu()).forward(params, X.T, nn.Context())
    # Neither products in another order nor a bias of another dtype are touched.
    expression = expression_of(bare(nn.relu().forward))
    for Z, b in ((np.ones((4, 3)).T, np.ones((3, 1))), (np.ones((3, 4)), np.ones((3, 1), "f4"))):
        assert layers.biased(expression, Z, b, fast) is None
        assert (Z == 1).all()
