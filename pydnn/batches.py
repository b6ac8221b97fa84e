"""Batches: the examples of each training step, and the split of data into parts.

The batch of iteration k depends on (key, k) alone, so any step of a training can be repeated
without the steps before it.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any, overload

import attrs
import numpy as np
from numpy.typing import DTypeLike, NDArray

from pydnn.checks import BadInput, expect_count, expect_real
from pydnn.descriptions.builders import described
from pydnn.descriptions.parts import DescribedPart
from pydnn.keys import Key
from pydnn.records import (
    AnyDType,
    Batch,
    Examples,
    FloatArray,
    IntArray,
    examples_first,
    examples_last,
    freeze,
)

__all__ = [
    "Batching",
    "batches_of",
    "distinct_labels",
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
        at: `(data, key, k) -> batch`, the batch of iteration k; `data` is a `Batch`, or a
            `data.Stored`, of which only the batch comes into memory.
        per_epoch: `(m) -> count`, the number of batches in an epoch of m examples.

    Example:
        >>> full_batch().per_epoch(209), mini_batches(32).per_epoch(209)
        (1, 7)
    """

    at: Callable[[Examples, Key, int], Batch]
    per_epoch: Callable[[int], int]


@attrs.frozen
class WholeData:
    """The `at` of `full_batch`: every batch is all of the data."""

    def __call__(self, data: Examples, key: Key, k: int) -> Batch:
        """The batch of iteration k, which is `data`."""
        return data.in_memory()


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
        window: The number of neighboring examples in an epoch that come from few places of the
            data; None if each may come from anywhere.
    """

    size: int
    shuffle: bool
    keep_last: bool
    window: int | None = None

    def __call__(self, data: Examples, key: Key, k: int) -> Batch:
        """The batch of iteration k."""
        m = data.count
        # From k alone, not from a position that is carried along: any step can be repeated.
        epoch, place = divmod(k, self.per_epoch(m))
        which = slice(place * self.size, (place + 1) * self.size)
        return data.take(self.examples(key, epoch, m, which) if self.shuffle else which)

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
        return self.examples(key, epoch, m, slice(m)) if self.shuffle else np.arange(m)

    def examples(self, key: Key, epoch: int, m: int, places: slice) -> NDArray[np.int64]:
        """The numbers of the examples at some places in the random order of an epoch."""
        if self.window is not None:
            start, stop, _ = places.indices(m)
            return _in_windows(key, epoch, m, self.window, start, stop)
        if m <= _MOST_ORDERED:
            return _orders(key, epoch, m)[places]
        return key.at("shuffle", epoch).permuted(m, np.arange(*places.indices(m)))


@described("batches")
def mini_batches(
    size: int, *, shuffle: bool = True, keep_last: bool = True, window: int | None = None
) -> Batching:
    """Batches of `size` examples, in another random order in every epoch.

    Args:
        size: The number of examples in a batch.
        shuffle: Whether each epoch has its own random order, drawn from the training's key.
        keep_last: Whether an epoch ends with a shorter batch if `size` does not divide the number
            of examples. If not, the remaining examples of the epoch are left out.
        window: For data in files that are slow to read at random places, such as compressed ones.
            In each epoch, blocks of `window` / 16 neighboring examples come in a random order, and
            then the examples within each `window` of them. None mixes all examples.

    Raises:
        BadInput: If `size` or `window` is not an integer of at least 1, or there is a window
            without shuffling.

    Example:
        >>> batching = mini_batches(2, shuffle=False)
        >>> data = nn.Batch([[0, 1, 2, 3, 4]], [[0, 0, 1, 1, 1]])
        >>> [batching.at(data, nn.Key(1), k).X.tolist() for k in range(3)]
        [[[0.0, 1.0]], [[2.0, 3.0]], [[4.0]]]
    """
    size = expect_count("size", size, hint="give the number of examples in a batch")
    if window is not None:
        window = expect_count("window", window, hint="give a number of examples, e.g. 65536")
        if not shuffle:
            raise BadInput(
                f"window is {window}, but shuffle is False, so nothing is mixed: leave window out."
            )
    cut = EpochBatches(size, shuffle, keep_last, window)
    return Batching(cut, cut.per_epoch)


def batches_of(batching: Batching, data: Examples, key: Key, *, start: int = 0) -> Iterator[Batch]:
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
    batching.per_epoch(data.count)  # refuses a wrong size here instead of at the first step
    return (batching.at(data, key, k) for k in itertools.count(start))


_MOST_ORDERED = 1 << 27  # examples whose order is in memory, in 512 MB
_MOST_KEPT = 1 << 20  # examples of an order that is kept together with others


class _Orders:
    """The random orders of the latest epochs, which all batches of an epoch share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a batch may be made on another thread than the step
        self._of: dict[tuple[Key, int, int], NDArray[np.int64]] = {}

    def __call__(self, key: Key, epoch: int, m: int) -> NDArray[np.int64]:
        name = (key, epoch, m)
        known = self._of.get(name)
        if known is not None:  # the usual case, which takes no lock
            return known
        with self._lock:
            if name not in self._of:
                self._drop(1 if m > _MOST_KEPT else 8)
                order = key.at("shuffle", epoch).permutation(m, dtype=_numbers_dtype(m))
                self._of[name] = freeze(order)
            return self._of[name]

    def _drop(self, most: int) -> None:
        """Make room for one more order among `most`; large ones are never kept with others."""
        for name in list(self._of):
            if len(self._of) >= most or name[-1] > _MOST_KEPT:
                del self._of[name]


