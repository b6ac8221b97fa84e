import attrs
import numpy as np
import pytest
import toolz
from helpers import example_count
from hypothesis import given
from hypothesis import strategies as st
from own_parts import cube_root, shrunk, undeclared

from pydnn import (
    BadInput,
    Batch,
    Key,
    adam,
    adamw,
    average_parameters,
    batch_norm,
    clip_by_global_norm,
    clip_by_value,
    cosine_decay,
    decay_weights,
    dense,
    describe,
    described,
    dropout,
    fast,
    freeze_layers,
    gradient_descent,
    l1_penalty,
    l2_penalty,
    lion,
    make_train_step,
    mini_batches,
    momentum,
    nesterov,
    output_of,
    part,
    portable,
    relu,
    residual,
    rmsprop,
    serial,
    sigmoid_cross_entropy,
)
from pydnn.data import load_data_set
from pydnn.jobs.job import prepare, run
from pydnn.jobs.rotation import first_weights, fit_rotation, is_worthwhile, lift, project
from pydnn.optimizers import (
    accumulate,
    averaged,
    chain,
    decay_l1,
    descend,
    gradient_noise,
    heavy_ball,
    look,
    scale,
    scale_layers,
    skip_not_finite,
)
from pydnn.parameters import pack
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.tutorial import tutorial_network, tutorial_recipe
from pydnn.records import freeze
from pydnn.stages import tanh

NETWORK = serial(dense(3), tanh(), dense(2), relu(), dense(1))


def wide_data(key=1, *, features=40, examples=7):
    X = Key(key).at("X").normal((features, examples))
    return Batch(X, [[i % 2 for i in range(examples)]])


def recipe_of(optimizer=None, **changes):
    recipe = Recipe(
        data="given",
        network=describe(NETWORK),
        loss=describe(sigmoid_cross_entropy()),
        optimizer=describe(optimizer or gradient_descent(learning_rate=0.1)),
        iterations=25,
        rotate=True,
    )
    return attrs.evolve(recipe, **changes)


def both_ways(recipe, batch):
    """The job, its last pair and its costs, rotated and as it is."""
    found = []
    for rotate in (True, False):
        job = prepare(attrs.evolve(recipe, rotate=rotate), batch)
        pairs = list(run(job))
        found.append((job, pairs[-1], [info.cost for _, info in pairs]))
    return found


def assert_same_training(recipe, batch, rtol=1e-9):
    (job, (state, info), costs), (plain, (there, told), expected) = both_ways(recipe, batch)
    assert job.inputs.rotation is not None
    assert plain.inputs.rotation is None
    np.testing.assert_allclose(costs, expected, rtol=rtol)
    np.testing.assert_allclose(info.gradient_norm, told.gradient_norm, rtol=rtol, atol=1e-12)
    for name, value in told.measured.items():
        assert info.measured[name] == pytest.approx(value, rel=rtol), name
    lifted = job.inputs.lift(state.parameters)
    assert lifted.layout == there.parameters.layout
    scale_of = np.abs(there.parameters.vector).max()
    np.testing.assert_allclose(lifted.vector, there.parameters.vector, atol=rtol * scale_of)
    return job, state, there


# The basis


def test_a_worked_change_of_basis():
    # One example along the second axis, and one row of weights in the plane of the first two.
    parameters = pack(dense(1).init(Key(0), (3,))[0])
    parameters = parameters.with_vector(np.array([3.0, 4.0, 0.0, 7.0]))
    rotation = fit_rotation(dense(1), parameters, np.array([[0.0], [2.0], [0.0]]))
    np.testing.assert_allclose(np.abs(rotation.basis), [[0, 1], [1, 0], [0, 0]], atol=1e-15)
    rotated = project(rotation, parameters)
    np.testing.assert_allclose(np.abs(rotated["W"]), [[4, 3]])
    assert rotated["b"] == 7
    other = np.array([[1.0], [1.0], [5.0]])  # of which the weights see 3 + 4
    np.testing.assert_allclose(rotated["W"] @ rotation(other), [[7]])
    np.testing.assert_allclose(lift(rotation, rotated).vector, parameters.vector, atol=1e-15)


