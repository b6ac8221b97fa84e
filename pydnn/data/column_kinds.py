"""What the columns of tables hold: numbers, truth values, texts or dates."""

from __future__ import annotations

import attrs

__all__ = ["BOOLEAN", "DATE", "KINDS", "NUMBER", "TEXT", "Column"]

NUMBER, BOOLEAN, TEXT, DATE = "number", "boolean", "text", "date"
KINDS = (NUMBER, BOOLEAN, TEXT, DATE)
_PLURALS = {NUMBER: "numbers", BOOLEAN: "truth values", TEXT: "texts", DATE: "dates"}


@attrs.frozen
class Column:
    """The name and kind of a column of a table.

    Attributes:
        name: The name of the column.
        kind: "number", "boolean", "text" or "date".
        levels: The distinct texts of a column of texts or dates, sorted; the column's values are
            positions in this tuple.
    """

    name: str
    kind: str = NUMBER
    levels: tuple[str, ...] = ()

    @property
    def holds(self) -> str:
        """The contents in a word for messages: "numbers", "truth values", "texts" or "dates"."""
        return _PLURALS[self.kind]

    def text(self, value: float) -> str:
        """The text of a value that is not missing, as people write it and as classes are named.

        >>> Column("quality").text(3.0), Column("kind", "text", ("red", "white")).text(1.0)
        ('3', 'white')
        """
        if self.kind == BOOLEAN:
            return "true" if value else "false"
        if self.kind == NUMBER:
            return repr(int(value) if value.is_integer() and abs(value) < 2**53 else value)
        return self.levels[int(value)]
