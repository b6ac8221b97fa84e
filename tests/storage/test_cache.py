import sys
from pathlib import Path

import pytest

from pydnn.storage.cache import cache_folder

HOME = Path.home()
PLACES = {
    "linux": ("linux", {}, HOME / ".cache" / "pydnn"),
    "linux with a variable of its own": ("linux", {"XDG_CACHE_HOME": "/x"}, Path("/x/pydnn")),
    "macOS": ("darwin", {"XDG_CACHE_HOME": "/x"}, HOME / "Library" / "Caches" / "pydnn"),
    "Windows": ("win32", {"LOCALAPPDATA": "/x"}, Path("/x/pydnn")),
    "wherever the user says": ("linux", {"PYDNN_CACHE": "~/mine"}, HOME / "mine"),
}


@pytest.mark.parametrize(("system", "variables", "expected"), PLACES.values(), ids=PLACES)
def test_the_folder_for_what_is_kept(monkeypatch, system, variables, expected):
    for name in ("PYDNN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", system)
    assert cache_folder() == expected
