"""One full-batch step of the tutorial's job: pydnn against a peer.

    python tests/benchmarks/tutorial_step.py [--peer listing|fused] [--data DIR] [--json]

The peer is the tutorial's own listing, of whose time the job's step is to take at most 0.6. Or it
is one function without a record, written by hand, which gives what forward, cost, backward and
update give: the parameters, the cost and the gradient's norm. Of its time these four are to take
at most 1.02; the job's own step also checks all new parameters.
"""

import math

import listing
import numpy as np
from side_by_side import arguments, compare, costs_of

from pydnn.data import load_images, to_batch
from pydnn.numerics import fast
from pydnn.recipes import prepare, tutorial_recipe

LIMITS = {"listing": 0.6, "fused": 1.02}


def main():
    parser = arguments(__doc__, blocks=15, steps=10)
    parser.add_argument("--peer", choices=LIMITS, default="listing")
    parser.add_argument("--data", help="the real photos; by default 209 drawn cats")
    args = parser.parse_args()
    train, _ = load_images(args.data or "drawn-cats")
    batch = to_batch(train)
    job = prepare(tutorial_recipe(), batch)
    if args.peer == "listing":
        peer, train_step = listing_costs(batch), job.train_step
    else:
        peer, train_step = fused_costs(batch), job.train_step.without("watch_finite")
    compare(
        (args.peer, peer),
        ("pydnn", costs_of(train_step, job.state, batch)),
        args,
        limit=LIMITS[args.peer],
        examples=batch.X.shape[1],
    )


def listing_costs(batch):
    start = listing.initialize_parameters_deep((len(batch.X), 20, 7, 5, 1))

    def costs(count):
        parameters, seen = start, []
        for _ in range(count):
            parameters, cost = listing.step(parameters, batch.X, batch.Y)
            seen.append(cost)
        return seen

    return costs


def fused_costs(batch):
    start = listing.initialize_parameters_deep((len(batch.X), 20, 7, 5, 1))

    def costs(count):
        arrays, seen = tuple(start.values()), []
        for _ in range(count):
            arrays, cost, _ = fused_step(arrays, batch.X, batch.Y)
            seen.append(cost)
        return seen

    return costs


def fused_step(arrays, X, Y, rate=0.0075):
    """Forward, cost, backward and update for three hidden layers, all in one."""
    W1, b1, W2, b2, W3, b3, W4, b4 = arrays
    m = X.shape[1]
    Z1 = fast.matmul(W1, X)
    Z1 += b1
    A1 = np.maximum(Z1, 0)
    Z2 = W2 @ A1 + b2
    A2 = np.maximum(Z2, 0)
    Z3 = W3 @ A2 + b3
    A3 = np.maximum(Z3, 0)
    Z4 = W4 @ A3 + b4
    e = np.exp(-np.abs(Z4))
    cost = float((np.maximum(Z4, 0) - Z4 * Y + np.log1p(e)).sum()) / m
    dZ4 = (np.exp(np.minimum(Z4, 0)) / (1 + e) - Y) / m
    dZ3 = W4.T @ dZ4 * np.sign(A3)
    dZ2 = W3.T @ dZ3 * np.sign(A2)
    dZ1 = W2.T @ dZ2 * np.sign(A1)
    grads = (
        fast.matmul(dZ1, X.T),
        dZ1.sum(axis=1, keepdims=True),
        dZ2 @ A1.T,
        dZ2.sum(axis=1, keepdims=True),
        dZ3 @ A2.T,
        dZ3.sum(axis=1, keepdims=True),
        dZ4 @ A3.T,
        dZ4.sum(axis=1, keepdims=True),
    )
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in grads))
    after = tuple(array - rate * gradient for array, gradient in zip(arrays, grads, strict=True))
    return after, cost, norm


if __name__ == "__main__":
    main()
