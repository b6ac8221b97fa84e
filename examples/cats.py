"""Cats by a small convolutional network, from a recipe that comes with pydnn.

`python examples/cats.py` trains it on the drawn cats in less than a minute, and
`python examples/cats.py photos/` on the tutorial's photos, if you have their two files.
`pydnn train cats` and `pydnn train cats --data photos/` do the same.
"""

import sys
from functools import partial

import pydnn as nn
from pydnn.data import load_data_set
from pydnn.metrics import classes_of
from pydnn.recipes import cats_recipe
from pydnn.training import tee

recipe = cats_recipe(data=sys.argv[1] if len(sys.argv) > 1 else "drawn-cats", iterations=1000)
print(f"{len(recipe.augment)} random changes of each image in training:", *recipe.augment)

# Images are (height, width, 3, m): like everywhere in pydnn, the last axis is the examples.
data = load_data_set(recipe.data, dtype=recipe.dtype).unflattened()
print("trained on images of shape", data.train.X.shape)


def report(state, info):
    """Print a line every 200 steps."""
    if state.iteration % 200 == 0:
        print(f"iteration {state.iteration:4}  cost {info.cost:.4f}")


model = nn.train(recipe, data, through=partial(tee, to=report)).model
for name, part in (("train", data.train), ("test", data.test)):
    print(f"{name} accuracy {nn.accuracy(classes_of(model.predict(part.X)), part.Y):.3f}")

# The kernels of the first convolution are parameters like any others, one per place and channel.
W = model.parameters["1/W"]
print("the first convolution has kernels W of shape", W.shape)
