"""The tutorial's functions under the tutorial's names: an L-layer network built by hand.

Each is a thin composition of the library's own stages. Names, argument order and conventions are
the tutorial's, with one difference: the functions return frozen records, where the tutorial
changes dictionaries. They accept both records and the tutorial's dictionaries and tuples.

Records are read like the tutorial's dictionaries and tuples: `parameters["W1"]`,
`len(parameters) // 2`, `parameters.keys()`, `linear_cache, activation_cache = cache`. They are
read-only, so that every step can be repeated and compared. To change a number, make a new record:

    from_dict({**parameters, "W1": 2 * parameters["W1"]})

`from_dict` and `to_dict` convert dictionaries to records and back; `to_state` and `from_state`
convert parameters to a state of the library and back.

As in the tutorial, `linear_backward` takes the mean over the m examples. In the rest of the
library, the loss does.
"""

from __future__ import annotations

import itertools
import math
import re
from abc import ABCMeta, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

import attrs
import numpy as np
import toolz
from numpy.typing import ArrayLike, NDArray

from pydnn.checks import BadInput, expect_count, expect_known, expect_shape, fixed
from pydnn.data import ImageSet, contact_sheet, load_catvnoncat
from pydnn.jobs.model import Model
from pydnn.jobs.training import train
from pydnn.keys import Key
from pydnn.metrics import classes_of
from pydnn.numerics import fast
from pydnn.numerics.underflow import ignoring_underflow
from pydnn.optimizers.base import GradientTransformation
from pydnn.optimizers.momentum import gradient_descent
from pydnn.parameters import NO_PARAMS, Packed, pack
from pydnn.recipes.tutorial import tutorial_network, tutorial_recipe
from pydnn.records import Batch, FloatArray, arrays, as_array, freeze, readonly
from pydnn.stages import EVALUATION, Stage, relu, sigmoid
from pydnn.stages.dense import (
    DenseCache,
    DenseGrads,
    DenseParams,
    dense_backward,
    dense_forward,
)
from pydnn.stages.initializers import WeightStream, tutorial
from pydnn.training import StepInfo, TrainState, initial_state, tee

if TYPE_CHECKING:  # pillow is an extra
    from PIL.Image import Image

__all__ = [
    "ActivationCache",
    "Gradients",
    "L_layer_model",
    "L_model_backward",
    "L_model_forward",
    "LayerGradients",
    "LinearCache",
    "Parameters",
    "compute_cost",
    "dnn_model",
    "from_dict",
    "from_state",
    "initialize_parameters_deep",
    "linear_activation_backward",
    "linear_activation_forward",
    "linear_backward",
    "linear_forward",
    "load_data",
    "predict",
    "print_mislabeled_images",
    "relu_backward",
    "sigmoid_backward",
    "to_dict",
    "to_state",
    "two_layer_model",
    "update_parameters",
]


_Default = TypeVar("_Default")
_READ_ONLY = (
    "the tutorial's records cannot be changed, so that every step can be repeated: make a new one, "
    'e.g. from_dict({**parameters, "W1": W1}), from a copy such as parameters["W1"].copy()'
)


class _Frozen(FloatArray):
    """A read-only array of a record, with an error that says why it cannot be changed.

    Arithmetic on it gives ordinary arrays, and the records hold ordinary arrays: only reading one
    by its name makes such a view.
    """

    def __setitem__(self, index: Any, value: Any) -> None:
        if not self.flags.writeable:
            raise BadInput(f"this array is read-only: {_READ_ONLY}.")
        super().__setitem__(index, value)

    def __array_ufunc__(
        self,
        ufunc: np.ufunc,
        method: str,
        *inputs: object,
        out: tuple[object, ...] = (),
        **options: object,
    ) -> object:
        if any(isinstance(x, _Frozen) and not x.flags.writeable for x in out):
            raise BadInput(f"this array is read-only: {_READ_ONLY}.")
        # On plain arrays, so that results do not inherit this class and its error.
        if out:
            options["out"] = tuple(map(_plain, out))
        return getattr(ufunc, method)(*map(_plain, inputs), **options)

    def __repr__(self) -> str:
        return repr(_plain(self))


def _plain(x: object) -> object:
    return x.view(np.ndarray) if isinstance(x, _Frozen) else x


class _Record(ABCMeta):
    """Hides the private names that attrs adds, about 25 lines, from `help` and `dir`."""

    def __dir__(cls) -> list[str]:
        return [name for name in super().__dir__() if not name.startswith("_")]


