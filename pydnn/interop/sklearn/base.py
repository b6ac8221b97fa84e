"""What both estimators share: scikit-learn's protocol around a job that is trained in epochs."""

from __future__ import annotations

import contextlib
import secrets
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from pydnn.checks import BadInput, shown
from pydnn.descriptions.text import write_description
from pydnn.interop.sklearn.epochs import Epoch, Reached, Stopping, train_epochs
from pydnn.interop.sklearn.examples import Examples, Prepared, in_columns, prepare_examples
from pydnn.interop.sklearn.options import (
    Size,
    expect_options,
    is_one_batch,
    recipe_of,
    split_network,
)
from pydnn.jobs.class_weights import weights_of_classes
from pydnn.jobs.model import Model, model_of
from pydnn.keys import Key
from pydnn.recipes.recipe import ClassWeights
from pydnn.records import Batch, FloatArray, freeze
from pydnn.runs import Recording, create_run, record
from pydnn.runs.state_arrays import arrays_of
from pydnn.training import NotFinite, TrainState, evaluation
from pydnn.training.finite import ignoring_overflow
from pydnn.training.stopping import why_ended
from pydnn.training.streams import Measure, Stream

try:  # since scikit-learn 1.9
    from sklearn.callback import CallbackSupportMixin, with_callbacks

    _USER = 5  # frames from a warning of a fit to the line that called it
except ImportError:
    _USER = 4

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Takes the place of scikit-learn's own, which older versions do not have."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


__all__ = ["Network", "with_callbacks"]

_PICKLE_FORMAT = 1


