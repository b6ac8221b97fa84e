"""The only road from examples as they are to what a network sees, and for parameters the way back.

Whoever trains, evaluates or predicts sends examples through the `Inputs` of the job or the model,
so equal examples become equal bits, whoever made their arrays.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
from numpy.typing import ArrayLike

from pydnn.checks import BadInput, expect_finite, expect_shape
from pydnn.jobs.rotation import Rotation, lift
from pydnn.jobs.standardization import (
    Standardization,
    expect_common_precision,
    fit_standardization,
)
from pydnn.numerics import ARITHMETICS
from pydnn.numerics.underflow import ignoring_underflow
from pydnn.parameters import Packed
from pydnn.recipes.recipe import DTYPES, Recipe
from pydnn.records import Batch, FloatArray, readonly

__all__ = ["Inputs", "expect_data", "fit_inputs"]


@attrs.frozen(unsafe_hash=False)
class Inputs:
    """How examples as they are become what a network sees, and how its parameters come back.

    Attributes:
        dtype: The dtype in which the network computes, "float64" or "float32".
        numerics: The arithmetic, "fast" or "portable".
        standardization: What brings features to mean 0 and deviation 1; None where the recipe
            does not ask for it.
        rotation: The change of basis in which training goes on; None where there is none.

    Example:
        >>> inputs = Inputs("float32", "fast")
        >>> inputs([[1.0, 2.0]]).dtype
        dtype('float32')
    """

    dtype: str
    numerics: str
    standardization: Standardization | None = attrs.field(default=None, repr=False)
    rotation: Rotation | None = attrs.field(default=None, repr=False)

    @ignoring_underflow
    def __call__(self, X: ArrayLike) -> FloatArray:
        """The examples X (n_x, m) as the network sees them; X itself is not changed.

        Raises:
            BadInput: If X has other features than the examples that the job was prepared with,
                is complex, or holds a number beyond the range of the dtype.
        """
        if np.iscomplexobj(X):
            raise BadInput("X holds complex numbers, expected real ones: pass X.real.")
        X = readonly(X)
        if self.standardization is not None:
            X = self.standardization(X)
        return self.in_basis(self._prepared(_in_dtype("X", X, self.dtype)))

    def examples(self, batch: Batch) -> Batch:
        """The examples of `batch` as the network sees them, with labels and weights in its dtype.

        Raises:
            BadInput: As calling it does, for Y and the weights too.
        """
        weights = batch.weights
        return Batch(
            self(batch.X),
            _in_dtype("Y", batch.Y, self.dtype),
            weights if weights is None else _in_dtype("weights", weights, self.dtype),
        )

    @property
    def plain(self) -> Inputs:
        """The same without the rotation, for parameters that went through `lift`."""
        return attrs.evolve(self, rotation=None)

    def in_basis(self, X: FloatArray, *, fitted: bool = False) -> FloatArray:
        """In the rotated basis, examples X (n_x, m) that went through `plain`.

        Args:
            X: The examples.
            fitted: Whether the rotation was fitted to just these examples. Then what must be
                zero is set to zero, which arithmetic may pass over.
        """
        if self.rotation is None:
            return X
        return self._prepared(self.rotation.of_fitted(X) if fitted else self.rotation(X))

    def lift(self, parameters: Packed) -> Packed:
        """Parameters of one of the job's states as those for examples that are not rotated."""
        return parameters if self.rotation is None else lift(self.rotation, parameters)

    def _prepared(self, X: FloatArray) -> FloatArray:
        return ARITHMETICS[self.numerics].prepare(X)


def fit_inputs(
    recipe: Recipe,
    X: FloatArray,
    *,
    standardizing: Callable[..., Standardization] = fit_standardization,
) -> Inputs:
    """The inputs of a job of the `recipe` whose training examples are X (n_x, m), not rotated.

    Args:
        recipe: The job.
        X: The training part of the examples, without those held back for validation.
        standardizing: `(X, numerics=…) -> Standardization`, called where the recipe asks for it.

    Raises:
        BadInput: If a feature cannot be standardized.
    """
    fitted = standardizing(X, numerics=recipe.arithmetic) if recipe.standardize else None
    return Inputs(recipe.dtype, recipe.numerics, fitted)


def _in_dtype(name: str, array: FloatArray, dtype: str) -> FloatArray:
    """The array in a dtype, each example in one stretch of memory.

    Sums and products have other bits where numbers lie in another order, and a training has to
    be repeatable from the numbers alone.
    """
    with np.errstate(over="ignore"):
        columns = np.asfortranarray(array, DTYPES[dtype])
    if columns.dtype.itemsize < array.dtype.itemsize and not np.isfinite(columns).all():
        expect_finite(name, array)
        expect_finite(f"{name} as {dtype}", columns)
    return columns


def expect_data(data: Batch) -> None:
    """Refuse a data set that no training can start from.

    Raises:
        BadInput: If an entry of X or Y is not finite, naming its row and column; if Y or the
            weights do not have one column per example; or if there are no examples.
    """
    X, Y = data.X, data.Y
    expect_shape("X", X, ("n_x", "m"), hint="put examples in columns, e.g. pass X.T")
    m = X.shape[1]
    if X.size == 0:
        raise BadInput(f"X has shape {X.shape}, expected examples with features: give some data.")
    expect_shape("Y", Y, ("n_y", m), hint="give one column of labels per column of X")
    for name, array in (("X", X), ("Y", Y), ("weights", data.weights)):
        if array is not None:
            expect_common_precision(name, array)
    expect_finite("X", X)
    expect_finite("Y", Y)
