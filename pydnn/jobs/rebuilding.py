"""A job that was made before, made again from its recipe: later, or in another process.

A job holds functions and prepared data, but all of it follows from the recipe, the data and what
was decided about the basis. That is little enough for a file, and can go to any process:

    again = rebuilding(job, "digits")  # a call, which can be pickled
    job = again()
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import attrs

from pydnn.checks import AnyPath, BadInput
from pydnn.data import DataSet
from pydnn.jobs.job import Job, prepare
from pydnn.jobs.loading import data_of
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import own_builders_of, read_recipe, read_toml, write_recipe
from pydnn.records import Batch

__all__ = ["Prepare", "expect_to_travel", "rebuild", "rebuilding"]

Prepare: TypeAlias = Callable[..., Job]  # a function such as `prepare`


def rebuild(
    recipe: Recipe | str,
    data: DataSet | Batch | AnyPath,
    *,
    rotated: bool,
    prepare: Prepare = prepare,
    parts: Sequence[str] = (),
    allow: Iterable[str] = (),
    options: Mapping[str, object] = {},
) -> Job:
    """The job that was made of a recipe before, from its beginning, with the same bits.

    What was decided then is not decided again: states are those of the basis of then. What early
    stopping watches is not checked, since no step depends on it.

    Args:
        recipe: The recipe, or the text that `write_recipe` wrote of it.
        data: What the job was trained on, or its name.
        rotated: Whether it was trained in a rotated basis.
        prepare: The function that made it.
        parts: Names of the parts of its step; none are not compared.
        allow: Names of the modules outside pydnn that a text may name, see `read_recipe`.
        options: What `prepare` was given besides the recipe and the examples.

    Raises:
        NotAllowed: If a text names a module that is not allowed.
        BadInput: If the data is not there or does not fit the recipe, or the step is made of
            other parts.
    """
    if isinstance(recipe, str):
        recipe = read_recipe(recipe, allow=allow)
    if not isinstance(data, DataSet | Batch):
        data = data_of(recipe, data)
    batch = data if isinstance(data, Batch) else data.train
    then = attrs.evolve(recipe, rotate=rotated, watch="", patience=0)
    job = attrs.evolve(prepare(then, batch, **options), recipe=recipe)
    if parts and job.train_step.names != tuple(parts):
        raise BadInput(
            f"the step of the job was made of {', '.join(parts)}, but here it is made of "
            f"{', '.join(job.train_step.names)}: give prepare=…, the function that made the job."
        )
    return job


def rebuilding(
    job: Job, data: DataSet | Batch | AnyPath | None = None, *, prepare: Prepare = prepare
) -> Callable[[], Job]:
    """The call that makes a job again, from its beginning, in any process that has its data.

    Args:
        job: The job.
        data: The name of its data, for a process that has to load the data itself; by default,
            the examples that it was prepared with, which then go along.
        prepare: The function that made it.

    Raises:
        BadInput: If `prepare` is a function that another process cannot find.

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
    text = write_recipe(job.recipe)
    # This process has imported them already, on behalf of its user.
    allow = [name.partition(":")[0] for name in own_builders_of(read_toml(text))]
    return partial(
        rebuild,
        text,
        job.batch if data is None else data,
        rotated=job.inputs.rotation is not None,
        prepare=prepare,
        parts=job.train_step.names,
        allow=allow,
    )


def expect_to_travel(prepare: Prepare) -> None:
    """Refuse a function that made a job if another process could not find it.

    Raises:
        BadInput: If it could not.
    """
    try:
        pickle.dumps(prepare)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise BadInput(
            f"prepare is {getattr(prepare, '__qualname__', prepare)}, which another process cannot "
            "find: define it as a function at the top of a module."
        ) from error
