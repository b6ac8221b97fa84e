"""Check transposed convolutions by hand, and as the adjoint of convolutions."""

import numpy as np
import pytest

from pydnn import BadInput, Context, Key, constant, conv, fast, portable, transposed_conv
from pydnn.interop.onnx_file import onnx_file
from pydnn.parameters import layout_of
from pydnn.stages.base import onnx_of
from pydnn.stages.convolution import ConvParams, KernelParams
from pydnn.stages.graph import Graph
from pydnn.stages.initializers import he_normal, normal
from pydnn.stages.transposed_convolution import TransposedConvParams
from pydnn.testing import check_gradients
from pydnn.testing.onnx import assert_onnx

EVALUATION = Context()
# filters, size, options, and the shape of an example
CASES = {
    "plain": ((3, 2), {}, (3, 2, 2)),
    "one place": ((2, 1), {"stride": 2}, (1, 3, 1)),
    "odd": ((2, (3, 2)), {"stride": (2, 3), "padding": [(1, 0), (0, 1)]}, (3, 2, 1)),
    "added": ((2, 3), {"stride": 2, "padding": 1, "output_padding": 1}, (3, 4, 1)),
    "same": ((2, 3), {"stride": 2, "padding": "same"}, (2, 3, 2)),
    "same, with gaps": ((1, 2), {"stride": 3, "padding": "same"}, (2, 2, 1)),
    "dilation": ((2, 3), {"dilation": (2, 1), "padding": [(1, 3), 0]}, (3, 3, 1)),
    "steps": ((4, 3), {"stride": 2, "padding": [(0, 2)], "output_padding": [1]}, (4, 2)),
    "no bias": ((2, 4), {"stride": 2, "padding": 1, "bias": False}, (5, 3)),
    "groups": ((4, 3), {"stride": 2, "groups": 2}, (3, 2, 2)),
    "groups of steps": ((6, 2), {"groups": 3, "padding": "same"}, (4, 3)),
}
every_case = pytest.mark.parametrize(("made", "options", "shape"), CASES.values(), ids=CASES)


def test_kernels_add_up_by_hand():
    stage = transposed_conv(1, (1, 3), stride=2)
    A_prev = np.array([1.0, 10.0, 100.0]).reshape(1, 3, 1, 1)
    params = TransposedConvParams(np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1), [[0.5]])
    Z, cache = stage.forward(params, A_prev, EVALUATION)
    expected = np.array([1, 2, 3 + 10, 20, 30 + 100, 200, 300])
    # Rows are two apart, too, but there is one row only.
    np.testing.assert_array_equal(Z.ravel(), expected + 0.5)
    dZ = np.arange(1.0, 8.0).reshape(Z.shape)
    dA_prev, grads = stage.backward(params, cache, dZ)
    np.testing.assert_array_equal(dA_prev.ravel(), [1 + 4 + 9, 3 + 8 + 15, 5 + 12 + 21])
    np.testing.assert_array_equal(grads.dW.ravel(), [1 + 30 + 500, 2 + 40 + 600, 3 + 50 + 700])
    np.testing.assert_array_equal(grads.db, [[28]])


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ({}, 9),  # 2 (4 - 1) + 3
        ({"padding": 1}, 7),
        ({"padding": 1, "output_padding": 1}, 8),
        ({"padding": [(0, 2)]}, 7),
        ({"padding": "same"}, 8),
        ({"dilation": 3}, 13),
        ({"dilation": 3, "padding": "same"}, 8),
    ],
)
def test_lengths_of_outputs(options, length):
    _, shape_out = transposed_conv(5, 3, stride=2, **options).init(Key(0), (4, 2))
    assert shape_out == (length, 5)


@every_case
@pytest.mark.parametrize("numerics", [fast, portable], ids=["fast", "portable"])
def test_it_is_the_adjoint_of_the_convolution_with_the_same_options(made, options, shape, numerics):
    context = Context(numerics=numerics)
    stage = transposed_conv(*made, **{**options, "bias": False})
    params, shape_out = stage.init(Key(1), shape)
    rest = {k: v for k, v in options.items() if k not in ("output_padding", "bias")}
    forth = conv(shape[-1], made[1], bias=False, **rest)
    X, dZ = Key(2).normal((*shape_out, 3)), Key(3).normal((*shape, 3))
    Z, _ = forth.forward(KernelParams(params.W), X, context)
    back, _ = stage.forward(params, dZ, context)
    assert Z.shape == dZ.shape
    np.testing.assert_allclose(np.vdot(Z, dZ), np.vdot(X, back), rtol=1e-12)


@every_case
def test_gradients_agree_with_finite_differences(made, options, shape):
    check_gradients(transposed_conv(*made, **options), shape_in=shape, examples=2, entries=16)


