"""The front door: which names a user may build on, and how each is called.

`tests/public_names.txt` lists them. When a change of it is meant, write it again and look at what
changed:

    python tests/test_public_names.py && git diff tests/public_names.txt
"""

import builtins
import functools
import importlib
import inspect
import itertools
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import toolz
import toolz.curried

import pydnn as nn

LISTED = Path(__file__).with_name("public_names.txt")
MODULES = [f"pydnn.{name}" for name in nn._MODULES]


def public_names():
    """A line for each public name, under the first module that has it."""
    seen, lines = set(), []
    for module in map(importlib.import_module, ["pydnn", *MODULES, "pydnn.stages.initializers"]):
        lines += ["", f"[{module.__name__}]"]
        for name in sorted(getattr(module, "__all__", ())):
            value = getattr(module, name)
            if callable(value) and (name, id(value)) in seen:
                continue
            seen.add((name, id(value)))
            lines += lines_of(name, value)
    return "\n".join(lines[1:]) + "\n"


def lines_of(name, value):
    if not callable(value):
        return [name]
    if not inspect.isclass(value):
        return [name + signature_of(value)]
    methods = {
        method: function
        for cls in reversed(value.__mro__)
        if cls.__module__.startswith("pydnn")
        for method, function in vars(cls).items()
        if not method.startswith("_") and (is_method(function) or is_property(function))
    }
    rows = [
        f"{name}.{method}" + ("" if is_property(function) else signature_of(getattr(value, method)))
        for method, function in sorted(methods.items())
    ]
    return [name + signature_of(value), *rows]


def is_method(value):
    return isinstance(value, types.FunctionType | classmethod | staticmethod)


def is_property(value):
    return isinstance(value, property | functools.cached_property)


def signature_of(function):
    try:
        signature = inspect.signature(function)
    except ValueError:  # such as an exception without an __init__ of its own
        return "(...)"
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    text = str(inspect.Signature(plain))
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def test_public_names_and_their_signatures_are_those_that_are_listed():
    assert public_names() == LISTED.read_text()


BESIDE = {
    "builtins": builtins,
    "itertools": itertools,
    "numpy": np,
    "toolz": toolz,
    "toolz.curried": toolz.curried,
}


@pytest.mark.parametrize("module", BESIDE.values(), ids=BESIDE)
def test_no_name_of_the_front_door_hides_another_one(module):
    assert not set(nn.__all__) & set(dir(module))


def test_star_brings_the_names_of_the_front_door_and_no_others():
    names = {}
    exec("from pydnn import *", names)
    del names["__builtins__"]
    assert set(names) == set(nn.__all__)
    assert len(nn.__all__) == len(set(nn.__all__)) < 130


def test_each_name_is_that_of_the_module_of_its_family():
    homes = [importlib.import_module(f"pydnn.{home}") for home in nn._HOMES]
    for name in nn.__all__:
        values = {id(getattr(home, name)) for home in homes if name in home.__all__}
        assert values == {id(getattr(nn, name))}, name


def test_builders_that_are_not_at_the_front_door_are_in_their_modules():
    for name in ("chain", "accumulate", "scale", "heavy_ball"):
        assert not hasattr(nn, name)
        assert callable(getattr(nn.optimizers, name))
    assert nn.stages.tanh() == nn.build({"tanh": {}})


def test_a_name_that_moved_to_its_module_is_named_there():
    nn.optimizers  # noqa: B018 - loads it
    with pytest.raises(AttributeError, match=r"no attribute 'chain': use pydnn\.optimizers\.chain"):
        nn.chain  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'xyzzy'$"):
        nn.xyzzy  # noqa: B018


def test_all_that_can_be_named_is_shown_by_dir():
    assert {"adam", "Run", "optimizers", "testing", "__version__"} <= set(dir(nn))


LAZY = """
import sys, pydnn as nn
loaded = [name for name in sys.modules if name.startswith("pydnn.")]
assert loaded == ["pydnn.processors"]  # which must come before NumPy
assert "numpy" not in sys.modules
assert nn.build({"adam": {}}) == nn.adam()  # known although nothing has imported it
assert "pydnn.runs" not in sys.modules
assert nn.Run.__module__ == "pydnn.runs.run"
assert nn.testing.assert_stage(nn.relu()).laws
"""


def test_modules_are_loaded_when_a_name_of_them_is_first_used():
    subprocess.run([sys.executable, "-c", LAZY], check=True)


def test_examples_import_pydnn_as_nn_or_names_from_their_modules():
    for path in sorted((Path(__file__).parents[1] / "examples").glob("*.py")):
        text = path.read_text()
        assert "from pydnn import" not in text, path
        assert "import *" not in text, path


if __name__ == "__main__":
    LISTED.write_text(public_names())
