"""How Sphinx builds these pages: without a network, and with every link checked."""

import contextlib
import importlib
import io
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).parents[1]))  # the checkout that the pages describe

import pydnn
from pydnn.cli import main

project = "pydnn"
author = "the authors of pydnn"
version = release = pydnn.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_title = f"pydnn {version}"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False

autosummary_generate = False  # `Family` below writes the lists
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "py:obj"  # a name in single backticks is a link where the name has an entry

# Every link is checked, but names that have no entry are just code: those of other libraries,
# since an index of theirs would need a network, and the letters and arguments in docstrings.
nitpicky = True
nitpick_ignore_regex = [("py:(class|obj|exc)", ".*")]

ENTRIES: dict[str, str] = {}  # the name of each entry, by the module and name where it is defined


class Family(SphinxDirective):
    """All public names of a module: a table of links, and then each in full."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write the directives that Sphinx has for this, with the names that the module lists."""
        name = self.arguments[0]
        module = importlib.import_module(name)
        for public in module.__all__:
            value = getattr(module, public)
            home = f"{getattr(value, '__module__', name)}.{getattr(value, '__qualname__', public)}"
            ENTRIES.setdefault(home, f"{name}.{public}")
        rows = "".join(f"   {public}\n" for public in module.__all__)
        return self.parse_text_to_nodes(
            f".. automodule:: {name}\n   :no-members:\n   :no-index:\n\n"
            f".. currentmodule:: {name}\n\n.. autosummary::\n   :nosignatures:\n\n{rows}\n"
            f".. automodule:: {name}\n"
        )


def entry_of(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element
) -> nodes.Node | None:
    """Link a type that is written with the module that defines it to its entry elsewhere."""
    entry = ENTRIES.get(node.get("reftarget", ""))
    if entry is None or node.get("refdomain") != "py":
        return None
    found = env.domains.python_domain.objects.get(entry)
    if found is None:
        return None
    uri = app.builder.get_relative_uri(node["refdoc"], found.docname) + "#" + found.node_id
    return nodes.reference("", "", text, internal=True, refuri=uri, reftitle=entry)


# Code in a docstring: a block under a line that ends in a colon, a doctest, and `a name`.
CODE = re.compile(r"(::\n\n(?: {4}.*\n|\n)+|^ *>>> (?:.*\n)+|`[^`]*`)", re.M)


def to_rest(
    app: Sphinx,
    what: str,
    name: str,
    value: object,
    options: Mapping[str, object],
    lines: list[str],
):
    """Let docstrings read well in an editor: `|x|` and `**` outside of code mean themselves."""
    if what == "module" and not options.get("no_index"):
        lines.clear()  # `Family` has it on the page already
        return
    text = re.sub(r"^(\S.*):(\n\n {4})", r"\1::\2", "\n".join(lines), flags=re.M)
    pieces = CODE.split(text)
    pieces[::2] = [re.sub(r"(\||\*\*)", r"\\\1", piece) for piece in pieces[::2]]
    lines[:] = "".join(pieces).split("\n")


def is_of_another_library(
    app: Sphinx, what: str, name: str, member: object, skip: bool, options: object
) -> bool | None:
    """Leave out methods that scikit-learn adds to estimators, whose links lead to its own pages."""
    home = str(getattr(member, "__module__", None) or "pydnn")
    return True if home.partition(".")[0] == "sklearn" else None


# What makes a browser ask another host for something before anybody follows a link.
REQUEST = re.compile(
    r"""<(?:script|link|img|iframe|source|video|audio|object)\b[^>]*\b(?:src|href|data)="(?:https?:)?//"""
    r"""|(?:url\(|@import)\s*["']?(?:https?:)?//"""
)


def expect_no_other_host(app: Sphinx, error: Exception | None) -> None:
    """Let the build fail if a page would load anything from elsewhere."""
    if error is None:
        pages = (p for p in Path(app.outdir).rglob("*") if p.suffix in (".html", ".css"))
        for page in pages:
            if request := REQUEST.search(page.read_text(encoding="utf-8")):
                raise ExtensionError(f"{page} loads something from elsewhere: {request[0]}")


# The commands of the guide's page of reports that make the report that it shows.
OF_REPORT = re.compile(r"^\$ pydnn (.*cats.*)$", re.M)


def write_report(app: Sphinx, error: Exception | None) -> None:
    """Train the cats and write their report, as the page says, and put it where the page looks."""
    if error is not None or app.builder.format != "html":
        return
    page = Path(app.srcdir, "guide", "reports.md").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for command in OF_REPORT.findall(page):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                status = main(shlex.split(command))
            if status:
                raise ExtensionError(f"pydnn {command} ends with {status}: {printed.getvalue()}")
        report = Path("cats.html").read_bytes()
    Path(app.outdir, "_static", "cats.html").write_bytes(report)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"  # instead of "Variables"
    app.connect("build-finished", write_report, priority=400)  # before what looks at all files
    app.connect("build-finished", expect_no_other_host)
    app.connect("autodoc-skip-member", is_of_another_library)
    app.connect("autodoc-process-docstring", to_rest, priority=400)  # before napoleon
    app.add_directive("family", Family)
    app.connect("missing-reference", entry_of)
