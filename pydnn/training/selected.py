"""Batches by the numbers of their examples, for workers that already have the examples."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from pydnn.data.stored import Stored
from pydnn.records import Batch, Examples, FloatArray, IntArray, maker_of

__all__ = ["Selected"]


class Selected(Batch):
    """Some examples, by their numbers, as a batch whose arrays are made on demand.

    A worker that has all examples, or sees their file, needs only the numbers of those in its
    shards. So this process does not gather the examples, and sends only their numbers. Of examples
    in files, it gathers the labels and weights, because the weight of a batch may depend on them.

    Attributes:
        examples: The examples to choose from.
        which: A slice of them, or their numbers.

    Example:
        >>> data = nn.Batch([[5.0, 6.0, 7.0]], [[0, 1, 1]])
        >>> chosen = Selected.of(data).take(np.array([2, 0]))
        >>> chosen.count, chosen.X
        (2, array([[7., 5.]]))
    """

    __slots__ = ("_made", "_source", "which")
    _source: _Source
    which: slice | IntArray
    _made: dict[str, Any]  # the arrays that somebody asked for

    def __new__(cls, *args: Any, **fields: Any) -> Any:
        """Return a plain batch: a changed batch is no longer a choice of examples."""
        return Batch(*args, **fields)

    @classmethod
    def of(cls, examples: Examples, which: slice | IntArray = slice(None)) -> Batch:
        """Select some of the examples; by default all of them, so that `take` can choose later."""
        return _selected(_Source(examples), which)

    @property
    def examples(self) -> Examples:
        """The examples to choose from."""
        return self._source.examples

    @property
    def refused(self) -> str:
        """Why workers do not gather examples themselves, in a line; "" as long as they do."""
        return self._source.refused

    def refuse(self, why: str) -> None:
        """Gather these and all later examples here, and warn about it.

        Args:
            why: The line of a worker that cannot gather them.
        """
        self._source.refused = why
        warnings.warn(f"examples are sent with every step: {why}", stacklevel=2)

    def _array(self, name: str) -> Any:
        if name not in self._made:
            examples = self.examples
            if isinstance(examples, Batch):
                arrays = (getattr(examples, n) if n == name else None for n in _ARRAYS)
                self._made[name] = getattr(_batch(*arrays).take(self.which), name)
            else:
                parts = examples if name == "X" else self._source.labels
                self._made.update(_arrays(parts.take(self.which), but="" if name == "X" else "X"))
        return self._made[name]

    X: FloatArray = property(lambda self: self._array("X"))  # type: ignore[assignment]
    Y: FloatArray = property(lambda self: self._array("Y"))  # type: ignore[assignment]
    weights: FloatArray | None = property(  # type: ignore[assignment]
        lambda self: self._array("weights")
    )
    lengths: IntArray | None = property(  # type: ignore[assignment]
        lambda self: self._array("lengths")
    )

    @property
    def count(self) -> int:
        """The number of examples, m."""
        if isinstance(self.which, slice):
            return len(range(*self.which.indices(self.examples.count)))
        return len(self.which)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example of X, without m."""
        return self._source.shape

    @property
    def label_shape(self) -> tuple[int, ...]:
        """The shape of one label in Y, without m."""
        return self._source.label_shape

    def take(self, which: slice | IntArray) -> Batch:
        """Some examples, by a slice or by their numbers."""
        if not (isinstance(self.which, slice) and self.which == slice(None)):
            rows = self.which
            if isinstance(rows, slice):
                rows = np.arange(*rows.indices(self.examples.count))
            which = rows[which]
        if self.refused:
            return self.examples.take(which)
        some = _selected(self._source, which)
        if not isinstance(self.examples, Batch):
            some._array("Y")  # now, since another thread may prepare the next batch
        return some

    def without_inputs(self) -> Batch:
        """The same batch with an X of shape (0, m), so that nothing gathers X."""
        X = np.empty((0, self.count))
        batch: Batch = _batch(X, self.Y, self.weights, self.lengths)
        return batch

    def __repr__(self) -> str:
        return f"<{self.count} of {self.examples.count} examples of shape {self.shape}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Batch, (self.X, self.Y, self.weights, self.lengths)


class _Source:
    """All examples, what is known of them, and whether workers gather them."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples
        self.shape, self.label_shape = examples.shape, examples.label_shape
        self.labels = examples.labels_alone() if isinstance(examples, Stored) else examples
        self.refused = ""


def _selected(source: _Source, which: slice | IntArray) -> Selected:
    selected: Selected = object.__new__(Selected)
    for name, value in (("_source", source), ("which", which), ("_made", {})):
        object.__setattr__(selected, name, value)
    return selected


_ARRAYS = ("X", "Y", "weights", "lengths")


def _arrays(batch: Batch, but: str) -> dict[str, Any]:
    return {name: getattr(batch, name) for name in _ARRAYS if name != but}


_batch = maker_of(Batch)  # without checks, for a batch with one of its arrays
