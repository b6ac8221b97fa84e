"""Compare the stages of tokens, and stages at every step and place, with PyTorch's, in float64."""

import itertools

import numpy as np
import pytest
from helpers import frozen

from pydnn import Context, Key, attention, batch_norm, dense, embedding, layer_norm
from pydnn.parameters import layout_of, leaves

torch = pytest.importorskip("torch", reason="PyTorch is not installed, install the extra bench")
nn, F = torch.nn, torch.nn.functional

NEAR = {"rtol": 1e-10, "atol": 1e-12}


def tensor(array):
    return torch.tensor(np.array(array), dtype=torch.float64, requires_grad=True)


def drawn(stage, shape, key):
    params, _ = stage.init(key, shape)
    layout = layout_of(params)
    return layout.packed(key.at("params").normal(layout.size)).tree


ATTENTION = list(
    itertools.product(
        [(4, 1, None), (6, 2, None), (6, 3, 3), (5, 2, 8)],  # features, heads, units
        [False, True],  # causal
        [None, (4, 7, 1, 4), (7, 7, 7, 7)],  # lengths
    )
)


@pytest.mark.parametrize(("sizes", "causal", "lengths"), ATTENTION)
def test_attention_agrees(sizes, causal, lengths):
    n, heads, units = sizes
    T, m, size = 7, 4, units or n
    key = Key(1)
    stage = attention(heads, units=units, causal=causal)
    params = drawn(stage, (T, n), key)
    A_prev, dA = key.at("A_prev").normal((T, n, m)), key.at("dA").normal((T, n, m))
    context = Context(lengths=None if lengths is None else frozen(np.array(lengths)))
    A, cache = stage.forward(params, A_prev, context)
    dA_prev, grads = stage.backward(params, cache, dA)

    X, theirs = tensor(A_prev.transpose(2, 0, 1)), [tensor(leaf) for leaf in leaves(params)]
    W_q, W_k, W_v, W_o, b_q, b_v, b_o = theirs
    padded = None
    if lengths is not None:
        padded = torch.arange(T)[None, :] >= torch.tensor(lengths)[:, None]
    if size == n:
        out, _ = F.multi_head_attention_forward(
            *[X.transpose(0, 1)] * 3, n, heads, torch.cat([W_q, W_k, W_v]),
            torch.cat([b_q, torch.zeros(n, 1, dtype=torch.float64), b_v])[:, 0], None, None, False,
            0.0, W_o, b_o[:, 0], key_padding_mask=padded, need_weights=False,
            attn_mask=torch.triu(torch.ones(T, T, dtype=torch.bool), 1) if causal else None,
        )  # fmt: skip
        out = out.transpose(0, 1)
    else:
        Q, K, V = (
            (X @ W.T + b).reshape(m, T, heads, -1).transpose(1, 2)
            for W, b in ((W_q, b_q[:, 0]), (W_k, 0), (W_v, b_v[:, 0]))
        )
        mask = torch.ones(m, 1, T, T, dtype=torch.bool)
        if causal:
            mask = torch.tril(mask)
        if padded is not None:
            mask = mask & ~padded[:, None, None, :]
        means = F.scaled_dot_product_attention(Q, K, V, attn_mask=mask)
        out = means.transpose(1, 2).reshape(m, T, size) @ W_o.T + b_o[:, 0]
    valid = np.ones((T, 1, m)) if lengths is None else ~padded.numpy().T[:, None, :]
    np.testing.assert_allclose(A, valid * out.detach().numpy().transpose(1, 2, 0), **NEAR)
    out.backward(torch.tensor((dA * valid).transpose(2, 0, 1).copy()))
    np.testing.assert_allclose(dA_prev, X.grad.numpy().transpose(1, 2, 0), **NEAR)
    for gradient, parameter in zip(leaves(grads), theirs, strict=True):
        np.testing.assert_allclose(gradient, parameter.grad.numpy(), **NEAR)


