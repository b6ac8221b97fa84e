"""Three ways to regularize, on points in the plane, with a picture of what each network learned.

The 120 points form two interlocked moons, and some points are on the wrong one. A large network
memorizes these; with an L2 penalty, dropout or early stopping it learns the moons instead.
`python regularize.py boundaries.png` writes the picture to that file; it needs matplotlib.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
import toolz

import pydnn as nn
from pydnn.metrics import classes_of

key = nn.Key(3)


def moons(key, count):
    """Draw noisy points (2, count) on two half circles, labeled by half circle."""
    angle = np.pi * key.at("angle").uniform((1, count))
    which = np.arange(count)[np.newaxis] % 2  # 0 is the upper half circle
    side = 1 - 2 * which
    X = np.concatenate([side * np.cos(angle) + which - 0.5, side * (np.sin(angle) - 0.25)])
    return nn.Batch(X + 0.3 * key.at("noise").normal((2, count)), which.astype(float))


train, validation, test = (
    moons(key.at(name), n) for name, n in [("train", 120), ("validation", 60), ("test", 2000)]
)


def layers(*between):
    """Make a network much too large for 120 points, with `between` after each hidden layer."""
    hidden = (nn.dense(64, initializer=nn.he_normal()), nn.relu(), *between)
    return nn.serial(*hidden, *hidden, nn.dense(1))


def trained(network, *, penalties=(), keep=toolz.last):
    """Train for up to 2000 iterations, and return the function from points to probabilities."""
    loss, optimizer = nn.sigmoid_cross_entropy(), nn.adam(learning_rate=0.01)
    train_step = nn.make_train_step(network, loss, optimizer, penalties=penalties)
    state = nn.initial_state(network, optimizer, shape_in=(2,), key=key)
    stream = nn.scan(train_step, state, itertools.repeat(train, 2000))
    evaluate = nn.evaluation(network, loss, {"validation": validation})
    kept, _ = keep(nn.measure(stream, every=10, function=evaluate))
    return lambda X: loss.predict(nn.output_of(network, kept, X))


def best_of_validation(stream):
    """Return the best state, once the validation cost has not improved for 200 iterations."""
    watch = "validation cost"
    return nn.best(nn.stop_early(stream, watch=watch, patience=200), watch=watch)


networks = {
    "nothing": trained(layers()),
    "L2 penalty": trained(layers(), penalties=[nn.l2_penalty(0.3)]),
    "dropout": trained(layers(nn.dropout(keep_prob=0.5))),
    "early stopping": trained(layers(), keep=best_of_validation),
}
for name, predict in networks.items():
    on_train, on_test = (nn.accuracy(classes_of(predict(d.X)), d.Y) for d in (train, test))
    print(f"{name:15}  train accuracy {on_train:.3f}  test accuracy {on_test:.3f}")

if len(sys.argv) > 1:
    from matplotlib.figure import Figure

    from pydnn.plots import save_plot

    figure = Figure(figsize=(9.6, 2.8), dpi=120, layout="constrained")
    x, y = np.meshgrid(np.linspace(-2.4, 2.4, 200), np.linspace(-1.8, 1.8, 150))
    plane = np.stack([x.ravel(), y.ravel()])
    for axes, (name, predict) in zip(figure.subplots(1, 4), networks.items(), strict=True):
        axes.contourf(x, y, predict(plane).reshape(x.shape), levels=20, cmap="RdBu", alpha=0.7)
        axes.scatter(*train.X, c=train.Y[0], cmap="RdBu", s=14, edgecolors="black", linewidths=0.5)
        axes.set(title=name, xticks=[], yticks=[])
    save_plot(figure, Path(sys.argv[1]))
    print("picture", sys.argv[1])
