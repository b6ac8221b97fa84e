"""The tutorial's job as a user of PyTorch writes it: python tutorial_in_torch.py DIR OUT"""

import itertools
import json
import sys
from pathlib import Path

import h5py
import numpy as np
import torch

STEPS, RATE, SIZES = 2500, 0.0075, (12288, 20, 7, 5, 1)


def main(directory, out):
    with h5py.File(Path(directory) / "train_catvnoncat.h5") as file:
        images, labels = file["train_set_x"][:], file["train_set_y"][:]
    X = torch.from_numpy(images.reshape(len(images), -1) / 255)
    Y = torch.from_numpy(labels[:, None].astype(np.float64))
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, fused=True)
    loss = torch.nn.BCEWithLogitsLoss()
    costs = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        cost = loss(model(X), Y)
        cost.backward()
        optimizer.step()
        costs.append(cost.detach())
    torch.save(model.state_dict(), Path(out) / "model.pt")
    print(json.dumps({"costs": torch.stack(costs).tolist()}))


def network():
    """Return the tutorial's parameters, with weights from its seed."""
    random = np.random.RandomState(1)
    layers = []
    for n_in, n_out in itertools.pairwise(SIZES):
        layer = torch.nn.Linear(n_in, n_out, dtype=torch.float64)
        with torch.no_grad():
            layer.weight[:] = torch.from_numpy(random.randn(n_out, n_in) / np.sqrt(n_in))
            layer.bias.zero_()
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
