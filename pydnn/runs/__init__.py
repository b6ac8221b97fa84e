"""Runs on disk: what a training leaves behind, so that it can be gone on with, and repeated."""

from pydnn.runs.model import MODEL_FILE, Model, load_model, predictions, save_model
from pydnn.runs.recorded import NotRepeated, Run
from pydnn.runs.recording import Recording, create_run, record, resume_run

__all__ = [
    "MODEL_FILE",
    "Model",
    "NotRepeated",
    "Recording",
    "Run",
    "create_run",
    "load_model",
    "predictions",
    "record",
    "resume_run",
    "save_model",
]
