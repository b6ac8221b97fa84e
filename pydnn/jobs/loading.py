"""The examples that a recipe names, read as the recipe says."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from pydnn.batches import Batching, EpochBatches
from pydnn.checks import AnyPath, BadInput, shown
from pydnn.data import (
    DataSet,
    Table,
    TableBatch,
    TextExamples,
    Vocabulary,
    load_data_set,
    read_table,
    table_data,
)
from pydnn.data.stored import Stored
from pydnn.data.stored_tables import StoredTable, StoredTableBatch
from pydnn.descriptions.builders import build
from pydnn.jobs.columns import Columns
from pydnn.keys import Key
from pydnn.recipes.layouts import stages_that_take, without_weights
from pydnn.recipes.recipe import DTYPES, Recipe
from pydnn.records import Batch, Examples
from pydnn.stages.base import Stage

__all__ = ["data_of", "examples_in", "examples_of", "rows_in", "table_of"]


def data_of(
    recipe: Recipe,
    place: AnyPath | None = None,
    *,
    image_size: Sequence[int] | None = None,
    vocabulary: Vocabulary | None = None,
    mapped: bool | None = None,
) -> DataSet:
    """The data set of a recipe, loaded with the options that the recipe gives for its data.

    Images are columns, unless the network does not take them or the recipe augments the examples:
    then they are X (height, width, 3, m).

    Args:
        recipe: The job.
        place: The name or the place of the data; by default the one that the recipe names.
        image_size: Height and width of the images that pictures in a folder become; by default
            those of the recipe.
        vocabulary: The symbols of a text, if they are known; by default those in the file.
        mapped: Whether examples stay in their file; None if they would take more than a quarter of
            the free memory. No bit depends on it.

    Raises:
        BadInput: If pydnn cannot find the data set, it is damaged, its images do not have the size
            that the recipe states, or the streams of a text would be torn apart by a validation
            part, or by the batches of a network that carries a state from batch to batch.
    """
    place = recipe.data if place is None else place
    text = _text_of(recipe)
    data = load_data_set(
        place,
        dtype=DTYPES[recipe.dtype],
        image_size=image_size or recipe.image_size,
        skip_unreadable=recipe.skip_unreadable,
        target=recipe.target,
        test=recipe.test,
        ignore=recipe.ignore,
        weights=recipe.example_weights,
        text=text,
        vocabulary=vocabulary,
        mapped=mapped,
        in_windows=_in_windows(recipe),
    )
    if text is not None and text.streams:
        _expect_streams(recipe, text.streams)
    found = data.image_shape and data.image_shape[:2]
    if image_size is None and recipe.image_size not in (None, found):
        height, width = recipe.image_size
        has = f"images of {found[0]} x {found[1]} pixels" if found else "no images"
        raise BadInput(
            f"image_size is {height} x {width}, but {place} has {has}, and only pictures in a "
            "folder are resized: leave image_size out."
        )
    return _as_the_network_takes_it(recipe, data)


def _in_windows(recipe: Recipe) -> bool:
    at = build(recipe.batches, family="batches").at
    return isinstance(at, EpochBatches) and at.window is not None


def _text_of(recipe: Recipe) -> TextExamples | None:
    return None if recipe.text is None else build(recipe.text, family="text")


def _expect_streams(recipe: Recipe, streams: int) -> None:
    """Refuse a validation part or batches that would tear the streams of a text apart."""
    network: Stage = build(without_weights(recipe.network), family="stage")
    carries = network.statistics is not None and network.statistics.read_in_training
    if recipe.holds_back and (streams > 1 or carries):
        name = "fold" if recipe.fold else "validation"
        raise BadInput(
            f"{name} is {getattr(recipe, name)}, which would hold back windows in the middle of "
            f"{streams} streams: leave it out, or hold back the ends with test."
        )
    batching: Batching = build(recipe.batches, family="batches")
    if carries and not _are_in_order(batching, streams):
        raise BadInput(
            f"batches is {batching}, but the network carries a state from batch to batch, expected "
            f"the next window of each of {streams} streams in every batch: give "
            f"mini_batches({streams}, shuffle=False), or windows with a stream for each "
            "example of a batch."
        )


def _are_in_order(batching: Batching, streams: int) -> bool:
    """Whether each batch holds one example of every stream, the next one after the last batch's."""
    numbers = np.arange(2.0 * streams + 64)[np.newaxis]  # too many for a random order to be this
    data = Batch(numbers, numbers)
    try:
        first, second = (batching.at(data, Key(0), k).X for k in (0, 1))
    except BadInput:  # batches are larger than the data
        return False
    expected = numbers[:, :streams]
    return np.array_equal(first, expected) and np.array_equal(second, expected + streams)


