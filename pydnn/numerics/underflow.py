"""Functions that ignore underflow, even inside a caller's `np.errstate(under="raise")`.

exp(-800) is meant to round to 0, and so are products of tiny gradients. Underflow is never an
error in pydnn, so every public function ignores it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import attrs
import numpy as np

from pydnn.records import Fields, as_array

__all__ = ["bare", "belongs", "ignoring_in", "ignoring_underflow", "to_ignoring"]

_BESIDE = "_pydnn_beside"  # attribute of a faster form: the function that it belongs to
_BARE = "_pydnn_bare"  # attribute of a function made here: that function, and the one inside
_Function = TypeVar("_Function", bound=Callable[..., object])
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def ignoring_underflow(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """Return a function that gives the results of the pure `function` and ignores underflow.

    The records of stages, losses, penalties and optimizers apply this to their own functions. If
    the caller turned underflow into an error, the function is called a second time with underflow
    ignored. This costs nothing in the usual case, while setting an error state for every call took
    4 % of the smallest step. Inside such a function, e.g. for the stages of a network, pydnn calls
    the `bare` functions.
    """
    if bare(function) is not function:
        return function

    @functools.wraps(function)
    def ignoring(*args: _Given.args, **keywords: _Given.kwargs) -> _Result:
        try:
            return function(*args, **keywords)
        except FloatingPointError:
            pass
        with np.errstate(under="ignore"):
            return function(*args, **keywords)

    vars(ignoring)[_BARE] = ignoring, function
    return ignoring


def to_ignoring(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """Do the same for a field of a record, whose function then also refuses masked arrays.

    The `bare` function inside checks nothing: the arrays of a training were checked at its start.
    Arrays from a caller of the field are checked here.
    """
    if bare(function) is not function:
        return function

    @functools.wraps(function)
    def called(*args: _Given.args, **keywords: _Given.kwargs) -> _Result:
        for value in (*args, *keywords.values()):
            if isinstance(value, np.ma.MaskedArray):
                as_array(value)  # raises if entries are masked
        try:
            return function(*args, **keywords)
        except FloatingPointError:
            pass
        with np.errstate(under="ignore"):
            return function(*args, **keywords)

    vars(called)[_BARE] = called, function
    return called


def ignoring_in(*names: str) -> Callable[[type, Fields], Fields]:
    """Return a field transformer that applies `to_ignoring` to the fields called `names`.

    Use it as `@attrs.frozen(field_transformer=ignoring_in("forward", "backward"))`. A converter in
    the field itself would hide the type of the function from type checkers.
    """
    converter = attrs.converters.optional(to_ignoring)

    def transform(cls: type, fields: Fields) -> Fields:
        return [f.evolve(converter=converter) if f.name in names else f for f in fields]

    return transform


def bare(function: _Function) -> _Function:
    """Return the function inside one made by `ignoring_underflow`; any other one unchanged."""
    # `functools.wraps` copies the mark to functions that may do something else.
    owner, inside = getattr(function, _BARE, (None, function))
    return inside if owner is function else function


def belongs(faster: Callable[..., object], function: Callable[..., object]) -> bool:
    """Return whether `faster` is still the faster form of a record's `function`.

    A record is made with both. `attrs.evolve(record, function=...)` replaces only one, and training
    would go on with the faster form of the old one.

    Args:
        faster: The field with the faster form, under `ignoring_in`.
        function: The field with the function, under `ignoring_in`.
    """
    return vars(faster).setdefault(_BESIDE, function) is function
