"""Stages for sequences of ids, e.g. of letters: `embedding` looks up a vector for each id.

Ids arrive as an array of floats that hold whole numbers, since inputs always are floats. They have
no gradient: dA_prev is 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import BadInput, expect_count
from pydnn.descriptions.builders import described
from pydnn.keys import Key
from pydnn.numerics import Numerics
from pydnn.parameters import NO_PARAMS, Tree
from pydnn.records import WEIGHTS, FloatArray, IntArray, arrays, freeze, keep_readonly
from pydnn.sequences import valid_steps
from pydnn.stages.base import Context, Shape, Stage, backward_from
from pydnn.stages.initializers import Initializer, normal

if TYPE_CHECKING:
    from pydnn.stages.graph import Value

__all__ = [
    "EmbeddingCache",
    "EmbeddingGrads",
    "EmbeddingParams",
    "embedding",
    "expect_ids",
    "one_hot",
]

_MOST_NUMBERS = 1 << 48  # 2 PiB of float64: a file may claim any size


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class EmbeddingParams:
    """Vectors W (words, units): row i is the vector of id i."""

    W: FloatArray = attrs.field(metadata=WEIGHTS)


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class EmbeddingGrads:
    """The gradient dW (words, units) of the cost."""

    dW: FloatArray


@keep_readonly
@attrs.frozen(eq=False)
class EmbeddingCache:
    """What the backward pass needs.

    Attributes:
        ids: The ids, (..., m); 0 in the padding.
        valid: Whether each step is valid, with axes that broadcast over those of dA; None if all
            are.
        numerics: The arithmetic of the forward pass.
    """

    ids: IntArray
    valid: NDArray[np.bool_] | None
    numerics: Numerics


@described("stage", drawn_by=["initializer"])
def embedding(
    words: int,
    units: int,
    *,
    initializer: Initializer = normal(scale=1.0),  # noqa: B008 - frozen
) -> Stage[EmbeddingParams, EmbeddingCache]:
    """Replace each id by a vector that is learned for it: ids (T,) become (T, units).

    Other axes may come before the examples, too: ids (n,) become (n, units), and images of ids
    (H, W) become (H, W, units). The parameters are the vectors W (words, units). The result is that
    of a dense layer without bias after `one_hot`, but it takes only the time of a copy.

    Steps beyond the length of a sequence may hold any number, and get the vector 0.

    Args:
        words: The number of different ids, which are 0 to `words` - 1.
        units: The size of a vector.
        initializer: How W is drawn. By default its numbers have variance 1, like standardized
            inputs.

    Raises:
        BadInput: If a size is not a whole number above 0. `init` raises it if W would be larger
            than any memory, `forward` for an id that is not a whole number from 0 to `words` - 1.

    Example:
        >>> stage = nn.embedding(3, 2)
        >>> params = EmbeddingParams([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])
        >>> ids = np.array([[2.0], [1.0]])  # two steps of one example
        >>> A, cache = stage.forward(params, ids, nn.Context())
        >>> A[:, :, 0]
        array([[3., 4.],
               [1., 2.]])
    """
    words = expect_count("words", words, hint="give the number of different ids")
    units = expect_count("units", units, hint="give the size of the vector of an id")

    def init(key: Key, shape_in: Shape) -> tuple[EmbeddingParams, Shape]:
        if words * units > _MOST_NUMBERS:
            raise BadInput(
                f"{words} words of {units} units have {words * units} weights, more than any "
                "machine holds: give fewer of them."
            )
        return EmbeddingParams(initializer.draw(key.at("W"), (words, units))), (*shape_in, units)

    def forward(
        params: EmbeddingParams, A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, EmbeddingCache]:
        cache = _cache_of(A_prev, words, context)
        vectors = params.W.take(cache.ids.ravel(), axis=0).reshape(*cache.ids.shape, units)
        A = np.ascontiguousarray(np.swapaxes(vectors, -1, -2))
        if cache.valid is not None:
            np.copyto(A, 0, where=~cache.valid)
        return freeze(A), cache

    def backward_into(
        params: EmbeddingParams,
        cache: EmbeddingCache,
        dA: FloatArray,
        out: tuple[FloatArray],
        needs_dA_prev: bool,
    ) -> FloatArray | None:
        cache.numerics.sum_groups(_without_padding(cache, dA), cache.ids, words, out=out[0])
        return _no_gradient(cache, dA) if needs_dA_prev else None

    def onnx(params: EmbeddingParams, A_prev: Value, statistics: Tree) -> Value:
        ids = A_prev.cast(np.int64)
        W = A_prev.constant(params.W)
        return W.op("Gather", ids, axis=0)

    return Stage(
        "embedding",
        init,
        forward,
        backward_from(backward_into, EmbeddingGrads),
        backward_into=backward_into,
        gradients=EmbeddingGrads,
        lengths="kept",
        ids=words,
        onnx=onnx,
    )


@described("stage")
def one_hot(words: int) -> Stage[tuple[()], EmbeddingCache]:
    """Replace each id by a column with 1 in the row of the id and 0 elsewhere.

    Ids (T,) become (T, words). The id `words` itself stands for nothing, e.g. before the first
    letter of a text, and gets a column of 0. So do steps beyond the length of a sequence, which may
    hold any number.

    Args:
        words: The number of different ids, which are 0 to `words` - 1.

    Raises:
        BadInput: If `words` is not a whole number above 0. `init` raises it if an example would be
            larger than any memory, `forward` for an id that is not a whole number from 0 to
            `words`.

    Example:
        >>> A, cache = nn.one_hot(3).forward((), np.array([[2.0, 0.0, 3.0]]), nn.Context())
        >>> A[0]
        array([[0., 1., 0.],
               [0., 0., 0.],
               [1., 0., 0.]])
    """
    words = expect_count("words", words, hint="give the number of different ids")

    def init(key: Key, shape_in: Shape) -> tuple[tuple[()], Shape]:
        count = words * math.prod(shape_in)
        if count > _MOST_NUMBERS:
            raise BadInput(
                f"{words} words make {count} numbers of each example, more than any machine holds: "
                "give fewer of them, or use embedding(words, units)."
            )
        return NO_PARAMS, (*shape_in, words)

    def forward(
        params: tuple[()], A_prev: FloatArray, context: Context
    ) -> tuple[FloatArray, EmbeddingCache]:
        cache = _cache_of(A_prev, words + 1, context)
        ids = cache.ids[..., np.newaxis, :]
        A = np.zeros((*ids.shape[:-2], words, ids.shape[-1]), A_prev.dtype)
        hot = ids < words
        if cache.valid is not None:
            hot &= cache.valid
        np.put_along_axis(A, np.minimum(ids, words - 1), hot, axis=-2)
        return freeze(A), cache

    def backward(
        params: tuple[()], cache: EmbeddingCache, dA: FloatArray
    ) -> tuple[FloatArray, tuple[()]]:
        return _no_gradient(cache, dA), NO_PARAMS

    def onnx(params: tuple[()], A_prev: Value, statistics: Tree) -> Value:
        ids = A_prev.cast(np.int64).op("Unsqueeze", np.array([-1]))
        return ids.op("Equal", np.arange(words), dtype=bool).cast(A_prev.dtype)

    return Stage("one_hot", init, forward, backward, lengths="kept", ids=words + 1, onnx=onnx)


def _cache_of(A_prev: FloatArray, words: int, context: Context) -> EmbeddingCache:
    """Return the cache for these ids, after a check."""
    valid = None
    if context.lengths is not None:
        T, *places, m = A_prev.shape
        valid = valid_steps(context.lengths, T).reshape(T, *[1] * len(places), m)
    ids = expect_ids(A_prev, words, valid)
    return EmbeddingCache(
        freeze(ids), None if valid is None else freeze(valid[..., np.newaxis, :]), context.numerics
    )


def expect_ids(
    A_prev: FloatArray, words: int, valid: NDArray[np.bool_] | None = None
) -> NDArray[np.intp]:
    """Return ids as integers, 0 in the padding.

    Args:
        A_prev: The ids as floats, (..., m).
        words: The number of different ids.
        valid: Whether each id is valid, and not padding; None if all are.

    Raises:
        BadInput: If a valid id is not a whole number from 0 to `words` - 1, or the dtype
            cannot hold all of these numbers.

    Example:
        >>> expect_ids(np.array([[0.0, 3.0]]), 3)
        Traceback (most recent call last):
        pydnn.checks.BadInput: the id at step 0 of example 1 is 3, expected a whole number ...
    """
    if words > 1 << 24 and A_prev.dtype == np.float32:
        raise BadInput(
            f"ids of {words} words are float32, which holds whole numbers up to {1 << 24}: give "
            "them as float64, or take fewer words."
        )
    with np.errstate(invalid="ignore"):
        ids: NDArray[np.intp] = A_prev.astype(np.intp)
    right = (ids == A_prev) & (ids >= 0) & (ids < words)
    if valid is not None:
        right |= ~valid
        np.copyto(ids, 0, where=~valid)
    if not right.all():
        place = tuple(int(i) for i in np.argwhere(~right)[0])
        steps = {1: "", 2: f"at step {place[0]} "}.get(len(place), f"at place {place[:-1]} ")
        raise BadInput(
            f"the id {steps}of example {place[-1]} is {A_prev[place]:g}, expected a whole number "
            f"from 0 to {words - 1}: give ids that are not standardized, or a larger number of "
            "words."
        )
    return ids


def _without_padding(cache: EmbeddingCache, dA: FloatArray) -> FloatArray:
    if cache.valid is None:
        return dA
    return np.where(cache.valid, dA, dA.dtype.type(0))


def _no_gradient(cache: EmbeddingCache, dA: FloatArray) -> FloatArray:
    return freeze(np.zeros(cache.ids.shape, dA.dtype))
