"""Batches: which examples a training step sees, and how data is prepared for it.

Which batch is that of iteration k depends on (key, k) alone, so that any step of any training
can be taken again without its predecessors.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pydnn.builders import Description, described
from pydnn.checks import BadInput, expect_count, expect_finite, expect_real, expect_shape
from pydnn.keys import Key
from pydnn.numerics import Numerics, fast
from pydnn.numerics.underflow import ignoring_underflow
from pydnn.records import Batch, FloatArray, arrays, freeze, maker_of, readonly

__all__ = [
    "Batching",
    "Standardization",
    "batches_of",
    "expect_data",
    "fit_standardization",
    "full_batch",
    "mini_batches",
    "split",
]


@attrs.frozen(eq=False)
class Batching:
    """A way to cut data into batches.

    Attributes:
        at: `(data, key, k) -> batch` of iteration k.
        per_epoch: `(m) -> count` of batches in which all m examples are seen once.
        size: Examples of a batch, where batches are cut from an order of them.
        order: `(key, epoch, m) -> order` of all m examples in that epoch, (m,), where they are.
        description: How to `build` it again; filled in by `@described`.
    """

    at: Callable[[Batch, Key, int], Batch] = attrs.field(repr=False)
    per_epoch: Callable[[int], int] = attrs.field(repr=False)
    size: int | None = attrs.field(default=None, kw_only=True, repr=False)
    order: Callable[[Key, int, int], NDArray[np.int64]] | None = attrs.field(
        default=None, kw_only=True, repr=False
    )
    description: Description | None = None


@described("batches")
def full_batch() -> Batching:
    """All examples in every batch."""
    return Batching(lambda data, key, k: data, lambda m: 1)


@described("batches")
def mini_batches(size: int, *, shuffle: bool = True, keep_last: bool = True) -> Batching:
    """`size` examples in every batch, in another order in every epoch.

    Args:
        size: Examples in a batch.
        shuffle: Whether the order of each epoch is drawn anew, below the training's key.
        keep_last: Whether an epoch ends in a shorter batch where `size` does not divide the
            number of examples, or leaves so many examples out.
    """
    size = expect_count("size", size, hint="give the examples of a batch")

    def per_epoch(m: int) -> int:
        if size > m:
            raise BadInput(
                f"batches of {size} are larger than the data, {m} examples: "
                f"give a size of at most {m}."
            )
        return -(-m // size) if keep_last else m // size

    def at(data: Batch, key: Key, k: int) -> Batch:
        m = data.X.shape[1]
        epoch, place = divmod(k, per_epoch(m))
        first = place * size
        if not shuffle:
            return _columns(data, slice(first, first + size))
        return _columns(data, order(key, epoch, m)[first : first + size])

    def order(key: Key, epoch: int, m: int) -> NDArray[np.int64]:
        return _order(key.at("shuffle", epoch), m) if shuffle else np.arange(m)

    return Batching(at, per_epoch, size=size, order=order)


def batches_of(batching: Batching, data: Batch, key: Key, *, start: int = 0) -> Iterator[Batch]:
    """The batches of iterations `start`, `start` + 1 and so on, without end.

    Args:
        batching: E.g. mini_batches(32).
        data: All examples.
        key: That of the training, e.g. state.key.
        start: The first iteration, e.g. state.iteration.
    """
    batching.per_epoch(data.X.shape[1])  # so that a wrong size is refused here, not at a step
    return (batching.at(data, key, k) for k in itertools.count(start))


@functools.lru_cache(maxsize=8)  # an epoch's order is that of its key, however often it is asked
def _order(key: Key, m: int) -> NDArray[np.int64]:
    return freeze(key.permutation(m))


def _columns(data: Batch, which: slice | NDArray[np.int64]) -> Batch:
    X, Y, weights = (_taken(array, which) for array in (data.X, data.Y, data.weights))
    batch: Batch = _batch(X, Y, weights)
    return batch


_batch = maker_of(Batch)  # columns of a batch are one again


def _taken(array: FloatArray | None, which: slice | NDArray[np.int64]) -> FloatArray | None:
    if array is None or isinstance(which, slice):
        return array[:, which] if array is not None else None
    # Where examples lie one after the other in memory, each is copied in one go.
    if array.flags.f_contiguous:
        return freeze(array.T[which]).T
    return freeze(array[:, which])


def split(
    data: Batch, key: Key, *, share: float = 0.2, stratified: bool = True
) -> tuple[Batch, Batch]:
    """Split examples by chance into a training part and a validation part.

    Args:
        data: All examples.
        key: Where the choice is addressed.
        share: Of the examples in the validation part, between 0 and 1.
        stratified: Whether each class, which is each different column of Y, is split in that
            share, rounded. At least one example of each comes into either part, so the
            validation part of many small classes is larger than `share` of all examples.

    Returns:
        The training part and the validation part, each in the order of `data`.

    Raises:
        BadInput: If a class has fewer than two examples, or there are fewer than two.
    """
    hint = "give the share of the validation part, e.g. 0.2"
    share = expect_real("share", share, positive=True, below=1, hint=hint)
    m = data.X.shape[1]
    if m < 2:
        raise BadInput(f"there are {m} examples, expected two or more to split: give more data.")
    groups = _classes(data.Y) if stratified else [np.arange(m)]
    chosen = np.zeros(m, bool)
    for i, members in enumerate(groups):
        if len(members) < 2:
            label = ", ".join(f"{y:g}" for y in data.Y[:, members[0]])
            raise BadInput(
                f"label {label} has 1 example, expected two or more to split: "
                "give more examples of it, or leave it out."
            )
        order = key.at("split", i).permutation(len(members))
        count = min(max(1, round(share * len(members))), len(members) - 1)
        chosen[members[order[:count]]] = True
    return _columns(data, np.flatnonzero(~chosen)), _columns(data, np.flatnonzero(chosen))


def _classes(Y: FloatArray) -> list[NDArray[np.int64]]:
    _, numbers = np.unique(Y, axis=1, return_inverse=True)
    return [np.flatnonzero(numbers.ravel() == i) for i in range(int(numbers.max()) + 1)]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Standardization:
    """Makes features of mean 0 and deviation 1 over the examples that it was fitted on.

    Attributes:
        mean: Of each feature, (n_x, 1).
        deviation: Of each feature, (n_x, 1); 1 where a feature is constant.
    """

    mean: FloatArray
    deviation: FloatArray

    @ignoring_underflow
    def __call__(self, X: ArrayLike) -> FloatArray:
        """Standardised X (n_x, m), in its own dtype.

        Raises:
            BadInput: If X has other features, or the result of an entry is not finite.
        """
        X = readonly(X)
        expect_shape("X", X, (len(self.mean), "m"), hint="give the features that were fitted")
        with np.errstate(over="ignore", invalid="ignore"):
            standardized = (X - self.mean.astype(X.dtype)) / self.deviation.astype(X.dtype)
        if not np.isfinite(standardized).all():
            expect_finite("X", X)
            feature, example = (int(i) for i in np.argwhere(~np.isfinite(standardized))[0])
            raise BadInput(
                f"feature {feature} of example {example} is {X[feature, example]:g}, too far from "
                f"the mean {self.mean[feature, 0]:g} to be standardized by the deviation "
                f"{self.deviation[feature, 0]:g}: correct it or leave the example out."
            )
        return freeze(standardized)


# A spread below this share of the mean is a few roundings wide, so its deviation means little.
_LEAST_SPREAD = 1e-13


@ignoring_underflow
def fit_standardization(X: ArrayLike, *, numerics: Numerics = fast) -> Standardization:
    """The standardisation of the features of X (n_x, m): fit it on the training part alone.

    Raises:
        BadInput: If an entry of X is not finite; or if a feature is not constant, but its spread
            is too large or too small to divide by in the dtype of X, or below 1e-13 of its mean.
    """
    X = readonly(X)
    expect_shape("X", X, ("n_x", "m"), hint="put examples in columns")
    _expect_common_precision("X", X)
    if X.size == 0:
        raise BadInput(f"X has shape {X.shape}, expected examples with features: give some data.")
    expect_finite("X", X)
    least, most = X.min(axis=1, keepdims=True), X.max(axis=1, keepdims=True)
    # Powers of 2 change no bit of the result, and keep squares of huge and tiny numbers in range.
    powers = np.frexp(np.maximum(-least, most).astype(np.float64))[1]
    scaled = np.ldexp(X.astype(np.float64), -powers)
    m = X.shape[1]
    # Turned, since sums along the other axis may take BLAS.
    mean = numerics.sum(scaled.T, axis=0).T / m
    centred = scaled - mean
    deviation = np.sqrt(numerics.sum((centred * centred).T, axis=0).T / m)
    # Compared by its ends, since the deviation of a constant may be a rounding error.
    constant = least == most
    narrow = deviation <= _LEAST_SPREAD * np.abs(mean)
    mean, deviation = np.ldexp(mean, powers), np.ldexp(deviation, powers)
    with np.errstate(over="ignore"):
        wide = np.isinf(most - least)
    narrow |= deviation < np.finfo(X.dtype).tiny
    if (wrong := (wide | narrow) & ~constant).any():
        feature = int(np.argmax(wrong))
        ends = " to ".join(f"{float(end[feature, 0])!r}" for end in (least, most))
        size = "large" if wide[feature, 0] else "small"
        raise BadInput(
            f"feature {feature} goes from {ends}, a spread too {size} to be standardized: "
            "scale or shift the feature first, or leave it out."
        )
    return Standardization(mean, np.where(constant, 1.0, deviation))


def _expect_common_precision(name: str, array: FloatArray) -> None:
    """Refuse numbers of more than 64 bits: they have other bits on other kinds of machines."""
    if array.dtype.itemsize > 8 and array.dtype.kind == "f":
        raise BadInput(
            f"{name} is {array.dtype}, which differs from machine to machine, expected float64 or "
            f"float32: convert it with {name}.astype(np.float64)."
        )


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
            _expect_common_precision(name, array)
    expect_finite("X", X)
    expect_finite("Y", Y)
    if data.weights is not None:
        expect_shape("weights", data.weights, (1, m), hint="give one weight per example")
