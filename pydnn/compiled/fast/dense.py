"""Dense stages, forward and backward, with the products and sums of `pydnn.numerics.fast`."""

from __future__ import annotations

from pydnn.compiled.arithmetics import DA, DZ, FIRST_OWN, N_IN, N_OUT, NEEDED, TURNED, B, W, Z
from pydnn.compiled.blas import product, sum_of_rows
from pydnn.compiled.kernels import kernel
from pydnn.compiled.memory import to_read
from pydnn.records import FloatArray, IntArray

__all__ = ["ADD", "ONES", "PRODUCTS", "backward", "forward"]

ONES = FIRST_OWN  # the column of a stage that says where the room has `FEW_COLUMNS` ones

# The rows of `calls` with the two halves of `pydnn.compiled.blas.Products`, and with np.add.
PRODUCTS, _SECOND, ADD = range(3)


@kernel
def forward(
    p: FloatArray,
    stage: IntArray,
    m: int,
    x: FloatArray,
    room: FloatArray,
    narrow: FloatArray,
    calls: IntArray,
) -> bool:
    """Fill Z (n_out, m) with W A + b, and return True.

    Args:
        p: The parameters.
        stage: What is known of the stage.
        m: The number of examples.
        x: The numbers of A (n_in, m).
        room: The room of the step, in float64.
        narrow: The same in the dtype of the step.
        calls: The functions to call.
    """
    n_in, n_out = stage[N_IN], stage[N_OUT]
    products = (calls[PRODUCTS, 0], calls[PRODUCTS, 1], calls[_SECOND, 0], calls[_SECOND, 1])
    product(products, p, stage[W], False, x, 0, stage[TURNED] != 0,
            narrow, stage[Z], n_out, m, n_in)  # fmt: skip
    for i in range(n_out):
        add, row = p[stage[B] + i], narrow[stage[Z] + i * m : stage[Z] + (i + 1) * m]
        for j in range(m):
            row[j] = row[j] + add
    return True


@kernel
def backward(
    p: FloatArray,
    stage: IntArray,
    m: int,
    x: FloatArray,
    room: FloatArray,
    narrow: FloatArray,
    sums: FloatArray,
    grads: FloatArray,
    calls: IntArray,
) -> bool:
    """Fill dW with dZ A^T, db with the sums of dZ, and dA with W^T dZ if anybody needs it.

    Args:
        p: The parameters.
        stage: What is known of the stage.
        m: The number of examples.
        x: The numbers of A (n_in, m).
        room: The room of the step, in float64.
        narrow: The same in the dtype of the step.
        sums: Not used.
        grads: The gradients, in the layout of the parameters.
        calls: The functions to call.

    Returns:
        True.
    """
    n_in, n_out = stage[N_IN], stage[N_OUT]
    products = (calls[PRODUCTS, 0], calls[PRODUCTS, 1], calls[_SECOND, 0], calls[_SECOND, 1])
    add, numbers = (calls[ADD, 0], calls[ADD, 1]), to_read(narrow)
    product(products, numbers, stage[DZ], False, x, 0, stage[TURNED] == 0,
            grads, stage[W], n_out, n_in, m)  # fmt: skip
    ones = numbers[stage[ONES] :]
    sum_of_rows(products, add, numbers, stage[DZ], ones, grads, stage[B], n_out, m)
    if stage[NEEDED]:
        product(products, p, stage[W], True, numbers, stage[DZ], False,
                narrow, stage[DA], n_in, m, n_out)  # fmt: skip
    return True
