"""The pytest plugin, in separate sessions of pytest."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

# For the sources: an installed package has the plugin as a separate module.
HERE = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
MARKED = """
import numpy as np
import pytest
from pydnn import dense, elementwise, gradient_descent, mean_squared, relu

half = elementwise("half", lambda Z, n: Z / 2, lambda dA, Z, A, n: dA / 3)

@pytest.mark.pydnn_stage(dense(3), shape_in=(4,))
@pytest.mark.pydnn_stage(relu())
def test_right(): pass

@pytest.mark.pydnn_stage(half)
def test_wrong(pydnn_stage): pass

@pytest.mark.pydnn_loss(mean_squared())
def test_loss(pydnn_loss): assert pydnn_loss.name == "mean_squared"

@pytest.mark.pydnn_optimizer(gradient_descent(learning_rate=0.1))
def test_optimizer(pydnn_optimizer, pydnn_report): pydnn_report("mine")

def test_key(pydnn_key): assert pydnn_key.path[-1].endswith("test_key")

@pytest.mark.pydnn_stage()
def test_without(): pass
"""


@pytest.fixture
def session(tmp_path):
    """A function that runs pytest on a text, with the plugin as a module of pydnn."""

    def run(text, *options):
        (tmp_path / "test_it.py").write_text(text)
        plugin = ["-p", "no:pydnn", "-p", "pydnn.testing.pytest_pydnn", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", "--strict-markers", "-v", *plugin, *options]
        done = subprocess.run(command, cwd=tmp_path, env=HERE, capture_output=True, text=True)
        return done.stdout

    return run


@pytest.mark.slow
def test_marks_check_laws_and_the_report_is_written(session, tmp_path):
    out = session(MARKED, "--pydnn-report", "tables.txt")
    assert "test_right[dense] PASSED" in out
    assert "test_right[relu] PASSED" in out
    assert "stage half breaks 'gradients'" in out
    assert "give the mark one stage, e.g. @pytest.mark.pydnn_stage(my_part())." in out
    assert "5 passed, 2 errors" in out
    tables = (tmp_path / "tables.txt").read_text()
    assert "stage dense keeps 12 laws" in tables
    assert "gradients of loss mean_squared with weights: right" in tables
    worst = [
        float(line.rpartition(" ")[2]) for line in tables.splitlines() if "worst error" in line
    ]
    assert worst == sorted(worst, reverse=True)
    assert len(worst) == 5


@pytest.mark.slow
def test_workers_of_xdist_send_their_tables(session, tmp_path):
    pytest.importorskip("xdist")
    out = session(MARKED, "-n", "2", "--pydnn-report", "tables.txt")
    assert "5 passed, 2 errors" in out
    tables = (tmp_path / "tables.txt").read_text()
    worst = [float(w) for w in re.findall(r"worst error (.*)$", tables, flags=re.M)]
    assert worst == sorted(worst, reverse=True)
    assert len(worst) == 5
    assert len(re.findall(r"^\S+::test_\S+: worst", tables, flags=re.M)) == 5


# Sessions in this process, which are much faster


PLUGINS = ["-p", "no:pydnn", "-p", "pydnn.testing.pytest_pydnn", "-p", "no:cacheprovider"]


@pytest.fixture
def outcomes(pytester):
    """A function that runs pytest on the texts of a module and a conftest."""

    def run(text, conftest=""):
        pytester.makeconftest(conftest)
        pytester.makepyfile(PARTS + text)
        return pytester.runpytest_inprocess("--strict-markers", "-v", *PLUGINS)

    return run


PARTS = """
import functools
import unittest
import attrs
import pytest
from pydnn import elementwise, mean_squared, relu

right = relu()
wrong = elementwise("wrong", lambda Z, n: Z / 2, lambda dA, Z, A, n: dA)
wrong_loss = attrs.evolve(
    mean_squared(), name="wrong", function=lambda AL, Y, weights, context: (0.5, AL - Y)
)


def ran(): raise AssertionError("the body ran")

"""
# Every way in which pytest allows setting a mark, each with a stage whose gradient is wrong.
WAYS = {
    "function": "@pytest.mark.pydnn_stage(wrong)\ndef test_it(): ran()",
    "function that asks": """
@pytest.mark.pydnn_stage(wrong)
def test_it(pydnn_stage): ran()
""",
    "class": """
