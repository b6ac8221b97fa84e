"""The page around the sections of a report: one file, which loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from pydnn.reports.markup import Markup, element

__all__ = ["Section", "page"]

# The file may show pictures that lie in it and use the style in it, and do nothing else.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@attrs.frozen
class Section:
    """One part of a page, with a title of its own.

    Attributes:
        name: A word for links to it, e.g. "curves".
        title: The title.
        content: The parts of it, in order.
    """

    name: str
    title: str
    content: Sequence[Markup]


def page(title: str, lead: Sequence[object], sections: Sequence[Section]) -> str:
    """The text of an HTML file.

    Args:
        title: The title of the page.
        lead: Sentences below the title.
        sections: The sections; those without content are left out.

    Example:
        >>> text = page("A run", ["It went well."], [Section("costs", "Costs", [])])
        >>> text.splitlines()[0], "script" in text
        ('<!doctype html>', False)
    """
    shown = [section for section in sections if section.content]
    links = (element("li", element("a", s.title, href=f"#{s.name}")) for s in shown)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Markup(_style())),
    )
    body = element(
        "body",
        element(
            "header",
            element("h1", title),
            *(element("p", text, class_="lead") for text in lead),
            element("nav", element("ul", *links), aria_label="Sections") if shown else None,
        ),
        element("main", *map(_of_section, shown)),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _of_section(section: Section) -> Markup:
    heading = element("h2", section.title, id=section.name)
    return element("section", heading, *section.content, aria_labelledby=section.name)


def _style() -> str:
    return (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
