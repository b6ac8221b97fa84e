import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pydnn
from pydnn import BadInput, build, builders
from pydnn.notation import read_description, read_values, write_description

MODULE = """
from pydnn import described, elementwise

@described("stage")
def tripling(*, times: float = 3):
    return elementwise("tripling", lambda Z, n: Z * times, lambda dA, Z, A, n: dA * times)
"""


@pytest.fixture(autouse=True)
def a_users_module(monkeypatch, tmp_path):
    (tmp_path / "a_users").mkdir()
    (tmp_path / "a_users" / "module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("a_users", "a_users.module"):
        sys.modules.pop(name, None)


WRITTEN = {
    "dense(20)": {"dense": {"units": 20}},
    "relu()": {"relu": {}},
    "adam(learning_rate=0.001)": {"adam": {"learning_rate": 0.001}},
    "serial(dense(2), relu())": {"serial": {"stages": [{"dense": {"units": 2}}, {"relu": {}}]}},
    "dense(2, initializer=normal(scale=0.5))": {
        "dense": {"units": 2, "initializer": {"normal": {"scale": 0.5}}}
    },
    "chain(scale_layers('0', 'b', factor=0.1), descend(step_decay(1, factor=0.5, every=9)))": {
        "chain": {
            "parts": [
                {"scale_layers": {"names": ["0", "b"], "factor": 0.1}},
                {
                    "descend": {
                        "learning_rate": {"step_decay": {"initial": 1, "factor": 0.5, "every": 9}}
                    }
                },
            ]
        }
    },
    "joined([1, constant_rate(0.5)], starts=[3])": {
        "joined": {"schedules": [1, {"constant_rate": {"value": 0.5}}], "starts": [3]}
    },
    "average_parameters(decay=None)": {"average_parameters": {"decay": None}},
    "mini_batches(32, keep_last=False)": {"mini_batches": {"size": 32, "keep_last": False}},
    "leaky_relu(slope=-0.1)": {"leaky_relu": {"slope": -0.1}},
    "a_users.module:tripling(times=4)": {"a_users.module:tripling": {"times": 4}},
    "serial(a_users.module:tripling())": {"serial": {"stages": [{"a_users.module:tripling": {}}]}},
}


@pytest.mark.parametrize(("text", "description"), WRITTEN.items(), ids=WRITTEN)
def test_what_is_written_is_read_and_the_other_way_round(text, description):
    assert read_description(text, allow=["a_users"]) == description
    assert write_description(description) == text
    build(description)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("relu", "relu()"),
        ("gelu(approximate=true)", "gelu(approximate=True)"),
        ("mini_batches(8, shuffle=false)", "mini_batches(8, shuffle=False)"),
        ("dense(units=20)", "dense(20)"),
        ("  serial(\n  relu, tanh,\n)\n", "serial(relu(), tanh())"),
        ("serial(a_users.module:tripling)", "serial(a_users.module:tripling())"),
        ("decay_weights(1, only=('W',))", "decay_weights(1, only=['W'])"),
    ],
)
def test_other_ways_to_write_the_same(text, same):
    allow = ["a_users.module"]
    assert read_description(text, allow=allow) == read_description(same, allow=allow)


def test_a_long_network_has_a_line_for_each_stage():
    text = write_description(pydnn.describe(pydnn.serial(*[pydnn.dense(1000)] * 9)))
    assert text.splitlines() == ["serial(", *["    dense(1000),"] * 9, ")"]
    assert read_description(text)["serial"]["stages"] == [{"dense": {"units": 1000}}] * 9


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=1e-300))
def test_every_number_is_read_with_all_its_bits(rate):
    description = {"adam": {"learning_rate": rate}}
    assert read_description(write_description(description)) == description


def test_no_two_families_have_a_builder_of_one_name():
    names = [name for _, name in builders._BUILDERS]
    assert sorted(set(names)) == sorted(names)


REFUSED = {
    "dense(20": "'dense(20' cannot be read",
    "": "cannot be read",
    "3": "'3' is not a call of a builder: write it like a call, e.g. adam(learning_rate=0.01)",
    "dens(20)": "there is no builder 'dens': did you mean 'dense'?",
    "dense(20, 30)": "dense got 30 without a name: name its options, which are units, initializer",
    "relu(1)": "relu got 1 without a name: name its options, which are none",
    "dense(2 + 3)": "'2 + 3' is not a value: give a number",
    "dense(**x)": "has ** in it",
    "dense(open('f'))": "there is no builder 'open'",
    "(lambda: 1)()": "is not a call of a builder",
    "dense(x.y)": "'x.y' is not a value",
    "dense(1e999)": "units is inf",
    "os:system('true')": "os:system is code outside pydnn",
    "serial(" * 500 + ")" * 500: "",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.items(), ids=[t[:20] for t in REFUSED])
def test_what_cannot_be_read_is_refused_in_one_line(text, message):
    with pytest.raises(BadInput) as refusal:
        build(read_description(text))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_part_of_another_family_is_refused():
    with pytest.raises(BadInput, match="there is no loss 'relu'"):
        read_description("relu()", family="loss")
    with pytest.raises(BadInput, match="cannot be written"):
        write_description({"dense": {"units": float("inf")}})


def test_values_are_listed_with_commas_between():
    assert read_values("0.1, -2,true") == [0.1, -2, True]
    assert read_values("relu, dense(3)") == [{"relu": {}}, {"dense": {"units": 3}}]
    assert read_values("[1, 2], 'a,b'") == [[1, 2], "a,b"]
    assert read_values("a_users.module:tripling(times=2)", allow=["a_users"]) == [
        {"a_users.module:tripling": {"times": 2}}
    ]
    for text, message in (
        ("", "'' lists no values: give values with commas between"),
        ("1, (", r"'1, \(' cannot be read"),
        ("1] + [2", "is not a value"),
        ("nothing", "there is no builder 'nothing'"),
    ):
        with pytest.raises(BadInput, match=message):
            read_values(text)
