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
from numpy.typing import NDArray

from pydnn.checks import BadInput, expect_count, expect_real
from pydnn.descriptions.builders import described
from pydnn.descriptions.parts import DescribedPart
from pydnn.keys import Key
from pydnn.records import Batch, FloatArray, freeze, maker_of

__all__ = [
    "Batching",
    "batches_of",
    "examples_together",
    "full_batch",
    "mini_batches",
    "split",
]


@attrs.frozen(eq=False, repr=False)
class Batching(DescribedPart):
    """A way to cut data into batches.

    Attributes:
        at: `(data, key, k) -> batch` of iteration k.
        per_epoch: `(m) -> count` of batches in which all m examples are seen once.
    """

    at: Callable[[Batch, Key, int], Batch]
    per_epoch: Callable[[int], int]


@attrs.frozen
class WholeData:
    """The `at` of batches that are all of the data."""

    def __call__(self, data: Batch, key: Key, k: int) -> Batch:
        """The batch of iteration k, which is `data`."""
        return data


@described("batches")
def full_batch() -> Batching:
    """All examples in every batch."""
    return Batching(WholeData(), lambda m: 1)


@attrs.frozen
class EpochBatches:
    """The `at` of batches that are cut, one after the other, from an order of all examples.

    Attributes:
        size: Examples in a batch.
        shuffle: Whether every epoch has an order of its own.
        keep_last: Whether an epoch ends in a shorter batch where `size` does not divide the
            number of examples.
    """

    size: int
    shuffle: bool
    keep_last: bool

    def __call__(self, data: Batch, key: Key, k: int) -> Batch:
        """The batch of iteration k."""
        m = data.X.shape[1]
        epoch, place = divmod(k, self.per_epoch(m))
        which = slice(place * self.size, (place + 1) * self.size)
        return _columns(data, self.order(key, epoch, m)[which] if self.shuffle else which)

    def per_epoch(self, m: int) -> int:
        """How many batches an epoch of m examples has."""
        if self.size > m:
            raise BadInput(
                f"batches of {self.size} are larger than the data, {m} examples: "
                f"give a size of at most {m}."
            )
        return -(-m // self.size) if self.keep_last else m // self.size

    def order(self, key: Key, epoch: int, m: int) -> NDArray[np.int64]:
        """The order (m,) of all m examples in an epoch."""
        return _order(key.at("shuffle", epoch), m) if self.shuffle else np.arange(m)


@described("batches")
def mini_batches(size: int, *, shuffle: bool = True, keep_last: bool = True) -> Batching:
    """`size` examples in every batch, in another order in every epoch.

    Args:
        size: Examples in a batch.
        shuffle: Whether the order of each epoch is drawn anew, below the training's key.
        keep_last: Whether an epoch ends in a shorter batch where `size` does not divide the
            number of examples, or leaves out what remains.
    """
    size = expect_count("size", size, hint="give the examples of a batch")
    cut = EpochBatches(size, shuffle, keep_last)
    return Batching(cut, cut.per_epoch)


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


def examples_together(data: Batch) -> Batch:
    """The same batch with the numbers of each example in one stretch of memory.

    Examples are then gathered fast, and equal batches become equal bits: sums and products have
    other bits where numbers lie in another order.
    """
    X, Y = (np.asfortranarray(array) for array in (data.X, data.Y))
    weights = None if data.weights is None else np.asfortranarray(data.weights)
    return attrs.evolve(data, X=X, Y=Y, weights=weights)


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
    # Whatever more a batch says of its rows, both parts say too.
    parts = (_columns(data, np.flatnonzero(which)) for which in (~chosen, chosen))
    train, held_back = (attrs.evolve(data, X=p.X, Y=p.Y, weights=p.weights) for p in parts)
    return train, held_back


def _classes(Y: FloatArray) -> list[NDArray[np.int64]]:
    _, numbers = np.unique(Y, axis=1, return_inverse=True)
    return [np.flatnonzero(numbers.ravel() == i) for i in range(int(numbers.max()) + 1)]
