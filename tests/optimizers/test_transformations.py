import functools
import math

import attrs
import numpy as np
import pytest
from helpers import frozen, refuse
from hypothesis import given
from hypothesis import strategies as st

from pydnn import (
    BadInput,
    Context,
    GradientTransformation,
    Key,
    adam,
    average_parameters,
    clip_by_global_norm,
    clip_by_value,
    decay_weights,
    dense,
    fast,
    freeze_layers,
    gradient_descent,
    momentum,
    nesterov,
    step_decay,
)
from pydnn.numerics import threads
from pydnn.optimizers import (
    Schedule,
    accumulate,
    averaged,
    base,
    chain,
    clipping,
    constant_rate,
    decay,
    decay_l1,
    descend,
    gradient_noise,
    heavy_ball,
    layers,
    look,
    scale,
    scale_by_adam,
    scale_layers,
    skip_not_finite,
    wrappers,
)
from pydnn.optimizers.base import moved, number_by_number, updated
from pydnn.optimizers.fused import PendingUpdate
from pydnn.parameters import pack
from pydnn.stages.dense import DenseParams

PARAMS = pack((DenseParams([[1.0, -2.0]], [[3.0]]), (), DenseParams([[5.0]], [[6.0]])))
GRADS = frozen([10.0, -20.0, 0.0, 4.0, -1.0])
KEYED = Context(training=True, key=Key(1))

# Updates at the first step, computed by hand.
WORKED = {
    "chain": (chain(), [10, -20, 0, 4, -1]),
    "scale": (scale(0.5), [5, -10, 0, 2, -0.5]),
    "descend": (descend(0.1), [-1, 2, 0, -0.4, 0.1]),
    "descend, by a schedule": (
        descend(step_decay(0.1, factor=0.5, every=1)), [-1, 2, 0, -0.4, 0.1],
    ),
    "clip_by_value": (clip_by_value(5), [5, -5, 0, 4, -1]),
    "clip_by_global_norm": (
        clip_by_global_norm(math.sqrt(517) / 2), [5, -10, 0, 2, -0.5],
    ),
    "clip_by_global_norm, short enough": (clip_by_global_norm(23), [10, -20, 0, 4, -1]),
    "gradient_noise": (
        gradient_noise(4.0),
        GRADS + 2 * KEYED.key.at("gradient_noise").normal((5,)),
    ),
    "freeze_layers": (freeze_layers("0"), [0, 0, 0, 4, -1]),
    "freeze_layers, biases": (freeze_layers("b"), [10, -20, 0, 4, 0]),
    "scale_layers": (scale_layers("2", "0/b", factor=10), [10, -20, 0, 40, -10]),
    "scale_layers, down": (scale_layers("b", factor=0.5), [10, -20, 0, 4, -0.5]),
    "decay_weights": (decay_weights(0.1), [10.1, -20.2, 0, 4.5, -1]),
    "decay_weights, of all": (decay_weights(1, only=["W", "b"]), [11, -22, 3, 9, 5]),
    "decay_l1": (decay_l1(0.1), [10.1, -20.1, 0, 4.1, -1]),
    "look": (look("here"), [10, -20, 0, 4, -1]),
    "accumulate": (accumulate(scale(1), batches=2), [0, 0, 0, 0, 0]),
    "skip_not_finite": (skip_not_finite(scale(2)), [20, -40, 0, 8, -2]),
    "average_parameters": (average_parameters(), [10, -20, 0, 4, -1]),
}  # fmt: skip
every = pytest.mark.parametrize("row", WORKED.values(), ids=WORKED)


def first(transformation, grads=GRADS, params=PARAMS):
    return transformation.update(grads, transformation.init(params), params, KEYED)


def test_every_transformation_is_in_the_table():
    builders = {
        name
        for module in (base, clipping, decay, layers, wrappers)
        for name in module.__all__
        if hasattr(getattr(module, name), "family")
    }
    assert {name.partition(",")[0] for name in WORKED} == builders


@every
def test_first_updates_match_worked_examples(row):
    transformation, expected = row
    updates, _ = first(transformation)
    np.testing.assert_allclose(updates, expected, rtol=1e-14)
    assert not updates.flags.writeable


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=4))
def test_a_chain_applies_its_parts_in_order(factors):
    updates, state = first(chain(*map(scale, factors)))
    with np.errstate(under="ignore"):  # in the arithmetic of this test
        np.testing.assert_allclose(updates, GRADS * math.prod(factors), rtol=1e-13, atol=1e-290)
    assert state == ((),) * len(factors)


