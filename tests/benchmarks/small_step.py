"""Compare a step of a network 2-16-16-1 on a batch of 32 with a plain NumPy loop.

    python tests/benchmarks/small_step.py [--json]

The arrays are so small that the time is mostly overhead: records, checks and calls. Both use
float32. The loop is written by hand, and does not compute the norm of the gradients, which pydnn
reports with the cost. The limit for pydnn is 1.25 times the time of the loop.
"""

import numpy as np
from side_by_side import arguments, compare, costs_of

from pydnn import (
    Batch,
    Key,
    dense,
    gradient_descent,
    initial_state,
    make_train_step,
    relu,
    serial,
    sigmoid_cross_entropy,
)

RATE = 0.1


def main():
    args = arguments(__doc__, blocks=41, steps=200).parse_args()
    key = Key(1)
    X = key.at("X").normal((2, 32)).astype(np.float32)
    batch = Batch(X, (X[:1] * X[1:] > 0).astype(np.float32))
    network = serial(dense(16), relu(), dense(16), relu(), dense(1))
    optimizer = gradient_descent(learning_rate=RATE)
    train_step = make_train_step(network, sigmoid_cross_entropy(), optimizer)
    start = initial_state(network, optimizer, (2,), key=key, dtype=np.float32)
    compare(
        ("plain loop", plain_costs(start.parameters, batch)),
        ("pydnn", costs_of(train_step, start, batch)),
        args,
        limit=1.25,
        rtol=1e-4,
    )


def plain_costs(parameters, batch):
    X, Y = batch.X, batch.Y
    m = X.shape[1]
    rate = np.float32(RATE)

    def costs(count):
        names = ("0/W", "0/b", "2/W", "2/b", "4/W", "4/b")
        W1, b1, W2, b2, W3, b3 = (parameters[name] for name in names)
        all_costs = []
        for _ in range(count):
            Z1 = W1 @ X + b1
            A1 = np.maximum(Z1, 0)
            Z2 = W2 @ A1 + b2
            A2 = np.maximum(Z2, 0)
            Z3 = W3 @ A2 + b3
            e = np.exp(-np.abs(Z3))
            all_costs.append(float(np.mean(np.maximum(Z3, 0) - Z3 * Y + np.log1p(e))))
            dZ3 = (np.where(Z3 >= 0, 1, e) / (1 + e) - Y) / m
            dW3, db3 = dZ3 @ A2.T, dZ3.sum(axis=1, keepdims=True)
            dZ2 = np.where(Z2 > 0, W3.T @ dZ3, 0)
            dW2, db2 = dZ2 @ A1.T, dZ2.sum(axis=1, keepdims=True)
            dZ1 = np.where(Z1 > 0, W2.T @ dZ2, 0)
            dW1, db1 = dZ1 @ X.T, dZ1.sum(axis=1, keepdims=True)
            W3, b3 = W3 - rate * dW3, b3 - rate * db3
            W2, b2 = W2 - rate * dW2, b2 - rate * db2
            W1, b1 = W1 - rate * dW1, b1 - rate * db1
        return all_costs

    return costs


if __name__ == "__main__":
    main()
