"""A whole training job as plain data, and back: one frozen record, and one TOML file."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import toolz

from pydnn.batches import (
    Batching,
    Standardization,
    batches_of,
    expect_data,
    fit_standardization,
    full_batch,
    split,
)
from pydnn.builders import (
    Description,
    Unread,
    build,
    describe,
    is_description,
    modules,
    plain_numbers,
)
from pydnn.checks import (
    MOST_BITS,
    MOST_SEED,
    BadInput,
    expect_count,
    expect_finite,
    expect_flag,
    expect_known,
    expect_real,
    expect_shape,
    shown,
)
from pydnn.initializers import tutorial, zeros
from pydnn.keys import Key
from pydnn.losses import Loss, class_count, expect_weights, sigmoid_cross_entropy
from pydnn.metrics import METRICS
from pydnn.notation import MOST_LETTERS, own_builders, read_description, write_description
from pydnn.numerics import TENANTS, Numerics, portable
from pydnn.numerics.portable.soundness import expect_sound
from pydnn.optimizers import gradient_descent
from pydnn.packing import Packed
from pydnn.records import Batch, FloatArray, freeze
from pydnn.rotation import Rotation, fit_rotation, lift, pays, project, why_not_exact
from pydnn.sizes import bytes_of, expect_room, layers_of
from pydnn.stages import Stage, dense, relu, serial
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
from pydnn.training.streams import Stream, Watch, Watched
from pydnn.transformations import GradientTransformation

__all__ = [
    "DTYPES",
    "RECORDED",
    "RECORDED_FORMAT",
    "Job",
    "Recipe",
    "expect_test",
    "own_builders_of",
    "prepare",
    "read_recipe",
    "read_toml",
    "run",
    "steps",
    "toml_of",
    "tutorial_network",
    "tutorial_recipe",
    "watch_of",
    "watching",
    "with_seed",
    "write_recipe",
]

DTYPES = {"float64": np.float64, "float32": np.float32}
_MOST_ITERATIONS = 2**53
_FULL_BATCH = describe(full_batch())


def _text(_: Any, field: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str):
        raise BadInput(f"{field.name} is {shown(value)}, expected a text: put it in quotes.")


def _as_description(value: Any) -> Any:
    """The description of a part; a description is one already, and so is None."""
    if value is None or is_description(value) or not hasattr(value, "description"):
        return value
    return describe(value)


def _several(value: Any) -> Any:
    return tuple(map(_as_description, value)) if isinstance(value, list | tuple) else value


@attrs.frozen
class Recipe:
    """A training job in words and numbers alone, so that a file can hold it.

    Where a part is described, the part itself can be given: `network=serial(dense(1))`.

    Attributes:
        data: Name of the data set, or the place where it is.
        network: Description of the network.
        loss: Description of the loss.
        optimizer: Description of the optimiser.
        iterations: Number of steps.
        penalties: Descriptions of what is added to the loss.
        batches: Description of how data is cut into batches.
        weights: Description of the stream that draws all weights; None where each layer
            draws its own.
        standardize: Whether features are brought to mean 0 and deviation 1, as fitted on the
            training part.
        rotate: Whether training goes on in the space of its examples, see `pydnn.rotation`; None
            where it is to where that is exact and pays.
        validation: Share of the training data, 0 or more and below 1, that is held back.
        evaluate_every: Steps between two evaluations on training and validation parts; 0 for
            none.
        watch: What early stopping watches, e.g. "validation cost"; "" for no early stopping.
        patience: Steps without a better value after which training stops; 0 for no stopping.
        higher_is_better: Whether the watched value should grow; None where
            `metrics.higher_is_better` knows.
        seed: Of the training's key.
        dtype: "float64" or "float32".
        numerics: "fast", or "portable": the same bits on every machine.
    """

    data: str = attrs.field(validator=_text)
    network: Description = attrs.field(converter=_as_description)
    loss: Description = attrs.field(converter=_as_description)
    optimizer: Description = attrs.field(converter=_as_description)
    iterations: int
    penalties: tuple[Description, ...] = attrs.field(default=(), converter=_several)
    batches: Description = attrs.field(default=_FULL_BATCH, converter=_as_description)
    weights: Description | None = attrs.field(default=None, converter=_as_description)
    standardize: bool = False
    rotate: bool | None = None
    validation: float = 0.0
    evaluate_every: int = 0
    watch: str = attrs.field(default="", validator=_text)
    patience: int = 0
    higher_is_better: bool | None = None
    seed: int = 1
    dtype: str = "float64"
    numerics: str = "fast"

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(Recipe):  # a file holds plain numbers, not NumPy's scalars
            object.__setattr__(self, field.name, plain_numbers(getattr(self, field.name)))
        hint = "give the number of steps"
        expect_count("iterations", self.iterations, most=_MOST_ITERATIONS, hint=hint)
        for name in _DESCRIBED:
            value = getattr(self, name)
            if not (value is None or is_description(value) or isinstance(value, Unread)):
                raise BadInput(
                    f"{name} is {value!r}, expected a part or its description: "
                    "give e.g. what a builder makes."
                )
        if not isinstance(self.penalties, tuple):
            raise BadInput(f"penalties are {shown(self.penalties)}, expected a list: give e.g. [].")
        hint = "give the seed of the initial weights"
        expect_count("seed", self.seed, least=0, most=MOST_SEED, hint=hint)
        hint = "give the share that is held back, e.g. 0.2"
        expect_real("validation", self.validation, least=0, below=1, hint=hint)
        hint = "0 is for no evaluations"
        expect_count("evaluate_every", self.evaluate_every, least=0, hint=hint)
        hint = "0 is for no early stopping"
        expect_count("patience", self.patience, least=0, hint=hint)
        expect_flag("standardize", self.standardize)
        if self.rotate is not None:
            expect_flag("rotate", self.rotate)
        if self.higher_is_better is not None:
            expect_flag("higher_is_better", self.higher_is_better)
        expect_known("dtype", str(self.dtype), DTYPES)
        expect_known("numerics", str(self.numerics), TENANTS)
        self._expect_something_to_watch()

    def _expect_something_to_watch(self) -> None:
        if bool(self.watch) != bool(self.patience):
            raise BadInput(
                f"patience is {self.patience} and watch is {self.watch!r}, expected both or "
                'neither: give e.g. watch = "validation cost" and patience = 500.'
            )
        part = self.watch.partition(" ")[0]
        if part not in ("train", "validation"):
            return
        if not self.evaluate_every or (part == "validation" and not self.validation):
            what = "evaluate_every" if not self.evaluate_every else "validation"
            raise BadInput(
                f"patience has nothing to watch: {self.watch!r} needs {what} above 0: set it."
            )


_DESCRIBED = {
    "network": "stage",
    "loss": "loss",
    "optimizer": "optimizer",
    "batches": "batches",
    "weights": "weights",
}


def write_recipe(recipe: Recipe) -> str:
    """The recipe as the text of a TOML file; what has its default is left out."""
    lines = []
    for field in attrs.fields(Recipe):
        value = getattr(recipe, field.name)
        if value == field.default and type(value) is type(field.default):
            continue
        if field.name in _DESCRIBED:
            value = write_description(value)
        elif field.name == "penalties":
            value = [write_description(penalty) for penalty in value]
        lines.append(f"{field.name} = {toml_of(value)}\n")
    return "".join(lines)


def toml_of(value: Any) -> str:
    """A number, text, truth value or list of these as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_of, value))}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, too, but for the delete character.
        quoted = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        if "\n" not in value:
            return quoted
        return '"""\n' + quoted[1:-1].replace("\\n", "\n") + '"""'
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return f"{value:.1f}"
    return repr(value)


