"""Recorded runs: trainings on disk that can be resumed, replayed, inspected and compared."""

from pydnn.runs.diff import Difference, difference
from pydnn.runs.inspect import look_into
from pydnn.runs.pruning import Pruned, prune
from pydnn.runs.recording import Recording, create_run, record
from pydnn.runs.replay import Verified, verify
from pydnn.runs.resume import Resumed, resume_run
from pydnn.runs.run import NotRepeated, Run
from pydnn.runs.verified import Verification, note_verified, verifications_of

__all__ = [
    "Difference",
    "NotRepeated",
    "Pruned",
    "Recording",
    "Resumed",
    "Run",
    "Verification",
    "Verified",
    "create_run",
    "difference",
    "look_into",
    "note_verified",
    "prune",
    "record",
    "resume_run",
    "verifications_of",
    "verify",
]
