import itertools

import attrs
import numpy as np
import pytest
from helpers import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from pydnn import BadInput, Context, Key, adam, conv, depthwise_conv, fast, portable, serial
from pydnn.parameters import leaves
from pydnn.stages.convolution import ConvParams, KernelParams
from pydnn.stages.initializers import normal, orthogonal, tutorial, xavier_uniform, zeros
from pydnn.stages.windows import Windows
from pydnn.testing import assert_onnx, assert_stage
from pydnn.training import initial_state

# Sequences of one channel, with all numbers written out.
WORKED = {
    # 1*1 + 2*10, 2*1 + 3*10, 3*1 + 4*10
    "valid": ({}, [1, 2, 3, 4], [21, 32, 43]),
    "same, the odd zero at the end": ({"padding": "same"}, [1, 2, 3, 4], [21, 32, 43, 4]),
    "one zero before": ({"padding": [(1, 0)]}, [1, 2, 3, 4], [10, 21, 32, 43]),
    "stride": ({"stride": 2}, [1, 2, 3, 4, 5], [21, 43]),
    "dilation": ({"dilation": 3}, [1, 2, 3, 4, 5], [41, 52]),
    "padding beyond the kernel": ({"padding": 2}, [7], [0, 70, 7, 0]),
}


@pytest.mark.parametrize("numerics", [fast, portable], ids=["fast", "portable"])
@pytest.mark.parametrize(("options", "A_prev", "Z"), WORKED.values(), ids=WORKED)
def test_forward_matches_worked_examples(options, A_prev, Z, numerics):
    params = ConvParams(np.reshape([1.0, 10.0], (2, 1, 1)), [[0.5]])
    X = np.reshape(np.array(A_prev, float), (-1, 1, 1))
    found, _ = conv(1, 2, **options).forward(params, X, Context(numerics=numerics))
    np.testing.assert_array_equal(found[:, 0, 0], np.array(Z) + 0.5)


@pytest.mark.parametrize("numerics", [fast, portable], ids=["fast", "portable"])
def test_backward_matches_a_worked_example(numerics):
    # Z = [1*a + 10*b, 1*c] with padding "same" and stride 2, so with dZ = [2, 3]:
    # dW = [2a + 3c, 2b], db = 5, dA_prev = [2*1, 2*10, 3*1].
    params = ConvParams(np.reshape([1.0, 10.0], (2, 1, 1)), [[0.0]])
    stage = conv(1, 2, stride=2, padding="same")
    _, cache = stage.forward(params, np.reshape([4.0, 5, 6], (3, 1, 1)), Context(numerics=numerics))
    dA_prev, grads = stage.backward(params, cache, np.reshape([2.0, 3], (2, 1, 1)))
    np.testing.assert_array_equal(grads.dW[:, 0, 0], [2 * 4 + 3 * 6, 2 * 5])
    np.testing.assert_array_equal(grads.db, [[5]])
    np.testing.assert_array_equal(dA_prev[:, 0, 0], [2, 20, 3])


def test_an_image_meets_its_kernel_row_by_row_and_channel_by_channel():
    A_prev = np.arange(8.0).reshape(2, 2, 2, 1)  # two channels: even numbers and odd ones
    W = np.zeros((2, 2, 2, 3))
    W[0, 1, 0, 0] = W[1, 0, 1, 1] = 1  # the first filter picks row 0, column 1 of channel 0
    W[..., 2] = 1
    Z, _ = conv(3, 2).forward(ConvParams(W, np.zeros((3, 1))), A_prev, Context())
    np.testing.assert_array_equal(Z, np.reshape([2.0, 5.0, 28.0], (1, 1, 3, 1)))


