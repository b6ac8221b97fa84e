import importlib.abc
import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba", reason="the compiled engine needs numba")

from pydnn import engines
from pydnn.compiled import kernels

DOUBLED = """\
def loop(a, out):
    for i in range(out.size):
        out[i] = a[i] + a[i]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache of its own, which the module asks for anew."""
    monkeypatch.setenv("PYDNN_CACHE", str(tmp_path / "cache"))
    for remembered in (kernels.kernel_folder, kernels._from_text, kernels.complain_once):
        remembered.cache_clear()
    yield tmp_path / "cache" / "compiled"
    for remembered in (kernels.kernel_folder, kernels._from_text, kernels.complain_once):
        remembered.cache_clear()


def doubled_by(compiled):
    out = np.empty(3)
    compiled(np.array([1.0, -0.0, np.inf]), out)
    return out.tolist()


def test_a_kernel_is_compiled_once_and_then_read_from_the_users_own_folder(folder):
    first = kernels.kernel_from_text(DOUBLED)
    assert doubled_by(first) == [2.0, -0.0, np.inf]
    assert kernels.kernel_from_text(DOUBLED) is first
    (kept,) = folder.iterdir()
    assert {path.suffix for path in kept.iterdir()} == {".py", ".nbi", ".nbc"}
    if sys.platform != "win32":
        assert kept.stat().st_mode & 0o777 == folder.stat().st_mode & 0o777 == 0o700
    kernels._from_text.cache_clear()
    again = kernels.kernel_from_text(DOUBLED)
    assert doubled_by(again) == [2.0, -0.0, np.inf]
    assert (sum(again.stats.cache_hits.values()), len(again.stats.cache_misses)) == (1, 0)
    # Damaged files are written again.
    for path in kept.glob("*.nbc"):
        path.write_bytes(b"not a pickle")
    kernels._from_text.cache_clear()
    assert doubled_by(kernels.kernel_from_text(DOUBLED)) == [2.0, -0.0, np.inf]


def test_kernels_that_are_called_with_constants_are_compiled_once():
    @kernels.kernel
    def scaled(a, factor, negative):
        return -a * factor if negative else a * factor

    @kernels.kernel
    def total(a, factor):
        return scaled(a, factor, True) + scaled(a, 4, False) + scaled(a, 3, negative=True)

    assert total(2.0, 5) == -8
    assert len(scaled.signatures) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")
def test_a_folder_that_others_can_write_to_is_not_used_and_one_line_says_so(folder):
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    notes = []
    with engines.notes_to(notes.append):
        assert doubled_by(kernels.kernel_from_text(DOUBLED)) == [2.0, -0.0, np.inf]
        assert kernels.kernel_folder() is None
    assert not list(folder.rglob("*.nbi"))
    (note,) = notes
    assert f"other users can write to {folder}: run chmod go-w" in note


