"""PyTorch with its fused optimizers, eager and compiled."""

import itertools

import torch

from peers import Absent

F = torch.nn.functional


def eager(work):
    return _loop(work, lambda cost_of: cost_of)


def compiled(work):
    begin = _loop(work, torch.compile)
    try:
        begin()()
    except Exception as error:  # of many kinds, e.g. without a C++ compiler
        raise Absent(f"torch.compile fails: {str(error).splitlines()[0]}") from error
    return begin


def _loop(work, through):
    model = _model(work)
    batches = [_tensors(work, X, y) for X, y in work.batches]
    loss = F.binary_cross_entropy_with_logits if work.binary else F.cross_entropy
    cost_of = through(lambda X, y: loss(model(X), y))
    start = [torch.from_numpy(array) for W, b in work.start() for array in (W, b[:, 0])]

    def begin():
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), start, strict=True):
                parameter.copy_(value)
                parameter.grad = None
        optimizer = _optimizer(work, model.parameters())

        def turn():
            costs = []
            for X, y in itertools.islice(itertools.cycle(batches), work.steps):
                optimizer.zero_grad()
                cost = cost_of(X, y)
                cost.backward()
                optimizer.step()
                costs.append(cost.detach())
            return torch.stack(costs).tolist()

        return turn

    return begin


def _model(work):
    dtype = torch.from_numpy(work.batches[0][0]).dtype
    pairs = itertools.pairwise(work.sizes)
    layers = [(torch.nn.Linear(*pair, dtype=dtype), torch.nn.ReLU()) for pair in pairs]
    return torch.nn.Sequential(*list(itertools.chain(*layers))[:-1])


def _tensors(work, X, y):
    rows, labels = torch.from_numpy(X.T), torch.from_numpy(y)
    return rows, labels[:, None].to(rows.dtype) if work.binary else labels


def _optimizer(work, parameters):
    if work.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=work.rate, fused=True)
    decay = 0.9 if work.optimizer == "momentum" else 0.0
    return torch.optim.SGD(parameters, lr=work.rate, momentum=decay, fused=True)
