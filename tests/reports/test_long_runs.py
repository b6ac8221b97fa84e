"""The size of a report does not grow with the number of steps."""

import pytest
from report_time import BYTES, long_run

from pydnn.reports import report_of_run
from pydnn.runs import Run


def size_of_report(folder, steps, segments=20):
    data = long_run(folder / "run", steps, segments)
    run = Run.open(folder / "run", data=data, anyway=True)
    assert run.iterations == steps
    return len(report_of_run(run).encode())


def test_curves_with_more_steps_than_a_chart_has_points_stay_small(tmp_path):
    assert size_of_report(tmp_path, 1_400, segments=2) < BYTES / 10


@pytest.mark.slow
def test_a_report_of_100000_steps_is_far_below_2_megabytes(tmp_path):
    assert size_of_report(tmp_path, 100_000) < BYTES / 10
