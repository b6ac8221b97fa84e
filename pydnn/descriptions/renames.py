"""What builders and their options were called before: texts with an old name keep working.

Whoever renames a builder or an option of pydnn adds a line here, and changes nothing else for old
recipes, models and runs. A name that was dropped must not come back with another meaning.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["BUILDERS", "OPTIONS", "current_name", "current_option"]

BUILDERS: Mapping[str, str] = {}  # {"old_name": "new_name"}
OPTIONS: Mapping[
    tuple[str, str], str
] = {}  # {("builder's name today", "old_option"): "new_option"}


def current_name(name: str) -> str:
    """What the builder that a text calls `name` is called today."""
    return BUILDERS.get(name, name)


def current_option(builder: str, option: str) -> str:
    """What the option of a `builder`, by its name of today, that a text calls `option` is today."""
    return OPTIONS.get((builder, option), option)
