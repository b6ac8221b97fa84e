"""Convolutions by BLAS, with an algorithm for each kind of shape.

All three functions go over images row by row, so that what one row needs stays in cache, and let
several threads share the rows. Which algorithm computes a result, in which blocks, depends on
shapes alone, and no number depends on which thread computed it.

- Z: the rows of the image under one row of windows are interleaved, (W, k_H, C, m). Then each
  window is one piece of memory, (k_W k_H C, m), and overlaps its neighbors; BLAS multiplies a stack
  of them by the kernel. The next row of windows replaces only the rows that it does not share.
- dW: in rows with the channels outside, (k_H, C, W, m), a column of the kernel meets one matrix
  (k_H C, W' m), which begins further to the right for the next column. No window is copied.
- dA_prev: without a stride, it is the convolution of dZ with the turned kernel. With one, all rows
  of dZ that a row of the input has met make one matrix (n F, W' m); its product with the kernel is
  added to the row at k_W places.

With a stride to the right, the columns of such rows are sorted by their remainder, so that the
windows of one column of the kernel are neighbors again.

References:
    Cho and Brand, MEC: Memory-efficient convolution for deep neural network, 2017, for Z.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from pydnn.engines import give_up, in_use
from pydnn.numerics.geometry import Geometry, padded, spread, windows_of
from pydnn.numerics.image_products import channels_of_groups, convolution_by
from pydnn.numerics.interface import Convolution
from pydnn.numerics.memory import empty
from pydnn.numerics.small_products import ONE_THREADS_WORK
from pydnn.numerics.threads import share_out
from pydnn.records import FloatArray

__all__ = ["convolution"]

_FEW_EXAMPLES = 16  # below, the inner loops over examples are too short
_FEWEST_COLUMNS = 32  # of a product, so that the time to pack the kernel does not matter
_SHORTER = 2  # by this factor than a row of places, a row of a window is too short to copy
_PARTS = 4  # in which rows are summed, and which threads share
_WORTH_A_THREAD = 1 << 21  # multiplications


def _matmul(a: FloatArray, b: FloatArray, /, *, out: FloatArray | None = None) -> FloatArray:
    product: FloatArray = np.matmul(a, b, out)
    return product


_in_matrices = convolution_by(_matmul)


def _product(
    A_prev: FloatArray, W: FloatArray, geometry: Geometry, *, bias: FloatArray | None = None
) -> FloatArray:
    m, depthwise = A_prev.shape[3], W.shape[2] == 1 < geometry.groups
    if m == 1 and geometry.groups == 1:
        return _product_for_one(A_prev, W, geometry, bias)
    if m < _FEW_EXAMPLES and depthwise and W.shape[3] == geometry.groups:
        Z = _product_of_few(A_prev, W, geometry)
        if bias is not None:
            Z += bias
        return Z
    if geometry.dilation != (1, 1) or (m < _FEW_EXAMPLES and not depthwise):
        return _in_matrices.product(A_prev, W, geometry, bias=bias)
    Z = empty((*geometry.places, W.shape[3], m), A_prev.dtype)
    if depthwise:
        _product_by_channel(A_prev, W, geometry, bias, Z)
        return Z
    for inputs, outputs in channels_of_groups(W.shape[2], W.shape[3], geometry.groups):
        some = None if bias is None else bias[outputs]
        _product_by_rows(A_prev[:, :, inputs], W[..., outputs], geometry, some, Z[:, :, outputs])
    return Z


def _weight_gradient(
    A_prev: FloatArray, dZ: FloatArray, geometry: Geometry, *, out: FloatArray | None = None
) -> FloatArray:
    m, C, F = A_prev.shape[3], A_prev.shape[2] // geometry.groups, dZ.shape[2]
    depthwise = C == 1 < geometry.groups
    if out is None:
        out = np.empty((*geometry.size, C, F), dZ.dtype)
    if m == 1 and geometry.groups == 1:
        columns = _windows_for_one(A_prev, geometry)
        out[...] = np.matmul(columns.T, dZ.reshape(len(columns), F)).reshape(out.shape)
    elif m < _FEW_EXAMPLES and depthwise and geometry.groups == F:
        _weight_gradient_of_few(A_prev, dZ, geometry, out)
    elif geometry.dilation != (1, 1) or (m < _FEW_EXAMPLES and not depthwise):
        _in_matrices.weight_gradient(A_prev, dZ, geometry, out=out)
    elif depthwise:
        _weight_gradient_by_channel(A_prev, dZ, geometry, out)
    else:
        for inputs, outputs in channels_of_groups(C, F, geometry.groups):
            _weight_gradient_by_rows(
                A_prev[:, :, inputs], dZ[:, :, outputs], geometry, out[..., outputs]
            )
    return out


def _input_gradient(W: FloatArray, dZ: FloatArray, geometry: Geometry) -> FloatArray:
    m, C, F = dZ.shape[3], W.shape[2], W.shape[3]
    depthwise = C == 1 < geometry.groups
    if m == 1 and geometry.groups == 1:
        return _input_gradient_for_one(W, dZ, geometry)
    if m < _FEW_EXAMPLES and depthwise and geometry.groups == F:
        return _input_gradient_of_few(W, dZ, geometry)
    if geometry.dilation != (1, 1) or (m < _FEW_EXAMPLES and not depthwise):
        return _in_matrices.input_gradient(W, dZ, geometry)
    dA_prev = empty((*geometry.image, C * geometry.groups, m), dZ.dtype)
    if depthwise:
        _input_gradient_by_channel(W, dZ, geometry, dA_prev)
        return dA_prev
    for inputs, outputs in channels_of_groups(C, F, geometry.groups):
        _input_gradient_by_rows(W[..., outputs], dZ[:, :, outputs], geometry, dA_prev[:, :, inputs])
    return dA_prev


convolution = Convolution(_product, _weight_gradient, _input_gradient)


# One example, whose windows are rows


def _windows_for_one(A_prev: FloatArray, geometry: Geometry) -> FloatArray:
    """Return all windows of one example as the rows of a matrix (places, k_H k_W C)."""
    windows = windows_of(padded(A_prev, geometry), geometry)
    rows = geometry.places[0] * geometry.places[1]
    if geometry.size == geometry.stride == (1, 1):
        return windows.reshape(rows, -1)
    if _SHORTER * geometry.size[1] * A_prev.shape[2] < geometry.places[1]:
        # One place in all windows after the other, which are longer pieces of memory.
        turned = windows.transpose(2, 3, 4, 5, 0, 1)
        columns = empty(turned.shape, A_prev.dtype)
        columns[...] = turned
        return columns.reshape(-1, rows).T
    matrix = empty(windows.shape, A_prev.dtype)
    matrix[...] = windows
    return matrix.reshape(rows, -1)


def _product_for_one(
    A_prev: FloatArray, W: FloatArray, geometry: Geometry, bias: FloatArray | None
) -> FloatArray:
    columns = _windows_for_one(A_prev, geometry)
    Z = empty((len(columns), W.shape[3]), W.dtype)
    np.matmul(columns, W.reshape(-1, W.shape[3]), Z)
    if bias is not None:
        Z += bias[:, 0]
    return Z.reshape(*geometry.places, W.shape[3], 1)


def _input_gradient_for_one(W: FloatArray, dZ: FloatArray, geometry: Geometry) -> FloatArray:
    k_H, k_W, C, F = W.shape
    if geometry.stride == (1, 1):  # then dZ has no gaps: dA_prev is a convolution, too
        turned, start, stride = geometry.reversed()
        kernel = np.ascontiguousarray(W[::-1, ::-1].swapaxes(2, 3))
        return _product_for_one(spread(dZ, turned.image, start, stride), kernel, turned, None)
    terms = empty((*geometry.places, k_H, k_W, C), dZ.dtype)
    np.matmul(dZ.reshape(-1, F), W.reshape(-1, F).T, terms.reshape(-1, k_H * k_W * C))
    dA_prev = empty((*geometry.image, C), dZ.dtype)
    dA_prev[...] = 0
    for i in range(k_H):
        rows, met_rows = geometry.met(0, i)
        for j in range(k_W):
            columns, met = geometry.met(1, j)
            dA_prev[met_rows, met] += terms[rows, columns, i, j]
    return dA_prev[..., np.newaxis]


# A few examples of a depthwise convolution with one filter for each channel


def _product_of_few(A_prev: FloatArray, W: FloatArray, geometry: Geometry) -> FloatArray:
    Z = empty((*geometry.places, *A_prev.shape[2:]), A_prev.dtype)
    windows = windows_of(padded(A_prev, geometry), geometry)
    np.einsum("pqijcm,ijc->pqcm", windows, W[:, :, 0], out=Z)
    return Z


def _weight_gradient_of_few(
    A_prev: FloatArray, dZ: FloatArray, geometry: Geometry, out: FloatArray
) -> None:
    windows = windows_of(padded(A_prev, geometry), geometry)
    np.einsum("pqijcm,pqcm->ijc", windows, dZ, out=out[:, :, 0])


def _input_gradient_of_few(W: FloatArray, dZ: FloatArray, geometry: Geometry) -> FloatArray:
    turned, start, stride = geometry.reversed()
    return _product_of_few(spread(dZ, turned.image, start, stride), W[::-1, ::-1], turned)


# Channel by channel, for depthwise convolutions: each number of a lane (C multiplier m) has its own


def _lanes(W: FloatArray, m: int) -> FloatArray:
    """Return the kernel of each lane, (k_H, k_W, lanes)."""
    k_H, k_W, _, lanes = W.shape
    return np.repeat(W.reshape(k_H, k_W, lanes), m, axis=2)


def _rows_of_lanes(
    A: FloatArray, geometry: Geometry, multiplier: int
) -> Callable[[int, int], Iterator[tuple[int, int, FloatArray]]]:
    """Return a function that yields the windows of a range of rows.

    For each row p of windows it yields (p, turn, windows), with the windows (k_H, k_W, W', lanes).
    Row r of the padded image lies at r modulo k_H, so row i of the kernel meets row (i + turn)
    modulo k_H.
    """
    (k_H, k_W), (down, right), (H, width) = geometry.size, geometry.stride, geometry.image
    (above, _), (left, _) = geometry.padding
    C, m = A.shape[2:]

    def rows_of_windows(start: int, stop: int) -> Iterator[tuple[int, int, FloatArray]]:
        rows = empty((k_H, geometry.width, C, multiplier, m), A.dtype)
        rows[:, :left] = 0
        rows[:, left + width :] = 0
        over, further = rows.strides[:2]
        windows = as_strided(
            rows,
            (k_H, k_W, geometry.places[1], C * multiplier * m),
            (over, further, right * further, rows.itemsize),
            writeable=False,
        )
        known = 0
        for p in range(start, stop):
            first = p * down
            for r in range(max(first, known), first + k_H):
                row = rows[r % k_H, left : left + width]
                row[...] = A[r - above, :, :, np.newaxis] if 0 <= r - above < H else 0
            known = first + k_H
            yield p, first % k_H, windows

    return rows_of_windows


def _product_by_channel(
    A_prev: FloatArray, W: FloatArray, geometry: Geometry, bias: FloatArray | None, Z: FloatArray
) -> None:
    kernel = _lanes(W, A_prev.shape[3])
    kernels = [np.roll(kernel, turn, axis=0) for turn in range(len(W))]
    rows = _rows_of_lanes(A_prev, geometry, W.shape[3] // A_prev.shape[2])
    biases = None if bias is None else np.repeat(bias, A_prev.shape[3], axis=1)

    def fill(start: int, stop: int) -> None:
        for p, turn, windows in rows(start, stop):
            np.einsum("ijqn,ijn->qn", windows, kernels[turn], out=Z[p].reshape(len(Z[p]), -1))
            if biases is not None:
                Z[p] += biases

    _share_out(fill, len(Z), 1, kernel.size * geometry.places[0] * geometry.places[1])


def _weight_gradient_by_channel(
    A_prev: FloatArray, dZ: FloatArray, geometry: Geometry, out: FloatArray
) -> None:
    (k_H, k_W, _, F), (height, across) = out.shape, geometry.places
    rows = _rows_of_lanes(A_prev, geometry, F // A_prev.shape[2])
    gradients = dZ.reshape(height, across, -1)
    sums = {}

    def fill(start: int, stop: int) -> None:
        term = np.empty((k_H, k_W, gradients.shape[2]), dZ.dtype)
        total = sums[start] = np.zeros((k_H, *term.shape), dZ.dtype)
        for p, turn, windows in rows(start, stop):
            np.einsum("ijqn,qn->ijn", windows, gradients[p], out=term)
            total[turn] += term

    _share_out(fill, height, 1, k_H * k_W * dZ.size)
    kernels = _added_up(sums).reshape(k_H, k_H, k_W, 1, F, -1)
    _turn_back(np.add.reduce(kernels, axis=5), out)


def _input_gradient_by_channel(
    W: FloatArray, dZ: FloatArray, geometry: Geometry, dA_prev: FloatArray
) -> None:
    k_H, k_W, (width, C, m) = *geometry.size, dA_prev.shape[1:]
    if geometry.stride == (1, 1) and W.shape[3] == C:
        turned, first, stride = geometry.reversed()
        image = spread(dZ, turned.image, first, stride)
        _product_by_channel(image, W[::-1, ::-1], turned, None, dA_prev)
        return
    down, above, height = geometry.stride[0], geometry.padding[0][0], geometry.places[0]
    kernel = _lanes(W, m)
    gradients = dZ.reshape(*geometry.places, -1)
    columns = [geometry.met(1, j) for j in range(k_W)]

    def fill(start: int, stop: int) -> None:
        row = np.empty((width, kernel.shape[2]), dZ.dtype)
        term = np.empty((geometry.places[1], kernel.shape[2]), dZ.dtype)
        for h in range(start, stop):
            row[...] = 0
            for i in range((h + above) % down, k_H, down):
                p = (h + above - i) // down
                for j, (places, met) in enumerate(columns if 0 <= p < height else ()):
                    product = term[: places.stop - places.start]
                    row[met] += np.multiply(gradients[p, places], kernel[i, j], product)
            np.add.reduce(row.reshape(width, C, -1, m), axis=2, out=dA_prev[h])

    _share_out(fill, len(dA_prev), 1, k_H * k_W * dZ.size)


# Sums of several rows whose kernels were turned


def _added_up(sums: dict[int, FloatArray]) -> FloatArray:
    """Return the sum of the arrays, in the order of their numbers."""
    first, *others = sorted(sums)
    total = sums[first]
    for start in others:
        total += sums[start]
    return total


def _turn_back(kernels: FloatArray, out: FloatArray) -> None:
    """Fill `out` with the sum over turns of kernels whose row i lies at (i + turn) modulo k_H."""
    out[...] = kernels[0]
    for turn in range(1, len(kernels)):
        out += np.roll(kernels[turn], -turn, axis=0)


# Row by row


def _product_by_rows(
    A: FloatArray, W: FloatArray, geometry: Geometry, bias: FloatArray | None, Z: FloatArray
) -> None:
    (k_H, k_W, C, F), m = W.shape, A.shape[3]
    down, (H, width) = geometry.stride[0], geometry.image
    (above, _), (left, _) = geometry.padding
    # Such rows are pieces of the image itself.
    plain = k_H == 1 and not geometry.is_padded and (k_W == 1 or A.flags.c_contiguous)
    # Row r of the padded image lies at r modulo k_H, so the rows of the kernel turn with them.
    kernels = empty((k_H, F, k_W, k_H, C), W.dtype)
    for turn in {p * down % k_H for p in range(geometry.places[0])}:
        kernels[turn] = np.roll(W, turn, axis=0).transpose(3, 1, 0, 2)
    kernels = kernels.reshape(k_H, F, -1)
    pieces = _pieces(m, W.size)
    forms, compiled = in_use.forms, None
    if forms is not None:
        most = _widest(pieces)
        compiled = forms.convolutions.product(A, kernels, geometry, bias, most, plain, Z)
    biases = None if bias is None else np.repeat(bias, m, axis=1)  # NumPy adds long rows faster

    def fill(start: int, stop: int) -> None:
        known = 0
        if not plain:
            rows = empty((geometry.width, k_H, C, m), A.dtype)
            rows[:left] = 0
            rows[left + width :] = 0
            windows = _beside(rows.reshape(len(rows), -1, m), geometry)
        for p in range(start, stop):
            first = p * down
            if plain:
                windows = _beside(A[first], geometry)
            for r in () if plain else range(max(first, known), first + k_H):
                inside = 0 <= r - above < H
                rows[left : left + width, r % k_H] = A[r - above] if inside else 0
            known = first + k_H
            for piece in pieces:
                np.matmul(kernels[first % k_H], windows[..., piece], Z[p, ..., piece])
            if biases is not None:
                Z[p] += biases

    work = W.size * _widest(pieces)
    _share_out(fill, geometry.places[0], work, Z.size * W.size // F, compiled)


def _beside(row: FloatArray, geometry: Geometry) -> FloatArray:
    """Return the windows (W', k_W n, m) of a row (W, n, m), which overlap in memory."""
    further, down, over = row.strides
    return as_strided(
        row,
        (geometry.places[1], geometry.size[1] * row.shape[1], row.shape[2]),
        (geometry.stride[1] * further, down, over),
        writeable=False,
    )


def _weight_gradient_by_rows(
    A: FloatArray, dZ: FloatArray, geometry: Geometry, out: FloatArray
) -> None:
    (k_H, k_W, C, F), m = out.shape, A.shape[3]
    (down, right), H, above = geometry.stride, geometry.image[0], geometry.padding[0][0]
    height, across = geometry.places
    pieces = _pieces(across * m, F * k_H * C)
    sums: dict[int, FloatArray] = {}
    forms, compiled = in_use.forms, None
    if forms is not None:
        compiled = forms.convolutions.weight_gradient(A, dZ, geometry, _widest(pieces), sums)

    def fill(start: int, stop: int) -> None:
        # Row r of the padded image lies at r modulo k_H; each turn of the rows has its own sum.
        total = sums[start] = np.zeros((k_H, k_W, F, k_H * C), dZ.dtype)
        term = np.empty((-(-k_W // right), F, k_H * C), dZ.dtype)
        rows = _sorted_room((k_H, C), geometry, A)
        windows = [
            _windows_by_column(rows, remainder, len(range(remainder, k_W, right)), across)
            for remainder in range(min(right, k_W))
        ]
        # To read a row in its own order and to turn it in cache takes two thirds of the time.
        row, gradient = empty(A.shape[1:], A.dtype), empty(dZ.shape[1:], dZ.dtype)
        gradients = empty((F, across, m), dZ.dtype)
        z = gradients.reshape(F, -1)
        known = 0
        for p in range(start, stop):
            first = p * down
            for r in range(max(first, known), first + k_H):
                if 0 <= r - above < H:
                    row[...] = A[r - above]
                    for place, columns in _sorted_columns(geometry):
                        rows[r % k_H][:, place[0], place[1]] = row[columns].swapaxes(0, 1)
                else:
                    rows[r % k_H] = 0
            known = first + k_H
            gradient[...] = dZ[p]
            gradients[...] = gradient.swapaxes(0, 1)
            for remainder, met in enumerate(windows):
                part, product = total[first % k_H, remainder::right], term[: len(met)]
                for piece in pieces:
                    np.matmul(z[:, piece], met[:, piece], product)
                    part += product

    work = F * k_H * C * _widest(pieces)
    _share_out(fill, height, work, dZ.size * k_H * k_W * C, compiled)
    kernels = _added_up(sums).reshape(k_H, k_W, F, k_H, C)
    _turn_back(kernels.transpose(0, 3, 1, 4, 2), out)


def _input_gradient_by_rows(
    W: FloatArray, dZ: FloatArray, geometry: Geometry, dA_prev: FloatArray
) -> None:
    if geometry.stride == (1, 1):
        met, turned = _met_by_turned(dZ, geometry)
        _product_by_rows(met, W[::-1, ::-1].swapaxes(2, 3), turned, None, dA_prev)
        return
    (k_H, k_W, C, F), m = W.shape, dZ.shape[3]
    (down, right), above = geometry.stride, geometry.padding[0][0]
    height, across = geometry.places
    # The rows of dZ that meet row h of the input, from the first to the last, meet every `down`-th
    # row of the kernel, from the last to the first.
    kernels = []
    for remainder in range(down):
        some = W[remainder::down][::-1].transpose(1, 2, 0, 3)
        kernels.append(np.ascontiguousarray(some).reshape(k_W * C, -1))
    most = -(-k_H // down)
    pieces = _pieces(across * m, k_W * C * most * F)
    forms, compiled = in_use.forms, None
    if forms is not None:
        most_columns = _widest(pieces)
        compiled = forms.convolutions.input_gradient(kernels, dZ, geometry, most_columns, dA_prev)

    def fill(start: int, stop: int) -> None:
        gradients = empty((2 * most, F, across, m), dZ.dtype)  # rows from `lowest` to `known`
        lowest = known = 0
        gradient = empty(dZ.shape[1:], dZ.dtype)
        products = empty((k_W * C, pieces[0].stop), dZ.dtype)
        sums = _sorted_room((C,), geometry, dZ)
        columns_of = sums.reshape(C, right, -1)
        for h in range(start, stop):
            last, remainder = divmod(h + above, down)
            kernel = kernels[remainder]
            begin = last + 1 - kernel.shape[1] // F
            first, end = max(0, begin), min(height, last + 1)
            if first >= end:
                dA_prev[h] = 0
                continue
            if end - lowest > len(gradients):
                for p in range(first, known):
                    gradients[p - first] = gradients[p - lowest]
                lowest, known = first, max(first, known)
            for p in range(max(known, lowest), end):
                gradient[...] = dZ[p]
                gradients[p - lowest] = gradient.swapaxes(0, 1)
            known = end
            left = kernel[:, (first - begin) * F : (end - begin) * F]
            met = gradients[first - lowest : end - lowest].reshape(-1, across * m)
            sums[...] = 0
            for piece in pieces:
                product = products[:, : piece.stop - piece.start]
                np.matmul(left, met[:, piece], product)
                for j in range(k_W):
                    from_ = j // right * m + piece.start
                    met_columns = columns_of[:, j % right, from_ : from_ + product.shape[1]]
                    met_columns += product[j * C : (j + 1) * C]
            for place, columns in _sorted_columns(geometry):
                dA_prev[h, columns] = sums[:, place[0], place[1]].swapaxes(0, 1)

    work = k_W * C * most * F * _widest(pieces)
    _share_out(fill, len(dA_prev), work, dZ.size * k_H * k_W * C, compiled)


def _met_by_turned(dZ: FloatArray, geometry: Geometry) -> tuple[FloatArray, Geometry]:
    """Return the part of dZ that the turned kernel meets, and where it does, without a stride."""
    padding, kept = [], []
    for k, pads, count in zip(geometry.size, geometry.padding, geometry.places, strict=True):
        before, after = (k - 1 - pad for pad in pads)  # negative where only zeros were met
        padding.append((max(0, before), max(0, after)))
        kept.append(slice(max(0, -before), count - max(0, -after)))
    met = dZ[tuple(kept)]
    image = met.shape[:2]
    return met, Geometry((image[0], image[1]), geometry.size, padding=(padding[0], padding[1]))


# Rows whose columns are sorted by their remainder, so that windows are neighbors with any stride


def _sorted_room(shape: tuple[int, ...], geometry: Geometry, like: FloatArray) -> FloatArray:
    """Return zeros (*shape, stride, steps, m): column c of a padded row goes to c modulo stride."""
    right = geometry.stride[1]
    room = empty((*shape, right, -(-geometry.width // right), like.shape[3]), like.dtype)
    room[...] = 0
    return room


@functools.lru_cache(maxsize=256)
def _sorted_columns(geometry: Geometry) -> tuple[tuple[tuple[int, slice], slice], ...]:
    """Return for each remainder the place of columns in a sorted row, and columns of the image."""
    right, left, width = geometry.stride[1], geometry.padding[1][0], geometry.image[1]
    pairs = []
    for remainder in range(right):
        first = (remainder - left) % right
        start, count = (left + first) // right, len(range(first, width, right))
        pairs.append(((remainder, slice(start, start + count)), slice(first, width, right)))
    return tuple(pairs)


def _windows_by_column(rows: FloatArray, remainder: int, count: int, across: int) -> FloatArray:
    """Return a view (count, W' m, k_H C) of sorted rows (k_H, C, stride, steps, m).

    Each matrix holds what one column of the kernel meets: columns `remainder`, `remainder` +
    stride and so on, as rows; matrices overlap in memory.
    """
    _, over, _, step, item = rows.strides
    first = rows[0, 0, remainder]
    shape = (count, across * rows.shape[4], rows.shape[0] * rows.shape[1])
    return as_strided(first, shape, (step, item, over), writeable=False)


# Threads


def _pieces(n: int, rows_times_terms: int) -> list[slice]:
    """Cut n columns of a product into pieces for which BLAS uses one thread; [all] if too large."""
    most = ONE_THREADS_WORK // rows_times_terms
    if n <= most or most < _FEWEST_COLUMNS:
        return [slice(0, n)]
    count = -(-n // most)
    size = -(-n // count)
    return [slice(start, min(n, start + size)) for start in range(0, n, size)]


def _widest(pieces: list[slice]) -> int:
    return int(pieces[0].stop)  # the first is never shorter than others


def _share_out(
    fill: Callable[[int, int], None],
    rows: int,
    work: int,
    multiplications: int,
    compiled: Callable[[int, int], None] | None = None,
) -> None:
    """Call `fill(start, stop)` for a few parts of the rows, on several threads if that is faster.

    Args:
        fill: The work.
        rows: The number of rows.
        work: The multiplications of one product of BLAS, which uses threads itself for large ones.
        multiplications: The multiplications of all products together.
        compiled: What to call instead, if it does not fail.
    """
    parts = min(rows, _PARTS)
    bounds = [rows * part // parts for part in range(parts + 1)]
    alone = work > ONE_THREADS_WORK or multiplications < _WORTH_A_THREAD

    def do(fill: Callable[[int, int], None]) -> None:
        share_out(lambda part: fill(bounds[part], bounds[part + 1]), parts, 1 if alone else None)

    if compiled is not None:
        try:
            return do(compiled)
        except Exception as error:  # numba may raise anything
            give_up(error)
    do(fill)