RECORDED = "recorded"  # the table in which a run's recipe says what it met, of no use to others
RECORDED_FORMAT = 2  # 1, of pydnn 0.1.0, is not written down


def read_recipe(
    text: str, *, allow: Iterable[str] = (), needed: Iterable[str] | None = None
) -> Recipe:
    """The recipe of the text of a TOML file.

    Args:
        text: The text.
        allow: Names of the modules outside pydnn that may be imported where the text names their
            builders, with all modules below them, e.g. ["my_package"].
        needed: Keys whose parts will be built; by default all. What cannot be read of another
            key's part is kept as it stands, see `Unread`.

    Raises:
        NotAllowed: If a part that is needed names a module that is not allowed.
        BadInput: If it is not TOML; a key is unknown, with the nearest known one, or missing; or
            a value does not fit.
    """
    plain = read_toml(text)
    keys = {name: value for name, value in plain.items() if name != RECORDED}
    recipe = _recipe_of(keys, modules(allow), None if needed is None else set(needed))
    recorded = plain.get(RECORDED)
    if isinstance(recorded, dict) and "format" not in recorded:
        return _as_recorded_before_formats(recipe)
    return recipe


def _as_recorded_before_formats(recipe: Recipe) -> Recipe:
    """What the recipe of a run of pydnn 0.1.0 meant, where the same words now mean another job.

    There `tutorial()` drew from seed 1, whatever the seed of the training.
    """
    if recipe.seed == 1 or recipe.weights != {"tutorial": {}}:
        return recipe
    return attrs.evolve(recipe, weights={"tutorial": {"seed": 1}})


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with another `seed`, from which everything random in its job is then drawn.

    A weight stream for which the recipe states a seed of its own gets the new one too.
    """
    weights = recipe.weights and {
        name: {**options, "seed": seed} if "seed" in options else options
        for name, options in recipe.weights.items()
    }
    return attrs.evolve(recipe, seed=seed, weights=weights)


def read_toml(text: str) -> dict[str, Any]:
    """The plain data of a recipe's text; nothing of it is checked or imported.

    Raises:
        BadInput: If it is not TOML.
    """
    _expect_small(text)
    try:
        plain = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        endless = not isinstance(error, tomllib.TOMLDecodeError | RecursionError)
        reason = "it has an endless number" if endless else str(error)
        if isinstance(error, RecursionError):
            reason = "it is nested too deeply"
        raise BadInput(f"the recipe is no TOML ({reason}): correct it.") from error
    for name, value in plain.items():
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise BadInput(f"{name} is {shown(value)}, expected a shorter one: correct the recipe.")
    return plain


_MOST_LETTERS = 2 * MOST_LETTERS  # of a recipe; that of a run has tables beside
_MOST_DOTS = 16  # in a key: Python's reader keeps every prefix of one
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*"?|\'[^\'\n]*\'?')
_BETWEEN_KEYS = re.compile(r"[=,\[\]{}()\n]")


def _expect_small(text: str) -> None:
    """Refuse what would take a reader of TOML more than a moment.

    Raises:
        BadInput: If there are too many characters, or too many dots in a key.
    """
    if len(text) > _MOST_LETTERS:
        raise BadInput(
            f"the recipe has {len(text):,} characters, expected at most {_MOST_LETTERS:,}: "
            "shorten it."
        )
    keys = _BETWEEN_KEYS.split(_QUOTED.sub("", text))
    if max(key.count(".") for key in keys) > _MOST_DOTS:
        raise BadInput(f"the recipe has a key of more than {_MOST_DOTS} dots: correct it.")


def own_builders_of(plain: Mapping[str, Any]) -> list[str]:
    """The names `module:function` in the parts of a recipe's plain data, each once."""
    texts = [plain.get(name) for name in _DESCRIBED]
    penalties = plain.get("penalties")
    texts += penalties if isinstance(penalties, list) else [penalties]
    names = (own_builders(text) for text in texts if isinstance(text, str))
    return list(dict.fromkeys(itertools.chain.from_iterable(names)))


