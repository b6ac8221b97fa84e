"""Every part that stacks gives each training the bits that it has alone."""

import itertools

import attrs
import numpy as np
import pytest
from helpers import arrays_in, example_count, frozen
from hypothesis import given
from hypothesis import strategies as st
from own_parts import (
    cube_root,
    rate_in_memory,
    remembering_one_number,
    shrunk,
    signs_of_mean,
    squared_relu,
    undeclared,
)

from pydnn import (
    Batch,
    Key,
    adagrad,
    adam,
    adamw,
    amsgrad,
    average_parameters,
    batch_norm,
    clip_by_global_norm,
    clip_by_value,
    cosine_decay,
    decay_weights,
    dense,
    describe,
    dropout,
    elementwise,
    elu,
    freeze_layers,
    full_batch,
    gelu,
    gradient_descent,
    huber,
    l1_penalty,
    l2_penalty,
    layer_norm,
    leaky_relu,
    lion,
    mean_absolute,
    mean_squared,
    mini_batches,
    momentum,
    nadam,
    nesterov,
    parallel,
    poisson,
    relu,
    residual,
    rmsprop,
    scan,
    selu,
    serial,
    sigmoid,
    sigmoid_cross_entropy,
    silu,
    softmax_cross_entropy,
    softplus,
)
from pydnn.batches import Batching
from pydnn.jobs.job import prepare, run
from pydnn.optimizers import accumulate as accumulate_batches
from pydnn.optimizers import chain, decay_l1, descend, heavy_ball, scale_layers, skip_not_finite
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import write_recipe
from pydnn.stages import identity, tanh
from pydnn.stages.initializers import tutorial
from pydnn.sweeps import stacked_parts
from pydnn.sweeps.stacks import stack_of, stacking_key, why_not_stacked

m = 50
X = frozen(Key(4).at("X").normal((4, m)))
BINARY = frozen((X[:1] * X[1:2] > 0).astype(float))
LABELS = {
    "binary": BINARY,
    "both": frozen(np.concatenate([BINARY, 1 - BINARY])),
    "classes": frozen(np.arange(m)[np.newaxis] % 12),
    "numbers": frozen(np.abs(X[:2])),
}
SEEDS = (3, 1, 7)
NETWORK = serial(dense(6), relu(), dense(1))


def jobs_of(
    *,
    network=NETWORK,
    loss=None,
    optimizer=None,
    penalties=(),
    batches=None,
    labels="binary",
    weights=None,
    changes=lambda seed: {},
    **fields,
):
    recipe = Recipe(
        data="points",
        network=describe(network),
        loss=describe(loss or sigmoid_cross_entropy()),
        optimizer=describe(optimizer or gradient_descent(learning_rate=0.3)),
        penalties=[describe(penalty) for penalty in penalties],
        batches=describe(batches or mini_batches(16)),
        **{"iterations": 6, **fields},
    )
    batch = Batch(np.asfortranarray(X), np.asfortranarray(LABELS[labels]), weights)
    jobs = [prepare(attrs.evolve(recipe, seed=seed, **changes(seed)), batch) for seed in SEEDS]
    if recipe.validation:
        return jobs
    return [attrs.evolve(job, data=jobs[0].data) for job in jobs]


def assert_each_has_its_own_bits(jobs):
    """Compare every step: costs, lengths, observed values, parameters, optimizer states."""
    assert why_not_stacked(jobs) == ""
    stack = stack_of(jobs)
    pairs = list(scan(stack.train_step, stack.state, stack.batches))
    own = [list(run(job)) for job in jobs]
    assert len(pairs) == jobs[0].recipe.iterations == len(own[0])
    for k, (state, info) in enumerate(pairs):
        for r, pairs_of_run in enumerate(own):
            expected, expected_info = pairs_of_run[k]
            found = stack.state_of(r, state)
            assert stack.info_of(r, info) == attrs.evolve(expected_info, measured={})
            assert found == expected
            for ours, theirs in zip(arrays_in(found), arrays_in(expected), strict=True):
                assert ours.dtype == theirs.dtype
                assert ours.tobytes() == theirs.tobytes()
    assert len({tuple(pair[-1][0].parameters.vector) for pair in own}) == len(jobs)


