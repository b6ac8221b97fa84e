"""A recipe for a table, chosen from its size and from what its target holds, or for a text.

The rules are few and stated here. They were chosen on ten data sets and generators of scikit-learn
(`tests/benchmarks/automatic_recipe.py`), where they do better than its MLP with early stopping.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import attrs

from pydnn.checks import BadInput, expect_known
from pydnn.data.sets import DataSet
from pydnn.data.stored_tables import StoredTableBatch
from pydnn.data.tables import BOOLEAN, TEXT, TableBatch, TableExamples
from pydnn.data.texts import Vocabulary
from pydnn.descriptions.builders import build, describe
from pydnn.losses import Loss, mean_squared, sigmoid_cross_entropy, softmax_cross_entropy
from pydnn.recipes.recipe import Recipe
from pydnn.records import Batch
from pydnn.stages import dense, embedding, gru, relu, serial

__all__ = ["TASKS", "recipe_for"]

TASKS = ("classes", "labels", "numbers")

_LEARNING_RATE = 0.003
# How much an epoch shrinks the weights, whatever the number of its steps. With a hundredth of it,
# R² on the diabetes of scikit-learn falls from 0.40 to 0.26, and accuracy on classes from 0.82 to
# 0.75. A few large steps an epoch would shrink too much at a time.
_DECAY_PER_EPOCH, _MOST_DECAY = 0.05, 1.0
_PATIENCE, _FEWEST_PATIENT_STEPS = 20, 200  # epochs, and steps where epochs are short
_VISITS = 200_000  # examples to learn from, counted each time, between 50 and 400 epochs


def recipe_for(
    data: DataSet | TableBatch | StoredTableBatch,
    /,
    *,
    task: str | None = None,
    hidden: Iterable[int] | None = None,
    **changes: Any,
) -> Recipe:
    """A recipe for a table or a text: what to learn, with which network, until when.

    For the rows of a table:

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

    For a text, a network with a vector of 32 numbers for each symbol and a gated recurrent unit of
    100 numbers learns to predict the next symbol, in at most 1000 steps of 32 examples. If examples
    are lines, a tenth of them is held back, and training ends when their cost has not improved for
    300 steps.

    Args:
        data: The examples, e.g. `table.examples("quality")`, or a data set of a table or a text.
        task: "classes", "labels" (several targets that are true or false) or "numbers"; by
            default what a loss among the changes is for, or else what the rule above chooses.
        hidden: Units of the hidden layers, or of the recurrent ones; by default those of the rule
            above.
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
    if changes.get("fold") is not None:
        changes = {"validation": 0.0} | changes  # a fold is held back instead of a share
    known = [field.name for field in attrs.fields(Recipe)]
    for name in changes:
        expect_known("entry of a recipe", name, known)
    if isinstance(data, DataSet) and data.vocabulary is not None:
        if task is not None:
            raise BadInput(f"task is {task!r}, but a text has only one: leave it out.")
        return _recipe_for_text(data.train.in_memory(), data.vocabulary, hidden, changes)
    examples = data.train if isinstance(data, DataSet) else data
    if not isinstance(examples, TableBatch | StoredTableBatch):
        raise BadInput(
            "data is not a table, expected the examples of one: give table.examples(target), "
            "or write the recipe yourself."
        )
    m = examples.count
    validation = 0.2 if m < 1000 else 0.1
    learned = m - round(validation * m)
    # 16 steps an epoch are enough for Adam; batches below 16 and above 256 only cost time.
    size = min(max(1 << int(math.log2(max(m / 16, 1))), 16), 256, max(m // 2, 1))
    steps = max(learned // size, 1)
    epochs = min(max(_VISITS // m, 50), 400)
    decay = min(float(f"{_DECAY_PER_EPOCH / (_LEARNING_RATE * steps):.2g}"), _MOST_DECAY)
    if hidden is None:
        hidden = [64 if m < 5_000 else 128 if m < 50_000 else 256] * 2
    entries: dict[str, Any] = {
        "data": "table",
        "network": "dense(1)",
        "loss": "mean_squared()",
        "optimizer": f"adamw(learning_rate={_LEARNING_RATE}, weight_decay={decay})",
        "iterations": epochs * steps,
        "batches": f"mini_batches({size})",
        "standardize": True,
        "validation": validation,
        "evaluate_every": steps,
        "watch": "validation cost",
        "patience": max(_PATIENCE * steps, _FEWEST_PATIENT_STEPS),
    }
    if not _holds_back(changes) and "watch" not in changes:
        entries |= {"watch": "", "patience": 0}  # since there is nothing to watch
    recipe = _measured(Recipe(**entries | changes), changes)
    if "loss" in changes:
        loss = build(recipe.loss, family="loss")
    else:
        loss = _loss_for(examples, task)
        recipe = attrs.evolve(recipe, loss=describe(loss))
    if "network" in changes:
        return recipe
    layers = [stage for units in hidden for stage in (dense(units), relu())]
    network = serial(*layers, dense(_outputs(examples, loss)))
    return attrs.evolve(recipe, network=describe(network))


def _recipe_for_text(
    examples: Batch, vocabulary: Vocabulary, hidden: Iterable[int] | None, changes: dict[str, Any]
) -> Recipe:
    m, K = examples.X.shape[-1], len(vocabulary.symbols)
    layers = [gru(units) for units in ([100] if hidden is None else hidden)]
    entries: dict[str, Any] = {
        "data": "text",
        "network": serial(embedding(K + 1, 32), *layers, dense(K)),
        "loss": "softmax_cross_entropy()",
        "optimizer": "adam(learning_rate=0.005)",
        "iterations": 1000,
        "batches": f"mini_batches({min(32, max(m // 2, 1))})",
    }
    if vocabulary.lines and m >= _FEWEST_LINES and _holds_back(changes):
        # Windows of a text may belong to streams, which a validation part would tear apart.
        watched = {"evaluate_every": 100, "watch": "validation cost", "patience": 300}
        entries |= {"validation": 0.1, **watched}
    return _measured(Recipe(**entries | changes), changes)


def _measured(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with measurements as often as its iterations allow, at least one at the end."""
    if "evaluate_every" in changes or recipe.evaluate_every <= recipe.iterations:
        return recipe
    return attrs.evolve(recipe, evaluate_every=recipe.iterations)


def _holds_back(changes: dict[str, Any]) -> bool:
    return changes.get("validation") != 0 or changes.get("fold") is not None


_MOST_OUTPUTS = 1 << 20
_FEWEST_LINES = 20  # of which some are held back


def _loss_for(examples: TableExamples, task: str | None) -> Loss:
    targets = examples.targets
    if task is None:
        task = _task_of(examples)
    expect_known("task", task, TASKS)
    if task == "classes":
        if len(targets) > 1:
            raise BadInput(
                f"there are {len(targets)} targets, expected one for classes: choose one of "
                f"{', '.join(target.name for target in targets)}, or the task 'labels'."
            )
        return sigmoid_cross_entropy() if _classes(examples) == 2 else softmax_cross_entropy()
    for target in targets:
        if target.kind == TEXT:
            advice = "choose the task 'classes'" if len(targets) == 1 else "give it as the only one"
            raise BadInput(
                f"target {target.name!r} holds texts, e.g. {target.levels[0]!r}, expected {task}: "
                f"{advice}."
            )
    return sigmoid_cross_entropy() if task == "labels" else mean_squared()


def _task_of(examples: TableExamples) -> str:
    targets = examples.targets
    if len(targets) > 1:
        return "labels" if {target.kind for target in targets} == {BOOLEAN} else "numbers"
    return "classes" if examples.is_of_classes else "numbers"


def _outputs(examples: TableExamples, loss: Loss) -> int:
    if len(examples.targets) > 1 or loss.task(1) == "regression":
        return len(examples.targets)
    classes = _classes(examples)
    return 1 if classes == 2 and loss.task(1) == "two classes" else classes


def _classes(examples: TableExamples) -> int:
    target, classes = examples.targets[0], examples.distinct_labels(most=_MOST_OUTPUTS)
    if classes.size < 2:
        raise BadInput(
            f"target {target.name!r} is {target.text(float(classes[0]))!r} in every row, "
            "expected two or more classes: give examples of another class, too."
        )
    return int(classes.size)
