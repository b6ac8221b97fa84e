"""The conversion from raw examples to network inputs, and of rotated parameters back.

Training, evaluation and prediction all convert examples with the `Inputs` of the job or model. So
equal examples always give the same bits, whatever memory order their arrays have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import ArrayLike

from pydnn.batches import together
from pydnn.checks import BadInput, Json, expect_finite, not_finite
from pydnn.data.stored import Stored
from pydnn.data.stored_tables import StoredTableBatch
from pydnn.data.tables import Table, TableBatch, TableExamples
from pydnn.jobs.columns import Columns, columns_of, plain_of
from pydnn.jobs.fitting_columns import fit_columns
from pydnn.jobs.rotation import Rotation, lift
from pydnn.jobs.standardization import (
    Standardization,
    expect_common_precision,
    fit_standardization,
    fit_standardization_over,
)
from pydnn.losses import Loss
from pydnn.numerics import ARITHMETICS
from pydnn.numerics.underflow import ignoring_underflow
from pydnn.parameters import Packed
from pydnn.recipes.recipe import DTYPES, Recipe
from pydnn.records import AnyArray, Batch, Examples, FloatArray, block_size, readonly

__all__ = [
    "Inputs",
    "InputsOfFiles",
    "expect_data",
    "expect_finite_from",
    "expect_finite_in_files",
    "fit_inputs",
    "fit_table_inputs",
]


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
        return self._converted(X, kept=True)

    @ignoring_underflow
    def _converted(self, X: ArrayLike | Table, *, kept: bool) -> FloatArray:
        if self.columns is not None:
            X = self.columns(Table.of(X))
        if isinstance(X, Table):
            raise BadInput("X is a table, expected an array: give what the model was trained on.")
        if np.iscomplexobj(X):
            raise BadInput("X holds complex numbers, expected real ones: pass X.real.")
        X = readonly(X)
        if self.standardization is not None:
            X = self.standardization(X)
        X = _in_dtype("X", X, self.dtype)
        return self.in_basis(self._prepared(X) if kept else X)

    def of(self, examples: Examples) -> Examples:
        """Network inputs of raw examples; those in files are converted batch by batch.

        Raises:
            BadInput: If examples in memory are refused, see `examples`.
        """
        if isinstance(examples, Batch):
            return self.examples(examples)
        return examples.then(InputsOfFiles(self))

    def examples(self, batch: Batch, *, kept: bool = True) -> Batch:
        """Convert a batch of raw examples, with its labels and weights in the network's dtype.

        The lengths of its sequences stay as they are.

        Args:
            batch: The examples.
            kept: Whether the result is used for more than one step, so that the arithmetic may keep
                what it computes from it.

        Raises:
            BadInput: If X is refused, or Y or the weights hold a number beyond the dtype's range.
        """
        if self.columns is not None:
            if not isinstance(batch, TableBatch):
                raise BadInput(
                    "the examples are arrays, but the job was prepared with a table: give "
                    "Table.of(…).examples(…)."
                )
            plain = attrs.evolve(self, columns=None)
            return plain.examples(self.columns.examples(batch), kept=kept)
        weights = batch.weights
        return Batch(
            self._converted(batch.X, kept=kept),
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


@attrs.frozen(eq=False)
class InputsOfFiles:
    """What `Inputs.of` makes of each batch of examples in files, as a `Conversion`.

    Attributes:
        inputs: The conversion of all examples.
    """

    name: ClassVar[str] = "inputs"
    inputs: Inputs

    def __call__(self, batch: Batch) -> Batch:
        """The batch as network inputs."""
        return self.inputs.examples(batch, kept=False)

    def of_labels(self, batch: Batch) -> Batch:
        """Labels and weights alone, in the network's dtype."""
        Y, weights, columns = batch.Y, batch.weights, self.inputs.columns
        if columns is not None:
            assert isinstance(batch, TableBatch)
            Y = columns.targets(batch.target)
        dtype = self.inputs.dtype
        if weights is not None:
            weights = _in_dtype("weights", weights, dtype)
        return Batch(batch.X, _in_dtype("Y", Y, dtype), weights, batch.lengths)

    @property
    def plain(self) -> tuple[Json, dict[str, AnyArray]]:
        """The fitted numbers, and the rest as text; a rotation stays in this process."""
        inputs, text = self.inputs, ""
        if inputs.rotation is not None:
            raise BadInput("a rotation is not sent, expected inputs without one: set rotate=False.")
        arrays: dict[str, AnyArray] = {}
        if inputs.standardization is not None:
            fitted = inputs.standardization
            arrays |= {"mean": fitted.mean, "deviation": fitted.deviation}
        if inputs.columns is not None:
            text, numbers = plain_of(inputs.columns)
            arrays |= numbers
        return [inputs.dtype, inputs.numerics, text], arrays

    @classmethod
    def of_plain(cls, facts: Any, arrays: Mapping[str, AnyArray]) -> Self:
        """The conversion that had this `plain`."""
        dtype, numerics, text = facts
        values: Any = arrays
        fitted = columns = None
        if "mean" in arrays:
            fitted = Standardization(values["mean"], values["deviation"])
        if text:
            numbers = values["column_numbers"]
            columns = columns_of("a message", text, lambda n: numbers, values["target_scales"])
        return cls(Inputs(dtype, numerics, fitted, columns=columns))


