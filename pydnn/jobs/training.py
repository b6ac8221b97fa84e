"""A job trained from its beginning to its end in one call.

    trained = train(recipe, data)
    trained.model.predict(X)
    trained.model.save("model.h5")

These lines do what `pydnn train` does, to the same bits.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable

import attrs
import numpy as np

from pydnn.checks import AnyPath, BadInput, fixed, shown
from pydnn.data import DataSet
from pydnn.jobs.job import Job, expect_test, prepare, run, watching
from pydnn.jobs.loading import data_of
from pydnn.jobs.model import Model, model_of
from pydnn.recipes.recipe import Recipe
from pydnn.records import Batch, FloatArray, arrays
from pydnn.training import NotFinite, TrainState
from pydnn.training.finite import ignoring_overflow
from pydnn.training.stopping import Watched
from pydnn.training.streams import Stream

__all__ = ["Trained", "expect_same_data", "train"]


@attrs.frozen(eq=False, repr=False, field_transformer=arrays)
class Trained:
    """What came of a training.

    Attributes:
        job: The job that was trained.
        state: The state to keep: the best one where the recipe stops early, else the last one.
        last: The state after the last step.
        costs: The cost of every step, (iterations,).
        error: The exception that ended the training, if one did that `train` does not raise.
        data: What the job was trained on.
    """

    job: Job
    state: TrainState
    last: TrainState
    costs: FloatArray
    error: BaseException | None = None
    data: DataSet | Batch | None = None

    def __repr__(self) -> str:
        cost = f", cost {fixed(self.costs[-1], 6)} in the last" if self.costs.size else ""
        kept = "" if self.state is self.last else f"; the state after {self.iteration} is kept"
        return f"<Trained: {self.why} after {len(self.costs)} steps{cost}{kept}>"

    @property
    def iteration(self) -> int:
        """The number of steps that led to `state`."""
        return self.state.iteration

    @property
    def why(self) -> str:
        """Why it ended: "finished", "stopped early", "not finite" or "interrupted"."""
        if self.error is not None:
            return "not finite" if isinstance(self.error, NotFinite) else "interrupted"
        return "finished" if len(self.costs) >= self.job.recipe.iterations else "stopped early"

    @property
    def model(self) -> Model:
        """The model of `state`, which predicts, and can be saved."""
        return model_of(self.job, self.state, self.costs, self.data)


def train(
    job: Job | Recipe,
    data: DataSet | Batch | AnyPath | None = None,
    *,
    through: Callable[[Stream], Stream] = lambda stream: stream,
    costs: Iterable[float] = (),
    watched: Watched | None = None,
    ending: tuple[type[BaseException], ...] = (),
) -> Trained:
    """Train a job until it has taken its steps, or its recipe stops it early.

    Args:
        job: A recipe, or the job that `prepare` or `resume_run` made of one.
        data: What is trained on: a data set, examples alone, or the name of a data set. By
            default, a recipe is trained on the data that it names.
        through: A function from stream to stream, which the steps go through, e.g. a progress bar
            or `partial(record, recording)`.
        costs: The costs of the steps before the state of the job, if it goes on.
        watched: What early stopping watched in these steps.
        ending: Exceptions that end the training without being raised, e.g. (KeyboardInterrupt,).
            The result then has the state before it, and the exception as `error`.

    Raises:
        BadInput: If the recipe, or its test part, does not fit the data; see `prepare`.
        NotFinite: If a number stops being finite; the exception holds the last good state.

    Example:
        >>> from pydnn import Batch
        >>> from pydnn.recipes import Recipe
        >>> optimizer = "gradient_descent(learning_rate=0.1)"
        >>> recipe = Recipe("a line", "dense(1)", "mean_squared()", optimizer, iterations=200)
        >>> trained = train(recipe, Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]]))
        >>> trained.why
        'finished'
        >>> print(trained.model.predict([[3.0]]).round(1))
        [[7.]]
    """
    if not isinstance(job, Job | Recipe):
        raise BadInput(f"job is {shown(job)}, expected a recipe or a job: give nn.Recipe(...).")
    if not isinstance(data, DataSet | Batch | str | os.PathLike | None):
        raise BadInput(
            f"data is {shown(data)}, expected examples or the name of a data set: "
            "give nn.Batch(X, Y), with one column per example."
        )
    if isinstance(job, Job):
        if isinstance(data, DataSet | Batch):
            expect_same_data(job, data)
    else:
        if not isinstance(data, DataSet | Batch):
            data = data_of(job, data)
        job = prepare(job, data)
    last, taken, error = job.state, list(costs), None
    noted = seen = watched or watching(job)

    def note(watched: Watched) -> None:
        nonlocal noted
        noted = watched

    stream = through(run(job, watched=watched, on_watched=note))
    try:
        with ignoring_overflow(), contextlib.ExitStack() as stack:
            # So that all that was recorded is on the disk before anything else happens.
            stack.callback(getattr(stream, "close", lambda: None))
            for last, info in stream:
                taken.append(info.cost)
                if seen.watch is not None:
                    # Early stopping may be ahead of a stream that holds a step back.
                    seen = noted if noted.last is last else seen.after(last, info)
    except ending as ended:
        error = ended
    kept = None if seen.watch is None else seen.kept
    known = data if isinstance(data, DataSet | Batch) else None
    return Trained(job, kept or last, last, np.array(taken, np.float64), error, known)


def expect_same_data(job: Job, data: DataSet | Batch) -> None:
    """Refuse data whose training part is not what the `job` was prepared with.

    Raises:
        BadInput: If it is not, or if its test part does not fit the job, see `expect_test`.
    """
    batch = data if isinstance(data, Batch) else data.train
    if batch is not job.batch and batch != job.batch:
        raise BadInput("data is not what the job was prepared with: give the very same.")
    if isinstance(data, DataSet):
        expect_test(job, data.test, classes=data.classes)
