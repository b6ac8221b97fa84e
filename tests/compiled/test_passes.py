import attrs
import numpy as np
import pytest

pytest.importorskip("numba", reason="the compiled engine needs numba")

from hypothesis import given, settings
from hypothesis import strategies as st

import pydnn as nn
from pydnn import engines
from pydnn.compiled import passes
from pydnn.engines import compilable, using_engine
from pydnn.numerics import fast, threads
from pydnn.optimizers import (
    average_parameters,
    chain,
    decay_l1,
    descend,
    freeze_layers,
    number_by_number,
    scale,
    scale_by_adam,
    scale_by_rms,
    scale_layers,
    updated,
)
from pydnn.optimizers.base import moved
from pydnn.optimizers.fused import PendingUpdate
from pydnn.optimizers.momentum import heavy_ball
from pydnn.parameters import pack

TWICE = decay_l1(0.01)
OPTIMIZERS = {
    "gradient_descent": nn.gradient_descent(learning_rate=0.1),
    "momentum": nn.momentum(learning_rate=0.1),
    "averaged momentum": nn.momentum(learning_rate=0.1, averaged=True),
    "nesterov": nn.nesterov(learning_rate=0.1),
    "adam": nn.adam(),
    "adamw": nn.adamw(only=["W"]),
    "amsgrad": nn.amsgrad(),
    "nadam": nn.nadam(),
    "adagrad": nn.adagrad(),
    "rmsprop": nn.rmsprop(),
    "lion": nn.lion(weight_decay=0.1),
    "a schedule": nn.adam(learning_rate=nn.step_decay(0.1, factor=0.5, every=2)),
    "a long chain": chain(
        nn.clip_by_value(2.0),
        decay_l1(0.01),
        scale_by_adam(),
        scale_layers("b", factor=0.5),
        heavy_ball(decay=0.5),
        descend(0.1),
        freeze_layers("b"),
        average_parameters(decay=0.9),
    ),
    "the same part twice": chain(TWICE, scale_by_rms(), TWICE, descend(0.1), TWICE),
    "factors that are not merged": chain(scale_by_rms(), scale(0.3), descend(0.1)),
    "a part that is not elementwise": chain(nn.clip_by_global_norm(1.0), nn.adam()),
}
ALONE = ("adam", "a long chain")
EXTREMES = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-320, -1e-40, 3e38, -1e308, 1.0, -1.0, 0.1]


def vectors(size, dtype):
    """Vectors with extreme numbers among ordinary ones."""
    numbers = st.one_of(
        st.sampled_from(EXTREMES), st.floats(-10, 10, width=32), st.floats(width=32)
    )

    def cast(row):
        with np.errstate(all="ignore"):
            return np.array(row).astype(dtype)

    return st.lists(numbers, min_size=size, max_size=size).map(cast)


def bits(value):
    """A tree of arrays and numbers as bytes; all NaN are equal, since their payloads may differ."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, np.where(np.isnan(value), np.nan, value).tobytes()
    if isinstance(value, tuple):
        return [bits(part) for part in value]
    fields = getattr(value, "__attrs_attrs__", ())
    return [bits(getattr(value, f.name)) for f in fields] if fields else repr(value)


def three_updates(optimizer, params, grads, *, alone=False):
    """All updates, parameters and states of three updates; `alone` each without the other, too."""
    state, results = optimizer.init(params), []
    context = nn.Context(training=True, numerics=fast)
    with np.errstate(all="ignore"):
        for _ in range(3):
            own = optimizer.update(grads, state, params, context) if alone else ()
            updates, vector, after = updated(optimizer, grads, state, params, context)
            if alone:
                assert bits(moved(optimizer, grads, state, params, context)) == bits(
                    (vector, after)
                )
            state = after
            params, grads = params.with_vector(vector), grads[::-1].copy()
            results.append((own, updates, vector, state))
    return [bits(result) for result in results]


@pytest.fixture
def loops_made(monkeypatch):
    """The loops that ran."""
    made, run = [], passes.run

    def noted(loop, *others):
        made.append(loop)
        return run(loop, *others)

    monkeypatch.setattr(passes, "run", noted)
    return made


def each_optimizer():
    for name in OPTIMIZERS:
        for dtype in ("float32", "float64"):
            quick = (name, dtype) == ("adam", "float32")  # compiling takes most of the time
            yield pytest.param(name, dtype, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("name", "dtype"), list(each_optimizer()))
def test_every_elementwise_optimizer_gives_the_bits_of_numpy(name, dtype, loops_made):
    optimizer = OPTIMIZERS[name]
    params = pack(nn.dense(3).init(nn.Key(0), (4,))[0], dtype=dtype)

    @given(vectors(15, dtype), vectors(15, dtype))
    @settings(max_examples=25, deadline=None)
    def same(vector, grads):
        params_ = params.with_vector(vector)
        with using_engine("numpy"):
            expected = three_updates(optimizer, params_, grads, alone=alone)
        with using_engine("compiled"):
            assert three_updates(optimizer, params_, grads, alone=alone) == expected

    alone = name in ALONE  # one loop more to compile
    same()
    assert loops_made, "NumPy did the work"


def adam_loop():
    pending = PENDING[0]
    return passes.loop_of_update(pending, np.dtype(np.float32))


PENDING = [
    scale_by_adam().begin(
        scale_by_adam().init(pack(nn.dense(1).init(nn.Key(0), (1,))[0])), np.dtype("f4"), fast
    )
]


def test_the_loop_reads_like_the_kernel_and_its_text_is_always_the_same():
    assert adam_loop().text == ADAM
    passes._loop.cache_clear()
    assert adam_loop().text == ADAM


ADAM = """\
def loop(factor, n0, n1, n2, g_, p_, x0_, x1_, y0_, y1_, moved_):
    factor = float32(factor)
    n0 = float32(n0)
    n1 = float32(n1)
    n2 = float32(n2)
    for i in range(moved_.size):
        g = g_[i]
        p = p_[i]
        x0 = x0_[i]
        x1 = x1_[i]
        t0 = x0 * n0
        t1 = t0 + g
        t2 = x1 * n1
        t3 = g * g
        t4 = t2 + t3
        t5 = sqrt(t4)
        t6 = t5 + n2
        t7 = t1 / t6
        t8 = t7 * factor
        t9 = p + t8
        y0_[i] = t1
        y1_[i] = t4
        moved_[i] = t9
