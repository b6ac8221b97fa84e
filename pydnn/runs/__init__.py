"""Runs on disk: what a training leaves behind, so that it can be gone on with, and repeated."""

from pydnn.runs.comparison import Difference, difference
from pydnn.runs.folder import MODEL_FILE
from pydnn.runs.inspection import look_into
from pydnn.runs.model import Model, load_model, predictions, save_model
from pydnn.runs.pruning import Pruned, prune
from pydnn.runs.recorded import NotRepeated, Run
from pydnn.runs.recording import Recording, Resumed, create_run, record, resume_run
from pydnn.runs.replay import Verified, verify

__all__ = [
    "MODEL_FILE",
    "Difference",
    "Model",
    "NotRepeated",
    "Pruned",
    "Recording",
    "Resumed",
    "Run",
    "Verified",
    "create_run",
    "difference",
    "load_model",
    "look_into",
    "predictions",
    "prune",
    "record",
    "resume_run",
    "save_model",
    "verify",
]
