import itertools

import attrs
import numpy as np
import pytest

pytest.importorskip("numba", reason="the compiled engine needs numba")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pydnn as nn
from pydnn.compiled import layers
from pydnn.compiled.fast.step import in_fast
from pydnn.engines import compilable, expression_of, using_engine
from pydnn.numerics import fast, passes, portable, threads
from pydnn.numerics.underflow import bare
from pydnn.stages.batch_norm import BatchNormStatistics
from pydnn.stages.dense import DenseParams
from pydnn.stages.layer_norm import NormParams

EXTREMES = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e38, -3e38, 1.0, -1.0]
SHAPE = (33, 517)  # odd, and of more than 64 KiB
STAGES = {
    "relu": (nn.relu(), "both"),
    "leaky_relu": (nn.leaky_relu(slope=0.3), "both"),
    "elu": (nn.elu(alpha=0.7), "both"),
    "selu": (nn.selu(), "both"),
    "tanh": (nn.stages.tanh(), "backward"),
    "sigmoid": (nn.sigmoid(), "both"),
    "silu": (nn.silu(), "both"),
    "softplus": (nn.softplus(), "both"),
    "gelu": (nn.gelu(), "both"),
    "gelu by tanh": (nn.gelu(approximate=True), "both"),
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
    """Whether each loop computed its results."""
    made, run, summed = [], layers._run, layers.summed

    def noted(*arguments):
        made.append(run(*arguments))
        return made[-1]

    def noted_sums(*arguments):
        results = summed(*arguments)
        made.extend([True] * (results is not None))
        return results

    monkeypatch.setattr(layers, "_run", noted)
    monkeypatch.setattr(layers, "summed", noted_sums)
    return made


def each_stage():
    for name, dtype, numerics in itertools.product(
        STAGES, ("float32", "float64"), (fast, portable)
    ):
        quick = name in ("relu", "gelu") and (dtype, numerics) == ("float32", fast)
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
    if (name, numerics) == ("tanh", portable):  # in `fast`, NumPy's loop alone is as fast
        which = "both"
    assert compiled == [True] * 3 * {"both": 2, "backward": 1, "neither": 0}[which]


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


@compilable
def of_three(X, b, e):
    """Operations on whole arrays, on one number per row, and on one per column."""
    lifted = X * b + e
    return lifted, np.where(b < X, lifted, e), np.maximum(X, e) / b


@compilable
def of_two(X, mean):
    centered = X - mean
    return centered, centered * centered


@compilable
def with_calls(X, Y, numerics):
    """Calls of results of calls, of what is computed from them, and of numbers."""
    e = numerics.exp(np.minimum(X, 0))
    lifted = e * Y + numerics.log1p(e)
    return numerics.tanh(lifted), numerics.expm1(numerics.log(np.abs(Y))) - lifted, X * Y


def test_functions_of_numpy_are_called_block_by_block():
    loop, count = layers._loop_of_values(with_calls, ("", ""), np.dtype("f4"), fast)
    assert (loop.text, count) == (WITH_CALLS, 3)


WITH_CALLS = """\
def loop(calls, X_, Y_, y0_, y1_, y2_):
    room0 = empty(1024, float32)
    room1 = empty(1024, float32)
    room2 = empty(1024, float32)
    room3 = empty(1024, float32)
    room4 = empty(1024, float32)
    room5 = empty(1024, float32)
    for begin in range(0, y2_.size, 1024):
        n = min(1024, y2_.size - begin)
        X_block = X_[begin : begin + n]
        Y_block = Y_[begin : begin + n]
        y0_block = y0_[begin : begin + n]
        y1_block = y1_[begin : begin + n]
        y2_block = y2_[begin : begin + n]
        e0 = room0[:n]
        e1 = room1[:n]
        e2 = room2[:n]
        e3 = room3[:n]
        e4 = room4[:n]
        e5 = room5[:n]
        for i in range(n):
            X = X_block[i]
            t0 = X if X < float32(0.0) or X != X else float32(0.0)
            e0[i] = t0
        call(calls[EXP], e0, e1)
        for i in range(n):
            t1 = e1[i]
            e0[i] = t1
        call(calls[LOG1P], e0, e2)
        for i in range(n):
            Y = Y_block[i]
            t1 = e1[i]
            t2 = t1 * Y
            t3 = e2[i]
            t4 = t2 + t3
            e0[i] = t4
        call(calls[TANH], e0, e3)
        for i in range(n):
            Y = Y_block[i]
            t6 = abs(Y)
            e0[i] = t6
        call(calls[LOG], e0, e4)
        for i in range(n):
            t7 = e4[i]
            e0[i] = t7
        call(calls[EXPM1], e0, e5)
        for i in range(n):
            X = X_block[i]
            Y = Y_block[i]
            t1 = e1[i]
            t2 = t1 * Y
            t3 = e2[i]
            t4 = t2 + t3
            t5 = e3[i]
            t8 = e5[i]
            t9 = t8 - t4
            t10 = X * Y
            y0_block[i] = t5
            y1_block[i] = t9
            y2_block[i] = t10
"""


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.sampled_from(["float32", "float64"]), st.booleans(), st.booleans())
def test_functions_with_calls_give_the_bits_of_numpy(any_size, data, dtype, exact, split):
    size = data.draw(st.sampled_from([1, 2, 7, 1023, 1024, 1025, 3001]))
    few = [drawn(data, (13,), dtype) for _ in range(2)]
    X, Y = (np.resize(each, (1, size)) for each in few)
    numerics = portable if exact else fast
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        if split:
            patch.setattr(threads, "WORTH_A_THREAD", 0)
            patch.setattr(threads, "worker_threads", lambda: 3)
        with using_engine("compiled"):
            made = layers.computed(with_calls, (X, Y), numerics)
        assert all(map(same_bits, with_calls(X, Y, numerics), made))


