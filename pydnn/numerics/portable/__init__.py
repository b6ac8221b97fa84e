"""`portable`: the same bits on every machine, whatever its processor, BLAS, threads and versions.

It uses only operations that IEEE 754 rounds exactly and that NumPy never fuses: elementwise
`+ - * /`, `sqrt`, comparisons, and integers. The head of each file specifies its results, so that
anybody can check any number of a run by other means:

- `products` and `slices`: products of float64 matrices; `nearest`: products of float32 matrices
- in stacks of matrices, each product is as if it were alone; a sum of products is one product, of
  the operands one beside the other, so each of its entries is a single dot product
- `pydnn.numerics.image_products`: convolutions, by these products
- `groups`: sums of columns by group, each rounded once
- `sums`: sums, means and lengths by a fixed tree of additions
- `elementary`: exp, log, tanh and similar functions
- `scalars`: powers and cosines of single numbers, for schedules
- `qr`: orthonormal columns, from these products and sums

`pydnn.keys` makes random numbers from Philox's raw bits in the same way.

Code for small arrays calls ufuncs by their own names and passes the output last, since looking up
`np.` and parsing `out=` take a tenth of such a call.
"""

from __future__ import annotations

import numpy as np

from pydnn.numerics.groups import exact_sum_groups
from pydnn.numerics.image_products import convolution_by
from pydnn.numerics.interface import Numerics
from pydnn.numerics.portable import elementary
from pydnn.numerics.portable.cache import unchangeable
from pydnn.numerics.portable.nearest import matmul_float32
from pydnn.numerics.portable.platform_checks import expect_sound
from pydnn.numerics.portable.products import matmul_float64
from pydnn.numerics.portable.qr import orthonormal
from pydnn.numerics.portable.scalars import cosine, power
from pydnn.numerics.portable.sums import mean, norm, sum_rows, tree_sum
from pydnn.numerics.stacked_products import in_columns, in_one_product
from pydnn.records import FloatArray, scalar

__all__ = ["orthonormal", "portable"]


def _matmul(a: FloatArray, b: FloatArray, /, *, out: FloatArray | None = None) -> FloatArray:
    if a.ndim > 2 or b.ndim > 2:
        return _stacked_matmul(a, b, out)
    if out is None:
        out = np.empty((len(a), b.shape[1]), a.dtype)
    if a.dtype.type is np.float32:  # of any byte order
        matmul_float32(a, b, out)
    else:
        matmul_float64(a, b, out)
    return out


def _stacked_matmul(a: FloatArray, b: FloatArray, out: FloatArray | None) -> FloatArray:
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    n, p = a.shape[-2], b.shape[-1]
    if out is None:
        out = np.empty((*stack, n, p), a.dtype)
    if a.ndim == 2:  # one product for all columns: an entry depends on its own column alone
        columns = in_columns(b.reshape(-1, *b.shape[-2:]))
        products = _matmul(a, columns).reshape(n, -1, p)
        out[...] = products.transpose(1, 0, 2).reshape(out.shape)
        return out
    a, b = (np.broadcast_to(x, (*stack, *x.shape[-2:])) for x in (a, b))
    for place in np.ndindex(*stack):
        _matmul(a[place], b[place], out=out[place])
    return out


def _summed_matmul(a: FloatArray, b: FloatArray, /, *, out: FloatArray | None = None) -> FloatArray:
    a, b = (x.reshape(-1, *x.shape[-2:]) for x in (a, b))
    return _matmul(*in_one_product(a, b), out=out)


def _gates(Z: FloatArray, sigmoids: int, /, *, out: FloatArray | None = None) -> FloatArray:
    if out is None:
        out = np.empty_like(Z)
    out[:sigmoids] = elementary.logistic(Z[:sigmoids])
    out[sigmoids:] = elementary.tanh(Z[sigmoids:])
    return out


def _positive_part(Z: FloatArray) -> FloatArray:
    # Processors differ in whether max(-0.0, 0.0) is -0.0 or 0.0; adding 0.0 always gives 0.0.
    zero = scalar(0, Z.dtype)
    A = np.maximum(Z, zero)
    return np.add(A, zero, out=A)


portable = Numerics(
    name="portable",
    matmul=_matmul,
    summed_matmul=_summed_matmul,
    sum=tree_sum,
    sum_rows=sum_rows,
    sum_groups=exact_sum_groups,
    convolution=convolution_by(_matmul),
    mean=mean,
    norm=norm,
    exp=elementary.exp,
    expm1=elementary.expm1,
    log=elementary.log,
    log1p=elementary.log1p,
    tanh=elementary.tanh,
    logistic=elementary.logistic,
    gates=_gates,
    erf=elementary.erf,
    positive_part=_positive_part,
    power=power,
    cosine=cosine,
    orthonormal_basis=orthonormal,
    exact=True,
    expect_sound=expect_sound,
    prepare=unchangeable,  # `cache` keeps what products need of such an array
)
