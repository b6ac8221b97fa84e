"""Standardization: features scaled to mean 0 and deviation 1, as fitted on the training part.

The features of images (H, W, C, m) are their C channels, and those of sequences (T, n, m) are the n
numbers of a step: each has one mean and one deviation for all places or steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import ArrayLike

from pydnn.checks import BadInput, expect_finite, expect_shape
from pydnn.numerics import Numerics, fast
from pydnn.numerics.underflow import ignoring_underflow
from pydnn.records import (
    Batch,
    Examples,
    FloatArray,
    IntArray,
    arrays,
    freeze,
    readonly,
)
from pydnn.sequences import columns_of_steps

__all__ = [
    "Standardization",
    "fit_standardization",
    "fit_standardization_over",
    "standardization_of_0_1_0",
]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Standardization:
    """Scales features to mean 0 and deviation 1 over the examples of the fit.

    Attributes:
        mean: The mean of each feature, shape (n_x, 1).
        deviation: The standard deviation of each feature, shape (n_x, 1); 1 if it is constant.
            For images and sequences n_x is the number of channels, or of numbers in a step.

    Example:
        >>> Standardization(mean=[[2.0]], deviation=[[0.5]])([[3.0]])
        array([[2.]])
    """

    mean: FloatArray
    deviation: FloatArray

    @ignoring_underflow
    def __call__(self, X: ArrayLike) -> FloatArray:
        """Standardize X (n_x, m) or (..., n_x, m), in its own dtype.

        Raises:
            BadInput: If X has another number of features, or a result is not finite.
        """
        X = readonly(X)
        shape: tuple[int | str, ...] = (*["…"] * (X.ndim - 2), len(self.mean), "m")
        expect_shape("X", X, shape, hint="give the features that were fitted")
        with np.errstate(over="ignore", invalid="ignore"):
            standardized = (X - self.mean.astype(X.dtype)) / self.deviation.astype(X.dtype)
        if not np.isfinite(standardized).all():
            expect_finite("X", X)
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(standardized))[0])
            *_, feature, example = index
            raise BadInput(
                f"feature {feature} of example {example} is {X[index]:g}, too far from "
                f"the mean {self.mean[feature, 0]:g} to be standardized by the deviation "
                f"{self.deviation[feature, 0]:g}: correct it or leave the example out."
            )
        return freeze(standardized)


# A deviation below this share of the mean is only a few roundings, so it measures nothing.
_LEAST_SPREAD = 1e-13


@ignoring_underflow
def fit_standardization(
    X: ArrayLike,
    *,
    numerics: Numerics = fast,
    names: Sequence[str] = (),
    weights: FloatArray | None = None,
    lengths: IntArray | None = None,
) -> Standardization:
    """Fit a standardization to the features of X (n_x, m), which should be the training part alone.

    Of images (H, W, C, m) the features are the channels, and of sequences (T, n, m) the numbers of
    a step: their means are over all places, or all valid steps, of all examples.

    Args:
        X: The examples.
        numerics: The arithmetic of the means.
        names: Names of the features, for error messages; by default their numbers.
        weights: How much each example counts (1, m); None where all count the same. Only for X
            (n_x, m).
        lengths: The number of valid steps of each sequence (m,); None if all steps are valid.

    Raises:
        BadInput: If an entry of X is not finite; if X has lengths, but its steps have no features,
            as ids (T, m) have none; or if a feature is not constant, but its
            deviation is below 1e-13 of its mean, or its spread is too large or too small for
            the dtype of X.

    Example:
        >>> standardization = fit_standardization([[1.0, 3.0], [5.0, 5.0]])
        >>> standardization([[2.0, 4.0], [5.0, 6.0]])
        array([[0., 2.],
               [0., 1.]])
    """
    X = readonly(X)
    if X.ndim < 3:
        expect_shape("X", X, ("n_x", "m"), hint="put examples in columns")
    _expect_features(X.shape, lengths is not None)
    expect_common_precision("X", X)
    if X.size == 0:
        raise BadInput(f"X has shape {X.shape}, expected examples with features: give some data.")
    expect_finite("X", X)
    if X.ndim == 2:
        return _fitted(_AtOnce(X, weights, numerics), X.dtype, names)
    if X.size <= MOST_AT_ONCE:
        return _fitted(_AtOnce(columns_of_steps(X, lengths), weights, numerics), X.dtype, names)
    # Only X and the lengths of the examples are used, and they need no labels.
    examples = Batch(X, np.zeros((1, X.shape[-1])), None, lengths)
    return _fitted(_OfBlocks(examples, numerics), X.dtype, names)


MOST_AT_ONCE = 1 << 24  # numbers of images or sequences whose means are computed at once


@ignoring_underflow
def fit_standardization_over(
    examples: Examples, *, numerics: Numerics = fast, names: Sequence[str] = ()
) -> Standardization:
    """Fit a standardization to finite examples in files, which stay there.

    It has the bits of `fit_standardization` for the same examples in the same memory order.

    Args:
        examples: The examples; either each of them or each feature is contiguous in what they give.
        numerics: The arithmetic of the means.
        names: Names of the features, for error messages; by default their numbers.

    Raises:
        BadInput: As `fit_standardization` does.

    Example:
        >>> stored = nn.data.Stored(np.array([[1.0], [3.0]]), np.zeros(2))
        >>> fit_standardization_over(stored).mean
        array([[2.]])
    """
    shape = (*examples.shape, examples.count)
    _expect_features(shape, examples.has_lengths)
    dtype = examples.take(slice(0, 1)).X.dtype
    if len(shape) > 2 and math.prod(shape) <= MOST_AT_ONCE:
        batch = examples.in_memory()
        columns = columns_of_steps(batch.X, batch.lengths)
        return _fitted(_AtOnce(columns, None, numerics), dtype, names)
    source = _OfBlocks if len(shape) > 2 else _OfRows
    return _fitted(source(examples, numerics), dtype, names)


def _expect_features(shape: tuple[int, ...], has_lengths: bool) -> None:
    if len(shape) == 2 and has_lengths:
        raise BadInput(
            f"X has shape {shape} and lengths, so each step is one id, which has no mean: do not "
            "standardize ids."
        )


class _Columns(Protocol):
    """Columns (n, N) of numbers, of which only some may be in memory at the same time."""

    def ends(self) -> tuple[FloatArray, FloatArray]:
        """The least and the largest number of each row, (n, 1)."""

    def mean_of(self, function: Callable[[FloatArray], FloatArray]) -> FloatArray:
        """The mean of each row (n, 1) of what a function makes of the columns."""


@attrs.frozen
class _AtOnce:
    """Columns in memory."""

    X: FloatArray
    weights: FloatArray | None
    numerics: Numerics

    def ends(self) -> tuple[FloatArray, FloatArray]:
        return _ends_of(self.X)

    def mean_of(self, function: Callable[[FloatArray], FloatArray]) -> FloatArray:
        values, weights, total_of = function(self.X), self.weights, self.numerics.sum
        total = values.shape[1] if weights is None else total_of(weights.T, axis=0)
        counted = values if weights is None else values * weights
        # Transposed, because a sum along the last axis may go through BLAS, whose order of addition
        # depends on the machine.
        mean: FloatArray = total_of(counted.T, axis=0).T / total
        return mean


@attrs.frozen
class _OfRows:
    """Columns that are examples of features in files."""

    examples: Examples
    numerics: Numerics

    def ends(self) -> tuple[FloatArray, FloatArray]:
        return _ends_over(block.X for block in self.examples.blocks())

    def mean_of(self, function: Callable[[FloatArray], FloatArray]) -> FloatArray:
        m, sum_rows = self.examples.count, self.numerics.sum_rows

        def rows(start: int, stop: int) -> FloatArray:
            return function(self.examples.take(slice(start, stop)).X).T

        if sum_rows is None:
            return self.numerics.sum(rows(0, m), axis=0).T / m
        return sum_rows(m, rows).T / m


@attrs.frozen
class _OfBlocks:
    """Columns that are places of images or valid steps of sequences, of many examples.

    Each block of examples has a sum, and the mean is made of the sums of all blocks.
    """

    examples: Examples
    numerics: Numerics

    def _blocks(self) -> Iterator[FloatArray]:
        return (columns_of_steps(block.X, block.lengths) for block in self.examples.blocks())

    def ends(self) -> tuple[FloatArray, FloatArray]:
        return _ends_over(self._blocks())

    def mean_of(self, function: Callable[[FloatArray], FloatArray]) -> FloatArray:
        total_of, sums, total = self.numerics.sum, [], 0
        for X in self._blocks():
            sums.append(total_of(function(X).T, axis=0))
            total += X.shape[1]
        mean: FloatArray = total_of(np.concatenate(sums), axis=0).T / total
        return mean


def _ends_of(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    return X.min(axis=1, keepdims=True), X.max(axis=1, keepdims=True)


def _ends_over(blocks: Iterable[FloatArray]) -> tuple[FloatArray, FloatArray]:
    least, most = zip(*map(_ends_of, blocks), strict=True)
    return _ends_of(np.hstack(least))[0], _ends_of(np.hstack(most))[1]


def _fitted(
    columns: _Columns, dtype: np.dtype[np.floating[Any]], names: Sequence[str] = ()
) -> Standardization:
    """The standardization of columns of a `dtype`, whose mean is computed in float64."""
    least, most = columns.ends()
    # Scaling by powers of 2 changes no bit of the result, and the squares of huge or tiny numbers
    # stay in range.
    powers = np.frexp(np.maximum(-least, most).astype(np.float64))[1]

    def scaled(X: FloatArray) -> FloatArray:
        return np.ldexp(X.astype(np.float64), -powers)

    mean = columns.mean_of(scaled)

    def squares(X: FloatArray) -> FloatArray:
        centred = scaled(X) - mean
        return centred * centred

    deviation = np.sqrt(columns.mean_of(squares))
    # Decided by min and max, because the deviation of a constant may be a rounding error.
    constant = least == most
    narrow = deviation <= _LEAST_SPREAD * np.abs(mean)
    mean, deviation = np.ldexp(mean, powers), np.ldexp(deviation, powers)
    with np.errstate(over="ignore"):
        wide = np.isinf(most - least)
    narrow |= deviation < np.finfo(dtype).tiny
    if (wrong := (wide | narrow) & ~constant).any():
        feature = int(np.argmax(wrong))
        ends = " to ".join(f"{float(end[feature, 0])!r}" for end in (least, most))
        size = "large" if wide[feature, 0] else "small"
        name = names[feature] if names else f"feature {feature}"
        raise BadInput(
            f"{name} goes from {ends}, a spread too {size} to be standardized: "
            "scale or shift the feature first, or leave it out."
        )
    return Standardization(mean, np.where(constant, 1.0, deviation))


def expect_common_precision(name: str, array: FloatArray) -> None:
    """Refuse floats of more than 64 bits, whose format depends on the machine."""
    if array.dtype.itemsize > 8 and array.dtype.kind == "f":
        raise BadInput(
            f"{name} is {array.dtype}, which differs from machine to machine, expected float64 or "
            f"float32: convert it with {name}.astype(np.float64)."
        )


@ignoring_underflow
def standardization_of_0_1_0(X: ArrayLike, *, numerics: Numerics = fast) -> Standardization:
    """Fit a standardization as pydnn 0.1.0 did, so that its runs can be replayed.

    That version treated a feature as constant if its deviation was below 1e-13 of its mean, and
    refused nothing; the squares of features above 1e154 or below 1e-162 left the range of floats.
    """
    X = readonly(X)
    expect_shape("X", X, ("n_x", "m"), hint="put examples in columns")
    expect_finite("X", X)
    X, m = X.astype(np.float64), X.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = numerics.sum(X.T, axis=0).T / m
        centred = X - mean
        deviation = np.sqrt(numerics.sum((centred * centred).T, axis=0).T / m)
    constant = deviation <= _LEAST_SPREAD * np.abs(mean)
    return Standardization(mean, np.where(constant, 1.0, deviation))
