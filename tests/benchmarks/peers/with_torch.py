"""PyTorch with its fused optimizers, eager and compiled, and images in both of its layouts."""

import itertools

import numpy as np
import torch

from peers import Absent

F = torch.nn.functional


def eager(work):
    return _loop(work, lambda cost_of: cost_of)


def channels_last(work):
    return _loop(work, lambda cost_of: cost_of, torch.channels_last)


def compiled(work):
    begin = _loop(work, torch.compile)
    try:
        begin()()
    except Exception as error:  # of many kinds, e.g. without a C++ compiler
        raise Absent(f"torch.compile fails: {str(error).splitlines()[0]}") from error
    return begin


def _loop(work, through, layout=torch.contiguous_format):
    model = _model(work).to(memory_format=layout)
    batches = [_tensors(work, X, y, layout) for X, y in work.batches]
    loss = F.binary_cross_entropy_with_logits if work.binary else F.cross_entropy
    cost_of = through(lambda X, y: loss(model(X), y))
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    start = [torch.from_numpy(array) for layer in _start(work) for array in _theirs(*layer)]

    def begin():
        with torch.no_grad():
            for parameter, value in zip(learnt, start, strict=True):
                parameter.copy_(value)
                parameter.grad = None
        optimizer = _optimizer(work, learnt)

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


def _start(work):
    """The initial parameters, where a layer after convolutions takes channels before places."""
    layers = work.start()
    if work.filters:
        (W, b), channels = layers[len(work.filters)], work.filters[-1]
        moved = np.moveaxis(W.reshape(len(W), -1, channels), -1, 1)
        layers[len(work.filters)] = moved.reshape(W.shape), b
    return layers


def _theirs(*arrays):
    """The parameters of a layer of pydnn in the form of PyTorch."""
    *weights, b = arrays
    if weights[0].ndim == 4:
        return weights[0].transpose(3, 2, 0, 1), b[:, 0]
    if len(weights) == 1:
        return (*weights, b[:, 0])
    rows = np.arange(len(b)).reshape(4, -1)[[0, 1, 3, 2]].ravel()  # i, f, g, o
    return tuple(array[rows] for array in (*weights, b[:, 0]))


class _Lstm(torch.nn.Module):
    """LSTMs, and a linear layer at each step, whose outputs are rows."""

    def __init__(self, n_in, units, n_out, layers, dtype):
        super().__init__()
        self.lstm = torch.nn.LSTM(n_in, units, layers, dtype=dtype)
        self.linear = torch.nn.Linear(units, n_out, dtype=dtype)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias_hh"):  # a second bias, which other libraries do not have
                parameter.requires_grad_(False).zero_()

    def forward(self, X):
        A, _ = self.lstm(X)
        return self.linear(A).flatten(0, 1)


def _model(work):
    dtype = torch.from_numpy(work.batches[0][0]).dtype
    if work.layers == "lstm":
        n_in, units, *_, n_out = work.sizes
        return _Lstm(n_in, units, n_out, len(work.sizes) - 2, dtype)
    pairs = itertools.pairwise(work.sizes)
    layers = [(torch.nn.Linear(*pair, dtype=dtype), torch.nn.ReLU()) for pair in pairs]
    head = list(itertools.chain(*layers))[:-1]
    if not work.filters:
        return torch.nn.Sequential(*head)
    nn, channels = torch.nn, itertools.pairwise((work.batches[0][0].shape[2], *work.filters))
    convolutions = [
        (nn.Conv2d(*pair, 3, padding=1, dtype=dtype), nn.ReLU(), nn.MaxPool2d(2))
        for pair in channels
    ]
    return nn.Sequential(nn.AvgPool2d(2), *itertools.chain(*convolutions), nn.Flatten(), *head)


def _tensors(work, X, y, layout):
    if X.ndim == 3:  # (T, n, m) to (T, m, n)
        return torch.from_numpy(X.transpose(0, 2, 1).copy()), torch.from_numpy(y).flatten()
    rows, labels = torch.from_numpy(np.moveaxis(X, -1, 0)), torch.from_numpy(y)
    if X.ndim == 4:  # (H, W, C, m) to (m, C, H, W), in memory as the layout says
        rows = rows.permute(0, 3, 1, 2).contiguous(memory_format=layout)
    return rows, labels[:, None].to(rows.dtype) if work.binary else labels


def _optimizer(work, parameters):
    if work.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=work.rate, fused=True)
    decay = 0.9 if work.optimizer == "momentum" else 0.0
    return torch.optim.SGD(parameters, lr=work.rate, momentum=decay, fused=True)
