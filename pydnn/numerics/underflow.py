"""The same results whatever NumPy does about underflow: `np.errstate(under="raise")` in a caller.

exp(-800) rounds to 0 by intent, as do the products of tiny gradients. Underflow is nowhere an
error in pydnn, so every function that people call ignores it while it runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import attrs
import numpy as np

from pydnn.records import Fields, as_array

__all__ = ["bare", "belongs", "ignoring_in", "ignoring_underflow", "to_ignoring"]

_BESIDE = "_pydnn_beside"  # the attribute that holds the function which it was given beside
_BARE = "_pydnn_bare"  # the attribute of a function here that holds the one it was made of
_Function = TypeVar("_Function", bound=Callable[..., object])
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def ignoring_underflow(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """A pure `function`, to which underflow is no error.

    The records of stages, losses, penalties and optimizers do this to their own functions. The
    function is called a second time where underflow was an error. That costs nothing where it is
    not, unlike an error state for every call, which took 4 % of the smallest step. What runs
    inside such a function already, such as the stages of a network, is called `bare`.
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

    vars(ignoring)[_BARE] = function
    return ignoring


def to_ignoring(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """The same for the fields of records, which refuse arrays with masked entries besides.

    Records hold `bare` functions that compute with arrays as they come. What a training gives
    them was checked before; what a caller gives them is checked here.
    """
    if bare(function) is not function:
        return function
    ignoring = ignoring_underflow(function)

    @functools.wraps(function)
    def called(*args: _Given.args, **keywords: _Given.kwargs) -> _Result:
        for value in (*args, *keywords.values()):
            if isinstance(value, np.ma.MaskedArray):
                as_array(value)  # which refuses it
        return ignoring(*args, **keywords)

    vars(called)[_BARE] = function
    return called


def ignoring_in(*names: str) -> Callable[[type, Fields], Fields]:
    """Give the fields called `names`, which hold functions, the converter `to_ignoring`.

    For `@attrs.frozen(field_transformer=ignoring_in("forward", "backward"))`. A converter that a
    field itself declares would hide the function's type from type checkers.
    """
    converter = attrs.converters.optional(to_ignoring)

    def transform(cls: type, fields: Fields) -> Fields:
        return [f.evolve(converter=converter) if f.name in names else f for f in fields]

    return transform


def bare(function: _Function) -> _Function:
    """The function that `ignoring_underflow` was applied to; any other one as it is."""
    return getattr(function, _BARE, function)


def belongs(faster: Callable[..., object], function: Callable[..., object]) -> bool:
    """Whether a faster form of a function of a record is that of its `function` now.

    The two are given together; `attrs.evolve(record, function=...)` replaces one of them alone, and
    training would go on with the other one.

    Args:
        faster: A field of the record, under `ignoring_in`.
        function: The other field, under `ignoring_in`.
    """
    return vars(faster).setdefault(_BESIDE, function) is function
