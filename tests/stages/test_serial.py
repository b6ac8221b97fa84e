import attrs
import numpy as np
import pytest

from pydnn import BadInput, Context, Key, Stage, dense, elementwise, parallel, relu, serial
from pydnn.numerics import fast
from pydnn.parameters import NO_PARAMS, layout_of
from pydnn.stages import EVALUATION, identity, tanh
from pydnn.stages.base import into


def test_each_stage_takes_the_output_of_the_one_before_it():
    double = elementwise("double", lambda Z, n: Z * 2, lambda dA, Z, A, n: dA * 2)
    add = elementwise("add", lambda Z, n: Z + 1, lambda dA, Z, A, n: dA + 0)
    A, cache = serial(double, add).forward(((), ()), np.array([[3.0]]), EVALUATION)
    assert A == 7
    dA_prev, grads = serial(double, add).backward(((), ()), cache, np.array([[1.0]]))
    assert dA_prev == 2
    assert grads == (NO_PARAMS, NO_PARAMS)


def test_each_stage_is_initialized_from_its_own_key():
    params, shape = serial(dense(2), relu(), dense(2)).init(Key(1), (2,))
    assert shape == (2,)
    assert params[1] == NO_PARAMS
    np.testing.assert_array_equal(params[0].W, Key(1).at(0, "W").normal((2, 2)))
    assert params[0] != params[2]


def noisy(name="noisy"):
    def forward(params, A, context):
        return A + context.key.normal(A.shape), None

    return Stage(
        name,
        lambda key, shape: ((), shape),
        forward,
        lambda params, cache, dA: (dA, ()),
        random=True,
    )


def test_random_stages_draw_from_keys_of_their_own_place():
    network = serial(noisy(), serial(tanh(), noisy()))
    assert network.random
    assert not serial(tanh()).random
    key, X = Key(9), np.zeros((1, 3))
    A, _ = network.forward(((), ((), ())), X, Context(training=True, key=key))
    expected = np.tanh(key.at(0).normal((1, 3))) + key.at(1, 1).normal((1, 3))
    np.testing.assert_array_equal(A, expected)


@pytest.mark.parametrize("combinator", [serial, parallel])
def test_a_stage_that_needs_no_place_gets_the_context_unchanged(combinator):
    contexts = []

    def forward(params, A, context):
        contexts.append(context)
        return A, None

    stage = attrs.evolve(identity(), forward=forward)
    context = Context(training=True, key=Key(9))
    combinator(stage, stage).forward(((), ()), np.ones((1, 3)), context)
    assert all(received is context for received in contexts)
    assert len(contexts) == 2


def test_backward_ends_at_the_first_stage_with_parameters():
    products = []

    def counted(a, b, *, out=None):
        products.append((a.shape, b.shape))
        return fast.matmul(a, b, out=out)

    context = Context(numerics=attrs.evolve(fast, matmul=counted))
    network = serial(tanh(), dense(2), relu(), dense(1))
    params, _ = network.init(Key(1), (7,))
    A, cache = network.forward(params, Key(2).normal((7, 4)), context)
    products.clear()
    out = layout_of(params).views(np.empty(21))
    assert into(network)(params, cache, np.ones_like(A), out, False) is None
    # dW and dA_prev of the upper layer, dW of the lower one: three products instead of four.
    assert products == [((1, 4), (4, 2)), ((2, 1), (1, 4)), ((2, 4), (4, 7))]


@pytest.mark.parametrize("combinator", [serial, parallel])
def test_backward_into_may_return_none_only_if_its_result_is_not_needed(combinator):
    mine = attrs.evolve(dense(1), backward_into=lambda params, cache, dA, out, needs_dA_prev: None)
    network = combinator(combinator(mine), mine)
    params, _ = network.init(Key(1), (1,))
    A, cache = network.forward(params, np.ones((1, 2)), EVALUATION)
    out = layout_of(params).views(np.empty(4))
    with pytest.raises(BadInput, match=r"stage \d \(dense\): backward_into returned None, expecte"):
        into(network)(params, cache, A, out, True)
    alone, cache = combinator(mine), combinator(mine).forward(params[0], A[:1], EVALUATION)[1]
    assert into(alone)(params[0], cache, A[:1], out[0], False) is None


def test_gradients_of_wrong_shapes_are_refused_with_the_stages_name():
    bad = Stage(
        "mine", dense(2).init, dense(2).forward,
        lambda p, c, dA: (None, attrs.evolve(p, W=np.ones((1, 1)), b=np.ones((1, 1)))),
    )  # fmt: skip
    network = serial(bad)
    params, _ = network.init(Key(1), (3,))
    A, cache = network.forward(params, np.ones((3, 1)), EVALUATION)
    out = ((np.empty((2, 3)), np.empty((2, 1))),)
    with pytest.raises(BadInput, match=r"gradients of stage mine have shapes .*\(2, 3\), \(2, 1\)"):
        into(network)(params, cache, A, out, True)


def test_errors_of_a_stage_begin_with_its_number_and_name():
    with pytest.raises(BadInput, match=r"^stage 1 \(serial\): stage 0 \(dense\): examples have"):
        serial(relu(), serial(dense(1))).init(Key(1), (2, 2, 2))
    network = serial(dense(2), dense(2))
    params, _ = network.init(Key(1), (3,))
    with pytest.raises(BadInput, match=r"^stage 0 \(dense\): A_prev has shape \(4, 1\)"):
        network.forward(params, np.ones((4, 1)), EVALUATION)


def test_an_empty_network_and_a_builder_instead_of_a_stage_are_refused():
    with pytest.raises(BadInput, match="serial has no stages"):
        serial()
    with pytest.raises(BadInput, match="as stage 1, expected a Stage"):
        serial(relu(), relu)