class _Named(Mapping[str, FloatArray], metaclass=_Record):
    """A read-only mapping from the tutorial's names to arrays."""

    __slots__ = ()

    @abstractmethod
    def _arrays(self) -> dict[str, FloatArray]:
        """All arrays by name."""

    def __getitem__(self, name: str) -> FloatArray:
        arrays_by_name = self._arrays()
        expect_known("array", name, arrays_by_name)
        return arrays_by_name[name].view(_Frozen)

    def __contains__(self, name: object) -> bool:
        return name in self._arrays()

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays())

    def __len__(self) -> int:
        return len(self._arrays())

    @overload
    def get(self, name: str, default: None = None) -> FloatArray | None: ...

    @overload
    def get(self, name: str, default: _Default) -> FloatArray | _Default: ...

    def get(self, name: str, default: object = None) -> object:
        """Return the array of that name, or the default if there is none."""
        if name not in self:
            return default
        return self[name]

    def __setitem__(self, name: str, value: object) -> NoReturn:
        raise BadInput(f"{name} cannot be set: {_READ_ONLY}.")

    def __delitem__(self, name: str) -> NoReturn:
        raise BadInput(f"{name} cannot be deleted: {_READ_ONLY}.")


@attrs.frozen(unsafe_hash=False)
class Parameters(_Named):
    """The parameters of L layers: `parameters["W1"]` (n_1, n_0), `parameters["b1"]` (n_1, 1), etc.

    Attributes:
        layers: W and b of each layer, from the first to the last.
        costs: The cost at every iteration if `dnn_model` made the record; otherwise empty.

    Example:
        >>> parameters = initialize_parameters_deep([3, 2, 1])
        >>> list(parameters), parameters["W1"].shape
        (['W1', 'b1', 'W2', 'b2'], (2, 3))
    """

    layers: tuple[DenseParams, ...]
    costs: tuple[float, ...] = attrs.field(default=(), eq=False, repr=False)

    def _arrays(self) -> dict[str, FloatArray]:
        layers = enumerate(self.layers, start=1)
        named = [{f"W{i}": layer.W, f"b{i}": layer.b} for i, layer in layers]
        return {name: array for layer in named for name, array in layer.items()}


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class LayerGradients(metaclass=_Record):
    """A layer's gradients: dW (n, n_prev), db (n, 1), and dA_prev (n_prev, m) of its input."""

    dW: FloatArray
    db: FloatArray
    dA_prev: FloatArray | None = None  # None if only dW and db are known


@attrs.frozen(unsafe_hash=False)
class Gradients(_Named):
    """The gradients of L layers: `grads["dW1"]`, `["db1"]`, and `["dA0"]` for the input X.

    Example:
        >>> AL, caches = L_model_forward([[2.0]], {"W1": [[0.0]], "b1": [[0.0]]})
        >>> list(L_model_backward(AL, [[1.0]], caches))
        ['dW1', 'db1', 'dA0']
    """

    layers: tuple[LayerGradients, ...]

    def _arrays(self) -> dict[str, FloatArray]:
        named = [
            {f"dW{i}": layer.dW, f"db{i}": layer.db, f"dA{i - 1}": layer.dA_prev}
            for i, layer in enumerate(self.layers, start=1)
        ]
        known = (pair for layer in named for pair in layer.items())
        return {name: array for name, array in known if array is not None}


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class LinearCache(metaclass=_Record):
    """The inputs of `linear_forward`: A (n_prev, m), W (n, n_prev) and b (n, 1).

    Example:
        >>> Z, cache = linear_forward([[3.0]], [[2.0]], [[0.5]])
        >>> A_prev, W, b = cache
        >>> A_prev
        array([[3.]])
    """

    A: FloatArray
    W: FloatArray
    b: FloatArray

    def __iter__(self) -> Iterator[FloatArray]:
        """Yield A, W and b, for `A_prev, W, b = cache`."""
        return iter((self.A, self.W, self.b))


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class ActivationCache(metaclass=_Record):
    """The cache of `linear_activation_forward`: the linear cache, and Z (n, m).

    Example:
        >>> A, cache = linear_activation_forward([[1.0]], [[3.0]], [[0.0]], "relu")
        >>> linear_cache, Z = cache
        >>> Z
        array([[3.]])
    """

    linear_cache: LinearCache
    Z: FloatArray

    def __iter__(self) -> Iterator[Any]:
        """Yield the linear cache and Z, for `linear_cache, activation_cache = cache`."""
        return iter((self.linear_cache, self.Z))


