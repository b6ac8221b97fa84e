"""Time pools, forward and backward, in turns with PyTorch's in one process.

Each row has the milliseconds of pydnn, and of PyTorch in the faster of its two memory formats. The
examples are outputs of relu, in which half of the numbers are 0.

    python tests/benchmarks/pooling.py --threads 1
    python tests/benchmarks/pooling.py --threads 2 --examples 32 --dtype float32 \
        --engine compiled

With --cpu it measures the time of the thread instead of the clock's, which other processes disturb
less; use it with one thread of PyTorch.

What bounds the rows, on a shared AMD EPYC with 1 MiB of second cache per core. Forward, a 2 x 2
maximum is three calls of NumPy that run at the speed of memory. Backward, each place of a window
takes a comparison and a product with its result, so the time grows with the size of a window, and
a 3 x 3 maximum that overlaps takes 1.2 to 3 times as long as PyTorch's, which keeps the place of
each maximum from its forward pass, 8 bytes for each. One example takes as long as its calls. These
did not help: places of maxima in uint8 and np.bincount, which scatters a number in 2 ns; sums of
chosen numbers with `where=`, 3 to 5 ns; integers as masks instead of products; work arrays that are
kept; blocks of 16 to 256 KiB instead of 512.
"""

from beside_torch import arguments, milliseconds, with_torch

# The shape of an example, the kind of pool, and its size and stride
ROWS = [
    ((28, 28, 8), "max", 2, 2),
    ((32, 32, 16), "max", 2, 2),
    ((32, 32, 16), "max", 3, 2),
    ((14, 14, 16), "max", 3, 1),
    ((40, 25), "max", 2, 2),
    ((28, 28, 8), "average", 2, 2),
    ((32, 32, 16), "average", 3, 2),
    ((8, 8, 64), "global max", None, None),
    ((8, 8, 64), "global average", None, None),
]


def ours(kind, size, stride, A_prev):
    import numpy as np

    import pydnn as nn

    builder = getattr(nn, f"{kind.replace(' ', '_')}_pool")
    stage = builder(size, stride=stride) if size else builder()
    context = nn.Context(training=True)
    dA = np.ones_like(stage.forward((), A_prev, context)[0])

    def run():
        A, cache = stage.forward((), A_prev, context)
        return A, stage.backward((), cache, dA)[0]

    return run


def theirs(kind, size, stride, A_prev, memory_format):
    import torch

    axes = A_prev.ndim - 2
    X = torch.tensor(A_prev.transpose(-1, -2, *range(axes)).copy())
    X = (X.to(memory_format=memory_format) if axes == 2 else X).requires_grad_()
    F = torch.nn.functional
    pool = {
        "max": lambda: getattr(F, f"max_pool{axes}d")(X, size, stride),
        "average": lambda: getattr(F, f"avg_pool{axes}d")(X, size, stride),
        "global max": lambda: F.adaptive_max_pool2d(X, 1).flatten(1),
        "global average": lambda: F.adaptive_avg_pool2d(X, 1).flatten(1),
    }[kind]
    gradient = torch.ones_like(pool())

    def run():
        A = pool()
        return A, torch.autograd.grad(A, X, gradient)[0]

    return run


def main():
    parser = arguments(__doc__)
    parser.add_argument("--examples", type=int, nargs="+", default=[1, 32, 128])
    args = parser.parse_args()
    torch, clock = with_torch(args)
    import numpy as np

    print("dtype      m  example        pool            size stride   pydnn    torch  ratio")
    for dtype in args.dtype:
        for m in args.examples:
            for shape, kind, size, stride in ROWS:
                numbers = np.random.default_rng(0).normal(size=(*shape, m))
                A_prev = np.maximum(numbers, 0).astype(dtype)
                A_prev.flags.writeable = False
                run = ours(kind, size, stride, A_prev)
                formats = (torch.contiguous_format, torch.channels_last)[: len(shape) - 1]
                peers = [theirs(kind, size, stride, A_prev, each) for each in formats]
                for mine, other in zip(run(), peers[0](), strict=True):
                    first = mine.transpose(-1, -2, *range(mine.ndim - 2))
                    np.testing.assert_allclose(first, other.detach().numpy(), atol=1e-5)
                (least, *others), (median, *medians) = milliseconds(
                    [run, *peers], args.turns, clock
                )
                best, usual = min(others), min(medians)
                print(
                    f"{dtype} {m:5}  {shape!s:14} {kind:15} {size or '':4} {stride or '':6}"
                    f" {least:7.3f}  {best:7.3f}  {least / best:5.2f} ({median / usual:.2f})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