def fit_inputs(
    recipe: Recipe,
    examples: Examples,
    *,
    standardizing: Callable[..., Standardization] = fit_standardization,
) -> Inputs:
    """Fit the conversion that `recipe` asks for, without a rotation, to training examples.

    Args:
        recipe: The recipe.
        examples: Raw training examples, without those held back for validation.
        standardizing: The function that fits a standardization to examples in memory,
            `(X, numerics=…) -> Standardization`, called if the recipe asks for one; with
            `lengths=…` for sequences of unequal length.

    Raises:
        BadInput: If a feature cannot be standardized.

    Example:
        >>> recipe = nn.Recipe("x", "dense(1)", "mean_squared()", "adam()", 3, standardize=True)
        >>> fit_inputs(recipe, nn.Batch([[1.0, 3.0]], [[0, 1]]))([[2.0, 3.0]])
        array([[0., 1.]])
    """
    fitted = None
    if (
        recipe.standardize
        and standardizing is fit_standardization
        and not isinstance(examples, Batch)
    ):
        fitted = fit_standardization_over(examples, numerics=recipe.arithmetic)
    elif recipe.standardize:
        batch = examples.in_memory()
        options = {} if batch.lengths is None else {"lengths": batch.lengths}
        fitted = standardizing(batch.X, numerics=recipe.arithmetic, **options)
    return Inputs(recipe.dtype, recipe.numerics, fitted)


def fit_table_inputs(recipe: Recipe, train: TableBatch | StoredTableBatch, loss: Loss) -> Inputs:
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


def expect_data(data: Examples) -> None:
    """Refuse examples that cannot be trained on; those in files are not read.

    Raises:
        BadInput: If an entry of X or Y is not finite, naming its place; or if there are no
            examples.
    """
    shape = (*data.shape, data.count)
    if not math.prod(shape):
        raise BadInput(f"X has shape {shape}, expected examples with features: give some data.")
    if not isinstance(data, Batch):
        return
    X, Y = data.X, data.Y
    for name, array in (("X", X), ("Y", Y), ("weights", data.weights)):
        if array is not None:
            expect_common_precision(name, array)
    if isinstance(data, TableBatch):
        return  # its columns are refused by name, and numbers may be missing
    expect_finite("X", X)
    expect_finite("Y", Y)


def expect_finite_in_files(data: Stored, what: str) -> None:
    """Refuse examples in files with an entry that is not finite in the dtype of their batches.

    Files of integers are not read, because integers are always finite.

    Args:
        data: The examples.
        what: "X", or "labels" for labels and weights, which are read much faster.

    Raises:
        BadInput: Naming the place of the entry; or if a weight is negative.
    """
    if isinstance(data, TableExamples):
        return  # its columns are refused by name
    if what == "labels":
        data, names = data.without_X(), ["Y", "weights"]
    elif np.dtype(data.X.dtype).kind == "f":
        names = ["X"]
    else:
        return
    size = block_size(data.shape)
    for number, block in enumerate(data.blocks()):
        expect_finite_from(number * size, block, names, data)


def expect_finite_from(
    start: int, block: Batch, names: Iterable[str], examples: Examples | None = None
) -> None:
    """Refuse an array of a block that is not finite.

    Args:
        start: The number of its first example.
        block: The block.
        names: The names of its arrays that are looked at.
        examples: The examples, if they are `Stored`, of which the block is a part: the refusal
            then names the row, as in a file, and the file.
    """
    for name in names:
        array = getattr(block, name)
        if array is not None and not (finite := np.isfinite(array)).all():
            *place, example = (int(i) for i in np.argwhere(~finite)[0])
            value, number = array[(*place, example)], start + example
            if not isinstance(examples, Stored):
                raise not_finite(name, value, (*place, number))
            row = number if examples.only_rows is None else int(examples.only_rows[number])
            raise not_finite(f"{name}{examples.file_of(name)}", value, (row, *place))
    if "weights" in names and block.weights is not None and not (right := block.weights >= 0).all():
        example = int(np.argmin(right))
        raise BadInput(
            f"the weight of example {start + example} is {block.weights[0, example]:g}, expected 0 "
            "or more: leave an example out instead of giving it a negative weight."
        )
