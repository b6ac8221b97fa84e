"""Functions of examples in files that workers can apply, too: each is known by a name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, Self

from pydnn.checks import BadInput, Json, expect_known
from pydnn.records import AnyArray, Batch

__all__ = ["Conversion", "conversion_of", "plain_conversion"]


class Conversion(Protocol):
    """A pure function from batch to batch that can cross to another process as text and arrays.

    It treats each example alone, and what it makes of labels and weights does not depend on X.

    Attributes:
        name: Its name in `CONVERSIONS`.
    """

    name: ClassVar[str]

    def __call__(self, batch: Batch) -> Batch:
        """The batch of what it makes of each example."""

    def of_labels(self, batch: Batch) -> Batch:
        """The same for a batch whose X has no numbers, which stays as it is."""

    @property
    def plain(self) -> tuple[Json, dict[str, AnyArray]]:
        """Everything that `of_plain` needs to make it again."""

    @classmethod
    def of_plain(cls, facts: Any, arrays: Mapping[str, AnyArray]) -> Self:
        """The conversion that had this `plain`.

        Raises:
            BadInput: If no conversion has it.
        """


# Each name stands for a class in a module, which is imported when the name is used.
CONVERSIONS: Mapping[str, str] = {
    "class weights": "pydnn.jobs.class_weights:WeighClasses",
    "inputs": "pydnn.jobs.inputs:InputsOfFiles",
    "pixels": "pydnn.data.image_folders:Pixels",
}


def plain_conversion(
    function: Callable[[Batch], Batch],
) -> tuple[str, Json, dict[str, AnyArray]] | None:
    """The name of a conversion with its facts and arrays; None for any other function.

    Example:
        >>> from pydnn.data.image_folders import Pixels
        >>> plain_conversion(Pixels())
        ('pixels', None, {})
        >>> plain_conversion(lambda batch: batch) is None
        True
    """
    name = getattr(type(function), "name", None)
    if not isinstance(name, str) or name not in CONVERSIONS or _class(name) is not type(function):
        return None
    conversion: Any = function
    return name, *conversion.plain


def conversion_of(name: str, facts: Json, arrays: Mapping[str, AnyArray]) -> Conversion:
    """The conversion that `plain_conversion` described.

    Raises:
        BadInput: If there is none of this name, facts and arrays.

    Example:
        >>> conversion_of("pixels", None, {})
        Pixels()
    """
    expect_known("conversion", name, CONVERSIONS)
    try:
        return _class(name).of_plain(facts, arrays)
    except (LookupError, TypeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"the conversion {name!r} is damaged ({error}): use one version of pydnn everywhere."
        ) from error


def _class(name: str) -> type[Conversion]:
    module, _, place = CONVERSIONS[name].partition(":")
    cls: type[Conversion] = getattr(importlib.import_module(module), place)
    return cls
