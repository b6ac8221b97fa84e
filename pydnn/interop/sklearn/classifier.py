"""The estimator that tells classes apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from pydnn.checks import BadInput, shown
from pydnn.interop.sklearn.base import Network, with_callbacks
from pydnn.interop.sklearn.examples import Examples
from pydnn.interop.sklearn.options import loss_of
from pydnn.jobs.model import Model
from pydnn.recipes.recipe import ClassWeights
from pydnn.records import FloatArray

__all__ = ["NetworkClassifier"]


class NetworkClassifier(ClassifierMixin, Network):  # type: ignore[misc]
    """A network that tells classes apart, or several labels at once.

    It takes the arguments of scikit-learn's `MLPClassifier` with the same defaults, but for
    solver="lbfgs" and learning_rate="adaptive", and has the same fitted attributes. Equal
    arguments and data give the same bits: at once, by a warm start, or by `partial_fit`.

    Args:
        hidden_layer_sizes: The units of each hidden layer.
        activation: The function of hidden layers: "identity", "logistic", "tanh" or "relu".
        solver: "adam" or "sgd".
        alpha: The strength of the L2 penalty, divided by the total weight of a batch.
        batch_size: Examples of a batch; "auto" for 200. Not more than that are one batch, which
            is not shuffled.
        learning_rate: "constant", or "invscaling" for "sgd".
        learning_rate_init: The learning rate of the first step.
        power_t: The power of time by which "invscaling" divides the rate.
        max_iter: Epochs to take at most; a warm start takes as many more.
        shuffle: Whether each epoch has an order of its own.
        random_state: The seed, or a RandomState that draws one; None for a new one each time. It
            is in `model_.recipe.seed`.
        tol: The least progress that keeps a training going.
        verbose: Whether each epoch prints a line.
        warm_start: Whether `fit` goes on with the training of the call before.
        momentum: The momentum of "sgd".
        nesterovs_momentum: Whether that is Nesterov's.
        early_stopping: Whether the score on a validation part decides when to stop, and which
            epoch is kept.
        validation_fraction: The share of the examples in that part.
        beta_1: Adam's decay of means of gradients.
        beta_2: Adam's decay of means of their squares.
        epsilon: What Adam adds to a divisor.
        n_iter_no_change: Epochs without progress after which one more ends the training.
        max_fun: Ignored; it was for "lbfgs".
        network: The hidden layers as text, e.g. "dense(64), gelu(), dropout(keep_prob=0.9)", or
            as a stage or a list of stages, instead of hidden_layer_sizes and activation.
        loss: "log_loss", or a loss of pydnn, e.g. "softmax_cross_entropy(label_smoothing=0.1)".
        optimizer: An optimizer of pydnn instead of the solver and its options, e.g.
            "adamw(learning_rate=cosine_decay(0.001, steps=1000))".
        class_weight: "balanced", or weights by class, which multiply sample weights. With several
            labels, "balanced" lets the ones of each cost as much as its zeros.
        standardize: Whether features are brought to mean 0 and deviation 1.
        numerics: "fast", or "portable": the same bits on every machine.
        record: A folder for the record of the training, e.g. "runs/0007"; see `as_batch`.

    Attributes:
        model_: The `Model`, which can be saved.
        classes_: The classes.
        loss_curve_: The loss of each epoch.
        validation_scores_: The accuracy on the validation part after each epoch, if there is one.
        validation_loss_curve_: The loss on it.
        n_iter_: The epochs that were taken.
        coefs_: The weights of each layer (n_in, n_out).
        intercepts_: The biases of each layer (n_out,).

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> classifier = NetworkClassifier(
        ...     standardize=True, learning_rate_init=0.01, random_state=1
        ... )
        >>> round(classifier.fit(X, y).score(X, y), 2)
        0.99
    """

    _numeric = False

    def __init__(  # noqa: D107
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        network: Any = None,
        loss: Any = "log_loss",
        optimizer: Any = None,
        class_weight: Any = None,
        standardize: bool = False,
        numerics: str = "fast",
        record: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.class_weight = class_weight
        self.standardize = standardize
        self.numerics = numerics
        self.record = record

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train on rows X (m, n_x), dense or sparse, with classes y (m,) or labels (m, k).

        Args:
            X: The examples.
            y: Their classes; or 0 and 1 for each of k labels.
            sample_weight: The weight of each example; those of weight 0 are left out.
            X_val: Examples to evaluate epochs on, instead of a part of X.
            y_val: Their classes.
            sample_weight_val: Their weights.

        Raises:
            ValueError: If the data does not fit the arguments, or each other.
        """
        validation = None if X_val is None else (X_val, y_val, sample_weight_val)
        return self._fit(
            X,
            y,
            sample_weight,
            goes_on=self.warm_start,
            epochs=self.max_iter,
            stops=True,
            validation=validation,
        )

    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Take one more epoch, on these examples.

        Args:
            X: The examples (m, n_x), dense or sparse.
            y: Their classes (m,) or labels (m, k).
            sample_weight: The weight of each example.
            classes: All classes that will ever come, in the first call.

        Raises:
            ValueError: If the data does not fit what came before.
        """
        return self._fit(X, y, sample_weight, goes_on=True, epochs=1, stops=False, classes=classes)

    def predict(self, X: Any) -> NDArray[Any]:
        """The class of each row of X, (m,); or 0 and 1 for each label, (m, k)."""
        P = self._outputs(X)
        if self._task == "several labels":
            return (P.T > 0.5).astype(np.int64)
        numbers = (P[0] > 0.5).astype(np.int64) if len(P) == 1 else P.argmax(axis=0)
        chosen: NDArray[Any] = self.classes_[numbers]
        return chosen

    def predict_proba(self, X: Any) -> FloatArray:
        """The probability of each class, or of each label, for each row of X, (m, k)."""
        P = self._outputs(X)
        if self._task == "two classes":
            P = np.concatenate([1 - P, P])
        return np.array(P.T, order="C")

    def predict_log_proba(self, X: Any) -> FloatArray:
        """The logarithms of `predict_proba`."""
        with np.errstate(divide="ignore"):
            logarithms: FloatArray = np.log(self.predict_proba(X))
        return logarithms

    @classmethod
    def from_model(cls, model: Model) -> Self:
        """Make a fitted classifier from a model, to predict with it or to train it further.

        Raises:
            BadInput: If the model does not predict classes, or its network does not end in a dense
                layer.
        """
        n_outputs = model.parameters.layout.slots[-1].shape[0]
        classifier = cls._of_model(model, n_outputs)
        task = classifier._task = loss_of(classifier.loss).task(n_outputs)
        if task == "regression":
            raise BadInput("the model predicts numbers, expected classes: use NetworkRegressor.")
        count = 2 if task == "two classes" else n_outputs
        numbers = tuple(map(str, range(count)))
        named = model.classes is not None and model.classes != numbers
        classifier.classes_ = np.array(model.classes) if named else np.arange(count)
        return classifier

    def _learn_targets(self, y: NDArray[Any], classes: ArrayLike | None) -> None:
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multiclass-multioutput":
            raise BadInput(
                "y has several columns of classes, expected one, or 0 and 1 for each label: fit a "
                "classifier for each column."
            )
        if kind == "multilabel-indicator":
            self.classes_ = np.arange(y.shape[1])
            self._task, self.n_outputs_ = "several labels", y.shape[1]
        else:
            self.classes_ = np.unique(y if classes is None else np.asarray(classes))
            if len(self.classes_) < 2:
                raise BadInput(
                    f"y has one class, {self.classes_.tolist()[0]!r}, expected two or more: give "
                    "examples of another class."
                )
            self._task, self.n_outputs_ = "many classes", len(self.classes_)
            binary = self.loss == "log_loss" or loss_of(self.loss).task(1) == "two classes"
            if binary and len(self.classes_) == 2:
                self._task, self.n_outputs_ = "two classes", 1
        if self.loss != "log_loss":
            task = loss_of(self.loss).task(self.n_outputs_)
            if task != self._task:
                raise BadInput(
                    f"loss is {shown(self.loss)}, which is for {task}, but y has {self._task}: "
                    "leave it out for the loss that fits."
                )

    def _labels(self, y: NDArray[Any]) -> FloatArray:
        if self._task == "several labels":
            if y.shape[1:] != (self.n_outputs_,) or type_of_target(y) != "multilabel-indicator":
                raise BadInput(
                    f"y has shape {y.shape}, expected {self.n_outputs_} columns of 0 and 1, as in "
                    "the first call."
                )
            return np.asfortranarray(y.T, np.float64)
        check_classification_targets(y)
        if y.ndim != 1:
            raise BadInput(f"y has shape {y.shape}, expected one class per example: give (m,).")
        numbers = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        known = self.classes_[numbers] == y
        if not known.all():
            new = np.unique(y[~known]).tolist()
            raise BadInput(
                f"y has classes {new}, expected those of the first call, "
                f"{self.classes_.tolist()}: give all classes to the first partial_fit."
            )
        return numbers[np.newaxis].astype(np.float64)

    def _every_label(self) -> FloatArray:
        if self._task == "several labels":
            return np.tile([[0.0, 1.0]], (self.n_outputs_, 1))
        return np.arange(len(self.classes_), dtype=np.float64)[np.newaxis]

    def _score_of(self, P: FloatArray, Y: FloatArray, weights: FloatArray | None) -> float:
        if self._task == "many classes":
            right = P.argmax(axis=0) == Y[0]
        else:
            right = ((P > 0.5) == Y).all(axis=0)
        return float(np.average(right, weights=None if weights is None else weights[0]))

    def _class_weights(self) -> ClassWeights:
        given = self.class_weight
        if given is None or (isinstance(given, str) and given == "balanced"):
            return "" if self._task == "several labels" else given or ""
        if self._task == "several labels":
            raise BadInput(
                f"class_weight is {shown(given)}, but y has several labels, expected 'balanced' or "
                "None: give loss='sigmoid_cross_entropy(positive_weight=[…])'."
            )
        if not isinstance(given, Mapping):
            raise BadInput(
                f"class_weight is {shown(given)}, expected 'balanced' or weights by class: give "
                "e.g. {0: 1.0, 1: 5.0}."
            )
        unknown = set(given) - set(self.classes_.tolist())
        if unknown:
            raise BadInput(
                f"class_weight has {shown(unknown.pop())}, expected classes of y, "
                f"{self.classes_.tolist()}: correct it."
            )
        return tuple(float(given.get(label, 1.0)) for label in self.classes_.tolist())

    def _positive_weights(self, train: Examples) -> tuple[float, ...]:
        if self._task != "several labels" or self.class_weight is None:
            return ()
        ones = (train.Y if train.weights is None else train.Y * train.weights).sum(axis=1)
        zeros = train.total - ones
        return tuple(np.where((ones > 0) & (zeros > 0), zeros / ones.clip(1e-300), 1.0).tolist())

    def _class_names(self) -> tuple[str, ...] | None:
        names = tuple(map(str, self.classes_.tolist()))
        return names if len(set(names)) == len(names) > 1 else None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
