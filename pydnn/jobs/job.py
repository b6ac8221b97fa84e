"""A job: everything that a recipe names, built and checked for its data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from pydnn.batches import Batching, batches_of, split
from pydnn.checks import (
    BadInput,
    expect_finite,
    expect_known,
    expect_shape,
)
from pydnn.descriptions.builders import (
    build,
)
from pydnn.jobs.inputs import expect_data
from pydnn.jobs.memory import bytes_of, expect_room
from pydnn.jobs.rotation import Rotation, fit_rotation, lift, pays, project, why_not_exact
from pydnn.jobs.standardization import Standardization, fit_standardization
from pydnn.keys import Key
from pydnn.losses import Loss, class_count, expect_weights
from pydnn.metrics import METRICS
from pydnn.numerics import TENANTS, Numerics
from pydnn.optimizers.base import GradientTransformation
from pydnn.parameters import Packed
from pydnn.recipes.layouts import layers_of
from pydnn.recipes.recipe import DTYPES, Recipe
from pydnn.records import Batch, FloatArray
from pydnn.stages import Stage
from pydnn.stages.base import Context
from pydnn.training import (
    TrainState,
    TrainStep,
    evaluation,
    initial_state,
    make_train_step,
    measure,
    output_of,
    scan,
    stop_early,
    watch_finite,
)
from pydnn.training.stopping import Watch, Watched
from pydnn.training.streams import Stream

__all__ = ["Job", "expect_test", "prepare", "run", "steps", "watch_of", "watching"]


# From a recipe to a training


@attrs.frozen(eq=False)
class Job:
    """What a recipe makes: all that `scan` needs, and the parts it was made of.

    `attrs.evolve(job, state=state)` is the same job from another state on.

    Attributes:
        recipe: What made it,
        batch: for these examples.
        network: The network.
        loss: The loss.
        train_step: The step.
        state: That from which training starts.
        batching: How the training part is cut into batches.
        data: The data sets for evaluations: "train", and "validation" where some is held back;
            as training meets them, standardised and rotated.
        standardization: What was fitted on the training part, where the recipe wants it.
        rotation: The change of basis in which training goes on, where there is one.
        not_rotated: Why there is none, where it would pay but a part of the step does not say
            that it treats all directions alike; else "".

    Raises:
        BadInput: If there is a rotation and a part of the step does not say so.
    """

    recipe: Recipe
    batch: Batch = attrs.field(repr=False)
    network: Stage
    loss: Loss
    train_step: TrainStep
    state: TrainState
    batching: Batching
    data: Mapping[str, Batch] = attrs.field(repr=False)
    standardization: Standardization | None = attrs.field(repr=False)
    rotation: Rotation | None = attrs.field(default=None, repr=False)
    not_rotated: str = attrs.field(default="", repr=False)

    def __attrs_post_init__(self) -> None:
        if self.rotation is not None and self.train_step.not_isotropic:
            raise BadInput(
                f"part {self.train_step.not_isotropic[0]!r} does not say that it treats all "
                "directions alike, but the job is trained in a rotated basis: give the changed "
                "step to prepare(…, step=…), which decides on the basis."
            )

    def lifted(self, parameters: Packed) -> Packed:
        """The parameters of one of the job's states for examples that are not rotated."""
        return parameters if self.rotation is None else lift(self.rotation, parameters)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user may want to know before the training starts, each in one line."""
        optimizer: GradientTransformation = build(self.recipe.optimizer, family="optimizer")
        notes = [
            self.not_rotated,
            _share_note(self.recipe.validation, self.data),
            *_schedule_notes(optimizer, self.recipe.iterations),
        ]
        return tuple(note for note in notes if note)

    @property
    def batches(self) -> Iterator[Batch]:
        """Those of all iterations that are still to come, in their order."""
        start = self.state.iteration
        batches = batches_of(self.batching, self.data["train"], self.state.key, start=start)
        return itertools.islice(batches, max(0, self.recipe.iterations - start))


@np.errstate(under="ignore")
def prepare(
    recipe: Recipe,
    batch: Batch,
    *,
    through: Callable[[Stage], Stage] = lambda network: network,
    step: Callable[[TrainStep], TrainStep] = lambda train_step: train_step,
    standardizing: Callable[..., Standardization] = fit_standardization,
) -> Job:
    """Build everything that the `recipe` names, for training on the examples of `batch`.

    Args:
        recipe: The job.
        batch: All examples, for training and validation. They are standardized in their own
            dtype, so equal data as float32 and as float64 lead to other bits.
        through: A function that the network goes through once it is built, e.g. to watch its
            stages.
        step: A function that the training step goes through once it is built, e.g. to insert a
            part. A part that does not say that it treats all directions alike, as
            `part(isotropic=True)` does, is trained on examples as they are, not rotated.
        standardizing: What is fitted on the training part, where the recipe wants it:
            `(X, numerics=…) -> Standardization`. Only runs of pydnn 0.1.0 need another one.

    Raises:
        BadInput: If a description names nothing known, the stages do not fit each other or
            the data, the data is not what the loss takes, options of the recipe do not fit each
            other, or the memory that is free does not hold a training step.

    Example:
        >>> job = prepare(recipe, batch, step=lambda s: s.insert_after("backward", clip))
    """
    network = through(build(recipe.network, family="stage"))
    loss: Loss = build(recipe.loss, family="loss")
    optimizer: GradientTransformation = build(recipe.optimizer, family="optimizer")
    batching: Batching = build(recipe.batches, family="batches")
    penalties = [build(penalty, family="penalty") for penalty in recipe.penalties]
    weights = None if recipe.weights is None else build(recipe.weights, family="weights")
    expect_data(batch)
    features, examples = batch.X.shape
    expect_room(bytes_of(recipe, *layers_of(recipe, features), examples=examples))
    key = Key(recipe.seed)
    dtype, numerics = np.dtype(DTYPES[recipe.dtype]), TENANTS[recipe.numerics]
    numerics.expect_sound()
    state = initial_state(
        network,
        optimizer,
        batch.X.shape[:1],
        key=key,
        dtype=dtype,
        weights=weights,
        numerics=numerics,
    )
    AL = _first_output(network, state, batch, dtype, numerics)
    loss.expect_labels(batch.Y, len(AL))
    with np.errstate(over="ignore", invalid="ignore"):
        # So that options which do not fit the outputs are refused here.
        loss(AL, batch.Y[:, :1].astype(dtype), None, Context(numerics=numerics))
    task = loss.task(len(AL))
    data, standardization = _parts(recipe, task, batch, key, standardizing)
    for name, examples in data.items():
        if examples.weights is not None:
            of = f"the {name} part" if recipe.validation else "all examples"
            expect_weights(examples.weights, examples.X.shape[1], of=of)
    if recipe.watch:
        evaluated = ("cost", *METRICS[task]) if recipe.evaluate_every else ()
        measured = [f"{part} {metric}" for part in data for metric in evaluated]
        observed = optimizer.observe(state.optimizer_state)
        known = ["cost", "gradient_norm", *observed, *measured]
        expect_known("value to watch", recipe.watch, known)
        watch_of(recipe)  # which refuses a value that may be better either way
        _expect_evaluations(recipe, recipe.watch in measured)
    _expect_whole_batches(network, batching, data["train"], key)
    if optimizer.schedule is not None:
        if optimizer.schedule.empty:
            raise BadInput(f"the schedule has an empty phase: {optimizer.schedule.empty}.")
        # Called once, it refuses what is not a number.
        optimizer.schedule((recipe.iterations - 1) // optimizer.every, numerics)
    train_step = make_train_step(network, loss, optimizer, penalties=penalties, numerics=numerics)
    if not optimizer.outlives_bad:
        train_step = train_step.insert_after("update", watch_finite(network, numerics=numerics))
    train_step = step(train_step)
    if not isinstance(train_step, TrainStep):
        raise BadInput(
            f"step returned {train_step!r}, expected a TrainStep: return the changed step."
        )
    why_not = why_not_exact(network, optimizer, penalties, state.parameters, data["train"].X)
    if why_not and recipe.rotate:
        raise BadInput(f"rotate is true, but {why_not}: leave it out.")
    rotation, not_rotated = None, ""
    if not why_not and _worth_rotating(recipe, state, data["train"], batching):
        not_rotated = _why_parts_forbid_it(train_step)
        if not_rotated and recipe.rotate:
            raise BadInput(f"rotate is true, but {not_rotated}.")
        if not_rotated:
            not_rotated = f"training is not rotated, since {not_rotated}"
        else:
            rotation = fit_rotation(network, state.parameters, data["train"].X, numerics)
    if rotation is not None:
        parameters = project(rotation, state.parameters)
        remembered = optimizer.init(parameters)
        state = attrs.evolve(state, parameters=parameters, optimizer_state=remembered)
        rotated = {name: rotation.of_fitted if name == "train" else rotation for name in data}
        data = {name: attrs.evolve(part, X=rotated[name](part.X)) for name, part in data.items()}
        train_step = train_step.in_rotated_basis()
    data = {name: attrs.evolve(part, X=numerics.prepare(part.X)) for name, part in data.items()}
    return Job(
        recipe,
        batch,
        network,
        loss,
        train_step,
        state,
        batching,
        data,
        standardization,
        rotation,
        not_rotated,
    )


def expect_test(job: Job, test: Batch, *, classes: Sequence[str] | None = None) -> None:
    """Refuse, before any training, test examples by which the job could not be judged.

    Args:
        job: From `prepare`.
        test: Examples as those that the job was prepared with; there may be none.
        classes: Names of the classes, if they have names.

    Raises:
        BadInput: If X or Y has other rows than in training, or an entry that is not finite, in
            the arithmetic of the job too; if a label is none of those that the loss takes; or if
            there are more or fewer names than classes.
    """
    first = job.data["train"].X[:, :1]
    n_out = len(output_of(job.network, job.state, first, numerics=TENANTS[job.recipe.numerics]))
    count = class_count(job.loss.task(n_out), n_out)
    if classes is not None and count not in (None, len(classes)):
        raise BadInput(
            f"the data names {len(classes)} classes, but the network tells {count} apart: "
            f"give it {len(classes)} outputs, or the data {count} names."
        )
    for name, ours, theirs in (("X", test.X, job.batch.X), ("Y", test.Y, job.batch.Y)):
        hint = f"give the test part the rows that {name} has in training"
        expect_shape(f"test {name}", ours, (len(theirs), test.X.shape[-1]), hint=hint)
        expect_finite(f"test {name}", ours)
    if not test.Y.size:
        return
    try:
        # All together, since a loss may ask for examples of every class, which the training part
        # has; the test labels first, so that a message says where among them one does not fit.
        job.loss.expect_labels(np.concatenate([test.Y, job.batch.Y], axis=1), n_out)
        if test.weights is not None:
            expect_weights(test.weights, test.X.shape[1], of="all test examples")
        X = test.X if job.standardization is None else job.standardization(test.X)
    except BadInput as error:
        raise BadInput(f"test part: {error}") from error
    with np.errstate(over="ignore"):
        expect_finite(f"test X as {job.recipe.dtype}", X.astype(DTYPES[job.recipe.dtype]))


def _why_parts_forbid_it(train_step: TrainStep) -> str:
    """Why a step cannot work in a rotated basis; "" if it can."""
    if not train_step.not_isotropic:
        return ""
    return (
        f"part {train_step.not_isotropic[0]!r} of the step does not say that it treats all "
        "directions alike: leave rotate out, or, if it does, declare it with part(isotropic=True)"
    )


def _worth_rotating(recipe: Recipe, state: TrainState, train: Batch, batching: Batching) -> bool:
    """Whether the recipe wants training to be rotated, or leaves that open and it pays."""
    if recipe.rotate is not None:
        return recipe.rotate
    m = train.X.shape[1]
    per_step = m // batching.per_epoch(m)
    slot = state.parameters.layout.slots[0]
    return pays(slot, m, iterations=recipe.iterations, batch=per_step)


def _share_note(share: float, data: Mapping[str, Batch]) -> str:
    """Where far more than the `share` is held back, since each class gives one example or more."""
    if not share:
        return ""
    held, rest = (data[part].X.shape[1] for part in ("validation", "train"))
    wanted = share * (held + rest)
    if held < max(1.5 * wanted, wanted + 2):
        return ""
    return (
        f"the validation part has {held} of {held + rest} examples, more than the share of "
        f"{share:g}, since one or more of every class is held back: give more examples per class"
    )


def _schedule_notes(optimizer: GradientTransformation, iterations: int) -> Iterator[str]:
    """Where the updates of an optimizer and the length of a training do not fit each other."""
    if optimizer.every > iterations:
        yield (
            f"nothing is updated in {iterations} iterations, since the optimizer accumulates the "
            f"gradients of {optimizer.every}: train longer, or accumulate fewer"
        )
    schedule = optimizer.schedule
    if schedule is not None and schedule.steps is not None:
        end = schedule.steps * optimizer.every
        if end < iterations:
            yield (
                f"the schedule ends after {end} of {iterations} iterations, and the learning rate "
                f"stays {schedule(schedule.steps):g} from there on: give a schedule of {iterations}"
            )


def steps(job: Job) -> Stream:
    """The stream of a job's training, with the evaluations of its recipe."""
    stream = scan(job.train_step, job.state, job.batches)
    if not job.recipe.evaluate_every:
        return stream
    evaluate = evaluation(job.network, job.loss, job.data, numerics=TENANTS[job.recipe.numerics])
    return measure(stream, every=job.recipe.evaluate_every, function=evaluate)