def _recipe_of(
    plain: Mapping[str, Any], allow: tuple[str, ...], needed: Container[str] | None
) -> Recipe:
    fields = attrs.fields_dict(Recipe)
    for name in plain:
        expect_known("key of a recipe", name, fields)
    missing = [
        name for name, f in fields.items() if f.default is attrs.NOTHING and name not in plain
    ]
    if missing:
        raise BadInput(f"the recipe lacks {', '.join(missing)}: add what is missing.")

    def described(name: str, text: Any, family: str) -> Description | Unread:
        if not isinstance(text, str):
            raise BadInput(
                f"{name} is {shown(text)}, expected a text: write a call in quotes, "
                'e.g. "adam(learning_rate=0.01)".'
            )
        try:
            return read_description(text, family=family, allow=allow)
        except BadInput as error:
            reason = type(error)(f"{name}: {error}")
            if needed is None or name in needed:
                raise reason from error
            return Unread(text, reason)

    values = dict(plain)
    for name, family in _DESCRIBED.items():
        if name in values:
            values[name] = described(name, values[name], family)
    if isinstance(values.get("penalties"), list):
        values["penalties"] = [
            described("penalties", item, "penalty") for item in values["penalties"]
        ]
    return Recipe(**values)


# The tutorial's job


def tutorial_network(hidden: Sequence[int]) -> Stage:
    """Dense and relu for each of the `hidden` layers' units, then one dense unit: the logit.

    The weights are 0 here, since the tutorial draws those of all layers from one stream.
    """
    layers = [(dense(units, initializer=zeros()), relu()) for units in hidden]
    return serial(*toolz.concat(layers), dense(1, initializer=zeros()))


