"""Old names of builders, options and words, so that old recipes, models and runs keep working.

If you rename a builder, an option or a word that an option takes, add a line here; nothing else
needs to change. Never use a dropped name again with another meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["BUILDERS", "OPTIONS", "WORDS", "current_name", "current_option", "current_value"]

BUILDERS: Mapping[str, str] = {}  # {"old_name": "new_name"}
OPTIONS: Mapping[
    tuple[str, str], str
] = {}  # {("builder's name today", "old_option"): "new_option"}

WORDS: Mapping[tuple[str, str], Mapping[str, str]] = {  # by builder and option of today
    ("rnn", "initial"): {"learnt": "learned"},
    ("gru", "initial"): {"learnt": "learned"},
    ("lstm", "initial"): {"learnt": "learned"},
    ("positions", "kind"): {"learnt": "learned"},
}


def current_name(name: str) -> str:
    """Return the present name of the builder that a text calls `name`."""
    return BUILDERS.get(name, name)


def current_option(builder: str, option: str) -> str:
    """Return the present name of an option; `builder` is the present name of its builder."""
    return OPTIONS.get((builder, option), option)


def current_value(builder: str, option: str, value: Any) -> Any:
    """Return the present word for the value of an option; any other value unchanged."""
    words = WORDS.get((builder, option), {})
    return words.get(value, value) if isinstance(value, str) else value
