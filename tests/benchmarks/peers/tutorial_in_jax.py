"""The tutorial's job as a user of JAX writes it: python tutorial_in_jax.py DIR OUT"""

import itertools
import json
import sys
from pathlib import Path

import h5py
import jax
import numpy as np
from jax import numpy as jnp

jax.config.update("jax_enable_x64", True)
STEPS, RATE, SIZES = 2500, 0.0075, (12288, 20, 7, 5, 1)


def main(directory, out):
    with h5py.File(Path(directory) / "train_catvnoncat.h5") as file:
        images, labels = file["train_set_x"][:], file["train_set_y"][:]
    X = jnp.array(images.reshape(len(images), -1) / 255)
    Y = jnp.array(labels, jnp.float64)
    parameters, costs = train(initial(), X, Y)
    arrays = [np.asarray(array) for array in jax.tree.leaves(parameters)]
    np.savez(Path(out) / "model.npz", *arrays)
    print(json.dumps({"costs": costs.tolist()}))


def initial():
    """Return the tutorial's parameters, with weights from its seed."""
    random = np.random.RandomState(1)
    return [
        (jnp.array((random.randn(n_out, n_in) / np.sqrt(n_in)).T), jnp.zeros(n_out))
        for n_in, n_out in itertools.pairwise(SIZES)
    ]


def cost_of(parameters, X, Y):
    *hidden, (W, b) = parameters
    A = X
    for W_hidden, b_hidden in hidden:
        A = jax.nn.relu(A @ W_hidden + b_hidden)
    Z = (A @ W + b)[:, 0]
    return jnp.mean(jax.nn.softplus(Z) - Z * Y)


@jax.jit
def train(parameters, X, Y):
    def step(parameters, _):
        cost, grads = jax.value_and_grad(cost_of)(parameters, X, Y)
        return jax.tree.map(lambda p, g: p - RATE * g, parameters, grads), cost

    return jax.lax.scan(step, parameters, length=STEPS)


if __name__ == "__main__":
    main(*sys.argv[1:])
