"""The tutorial's functions, under the tutorial's names: a deep L-layer network built by hand.

Each is a thin composition of the library's own stages and follows the tutorial's conventions to
the letter, but for one thing: it takes and returns frozen records where the tutorial uses
dictionaries, and changes none of its arguments. `from_dict` and `to_dict` go between the two.

Here, as in the tutorial, `linear_backward` takes the mean over the m examples; inside the
library that is the loss's work.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pydnn.checks import BadInput, expect_count, expect_known, expect_shape
from pydnn.data import load_catvnoncat
from pydnn.initializers import tutorial
from pydnn.metrics import classes_of
from pydnn.numerics import fast
from pydnn.optimizers import gradient_descent
from pydnn.packing import NO_PARAMS, pack
from pydnn.recipes import prepare, tutorial_recipe
from pydnn.records import Batch, FloatArray, arrays, as_array, freeze, readonly
from pydnn.stages import EVALUATION, Stage, relu, sigmoid
from pydnn.stages.dense import (
    DenseCache,
    DenseGrads,
    DenseParams,
    dense_backward,
    dense_forward,
)
from pydnn.training import scan

__all__ = [
    "ActivationCache",
    "Gradients",
    "L_model_backward",
    "L_model_forward",
    "LayerGradients",
    "LinearCache",
    "Parameters",
    "compute_cost",
    "dnn_model",
    "from_dict",
    "initialize_parameters_deep",
    "linear_activation_backward",
    "linear_activation_forward",
    "linear_backward",
    "linear_forward",
    "load_data",
    "predict",
    "to_dict",
    "update_parameters",
]


# The records


@attrs.frozen(unsafe_hash=False)
class Parameters:
    """The parameters of L layers: `parameters["W1"]` (n_1, n_0) and `["b1"]` (n_1, 1), and so on.

    Attributes:
        layers: W and b of each layer, the first one first.
        costs: Where `dnn_model` made this, the cost at every iteration; otherwise empty.
    """

    layers: tuple[DenseParams, ...]
    costs: tuple[float, ...] = attrs.field(default=(), eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for i, (below, above) in enumerate(itertools.pairwise(self.layers), start=2):
            n_in = len(below.W)
            expect_shape(f"W{i}", above.W, ("n", n_in), hint=f"W{i - 1} has {n_in} rows")

    def __getitem__(self, name: str) -> FloatArray:
        return _item(to_dict(self), name)


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class LayerGradients:
    """Gradients dW (n, n_prev), db (n, 1) of a layer, and of its input, dA_prev (n_prev, m)."""

    dW: FloatArray
    db: FloatArray
    dA_prev: FloatArray = None  # type: ignore[assignment]  # where only dW and db were given


@attrs.frozen(unsafe_hash=False)
class Gradients:
    """The gradients of L layers: `grads["dW1"]`, `["db1"]`, and `["dA0"]` for the input X."""

    layers: tuple[LayerGradients, ...]

    def __getitem__(self, name: str) -> FloatArray:
        return _item(to_dict(self), name)


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class LinearCache:
    """What `linear_backward` needs: A (n_prev, m), W (n, n_prev) and b (n, 1)."""

    A: FloatArray
    W: FloatArray
    b: FloatArray


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class ActivationCache:
    """What `linear_activation_backward` needs: the linear cache, and Z (n, m)."""

    linear_cache: LinearCache
    Z: FloatArray


def from_dict(arrays_by_name: Mapping[str, ArrayLike]) -> Parameters | Gradients:
    """The record of a dictionary such as {"W1": …, "b1": …}, or {"dW1": …, "db1": …, "dA0": …}.

    Raises:
        BadInput: If a name is none of the tutorial's, or a layer lacks one.
    """
    kinds = {re.sub(r"\d+$", "", name) for name in arrays_by_name}
    if kinds and kinds <= {"W", "b"}:
        names = ("W", "b")
    elif kinds and kinds <= {"dW", "db", "dA"}:
        names = ("dW", "db")
    else:
        raise BadInput(
            f"names are {', '.join(map(str, arrays_by_name)) or 'none'}, expected those of "
            "parameters, W1, b1, W2, …, or of gradients, dW1, db1, dA0, …: rename them."
        )
    layers = range(1, 1 + sum(name.startswith(names[0]) for name in arrays_by_name))
    for name in [f"{kind}{i}" for i in layers for kind in names]:
        if name not in arrays_by_name:
            raise BadInput(
                f"{name} is missing, expected {names[0]}1 to {names[0]}{layers[-1]}, "
                f"and {names[1]} likewise: give every layer both."
            )
    make = _parameters_from if names == ("W", "b") else _gradients_from
    return make(arrays_by_name, layers)


def to_dict(record: Parameters | Gradients) -> dict[str, FloatArray]:
    """The tutorial's dictionary of a record; its arrays are the record's own, and read-only."""
    if isinstance(record, Parameters):
        named = [
            {f"W{i}": layer.W, f"b{i}": layer.b} for i, layer in enumerate(record.layers, start=1)
        ]
    else:
        named = [
            {f"dW{i}": layer.dW, f"db{i}": layer.db, f"dA{i - 1}": layer.dA_prev}
            for i, layer in enumerate(record.layers, start=1)
        ]
    return {name: array for layer in named for name, array in layer.items() if array is not None}


# The functions, in the order of the tutorial


def initialize_parameters_deep(layer_dims: Sequence[int], seed: int = 1) -> Parameters:
    """Draw W of variance 1 / n_prev, and b = 0, for layers of `layer_dims` units.

    Args:
        layer_dims: n_0, the number of inputs, to n_L, e.g. (12288, 20, 7, 5, 1).
        seed: Of the tutorial's random stream; the global one is not touched.
    """
    _expect_dims(layer_dims)
    shapes = [(n, n_prev) for n_prev, n in itertools.pairwise(layer_dims)]
    weights = tutorial(seed=seed).draw(shapes)
    return Parameters(tuple(DenseParams(freeze(W), np.zeros((len(W), 1))) for W in weights))


def linear_forward(A: FloatArray, W: FloatArray, b: FloatArray) -> tuple[FloatArray, LinearCache]:
    """Z = W A + b, of shape (n, m), and the cache for `linear_backward`."""
    A = readonly(A)
    Z, _ = dense_forward(DenseParams(W, b), A)
    return Z, LinearCache(A, W, b)


def linear_activation_forward(
    A_prev: FloatArray, W: FloatArray, b: FloatArray, activation: str
) -> tuple[FloatArray, ActivationCache]:
    """A = g(W A_prev + b) for the `activation` g, "sigmoid" or "relu", and the cache."""
    stage = _activation(activation)
    Z, linear_cache = linear_forward(A_prev, W, b)
    return stage.forward(NO_PARAMS, Z, EVALUATION)[0], ActivationCache(linear_cache, Z)


def L_model_forward(  # noqa: N802 - the tutorial's name
    X: FloatArray, parameters: Parameters
) -> tuple[FloatArray, tuple[ActivationCache, ...]]:
    """[linear, relu] L - 1 times, then [linear, sigmoid]: AL (1, m), and a cache for each layer."""
    _expect_record(parameters, Parameters)
    A, caches = X, []
    for layer in parameters.layers:
        last = layer is parameters.layers[-1]
        A, cache = linear_activation_forward(A, layer.W, layer.b, "sigmoid" if last else "relu")
        caches.append(cache)
    return A, tuple(caches)


def compute_cost(AL: FloatArray, Y: FloatArray) -> float:
    """Mean cross-entropy, in nats, of the probabilities AL (1, m) for the labels Y (1, m).

    It is finite at AL = 0 and AL = 1, where the nearest positive number is taken instead of 0.

    Raises:
        BadInput: If the shapes differ, or AL is no probability.
    """
    AL, Y = readonly(AL), readonly(Y)
    expect_shape("Y", Y, AL.shape, hint="give one label per example")
    if not ((AL >= 0) & (AL <= 1)).all():
        raise BadInput("AL has entries outside 0 to 1, expected probabilities: apply the sigmoid.")
    log_A = fast.log(np.maximum(AL, np.finfo(AL.dtype).tiny))
    log_not_A = fast.log(np.maximum(1 - AL, np.finfo(AL.dtype).epsneg))
    return -fast.mean(Y * log_A + (1 - Y) * log_not_A)


def linear_backward(
    dZ: FloatArray, cache: LinearCache
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Pull dZ (n, m) back: dA_prev (n_prev, m), and dW and db as means over the m examples."""
    _expect_record(cache, LinearCache)
    dZ = readonly(dZ)
    m = cache.A.shape[1]
    expect_shape("dZ", dZ, (len(cache.W), m), hint="give the gradient of this layer's Z")
    params = DenseParams(cache.W, cache.b)
    dA_prev, grads = dense_backward(params, DenseCache(cache.A, fast), dZ)
    assert dA_prev is not None
    assert grads is not None
    return dA_prev, freeze(grads.dW / m), freeze(grads.db / m)


