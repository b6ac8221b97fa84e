"""What the record of an arithmetic says about it."""

import attrs
import numpy as np
import pytest

from pydnn.checks import BadInput
from pydnn.numerics import fast, portable
from pydnn.numerics.portable import platform_checks


def test_an_arithmetic_says_whether_every_machine_gets_its_bits():
    assert portable.exact
    assert not fast.exact
    assert attrs.evolve(portable, norm=fast.norm).exact  # even with another function


def test_only_exact_arithmetic_refuses_a_process_that_would_change_its_bits(monkeypatch):
    monkeypatch.setattr(platform_checks, "pointer_bits", lambda: 32)
    fast.expect_sound()
    with pytest.raises(BadInput, match="this Python has 32 bits"):
        portable.expect_sound()


@pytest.mark.parametrize("numerics", [fast, portable], ids=str)
def test_prepared_examples_have_the_same_numbers_and_never_change(numerics):
    X = np.arange(6.0).reshape(2, 3)
    prepared = numerics.prepare(X)
    np.testing.assert_array_equal(prepared, X)
    assert prepared.dtype == X.dtype
    if numerics.exact:
        with pytest.raises(ValueError, match="WRITEABLE"):
            prepared.flags.writeable = True
