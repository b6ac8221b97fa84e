"""A recording that is killed, starved, locked out or interrupted at any moment loses nothing.

The moments are drawn from the clock, and then taken one by one: every operation on a file of the
run that a process does, and every instruction of the modules that record.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import attrs
import pytest
from small_runs import recorded, small_recipe

from pydnn import BadInput, Key
from pydnn.board import Board
from pydnn.cli import main
from pydnn.fingerprints import fingerprint
from pydnn.jobs.model import load_model
from pydnn.recipes.toml import write_recipe
from pydnn.runs import Run

posix = pytest.mark.skipif(os.name != "posix", reason="needs signals and fork")

# What runs in the other processes

COMMAND_LINE = """
import signal, sys
from pydnn.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest may ignore it
sys.exit(main())
"""

# Forks of one warm process. The N-th fork is disturbed at its N-th operation on a file of the run,
# or at the N-th instruction of the recording modules, until one fork ends undisturbed.
DISTURBED = """
import builtins, fcntl, io, json, os, resource, shutil, signal, sys
from pathlib import Path
import h5py
import pydnn.cli, pydnn.runs.environment, pydnn.runs.recording as recording
import pydnn.runs.segments as segments
from pydnn.runs import resume
from pydnn.storage import checksums, files, hdf5

order = json.load(sys.stdin)
home, how = order["home"], order["how"]
count = at = 0
tell = lambda what: None

def operation(what, perform, half=lambda: None):
    global count
    count += 1
    if count != at:
        return perform()
    tell(what)
    if how == "killed before":
        half()
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "killed after":
        try:
            perform()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    elif how == "full":
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["room"], hard))
    return perform()

def ours(path):
    return isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(home)

