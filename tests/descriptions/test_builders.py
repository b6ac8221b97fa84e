import contextlib
import inspect
import json

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pydnn
from pydnn import (
    BadInput,
    adam,
    build,
    dense,
    describe,
    described,
    elementwise,
    gelu,
    l2_penalty,
    mini_batches,
    relu,
    serial,
    sigmoid_cross_entropy,
)
from pydnn.descriptions import builders as registry
from pydnn.descriptions.builders import builders_of
from pydnn.descriptions.parts import Builder
from pydnn.optimizers import accumulate, look
from pydnn.optimizers.schedules import constant_rate, joined
from pydnn.stages import tanh
from pydnn.stages.initializers import he_normal, normal, tutorial, zeros


@described("stage")
def doubling(*, times: int = 2):
    return elementwise("doubling", lambda Z, n: Z * times, lambda dA, Z, A, n: dA * times)


DESCRIBED = {
    "positional option": (dense(20), {"dense": {"units": 20}}),
    "named option": (dense(units=20), {"dense": {"units": 20}}),
    "default left out": (dense(20, initializer=he_normal()), {"dense": {"units": 20}}),
    "part of a part": (
        dense(2, initializer=normal(scale=0.5)),
        {"dense": {"units": 2, "initializer": {"normal": {"scale": 0.5}}}},
    ),
    "several": (serial(relu(), tanh()), {"serial": {"stages": [{"relu": {}}, {"tanh": {}}]}}),
    "a user's own": (doubling(times=3), {f"{__name__}:doubling": {"times": 3}}),
    "weights": (tutorial(seed=2), {"tutorial": {"seed": 2}}),
    "NumPy's integer": (dense(np.int64(20)), {"dense": {"units": 20}}),
    "NumPy's number": (normal(scale=np.float32(0.5)), {"normal": {"scale": 0.5}}),
    "NumPy's truth value": (gelu(approximate=np.True_), {"gelu": {"approximate": True}}),
    "NumPy's numbers in a list": (
        joined([np.float64(1.0), 2.0], starts=(np.int8(3),)),
        {"joined": {"schedules": [1.0, 2.0], "starts": [3]}},
    ),
}


@pytest.mark.parametrize(("part", "description"), DESCRIBED.values(), ids=DESCRIBED)
def test_a_part_is_described_and_built_again(part, description):
    assert describe(part) == description
    again = json.loads(json.dumps(describe(part)))  # as read from a file
    if ":" not in next(iter(description)):
        assert describe(build(again)) == description


def test_a_users_builder_is_found_again_once_its_module_is_imported():
    stage = build({f"{__name__}:doubling": {"times": 5}})
    assert stage.forward((), np.array([[3.0]]), pydnn.stages.EVALUATION)[0] == 15.0


networks = st.recursive(
    st.builds(dense, st.integers(1, 5)) | st.just(relu()) | st.just(tanh()),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda parts: serial(*parts)),
    max_leaves=6,
)


@given(networks)
def test_round_trip_of_any_network(network):
    assert describe(build(describe(network))) == describe(network)


REFUSED = {
    "unknown name": ({"dens": {}}, "there is no builder 'dens': did you mean 'dense'?"),
    "nothing like it": (
        {"zzq": {}},
        "and `pydnn parts` lists all ",
    ),
    "unknown option": ({"dense": {"unit": 1}}, "there is no option of dense 'unit': did you mean"),
    "missing option": (
        {"dense": {}},
        "dense cannot be built: missing a required argument: 'units'",
    ),
    "wrong value": ({"dense": {"units": -1}}, "units is -1, expected an integer of at least 1"),
    "no description": ({"dense": 3}, "is not a description"),
    "two names": ({"relu": {}, "tanh": {}}, "is not a description"),
    "missing module": (
        {"no_such_module:f": {}},
        "there is no part builder 'no_such_module:f': import its module first",
    ),
    "any function": ({"os:system": {"command": "true"}}, "there is no part builder 'os:system'"),
}