def forbidden(*args, **options):
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("foreign", "belongs to another user"),
        ("read-only", "cannot be written to"),
        ("read-only home", "Permission denied"),
        ("a file", "is a link or a file, expected a folder|File exists|Not a directory"),
        ("no home", "this user has no home: set PYDNN_CACHE to a folder"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")
def test_without_a_safe_folder_kernels_are_not_kept_and_one_line_says_why(
    damage, reason, folder, tmp_path, monkeypatch
):
    if damage == "foreign":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    elif damage == "read-only":
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    elif damage == "read-only home":
        monkeypatch.setattr(kernels.Path, "mkdir", forbidden)
    elif damage == "a file":
        folder.parent.touch()
    else:
        monkeypatch.delenv("PYDNN_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(os.path, "expanduser", str)  # which changes nothing
        monkeypatch.chdir(tmp_path)
    notes = []
    with engines.notes_to(notes.append):
        assert doubled_by(kernels.kernel_from_text(DOUBLED)) == [2.0, -0.0, np.inf]
        kernels.kernel_from_text(DOUBLED.replace("a[i] + a[i]", "a[i] * 2.0"))
    (note,) = notes
    assert note.startswith("compiled kernels are not kept for the next process: ")
    assert re.search(reason, note)
    assert not list(tmp_path.rglob("*.nbi"))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_person_at_a_terminal_reads_once_why_the_first_step_takes_a_moment(folder, monkeypatch):
    def said(stream, **options):
        engines.say_compiling.cache_clear()
        kernels._from_text.cache_clear()
        monkeypatch.setattr(sys, "stderr", stream)
        with engines.notes_to(pytest.fail, **options):
            for text in (DOUBLED, DOUBLED.replace("a[i] + a[i]", "a[i] * 2.0")):
                doubled_by(kernels.kernel_from_text(text))
        return stream.getvalue()

    assert said(Terminal()) == "pydnn: compiling for this processor, once …\n"
    assert said(Terminal()) == ""  # reads what was kept
    for index in folder.glob("*/*.nbi"):
        index.unlink()
    assert said(io.StringIO()) == ""
    for index in folder.glob("*/*.nbi"):
        index.unlink()
    assert said(Terminal(), people=False) == ""


COMPILES = """
import sys
sys.path[:0] = {folder!r}
import numpy as np
from pydnn.compiled import kernels
compiled, out = kernels.kernel_from_text({text!r}), np.empty(3)
assert sys.stdin.readline()  # both begin at the same time
compiled(np.array([1.0, -0.0, np.inf]), out)
assert out.tolist() == [2.0, -0.0, np.inf]
print(sum(compiled.stats.cache_hits.values()))
"""


@pytest.mark.slow
def test_processes_that_compile_the_same_kernel_at_the_same_time_both_keep_it(folder):
    text = COMPILES.format(folder=[path for path in sys.path if path], text=DOUBLED)
    program = [sys.executable, "-c", text]

    def started():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(program, text=True, **pipes)

    def answers(processes):
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        return [process.communicate(timeout=300)[0] for process in processes]

    assert set(answers([started(), started()])) <= {"0\n", "1\n"}
    assert answers([started()]) == ["1\n"]
    (kept,) = folder.iterdir()
    assert {path.suffix for path in kept.iterdir()} == {".py", ".nbi", ".nbc"}


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_a_link_is_not_used(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.warns(RuntimeWarning, match="is a link or a file, expected a folder"):
        assert kernels.kernel_folder() is None


def test_the_folder_depends_on_versions_processor_and_sources(folder, monkeypatch):
    before = kernels.kernel_folder()
    kernels.kernel_folder.cache_clear()
    assert kernels.kernel_folder() == before
    for name, value in [("__version__", "0.0.1"), ("get_host_cpu_name", lambda: "another")]:
        monkeypatch.setattr(kernels, name, value)
        kernels.kernel_folder.cache_clear()
        assert kernels.kernel_folder() != before


def test_damaged_indexes_are_written_again(folder):
    assert doubled_by(kernels.kernel_from_text(DOUBLED)) == [2.0, -0.0, np.inf]
    (index,) = folder.glob("*/*.nbi")
    for damage in (b"", index.read_bytes()[:-9], b"not a pickle"):
        index.write_bytes(damage)
        kernels._from_text.cache_clear()
        assert doubled_by(kernels.kernel_from_text(DOUBLED)) == [2.0, -0.0, np.inf]
        kernels._from_text.cache_clear()
        again = kernels.kernel_from_text(DOUBLED)
        assert doubled_by(again) == [2.0, -0.0, np.inf]
        assert sum(again.stats.cache_hits.values()) == 1


def test_processes_that_compile_for_different_types_do_not_share_a_file(folder):
    compiled = kernels.kernel_from_text(DOUBLED)
    for dtype in (np.float32, np.float64):
        compiled(np.ones(3, dtype), np.empty(3, dtype))
    assert len(list(folder.glob("*/*.nbi"))) == len(list(folder.glob("*/*.1.nbc"))) == 2


def test_a_full_disk_costs_only_the_files(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._save_data", full)
    monkeypatch.setattr(kernels.Path, "replace", full)
    with pytest.warns(RuntimeWarning, match="not kept for the next process: No space left"):
        assert doubled_by(kernels.kernel_from_text(DOUBLED)) == [2.0, -0.0, np.inf]
    assert not [path for path in folder.glob("*/*") if path.suffix not in (".nbi", ".nbc")]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")
def test_folders_are_closed_to_the_group_whatever_the_umask_is(folder):
    before = os.umask(0o002)
    try:
        assert kernels.kernel_folder() is not None
    finally:
        os.umask(before)
    assert folder.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("error", [ImportError, AttributeError])
def test_a_numba_that_keeps_kernels_in_another_way_only_compiles_them_again(
    folder, error, monkeypatch
):
    class Other(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name == "pydnn.compiled.keeping":
                raise error("no attribute _CacheLocator")

    monkeypatch.delitem(sys.modules, "pydnn.compiled.keeping", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Other(), *sys.meta_path])
    with pytest.warns(RuntimeWarning, match="does not let pydnn keep kernels"):
        assert doubled_by(kernels.kernel_from_text(DOUBLED)) == [2.0, -0.0, np.inf]
    assert not list(folder.rglob("*.nbi"))


def test_a_numba_whose_methods_differ_only_compiles_kernels_again(folder, monkeypatch):
    monkeypatch.delattr("numba.core.caching.IndexDataCacheFile.load")
    monkeypatch.delattr("numba.core.caching.IndexDataCacheFile.save")
    with pytest.warns(RuntimeWarning, match="compiled kernels are not kept"):
        assert doubled_by(kernels.kernel_from_text(DOUBLED)) == [2.0, -0.0, np.inf]
