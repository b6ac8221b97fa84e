"""The tutorial's listing, as its readers write it."""

import listing


def loop(work):
    [(X, y)] = work.batches
    Y = y[None].astype(X.dtype)
    start = {}
    for k, (W, b) in enumerate(work.start(), start=1):
        start |= {f"W{k}": W, f"b{k}": b}

    def turn():
        parameters, costs = start, []
        for _ in range(work.steps):
            parameters, cost = listing.step(parameters, X, Y, work.rate)
            costs.append(cost)
        return costs

    return lambda: turn
