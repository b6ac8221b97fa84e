"""Turns the rows that estimators take into examples in columns; sparse rows batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from sklearn.utils.sparsefuncs import mean_variance_axis

from pydnn.batches import batches_of, split
from pydnn.descriptions.builders import build
from pydnn.jobs.class_weights import weigh_classes, weights_of_classes
from pydnn.jobs.inputs import Inputs
from pydnn.jobs.job import Job, prepare
from pydnn.jobs.standardization import Standardization, fit_standardization
from pydnn.keys import Key
from pydnn.numerics import Numerics
from pydnn.recipes.recipe import Recipe
from pydnn.records import Batch, FloatArray, freeze

__all__ = ["Examples", "Prepared", "columns_of", "in_columns", "prepare_examples"]

_MOST_NUMBERS = 1 << 22  # of rows of a sparse matrix that are made dense at once


@attrs.frozen(eq=False)
class Examples:
    """Examples in rows, as scikit-learn has them, with labels and weights as pydnn has them.

    Attributes:
        X: An array (m, n_x) whose rows lie one after the other, or a matrix in CSR form.
        Y: The labels (n_y, m).
        weights: The weights (1, m), all above 0; None where all examples count the same.
    """

    X: Any
    Y: FloatArray
    weights: FloatArray | None = None

    @property
    def sparse(self) -> bool:
        """Whether X is a sparse matrix."""
        return not isinstance(self.X, np.ndarray)

    @property
    def dense(self) -> Examples:
        """The same examples with X as an array."""
        return attrs.evolve(self, X=self.X.toarray()) if self.sparse else self

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.Y.shape[1])

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self.count if self.weights is None else self.weights.sum())

    @property
    def numbers(self) -> Batch:
        """The numbers of all rows, with the labels and weights of their examples."""
        rows = np.arange(self.count, dtype=np.float64)[np.newaxis]
        return Batch(np.asfortranarray(rows), self.Y, self.weights)

    @property
    def batch(self) -> Batch:
        """All of them in columns."""
        return Batch(columns_of(self.X), self.Y, self.weights)

    def weighed(self, by_class: FloatArray) -> Examples:
        """The same examples, with weights multiplied by those of their classes (K,)."""
        return attrs.evolve(self, weights=weigh_classes(self.numbers, by_class).weights)

    def taken(self, rows: NDArray[np.int64] | slice) -> Examples:
        """These of them, in this order."""
        weights = None if self.weights is None else self.weights[:, rows]
        return Examples(self.X[rows], self.Y[:, rows], weights)

    def split(self, key: Key, share: float, *, stratified: bool) -> tuple[Examples, Examples]:
        """The training part and the validation part, as `prepare` splits examples.

        Raises:
            BadInput: If there are too few, see `batches.split`.
        """
        parts = split(self.numbers, key, share=share, stratified=stratified)
        train, held_back = (self.taken(part.X[0].astype(np.int64)) for part in parts)
        return train, held_back


def columns_of(X: Any) -> FloatArray:
    """Rows, which may be sparse, as columns that lie one after the other in memory."""
    rows = X if isinstance(X, np.ndarray) else freeze(X.toarray())
    columns: FloatArray = rows.T
    return columns


def in_columns(X: Any) -> Iterator[FloatArray]:
    """Rows as columns; rows of a sparse matrix are converted batch by batch."""
    if isinstance(X, np.ndarray):
        yield columns_of(X)
        return
    step = max(1, _MOST_NUMBERS // X.shape[1])
    for start in range(0, X.shape[0], step):
        yield columns_of(X[start : start + step])


@attrs.frozen(eq=False)
class Prepared:
    """A job with the examples of a call of `fit` or `partial_fit`.

    Attributes:
        job: The job.
        validation: The examples that evaluate epochs, as inputs of the network; None where
            there are none.
        sparse: The training examples, where they are a sparse matrix; None where the job has them.
    """

    job: Job
    validation: Batch | None
    sparse: Examples | None = None

    @property
    def per_epoch(self) -> int:
        """How many batches an epoch has."""
        m = self.job.data["train"].count if self.sparse is None else self.sparse.count
        return self.job.batching.per_epoch(m)

    def batches(self, key: Key, *, epoch: int) -> Iterator[Batch]:
        """The batches from the beginning of an epoch on, without end."""
        batching, start = self.job.batching, epoch * self.per_epoch
        if self.sparse is None:
            return batches_of(batching, self.job.data["train"], key, start=start)
        # Batches are cut from the numbers of the rows, and only their rows are made dense.
        X, inputs = self.sparse.X, self.job.inputs
        cut = batches_of(batching, self.sparse.numbers, key, start=start)
        return (_dense(batch, X, inputs) for batch in cut)


def _dense(numbers: Batch, X: Any, inputs: Inputs) -> Batch:
    rows = columns_of(X[numbers.X[0].astype(np.int64)])
    return inputs.examples(Batch(rows, numbers.Y, numbers.weights))


def prepare_examples(
    recipe: Recipe,
    examples: Examples,
    *,
    train: Examples,
    held_back: Examples | None,
    labels: FloatArray,
    fitted: Standardization | None,
) -> Prepared:
    """The job of a recipe for these examples.

    Args:
        recipe: The job.
        examples: All examples.
        train: The training part of them.
        held_back: The examples that evaluate epochs: the validation part, or other examples.
        labels: Labels (n_y, k) in which every class occurs, even those without examples here.
        fitted: The standardization of an earlier call, to use again; None to fit one.
    """
    standardizing = partial(_fit, train=train, fitted=fitted)
    if not examples.sparse:
        job = prepare(recipe, examples.batch, standardizing=standardizing, other_labels=labels)
        validation = job.data["validation"].in_memory() if "validation" in job.data else None
        if validation is None and held_back is not None:
            validation = job.inputs.examples(held_back.batch)
        return Prepared(job, validation)
    # Few examples stand for all of them where the job is made; the others come batch by batch.
    plain = attrs.evolve(recipe, validation=0.0, class_weights="", batches="full_batch()")
    few = train.taken(slice(0, 2)).batch
    job = prepare(plain, few, standardizing=standardizing, other_labels=labels)
    job = attrs.evolve(job, recipe=recipe, batching=build(recipe.batches, family="batches"))
    validation = None if held_back is None else job.inputs.examples(held_back.batch)
    if recipe.class_weights:
        by_class = weights_of_classes(recipe.class_weights, train.numbers, int(labels.max()) + 1)
        train = train.weighed(by_class)
        validation = validation and weigh_classes(validation, by_class.astype(validation.X.dtype))
    return Prepared(job, validation, train)


def _fit(
    few: FloatArray,
    *,
    train: Examples,
    fitted: Standardization | None,
    numerics: Numerics,
) -> Standardization:
    """The standardization of the whole training part; of a sparse one, a job sees only `few`."""
    if fitted is not None:
        return fitted
    if not train.sparse:
        return fit_standardization(columns_of(train.X), numerics=numerics, weights=train.weights)
    own = None if train.weights is None else train.weights[0].astype(train.X.dtype)
    mean, variance = mean_variance_axis(train.X, axis=0, weights=own)
    deviation = np.sqrt(variance)
    constant = deviation <= _LEAST_SPREAD * np.abs(mean)
    columns = (mean, np.where(constant, 1.0, deviation))
    return Standardization(*(column.astype(np.float64)[:, np.newaxis] for column in columns))


_LEAST_SPREAD = 1e-13  # as for dense examples: below this share of the mean, a spread is roundings
