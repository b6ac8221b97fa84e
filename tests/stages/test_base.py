import attrs
import numpy as np
import pytest

from pydnn import (
    Context,
    GradientTransformation,
    Key,
    Loss,
    Stage,
    adam,
    cosine_decay,
    dense,
    elementwise,
    mean_squared,
    relu,
    serial,
)
from pydnn.parameters import layout_of, leaves
from pydnn.stages import map_stages, tanh
from pydnn.stages.base import into


def test_repr_of_a_part_is_its_builder_call():
    assert repr(dense(3)) == "dense(3)"
    assert repr(mean_squared()) == "mean_squared()"
    assert repr(adam(learning_rate=0.1)) == "adam(learning_rate=0.1)"
    assert repr(cosine_decay(1, steps=5)) == "cosine_decay(1, steps=5)"


def test_flags_of_parts_are_keyword_only():
    stage, loss, optimizer = relu(), mean_squared(), adam()
    functions = (stage.init, stage.forward, stage.backward)
    assert Stage("mine", *functions).name == "mine"
    of_loss = (loss.function, loss.predict, loss.expect_labels, loss.task)
    for make in (
        lambda: Stage("mine", *functions, True),
        lambda: Loss("mine", *of_loss, {}),
        lambda: GradientTransformation(optimizer.init, optimizer.update, dict),
    ):
        with pytest.raises(TypeError, match="positional arguments"):
            make()


def test_a_combinator_that_cannot_be_rebuilt_counts_as_one_stage():
    whole = attrs.evolve(serial(relu(), tanh()), rebuild=None)
    visited = []
    assert map_stages(lambda path, part: visited.append((path, part.name)) or part, whole) is whole
    assert visited == [("", "serial")]


def test_nested_gradients_are_copied_into_the_arrays_of_out():
    network = serial(dense(2), serial(tanh(), dense(3)))
    plain = attrs.evolve(network, backward_into=None)
    params, _ = network.init(Key(1), (4,))
    A, cache = network.forward(params, Key(2).normal((4, 5)), Context())
    dA_prev, grads = network.backward(params, cache, A)
    layout = layout_of(params)
    vector = np.full(layout.size, np.nan)
    copied = into(plain)(params, cache, A, layout.views(vector), True)
    np.testing.assert_array_equal(copied, dA_prev)
    np.testing.assert_array_equal(vector, np.concatenate([g.ravel() for g in leaves(grads)]))


def test_replacing_backward_alone_drops_backward_into():
    stage = dense(2)
    halved = attrs.evolve(
        stage, backward=lambda params, cache, dA: stage.backward(params, cache, dA / 2)
    )
    assert halved.backward_into is None
    assert attrs.evolve(stage, random=True).backward_into is stage.backward_into
    both = attrs.evolve(halved, backward_into=stage.backward_into)
    assert both.backward_into is None  # it belongs to another backward
    network = serial(halved, dense(1))
    params, _ = network.init(Key(1), (4,))
    A, cache = network.forward(params, Key(2).normal((4, 5)), Context())
    layout = layout_of(params)
    vector = np.full(layout.size, np.nan)
    into(network)(params, cache, A, layout.views(vector), False)
    whole = np.full(layout.size, np.nan)
    into(serial(stage, dense(1)))(params, cache, A, layout.views(whole), False)
    first = slice(layout.slots[0].start, layout.slots[1].stop)
    np.testing.assert_array_equal(vector[first], whole[first] / 2)


def test_a_function_that_returns_its_argument_leaves_it_writeable():
    same = elementwise("same", lambda Z, numerics: Z, lambda dA, Z, A, numerics: dA)
    Z = np.ones((2, 3))
    A, cache = same.forward((), Z, Context())
    dA = np.ones((2, 3))
    dA_prev, _ = same.backward((), cache, dA)
    assert Z.flags.writeable
    assert dA.flags.writeable
    assert not A.flags.writeable
    assert not dA_prev.flags.writeable
