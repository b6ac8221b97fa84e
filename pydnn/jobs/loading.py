"""The examples that a recipe names, read as the recipe says."""

from __future__ import annotations

from pydnn.checks import AnyPath
from pydnn.data import DataSet, load_data_set
from pydnn.recipes.recipe import DTYPES, Recipe

__all__ = ["data_of"]


def data_of(recipe: Recipe, place: AnyPath | None = None) -> DataSet:
    """The data set of a recipe, read as its keys say; everything that has a recipe uses this.

    Args:
        recipe: The job.
        place: The name or the place of the data; by default the one that the recipe names.

    Raises:
        BadInput: If there is no such data set, or it is damaged.
    """
    return load_data_set(recipe.data if place is None else place, dtype=DTYPES[recipe.dtype])
