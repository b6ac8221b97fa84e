"""The laws of a loss."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.descriptions.builders import build, describe
from pydnn.keys import Key
from pydnn.losses import Loss
from pydnn.records import FloatArray, freeze
from pydnn.stages.base import Context
from pydnn.testing.examples import draw_loss
from pydnn.testing.gradients import check_problem
from pydnn.testing.nested import difference, snapshot, unlike
from pydnn.testing.problems import expect_float64, problem_of_loss
from pydnn.testing.purity import expect_runs, purity_faults
from pydnn.testing.reports import Proof, Trial

__all__ = ["assert_loss"]

BY_TASK = "by task"
_TOLERANCE = 1e-10
_SURE = 1000.0  # a logit from which on a probability is 1
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
    """Try all laws of a loss at once.

    - *cost*: a finite number, and dAL of the shape of AL;
    - *gradients*: dAL is what differences give, with weights and without;
    - *purity*: of the loss and of its predictions;
    - *mean over examples*: the cost and dAL are means, by the same shares, of what single
      examples have; the same batch twice has the same cost;
    - *weights*: an example of weight 2 counts as two of weight 1, one of 0 as none, and weights
      that are all a number of times larger change nothing;
    - *zero*: the cost and dAL are 0 where predictions are the labels;
    - *precision*: float32 stays float32;
    - *description*: what is built again does the same.

    Args:
        loss: What is to be proved right.
        outputs: Rows of AL; by default 1 and 3, whichever the loss takes.
        examples: Columns of AL.
        AL: Instead of drawn outputs of the network, in float64,
        Y: and their labels.
        zero_at: `(Y) -> AL` where the cost is 0; None for a loss that has no such place. By
            default Y itself for regression, and logits of 1000 and -1000 for classes.
        key: Where everything is drawn from.
        rtol: The largest error of a gradient, beside the largest one.

    Raises:
        BrokenLaw: With all that was found, by the names of laws.
        BadInput: If it is no loss, or is given what does not fit.
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
            given = {"AL": drawn.AL, "Y": drawn.Y, "weights": None, "context": _CONTEXT}
            expect_runs(f"loss {loss.name}", loss.function, given, hint="mend it, or give AL and Y")
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
    for given in (None, weights):
        with trial.law("gradients") as fault:
            problem = problem_of_loss(loss, AL, Y, given, _CONTEXT)
            how = "with" if given is not None else "without"
            problem = attrs.evolve(problem, subject=f"{problem.subject} {how} weights")
            report = check_problem(problem, key=key, rtol=rtol)
            trial.tables.append(report)
            if not report.right:
                fault(str(report))
        with trial.law("purity") as fault:
            names = ["AL", "Y", "weights", "context"]
            _, faults = purity_faults(loss.function, AL, Y, given, _CONTEXT, names=names)
            for text in faults:
                fault(text.replace("result[0]", "cost").replace("result[1]", "dAL"))
    with trial.law("purity") as fault:
        # Predictions may be the outputs themselves, where these are to be near the labels.
        _, faults = purity_faults(
            loss.predict, AL, _CONTEXT, shares=["result"], names=["AL", "context"]
        )
        for text in faults:
            fault(f"predict {text}")
    _try_mean(trial, loss, AL, Y)
    _try_weights(trial, loss, AL, Y)
    if zero_at is not None:
        _try_zero(trial, loss, AL, Y, zero_at)
    with trial.law("precision") as fault:
        single = [freeze(a.astype(np.float32)) for a in (AL, Y, weights)]
        for heavy in (None, single[2]):
            if (dtype := loss(single[0], single[1], heavy, _CONTEXT)[1].dtype) != np.float32:
                fault(f"dAL is {dtype} for float32")
        if (dtype := loss.predict(single[0], _CONTEXT).dtype) != np.float32:
            fault(f"predictions are {dtype} for float32")
    if loss.description is not None:
        with trial.law("description") as fault:
            again = build(describe(loss), family="loss")
            told = difference(
                *(snapshot(one(AL, Y, weights, _CONTEXT), "(cost, dAL)") for one in (loss, again))
            )
            if told:
                fault(f"built again, {told} before")