@pytest.mark.parametrize("shape", [(5,), (2, 3)])
def test_embedding_agrees(shape):
    key = Key(2)
    params = drawn(embedding(6, 4), shape, key)
    ids = key.at("ids").integers(6, (*shape, 7)).astype(float)
    A, cache = embedding(6, 4).forward(params, ids, Context())
    dA = key.at("dA").normal(A.shape)
    _, grads = embedding(6, 4).backward(params, cache, dA)
    W = tensor(params.W)
    out = F.embedding(torch.tensor(np.moveaxis(ids, -1, 0)).long(), W)
    out.backward(torch.tensor(np.moveaxis(dA, -1, 0).copy()))
    np.testing.assert_array_equal(np.moveaxis(A, -1, 0), out.detach().numpy())
    np.testing.assert_allclose(grads.dW, W.grad.numpy(), **NEAR)


def last(X):
    """Move PyTorch's channels, the second axis, to the end."""
    return X.movedim(1, -1)


STAGES = {
    "dense": (dense(4), (6, 3), lambda X, W, b: F.linear(X, W, b[:, 0])),
    "layer norm of sequences": (
        layer_norm(), (6, 3), lambda X, g, b: F.layer_norm(X, (3,), g[:, 0], b[:, 0]),
    ),
    "layer norm of images": (
        layer_norm(), (4, 5, 3), lambda X, g, b: F.layer_norm(X, (3,), g[:, 0], b[:, 0]),
    ),
    "BatchNorm1d": (
        batch_norm(), (6, 3),
        lambda X, g, b: last(
            F.batch_norm(X.movedim(-1, 1), None, None, g[:, 0], b[:, 0], training=True)
        ),
    ),
    "BatchNorm2d": (
        batch_norm(), (4, 5, 3),
        lambda X, g, b: last(
            F.batch_norm(X.movedim(-1, 1), None, None, g[:, 0], b[:, 0], training=True)
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("stage", "shape", "theirs"), STAGES.values(), ids=STAGES)
def test_stages_at_every_step_and_place_agree(stage, shape, theirs):
    key = Key(3)
    params = drawn(stage, shape, key)
    A_prev = 2 * key.at("A_prev").normal((*shape, 7))
    A, cache = stage.forward(params, A_prev, Context(training=True))
    dA = key.at("dA").normal(A.shape)
    dA_prev, grads = stage.backward(params, cache, dA)
    inputs = [tensor(np.moveaxis(A_prev, -1, 0)), *map(tensor, leaves(params))]
    out = theirs(*inputs)
    out.backward(torch.tensor(np.moveaxis(dA, -1, 0).copy()))
    np.testing.assert_allclose(np.moveaxis(A, -1, 0), out.detach().numpy(), **NEAR)
    np.testing.assert_allclose(np.moveaxis(dA_prev, -1, 0), inputs[0].grad.numpy(), **NEAR)
    for gradient, parameter in zip(leaves(grads), inputs[1:], strict=True):
        np.testing.assert_allclose(gradient, parameter.grad.numpy(), **NEAR)


@pytest.mark.parametrize("module", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_running_statistics_of_channels_agree(module):
    shape = (6, 3) if module is nn.BatchNorm1d else (4, 5, 3)
    stage, theirs = batch_norm(decay=0.9), module(3, momentum=0.1, dtype=torch.float64)
    params, _ = stage.init(Key(1), shape)
    running = stage.statistics.init(params)
    for i in range(4):
        A_prev = 3 * Key(2).at(i).normal((*shape, 5)) + i
        _, cache = stage.forward(params, A_prev, Context(training=True))
        running = stage.statistics.absorb(running, cache)
        theirs(torch.tensor(np.moveaxis(A_prev, -1, 0).copy()).movedim(-1, 1))
    np.testing.assert_allclose(running.mean[:, 0], theirs.running_mean, rtol=1e-12)
    np.testing.assert_allclose(running.variance[:, 0], theirs.running_var, rtol=1e-12)