@pytest.mark.pydnn_stage(wrong)
class TestIt:
    def test_it(self): ran()
""",
    "method of a marked base": """
@pytest.mark.pydnn_stage(wrong)
class Base:
    def test_it(self): ran()

class TestIt(Base): pass
""",
    "static method": """
class TestIt:
    @pytest.mark.pydnn_stage(wrong)
    @staticmethod
    def test_it(): ran()
""",
    "pytestmark of a module": """
pytestmark = pytest.mark.pydnn_stage(wrong)
def test_it(): ran()
""",
    "pytestmark of a module, in a list": """
pytestmark = [pytest.mark.pydnn_stage(wrong)]
class TestIt:
    def test_it(self, pydnn_stage): ran()
""",
    "pytestmark of a module with a TestCase": """
pytestmark = pytest.mark.pydnn_stage(wrong)
class It(unittest.TestCase):
    def test_it(self): ran()
""",
    "pytestmark of a class": """
class TestIt:
    pytestmark = [pytest.mark.pydnn_stage(wrong)]
    def test_it(self): ran()
""",
    "param": """
@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.pydnn_stage(wrong))])
def test_it(x): ran()
""",
    "param of a test that asks": """
@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.pydnn_stage(wrong))])
def test_it(x, pydnn_stage): ran()
""",
    "param beside a mark on the function": """
@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.pydnn_stage(wrong))])
@pytest.mark.pydnn_stage(right)
def test_it(x): ran()
""",
    "param of a fixture": """
@pytest.fixture(params=[pytest.param(1, marks=pytest.mark.pydnn_stage(wrong))])
def x(): return 1
def test_it(x): ran()
""",
    "TestCase": """
@pytest.mark.pydnn_stage(wrong)
class It(unittest.TestCase):
    def test_it(self): ran()
""",
    "method of a TestCase": """
class It(unittest.TestCase):
    @pytest.mark.pydnn_stage(wrong)
    def test_it(self): ran()
""",
    "decorated function": """
def decorated(function):
    return functools.wraps(function)(lambda: function())

@decorated
@pytest.mark.pydnn_stage(wrong)
def test_it(): ran()
""",
    "add_marker in a fixture": """
@pytest.fixture(autouse=True)
def marked(request): request.node.add_marker(pytest.mark.pydnn_stage(wrong))
def test_it(): ran()
""",
    "applymarker in a fixture": """
@pytest.fixture
def marked(request): request.applymarker(pytest.mark.pydnn_stage(wrong))
def test_it(marked): ran()
""",
    "indirect parameters": """
@pytest.mark.parametrize("pydnn_stage", [wrong], indirect=True)
def test_it(pydnn_stage): ran()
""",
    "a loss": """
@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.pydnn_loss(wrong_loss))])
def test_it(x): ran()
""",
}


@pytest.mark.slow
def test_laws_are_checked_before_the_body_however_the_mark_was_set(pytester):
    modules = {f"test_way_{i}": PARTS + text for i, text in enumerate(WAYS.values())}
    pytester.makepyfile(**modules)
    session = pytester.inline_run("--strict-markers", *PLUGINS)
    failures = {}
    for report in session.getreports("pytest_runtest_logreport pytest_collectreport"):
        if report.outcome == "failed":
            way = list(WAYS)[int(re.search(r"test_way_(\d+)", report.nodeid)[1])]
            failures[way] = report.longreprtext
    assert failures.keys() == WAYS.keys()
    for text in failures.values():
        assert "wrong breaks 'gradients'" in text
        assert "the body ran" not in text


HOOKS = {
    "pytest_collection_modifyitems": "def pytest_collection_modifyitems(items):\n"
    "    for item in items: item.add_marker(MARK)",
    "pytest_itemcollected": "def pytest_itemcollected(item): item.add_marker(MARK)",
    "pytest_runtest_setup": "def pytest_runtest_setup(item): item.add_marker(MARK)",
}


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
@pytest.mark.parametrize(
    "text", ["def test_it(): pass", "class It(unittest.TestCase):\n    def test_it(self): pass"]
)
def test_laws_are_checked_for_marks_that_a_conftest_adds(outcomes, hook, text):
    hook = hook.replace("MARK", "pytest.mark.pydnn_stage(wrong)")
    outcomes(text, PARTS + hook).stdout.fnmatch_lines(["*stage wrong breaks 'gradients'*"])


def test_a_mark_added_while_the_test_runs_is_checked_after_it(outcomes):
    text = "def test_it(request): request.node.add_marker(pytest.mark.pydnn_stage(wrong))"
    result = outcomes(text)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*stage wrong breaks 'gradients'*"])


@pytest.mark.parametrize(
    "text", ["def test_it(): pass", "class It(unittest.TestCase):\n    def test_it(self): pass"]
)
def test_a_rerun_of_a_test_checks_the_laws_again(outcomes, text):
    twice = """