class Network(CallbackSupportMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """What both estimators share: from arguments and data to epochs, and from there to a model."""

    _numeric: ClassVar[bool]  # whether targets must be numbers
    _task: str  # one of `losses.TASKS`
    _reached: Reached | None  # None where the model was not trained here
    _costs: FloatArray
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    validation_loss_curve_: list[float] | None

    @abstractmethod
    def _learn_targets(self, y: NDArray[Any], classes: ArrayLike | None) -> None:
        """Learn from the first targets what labels and predictions look like."""

    @abstractmethod
    def _labels(self, y: NDArray[Any]) -> FloatArray:
        """The targets as labels (n_y, m)."""

    @abstractmethod
    def _every_label(self) -> FloatArray:
        """Labels (n_y, k) in which every class occurs."""

    @abstractmethod
    def _score_of(self, P: FloatArray, Y: FloatArray, weights: FloatArray | None) -> float:
        """The score of predictions P (n_y, m) for labels Y."""

    def _class_weights(self) -> ClassWeights:
        """The weights of classes, as a recipe has them."""
        return ""

    def _positive_weights(self, train: Examples) -> tuple[float, ...]:
        """How many times as much a 1 of each label costs as a 0; empty where it is the same."""
        return ()

    def _class_names(self) -> tuple[str, ...] | None:
        """The names of classes, as a model has them."""
        return None

    # From what was given to a job

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None,
        *,
        goes_on: bool,
        epochs: int,
        stops: bool,
        classes: ArrayLike | None = None,
        validation: tuple[Any, Any, ArrayLike | None] | None = None,
    ) -> Self:
        first = not (goes_on and hasattr(self, "model_"))
        expect_options(self)
        examples = self._examples(X, y, sample_weight, first=first, classes=classes)
        held_back = None
        if validation is not None:
            held_back = self._examples(*validation, first=False)
        prepared, scale = self._prepared(examples, held_back, first=first)
        initial = prepared.job.state
        if first:
            self._costs = np.empty(0)
            self.t_, self.loss_curve_ = 0, []
            self.validation_scores_ = None if prepared.validation is None else []
            self.validation_loss_curve_ = None if prepared.validation is None else []
            reached = Reached(initial)
        elif self._reached is None:
            reached = Reached(_with_parameters(initial, self.model_))
        else:
            reached = self._reached
            _expect_same_shape(initial, reached.state)
        patience = float(self.n_iter_no_change) if stops else np.inf
        stopping = Stopping(patience, float(self.tol), bool(self.early_stopping))
        given = {} if sample_weight is None else {"sample_weight": sample_weight}
        hooks = _Hooks(self, epochs, X, y, given)
        try:
            self._train(prepared, reached, epochs, stopping, scale, hooks if stops else None)
        except NotFinite as error:
            raise BadInput(f"{error}.") from error
        return self

    def _examples(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None,
        *,
        first: bool,
        classes: ArrayLike | None = None,
    ) -> Examples:
        """The checked and encoded examples, without those of weight 0."""
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            y_numeric=self._numeric,
            dtype=(np.float64, np.float32),
            order="C",
            reset=first,
        )
        if not isinstance(y, np.ndarray):  # a sparse matrix of labels
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        weights: FloatArray | None = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
            if (weights < 0).any():
                raise BadInput(
                    "Negative values in data passed to `sample_weight`: give weights of 0 or more."
                )
            counted = weights > 0
            if not counted.any():
                raise BadInput("sample_weight is zero for all examples: give some a weight.")
            if not counted.all():  # then nothing may depend on them, not even what is drawn
                X, y, weights = X[counted], y[counted], weights[counted]
            weights = freeze(weights[np.newaxis])
        if first:
            self._learn_targets(y, classes)
        return Examples(X, self._labels(y), weights)

    def _prepared(
        self, examples: Examples, held_back: Examples | None, *, first: bool
    ) -> tuple[Prepared, float]:
        """The job for these examples, and the ratio of its cost to scikit-learn's loss."""
        if first:
            seed, dtype, standardize, fitted = (
                self._new_seed(),
                str(examples.X.dtype),
                self.standardize,
                None,
            )
        else:
            model, reached = self.model_, self._reached
            seed = model.recipe.seed if reached is None else reached.state.key.seed
            dtype, fitted = model.recipe.dtype, model.inputs.standardization
            standardize = fitted is not None
        share, train = 0.0, examples
        if self.early_stopping and held_back is None:
            share = float(self.validation_fraction)
            stratified = self._task in ("two classes", "many classes")
            key = Key(seed).at("validation")
            train, held_back = examples.split(key, share, stratified=stratified)
        if examples.sparse and is_one_batch(self, train.count):
            examples, train = examples.dense, train.dense  # as its only batch is
        if held_back is not None and held_back.count < 2:
            raise BadInput(
                f"the validation part has {held_back.count} example, expected two or more: "
                "increase validation_fraction, or give more data."
            )
        class_weights, total = self._class_weights(), train.total
        if class_weights:
            by_class = weights_of_classes(class_weights, train.numbers, len(self.classes_))
            total = train.weighed(by_class).total
        size = Size(
            self._task, self.n_outputs_, train.count, total, dtype, self._positive_weights(train)
        )
        recipe, scale = recipe_of(self, size, seed=seed)
        recipe = attrs.evolve(
            recipe, standardize=standardize, validation=share, class_weights=class_weights
        )
        prepared = prepare_examples(
            recipe,
            examples,
            train=train,
            held_back=held_back,
            labels=self._every_label(),
            fitted=fitted,
        )
        return prepared, scale

    def _new_seed(self) -> int:
        if self.random_state is None:  # not from the global stream, which pydnn leaves alone
            return secrets.randbits(31)
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    # From a job to a model

    def _train(
        self,
        prepared: Prepared,
        reached: Reached,
        epochs: int,
        stopping: Stopping,
        scale: float,
        hooks: _Hooks | None,
    ) -> None:
        """Take epochs, and keep what the training has come to."""
        job, per_epoch, began = prepared.job, prepared.per_epoch, reached.epochs
        costs: list[float] = []

        def model() -> Model:
            so_far = np.concatenate([self._costs, costs])
            steps = max((began + epochs) * per_epoch, len(so_far))
            planned = attrs.evolve(job, recipe=attrs.evolve(job.recipe, iterations=steps))
            found = model_of(planned, reached.kept(stopping), so_far)
            return attrs.evolve(found, classes=self._class_names())

        with contextlib.ExitStack() as stack:
            recording = self._recording(prepared, stack, began)
            taken = train_epochs(
                job.train_step,
                reached,
                prepared.batches(reached.state.key, epoch=began),
                per_epoch=per_epoch,
                count=epochs,
                stopping=stopping,
                measure=self._measure(prepared),
                through=_unchanged if recording is None else lambda steps: record(recording, steps),
            )
            wants_more, interrupted = True, False
            if hooks is not None:
                hooks.begin(model)
            try:
                while reached.epochs < began + epochs and wants_more and stopping.goes_on(reached):
                    if hooks is not None:
                        hooks.begin_epoch(model)
                    reached, epoch = next(taken)
                    costs += epoch.costs
                    self._note(epoch, scale, reached)
                    wants_more = hooks is None or hooks.end_epoch(model)
            except KeyboardInterrupt:
                warnings.warn("Training interrupted by user.", stacklevel=_USER)
                wants_more, interrupted = False, True
            if recording is not None:
                assert recording.stream is not None
                recording.stream.close()
                finished = reached.epochs == began + epochs
                stopped = not stopping.goes_on(reached)
                why = why_ended(finished=finished, out_of_patience=stopped)
                recording.end(
                    "interrupted" if interrupted and not finished else why,
                    state=reached.kept(stopping),
                )
        self.model_ = model()
        self._reached, self._costs = reached, self.model_.costs
        self._note_end(reached, stopping)
        if hooks is not None:
            hooks.end(self.model_)
            if wants_more and stopping.patience < epochs and stopping.goes_on(reached):
                warnings.warn(
                    f"{epochs} epochs were taken, and the training has not converged yet: "
                    "increase max_iter, or tol.",
                    ConvergenceWarning,
                    stacklevel=_USER,
                )

    def _recording(
        self, prepared: Prepared, stack: contextlib.ExitStack, began: int
    ) -> Recording | None:
        """The recording of this fit, if one is wanted."""
        if self.record is None:
            return None
        job = prepared.job
        reason = ""
        if began:
            reason = "a warm start goes on with another training: fit a clone of it"
        elif prepared.sparse is not None:
            reason = "X is a sparse matrix, of which a run has no fingerprint: give X.toarray()"
        elif job.batch.has_weights and job.recipe.standardize:
            reason = (
                "examples have weights, by which features are standardized, which no replay would "
                "know: standardize the features first, e.g. with StandardScaler"
            )
        if reason:
            raise BadInput(f"record is {shown(self.record)}, but {reason}.")
        return stack.enter_context(create_run(self.record, job, job.batch.in_memory()))

    def _measure(self, prepared: Prepared) -> Measure:
        batch, job = prepared.validation, prepared.job
        if batch is None:
            return lambda state: {}
        # A call of the metric has no weights, but all calls are for the same examples.
        metrics = {"score": lambda P, Y: self._score_of(P, Y, batch.weights)}
        evaluate = evaluation(
            job.network, job.loss, {"validation": batch}, metrics=metrics, numerics=job.numerics
        )

        def measure(state: TrainState) -> Mapping[str, float]:
            measured = evaluate(state)
            return {"score": measured["validation score"], "cost": measured["validation cost"]}

        return measure

    def _note(self, epoch: Epoch, scale: float, reached: Reached) -> None:
        """Keep what an epoch shows, under the names that scikit-learn has for it."""
        self.loss_curve_.append(epoch.loss / scale)
        self.t_ += epoch.examples
        words = f"Iteration {reached.epochs}, loss = {self.loss_curve_[-1]:.8f}"
        if epoch.measured:
            assert self.validation_scores_ is not None
            assert self.validation_loss_curve_ is not None
            self.validation_scores_.append(epoch.measured["score"])
            self.validation_loss_curve_.append(epoch.measured["cost"] / scale)
            words += f", validation score = {self.validation_scores_[-1]:.6f}"
        if self.verbose:
            print(words)

    def _note_end(self, reached: Reached, stopping: Stopping) -> None:
        self.n_iter_, self.loss_ = reached.epochs, self.loss_curve_[-1]
        self.best_loss_ = None if stopping.by_score else float(np.min(self.loss_curve_))
        self.best_validation_score_ = -reached.value if stopping.by_score else None
        self.out_activation_ = {
            "two classes": "logistic",
            "many classes": "softmax",
            "several labels": "logistic",
            "regression": "exp" if "poisson" in self.model_.recipe.loss else "identity",
        }[self._task]

    # What a fitted estimator has

    @property
    def coefs_(self) -> list[FloatArray]:
        """The weights of each layer that has some, (n_in, n_out): views of the model's."""
        return [array.T for array in self._arrays("W")]

    @property
    def intercepts_(self) -> list[FloatArray]:
        """The biases of each layer that has some, (n_out,): views of the model's."""
        return [array[:, 0] for array in self._arrays("b")]

    @property
    def n_layers_(self) -> int:
        """The number of layers, including the input layer."""
        return len(self.coefs_) + 1

    def _arrays(self, field: str) -> Iterator[FloatArray]:
        check_is_fitted(self)
        parameters = self.model_.parameters
        for slot in parameters.layout.slots:
            if slot.name.rpartition("/")[2] == field and len(slot.shape) == 2:
                yield parameters[slot.name]

    def as_batch(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Batch:
        """The examples as pydnn has them, e.g. to open the run that `record` made.

        The run of an estimator with record="runs/0007" is opened by
        `Run.open("runs/0007", data=estimator.as_batch(X, y))`.
        """
        check_is_fitted(self)
        return self._examples(X, y, sample_weight, first=False).batch

    def _outputs(self, X: Any) -> FloatArray:
        """The model's predictions (n_y, m) for rows X."""
        check_is_fitted(self)
        X = validate_data(
            self, X, accept_sparse="csr", dtype=(np.float64, np.float32), order="C", reset=False
        )
        with ignoring_overflow():
            parts: list[Any] = [self.model_.predict(columns) for columns in in_columns(X)]
        outputs: FloatArray = parts[0] if len(parts) == 1 else np.hstack(parts)
        return outputs

    @classmethod
    def _of_model(cls, model: Model, n_outputs: int) -> Self:
        """An estimator of a model, without its classes."""
        recipe = model.recipe
        if getattr(model.inputs, "columns", None) is not None:
            raise BadInput(
                "the model takes rows of a table, expected one that takes numbers: predict with "
                "the model itself."
            )
        strengths = [penalty.get("l2_penalty", {}) for penalty in recipe.penalties]
        estimator = cls(
            network=split_network(recipe.network, n_outputs),
            loss=write_description(recipe.loss),
            optimizer=write_description(recipe.optimizer),
            alpha=strengths[0].get("strength", 0.0) if len(strengths) == 1 else 0.0,
            standardize=recipe.standardize,
            numerics=str(recipe.numerics),
            random_state=recipe.seed,
        )
        estimator.n_features_in_, estimator.n_outputs_ = model.features, n_outputs
        estimator.model_, estimator._reached, estimator._costs = model, None, model.costs
        estimator.t_, estimator.loss_curve_ = 0, []
        estimator.validation_scores_ = estimator.validation_loss_curve_ = None
        return estimator

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_pydnn_format": _PICKLE_FORMAT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        found = state.pop("_pydnn_format", _PICKLE_FORMAT)
        if found > _PICKLE_FORMAT:
            raise BadInput(
                f"the pickle has format {found}, expected at most {_PICKLE_FORMAT}: a newer pydnn "
                "wrote it, so install that one."
            )
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _unchanged(stream: Stream) -> Stream:
    return stream


def _with_parameters(initial: TrainState, model: Model) -> TrainState:
    """The beginning of a training from the parameters of a model."""
    if initial.parameters.layout != model.parameters.layout:
        raise BadInput(
            f"the network has {initial.parameters.layout}, but the model {model.parameters.layout}:"
            " give the same network, or fit from the beginning, with warm_start=False."
        )
    return attrs.evolve(initial, parameters=model.parameters, statistics=model.statistics)


def _expect_same_shape(initial: TrainState, state: TrainState) -> None:
    """Refuse to go on with a training whose network or optimizer was exchanged."""
    ours, theirs = (
        {name: array.shape for name, array in arrays_of(one).items()} for one in (initial, state)
    )
    if ours != theirs:
        what = "network" if ours["parameters"] != theirs["parameters"] else "optimizer"
        raise BadInput(
            f"the {what} is not the one of the training that goes on: give the same {what}, or "
            "fit from the beginning, with warm_start=False."
        )


class _Hooks:
    """The callbacks of an estimator, as scikit-learn has them since 1.9."""

    def __init__(
        self, estimator: Network, epochs: int, X: Any, y: Any, metadata: Mapping[str, Any]
    ) -> None:
        self._estimator, self._epochs = estimator, epochs
        self._given = {"estimator": estimator, "X": X, "y": y, "metadata": dict(metadata)}
        self._fit: Any = None
        self._epoch: Any = None

    def begin(self, model: Callable[[], Model]) -> None:
        if hasattr(self._estimator, "_init_callback_context"):
            self._fit = self._estimator._init_callback_context(max_subtasks=self._epochs)
            self._fit.call_on_fit_task_begin(**self._with(model))

    def begin_epoch(self, model: Callable[[], Model]) -> None:
        if self._fit is not None:
            self._epoch = self._fit.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(**self._with(model))

    def end_epoch(self, model: Callable[[], Model]) -> bool:
        """End an epoch, and return whether training continues."""
        return self._epoch is None or not self._epoch.call_on_fit_task_end(**self._with(model))

    def end(self, model: Model) -> None:
        if self._fit is not None:
            self._fit.call_on_fit_task_end(**self._with(lambda: model))

    def _with(self, model: Callable[[], Model]) -> dict[str, Any]:
        # Made only where a callback asks for it.
        return {**self._given, "reconstruction_attributes": lambda: {"model_": model()}}
