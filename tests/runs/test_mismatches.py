import numpy as np
import pytest
from small_runs import flipping, recorded, small_recipe

from pydnn.runs import Run
from pydnn.runs.mismatches import Mismatch, ulps_in_words
from pydnn.runs.replay import verify

ONE = np.float64(1)


@pytest.mark.parametrize(
    ("here", "dtype", "ulps"),
    [
        (1 + 2.0**-52, "float64", 1),
        (1 + 2.0**-23, "float64", 2**29),
        (1 + 2.0**-23, "float32", 1),
        (1 + 3 * 2.0**-23, "float32", 3),
        (1 + 2.0**-52, "float32", 0),  # less than one float
        (1e300, "float32", 0x7F800000 - 0x3F800000),  # infinite in float32
        (np.nan, "float32", None),
    ],
)
def test_ulps_are_those_of_the_dtype_that_the_run_is_trained_in(here, dtype, ulps):
    assert Mismatch(0, "cost", ONE, np.float64(here), dtype).ulps == ulps


def test_words_name_the_dtype_unless_it_is_float64():
    assert str(Mismatch(0, "cost", ONE, ONE + 2.0**-22, "float32")).endswith(
        ", 2.38e-07 (2 ulps of float32) apart"
    )
    assert ulps_in_words(0, "float32") == "less than 1 ulp of float32"
    assert ulps_in_words(1) == "1 ulp"


def test_a_float32_run_that_differs_is_measured_in_float32(tmp_path):
    recipe = small_recipe(tmp_path, dtype="float32")
    recorded(tmp_path / "run", recipe, change=flipping(6, bit=20))
    found = [v for v in verify(Run.open(tmp_path / "run")) if v.mismatch]
    assert found[0].measured.quantity == "cost"
    assert found[0].measured.dtype == "float32"
    assert found[0].measured.ulps < 2**20  # in ulps of float64 it is at least 2**29
