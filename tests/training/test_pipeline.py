import functools
import pickle

import attrs
import numpy as np
import pytest

from pydnn import (
    BadInput,
    Batch,
    Key,
    TrainStep,
    batch_norm,
    dense,
    gradient_descent,
    initial_state,
    l1_penalty,
    l2_penalty,
    make_train_step,
    part,
    rmsprop,
    serial,
    sigmoid_cross_entropy,
    watch_finite,
)
from pydnn.optimizers import base
from pydnn.training import Part, Step, trace

KEY = Key(4)
X = KEY.at("X").normal((3, 20))
BATCH = Batch(X, X[:1] > 0)
NETWORK = serial(dense(4), batch_norm(), dense(1))
OPTIMIZER = gradient_descent(learning_rate=0.1)
STEP = make_train_step(NETWORK, sigmoid_cross_entropy(), OPTIMIZER)
STATE = initial_state(NETWORK, OPTIMIZER, (3,), key=KEY)


def same(step):
    return step


# A record that parts fill

FILLED_BY = {
    "AL": "forward", "cache": "forward", "cost": "cost", "dAL": "cost", "grads": "backward",
    "statistics": "gather", "updates": "update", "after": "update", "info": "update",
}  # fmt: skip


@pytest.mark.parametrize(("field", "maker"), FILLED_BY.items(), ids=FILLED_BY)
def test_a_field_that_is_not_filled_yet_is_refused_by_name(field, maker):
    message = f"step.{field} is not filled yet: put this part after '{maker}'."
    with pytest.raises(BadInput) as refusal:
        getattr(Step(STATE, BATCH), field)
    assert str(refusal.value) == message
    early = STEP.insert_before(maker, lambda step: getattr(step, field) and step)
    with pytest.raises(BadInput) as refusal:
        early(STATE, BATCH)
    assert str(refusal.value) == f"part '<lambda>': {message}"
    assert dict(trace(STEP, STATE, BATCH))[maker].filled[:2] == ("state", "batch")


def test_an_error_of_a_users_part_keeps_its_message():
    def refusing(step):
        raise BadInput("step.grads are not what I want: give others.")

    with pytest.raises(BadInput, match=r"^step\.grads are not what I want"):
        STEP.insert_after("backward", refusing)(STATE, BATCH)


def test_a_step_can_be_evolved_and_compared_with_any_fields_filled():
    step = Step(STATE, BATCH)
    richer = attrs.evolve(step, cost=2.5, AL=np.ones((1, 20)))
    assert set(richer.filled) == {"state", "batch", "AL", "cost"}
    assert not richer.AL.flags.writeable
    assert richer == step.with_fields(cost=2.5, AL=richer.AL) != step
    assert attrs.evolve(richer, batch=BATCH) == richer
    assert "AL=float64 (1, 20)" in repr(richer)
    assert "grads" not in repr(richer)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        richer.cost = 3.0
    with pytest.raises(BadInput, match="there is no field of a step 'gards': did you mean 'grads'"):
        Step(STATE, BATCH, gards=1)


# What users' parts may return


def changing(**changes):
    return lambda step: attrs.evolve(step, **{n: f(step) for n, f in changes.items()})


def float32(step):
    return step.grads.with_vector(step.grads.vector.astype(np.float32))


def other_layout(step):
    return step.state.statistics


