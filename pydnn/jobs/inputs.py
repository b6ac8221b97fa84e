"""The conversion from raw examples to network inputs, and of rotated parameters back.

Training, evaluation and prediction all convert examples with the `Inputs` of the job or model. So
equal examples always give the same bits, whatever memory order their arrays have.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
from numpy.typing import ArrayLike

from pydnn.batches import together
from pydnn.checks import BadInput, expect_finite
from pydnn.data.tables import Table, TableBatch
from pydnn.jobs.columns import Columns
from pydnn.jobs.fitting_columns import fit_columns
from pydnn.jobs.rotation import Rotation, lift
from pydnn.jobs.standardization import (
    Standardization,
    expect_common_precision,
    fit_standardization,
)
from pydnn.losses import Loss
from pydnn.numerics import ARITHMETICS
from pydnn.numerics.underflow import ignoring_underflow
from pydnn.parameters import Packed
from pydnn.recipes.recipe import DTYPES, Recipe
from pydnn.records import Batch, FloatArray, IntArray, readonly

__all__ = ["Inputs", "expect_data", "fit_inputs", "fit_table_inputs"]


@attrs.frozen(unsafe_hash=False)
class Inputs:
    """Converts raw examples to network inputs, and rotated parameters back.

    Attributes:
        dtype: The dtype in which the network computes, "float64" or "float32".
        numerics: The arithmetic, "fast" or "portable".
        standardization: The map of features to mean 0 and deviation 1; None if the recipe does
            not ask for it.
        rotation: The change of basis used for training; None if there is none.
        columns: The map of each column, if the examples are rows of a table; None if they are
            arrays.

    Example:
        >>> inputs = Inputs("float32", "fast")
        >>> inputs([[1.0, 2.0]]).dtype
        dtype('float32')
    """

    dtype: str
    numerics: str
    standardization: Standardization | None = attrs.field(default=None, repr=False)
    rotation: Rotation | None = attrs.field(default=None, repr=False)
    columns: Columns | None = attrs.field(default=None, repr=False)

    @ignoring_underflow
    def __call__(self, X: ArrayLike | Table) -> FloatArray:
        """Convert raw examples X to network inputs of the same shape; X itself is not changed.

        Args:
            X: Raw examples along the last axis: columns (n_x, m), images (H, W, C, m), sequences
                (T, n, m). If the job was prepared with a table, rows:
                a `Table`, or anything that `Table.of` takes.

        Raises:
            BadInput: If X has another number of features than the job's data, is complex, or
                holds a number beyond the range of the dtype.
        """
        if self.columns is not None:
            X = self.columns(Table.of(X))
        if isinstance(X, Table):
            raise BadInput("X is a table, expected an array: give what the model was trained on.")
        if np.iscomplexobj(X):
            raise BadInput("X holds complex numbers, expected real ones: pass X.real.")
        X = readonly(X)
        if self.standardization is not None:
            X = self.standardization(X)
        return self.in_basis(self._prepared(_in_dtype("X", X, self.dtype)))

    def examples(self, batch: Batch) -> Batch:
        """Convert a batch of raw examples, with its labels and weights in the network's dtype.

        The lengths of its sequences stay as they are.

        Raises:
            BadInput: If X is refused, or Y or the weights hold a number beyond the dtype's range.
        """
        if self.columns is not None:
            if not isinstance(batch, TableBatch):
                raise BadInput(
                    "the examples are arrays, but the job was prepared with a table: give "
                    "Table.of(…).examples(…)."
                )
            return attrs.evolve(self, columns=None).examples(self.columns.examples(batch))
        weights = batch.weights
        return Batch(
            self(batch.X),
            _in_dtype("Y", batch.Y, self.dtype),
            weights if weights is None else _in_dtype("weights", weights, self.dtype),
            batch.lengths,
        )

    @property
    def plain(self) -> Inputs:
        """The same conversion without the rotation, for lifted parameters."""
        return attrs.evolve(self, rotation=None)

    def in_basis(self, X: FloatArray, *, fitted: bool = False) -> FloatArray:
        """Rotate examples that `plain` has converted; without a rotation, return them unchanged.

        Args:
            X: The examples, (n_x, m).
            fitted: Whether these are the examples that the rotation was fitted to. If so,
                entries that are zero except for rounding are set to 0, and arithmetic can skip
                them.
        """
        if self.rotation is None:
            return X
        return self._prepared(self.rotation.of_fitted(X) if fitted else self.rotation(X))

    def lift(self, parameters: Packed) -> Packed:
        """Convert a state's parameters to those for examples that are not rotated."""
        return parameters if self.rotation is None else lift(self.rotation, parameters)

    def _prepared(self, X: FloatArray) -> FloatArray:
        return ARITHMETICS[self.numerics].prepare(X)


