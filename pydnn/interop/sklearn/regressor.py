"""The estimator that predicts numbers."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from pydnn.checks import BadInput, shown
from pydnn.interop.sklearn.base import Network, with_callbacks
from pydnn.interop.sklearn.options import loss_of
from pydnn.jobs.model import Model
from pydnn.records import FloatArray

__all__ = ["NetworkRegressor"]


class NetworkRegressor(RegressorMixin, Network):  # type: ignore[misc]
    """A network that predicts numbers, one or several for each example.

    It takes the arguments of scikit-learn's `MLPRegressor` with the same defaults, but for
    solver="lbfgs" and learning_rate="adaptive", and has the same fitted attributes.

    Args:
        loss: "squared_error", "poisson", or a loss of pydnn, e.g. "huber(delta=1.0)".
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
        random_state: The seed, or a RandomState that draws one; None for a new one each time.
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
        optimizer: An optimizer of pydnn instead of the solver and its options.
        standardize: Whether features are brought to mean 0 and deviation 1.
        numerics: "fast", or "portable": the same bits on every machine.
        record: A folder for the record of the training, e.g. "runs/0007"; see `as_batch`.

    Attributes:
        model_: The `Model`, which can be saved.
        loss_curve_: The loss of each epoch.
        validation_scores_: R^2 on the validation part after each epoch, if there is one.
        validation_loss_curve_: The loss on it.
        n_iter_: The epochs that were taken.
        coefs_: The weights of each layer (n_in, n_out).
        intercepts_: The biases of each layer (n_out,).

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> regressor = NetworkRegressor(
        ...     solver="sgd", standardize=True, random_state=1, tol=1.0, max_iter=400
        ... )
        >>> bool(regressor.fit(X, y).score(X, y) > 0.5)
        True
    """

    _numeric = True
    _task = "regression"

    def __init__(  # noqa: D107
        self,
        loss: Any = "squared_error",
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
        optimizer: Any = None,
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
        """Train on rows X (m, n_x), dense or sparse, with numbers y (m,) or (m, k).

        Args:
            X: The examples.
            y: Their numbers.
            sample_weight: The weight of each example; those of weight 0 are left out.
            X_val: Examples to evaluate epochs on, instead of a part of X.
            y_val: Their numbers.
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

    def partial_fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Take one more epoch, on these examples.

        Args:
            X: The examples (m, n_x), dense or sparse.
            y: Their numbers (m,) or (m, k).
            sample_weight: The weight of each example.

        Raises:
            ValueError: If the data does not fit what came before.
        """
        return self._fit(X, y, sample_weight, goes_on=True, epochs=1, stops=False)

    def predict(self, X: Any) -> FloatArray:
        """The numbers for each row of X, (m,) or (m, k)."""
        P = self._outputs(X)
        return np.array(P[0] if len(P) == 1 else P.T, order="C")

    @classmethod
    def from_model(cls, model: Model) -> Self:
        """Make a fitted regressor from a model, to predict with it or to train it further.

        Raises:
            BadInput: If the model predicts classes, or its network does not end in a dense layer.
        """
        n_outputs = model.parameters.layout.slots[-1].shape[0]
        regressor = cls._of_model(model, n_outputs)
        if loss_of(regressor.loss).task(n_outputs) != "regression":
            raise BadInput("the model predicts classes, expected numbers: use NetworkClassifier.")
        return regressor

    def _learn_targets(self, y: NDArray[Any], classes: ArrayLike | None) -> None:
        self.n_outputs_ = 1 if y.ndim == 1 else y.shape[1]
        if self.loss in ("squared_error", "poisson"):
            return
        task = loss_of(self.loss).task(self.n_outputs_)
        if task != "regression":
            raise BadInput(
                f"loss is {shown(self.loss)}, which is for {task}, expected one for numbers: "
                "leave it out for the squared error."
            )

    def _labels(self, y: NDArray[Any]) -> FloatArray:
        Y = np.asfortranarray(np.atleast_2d(y.T), np.float64)
        if len(Y) != self.n_outputs_:
            raise BadInput(
                f"y has {len(Y)} columns, expected {self.n_outputs_}, as in the first call."
            )
        return Y

    def _every_label(self) -> FloatArray:
        return np.empty((self.n_outputs_, 0))

    def _score_of(self, P: FloatArray, Y: FloatArray, weights: FloatArray | None) -> float:
        own = None if weights is None else weights[0]
        return float(r2_score(Y.T, P.T, sample_weight=own))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
