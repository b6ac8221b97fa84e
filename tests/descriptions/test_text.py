import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pydnn
from pydnn import BadInput, build
from pydnn.descriptions import builders
from pydnn.descriptions.text import read_description, read_values, write_description

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
def test_writing_and_reading_are_inverse(text, description):
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
def test_one_description_can_be_written_in_several_ways(text, same):
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
    "dense(units=2, units=3)": "gives units twice",
    f"dense(0x{'f' * 6000}())": "'dense(0xffffffff",
    f"dense(0x{'f' * 6000} + 1)": "is not a value: give a number",
    f"dense(x{'.y' * 900})": "is not a value: give a number",
    f"dense({'-' * 80}x.y)": "is not a value: give a number",
    "dense(2, units=3)": "gives units twice",
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


NESTED = {
    "serial": "serial(" * 62 + "relu()" + ")" * 62,
    "residual": "residual(" * 62 + "relu()" + ")" * 62,
    "lists": f"joined({'[' * 60}1{']' * 60})",
    "long texts inside one another": "serial(dense(1000), " * 62 + "relu()" + ")" * 62,
    "many stages": f"serial({'relu(), ' * 9_000}relu())",
}


@pytest.mark.parametrize("text", NESTED.values(), ids=NESTED)
def test_deep_and_broad_descriptions_take_no_longer_than_they_are_long(text):
    begin = time.process_time()
    description = read_description(text)
    assert read_description(write_description(description)) == description
    assert (
        time.process_time() - begin < 3
    )  # writing each line again at each depth would take 2**62 steps


OVERSIZED = {
    "serial 90 deep": ("serial(" * 90 + "relu" + ")" * 90, "more than 64 parts inside one another"),
    "residual 65 deep": ("residual(" * 65 + "relu" + ")" * 65, "more than 64 parts inside"),
    "lists 100 deep": (f"joined({'[' * 100}1{']' * 100})", "more than 64 parts inside one another"),
    "minus signs": (f"dense({'-' * 9_000}1)", "cannot be read (it is nested too deeply)"),
    "names of names": ("a" + ".a" * 9_000, "cannot be read (it is nested too deeply)"),
    "100,000 stages": (f"serial({'relu,' * 100_000})", "has 500,008 characters, expected at most"),
    "11,000 stages": (f"serial({'relu,' * 11_000})", "has more than 10,000 values: simplify it."),
    "11,000 numbers": (f"joined([{'1,' * 11_000}])", "has more than 10,000 values: simplify it."),
    "5,000 digits": (f"dense({'9' * 5_000})", "cannot be read (it has a number that is too long)"),
    "hexadecimal digits": (f"dense(0x{'f' * 9_000})", "has an integer of 36,000 bits in it"),
    "binary digits": (f"dense(-0b{'1' * 2_000})", "has an integer of 2,000 bits in it"),
    "a rate of 400 zeros": (f"adam(learning_rate=1{'0' * 400})", "has an integer of 1,329 bits"),
    "digits in a list": (f"joined([1], starts=[1{'0' * 400}])", "has an integer of 1,329 bits"),
}


@pytest.mark.parametrize(("text", "message"), OVERSIZED.values(), ids=OVERSIZED)
def test_what_is_too_large_is_refused_in_one_short_line(text, message):
    begin = time.process_time()
    for read in (read_description, read_values):
        with pytest.raises(BadInput) as refusal:
            read(text)
        assert message in str(refusal.value)
        assert len(str(refusal.value)) < 300
        assert "\n" not in str(refusal.value)
    assert time.process_time() - begin < 3


def test_python_does_not_warn_about_a_text():
    assert read_values(r"'\d', 'a'") == ["\\d", "a"]


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


def test_modules_may_be_allowed_by_anything_that_can_be_iterated_over():
    text = "serial(a_users.module:tripling(), a_users.module:tripling())"
    assert read_description(text, allow=iter(["a_users"])) == read_description(
        text, allow=["a_users"]
    )