@given(st.integers(0, 99), st.sampled_from(["float64", "float32"]))
def test_the_basis_is_orthonormal_and_spans_examples_and_weights(key, dtype):
    X = wide_data(key).X.copy()
    X[:, 3] = X[:, 1]  # a duplicate
    X[:, 4] = 0
    X[:, 5] = X[:, 0] + X[:, 2]
    X = np.asfortranarray(X, dtype)
    parameters = pack(NETWORK.init(Key(key), (len(X),))[0], dtype=dtype)
    rotation = fit_rotation(NETWORK, parameters, X)
    B, eps = rotation.basis, np.finfo(dtype).eps
    assert B.shape == (40, 7 + 3)
    assert B.dtype == np.float64
    np.testing.assert_allclose(B.T @ B, np.eye(10), atol=1e-14)
    np.testing.assert_allclose(B @ rotation(X), X, atol=20 * eps)
    rotated = project(rotation, parameters)
    assert rotated.vector.dtype == rotation(X).dtype == dtype
    assert rotated["0/W"].shape == (3, 10)
    np.testing.assert_allclose(lift(rotation, rotated).vector, parameters.vector, atol=20 * eps)
    for rotated in (rotation(X), rotation.of_fitted(X)):
        assert not rotated.flags.writeable
        assert rotated.flags.f_contiguous


@pytest.mark.parametrize("numerics", [fast, portable], ids=str)
def test_no_example_has_a_component_in_directions_of_later_ones(numerics):
    X = wide_data(2).X.copy()
    X[:, 3] = X[:, 1]
    X[:, 4] = 0
    rotation = fit_rotation(NETWORK, pack(NETWORK.init(Key(2), (len(X),))[0]), X, numerics)
    rotated = rotation.of_fitted(X)
    np.testing.assert_array_equal(rotated, np.triu(rotated))
    np.testing.assert_allclose(rotated, rotation(X), atol=1e-13)
    np.testing.assert_allclose(rotation.basis @ rotated, X, atol=1e-13)


# Training in the basis

ISOTROPIC = {
    "gradient descent": gradient_descent(learning_rate=0.3),
    "with a schedule": gradient_descent(learning_rate=cosine_decay(0.5, steps=25)),
    "momentum": momentum(learning_rate=0.1),
    "averaged momentum": momentum(learning_rate=0.3, averaged=True),
    "nesterov": nesterov(learning_rate=0.05),
    "decoupled decay": chain(heavy_ball(decay=0.5), decay_weights(0.3), descend(0.1)),
    "clipping": chain(clip_by_global_norm(0.1), look("length"), scale(2), descend(0.1)),
    "layers": chain(scale_layers("0", factor=0.5), freeze_layers("2"), descend(0.1)),
    "around others": skip_not_finite(accumulate(momentum(learning_rate=0.1), batches=2)),
}


@pytest.mark.parametrize("optimizer", ISOTROPIC.values(), ids=ISOTROPIC)
@pytest.mark.parametrize("penalty", [None, l2_penalty(0.7)], ids=["", "l2"])
def test_the_steps_are_those_of_the_plain_training(optimizer, penalty):
    penalties = () if penalty is None else (describe(penalty),)
    assert_same_training(recipe_of(optimizer, penalties=penalties), wide_data())


@example_count(20)
@given(st.integers(0, 99), st.booleans(), st.booleans())
def test_the_steps_are_the_same_for_any_data(key, standardize, shuffled):
    batch = wide_data(key, examples=9)
    X = batch.X.copy()
    X[:, [2, 4, 6]] = X[:, [0, 1, 0]]
    X[7:12] = 3.0  # constant features
    changes = {"batches": describe(mini_batches(4))} if shuffled else {}
    recipe = recipe_of(momentum(learning_rate=0.05), standardize=standardize, **changes)
    assert_same_training(recipe, Batch(X, batch.Y))


def test_the_validation_part_is_evaluated_without_lifting():
    recipe = recipe_of(validation=0.3, evaluate_every=5, standardize=True, iterations=20)
    assert_same_training(recipe, wide_data(examples=20))


def test_float32_is_rounded_no_more_than_without_rotation():
    assert_same_training(recipe_of(dtype="float32"), wide_data(), rtol=1e-5)


