"""What a person gets who installs pydnn: its license, its version and who made it."""

import os
import re
import subprocess
import sys
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


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist of this checkout."""
    wheel = pytest.importorskip("hatchling.builders.wheel")
    sdist = pytest.importorskip("hatchling.builders.sdist")
    makers = wheel.WheelBuilder(str(TOP)), sdist.SdistBuilder(str(TOP))
    folder = tmp_path_factory.mktemp("built")
    return [
        Path(path)
        for maker in makers
        for path in maker.build(directory=str(folder), versions=["standard"])
    ]


@pytest.mark.slow
def test_the_wheel_holds_the_package_alone(built):
    with zipfile.ZipFile(built[0]) as archive:
        names = archive.namelist()
        (license_file,) = (name for name in names if name.endswith("/licenses/LICENSE"))
        assert archive.read(license_file) == (TOP / "LICENSE").read_bytes()
    tops = {name.partition("/")[0] for name in names}
    (information,) = (top for top in tops if top.endswith(".dist-info"))
    assert tops == {"pydnn", "pydnn_command.py", "pytest_pydnn.py", information}
    assert "pydnn/py.typed" in names
    sources = {path.relative_to(TOP).as_posix() for path in (TOP / "pydnn").rglob("*.py")}
    renamed = {"pydnn/cli/command.py", "pydnn/testing/pytest_pydnn.py"}
    assert {name for name in names if re.match(r"pydnn/.*\.py$", name)} == sources - renamed


def test_the_sdist_holds_what_the_wheel_is_built_from_and_no_tests_or_pages(built):
    with tarfile.open(built[1]) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
        (license_file,) = (name for name in archive.getnames() if name.count("/") == 1
                           and name.endswith("/LICENSE"))  # fmt: skip
        assert archive.extractfile(license_file).read() == (TOP / "LICENSE").read_bytes()
    tops = {name.partition("/")[0] for name in names}
    assert tops - {".gitignore"} == {"pydnn", "pyproject.toml", "README.md", "LICENSE", "PKG-INFO"}
    assert "pydnn/py.typed" in names


@pytest.mark.slow
def test_examples_in_docstrings_hold_for_the_installed_wheel(built, tmp_path):
    pytest.importorskip("pip")
    site = tmp_path / "site"
    install = ["pip", "install", "--quiet", "--no-deps", "--target", site, built[0]]
    subprocess.run([sys.executable, "-m", *map(str, install)], check=True)
    script = "import pydnn, sys, pytest; assert sys.argv[1] in pydnn.__file__; "
    script += "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', sys.argv[2]]))"
    done = subprocess.run(
        [sys.executable, "-c", script, str(site), str(TOP / "tests" / "test_doctests.py")],
        # Or pytest would load the plugin of the pydnn that is installed here, too.
        env=os.environ | {"PYTHONPATH": str(site), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
