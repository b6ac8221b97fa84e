"""Cores are counted by affinity and by the limits of containers, and OpenBLAS is told of both."""

import os
import subprocess
import sys

import pytest

import pydnn.processors as module
from pydnn.processors import set_up_openblas, usable_cores

SOON = {"OPENBLAS_THREAD_TIMEOUT": "12"}  # threads sleep soon
OF_VERSION_2 = "0::/pod/box\n"
OF_VERSION_1 = "5:cpu,cpuacct:/box\n3:memory:/elsewhere\n"


@pytest.fixture
def limited(tmp_path, monkeypatch):
    """A function that shows files of control groups to this process, which has eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def limit(files, groups=OF_VERSION_2):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        quotas = module._quotas
        monkeypatch.setattr(module, "_quotas", lambda: quotas(tmp_path, groups))

    return limit


@pytest.mark.parametrize(
    ("files", "groups", "expected"),
    [
        ({}, OF_VERSION_2, 8),
        ({"pod/box/cpu.max": "max 100000\n"}, OF_VERSION_2, 8),
        ({"pod/box/cpu.max": "200000 100000\n"}, OF_VERSION_2, 2),
        ({"pod/box/cpu.max": "250000 100000\n"}, OF_VERSION_2, 2),
        ({"pod/box/cpu.max": "50000 100000\n"}, OF_VERSION_2, 1),
        ({"pod/box/cpu.max": "1600000 100000\n"}, OF_VERSION_2, 8),
        ({"pod/box/cpu.max": "400000 100000", "pod/cpu.max": "300000 100000"}, OF_VERSION_2, 3),
        ({"cpu/box/cpu.cfs_quota_us": "-1", "cpu/box/cpu.cfs_period_us": "100000"},
         OF_VERSION_1, 8),
        ({"cpu/box/cpu.cfs_quota_us": "400000", "cpu/box/cpu.cfs_period_us": "100000"},
         OF_VERSION_1, 4),
        ({"pod/box/cpu.max": "200000 0\n"}, OF_VERSION_2, 8),
        ({"pod/box/cpu.max": "damaged"}, OF_VERSION_2, 8),
    ],
)  # fmt: skip
def test_a_container_has_the_cores_of_its_limit(files, groups, expected, limited):
    limited(files, groups)
    assert usable_cores() == expected


def test_openblas_has_as_many_threads_as_a_container_has_cores(limited):
    limited({"pod/box/cpu.max": "200000 100000\n"})
    variables = {}
    set_up_openblas(variables)
    assert variables == SOON | {"OPENBLAS_NUM_THREADS": "2"}


@pytest.mark.parametrize("name", module.THREADS_OF_OPENBLAS)
def test_a_number_that_the_user_has_set_stays(name, limited):
    limited({"pod/box/cpu.max": "200000 100000\n"})
    variables = {name: "5"}
    set_up_openblas(variables)
    assert variables == SOON | {name: "5"}


@pytest.mark.parametrize("text", ["max 100000", "800000 100000", "6400000 100000"])
def test_openblas_counts_the_cores_without_a_smaller_limit(text, limited):
    limited({"pod/box/cpu.max": text})
    variables = {}
    set_up_openblas(variables)
    assert variables == SOON


def test_a_patience_that_the_user_has_set_stays(limited):
    limited({})
    variables = {"OPENBLAS_THREAD_TIMEOUT": "26"}
    set_up_openblas(variables)
    assert variables == {"OPENBLAS_THREAD_TIMEOUT": "26"}


def test_openblas_is_set_up_when_pydnn_is_imported_before_numpy():
    code = "import os, pydnn; print(os.environ['OPENBLAS_THREAD_TIMEOUT'])"
    variables = {k: v for k, v in os.environ.items() if k != "OPENBLAS_THREAD_TIMEOUT"}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True)
    assert done.stdout.split() == [b"12"], done.stderr