class Written:
    def __init__(self, file): self.file = file
    def __getattr__(self, name): return getattr(self.file, name)
    def __enter__(self): return self
    def __exit__(self, *error): self.close()
    def close(self): operation("close", self.file.close)
    def write(self, content):
        def write(content):
            self.file.write(content)
            self.file.flush()
        operation("write", lambda: write(content), lambda: write(content[: len(content) // 2]))
        return len(content)

def on_paths(module, name, what):
    plain = getattr(module, name)
    def counted(*args, **options):
        if not ours(args[0]) and "dir_fd" not in options:
            return plain(*args, **options)
        return operation(what, lambda: plain(*args, **options))
    setattr(module, name, counted)

def on_handles(module, name, what):
    plain = getattr(module, name)
    setattr(module, name, lambda *args: operation(what, lambda: plain(*args)))

def install():
    for name in "open rename replace link unlink mkdir rmdir".split():
        on_paths(os, name, "os." + name)
    on_handles(os, "fsync", "os.fsync")
    on_handles(fcntl, "flock", "flock")
    plain = io.open
    def opened(path, mode="r", *args, **options):
        if not ours(path):
            return plain(path, mode, *args, **options)
        file = operation("open " + mode, lambda: plain(path, mode, *args, **options))
        return file if mode in ("r", "rb") else Written(file)
    io.open = builtins.open = opened
    make, close = h5py.File.__init__, h5py.File.close
    def made(self, path, *args, **options):
        if not ours(path):
            return make(self, path, *args, **options)
        return operation("h5py.File", lambda: make(self, path, *args, **options))
    def closed(self):
        def half():
            path = self.filename
            close(self)
            if os.path.exists(path):  # and not only in memory
                os.truncate(path, os.stat(path).st_size // 2)
        if not self or not ours(self.filename) or self.mode == "r":
            return close(self)
        return operation("h5py.File.close", lambda: close(self), half)
    h5py.File.__init__, h5py.File.close = made, closed

watched = {module.__file__ for module in (recording, resume, segments, checksums, files, hdf5)}
functions = set(order.get("functions", []))

def trace(frame, event, argument):
    global count
    code = frame.f_code
    if code.co_filename not in watched or functions and code.co_qualname not in functions:
        return None
    frame.f_trace_opcodes = True
    if event == "opcode":
        count += 1
        if count == at:
            tell(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
            raise KeyboardInterrupt
    return trace

def child(argv, out, err, report):
    global tell
    tell = lambda what: os.write(report, what.encode())
    os.dup2(out, 1)
    os.dup2(err, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = 1
    try:
        if how == "interrupted":
            sys.settrace(trace)
        else:
            install()
        status = pydnn.cli.main(argv)
    except BaseException:
        import traceback
        sys.settrace(None)
        traceback.print_exc()
    sys.settrace(None)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

def one(number):
    folder = Path(home, f"{number:04}")
    if order["copied"]:
        shutil.copytree(order["copied"], folder)
    else:
        folder.mkdir()
    argv = [part.replace("FOLDER", str(folder)) for part in order["argv"]]
    pipes = [os.pipe() for _ in range(3)]
    process = os.fork()
    if process == 0:
        child(argv, *(write for _, write in pipes))
    for _, write in pipes:
        os.close(write)
    out, err, what = (os.fdopen(read).read() for read, _ in pipes)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return {"number": number, "folder": str(folder), "what": what, "status": status,
            "out": out, "err": err}

current = pydnn.runs.environment.current_environment(pydnn.fast)  # loads what is loaded lazily
done = []
at = 1
while not done or done[-1]["what"]:
    done.append(one(at))
    at += order["stride"]
print(json.dumps(done))
"""

RACING = """
import json, os, sys
import pydnn.cli

order = json.load(sys.stdin)
os.chdir(order["home"])
done = []
for argv in order["argvs"]:
    gate, opened = os.pipe()
    processes = []
    for _ in range(order["processes"]):
        pipes = os.pipe(), os.pipe()
        process = os.fork()
        if process == 0:
            os.close(opened)
            for (_, write), handle in zip(pipes, (1, 2)):
                os.dup2(write, handle)
            os.read(gate, 1)  # the end of the pipe releases all at the same time
            status = pydnn.cli.main(argv)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        for _, write in pipes:
            os.close(write)
        processes.append((process, [os.fdopen(read) for read, _ in pipes]))
    os.close(gate)
    os.close(opened)
    for process, pipes in processes:
        out, err = (pipe.read() for pipe in pipes)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        done.append({"status": status, "out": out, "err": err})
print(json.dumps(done))
"""


def answered(script, order):
    """The answer of a script to an order, both in JSON."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(order), capture_output=True, text=True, check=False, timeout=3000,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def started(*argv, cwd=None):
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND_LINE, *map(str, argv)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd,
    )  # fmt: skip


@contextlib.contextmanager
def training(*argv):
    """A process that ends with the block."""
    process = started("train", *argv)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(happened, process, seconds=300):
    until = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None or happened(), process.communicate()[1]
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.001)


# Expectations about a run afterwards


@attrs.frozen
class Whole:
    """A job, and its result when nothing disturbs it."""

    recipe: Path
    every: int
    run: Path
    fingerprint: str
    costs: list

    def argv(self, folder):
        """The command line that trains it at `folder`."""
        return ["train", str(self.recipe), "--run", str(folder),
                "--checkpoint-every", str(self.every), "--json"]  # fmt: skip


def whole_run(folder, capsys, *, iterations, every):
    recipe = folder / "job.toml"
    recipe.write_text(write_recipe(small_recipe(folder, iterations=iterations)))
    whole = Whole(recipe, every, folder / "whole", "", [])
    results = results_of(capsys, *whole.argv(whole.run))
    return attrs.evolve(whole, fingerprint=results["fingerprint"], costs=results["costs"])


def results_of(capsys, *argv):
    """The JSON object that a successful command prints."""
    capsys.readouterr()
    status = main([*map(str, argv)])
    results = capsys.readouterr()
    assert status == 0, results.err
    return json.loads(results.out)


def expect_refused(capsys, *argv, match):
    capsys.readouterr()
    assert main([*map(str, argv)]) == 2
    results = capsys.readouterr()
    expect_one_line(results.err, match)
    assert results.out == ""


def expect_one_line(text, match):
    assert text.count("\n") == 1, text
    assert text.startswith("pydnn: "), text
    assert match in text, text


def expect_recovered(capsys, path, whole, *, sound=True):
    """Go on with the run at `path`, or begin it, and expect the bits of `whole`."""
    if path.exists():
        if sound:  # a file with its final name is complete, whatever happened
            Run.open(path)
        results = results_of(capsys, "resume", path, "--json", "--checkpoint-every", whole.every)
    else:
        results = results_of(capsys, *whole.argv(path))
    assert results["fingerprint"] == whole.fingerprint
    assert results["costs"] == whole.costs
    run = Run.open(path)
    assert run.iterations == len(whole.costs)
    assert run.folder.left_behind == ()
    assert [end.iteration for end in run.folder.ends][-1] == len(whole.costs)
    models = [load_model(folder / "model.h5") for folder in (path, whole.run)]
    bits = [fingerprint({"it": model.parameters.vector}) for model in models]
    assert bits[0] == bits[1]
    results = results_of(capsys, "replay", path, "--json")
    assert results["same"]
    assert results["fingerprint"] == whole.fingerprint
    assert results["steps"] == len(whole.costs)


def contents(folder):
    """Every file below `folder`, with its bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*")
            if path.is_file()}  # fmt: skip


def test_run_n_is_recorded_by_a_disturbed_process_as_by_any_other(tmp_path, capsys):
    whole = whole_run(tmp_path, capsys, iterations=6, every=2)
    assert len(Run.open(whole.run).segments) == 4
    expect_recovered(capsys, whole.run, whole)


# Killed


def drawn(what, number):
    """A number from 0 to 1 for each purpose and kill."""
    return float(Key(2026).at(what, number).uniform(()))


def segments_of(path):
    return list((path / "segments").glob("[0-9]*.h5"))


def has_more_than(segments, path):
    return len(segments_of(path)) > segments


@posix
@pytest.mark.slow
def test_killed_at_15_drawn_moments(tmp_path, capsys):
    whole = whole_run(tmp_path, capsys, iterations=800, every=20)
    most = len(segments_of(whole.run))
    in_the_middle = 0
    # Wait for a random number of segments, then for a random time. On a busy machine, a random time
    # alone would mostly end after the process has ended.
    for number in itertools.count():
        path = tmp_path / f"run-{number}"
        early = number < 5  # then the process is killed while it starts or makes the folder
        segments, delay = int(drawn("segments", number) * (most - 5)), drawn("delay", number)
        with training(*whole.argv(path)[1:]) as process:
            if not early:
                wait_until(partial(has_more_than, segments, path), process)
            time.sleep(delay * (0.5 if early else 0.02))
            process.kill()
            process.communicate()
        in_the_middle += bool(segments_of(path)) and not list(path.glob("end-*.json"))
        try:
            expect_recovered(capsys, path, whole)
        except BaseException as error:
            error.add_note(f"number {number}: killed {delay} after {segments} segments")
            raise
        if number >= 14 and in_the_middle >= 9:
            break
        assert number < 45


class Reader(threading.Thread):
    """Asks a board for the list, a run and its curves again and again while processes write."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.board, self.name_of_run, self.curves, self.answers = Board(folder), "", {}, []
        self.ended = threading.Event()

    def run(self):
        while not self.ended.is_set():
            name = self.name_of_run
            self.answers.append((name, self.board.answer("/").status))
            self.answers.append((name, self.board.answer(f"/run?run={name}").status))
            with contextlib.suppress(BadInput):  # there is no such run yet
                steps, costs = self.board.catalog.curves(name).columns.get("cost", ((), ()))
                known = self.curves.setdefault(name, {})
                known |= dict(zip(map(int, steps), costs, strict=True))


@posix
@pytest.mark.slow
def test_killed_while_somebody_reads(tmp_path, capsys):
    whole = whole_run(tmp_path, capsys, iterations=600, every=150)
    reader = Reader(tmp_path)
    reader.start()
    try:
        for number in range(4):
            reader.name_of_run = f"run-{number}"
            path = tmp_path / reader.name_of_run
            with training(*whole.argv(path)[1:]) as process:
                wait_until(partial(has_more_than, number % 4, path), process)
                time.sleep(drawn("delay while somebody reads", number) * 0.05)
                process.kill()
                process.communicate()
            expect_recovered(capsys, path, whole)
    finally:
        reader.ended.set()
        reader.join()
    assert {status for _, status in reader.answers} <= {200, 400}
    assert sum(map(len, reader.curves.values())) > 300
    for costs in reader.curves.values():
        # Whatever a reader saw is what an undisturbed training computes, bit for bit.
        assert costs == {step: whole.costs[step] for step in costs}
    assert not list(tmp_path.rglob("live-*"))


def what_is_left(folder):
    """All folders and files below `folder` with their bytes, independent of process numbers."""
    return frozenset(
        (re.sub(r"\.\d+-(\d+)\.part$", r".\1.part", path.relative_to(folder).as_posix()),
         _content_of(path) if path.is_file() else None)
        for path in folder.rglob("*")
    )  # fmt: skip


def _content_of(path):
    """The bytes of a file, but none of live rows: they hold times, and nothing that goes on with a
    run reads them."""
    return b"" if path.name.startswith("live-") else path.read_bytes()


def expect_each_recovered(
    capsys, done, whole, *, status, sound=True, check=lambda path, recovered: None
):
    """Check each disturbed copy of a process; a failure names the copy.

    Many leave the same files, bit for bit, and how one goes on depends on these alone: each set of
    files is recovered once.
    """
    assert len(done) > 5
    assert done[-1]["status"] == 0, done[-1]["err"]
    recovered = set()
    for one in done:
        path = Path(one["folder"]) / "run"
        try:
            assert one["status"] in status or one is done[-1], one["err"]
            left = what_is_left(path.parent)
            if left not in recovered:
                check(path, recovered=False)
                expect_recovered(capsys, path, whole, sound=sound)
                check(path, recovered=True)
                recovered.add(left)
        except BaseException as error:
            error.add_note(f"disturbed at {one['number']}, {one['what']}: {one['err']}")
            raise
        shutil.rmtree(one["folder"])


@posix
@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed before", "killed after"])
def test_killed_at_every_file_operation(tmp_path, capsys, how):
    whole = whole_run(tmp_path, capsys, iterations=6, every=2)
    order = {"home": str(tmp_path / "home"), "how": how, "stride": 1, "copied": None,
             "argv": whole.argv("FOLDER/run")}  # fmt: skip
    (tmp_path / "home").mkdir()
    done = answered(DISTURBED, order)
    with capsys.disabled():
        print(f" {len(done) - 1} points", end="")
    expect_each_recovered(capsys, done, whole, status=[-signal.SIGKILL])


@posix
@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed before", "killed after"])
def test_killed_at_every_file_operation_of_a_resume(tmp_path, capsys, how):
    whole = whole_run(tmp_path, capsys, iterations=6, every=2)
    damaged, aside = damaged_run(tmp_path, whole)
    order = {"home": str(tmp_path / "home"), "how": how, "stride": 1, "copied": str(damaged.parent),
             "argv": ["resume", "FOLDER/run", "--checkpoint-every", "2", "--json"]}  # fmt: skip
    (tmp_path / "home").mkdir()
    done = answered(DISTURBED, order)
    with capsys.disabled():
        print(f" {len(done) - 1} points", end="")

    def expect_nothing_vanished(path, *, recovered):
        found = contents(path)
        assert set(aside.values()) <= set(found.values())
        if recovered:
            now = {name.name: found[name] for name in found if name.parts[0] == "set-aside"}
            assert aside.items() <= now.items()

    expect_each_recovered(
        capsys, done, whole, status=[-signal.SIGKILL], sound=False, check=expect_nothing_vanished
    )


def damaged_run(folder, whole):
    """A run with a damaged and a half-written segment, and the files that resume should set aside.

    The segments after the damaged one stay: that one is computed again to what they follow.
    """
    path = folder / "damaged" / "run"
    shutil.copytree(whole.run, path)
    (path / "model.h5").unlink()
    segments = path / "segments"
    content = bytearray((segments / "0000000004.h5").read_bytes())
    content[-100] ^= 1
    (segments / "0000000004.h5").write_bytes(content)
    left = segments / ".0000000008.h5.1-2.part"
    left.write_bytes(b"half of a segment")
    return path, {file.name: file.read_bytes() for file in (segments / "0000000004.h5", left)}


# The disk is full


@posix
@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 5000])
def test_no_file_may_grow_from_some_operation_on(tmp_path, capsys, room):
    whole = whole_run(tmp_path, capsys, iterations=6, every=2)
    order = {"home": str(tmp_path / "home"), "how": "full", "stride": 1, "copied": None,
             "argv": whole.argv("FOLDER/run"), "room": room}  # fmt: skip
    (tmp_path / "home").mkdir()
    done = answered(DISTURBED, order)
    refused = [one for one in done if one["status"]]
    made = [one for one in refused if Path(one["folder"], "run").exists()]
    assert 0 < len(made) < len(refused)  # some while it is made, some while it is recorded
    for one in refused:
        expect_one_line(one["err"], one["folder"] + "/run")
        assert ": choose " in one["err"]
        assert not list(Path(one["folder"]).rglob("*.part"))
    expect_each_recovered(capsys, done, whole, status=[0, 2])


# Interrupted


@posix
@pytest.mark.slow
@pytest.mark.parametrize(
    ("functions", "stride"),
    [(["_recorded", "Recording.write", "Recording.end"], 7), ([], 101)],
    ids=["recorder", "everything"],
)
def test_interrupted_at_any_instruction(tmp_path, capsys, functions, stride):
    whole = whole_run(tmp_path, capsys, iterations=5, every=2)
    order = {"home": str(tmp_path / "home"), "how": "interrupted", "stride": stride,
             "functions": functions, "copied": None, "argv": whole.argv("FOLDER/run")}  # fmt: skip
    (tmp_path / "home").mkdir()
    done = answered(DISTURBED, order)
    with capsys.disabled():
        print(f" {len(done) - 1} points", end="")
    for one in done[:-1]:
        assert "Traceback" not in one["err"], one
        assert one["err"].count("\n") <= 1, one

    def expect_nothing_lost(path, *, recovered):
        if (path / "model.h5").exists():
            run = Run.open(path)
            assert len(load_model(path / "model.h5").costs) <= run.iterations
            assert [end.iteration for end in run.folder.ends][-1] == run.iterations

    expect_each_recovered(capsys, done, whole, status=[130], check=expect_nothing_lost)


@posix
@pytest.mark.slow
@pytest.mark.parametrize("every", [7, 10**6])
def test_interrupted_by_a_person_nothing_is_lost(tmp_path, capsys, every):
    long = tmp_path / "long.toml"  # too long to end before the interruption
    long.write_text(write_recipe(small_recipe(tmp_path, iterations=10**6)))
    path = tmp_path / "run"
    with training(long, "--run", path, "--checkpoint-every", every) as process:
        first = next(line for line in process.stdout if line.startswith("iteration "))
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    expect_one_line(err, f"interrupted; the training so far is in {path}/model.h5")
    run = Run.open(path)
    # On a slow machine, there may be no line after the first.
    shown = [line for line in (first, *out.splitlines()) if line.startswith("iteration ")]
    assert int(shown[-1].split()[1]) < run.iterations < 10**6
    # One step more, if the interruption came between its record and its report.
    assert run.iterations - len(load_model(path / "model.h5").costs) in (0, 1)
    assert [(end.iteration, end.why) for end in run.folder.ends] == [
        (run.iterations, "interrupted")
    ]
    assert results_of(capsys, "replay", path, "--json")["steps"] == run.iterations
    more = run.iterations + 50
    results = results_of(capsys, "resume", path, "--iterations", more, "--json")
    argv = ["train", long, "--iterations", more, "--run", tmp_path / "other", "--json"]
    assert results_of(capsys, *argv)["costs"] == results["costs"]
    assert Run.open(path).fingerprint == Run.open(tmp_path / "other").fingerprint


# The disk is full, in processes that end like those of users

LIMITED = """
import resource, sys
import pydnn.cli, pydnn.runs.recording as recording

write, number = recording.write_segment, int(sys.argv.pop(1))

def limited(*args, **options):
    global number
    number -= 1
    if number < 0:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    return write(*args, **options)

recording.write_segment = limited
sys.exit(pydnn.cli.main())
"""


@posix
@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 2])
def test_the_disk_fills_at_a_segment(tmp_path, capsys, number):
    whole = whole_run(tmp_path, capsys, iterations=6, every=2)
    path = tmp_path / "home" / "run"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(number), *whole.argv(path)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    segment = path / "segments" / f"{2 * number:010}.h5"
    expect_one_line(done.stderr, f"{segment} cannot be written (File too large): choose ")
    assert done.stdout == ""
    assert not list(path.parent.rglob("*.part"))
    if number:
        assert Run.open(path).iterations == 2
        assert contents(path / "segments").items() <= contents(whole.run / "segments").items()
    else:
        assert os.listdir(path.parent) == []
    expect_recovered(capsys, path, whole)