"""


def own(kernel):
    return number_by_number(lambda params: (), lambda *_: PendingUpdate(kernel, (), lambda: ()))


@pytest.mark.parametrize(
    "kernel",
    [
        lambda factor, g, p, u: np.multiply(g, factor, out=u),
        compilable(lambda factor, g, p, u: np.exp(g, out=u)),
        compilable(lambda factor, g, p, u: np.multiply(g, g.size, out=u)),
        compilable(lambda factor, g, p, u: np.multiply(g, 2 if g[0] > 0 else 3, out=u)),
        compilable(lambda factor, g, p, u: np.multiply(g, np.float64(0.1), out=u, dtype=g.dtype)),
    ],
    ids=["not declared", "exp", "a size", "a branch", "an option"],
)
def test_other_kernels_stay_with_numpy(kernel, loops_made):
    params = pack(nn.dense(1).init(nn.Key(0), (1,))[0], dtype="float32")
    grads = np.array([0.5, 3.0], np.float32)
    with using_engine("compiled"):
        updates, _ = own(kernel).update(grads, (), params)
    assert not loops_made
    expected = np.empty_like(grads)
    kernel(np.float32(1), grads, params.vector, expected)
    assert updates.tolist() == expected.tolist()


def test_a_vector_of_another_size_is_left_to_numpy_which_refuses_it(loops_made):
    params = pack(nn.dense(9).init(nn.Key(0), (50,))[0])
    part = nn.optimizers.heavy_ball()
    state = attrs.evolve(part.init(params), velocity=np.zeros(3))
    with using_engine("compiled"), pytest.raises(ValueError, match="broadcast"):
        part.update(np.ones_like(params.vector), state, params)
    assert not loops_made


def test_threads_share_large_vectors_and_change_no_bit(monkeypatch, loops_made):
    params = pack(nn.dense(9).init(nn.Key(0), (50,))[0], dtype="float32")
    grads = nn.Key(1).normal(params.vector.shape).astype(np.float32)
    with using_engine("numpy"):
        expected = three_updates(OPTIMIZERS["adam"], params, grads)
    monkeypatch.setattr(threads, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(threads, "worker_threads", lambda: 3)
    with using_engine("compiled"):
        assert three_updates(OPTIMIZERS["adam"], params, grads) == expected
    assert loops_made


def test_a_loop_that_cannot_be_compiled_leaves_the_work_to_numpy(monkeypatch):
    monkeypatch.setattr(engines, "_failed", False)
    params = pack(nn.dense(1).init(nn.Key(0), (1,))[0])
    optimizer = nn.nadam()
    expected = three_updates(optimizer, params, np.ones(2))

    def fail(text, names=None):
        raise TypeError("no such type")

    monkeypatch.setattr("pydnn.compiled.loops.kernel_from_text", fail)
    passes._loop.cache_clear()
    with pytest.warns(RuntimeWarning, match="the compiled engine failed"), using_engine("compiled"):
        assert three_updates(optimizer, params, np.ones(2)) == expected
    passes._loop.cache_clear()
