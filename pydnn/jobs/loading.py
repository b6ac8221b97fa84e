"""The examples that a recipe names, read as the recipe says."""

from __future__ import annotations

from collections.abc import Sequence

from pydnn.checks import AnyPath, BadInput
from pydnn.data import DataSet, load_data_set
from pydnn.recipes.recipe import DTYPES, Recipe

__all__ = ["data_of"]


def data_of(
    recipe: Recipe, place: AnyPath | None = None, *, image_size: Sequence[int] | None = None
) -> DataSet:
    """The data set of a recipe, read as its keys say; everything that has a recipe uses this.

    Args:
        recipe: The job.
        place: The name or the place of the data; by default the one that the recipe names.
        image_size: Height and width of the images that pictures in a folder become; by default
            those of the recipe.

    Raises:
        BadInput: If there is no such data set, it is damaged, or it has images of another size than
            the recipe says.
    """
    place = recipe.data if place is None else place
    data = load_data_set(
        place,
        dtype=DTYPES[recipe.dtype],
        image_size=image_size or recipe.image_size,
        skip_unreadable=recipe.skip_unreadable,
    )
    found = data.image_shape and data.image_shape[:2]
    if image_size is None and recipe.image_size not in (None, found):
        height, width = recipe.image_size
        has = f"images of {found[0]} x {found[1]} pixels" if found else "no images"
        raise BadInput(
            f"image_size is {height} x {width}, but {place} has {has}, and only pictures in a "
            "folder are resized: leave image_size out."
        )
    return data
