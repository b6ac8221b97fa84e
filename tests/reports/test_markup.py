import html.parser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydnn.checks import BadInput
from pydnn.reports.markup import Markup, element, joined


class Reader(html.parser.HTMLParser):
    """Collects what a browser would find in a page."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)


def read(markup):
    reader = Reader()
    reader.feed(markup)
    reader.close()
    return reader


def test_an_element_has_its_attributes_and_escaped_children():
    cell = element("td", "a < b", element("b", "&"), None, 3, class_="x", hidden=True, title=None)
    assert cell == '<td class="x" hidden>a &lt; b<b>&amp;</b>3</td>'


def test_elements_without_content_have_no_end_tag():
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_parts_are_joined_and_escaped():
    assert joined(["<", Markup("<br>")], " & ") == "&lt; &amp; <br>"


@given(text=st.text(max_size=60))
def test_no_text_becomes_an_element_or_an_attribute(text):
    reader = read(element("p", f"x{text}", title=f"y{text}"))
    assert reader.tags == ["p"]
    assert [name for name, _ in reader.attributes] == ["title"]
    assert "".join(reader.texts).startswith("x")
    assert reader.attributes[0][1].startswith("y")


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "\"'><img src=x onerror=y>", "\x1b[2J\u202e"]
)
def test_hostile_text_is_shown_as_it_is(text):
    reader = read(element("p", text))
    assert reader.tags == ["p"]
    assert "".join(reader.texts).isprintable()


def test_long_text_loses_its_middle():
    assert 2_000 <= len(element("p", "a" * 10_000)) < 2_100
    assert 400 <= len(element("td", "a" * 10_000)) < 500  # where others stand beside it
    assert 60 <= len(element("th", "a" * 10_000)) < 80
    assert 120 <= len(element("h1", "a" * 10_000)) < 130


def test_code_can_be_copied_whatever_its_length():
    assert element("code", "a" * 10_000) == f"<code>{'a' * 10_000}</code>"


def test_lines_stay_lines():
    assert element("pre", "a\nb<\x07") == "<pre>a\nb&lt;\\x07</pre>"


@pytest.mark.parametrize("tag", ["", "a b", "a>", "1"])
def test_names_that_are_not_names_are_refused(tag):
    with pytest.raises(BadInput, match="name of an element"):
        element(tag)


@pytest.mark.parametrize("tag", ["br", "col", "hr", "img", "input", "link", "meta"])
def test_void_elements_have_no_end_tag(tag):
    assert element(tag, id="a") == f'<{tag} id="a">'