def fit_inputs(
    recipe: Recipe,
    X: FloatArray,
    *,
    lengths: IntArray | None = None,
    standardizing: Callable[..., Standardization] = fit_standardization,
) -> Inputs:
    """Fit the conversion that `recipe` asks for, without a rotation, to training examples.

    Args:
        recipe: The recipe.
        X: Raw training examples, along the last axis, without those held back for validation.
        lengths: The number of valid steps of each sequence (m,); None if all steps are valid.
        standardizing: The function that fits a standardization,
            `(X, numerics=…) -> Standardization`, called if the recipe asks for one; with
            `lengths=…` for sequences of unequal length.

    Raises:
        BadInput: If a feature cannot be standardized.

    Example:
        >>> recipe = nn.Recipe("x", "dense(1)", "mean_squared()", "adam()", 3, standardize=True)
        >>> fit_inputs(recipe, np.array([[1.0, 3.0]]))([[2.0, 3.0]])
        array([[0., 1.]])
    """
    fitted = None
    if recipe.standardize:
        options = {} if lengths is None else {"lengths": lengths}
        fitted = standardizing(X, numerics=recipe.arithmetic, **options)
    return Inputs(recipe.dtype, recipe.numerics, fitted)


def fit_table_inputs(recipe: Recipe, train: TableBatch, loss: Loss) -> Inputs:
    """The inputs of a job of the `recipe` whose training examples are rows of a table.

    Args:
        recipe: The job.
        train: The training part of the examples, without those held back for validation.
        loss: The loss that the recipe describes.

    Raises:
        BadInput: If a column cannot be used, see `fit_columns`.
    """
    columns = fit_columns(
        train, loss=loss, standardize=recipe.standardize, numerics=recipe.arithmetic
    )
    return Inputs(recipe.dtype, recipe.numerics, columns=columns)


def _in_dtype(name: str, array: FloatArray, dtype: str) -> FloatArray:
    """Convert an array to a dtype, with each example contiguous in memory, in C order.

    The memory order changes the order of sums and products, and so their last bits. Fixing it
    makes training depend on the numbers alone.
    """
    with np.errstate(over="ignore"):
        examples = together(array, DTYPES[dtype])
    # Only a cast to a smaller dtype can make a finite number infinite.
    if examples.dtype.itemsize < array.dtype.itemsize and not np.isfinite(examples).all():
        expect_finite(name, array)
        expect_finite(f"{name} as {dtype}", examples)
    return examples


def expect_data(data: Batch) -> None:
    """Refuse examples that cannot be trained on.

    Raises:
        BadInput: If an entry of X or Y is not finite, naming its place; or if there are no
            examples.
    """
    X, Y = data.X, data.Y
    if X.size == 0:
        raise BadInput(f"X has shape {X.shape}, expected examples with features: give some data.")
    for name, array in (("X", X), ("Y", Y), ("weights", data.weights)):
        if array is not None:
            expect_common_precision(name, array)
    if isinstance(data, TableBatch):
        return  # its columns are refused by name, and numbers may be missing
    expect_finite("X", X)
    expect_finite("Y", Y)
