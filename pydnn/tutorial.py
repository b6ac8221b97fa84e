"""The tutorial's functions, under the tutorial's names: a deep L-layer network built by hand.

Each is a thin composition of the library's own stages and follows the tutorial's conventions to
the letter, with one difference: it takes and returns frozen records where the tutorial changes
dictionaries. A function also takes the tutorial's own dictionaries of arrays and tuples of caches.

Records read as the tutorial's: `parameters["W1"]`, `len(parameters) // 2`, `parameters.keys()`,
`linear_cache, activation_cache = cache`. Nothing in them can be written to, so that every step can
be repeated and compared. For other numbers, make another record:

    from_dict({**parameters, "W1": 2 * parameters["W1"]})

`from_dict` and `to_dict` convert dictionaries to records and back; `to_state` and `from_state`
convert parameters to a state of the library and back.

Here, as in the tutorial, `linear_backward` takes the mean over the m examples; inside the
library that is the loss's work.
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


# The records


_Default = TypeVar("_Default")
_READ_ONLY = (
    "records here cannot be written to, so that every step can be repeated: make another record, "
    'e.g. from_dict({**parameters, "W1": W1}), from a copy such as parameters["W1"].copy()'
)


class _Frozen(FloatArray):
    """An array of a record, as it is read by its name: it says why it cannot be written to.

    What arithmetic makes of it is an ordinary array, and so are the arrays inside the records.
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
        if out:
            options["out"] = tuple(map(_plain, out))
        return getattr(ufunc, method)(*map(_plain, inputs), **options)

    def __repr__(self) -> str:
        return repr(_plain(self))


def _plain(x: object) -> object:
    return x.view(np.ndarray) if isinstance(x, _Frozen) else x


class _Record(ABCMeta):
    """Keeps what attrs adds to every class, some 25 lines of it, out of `help` and `dir`."""

    def __dir__(cls) -> list[str]:
        return [name for name in super().__dir__() if not name.startswith("_")]


class _Named(Mapping[str, FloatArray], metaclass=_Record):
    """Arrays that are read by the tutorial's names for them."""

    __slots__ = ()

    @abstractmethod
    def _arrays(self) -> dict[str, FloatArray]:
        """All of them by their names."""

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
    """The parameters of L layers: `parameters["W1"]` (n_1, n_0) and `["b1"]` (n_1, 1), and so on.

    Attributes:
        layers: W and b of each layer, the first one first.
        costs: If `dnn_model` made this, the cost at every iteration; otherwise empty.
    """

    layers: tuple[DenseParams, ...]
    costs: tuple[float, ...] = attrs.field(default=(), eq=False, repr=False)

    def _arrays(self) -> dict[str, FloatArray]:
        layers = enumerate(self.layers, start=1)
        named = [{f"W{i}": layer.W, f"b{i}": layer.b} for i, layer in layers]
        return {name: array for layer in named for name, array in layer.items()}


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class LayerGradients(metaclass=_Record):
    """Gradients dW (n, n_prev), db (n, 1) of a layer, and of its input, dA_prev (n_prev, m)."""

    dW: FloatArray
    db: FloatArray
    dA_prev: FloatArray | None = None  # None where only dW and db are known


@attrs.frozen(unsafe_hash=False)
class Gradients(_Named):
    """The gradients of L layers: `grads["dW1"]`, `["db1"]`, and `["dA0"]` for the input X."""

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
    """What `linear_backward` needs: A (n_prev, m), W (n, n_prev) and b (n, 1)."""

    A: FloatArray
    W: FloatArray
    b: FloatArray

    def __iter__(self) -> Iterator[FloatArray]:
        """Yield A, W and b, for `A_prev, W, b = cache`."""
        return iter((self.A, self.W, self.b))


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class ActivationCache(metaclass=_Record):
    """What `linear_activation_backward` needs: the linear cache, and Z (n, m)."""

    linear_cache: LinearCache
    Z: FloatArray

    def __iter__(self) -> Iterator[Any]:
        """Yield the linear cache and Z, for `linear_cache, activation_cache = cache`."""
        return iter((self.linear_cache, self.Z))


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
    return record._arrays()


