"""Kernels that another process compiles, while NumPy does the work."""

import collections
import io
import itertools
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the compiled engine needs numba")

from numba import typeof, types

import pydnn as nn
from pydnn import engines
from pydnn.checks import BadInput
from pydnn.compiled import aside, kernels
from pydnn.compiled.keys import _fill_normal
from pydnn.compiled.portable.sums import fold
from pydnn.engines import NotCompiledYet, using_engine
from pydnn.runs.state_arrays import state_fingerprint

PATIENCE = 300  # seconds; a shared machine may be slow for a moment
DOUBLED = "def loop(a, out):\n    for i in range(out.size):\n        out[i] = a[i] + a[i]\n"
SQUARED = DOUBLED.replace("+", "*")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache, and another process that has not begun."""
    monkeypatch.setenv("PYDNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYDNN_COMPILE", "aside")
    monkeypatch.setattr(aside, "_another", aside._Another())
    monkeypatch.setattr(engines, "_failed", False)
    remembered = (
        kernels.kernel_folder, kernels._from_text, engines.note_once, engines.say_compiling,
    )  # fmt: skip
    for each in remembered:
        each.cache_clear()
    yield tmp_path / "cache" / "compiled"
    aside._another.end()
    for each in remembered:
        each.cache_clear()


def applied(kernel):
    out = np.empty(3)
    kernel(np.array([3.0, -0.0, np.inf]), out)
    return out.tolist()


def until(condition):
    limit = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < limit
        time.sleep(0.01)
    return result


def in_the_end(kernel):
    """Call a kernel until another process has compiled it, or does so no more."""
    until(lambda: aside._another.asked is None)
    return applied(kernel)


def files(folder):
    return collections.Counter(path.suffix for path in folder.glob("*/*"))


def test_a_kernel_is_compiled_by_another_process_and_then_read_from_disk(folder):
    doubled, squared = map(kernels.kernel_from_text, (DOUBLED, SQUARED))
    for kernel in (doubled, doubled, squared, doubled):  # nothing waits
        with pytest.raises(NotCompiledYet):
            applied(kernel)
    assert in_the_end(doubled) == [6.0, -0.0, np.inf]
    assert (sum(doubled.stats.cache_hits.values()), len(doubled.stats.cache_misses)) == (1, 0)
    with pytest.raises(NotCompiledYet):  # the other one was only asked for meanwhile
        applied(squared)
    assert in_the_end(squared) == [9.0, 0.0, np.inf]
    assert files(folder) == {".py": 2, ".nbi": 2, ".nbc": 2}
    process = aside._another.process
    assert process.poll() is None  # it waits for more
    if hasattr(os, "getsid"):
        assert os.getsid(process.pid) != os.getsid(0)  # so Ctrl-C at a terminal does not reach it
    aside._another.end()
    assert process.returncode is not None


def test_kernels_that_are_on_disk_are_read_while_another_process_compiles(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("PYDNN_COMPILE", "here")
        assert applied(kernels.kernel_from_text(DOUBLED)) == [6.0, -0.0, np.inf]
    kernels._from_text.cache_clear()
    monkeypatch.setattr(aside._Another, "_answers", lambda *_: time.sleep(0.2) or True)
    with pytest.raises(NotCompiledYet):
        applied(kernels.kernel_from_text(SQUARED))
    assert applied(kernels.kernel_from_text(DOUBLED)) == [6.0, -0.0, np.inf]


def test_kernels_of_whole_steps_come_first(folder, monkeypatch):
    answers = queue.Queue()
    monkeypatch.setattr(aside._Another, "_answers", lambda *_: answers.get(timeout=PATIENCE))
    monkeypatch.setattr(aside, "_FIRST", 0.5)
    part, other = map(kernels.kernel_from_text, (DOUBLED, SQUARED))
    text = "def loop(a, out):\n    fold(a, 1, 3)\n    out[:] = a\n"
    whole = kernels.kernel_from_text(text, {"fold": fold})

    def asked_by(kernel):
        with pytest.raises(NotCompiledYet):
            applied(kernel)
        asked = aside._another.asked
        return asked and asked[0]

    def answered():
        answers.put(True)
        until(lambda: aside._another.asked is None)

    assert asked_by(part) is part.py_func
    assert asked_by(whole) is part.py_func
    assert aside.is_awaited(whole)
    assert not aside.is_awaited(other)
    answered()
    assert not aside.is_awaited(whole)
    assert asked_by(other) is None  # the whole step is about to be called
    assert asked_by(whole) is whole.py_func
    time.sleep(0.6)
    answered()
    assert asked_by(other) is other.py_func  # nobody called the whole step any more
    answered()


# A training


BATCH = nn.Batch(nn.Key(1).at("X").normal((2, 8)), np.arange(8).reshape(1, 8) % 2.0)
SMALL = nn.serial(nn.dense(3), nn.stages.tanh(), nn.dense(1))


def results(numerics):
    """Yield the state and what a reader gets of each step of a training."""
    optimizer = nn.adam()
    step = nn.make_train_step(SMALL, nn.sigmoid_cross_entropy(), optimizer, numerics=numerics)
    start = nn.initial_state(SMALL, optimizer, (2,), key=nn.Key(2))
    for state, info in step.folded(start, itertools.repeat(BATCH)):
        yield state_fingerprint(state), info


def compare(numerics):
    """Train until compiled kernels take all steps, then compare all steps with NumPy's."""
    taken, compiled, missed, limit = [], 0, -1, time.monotonic() + PATIENCE
    with using_engine("compiled"):
        for result in results(numerics):
            taken.append(result)
            before, missed = missed, engines.kernels_missed
            compiled = compiled + 1 if before == missed and aside._another.kept else 0
            if compiled > 20:
                break
            assert time.monotonic() < limit
            if aside._another.asked:
                time.sleep(0.001)  # so that not all of them are steps by NumPy
        assert engines.engine_in_use() == "compiled"
    assert aside._another.failure is None
    assert len(taken) > 21
    with using_engine("numpy"):
        assert taken == list(itertools.islice(results(numerics), len(taken)))
    print(aside._another.process.pid, flush=True)


