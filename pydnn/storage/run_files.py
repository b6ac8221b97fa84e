"""The file names that identify the folder of a run and the model in it."""

from __future__ import annotations

from pathlib import Path

from pydnn.checks import AnyPath, path_of

__all__ = ["MODEL_FILE", "RECIPE", "run_folder_of"]

RECIPE, MODEL_FILE = "recipe.toml", "model.h5"


def run_folder_of(path: AnyPath) -> Path:
    """The folder of the run that `path` names: `path` itself, or the folder of that model.h5."""
    path = path_of(path)
    inside = path.name == MODEL_FILE and path.is_file() and (path.parent / RECIPE).is_file()
    return path.parent if inside else path
