"""The frame around every page of the board, its links, and small pieces of its text."""

from __future__ import annotations

import sys
from urllib.parse import parse_qsl, quote, unquote

from pydnn.checks import BadInput
from pydnn.reports.markup import Markup, element

__all__ = ["ago", "duration", "field", "frame", "link", "live", "query_of", "run_link"]

_MOST_FIELDS = 1000
_QUOTED = "quoted-"  # begins the name of a field whose value is in quoted form
# Names of files need not be text: bytes that are not UTF-8, or halves of pairs on Windows.
_ERRORS = "surrogatepass" if sys.platform == "win32" else "surrogateescape"


def link(path: str, *pairs: tuple[str, str], fragment: str = "") -> str:
    """The address of a page of the board.

    Args:
        path: The path, e.g. "/compare".
        pairs: The names and values of its query.
        fragment: The place on the page; "" for its beginning.

    Example:
        >>> link("/compare", ("run", "a b"), ("run", "c&d"))
        '/compare?run=a%20b&run=c%26d'
    """
    query = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs)
    return f"{path}{'?' if query else ''}{query}{'#' if fragment else ''}{fragment}"


def run_link(name: str) -> str:
    """The address of the page of a run."""
    return link("/run", ("run", name))


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", _ERRORS))


def query_of(text: str) -> dict[str, list[str]]:
    """The values of a query by name.

    Raises:
        BadInput: If it has too many fields.

    Example:
        >>> query_of("run=a%20b&run=c%26d&q=")
        {'run': ['a b', 'c&d'], 'q': ['']}
    """
    try:
        fields = parse_qsl(
            text, keep_blank_values=True, errors=_ERRORS, max_num_fields=_MOST_FIELDS
        )
    except ValueError as error:
        raise BadInput(f"the address is not understood ({error}): go back to the list.") from error
    query: dict[str, list[str]] = {}
    for name, value in fields:
        if name.startswith(_QUOTED):
            name, value = name.removeprefix(_QUOTED), unquote(value, errors=_ERRORS)
        query.setdefault(name, []).append(value)
    return query


def field(name: str, value: str, kind: str = "hidden", **attributes: object) -> Markup:
    r"""A field of a form with exactly this value, although markup never holds control characters.

    Example:
        >>> field("run", "a\x1bb")
        '<input type="hidden" name="quoted-run" value="a%1Bb">'
    """
    return element("input", type=kind, name=_QUOTED + name, value=_quoted(value), **attributes)


def frame(title: str, *content: Markup, wait: int = 0, here: str = "") -> str:
    """The text of a page.

    Args:
        title: The title of the page.
        content: What is on it.
        wait: The milliseconds until the script asks for the page again; 0 for never.
        here: The address of the page, if it is reached from the list.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("link", rel="stylesheet", href="/board.css"),
        element("link", rel="icon", href="data:,"),
        element("script", src="/board.js", defer=True),
    )
    home = element("a", "All runs", href="/", aria_current="page" if here == "/" else None)
    body = element(
        "body",
        element("a", "Skip to the content", href="#content", class_="skip"),
        element("nav", home, aria_label="Board", class_="bar"),
        element("main", *content, id="content", data_wait=wait or None),
        element("p", id="connection", role="status", class_="note"),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def live(name: str, *content: object, tag: str = "div", class_: str | None = None) -> Markup:
    """A part of a page that the script renews, with a name of its own on the page."""
    return element(tag, *content, id=name, class_=class_, data_live=True)


def ago(seconds: float) -> str:
    """How long ago something was, e.g. "3 min ago".

    Example:
        >>> ago(0.4), ago(75), ago(7200), ago(200_000)
        ('now', '1 min ago', '2 h ago', '2 days ago')
    """
    return "now" if seconds < 2 else f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    """A time in the largest unit that fits.

    Example:
        >>> duration(1), duration(59), duration(150), duration(86400)
        ('1 s', '59 s', '2 min', '1 day')
    """
    for size, unit in ((86400, "day"), (3600, "h"), (60, "min")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count:,} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return f"{int(seconds)} s"