def tutorial_recipe(
    *,
    data: str = "drawn-cats",
    hidden: Sequence[int] = (20, 7, 5),
    learning_rate: float = 0.0075,
    iterations: int = 2500,
    seed: int = 1,
    dtype: str = "float64",
) -> Recipe:
    """The tutorial's job: by default 12288-20-7-5-1 on the drawn cats, for 2500 iterations."""
    return Recipe(
        data=data,
        network=describe(tutorial_network(hidden)),
        loss=describe(sigmoid_cross_entropy()),
        optimizer=describe(gradient_descent(learning_rate=learning_rate)),
        weights=describe(tutorial()),
        iterations=iterations,
        seed=seed,
        dtype=dtype,
    )


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
    if numerics is portable:
        expect_sound()
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
    data, standardization = _parts(recipe, task, batch, key)
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
    n_out = len(
        output_of(
            job.network,
            job.state.parameters,
            first,
            statistics=job.state.statistics,
            numerics=TENANTS[job.recipe.numerics],
        )
    )
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
    return output_of(network, state.parameters, X, statistics=state.statistics, numerics=numerics)


def _parts(
    recipe: Recipe, task: str, batch: Batch, key: Key
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
        standardization = fit_standardization(data["train"].X, numerics=numerics)
    dtype = np.dtype(DTYPES[recipe.dtype])
    prepare_X: Callable[[FloatArray], FloatArray] = standardization or (lambda X: X)
    prepared = {
        name: _in_dtype(attrs.evolve(part, X=prepare_X(part.X)), dtype)
        for name, part in data.items()
    }
    if numerics is portable:  # it keeps what it works out of data that nobody can write to
        prepared = {
            name: attrs.evolve(part, X=freeze(part.X.copy(order="F")))
            for name, part in prepared.items()
        }
    return prepared, standardization


def _in_dtype(batch: Batch, dtype: np.dtype[Any] | None) -> Batch:
    """The batch in a `dtype`, None being its own, and each example in one stretch of memory.

    Sums and products have other bits where numbers lie in another order, and a training is to be
    repeated from what the numbers are, whoever made the arrays.
    """
    X, Y, weights = (
        array if array is None else np.asfortranarray(array, dtype)
        for array in (batch.X, batch.Y, batch.weights)
    )
    return Batch(X, Y, weights)
