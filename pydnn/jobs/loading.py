"""The examples that a recipe names, read as the recipe says."""

from __future__ import annotations

from collections.abc import Sequence

from pydnn.checks import AnyPath, BadInput, shown
from pydnn.data import DataSet, Table, TableBatch, load_data_set, read_table, table_data
from pydnn.jobs.columns import Columns
from pydnn.recipes.recipe import DTYPES, Recipe
from pydnn.records import Batch

__all__ = ["data_of", "examples_in", "examples_of", "rows_in", "table_of"]


def data_of(
    recipe: Recipe, place: AnyPath | None = None, *, image_size: Sequence[int] | None = None
) -> DataSet:
    """The data set of a recipe, loaded with the options that the recipe gives for its data.

    Args:
        recipe: The job.
        place: The name or the place of the data; by default the one that the recipe names.
        image_size: Height and width of the images that pictures in a folder become; by default
            those of the recipe.

    Raises:
        BadInput: If there is no such data set, it is damaged, or its images do not have the size
            that the recipe states.
    """
    place = recipe.data if place is None else place
    data = load_data_set(
        place,
        dtype=DTYPES[recipe.dtype],
        image_size=image_size or recipe.image_size,
        skip_unreadable=recipe.skip_unreadable,
        target=recipe.target,
        test=recipe.test,
        ignore=recipe.ignore,
        weights=recipe.example_weights,
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


def table_of(recipe: Recipe, table: object) -> DataSet:
    """The data set of a recipe whose table is there already, e.g. as a data frame.

    Args:
        recipe: The job, which names the target.
        table: A `Table`, or anything that `Table.of` takes.

    Raises:
        BadInput: If it is not a table, or does not have the columns that the recipe names.

    Example:
        >>> recipe = nn.Recipe("rows", "dense(1)", "mean_squared()", "adam()", 5, target="y")
        >>> table_of(recipe, {"x": [1, 2, 3], "y": [2, 4, 6]}).train.table
        <Table: 3 rows; x (numbers)>
    """
    return table_data(
        table,
        recipe.target,
        test=recipe.test,
        ignore=recipe.ignore,
        weights=recipe.example_weights,
    )


def examples_of(recipe: Recipe, data: object) -> DataSet | Batch:
    """The examples that a caller gives for a recipe.

    Args:
        recipe: The job.
        data: A data set or a batch, which stays as it is; or, if the recipe names a target, a
            table, see `table_of`.

    Raises:
        BadInput: If it is something else, or a table that does not fit the recipe.
    """
    if isinstance(data, DataSet | Batch):
        return data
    if recipe.target:
        return table_of(recipe, data)
    raise BadInput(
        f"data is {shown(data)}, expected examples or the name of a data set: give nn.Batch(X, Y), "
        "with one column per example, or a table and, in the recipe, its target."
    )


def rows_in(path: AnyPath, columns: Columns) -> Table:
    """The rows of a table's file, for a model to predict.

    Args:
        path: The file, see `read_table`.
        columns: The model's conversion of each column. Columns of texts are read as texts, even if
            all their values in this file look like numbers.

    Raises:
        BadInput: If the file cannot be read.
    """
    return read_table(path, texts=columns.texts)


def examples_in(path: AnyPath, columns: Columns, *, weights: str = "") -> TableBatch:
    """The rows of a table's file with their targets, to evaluate a model on.

    Args:
        path: The file, see `read_table`.
        columns: The model's conversion of each column.
        weights: The column that says how much each example counts; the file may lack it.

    Raises:
        BadInput: If the file cannot be read, or a target is not in it.
    """
    table = rows_in(path, columns)
    apart = [name for name in columns.apart if name in table.names and name != weights]
    return table.examples(
        columns.targets.names, ignore=apart, weights=weights if weights in table.names else ""
    )
