"""The state of a training as named arrays, and back, for the segments of a run and fingerprints.

The state of an optimizer is a tree of tuples and records with arrays and numbers as leaves. The
optimizer itself defines the shape of the tree, so a file needs to hold only the leaves.
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
from pydnn.stages.base import Shape
from pydnn.storage.files import RESTORE
from pydnn.training import TrainState

__all__ = ["ReadArray", "arrays_of", "state_fingerprint", "state_from"]

_Scalar = TypeVar("_Scalar", bound=np.generic)
_Number: TypeAlias = np.generic | bool | int | float


class ReadArray(Protocol):
    """A function that reads an array of a file, and refuses it if its dtype or shape differs."""

    def __call__(
        self, name: str, dtype: type[_Scalar] | np.dtype[_Scalar], shape: Sequence[int | str], /
    ) -> NDArray[_Scalar]:
        """Read the array called `name`; a text in `shape` stands for an axis of any size."""


def arrays_of(state: TrainState) -> dict[str, AnyArray]:
    """The iteration and all numbers of a state by name, in an order that only its shape decides.

    Raises:
        BadInput: If the optimizer's state holds anything but arrays and numbers.
    """
    return {
        "iteration": np.array(state.iteration, np.int64),
        "parameters": state.parameters.vector,
        "statistics": state.statistics.vector,
        **dict(_flat("optimizer", state.optimizer_state)),
    }


def state_fingerprint(state: TrainState) -> str:
    """The SHA-256 of the bits of a state: iteration, parameters, statistics, optimizer's state.

    Raises:
        BadInput: If the state holds a NaN, or a value that no file can hold.
    """
    return fingerprint(arrays_of(state))


def state_from(
    read: ReadArray, recipe: Recipe, *, shape: Shape, iteration: int, key: Key
) -> TrainState:
    """The state of a training, from the arrays of a file.

    Args:
        read: A function that reads an array of the file.
        recipe: The recipe of the training, which defines the shapes.
        shape: The shape of an example, e.g. (4,) for four features.
        iteration: The number of steps before this state.
        key: The key of the training.

    Raises:
        BadInput: If an array does not fit the recipe, or is not finite.
    """
    dtype = DTYPES[recipe.dtype]
    packed = []
    for name, layout in zip(("parameters", "statistics"), layouts_of(recipe, shape), strict=True):
        vector = read(name, dtype, (layout.size,))
        expect_finite(name, vector)
        packed.append(layout.packed(freeze(vector)))
    parameters, statistics = packed
    optimizer: GradientTransformation = build(recipe.optimizer, family="optimizer")
    optimizer_state = _filled("optimizer", optimizer.init(parameters), read)
    return TrainState(iteration, parameters, optimizer_state, key, statistics)


def _flat(path: str, value: object) -> Iterator[tuple[str, AnyArray]]:
    """The arrays and numbers in the tree `value`, each with its path."""
    if isinstance(value, np.ndarray) and _fits_a_file(value.dtype):
        yield path, value
    elif _is_number(value):
        try:
            yield path, np.asarray(value, _dtype_of_number(value))
        except OverflowError as error:
            raise BadInput(
                f"{path} is an integer of more than 64 bits, expected fewer: keep a float."
            ) from error
    else:
        for name, part in _parts(path, value):
            yield from _flat(f"{path}.{name}", part)


def _filled(path: str, template: object, read: ReadArray) -> object:
    """A tree like `template`, with the array or number that `read` returns for each path."""
    if isinstance(template, np.ndarray):
        # An array without entries before the first update, as `look` has, may get any number later.
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
    except (ValueError, TypeError) as error:  # the record checks its fields
        raise BadInput(f"{path} does not fit ({first_line(error)}): {RESTORE}.") from error


def _parts(path: str, value: object) -> list[tuple[str, object]]:
    if type(value) is tuple:
        return [(str(i), part) for i, part in enumerate(value)]
    if _is_record(value):
        fields = [field for field in attrs.fields(type(value)) if field.init]
        return [(field.name, getattr(value, field.name)) for field in fields]
    raise BadInput(
        f"{path} is a {type(value).__name__}, which no run can hold, expected arrays or numbers: "
        "keep the state of an optimizer in attrs records and tuples of these."
    )


def _is_record(value: object) -> TypeGuard[attrs.AttrsInstance]:
    return attrs.has(type(value))


def _is_number(value: object) -> TypeGuard[_Number]:
    if isinstance(value, np.generic):
        return _fits_a_file(value.dtype)
    return type(value) in (bool, int, float)  # a subclass, e.g. an enum, would not come back


def _fits_a_file(dtype: AnyDType) -> bool:
    """Whether all bits of its numbers count; long doubles have padding, objects are addresses."""
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def _dtype_of_number(value: _Number) -> AnyDType:
    if isinstance(value, np.generic):
        return value.dtype
    return np.dtype({bool: np.bool_, int: np.int64, float: np.float64}[type(value)])