def test_a_network_with_dropout_inside_and_first_layers_deep_in_others():
    network = serial(serial(serial(dense(4)), dropout(keep_prob=0.5)), batch_norm(), dense(1))
    assert_same_training(recipe_of(network=describe(network)), wide_data(examples=12))


def test_averages_are_lifted_as_parameters_are():
    recipe = recipe_of(chain(momentum(learning_rate=0.1), average_parameters()))
    job, state, there = assert_same_training(recipe, wide_data())
    average = job.inputs.lift(averaged(state.optimizer_state, state.parameters))
    expected = averaged(there.optimizer_state, there.parameters)
    np.testing.assert_allclose(average.vector, expected.vector, atol=1e-12)


def test_an_optimizer_of_a_user_is_rotated_as_one_of_pydnn_with_the_same_bits():
    """Its network, too, has an activation of the user's."""
    network = describe(serial(dense(3), cube_root(), dense(1)))
    ours = recipe_of(gradient_descent(learning_rate=0.1), network=network)
    theirs = attrs.evolve(ours, optimizer=shrunk(learning_rate=0.1, share=0.0))
    assert_same_training(theirs, wide_data())
    last = [toolz.last(run(prepare(recipe, wide_data()))) for recipe in (ours, theirs)]
    assert last[0][0].parameters == last[1][0].parameters
    with pytest.raises(BadInput, match="the optimizer treats each number by itself"):
        prepare(attrs.evolve(ours, optimizer=undeclared()), wide_data())


def test_lifted_parameters_are_those_of_the_network_on_other_examples():
    batch = wide_data()
    job, (state, _), _ = both_ways(recipe_of(), batch)[0]
    X = Key(9).normal((40, 5))
    in_basis = output_of(job.network, state, job.inputs(X))
    lifted = attrs.evolve(state, parameters=job.inputs.lift(state.parameters))
    as_it_is = output_of(job.network, lifted, X)
    np.testing.assert_allclose(in_basis, as_it_is, rtol=1e-9)


# Isotropic parts, and others

UNLIKE = {
    "adam": adam(),
    "adamw": adamw(),
    "rmsprop": rmsprop(),
    "lion": lion(),
    "l1 decay": chain(decay_l1(0.1), descend(0.1)),
    "clipping by value": chain(clip_by_value(0.1), descend(0.1)),
    "noise": chain(gradient_noise(0.1), descend(0.1)),
    "a look at all": chain(look("g", at="vector"), descend(0.1)),
    "a look at the largest": chain(look("g", at="largest"), descend(0.1)),
    "deep inside": accumulate(chain(adam()), batches=2),
}


@pytest.mark.parametrize("optimizer", UNLIKE.values(), ids=UNLIKE)
def test_an_elementwise_optimizer_is_refused(optimizer):
    with pytest.raises(BadInput, match=r"^rotate is true, but the optimizer treats each number"):
        prepare(recipe_of(optimizer), wide_data())
    assert prepare(recipe_of(optimizer, rotate=None), wide_data()).inputs.rotation is None


@pytest.mark.parametrize("optimizer", ISOTROPIC.values(), ids=ISOTROPIC)
def test_rotated_gradients_give_rotated_updates(optimizer):
    assert optimizer.isotropic
    rotation = np.linalg.qr(Key(1).normal((5, 5)))[0]
    updates = []
    for turn in (np.eye(5), rotation):
        params = pack(serial(dense(4), relu(), dense(2)).init(Key(2), (5,))[0])

        def turned(packed, turn=turn):
            first, *others = packed.tree
            return packed.with_tree((attrs.evolve(first, W=first.W @ turn), *others))

        state = optimizer.init(turned(params))
        for step in range(3):
            grads = turned(params.with_vector(Key(3).at(step).normal(params.vector.shape)))
            update, state = optimizer.update(grads.vector, state, turned(params))
        updates.append(params.with_vector(update))
    np.testing.assert_allclose(updates[0]["0/W"] @ rotation, updates[1]["0/W"], atol=1e-12)
    np.testing.assert_allclose(updates[0]["2/W"], updates[1]["2/W"], atol=1e-12)