def _as_the_network_takes_it(recipe: Recipe, data: DataSet) -> DataSet:
    """Images as (height, width, 3, m) if the network does not take columns, or else as columns.

    The network's own `init` decides, so a network that is used with columns still gets them.
    """
    if data.image_shape is None or len(data.train.shape) > 1:
        return data
    if recipe.augment:
        return data.unflattened()
    all_stages, of_columns = stages_that_take(recipe, data.train.shape)
    if of_columns == all_stages:
        return data
    # If it takes neither, training will refuse the form that it takes further. A network that takes
    # larger images, e.g. because a window does not fit into these, is one for images.
    for shape in (data.image_shape, (*_LARGE, *data.image_shape[2:])):
        _, of_images = stages_that_take(recipe, shape)
        if of_images > of_columns:
            return data.unflattened()
    return data


_LARGE = (4096, 4096)  # pixels


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


def examples_of(recipe: Recipe, data: object) -> DataSet | Examples:
    """The examples that a caller gives for a recipe.

    Args:
        recipe: The job.
        data: A data set, whose images become what `data_of` says; a batch or examples in files,
            which stay as they are; what a batch is made of, such as (X, Y); or, if the recipe
            names a target, a table, see `table_of`.

    Raises:
        BadInput: If it is something else, or a table that does not fit the recipe.
    """
    if isinstance(data, DataSet):
        return _as_the_network_takes_it(recipe, data)
    if isinstance(data, Batch | Stored):
        return data
    if recipe.target:
        return table_of(recipe, data)
    if isinstance(data, tuple) and 2 <= len(data) <= len(attrs.fields(Batch)):
        return Batch(*data)
    raise BadInput(
        f"data is {shown(data)}, expected examples or the name of a data set: give nn.Batch(X, Y), "
        "with the examples on the last axis, or a table and, in the recipe, its target."
    )


def rows_in(path: AnyPath, columns: Columns, *, mapped: bool | None = None) -> Table | StoredTable:
    """The rows of a table's file, for a model to predict.

    Args:
        path: The file, see `read_table`.
        columns: The model's conversion of each column. Columns of texts are read as texts, even if
            all their values in this file look like numbers.
        mapped: Whether the rows stay in their file, see `data_of`.

    Raises:
        BadInput: If the file cannot be read.
    """
    return read_table(
        path,
        texts=columns.texts,
        known=[part.name for part in columns.parts],
        ignored=columns.apart,
        mapped=mapped,
    )


def examples_in(
    path: AnyPath, columns: Columns, *, weights: str = "", mapped: bool | None = None
) -> TableBatch | StoredTableBatch:
    """The rows of a table's file with their targets, to evaluate a model on.

    Args:
        path: The file, see `read_table`.
        columns: The model's conversion of each column.
        weights: The column that says how much each example counts; the file may lack it.
        mapped: Whether the rows stay in their file, see `data_of`.

    Raises:
        BadInput: If the file cannot be read, or a target is not in it.
    """
    table = rows_in(path, columns, mapped=mapped)
    apart = [name for name in columns.apart if name in table.names and name != weights]
    return table.examples(
        columns.targets.names, ignore=apart, weights=weights if weights in table.names else ""
    )
