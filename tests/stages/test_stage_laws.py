"""One table of all stages, and the laws that each of them keeps."""

import attrs
import numpy as np
import pytest
from helpers import arrays_in, assert_gradients_match, frozen, numeric_gradient

from pydnn import (
    Context,
    Key,
    batch_norm,
    dense,
    describe,
    dropout,
    elu,
    gelu,
    identity,
    layer_norm,
    leaky_relu,
    map_stages,
    parallel,
    relu,
    residual,
    selu,
    serial,
    sigmoid,
    silu,
    softplus,
    stages,
    tanh,
)
from pydnn.initializers import normal, xavier_normal
from pydnn.packing import layout_of, leaves
from pydnn.stages.base import gradients_layout, thrifty_backward

STAGES = {
    "dense": dense(4),
    "dense, one unit": dense(1, initializer=xavier_normal()),
    "identity": identity(),
    "relu": relu(),
    "leaky relu": leaky_relu(slope=0.2),
    "elu": elu(alpha=0.7),
    "selu": selu(),
    "gelu": gelu(),
    "gelu, approximate": gelu(approximate=True),
    "silu": silu(),
    "softplus": softplus(),
    "tanh": tanh(),
    "sigmoid": sigmoid(),
    "dropout": dropout(keep_prob=0.6),
    "batch norm": batch_norm(),
    "layer norm": layer_norm(),
    "serial": serial(dense(4), tanh(), dense(2), sigmoid()),
    "serial in serial": serial(relu(), serial(dense(3, initializer=normal(scale=1)), tanh())),
    "residual": residual(dense(4), tanh(), dense(3)),
    "parallel": parallel(dense(2), serial(tanh(), dense(3)), identity()),
    "everything in everything": serial(
        parallel(residual(batch_norm(), dense(3), dropout(keep_prob=0.5)), layer_norm()),
        residual(layer_norm(), dense(6), batch_norm(decay=0.5)),
        dense(2),
    ),
}
N_IN, M = 3, 5
every_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
in_both = pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])


def at(stage, dtype=np.float64):
    """Parameters, an input and a gradient of the output for a stage, all read-only."""
    key = Key(4)
    params, (n_out,) = stage.init(key, (N_IN,))
    layout = layout_of(params)
    vector = key.at("parameters").normal(layout.size).astype(dtype)
    params = layout.packed(frozen(vector)).tree
    A_prev = frozen(key.at("input").normal((N_IN, M)).astype(dtype))
    dA = frozen(key.at("gradient").normal((n_out, M)).astype(dtype))
    return params, A_prev, dA


def context_of(stage, params, training):
    """A context in which the stage has all that it declares to need."""
    if training:
        return Context(training=True, key=Key(8))
    if stage.statistics is None:
        return Context()
    layout = layout_of(stage.statistics.init(params))
    dtype = next(leaves(params)).dtype
    numbers = 0.5 + Key(5).uniform(layout.size)  # a variance is positive
    return Context(statistics=layout.tree(frozen(numbers.astype(dtype))))


def run(stage, params, A_prev, dA, training=False):
    A, cache = stage.forward(params, A_prev, context_of(stage, params, training))
    dA_prev, grads = stage.backward(params, cache, dA)
    return A, cache, dA_prev, grads


def test_the_table_has_every_stage():
    def names(description):
        for name, options in description.items():
            yield name
            for part in options.get("stages", ()):
                yield from names(part)

    table = {name for stage in STAGES.values() for name in names(describe(stage))}
    builders = {name for name in stages.__all__ if hasattr(getattr(stages, name), "family")}
    assert table == builders


@every_stage
@in_both
def test_shapes_are_those_promised(stage, training):
    params, A_prev, dA = at(stage)
    A, _, dA_prev, grads = run(stage, params, A_prev, dA, training)
    assert A.shape == dA.shape
    assert dA_prev.shape == A_prev.shape
    assert [g.shape for g in leaves(grads)] == [p.shape for p in leaves(params)]


@every_stage
@in_both
def test_every_gradient_is_that_of_central_differences(stage, training):
    params, A_prev, dA = at(stage)
    _, _, dA_prev, grads = run(stage, params, A_prev, dA, training)
    context = context_of(stage, params, training)

    def value(params, A_prev):
        return float((stage.forward(params, A_prev, context)[0] * dA).sum())

    numeric = numeric_gradient(lambda X: value(params, X), np.array(A_prev))
    assert_gradients_match(dA_prev, numeric, "dA_prev")
    layout = layout_of(params)
    vector = np.concatenate([np.ravel(p) for p in leaves(params)] or [np.empty(0)])
    numeric = numeric_gradient(lambda v: value(layout.packed(v).tree, A_prev), vector)
    whole = np.abs(numeric).max(initial=0.0)
    for slot, gradient in zip(layout.slots, leaves(grads), strict=True):
        expected = numeric[slot.start : slot.stop].reshape(slot.shape)
        # Before a batch normalisation a bias changes nothing: its gradient is 0 but for rounding.
        if np.abs(expected).max() > 1e-8 * whole:
            assert_gradients_match(gradient, expected, slot.name)
        else:
            np.testing.assert_allclose(gradient, 0, atol=1e-12 * whole)


