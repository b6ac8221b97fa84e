"""Every example in a docstring shows what it prints.

An example may use `np`, `nn` (pydnn itself), and the names that its own module exports; whatever
else it needs, it imports. So a reader who pastes it after those two imports gets what is shown.
"""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import pydnn as nn

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
    module = importlib.import_module(name)
    names = {"np": np, "nn": nn}
    names |= {exported: getattr(module, exported) for exported in getattr(module, "__all__", ())}
    report = []
    for example in FINDER.find(module, name, globs=names):
        doctest.DocTestRunner(optionflags=FLAGS).run(example, out=report.append)
    assert not report, "".join(report)
