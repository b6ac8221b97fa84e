"""Tables, as text in columns and as HTML for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydnn.checks import printable

__all__ = ["html_table", "text_table"]

_MOST_ROWS = 200


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as lines of text, with each column as wide as its widest cell."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def html_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a small HTML table; all its text is escaped, since it may come from a stranger's file.

    Args:
        caption: The title of the table.
        head: The names of the columns; empty for a table of names and values.
        rows: The text of the cells, which may have several lines. Only 200 rows are shown.
    """
    left_out = len(rows) - _MOST_ROWS
    lines = [_row("td", row) for row in rows[:_MOST_ROWS]]
    if left_out > 0:
        lines.append(_row("td", [f"and {left_out} more"]))
    heading = f"<thead>{_row('th', head)}</thead>" if head else ""
    return (
        f"<table><caption>{_escaped(caption)}</caption>{heading}"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _row(tag: str, cells: Iterable[str]) -> str:
    style = "text-align: left; white-space: pre"
    inner = "".join(f'<{tag} style="{style}">{_escaped(cell)}</{tag}>' for cell in cells)
    return f"<tr>{inner}</tr>"


def _escaped(text: str) -> str:
    import html  # here, since few processes show tables

    return html.escape("\n".join(map(printable, text.splitlines())))
