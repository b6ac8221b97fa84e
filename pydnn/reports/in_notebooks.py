"""What notebooks show of trainings: a small table, and the curve of the costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from pydnn.descriptions.text import write_description
from pydnn.recipes.recipe import Recipe
from pydnn.records import FloatArray
from pydnn.reports.charts import Series, small_chart
from pydnn.tables import html_table

__all__ = ["html_of_training"]


def html_of_training(
    caption: str,
    rows: Sequence[Sequence[str]],
    recipe: Recipe,
    costs: FloatArray,
    measured: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
) -> str:
    """A table of a training with its costs as a small curve, in which all text is escaped.

    Args:
        caption: The title of the table.
        rows: Its first rows, each a name and a value.
        recipe: The recipe.
        costs: The cost of each step (iterations,).
        measured: By part of the data, the iterations at which its cost was measured, and the costs.
    """
    series = [Series("cost", np.arange(len(costs)), costs)]
    series += [
        Series(f"{part} cost", at, values) for part, (at, values) in (measured or {}).items()
    ]
    last = {one.name: one.y[-1] for one in series if len(one.y)}
    table = [
        *rows,
        *([f"last {name}", f"{value:.9g}"] for name, value in last.items()),
        ["data", recipe.data],
        ["network", write_description(recipe.network)],
        ["loss", write_description(recipe.loss)],
        ["optimizer", write_description(recipe.optimizer)],
        ["arithmetic", f"{recipe.numerics}, {recipe.dtype}, seed {recipe.seed}"],
    ]
    return html_table(caption, [], table) + small_chart("Cost", series)
