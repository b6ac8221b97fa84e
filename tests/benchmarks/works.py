"""The works of the suite, as plain arrays that every peer can use.

Inputs X (n_x, m) have examples in columns, each contiguous in memory, so X.T has them in rows
without a copy. Labels y (m,) are the numbers of classes. Images are X (H, W, C, m); sequences are
X (T, n_x, m), with labels y (T, m).
"""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs
import h5py
import listing
import numpy as np

__all__ = ["WORKS", "Work", "product_flops", "product_shapes", "work_called"]


@attrs.frozen(eq=False)
class Work:
    """A job that all peers do with the same initial parameters and batches.

    Attributes:
        name: "P1" to "P6".
        sizes: Units of all layers, from the inputs on, with relu between them. One output is a
            logit of the sigmoid cross-entropy, several are logits of the softmax cross-entropy.
        optimizer: "gradient_descent", "momentum" (0.9) or "adam".
        rate: The learning rate.
        steps: Number of steps per turn.
        rtol: Largest difference from pydnn's costs, relative to the first cost.
        batches: Pairs (X, y), used in turn.
        start: Makes the initial parameters: a pair W (n_out, n_in), b (n_out, 1) per layer, and
            W_x, W_a and b of an LSTM, with the rows of the gates i, f, o and g; before them a pair
            W (3, 3, C_in, C_out), b (C_out, 1) per convolution.
        layers: "dense", or "lstm" if all layers but the last one are LSTMs.
        filters: The kernels of each convolution of 3 x 3 places that keeps the size, with relu and
            max pooling after it. They stand before the layers, and meet images of half the size.
    """

    name: str
    sizes: tuple[int, ...]
    optimizer: str
    rate: float
    steps: int
    rtol: float
    batches: list[tuple[np.ndarray, np.ndarray]]
    start: Callable[[], list[tuple[np.ndarray, ...]]]
    layers: str = "dense"
    filters: tuple[int, ...] = ()

    @property
    def dtype(self):
        return self.batches[0][0].dtype

    @property
    def binary(self):
        return self.sizes[-1] == 1


def work_called(name, data):
    """Return the work called `name`; `data` is the folder with the photos of P1."""
    return WORKS[name](data)


def tutorial(data):
    X, y = photos(data)
    sizes = (len(X), 20, 7, 5, 1)

    def start():
        parameters = listing.initialize_parameters_deep(sizes)
        return [(parameters[f"W{k}"], parameters[f"b{k}"]) for k in range(1, len(sizes))]

    return Work("P1", sizes, "gradient_descent", 0.0075, 40, 1e-9, [(X, y)], start)


def photos(data):
    """Return the training photos in `data` as X (12288, m) from 0 to 1, and their labels."""
    with h5py.File(Path(data) / "train_catvnoncat.h5") as file:
        images, labels = file["train_set_x"][:], file["train_set_y"][:]
    return images.reshape(len(images), -1).T / 255, labels


def digits(_):
    sizes = (784, 512, 256, 10)
    batches = [_random_batch(sizes, 128, seed) for seed in range(10)]
    return Work("P2", sizes, "adam", 0.001, 50, 5e-4, batches, _drawn(sizes))


def small(_):
    random = np.random.default_rng(1)
    X = random.standard_normal((32, 2), np.float32).T
    y = (X[0] * X[1] > 0).astype(np.int64)
    sizes = (2, 16, 16, 1)
    return Work("P3", sizes, "gradient_descent", 0.1, 500, 1e-5, [(X, y)], _drawn(sizes))


def large(_):
    sizes = (4096, 4096, 4096, 10)
    batches = [_random_batch(sizes, 1024, 1)]
    return Work("P4", sizes, "momentum", 0.001, 2, 1e-5, batches, _drawn(sizes))


def sequences(_, *, T=32, m=128, sizes=(64, 128, 128, 32)):
    random = np.random.default_rng(1)
    X = random.standard_normal((T, sizes[0], m))
    y = random.integers(sizes[-1], size=(T, m))

    def start():
        random = np.random.default_rng(0)
        pairs = list(itertools.pairwise(sizes))
        layers = [
            tuple(
                random.uniform(-(n_out**-0.5), n_out**-0.5, (4 * n_out, columns))
                for columns in (n_in, n_out, 1)
            )
            for n_in, n_out in pairs[:-1]
        ]
        n_in, n_out = pairs[-1]
        return [*layers, (random.standard_normal((n_out, n_in)) / 8, np.zeros((n_out, 1)))]

    return Work("P6", sizes, "momentum", 0.1, 2, 1e-9, [(X, y)], start, layers="lstm")


def cats(name, dtype, rtol, _):
    """The network of `cats_recipe`, without dropout, since each peer draws other numbers for it."""
    filters, sizes = (16, 32, 32), (4 * 4 * 32, 1)
    random = np.random.default_rng(2)
    batches = []
    for _ in range(4):
        X = np.moveaxis(random.random((32, 64, 64, 3)).astype(dtype), 0, -1)
        batches.append((X, random.integers(2, size=32)))

    def start():
        random = np.random.default_rng(3)
        shapes = [(3, 3, *pair) for pair in itertools.pairwise((3, *filters))]
        kernels = [random.standard_normal(s) * np.sqrt(2 / np.prod(s[:-1])) for s in shapes]
        weights = [*kernels, random.standard_normal(sizes[::-1]) / np.sqrt(sizes[0])]
        biases = [np.zeros((n, 1)) for n in (*filters, sizes[1])]
        pairs = zip(weights, biases, strict=True)
        return [(W.astype(dtype), b.astype(dtype)) for W, b in pairs]

    return Work(name, sizes, "adam", 0.001, 8, rtol, batches, start, filters=filters)


WORKS = {
    "P1": tutorial,
    "P2": digits,
    "P3": small,
    "P4": large,
    "P5": partial(cats, "P5", np.float64, 1e-9),
    "P5f32": partial(cats, "P5f32", np.float32, 5e-4),
    "P6": sequences,
}


def product_shapes(sizes, m):
    """Yield (n, k, p) of each product (n, k) by (k, p) that a step needs."""
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        yield n_out, n_in, m  # W A_prev
        yield n_out, m, n_in  # dZ A_prev^T
        if layer:  # nobody needs the gradient with respect to the examples
            yield n_in, n_out, m  # W^T dZ


def product_flops(work):
    """Return the number of multiplications and additions of these products in one step."""
    shapes = product_shapes(work.sizes, work.batches[0][0].shape[1])
    return sum(2 * n * k * p for n, k, p in shapes)


def _random_batch(sizes, m, seed):
    random = np.random.default_rng(seed)
    X = random.standard_normal((m, sizes[0]), np.float32).T
    return X, random.integers(sizes[-1], size=m)


def _drawn(sizes):
    """Return a function that draws weights of variance 2 / n_in directly in float32."""

    def start():
        random = np.random.default_rng(0)
        layers = []
        for n_in, n_out in itertools.pairwise(sizes):
            W = random.standard_normal((n_out, n_in), np.float32)
            W *= np.float32(np.sqrt(2 / n_in))
            layers.append((W, np.zeros((n_out, 1), np.float32)))
        return layers

    return start
