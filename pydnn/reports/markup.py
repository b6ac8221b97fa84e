"""HTML and SVG from names, attributes and text, all of which is escaped where it enters.

The names in a report come from files of strangers: recipes, tables, classes, folders. A text
becomes markup in one place only, `element`, which escapes it. So no text can become an element.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from pydnn.checks import BadInput
from pydnn.reports.words import short

__all__ = ["Markup", "element", "joined"]

# Characters of one text in an element. A name of a stranger may be long, and a heading, a legend or
# the head of a column must stay readable. Code is for copying, so it stays as it is.
_MOST = 2_000
_MOST_OF = {
    **dict.fromkeys(("th", "text", "summary"), 60),
    **dict.fromkeys(("h1", "title", "figcaption", "li"), 120),
    "td": 400,
    "span": 400,
    **dict.fromkeys(("code", "pre"), 1 << 20),
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
# The elements that have no end tag in HTML.
_VOID = frozenset(
    [
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "source",
        "track",
        "wbr",
    ]
)


class Markup(str):
    """Text that is markup already, which `element` does not escape again."""

    __slots__ = ()


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """One element with its children.

    Args:
        tag: The name of the element, e.g. "td".
        children: `Markup` stays as it is; anything else becomes text, is escaped, and loses its
            middle if it is long: a heading after 120 characters, a cell of a table after 400, a
            paragraph after 2,000, code never. None is left out.
        attributes: The attributes by name, with "_" for "-" and a last "_" left out, e.g. `class_`.
            None and False are left out; True is an attribute without a value.

    Raises:
        BadInput: If a name is not that of an element or attribute.

    Example:
        >>> element("td", "a < b", class_="number", data_unit="ms")
        '<td class="number" data-unit="ms">a &lt; b</td>'
    """
    parts = [f"<{_named(tag)}"]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = _named(name.rstrip("_").replace("_", "-"))
        parts.append(f" {name}" if value is True else f' {name}="{_escaped(value)}"')
    parts.append(">")
    if tag not in _VOID:
        most = _MOST_OF.get(tag, _MOST)
        parts += [_escaped(child, most) for child in children if child is not None]
        parts.append(f"</{tag}>")
    return Markup("".join(parts))


def joined(parts: Iterable[object], between: str = "") -> Markup:
    """Several parts, one after the other, with a text between them.

    Example:
        >>> joined(["a", element("b", "c")], ", ")
        'a, <b>c</b>'
    """
    return Markup(_escaped(between).join(_escaped(part) for part in parts))


def _escaped(part: object, most: int = _MOST) -> str:
    if isinstance(part, Markup):
        return part
    text = str(part)
    lines = text.split("\n") if most > _MOST else [text]  # of code
    return html.escape("\n".join(short(line, most) for line in lines))


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} is not the name of an element or attribute: use letters.")
    return name
