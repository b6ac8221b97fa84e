"""The choice of an engine. What the compiled engine computes is tested in tests/compiled."""

import argparse
import os
import sys

import attrs
import numpy as np
import pytest

from pydnn import Batch, Recipe, engines, train
from pydnn.checks import BadInput, MissingExtra
from pydnn.cli import main
from pydnn.cli.worker_options import executor_of
from pydnn.engines import chosen_engine, engine_for, engine_in_use, using_engine, working
from pydnn.runs.environment import current_environment, environment_text, read_environment
from pydnn.runs.environment_changes import environment_changes

MUCH, LITTLE = 1e15, 1e3
LINE = Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=3)
POINTS = Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]])


@pytest.fixture
def no_variable(monkeypatch):
    monkeypatch.delenv("PYDNN_ENGINE", raising=False)


@pytest.fixture
def no_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)


def test_numpy_does_the_work_unless_somebody_chooses_otherwise(no_variable):
    assert (chosen_engine(), engine_in_use(), engine_for(LITTLE)) == ("auto", "numpy", "numpy")


def test_the_choice_of_a_block_ends_with_it(monkeypatch):
    monkeypatch.setenv("PYDNN_ENGINE", "numpy")
    with using_engine("auto"):
        assert chosen_engine() == "auto"
        with using_engine("numpy"):
            assert (chosen_engine(), engine_for(MUCH)) == ("numpy", "numpy")
        assert chosen_engine() == "auto"
    assert chosen_engine() == "numpy"


def test_an_unknown_engine_is_refused(monkeypatch):
    with pytest.raises(BadInput, match="no engine 'gpu'"), using_engine("gpu"):
        pass
    monkeypatch.setenv("PYDNN_ENGINE", "compield")
    with pytest.raises(BadInput, match=r"PYDNN_ENGINE 'compield': did you mean 'compiled'\?"):
        chosen_engine()


def test_auto_compiles_long_jobs_only(no_variable):
    pytest.importorskip("numba")
    assert engine_for(MUCH) == "compiled"
    with working(MUCH):
        assert engine_in_use() == "compiled"
    with using_engine("compiled"), working(LITTLE):
        assert engine_in_use() == "compiled"
    assert engine_in_use() == "numpy"


def test_without_numba_auto_stays_with_numpy_and_an_explicit_choice_is_refused(
    no_variable, no_numba, monkeypatch
):
    assert engine_for(MUCH) == "numpy"
    message = "the compiled engine needs numba, which is not installed: run pip install 'numba>=0"
    with pytest.raises(MissingExtra, match=message), using_engine("compiled"):
        pass
    monkeypatch.setenv("PYDNN_ENGINE", "compiled")
    with pytest.raises(MissingExtra, match=message):
        train(LINE, POINTS)
    assert (engine_in_use(), engines.in_use.forms) == ("numpy", None)


def test_the_command_line_refuses_what_is_not_installed(no_numba, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--engine", "compiled"]) == 2
    assert "pip install 'numba>=0.61'" in capsys.readouterr().err


def test_an_engine_that_fails_leaves_the_work_to_numpy_and_says_so_once(no_variable):
    pytest.importorskip("numba")
    notes = []
    with using_engine("compiled"), engines.notes_to(notes.append):
        engines.give_up(ValueError("no such instruction\nand more"))
        engines.give_up(ValueError("again"))
        assert engine_in_use() == "numpy"
    (note,) = notes
    assert "(ValueError: no such instruction), so NumPy does the work" in note


def test_an_environment_names_the_engine_but_does_not_differ_by_it():
    here = current_environment(engine="numpy")
    other = attrs.evolve(here, engine="compiled")
    assert other == here
    assert environment_changes(here, other) == []
    assert read_environment(environment_text(other), "here").engine == "compiled"
    older = environment_text(other).replace('  "engine": "compiled",\n', "")
    assert read_environment(older, "here").engine == "numpy"


def test_marked_functions_are_unchanged():
    square = engines.compilable(lambda a: a * a)
    assert engines.is_compilable(square)
    assert not engines.is_compilable(np.square)
    assert square(3) == 9


def test_processes_that_a_command_starts_use_its_engine(monkeypatch):
    monkeypatch.setenv("PYDNN_ENGINE", "auto")
    args = argparse.Namespace(engine="numpy", executor=None, workers=None, cluster=None)
    with executor_of(args):
        assert (chosen_engine(), os.environ["PYDNN_ENGINE"]) == ("numpy", "numpy")
    assert os.environ["PYDNN_ENGINE"] == "auto"