def to_state(
    parameters: Parameters | Mapping[str, ArrayLike],
    *,
    optimizer: GradientTransformation | None = None,
    key: Key = Key(1),  # noqa: B008 - keys are frozen
) -> TrainState:
    """The library's state with these parameters, at iteration 0.

    It is a state of `recipes.tutorial_network(units of the hidden layers)`, for which `scan`,
    `output_of` and the rest of the library take it.

    Args:
        parameters: Of layers that chain, of which the last one has one unit.
        optimizer: Initializes its own state; by default gradient descent, which has none.
        key: What the training draws from.

    Raises:
        BadInput: If a layer does not fit the one below it.
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
    laid_out = state.parameters.with_vector(packed.vector)
    return attrs.evolve(state, parameters=laid_out, optimizer_state=optimizer.init(laid_out))


def from_state(state: TrainState | Model) -> Parameters:
    """The tutorial's parameters of a state or a model whose network has dense layers alone.

    Those of a rotated job are the parameters of its model.

    Raises:
        BadInput: If a stage with parameters is not a dense layer.
    """
    layers = []
    for i, tree in enumerate(state.parameters.tree):
        if isinstance(tree, DenseParams):
            layers.append(tree)
        elif tree != NO_PARAMS:
            raise BadInput(
                f"stage {i} of the network has {type(tree).__name__}, expected the parameters of "
                "dense layers alone: the tutorial has no other stages with parameters."
            )
    return Parameters(tuple(layers))


# The functions, in the order of the tutorial


@ignoring_underflow
def initialize_parameters_deep(layer_dims: Sequence[int], seed: int = 1) -> Parameters:
    """Draw W of variance 1 / n_prev, and b = 0, for layers of `layer_dims` units.

    Args:
        layer_dims: n_0, the number of inputs, to n_L, e.g. (12288, 20, 7, 5, 1).
        seed: Of the tutorial's random stream; the global one is not touched.
    """
    dims = _expect_dims(layer_dims)
    shapes = [(n, n_prev) for n_prev, n in itertools.pairwise(dims)]
    weights = tutorial(seed=seed).draw(shapes, fast, key=Key(seed))
    return Parameters(tuple(DenseParams(freeze(W), np.zeros((len(W), 1))) for W in weights))


@ignoring_underflow
def linear_forward(A: FloatArray, W: FloatArray, b: FloatArray) -> tuple[FloatArray, LinearCache]:
    """Z = W A + b, of shape (n, m), and the cache for `linear_backward`."""
    A = readonly(A)
    Z, _ = dense_forward(DenseParams(W, b), A)
    return Z, LinearCache(A, W, b)


@ignoring_underflow
def linear_activation_forward(
    A_prev: FloatArray, W: FloatArray, b: FloatArray, activation: str
) -> tuple[FloatArray, ActivationCache]:
    """A = g(W A_prev + b) for the `activation` g, "sigmoid" or "relu", and the cache."""
    stage = _activation(activation)
    Z, linear_cache = linear_forward(A_prev, W, b)
    return stage.forward(NO_PARAMS, Z, EVALUATION)[0], ActivationCache(linear_cache, Z)


@ignoring_underflow
def L_model_forward(  # noqa: N802 - the tutorial's name
    X: FloatArray, parameters: Parameters | Mapping[str, ArrayLike]
) -> tuple[FloatArray, tuple[ActivationCache, ...]]:
    """[linear, relu] L - 1 times, then [linear, sigmoid]: AL (1, m), and a cache for each layer.

    Raises:
        BadInput: If a layer does not fit the one below it, or X the first one.
    """
    parameters = _expect_chain(_record(parameters, Parameters))
    A, caches = X, []
    for i, layer in enumerate(parameters.layers, start=1):  # one record may be two layers
        activation = "sigmoid" if i == len(parameters.layers) else "relu"
        A, cache = linear_activation_forward(A, layer.W, layer.b, activation)
        caches.append(cache)
    return A, tuple(caches)


@ignoring_underflow
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


@ignoring_underflow
def linear_backward(
    dZ: FloatArray, cache: LinearCache | Iterable[FloatArray]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Pull dZ (n, m) back: dA_prev (n_prev, m), and dW and db as means over the m examples.

    dW = dZ A_prevᵀ / m, db is the sum of dZ over the examples divided by m, and dA_prev = Wᵀ dZ.
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
    """Pull dA (n, m) back through `activation`, "sigmoid" or "relu", and the linear part."""
    cache = _record(cache, ActivationCache)
    return linear_backward(_through(activation, dA, cache.Z), cache.linear_cache)


def relu_backward(dA: FloatArray, cache: FloatArray) -> FloatArray:
    """DZ (n, m) = dA where Z > 0, and 0 elsewhere; the `cache` is Z."""
    return _through("relu", dA, cache)


def sigmoid_backward(dA: FloatArray, cache: FloatArray) -> FloatArray:
    """DZ (n, m) = dA s (1 - s), where s is the sigmoid of Z; the `cache` is Z."""
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


@ignoring_underflow
def update_parameters(
    parameters: Parameters | Mapping[str, ArrayLike],
    grads: Gradients | Mapping[str, ArrayLike],
    learning_rate: float,
) -> Parameters:
    """One step of gradient descent: W - learning_rate dW and b - learning_rate db, layer by layer.

    The layers need not fit each other.

    Raises:
        BadInput: If `grads` does not have the shapes of `parameters`.
    """
    parameters, grads = _record(parameters, Parameters), _record(grads, Gradients)
    if len(grads.layers) != len(parameters.layers):
        raise BadInput(
            f"grads have {len(grads.layers)} layers, expected {len(parameters.layers)}: "
            "give those of these parameters."
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
    return _trained(X, Y, layers_dims, learning_rate, num_iterations, print_cost, tutorial())


def L_layer_model(  # noqa: N802 - the tutorial's name
    X: FloatArray,
    Y: FloatArray,
    layers_dims: Sequence[int],
    learning_rate: float = 0.0075,
    num_iterations: int = 3000,
    print_cost: bool = False,
) -> Parameters:
    """`dnn_model` under the tutorial's other name for it, with the defaults of that one."""
    return dnn_model(X, Y, layers_dims, learning_rate, num_iterations, print_cost)


