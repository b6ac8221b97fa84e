"""The plugin of pytest, in sessions of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# An installed package has the plugin as a module of its own only; these are the sources.
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
def test_optimizer(pydnn_optimizer, pydnn_report): pydnn_report("seen")

def test_key(pydnn_key): assert pydnn_key.path[-1].endswith("test_key")

@pytest.mark.pydnn_stage()
def test_without(): pass
"""


@pytest.fixture
def session(tmp_path):
    """Runs pytest on a text, by the plugin's module, however pydnn was installed."""

    def run(text, *options):
        (tmp_path / "test_it.py").write_text(text)
        plugin = ["-p", "no:pydnn", "-p", "pydnn.testing.pytest_pydnn", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", "--strict-markers", "-v", *plugin, *options]
        done = subprocess.run(command, cwd=tmp_path, env=HERE, capture_output=True, text=True)
        return done.stdout

    return run


def test_marks_run_the_laws_and_tables_are_written(session, tmp_path):
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


def test_pytest_does_not_load_pydnn_where_nobody_asks_for_it(tmp_path):
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
