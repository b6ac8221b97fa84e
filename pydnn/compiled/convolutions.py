"""Convolutions row by row, as in `pydnn.numerics.fast_convolution`, without a turn in Python.

A kernel goes over some of the rows: it copies windows to where BLAS takes them, calls BLAS, and
adds up or adds biases, while all of that is in cache. The products are those of NumPy, with the
same operands in the same places, so all bits are equal.

In kernels, images are vectors with a distance between rows and one between columns, since parts of
their channels are not contiguous, and numba would compile once more for such arrays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from pydnn.compiled.blas import matmul, matmul_loop
from pydnn.compiled.kernels import kernel
from pydnn.compiled.memory import clear, copy
from pydnn.compiled.ufuncs import Loop
from pydnn.numerics.geometry import Geometry
from pydnn.numerics.memory import empty
from pydnn.records import FloatArray, IntArray, freeze, readonly

__all__ = ["input_gradient", "product", "weight_gradient"]

Fill = Callable[[int, int], None]


def product(
    A: FloatArray,
    kernels: FloatArray,
    geometry: Geometry,
    bias: FloatArray | None,
    piece: int,
    plain: bool,
    Z: FloatArray,
) -> Fill | None:
    """Return a function that fills rows `start` to `stop` of Z; None if there is no kernel for it.

    Args:
        A: The image (H, W, C, m).
        kernels: The kernel (k_H, F, k_W k_H C), turned by each number of rows.
        geometry: Where the windows lie.
        bias: The bias (F, 1), if there is one.
        piece: The number of examples in each product; the last one may have fewer.
        plain: Whether rows of the image are used in place.
        Z: The result (H', W', F, m).
    """
    k_H, (C, m) = len(kernels), A.shape[2:]
    loop = matmul_loop(A.dtype)
    if loop is None:
        return None
    (above, _), (left, _) = geometry.padding
    where = (
        *(*geometry.image, C, m, k_H, above, left),
        *(*geometry.stride, geometry.places[1], piece),
    )
    image, result, kernels = _vector(readonly(A)), _vector(Z), readonly(kernels)
    biases = readonly(np.zeros(0, A.dtype) if bias is None else bias.reshape(-1).copy())
    size = 0 if plain else geometry.width * k_H * C * m

    def fill(start: int, stop: int) -> None:
        room = empty(size, A.dtype)
        _fill_product(loop, where, *image, kernels, biases, room, *result, start, stop)

    return fill


@kernel
def _fill_product(
    loop: Loop,
    where: tuple[int, ...],
    A: FloatArray,
    over: int,
    further: int,
    kernels: FloatArray,
    biases: FloatArray,
    rows: FloatArray,
    Z: FloatArray,
    over_in_Z: int,
    further_in_Z: int,
    start: int,
    stop: int,
) -> None:
    H, width, C, m, k_H, above, left, down, right, across, piece = where
    _, F, terms = kernels.shape
    n, known = C * m, 0
    step = k_H * n  # from a column of the interleaved rows to the next
    clear(rows, 0, rows.size)
    for p in range(start, stop):
        first = p * down
        for r in range(max(first, known), first + k_H if rows.size else first):
            to, h = left * step + r % k_H * n, r - above
            for w in range(width):
                if 0 <= h < H:
                    copy(A, h * over + w * further, rows, to + w * step, n)
                else:
                    clear(rows, to + w * step, n)
        known = first + k_H
        turned = kernels[first % k_H]
        for q in range(across):
            at = p * over_in_Z + q * further_in_Z
            for begin in range(0, m, piece):
                few = min(piece, m - begin)
                if rows.size:
                    from_ = q * right * step + begin
                    matmul(loop, turned, 0, terms, 1, rows, from_, m, 1, Z, at + begin, m,
                           F, few, terms)  # fmt: skip
                else:
                    from_ = first * over + q * right * further + begin
                    matmul(loop, turned, 0, terms, 1, A, from_, m, 1, Z, at + begin, m,
                           F, few, terms)  # fmt: skip
            for f in range(biases.size):
                line = Z[at + f * m : at + f * m + m]
                for e in range(line.size):
                    line[e] = line[e] + biases[f]


def weight_gradient(
    A: FloatArray,
    dZ: FloatArray,
    geometry: Geometry,
    piece: int,
    sums: dict[int, FloatArray],
) -> Fill | None:
    """Return a function that sets `sums[start]` to the sum of the rows `start` to `stop` of places.

    Args:
        A: The image (H, W, C, m).
        dZ: The gradient (H', W', F, m).
        geometry: Where the windows lie.
        piece: The number of terms of each product; the last one may have fewer.
        sums: Gets the sums (k_H, k_W, F, k_H C), one for each turn of the rows.
    """
    (k_H, k_W), (C, m), F = geometry.size, A.shape[2:], dZ.shape[2]
    across = geometry.places[1]
    loop = matmul_loop(A.dtype)
    if loop is None:
        return None
    (above, _), (left, _) = geometry.padding
    right = geometry.stride[1]
    steps = -(-geometry.width // right)
    where = (
        *(*geometry.image, C, m, k_H, k_W, above, left),
        *(*geometry.stride, geometry.places[1], steps, piece),
    )
    image, gradient = _vector(readonly(A)), _vector(readonly(dZ))

    def fill(start: int, stop: int) -> None:
        total = sums[start] = np.zeros((k_H, k_W, F, k_H * C), dZ.dtype)
        rows, gradients = (empty(n * m, A.dtype) for n in (k_H * C * right * steps, F * across))
        _add_weight_gradients(
            loop, where, *image, *gradient, rows, gradients, np.empty_like(total[0, 0]), total,
            start, stop,
        )  # fmt: skip

    return fill


@kernel
def _add_weight_gradients(
    loop: Loop,
    where: tuple[int, ...],
    A: FloatArray,
    over: int,
    further: int,
    dZ: FloatArray,
    over_in_dZ: int,
    further_in_dZ: int,
    rows: FloatArray,
    gradients: FloatArray,
    term: FloatArray,
    total: FloatArray,
    start: int,
    stop: int,
) -> None:
    H, width, C, m, k_H, k_W, above, left, down, right, across, steps, piece = where
    F, n, known = len(term), across * m, 0
    line = right * steps * m  # from a channel of the sorted rows to the next
    clear(rows, 0, rows.size)
    for p in range(start, stop):
        first = p * down
        for r in range(max(first, known), first + k_H):
            to, h = r % k_H * C * line, r - above
            if 0 <= h < H:
                for w in range(width):
                    place, step = (left + w) % right, (left + w) // right
                    at = to + (place * steps + step) * m
                    for c in range(C):
                        copy(A, h * over + w * further + c * m, rows, at + c * line, m)
            else:
                clear(rows, to, C * line)
        known = first + k_H
        for q in range(across):
            for f in range(F):
                from_ = p * over_in_dZ + q * further_in_dZ + f * m
                copy(dZ, from_, gradients, f * n + q * m, m)
        turned = total[first % k_H]
        for j in range(k_W):
            begins = (j % right * steps + j // right) * m
            part = turned[j].reshape(-1)
            terms = term.reshape(-1)
            for begin in range(0, n, piece):
                few = min(piece, n - begin)
                matmul(loop, gradients, begin, n, 1, rows, begins + begin, 1, line,
                       term, 0, k_H * C, F, k_H * C, few)  # fmt: skip
                for i in range(part.size):
                    part[i] = part[i] + terms[i]


def input_gradient(
    kernels: Sequence[FloatArray],
    dZ: FloatArray,
    geometry: Geometry,
    piece: int,
    dA_prev: FloatArray,
) -> Fill | None:
    """Return a function that fills rows of dA_prev; None if there is no kernel for it.

    Args:
        kernels: For each remainder of a row the rows of the kernel that meet it, (k_W C, n F).
        dZ: The gradient (H', W', F, m).
        geometry: Where the windows lie, with a stride.
        piece: The number of columns of each product; the last one may have fewer.
        dA_prev: The result (H, W, C, m).
    """
    k_W, (C, m), F = geometry.size[1], dA_prev.shape[2:], dZ.shape[2]
    (down, right), (height, across) = geometry.stride, geometry.places
    loop = matmul_loop(dZ.dtype)
    if loop is None:
        return None
    (above, _), (left, _) = geometry.padding
    steps = -(-geometry.width // right)
    where = (geometry.image[1], C, m, k_W, above, left, down, right, height, across, steps, piece)
    gradient, result = _vector(readonly(dZ)), _vector(dA_prev)
    sizes = [each.size for each in kernels]
    starts = freeze(np.array([0, *itertools.accumulate(sizes)]))
    weights = readonly(np.concatenate([each.reshape(-1) for each in kernels]))
    most = max(sizes) // (k_W * C)

    def fill(start: int, stop: int) -> None:
        sizes = (2 * most * across * m, k_W * C * piece, C * right * steps * m)
        gradients, products, sums = (empty(size, dZ.dtype) for size in sizes)
        _fill_input_gradient(
            loop, where, F, weights, starts, *gradient, gradients, products, sums, *result,
            start, stop,
        )  # fmt: skip

    return fill


@kernel
def _fill_input_gradient(
    loop: Loop,
    where: tuple[int, ...],
    F: int,
    weights: FloatArray,
    starts: IntArray,
    dZ: FloatArray,
    over: int,
    further: int,
    gradients: FloatArray,
    products: FloatArray,
    sums: FloatArray,
    dA_prev: FloatArray,
    over_in_dA: int,
    further_in_dA: int,
    start: int,
    stop: int,
) -> None:
    width, C, m, k_W, above, left, down, right, height, across, steps, piece = where
    n, line = across * m, right * steps * m
    size = F * n  # of a row of dZ
    lowest = known = 0
    for h in range(start, stop):
        last, remainder = (h + above) // down, (h + above) % down
        columns = (starts[remainder + 1] - starts[remainder]) // (k_W * C)
        begin = last + 1 - columns // F
        first, end = max(0, begin), min(height, last + 1)
        clear(sums, 0, sums.size)
        if first < end:
            if (end - lowest) * size > gradients.size:
                for p in range(first, known):
                    copy(gradients, (p - lowest) * size, gradients, (p - first) * size, size)
                lowest, known = first, max(first, known)
            for p in range(max(known, lowest), end):
                for q in range(across):
                    for f in range(F):
                        from_ = p * over + q * further + f * m
                        copy(dZ, from_, gradients, (p - lowest) * size + f * n + q * m, m)
            known = end
            at = starts[remainder] + (first - begin) * F
            for start_of_piece in range(0, n, piece):
                few = min(piece, n - start_of_piece)
                from_ = (first - lowest) * size + start_of_piece
                matmul(loop, weights, at, columns, 1, gradients, from_, n, 1,
                       products, 0, piece, k_W * C, few, (end - first) * F)  # fmt: skip
                for j in range(k_W):
                    for c in range(C):
                        to = c * line + j % right * steps * m + j // right * m + start_of_piece
                        into, product = sums[to : to + few], products[(j * C + c) * piece :]
                        for i in range(into.size):
                            into[i] = into[i] + product[i]
        for w in range(width):
            place, step = (left + w) % right, (left + w) // right
            for c in range(C):
                from_ = c * line + (place * steps + step) * m
                copy(sums, from_, dA_prev, h * over_in_dA + w * further_in_dA + c * m, m)


def _vector(image: FloatArray) -> tuple[FloatArray, int, int]:
    """Return the memory of an image (H, W, C, m) as a vector, and its distances in numbers.

    The last two axes are contiguous. The vector is read-only if the image is.
    """
    over, further = (stride // image.itemsize for stride in image.strides[:2])
    H, W, C, m = image.shape
    size = ((H - 1) * over + (W - 1) * further + C * m) if image.size else 0
    vector = as_strided(image, (size,), (image.itemsize,), writeable=image.flags.writeable)
    return vector, over, further
