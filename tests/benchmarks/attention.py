"""Time attention or an embedding, forward and backward, in turns with PyTorch's in one process.

    python tests/benchmarks/attention.py --threads 1
    python tests/benchmarks/attention.py --stage embedding --dtype float32

Both compute the gradients of their input and of all parameters; the ids of an embedding have none.
With --cpu it measures the time of the process instead of the clock's, which other processes
disturb less; use it with one thread.
"""

from beside_torch import arguments, milliseconds, with_torch

# Examples, steps, features, heads; and examples, steps, words, units.
ATTENTION = ((1, 64, 64, 4), (32, 16, 32, 4), (32, 64, 64, 4), (32, 128, 128, 8), (128, 32, 64, 4))
EMBEDDING = ((1, 64, 27, 64), (32, 32, 27, 64), (32, 64, 1000, 64), (128, 32, 10_000, 64))


def attention(m, T, n, heads, dtype, causal):
    """Return functions that compute attention and its gradients with pydnn and with PyTorch."""
    import numpy as np
    import torch
    from torch.nn import functional

    import pydnn as nn
    from pydnn.parameters import pack

    stage = nn.attention(heads, causal=causal)
    params = pack(stage.init(nn.Key(1), (T, n))[0], dtype=dtype).tree
    A_prev, dA = (nn.Key(i).normal((T, n, m)).astype(dtype) for i in (2, 3))
    context = nn.Context(training=True)

    def ours():
        A, cache = stage.forward(params, A_prev, context)
        dA_prev, grads = stage.backward(params, cache, dA)
        return A, dA_prev, grads.dW_o

    W_qkv = np.concatenate([params.W_q, params.W_k, params.W_v])
    b_qkv = np.concatenate([params.b_q, 0 * params.b_q, params.b_v])[:, 0]
    X, W, b, W_o, b_o = wanted = [
        torch.tensor(a.copy(), requires_grad=True)
        for a in (A_prev.transpose(2, 0, 1), W_qkv, b_qkv, params.W_o, params.b_o[:, 0])
    ]
    slope = torch.tensor(dA.transpose(2, 0, 1).copy())

    def theirs():
        QKV = functional.linear(X, W, b).reshape(m, T, 3, heads, n // heads).permute(2, 0, 3, 1, 4)
        means = functional.scaled_dot_product_attention(*QKV, is_causal=causal)
        A = functional.linear(means.transpose(1, 2).reshape(m, T, n), W_o, b_o)
        grads = torch.autograd.grad(A, wanted, slope)
        return A.permute(1, 2, 0), grads[0].permute(1, 2, 0), grads[3]

    return ours, theirs


def embedding(m, T, words, units, dtype, causal):
    """Return functions that look up vectors and sum their gradients, as above."""
    import torch
    from torch.nn import functional

    import pydnn as nn
    from pydnn.parameters import pack

    stage = nn.embedding(words, units)
    params = pack(stage.init(nn.Key(1), (T,))[0], dtype=dtype).tree
    ids = nn.Key(2).integers(words, (T, m)).astype(dtype)
    dA = nn.Key(3).normal((T, units, m)).astype(dtype)
    context = nn.Context(training=True)

    def ours():
        A, cache = stage.forward(params, ids, context)
        return A, stage.backward(params, cache, dA)[1].dW

    W = torch.tensor(params.W.copy(), requires_grad=True)
    rows = torch.tensor(ids.T.copy()).long()
    slope = torch.tensor(dA.transpose(2, 0, 1).copy())

    def theirs():
        A = functional.embedding(rows, W)
        return A.permute(1, 2, 0), torch.autograd.grad(A, W, slope)[0]

    return ours, theirs


def main():
    parser = arguments(__doc__)
    parser.add_argument("--stage", choices=["attention", "embedding"], default="attention")
    parser.add_argument("--causal", action="store_true")
    args = parser.parse_args()
    _, clock = with_torch(args)
    import numpy as np

    make, sizes = {
        "attention": (attention, ATTENTION), "embedding": (embedding, EMBEDDING),
    }[args.stage]  # fmt: skip
    names = "m, T, n, heads" if make is attention else "m, T, words, units"
    print(f"milliseconds of {args.stage}, the least of {args.turns}")
    print(f"dtype    {names:24}    pydnn    torch  ratio (median)")
    for dtype in args.dtype:
        for size in sizes:
            runs = make(*size, dtype, args.causal)
            for a, b in zip(*(run() for run in runs), strict=True):
                np.testing.assert_allclose(
                    a, b.detach().numpy(), rtol=1e-3, atol=1e-9 if dtype == "float64" else 1e-3
                )
            least, median = milliseconds(runs, args.turns, clock)
            print(
                f"{dtype}  {size!s:25} {least[0]:8.3f} {least[1]:8.3f}  "
                f"{least[0] / least[1]:5.2f} ({median[0] / median[1]:5.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