@described("stage")
def every_other_feature(units):
    """A stage made from a dense one, of which it keeps what that says of itself."""
    whole = dense(units)

    def forward(params, A_prev, context):
        kept = A_prev * (np.arange(len(A_prev)) % 2)[:, np.newaxis]
        return whole.forward(params, freeze(kept.astype(A_prev.dtype)), context)

    return attrs.evolve(whole, forward=forward)


FIRST = "the network does not begin with a dense stage"
REFUSED = {
    "normalised first": ({"network": describe(serial(batch_norm(), NETWORK))}, FIRST),
    "dropped first": ({"network": describe(serial(dropout(keep_prob=0.9), NETWORK))}, FIRST),
    "an activation": ({"network": describe(serial(relu(), NETWORK))}, FIRST),
    "data that goes on": ({"network": describe(serial(residual(dense(40)), dense(1)))}, FIRST),
    "not what it says": (
        {"network": describe(serial(every_other_feature(3), dense(1)))},
        r"the network's first stage says that it is affine, but does not give W A_prev \+ b",
    ),
    "an l1 penalty": (
        {"penalties": (describe(l2_penalty(1)), describe(l1_penalty(1)))}, "a penalty treats",
    ),
    "too many units": (
        {"network": describe(serial(dense(34), dense(1)))},
        "7 examples and 34 units span more than the 40 features",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "reason"), REFUSED.values(), ids=REFUSED)
def test_rotation_that_would_not_be_exact_is_refused(changes, reason):
    with pytest.raises(BadInput, match=rf"^rotate is true, but {reason}.*leave it out\.$"):
        prepare(recipe_of(**changes), wide_data())
    assert prepare(recipe_of(**{**changes, "rotate": None}), wide_data()).inputs.rotation is None


def test_first_weights_are_those_of_the_innermost_first_stage():
    def place(network):
        slot = first_weights(network, pack(network.init(Key(0), (4,))[0]).layout)
        return slot and (slot.name, slot.shape)

    assert place(serial(serial(dense(3), relu()), dense(1))) == ("0/0/W", (3, 4))
    assert place(dense(2)) == ("W", (2, 4))
    assert place(serial(relu(), dense(2))) is None
    assert place(serial(residual(dense(4)), dense(2))) is None


# Chosen automatically


def test_rotation_is_chosen_if_it_saves_time():
    batch = Batch(Key(1).normal((3000, 50)), wide_data(examples=50).Y)
    recipe = tutorial_recipe(iterations=200)
    assert prepare(recipe, batch).inputs.rotation.basis.shape == (3000, 70)
    assert prepare(attrs.evolve(recipe, rotate=False), batch).inputs.rotation is None
    assert prepare(attrs.evolve(recipe, iterations=2), batch).inputs.rotation is None
    assert prepare(recipe, wide_data(features=4, examples=50)).inputs.rotation is None


def test_the_cost_of_rotation_is_compared_with_its_savings():
    network = tutorial_network((20, 7, 5))
    slot = first_weights(network, pack(network.init(Key(0), (12288,))[0]).layout)
    assert is_worthwhile(slot, 209, iterations=2500, batch=209)
    assert not is_worthwhile(slot, 209, iterations=10, batch=209)
    assert is_worthwhile(slot, 209, iterations=2500, batch=8)
    assert not is_worthwhile(slot, 10_000, iterations=2500, batch=8)


def test_examples_of_another_size_are_refused():
    job = prepare(recipe_of(), wide_data())
    with pytest.raises(BadInput, match=r"^X has shape \(3, 2\), expected \(40, m\)"):
        job.inputs.rotation(np.ones((3, 2)))
    with pytest.raises(BadInput, match=r"^0/W has shape \(3, 40\), expected \(n_out, 10\)"):
        job.inputs.lift(job.inputs.lift(job.state.parameters))


