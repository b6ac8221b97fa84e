import attrs
import numpy as np
import pytest

import pydnn as nn
from pydnn.workers.joining import Report, own_report, refusal


def other(**changes):
    ours = own_report()
    versions = {**ours.versions, **changes.pop("versions", {})}
    return attrs.evolve(ours, versions=versions, **changes)


def test_the_report_of_an_equal_process_is_not_refused():
    assert refusal("worker 1", other(), portable=False) == ""
    assert Report.of(attrs.asdict(own_report())) == own_report()


@pytest.mark.parametrize("portable", [False, True])
def test_another_version_of_pydnn_is_refused(portable):
    line = refusal("worker 1", other(versions={"pydnn": "0.1.0"}), portable=portable)
    assert line.startswith(f"worker 1 has pydnn 0.1.0, expected {nn.__version__}")
    assert "\n" not in line


def test_another_numpy_and_another_arithmetic_are_refused_unless_portable():
    numpy = other(versions={"numpy": "1.0"})
    assert f"has numpy 1.0, expected {np.__version__}" in refusal("w", numpy, portable=False)
    bits = other(arithmetic={**own_report().arithmetic, "matmul": "0" * 64})
    assert "computes other bits than this process (matmul)" in refusal("w", bits, portable=False)
    assert refusal("w", numpy, portable=True) == refusal("w", bits, portable=True) == ""


@pytest.mark.parametrize("bad", [None, {}, {"versions": {}}, {"versions": [], "arithmetic": {}}])
def test_a_report_that_is_none_is_refused(bad):
    with pytest.raises(nn.BadInput, match="a worker joined with"):
        Report.of(bad)


def test_a_report_cannot_control_the_terminal():
    line = refusal("w", other(versions={"pydnn": "\x1b[2J"}), portable=True)
    assert "\x1b" not in line