def test_functions_of_other_arithmetics_stay_with_numpy(any_size):
    own = attrs.evolve(fast, exp=lambda x: np.exp(x) + 0)
    X = np.ones((3, 4))
    with using_engine("compiled"):
        assert layers.computed(with_calls, (X, X), own) is None
        assert layers.computed(with_calls, (X, X), fast) is not None
        assert layers.computed(compilable(lambda X, _: np.arctan(X)), (X,), fast) is None
        assert layers.computed(compilable(lambda X, _: fast.power(X, X)), (X,), fast) is None


@pytest.fixture
def any_size(monkeypatch, compiled):
    monkeypatch.setattr(passes, "WORTH_A_LOOP", 0)
    return compiled


def drawn(data, shape, dtype):
    numbers = st.sampled_from(EXTREMES) | st.floats(-5, 5, width=32)
    size = int(np.prod(shape))
    with np.errstate(over="ignore", under="ignore"):
        vector = np.array(data.draw(st.lists(numbers, min_size=size, max_size=size)), dtype)
    return vector.reshape(shape)


SHAPES = st.sampled_from([(5,), (3, 4), (1, 7), (2, 2, 3, 4)])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), SHAPES, st.sampled_from(["float32", "float64"]), st.booleans(), st.booleans())
def test_functions_of_several_arrays_give_the_bits_of_numpy(
    any_size, data, shape, dtype, turned, split
):
    X = drawn(data, shape[::-1] if turned else shape, dtype)
    X = X.T if turned else X
    per_row = (X.shape[-2], 1) if X.ndim > 1 else X.shape
    per_column = (*X.shape[:-2], 1, X.shape[-1]) if X.ndim > 1 else X.shape
    b, e = drawn(data, per_row, dtype), drawn(data, per_column, dtype)
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        if split:
            patch.setattr(threads, "WORTH_A_THREAD", 0)
            patch.setattr(threads, "worker_threads", lambda: 3)
        made, before = [], len(any_size)
        for engine in ("numpy", "compiled"):
            with using_engine(engine):
                made.append(passes.in_one_pass(of_three, X, b, e))
        for a, b in zip(*made, strict=True):
            assert same_bits(a, b)
            assert not b.flags.writeable
            assert (a.flags.c_contiguous, a.flags.f_contiguous) == (
                b.flags.c_contiguous,
                b.flags.f_contiguous,
            )
    if X.ndim < 3 or not turned:
        assert any_size[before:] == [True]


