"""Handwritten digits: mini-batch Adam with dropout and early stopping, from a recipe.

The recipe is in digits.toml beside this file; `pydnn train examples/digits.toml` does the same on
the command line. The digits come with scikit-learn.
"""

from functools import partial
from pathlib import Path

import pydnn as nn
from pydnn.data import load_data_set
from pydnn.metrics import most_likely
from pydnn.recipes.toml import read_recipe
from pydnn.training import tee

recipe = read_recipe(Path(__file__).with_name("digits.toml").read_text())
digits = load_data_set(recipe.data)


def report(state, info):
    """Print a line every 400 steps."""
    if info.measured and state.iteration % 400 == 0:
        cost, accuracy = info.measured["validation cost"], info.measured["validation accuracy"]
        print(f"iteration {state.iteration}  validation cost {cost:.4f}, accuracy {accuracy:.4f}")


# Training stops early, and keeps the state with the lowest validation cost.
trained = nn.train(recipe, digits, through=partial(tee, to=report))
data = trained.job.data
print("trained on", data["train"].X.shape[1], "digits,", end=" ")
print("with", data["validation"].X.shape[1], "held back")
print(f"kept: the state after {trained.iteration} iterations")

# The model takes raw examples, and standardizes them as it did the training examples.
predicted = most_likely(trained.model.predict(digits.test.X))
print(f"test accuracy {nn.accuracy(predicted, digits.test.Y):.4f}")
print("confusion matrix, true digits in rows:")
print(nn.confusion_matrix(predicted, digits.test.Y, classes=10))