def started(program, folder, **pipes):
    environment = os.environ | {"PYDNN_CACHE": str(folder), "PYDNN_COMPILE": "aside"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", f"from compiled.test_aside import *; {program}"]
    pipes |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def runs(pid):
    """Whether a process runs, and is no zombie that nobody has waited for."""
    if os.path.isdir("/proc"):
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("numerics", ["fast", "portable"])
def test_a_training_has_the_same_states_before_and_after_its_kernels_are_there(numerics, tmp_path):
    with started(f"compare(nn.{numerics})", tmp_path) as process:
        output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0, output
    assert not runs(int(output))


# The end of the process that trains


ASKS = """
import contextlib, os, signal
with contextlib.suppress(NotCompiledYet):
    applied(kernels.kernel_from_text(DOUBLED))
print(until(lambda: aside._another.process).pid, flush=True)
{then}
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes of Unix")
@pytest.mark.parametrize(
    ("then", "status"),
    [
        ("", 0),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
        pytest.param("os._exit(3)", 3, marks=pytest.mark.slow),
        pytest.param("raise KeyboardInterrupt", -2, marks=pytest.mark.slow),
    ],
)
def test_no_process_is_left_however_the_one_that_trains_ends(then, status, tmp_path):
    program = ASKS.format(then=then)
    with started(f"exec({program!r})", tmp_path) as process:
        output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == status, output
    until(lambda: not runs(int(output.split()[0])))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_leaves_the_other_one_to_its_parent(folder):
    with pytest.raises(NotCompiledYet):
        applied(kernels.kernel_from_text(DOUBLED))
    process = until(lambda: aside._another.process)
    child = os.fork()
    if not child:
        mine = aside._another
        fine = (mine.process, mine.asked, mine.failure) == (None, None, None)
        fine &= process.stdin.closed and process.stdout.closed
        os._exit(0 if fine and mine.lock.acquire(timeout=1) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert in_the_end(kernels.kernel_from_text(DOUBLED)) == [6.0, -0.0, np.inf]


# Failures


def another_program(program):
    """A function that starts a Python program instead of the process that compiles."""

    def start():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen([sys.executable, "-S", "-c", program], bufsize=0, **pipes)

    return start


def unable(*_):
    raise PermissionError(13, "Permission denied")


FAILURES = {
    "an error": ("raise SystemExit('no numba here')", r"ended with status 1 \(no numba here\)"),
    "silence": ("raise SystemExit(4)", r"ended with status 4 \(silently\)"),
    "garbage": ("print('kept 1\\n\\0 kept')", "another process does not compile them"),
    "a lie": ("input(); print('kept')", "loop is no longer in"),
    "no process": (unable, "Permission denied"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_process_that_fails_leaves_kernels_to_this_one_and_one_line_says_why(
    name, folder, monkeypatch
):
    program, reason = FAILURES[name]
    start = program if callable(program) else another_program(program)
    monkeypatch.setattr(aside, "_started", start)
    notes, kernel = [], kernels.kernel_from_text(DOUBLED)
    with engines.notes_to(notes.append):
        with pytest.raises(NotCompiledYet):
            applied(kernel)
        assert in_the_end(kernel) == [6.0, -0.0, np.inf]
        assert applied(kernels.kernel_from_text(SQUARED)) == [9.0, 0.0, np.inf]
    (note,) = notes
    assert note.startswith("kernels are compiled where they are needed, because ")
    assert re.search(reason, note)
    assert files(folder) == {".py": 2, ".nbi": 2, ".nbc": 2}


def test_a_kernel_that_cannot_be_compiled_is_named_by_the_error_of_this_process(folder):
    kernel = kernels.kernel_from_text("def loop(a, out):\n    out[0] = a.nothing\n")
    notes = []
    with engines.notes_to(notes.append):
        with pytest.raises(NotCompiledYet):
            applied(kernel)
        with pytest.raises(Exception, match="nothing"):
            in_the_end(kernel)
    assert "another process ended with status 1" in notes[0]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_where_something_kills_the_process_numpy_does_all_the_work(folder, monkeypatch):
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr(aside, "_started", another_program(kill))
    kernel, notes = kernels.kernel_from_text(DOUBLED), []
    with pytest.raises(NotCompiledYet):
        applied(kernel)
    with pytest.raises(RuntimeError, match=r"was killed: .* status -9") as raised:
        in_the_end(kernel)
    with engines.notes_to(notes.append):
        engines.give_up(raised.value)
    assert "NumPy does the work, to the same bits" in notes[0]
    assert not files(folder)[".nbc"]


@pytest.mark.parametrize(
    ("name", "value"), [("executable", ""), ("executable", "/opt/game"), ("frozen", True)]
)
def test_a_program_without_a_python_compiles_its_kernels_itself(name, value, folder, monkeypatch):
    monkeypatch.setattr(sys, name, value, raising=False)
    monkeypatch.setattr(aside, "_started", unable)
    with engines.notes_to(pytest.fail):
        assert applied(kernels.kernel_from_text(DOUBLED)) == [6.0, -0.0, np.inf]


def test_a_process_that_ended_for_want_of_requests_is_started_again(folder, monkeypatch):
    programs = ["input(); print('kept')", "input(); print('kept')", "input(); print('kept')"]
    begun = []

    def start():
        begun.append(another_program(programs.pop())())
        return begun[-1]

    monkeypatch.setattr(aside, "_started", start)
    for text in (DOUBLED, SQUARED):
        with pytest.raises(NotCompiledYet):
            applied(kernels.kernel_from_text(text))
        until(lambda: aside._another.asked is None)
        begun[-1].wait()
    assert (len(begun), aside._another.failure) == (2, None)


def test_nothing_waits_for_a_process_that_does_not_answer(folder, monkeypatch):
    monkeypatch.setattr(aside, "_started", another_program("import time; time.sleep(1000)"))
    kernel = kernels.kernel_from_text(DOUBLED)
    with pytest.raises(NotCompiledYet):
        applied(kernel)
    until(lambda: aside._another.process)
    begin = time.perf_counter()
    for _ in range(1000):
        with pytest.raises(NotCompiledYet):
            applied(kernel)
    assert time.perf_counter() - begin < 5
    aside._another.end()


def test_a_wrong_way_to_compile_is_named(folder, monkeypatch):
    monkeypatch.setenv("PYDNN_COMPILE", "hear")
    with pytest.raises(BadInput, match=r"PYDNN_COMPILE 'hear': did you mean 'here'\?"):
        applied(kernels.kernel_from_text(DOUBLED))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_person_at_a_terminal_reads_once_that_numpy_does_the_work_meanwhile(folder, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(aside._Another, "_answers", lambda *_: True)
    for text in (DOUBLED, SQUARED):
        with pytest.raises(NotCompiledYet):
            applied(kernels.kernel_from_text(text))
    said = "pydnn: compiling for this processor, once; until then NumPy does the work\n"
    assert sys.stderr.getvalue() == said


# What the other process does


def test_processes_that_need_the_same_kernel_compile_it_one_after_the_other(folder):
    kernels.make_kernel_folder()
    path, inside, most = folder / "a.lock", [], []

    def work():
        with aside._alone(path):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not path.exists()
    assert (len(most), max(most)) == (3, 1)


def test_the_other_process_ends_when_its_input_is_closed(tmp_path):
    program = "setattr(aside, '_IDLE', 1e6); aside.main()"
    with started(program, tmp_path, stdin=subprocess.PIPE) as process:
        assert process.communicate(timeout=PATIENCE)[0] == ""
    assert process.returncode == 0


@pytest.mark.slow
def test_the_other_process_ends_after_some_time_without_a_request(tmp_path):
    program = "setattr(aside, '_IDLE', 0.01); aside.main()"
    with started(program, tmp_path, stdin=subprocess.PIPE) as process:
        assert process.wait(timeout=PATIENCE) == 0


@pytest.mark.slow
def test_a_second_process_reads_the_kernel_that_the_first_one_compiles(folder):
    kernel = kernels.kernel_from_text(DOUBLED)
    sig = tuple(map(typeof, (np.zeros(1), np.zeros(1))))
    source = {"source": kernels.source_of(kernel.py_func), "types": [*map(aside._text_of, sig)]}
    request = json.dumps(source).encode() + b"\n"
    processes = [aside._started() for _ in range(3)]
    for process in processes:
        process.stdin.write(request)
    for process in processes:
        lines = iter(process.stdout.readline, b"")
        assert b"kept\n" in lines
        process.stdin.close()
        assert process.wait(timeout=PATIENCE) == 0
        process.stdout.close()
    assert files(folder) == {".py": 1, ".nbi": 1, ".nbc": 1}


DTYPES = st.sampled_from(["f4", "f8", "i8", "u8", "?"])
ARRAYS = st.builds(
    lambda dtype, shape, order, stop, writeable: frozen(
        np.zeros(shape, dtype, order)[: stop or None, ...], writeable
    ),
    DTYPES, st.sampled_from([(3,), (2, 3), (2, 3, 4)]), st.sampled_from("CF"),
    st.integers(0, 1), st.booleans(),
)  # fmt: skip
SINGLE = st.sampled_from([1, 2.0, True, np.float32(1), np.uint64(3), np.int64(4)])


def frozen(array, writeable):
    array.flags.writeable = writeable
    return array


@given(st.recursive(ARRAYS | SINGLE, lambda inner: st.lists(inner, max_size=3).map(tuple)))
def test_types_survive_the_way_to_the_other_process(value):
    plain = json.loads(json.dumps(aside._text_of(typeof(value))))
    assert aside._type_of(plain) == typeof(value)


Pair = collections.namedtuple("Pair", "first second")


def test_the_types_of_named_tuples_survive_too(monkeypatch):
    monkeypatch.setattr(Pair, "__module__", "collections")
    monkeypatch.setattr(collections, "Pair", Pair, raising=False)
    for value in (Pair(1.0, 2.0), Pair(1.0, 2)):
        assert aside._type_of(aside._text_of(typeof(value))) == typeof(value)


@pytest.mark.parametrize("type_", [types.unicode_type, types.none, types.pyobject], ids=str)
def test_other_types_are_refused(type_):
    with pytest.raises(aside._Failure, match="no text tells the type"):
        aside._text_of(type_)


def test_sources_of_kernels_survive_the_way_to_the_other_process():
    text = "def loop(a, out):\n    fold(a, NUMBER, 3)\n    out[:] = a + MOST\n"
    for kernel in (
        _fill_normal,
        kernels.kernel_from_text(DOUBLED),
        kernels.kernel_from_text(text, {"fold": fold, "NUMBER": 1, "MOST": 2.0**-60}),
    ):
        plain = json.loads(json.dumps(kernels.source_of(kernel.py_func)))
        assert kernels.kernel_of_source(plain) is kernel
    with pytest.raises(LookupError, match="has no name in"):
        kernels.source_of(kernels.kernel_from_text(text + "#", {"fold": lambda: 0}).py_func)


def test_a_result_that_missed_a_kernel_is_computed_again():
    calls = []

    @kernels.once_compiled
    def result(number):
        calls.append(number)
        if len(calls) < 3:
            engines.give_up(NotCompiledYet())
            return None
        return number

    assert [result(7) for _ in range(4)] == [None, None, 7, 7]
    assert calls == [7] * 3
    result.cache_clear()
    assert result(8) == 8
