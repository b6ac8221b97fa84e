import itertools

import numpy as np
import pytest

pytest.importorskip("numba", reason="the compiled engine needs numba")

import pydnn as nn
from pydnn.compiled import layers
from pydnn.engines import using_engine
from pydnn.numerics import fast, portable

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
