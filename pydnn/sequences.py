"""Sequences of unequal length, and outputs with a label at each step.

Sequences are padded to the longest, T steps. `lengths` (m,) holds the number of valid steps of each
example; the steps after them are padding, which no result depends on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pydnn.checks import BadInput, expect_shape

__all__ = [
    "columns_of_steps",
    "columns_with_labels",
    "expect_features_of_steps",
    "expect_lengths",
    "labels_of_steps",
    "steps_of_columns",
    "valid_steps",
]


def expect_lengths(lengths: ArrayLike, T: int, m: int) -> NDArray[np.int64]:
    """Return the lengths of m sequences of at most T steps as a read-only array (m,) of int64.

    Raises:
        BadInput: If there is not one whole number from 1 to T for each sequence.

    Example:
        >>> expect_lengths([2, 3], T=3, m=2)
        array([2, 3])
        >>> expect_lengths([2, 4], T=3, m=2)
        Traceback (most recent call last):
        pydnn.checks.BadInput: the length of example 1 is 4, expected a whole number ...
    """
    array = np.asarray(lengths)
    if array.dtype.kind not in "iuf":
        raise BadInput(f"lengths hold {array.dtype}, expected whole numbers: give one per example.")
    expect_shape("lengths", array, (m,), hint="give the number of valid steps of each example")
    right = (array >= 1) & (array <= T) & (array == np.floor(array))
    if not right.all():
        index = int(np.argmin(right))
        raise BadInput(
            f"the length of example {index} is {array[index]:g}, expected a whole number from 1 to "
            f"{T}: give the number of valid steps, and leave out empty sequences."
        )
    whole: NDArray[np.int64] = array.astype(np.int64)
    whole.flags.writeable = False
    return whole


def expect_features_of_steps(name: str, array: NDArray[Any]) -> None:
    """Refuse sequences (T, m) for the stage `name`: it would take their steps for features.

    Raises:
        BadInput: If the array has fewer than three axes.
    """
    if array.ndim < 3:
        raise BadInput(
            f"{name} got sequences of unequal length of shape {array.shape}, expected (T, n, m): "
            "put embedding(words, units) or one_hot(words) before it for ids, or give X as "
            "(T, 1, m) for one number per step."
        )


def valid_steps(lengths: NDArray[np.int64], T: int) -> NDArray[np.bool_]:
    """Return whether each step of each sequence is valid, shape (T, m).

    Example:
        >>> valid_steps(np.array([1, 2]), 2)
        array([[ True,  True],
               [False,  True]])
    """
    valid: NDArray[np.bool_] = np.arange(T)[:, np.newaxis] < lengths
    return valid


def columns_of_steps(array: NDArray[Any], lengths: NDArray[np.int64] | None = None) -> NDArray[Any]:
    """Return the valid steps of all examples as the columns of a matrix.

    Columns are ordered by step, then by example.

    Args:
        array: An array (T, n, m), or with more axes before the last two, e.g. (H, W, n, m), of
            which every place becomes a column.
        lengths: The number of valid steps of each example (m,); None if all steps are valid.

    Returns:
        A matrix (n, N), where N is the number of valid steps of all examples.

    Example:
        >>> outputs = np.array([[[1, 2]], [[3, 4]]])  # two steps of one feature and two examples
        >>> columns_of_steps(outputs, np.array([1, 2]))
        array([[1, 2, 4]])
    """
    n = array.shape[-2]
    if lengths is None:
        return np.moveaxis(array, -2, 0).reshape(n, -1)
    steps = array.reshape(len(array), -1, *array.shape[-2:]).swapaxes(1, 3)
    # (T, m, n, places within a step) -> the valid (t, example) pairs
    chosen = steps[valid_steps(lengths, len(array))]
    return np.ascontiguousarray(np.moveaxis(chosen, 1, 0).reshape(n, -1))


def steps_of_columns(
    columns: NDArray[Any], shape: tuple[int, ...], lengths: NDArray[np.int64] | None = None
) -> NDArray[Any]:
    """Undo `columns_of_steps`: return an array of `shape` (T, n, m), with 0 at padded steps.

    Example:
        >>> steps_of_columns(np.array([[1, 2, 4]]), (2, 1, 2), np.array([1, 2]))
        array([[[1, 2]],
        <BLANKLINE>
               [[0, 4]]])
    """
    n, m = shape[-2:]
    if lengths is None:
        return np.ascontiguousarray(
            np.moveaxis(columns.reshape(n, *shape[:-2], m), 0, len(shape) - 2)
        )
    array = np.zeros(shape, columns.dtype)
    steps = array.reshape(shape[0], -1, n, m).swapaxes(1, 3)
    valid = valid_steps(lengths, shape[0])
    steps[valid] = np.moveaxis(columns.reshape(n, int(valid.sum()), -1), 0, 1)
    return array


def labels_of_steps(
    Y: NDArray[Any], shape: tuple[int, ...], lengths: NDArray[np.int64] | None = None
) -> NDArray[Any]:
    """Return the labels of all valid steps as the columns of a matrix.

    Args:
        Y: Labels for an output of `shape` (T, K, m): one number per step, (T, m), or several,
            (T, n_y, m).
        shape: The shape of the network's output.
        lengths: The number of valid steps of each example (m,); None if all steps are valid.

    Raises:
        BadInput: If Y has neither of these shapes.

    Example:
        >>> labels_of_steps(np.array([[0, 1], [2, 0]]), (2, 3, 2))
        array([[0, 1, 2, 0]])
    """
    *steps, _, m = shape
    if Y.ndim == len(shape) - 1:
        expect_shape("Y", Y, (*steps, m), hint="give one label per step and example")
        Y = Y[..., np.newaxis, :]
    expect_shape("Y", Y, (*steps, "n_y", m), hint="give labels for each step of each example")
    return columns_of_steps(Y, lengths)


def columns_with_labels(
    output: NDArray[Any], Y: NDArray[Any], lengths: NDArray[np.int64] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return an output and its labels as columns, of which each pair belongs together.

    Args:
        output: An output for each example, (n_out, m), which stays as it is; or one for each step,
            (T, n_out, m), of which the valid steps become columns.
        Y: The labels, as a loss takes them for this output.
        lengths: The number of valid steps of each example (m,); None if all steps are valid.

    Raises:
        BadInput: If there is an output for each step, but no labels for each.

    Example:
        >>> output, Y = np.array([[[1, 2]], [[3, 4]]]), np.array([[5, 6], [7, 8]])
        >>> columns_with_labels(output, Y, np.array([1, 2]))
        (array([[1, 2, 4]]), array([[5, 6, 8]]))
    """
    if output.ndim <= 2:
        return output, Y
    return columns_of_steps(output, lengths), labels_of_steps(Y, output.shape, lengths)
