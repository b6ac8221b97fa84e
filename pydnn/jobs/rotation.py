"""Rotation: training on wide data in the space that the examples and the first weights span.

Each gradient of the first weights W is a combination of examples. So with gradient descent, or
any optimizer that treats all directions alike, the rows of W never leave the space that the
examples and the initial rows of W span. Let the columns of B be an orthonormal basis of it. Then
a network with weights W B and inputs Bᵀ X takes the same steps as one with W and X, except for
rounding, and afterwards W is recovered as (W B) Bᵀ: `lift ∘ fold(train_step) ∘ project`. For 209
photos of 12,288 numbers that is thirty times less work.

The space includes the initial rows of W because otherwise weight decay, the norm of W and
predictions for other examples would be wrong: they depend on the part of W outside the examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from pydnn.checks import expect_shape
from pydnn.numerics import Numerics, fast
from pydnn.numerics.underflow import ignoring_underflow
from pydnn.optimizers.base import GradientTransformation
from pydnn.parameters import Layout, Packed, Slot, Tree, pack
from pydnn.penalties import Penalty
from pydnn.records import FloatArray, arrays, freeze
from pydnn.stages.base import Context, Stage

__all__ = [
    "Rotation",
    "first_weights",
    "fit_rotation",
    "is_worthwhile",
    "lift",
    "project",
    "why_not_exact",
]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Rotation:
    """An orthonormal basis B of the space in which training stays.

    Attributes:
        basis: B, shape (n_x, directions).
        slot: The place of the first weights among the parameters, before the change of basis.
        numerics: The arithmetic for its products.
    """

    basis: FloatArray
    slot: Slot
    numerics: Numerics

    def __str__(self) -> str:
        features, directions = self.basis.shape
        spanned = "which the examples and the first weights span"
        return f"{directions} directions, {spanned}, instead of {features:,} features"

    def __call__(self, X: FloatArray) -> FloatArray:
        """Examples X (n_x, m) in this basis, Bᵀ X, in the dtype of X.

        The part of X outside the space is lost. It is orthogonal to the rows of W, so it would
        not change the output.
        """
        expect_shape("X", X, (len(self.basis), "m"), hint="give the features that were fitted")
        rotated = self.numerics.matmul(self.basis.T, X.astype(np.float64, copy=False))
        # Each example is contiguous in memory, like all data for training (see `Inputs`).
        return freeze(np.asfortranarray(rotated, X.dtype))

    def of_fitted(self, X: FloatArray) -> FloatArray:
        """The same for the examples X (n_x, m) of the fit, with exact zeros below the diagonal.

        The basis comes from a QR factorization of the examples: each example adds at most one
        direction and has no component in later ones, except for rounding. Setting those to 0
        lets portable arithmetic skip them.
        """
        return freeze(np.asfortranarray(np.triu(self(X))))


@np.errstate(under="ignore")
def fit_rotation(
    network: Stage, parameters: Packed, X: FloatArray, numerics: Numerics = fast
) -> Rotation:
    """Fit the rotation for training `network` from `parameters` on the examples X (n_x, m).

    It has at most m + n_out directions, where n_out is the number of units of the first stage;
    m + n_out must be at most n_x. The examples may be linearly dependent, equal, or zero.

    Example:
        >>> network = nn.dense(1)
        >>> state = nn.initial_state(network, nn.adam(), (50,), key=nn.Key(1))
        >>> X = nn.Key(2).normal((50, 3))
        >>> fit_rotation(network, state.parameters, X).basis.shape
        (50, 4)
    """
    slot = first_weights(network, parameters.layout)
    assert slot is not None
    W = parameters[slot.name]
    # The examples come first, so that rotated examples are zero below the diagonal (`of_fitted`).
    spanning = np.empty((len(X), X.shape[1] + len(W)), order="F")
    spanning[:, : X.shape[1]] = X
    spanning[:, X.shape[1] :] = W.T
    return Rotation(freeze(numerics.orthonormal_basis(spanning)), slot, numerics)


@ignoring_underflow
def project(rotation: Rotation, parameters: Packed) -> Packed:
    """Convert parameters to the rotated basis: W becomes W B.

    Example:
        >>> network = nn.dense(1)
        >>> state = nn.initial_state(network, nn.adam(), (50,), key=nn.Key(1))
        >>> X = nn.Key(2).normal((50, 3))
        >>> rotation = fit_rotation(network, state.parameters, X)
        >>> project(rotation, state.parameters)["W"].shape
        (1, 4)
    """
    return _with_product(rotation, parameters, rotation.basis)


@ignoring_underflow
def lift(rotation: Rotation, parameters: Packed) -> Packed:
    """Convert parameters of the rotated basis back to those for raw features: V becomes V Bᵀ.

    Example:
        >>> network = nn.dense(1)
        >>> state = nn.initial_state(network, nn.adam(), (50,), key=nn.Key(1))
        >>> X = nn.Key(2).normal((50, 3))
        >>> rotation = fit_rotation(network, state.parameters, X)
        >>> lifted = lift(rotation, project(rotation, state.parameters))
        >>> np.allclose(lifted["W"], state.parameters["W"])
        True
    """
    return _with_product(rotation, parameters, rotation.basis.T)


def _with_product(rotation: Rotation, parameters: Packed, basis: FloatArray) -> Packed:
    name = rotation.slot.name
    W = parameters[name]
    expect_shape(name, W, ("n_out", len(basis)), hint="give parameters of the other basis")
    W = rotation.numerics.matmul(W.astype(np.float64, copy=False), basis)
    tree = _replaced(parameters.tree, name.split("/"), W)
    return pack(tree, dtype=parameters.vector.dtype)


def _replaced(tree: Tree, path: Sequence[str], array: FloatArray) -> Tree:
    """The tree with the array at `path`, e.g. ("0", "W"), replaced by `array`."""
    if len(path) == 1:
        return attrs.evolve(tree, **{path[0]: array})
    i = int(path[0])
    return (*tree[:i], _replaced(tree[i], path[1:], array), *tree[i + 1 :])


def why_not_exact(
    network: Stage,
    optimizer: GradientTransformation,
    penalties: Sequence[Penalty],
    parameters: Packed,
    X: FloatArray,
    numerics: Numerics = fast,
) -> str | None:
    """Why rotation would change the steps of training on X (n_x, m); None if it would not.

    Rotation changes no step if the examples are columns, only one stage, a dense one, receives
    them, and the optimizer and all penalties are `isotropic`.

    Example:
        >>> network = nn.dense(1)
        >>> state = nn.initial_state(network, nn.adam(), (50,), key=nn.Key(1))
        >>> X = nn.Key(2).normal((50, 3))
        >>> why_not_exact(network, nn.adam(), [], state.parameters, X)
        'the optimizer treats each number by itself'
    """
    if X.ndim != 2:
        return f"examples have the shape {X.shape[:-1]}, and only columns of features are rotated"
    slot = first_weights(network, parameters.layout)
    if slot is None:
        return "the network does not begin with a dense stage"
    if not optimizer.isotropic:
        return "the optimizer treats each number by itself"
    if not all(penalty.isotropic for penalty in penalties):
        return "a penalty treats each number by itself"
    n_x, m = X.shape
    units = slot.shape[0]
    if m + units > n_x:
        return f"{m} examples and {units} units span more than the {n_x} features"
    if not _is_affine(network, parameters.tree, X[:, :1], numerics):
        return "the network's first stage says that it is affine, but does not give W A_prev + b"
    return None


def _is_affine(network: Stage, tree: Tree, X: FloatArray, numerics: Numerics) -> bool:
    """Whether the first stage computes W A_prev + b, as its field `affine` says.

    A stage made from a dense one by `attrs.evolve` keeps the field even if its functions differ.
    """
    while network.in_sequence:
        network, tree = network.parts[0], tree[0]
    with np.errstate(over="ignore", invalid="ignore"):
        Z, _ = network.forward(tree, X, Context(numerics=numerics))
        expected = numerics.matmul(tree.W, X) + tree.b
    near = 1e-4 * float(np.abs(expected).max(initial=0.0))
    return np.allclose(Z, expected, rtol=1e-4, atol=near, equal_nan=True)


def is_worthwhile(slot: Slot, m: int, *, iterations: int, batch: int) -> bool:
    """Whether rotated training saves more time than the change of basis takes.

    Args:
        slot: The place of the first weights, of shape (n_out, n_x).
        m: The number of training examples.
        iterations: The number of steps.
        batch: The number of examples per step.
    """
    n_out, n_x = slot.shape
    directions = m + n_out
    # Both costs are in multiplications. A step multiplies each weight with each example of the
    # batch once forward and once backward; its sums and updates take about as long as 30 more.
    step = n_out * (n_x - directions) * (2 * batch + 30)
    change_of_basis = 4 * n_x * directions * directions
    # Twice, as a margin, because both counts are rough.
    return iterations * step > 2 * change_of_basis


def first_weights(network: Stage, layout: Layout) -> Slot | None:
    """The place of the weights W of the first stage; None if that stage is not dense.

    Args:
        network: The network.
        layout: The layout of its parameters.

    Example:
        >>> network = nn.dense(1)
        >>> state = nn.initial_state(network, nn.adam(), (50,), key=nn.Key(1))
        >>> X = nn.Key(2).normal((50, 3))
        >>> first_weights(network, state.parameters.layout).shape
        (1, 50)
    """
    path = ""
    while network.in_sequence:
        network, path = network.parts[0], f"{path}0/"
    return layout.slot(f"{path}W") if network.affine else None
