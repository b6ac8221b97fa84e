"""The tutorial's model of names, letter by letter, as a step that is composed by hand.

As a program, it prints the fingerprint of the state after some steps in portable arithmetic, which
is the same on every machine:

    python tests/letters_model.py [--steps 20000]
"""

import argparse
import itertools
import os
from pathlib import Path

import numpy as np

from pydnn import (
    Batch,
    Key,
    clip_by_value,
    dense,
    gradient_descent,
    initial_state,
    make_train_step,
    portable,
    rnn,
    scan,
    serial,
    softmax_cross_entropy,
)
from pydnn.optimizers import chain
from pydnn.runs.state_arrays import state_fingerprint
from pydnn.stages.initializers import tutorial

LETTERS = "\nabcdefghijklmnopqrstuvwxyz"
NAMES = Path(
    os.environ.get(
        "PYDNN_NAMES",
        Path(__file__).parents[1] / ".." / "shared" / "data" / "names" / "dinos.txt",
    )
)
# The smoothed loss after 0, 1000, ..., 14000 steps that three publications share
PUBLISHED = (
    23.087336, 28.712699, 27.884160, 26.863598, 25.901815, 25.290275, 24.608779, 24.425330,
    24.070350, 23.730944, 23.844446, 23.581901, 23.291971, 23.547611, 23.382338,
)  # fmt: skip
# Of the state after so many steps in portable arithmetic
FINGERPRINTS = {50: "523a79765ca1a9da", 20_000: "0f5b0b9b6bdac219"}
OPTIMIZER = chain(clip_by_value(5.0), gradient_descent(learning_rate=0.01))
LOSS = softmax_cross_entropy(steps="sum")


def shuffled_names():
    """The names in the order in which the tutorial takes them."""
    names = [line.strip() for line in NAMES.read_text().lower().splitlines()]
    np.random.RandomState(0).shuffle(names)
    return names


def batch_of(name):
    """A batch of one name: zeros and then its letters, and its letters and then the end."""
    ids = [LETTERS.index(letter) for letter in name]
    X = np.zeros((len(name) + 1, len(LETTERS), 1))
    X[np.arange(1, len(X)), ids] = 1.0
    return Batch(X, np.array([*ids, 0], float)[:, np.newaxis])


def trained(names, numerics):
    """Yield (state, info) of the steps, one name each, over and over."""
    network = serial(rnn(50, initial="carried", examples=1), dense(len(LETTERS)))
    start = initial_state(
        network, OPTIMIZER, (1, len(LETTERS)), key=Key(1), weights=tutorial(scale=0.01),
        numerics=numerics,
    )  # fmt: skip
    step = make_train_step(network, LOSS, OPTIMIZER, numerics=numerics)
    return scan(step, start, itertools.cycle(map(batch_of, names)))


def smoothed(costs):
    """Yield the smoothed loss after each step, as the tutorial prints it."""
    loss = 7 * np.log(len(LETTERS))
    for cost in costs:
        loss = 0.999 * loss + 0.001 * cost
        yield loss


def portable_fingerprint(steps):
    """The fingerprint of the state after this number of steps in portable arithmetic."""
    stream = trained(shuffled_names(), portable)
    state, _ = next(itertools.islice(stream, steps - 1, None))
    return state_fingerprint(state)[:16]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=20_000)
    print(portable_fingerprint(parser.parse_args().steps))
