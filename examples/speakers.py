"""Who is speaking? Sequences of unequal length, read by a GRU in both directions.

Nine men say two vowels. Each utterance is a sequence of 7 to 29 steps with 12 numbers. The package
sktime ships the two files, JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts: `pip install
sktime`, or give their folder. (Kudo, Toyama and Shimbo, Multidimensional curve classification
using passing-through regions, 1999.)
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import pydnn as nn
from pydnn.metrics import most_likely

if len(sys.argv) > 1:
    folder = Path(sys.argv[1])
elif package := find_spec("sktime"):
    folder = Path(package.origin).parent / "datasets" / "data" / "JapaneseVowels"
else:
    raise SystemExit("This example needs the package sktime, or the folder with its two files.")


def utterances(path, steps=29):
    """Read a file as X (T, 12, m), padded with zeros to T steps, with labels and lengths."""
    lines = [line for line in path.read_text().splitlines() if line and line[0] not in "#@"]
    X, Y, lengths = np.zeros((len(lines), steps, 12)), [], []
    for x, line in zip(X, lines, strict=True):
        *features, speaker = line.split(":")
        numbers = np.array([feature.split(",") for feature in features], dtype=float)
        x[: numbers.shape[1]] = numbers.T
        lengths.append(numbers.shape[1])
        Y.append(int(speaker) - 1)
    return nn.Batch(np.moveaxis(X, 0, -1), [Y], lengths=lengths)


train, test = (utterances(folder / f"JapaneseVowels_{part}.ts") for part in ("TRAIN", "TEST"))
print("X", train.X.shape, "lengths", train.lengths.min(), "to", train.lengths.max())

STEPS = 600
recipe = nn.Recipe(
    data="JapaneseVowels",
    network=nn.serial(
        nn.bidirectional(nn.gru(32, output="last")), nn.dropout(keep_prob=0.7), nn.dense(9)
    ),
    loss=nn.softmax_cross_entropy(),
    optimizer=nn.adam(learning_rate=nn.cosine_decay(0.01, steps=STEPS)),
    batches=nn.mini_batches(32),
    iterations=STEPS,
    standardize=True,
)
model = nn.train(recipe, train).model
probabilities = model.predict(test.X, lengths=test.lengths)
print(f"test accuracy {nn.accuracy(most_likely(probabilities), test.Y):.4f}")

# Padding cannot leak: whatever stands there, the predictions have the same bits.
other = np.where(np.arange(29)[:, None, None] < test.lengths, test.X, 1e6)
same = np.array_equal(model.predict(other, lengths=test.lengths), probabilities)
print("with other numbers in the padding:", "the same bits" if same else "other bits")
