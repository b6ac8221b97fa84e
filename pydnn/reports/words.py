"""The names of metrics and other numbers in words."""

from __future__ import annotations

from pydnn.checks import printable
from pydnn.descriptions.builders import Unread
from pydnn.descriptions.parts import is_description
from pydnn.descriptions.text import write_description

_ROOM = 200  # characters, from which on a note about the length may take some of them

__all__ = ["capital", "short", "value_in_words", "words_for"]

_WORDS = {"f1": "F1", "roc_auc": "area under the ROC curve", "r_squared": "R squared"}


def words_for(name: str) -> str:
    """The name of a number in words, e.g. of "validation roc_auc".

    Example:
        >>> words_for("validation f1"), words_for("learning_rate")
        ('validation F1', 'learning rate')
    """
    return " ".join(_WORDS.get(word, word.replace("_", " ")) for word in name.split(" "))


def capital(words: str) -> str:
    """The words with a capital at the beginning.

    Example:
        >>> capital("area under the ROC curve")
        'Area under the ROC curve'
    """
    return words[:1].upper() + words[1:]


def short(text: object, most: int = 60) -> str:
    r"""A text on one line, for a heading, a legend or a cell; a longer one loses its middle.

    If there is room for it, a note says how long the text is.

    Example:
        >>> short("a\nb"), short("x" * 100, most=20)
        ('a\\nb', 'xxxxxxxxxx ... xxxxx')
    """
    shown = printable(text, most=max(most, 1000))
    if len(shown) <= most:
        return shown
    if most >= _ROOM:
        return printable(text, most=most)
    end = max(0, most - 5) // 3
    return f"{shown[: max(0, most - 5) - end]} ... {shown[len(shown) - end :]}"


def value_in_words(value: object) -> str:
    """A value of a recipe on one line, as people write it.

    Example:
        >>> value_in_words({"adam": {"learning_rate": 0.1}}), value_in_words(("a", 2))
        ('adam(learning_rate=0.1)', 'a, 2')
    """
    if isinstance(value, Unread) or is_description(value):
        return " ".join(write_description(value).split())
    if isinstance(value, list | tuple):
        return ", ".join(map(value_in_words, value)) or "none"
    return "none" if value is None or value == "" else str(value)
