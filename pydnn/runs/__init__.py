"""Runs on disk: what a training leaves behind."""

from pydnn.runs.model import MODEL_FILE, Model, load_model, predictions, save_model

__all__ = ["MODEL_FILE", "Model", "load_model", "predictions", "save_model"]
