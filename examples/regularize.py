"""Three ways to regularise, on points in the plane, with a picture of what each network learned.

Two moons of 120 points lie inside each other, and some points are on the wrong one. A large
network learns these by heart; an L2 penalty, dropout, or a stop in time make it see the moons.
With a file's name, e.g. `python regularize.py boundaries.png`, the picture goes there; it needs
matplotlib.
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
    """Points (2, count) on two half circles, with noise, and which of the two each is on."""
    angle = np.pi * key.at("angle").uniform((1, count))
    which = np.arange(count)[np.newaxis] % 2  # 0 is the upper one
    side = 1 - 2 * which
    X = np.concatenate([side * np.cos(angle) + which - 0.5, side * (np.sin(angle) - 0.25)])
    return nn.Batch(X + 0.3 * key.at("noise").normal((2, count)), which.astype(float))


train, validation, test = (
    moons(key.at(name), n) for name, n in [("train", 120), ("validation", 60), ("test", 2000)]
)


def layers(*between):
    """A network far larger than 120 points need, with `between` after each of its hidden layers."""
    hidden = (nn.dense(64, initializer=nn.he_normal()), nn.relu(), *between)
    return nn.serial(*hidden, *hidden, nn.dense(1))


def trained(network, *, penalties=(), keep=toolz.last):
    """The network's function from points to probabilities, after 2000 iterations or fewer."""
    loss, optimizer = nn.sigmoid_cross_entropy(), nn.adam(learning_rate=0.01)
    train_step = nn.make_train_step(network, loss, optimizer, penalties=penalties)
    state = nn.initial_state(network, optimizer, shape_in=(2,), key=key)
    stream = nn.scan(train_step, state, itertools.repeat(train, 2000))
    evaluate = nn.evaluation(network, loss, {"validation": validation})
    kept, _ = keep(nn.measure(stream, every=10, function=evaluate))
    return lambda X: loss.predict(nn.output_of(network, kept, X))


def best_of_validation(stream):
    """The best state, once the validation cost has not been better for 200 iterations."""
    watch = "validation cost"
    return nn.best(nn.stop_early(stream, watch=watch, patience=200), watch=watch)


ways = {
    "nothing": trained(layers()),
    "L2 penalty": trained(layers(), penalties=[nn.l2_penalty(0.3)]),
    "dropout": trained(layers(nn.dropout(keep_prob=0.5))),
    "early stopping": trained(layers(), keep=best_of_validation),
}
for name, predict in ways.items():
    right = [nn.accuracy(classes_of(predict(data.X)), data.Y) for data in (train, test)]
    print(f"{name:15}  train accuracy {right[0]:.3f}  test accuracy {right[1]:.3f}")

if len(sys.argv) > 1:
    from matplotlib.figure import Figure

    from pydnn.plots import save_plot

    figure = Figure(figsize=(9.6, 2.8), dpi=120, layout="constrained")
    x, y = np.meshgrid(np.linspace(-2.4, 2.4, 200), np.linspace(-1.8, 1.8, 150))
    plane = np.stack([x.ravel(), y.ravel()])
    for axes, (name, predict) in zip(figure.subplots(1, 4), ways.items(), strict=True):
        axes.contourf(x, y, predict(plane).reshape(x.shape), levels=20, cmap="RdBu", alpha=0.7)
        axes.scatter(*train.X, c=train.Y[0], cmap="RdBu", s=14, edgecolors="black", linewidths=0.5)
        axes.set(title=name, xticks=[], yticks=[])
    save_plot(figure, Path(sys.argv[1]))
    print("picture", sys.argv[1])
