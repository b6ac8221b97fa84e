"""Time convolutions, forward and backward, in turns with PyTorch's in one process.

Each row has the milliseconds of pydnn, and of PyTorch in the faster of its two memory formats. A
first layer (C of 1 or 3) needs no gradient of its input, in both.

    python tests/benchmarks/convolution.py --threads 1
    python tests/benchmarks/convolution.py --threads 2 --examples 32 --dtype float32 \
        --engine compiled

The last column says what bounds pydnn: the time of the same products by BLAS alone, on windows that
lie ready in long matrices, as a ratio to PyTorch's time. What pydnn takes beyond that goes into
copying windows, and into products that are smaller than those because they stay in cache.

With --cpu it measures the time of the process instead of the clock's, which other processes
disturb less; use it with one thread.
"""

from beside_torch import arguments, milliseconds, with_torch

# The shape of an image, filters, size, options
SHAPES = [
    ((28, 28, 1), 8, 5, {}),
    ((64, 64, 3), 16, 3, {"padding": 1}),
    ((14, 14, 8), 16, 5, {}),
    ((28, 28, 8), 16, 3, {}),
    ((32, 32, 16), 32, 3, {"padding": 1}),
    ((8, 8, 32), 64, 3, {"padding": 1}),
    ((28, 28, 16), 32, 3, {"stride": 2, "padding": 1}),
    ((16, 16, 32), 32, 1, {}),
    ((16, 16, 32), 32, 3, {"padding": 1, "groups": 32}),
    ((40, 1), 25, 5, {"stride": 2}),
    ((20, 25), 25, 3, {"padding": 1}),
]
FIRST = 3  # channels of a first layer at most
COLUMNS = 2048  # of a product alone, which then stays in cache


def ours(shape, filters, size, options, m, dtype):
    """Return a function that computes all results with pydnn, and they themselves."""
    import numpy as np

    from pydnn import Context, Key, conv
    from pydnn.parameters import layout_of, pack
    from pydnn.stages.base import into

    stage = conv(filters, size, **options)
    params, shape_out = stage.init(Key(1), shape)
    layout = layout_of(params)
    params = pack(params, dtype=dtype).tree
    A_prev, dZ = (Key(i).normal((*s, m)).astype(dtype) for i, s in enumerate((shape, shape_out)))
    backward, context, needed = into(stage), Context(training=True), shape[-1] > FIRST

    def run():
        Z, cache = stage.forward(params, A_prev, context)
        vector = np.empty(layout.size, dtype)
        dA_prev = backward(params, cache, dZ, layout.views(vector), needed)
        return Z, vector, dA_prev

    return run, params, A_prev, dZ


def theirs(params, A_prev, dZ, options, memory_format):
    """Return a function that computes the same with PyTorch."""
    import torch

    axes = A_prev.ndim - 2
    convolve = torch.nn.functional.conv2d if axes == 2 else torch.nn.functional.conv1d

    def tensor(array):
        x = torch.tensor(array.transpose(-1, -2, *range(array.ndim - 2)).copy())
        return x.to(memory_format=memory_format) if axes == 2 else x

    X, W = tensor(A_prev), tensor(params.W).requires_grad_()
    b, gradient = torch.tensor(params.b[:, 0].copy()).requires_grad_(), tensor(dZ)
    X.requires_grad_(A_prev.shape[-2] > FIRST)
    wanted = [x for x in (X, W, b) if x.requires_grad]

    def run():
        Z = convolve(X, W, b, **options)
        return Z, torch.autograd.grad(Z, wanted, gradient)

    return run


def products_alone(shape, filters, size, m, dZ, clock):
    """Return the milliseconds of the products alone, in matrices that BLAS likes best."""
    import numpy as np

    terms = size ** (len(shape) - 1) * shape[-1]
    columns = dZ.size // filters
    block = min(columns, COLUMNS)
    W, X, Z = (np.ones(s, dZ.dtype) for s in ((filters, terms), (terms, block), (filters, block)))
    pairs = [(W, X), (Z, X.T)] + ([(W.T, Z)] if shape[-1] > FIRST else [])

    def run():
        for a, b in pairs:
            np.matmul(a, b)

    [least], _ = milliseconds([run], 9, clock)
    return least * columns / block


def main():
    parser = arguments(__doc__)
    parser.add_argument("--examples", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--shapes", type=int, nargs="+", default=range(len(SHAPES)))
    args = parser.parse_args()
    torch, clock = with_torch(args)
    import numpy as np

    columns = "dtype    m    image         filters size options        pydnn    torch  ratio"
    print(f"{columns} (median)  BLAS alone")
    for dtype in args.dtype:
        for m in args.examples:
            for shape, filters, size, options in [SHAPES[i] for i in args.shapes]:
                run, params, A_prev, dZ = ours(shape, filters, size, options, m, dtype)
                formats = (torch.contiguous_format, torch.channels_last)
                peers = [theirs(params, A_prev, dZ, options, f) for f in formats[: len(shape) - 1]]
                Z, expected = run()[0], peers[0]()[0].detach().numpy()
                found = Z.transpose(-1, -2, *range(Z.ndim - 2))
                np.testing.assert_allclose(found, expected, atol=1e-3)
                (least, *others), (median, *medians) = milliseconds(
                    [run, *peers], args.turns, clock
                )
                alone = "       -"
                if "groups" not in options:
                    alone = products_alone(shape, filters, size, m, dZ, clock) / min(others)
                    alone = f"{alone:8.2f}"
                text = " ".join(f"{k}={v}" for k, v in options.items())
                print(
                    f"{dtype} {m:4} {shape!s:14} {filters:4} {size:4}    {text:18}"
                    f"{least:8.3f} {min(others):8.3f} {least / min(others):6.2f} "
                    f"({median / min(medians):.2f}) {alone}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