def axes_of(shape, over_features):
    axis = len(shape) - 2
    others = tuple(i for i in range(len(shape)) if i != axis)
    return axis if over_features else others if len(others) > 1 else others[0]


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.data(),
    st.sampled_from([(2, 3), (7, 150), (40, 130), (2, 3, 5), (3, 2, 4, 9), (1, 5, 3, 2)]),
    st.sampled_from(["float32", "float64"]),
    st.booleans(),
    st.sampled_from([fast, portable]),
)
def test_sums_of_results_have_the_bits_of_numpy(
    any_size, data, shape, dtype, over_features, numerics
):
    some = [data.draw(st.sampled_from(EXTREMES[:2] + EXTREMES[5:])) for _ in range(3)]
    X = nn.Key(data.draw(st.integers(0, 99))).normal(shape)
    X.flat[:: max(1, X.size // 7)] = np.resize(some, len(X.flat[:: max(1, X.size // 7)]))
    X[..., 0, :] = some[0]  # perhaps only zeros below 0
    with np.errstate(all="ignore"):
        X = X.astype(dtype)
        b, e = X[(0,) * (X.ndim - 2)][:, :1].copy(), X[..., :1, :].copy()
        options = {"kept": 1, "axis": axes_of(shape, over_features), "numerics": numerics}
        made = []
        for engine in ("numpy", "compiled"):
            with using_engine(engine):
                made.append(passes.summed_in_one_pass(of_three, X, b, e, **options))
    assert len(made[0]) == len(made[1]) == 3
    for first, second in zip(*made, strict=True):
        assert same_bits(first, second)
        assert first.shape == second.shape
        assert first.strides == second.strides


def test_sums_are_made_where_it_is_known_how_numpy_adds(any_size, monkeypatch):
    X = np.ones((3, 2, 40, 30))
    both = compilable(lambda X: (X + 1, X * X))
    with using_engine("compiled"):
        doubled, total = layers.summed(both, (X,), 1, (0, 1, 3), fast)
        assert (doubled == 2).all()
        assert total.shape == (1, 1, 40, 1)
        assert (total == 180).all()
        assert (layers.summed(both, (X,), 1, 2, fast)[1] == np.full((3, 2, 1, 30), 40)).all()
        for X_, axis, numerics in [
            (X, (0, 1, 3), portable),
            (X, (0, 1, 2), fast),
            (X[0, 0, :, :1], 1, fast),
            (X[0, 0, :1], 0, fast),
            (np.ones((9, 9)), 1, fast),  # a product with ones, see `pydnn.numerics.fast`
            (np.ones((90, 90)).T[::2], 1, fast),
            (np.ones(9000), 0, fast),
        ]:
            assert layers.summed(both, (X_,), 1, axis, numerics) is None, (X_.shape, axis)
        assert layers.summed(lambda X: (X, X), (X,), 1, 2, fast) is None
        monkeypatch.setattr(layers, "_adds_in_order", lambda dtype: False)
        assert layers.summed(both, (X,), 1, 2, fast) is None


def test_the_loop_of_sums_reads_like_the_function():
    loop, _ = layers._loop_of_values(of_two, ("pij", "i"), np.dtype("f4"), None, in_fast, "i", 1)
    assert loop.text == WITH_SUMS


WITH_SUMS = """\
def loop(calls, X_, mean_, y0_, y1_):
    y1_row = empty(X_.shape[2], float32)
    for p in range(X_.shape[0]):
        for i in range(X_.shape[1]):
            mean = mean_[i]
            for j in range(X_.shape[2]):
                X = X_[p, i, j]
                t0 = X - mean
                t1 = t0 * t0
                y0_[p, i, j] = t0
                y1_row[j] = t1
            add_row(calls[ADD], y1_row, y1_, i)
"""


def test_arrays_that_do_not_fit_a_loop_stay_with_numpy(any_size):
    X, b, e = np.ones((3, 4)), np.ones((3, 1)), np.ones((1, 4))
    others = {
        "another dtype": (X, b.astype("f4"), e),
        "another order": (X, b, np.ones((1, 8))[:, ::2]),
        "another shape": (X, b, np.ones(4)),
        "one number": (X, np.ones((1, 1)), e),
        "no order": (np.ones((3, 8))[:, ::2], b, e),
    }
    with using_engine("compiled"):
        for name, operands in others.items():
            assert layers.computed(of_three, operands) is None, name
            made = passes.in_one_pass(of_three, *operands)
            assert [a.tolist() for a in made] == [a.tolist() for a in of_three(*operands)]
        assert layers.computed(lambda X: X, (X,)) is None
        assert layers.computed(compilable(lambda X: X * X.size), (X,)) is None
        assert not any_size


NORMS = {"batch_norm": nn.batch_norm(), "layer_norm": nn.layer_norm()}


def each_norm():
    shapes = {
        "columns": (33, 517),
        "rows": (517, 33),
        "steps": (7, 25, 99),
        "images": (9, 8, 25, 12),
    }
    for name, kind, dtype, numerics, training in itertools.product(
        NORMS, shapes, ("float32", "float64"), (fast, portable), (True, False)
    ):
        quick = kind in ("columns", "images") and (dtype, numerics) == ("float64", fast)
        marks = () if quick and training else pytest.mark.slow
        yield pytest.param(name, kind, shapes[kind], dtype, numerics, training, marks=marks)


@np.errstate(all="ignore")
@pytest.mark.parametrize(
    ("name", "kind", "shape", "dtype", "numerics", "training"), list(each_norm())
)
def test_normalizations_give_the_bits_of_numpy(
    name, kind, shape, dtype, numerics, training, compiled, monkeypatch
):
    monkeypatch.setattr(passes, "WORTH_A_LOOP", 1)
    stage = NORMS[name]
    Z, dA = (nn.Key(3).at(each).normal(shape) for each in ("Z", "dA"))
    Z[..., 1, 2], Z[..., 3, 1], dA[..., 4, 2] = 1e30, -0.0, np.nan
    n = shape[-2]
    if kind == "rows":
        Z, dA, n = Z.T, dA.T, shape[-1]
    Z, dA = Z.astype(dtype), dA.astype(dtype)
    with np.errstate(all="ignore"):
        gamma, beta, mean = (
            nn.Key(3).at(each).normal((n, 1)).astype(dtype) for each in ("gamma", "beta", "mean")
        )
    params = NormParams(gamma, beta)
    statistics = BatchNormStatistics(mean, gamma * gamma)
    context = nn.Context(training=training, numerics=numerics, statistics=statistics)
    made = []
    for engine in ("numpy", "compiled"):
        with using_engine(engine):
            A, cache = stage.forward(params, Z, context)
            dZ, grads = stage.backward(params, cache, dA)
        norm = getattr(cache, "norm", cache)
        made.append([A, norm.Z_norm, norm.deviation, dZ, grads.dgamma, grads.dbeta])
    assert all(map(same_bits, *made))
    assert all(a.strides == b.strides for a, b in zip(*made, strict=True))
    # Forward, the mean, the squares and the results; backward, three times sums and results
    assert len(compiled) == len([made for made in compiled if made])
    if numerics is fast and kind != "rows":
        assert len(compiled) == (2 if name == "batch_norm" and not training else 6)


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
    # In `fast`, tanh is a call of NumPy's loop.
    both = {"relu": True, "leaky_relu": True, "tanh": numerics is portable, "one's own": False}
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
