"""Old names of builders and options, so that old recipes, models and runs keep working.

If you rename a builder or an option of pydnn, add a line here; nothing else needs to change. Never
use a dropped name again with another meaning.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["BUILDERS", "OPTIONS", "current_name", "current_option"]

BUILDERS: Mapping[str, str] = {}  # {"old_name": "new_name"}
OPTIONS: Mapping[
    tuple[str, str], str
] = {}  # {("builder's name today", "old_option"): "new_option"}


def current_name(name: str) -> str:
    """Return the present name of the builder that a text calls `name`."""
    return BUILDERS.get(name, name)


def current_option(builder: str, option: str) -> str:
    """Return the present name of an option; `builder` is the present name of its builder."""
    return OPTIONS.get((builder, option), option)