def by_definition(A_prev, W, axes, groups):
    """Return Z, and a function from dZ to dW and dA_prev, by one loop over all products."""
    A4, W4 = (a if a.ndim == 4 else a[np.newaxis] for a in (A_prev, W))
    rows, columns = axes if len(axes) == 2 else (Windows.of(1).over((1, 1))[0], *axes)
    C, F = W4.shape[2], W4.shape[3]
    Z = np.zeros((rows.count, columns.count, F, A4.shape[3]))
    products = []
    for p, q, i, j in itertools.product(*map(range, (*Z.shape[:2], *W4.shape[:2]))):
        h = p * rows.stride + i * rows.dilation - rows.before
        w = q * columns.stride + j * columns.dilation - columns.before
        if 0 <= h < A4.shape[0] and 0 <= w < A4.shape[1]:
            for f, c in itertools.product(range(F), range(C)):
                products.append((p, q, i, j, h, w, f, c, c + C * (f // (F // groups))))
    for p, q, i, j, h, w, f, c, channel in products:
        Z[p, q, f] += W4[i, j, c, f] * A4[h, w, channel]

    def gradients(dZ):
        dZ4 = dZ.reshape(Z.shape)
        dW, dA_prev = np.zeros(W4.shape), np.zeros(A4.shape)
        for p, q, i, j, h, w, f, c, channel in products:
            dW[i, j, c, f] += (dZ4[p, q, f] * A4[h, w, channel]).sum()
            dA_prev[h, w, channel] += W4[i, j, c, f] * dZ4[p, q, f]
        return dW.reshape(W.shape), dA_prev.reshape(A_prev.shape)

    return Z if A_prev.ndim == 4 else Z[0], gradients


sides = st.integers(1, 3)


@settings(max_examples=25, deadline=None)
@given(
    axes=st.integers(1, 2),
    data=st.data(),
    groups=st.integers(1, 2),
    examples=st.sampled_from([1, 3, 17]),
    numerics=st.sampled_from([fast, portable]),
)
def test_outputs_and_gradients_are_those_of_the_definition(axes, data, groups, examples, numerics):
    draw = data.draw
    size, stride, dilation = (draw(st.tuples(*[sides] * axes)) for _ in range(3))
    padding = draw(
        st.sampled_from(["valid", "same"])
        | st.tuples(*[st.tuples(*[st.integers(0, 4)] * 2)] * axes)
    )
    reach = [d * (k - 1) + 1 for k, d in zip(size, dilation, strict=True)]
    least = [1 if padding == "same" else r for r in reach]
    lengths = [n + draw(st.integers(0, 3)) for n in least]
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    stage = conv(2 * groups, size, groups=groups, **options)
    params, shape_out = stage.init(Key(1), (*lengths, groups * draw(sides)))
    W = params.W
    A_prev = Key(2).normal((*lengths, groups * W.shape[-2], examples))
    params = attrs.evolve(params, b=Key(3).normal(params.b.shape))
    Z, cache = stage.forward(params, A_prev, Context(numerics=numerics))
    assert Z.shape == (*shape_out, examples)
    assert Z.flags.c_contiguous
    windows = Windows.of(size, **options).over(A_prev.shape[:-1])
    expected, gradients = by_definition(A_prev, W, windows, groups)
    np.testing.assert_allclose(Z, expected + params.b, rtol=1e-12, atol=1e-12)
    dZ = Key(4).normal(Z.shape)
    dA_prev, grads = stage.backward(params, cache, dZ)
    dW, expected = gradients(dZ)
    np.testing.assert_allclose(grads.dW, dW, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dA_prev, expected, rtol=1e-12, atol=1e-12)
    others = tuple(i for i in range(dZ.ndim) if i != dZ.ndim - 2)
    np.testing.assert_allclose(grads.db[:, 0], dZ.sum(axis=others), rtol=1e-12, atol=1e-12)


# Odd shapes: strides that do not divide, size 1, padding beyond the kernel, groups, dilation.
STAGES = {
    "images": (conv(2, 3), (4, 5, 2)),
    "strides": (conv(2, (3, 2), stride=(2, 3), padding="same"), (5, 5, 1)),
    "size 1": (conv(3, 1, stride=2), (3, 4, 2)),
    "padding beyond the kernel": (conv(1, 2, padding=[(3, 0), (0, 4)]), (2, 1, 1)),
    "groups": (conv(4, 2, groups=2, dilation=(2, 1)), (4, 3, 4)),
    "without a bias": (conv(2, 2, bias=False), (2, 3, 1)),
    "sequences": (conv(3, 3, stride=2, padding=[(2, 1)], dilation=2), (6, 2)),
    "depthwise": (depthwise_conv(2, multiplier=2, padding="same"), (3, 2, 2)),
    "depthwise, sequences": (depthwise_conv(3, stride=2, bias=False), (6, 3)),
}


@pytest.mark.parametrize(("stage", "shape_in"), STAGES.values(), ids=STAGES)
def test_stages_keep_their_laws(stage, shape_in):
    assert_stage(stage, shape_in=shape_in, examples=3)


@pytest.mark.parametrize(("stage", "shape_in"), STAGES.values(), ids=STAGES)
def test_stages_are_written_in_onnx_as_they_compute(stage, shape_in):
    pytest.importorskip("onnx")
    assert_onnx(stage, shape_in=shape_in, examples=3)


@pytest.mark.parametrize("numerics", [fast, portable], ids=["fast", "portable"])
def test_the_memory_order_of_the_input_changes_no_bit(numerics):
    stage = conv(5, 3, padding="same", stride=2)
    params, _ = stage.init(Key(1), (6, 7, 4))
    A_prev, dZ = Key(2).normal((6, 7, 4, 20)), Key(3).normal((3, 4, 5, 20))

    def results(order):
        Z, cache = stage.forward(
            params, np.asarray(A_prev, order=order), Context(numerics=numerics)
        )
        dA_prev, grads = stage.backward(params, cache, np.asarray(dZ, order=order))
        return [Z, dA_prev, *leaves(grads)]

    for one, other in zip(results("C"), results("F"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_cache_is_the_input_and_not_its_windows():
    A_prev = frozen(Key(2).normal((6, 7, 4, 20)))
    params, _ = conv(5, 3, padding=2).init(Key(1), (6, 7, 4))
    _, cache = conv(5, 3, padding=2).forward(params, A_prev, Context())
    assert np.shares_memory(cache.A_prev, A_prev)
    assert [a.shape for a in leaves((cache,))] == [A_prev.shape]


def test_a_stage_takes_images_of_any_size():
    stage = conv(2, 3, padding="same")
    params, _ = stage.init(Key(1), (8, 8, 3))
    for H, W in ((1, 1), (5, 9)):
        Z, cache = stage.forward(params, np.ones((H, W, 3, 2)), Context())
        assert Z.shape == (H, W, 2, 2)
        assert stage.backward(params, cache, Z)[0].shape == (H, W, 3, 2)


def test_init_draws_one_row_of_the_matrix_for_each_filter():
    params, _ = conv(4, (2, 3), initializer=normal(scale=2)).init(Key(1), (5, 5, 2))
    matrix = 2 * Key(1).at("W").normal((4, 12))
    np.testing.assert_array_equal(params.W[1, 2, 0], matrix[:, (1 * 3 + 2) * 2 + 0])
    np.testing.assert_array_equal(params.b, np.zeros((4, 1)))
    params, _ = conv(4, (2, 3), initializer=orthogonal()).init(Key(1), (5, 5, 2))
    rows = params.W.reshape(12, 4).T
    np.testing.assert_allclose(rows @ rows.T, np.eye(4), atol=1e-12)


@pytest.mark.parametrize(
    ("stage", "fan_in", "fan_out"),
    [
        (conv(8, (3, 5), initializer=xavier_uniform()), 15 * 6, 15 * 8),
        (conv(8, (3, 5), groups=2, initializer=xavier_uniform()), 15 * 3, 15 * 4),
        (depthwise_conv(3, multiplier=4, initializer=xavier_uniform()), 9, 9 * 4),
    ],
)
def test_initializers_count_the_connections_of_a_number(stage, fan_in, fan_out):
    W = stage.init(Key(1), (5, 5, 6))[0].W
    assert W.size > 200
    limit = np.sqrt(6 / (fan_in + fan_out))
    assert 0.97 * limit < np.abs(W).max() <= limit


def test_a_weight_stream_draws_kernels_as_matrices():
    stream = tutorial(seed=3)
    state = initial_state(serial(conv(3, 2)), adam(), (2, 2, 4), key=Key(1), weights=stream)
    first = np.random.RandomState(3).randn(3, 16) / np.sqrt(16)
    np.testing.assert_array_equal(state.parameters["0/W"], first.T.reshape(2, 2, 4, 3))


def test_the_largest_kernel_can_be_laid_out_without_memory():
    stage = conv(2**20, 2**10, initializer=zeros(), padding="same")
    assert stage.init(Key(1), (3, 3, 2**8))[1] == (3, 3, 2**20)


IMAGES = (5, 5, 2)
REFUSED = {
    "no filters": (lambda: conv(0, 3), "filters is 0, expected an integer of at least 1"),
    "filters in groups": (lambda: conv(3, 3, groups=2), "groups of conv is 2.* 3 filters"),
    "channels in groups": (
        lambda: conv(3, 3, groups=3).init(Key(1), IMAGES), "groups of conv is 3.* of 2 channels",
    ),
    "a kernel beyond the image": (
        lambda: conv(1, 6).init(Key(1), IMAGES), r"reaches over 6 places of axis 0.* have 5",
    ),
    "a flat photo": (
        lambda: conv(1, 3).init(Key(1), (12288,)),
        r"shape \(12288,\), expected images \(H, W, C\) .* reshape\(64, 64, 3\)",
    ),
    "a smaller image later": (
        lambda: conv(1, 3).forward(ConvParams(np.ones((3, 3, 1, 1)), [[0.0]]),
                                   np.ones((2, 5, 1, 1)), Context()),
        r"reaches over 3 places",
    ),
    "other channels": (
        lambda: conv(1, 3).forward(ConvParams(np.ones((3, 3, 2, 1)), [[0.0]]),
                                   np.ones((5, 5, 1, 1)), Context()),
        r"A_prev has shape \(5, 5, 1, 1\), expected \(H, W, 2, m\): the weights of conv are for 2",
    ),
    "a sequence for an image": (
        lambda: conv(1, 3).forward(ConvParams(np.ones((3, 3, 2, 1)), [[0.0]]),
                                   np.ones((5, 2, 1)), Context()),
        r"expected \(H, W, 2, m\)",
    ),
    "a kernel of another size": (
        lambda: conv(1, 3).forward(ConvParams(np.ones((2, 3, 2, 1)), [[0.0]]),
                                   np.ones((5, 5, 2, 1)), Context()),
        r"W has shape \(2, 3, 2, 1\), expected \(3, 3, ",
    ),
    "mixed precision": (
        lambda: conv(1, 1).forward(ConvParams(np.ones((1, 1, 1)), [[0.0]]),
                                   np.ones((5, 1, 1), np.float32), Context()),
        "A_prev is float32, but the parameters are float64",
    ),
    "a matrix as a kernel": (lambda: KernelParams(np.ones((3, 3))), r"W has shape \(3, 3\)"),
    "biases of other filters": (
        lambda: ConvParams(np.ones((3, 3, 2, 4)), np.ones((3, 1))), r"b has .* expected \(4, 1\)",
    ),
    "more weights than any machine holds": (
        lambda: conv(10**12, 10**3, padding="same").init(Key(1), IMAGES), "than any machine holds",
    ),
    "more outputs than any machine holds": (
        lambda: conv(10**12, 1).init(Key(1), IMAGES), "than any machine holds",
    ),
    "padding of 10**12": (
        lambda: conv(1, 3, padding=10**12).init(Key(1), (5, 1)), "give less padding",
    ),
    "a bias of 1": (lambda: conv(1, 3, bias=1), "bias is 1, expected True or False"),
    "no multiplier": (lambda: depthwise_conv(3, multiplier=0), "multiplier is 0, expected"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()
