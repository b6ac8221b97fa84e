"""Every example in a docstring shows what it prints.

An example may use `np`, `nn` (pydnn itself), what it documents, and the names that its own module
exports; whatever else it needs, it imports. So a reader who pastes it gets what is shown.
"""

import doctest
import importlib
import linecache
import pkgutil

import numpy as np
import pytest

import pydnn as nn
from pydnn.descriptions.builders import builders_of

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(nn.__path__, "pydnn.")
    if module.name != "pydnn.__main__"  # which runs the command when it is imported
)
FINDER = doctest.DocTestFinder(exclude_empty=True)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", ["pydnn", *MODULES])
def test_examples_in_docstrings_print_what_they_show(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may write a file
    # doctest has a debugger, which would look for changes of all files of which a line was read.
    monkeypatch.setattr(linecache, "checkcache", lambda filename=None: None)
    try:
        module = importlib.import_module(name)
    except nn.MissingExtra as error:
        pytest.skip(str(error))
    names = {"np": np, "nn": nn}
    names |= {exported: getattr(module, exported) for exported in getattr(module, "__all__", ())}
    report = []
    for example in FINDER.find(module, name, globs=names):
        own = example.name.removeprefix(name).partition(".")[2].partition(".")[0]
        example.globs.update({own: getattr(module, own)} if own else {})
        doctest.DocTestRunner(optionflags=FLAGS).run(example, out=report.append)
    assert not report, "".join(report)


FRONT_DOOR = {name: getattr(nn, name) for name in nn.__all__}
BUILDERS = {b.name: b.function for b in builders_of() if ":" not in b.name}


@pytest.mark.parametrize(
    "documented",
    [
        pytest.param(value, id=name)
        for name, value in (FRONT_DOOR | BUILDERS).items()
        if callable(value) and not (isinstance(value, type) and issubclass(value, Exception))
    ],
)
def test_whatever_people_call_shows_an_example(documented):
    assert ">>> " in documented.__doc__
