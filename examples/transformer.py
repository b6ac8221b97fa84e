"""A tiny transformer that writes names letter by letter, made of pydnn's stages.

`python examples/transformer.py names.txt` learns from your own file, with one name in each line.
Without one, the names are those of the modules of Python's standard library.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import pydnn as nn
from pydnn.jobs.scores import score_on

if len(sys.argv) > 1:
    path = Path(sys.argv[1])
else:
    path = Path(tempfile.mkdtemp()) / "modules.txt"
    path.write_text("\n".join(name.strip("_") for name in sorted(sys.stdlib_module_names)))

data = nn.text(path, test=0.1)
symbols = len(data.vocabulary.symbols)
UNITS, HEADS, BLOCKS, STEPS = 32, 4, 2, 400

# Attention lets each letter look at those before it; the dense layers then work on each alone.
attend = nn.residual(nn.layer_norm(), nn.attention(HEADS, causal=True), nn.dropout(keep_prob=0.9))
think = nn.residual(
    nn.layer_norm(), nn.dense(4 * UNITS), nn.gelu(), nn.dense(UNITS), nn.dropout(keep_prob=0.9)
)
network = nn.serial(
    nn.embedding(symbols + 1, UNITS),  # one number more, which stands before the first letter
    nn.positions(),
    *[attend, think] * BLOCKS,
    nn.layer_norm(),
    nn.dense(symbols),
)
recipe = nn.Recipe(
    data=str(path),
    network=network,
    loss=nn.softmax_cross_entropy(),
    optimizer=nn.adamw(learning_rate=nn.warm_up(50, then=nn.cosine_decay(0.005, steps=STEPS))),
    batches=nn.mini_batches(32),
    iterations=STEPS,
    dtype="float32",
)
model = nn.train(recipe, data).model
print(f"{model.parameters.vector.size} parameters")
for name, part in (("train", data.train), ("test", data.test)):
    print(f"{name}: {score_on(model, part).metrics['log_loss']:.3f} nats per letter")
print("samples:", ", ".join(model.sample(8, key=nn.Key(2), temperature=0.8)))

# A causal network predicts from what came before: other letters later on change nothing.
X = data.test.X[:, :1].copy()
before = model.predict(X)[:4]
X[4:] = 1
print("the first 4 predictions stay:", np.allclose(model.predict(X)[:4], before))
