"""The change of basis for wide data: training in the space that examples and first weights span.

Gradient descent, and every optimiser that treats all directions alike, never leaves that space.
With B its orthonormal basis, a network that meets Bᵀ X with the weights W B takes the same steps
as one that meets X with W, to rounding, and W is lifted from it at the end as (W B) Bᵀ:
`lift ∘ fold(train_step) ∘ project`. With 209 photos of 12,288 numbers that is thirty times less
work. That the rows of W are in the space, too, makes all of it exact: what decays of the weights,
how long they are, and what the network says of other examples.
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
    "lift",
    "pays",
    "project",
    "why_not_exact",
]


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Rotation:
    """An orthonormal basis B of the space in which training stays.

    Attributes:
        basis: B, of as many rows as an example has features, and a column for each direction.
        slot: Where the weights that meet the examples lie, before the change of basis.
        numerics: The arithmetic of its products.
    """

    basis: FloatArray
    slot: Slot
    numerics: Numerics

    def __str__(self) -> str:
        features, directions = self.basis.shape
        spanned = "which the examples and the first weights span"
        return f"{directions} directions, {spanned}, in place of {features:,} features"

    def __call__(self, X: FloatArray) -> FloatArray:
        """Examples X (n_x, m) in that basis, Bᵀ X, in the dtype of X.

        What of X lies outside of the space is left out: the weights say nothing of it.
        """
        expect_shape("X", X, (len(self.basis), "m"), hint="give the features that were fitted")
        rotated = self.numerics.matmul(self.basis.T, X.astype(np.float64, copy=False))
        # Each example in one stretch of memory, as all data is that is trained on.
        return freeze(np.asfortranarray(rotated, X.dtype))

    def of_fitted(self, X: FloatArray) -> FloatArray:
        """The same for the examples X (n_x, m) that it was fitted to: zeros below the diagonal.

        The examples bring directions in one after the other, each at most one, so that no example
        has a part in a later one, but for rounding. Arithmetic may pass over zeros.
        """
        return freeze(np.asfortranarray(np.triu(self(X))))


@np.errstate(under="ignore")
def fit_rotation(
    network: Stage, parameters: Packed, X: FloatArray, numerics: Numerics = fast
) -> Rotation:
    """The rotation for training `network` from `parameters` on the examples X (n_x, m).

    Its directions are at most m + n_out, n_out being the units of the first stage, which must be
    at most n_x. They span whatever the examples do, be these dependent, all the same, or zero.
    """
    slot = first_weights(network, parameters.layout)
    assert slot is not None
    W = parameters[slot.name]
    spanning = np.empty((len(X), X.shape[1] + len(W)), order="F")
    spanning[:, : X.shape[1]] = X
    spanning[:, X.shape[1] :] = W.T
    return Rotation(freeze(numerics.orthonormal_basis(spanning)), slot, numerics)


@ignoring_underflow
def project(rotation: Rotation, parameters: Packed) -> Packed:
    """The same parameters for examples in the rotated basis: W B in the place of W."""
    return _with_product(rotation, parameters, rotation.basis)


@ignoring_underflow
def lift(rotation: Rotation, parameters: Packed) -> Packed:
    """Parameters in the rotated basis as those for examples as they are: V Bᵀ for V."""
    return _with_product(rotation, parameters, rotation.basis.T)


def _with_product(rotation: Rotation, parameters: Packed, basis: FloatArray) -> Packed:
    name = rotation.slot.name
    W = parameters[name]
    expect_shape(name, W, ("n_out", len(basis)), hint="give parameters of the other basis")
    W = rotation.numerics.matmul(W.astype(np.float64, copy=False), basis)
    tree = _replaced(parameters.tree, name.split("/"), W)
    return pack(tree, dtype=parameters.vector.dtype)


def _replaced(tree: Tree, path: Sequence[str], array: FloatArray) -> Tree:
    """The tree with another `array` at a path such as ("0", "W")."""
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
    """Why a training on X (n_x, m) would take other steps in another basis; None if it would not.

    It takes the same ones if the data is met by a dense stage and by no other, and if optimiser
    and penalties are `isotropic`.
    """
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
    """Whether the first stage gives W A_prev + b, as it says that it does.

    A stage that was made from a dense one by `attrs.evolve` says so, whatever its functions are.
    """
    while network.in_sequence:
        network, tree = network.parts[0], tree[0]
    with np.errstate(over="ignore", invalid="ignore"):
        Z, _ = network.forward(tree, X, Context(numerics=numerics))
        expected = numerics.matmul(tree.W, X) + tree.b
    near = 1e-4 * float(np.abs(expected).max(initial=0.0))
    return np.allclose(Z, expected, rtol=1e-4, atol=near, equal_nan=True)


def pays(slot: Slot, m: int, *, iterations: int, batch: int) -> bool:
    """Whether training in the space of m examples saves more time than the way into it takes.

    Args:
        slot: Of the weights that meet the examples, (n_out, n_x).
        m: Examples.
        iterations: Steps that are to be taken,
        batch: with so many examples each.
    """
    n_out, n_x = slot.shape
    directions = m + n_out
    # In multiplications. A step's products go over the weights once forward and once backward;
    # its sums and updates over them take as long as some 30 more do.
    step = n_out * (n_x - directions) * (2 * batch + 30)
    there_and_back = 4 * n_x * directions * directions
    return iterations * step > 2 * there_and_back


def first_weights(network: Stage, layout: Layout) -> Slot | None:
    """The place of the weights that alone meet the examples; None if there are none.

    Args:
        network: Whose weights are looked for,
        layout: and how its parameters lie.
    """
    path = ""
    while network.in_sequence:
        network, path = network.parts[0], f"{path}0/"
    return layout.slot(f"{path}W") if network.affine else None
