"""The choice of an engine. What the compiled engine computes is tested in tests/compiled."""

import argparse
import functools
import subprocess
import sys

import attrs
import numpy as np
import pytest
from helpers import IdleEngine
from sending import Sending
from small_runs import recorded, saved_data, small_recipe

from pydnn import Batch, Recipe, engines, train
from pydnn.checks import BadInput
from pydnn.cli import main
from pydnn.cli.worker_options import executor_of
from pydnn.engines import (
    chosen_engine,
    engine_for,
    engine_for_workers,
    engine_in_use,
    using_engine,
    working,
)
from pydnn.jobs.job import run as run_job
from pydnn.runs import Run, record, resume_run
from pydnn.runs.environment import current_environment, environment_text, read_environment
from pydnn.runs.environment_changes import environment_changes
from pydnn.runs.replay import verify
from pydnn.sweeps import run_sweep, sweep
from pydnn.workers.child import _Worker
from pydnn.workers.dask import Keeper, _message_of
from pydnn.workers.encoding import decoded
from pydnn.workers.interface import Spec, Task
from pydnn.workers.tasks import TASKS, Kind

MUCH, LITTLE = 1e15, 1e3
LINE = Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=3)
POINTS = Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]])


@pytest.fixture(autouse=True)
def nothing_said():
    """As if the process had just begun."""
    engines.note_once.cache_clear()


@pytest.fixture
def no_variable(monkeypatch):
    monkeypatch.delenv("PYDNN_ENGINE", raising=False)


@pytest.fixture
def no_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)


@pytest.fixture
def idle(no_variable, monkeypatch):
    monkeypatch.setattr(engines, "_load", IdleEngine)


def test_numpy_does_the_work_unless_somebody_chooses_otherwise(no_variable):
    assert (chosen_engine(), engine_in_use(), engine_for(LITTLE)) == ("auto", "numpy", "numpy")


WITHOUT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] not in ("numba", "llvmlite"), name

