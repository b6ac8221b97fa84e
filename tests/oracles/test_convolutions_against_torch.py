"""Compare convolutions with PyTorch's, in float64, over a table of options."""

import numpy as np
import pytest

from pydnn import Context, Key, conv, depthwise_conv, fast, portable
from pydnn.parameters import layout_of

torch = pytest.importorskip("torch", reason="PyTorch is not installed, install the extra bench")
F = torch.nn.functional

# (H, W, C) or (T, C), filters, size, options
CASES = [
    ((5, 5, 1), 1, 1, {}),
    ((5, 7, 2), 3, 3, {}),
    ((7, 5, 3), 4, (3, 2), {}),
    ((6, 6, 2), 2, (1, 4), {}),
    ((6, 6, 2), 2, (6, 6), {}),
    ((9, 9, 4), 8, 5, {}),
    ((5, 7, 2), 3, 3, {"padding": 1}),
    ((5, 7, 2), 3, 3, {"padding": 2}),
    ((3, 2, 2), 3, 2, {"padding": 4}),
    ((1, 1, 3), 2, 3, {"padding": 3}),
    ((5, 7, 2), 3, 3, {"padding": [(1, 0), (0, 2)]}),
    ((5, 7, 2), 3, (2, 3), {"padding": [(0, 3), (4, 0)]}),
    ((5, 7, 2), 3, 3, {"padding": "same"}),
    ((5, 7, 2), 3, (2, 4), {"padding": "same"}),
    ((7, 7, 2), 3, 3, {"stride": 2}),
    ((8, 6, 2), 3, 3, {"stride": 2}),
    ((8, 7, 2), 3, 3, {"stride": (2, 3)}),
    ((8, 7, 2), 3, 2, {"stride": 3}),
    ((8, 7, 2), 3, 1, {"stride": 2}),
    ((8, 7, 2), 3, 1, {"stride": 3, "padding": 2}),
    ((8, 7, 2), 3, 3, {"stride": 2, "padding": 1}),
    ((8, 7, 2), 3, 3, {"stride": 2, "padding": "same"}),
    ((8, 7, 2), 3, (3, 2), {"stride": (3, 2), "padding": "same"}),
    ((9, 9, 2), 3, 3, {"dilation": 2}),
    ((9, 9, 2), 3, (3, 2), {"dilation": (2, 3)}),
    ((9, 9, 2), 3, 3, {"dilation": 2, "padding": "same"}),
    ((9, 8, 2), 3, 3, {"dilation": 2, "stride": 2, "padding": 2}),
    ((9, 8, 2), 3, 3, {"dilation": (1, 3), "stride": (3, 2), "padding": [(1, 2), (3, 0)]}),
    ((5, 5, 4), 6, 3, {"groups": 2}),
    ((5, 5, 6), 3, 3, {"groups": 3, "padding": 1}),
    ((5, 6, 4), 8, 2, {"groups": 4, "stride": 2}),
    ((7, 6, 4), 4, 3, {"groups": 2, "dilation": 2, "padding": "same"}),
    ((5, 5, 2), 3, 3, {"bias": False}),
    ((5, 5, 4), 2, 3, {"bias": False, "groups": 2, "stride": 2, "padding": 1}),
    ((9, 3), 4, 3, {}),
    ((9, 3), 4, 1, {}),
    ((9, 3), 4, 9, {}),
    ((1, 2), 3, 4, {"padding": 5}),
    ((9, 3), 4, 3, {"padding": [(2, 0)]}),
    ((9, 3), 4, 4, {"padding": "same"}),
    ((10, 3), 4, 3, {"stride": 2}),
    ((10, 3), 4, 4, {"stride": 3, "padding": "same"}),
    ((10, 3), 4, 3, {"dilation": 3}),
    ((11, 4), 6, 3, {"dilation": 2, "stride": 2, "groups": 2, "padding": 3, "bias": False}),
    ((5, 5, 3), None, 3, {}),
    ((5, 5, 3), None, 3, {"multiplier": 2, "padding": "same"}),
    ((7, 8, 3), None, (3, 2), {"multiplier": 3, "stride": 2, "padding": 1}),
    ((9, 8, 2), None, 3, {"dilation": 2, "bias": False}),
    ((9, 3), None, 3, {"padding": "same", "stride": 2}),
    ((9, 3), None, 2, {"multiplier": 2, "dilation": 2}),
]


def theirs(X, W, b, geometry):
    """Convolve X (m, C, H, W) with W (F, C / groups, k_H, k_W) as PyTorch does."""
    (above, below), (left, right) = geometry.padding
    X = F.pad(X, (left, right, above, below))
    return F.conv2d(
        X, W, b, stride=geometry.stride, dilation=geometry.dilation, groups=geometry.groups
    )


def images(array):
    return array if array.ndim == 4 else array[np.newaxis]


@pytest.mark.parametrize("numerics", [fast, portable], ids=["fast", "portable"])
@pytest.mark.parametrize("examples", [1, 3, 40])
@pytest.mark.parametrize(("shape_in", "filters", "size", "options"), CASES)
def test_outputs_and_gradients_agree(shape_in, filters, size, options, examples, numerics):
    stage = depthwise_conv(size, **options) if filters is None else conv(filters, size, **options)
    params, shape_out = stage.init(Key(1), shape_in)
    layout = layout_of(params)
    params = layout.packed(Key(2).normal(layout.size)).tree
    A_prev, dZ = (Key(3).normal((*shape, examples)) for shape in (shape_in, shape_out))
    Z, cache = stage.forward(params, A_prev, Context(numerics=numerics))
    dA_prev, grads = stage.backward(params, cache, dZ)

    X = torch.tensor(images(A_prev).transpose(3, 2, 0, 1).copy(), requires_grad=True)
    W = torch.tensor(images(params.W).transpose(3, 2, 0, 1).copy(), requires_grad=True)
    with_bias = hasattr(params, "b")
    b = torch.tensor(params.b[:, 0].copy(), requires_grad=True) if with_bias else None
    expected = theirs(X, W, b, cache.geometry)
    expected.backward(torch.tensor(images(dZ).transpose(3, 2, 0, 1).copy()))

    def agree(ours, tensor):
        np.testing.assert_allclose(ours, tensor.numpy(), rtol=1e-10, atol=1e-10)

    agree(images(Z).transpose(3, 2, 0, 1), expected.detach())
    agree(images(dA_prev).transpose(3, 2, 0, 1), X.grad)
    agree(images(grads.dW).transpose(3, 2, 0, 1), W.grad)
    if with_bias:
        agree(grads.db[:, 0], b.grad)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_padding_same_is_that_of_pytorch(size, dilation):
    # PyTorch has it for stride 1 only, and puts an odd zero at the end, too.
    stage = conv(2, size, padding="same", dilation=dilation)
    params, _ = stage.init(Key(1), (9, 10, 3))
    A_prev = Key(2).normal((9, 10, 3, 2))
    Z, _ = stage.forward(params, A_prev, Context())
    X, W = (torch.tensor(a.transpose(3, 2, 0, 1).copy()) for a in (A_prev, params.W))
    expected = F.conv2d(X, W, padding="same", dilation=dilation)
    np.testing.assert_allclose(Z.transpose(3, 2, 0, 1), expected, rtol=1e-10, atol=1e-10)
