import subprocess
import sys

import numpy as np
import pytest

from pydnn import BadInput
from pydnn.testing import bits_report, same_bits


def double(x):
    return {"twice": 2 * x, "count": x.size}


def hashed(x):
    return hash("a text")


def in_memory(x):
    return x.ravel(order="K").copy()


def raising(x):
    raise KeyError(x)


@pytest.mark.slow
def test_exact_arithmetic_has_the_same_bits_everywhere():
    chosen = ["no CPU dispatch", "strides"]
    report = same_bits(double, np.array([[1.0, 2.5]]), environments=chosen)
    assert list(report.differing) == chosen
    assert str(report).startswith("double: the same bits everywhere\n")


@pytest.mark.slow
def test_the_report_names_the_environment_that_differs():
    with pytest.raises(AssertionError, match=r"hashed: other bits with hash seed 0\n"):
        same_bits(hashed, 0, environments=["hash seed 0"])
    report = bits_report(in_memory, np.triu(np.ones((2, 2))), environments=["Fortran order"])
    mismatch = report.differing["Fortran order"]
    assert mismatch.startswith("result differs in 2 of 4 numbers, first in number 1: 0x0.0p+0")


@pytest.mark.slow
def test_refusals():
    for function, message in (
        (lambda x: x, "cannot be imported by a child process, expected a function"),
        (raising, r"raising raised in a child process \(KeyError: 1\)"),
    ):
        with pytest.raises(BadInput, match=message):
            same_bits(function, 1, environments=[])
    with pytest.raises(BadInput, match="no environment 'hash sed 0': did you mean 'hash seed 0'"):
        same_bits(double, 1, environments=["hash sed 0"])
    with pytest.raises(BadInput, match="the arguments cannot be pickled"):
        same_bits(double, lambda x: x)


@pytest.mark.slow  # since it starts three processes
def test_functions_of_a_script_are_found(tmp_path):
    (tmp_path / "script.py").write_text(
        "from pydnn.testing import same_bits\n"
        "def one(x): return x + 1\n"
        "if __name__ == '__main__': print(same_bits(one, 1.5, environments=['hash seed 0']).same)\n"
    )
    command = [sys.executable, str(tmp_path / "script.py")]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "True\n"
