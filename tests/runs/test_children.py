"""Processes that pydnn starts import nothing from the current folder, and end with their parent."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_runs import flipping, recorded, small_recipe

from pydnn import BadInput
from pydnn.runs import Run
from pydnn.runs.diff import _called, _elsewhere
from pydnn.runs.inspect import read_tensors
from pydnn.runs.replay import verify
from pydnn.storage.hdf5 import write_hdf5

posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("children")
    recorded(folder / "run", small_recipe(folder))
    return folder / "run"


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    recorded(folder / "run", small_recipe(folder, iterations=3000), every=1000)
    return folder / "run"


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """The current folder, full of modules that leave a trace when they are imported."""
    for name in ("multiprocessing", "toolz", "numpy", "pydnn", "json", "attrs", "h5py", "string"):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write('{name}')"
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path / "ran"


@pytest.mark.slow  # since it starts two workers; see `test_segment_tasks` for what they find
def test_workers_find_what_one_process_finds_and_import_nothing_from_here(tmp_path, hostile):
    recorded(tmp_path / "run", small_recipe(tmp_path), change=flipping(9), every=3)
    run = Run.open(tmp_path / "run")
    assert list(verify(run, jobs=2)) == list(verify(run))
    assert not hostile.exists()


@pytest.mark.slow
def test_the_child_of_a_comparison_imports_nothing_from_the_current_folder(run, hostile):
    tensors = _elsewhere(Run.open(run), 3)
    assert {"forward", "backward"} <= {tensor.part for tensor in tensors}
    assert not hostile.exists()


SLOW = """
import sys, time
from pydnn import BadInput
from pydnn.runs import Run
import pydnn.cli

pydnn.cli.main(["replay", sys.argv[1], "--jobs", "2"])
"""


def children_of(pid):
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True
    )
    return [int(word) for word in listed.stdout.split()]


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def waited(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@posix
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to look at")
@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGHUP"])
def test_workers_end_with_their_parent_however_that_ends(long_run, how):
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, long_run],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert waited(lambda: len(children_of(process.pid)) >= 2)
        workers = children_of(process.pid)
        time.sleep(0.3)
        process.send_signal(getattr(signal, how))
        process.wait()
        assert waited(lambda: not any(map(alive, workers)))
        process.stdout.read()  # it ends, because no process holds it any more


@pytest.mark.slow
def test_a_child_that_cannot_rebuild_a_step_says_why_in_a_line(run, tmp_path):
    opened = Run.open(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(tmp_path / "run")
    asked = (opened, 3, tmp_path / "out.h5")
    assert "does not exist, expected the folder of a run" in _called(asked, dict(os.environ))


@pytest.mark.parametrize(
    "index",
    [b"[", b"{}", b"[1]", b'[["a", "b"]]', b'[["a", 1, "c", "d", "e"]]', b"[" * 50_000],
    ids=lambda index: ascii(index[:12]),
)
def test_a_file_of_tensors_that_says_something_else_is_refused(tmp_path, index):
    import numpy as np

    write_hdf5(tmp_path / "t.h5", arrays={"index": np.frombuffer(index, np.uint8)})
    with pytest.raises(BadInput) as refusal:
        read_tensors(tmp_path / "t.h5")
    assert "\n" not in str(refusal.value)
