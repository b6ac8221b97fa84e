"""Reports of runs: one HTML file that holds everything, runs nothing and loads nothing.

    pydnn report runs/0001 --out report.html

The same runs give the same bytes. What a report shows comes from the record and, where the data is
still there, from the model and a few steps that are computed again.
"""

from pydnn.reports.of_run import report_of_run
from pydnn.reports.of_runs import report_of_runs
from pydnn.reports.of_sweep import report_of_sweep

__all__ = ["report_of_run", "report_of_runs", "report_of_sweep"]