def run(
    job: Job,
    *,
    by: Callable[[Stream], Stream] = lambda stream: stream,
    watched: Watched | None = None,
) -> Stream:
    """The stream of a job's training, with the evaluations and the early stopping of its recipe.

    Its last pair is the last step. The state to keep is `kept` of `watching(job)`, folded over
    the stream.

    Args:
        job: From `prepare`.
        by: A function through which the stream goes before it can be stopped early, e.g. a
            progress bar.
        watched: What was watched in the steps before `job.state`.
    """
    stream = by(steps(job))
    watch = watch_of(job.recipe)
    if watch is None:
        return stream
    return stop_early(
        stream, watch=watch.name, patience=job.recipe.patience, since=watched or Watched(watch)
    )


def watch_of(recipe: Recipe) -> Watch | None:
    """The value that early stopping watches; None if the recipe does not want to stop early."""
    return Watch(recipe.watch, recipe.higher_is_better) if recipe.patience else None


def watching(job: Job) -> Watched:
    """The beginning of a fold over the pairs of `run(job)`, whose `kept` is the state to keep.

    That is the best state if the recipe stops early, and else the last one.
    """
    return Watched(watch_of(job.recipe), job.state)


def _expect_whole_batches(network: Stage, batching: Batching, train: Batch, key: Key) -> None:
    """Refuse batches that do not fit the data, or of one example if the network mixes examples."""
    m = train.X.shape[1]
    count = batching.per_epoch(m)
    if not network.mixes_examples:
        return
    sizes = [batching.at(train, key, k).X.shape[1] for k in sorted({0, count - 1})]
    if min(sizes) < 2:
        raise BadInput(
            f"batches of {sizes[0]} leave a batch of {min(sizes)} of {m} training examples, but "
            f"{_mixing(network)} needs 2 or more in every batch: give batches of another size, or "
            "keep_last=False."
        )


