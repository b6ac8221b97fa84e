"""Recorded runs: trainings on disk that can be resumed, replayed, inspected and compared."""

from pydnn.runs.diff import Difference, difference
from pydnn.runs.inspect import look_into
from pydnn.runs.pruning import Pruned, prune
from pydnn.runs.recording import Recording, create_run, record
from pydnn.runs.replay import Verified, verify
from pydnn.runs.resume import Resumed, resume_run
from pydnn.runs.run import NotRepeated, Run

__all__ = [
    "Difference",
    "NotRepeated",
    "Pruned",
    "Recording",
    "Resumed",
    "Run",
    "Verified",
    "create_run",
    "difference",
    "look_into",
    "prune",
    "record",
    "resume_run",
    "verify",
]
