"""Time a recurrent network, forward and backward, in turns with PyTorch's in one process.

The network is two recurrent layers of 128 units over 64 inputs, and a dense layer of 32 at each
step. Its inputs need no gradient, in both.

    python tests/benchmarks/recurrent.py --threads 1
    python tests/benchmarks/recurrent.py --threads 2 --examples 32 --dtype float32 \
        --engine compiled

With --cpu it measures the time of the process instead of the clock's, which other processes
disturb less; use it with one thread. --parts shows where pydnn's time goes.
"""

from beside_torch import arguments, milliseconds, with_torch

INPUTS, UNITS, OUTPUTS = 64, 128, 32


def ours(kind, T, m, dtype):
    """Return a function that computes all results with pydnn, and what it starts from."""
    import numpy as np

    import pydnn as nn
    from pydnn.parameters import layout_of, pack

    layer = getattr(nn, kind)
    network = nn.serial(layer(UNITS), layer(UNITS), nn.dense(OUTPUTS))
    params, shape_out = network.init(nn.Key(1), (T, INPUTS))
    layout = layout_of(params)
    params = pack(params, dtype=dtype).tree
    X, dA = (nn.Key(i).normal((*s, m)).astype(dtype) for i, s in ((2, (T, INPUTS)), (3, shape_out)))
    context = nn.Context(training=True)

    def run():
        A, cache = network.forward(params, X, context)
        vector = np.empty(layout.size, dtype)
        network.backward_into(params, cache, dA, layout.views(vector), False)
        return A, vector

    return run, params, X, dA


def theirs(kind, params, X, dA):
    """Return a function that computes the same with PyTorch."""
    import numpy as np
    import torch

    dtype = torch.from_numpy(X[:1].copy()).dtype
    layers = getattr(torch.nn, kind.upper())(INPUTS, UNITS, 2, dtype=dtype)
    dense = torch.nn.Linear(UNITS, OUTPUTS, dtype=dtype)
    order = {"lstm": [0, 1, 3, 2], "gru": [1, 0, 2], "rnn": [0]}[kind]  # ours, in their order

    def rows(array):
        blocks = np.split(array, len(order))
        return torch.tensor(np.concatenate([blocks[i] for i in order]))

    with torch.no_grad():
        for i, tree in enumerate(params[:2]):
            getattr(layers, f"weight_ih_l{i}").copy_(rows(tree.W_x))
            getattr(layers, f"weight_hh_l{i}").copy_(rows(tree.W_a))
            getattr(layers, f"bias_ih_l{i}").copy_(rows(tree.b)[:, 0])
            getattr(layers, f"bias_hh_l{i}").zero_()
        dense.weight.copy_(torch.tensor(params[2].W))
        dense.bias.copy_(torch.tensor(params[2].b[:, 0]))
    inputs, gradient = (torch.tensor(a.transpose(0, 2, 1).copy()) for a in (X, dA))
    wanted = [*layers.parameters(), *dense.parameters()]

    def run():
        A = dense(layers(inputs)[0])
        return A, torch.autograd.grad(A, wanted, gradient)

    return run


def main():
    parser = arguments(__doc__)
    parser.add_argument("--examples", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--kind", nargs="+", default=["lstm"], help="lstm, gru or rnn")
    parser.add_argument("--steps", type=int, default=32, help="the length T of the sequences")
    parser.add_argument("--parts", action="store_true", help="profile pydnn's functions")
    args = parser.parse_args()
    _, clock = with_torch(args)
    import numpy as np

    print(f"milliseconds for {args.steps} steps, the least of {args.turns}")
    print("kind  dtype      m     pydnn    torch  ratio (median)")
    for kind in args.kind:
        for dtype in args.dtype:
            for m in args.examples:
                run, *start = ours(kind, args.steps, m, dtype)
                peer = theirs(kind, *start)
                A, expected = run()[0], peer()[0].detach().numpy().transpose(0, 2, 1)
                np.testing.assert_allclose(A, expected, atol=1e-4)
                if args.parts:
                    profile(run)
                (least, other), (median, others) = milliseconds([run, peer], args.turns, clock)
                print(
                    f"{kind:5} {dtype} {m:4} {least:9.2f} {other:8.2f} {least / other:6.2f} "
                    f"({median / others:.2f})",
                    flush=True,
                )


def profile(run):
    import cProfile
    import pstats

    with cProfile.Profile() as profiler:
        for _ in range(5):
            run()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(12)


if __name__ == "__main__":
    main()
