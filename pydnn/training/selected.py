"""Batches by the numbers of their examples, for workers that already have the examples."""

from __future__ import annotations

from typing import Any

import numpy as np

from pydnn.records import Batch, FloatArray, IntArray, maker_of

__all__ = ["Selected"]


class Selected(Batch):
    """Some examples of a batch, by their numbers, as a batch whose arrays are made on demand.

    A worker that has all examples needs only the numbers of those in its shards. So this process
    does not gather the examples, and sends only their numbers.

    Attributes:
        examples: The examples to choose from.
        which: A slice of them, or their numbers.

    Example:
        >>> data = nn.Batch([[5.0, 6.0, 7.0]], [[0, 1, 1]])
        >>> chosen = Selected.of(data).take(np.array([2, 0]))
        >>> chosen.count, chosen.X
        (2, array([[7., 5.]]))
    """

    __slots__ = ("_made", "examples", "which")
    examples: Batch
    which: slice | IntArray
    _made: dict[str, Any]  # the arrays that somebody asked for

    def __new__(cls, *args: Any, **fields: Any) -> Any:
        """Return a plain batch: a changed batch is no longer a choice of examples."""
        return Batch(*args, **fields)

    @classmethod
    def of(cls, examples: Batch, which: slice | IntArray = slice(None)) -> Batch:
        """Select some of the examples; by default all of them, so that `take` can choose later."""
        selected: Selected = object.__new__(cls)
        for name, value in (("examples", examples), ("which", which), ("_made", {})):
            object.__setattr__(selected, name, value)
        return selected

    def _array(self, name: str) -> Any:
        if name not in self._made:
            alone = _batch(*(getattr(self.examples, n) if n == name else None for n in _ARRAYS))
            self._made[name] = getattr(alone.take(self.which), name)
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
        return self.examples.shape

    @property
    def label_shape(self) -> tuple[int, ...]:
        """The shape of one label in Y, without m."""
        return self.examples.label_shape

    def take(self, which: slice | IntArray) -> Batch:
        """Some examples, by a slice or by their numbers."""
        if isinstance(self.which, slice) and self.which == slice(None):
            return Selected.of(self.examples, which)
        return Selected.of(self.examples, np.arange(self.examples.count)[self.which][which])

    def without_inputs(self) -> Batch:
        """The same batch with an X of shape (0, m), so that nothing gathers X."""
        X = np.empty((0, self.count), self.examples.X.dtype)
        batch: Batch = _batch(X, self.Y, self.weights, self.lengths)
        return batch

    def __repr__(self) -> str:
        return f"<{self.count} of {self.examples.count} examples of shape {self.shape}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Batch, (self.X, self.Y, self.weights, self.lengths)


_ARRAYS = ("X", "Y", "weights", "lengths")
_batch = maker_of(Batch)  # without checks, for a batch with one of its arrays