def two_layer_model(
    X: FloatArray,
    Y: FloatArray,
    layers_dims: Sequence[int],
    learning_rate: float = 0.0075,
    num_iterations: int = 3000,
    print_cost: bool = False,
) -> Parameters:
    """Train [linear, relu, linear, sigmoid] as `dnn_model` does, from weights of deviation 0.01.

    `layers_dims` is (n_x, n_h, n_y), e.g. (12288, 7, 1).
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
    """Read the photos of cats and other things from `directory`.

    Returns:
        Training images (209, 64, 64, 3), their labels (1, 209), test images (50, 64, 64, 3),
        their labels (1, 50), and the names of the classes, as bytes.
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
    """0 or 1 for each example of X (n_0, m), as an array (1, m): 1 where AL is above one half.

    It is called as predict(X, parameters), or with the labels between, as the tutorial does:
    predict(X, y, parameters). Both return the same and print nothing; `metrics.accuracy` gives
    the accuracy that the tutorial prints.

    Raises:
        BadInput: If there are no parameters, they do not fit X, or y does not have shape (1, m).
    """
    AL, _ = L_model_forward(X, _record(y if parameters is None else parameters, Parameters))
    if y is not None and parameters is not None:
        expect_shape("y", np.asarray(y), AL.shape, hint="give one label per example")
    return classes_of(AL)


def print_mislabeled_images(
    classes: Sequence[bytes | str], X: FloatArray, y: ArrayLike, p: ArrayLike
) -> Image:
    """A contact sheet of the images that are predicted wrong, each over the name of its class.

    Args:
        classes: Names of the classes 0 and 1, as `load_data` returns them.
        X: Square color images in columns, each number divided by 255, shape (n_0, m).
        y: Their labels, shape (1, m).
        p: What `predict` returns for them, shape (1, m).

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
    """The record that `value` is, or that the tutorial's own dictionary or tuple stands for."""
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
    """The layers in one vector, in the precision that all of them have or can be taken to."""
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
    """The batch of X and Y in one dtype; `prepare` checks their numbers."""
    if layers_dims[-1] != 1:
        raise BadInput(f"layers_dims ends in {layers_dims[-1]}, expected 1: one sigmoid unit.")
    X = readonly(X)
    Y = readonly(as_array(Y).astype(X.dtype))
    expect_shape("X", X, (layers_dims[0], "m"), hint="put the features of an example in a column")
    return Batch(X, Y)