def from_dict(arrays_by_name: Mapping[str, ArrayLike]) -> Parameters | Gradients:
    """Convert a dictionary {"W1": …, "b1": …} or {"dW1": …, "db1": …, "dA0": …} to a record.

    Raises:
        BadInput: If a name is not one of the tutorial's, or an array of a layer is missing.

    Example:
        >>> from_dict({"W1": [[1.0, 2.0]], "b1": [[3.0]]})["W1"]
        array([[1., 2.]])
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
    """Convert a record to the tutorial's dictionary, whose arrays are read-only.

    Example:
        >>> list(to_dict(initialize_parameters_deep([3, 2, 1])))
        ['W1', 'b1', 'W2', 'b2']
    """
    return record._arrays()


def to_state(
    parameters: Parameters | Mapping[str, ArrayLike],
    *,
    optimizer: GradientTransformation | None = None,
    key: Key = Key(1),  # noqa: B008 - keys are frozen
) -> TrainState:
    """Convert parameters to a state of the library, at iteration 0.

    The state is for the network `recipes.tutorial_network(hidden)`, where `hidden` lists the units
    of the hidden layers. It can be passed to `scan`, `output_of` and the rest of the library.

    Args:
        parameters: The parameters of layers that fit each other; the last one must have one unit.
        optimizer: The optimizer whose state to add; by default gradient descent.
        key: The key of the training.

    Raises:
        BadInput: If a layer does not fit the one below it, or the last one has other than 1 unit.

    Example:
        >>> state = to_state(initialize_parameters_deep([3, 2, 1]))
        >>> network = nn.recipes.tutorial_network([2])
        >>> nn.output_of(network, state, np.ones((3, 4))).shape
        (1, 4)
    """
    layers = _expect_chain(_record(parameters, Parameters)).layers
    network = tutorial_network([len(layer.W) for layer in layers[:-1]])
    optimizer = optimizer or gradient_descent(learning_rate=0.0075)
    packed = _packed(layers)
    n_0, dtype = layers[0].W.shape[1], packed.vector.dtype
    state = initial_state(network, optimizer, (n_0,), key=key, dtype=dtype)
    expect_shape(
        f"W{len(layers)}", layers[-1].W, (1, "n"), hint="the tutorial's network has one output"
    )
    # The layers lie in the same order in both layouts, so the vector can be taken over as it is.
    laid_out = state.parameters.with_vector(packed.vector)
    return attrs.evolve(state, parameters=laid_out, optimizer_state=optimizer.init(laid_out))


def from_state(state: TrainState | Model) -> Parameters:
    """Convert a state or a model, whose only stages with parameters are dense, to parameters.

    For a rotated job, pass its model: the parameters in its states are rotated.

    Raises:
        BadInput: If a stage with parameters is not a dense layer.

    Example:
        >>> parameters = initialize_parameters_deep([3, 2, 1])
        >>> from_state(to_state(parameters)) == parameters
        True
    """
    layers = []
    for i, tree in enumerate(state.parameters.tree):
        if isinstance(tree, DenseParams):
            layers.append(tree)
        elif tree != NO_PARAMS:
            raise BadInput(
                f"stage {i} of the network has {type(tree).__name__}, expected only parameters of "
                "dense layers: the tutorial has no other stages with parameters."
            )
    return Parameters(tuple(layers))


# The tutorial's functions, in its order


@ignoring_underflow
def initialize_parameters_deep(layer_dims: Sequence[int], seed: int = 1) -> Parameters:
    """Draw weights W with variance 1 / n_prev for each layer, with biases b = 0.

    Args:
        layer_dims: The number of inputs n_0 and the units n_1 to n_L, e.g. (12288, 20, 7, 5, 1).
        seed: The seed of the tutorial's random numbers; NumPy's global state is not touched.

    Raises:
        BadInput: If there are fewer than two numbers, or one is not an integer of at least 1.

    Example:
        >>> initialize_parameters_deep([2, 1])["W1"].round(3)
        array([[ 1.149, -0.433]])
    """
    dims = _expect_dims(layer_dims)
    shapes = [(n, n_prev) for n_prev, n in itertools.pairwise(dims)]
    weights = tutorial(seed=seed).draw(shapes, fast, key=Key(seed))
    return Parameters(tuple(DenseParams(freeze(W), np.zeros((len(W), 1))) for W in weights))


@ignoring_underflow
def linear_forward(A: FloatArray, W: FloatArray, b: FloatArray) -> tuple[FloatArray, LinearCache]:
    """Compute Z = W A + b, shape (n, m), and the cache for `linear_backward`.

    Args:
        A: The layer's inputs, shape (n_prev, m).
        W: The weights, shape (n, n_prev).
        b: The biases, shape (n, 1).

    Raises:
        BadInput: If the shapes do not fit each other.

    Example:
        >>> Z, cache = linear_forward([[3.0], [4.0]], [[1.0, 2.0]], [[0.5]])
        >>> Z
        array([[11.5]])
    """
    A = readonly(A)
    Z, _ = dense_forward(DenseParams(W, b), A)
    return Z, LinearCache(A, W, b)


@ignoring_underflow
def linear_activation_forward(
    A_prev: FloatArray, W: FloatArray, b: FloatArray, activation: str
) -> tuple[FloatArray, ActivationCache]:
    """Compute A = g(W A_prev + b), shape (n, m), and the cache for the backward pass.

    Args:
        A_prev: The layer's inputs, shape (n_prev, m).
        W: The weights, shape (n, n_prev).
        b: The biases, shape (n, 1).
        activation: The function g, "sigmoid" or "relu".

    Raises:
        BadInput: If the shapes do not fit each other, or there is no such activation.

    Example:
        >>> A, cache = linear_activation_forward([[1.0, -2.0]], [[3.0]], [[0.0]], "relu")
        >>> A
        array([[3., 0.]])
    """
    stage = _activation(activation)
    Z, linear_cache = linear_forward(A_prev, W, b)
    return stage.forward(NO_PARAMS, Z, EVALUATION)[0], ActivationCache(linear_cache, Z)


@ignoring_underflow
def L_model_forward(  # noqa: N802 - the tutorial's name
    X: FloatArray, parameters: Parameters | Mapping[str, ArrayLike]
) -> tuple[FloatArray, tuple[ActivationCache, ...]]:
    """Apply linear and relu L - 1 times, then linear and sigmoid.

    Args:
        X: The examples in columns, shape (n_0, m).
        parameters: The parameters of L layers.

    Returns:
        The probabilities AL (1, m), and the cache of each layer.

    Raises:
        BadInput: If a layer does not fit the one below it, or X does not fit the first one.

    Example:
        >>> AL, caches = L_model_forward([[0.0]], {"W1": [[1.0]], "b1": [[0.0]]})
        >>> AL, len(caches)
        (array([[0.5]]), 1)
    """
    parameters = _expect_chain(_record(parameters, Parameters))
    A, caches = X, []
    for i, layer in enumerate(parameters.layers, start=1):  # by number, because layers may be equal
        activation = "sigmoid" if i == len(parameters.layers) else "relu"
        A, cache = linear_activation_forward(A, layer.W, layer.b, activation)
        caches.append(cache)
    return A, tuple(caches)


@ignoring_underflow
def compute_cost(AL: FloatArray, Y: FloatArray) -> float:
    """The mean cross-entropy, in nats, of probabilities AL (1, m) for labels Y (1, m).

    It stays finite at AL = 0 and AL = 1, because tiny positive numbers replace 0 in the logarithm.

    Raises:
        BadInput: If the shapes differ, or an entry of AL is not between 0 and 1.

    Example:
        >>> round(compute_cost([[0.5, 0.5]], [[0, 1]]), 4)
        0.6931
    """
    AL, Y = readonly(AL), readonly(Y)
    expect_shape("Y", Y, AL.shape, hint="give one label per example")
    if not ((AL >= 0) & (AL <= 1)).all():
        raise BadInput("AL has entries outside 0 to 1, expected probabilities: apply the sigmoid.")
    log_A = fast.log(np.maximum(AL, np.finfo(AL.dtype).tiny))
    log_not_A = fast.log(np.maximum(1 - AL, np.finfo(AL.dtype).epsneg))
    return -fast.mean(Y * log_A + (1 - Y) * log_not_A)


@ignoring_underflow
def linear_backward(
    dZ: FloatArray, cache: LinearCache | Iterable[FloatArray]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The gradients of a linear layer: dA_prev = Wᵀ dZ, dW = dZ A_prevᵀ / m, db = mean of dZ.

    Args:
        dZ: The gradient of the layer's Z, shape (n, m).
        cache: The cache from `linear_forward`.

    Returns:
        dA_prev (n_prev, m), dW (n, n_prev) and db (n, 1).

    Raises:
        BadInput: If dZ does not have the shape of Z.

    Example:
        >>> Z, cache = linear_forward([[3.0], [4.0]], [[1.0, 2.0]], [[0.5]])
        >>> dA_prev, dW, db = linear_backward([[10.0]], cache)
        >>> dW
        array([[30., 40.]])
    """
    cache = _record(cache, LinearCache)
    dZ = readonly(dZ)
    m = cache.A.shape[1]
    expect_shape("dZ", dZ, (len(cache.W), m), hint="give the gradient of this layer's Z")
    params = DenseParams(cache.W, cache.b)
    dA_prev, grads = dense_backward(params, DenseCache(cache.A, fast), dZ)
    assert dA_prev is not None
    assert grads is not None
    return dA_prev, freeze(grads.dW / m), freeze(grads.db / m)


