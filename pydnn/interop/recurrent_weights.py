"""Weights of PyTorch's recurrent layers, with their gates in the order that pydnn has them in.

PyTorch stacks the rows of the gates of an LSTM as i, f, g, o and those of a GRU as r, z, n; pydnn
has i, f, o, g and z, r, h. PyTorch has two biases, which pydnn adds, except for the last gate of a
GRU, where the reset gate multiplies the second one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.interop.stored import Source, Stored
from pydnn.records import AnyArray

__all__ = ["with_our_gates"]

_NAME = re.compile(r"(?:(.*)[./])?(weight|bias)_(ih|hh)(?:_l(\d+)(_reverse)?)?")
_ORDERS = {1: (0,), 3: (1, 0, 2), 4: (0, 1, 3, 2)}  # the place in PyTorch of each of pydnn's gates


def with_our_gates(source: Source) -> Source:
    """Return a source in which recurrent layers of PyTorch are the parameters of pydnn's stages.

    Names as PyTorch's, such as "rnn.weight_ih_l0", tell these layers. Those of several layers and
    of two directions become layers in the order of the computation. Layers without biases get 0.
    A source without such names comes back unchanged.

    Raises:
        BadInput: If the arrays of a layer are not those of an RNN, a GRU or an LSTM.

    Example:
        >>> from pydnn.interop.recurrent_weights import with_our_gates
        >>> from pydnn.interop.stored import Source, Stored
        >>> w = Stored("weight_ih_l0", (3, 1), lambda: np.array([[1.0], [2.0], [3.0]]))
        >>> a = Stored("weight_hh_l0", (3, 1), lambda: np.zeros((3, 1)))
        >>> [W_x, W_a, b, b_a] = with_our_gates(Source([w, a], ordered=True)).arrays
        >>> W_x.read().ravel()  # z, r, h
        array([2., 1., 3.])
    """
    groups: dict[tuple[str, int, bool], dict[str, Stored]] = {}
    for array in source.arrays:
        if found := _NAME.fullmatch(array.name):
            prefix, what, which, layer, reverse = found.groups()
            place = (prefix or "", int(layer or 0), reverse is not None)
            groups.setdefault(place, {})[f"{what}_{which}"] = array
    ours = {place: _parameters(place, group) for place, group in groups.items()}
    taken = {array: place for place, group in groups.items() for array in group.values()}
    if not ours:
        return source
    arrays: list[Stored] = []
    for array in source.arrays:
        if array in taken:
            arrays += ours.pop(taken[array], ())  # all of them at the place of the first
        else:
            arrays.append(array)
    return attrs.evolve(source, arrays=arrays, kind=source.kind or "pytorch")


def _parameters(place: tuple[str, int, bool], group: dict[str, Stored]) -> list[Stored]:
    """W_x, W_a and b of one layer and direction, and b_a of a GRU."""
    rows, units, gates = _sizes(group)
    W_x, W_a = group["weight_ih"], group["weight_hh"]
    biases = [group[name] for name in ("bias_ih", "bias_hh") if name in group]
    prefix, number, reverse = place
    layer = f"{prefix}.{2 * number + reverse}"
    added = " + ".join(bias.name for bias in biases) or f"no bias of {W_x.name}"

    def bias(gate: int, *, second: bool) -> AnyArray:
        if not biases:
            return np.zeros(units, W_x.read().dtype)
        first, other = (_rows(array, gate, units) for array in biases)
        if second:
            return other
        if gates == 3 and gate == 2:
            return first
        is_float = first.dtype.kind == other.dtype.kind == "f"  # another one is refused later
        total: Any = np.add(first, other, dtype=np.float64 if is_float else None)
        return np.asarray(total, first.dtype)

    parameters = [
        Stored(W_x.name, W_x.shape, _in_order(W_x, gates), layer),
        Stored(W_a.name, W_a.shape, _in_order(W_a, gates), layer),
        Stored(
            added,
            (rows,),
            lambda: np.concatenate([bias(gate, second=False) for gate in _ORDERS[gates]]),
            layer,
        ),
    ]
    if gates == 3:
        name = biases[1].name if biases else added
        parameters.append(Stored(name, (units,), lambda: bias(2, second=True), layer))
    return parameters


def _sizes(group: dict[str, Stored]) -> tuple[int, int, int]:
    """The numbers of rows, units and gates of one layer and direction."""
    shapes = {name: array.shape for name, array in group.items()}
    W_x, W_a = shapes.get("weight_ih", ()), shapes.get("weight_hh", ())
    if len(W_x) == len(W_a) == 2 and W_a[1]:
        rows, units = W_a
        others = [shape for name, shape in shapes.items() if name.startswith("bias")]
        fits = W_x[0] == rows and others in ([], [(rows,)] * 2)
        if fits and rows % units == 0 and rows // units in _ORDERS:
            return rows, units, rows // units
    arrays = ", ".join(f"{array.name} {array.shape}" for array in group.values())
    raise BadInput(
        f"the source has {arrays}, expected weight_ih, weight_hh and both biases or none of an "
        "RNN, a GRU or an LSTM of PyTorch, without projections: give all arrays of the layer."
    )


def _rows(array: Stored, gate: int, units: int) -> AnyArray:
    rows: AnyArray = array.read()[gate * units : (gate + 1) * units]
    return rows


def _in_order(array: Stored, gates: int) -> Callable[[], AnyArray]:
    def read() -> AnyArray:
        blocks: Sequence[AnyArray] = np.split(array.read(), gates)
        return np.concatenate([blocks[gate] for gate in _ORDERS[gates]])

    return read
