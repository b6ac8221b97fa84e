"""A training's state as named arrays, and back: what a segment of a run holds, and fingerprints.

What an optimiser remembers is a tree of tuples and records that ends in arrays and numbers; its
shape is known from the optimiser, so that a file needs to hold nothing but those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias, TypeGuard, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import BadInput, expect_finite, first_line
from pydnn.descriptions.builders import build
from pydnn.fingerprints import fingerprint
from pydnn.keys import Key
from pydnn.optimizers.base import GradientTransformation
from pydnn.recipes.layouts import layouts_of
from pydnn.recipes.recipe import DTYPES, Recipe
from pydnn.records import AnyArray, AnyDType, freeze
from pydnn.training import TrainState

__all__ = ["ReadArray", "arrays_of", "state_fingerprint", "state_from"]

_Scalar = TypeVar("_Scalar", bound=np.generic)
_Number: TypeAlias = np.generic | bool | int | float


class ReadArray(Protocol):
    """An array of a file, refused where it is of another kind."""

    def __call__(
        self, name: str, dtype: type[_Scalar] | np.dtype[_Scalar], shape: Sequence[int | str], /
    ) -> NDArray[_Scalar]:
        """The array called `name`; a text in `shape` is for an axis of any size."""


def arrays_of(state: TrainState) -> dict[str, AnyArray]:
    """The state's iteration and numbers, by name, in an order that its shape alone decides.

    Raises:
        BadInput: If the optimiser remembers something else than arrays and numbers.
    """
    return {
        "iteration": np.array(state.iteration, np.int64),
        "parameters": state.parameters.vector,
        "statistics": state.statistics.vector,
        **dict(_flat("optimizer", state.optimizer_state)),
    }


def state_fingerprint(state: TrainState) -> str:
    """The SHA-256 of a state's bits: iteration, parameters, statistics, optimiser's state.

    Raises:
        BadInput: If it holds a NaN, or what no file can hold.
    """
    return fingerprint(arrays_of(state))


def state_from(
    read: ReadArray, recipe: Recipe, *, features: int, iteration: int, key: Key
) -> TrainState:
    """The state whose arrays `read` gives, for a network of the `recipe` on so many features.

    Raises:
        BadInput: If an array does not fit the recipe, or is not finite.
    """
    dtype = DTYPES[recipe.dtype]
    packed = []
    for name, layout in zip(
        ("parameters", "statistics"), layouts_of(recipe, features), strict=True
    ):
        vector = read(name, dtype, (layout.size,))
        expect_finite(name, vector)
        packed.append(layout.packed(freeze(vector)))
    parameters, statistics = packed
    optimizer: GradientTransformation = build(recipe.optimizer, family="optimizer")
    remembered = _filled("optimizer", optimizer.init(parameters), read)
    return TrainState(iteration, parameters, remembered, key, statistics)


def _flat(path: str, value: object) -> Iterator[tuple[str, AnyArray]]:
    """The arrays and numbers below `value`, each with the path to it."""
    if isinstance(value, np.ndarray) and _fits_a_file(value.dtype):
        yield path, value
    elif _is_number(value):
        try:
            yield path, np.asarray(value, _dtype_of_number(value))
        except OverflowError as error:
            raise BadInput(f"{path} is an integer of more than 64 bits: keep a float.") from error
    else:
        for name, part in _parts(path, value):
            yield from _flat(f"{path}.{name}", part)


def _filled(path: str, template: object, read: ReadArray) -> object:
    """The like of `template` with the numbers that `read` gives for each path."""
    if isinstance(template, np.ndarray):
        # What has no entries before the first update, such as a look, may have any afterwards.
        known = template.size > 0
        shape = template.shape if known else tuple("mnk"[: template.ndim])
        return freeze(read(path, template.dtype if known else np.number, shape))
    if _is_number(template):
        return type(template)(read(path, _dtype_of_number(template), ())[()])
    filled = {n: _filled(f"{path}.{n}", part, read) for n, part in _parts(path, template)}
    if not _is_record(template):
        return tuple(filled.values())
    names = {field.name: field.alias for field in attrs.fields(type(template))}
    make: Callable[..., object] = type(template)
    try:
        return make(**{names[n]: part for n, part in filled.items()})
    except (ValueError, TypeError) as error:  # of a record that checks what it is given
        raise BadInput(f"{path} does not fit ({first_line(error)}): get the file again.") from error


def _parts(path: str, value: object) -> list[tuple[str, object]]:
    if type(value) is tuple:
        return [(str(i), part) for i, part in enumerate(value)]
    if _is_record(value):
        fields = [field for field in attrs.fields(type(value)) if field.init]
        return [(field.name, getattr(value, field.name)) for field in fields]
    raise BadInput(
        f"{path} is a {type(value).__name__}, which no run can hold: "
        "keep what an optimiser remembers in attrs records and tuples of arrays and numbers."
    )


def _is_record(value: object) -> TypeGuard[attrs.AttrsInstance]:
    return attrs.has(type(value))


def _is_number(value: object) -> TypeGuard[_Number]:
    if isinstance(value, np.generic):
        return _fits_a_file(value.dtype)
    return type(value) in (bool, int, float)  # an enumeration would be another thing when read


def _fits_a_file(dtype: AnyDType) -> bool:
    """Whether each bit of its numbers says something: not so of longer floats, nor of objects."""
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def _dtype_of_number(value: _Number) -> AnyDType:
    if isinstance(value, np.generic):
        return value.dtype
    return np.dtype({bool: np.bool_, int: np.int64, float: np.float64}[type(value)])
