"""Handwritten digits: mini-batch Adam with dropout and early stopping, from a recipe.

The recipe beside this file says it all; `pydnn train examples/digits.toml` does the same from the
command line. Here it is taken apart. It needs scikit-learn, which has the digits.
"""

from pathlib import Path

from pydnn import accuracy, confusion_matrix, most_likely, output_of
from pydnn.data import load_data_set
from pydnn.jobs.job import prepare, run
from pydnn.recipes.toml import read_recipe

recipe = read_recipe(Path(__file__).with_name("digits.toml").read_text())
digits = load_data_set(recipe.data)

# A job is what the recipe makes of the data: network, loss, train_step, first state, batches.
job = prepare(recipe, digits.train)
print("training on", job.data["train"].X.shape[1], "digits,", end=" ")
print("with", job.data["validation"].X.shape[1], "held back")

# Its stream stops by itself, and the last state in it is the best one.
for state, info in run(job):
    if info.measured and state.iteration % 400 == 0:
        cost, share = info.measured["validation cost"], info.measured["validation accuracy"]
        print(f"iteration {state.iteration}  validation cost {cost:.4f}, accuracy {share:.4f}")
print(f"kept: the state after {state.iteration} iterations")

# What was fitted on the training part is applied to the test part, too; dropout is off.
X = job.inputs(digits.test.X)
Z = output_of(job.network, state, X)
predicted = most_likely(job.loss.predict(Z))
print(f"test accuracy {accuracy(predicted, digits.test.Y):.4f}")
print("confusion matrix, true digits in rows:")
print(confusion_matrix(predicted, digits.test.Y, classes=10))
