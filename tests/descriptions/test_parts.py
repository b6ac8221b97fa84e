import copy
import multiprocessing
import pickle

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn import (
    BadInput,
    Key,
    adam,
    batch_norm,
    cosine_decay,
    dense,
    dropout,
    elementwise,
    full_batch,
    l2_penalty,
    mean_squared,
    mini_batches,
    relu,
    residual,
    serial,
    sigmoid_cross_entropy,
    warm_up,
)
from pydnn.descriptions.builders import build, builders_of, describe, described
from pydnn.descriptions.text import read_description
from pydnn.stages import EVALUATION, Stage, tanh
from pydnn.stages.initializers import he_normal, tutorial, zeros

NETWORK = serial(
    dense(20, initializer=zeros()), batch_norm(), tanh(), dropout(keep_prob=0.5), dense(1)
)
PARTS = [
    relu(),
    NETWORK,
    residual(dense(3), relu()),
    adam(learning_rate=warm_up(5, then=cosine_decay(0.1, steps=50))),
    cosine_decay(1, steps=5),
    sigmoid_cross_entropy(label_smoothing=0.1),
    l2_penalty(0.1, only=["W", "b"]),
    mini_batches(32, shuffle=False),
    full_batch(),
    he_normal(),
    tutorial(),
]


@described("stage")
def double() -> Stage:
    return elementwise("double", lambda Z, _: 2 * Z, lambda dA, Z, A, _: 2 * dA)


def test_a_part_prints_as_the_call_that_builds_it():
    assert repr(dense(20)) == "dense(20)"
    assert repr(l2_penalty(0.1, only=("W", "b"))) == "l2_penalty(0.1, only=['W', 'b'])"
    assert repr(NETWORK) == (
        "serial(\n"
        "    dense(20, initializer=zeros()),\n"
        "    batch_norm(),\n"
        "    tanh(),\n"
        "    dropout(keep_prob=0.5),\n"
        "    dense(1),\n"
        ")"
    )
    assert repr(double()) == f"{__name__}:double()"


def test_a_part_that_no_builder_made_prints_its_class_and_name():
    plain = elementwise("plain", lambda Z, _: Z, lambda dA, Z, A, _: dA)
    assert repr(plain) == "Stage(name='plain')"
    assert repr(serial(dense(2), plain)) == "serial(dense(2), Stage(name='plain'))"
    assert repr(attrs.evolve(mini_batches(3))) == "Batching()"


def test_options_that_a_recipe_cannot_hold_are_still_printed():
    @described("stage")
    def odd(value):
        return relu()

    name = odd(0).builder.name
    assert repr(odd(float("inf"))) == f"{name}(\n    inf,\n)"
    assert repr(odd(np.arange(2))) == f"{name}(\n    array([0, 1]),\n)"


@pytest.mark.parametrize("part", PARTS, ids=repr)
def test_the_call_that_is_printed_makes_an_equal_part(part):
    again = build(read_description(repr(part)))
    assert again == part
    assert hash(again) == hash(part)
    assert again is not part


def test_parts_are_equal_if_their_descriptions_are():
    assert dense(3) == dense(3)
    assert dense(3) != dense(4)
    assert dense(3) == dense(units=3)
    assert l2_penalty(1, only=["b"]) == l2_penalty(1, only=("b",))
    assert serial(dense(3), relu()) == serial(dense(3), relu())
    assert serial(dense(3), relu()) != serial(relu(), dense(3))
    assert relu() != mean_squared()
    assert relu() != "relu"
    assert len({dense(3), dense(3), dense(4)}) == 2


def test_a_changed_part_is_equal_to_itself_alone():
    changed = attrs.evolve(dense(3), forward=lambda params, A, context: (A, None))
    assert changed != dense(3)
    assert changed == changed
    assert serial(changed) == serial(changed)
    assert serial(changed) != serial(attrs.evolve(changed))
    assert hash(changed) == hash(changed)
    with pytest.raises(BadInput, match="cannot be described"):
        describe(changed)


def test_options_that_cannot_be_compared_make_parts_equal_to_themselves_alone():
    @described("stage")
    def odd(value):
        return relu()

    part = odd(np.arange(2))
    assert part == part
    assert part != odd(np.arange(2))
    assert hash(part) == hash(part)


@pytest.mark.parametrize("part", [*PARTS, double()], ids=repr)
def test_a_part_travels_in_a_pickle_as_the_call_that_makes_it(part):
    there = pickle.loads(pickle.dumps(part))
    assert there == part
    assert type(there) is type(part)
    assert there.builder is part.builder


@given(st.integers(1, 50), st.sampled_from([zeros(), he_normal()]), st.booleans())
def test_every_dense_layer_comes_back_from_its_pickle(units, initializer, inside):
    part = dense(units, initializer=initializer)
    part = serial(part, relu()) if inside else part
    assert pickle.loads(pickle.dumps(part)) == part


def test_every_builder_is_found_again_by_pickle():
    for builder in builders_of():
        if ":" not in builder.name:
            assert pickle.loads(pickle.dumps(builder.function)) is builder.function


def test_a_part_is_its_own_copy():
    for part in (NETWORK, attrs.evolve(relu())):
        assert copy.copy(part) is part
        assert copy.deepcopy([part])[0] is part


def test_a_part_that_no_builder_made_cannot_be_pickled():
    plain = elementwise("plain", lambda Z, _: Z, lambda dA, Z, A, _: dA)
    for part in (plain, serial(dense(2), plain), [plain]):
        with pytest.raises(
            BadInput, match=r"Stage\(name='plain'\) cannot be pickled, since it was not made by"
        ):
            pickle.dumps(part)


def test_a_part_of_a_builder_inside_a_function_cannot_be_pickled():
    @described("stage")
    def inner():
        return relu()

    with pytest.raises(
        BadInput, match=r"inner\(…\) cannot be pickled, since its builder is inside"
    ):
        pickle.dumps(inner())


def output_of_ones(network):
    params, _ = network.init(Key(3), (4,))
    return network.forward(params, np.ones((4, 2)), EVALUATION)[0]


@pytest.mark.slow  # since the process imports all of pydnn; tests of pickles are above
def test_a_spawned_process_computes_with_a_part_of_this_one():
    network = serial(dense(20, initializer=zeros()), tanh(), dense(1))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(output_of_ones, [network])
    np.testing.assert_array_equal(there, output_of_ones(network))


def test_options_without_names_are_refused_when_a_builder_is_described():
    def keywords(**options):
        return dense(1)

    def without_names(units, /):
        return dense(units)

    def behind(units, *stages):
        return dense(units)

    for builder, shown in (
        (keywords, r"\*\*options"),
        (without_names, "units"),
        (behind, "stages"),
    ):
        with pytest.raises(BadInput, match=shown):
            described("stage")(builder)