ACTIVATIONS = [
    elu(), gelu(), gelu(approximate=True), identity(), leaky_relu(slope=0.1), relu(), selu(),
    sigmoid(), silu(), softplus(), tanh(),
]  # fmt: skip
NETWORKS = {
    "linear": serial(dense(1)),
    "dropout": serial(
        dropout(keep_prob=0.9), dense(6), relu(), dropout(keep_prob=0.5), dense(1)
    ),
    "layer_norm": serial(dense(6), layer_norm(), tanh(), dense(1)),
    "combinators": serial(
        dense(5), residual(dense(5), relu()), parallel(dense(3), dropout(keep_prob=0.7)),
        serial(dense(4), tanh()), dense(1),
    ),
    "wide": serial(dense(130), relu(), dense(1)),
    "large": serial(dense(100), relu(), dense(100), relu(), dense(1)),  # products are not stacked
    **{str(stage.description): serial(dense(6), stage, dense(1)) for stage in ACTIVATIONS},
}  # fmt: skip
LOSSES = {
    "sigmoid": (sigmoid_cross_entropy(), 1, "binary"),
    "sigmoid, dearer": (
        sigmoid_cross_entropy(positive_weight=3.0, label_smoothing=0.1),
        1,
        "binary",
    ),
    "several labels": (sigmoid_cross_entropy(positive_weight=[1.0, 2.0]), 2, "both"),
    "softmax": (softmax_cross_entropy(), 12, "classes"),
    "softmax, smooth": (softmax_cross_entropy(label_smoothing=0.1), 12, "classes"),
    "softmax, weighted": (softmax_cross_entropy(class_weights=list(range(1, 13))), 12, "classes"),
    "softmax, one-hot": (softmax_cross_entropy(), 2, "both"),
    "mean_squared": (mean_squared(), 2, "numbers"),
    "mean_squared, one output": (mean_squared(), 1, "binary"),
    "mean_absolute": (mean_absolute(), 1, "binary"),
    "huber": (huber(delta=0.1), 1, "binary"),
    "poisson": (poisson(), 1, "binary"),
}
OPTIMIZERS = [
    gradient_descent(learning_rate=0.3),
    gradient_descent(learning_rate=cosine_decay(0.3, steps=7)),
    momentum(learning_rate=0.1),
    momentum(learning_rate=0.1, averaged=True),
    nesterov(learning_rate=0.1),
    adagrad(), rmsprop(), adam(), adamw(weight_decay=0.1), amsgrad(), nadam(),
    lion(weight_decay=0.1),
    chain(clip_by_value(0.01), heavy_ball(), decay_weights(0.1), decay_l1(0.01), descend(0.1)),
    chain(descend(0.1), scale_layers("2", factor=0.5), freeze_layers("0/b"), average_parameters()),
    accumulate_batches(adam(), batches=2),
]  # fmt: skip


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_networks(network, dtype):
    assert_each_has_its_own_bits(jobs_of(network=network, dtype=dtype, iterations=6))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("loss", "units", "labels"), LOSSES.values(), ids=LOSSES)
def test_losses(loss, units, labels, dtype):
    network = serial(dense(6), tanh(), dense(units))
    options = {"loss": loss, "labels": labels, "dtype": dtype}
    assert_each_has_its_own_bits(jobs_of(network=network, iterations=6, **options))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: str(o.description)[:40])
def test_optimizers(optimizer, dtype):
    assert_each_has_its_own_bits(jobs_of(optimizer=optimizer, dtype=dtype))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "optimizer", [o for o in OPTIMIZERS if "chain" not in str(o.description)][2:-1],
    ids=lambda o: str(o.description)[:40],
)  # fmt: skip
def test_learning_rates_that_differ(optimizer, dtype):
    [(name, options)] = describe(optimizer).items()
    jobs = jobs_of(
        dtype=dtype,
        changes=lambda seed: {"optimizer": {name: {**options, "learning_rate": 0.01 * seed}}},
    )
    assert all(stacking_key(job.recipe) == stacking_key(jobs[0].recipe) for job in jobs)
    assert_each_has_its_own_bits(jobs)