IN_A_SMALL_ROOM = """
import contextlib, io, json, os, subprocess, sys
from pathlib import Path
import pydnn.cli
order = json.load(sys.stdin)
room, done = Path(order["room"]), []

def mount(*options):
    subprocess.run(["mount", *options, str(room)], check=True)

mount("-t", "tmpfs", "-o", f"size={order['size']}", "none")
argv = [sys.executable, "-m", "pydnn", *order["argv"]]
one = subprocess.run(argv, capture_output=True, text=True)
done.append([one.returncode, one.stdout, one.stderr])
done.append(sorted(str(p.relative_to(room)) for p in room.rglob("*") if p.is_file()))
mount("-o", "remount,size=64m")
run = room / "run"
again = ["resume", str(run), "--json"] if run.exists() else order["argv"]
for argv in (again, ["replay", str(run), "--json"]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        status = pydnn.cli.main(argv)
    done.append([status, out.getvalue()])
print(json.dumps(done))
"""
OWN_MOUNTS = ["unshare", "--mount", "--propagation", "private"]


def expect_own_mounts():
    """Skip if this process may not make private mounts."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare")
    test = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "none", "/mnt"]
    done = subprocess.run(test, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing may be mounted: {done.stderr.strip()}")


@posix
@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path, capsys):
    expect_own_mounts()
    whole = whole_run(tmp_path, capsys, iterations=6, every=2)
    (tmp_path / "room").mkdir()
    run = tmp_path / "room" / "run"
    refused = []
    for pages in range(1, 40):
        order = {"room": str(run.parent), "size": f"{4 * pages}k", "argv": whole.argv(run)}
        done = subprocess.run(
            [*OWN_MOUNTS, sys.executable, "-c", IN_A_SMALL_ROOM],
            input=json.dumps(order), capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, (pages, done.stderr)
        (status, _, err), files, resumed, replayed = json.loads(done.stdout)
        if status:
            assert status == 2
            expect_one_line(err, f"{run}")
            assert "cannot be written (No space left on device): choose " in err
            assert not [name for name in files if name.endswith(".part")]
            refused.append(bool(files))
        for status, out in (resumed, replayed):
            assert status == 0, (pages, done.stderr)
            assert json.loads(out)["fingerprint"] == whole.fingerprint
        if not refused or json.loads(done.stdout)[0][0] == 0:
            break
    assert set(refused) == {True, False}  # some while it was made, some while it was recorded


# Read-only

READING = """
import contextlib, io, json, sys
from pydnn.cli import main
from pydnn.runs import Run
done = []
for argv in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        with contextlib.redirect_stderr(io.StringIO()) as err:
            status = main(argv) if argv[0] != "open" else Run.open(argv[1]).iterations
    done.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(done))
