"""`portable`: the same bits on every machine, whatever its processor, BLAS, threads and versions.

It uses only operations that IEEE 754 rounds exactly and that NumPy never fuses: elementwise
`+ - * /`, `sqrt`, comparisons, and integers. The head of each file specifies its results, so that
anybody can check any number of a run by other means:

- `products` and `slices`: products of float64 matrices; `nearest`: products of float32 matrices
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

from pydnn.numerics.fast import error_function
from pydnn.numerics.interface import Numerics
from pydnn.numerics.portable import elementary
from pydnn.numerics.portable.cache import unchangeable
from pydnn.numerics.portable.nearest import matmul_float32
from pydnn.numerics.portable.platform_checks import expect_sound
from pydnn.numerics.portable.products import matmul_float64
from pydnn.numerics.portable.qr import orthonormal
from pydnn.numerics.portable.scalars import cosine, power
from pydnn.numerics.portable.sums import mean, norm, tree_sum
from pydnn.records import FloatArray, scalar

__all__ = ["orthonormal", "portable"]


def _matmul(a: FloatArray, b: FloatArray, /, *, out: FloatArray | None = None) -> FloatArray:
    if out is None:
        out = np.empty((len(a), b.shape[1]), a.dtype)
    if a.dtype == np.float32:
        matmul_float32(a, b, out)
    else:
        matmul_float64(a, b, out)
    return out


def _erf(x: FloatArray) -> FloatArray:
    wide = x.astype(np.float64, copy=False)
    return error_function(wide, elementary.exp).astype(x.dtype, copy=False)


def _positive_part(Z: FloatArray) -> FloatArray:
    # Processors differ in whether max(-0.0, 0.0) is -0.0 or 0.0; adding 0.0 always gives 0.0.
    zero = scalar(0, Z.dtype)
    A = np.maximum(Z, zero)
    return np.add(A, zero, out=A)


portable = Numerics(
    name="portable",
    matmul=_matmul,
    sum=tree_sum,
    mean=mean,
    norm=norm,
    exp=elementary.exp,
    expm1=elementary.expm1,
    log=elementary.log,
    log1p=elementary.log1p,
    tanh=elementary.tanh,
    logistic=elementary.logistic,
    erf=_erf,
    positive_part=_positive_part,
    power=power,
    cosine=cosine,
    orthonormal_basis=orthonormal,
    exact=True,
    expect_sound=expect_sound,
    prepare=unchangeable,  # `cache` keeps what products need of such an array
)