@pytest.mark.parametrize(
    ("optimizer", "with_rate"),
    [
        (signs_of_mean(), lambda rate: signs_of_mean(learning_rate=rate)),
        (shrunk(), lambda rate: shrunk(learning_rate=rate)),
        (accumulate_batches(shrunk(), batches=2),
         lambda rate: accumulate_batches(shrunk(learning_rate=rate), batches=2)),
        (chain(clip_by_value(0.01), shrunk()),
         lambda rate: chain(clip_by_value(0.01), shrunk(learning_rate=rate))),
        (chain(descend(0.1)), lambda rate: chain(descend(rate))),
    ],
    ids=lambda o: str(getattr(o, "description", ""))[:40],
)  # fmt: skip
def test_optimizers_of_users_and_chains_of_them(optimizer, with_rate):
    for dtype in ("float64", "float32"):
        assert_each_has_its_own_bits(jobs_of(optimizer=optimizer, dtype=dtype))
        jobs = jobs_of(
            dtype=dtype, changes=lambda seed: {"optimizer": describe(with_rate(0.01 * seed))}
        )
        assert len({write_recipe(stacking_key(job.recipe)) for job in jobs}) == 1
        assert_each_has_its_own_bits(jobs)


def test_a_rate_that_an_optimizer_uses_twice_is_not_stacked():
    jobs = jobs_of(changes=lambda seed: {"optimizer": rate_in_memory(learning_rate=0.1 * seed)})
    # The first step, with an empty state, would have equal bits.
    assert "other bits than separate steps" in why_not_stacked(jobs)
    assert_each_has_its_own_bits(jobs_of(optimizer=rate_in_memory()))


@pytest.mark.parametrize("activation", [cube_root(), squared_relu()])
def test_activations_of_users_are_called_once_for_a_stack(activation, monkeypatch):
    network = serial(dense(6), activation, dense(1))
    jobs = jobs_of(network=network)
    assert_each_has_its_own_bits(jobs)
    monkeypatch.setattr(stacked_parts, "_each", None)  # it calls a stage for each training
    stack_of(jobs)


def test_a_rate_cannot_differ_if_more_is_done_after_it():
    both = chain(descend(0.1), heavy_ball())
    assert both.learning_rate == 0.1
    assert not both.rate_last
    assert not chain(descend(0.1), descend(0.2)).rate_last
    recipe = jobs_of(optimizer=both)[0].recipe
    other = attrs.evolve(recipe, optimizer=chain(descend(0.2), heavy_ball()))
    assert stacking_key(recipe) != stacking_key(other)


@pytest.mark.parametrize(
    "penalties",
    [[l2_penalty(0.7)], [l1_penalty(0.1, only=["0", "2/b"]), l2_penalty(0.5)]],
)
def test_penalties_of_strengths_that_differ(penalties):
    described = [describe(penalty) for penalty in penalties]

    def stronger(seed):
        return {"penalties": [
            {name: {**options, "strength": 0.1 * (seed - 1)} for name, options in p.items()}
            for p in described
        ]}  # fmt: skip

    for dtype in ("float64", "float32"):
        assert_each_has_its_own_bits(jobs_of(penalties=penalties, dtype=dtype))
        assert_each_has_its_own_bits(jobs_of(penalties=penalties, dtype=dtype, changes=stronger))


@pytest.mark.parametrize("validation", [0.0, 0.2])
@pytest.mark.parametrize(
    "batches",
    [full_batch(), mini_batches(16, keep_last=False), mini_batches(7, shuffle=False),
     mini_batches(1)],
    ids=lambda b: str(b.description),
)  # fmt: skip
def test_batches(batches, validation):
    jobs = jobs_of(batches=batches, validation=validation, standardize=bool(validation))
    assert_each_has_its_own_bits(jobs)


def test_weights_of_examples_and_one_stream_for_all_weights():
    weights = np.linspace(0, 2, m)[np.newaxis]
    assert_each_has_its_own_bits(jobs_of(weights=weights))
    assert_each_has_its_own_bits(
        jobs_of(batches=full_batch(), changes=lambda s: {"weights": describe(tutorial(seed=s))})
    )


SIZE = st.integers(1, 20)


@example_count(25)
@given(
    st.lists(st.tuples(SIZE, st.sampled_from(ACTIVATIONS)), max_size=2),
    st.integers(1, m),
    st.sampled_from(["float32", "float64"]),
)
def test_any_network_on_batches_of_any_size(layers, size, dtype):
    hidden = itertools.chain.from_iterable((dense(units), act) for units, act in layers)
    network = serial(*hidden, dense(1))
    jobs = jobs_of(network=network, batches=mini_batches(size), dtype=dtype, iterations=3)
    # NumPy may add one example in another order; such jobs are not stacked.
    if why_not_stacked(jobs) == "":
        assert_each_has_its_own_bits(jobs)
    else:
        assert size == 1 or m % size == 1


