"""The folder for files that pydnn can make again, such as pictures that were decoded before."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["VARIABLE", "cache_folder"]

VARIABLE = "PYDNN_CACHE"


def cache_folder() -> Path:
    r"""The folder that the variable PYDNN_CACHE names; by default "pydnn" in the user's own cache.

    That is ~/.cache/pydnn on Linux (or where XDG_CACHE_HOME says), ~/Library/Caches/pydnn on macOS
    and %LOCALAPPDATA%\pydnn on Windows. It need not exist.
    """
    chosen = os.environ.get(VARIABLE)
    if sys.platform == "win32":
        parent = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        parent = "~/Library/Caches"
    else:
        parent = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(chosen) if chosen else Path(parent) / "pydnn"
    try:
        return folder.expanduser()
    except RuntimeError:  # a user without a home
        return folder