@pytest.mark.parametrize(("description", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_built_is_refused(description, message):
    with pytest.raises(BadInput) as refusal:
        build(description)
    assert message in str(refusal.value)


def test_a_part_of_another_family_is_refused():
    with pytest.raises(BadInput, match="there is no loss 'relu': choose one of huber, mean_abs"):
        build({"relu": {}}, family="loss")


def test_what_has_no_plain_description_is_refused():
    with pytest.raises(BadInput, match="cannot be described"):
        describe(attrs.evolve(relu()))
    own = attrs.evolve(he_normal())
    with pytest.raises(BadInput, match=r"cannot be described"):
        describe(dense(1, initializer=own))


# What a recipe may name where a part, a list or a text belongs.
OF_ANY_KIND = [
    relu(), adam(), zeros(), sigmoid_cross_entropy(), l2_penalty(1), constant_rate(0.1),
    mini_batches(2), tutorial(), "W", "", None, True, -1, 0.5, 1e308, [], ["q"], [None], [[1]],
    [relu()], {"relu": {}},
]  # fmt: skip
NEEDED = {
    "units": 2, "keep_prob": 0.5, "size": 4, "value": 0.1, "learning_rate": 0.1, "limit": 1.0,
    "rate": 0.1, "inner": adam(), "batches": 2, "factor": 0.5, "strength": 0.1, "initial": 0.1,
    "steps": 3, "decay": 0.5, "every": 2, "peak": 0.1, "then": 0.1, "schedules": [0.1, 0.2],
    "starts": [2], "name": "x", "variance": 0.1, "filters": 2, "places": 1, "words": 5, "heads": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "builder", [b for b in builders_of() if ":" not in b.name], ids=lambda builder: builder.name
)
def test_an_option_of_any_kind_is_accepted_or_refused_with_a_reason(builder):
    needed = {
        name: NEEDED[name]
        for name, option in builder.options.items()
        if option.default is option.empty and name != builder.several
    }
    for name in builder.options:
        for value in OF_ANY_KIND:
            with contextlib.suppress(BadInput):
                if name == builder.several:
                    builder.function(value, **needed)
                else:
                    builder.function(**{**needed, name: value})


@described("stage")
def nothing():
    return None


@described("stage")
def a_number():
    return 5


@described("loss")
def undescribed():
    return lambda Z, Y: (0.0, Z)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dense(2, initializer="zeros"), "initializer of dense is 'zeros', expected a part"),
        (lambda: dense(2, initializer=relu()), "initializer of dense is .*kind Initializer"),
        (lambda: accumulate(relu(), batches=2), "inner of accumulate is .*GradientTransformation"),
        (lambda: l2_penalty(1, only=None), "only of l2_penalty is None, expected a list"),
        (lambda: joined(0.1, starts=[]), "schedules of joined is 0.1, expected a list"),
        (lambda: look(3), "name of look is 3, expected a text"),
        (nothing, "nothing made None, expected a part of family 'stage'"),
        (a_number, "a_number made 5, expected a part of family 'stage'"),
        (undescribed, "undescribed made <function .*, expected a part of family 'loss'"),
    ],
)
def test_options_and_results_of_another_kind_are_refused(call, message):
    with pytest.raises(BadInput, match=message):
        call()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SystemExit(0), r"SystemExit: 0"),
        (ZeroDivisionError("no\nluck"), r"ZeroDivisionError: no luck"),
        (BadInput("units is 0, expected more: give more."), None),
        (KeyboardInterrupt(), None),
    ],
    ids=repr,
)
def test_what_a_users_builder_raises_becomes_one_line(monkeypatch, error, reason):
    def fails():
        raise error

    builder = Builder("mine:fails", "stage", inspect.signature(fails), fails)
    monkeypatch.setitem(registry._BUILDERS, ("stage", "mine:fails"), builder)
    if reason is None:
        with pytest.raises(type(error)) as raised:
            build({"mine:fails": {}})
        assert raised.value is error
    else:
        with pytest.raises(BadInput, match=rf"mine:fails cannot be built \({reason}\): fix it\."):
            build({"mine:fails": {}})