sys.meta_path.insert(0, Blocked())
sys.path[:0] = {folder!r}
from pydnn import Batch, Recipe, train
recipe = Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=3)
trained = train(recipe, Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]]))
print(trained.last.parameters.vector.tobytes().hex(), "pydnn.compiled" in sys.modules)
"""


@pytest.mark.slow
def test_short_trainings_never_ask_for_numba(no_variable):
    program = WITHOUT.format(folder=[p for p in sys.path if p])
    out = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert out == f"{train(LINE, POINTS).last.parameters.vector.tobytes().hex()} False\n"


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


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_a_way_to_compile_that_does_not_exist_is_reported_before_a_job(engine, monkeypatch):
    monkeypatch.setenv("PYDNN_COMPILE", "her")
    message = r"there is no way in PYDNN_COMPILE 'her': did you mean 'here'\?"
    with pytest.raises(BadInput, match=message), using_engine(engine):
        pass
    monkeypatch.setenv("PYDNN_ENGINE", engine)
    with pytest.raises(BadInput, match=message):
        engines.engine_for(1.0)


def test_auto_compiles_long_jobs_only(no_variable):
    pytest.importorskip("numba")
    assert engine_for(MUCH) == "compiled"
    with working(MUCH):
        assert engine_in_use() == "compiled"
    with using_engine("compiled"), working(LITTLE):
        assert engine_in_use() == "compiled"
    assert engine_in_use() == "numpy"


def test_without_numba_numpy_does_the_work_and_one_warning_answers_an_explicit_choice(
    no_variable, no_numba, monkeypatch
):
    assert engine_for(MUCH) == "numpy"  # without a word
    expected = train(LINE, POINTS)
    message = "NumPy does the work, .* needs numba, which is not installed: run pip install 'numba>"
    with pytest.warns(RuntimeWarning, match=message) as warned, using_engine("compiled"):
        assert (engine_in_use(), engine_for(LITTLE), engine_for_workers()) == ("numpy",) * 3
    assert len(warned) == 1
    monkeypatch.setenv("PYDNN_ENGINE", "compiled")
    notes = []
    with engines.notes_to(notes.append):
        engines.note_once.cache_clear()  # as in another process
        trained = train(LINE, POINTS)
        train(LINE, POINTS)
    assert len(notes) == 1
    assert trained.last.parameters.vector.tobytes() == expected.last.parameters.vector.tobytes()
    assert (engine_in_use(), engines.in_use.forms) == ("numpy", None)


def test_the_command_line_says_in_one_line_what_is_not_installed(
    no_numba, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    options = ["--data", saved_data(tmp_path), "--iterations", "2", "--quiet"]
    assert main(["train", *options, "--run", "run", "--engine", "compiled"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pydnn: NumPy does the work, to the same bits, because the compiled")
    assert "pip install 'numba>=0.61'" in line
    (environment,) = Run.open("run").environments
    assert environment.engine == "numpy"


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
    with engines.notes_to(notes.append), using_engine("compiled"):
        assert engine_in_use() == "numpy"
    assert notes == [note]


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
    here = current_environment()
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


def test_the_engine_of_a_command_ends_with_it(monkeypatch):
    monkeypatch.setenv("PYDNN_ENGINE", "auto")
    args = argparse.Namespace(engine="numpy", executor=None, workers=None, cluster=None)
    with executor_of(args):
        assert (chosen_engine(), engine_for_workers()) == ("numpy", "numpy")
    assert chosen_engine() == "auto"


ENGINE = Kind(prepare=lambda spec: None, run=lambda *_: {"engine": engine_in_use()})


def answer(engine, worker):
    spec = Spec()
    about = {"task": "engine", "engine": engine, "threads": None, "arguments": {}, "shared": {}}
    about |= {"forget": [], "attach": [], "spec": spec.digest, "with": {**spec.texts, "arrays": {}}}
    return decoded(b"".join(worker.answer(about, {}, [])))[""]


def test_a_worker_uses_the_engine_of_the_job_that_asks_it(idle, monkeypatch):
    assert Task("echo", Spec()).engine == "auto"  # then the worker decides, job by job
    for choice, work, engine in [
        ("auto", MUCH, "compiled"),
        ("auto", LITTLE, "numpy"),
        ("numpy", MUCH, "numpy"),
        ("compiled", LITTLE, "compiled"),
    ]:
        with using_engine(choice), working(work):
            task = Task("engine", Spec())
        assert task.engine == engine
        monkeypatch.setitem(TASKS, "engine", "test_engines:ENGINE")
        assert answer(task.engine, _Worker())["result"] == {"engine": engine}
        keeper = Keeper()
        reply = decoded(keeper.work(*_message_of([task], [task.spec])))
        assert reply["mappings"] == [[["engine", None, engine]]]


def test_what_a_worker_says_about_its_engine_reaches_the_program_once(no_numba, monkeypatch):
    monkeypatch.setitem(TASKS, "engine", "test_engines:ENGINE")
    worker = _Worker()
    with engines.notes_to(worker.notes.append, people=False):
        first, second = answer("compiled", worker), answer("compiled", worker)
    assert first["result"] == {"engine": "numpy"}
    assert "which is not installed" in first["notes"][0]
    assert "notes" not in second


def test_a_job_inside_another_one_uses_its_engine(idle):
    with working(MUCH):
        assert engine_for(LITTLE) == "compiled"  # it has been loaded, and perhaps compiled
    assert engine_for(LITTLE) == "numpy"


def test_replays_and_sweeps_choose_by_all_their_work(idle, tmp_path, monkeypatch):
    recorded(tmp_path / "run", small_recipe(tmp_path))
    run, executor = Run.open(tmp_path / "run"), Sending()
    monkeypatch.setattr(engines, "WORTH_COMPILING", run.job.work_of(run.iterations))
    list(verify(run, executor=executor))
    list(verify(run, [1, 2], executor=executor))
    assert [task.engine for task in executor.tasks] == [*["compiled"] * 4, *["numpy"] * 2]
    assert engine_in_use() == "numpy"
    for seeds in (2, 3):
        plan, executor = sweep(LINE, POINTS, seeds=seeds, together=False), Sending()
        each = plan.work / seeds
        monkeypatch.setattr(engines, "WORTH_COMPILING", 3 * each)
        run_sweep(plan, executor=executor)
        assert {task.engine for task in executor.tasks} == {"numpy" if seeds < 3 else "compiled"}


def test_the_engine_of_each_part_of_a_run_is_recorded(idle, tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path))
    with using_engine("compiled"), resume_run(tmp_path / "run", iterations=30) as resumed:
        for _ in record(resumed.recording, run_job(resumed.job)):
            assert engine_in_use() == "compiled"
    run = Run.open(tmp_path / "run")
    assert [environment.engine for environment in run.environments] == ["numpy", "compiled"]
    assert {one.mismatch for one in verify(run)} == {None}
