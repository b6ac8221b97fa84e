"""Filters and the order of a list of runs, in a short language for one line.

    adam validation_accuracy>0.8 network=relu

Each word must hold: a plain word is in the name of the run or in its recipe; `name=value` compares
texts or numbers, `<` and `>` numbers, of the recipe or of what was measured last.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence

from pydnn.board.heads import Head

__all__ = ["chosen", "ordered"]

_WORD = re.compile(r'([^\s=<>"]+)(<=|>=|=|<|>)("[^"]*"|\S+)|"([^"]*)"|(\S+)')
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}


def chosen(heads: Iterable[Head], text: str, *, sweep: str = "") -> list[Head]:
    """The runs for which every word of a filter holds.

    Args:
        heads: The runs.
        text: The filter; "" for all.
        sweep: The name of a sweep whose runs alone are shown; "" for all.
    """
    words = [match.groups() for match in _WORD.finditer(text)]
    inside = [head for head in heads if not sweep or head.found.sweep == sweep]
    return [head for head in inside if all(_holds(head, *word) for word in words)]


def _holds(
    head: Head, name: str | None, how: str, value: str, quoted: str | None, plain: str | None
) -> bool:
    if name is None:
        return (quoted or plain or "").casefold() in _text_of(head)
    value = value.strip('"')
    field = _field(head, name)
    if field is None:  # e.g. keep_prob=0.8, which is in the text of the network
        return how == "=" and f"{name}={value}".casefold() in _text_of(head)
    try:
        return _COMPARE[how](float(str(field)), float(value))
    except ValueError:
        return how == "=" and value.casefold() in str(field).casefold()


def _text_of(head: Head) -> str:
    why = "planned" if head.planned else head.why
    texts = (head.name, why, *(f"{key}={value}" for key, value in head.recipe.items()))
    return "\n".join(texts).casefold()


def _field(head: Head, name: str) -> object:
    """The value of the recipe or the last number called `name`, whatever stands for its spaces."""
    wanted = _plain(name)
    own = {"name": head.name, "steps": head.steps, "sweep": head.found.sweep}
    for values in (head.values, head.recipe, own):
        for key, value in values.items():
            if _plain(key) == wanted:
                return value
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold())


def ordered(heads: Sequence[Head], by: str, *, downward: bool, now: float) -> list[Head]:
    """The runs in the order of a number or a text; those without it come last.

    Args:
        heads: The runs, in the order of their names.
        by: "name", "state", "changed", "steps", the name of a number, or a key of the recipe.
        downward: Whether the largest comes first.
        now: The present time, which says how long a run has been silent.
    """
    if by in ("", "name"):
        return list(heads)[::-1] if downward else list(heads)

    def value_of(head: Head) -> object:
        if by == "state":
            silent = "planned" if head.planned else "silent"
            return head.problem or head.why or ("training" if head.training(now) else silent)
        return head.changed if by == "changed" else _field(head, by)

    values = [value_of(head) for head in heads]
    numbers, texts, missing = [], [], []
    for place, value in enumerate(values):
        if isinstance(value, int | float) and not math.isnan(value):
            numbers.append(place)
        elif isinstance(value, str) and value:
            texts.append(place)
        else:
            missing.append(place)
    numbers.sort(key=lambda place: values[place], reverse=downward)  # type: ignore[arg-type,return-value]
    texts.sort(key=lambda place: values[place], reverse=downward)  # type: ignore[arg-type,return-value]
    return [heads[place] for place in (*numbers, *texts, *missing)]