def pytest_itemcollected(item): item.add_marker(pytest.mark.pydnn_stage(wrong))
from _pytest.runner import runtestprotocol
def pytest_runtest_protocol(item, nextitem):
    for _ in range(2):
        item.user_properties.clear()
        item._initrequest()
        runtestprotocol(item, nextitem=nextitem)
    return True
"""
    result = outcomes(text, PARTS + twice)
    assert not result.parseoutcomes().get("passed")


def test_a_skipped_test_checks_no_laws(outcomes):
    text = "@pytest.mark.skip\n@pytest.mark.pydnn_stage(wrong)\ndef test_it(): pass"
    outcomes(text).assert_outcomes(skipped=1)


def test_each_mark_makes_a_separate_test(outcomes):
    text = """
pytestmark = pytest.mark.pydnn_stage(right, shape_in=(3,))

@pytest.mark.pydnn_stage(wrong)
@pytest.mark.pydnn_stage(right)
def test_it(pydnn_stage): assert pydnn_stage is right
"""
    result = outcomes(text)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*relu0* PASSED*", "*wrong* ERROR*", "*relu1* PASSED*"])


def test_a_fixture_without_a_mark_is_refused(outcomes):
    result = outcomes("def test_it(pydnn_loss): pass")
    result.stdout.fnmatch_lines(["*uses the fixture pydnn_loss and has no mark of that name*"])


UNUSUAL = {
    "mock.call": "from unittest.mock import call",
    "Mock": "from unittest.mock import Mock\nmock = Mock()",
    "MagicMock of a function": "from unittest.mock import create_autospec\n"
    "def f(): pass\nmock = create_autospec(f)",
    "an object that raises": "class R:\n"
    "    def __getattr__(self, name): raise RuntimeError('outside of a request')\n"
    "request, test_request = R(), None",
    "a class whose attributes raise": "class Meta(type):\n"
    "    def __getattr__(cls, name): raise RuntimeError('lazy')\n"
    "class Lazy(metaclass=Meta): pass",
    "a column": "class Column:\n"
    "    def __getattr__(self, name): return Column()\n"
    "    def __eq__(self, other): return Column()\n"
    "    def __bool__(self): raise TypeError('a column has no truth value')\n"
    "    __hash__ = None\n"
    "    def __iter__(self): return iter([Column()])\n"
    "col = Column()",
    "a lazy module": "import types\n"
    "class Lazy(types.ModuleType):\n"
    "    def __getattr__(self, name): raise ImportError('no such backend')\n"
    "lazy = Lazy('lazy')",
    "pytestmark of another kind": "def helper(): pass\nhelper.pytestmark = 'mine'",
    "an array": "import numpy\narray = numpy.ones(3)",
}


def test_unusual_objects_in_a_module_do_not_disturb_the_plugin(pytester):
    for i, text in enumerate(UNUSUAL.values()):
        pytester.makepyfile(**{f"test_unusual_{i}": text + "\ndef test_it(): pass\n"})
    for plugins in (["-p", "no:pydnn"], PLUGINS):
        result = pytester.runpytest_inprocess("--continue-on-collection-errors", *plugins)
        result.assert_outcomes(passed=len(UNUSUAL))


@pytest.mark.slow
def test_the_plugin_alone_does_not_load_pydnn(tmp_path):
    code = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('pytest_pydnn', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "import pytest\n"
        "pytest.main(['-q', '-p', 'no:pydnn', '-p', 'no:cacheprovider', '.'], plugins=[module])\n"
        "print('loaded', 'pydnn' in sys.modules, 'numpy' in sys.modules)\n"
    )
    from pydnn.testing import pytest_pydnn

    (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
    command = [sys.executable, "-c", code, pytest_pydnn.__file__]
    out = subprocess.run(command, cwd=tmp_path, env=HERE, capture_output=True, text=True).stdout
    assert "1 passed" in out
    assert "loaded False" in out
