"""The choice of an engine. What the compiled engine computes is tested in tests/compiled."""

import argparse
import functools
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


def test_an_engine_that_fails_leaves_the_work_to_numpy_and_says_so_once(no_variable, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(engines, "_failed", False)
    notes = []
    with using_engine("compiled"), engines.notes_to(notes.append):
        engines.give_up(ValueError("no such instruction\nand more"))
        engines.give_up(ValueError("again"))
        assert engine_in_use() == "numpy"
        with using_engine("compiled"):  # and that is what it does from now on
            assert engine_in_use() == "numpy"
    (note,) = notes
    assert "(ValueError: no such instruction), so NumPy does the work" in note


def test_blocks_of_several_threads_may_end_in_any_order(no_variable):
    pytest.importorskip("numba")
    first, second = using_engine("compiled"), working(LITTLE)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert (engine_in_use(), chosen_engine()) == ("compiled", "auto")  # that of the other thread
    second.__exit__(None, None, None)
    assert (engine_in_use(), chosen_engine()) == ("numpy", "auto")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('no LLVM here')", "cannot be imported (RuntimeError: no LLVM here)"),
        ("__version__ = '0.1'", "cannot use numba 0.1 ("),
    ],
    ids=["broken", "another version"],
)
def test_a_numba_that_cannot_be_used_is_named_in_one_line(
    text, reason, no_variable, tmp_path, monkeypatch
):
    (tmp_path / "numba.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [*sys.modules]:
        if name.partition(".")[0] == "numba" or name.startswith("pydnn.compiled"):
            monkeypatch.delitem(sys.modules, name)
    notes = []
    with engines.notes_to(notes.append):
        assert (engine_for(MUCH), engine_for(MUCH), engine_for(LITTLE)) == ("numpy",) * 3
    (note,) = notes
    assert reason in note
    assert "NumPy does the work, to the same bits" in note
    with pytest.raises(MissingExtra, match="the compiled engine "), using_engine("compiled"):
        pass


def test_functions_that_wrap_a_marked_one_are_not_marked():
    mask = engines.multiplies_by(max)

    @mask
    @engines.compilable
    def square(a):
        return a * a

    @functools.wraps(square)
    def other(a):
        return square(a) + 1

    assert engines.expression_of(square) is square
    assert engines.mask_of(square, square) is max
    assert not engines.is_compilable(other)
    assert engines.mask_of(other, other) is None


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