"""


@contextlib.contextmanager
def read_only(folder):
    """The prefix of a command line that keeps it from writing in `folder`."""
    if os.geteuid():
        modes = {path: path.stat().st_mode for path in [folder, *folder.rglob("*")]}
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        try:
            yield []
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
    else:  # root, who ignores permissions
        expect_own_mounts()
        bind = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
        yield [*OWN_MOUNTS, "sh", "-c", bind, str(folder)]


@posix
@pytest.mark.slow
@pytest.mark.parametrize("steps", [5, None], ids=["interrupted", "finished"])
def test_a_run_that_can_only_be_read(tmp_path, steps):
    home = tmp_path / "home"
    home.mkdir()
    recorded(home / "run", small_recipe(tmp_path), steps=steps)
    recorded(home / "other", small_recipe(tmp_path, seed=4))
    recipe = tmp_path / "job.toml"
    recipe.write_text(write_recipe(small_recipe(tmp_path)))
    before = contents(home)
    path, other, new = (str(home / name) for name in ("run", "other", "new"))
    orders = {
        "open": ["open", path],
        "replay": ["replay", path],
        "inspect": ["inspect", path, "--step", "3"],
        "diff": ["diff", path, other],
        "train into it": ["train", str(recipe), "--run", path],
        "train beside it": ["train", str(recipe), "--run", new],
        "resume": ["resume", path],
    }
    with read_only(home) as prefix:
        done = subprocess.run(
            [*prefix, sys.executable, "-c", READING], input=json.dumps(list(orders.values())),
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = dict(zip(orders, json.loads(done.stdout), strict=True))
    assert results["open"][0] == (steps or 12)
    for name in ("replay", "inspect", "diff"):
        status, out, err = results[name]
        assert status == (name == "diff"), results[name]  # because those two runs differ
        assert out, results[name]
        # One line says that there will be no note of the replay in the folder.
        assert err.count("\n") == ("gets no note of this replay" in err), results[name]
        assert bool(err) == (name == "replay"), results[name]
    for name, match in {
        "train into it": f"{path} exists already, expected a new one",
        "train beside it": f"{new} cannot be made (",
        "resume": f"{path}/lock cannot be written (",
    }.items():
        status, out, err = results[name]
        assert (status, out) == (2, ""), results[name]
        expect_one_line(err, match)
    assert contents(home) == before


# Two at once


def raced(folder, argvs, *, processes):
    """The results of several processes that start each command line at the same moment."""
    argvs = [[*map(str, argv)] for argv in argvs]
    done = answered(RACING, {"home": str(folder), "processes": processes, "argvs": argvs})
    return [done[i : i + processes] for i in range(0, len(done), processes)]


def expect_one_to_win(done, match):
    won, *lost = sorted(done, key=lambda one: one["status"])
    assert won["status"] == 0, won["err"]
    for one in lost:
        assert (one["status"], one["out"]) == (2, "")
        expect_one_line(one["err"], match)
    return json.loads(won["out"])


@posix
@pytest.mark.slow
def test_of_several_that_train_the_same_run_one_does(tmp_path, capsys):
    whole = whole_run(tmp_path, capsys, iterations=6, every=2)
    paths = [tmp_path / f"run-{number}" for number in range(2)]
    done = raced(tmp_path, [whole.argv(path) for path in paths], processes=3)
    for path, several in zip(paths, done, strict=True):
        results = expect_one_to_win(several, f"{path} exists already, expected a new")
        assert results["fingerprint"] == whole.fingerprint
        assert contents(path / "segments") == contents(whole.run / "segments")
    assert not list(tmp_path.glob(".*"))


@posix
@pytest.mark.slow
def test_several_without_a_name_get_numbers_of_their_own(tmp_path, capsys):
    whole = whole_run(tmp_path, capsys, iterations=6, every=2)
    argv = ["train", whole.recipe, "--json"]
    done = [one for several in raced(tmp_path, [argv] * 2, processes=3) for one in several]
    assert [one["err"] for one in done] == [""] * 6
    results = [json.loads(one["out"]) for one in done]
    assert sorted(one["run"] for one in results) == [f"runs/{n:04}" for n in range(1, 7)]
    assert {one["fingerprint"] for one in results} == {whole.fingerprint}
    for one in results:
        assert Run.open(tmp_path / one["run"]).fingerprint == whole.fingerprint


@posix
@pytest.mark.slow
def test_of_several_that_resume_a_run_one_does(tmp_path, capsys):
    whole = whole_run(tmp_path, capsys, iterations=1000, every=100)
    path = tmp_path / "run"
    recorded(path, small_recipe(tmp_path, iterations=1000), steps=5, every=2)
    (done,) = raced(tmp_path, [["resume", path, "--json"]], processes=3)
    results = expect_one_to_win(done, f"{path} is being written by another process")
    assert results["fingerprint"] == whole.fingerprint
    expect_recovered(capsys, path, whole)


@posix
@pytest.mark.slow
def test_a_run_that_is_being_trained_can_be_read_but_not_resumed(tmp_path, capsys):
    long = tmp_path / "long.toml"
    long.write_text(write_recipe(small_recipe(tmp_path, iterations=10**6)))
    path = tmp_path / "run"
    with training(long, "--run", path, "--checkpoint-every", 50) as process:
        wait_until((path / "segments" / "0000000100.h5").exists, process)
        for _ in range(3):
            refusal = f"{path} is being written by another process: wait until"
            expect_refused(capsys, "resume", path, "--iterations", 1, match=refusal)
        counts = [Run.open(path).iterations for _ in range(20)]
        assert counts == sorted(counts)
        assert results_of(capsys, "replay", path, "--segments", "1,2", "--json")["same"]
        assert process.poll() is None
    argv = ["resume", path, "--iterations", "999999999", "--data", "nothing"]
    expect_refused(capsys, *argv, match="there is no data set")  # it is no longer being written
