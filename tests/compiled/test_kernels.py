import os
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
    for remembered in (kernels.kernel_folder, kernels._from_text, kernels._complain_once):
        remembered.cache_clear()
    yield tmp_path / "cache" / "compiled"
    for remembered in (kernels.kernel_folder, kernels._from_text, kernels._complain_once):
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
