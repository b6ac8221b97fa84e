"""What a person gets who installs pydnn: its license, its version and who made it."""

import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import pydnn as nn

TOP = Path(__file__).parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]


def test_the_version_is_one_that_installers_understand():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", nn.__version__)


def test_a_distribution_says_who_made_it_and_under_which_license():
    assert PROJECT["license"] == "MIT"
    assert PROJECT["authors"] == [{"name": "pydnn contributors"}]
    assert PROJECT["keywords"]
    text = (TOP / "LICENSE").read_text()
    assert text.startswith("MIT License\n")
    assert "pydnn contributors" in text


def test_the_license_is_in_the_wheel_and_in_the_sdist(tmp_path):
    sdist = pytest.importorskip("hatchling.builders.sdist")
    wheel = pytest.importorskip("hatchling.builders.wheel")
    license_text = (TOP / "LICENSE").read_bytes()
    (path,) = wheel.WheelBuilder(str(TOP)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(path) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/licenses/LICENSE"))
        assert archive.read(name) == license_text
    (path,) = sdist.SdistBuilder(str(TOP)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(path) as archive:
        (name,) = (n for n in archive.getnames() if re.fullmatch(r"[^/]+/LICENSE", n))
        assert archive.extractfile(name).read() == license_text
