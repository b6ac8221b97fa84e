"""The laws of a loss, and the check of all of them."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.descriptions.builders import build, describe
from pydnn.keys import Key
from pydnn.losses import Loss
from pydnn.numerics import fast
from pydnn.records import Batch, FloatArray, freeze
from pydnn.stages.base import Context
from pydnn.testing.examples import draw_loss
from pydnn.testing.gradients import check_problem
from pydnn.testing.nested import deviation, difference, snapshot
from pydnn.testing.problems import expect_float64, problem_of_loss
from pydnn.testing.purity import expect_runs, purity_faults
from pydnn.testing.reports import Proof, Trial

__all__ = ["assert_loss"]

BY_TASK = "by task"
_TOLERANCE = 1e-10
_SURE = 1000.0  # a logit whose probability is 1 in float64
_CONTEXT = Context(training=True)


def assert_loss(
    loss: Loss,
    *,
    outputs: int | None = None,
    examples: int = 5,
    AL: FloatArray | None = None,
    Y: FloatArray | None = None,
    zero_at: Callable[[FloatArray], FloatArray] | str | None = BY_TASK,
    key: Key = Key(0),  # noqa: B008 - frozen
    rtol: float = 1e-7,
) -> Proof:
    """Check all laws of a loss.

    - *cost*: a finite number, and dAL has the shape of AL;
    - *gradients*: dAL agrees with finite differences, with weights and without;
    - *purity*: the loss and its predictions are pure, see `assert_pure`;
    - *mean over examples*: the cost and dAL are weighted means over the examples, with the same
      weights, and the same batch twice has the same cost;
    - *weights*: an example of weight 2 counts as two of weight 1, an example of weight 0 counts as
      none, and multiplying all weights by a number changes nothing;
    - *shards*: the costs and dAL of parts of a batch add up to those of the whole, where a part
      counts by its share in the weight of the batch, which `weight` of the loss says;
    - *zero*: the cost and dAL are 0 if the predictions are the labels;
    - *precision*: float32 stays float32;
    - *description*: a loss built from its description does the same.

    A loss that declares `mixes_examples` is not a mean over examples, so these laws do not hold for
    it: *mean over examples*, *weights*, *shards*.

    Args:
        loss: The loss to check.
        outputs: Rows of AL; by default 1 and 3, if the loss takes them.
        examples: Columns of AL.
        AL: Outputs of the network to use, in float64; by default they are drawn.
        Y: Labels to use; by default they are drawn.
        zero_at: `(Y) -> AL` where the cost is 0; None for a loss that is never 0. The default is
            Y itself for regression, and logits of 1000 and -1000 for classes.
        key: The key to draw from.
        rtol: The largest error of a gradient, relative to the largest gradient.

    Returns:
        The proof: which laws hold, with the tables of gradients.

    Raises:
        BrokenLaw: If a law is broken; it lists all faults by law.
        BadInput: If `loss` is not a loss, or other arguments do not fit it.

    Example:
        >>> from pydnn.testing import assert_loss
        >>> print(assert_loss(nn.mean_squared()).laws)
        ('cost', 'gradients', 'purity', 'mean over examples', 'weights', 'shards', 'zero',
        'precision', 'description')
    """
    if not isinstance(loss, Loss):
        raise BadInput(f"got {loss!r}, expected a loss: call its builder, e.g. mean_squared().")
    if AL is not None:
        expect_float64("AL", AL)
    trial = Trial(f"loss {loss.name}")
    rows = [len(AL)] if AL is not None else [outputs] if outputs else [1, 3]
    refused: list[BadInput] = []
    for n in rows:
        drawn = draw_loss(loss, n, examples, key.at("outputs", n), AL=AL, Y=Y)
        try:
            arguments = {"AL": drawn.AL, "Y": drawn.Y, "weights": None, "context": _CONTEXT}
            hint = "fix it, or give AL and Y"
            expect_runs(f"loss {loss.name}", loss.function, arguments, hint=hint)
        except BadInput as error:
            refused.append(error)
            continue
        _try_all(trial, loss, drawn.AL, drawn.Y, key, zero_at, rtol)
    if len(refused) == len(rows):
        raise refused[-1]
    return trial.proof()


def _try_all(
    trial: Trial,
    loss: Loss,
    AL: FloatArray,
    Y: FloatArray,
    key: Key,
    zero_at: Callable[[FloatArray], FloatArray] | str | None,
    rtol: float,
) -> None:
    weights = freeze(0.25 + key.at("weights").uniform((1, AL.shape[1])))
    with trial.law("cost") as fault:
        cost, dAL = loss(AL, Y, None, _CONTEXT)
        if not isinstance(cost, float) or not np.isfinite(cost):
            fault(f"the cost is {cost!r}, expected a finite float")
        if getattr(dAL, "shape", None) != AL.shape:
            fault(f"dAL has shape {getattr(dAL, 'shape', type(dAL).__name__)}, AL has {AL.shape}")
    if "cost" in trial.broken:
        return
    for own_weights in (None, weights):
        with trial.law("gradients") as fault:
            problem = problem_of_loss(loss, AL, Y, own_weights, _CONTEXT)
            how = "with" if own_weights is not None else "without"
            problem = attrs.evolve(problem, subject=f"{problem.subject} {how} weights")
            report = check_problem(problem, key=key, rtol=rtol)
            trial.tables.append(report)
            if not report.right:
                fault(str(report))
        with trial.law("purity") as fault:
            names = ["AL", "Y", "weights", "context"]
            _, faults = purity_faults(loss.function, AL, Y, own_weights, _CONTEXT, names=names)
            for text in faults:
                fault(text.replace("result[0]", "cost").replace("result[1]", "dAL"))
    with trial.law("purity") as fault:
        # The predictions of a regression may be the outputs themselves.
        _, faults = purity_faults(
            loss.predict, AL, _CONTEXT, shares=["result"], names=["AL", "context"]
        )
        for text in faults:
            fault(f"predict {text}")
    if not loss.mixes_examples:
        _try_mean(trial, loss, AL, Y)
        _try_weights(trial, loss, AL, Y)
        _try_shards(trial, loss, AL, Y, weights)
    if zero_at is not None:
        _try_zero(trial, loss, AL, Y, zero_at)
    with trial.law("precision") as fault:
        single = [freeze(a.astype(np.float32)) for a in (AL, Y, weights)]
        for single_weights in (None, single[2]):
            if (
                dtype := loss(single[0], single[1], single_weights, _CONTEXT)[1].dtype
            ) != np.float32:
                fault(f"dAL is {dtype} for float32")
        if (dtype := loss.predict(single[0], _CONTEXT).dtype) != np.float32:
            fault(f"predictions are {dtype} for float32")
    if loss.description is not None:
        with trial.law("description") as fault:
            built = build(describe(loss), family="loss")
            mismatch = difference(
                *(snapshot(one(AL, Y, weights, _CONTEXT), "(cost, dAL)") for one in (loss, built))
            )
            if mismatch:
                fault(f"built again, {mismatch} before")


def _try_mean(trial: Trial, loss: Loss, AL: FloatArray, Y: FloatArray) -> None:
    with trial.law("mean over examples") as fault:
        m = AL.shape[1]
        cost, dAL = loss(AL, Y, None, _CONTEXT)
        twice, halves = loss(freeze(np.tile(AL, 2)), freeze(np.tile(Y, 2)), None, _CONTEXT)
        if _far(twice, cost):
            fault(f"the same batch twice costs {twice:.9g}, once {cost:.9g}")
        if mismatch := _deviation(np.tile(dAL, 2) / 2, halves):
            fault(f"dAL of the same batch twice is not half of that of it once: {mismatch}")
        singles = [loss(freeze(AL[:, [i]]), freeze(Y[:, [i]]), None, _CONTEXT) for i in range(m)]
        # The weight of each example in dAL is 1/m, unless the loss weighs classes. It is read off
        # dAL as a factor of the example's own gradient, and the cost must be a mean by the same.
        own = np.concatenate([one[1] for one in singles], axis=1)
        length = (own * own).sum(axis=0)
        known = length > 1e-20
        shares = (own * dAL).sum(axis=0)[known] / length[known]
        if mismatch := _deviation(own[:, known] * shares, dAL[:, known]):
            fault(f"dAL of an example in a batch is not a multiple of its dAL alone: {mismatch}")
        if known.all():
            if _far(float(shares.sum()), 1.0):
                fault(f"the examples' weights in dAL sum to {shares.sum():.9g}, expected 1")
            mean = float(shares @ np.array([one[0] for one in singles]))
            if _far(mean, cost, max(abs(one[0]) for one in singles)):
                fault(
                    f"the cost is {cost:.9g}, but with the examples' weights in dAL it is "
                    f"{mean:.9g}"
                )


def _try_weights(trial: Trial, loss: Loss, AL: FloatArray, Y: FloatArray) -> None:
    with trial.law("weights") as fault:
        m = AL.shape[1]
        counts = np.arange(m)[::-1] % 4
        counts[0] += not counts.any()  # a single example would have weight 0
        weights = freeze(counts[np.newaxis].astype(np.float64))
        cost, dAL = loss(AL, Y, weights, _CONTEXT)
        several, repeated = loss(
            freeze(np.repeat(AL, counts, axis=1)),
            freeze(np.repeat(Y, counts, axis=1)),
            None,
            _CONTEXT,
        )
        if _far(cost, several):
            fault(
                f"weighted by {counts.tolist()} the cost is {cost:.9g}, with examples repeated as "
                f"often it is {several:.9g}"
            )
        firsts = np.cumsum(counts)[counts > 0] - counts[counts > 0]
        expected = np.zeros_like(dAL)
        expected[:, counts > 0] = repeated[:, firsts] * counts[counts > 0]
        if mismatch := _deviation(expected, dAL):
            fault(
                f"weighted by {counts.tolist()}, dAL{mismatch}, which examples repeated as often "
                "give"
            )
        threefold, same = loss(AL, Y, freeze(3 * weights), _CONTEXT)
        if _far(threefold, cost) or _deviation(dAL, same):
            fault(
                f"with weights three times as large the cost is {threefold:.9g} instead of "
                f"{cost:.9g}, or dAL differs"
            )


def _try_shards(
    trial: Trial, loss: Loss, AL: FloatArray, Y: FloatArray, weights: FloatArray
) -> None:
    with trial.law("shards") as fault:
        cut = AL.shape[1] // 3
        for own in (None, weights):
            whole = Batch(AL, Y, own)
            parts = [p for p in (whole.take(slice(cut)), whole.take(slice(cut, None))) if p.count]
            of_batch, *of_parts = (loss.weight_of(p.X.shape, p, fast) for p in (whole, *parts))
            cost, dAL = loss(AL, Y, own, _CONTEXT)
            results = [
                loss(p.X, p.Y, p.weights, _CONTEXT) if p.count else (0.0, p.X) for p in parts
            ]
            shares = [weight / of_batch for weight in of_parts]
            total = sum(share * result[0] for share, result in zip(shares, results, strict=True))
            how = "without weights" if own is None else "with weights"
            hint = "say in the field weight by what its mean divides"
            if _far(total, cost):
                fault(f"{how} the costs of two parts add up to {total:.9g}, not {cost:.9g}: {hint}")
            slopes = [share * result[1] for share, result in zip(shares, results, strict=True)]
            if mismatch := _deviation(dAL, np.concatenate(slopes, axis=1)):
                fault(f"{how} dAL of two parts{mismatch}, which the whole batch gives: {hint}")


def _try_zero(
    trial: Trial,
    loss: Loss,
    AL: FloatArray,
    Y: FloatArray,
    zero_at: Callable[[FloatArray], FloatArray] | str,
) -> None:
    with trial.law("zero") as fault:
        perfect = _perfect(loss, AL, Y) if isinstance(zero_at, str) else zero_at(Y)
        cost, dAL = loss(freeze(perfect), Y, None, _CONTEXT)
        hint = "give zero_at=None if the loss is never 0"
        if not abs(cost) <= 1e-12:
            fault(f"the cost is {cost:.9g} where predictions are the labels, expected 0; {hint}")
        if mismatch := _deviation(np.zeros_like(AL), dAL, 1.0):
            fault(f"where predictions are the labels, dAL{mismatch}; {hint}")


def _perfect(loss: Loss, AL: FloatArray, Y: FloatArray) -> FloatArray:
    task = loss.task(len(AL))
    if task == "regression":
        return Y.copy()
    hot = np.arange(len(AL))[:, np.newaxis] == Y if task == "many classes" else Y > 0.5
    return np.where(hot, _SURE, -_SURE)


def _far(a: float, b: float, scale: float = 0.0) -> bool:
    return not abs(a - b) <= _TOLERANCE * max(abs(a), abs(b), scale, 1e-3)


def _deviation(expected: FloatArray, actual: FloatArray, scale: float = 0.0) -> str | None:
    return deviation(expected, actual, tolerance=_TOLERANCE, scale=scale)
