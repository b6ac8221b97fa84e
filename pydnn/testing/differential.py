"""Compare a network with the same one in another framework, stage by stage."""

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
    """How much two frameworks disagree about one stage.

    Each number is the largest difference of an array, relative to the largest number in it.

    Attributes:
        stage: The place and name of the stage, e.g. "2 (dense)".
        output: The difference of the stage's output.
        gradient: The difference of the gradient with respect to that output.
        params: The differences of the gradients of the parameters, by name.
    """

    stage: str
    output: float
    gradient: float
    params: Mapping[str, float]

    @property
    def worst(self) -> float:
        """The largest of these differences."""
        return max(self.output, self.gradient, *self.params.values(), 0.0)


@attrs.frozen(eq=False)
class FrameworkReport:
    """The disagreement about every stage and the cost; printing it gives a table.

    Attributes:
        name: The name of the other framework.
        cost: The relative difference of the cost.
        stages: The disagreement about each stage, in the order of the forward pass.
    """

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
            f"pydnn and {self.name} differ by at most {self.worst:.1e}, and by {self.cost:.1e} in "
            f"the cost\n{text}"
        )


def compare_with(
    name: str, network: Stage, loss: Loss, batch: Batch, *, rtol: float = 1e-9, **options: Any
) -> FrameworkReport:
    """Compute cost and gradients of a network in another framework too, and compare all arrays.

    Args:
        name: The framework: "torch", "jax" or "autograd".
        network: A network of pydnn's stages, and of your own stages that `translations` names.
        loss: One of pydnn's losses.
        batch: The examples, in float64.
        rtol: The largest difference of an array, relative to the largest number in it.
        **options: The options of `framework_report`.

    Returns:
        The report, in which no difference is larger than `rtol`.

    Raises:
        AssertionError: If a difference is larger; the message is the report.
        BadInput: If the framework is not installed, or a stage or loss has no translation.
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
    """Return the report of `compare_with`, whether or not the two agree.

    Args:
        name: The framework: "torch", "jax" or "autograd".
        network: The network, which runs as in a training step.
        loss: One of pydnn's losses.
        batch: The examples, in float64.
        params: Parameters of the network; by default they are drawn.
        translations: `(functions, params, A_prev, options) -> A` for each stage of your own, by
            the name of its builder, or by its own name if it has no description. `functions` are
            the framework's functions by name, e.g. functions["exp"].
        key: The key to draw parameters and dropout masks from.

    Raises:
        BadInput: If the framework is not installed, or a stage or loss has no translation.
    """
    expect_float64("batch.X", batch.X)
    other = framework(name)
    drawn = draw_stage(network, batch.X.shape[:-1], 1, key, params=params, A_prev=batch.X)
    ours = _ours(network, loss, batch, drawn.params, drawn.training)
    translated = {**STAGES, **(translations or {})}
    with other.mode():
        theirs = _theirs(other, network, loss, batch, drawn.params, ours, translated)
    return _compare(other.name, ours, theirs)


@attrs.define(eq=False)
class _StageRecord:
    """The output and the gradients of one stage.

    Attributes:
        path: The prefix of its parameters' names, e.g. "2/".
        name: The name of the stage.
        A: The output.
        dA: The gradient with respect to the output.
        grads: The gradients of the parameters, by name.
        mask: What a random stage multiplied its input by.
    """

    path: str
    name: str
    A: FloatArray
    dA: FloatArray
    grads: Mapping[str, FloatArray]
    mask: FloatArray | None = None


@attrs.frozen(eq=False)
class _Pass:
    """One forward and backward pass: the cost, and the stages in the order of the forward pass."""

    cost: float
    stages: Sequence[_StageRecord]


def _ours(network: Stage, loss: Loss, batch: Batch, params: Tree, context: Context) -> _Pass:
    """Run the network with pydnn, and record what each stage does."""
    records: dict[str, _StageRecord] = {}

    def recording(path: str, stage: Stage) -> Stage:
        def forward(tree: Tree, A_prev: FloatArray, at: Context) -> tuple[FloatArray, object]:
            A, cache = stage.forward(tree, A_prev, at)
            records[path] = _StageRecord(path, stage.name, A, A, {})
            if stage.random:
                # An input of ones gives the mask, which no other framework would draw.
                records[path].mask, _ = stage.forward(tree, freeze(np.ones_like(A_prev)), at)
            return A, cache

        def backward(tree: Tree, cache: object, dA: FloatArray) -> tuple[FloatArray, Tree]:
            dA_prev, grads = stage.backward(tree, cache, dA)
            names = [slot.name for slot in layout_of(tree).slots]
            records[path].dA = dA
            records[path].grads = dict(zip(names, leaves(grads), strict=True))
            return dA_prev, grads

        return attrs.evolve(stage, forward=forward, backward=backward)

    recorded = map_stages(recording, network)
    AL, cache = recorded.forward(params, batch.X, context)
    cost, dAL = loss(AL, batch.Y, batch.weights, context)
    recorded.backward(params, cache, dAL)
    return _Pass(cost, list(records.values()))


def _theirs(
    other: Framework,
    network: Stage,
    loss: Loss,
    batch: Batch,
    params: Tree,
    ours: _Pass,
    translated: Mapping[str, Forward],
) -> _Pass:
    """Run the network with the other framework, with pydnn's masks of random stages."""
    functions, count = other.functions, len(ours.stages)
    masks = {s.path: None if s.mask is None else other.array(s.mask) for s in ours.stages}
    arrays = [other.array(leaf) for leaf in leaves(params)]
    # Zeros are added to the output of each stage: their gradients are those of the output.
    zeros = [other.array(np.zeros_like(s.A)) for s in ours.stages]
    X = other.array(batch.X)
    places: dict[str, list[int]] = {}

    def cost_of(*inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        weights, added = list(inputs[count:]), list(inputs[:count])
        outputs: list[Tensor] = []
        used = 0

        def run(stage: Stage, path: str, A: Tensor) -> Tensor:
            nonlocal used
            name, options = _description(stage)
            # By its own name, since the description of a network may name a user's builder.
            if stage.parts and stage.name in COMBINATORS:
                parts = enumerate(stage.parts)
                inside = [functools.partial(run, part, f"{path}{i}/") for i, part in parts]
                return COMBINATORS[stage.name](functions, inside, A)
            mask = masks.get(path)
            if stage.parts or (name not in translated and mask is None):
                raise BadInput(
                    f"stage {stage.name} has no translation, expected one: give "
                    f"translations={{{name!r}: …}}."
                )
            size = len(ours.stages[len(outputs)].grads)
            own = weights[used : used + size]
            places[path] = list(range(count + used, count + used + size))
            used += size
            out = translated[name](functions, own, A, options) if mask is None else A * mask
            outputs.append(out + added[len(outputs)])
            return outputs[-1]

        AL = run(network, "", X)
        return _cost(other, loss, AL, batch), outputs

    (cost, *outputs), gradients = other.pull_back(cost_of, [*zeros, *arrays])
    stages = [
        _StageRecord(
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
    return _Pass(float(other.numpy(cost)), stages)


def _description(described: Stage | Loss) -> tuple[str, Options]:
    if described.description is None:
        return described.name, {}
    [(name, options)] = described.description.items()
    return name, options


def _cost(other: Framework, loss: Loss, AL: Tensor, batch: Batch) -> Tensor:
    name, options = _description(loss)
    if name not in LOSSES:
        raise BadInput(
            f"loss {loss.name} has no translation, expected one of {', '.join(LOSSES)}: use one "
            "of these."
        )
    Y, weights = batch.Y, batch.weights
    n_out, m = AL.shape
    if loss.task(n_out) == "many classes" and len(Y) == 1:
        Y = (np.arange(n_out)[:, np.newaxis] == Y).astype(np.float64)
    weights = np.ones((1, m)) if weights is None else weights
    if options.get("class_weights") is not None:
        weights = weights * np.array(options["class_weights"])[Y.argmax(axis=0)]
    losses = LOSSES[name](other.functions, AL, other.array(Y), options)
    shares = other.array(weights / (weights.sum() * losses.shape[0]) + np.zeros(losses.shape))
    return other.functions["mean"](losses * shares) * (losses.shape[0] * m)


def _compare(name: str, ours: _Pass, theirs: _Pass) -> FrameworkReport:
    # A gradient that is 0 except for rounding, as before a batch normalization, has no scale of
    # its own: its error is relative to the largest gradient of all stages.
    least = 1e-6 * max((float(np.abs(s.dA).max(initial=0.0)) for s in theirs.stages), default=0.0)
    stages = tuple(
        Disagreement(
            f"{a.path.removesuffix('/')} ({a.name})" if a.path else a.name,
            _relative_error(a.A, b.A),
            _relative_error(a.dA, b.dA, least),
            {leaf: _relative_error(a.grads[leaf], b.grads[leaf], least) for leaf in a.grads},
        )
        for a, b in zip(ours.stages, theirs.stages, strict=True)
    )
    cost = abs(ours.cost - theirs.cost) / max(abs(theirs.cost), 1e-300)
    return FrameworkReport(name, cost, stages)


def _relative_error(ours: FloatArray, theirs: FloatArray, least: float = 0.0) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    scale = max(float(np.abs(theirs).max(initial=0.0)), least, 1e-300)
    return float(np.abs(ours - theirs).max(initial=0.0)) / scale
