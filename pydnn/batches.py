"""Batches: the examples of each training step, and the split of data into parts.

The batch of iteration k depends on (key, k) alone, so any step of a training can be repeated
without the steps before it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator

import attrs
import numpy as np
from numpy.typing import DTypeLike, NDArray

from pydnn.checks import BadInput, expect_count, expect_real
from pydnn.descriptions.builders import described
from pydnn.descriptions.parts import DescribedPart
from pydnn.keys import Key
from pydnn.records import Batch, FloatArray, examples_first, examples_last, freeze

__all__ = [
    "Batching",
    "batches_of",
    "examples_first",
    "examples_last",
    "examples_together",
    "full_batch",
    "mini_batches",
    "split",
    "split_fold",
    "together",
]


@attrs.frozen(eq=False, repr=False)
class Batching(DescribedPart):
    """A way to cut data into batches.

    Attributes:
        at: `(data, key, k) -> batch`, the batch of iteration k.
        per_epoch: `(m) -> count`, the number of batches in an epoch of m examples.

    Example:
        >>> full_batch().per_epoch(209), mini_batches(32).per_epoch(209)
        (1, 7)
    """

    at: Callable[[Batch, Key, int], Batch]
    per_epoch: Callable[[int], int]


@attrs.frozen
class WholeData:
    """The `at` of `full_batch`: every batch is all of the data."""

    def __call__(self, data: Batch, key: Key, k: int) -> Batch:
        """The batch of iteration k, which is `data`."""
        return data


@described("batches")
def full_batch() -> Batching:
    """All examples in every batch.

    Example:
        >>> full_batch().per_epoch(209)
        1
    """
    return Batching(WholeData(), lambda m: 1)


@attrs.frozen
class EpochBatches:
    """The `at` of `mini_batches`: consecutive batches from an order of all examples.

    Attributes:
        size: The number of examples in a batch.
        shuffle: Whether each epoch has its own random order.
        keep_last: Whether an epoch ends with a shorter batch if `size` does not divide the number
            of examples.
    """

    size: int
    shuffle: bool
    keep_last: bool

    def __call__(self, data: Batch, key: Key, k: int) -> Batch:
        """The batch of iteration k."""
        m = data.X.shape[-1]
        # From k alone, not from a position that is carried along: any step can be repeated.
        epoch, place = divmod(k, self.per_epoch(m))
        which = slice(place * self.size, (place + 1) * self.size)
        return data.take(self.order(key, epoch, m)[which] if self.shuffle else which)

    def per_epoch(self, m: int) -> int:
        """The number of batches in an epoch of m examples."""
        if self.size > m:
            raise BadInput(
                f"batches of {self.size} are larger than the data, {m} examples: "
                f"give a size of at most {m}."
            )
        return -(-m // self.size) if self.keep_last else m // self.size

    def order(self, key: Key, epoch: int, m: int) -> NDArray[np.int64]:
        """The order (m,) of all m examples in an epoch."""
        return _order(key, epoch, m) if self.shuffle else np.arange(m)


@described("batches")
def mini_batches(size: int, *, shuffle: bool = True, keep_last: bool = True) -> Batching:
    """Batches of `size` examples, in another random order in every epoch.

    Args:
        size: The number of examples in a batch.
        shuffle: Whether each epoch has its own random order, drawn from the training's key.
        keep_last: Whether an epoch ends with a shorter batch if `size` does not divide the number
            of examples. If not, the remaining examples of the epoch are left out.

    Raises:
        BadInput: If `size` is not an integer of at least 1.

    Example:
        >>> batching = mini_batches(2, shuffle=False)
        >>> data = nn.Batch([[0, 1, 2, 3, 4]], [[0, 0, 1, 1, 1]])
        >>> [batching.at(data, nn.Key(1), k).X.tolist() for k in range(3)]
        [[[0.0, 1.0]], [[2.0, 3.0]], [[4.0]]]
    """
    size = expect_count("size", size, hint="give the number of examples in a batch")
    cut = EpochBatches(size, shuffle, keep_last)
    return Batching(cut, cut.per_epoch)


def batches_of(batching: Batching, data: Batch, key: Key, *, start: int = 0) -> Iterator[Batch]:
    """The endless stream of the batches of iterations `start`, `start` + 1, and so on.

    Args:
        batching: The way to cut the data, e.g. mini_batches(32).
        data: All examples.
        key: The training's key, e.g. state.key.
        start: The first iteration, e.g. state.iteration.

    Raises:
        BadInput: If batches are larger than the data.

    Example:
        >>> data = nn.Batch([[0, 1, 2, 3]], [[0, 0, 1, 1]])
        >>> stream = batches_of(mini_batches(2), data, nn.Key(1))
        >>> np.sort(np.hstack([next(stream).X, next(stream).X]))  # an epoch has every example once
        array([[0., 1., 2., 3.]])
    """
    batching.per_epoch(data.X.shape[-1])  # refuses a wrong size here instead of at the first step
    return (batching.at(data, key, k) for k in itertools.count(start))


@functools.lru_cache(maxsize=8)  # all batches of an epoch share its order
def _order(key: Key, epoch: int, m: int) -> NDArray[np.int64]:
    return freeze(key.at("shuffle", epoch).permutation(m))


def examples_together(data: Batch) -> Batch:
    """The same batch with each example contiguous in memory, in C order.

    Then examples can be gathered fast, and equal batches give equal bits: the memory order
    changes the order of sums and products, and so their last bits.

    Example:
        >>> batch = nn.Batch(np.zeros((8, 6, 3, 50)), np.zeros((1, 50)))
        >>> examples_first(examples_together(batch).X).flags.c_contiguous
        True
    """
    X, Y = together(data.X), together(data.Y)
    weights = None if data.weights is None else together(data.weights)
    return attrs.evolve(data, X=X, Y=Y, weights=weights)


def together(array: FloatArray, dtype: DTypeLike | None = None) -> FloatArray:
    """The array with each example contiguous in memory; itself if nothing has to change.

    Args:
        array: The array, whose last axis is the examples.
        dtype: The dtype of the result; by default that of the array.

    Example:
        >>> together(np.zeros((2, 3))).flags.f_contiguous
        True
    """
    return examples_last(np.ascontiguousarray(examples_first(array), dtype))


def split(
    data: Batch, key: Key, *, share: float = 0.2, stratified: bool = True
) -> tuple[Batch, Batch]:
    """Split examples at random into a training part and a validation part.

    Args:
        data: All examples.
        key: The key of the random choice.
        share: The share of the validation part, above 0 and below 1.
        stratified: Whether to split each class, that is each distinct label in Y, in this share,
            rounded. Both parts get at least one example of each class, so with many small
            classes the validation part is larger than `share`.

    Returns:
        The training part and the validation part, each in the order of `data`.

    Raises:
        BadInput: If `share` is out of range, or a class or the data has fewer than two examples.

    Example:
        >>> data = nn.Batch([[0, 1, 2, 3]], [[0, 0, 1, 1]])
        >>> train, validation = split(data, nn.Key(1), share=0.5)
        >>> train.Y, validation.Y
        (array([[0., 1.]]), array([[0., 1.]]))
    """
    hint = "give the share of the validation part, e.g. 0.2"
    share = expect_real("share", share, positive=True, below=1, hint=hint)
    m = data.X.shape[-1]
    if m < 2:
        raise BadInput(f"there are {m} examples, expected two or more to split: give more data.")
    groups = _classes(data.Y) if stratified else [np.arange(m)]
    chosen = np.zeros(m, bool)
    for i, members in enumerate(groups):
        if len(members) < 2:
            raise BadInput(
                f"label {_label(data.Y[..., members[0]])} has 1 example, expected two or more to "
                "split: give more examples of it, leave it out, or set stratified to False."
            )
        order = key.at("split", i).permutation(len(members))
        count = min(max(1, round(share * len(members))), len(members) - 1)
        chosen[members[order[:count]]] = True
    return _parted(data, chosen)


def split_fold(
    data: Batch, key: Key, *, which: int, folds: int, stratified: bool = True
) -> tuple[Batch, Batch]:
    """Split examples into a training part and one fold, for cross-validation.

    The examples are put into a random order and dealt to the folds one by one, so the sizes of the
    folds differ by at most one. Every example is in exactly one of the `folds` folds of a key.

    Args:
        data: All examples.
        key: The key of the random order.
        which: The number of the fold, from 1 to `folds`.
        folds: The number of folds, at least 2.
        stratified: Whether the examples of each class, that is each distinct label in Y, are dealt
            one after the other. Then their numbers in two folds differ by at most one, too.

    Returns:
        All examples outside of the fold and those in it, each in the order of `data`.

    Raises:
        BadInput: If there are fewer than two folds, or more than examples of a class or in the
            data.

    Example:
        >>> data = nn.Batch([[0, 1, 2, 3, 4, 5]], [[0, 0, 0, 1, 1, 1]])
        >>> held_back = [split_fold(data, nn.Key(1), which=n, folds=3)[1] for n in (1, 2, 3)]
        >>> [part.Y.tolist() for part in held_back]
        [[[0.0, 1.0]], [[0.0, 1.0]], [[0.0, 1.0]]]
    """
    folds = expect_count("folds", folds, least=2, hint="give the number of folds")
    which = expect_count("which", which, most=folds, hint="give the number of a fold, from 1")
    m = data.X.shape[-1]
    if m < folds:
        raise BadInput(
            f"there are {m} examples for {folds} folds, expected as many or more: use fewer folds."
        )
    groups = _classes(data.Y) if stratified else [np.arange(m)]
    for members in groups:
        if len(members) < folds:
            raise BadInput(
                f"label {_label(data.Y[..., members[0]])} has {len(members)} examples, expected "
                f"{folds} or more, one for each fold: use fewer folds, or give more examples of it."
            )
    orders = [key.at("fold", i).permutation(len(members)) for i, members in enumerate(groups)]
    dealt = np.concatenate([group[order] for group, order in zip(groups, orders, strict=True)])
    chosen = np.zeros(m, bool)
    chosen[dealt[which - 1 :: folds]] = True
    return _parted(data, chosen)


def _parted(data: Batch, chosen: NDArray[np.bool_]) -> tuple[Batch, Batch]:
    """The examples that are not chosen, and those that are."""
    train, held_back = (data.take(np.flatnonzero(which)) for which in (~chosen, chosen))
    return train, held_back


_SHOWN = 8  # numbers of a label that a message shows


def _label(numbers: FloatArray) -> str:
    first = ", ".join(f"{y:g}" for y in numbers.ravel()[:_SHOWN])
    return first if numbers.size <= _SHOWN else f"{first}, …"


def _classes(Y: FloatArray) -> list[NDArray[np.int64]]:
    _, numbers = np.unique(Y.reshape(-1, Y.shape[-1]), axis=1, return_inverse=True)
    return [np.flatnonzero(numbers.ravel() == i) for i in range(int(numbers.max()) + 1)]
