"""A run is computed again with as many threads of BLAS as it was recorded with."""

import sys

import attrs
import pytest

import pydnn as nn
from pydnn.numerics.blas_threads import blas_threads, using_blas_threads
from pydnn.runs import Run, create_run, record, resume_run
from pydnn.runs.environment import as_recorded, current_environment
from pydnn.runs.replay import verify

# Wide enough that OpenBLAS gives its products other bits with two threads than with one.
X = nn.Key(1).at("X").normal((300, 1000))
DATA = nn.Batch(X, (X[:1] > 0).astype(float))
RECIPE = nn.Recipe(
    data="wide", network="serial(dense(33), relu(), dense(1))", loss="sigmoid_cross_entropy",
    optimizer="gradient_descent(learning_rate=0.1)", iterations=3,
)  # fmt: skip


def recorded(folder, threads, steps=3):
    with using_blas_threads(threads):
        job = nn.jobs.prepare(attrs.evolve(RECIPE, iterations=steps), DATA)
        with create_run(folder, job, DATA) as recording:
            for _ in record(recording, nn.jobs.run(job)):
                pass
    return Run.open(folder, data=DATA).fingerprint


@pytest.fixture(autouse=True)
def needs_openblas():
    if blas_threads() is None:
        pytest.skip("the number of threads can be changed for OpenBLAS alone")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_replay_has_the_recorded_number_of_threads(threads, tmp_path):
    recorded(tmp_path / "run", threads)
    with using_blas_threads(3 - threads):
        run = Run.open(tmp_path / "run", data=DATA)
        assert {verified.mismatch for verified in verify(run)} == {None}
        assert run.environment_here.blas["threads"] == str(threads)
        assert run.at(2).AL.shape == (1, 1000)
        assert blas_threads() == 3 - threads


def test_a_resumed_run_has_the_bits_of_a_run_without_a_break(tmp_path):
    with_one, with_two = (recorded(tmp_path / f"{n} threads", n, steps=5) for n in (1, 2))
    recorded(tmp_path / "run", 2)
    with using_blas_threads(1):
        with resume_run(tmp_path / "run", iterations=5, data=DATA) as resumed:
            assert blas_threads() == 2
            for _ in record(resumed.recording, nn.jobs.run(resumed.job)):
                pass
        assert blas_threads() == 1
    assert Run.open(tmp_path / "run", data=DATA).fingerprint == with_two
    if with_one == with_two:
        pytest.skip("this BLAS gives these products the same bits with 1 and 2 threads")


@pytest.mark.parametrize("threads", ["", "0", "-1", "two", "9" * 30, "²"])
def test_other_numbers_of_a_file_change_nothing(threads):
    here = current_environment()
    environment = attrs.evolve(here, blas={**here.blas, "threads": threads})
    before = blas_threads()
    with as_recorded(environment):
        assert blas_threads() == before


def test_portable_arithmetic_keeps_the_threads_of_here():
    here = current_environment(nn.portable)
    environment = attrs.evolve(here, blas={**here.blas, "threads": "1"})
    with using_blas_threads(2), as_recorded(environment):
        assert blas_threads() == 2


def test_the_number_is_recorded_without_threadpoolctl(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with using_blas_threads(2):
        assert current_environment().blas["threads"] == "2"