@pytest.mark.slow
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize(
    ("optimizer", "iterations"),
    [
        (gradient_descent(learning_rate=0.0075), 2500),
        (momentum(learning_rate=0.001), 500),
        (nesterov(learning_rate=0.001), 500),
    ],
    ids=["gradient descent", "momentum", "nesterov"],
)
def test_the_photos_with_and_without_rotation(cats_directory, optimizer, iterations, standardize):
    batch = load_data_set(str(cats_directory)).train
    recipe = attrs.evolve(
        tutorial_recipe(),
        standardize=standardize,
        optimizer=describe(optimizer),
        iterations=iterations,
    )
    ends = []
    for rotate in (True, False):
        job = prepare(attrs.evolve(recipe, rotate=rotate), batch)
        ends.append(job.inputs.lift(toolz.last(run(job))[0].parameters))
    here, there = (end.vector for end in ends)
    assert np.linalg.norm(here - there) <= 1e-9 * np.linalg.norm(there)


# Users' parts


def clip(step):
    """Keep each number of the gradient small: another thing in another basis."""
    vector = np.clip(step.grads.vector, -0.05, 0.05)
    return attrs.evolve(step, grads=step.grads.with_vector(vector))


def shorten(step):
    """Keep the whole gradient short, which is the same thing in every basis."""
    vector = step.grads.vector
    factor = min(1.0, 0.05 / np.linalg.norm(vector))
    return attrs.evolve(step, grads=step.grads.with_vector(vector * factor))


def with_part(function, **options):
    return lambda step: step.insert_after("backward", part(**options)(function))


def last_vector(job):
    state, _ = toolz.last(run(job))
    return job.inputs.lift(state.parameters).vector


PAYS = {"iterations": 60, "rotate": None}


def test_a_part_that_is_not_declared_isotropic_prevents_rotation_and_is_named():
    batch, recipe = wide_data(features=900), recipe_of(**PAYS)
    assert prepare(recipe, batch).inputs.rotation is not None
    for change in (with_part(clip), lambda step: step.insert_after("backward", clip)):
        job = prepare(recipe, batch, step=change)
        assert job.inputs.rotation is None
        assert "not rotated, because part 'clip' of the step does not" in job.notes[0]
        # It does the same as the library's own part.
        built_in = recipe_of(chain(clip_by_value(0.05), descend(0.1)), **PAYS)
        own = prepare(built_in, batch)
        assert own.inputs.rotation is None
        assert own.notes == ()
        np.testing.assert_array_equal(last_vector(job), last_vector(own))


def test_a_part_that_treats_all_directions_alike_is_rotated_and_takes_the_same_steps():
    batch, recipe = wide_data(features=900), recipe_of(**PAYS)
    change = with_part(shorten, needs=["grads"], gives=["grads"], isotropic=True)
    job = prepare(recipe, batch, step=change)
    assert job.inputs.rotation is not None
    plain = prepare(attrs.evolve(recipe, rotate=False), batch, step=change)
    np.testing.assert_allclose(last_vector(job), last_vector(plain), atol=1e-10)
    assert job.notes == plain.notes == ()


def test_requested_rotation_is_refused_with_the_parts_name():
    with pytest.raises(BadInput, match=r"^rotate is true, but part 'clip' of the step"):
        prepare(recipe_of(), wide_data(), step=with_part(clip))
    replaced = {"update": lambda s: s.replace("backward", lambda step: step)}
    for change in replaced.values():
        with pytest.raises(BadInput, match=r"^rotate is true, but part 'backward' of the step"):
            prepare(recipe_of(), wide_data(), step=change)
    with pytest.raises(BadInput, match="step returned None, expected a TrainStep"):
        prepare(recipe_of(), wide_data(), step=lambda train_step: None)


def test_a_step_that_is_changed_after_a_rotation_is_refused_with_the_parts_name():
    job = prepare(recipe_of(), wide_data())
    with pytest.raises(BadInput, match=r"part 'clip' does not say.*insert the part in prepare"):
        job.train_step.insert_after("backward", clip)
    foreign = {
        "a step by hand": (rmsprop(), (), "update"),
        "another penalty": (gradient_descent(learning_rate=1), (l1_penalty(1),), "penalties"),
    }
    for optimizer, penalties, name in foreign.values():
        step = make_train_step(NETWORK, job.loss, optimizer, penalties=penalties)
        with pytest.raises(BadInput, match=f"part '{name}' does not say.*trained in a rotated ba"):
            attrs.evolve(job, train_step=step)
    plain = prepare(recipe_of(rotate=False), wide_data())
    attrs.evolve(plain, train_step=plain.train_step.insert_after("backward", clip))
