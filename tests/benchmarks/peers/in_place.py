"""The same steps written by hand for one network, in arrays that are allocated once and reused.

This is how fast NumPy is if only speed counts: no step is kept or checked, no part can be replaced,
and the norm of the gradients is not computed. The tutorial's job is rotated, as pydnn's is.
"""

import itertools

import numpy as np

__all__ = ["loop"]

_STRETCH = 1 << 17  # numbers per block of an update: they fit the cache


def loop(work):
    start, batches = work.start(), work.batches
    if work.name == "P1":
        start, batches = _rotated(start, batches)
    first = np.concatenate([array.ravel() for layer in start for array in layer])
    params, grads = np.empty_like(first), np.empty_like(first)
    layers, slopes = (_layers(vector, start) for vector in (params, grads))
    m = batches[0][0].shape[1]
    outputs = [np.empty((len(W), m), work.dtype) for W, _ in layers]
    errors = [np.empty_like(output) for output in outputs]
    masks = [np.empty(output.shape, bool) for output in outputs]
    batches = [(X, _targets(work, y)) for X, y in batches]
    cost_of = _sigmoid_cost if work.binary else _softmax_cost
    zero = np.zeros((), work.dtype)

    def step(X, T, update):
        A = X
        for (W, b), Z in zip(layers, outputs, strict=True):
            np.matmul(W, A, Z)
            np.add(Z, b, Z)
            if Z is not outputs[-1]:
                np.maximum(Z, zero, out=Z)
            A = Z
        cost = cost_of(A, T, errors[-1])
        for k in range(len(layers) - 1, -1, -1):
            dZ, (dW, db) = errors[k], slopes[k]
            np.matmul(dZ, (outputs[k - 1] if k else X).T, dW)
            np.add.reduce(dZ, axis=1, keepdims=True, out=db)
            if k:
                np.matmul(layers[k][0].T, dZ, errors[k - 1])
                np.greater(outputs[k - 1], zero, masks[k - 1])
                np.multiply(errors[k - 1], masks[k - 1], errors[k - 1])
        update()
        return cost

    def begin():
        params[...] = first
        update = _updates(work, params, grads)

        def turn():
            pairs = itertools.islice(itertools.cycle(batches), work.steps)
            return [step(X, T, update) for X, T in pairs]

        return turn

    return begin


def _rotated(start, batches):
    [(X, y)] = batches
    (W, b), *others = start
    basis = np.linalg.qr(np.hstack([X, W.T]))[0]
    return [(W @ basis, b), *others], [(np.asfortranarray(basis.T @ X), y)]


def _layers(vector, like):
    """Return views of a vector as pairs W, b with the shapes of those in `like`."""
    layers, place = [], 0
    for pair in like:
        views = []
        for array in pair:
            views.append(vector[place : place + array.size].reshape(array.shape))
            place += array.size
        layers.append(views)
    return layers


def _updates(work, params, grads):
    """Return a function that updates the parameters with the gradients, in place."""
    rate = np.array(work.rate, work.dtype)
    if work.optimizer == "gradient_descent":

        def descend():
            np.multiply(grads, rate, grads)
            np.subtract(params, grads, params)

        return descend
    places = [slice(a, a + _STRETCH) for a in range(0, params.size, _STRETCH)]
    mean = np.zeros_like(params)
    if work.optimizer == "momentum":
        decay = np.array(0.9, work.dtype)

        def momentum():
            for place in places:
                p, g, v = params[place], grads[place], mean[place]
                np.multiply(v, decay, v)
                np.add(v, g, v)
                np.multiply(v, rate, g)
                np.subtract(p, g, p)

        return momentum
    square, room = np.zeros_like(params), np.empty(_STRETCH, work.dtype)
    b1, b2 = (np.array(beta, work.dtype) for beta in (0.9, 0.999))
    steps = itertools.count(1)

    def adam():
        # Means times 1 / (1 - beta), so that all shared factors combine into two numbers.
        t = next(steps)
        root = np.sqrt((1 - 0.999) / (1 - 0.999**t))
        factor = np.array(work.rate * (1 - 0.9) / (1 - 0.9**t) / root, work.dtype)
        shift = np.array(1e-8 / root, work.dtype)
        for place in places:
            p, g, m, v = params[place], grads[place], mean[place], square[place]
            u = room[: p.size]
            np.multiply(m, b1, m)
            np.add(m, g, m)
            np.multiply(g, g, g)
            np.multiply(v, b2, v)
            np.add(v, g, v)
            np.sqrt(v, u)
            np.add(u, shift, u)
            np.divide(m, u, u)
            np.multiply(u, factor, u)
            np.subtract(p, u, p)

    return adam


def _targets(work, y):
    if work.binary:
        return y[np.newaxis].astype(work.dtype)
    return (np.arange(work.sizes[-1])[:, np.newaxis] == y).astype(work.dtype)


def _sigmoid_cost(Z, Y, dZ):
    e = np.exp(-np.abs(Z))
    cost = np.mean(np.maximum(Z, 0) - Z * Y + np.log1p(e))
    np.subtract(np.where(Z >= 0, 1, e) / (1 + e), Y, dZ)
    np.divide(dZ, Z.size, dZ)
    return float(cost)


def _softmax_cost(Z, T, dZ):
    Z -= Z.max(axis=0)
    E = np.exp(Z)
    total = E.sum(axis=0)
    cost = np.mean(np.log(total) - (Z * T).sum(axis=0))
    np.subtract(E / total, T, dZ)
    np.divide(dZ, len(total), dZ)
    return float(cost)
