"""The same network in another framework, and where the two part, stage by stage."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.keys import Key
from pydnn.losses import Loss
from pydnn.parameters import Tree, layout_of, leaves
from pydnn.records import Batch, FloatArray, freeze
from pydnn.stages.base import Context, Stage, map_stages
from pydnn.tables import text_table
from pydnn.testing.examples import draw_stage
from pydnn.testing.frameworks import (
    COMBINATORS,
    LOSSES,
    STAGES,
    Forward,
    Framework,
    Options,
    Tensor,
    framework,
)
from pydnn.testing.problems import expect_float64

__all__ = ["Disagreement", "FrameworkReport", "compare_with", "framework_report"]


@attrs.frozen(eq=False)
class Disagreement:
    """How far two frameworks are apart in one stage.

    Attributes:
        stage: Its place and name, e.g. "2 (dense)".
        output: The largest difference of its output, beside the largest number in it,
        gradient: of the gradient of its output,
        params: and of those of its parameters, by their names.
    """

    stage: str
    output: float
    gradient: float
    params: Mapping[str, float]

    @property
    def worst(self) -> float:
        """The largest of all."""
        return max(self.output, self.gradient, *self.params.values(), 0.0)


@attrs.frozen(eq=False)
class FrameworkReport:
    """The disagreement of every stage, and of the cost."""

    name: str
    cost: float
    stages: tuple[Disagreement, ...]

    @property
    def worst(self) -> float:
        """The largest disagreement."""
        return max(self.cost, *(stage.worst for stage in self.stages))

    def __str__(self) -> str:
        rows = [
            [
                s.stage,
                f"{s.output:.1e}",
                f"{s.gradient:.1e}",
                ", ".join(f"{name} {error:.1e}" for name, error in s.params.items()),
            ]
            for s in self.stages
        ]
        text = text_table(["stage", "output", "its gradient", "gradients of parameters"], rows)
        return (
            f"pydnn and {self.name} differ by at most {self.worst:.1e}, "
            f"in the cost by {self.cost:.1e}\n{text}"
        )


def compare_with(
    name: str, network: Stage, loss: Loss, batch: Batch, *, rtol: float = 1e-9, **options: Any
) -> FrameworkReport:
    """Compute cost and gradients of a network in another framework, too, and compare all of it.

    Args:
        name: "torch", "jax" or "autograd".
        network: Of the library's stages, or of one's own that `translations` has.
        loss: One of the library's.
        batch: For these examples.
        rtol: How far any array may be off, beside the largest number in it.
        options: Those of `framework_report`.

    Raises:
        AssertionError: If one is off by more; its message is the report.
        BadInput: If the framework is not there, or a stage has no translation.
    """
    report = framework_report(name, network, loss, batch, **options)
    if not report.worst <= rtol:
        raise AssertionError(str(report))
    return report


def framework_report(
    name: str,
    network: Stage,
    loss: Loss,
    batch: Batch,
    *,
    params: Tree | None = None,
    translations: Mapping[str, Forward] | None = None,
    key: Key = Key(0),  # noqa: B008 - frozen
) -> FrameworkReport:
    """The report of `compare_with`, whether the two agree or not.

    Args:
        name: "torch", "jax" or "autograd".
        network: As it is in a step of training,
        loss: with this loss,
        batch: for these examples.
        params: Of the network, instead of drawn ones.
        translations: `(maths, params, A_prev, options) -> A` for stages of one's own, by the
            names in their descriptions, or else their own names; see `pydnn.testing.frameworks`.
        key: Where parameters and masks are drawn from.
    """
    expect_float64("batch.X", batch.X)
    other = framework(name)
    drawn = draw_stage(network, batch.X.shape[:-1], 1, key, params=params, A_prev=batch.X)
    ours = _ours(network, loss, batch, drawn.params, drawn.training)
    known = {**STAGES, **(translations or {})}
    with other.mode():
        theirs = _theirs(other, network, loss, batch, drawn.params, ours, known)
    return _compared(other.name, ours, theirs)


@attrs.define(eq=False)
class _Seen:
    """What one stage has done, in the order of the forward pass."""

    path: str
    name: str
    A: FloatArray
    dA: FloatArray
    grads: Mapping[str, FloatArray]
    mask: FloatArray | None = None


@attrs.frozen(eq=False)
class _Run:
    cost: float
    stages: Sequence[_Seen]


def _ours(network: Stage, loss: Loss, batch: Batch, params: Tree, context: Context) -> _Run:
    seen: dict[str, _Seen] = {}

    def watched(path: str, stage: Stage) -> Stage:
        def forward(tree: Tree, A_prev: FloatArray, at: Context) -> tuple[FloatArray, object]:
            A, cache = stage.forward(tree, A_prev, at)
            seen[path] = _Seen(path, stage.name, A, A, {})
            if stage.random:
                # What was drawn, as it is for an input of ones.
                seen[path].mask, _ = stage.forward(tree, freeze(np.ones_like(A_prev)), at)
            return A, cache

        def backward(tree: Tree, cache: object, dA: FloatArray) -> tuple[FloatArray, Tree]:
            dA_prev, grads = stage.backward(tree, cache, dA)
            names = [slot.name for slot in layout_of(tree).slots]
            seen[path].dA = dA
            seen[path].grads = dict(zip(names, leaves(grads), strict=True))
            return dA_prev, grads

        return attrs.evolve(stage, forward=forward, backward=backward)

    watching = map_stages(watched, network)
    AL, cache = watching.forward(params, batch.X, context)
    cost, dAL = loss(AL, batch.Y, batch.weights, context)
    watching.backward(params, cache, dAL)
    return _Run(cost, list(seen.values()))


def _theirs(
    other: Framework,
    network: Stage,
    loss: Loss,
    batch: Batch,
    params: Tree,
    ours: _Run,
    known: Mapping[str, Forward],
) -> _Run:
    maths, count = other.maths, len(ours.stages)
    masks = {s.path: None if s.mask is None else other.array(s.mask) for s in ours.stages}
    arrays = [other.array(leaf) for leaf in leaves(params)]
    # A zero is added to every stage's output, whose gradient is that of the output.
    zeros = [other.array(np.zeros_like(s.A)) for s in ours.stages]
    X = other.array(batch.X)
    places: dict[str, list[int]] = {}

    def cost_of(*inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        weights, added = list(inputs[count:]), list(inputs[:count])
        outputs: list[Tensor] = []
        taken = 0

        def run(stage: Stage, path: str, A: Tensor) -> Tensor:
            nonlocal taken
            name, options = _description(stage)
            # A combinator that a builder of the user's returns has the name of what it is.
            if stage.parts and stage.name in COMBINATORS:
                parts = enumerate(stage.parts)
                inside = [functools.partial(run, part, f"{path}{i}/") for i, part in parts]
                return COMBINATORS[stage.name](maths, inside, A)
            mask = masks.get(path)
            if stage.parts or (name not in known and mask is None):
                raise BadInput(
                    f"stage {stage.name} has no translation: give translations={{{name!r}: …}}."
                )
            size = len(ours.stages[len(outputs)].grads)
            own = weights[taken : taken + size]
            places[path] = list(range(count + taken, count + taken + size))
            taken += size
            made = known[name](maths, own, A, options) if mask is None else A * mask
            outputs.append(made + added[len(outputs)])
            return outputs[-1]

        AL = run(network, "", X)
        return _cost(other, loss, AL, batch), outputs

    (cost, *outputs), gradients = other.pull_back(cost_of, [*zeros, *arrays])
    stages = [
        _Seen(
            s.path,
            s.name,
            other.numpy(outputs[i]),
            other.numpy(gradients[i]),
            {
                name: other.numpy(gradients[place])
                for name, place in zip(s.grads, places[s.path], strict=True)
            },
        )
        for i, s in enumerate(ours.stages)
    ]
    return _Run(float(other.numpy(cost)), stages)


def _description(described: Stage | Loss) -> tuple[str, Options]:
    if described.description is None:
        return described.name, {}
    [(name, options)] = described.description.items()
    return name, options


def _cost(other: Framework, loss: Loss, AL: Tensor, batch: Batch) -> Tensor:
    name, options = _description(loss)
    if name not in LOSSES:
        raise BadInput(f"loss {loss.name} has no translation: use one of the library's.")
    Y, weights = batch.Y, batch.weights
    n_out, m = AL.shape
    if loss.task(n_out) == "many classes" and len(Y) == 1:
        Y = (np.arange(n_out)[:, np.newaxis] == Y).astype(np.float64)
    weights = np.ones((1, m)) if weights is None else weights
    if options.get("class_weights") is not None:
        weights = weights * np.array(options["class_weights"])[Y.argmax(axis=0)]
    losses = LOSSES[name](other.maths, AL, other.array(Y), options)
    shares = other.array(weights / (weights.sum() * losses.shape[0]) + np.zeros(losses.shape))
    return other.maths["mean"](losses * shares) * (losses.shape[0] * m)


def _compared(name: str, ours: _Run, theirs: _Run) -> FrameworkReport:
    # A gradient that is 0 but for rounding, as before a batch normalisation, has no scale.
    least = 1e-6 * max((float(np.abs(s.dA).max(initial=0.0)) for s in theirs.stages), default=0.0)
    stages = tuple(
        Disagreement(
            f"{a.path.removesuffix('/')} ({a.name})" if a.path else a.name,
            _apart(a.A, b.A),
            _apart(a.dA, b.dA, least),
            {leaf: _apart(a.grads[leaf], b.grads[leaf], least) for leaf in a.grads},
        )
        for a, b in zip(ours.stages, theirs.stages, strict=True)
    )
    apart = abs(ours.cost - theirs.cost) / max(abs(theirs.cost), 1e-300)
    return FrameworkReport(name, apart, stages)


def _apart(ours: FloatArray, theirs: FloatArray, least: float = 0.0) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    scale = max(float(np.abs(theirs).max(initial=0.0)), least, 1e-300)
    return float(np.abs(ours - theirs).max(initial=0.0)) / scale