@every_stage
@in_both
def test_nothing_is_changed_and_nothing_writable_is_handed_out(stage, training):
    params, A_prev, dA = at(stage)
    before = [a.copy() for a in arrays_in((params, A_prev, dA))]
    state = np.random.get_state()  # noqa: NPY002 - that it is left alone is what is tested
    outputs = run(stage, params, A_prev, dA, training)
    stage.init(Key(0), (N_IN,))
    for old, now in zip(before, arrays_in((params, A_prev, dA)), strict=True):
        np.testing.assert_array_equal(old, now)
    assert not any(array.flags.writeable for array in arrays_in(outputs))
    for old, now in zip(state, np.random.get_state(), strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(old, now)


@every_stage
@in_both
def test_a_cache_keeps_no_array_that_its_caller_can_write_to(stage, training):
    params, A_prev, dA = at(stage)
    A_prev, dA = np.array(A_prev), np.array(dA)  # writable
    assert not any(a.flags.writeable for a in arrays_in(run(stage, params, A_prev, dA, training)))
    assert A_prev.flags.writeable
    assert dA.flags.writeable


@every_stage
@in_both
def test_the_same_call_gives_the_same_bits_whatever_the_memory_order(stage, training):
    params, A_prev, dA = at(stage)
    first = [a.tobytes() for a in arrays_in(run(stage, params, A_prev, dA, training))]
    assert first == [a.tobytes() for a in arrays_in(run(stage, params, A_prev, dA, training))]
    strided = np.repeat(A_prev, 2, axis=1)[:, ::2]
    for other in (np.asfortranarray(A_prev), strided):
        for ours, theirs in zip(
            arrays_in(run(stage, params, A_prev, dA, training)),
            arrays_in(run(stage, params, other, dA, training)),
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@every_stage
@in_both
def test_float32_stays_float32(stage, training):
    outputs = run(stage, *at(stage, np.float32), training)
    assert {array.dtype for array in arrays_in(outputs)} == {np.dtype(np.float32)}


@every_stage
def test_examples_do_not_mix_outside_of_training(stage):
    params, A_prev, _ = at(stage)
    context = context_of(stage, params, training=False)
    whole, _ = stage.forward(params, A_prev, context)
    single = [stage.forward(params, A_prev[:, [i]], context)[0] for i in range(M)]
    np.testing.assert_allclose(whole, np.concatenate(single, axis=1), rtol=1e-12)


@every_stage
def test_training_changes_nothing_where_nothing_is_declared_to(stage):
    params, A_prev, _ = at(stage)
    outputs = [
        stage.forward(params, A_prev, context_of(stage, params, training))[0]
        for training in (False, True)
    ]
    declared = stage.random or stage.statistics is not None
    assert np.array_equal(*outputs) != declared


@every_stage
def test_another_key_changes_what_is_declared_to_be_random_and_nothing_else(stage):
    params, A_prev, _ = at(stage)
    drawn = [
        stage.forward(params, A_prev, Context(training=True, key=Key(seed)))[0] for seed in (1, 2)
    ]
    assert np.array_equal(*drawn) != stage.random


@every_stage
@in_both
def test_what_a_thrifty_stage_fills_is_what_it_would_have_made(stage, training):
    params, A_prev, dA = at(stage)
    _, cache, dA_prev, grads = run(stage, params, A_prev, dA, training)
    layout = layout_of(params)
    vector = np.full(layout.size, np.nan)
    given, nothing = thrifty_backward(stage)(params, cache, dA, out=layout.views(vector))
    np.testing.assert_array_equal(given, dA_prev)
    assert nothing is None
    assert gradients_layout(stage, layout).tree(vector) == grads
    none, _ = thrifty_backward(stage)(params, cache, dA, wants_dA_prev=False)
    assert none is None or not stage.thrifty


@every_stage
def test_a_network_can_be_taken_apart_and_put_together_again(stage):
    seen = []

    def same(path, part):
        seen.append((path, part.name))
        return attrs.evolve(part)

    again = map_stages(same, stage)
    params, A_prev, dA = at(stage)
    expected, found = run(stage, params, A_prev, dA, True), run(again, params, A_prev, dA, True)
    for ours, theirs in zip(arrays_in(expected), arrays_in(found), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert describe(again) == describe(stage)
    paths = [path for path, _ in seen]
    for slot in layout_of(params).slots:
        assert any(slot.name.startswith(path) for path in paths)
