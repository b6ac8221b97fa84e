"""What an arithmetic says of itself."""

import attrs
import numpy as np
import pytest

from pydnn.checks import BadInput
from pydnn.numerics import fast, portable
from pydnn.numerics.portable import platform_checks


def test_an_arithmetic_says_whether_its_bits_are_those_of_every_machine():
    assert portable.exact
    assert not fast.exact
    assert attrs.evolve(portable, norm=fast.norm).exact  # also with another function


def test_only_exact_arithmetic_refuses_a_process_that_would_change_its_bits(monkeypatch):
    monkeypatch.setattr(platform_checks, "pointer_bits", lambda: 32)
    fast.expect_sound()
    with pytest.raises(BadInput, match="this Python has 32 bits"):
        portable.expect_sound()


@pytest.mark.parametrize("numerics", [fast, portable], ids=str)
def test_prepared_examples_are_the_same_numbers_and_stay_so(numerics):
    X = np.arange(6.0).reshape(2, 3)
    prepared = numerics.prepare(X)
    np.testing.assert_array_equal(prepared, X)
    assert prepared.dtype == X.dtype
    if numerics.exact:
        with pytest.raises(ValueError, match="WRITEABLE"):
            prepared.flags.writeable = True
