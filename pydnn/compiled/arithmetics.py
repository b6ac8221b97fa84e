"""What compiled steps in different arithmetics do in different ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from pydnn.numerics import Numerics
from pydnn.records import AnyDType, FloatArray, IntArray

__all__ = [
    "COLUMNS",
    "DA",
    "DZ",
    "FIRST_OWN",
    "KIND",
    "MASK",
    "NEEDED",
    "N_IN",
    "N_OUT",
    "TERMS",
    "TURNED",
    "A",
    "Arithmetic",
    "B",
    "Placed",
    "W",
    "Z",
]

# What is known of a stage: its kind, the numbers of its inputs and outputs for each example,
# whether anybody needs its dA, and whether its inputs hold one example after the other. Then where
# its arrays begin: A, Z, dA and dZ in the room of the step, W and b in the parameters, its mask,
# and where there is room for terms of sums and other numbers that nobody needs for long. The other
# columns belong to the arithmetic.
KIND, N_IN, N_OUT, NEEDED, TURNED, A, Z, DA, DZ, W, B, MASK, TERMS, FIRST_OWN = range(14)
COLUMNS = FIRST_OWN + 4


class Placed(Protocol):
    """A stage in the order of the network."""

    @property
    def n_in(self) -> int:
        """The number of its inputs."""

    @property
    def n_out(self) -> int:
        """The number of its outputs."""

    @property
    def slots(self) -> Sequence[Any]:
        """The places of W and b in the parameters; none for other stages than dense ones."""


@attrs.frozen(eq=False)
class Arithmetic:
    """An arithmetic in which whole steps are compiled.

    Its kernels are called in the text of a step, see `pydnn.compiled.step_text`:

        forward(p, stage, m, x, room, narrow, calls) -> bool
        backward(p, stage, m, x, room, narrow, sums, grads, calls) -> bool
        cross_entropy_of_classes(Z, Y, losses, slopes, terms, calls) -> bool
        mean_of(losses, terms, calls) -> float
        square_of(grads, terms, calls) -> float

    `x` are the inputs of a stage, `room` is the memory of the step in float64, and `narrow` the
    same in the dtype of the step. A kernel returns False where NumPy has to take the step.

    Attributes:
        numerics: The arithmetic.
        traced: What stands for it while a function is traced.
        called: The functions of NumPy that a step calls between loops: the name of the row of
            `calls` that has its loop.
        names: `(dtype) -> names`, what the text may use.
        calls: `(dtype) -> rows`, what the kernels call outside of this package; None if they
            cannot, so no step is compiled.
        terms: The text of the room for terms, of which there is enough for all numbers of a stage,
            and for all parameters.
        before: Lines at the beginning of a call.
        as_vector: `(X) -> (vector, turned)`, the numbers of examples X (n_x, m) in an order that
            changes no bit, and whether they hold one example after the other; None if there is no
            such order without a copy.
        suits: `(sizes, m, dtype)`, whether steps with dense stages of these pairs (n_in, n_out)
            and m examples are faster in one piece.
        places: `(known, stages, m, most, count, start, dtype) -> numbers`, which fills in the
            columns TERMS and beyond, and returns the size of the room in numbers of 8 bytes.
            `most` is the largest size of an array of a stage, `count` how many vectors of this size
            calls between loops fill, and `start` is where numbers of the dtype are free.
        multiplications: How many multiplications take about a millisecond.
        adds_rows: Whether its sums of rows are computed in loops, by the kernel `add_row`.
        length: `(square, dtype) -> length`, the norm of gradients from the sum of their squares;
            NaN if it is not known for such a sum.
    """

    numerics: Numerics
    traced: Any
    called: Mapping[Any, str]
    names: Callable[[AnyDType], dict[str, Any]]
    calls: Callable[[AnyDType], IntArray | None]
    terms: str
    before: tuple[str, ...]
    as_vector: Callable[[FloatArray], tuple[FloatArray, bool] | None]
    suits: Callable[[Sequence[tuple[int, int]], int, AnyDType], bool]
    places: Callable[[IntArray, Sequence[Placed], int, int, int, int, AnyDType], int]
    multiplications: float
    adds_rows: bool
    length: Callable[[float, AnyDType], float]
