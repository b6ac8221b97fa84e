"""Trains a job from beginning to end in one call.

    trained = train(recipe, data)
    trained.model.predict(X)
    trained.model.save("model.h5")

These lines give bit for bit the model that `pydnn train` gives.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import attrs
import numpy as np

from pydnn.checks import AnyPath, BadInput, fixed, known_options, shown
from pydnn.data import DataSet
from pydnn.jobs.expectations import expect_test
from pydnn.jobs.job import Job, prepare, run, watching
from pydnn.jobs.loading import data_of, examples_of
from pydnn.jobs.model import Model, model_of
from pydnn.jobs.parts import out_of_patience
from pydnn.recipes.recipe import Recipe
from pydnn.records import Examples, FloatArray, arrays
from pydnn.training import NotFinite, TrainState
from pydnn.training.finite import ignoring_overflow
from pydnn.training.stopping import Watched, why_ended
from pydnn.training.streams import Stream

if TYPE_CHECKING:
    from pydnn.workers.interface import Executor

__all__ = ["Trained", "expect_same_data", "train"]


@attrs.frozen(eq=False, repr=False, field_transformer=arrays)
class Trained:
    """The result of training a job.

    Attributes:
        job: The job that was trained.
        state: The state to keep: the best one if the recipe stops early, else the last one.
        last: The state after the last step.
        costs: The cost of every step, shape (iterations,).
        error: The exception of `ending` that ended training, if one did.
        data: The examples that the job was trained on, if `train` received or loaded them.
        out_of_patience: Whether the early stopping of the recipe ended the training.

    Example:
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=5)
        >>> trained = nn.train(recipe, nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]]))
        >>> trained.iteration, trained.why, trained.costs.shape
        (5, 'finished', (5,))
    """

    job: Job
    state: TrainState
    last: TrainState
    costs: FloatArray
    error: BaseException | None = None
    data: DataSet | Examples | None = None
    out_of_patience: bool = False

    def __repr__(self) -> str:
        cost = f", cost {fixed(self.costs[-1], 6)} in the last" if self.costs.size else ""
        kept = "" if self.state is self.last else f"; the state after {self.iteration} is kept"
        return f"<Trained: {self.why} after {len(self.costs)} steps{cost}{kept}>"

    def _repr_html_(self) -> str:
        from pydnn.reports.in_notebooks import html_of_training  # here, since few processes need it

        rows = [["steps", f"{len(self.costs):,} of {self.job.recipe.iterations:,}, {self.why}"]]
        if self.state is not self.last:
            rows.append(["kept", f"the state after step {self.iteration:,}"])
        return html_of_training("trained", rows, self.job.recipe, self.costs)

    @property
    def iteration(self) -> int:
        """The number of steps that led to `state`."""
        return self.state.iteration

    @property
    def why(self) -> str:
        """Why training ended.

        It is "finished", "stopped early" by the recipe's patience, "cut short" by whoever took the
        steps, "not finite", or "interrupted".
        """
        if self.error is not None:
            return "not finite" if isinstance(self.error, NotFinite) else "interrupted"
        finished = len(self.costs) >= self.job.recipe.iterations
        return why_ended(finished=finished, out_of_patience=self.out_of_patience)

    @property
    def model(self) -> Model:
        """The model with the parameters of `state`."""
        return model_of(self.job, self.state, self.costs, self.data)


@known_options
def train(
    job: Job | Recipe,
    data: DataSet | Examples | AnyPath | object = None,
    *,
    through: Callable[[Stream], Stream] = lambda stream: stream,
    costs: Iterable[float] = (),
    watched: Watched | None = None,
    ending: tuple[type[BaseException], ...] = (),
    executor: Executor | None = None,
) -> Trained:
    """Train a job to its last iteration, or until its recipe stops it early.

    Args:
        job: A recipe, or a job from `prepare` or `resume_run`.
        data: The examples: a data set, a batch, what a batch is made of, such as (X, Y), or the
            name of a data set; for a recipe with a target also a `Table`, a data frame, or anything
            else that `Table.of` takes. By default, a recipe is trained on the data that it names.
        through: A function from stream to stream that wraps the stream of steps, e.g. a progress
            bar or `partial(record, recording)`.
        costs: The costs of the steps before the job's state, if training continues from there.
        watched: The record of early stopping in those steps.
        ending: Exceptions that end training without being raised, e.g. (KeyboardInterrupt,).
            The result then has the last good state, and the exception as `error`.
        executor: Who computes the shards of each batch, for a recipe with shards, e.g.
            `nn.workers.processes(4)`; by default this thread. No bit depends on it.

    Raises:
        BadInput: If the recipe does not fit the data or its test part, see `prepare`; or if a file
            that the data stays in changes meanwhile.
        NotFinite: If a number becomes infinite or NaN; the exception holds the last good state.

    Example:
        >>> optimizer = "gradient_descent(learning_rate=0.1)"
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", optimizer, iterations=200)
        >>> trained = train(recipe, nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]]))
        >>> trained.why
        'finished'
        >>> print(trained.model.predict([[3.0]]).round(1))
        [[7.]]
    """
    if not isinstance(job, Job | Recipe):
        raise BadInput(f"job is {shown(job)}, expected a recipe or a job: give nn.Recipe(...).")
    recipe, known = job if isinstance(job, Recipe) else job.recipe, None
    if data is not None and not isinstance(data, str | os.PathLike):
        known = examples_of(recipe, data)
    elif isinstance(job, Recipe):
        known = data_of(job, data)
    if isinstance(job, Recipe):
        job = prepare(job, known)
    elif known is not None:
        expect_same_data(job, known)
    job = job.computed_by(executor)
    last, taken, error = job.state, list(costs), None
    latest = following = watched or watching(job)

    def note(watched: Watched) -> None:
        nonlocal latest
        latest = watched

    stream = through(run(job, watched=watched, on_watched=note))
    try:
        with ignoring_overflow(), contextlib.ExitStack() as stack:
            # Closing the stream lets a recorder finish its files before anything else happens.
            stack.callback(getattr(stream, "close", lambda: None))
            for last, info in stream:
                taken.append(info.cost)
                if following.watch is not None:
                    # `through` may hold steps back, and then early stopping is ahead of this loop.
                    following = latest if latest.last is last else following.after(last, info)
            job.files.expect_unchanged()  # early stopping may have ended the stream
    except ending as ended:
        error = ended
    kept = None if following.watch is None else following.kept
    stopped = out_of_patience(job.recipe, following)
    costs_of_all = np.array(taken, np.float64)
    return Trained(job, kept or last, last, costs_of_all, error, known, stopped)


def expect_same_data(job: Job, data: DataSet | Examples) -> None:
    """Refuse data whose training part differs from the examples that the job was prepared with.

    Raises:
        BadInput: If it differs, or if the test part does not fit the job; see `expect_test`.
    """
    batch = data.train if isinstance(data, DataSet) else data
    if batch is not job.batch and batch != job.batch:
        raise BadInput("data is not what the job was prepared with: give the same examples.")
    if isinstance(data, DataSet):
        expect_test(job, data.test, classes=data.classes)