def test_shared_examples_are_not_copied():
    jobs = jobs_of(batches=full_batch())
    batch = next(stack_of(jobs).batches)
    assert batch.X.shape == (4, len(SEEDS), m)
    assert batch.X.strides[1] == 0
    assert np.shares_memory(batch.X, jobs[0].data["train"].X)


def test_nothing_is_changed_and_all_arrays_are_read_only():
    stack = stack_of(jobs_of(optimizer=adam()))
    batch = next(stack.batches)
    before = [array.copy() for array in arrays_in((stack.state, batch))]
    after, _ = stack.train_step(stack.state, batch)
    for old, now in zip(before, arrays_in((stack.state, batch)), strict=True):
        np.testing.assert_array_equal(old, now)
    made = [*arrays_in(after), *arrays_in(stack.state_of(1, after)), *arrays_in(batch)]
    assert len(made) > 8
    assert not any(array.flags.writeable for array in made)


# What is not stacked, and why


def strange_batches():
    return Batching(lambda data, key, k: data, lambda m: 1)


REASONS = {
    "statistics": ({"network": serial(dense(3), batch_norm(), dense(1))}, "gathers statistics"),
    "a norm": (
        {"optimizer": chain(clip_by_global_norm(1.0), descend(0.1))},
        "clip_by_global_norm may use all numbers of a training",
    ),
    "nothing said": (
        {"optimizer": undeclared()},
        "own_parts:undeclared may use all numbers of a training",
    ),
    "another memory": (
        {"optimizer": remembering_one_number()},
        "its optimizer keeps arrays of other shapes",
    ),
    "a decision": ({"optimizer": skip_not_finite(adam())}, "skip_not_finite may use all"),
}


@pytest.mark.parametrize(("parts", "reason"), REASONS.values(), ids=REASONS)
def test_what_cannot_be_stacked_says_why(parts, reason):
    assert reason in why_not_stacked(jobs_of(**parts))


def test_batches_by_a_users_function_are_not_stacked():
    jobs = [attrs.evolve(job, batching=strange_batches()) for job in jobs_of()]
    assert "batches by a function may be of any kind" in why_not_stacked(jobs)


def test_trainings_that_hold_back_different_numbers_are_not_stacked():
    jobs = jobs_of(validation=0.2)
    more = prepare(attrs.evolve(jobs[1].recipe, validation=0.4), jobs[1].batch)
    assert "different numbers of examples" in why_not_stacked([jobs[0], more])


def test_a_step_with_other_bits_is_found_before_training():
    """A stage that claims to be elementwise, but uses its whole input: its stack differs."""
    jobs = jobs_of()
    centred = elementwise("relu", lambda Z, _: Z - Z.mean(), lambda dA, Z, A, _: dA)
    object.__setattr__(centred, "description", describe(relu()))
    network = serial(dense(6), centred, dense(1))
    fresh = [prepare(job.recipe, job.batch, through=lambda _: network) for job in jobs]
    fresh = [attrs.evolve(job, data=fresh[0].data) for job in fresh]
    assert "other bits" in why_not_stacked(fresh)


def test_seeds_rates_and_strengths_do_not_change_the_stacking_key():
    base = jobs_of(penalties=[l2_penalty(0.1)])[0].recipe
    same = attrs.evolve(
        base,
        seed=9,
        optimizer=describe(gradient_descent(learning_rate=7)),
        penalties=[describe(l2_penalty(3))],
    )
    assert stacking_key(base) == stacking_key(same)
    for other in (
        {"optimizer": describe(gradient_descent(learning_rate=cosine_decay(0.1, steps=3)))},
        {"optimizer": describe(momentum(learning_rate=0.3))},
        {"penalties": [describe(l1_penalty(0.1))]},
        {"batches": describe(mini_batches(15))},
        {"iterations": 8},
        {"dtype": "float32"},
    ):
        assert stacking_key(attrs.evolve(base, **other)) != stacking_key(base)
