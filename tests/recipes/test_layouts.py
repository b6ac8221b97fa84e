import pytest
from own_parts import mixing

from pydnn.checks import BadInput
from pydnn.descriptions.builders import describe, described, find_builder
from pydnn.recipes.layouts import without_weights
from pydnn.stages.activations import relu
from pydnn.stages.dense import dense
from pydnn.stages.initializers import normal
from pydnn.stages.serial import serial


def test_every_option_declared_as_an_initializer_is_replaced():
    """Also where the description leaves them out, and in combinators."""
    network = serial(dense(3, initializer=normal()), relu(), serial(mixing(2), dense(1)))
    zeros = {"zeros": {}}
    inner = [
        {"own_parts:mixing": {"units": 2, "start": zeros}},
        {"dense": {"units": 1, "initializer": zeros}},
    ]
    assert without_weights(describe(network)) == {
        "serial": {
            "stages": [
                {"dense": {"units": 3, "initializer": zeros}},
                {"relu": {}},
                {"serial": {"stages": inner}},
            ]
        }
    }


def test_an_option_that_a_builder_does_not_have_is_refused():
    with pytest.raises(BadInput, match=r"option of .*start"):

        @described("stage", drawn_by=["start"])
        def block(units):
            return dense(units)

    assert find_builder("dense").drawn_by == ("initializer",)
