"""Compare pools and transposed convolutions with PyTorch's, in float64, over tables of options."""

import numpy as np
import pytest

from pydnn import (
    Context,
    Key,
    average_pool,
    fast,
    global_average_pool,
    global_max_pool,
    max_pool,
    portable,
    transposed_conv,
)
from pydnn.parameters import layout_of

torch = pytest.importorskip("torch", reason="PyTorch is not installed, install the extra bench")
F = torch.nn.functional
both = pytest.mark.parametrize("numerics", [fast, portable], ids=["fast", "portable"])

# (H, W, C) or (T, C), size, options; PyTorch's own padding is the same on both sides
POOLS = [
    ((4, 4, 1), 2, {}),
    ((5, 7, 2), 2, {}),
    ((7, 6, 2), 3, {}),
    ((6, 8, 3), (2, 3), {}),
    ((6, 6, 2), (1, 2), {}),
    ((6, 7, 2), 2, {"stride": 1}),
    ((8, 7, 2), 3, {"stride": 2}),
    ((8, 9, 2), 2, {"stride": 3}),
    ((8, 9, 2), (3, 2), {"stride": (1, 3)}),
    ((6, 6, 2), 2, {"padding": 1}),
    ((7, 5, 2), 3, {"stride": 2, "padding": 1}),
    ((7, 5, 2), (3, 4), {"stride": (2, 1), "padding": (1, 2)}),
    ((1, 1, 3), 3, {"padding": 1}),
    ((3, 3, 2), 3, {}),
    ((9, 2), 3, {}),
    ((10, 2), 4, {"stride": 2}),
    ((10, 3), 3, {"stride": 2, "padding": 1}),
    ((11, 1), 2, {"stride": 3, "padding": 1}),
]
# (H, W, C) or (T, C), filters, size, options
TRANSPOSED = [
    ((3, 4, 2), 3, 2, {}),
    ((3, 4, 2), 3, 1, {"stride": 2}),
    ((3, 4, 2), 3, (3, 2), {"stride": (1, 3)}),
    ((3, 4, 2), 3, 3, {"stride": 2, "padding": 1}),
    ((3, 4, 2), 3, 3, {"stride": 2, "padding": 1, "output_padding": 1}),
    ((3, 4, 2), 3, 4, {"stride": (2, 3), "padding": (1, 2), "output_padding": (0, 2)}),
    ((4, 4, 2), 3, 3, {"padding": 2}),
    ((4, 5, 2), 3, 3, {"dilation": 2}),
    ((4, 5, 2), 3, (2, 3), {"dilation": (3, 1), "stride": 2, "padding": 1}),
    ((4, 5, 4), 6, 3, {"groups": 2}),
    ((4, 5, 4), 8, 2, {"groups": 4, "stride": 2, "padding": 1}),
    ((4, 5, 3), 3, 3, {"groups": 3, "bias": False, "output_padding": 1, "stride": 2}),
    ((3, 3, 2), 3, 3, {"bias": False}),
    ((5, 2), 3, 4, {}),
    ((5, 2), 3, 4, {"stride": 2, "padding": 1}),
    ((5, 4), 6, 3, {"stride": 3, "padding": 1, "output_padding": 2, "groups": 2}),
]


def first(A):
    """Return pydnn's (…, C, m) as PyTorch's (m, C, …)."""
    return torch.from_numpy(np.array(np.moveaxis(A, (-1, -2), (0, 1)), order="C"))


def compared(stage, params, shape_in, theirs, numerics, weights=()):
    """Compare outputs and gradients with those of `theirs(X, *weights)`, of PyTorch."""
    A_prev = Key(3).normal((*shape_in, 4))
    A, cache = stage.forward(params, A_prev, Context(numerics=numerics))
    dA = Key(4).normal(A.shape)
    dA_prev, grads = stage.backward(params, cache, dA)
    inputs = [first(A_prev), *weights]
    for each in inputs:
        each.requires_grad_()
    expected = theirs(*inputs)
    expected.backward(first(dA))
    np.testing.assert_allclose(first(A), expected.detach(), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(first(dA_prev), inputs[0].grad, rtol=1e-10, atol=1e-10)
    return grads, [each.grad.numpy() for each in inputs[1:]]


@both
@pytest.mark.parametrize(("shape", "size", "options"), POOLS)
def test_pools_agree(shape, size, options, numerics):
    named = {"kernel_size": size, **options}
    largest, mean = (getattr(F, f"{kind}_pool{len(shape) - 1}d") for kind in ("max", "avg"))
    compared(max_pool(size, **options), (), shape, lambda X: largest(X, **named), numerics)
    for counted in (False, True):
        named["count_include_pad"] = counted
        stage = average_pool(size, **options, count_padding=counted)
        compared(stage, (), shape, lambda X: mean(X, **named), numerics)


@both
@pytest.mark.parametrize("shape", [(4, 5, 3), (6, 2), (1, 1, 1)])
def test_global_pools_agree(shape, numerics):
    places = tuple(range(2, len(shape) + 1))
    compared(global_average_pool(), (), shape, lambda X: X.mean(dim=places), numerics)
    compared(global_max_pool(), (), shape, lambda X: X.amax(dim=places), numerics)


def test_ties_go_where_pytorch_sends_them():
    X = np.maximum(np.round(Key(1).normal((8, 8, 2, 3))), 0)  # as after relu
    for size, options in ((2, {}), (3, {"stride": 2, "padding": 1})):
        A, cache = max_pool(size, **options).forward((), X, Context())
        dA = Key(2).normal(A.shape)
        dX, _ = max_pool(size, **options).backward((), cache, dA)
        theirs = first(X).requires_grad_()
        F.max_pool2d(theirs, size, **options).backward(first(dA))
        np.testing.assert_allclose(first(dX), theirs.grad, rtol=1e-13, atol=1e-13)


@both
@pytest.mark.parametrize(("shape", "filters", "size", "options"), TRANSPOSED)
def test_transposed_convolutions_agree(shape, filters, size, options, numerics):
    stage = transposed_conv(filters, size, **options)
    params, _ = stage.init(Key(1), shape)
    layout = layout_of(params)
    params = layout.packed(Key(2).normal(layout.size)).tree
    d = len(shape) - 1
    weights = [torch.from_numpy(np.ascontiguousarray(params.W.transpose(d + 1, d, *range(d))))]
    rest = {name: value for name, value in options.items() if name != "bias"}
    if options.get("bias", True):
        weights.append(torch.from_numpy(params.b[:, 0].copy()))
    theirs = getattr(F, f"conv_transpose{d}d")
    grads, expected = compared(
        stage, params, shape, lambda X, *wb: theirs(X, *wb, **rest), numerics, weights
    )
    dW = np.moveaxis(expected[0], (0, 1), (-1, -2))
    np.testing.assert_allclose(grads.dW, dW, rtol=1e-10, atol=1e-10)
    for db in expected[1:]:
        np.testing.assert_allclose(grads.db[:, 0], db, rtol=1e-10, atol=1e-10)