def linear_activation_backward(
    dA: FloatArray, cache: ActivationCache, activation: str
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Pull dA (n, m) back through `activation`, "sigmoid" or "relu", and the linear part."""
    _expect_record(cache, ActivationCache)
    stage = _activation(activation)
    _, stage_cache = stage.forward(NO_PARAMS, cache.Z, EVALUATION)
    dZ, _ = stage.backward(NO_PARAMS, stage_cache, readonly(dA))
    assert dZ is not None
    return linear_backward(dZ, cache.linear_cache)


def L_model_backward(  # noqa: N802 - the tutorial's name
    AL: FloatArray, Y: FloatArray, caches: Sequence[ActivationCache]
) -> Gradients:
    """Gradients of all layers: dW1 to dWL, db1 to dbL, and dA0 to dA(L-1).

    A factor 1 / AL or 1 / (1 - AL) is taken at the nearest number that keeps it finite.
    """
    AL = readonly(AL)
    Y = readonly(Y).reshape(AL.shape)
    A, not_A = (np.where(p == 0, np.finfo(AL.dtype).epsneg, p) for p in (AL, 1 - AL))
    dA: FloatArray = freeze(-(Y / A - (1 - Y) / not_A))
    layers: list[LayerGradients] = []
    for cache in reversed(caches):
        dA, dW, db = linear_activation_backward(dA, cache, "relu" if layers else "sigmoid")
        layers.insert(0, LayerGradients(dW, db, dA))
    return Gradients(tuple(layers))


def update_parameters(parameters: Parameters, grads: Gradients, learning_rate: float) -> Parameters:
    """One step of gradient descent: W - learning_rate dW and b - learning_rate db, layer by layer.

    Raises:
        BadInput: If `grads` does not have the shapes of `parameters`.
    """
    _expect_record(parameters, Parameters)
    _expect_record(grads, Gradients)
    if len(grads.layers) != len(parameters.layers):
        raise BadInput(
            f"grads have {len(grads.layers)} layers, expected {len(parameters.layers)}: "
            "give those of these parameters."
        )
    for i, (layer, grad) in enumerate(zip(parameters.layers, grads.layers, strict=True), start=1):
        expect_shape(f"dW{i}", grad.dW, layer.W.shape, hint=f"it is the gradient of W{i}")
        expect_shape(f"db{i}", grad.db, layer.b.shape, hint=f"it is the gradient of b{i}")
    packed = pack(parameters.layers)
    gradient = pack(tuple(DenseGrads(grad.dW, grad.db) for grad in grads.layers)).vector
    updates, _ = gradient_descent(learning_rate=learning_rate).update(gradient, (), packed)
    return Parameters(packed.layout.packed(packed.vector + updates).tree)


def dnn_model(
    X: FloatArray,
    Y: FloatArray,
    layers_dims: Sequence[int],
    learning_rate: float = 0.0075,
    num_iterations: int = 2000,
    print_cost: bool = True,
) -> Parameters:
    """Train an L-layer network by full-batch gradient descent: a fold of the library's step.

    Args:
        X: Examples in columns, shape (n_0, m).
        Y: Labels 0 and 1, shape (1, m).
        layers_dims: n_0 to n_L, e.g. (12288, 20, 7, 5, 1).
        learning_rate: Size of a step downhill.
        num_iterations: Number of steps.
        print_cost: Whether to print the cost every 100 iterations.

    Returns:
        The trained parameters; their `costs` hold the cost at every iteration, for
        `pydnn.plots.plot_costs`.

    Raises:
        BadInput: If the data or an option does not fit.
        NotFinite: If the cost stops being finite; the exception holds the last good state.
    """
    batch = _examples(X, Y, layers_dims)
    recipe = tutorial_recipe(
        data="given",
        hidden=layers_dims[1:-1],
        learning_rate=learning_rate,
        iterations=num_iterations,
        dtype=batch.X.dtype.name,
    )
    job = prepare(recipe, batch)
    state, costs = job.state, []
    with np.errstate(over="ignore", invalid="ignore"):  # NotFinite says it better
        for after, info in scan(job.train_step, job.state, job.batches):
            state = after
            costs.append(info.cost)
            if print_cost and info.iteration % 100 == 0:
                print(f"Cost after iteration {info.iteration}: {info.cost:.6f}")
    trained = job.lifted(state.parameters)
    layers = tuple(p for p in trained.tree if isinstance(p, DenseParams))
    return Parameters(layers, tuple(costs))


def load_data(
    directory: str | PathLike[str] = "datasets",
) -> tuple[
    NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64], NDArray[Any]
]:
    """Read the photos of cats and other things from `directory`.

    Returns:
        Training images (209, 64, 64, 3), their labels (1, 209), test images (50, 64, 64, 3),
        their labels (1, 50), and the names of the classes, as bytes.
    """
    train, test = load_catvnoncat(directory)
    classes = np.array([name.encode() for name in train.classes])
    return train.images, train.labels[np.newaxis], test.images, test.labels[np.newaxis], classes


def predict(X: FloatArray, parameters: Parameters) -> FloatArray:
    """0 or 1 for each example of X (n_0, m), as an array (1, m): 1 where AL is above one half."""
    AL, _ = L_model_forward(X, parameters)
    return classes_of(AL)


_ACTIVATIONS = {"relu": relu(), "sigmoid": sigmoid()}


def _activation(name: str) -> Stage:
    expect_known("activation", name, _ACTIVATIONS)
    return _ACTIVATIONS[name]


def _item(arrays_by_name: Mapping[str, FloatArray], name: str) -> FloatArray:
    expect_known("array", name, arrays_by_name)
    return arrays_by_name[name]


def _parameters_from(arrays_by_name: Mapping[str, ArrayLike], layers: Sequence[int]) -> Parameters:
    get = arrays_by_name.__getitem__
    return Parameters(tuple(DenseParams(get(f"W{i}"), get(f"b{i}")) for i in layers))  # type: ignore[arg-type]


def _gradients_from(arrays_by_name: Mapping[str, ArrayLike], layers: Sequence[int]) -> Gradients:
    get = arrays_by_name.get
    return Gradients(
        tuple(LayerGradients(get(f"dW{i}"), get(f"db{i}"), get(f"dA{i - 1}")) for i in layers)  # type: ignore[arg-type]
    )


def _expect_record(value: object, cls: type) -> None:
    if not isinstance(value, cls):
        advice = (
            "make one with from_dict" if cls in (Parameters, Gradients) else "pass the cache on"
        )
        raise BadInput(f"got a {type(value).__name__}, expected {cls.__name__}: {advice}.")


def _expect_dims(layers_dims: Sequence[int]) -> None:
    if len(layers_dims) < 2:
        raise BadInput(
            f"layers_dims is {tuple(layers_dims)}, expected the number of inputs and of units of "
            "one layer or more: give e.g. (12288, 20, 7, 5, 1)."
        )
    for n in layers_dims:
        expect_count("a layer's number of units", n, hint="give one or more to every layer")


def _examples(X: FloatArray, Y: FloatArray, layers_dims: Sequence[int]) -> Batch:
    """The batch of X and Y in one dtype; `prepare` checks their numbers."""
    _expect_dims(layers_dims)
    if layers_dims[-1] != 1:
        raise BadInput(f"layers_dims ends in {layers_dims[-1]}, expected 1: one sigmoid unit.")
    X = readonly(X)
    Y = readonly(as_array(Y).astype(X.dtype))
    expect_shape("X", X, (layers_dims[0], "m"), hint="put the features of an example in a column")
    return Batch(X, Y)