def _mixing(network: Stage) -> str:
    """The name of the first stage, deepest in a network, that mixes examples."""
    inner = next((part for part in network.parts if part.mixes_examples), None)
    return network.name if inner is None else _mixing(inner)


def _expect_evaluations(recipe: Recipe, measured: bool) -> None:
    """Refuse a recipe of which early stopping would never meet the value that it watches."""
    every = recipe.evaluate_every
    for name in ("patience", "iterations"):
        most = getattr(recipe, name)
        if measured and most < every:
            raise BadInput(
                f"{name} is {most} and evaluate_every is {every}, so {recipe.watch!r} would not be "
                f"measured once: set {name} to {every} or more, or evaluate more often."
            )


def _first_output(
    network: Stage, state: TrainState, batch: Batch, dtype: np.dtype[Any], numerics: Numerics
) -> FloatArray:
    X = batch.X[:, :1].astype(dtype)
    return output_of(network, state, X, numerics=numerics)


def _parts(
    recipe: Recipe,
    task: str,
    batch: Batch,
    key: Key,
    standardizing: Callable[..., Standardization],
) -> tuple[dict[str, Batch], Standardization | None]:
    """The training part and, where the recipe wants one, the validation part, as it wants them."""
    batch = _in_dtype(batch, None)
    data = {"train": batch}
    if recipe.validation:
        stratified = task in ("two classes", "many classes")
        data["train"], data["validation"] = split(
            batch, key.at("validation"), share=recipe.validation, stratified=stratified
        )
    numerics = TENANTS[recipe.numerics]
    standardization = None
    if recipe.standardize:
        standardization = standardizing(data["train"].X, numerics=numerics)
    dtype = np.dtype(DTYPES[recipe.dtype])
    prepare_X: Callable[[FloatArray], FloatArray] = standardization or (lambda X: X)
    prepared = {
        name: _in_dtype(attrs.evolve(part, X=prepare_X(part.X)), dtype)
        for name, part in data.items()
    }
    return prepared, standardization


def _in_dtype(batch: Batch, dtype: np.dtype[Any] | None) -> Batch:
    """The batch in a `dtype`, None being its own, and each example in one stretch of memory.

    Sums and products have other bits where numbers lie in another order, and a training is to be
    repeated from what the numbers are, whoever made the arrays.
    """
    X, Y = (np.asfortranarray(array, dtype) for array in (batch.X, batch.Y))
    weights = None if batch.weights is None else np.asfortranarray(batch.weights, dtype)
    return Batch(X, Y, weights)