def test_the_learning_rate_follows_its_schedule_and_is_observed():
    optimizer = gradient_descent(learning_rate=step_decay(8, factor=0.5, every=2))
    state, rates = optimizer.init(PARAMS), []
    for _ in range(5):
        updates, state = optimizer.update(GRADS, state, PARAMS)
        rates.append(optimizer.observe(state)["learning_rate"])
        np.testing.assert_allclose(updates, -rates[-1] * GRADS)
    assert rates == [8, 8, 4, 4, 2]


def test_values_in_the_middle_of_a_chain_are_observed_by_name():
    optimizer = chain(
        look("raw"),
        clip_by_global_norm(1.0),
        look("clipped"),
        look("direction", at="vector"),
        chain(scale(3), look("deep", at="largest")),
        descend(0.5),
    )
    updates, state = first(optimizer)
    observed = dict(optimizer.observe(state))
    np.testing.assert_allclose(observed.pop("direction"), GRADS / math.sqrt(517))
    assert observed == pytest.approx(
        {
            "raw": math.sqrt(517),
            "norm_before_clip": math.sqrt(517),
            "clipped": 1.0,
            "deep": 60 / math.sqrt(517),
            "learning_rate": 0.5,
        }
    )
    np.testing.assert_allclose(updates, -1.5 * GRADS / math.sqrt(517))


def test_observed_values_before_the_first_update_are_initial_ones():
    assert look("x").observe(look("x").init(PARAMS)) == {"x": 0.0}
    vector = look("x", at="vector")
    assert vector.observe(vector.init(PARAMS))["x"].shape == (0,)
    decaying = descend(step_decay(0.5, factor=0.1, every=1))
    assert decaying.observe(decaying.init(PARAMS)) == {"learning_rate": 0.5}
    clip = clip_by_global_norm(1)
    assert clip.observe(clip.init(PARAMS)) == {"norm_before_clip": 0.0}
    skip = skip_not_finite(scale(1))
    assert skip.observe(skip.init(PARAMS)) == {"skipped": 0}


def test_look_observes_the_largest_gradient_even_if_it_is_below_1():
    largest = look("x", at="largest")
    _, state = first(largest, frozen(GRADS / 100))
    assert largest.observe(state) == {"x": 0.2}


def test_inner_transformations_get_readonly_gradients():
    writeable = []

    def update(grads, state, params, context=None):
        writeable.append(grads.flags.writeable)
        return grads, state

    inner = GradientTransformation(lambda params: (), update)
    first(accumulate(inner, batches=1))
    first(chain(scale(1), inner))
    assert writeable == [False, False]


def test_noise_decays_and_depends_on_the_key():
    noise = gradient_noise(1.0, decay=2.0)
    assert noise.random
    assert chain(scale(1), noise).random
    state, spreads = noise.init(PARAMS), []
    big = pack((DenseParams(np.zeros((1, 4000)), [[0.0]]),))
    for t in range(3):
        context = Context(training=True, key=Key(1).at(t))
        updates, state = noise.update(np.zeros(4001), state, big, context)
        spreads.append(updates.std())
    assert spreads == pytest.approx([1, 1 / 2, 1 / 3], rel=0.05)


def test_accumulated_batches_update_like_one_large_batch():
    inner = momentum(learning_rate=0.1)
    optimizer, state = accumulate(inner, batches=3), None
    state = optimizer.init(PARAMS)
    plain = inner.init(PARAMS)
    for round_ in range(2):
        grads = [Key(round_).at(i).normal(5) for i in range(3)]
        for g in grads[:2]:
            updates, state = optimizer.update(g, state, PARAMS)
            np.testing.assert_array_equal(updates, 0)
        updates, state = optimizer.update(grads[2], state, PARAMS)
        expected, plain = inner.update(sum(grads) / 3, plain, PARAMS)
        np.testing.assert_allclose(updates, expected, rtol=1e-14)
    assert optimizer.observe(state) == {"learning_rate": 0.1}


def test_updates_that_are_not_finite_are_skipped_and_counted():
    optimizer = skip_not_finite(adam(learning_rate=0.1))
    assert optimizer.tolerates_nonfinite
    assert not adam().tolerates_nonfinite
    assert chain(optimizer).tolerates_nonfinite
    _, good = first(optimizer)
    for bad in (np.nan, np.inf):
        updates, after = optimizer.update(frozen(np.full(5, bad)), good, PARAMS)
        np.testing.assert_array_equal(updates, 0)
        assert after.inner == good.inner
        assert optimizer.observe(after) == {"learning_rate": 0.1, "skipped": 1}


