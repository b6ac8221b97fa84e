"""The trainings that a recorded sweep plans, for readers, since those not begun have no folder yet.

`planned.jsonl` in the folder of a sweep has a line for each training of the last call: a JSON list
of the name of its run and the text of its recipe. It is no part of the record: a sweep that is
started again plans anew. So readers skip what is damaged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from pydnn.checks import BadInput
from pydnn.storage.files import open_regular, write_atomically

__all__ = ["PLANNED", "RUN_NAME", "read_planned", "write_planned"]

PLANNED = "planned.jsonl"
RUN_NAME = re.compile(r"seed-[0-9]+(-fold-[0-9]+-of-[0-9]+)?-[0-9a-f]{12}")
_MOST_BYTES = 1 << 26
_LONGEST_NAME = 200


def write_planned(sweep: Path, recipes: Mapping[str, str]) -> None:
    """Write the plan of a sweep into its folder, in place of an earlier one.

    Args:
        sweep: The folder of the sweep.
        recipes: The texts of the recipes by the names of their runs.

    Raises:
        BadInput: If it cannot be written.
    """
    content = "".join(json.dumps([name, text]) + "\n" for name, text in recipes.items()).encode()
    write_atomically(sweep / PLANNED, lambda file: file.write_bytes(content), replace=True)


def read_planned(sweep: Path) -> dict[str, str]:
    """The texts of the recipes that a sweep plans, by the names of their runs.

    It is empty if there is no plan that can be read. A text need not be that of a recipe.

    Example:
        >>> from pathlib import Path
        >>> write_planned(Path("."), {"seed-1-0123456789ab": "iterations = 3"})
        >>> read_planned(Path("."))
        {'seed-1-0123456789ab': 'iterations = 3'}
    """
    try:
        what = "the plan of a sweep"
        with open_regular(sweep / PLANNED, what=what, most=_MOST_BYTES, links=False) as file:
            content = file.read(_MOST_BYTES)
    except BadInput:
        return {}
    return dict(filter(None, map(_entry, content.split(b"\n"))))


def _entry(line: bytes) -> tuple[str, str] | None:
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match plain:
        case [str(name), str(text)] if len(name) <= _LONGEST_NAME and RUN_NAME.fullmatch(name):
            return name, text
    return None
