"""Names, letter by letter: an LSTM reads a list of names, and then makes up new ones.

`python examples/names.py names.txt` learns from your own file, with one name in each line. Without
one, the names are those of the modules of Python's standard library.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

import pydnn as nn
from pydnn.data import lines
from pydnn.jobs.scores import score_on
from pydnn.training import tee

if len(sys.argv) > 1:
    path = Path(sys.argv[1])
else:
    path = Path(tempfile.mkdtemp()) / "modules.txt"
    path.write_text("\n".join(name.strip("_") for name in sorted(sys.stdlib_module_names)))

# An example is a name. At each step, the network predicts the next letter, or the end of the name.
data = nn.text(path, lines(lower=True), test=0.1)
symbols = len(data.vocabulary.symbols)
print(f"{data.train.X.shape[1]} names of up to {len(data.train.X) - 1} letters, {symbols} symbols")

STEPS = 400
recipe = nn.Recipe(
    data=str(path),
    text=lines(lower=True),
    network=nn.serial(
        nn.one_hot(symbols), nn.lstm(64), nn.dropout(keep_prob=0.5), nn.dense(symbols)
    ),
    loss=nn.softmax_cross_entropy(),
    optimizer=nn.adam(learning_rate=nn.cosine_decay(0.01, steps=STEPS)),
    batches=nn.mini_batches(32),
    iterations=STEPS,
    dtype="float32",
)


def report(state, info):
    """Print the cost of the batch every 100 steps."""
    if state.iteration % 100 == 0:
        print(f"iteration {state.iteration:4}  cost {info.cost:.3f}")


trained = nn.train(recipe, data, through=partial(tee, to=report))
for name, part in (("train", data.train), ("test", data.test)):
    print(f"{name}: {score_on(trained.model, part).metrics['log_loss']:.3f} nats per letter")

known = set(path.read_text().lower().split("\n"))
for temperature in (0.5, 0.8, 1.2):
    samples = trained.model.sample(8, key=nn.Key(1), temperature=temperature)
    new = sum(name not in known for name in samples)
    print(f"temperature {temperature}, {new} of 8 new:", ", ".join(samples))
