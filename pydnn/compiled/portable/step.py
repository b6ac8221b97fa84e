"""Steps in `portable` arithmetic, as `pydnn.compiled.step_text` writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pydnn.compiled.arithmetics import TERMS, Arithmetic, Placed
from pydnn.compiled.kernels import kernel
from pydnn.compiled.portable import dense, elementary
from pydnn.compiled.portable.blocks import COLUMNS_OF_A_BLOCK
from pydnn.compiled.portable.dense import A_WIDE, DZ_WIDE, W_WIDE
from pydnn.compiled.portable.losses import cross_entropy_of_classes
from pydnn.compiled.portable.sums import fold
from pydnn.compiled.tracing import Symbol, Untraceable
from pydnn.numerics import portable
from pydnn.numerics.portable.products import FEW
from pydnn.records import AnyDType, FloatArray, IntArray, contiguous

__all__ = ["in_portable"]

_NUMBERS = 4096  # parameters; with more, a step is mostly arithmetic
_MOST_MULTIPLICATIONS = 1 << 16  # of one product; BLAS is faster for more
_FUNCTIONS = ("erf", "exp", "expm1", "log", "log1p", "logistic", "positive_part", "tanh")

# If the sum of squares of at most `_NUMBERS` numbers lies between these limits, none of them is so
# small or so large that its length would have to be computed in another way.
_LEAST, _MOST = _NUMBERS * 2.0**-399, 2.0**399


class _Traced:
    """Stands for the arithmetic while a function is traced: its functions become calls."""

    def __getattr__(self, name: str) -> Any:
        if name not in _FUNCTIONS:
            raise Untraceable(f"{name} of the arithmetic")

        def applied(x: Symbol) -> Symbol:
            program = x.program
            return program.assigned(f"{program.type}({name}(float64({program.text_of(x)[0]})))")

        return applied


@kernel
def _mean_of(losses: FloatArray, terms: FloatArray, calls: IntArray) -> float:
    for i in range(losses.size):
        terms[i] = np.float64(losses[i])
    fold(terms, losses.size, min(losses.size, 1))  # no constant: numba would compile it again
    mean: float = (terms[0] + 0.0) / np.float64(losses.size)
    return mean


@kernel
def _square_of(grads: FloatArray, terms: FloatArray, calls: IntArray) -> float:
    for i in range(grads.size):
        terms[i] = np.float64(grads[i]) * np.float64(grads[i])
    fold(terms, grads.size, min(grads.size, 1))
    square: float = terms[0] + 0.0
    return square


def _names(dtype: AnyDType) -> dict[str, Any]:
    narrow = dtype == np.float32
    return {
        **{name: getattr(elementary, name) for name in _FUNCTIONS},
        "backward": dense.backward if narrow else dense.backward_by_tree,
        "cross_entropy_of_classes": cross_entropy_of_classes,
        "forward": dense.forward if narrow else dense.forward_by_tree,
        "mean_of": _mean_of,
        "square_of": _square_of,
    }


def _suits(sizes: Sequence[tuple[int, int]], m: int, dtype: AnyDType) -> bool:
    if sum((n_in + 1) * n_out for n_in, n_out in sizes) > _NUMBERS:
        return False
    if dtype == np.float32:
        return all(n_in * n_out * m <= _MOST_MULTIPLICATIONS for n_in, n_out in sizes)
    # A larger left operand is cut into slices, whose products are left to BLAS.
    return all(max(n_in, m) * n_out <= FEW for n_in, n_out in sizes)


def _places(
    known: IntArray,
    stages: Sequence[Placed],
    m: int,
    most: int,
    count: int,
    start: int,
    dtype: AnyDType,
) -> int:
    dense_ = [(row, stage.n_in, stage.n_out) for row, stage in zip(known, stages, strict=True)
              if stage.slots]  # fmt: skip
    wide = -(-start * dtype.itemsize // 8)
    known[:, TERMS] = wide
    wide += max(most, sum((n_in + 1) * n_out for _, n_in, n_out in dense_))
    if dtype != np.float32:
        return wide
    wide += max(max(n_in, COLUMNS_OF_A_BLOCK) * (m + n_out) for _, n_in, n_out in dense_)
    for row, n_in, n_out in dense_:
        sizes = [p * q + p + q for p, q in ((n_out, n_in), (n_in, m), (n_out, m))]
        row[[W_WIDE, A_WIDE, DZ_WIDE]] = wide, wide + sizes[0], wide + sizes[0] + sizes[1]
        wide += sum(sizes)
    return wide


def _length(square: float, dtype: AnyDType) -> float:
    if _LEAST <= square <= _MOST:
        return math.sqrt(square)
    # Squares of float32 numbers do not underflow in float64.
    return 0.0 if square == 0.0 and dtype == np.float32 else math.nan


_NO_CALLS = np.zeros((0, 2), np.int64)

in_portable = Arithmetic(
    numerics=portable,
    traced=_Traced(),
    called={},
    names=_names,
    calls=lambda dtype: _NO_CALLS,
    terms="room[last[TERMS] :]",
    before=(),
    as_vector=lambda X: (contiguous(X).reshape(-1), False),
    suits=_suits,
    places=_places,
    multiplications=2e6,
    adds_rows=False,
    length=_length,
)