def test_one_gradient_that_is_not_finite_skips_the_whole_update():
    optimizer = skip_not_finite(freeze_layers("0", "2"))
    updates, state = first(optimizer, frozen([np.nan, 1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(updates, 0)
    assert state.skipped == 1


def test_updates_that_overflow_inside_are_skipped_too():
    with np.errstate(over="ignore"):
        updates, state = first(skip_not_finite(scale(1e308)))
    np.testing.assert_array_equal(updates, 0)
    assert state.skipped == 1


def test_parameters_are_averaged_over_updates():
    for share, expected in ((None, (1 + 2 + 3) / 3), (0.5, (0 + 1) / 8 + 2 / 4 + 3 / 2)):
        optimizer = chain(scale(1), average_parameters(decay=share))
        params = pack((DenseParams([[0.0]], [[0.0]]),))
        state = optimizer.init(params)
        for _ in range(3):
            updates, state = optimizer.update(np.ones(2), state, params)
            params = params.with_vector(params.vector + updates)
        np.testing.assert_array_equal(params.vector, 3)
        np.testing.assert_allclose(averaged(state, params).vector, expected)


def test_averaged_finds_the_average_at_any_depth():
    optimizer = skip_not_finite(accumulate(chain(average_parameters()), batches=1))
    _, state = first(optimizer)
    np.testing.assert_array_equal(averaged(state, PARAMS).vector, PARAMS.vector + GRADS)
    with pytest.raises(BadInput, match="the optimizer's state has no average, expected one"):
        averaged(adam().init(PARAMS), PARAMS)


REFUSED = {
    "a builder instead of a part": (
        lambda: chain(scale),
        "chain got .* as part 0, expected",
    ),
    "unknown layer": (lambda: first(freeze_layers("1")), "there is no parameter '1'"),
    "names as a text": (lambda: decay_weights(1, only="W"), "names are 'W', expected a list"),
    "unknown look": (lambda: look("x", at="nrom"), "there is no thing to look at 'nrom': did you"),
    "no key": (
        lambda: gradient_noise(1).update(GRADS, gradient_noise(1).init(PARAMS), PARAMS),
        "gradient_noise got a context without a key",
    ),
    "no variance": (lambda: gradient_noise(-1), "variance is -1, expected a number of at least 0"),
    "noise that grows": (lambda: gradient_noise(0.5, decay=-1), "decay is -1, expected a number"),
    "negative factor": (lambda: scale_layers("W", factor=-1), "factor is -1, expected a number of"),
    "negative decay": (lambda: decay_weights(-1), "rate is -1, expected a number of at least 0"),
    "negative L1 decay": (lambda: decay_l1(-1), "rate is -1, expected a number of at least 0"),
    "a learning rate of 0": (lambda: descend(0), "learning_rate is 0, expected a number above 0"),
    "clip at 0": (lambda: clip_by_value(0), "limit is 0"),
    "norm of 0": (lambda: clip_by_global_norm(-1), "limit is -1"),
    "no batches": (lambda: accumulate(scale(1), batches=0), "batches is 0"),
    "accumulate around accumulate": (
        lambda: accumulate(skip_not_finite(accumulate(scale(1), batches=2)), batches=3),
        "accumulate of 3 batches is around .* accumulates 2 already, .* before 6 batches",
    ),
    "accumulate around a chain that accumulates": (
        lambda: accumulate(chain(accumulate(scale(1), batches=2), scale(1)), batches=2),
        "accumulates 2 already, .* before 4 batches",
    ),
    "two accumulating parts of a chain": (
        lambda: chain(accumulate(scale(1), batches=2), accumulate(scale(1), batches=3)),
        "chain got parts that accumulate 2 and 3 batches, expected one such part",
    ),
    "decay of 1": (lambda: average_parameters(decay=1), "decay is 1"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, message):
    with pytest.raises(BadInput, match=message):
        call()


def test_a_users_own_transformation_works_in_a_chain():
    def update(grads, state, params, context=None):
        return frozen(grads**2), state + 1

    squares = GradientTransformation(lambda params: 0, update, observe=lambda s: {"calls": s})
    updates, state = first(chain(squares, scale(-1)))
    np.testing.assert_array_equal(updates, -(GRADS**2))
    assert chain(squares, scale(-1)).observe(state) == {"calls": 1}


FUSED = {
    "gradient descent": gradient_descent(learning_rate=0.1),
    "momentum": momentum(learning_rate=0.1, averaged=True),
    "nesterov": nesterov(learning_rate=0.1),
    "adam": adam(learning_rate=0.1),
    "scaled at both ends": chain(scale(3), heavy_ball(), scale(2), scale_by_adam(), descend(0.1)),
    "kernels that read gradients after writing updates": chain(
        scale(3), heavy_ball(nesterov=True), heavy_ball(nesterov=True), scale_by_adam(), scale(2)
    ),
    "nothing but factors": chain(scale(3), scale(2), descend(constant_rate(0.1))),
    "inside each other": chain(chain(heavy_ball(), scale(2)), chain(chain(), descend(0.1))),
    "not all parts fused": chain(heavy_ball(), clip_by_value(0.5), descend(0.1)),
}


@pytest.mark.parametrize("optimizer", FUSED.values(), ids=FUSED)
def test_a_fused_update_equals_the_parts_one_by_one(optimizer, monkeypatch):
    monkeypatch.setattr(threads, "_BLOCK", 800)  # so that there are several blocks
    big = pack(dense(3).init(Key(1), (400,))[0])
    parts = [p.update for p in parts_of(optimizer)]
    states = [p.init(big) for p in parts_of(optimizer)]
    state, params = optimizer.init(big), big
    for step in range(4):
        g = frozen(Key(2).at(step).normal(big.vector.shape))
        expected = g
        for i, update in enumerate(parts):
            expected, states[i] = update(expected, states[i], params)
        alone, _ = optimizer.update(g, state, params)
        without = moved(optimizer, g, state, params)
        updates, vector, state = updated(optimizer, g, state, params)
        assert without[0].tobytes() == vector.tobytes()
        assert without[1] == state
        assert updates.tobytes() == alone.tobytes()
        np.testing.assert_array_equal(vector, params.vector + updates)
        np.testing.assert_allclose(updates, expected, rtol=1e-13)
        assert not vector.flags.writeable
        params = params.with_vector(vector)


def test_a_fused_optimizer_never_calls_update():
    whole = chain(heavy_ball(), descend(0.1))
    optimizer = attrs.evolve(whole, update=refuse, begin=functools.partial(whole.begin))
    _, vector, _ = updated(optimizer, GRADS, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(vector, PARAMS.vector - 0.1 * GRADS)


def test_a_factor_is_applied_by_the_kernel_of_the_part_before_it():
    factors = []

    def kernel(factor, g, p, u):
        factors.append(factor)
        u[:] = factor * g

    alone = number_by_number(lambda params: (), lambda *_: PendingUpdate(kernel, (), lambda: (), 3))
    optimizer = chain(alone, scale(2), descend(0.5))
    updates, _ = optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS)
    assert factors == [-3]
    np.testing.assert_array_equal(updates, -3 * GRADS)


@pytest.mark.parametrize(
    "optimizer",
    [
        *(each for each in FUSED.values() if each.begin),
        chain(chain(clip_by_value(0.5), scale_by_adam()), descend(0.1)),
        chain(clip_by_value(0.5), scale_by_adam(), descend(0.1)),  # whose first factor is 1
        chain(scale_by_adam(beta1=0.5, beta2=0.75), scale(0.3), clip_by_value(0.5)),
        # Factors of several parts become one, which is 1 in the first step only.
        chain(
            clip_by_value(0.5),
            chain(scale(-1.0), descend(step_decay(1.0, factor=0.5, every=1))),
            scale(0.3),
        ),
    ],
)
def test_a_chain_has_the_same_kernel_in_every_step(optimizer):
    state, kernels = optimizer.init(PARAMS), set()
    for _ in range(4):
        pending = optimizer.begin(state, PARAMS.vector.dtype, fast)
        kernels.add(pending.kernel)
        state = pending.state(*pending.before)
    assert len(kernels) == 1


def test_gradients_whose_norm_is_the_limit_are_returned_unchanged():
    clip = clip_by_global_norm(5)
    grads = frozen([3.0, 0.0, 0.0, 4.0, 0.0])
    assert clip.update(grads, clip.init(PARAMS), PARAMS)[0] is grads


def parts_of(optimizer):
    """Return the innermost parts of a chain of chains."""
    if "chain" not in optimizer.description:
        return [optimizer]
    parts = optimizer.description["chain"].get("parts", ())
    return [inner for part in parts for inner in parts_of(part)]


def test_the_initial_rate_of_a_schedule_is_computed_in_portable_arithmetic():
    arithmetics = []

    def at(iteration, numerics):
        arithmetics.append(numerics.name)
        return 0.1

    optimizer = gradient_descent(learning_rate=Schedule(at))
    state = optimizer.init(pack(dense(1).init(Key(1), (2,))[0]))
    assert arithmetics == ["portable"]
    assert optimizer.observe(state) == {"learning_rate": 0.1}


@pytest.mark.parametrize("builder", [gradient_descent, momentum])
def test_replacing_update_alone_drops_begin(builder):
    optimizer = builder(learning_rate=0.1)
    halted = attrs.evolve(
        optimizer, update=lambda grads, state, params, context=None: (grads * 0, state)
    )
    assert halted.begin is None
    assert attrs.evolve(optimizer, random=True).begin is optimizer.begin
    for whole in (halted, chain(halted), chain(scale(2.0), halted)):
        state = whole.init(PARAMS)
        assert not updated(whole, GRADS, state, PARAMS, Context())[0].any()
