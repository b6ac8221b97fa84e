"""Stacks of matrices, rearranged so that one product of two matrices does the work."""

from __future__ import annotations

from pydnn.records import FloatArray

__all__ = ["in_columns", "in_one_product"]


def in_one_product(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return two matrices whose product is the sum of the products of two stacks.

    Args:
        a: The left operands, (s, n, k).
        b: The right operands, (s, k, p).

    Returns:
        Matrices (n, s k) and (s k, p).
    """
    s, n, k = a.shape
    return a.transpose(1, 0, 2).reshape(n, s * k), b.reshape(s * k, b.shape[2])


def in_columns(stack: FloatArray) -> FloatArray:
    """Return the columns of all matrices of a stack (s, k, p) in one matrix (k, s p)."""
    s, k, p = stack.shape
    return stack.transpose(1, 0, 2).reshape(k, s * p)
