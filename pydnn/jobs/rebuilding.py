"""Rebuilds a job from its recipe, later or in another process.

A job holds functions and prepared data, which cannot be sent to another process. But all of it
follows from the recipe, the data, and whether training is rotated, and these can be:

    rebuilt = rebuilding(job, "digits")  # a call without arguments, which can be pickled
    job = rebuilt()
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import attrs

from pydnn.checks import AnyPath, BadInput
from pydnn.data import DataSet, lasting_name
from pydnn.jobs.job import Job, prepare
from pydnn.jobs.loading import data_of
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import own_modules, read_recipe, write_recipe
from pydnn.records import Examples

__all__ = ["Prepare", "expect_to_travel", "rebuild", "rebuilding"]

Prepare: TypeAlias = Callable[..., Job]  # a function such as `prepare`


def rebuild(
    recipe: Recipe | str,
    data: DataSet | Examples | AnyPath,
    *,
    rotated: bool,
    prepare: Prepare = prepare,
    parts: Sequence[str] = (),
    allow: Iterable[str] = (),
    options: Mapping[str, object] = {},
) -> Job:
    """Build a job again from its recipe, at its initial state and with the same bits.

    The basis is the one chosen before, so recorded states fit the rebuilt job. The watched value
    of early stopping is not checked, because no step depends on it.

    Args:
        recipe: The recipe, or its text from `write_recipe`.
        data: The data that the job was trained on, or the name of that data set.
        rotated: Whether the job was trained in a rotated basis.
        prepare: The function that built the job.
        parts: The expected titles of the parts of the job's step; none to skip this check.
        allow: Names of the modules outside pydnn that a text may name; see `read_recipe`.
        options: Further keyword arguments for `prepare`.

    Raises:
        NotAllowed: If a text names a module that is not allowed.
        BadInput: If the data is missing or does not fit the recipe, or the step has other parts.
    """
    if isinstance(recipe, str):
        recipe = read_recipe(recipe, allow=allow)
    if isinstance(data, str | os.PathLike):
        data = data_of(recipe, data)
    batch = data.train if isinstance(data, DataSet) else data
    then = attrs.evolve(recipe, rotate=rotated, watch="", patience=0)
    job = attrs.evolve(prepare(then, batch, **options), recipe=recipe)
    if parts and job.train_step.titles != tuple(parts):
        raise BadInput(
            f"the step of the job was made of {', '.join(parts)}, but is now made of "
            f"{', '.join(job.train_step.titles)}: give prepare=…, the function that built the job."
        )
    return job


def rebuilding(
    job: Job, data: DataSet | Examples | AnyPath | None = None, *, prepare: Prepare = prepare
) -> Callable[[], Job]:
    """A call without arguments that rebuilds a job, and that can be pickled.

    Args:
        job: The job.
        data: The name of the job's data set, which the other process then loads; by default the
            job's examples, which are then pickled with the call.
        prepare: The function that built the job.

    Raises:
        BadInput: If another process could not import `prepare`.

    Example:
        >>> import pickle
        >>> from pydnn.jobs import prepare
        >>> line = nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]])
        >>> rate = "gradient_descent(learning_rate=0.1)"
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", rate, iterations=200)
        >>> job = prepare(recipe, line)
        >>> again = pickle.loads(pickle.dumps(rebuilding(job)))
        >>> again().state == job.state
        True
    """
    expect_to_travel(prepare)
    start = lasting_name(job.recipe.start_from) if job.recipe.start_from else ""
    return partial(
        rebuild,
        write_recipe(attrs.evolve(job.recipe, start_from=start)),
        job.batch if data is None else data,
        rotated=job.inputs.rotation is not None,
        prepare=prepare,
        parts=job.train_step.titles,
        # The user's own code has imported these modules, so the other process may import them too.
        allow=own_modules(job.recipe),
    )


def expect_to_travel(prepare: Prepare) -> None:
    """Refuse a `prepare` function that another process could not import.

    Raises:
        BadInput: If the function cannot be pickled, e.g. because it was defined in a function.
    """
    try:
        pickle.dumps(prepare)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise BadInput(
            f"prepare is {getattr(prepare, '__qualname__', prepare)}, which another process cannot "
            "find: define it as a function at the top level of a module."
        ) from error
