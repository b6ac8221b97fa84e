"""The names of metrics and other numbers in words."""

from __future__ import annotations

__all__ = ["capital", "words_for"]

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