@every_case
def test_onnx_gives_the_same(made, options, shape):
    pytest.importorskip("onnx")
    stage = transposed_conv(*made, **options)
    if "groups" not in options:
        assert_onnx(stage, shape_in=shape, examples=2)
        return
    # The reference evaluator of onnx takes the wrong weights of a group, up to version 1.23.
    onnxruntime = pytest.importorskip("onnxruntime")
    params, shape_out = stage.init(Key(1), shape)
    layout = layout_of(params)
    params = layout.packed(Key(2).normal(layout.size).astype(np.float32)).tree
    X = Key(3).normal((*shape, 2)).astype(np.float32)
    graph = Graph("float32")
    graph.output("Z", onnx_of(stage, params, graph.input("X", shape), ()), shape_out)
    session = onnxruntime.InferenceSession(onnx_file(graph, producer_version="", metadata={}))
    [Z] = session.run(None, {"X": np.ascontiguousarray(np.moveaxis(X, -1, 0))})
    expected, _ = stage.forward(params, X, EVALUATION)
    np.testing.assert_allclose(np.moveaxis(Z, 0, -1), expected, rtol=1e-5, atol=1e-5)


def test_weights_are_scaled_by_the_inputs_that_a_number_depends_on():
    W = transposed_conv(64, 4, stride=2, initializer=normal(scale=1)).init(Key(0), (4, 4, 32))[0].W
    scaled = transposed_conv(64, 4, stride=2, initializer=he_normal()).init(Key(0), (4, 4, 32))[0].W
    # 4 x 4 x 32 weights reach a number, of which every second row and column is 0.
    np.testing.assert_allclose(scaled, W * np.sqrt(2 / (4 * 4 * 32 / 4)), rtol=1e-12)


REFUSED = {
    "filters": (lambda: transposed_conv(0, 3), "filters is 0, expected an integer"),
    "a float": (lambda: transposed_conv(2, 3, stride=1.5), "stride is 1.5, expected an integer"),
    "groups of filters": (
        lambda: transposed_conv(3, 3, groups=2),
        "groups of transposed_conv is 2, expected a divisor of 3 filters",
    ),
    "groups of channels": (
        lambda: transposed_conv(4, 3, groups=4).init(Key(0), (4, 4, 6)),
        "groups of transposed_conv is 4, expected a divisor of 6 channels",
    ),
    "bias": (lambda: transposed_conv(2, 3, bias=1), "bias is 1, expected True or False"),
    "too much added": (
        lambda: transposed_conv(2, 3, stride=2, output_padding=2).init(Key(0), (4, 4, 1)),
        "output_padding is 2 along axis 0, expected less than the stride 2",
    ),
    "negative": (lambda: transposed_conv(2, 3, output_padding=-1), "output_padding is -1"),
    "added to same": (
        lambda: transposed_conv(2, 3, stride=2, padding="same", output_padding=1),
        "output_padding is 1 and padding is 'same'",
    ),
    "axes": (
        lambda: transposed_conv(2, 3, stride=2, output_padding=[1, 0]).init(Key(0), (4, 1)),
        "output_padding has 2 entries",
    ),
    "nothing left": (
        lambda: transposed_conv(2, 3, padding=4).init(Key(0), (4, 4, 1)),
        r"padding of 4 \+ 4 leaves nothing of 6 places along axis 0",
    ),
    "a huge stride": (
        lambda: transposed_conv(2, 3, stride=10**12).init(Key(0), (4, 4, 1)),
        "more numbers than any machine holds",
    ),
    "huge kernels": (
        lambda: transposed_conv(1, (1, 10**10), padding=[0, (0, 10**10 - 1)]).init(
            Key(0), (1, 1, 10**6)
        ),
        "10000000000000000 weights, more than any machine holds",
    ),
    "flat": (lambda: transposed_conv(1, 3).init(Key(0), (784,)), r"reshape\(28, 28, 1\)"),
    "channels": (
        lambda: transposed_conv(1, 3).forward(
            TransposedConvParams(np.ones((3, 3, 1, 2)), [[0.0]]), np.ones((4, 4, 3, 2)), EVALUATION
        ),
        "the weights of transposed_conv are for 2 channels",
    ),
    "another kernel": (
        lambda: transposed_conv(1, 2).forward(
            TransposedConvParams(np.ones((3, 3, 1, 2)), [[0.0]]), np.ones((4, 4, 2, 2)), EVALUATION
        ),
        r"W has shape \(3, 3, 1, 2\), expected \(2, 2, 1, 2\)",
    ),
    "biases": (
        lambda: TransposedConvParams(np.ones((3, 3, 2, 2)), np.zeros((3, 1))),
        r"b has shape \(3, 1\), expected \(4, 1\)",
    ),
    "precision": (
        lambda: transposed_conv(1, 1, initializer=constant(1.0)).forward(
            ConvParams(np.ones((1, 1, 1, 1)), [[0.0]]),
            np.ones((1, 1, 1, 1), np.float32),
            EVALUATION,
        ),
        "A_prev is float32, but the parameters are float64",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses(call, message):
    with pytest.raises(BadInput, match=message):
        call()
