"""Turns the arguments of an estimator into a recipe."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import attrs

from pydnn.batches import Batching, full_batch, mini_batches
from pydnn.checks import BadInput, expect_count, expect_flag, expect_known, expect_real
from pydnn.descriptions.builders import build
from pydnn.descriptions.parts import Description
from pydnn.descriptions.text import write_description
from pydnn.losses import (
    Loss,
    mean_squared,
    poisson,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)
from pydnn.optimizers import GradientTransformation, adam, gradient_descent, momentum, nesterov
from pydnn.optimizers.schedules import inverse_time_decay
from pydnn.penalties import l2_penalty
from pydnn.recipes.recipe import Recipe, read_part
from pydnn.stages import Stage, dense, identity, relu, serial, sigmoid, tanh
from pydnn.stages.initializers import xavier_uniform

__all__ = ["Size", "expect_options", "is_one_batch", "loss_of", "recipe_of", "split_network"]

_ACTIVATIONS = {"identity": identity, "logistic": sigmoid, "tanh": tanh, "relu": relu}
_LARGEST_AUTO = 200  # examples of a batch; fewer examples than that are one batch, not shuffled


@attrs.frozen
class Size:
    """The sizes of the data that a recipe depends on.

    Attributes:
        task: One of `losses.TASKS`.
        outputs: The number of outputs that the network needs.
        count: Examples that are trained on.
        total: The sum of their weights.
        dtype: "float64" or "float32".
        positive: By label, how many times as much a 1 costs as a 0; empty where it is the same.
    """

    task: str
    outputs: int
    count: int
    total: float
    dtype: str
    positive: tuple[float, ...] = ()


@attrs.frozen
class _Scale:
    """How costs and gradients of pydnn's loss compare with those of scikit-learn's.

    Attributes:
        cost: pydnn's cost by scikit-learn's.
        gradient: pydnn's gradient by scikit-learn's.
    """

    cost: float = 1.0
    gradient: float = 1.0


def expect_options(options: Any) -> None:
    """Refuse arguments of an estimator that no part of its recipe would refuse.

    Raises:
        BadInput: Naming the argument.
    """
    expect_known("solver", str(options.solver), ["adam", "lbfgs", "sgd"])
    if options.solver == "lbfgs":
        raise BadInput(
            "solver is 'lbfgs', expected 'adam' or 'sgd': pydnn trains step by step, so choose "
            "one of these, or give an optimizer."
        )
    expect_known(
        "learning_rate", str(options.learning_rate), ["adaptive", "constant", "invscaling"]
    )
    if options.learning_rate == "adaptive":
        raise BadInput(
            "learning_rate is 'adaptive', expected 'constant' or 'invscaling', since the rate of "
            "a step must not depend on later data: give an optimizer with a schedule, e.g. "
            "optimizer='momentum(learning_rate=step_decay(0.1, factor=0.2, every=1000))'."
        )
    expect_known("activation", str(options.activation), _ACTIVATIONS)
    expect_count("max_iter", options.max_iter, hint="give the number of epochs")
    expect_real("tol", options.tol, least=0, hint="give the least progress of an epoch, e.g. 1e-4")
    expect_real("alpha", options.alpha, least=0, hint="give the strength of the L2 penalty")
    if options.n_iter_no_change != math.inf:
        expect_count("n_iter_no_change", options.n_iter_no_change, hint="give a number of epochs")
    for name in ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping", "standardize"):
        expect_flag(name, getattr(options, name))
    hint = "give the share of the examples to hold back for evaluation, e.g. 0.1"
    expect_real(
        "validation_fraction", options.validation_fraction, positive=True, below=1, hint=hint
    )
    if options.batch_size != "auto":
        expect_count("batch_size", options.batch_size, hint="give the examples of a batch, or auto")


def recipe_of(options: Any, size: Size, *, seed: int) -> tuple[Recipe, float]:
    """The recipe for an estimator's arguments, and the ratio of its cost to scikit-learn's loss.

    Args:
        options: The estimator.
        size: The sizes that follow from the data.
        seed: The seed of the training.

    Raises:
        BadInput: If an argument does not fit.
    """
    loss, scale = _loss_of(options, size)
    network = read_part("network", "stage", _network_of(options, size.outputs))
    batches, per_epoch = _batches_of(options, size, network)
    # scikit-learn's penalty is a mean over total weight, pydnn's over the number of examples.
    strength = options.alpha * scale.gradient * size.count / size.total
    recipe = Recipe(
        "arrays given to scikit-learn",
        network,
        loss,
        _optimizer_of(options, size, scale, per_epoch),
        iterations=options.max_iter * per_epoch,
        penalties=[l2_penalty(strength)] if strength else [],
        batches=batches,
        rotate=False,
        seed=seed,
        dtype=size.dtype,
        numerics=options.numerics,
    )
    return recipe, scale.cost


def _network_of(options: Any, outputs: int) -> Stage | str:
    """The network: the hidden layers, and a dense layer with as many outputs as are needed."""
    last = dense(outputs, initializer=xavier_uniform())
    if isinstance(options.network, str):
        return f"serial({options.network}, {last!r})" if options.network.strip() else last
    if options.network is not None:
        several = isinstance(options.network, list | tuple)
        stages: list[Any] = list(options.network) if several else [options.network]
        return serial(*stages, last)
    activation = _ACTIVATIONS[options.activation]
    hidden: list[Stage] = []
    for units in _units(options.hidden_layer_sizes):
        hidden += [dense(units, initializer=xavier_uniform()), activation()]
    return serial(*hidden, last)


def split_network(network: Description, outputs: int) -> str:
    """The text of a network's hidden layers, as the argument `network` takes it.

    Raises:
        BadInput: If its last layer is not a dense one with so many outputs.
    """
    stages: Any = network["serial"]["stages"] if "serial" in network else [network]
    hidden, last = stages[:-1], stages[-1]
    if last.get("dense", {}).get("units") != outputs:
        raise BadInput(
            f"the network ends in {write_description(last)}, expected dense({outputs}): predict "
            "with the model itself."
        )
    return ", ".join(map(write_description, hidden))


def loss_of(given: Any) -> Loss:
    """The loss that an argument names in pydnn's words.

    Raises:
        BadInput: If there is no such loss.
    """
    plain: Any = read_part("loss", "loss", given)
    loss: Loss = plain if isinstance(plain, Loss) else build(plain, family="loss")
    return loss


def _units(sizes: object) -> list[int]:
    several = sizes if isinstance(sizes, Iterable) and not isinstance(sizes, str) else [sizes]
    hint = "give the units of each hidden layer, e.g. (100, 50)"
    return [expect_count("hidden_layer_sizes", units, hint=hint) for units in several]


def _loss_of(options: Any, size: Size) -> tuple[Loss | str, _Scale]:
    k = size.outputs
    match options.loss, size.task:
        case "log_loss", "many classes":
            return softmax_cross_entropy(), _Scale()
        case "log_loss", "two classes":
            return sigmoid_cross_entropy(), _Scale()
        case "log_loss", "several labels":
            weights = list(size.positive) if size.positive else 1.0
            return sigmoid_cross_entropy(positive_weight=weights), _Scale(1 / k, 1 / k)
        case "squared_error", "regression":
            return mean_squared(), _Scale(2.0, 2 / k)
        case "poisson", "regression":
            return poisson(), _Scale(1.0, 1 / k)
    return options.loss, _Scale()


def is_one_batch(options: Any, m: int) -> bool:
    """Whether all m examples are one batch."""
    return _batch_size(options) >= m


def _batch_size(options: Any) -> int:
    return _LARGEST_AUTO if options.batch_size == "auto" else int(options.batch_size)


def _batches_of(options: Any, size: Size, network: Any) -> tuple[Batching, int]:
    """The batches, and how many make an epoch."""
    m, wanted = size.count, _batch_size(options)
    if is_one_batch(options, m):
        if options.batch_size != "auto" and wanted > m:
            warnings.warn(
                f"batch_size is {wanted}, but there are {m} examples: all are one batch.",
                stacklevel=7,
            )
        return full_batch(), 1
    # A batch of one example has no spread, which batch normalization divides by.
    alone = False
    if m % wanted == 1:
        built: Stage = network if isinstance(network, Stage) else build(network, family="stage")
        alone = built.mixes_examples
    batches = mini_batches(wanted, shuffle=options.shuffle, keep_last=not alone)
    return batches, batches.per_epoch(m)


def _optimizer_of(
    options: Any, size: Size, scale: _Scale, per_epoch: int
) -> GradientTransformation | str:
    if options.optimizer is not None:
        optimizer: GradientTransformation | str = options.optimizer
        return optimizer
    hint = "give the rate of the first step, e.g. 0.001"
    rate = expect_real("learning_rate_init", options.learning_rate_init, positive=True, hint=hint)
    if options.solver == "adam":
        return adam(
            learning_rate=rate,
            beta1=options.beta_1,
            beta2=options.beta_2,
            epsilon=options.epsilon,
        )
    rate /= scale.gradient
    schedule: Any = rate
    if options.learning_rate == "invscaling" and options.power_t:
        schedule = inverse_time_decay(
            rate, decay=size.total, every=per_epoch, staircase=True, power=options.power_t
        )
    if not options.momentum:
        return gradient_descent(learning_rate=schedule)
    kind = nesterov if options.nesterovs_momentum else momentum
    return kind(learning_rate=schedule, decay=options.momentum)
