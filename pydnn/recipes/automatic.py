"""A recipe for a table, chosen from its size and from what its target holds.

The rules are few and stated here. They were chosen on ten data sets and generators of scikit-learn
(`tests/benchmarks/automatic_recipe.py`), where they do better than its MLP with early stopping.
"""

from __future__ import annotations

import math

import attrs
import numpy as np

from pydnn.checks import BadInput, expect_known
from pydnn.data.sets import DataSet
from pydnn.data.tables import BOOLEAN, NUMBER, TEXT, Column, TableBatch
from pydnn.recipes.recipe import Recipe
from pydnn.records import FloatArray

__all__ = ["TASKS", "recipe_for"]

TASKS = ("classes", "labels", "numbers")

_MOST_CLASSES = 20  # of whole numbers; more of them are taken for a quantity
_LEARNING_RATE = 0.003
# How much an epoch shrinks the weights, whatever the number of its steps. With a hundredth of it,
# R² on the diabetes of scikit-learn falls from 0.40 to 0.26, and accuracy on classes from 0.82 to
# 0.75. A few large steps an epoch would shrink too much at a time.
_DECAY_PER_EPOCH, _MOST_DECAY = 0.05, 1.0
_PATIENCE, _FEWEST_PATIENT_STEPS = 20, 200  # epochs, and steps where epochs are short
_VISITS = 200_000  # examples to learn from, counted each time, between 50 and 400 epochs


def recipe_for(
    data: DataSet | TableBatch, /, *, task: str | None = None, **changes: object
) -> Recipe:
    """A recipe for the examples of a table: what to learn, with which network, until when.

    - Task: texts and truth values are classes. Numbers are classes if they are whole, at most 20
      different ones, and each occurs twice on average. Several targets are numbers, or labels
      that are true or false.
    - Loss: sigmoid cross-entropy for two classes and for labels, softmax cross-entropy for more
      classes, mean squared error for numbers.
    - Network: two hidden layers of 64 units and ReLU; of 128 from 5,000 examples, of 256 from
      50,000 examples.
    - Training: standardized columns, AdamW at a rate of 0.003, which shrinks weights by at most
      5 % an epoch, and mini-batches of about a sixteenth of the examples, 16 to 256.
    - End: a fifth of the examples is held back for validation, a tenth from 1,000 examples.
      Training ends when the validation cost has not improved for 20 epochs and 200 steps, or after
      50 to 400 epochs, fewer for more examples. The best state is kept.

    Args:
        data: The examples, e.g. `table.examples("quality")`, or a data set of a table.
        task: "classes", "labels" (several targets that are true or false) or "numbers", if the
            rule above should not choose.
        **changes: Entries of the recipe to replace, e.g. seed=2 or optimizer=nn.adam().

    Raises:
        BadInput: If the examples are not those of a table, a target does not fit the task, or an
            entry is not one of a recipe.

    Example:
        >>> from pydnn.data import Table
        >>> table = Table.of({"size": np.arange(40.0), "sold": ["no", "yes"] * 20})
        >>> recipe = recipe_for(table.examples("sold"))
        >>> recipe.loss, recipe.batches, recipe.iterations
        ({'sigmoid_cross_entropy': {}}, {'mini_batches': {'size': 16}}, 800)
    """
    examples = data.train if isinstance(data, DataSet) else data
    if not isinstance(examples, TableBatch):
        raise BadInput(
            "data is not a table, expected the examples of one: give table.examples(target), "
            "or write the recipe yourself."
        )
    if task is not None:
        expect_known("task", task, TASKS)
    loss, outputs = _loss_and_outputs(examples, task)
    m = examples.X.shape[1]
    validation = 0.2 if m < 1000 else 0.1
    learned = m - round(validation * m)
    # 16 steps an epoch are enough for Adam; batches below 16 and above 256 only cost time.
    size = min(max(1 << int(math.log2(max(m / 16, 1))), 16), 256, max(m // 2, 1))
    steps = max(learned // size, 1)
    epochs = min(max(_VISITS // m, 50), 400)
    decay = min(float(f"{_DECAY_PER_EPOCH / (_LEARNING_RATE * steps):.2g}"), _MOST_DECAY)
    units = 64 if m < 5_000 else 128 if m < 50_000 else 256
    entries: dict[str, object] = {
        "data": "table",
        "network": f"serial(dense({units}), relu(), dense({units}), relu(), dense({outputs}))",
        "loss": loss,
        "optimizer": f"adamw(learning_rate={_LEARNING_RATE}, weight_decay={decay})",
        "iterations": epochs * steps,
        "batches": f"mini_batches({size})",
        "standardize": True,
        "validation": validation,
        "evaluate_every": steps,
        "watch": "validation cost",
        "patience": max(_PATIENCE * steps, _FEWEST_PATIENT_STEPS),
    }
    known = [field.name for field in attrs.fields(Recipe)]
    for name in changes:
        expect_known("entry of a recipe", name, known)
    return Recipe(**entries | changes)  # type: ignore[arg-type]  # the names were just checked


def _loss_and_outputs(examples: TableBatch, task: str | None) -> tuple[str, int]:
    targets, n = examples.targets, len(examples.targets)
    kinds = {target.kind for target in targets}
    if task is None:
        if n > 1:
            task = "labels" if kinds == {BOOLEAN} else "numbers"
        else:
            task = "classes" if _is_classes(targets[0], examples.Y[0]) else "numbers"
    if task == "classes":
        if n > 1:
            raise BadInput(
                f"there are {n} targets, expected one for classes: choose one of "
                f"{', '.join(target.name for target in targets)}, or task='labels'."
            )
        classes = np.unique(examples.Y).size
        if classes < 2:
            only = targets[0].text(float(examples.Y[0, 0]))
            raise BadInput(
                f"target {targets[0].name!r} is {only!r} in every row, expected two or more "
                "classes: give examples of another class, too."
            )
        return (
            ("sigmoid_cross_entropy()", 1) if classes == 2 else ("softmax_cross_entropy()", classes)
        )
    for target in targets:
        if target.kind == TEXT:
            raise BadInput(
                f"target {target.name!r} holds texts, e.g. {target.levels[0]!r}, expected "
                f"{task}: "
                + ("choose task='classes'." if n == 1 else "give one target, for classes.")
            )
    return ("sigmoid_cross_entropy()" if task == "labels" else "mean_squared()"), n


def _is_classes(target: Column, y: FloatArray) -> bool:
    if target.kind != NUMBER:
        return True
    distinct = np.unique(y)
    whole = bool((distinct == np.round(distinct)).all())
    return whole and distinct.size <= min(_MOST_CLASSES, y.size / 2)
