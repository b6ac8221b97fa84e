"""Run the golden jobs with other CPU features, threads, layouts and versions of NumPy."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from letters_model import FINGERPRINTS, NAMES
from test_golden_jobs import GOLDEN

from pydnn.runs.environment import VARIABLES

PROGRAM = Path(__file__).with_name("golden_jobs.py")
LETTERS_MODEL = PROGRAM.with_name("letters_model.py")
TOP = PROGRAM.parents[1]
KERNELS = {  # of OpenBLAS, each with one or two threads
    "Prescott": 2,
    "Nehalem": 1,
    "Sandybridge": 2,
    "Haswell": 1,
    "Zen": 2,
    "SkylakeX": 1,
    "Cooperlake": 2,
}
WANT_AVX512 = ("SkylakeX", "Cooperlake")


def _features():
    """Return the CPU features to switch off in NumPy: those beyond AVX2, and all optional ones."""
    found = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
    beyond = [name for name in found if name.startswith("AVX512") or name == "X86_V4"]
    return {"AVX2": " ".join(beyond), "baseline": " ".join(found)}


ENVIRONMENTS = {
    "as it is": {},
    **{
        f"{kernel}, {threads} threads": {
            "OPENBLAS_CORETYPE": kernel,
            "OPENBLAS_NUM_THREADS": str(threads),
        }
        for kernel, threads in KERNELS.items()
    },
    **{
        f"down to {name}": {"NPY_DISABLE_CPU_FEATURES": features}
        for name, features in _features().items()
        if features
    },
    "an old processor": {
        "OPENBLAS_CORETYPE": "Prescott",
        "NPY_DISABLE_CPU_FEATURES": _features()["baseline"],
    },
}
# The environments whose instructions this CPU has.
POSSIBLE = [
    name
    for name, variables in ENVIRONMENTS.items()
    if _features()["AVX2"] or variables.get("OPENBLAS_CORETYPE") not in WANT_AVX512
]


# Kernels for processors whose registers hold two numbers, four, and four with fused additions.
WIDTHS = {
    "x86-64": "+sse2",
    "sandybridge": "+avx",
    "haswell": "+avx,+avx2,+fma",
}


@pytest.fixture(scope="session")
def found_in(tmp_path_factory):
    """A function that runs the golden jobs in an environment, once for all workers of xdist."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder

    def found(name):
        file = folder / f"golden jobs, {name}.json"
        if not file.exists():
            own = folder / f"{file.name}.{os.getpid()}"
            own.write_text(output_of(sys.executable, ENVIRONMENTS[name], PROGRAM, "--json"))
            own.replace(file)
        return json.loads(file.read_text())

    return found


def run_child(python, variables):
    return json.loads(output_of(python, variables, PROGRAM, "--json"))


def output_of(python, variables, *command, timeout=300):
    inherited = {name: text for name, text in os.environ.items() if name not in VARIABLES}
    child = subprocess.run(
        [python, *command],
        env=inherited | variables | {"PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_has_the_same_bits(name, found_in):
    if name not in POSSIBLE:
        pytest.skip("this processor has no AVX-512, of which that kernel is made")
    found = found_in(name)
    assert found["golden"] == GOLDEN
    assert found["portable"] == found_in("as it is")["portable"]


@pytest.mark.slow
@pytest.mark.skipif(not NAMES.exists(), reason="needs the file with 1,536 names")
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_writes_the_same_names(name):
    if name not in POSSIBLE:
        pytest.skip("this processor has no AVX-512, of which that kernel is made")
    output = output_of(sys.executable, ENVIRONMENTS[name], LETTERS_MODEL, timeout=1800)
    assert output.strip() == FINGERPRINTS[20_000]


@pytest.mark.slow
def test_fast_arithmetic_differs_so_the_environments_make_a_difference(found_in):
    # On a CPU, or with a BLAS, that has only one implementation, nothing can differ.
    if "openblas" not in str(np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]):
        pytest.skip("needs OpenBLAS")
    found = [found_in(name)["fast"] for name in POSSIBLE]
    for operation in ("matmul", "norm"):
        assert len({arithmetic[operation] for arithmetic in found}) >= 3, operation
    if _features()["baseline"]:
        for operation in ("exp", "tanh"):
            assert len({arithmetic[operation] for arithmetic in found}) >= 2, operation


def _python_with(folder, python, *packages):
    """Make a virtual environment with these packages; skip the test if that fails."""
    if python is None:
        pytest.skip("there is no other Python here")
    subprocess.run([python, "-m", "venv", folder], check=True, capture_output=True)
    installed = folder / "bin" / "python"
    made = subprocess.run(
        [installed, "-m", "pip", "install", "--quiet", *packages], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"{' '.join(packages)} cannot be installed: {made.stderr[-200:]}")
    return installed


@pytest.mark.slow
@pytest.mark.parametrize("version", ["numpy==2.0.*", "numpy==2.2.*", "numpy"])
def test_every_version_of_numpy_has_the_same_bits(version, tmp_path):
    python = _python_with(tmp_path / "venv", sys.executable, version, "h5py", "toolz", "attrs")
    assert run_child(python, {})["golden"] == GOLDEN


def _newest_python():
    """Return the newest Python on the path or installed by pyenv."""
    aside = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in range(sys.version_info.minor + 6, sys.version_info.minor, -1):
        kept = sorted(aside.glob(f"3.{minor}.*/bin/python3.{minor}"))
        found = next(filter(_runs, (f"python3.{minor}", *kept)), None)
        if found:
            return found
    return None


def _runs(python):
    # A program of that name may be a stub of pyenv for a version that is not installed.
    found = shutil.which(python)
    return found and not subprocess.run([found, "-c", ""], capture_output=True).returncode


@pytest.mark.slow
def test_the_newest_python_has_the_same_bits(tmp_path):
    packages = ("numpy", "h5py", "toolz", "attrs")
    python = _python_with(tmp_path / "venv", _newest_python(), *packages)
    assert run_child(python, {})["golden"] == GOLDEN


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="needs such a processor")
@pytest.mark.parametrize("name", WIDTHS)
def test_kernels_for_registers_of_every_width_have_the_same_bits(name, found_in):
    numba = pytest.importorskip("numba", reason="the compiled engine needs numba")
    here = numba.core.codegen.get_host_cpu_features().split(",")
    if not set(WIDTHS[name].split(",")) <= set(here):
        pytest.skip("this processor lacks some instructions of that one")
    kernels = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": WIDTHS[name]}
    found = run_child(sys.executable, {"PYDNN_ENGINE": "compiled", **kernels})
    assert found["engine"] == "compiled"
    assert found["golden"] == GOLDEN
    assert found["portable"] == found_in("as it is")["portable"]