def _try_mean(trial: Trial, loss: Loss, AL: FloatArray, Y: FloatArray) -> None:
    with trial.law("mean over examples") as fault:
        m = AL.shape[1]
        cost, dAL = loss(AL, Y, None, _CONTEXT)
        twice, halves = loss(freeze(np.tile(AL, 2)), freeze(np.tile(Y, 2)), None, _CONTEXT)
        if _far(twice, cost):
            fault(f"the same batch twice costs {twice:.9g}, once {cost:.9g}")
        if told := _unlike(np.tile(dAL, 2) / 2, halves):
            fault(f"dAL of the same batch twice is not half of that of it once: {told}")
        singles = [loss(freeze(AL[:, [i]]), freeze(Y[:, [i]]), None, _CONTEXT) for i in range(m)]
        # Each example's share in dAL: 1/m, or by its class where classes are weighted.
        own = np.concatenate([one[1] for one in singles], axis=1)
        length = (own * own).sum(axis=0)
        known = length > 1e-20
        shares = (own * dAL).sum(axis=0)[known] / length[known]
        if told := _unlike(own[:, known] * shares, dAL[:, known]):
            fault(f"dAL of an example in a batch is no multiple of that of it alone: {told}")
        if known.all():
            if _far(float(shares.sum()), 1.0):
                fault(f"shares of examples in dAL sum to {shares.sum():.9g}, expected 1")
            mean = float(shares @ np.array([one[0] for one in singles]))
            if _far(mean, cost, max(abs(one[0]) for one in singles)):
                fault(
                    f"the cost is {cost:.9g}, but {mean:.9g} by the shares that dAL has of examples"
                )


def _try_weights(trial: Trial, loss: Loss, AL: FloatArray, Y: FloatArray) -> None:
    with trial.law("weights") as fault:
        m = AL.shape[1]
        counts = np.arange(m)[::-1] % 4
        counts[0] += not counts.any()  # of one example, the only one
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
                f"weighted by {counts.tolist()} the cost is {cost:.9g}, "
                f"so often repeated {several:.9g}"
            )
        firsts = np.cumsum(counts)[counts > 0] - counts[counts > 0]
        expected = np.zeros_like(dAL)
        expected[:, counts > 0] = repeated[:, firsts] * counts[counts > 0]
        if told := _unlike(expected, dAL):
            fault(f"weighted by {counts.tolist()}, dAL{told} as so often repeated")
        threefold, same = loss(AL, Y, freeze(3 * weights), _CONTEXT)
        if _far(threefold, cost) or _unlike(dAL, same):
            fault(
                f"weights that are three times as large make the cost {threefold:.9g} of {cost:.9g}"
            )


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
        declare = "give zero_at=None if it has no such place"
        if not abs(cost) <= 1e-12:
            fault(f"the cost is {cost:.9g} where predictions are the labels, expected 0; {declare}")
        if told := _unlike(np.zeros_like(AL), dAL, 1.0):
            fault(f"where predictions are the labels, dAL{told}; {declare}")


def _perfect(loss: Loss, AL: FloatArray, Y: FloatArray) -> FloatArray:
    task = loss.task(len(AL))
    if task == "regression":
        return Y.copy()
    hot = np.arange(len(AL))[:, np.newaxis] == Y if task == "many classes" else Y > 0.5
    return np.where(hot, _SURE, -_SURE)


def _far(a: float, b: float, scale: float = 0.0) -> bool:
    return not abs(a - b) <= _TOLERANCE * max(abs(a), abs(b), scale, 1e-3)


def _unlike(expected: FloatArray, found: FloatArray, scale: float = 0.0) -> str | None:
    return unlike(expected, found, tolerance=_TOLERANCE, scale=scale)