WRONG = {
    "nothing": ("backward", lambda step: None, "returned None, expected a Step: end it with retu"),
    "fields": ("backward", lambda step: {"grads": 1}, "returned a dict, expected a Step"),
    "a number": ("cost", lambda step: step.cost, "returned a float, expected a Step"),
    "a pair": ("forward", lambda step: (step,), "returned a tuple, expected a Step"),
    "an array as gradients": (
        "backward", changing(grads=lambda s: s.grads.vector),
        r"gives step.grads as a ndarray, expected Packed: give e.g. step.grads.with_vector\(vector",
    ),
    "gradients in float32": (
        "backward", changing(grads=float32),
        "gives step.grads in float32, but the parameters are float64: convert it with",
    ),
    "gradients of another layout": (
        "backward", changing(grads=other_layout), "gives step.grads in another layout than the par",
    ),
    "statistics in float32": (
        "gather", changing(statistics=lambda s: s.statistics.with_vector(
            s.statistics.vector.astype(np.float32))),
        "gives step.statistics in float32, but the parameters are float64",
    ),
    "dAL in float32": (
        "cost", changing(dAL=lambda s: s.dAL.astype(np.float32)),
        "gives step.dAL in float32, but the parameters are float64",
    ),
    "dAL of another shape": (
        "cost", changing(dAL=lambda s: s.dAL[:, 1:]),
        r"gives step.dAL of shape \(1, 19\), expected \(1, 20\)",
    ),
    "a cost for each example": (
        "cost", changing(cost=lambda s: s.dAL[0]), "gives step.cost as a ndarray, expected a numb",
    ),
    "parameters in float32": (
        "update", changing(after=lambda s: attrs.evolve(s.after, parameters=s.after.parameters.
            with_vector(s.after.parameters.vector.astype(np.float32)))),
        "gives step.after.parameters in float32, but the parameters are float64",
    ),
    "gradients that are too late": (
        "update", changing(grads=lambda s: s.grads.with_vector(s.grads.vector / 2)),
        "changes step.grads when the step is done, which has no effect: put it before 'update'",
    ),
    "updates that are too late": (
        "update", changing(updates=lambda s: s.updates / 2), "changes step.updates when the step",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("after", "function", "message"), WRONG.values(), ids=WRONG)
def test_the_result_of_a_part_is_checked_and_the_part_is_named(after, function, message):
    step = STEP.insert_after(after, Part("mine", function))
    for take in (lambda: step(STATE, BATCH), lambda: list(trace(step, STATE, BATCH))):
        with pytest.raises(BadInput, match=f"^part 'mine' {message}"):
            take()


def test_a_part_that_replaces_another_is_checked_too():
    broken = STEP.replace("cost", lambda step: attrs.evolve(step, cost=1.0))
    with pytest.raises(BadInput, match=r"^part 'cost' did not fill step.dAL, which it gives: fill"):
        broken(STATE, BATCH)
    with pytest.raises(BadInput, match=r"^part 'cost' returned None"):
        STEP.replace("cost", lambda step: None)(STATE, BATCH)


def test_updates_are_kept_only_where_a_later_part_may_read_them(monkeypatch):
    kept = []
    original = base.carried_out

    def carried_out(*args, keep=True, **options):
        kept.append(keep)
        return original(*args, keep=keep, **options)

    monkeypatch.setattr(base, "carried_out", carried_out)
    seen = []

    def look(step):
        seen.append(step.updates)
        return step

    watched = STEP.insert_after("update", watch_finite(NETWORK))
    reading = attrs.evolve(watched.parts[-1], name="reading", needs=frozenset(["updates"]))
    wrapped = functools.wraps(STEP.parts[-1].function)(lambda step: same(step))
    steps = {
        "nobody": (STEP, False),
        "a part of pydnn that reads others": (watched, False),
        "a part of pydnn that reads them": (watched.insert_after("update", reading), True),
        "a part of the user": (STEP.insert_after("update", look), True),
        "a part before them": (STEP.insert_before("update", same), False),
        "after pickling": (pickle.loads(pickle.dumps(watched)), False),
    }
    expected, _ = STEP(STATE, BATCH)
    for reader, (step, keep) in steps.items():
        kept.clear()
        after, _ = step(STATE, BATCH)
        assert (kept, after) == ([keep], expected), reader
    [updates] = seen
    np.testing.assert_array_equal(expected.parameters.vector, STATE.parameters.vector + updates)
    # A function that only looks like the one of pydnn is called.
    replaced = attrs.evolve(STEP.parts[-1], function=wrapped)
    with pytest.raises(BadInput, match="not filled"):
        TrainStep((*STEP.parts[:-1], replaced))(STATE, BATCH)


def test_correct_parts_pass_every_check():
    def halve(step):
        return attrs.evolve(step, grads=step.grads.with_vector(step.grads.vector / 2))

    def slow(step):
        after = attrs.evolve(step.after, statistics=step.state.statistics)
        return attrs.evolve(step, after=after)

    def fewer(step):
        return attrs.evolve(step, batch=Batch(step.batch.X[:, :9], step.batch.Y[:, :9]))

    changed = STEP.insert_after("backward", halve).insert_after("update", slow)
    changed = changed.insert_before("forward", fewer).insert_after("cost", same)
    slower = make_train_step(NETWORK, sigmoid_cross_entropy(), gradient_descent(learning_rate=0.05))
    expected, _ = slower(STATE, Batch(X[:, :9], BATCH.Y[:, :9]))
    after, _ = changed(STATE, BATCH)
    np.testing.assert_allclose(after.parameters.vector, expected.parameters.vector, rtol=1e-15)
    assert after.statistics == STATE.statistics


# Directions


def test_parts_say_whether_they_are_isotropic():
    assert STEP.not_isotropic == ()
    assert STEP.insert_after("backward", same).not_isotropic == ("same",)
    assert STEP.replace("backward", same).not_isotropic == ("backward",)
    declared = part(isotropic=True)(same)
    assert STEP.insert_after("backward", declared).not_isotropic == ()
    loss = sigmoid_cross_entropy()
    assert make_train_step(NETWORK, loss, rmsprop()).not_isotropic == ("update",)
    for penalty, expected in ((l2_penalty(1), ()), (l1_penalty(1), ("penalties",))):
        step = make_train_step(NETWORK, loss, OPTIMIZER, penalties=[penalty])
        assert step.not_isotropic == expected


ROTATED = STEP.in_rotated_basis()
LATER = {
    "inserted after": lambda p: ROTATED.insert_after("backward", p),
    "inserted before": lambda p: ROTATED.insert_before("update", p),
    "in the place of another": lambda p: ROTATED.replace("cost", p),
    "by hand": lambda p: TrainStep((*ROTATED.parts, p if isinstance(p, Part) else Part("same", p))),
    "once the rest is replaced": lambda p: ROTATED.without("gather").insert_after("update", p),
}


@pytest.mark.parametrize("change", LATER.values(), ids=LATER)
def test_a_rotated_step_refuses_parts_that_are_not_isotropic(change):
    with pytest.raises(
        BadInput, match=r"^part '(same|cost)' does not say that it treats all direc"
    ):
        change(same)
    if change is not LATER["in the place of another"]:
        assert change(part(isotropic=True)(same)).rotated