@ignoring_underflow
def linear_activation_backward(
    dA: FloatArray, cache: ActivationCache | Iterable[object], activation: str
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The gradients of a layer: back through its activation and its linear part.

    Args:
        dA: The gradient of the layer's output, shape (n, m).
        cache: The cache from `linear_activation_forward`.
        activation: "sigmoid" or "relu".

    Returns:
        dA_prev (n_prev, m), dW (n, n_prev) and db (n, 1).

    Example:
        >>> A, cache = linear_activation_forward([[1.0, -2.0]], [[3.0]], [[0.0]], "relu")
        >>> dA_prev, dW, db = linear_activation_backward([[1.0, 1.0]], cache, "relu")
        >>> dA_prev
        array([[3., 0.]])
    """
    cache = _record(cache, ActivationCache)
    return linear_backward(_through(activation, dA, cache.Z), cache.linear_cache)


def relu_backward(dA: FloatArray, cache: FloatArray) -> FloatArray:
    """Compute dZ (n, m): dA where Z > 0, and 0 elsewhere; the `cache` is Z.

    Example:
        >>> relu_backward([[5.0, 5.0]], [[1.0, -1.0]])
        array([[5., 0.]])
    """
    return _through("relu", dA, cache)


def sigmoid_backward(dA: FloatArray, cache: FloatArray) -> FloatArray:
    """Compute dZ (n, m) = dA s (1 - s), where s is the sigmoid of Z; the `cache` is Z.

    Example:
        >>> sigmoid_backward([[1.0]], [[0.0]])
        array([[0.25]])
    """
    return _through("sigmoid", dA, cache)


def _through(activation: str, dA: FloatArray, Z: FloatArray) -> FloatArray:
    stage = _activation(activation)
    dA, Z = readonly(dA), readonly(Z)
    expect_shape("dA", dA, Z.shape, hint="give the gradient of this layer's A")
    _, stage_cache = stage.forward(NO_PARAMS, Z, EVALUATION)
    dZ, _ = stage.backward(NO_PARAMS, stage_cache, dA)
    assert dZ is not None
    return dZ


@ignoring_underflow
def L_model_backward(  # noqa: N802 - the tutorial's name
    AL: FloatArray, Y: FloatArray, caches: Sequence[ActivationCache | Iterable[object]]
) -> Gradients:
    """The gradients of all layers: dW1 to dWL, db1 to dbL, and dA0 to dA(L-1).

    Args:
        AL: The probabilities, shape (1, m), from `L_model_forward`.
        Y: The labels, shape (1, m).
        caches: The caches from `L_model_forward`.

    Example:
        >>> AL, caches = L_model_forward([[2.0]], {"W1": [[0.0]], "b1": [[0.0]]})
        >>> L_model_backward(AL, [[1.0]], caches)["dW1"]
        array([[-1.]])
    """
    AL = readonly(AL)
    Y = readonly(Y).reshape(AL.shape)
    # The smallest positive number instead of 0 keeps the divisions below finite.
    A, not_A = (np.where(p == 0, np.finfo(AL.dtype).epsneg, p) for p in (AL, 1 - AL))
    dA: FloatArray = freeze(-(Y / A - (1 - Y) / not_A))
    layers: list[LayerGradients] = []
    for cache in reversed(caches):
        dA, dW, db = linear_activation_backward(dA, cache, "relu" if layers else "sigmoid")
        layers.insert(0, LayerGradients(dW, db, dA))
    return Gradients(tuple(layers))


@ignoring_underflow
def update_parameters(
    parameters: Parameters | Mapping[str, ArrayLike],
    grads: Gradients | Mapping[str, ArrayLike],
    learning_rate: float,
) -> Parameters:
    """Take a step of gradient descent: W - learning_rate dW and b - learning_rate db.

    The layers need not fit each other.

    Raises:
        BadInput: If `grads` does not have the shapes of `parameters`.

    Example:
        >>> parameters = {"W1": [[1.0]], "b1": [[2.0]]}
        >>> update_parameters(parameters, {"dW1": [[10.0]], "db1": [[0.0]]}, 0.05)["W1"]
        array([[0.5]])
    """
    parameters, grads = _record(parameters, Parameters), _record(grads, Gradients)
    if len(grads.layers) != len(parameters.layers):
        raise BadInput(
            f"grads have {len(grads.layers)} layers, expected {len(parameters.layers)}: "
            "give the gradients of these parameters."
        )
    for i, (layer, grad) in enumerate(zip(parameters.layers, grads.layers, strict=True), start=1):
        expect_shape(f"dW{i}", grad.dW, layer.W.shape, hint=f"it is the gradient of W{i}")
        expect_shape(f"db{i}", grad.db, layer.b.shape, hint=f"it is the gradient of b{i}")
    packed = _packed(parameters.layers)
    grads_tree = tuple(DenseGrads(grad.dW, grad.db) for grad in grads.layers)
    gradient = pack(grads_tree, dtype=packed.vector.dtype).vector
    updates, _ = gradient_descent(learning_rate=learning_rate).update(gradient, (), packed)
    return Parameters(packed.layout.packed(packed.vector + updates).tree)


@np.errstate(under="ignore")
def dnn_model(
    X: FloatArray,
    Y: FloatArray,
    layers_dims: Sequence[int],
    learning_rate: float = 0.0075,
    num_iterations: int = 2000,
    print_cost: bool = True,
) -> Parameters:
    """Train an L-layer network by full-batch gradient descent.

    Args:
        X: The examples in columns, shape (n_0, m).
        Y: The labels, 0 or 1, shape (1, m).
        layers_dims: The number of inputs n_0 and the units n_1 to n_L, e.g. (12288, 20, 7, 5, 1).
        learning_rate: The learning rate.
        num_iterations: The number of steps.
        print_cost: Whether to print the cost every 100 iterations.

    Returns:
        The trained parameters; their `costs` are the cost at every iteration, e.g. for
        `pydnn.plots.plot_costs`.

    Raises:
        BadInput: If the data does not fit `layers_dims`, or an option is out of range.
        NotFinite: If the cost becomes infinite or NaN; the exception holds the last good state.

    Example:
        >>> X, Y = [[0.0, 1.0, 2.0, 3.0]], [[0, 0, 1, 1]]
        >>> parameters = dnn_model(X, Y, (1, 4, 1), learning_rate=1.0, num_iterations=101)
        Cost after iteration 0: 0.533...
        Cost after iteration 100: 0.0147...
        >>> predict(X, parameters)
        array([[0., 0., 1., 1.]])
    """
    return _trained(X, Y, layers_dims, learning_rate, num_iterations, print_cost, tutorial())


def L_layer_model(  # noqa: N802 - the tutorial's name
    X: FloatArray,
    Y: FloatArray,
    layers_dims: Sequence[int],
    learning_rate: float = 0.0075,
    num_iterations: int = 3000,
    print_cost: bool = False,
) -> Parameters:
    """The same as `dnn_model`, with the tutorial's other name and the defaults that go with it.

    Example:
        >>> parameters = L_layer_model([[0.0, 1.0]], [[0, 1]], (1, 2, 1), num_iterations=5)
        >>> len(parameters.costs)
        5
    """
    return dnn_model(X, Y, layers_dims, learning_rate, num_iterations, print_cost)


def two_layer_model(
    X: FloatArray,
    Y: FloatArray,
    layers_dims: Sequence[int],
    learning_rate: float = 0.0075,
    num_iterations: int = 3000,
    print_cost: bool = False,
) -> Parameters:
    """Train one hidden layer as `dnn_model` does, with initial weights of deviation 0.01.

    The arguments are those of `dnn_model`, with `layers_dims` (n_x, n_h, n_y), e.g. (12288, 7, 1).

    Raises:
        BadInput: If `layers_dims` does not have three numbers, or `dnn_model` refuses the data.
        NotFinite: If the cost becomes infinite or NaN; the exception holds the last good state.

    Example:
        >>> parameters = two_layer_model([[0.0, 1.0]], [[0, 1]], (1, 2, 1), num_iterations=5)
        >>> len(parameters.costs)
        5
    """
    if len(layers_dims) != 3:
        raise BadInput(
            f"layers_dims is {tuple(layers_dims)}, expected three numbers: give e.g. (12288, 7, 1)."
        )
    weights = tutorial(scale=0.01)
    return _trained(X, Y, layers_dims, learning_rate, num_iterations, print_cost, weights)


def _trained(
    X: FloatArray,
    Y: FloatArray,
    layers_dims: Sequence[int],
    learning_rate: float,
    num_iterations: int,
    print_cost: bool,
    weights: WeightStream,
) -> Parameters:
    dims = _expect_dims(layers_dims)
    batch = _examples(X, Y, dims)
    recipe = tutorial_recipe(
        data="given",
        hidden=dims[1:-1],
        learning_rate=learning_rate,
        iterations=num_iterations,
        dtype=batch.X.dtype.name,
    )
    show = partial(tee, to=_print_cost) if print_cost else toolz.identity
    trained = train(attrs.evolve(recipe, weights=weights), batch, through=show)
    return attrs.evolve(from_state(trained.model), costs=tuple(trained.costs.tolist()))


def _print_cost(_: TrainState, info: StepInfo) -> None:
    if info.iteration % 100 == 0:
        print(f"Cost after iteration {info.iteration}: {fixed(info.cost, 6)}")


def load_data(
    directory: str | PathLike[str] = "datasets",
) -> tuple[
    NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64], NDArray[np.bytes_]
]:
    """Read the tutorial's photos of cats and other things.

    Args:
        directory: The directory of train_catvnoncat.h5 and test_catvnoncat.h5.

    Returns:
        The training images (209, 64, 64, 3), their labels (1, 209), the test images
        (50, 64, 64, 3), their labels (1, 50), and the names of the classes, as bytes.

    Raises:
        BadInput: If the directory or a file is missing or damaged.
    """
    train, test = load_catvnoncat(directory)
    classes = np.array([name.encode() for name in train.classes])
    return train.images, train.labels[np.newaxis], test.images, test.labels[np.newaxis], classes


@ignoring_underflow
def predict(
    X: FloatArray,
    y: ArrayLike | Parameters | Mapping[str, ArrayLike] | None = None,
    parameters: Parameters | Mapping[str, ArrayLike] | None = None,
) -> FloatArray:
    """Predict 0 or 1 for each example: 1 if its AL is above 0.5.

    Call it as predict(X, parameters), or with labels as in the tutorial, predict(X, y, parameters).
    Both return the same and print nothing; `metrics.accuracy` computes the accuracy that the
    tutorial prints.

    Args:
        X: The examples in columns, shape (n_0, m).
        y: The labels, shape (1, m), which are only checked; or the parameters.
        parameters: The parameters.

    Returns:
        The predictions, shape (1, m).

    Raises:
        BadInput: If there are no parameters, they do not fit X, or y does not have shape (1, m).

    Example:
        >>> predict([[-1.0, 1.0]], {"W1": [[1.0]], "b1": [[0.0]]})
        array([[0., 1.]])
    """
    AL, _ = L_model_forward(X, _record(y if parameters is None else parameters, Parameters))
    if y is not None and parameters is not None:
        expect_shape("y", np.asarray(y), AL.shape, hint="give one label per example")
    return classes_of(AL)


def print_mislabeled_images(
    classes: Sequence[bytes | str], X: FloatArray, y: ArrayLike, p: ArrayLike
) -> Image:
    """Make a contact sheet of the wrongly predicted images, each with the name of its class.

    Args:
        classes: The names of classes 0 and 1, from `load_data`.
        X: Square color images in columns, with values from 0 to 1, shape (n_0, m).
        y: The labels, shape (1, m).
        p: The predictions, shape (1, m), from `predict`.

    Returns:
        A PIL image, which a notebook displays.

    Raises:
        BadInput: If the shapes do not fit, or no prediction is wrong.
        MissingExtra: If pillow is not installed.
    """
    X = readonly(X)
    side = math.isqrt(len(X) // 3)
    expect_shape("X", X, (3 * side * side, "m"), hint="give square images with three colors")
    labels, predicted = np.asarray(y), np.asarray(p)
    for name, array in (("y", labels), ("p", predicted)):
        expect_shape(name, array, (1, X.shape[1]), hint="give one per image")
    [wrong] = np.nonzero(labels[0] != predicted[0])
    if not wrong.size:
        raise BadInput("no prediction differs from its label, expected one or more: all are right.")
    images = np.rint(255 * X[:, wrong].T).clip(0, 255).astype(np.uint8)
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in classes]
    image_set = ImageSet(
        images.reshape(-1, side, side, 3), labels[0, wrong].astype(np.int64), (names[0], names[1])
    )
    sheet: Image = contact_sheet(image_set, count=len(image_set))
    return sheet


_ACTIVATIONS = {"relu": relu(), "sigmoid": sigmoid()}


def _activation(name: str) -> Stage:
    expect_known("activation", name, _ACTIVATIONS)
    return _ACTIVATIONS[name]


def _parameters_from(arrays_by_name: Mapping[str, ArrayLike], layers: Sequence[int]) -> Parameters:
    def array(name: str) -> FloatArray:
        return readonly(arrays_by_name[name])

    return Parameters(tuple(DenseParams(array(f"W{i}"), array(f"b{i}")) for i in layers))


def _gradients_from(arrays_by_name: Mapping[str, ArrayLike], layers: Sequence[int]) -> Gradients:
    def array(name: str) -> FloatArray:
        return readonly(arrays_by_name[name])

    def of_layer(i: int) -> LayerGradients:
        dA = f"dA{i - 1}"
        return LayerGradients(
            array(f"dW{i}"), array(f"db{i}"), array(dA) if dA in arrays_by_name else None
        )

    return Gradients(tuple(map(of_layer, layers)))


_R = TypeVar("_R", Parameters, Gradients, LinearCache, ActivationCache)


def _record(value: object, cls: type[_R]) -> _R:
    """A record as it is, or the record for the tutorial's dictionary or tuple."""
    if isinstance(value, cls):
        return value
    reason = ""
    record: object = None
    if issubclass(cls, Parameters | Gradients):
        advice = "make one with from_dict"
        if isinstance(value, Mapping) and not isinstance(value, _Named):
            try:
                record = from_dict(value)
            except BadInput as error:
                reason = f" ({str(error).rstrip('.')})"
    else:
        advice = "pass the cache on"
        if isinstance(value, tuple | list) and len(value) == len(attrs.fields(cls)):
            parts = list(value)
            if cls is ActivationCache:
                parts[0] = _record(parts[0], LinearCache)
            record = cls(*parts)
    if isinstance(record, cls):
        return record
    raise BadInput(f"got a {type(value).__name__}, expected {cls.__name__}: {advice}{reason}.")


def _packed(layers: tuple[DenseParams, ...]) -> Packed:
    """The layers in one vector, in the common dtype of their arrays."""
    dtype = np.result_type(*(array for layer in layers for array in (layer.W, layer.b)))
    return pack(layers, dtype=dtype)


def _expect_chain(parameters: Parameters) -> Parameters:
    if not parameters.layers:
        raise BadInput("parameters have no layers, expected one or more: give W1 and b1.")
    for i, (below, above) in enumerate(itertools.pairwise(parameters.layers), start=2):
        n_in = len(below.W)
        expect_shape(f"W{i}", above.W, ("n", n_in), hint=f"W{i - 1} has {n_in} rows")
    return parameters


def _expect_dims(layers_dims: Sequence[int]) -> tuple[int, ...]:
    if len(layers_dims) < 2:
        raise BadInput(
            f"layers_dims is {tuple(layers_dims)}, expected the number of inputs and of units of "
            "one layer or more: give e.g. (12288, 20, 7, 5, 1)."
        )
    hint = "give one or more to every layer"
    return tuple(expect_count("a layer's number of units", n, hint=hint) for n in layers_dims)


def _examples(X: FloatArray, Y: FloatArray, layers_dims: Sequence[int]) -> Batch:
    """The batch of X and Y in one dtype; `prepare` checks the values."""
    if layers_dims[-1] != 1:
        raise BadInput(f"layers_dims ends in {layers_dims[-1]}, expected 1: one sigmoid unit.")
    X = readonly(X)
    Y = readonly(as_array(Y).astype(X.dtype))
    expect_shape("X", X, (layers_dims[0], "m"), hint="put the features of an example in a column")
    return Batch(X, Y)