_orders = _Orders()
_BLOCKS_IN_A_WINDOW = 16


def _in_windows(
    key: Key, epoch: int, m: int, window: int, start: int, stop: int
) -> NDArray[np.int64]:
    """The examples at places `start` to below `stop` of an epoch's order that mixes windows."""
    numbers = range(start // window, -(-stop // window))
    parts = [
        _window(key, epoch, m, window, number)[
            max(0, start - number * window) : stop - number * window
        ]
        for number in numbers
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


@functools.lru_cache(maxsize=2)  # a batch may need the end of one and the start of the next
def _window(key: Key, epoch: int, m: int, window: int, number: int) -> NDArray[np.int64]:
    """The examples of one window of an epoch, in its random order."""
    ends, blocks = _block_order(key, epoch, m, window)
    size = -(-window // _BLOCKS_IN_A_WINDOW)
    start, stop = number * window, min(m, (number + 1) * window)
    first, last = np.searchsorted(ends, [start, stop - 1], side="right")
    examples = np.concatenate(
        [np.arange(block * size, min(m, (block + 1) * size)) for block in blocks[first : last + 1]]
    )
    before = start - (ends[first - 1] if first else 0)
    inside = examples[before : before + stop - start]
    order = key.at("shuffle", epoch, "window", number).permutation(stop - start)
    return freeze(inside[order])


@functools.lru_cache(maxsize=2)
def _block_order(
    key: Key, epoch: int, m: int, window: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The random order of the blocks, and the number of examples up to the end of each."""
    size = -(-window // _BLOCKS_IN_A_WINDOW)
    count = -(-m // size)
    blocks = key.at("shuffle", epoch).permutation(count)
    sizes = np.where(blocks == count - 1, m - (count - 1) * size, size)  # the last may be short
    return freeze(np.cumsum(sizes)), freeze(blocks)


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


@overload
def split(
    data: Batch, key: Key, *, share: float = 0.2, stratified: bool = True
) -> tuple[Batch, Batch]: ...


@overload
def split(
    data: Examples, key: Key, *, share: float = 0.2, stratified: bool = True
) -> tuple[Examples, Examples]: ...


def split(
    data: Examples, key: Key, *, share: float = 0.2, stratified: bool = True
) -> tuple[Examples, Examples]:
    """Split examples at random into a training part and a validation part.

    Args:
        data: All examples; if they are in files, so are both parts.
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
    m = data.count
    if m < 2:
        raise BadInput(f"there are {m} examples, expected two or more to split: give more data.")
    chosen = np.zeros(m, bool)
    for i, members in enumerate(_groups(data, stratified)):
        if len(members) < 2:
            raise BadInput(
                f"label {_label(data, members)} has 1 example, expected two or more to "
                "split: give more examples of it, leave it out, or set stratified to False."
            )
        order = key.at("split", i).permutation(len(members), dtype=members.dtype)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        chosen[members[order[:count]]] = True
    return _parted(data, chosen)


@overload
def split_fold(
    data: Batch, key: Key, *, which: int, folds: int, stratified: bool = True
) -> tuple[Batch, Batch]: ...


@overload
def split_fold(
    data: Examples, key: Key, *, which: int, folds: int, stratified: bool = True
) -> tuple[Examples, Examples]: ...


def split_fold(
    data: Examples, key: Key, *, which: int, folds: int, stratified: bool = True
) -> tuple[Examples, Examples]:
    """Split examples into a training part and one fold, for cross-validation.

    The examples are put into a random order and dealt to the folds one by one, so the sizes of the
    folds differ by at most one. Every example is in exactly one of the `folds` folds of a key.

    Args:
        data: All examples; if they are in files, so are both parts.
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
    m = data.count
    if m < folds:
        raise BadInput(
            f"there are {m} examples for {folds} folds, expected as many or more: use fewer folds."
        )
    chosen, dealt = np.zeros(m, bool), 0  # dealt to all folds, one by one
    for i, members in enumerate(_groups(data, stratified)):
        if len(members) < folds:
            raise BadInput(
                f"label {_label(data, members)} has {len(members)} examples, expected "
                f"{folds} or more, one for each fold: use fewer folds, or give more examples of it."
            )
        order = key.at("fold", i).permutation(len(members), dtype=members.dtype)
        chosen[members[order[(which - 1 - dealt) % folds :: folds]]] = True
        dealt += len(members)
    return _parted(data, chosen)


def _parted(data: Examples, chosen: NDArray[np.bool_]) -> tuple[Examples, Examples]:
    """The examples that are not chosen, and those that are."""
    return data.only(_places(~chosen)), data.only(_places(chosen))


_SHOWN = 8  # numbers of a label that a message shows


def _label(data: Examples, members: IntArray) -> str:
    numbers = data.take(members[:1]).Y
    first = ", ".join(f"{y:g}" for y in numbers.ravel()[:_SHOWN])
    return first if numbers.size <= _SHOWN else f"{first}, …"


def _groups(data: Examples, stratified: bool) -> Iterator[IntArray]:
    """The numbers of the examples of each class, or of all examples."""
    if not stratified:
        yield np.arange(data.count, dtype=_numbers_dtype(data.count))
        return
    classes = _classes(data)
    for i in range(int(classes.max()) + 1):
        yield _places(classes == i)


def _classes(data: Examples) -> NDArray[Any]:
    """The class of each example (m,): the place of its label among the sorted distinct ones."""
    blocks = (_flat(Y) for Y in data.label_blocks())
    distinct = next(blocks)
    if data.count == distinct.shape[1]:
        numbers: NDArray[Any] = np.unique(distinct, axis=1, return_inverse=True)[1]
        return numbers.ravel()
    distinct = functools.reduce(distinct_labels, blocks, distinct_labels(distinct))
    count, start = distinct.shape[1], 0
    classes: NDArray[Any] = np.empty(data.count, np.min_scalar_type(count))
    for Y in map(_flat, data.label_blocks()):
        if len(Y) == 1:
            numbers = np.searchsorted(distinct[0], Y[0])
        else:
            _, inverse = np.unique(np.hstack([distinct, Y]), axis=1, return_inverse=True)
            numbers = inverse.ravel()[count:]
        classes[start : start + Y.shape[1]] = numbers
        start += Y.shape[1]
    return classes


def distinct_labels(*labels: FloatArray) -> FloatArray:
    """The distinct columns of labels (n, m), sorted by their first number, then the second one...

    Example:
        >>> distinct_labels(np.array([[2.0, 0.0, 2.0]]), np.array([[1.0]]))
        array([[0., 1., 2.]])
    """
    if len(labels[0]) == 1:  # which takes a tenth of the time
        return np.unique(np.hstack([np.unique(Y) for Y in labels]))[np.newaxis]
    return np.unique(np.hstack(labels), axis=1)


def _flat(Y: FloatArray) -> FloatArray:
    return Y.reshape(-1, Y.shape[-1])


def _places(mask: NDArray[np.bool_]) -> IntArray:
    """The places (k,) where a mask (m,) is true, in little more memory than they take."""
    if mask.size <= _MOST_KEPT:
        return np.flatnonzero(mask)
    places: NDArray[Any] = np.empty(np.count_nonzero(mask), _numbers_dtype(mask.size))
    filled = 0
    for start in range(0, mask.size, _MOST_KEPT):
        some = np.flatnonzero(mask[start : start + _MOST_KEPT])
        places[filled : filled + some.size] = some + start
        filled += some.size
    return places


def _numbers_dtype(m: int) -> AnyDType:
    """The dtype of numbers of m examples; those of many take half of the memory."""
    return np.dtype(np.uint32 if _MOST_KEPT < m <= 1 << 32 else np.int64)
