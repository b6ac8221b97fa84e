"""Convolutions in which every number of a result is one dot product.

Specification. All results are products of matrices as `products` and `nearest` define them, for
each group of channels alone. Lines of the right operands are ordered by kernel row, kernel column
and channel, or by place row, place column and example. Padding, and places that no window uses,
count as zeros.

- Z: W (C_out, k_H k_W C_in) times the windows of the padded A_prev (k_H k_W C_in, places m)
- dW, transposed: dZ (C_out, places m) times the same windows (places m, k_H k_W C_in)
- dA_prev: W with its kernel rows and columns in reverse order, (C_in, k_H k_W C_out), times the
  windows (k_H k_W C_out, inputs m) of dZ, whose numbers lie a stride apart among zeros

An entry of a product does not depend on other columns of the right operand, so the blocks in which
these functions compute change no bit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from pydnn.numerics.geometry import Geometry, padded, spread, windows_of
from pydnn.numerics.interface import Convolution, Product
from pydnn.numerics.memory import empty
from pydnn.records import FloatArray

__all__ = ["channels_of_groups", "convolution_by"]

_NUMBERS = 1 << 20  # of the windows that are copied at a time


def convolution_by(matmul: Product) -> Convolution:
    """Return the three functions of a convolution, computed with products of matrices.

    Args:
        matmul: The product of two matrices.
    """
    # Partial applications of functions of this module, which can be pickled.
    functions = (_product, _weight_gradient, _input_gradient)
    return Convolution(*[functools.partial(function, matmul) for function in functions])


def _product(
    matmul: Product,
    A_prev: FloatArray,
    W: FloatArray,
    geometry: Geometry,
    *,
    bias: FloatArray | None = None,
) -> FloatArray:
    Z = empty((*geometry.places, W.shape[3], A_prev.shape[3]), A_prev.dtype)
    _fill(matmul, Z, W, padded(A_prev, geometry), geometry)
    if bias is not None:
        Z += bias
    return Z


def _input_gradient(
    matmul: Product, W: FloatArray, dZ: FloatArray, geometry: Geometry
) -> FloatArray:
    turned, start, stride = geometry.reversed()
    C = W.shape[2] * geometry.groups
    dA_prev = empty((*geometry.image, C, dZ.shape[3]), dZ.dtype)
    kernel = W[::-1, ::-1]
    rows = np.concatenate(
        [kernel[..., group] for group in _slices(W.shape[3], geometry.groups)], axis=2
    ).swapaxes(2, 3)
    _fill(matmul, dA_prev, rows, spread(dZ, turned.image, start, stride), turned)
    return dA_prev


def _fill(
    matmul: Product, Z: FloatArray, W: FloatArray, image: FloatArray, geometry: Geometry
) -> None:
    windows = windows_of(image, geometry)
    H, m = len(Z), Z.shape[3]
    k = W.shape[0] * W.shape[1] * W.shape[2]
    step = max(1, _NUMBERS // max(1, k * Z.shape[1] * m))
    for inputs, outputs in channels_of_groups(W.shape[2], Z.shape[2], geometry.groups):
        rows = W[..., outputs].reshape(k, -1).T
        for start in range(0, H, step):
            some = windows[start : start + step, ..., inputs, :]
            columns = some.transpose(2, 3, 4, 0, 1, 5).reshape(k, -1)
            into = np.empty((len(rows), columns.shape[1]), Z.dtype)
            matmul(rows, columns, out=into)
            place = Z[start : start + step, :, outputs]
            place[...] = into.reshape(len(rows), *some.shape[:2], m).transpose(1, 2, 0, 3)


def _weight_gradient(
    matmul: Product,
    A_prev: FloatArray,
    dZ: FloatArray,
    geometry: Geometry,
    *,
    out: FloatArray | None = None,
) -> FloatArray:
    C, F = A_prev.shape[2] // geometry.groups, dZ.shape[2]
    dW = empty((*geometry.size, C, F), dZ.dtype) if out is None else out
    windows = windows_of(padded(A_prev, geometry), geometry)
    for inputs, outputs in channels_of_groups(C, F, geometry.groups):
        rows = dZ[:, :, outputs].transpose(2, 0, 1, 3).reshape(outputs.stop - outputs.start, -1)
        for i in range(geometry.size[0]):
            columns = windows[:, :, i, :, inputs].transpose(0, 1, 4, 2, 3)
            into = np.empty((len(rows), geometry.size[1] * C), dZ.dtype)
            matmul(rows, columns.reshape(-1, into.shape[1]), out=into)
            dW[i, ..., outputs] = into.T.reshape(geometry.size[1], C, -1)
    return dW


def _slices(size: int, groups: int) -> list[slice]:
    part = size // groups
    return [slice(start, start + part) for start in range(0, size, part)]


def channels_of_groups(C: int, F: int, groups: int) -> Iterator[tuple[slice, slice]]:
    """Yield the channels of each group: those of the input, C for each, and of the output."""
    return zip(_slices(C * groups, groups), _slices(F, groups), strict=True)
