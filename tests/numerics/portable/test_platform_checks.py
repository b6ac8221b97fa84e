import ctypes
import ctypes.util
import platform

import numpy as np
import pytest
from golden_jobs import JOBS, examples

from pydnn import BadInput
from pydnn.jobs.job import prepare, run
from pydnn.numerics.portable import platform_checks
from pydnn.runs import Run, create_run, record

SPOILT = {
    "flush to zero": ("flushes_to_zero", lambda dtype: dtype is np.float32, "flushes tiny numbers"),
    "rounding upward": ("rounds_to_nearest", lambda dtype: False, "does not round to the nearest"),
    "32 bits": ("pointer_bits", lambda: 32, "this Python has 32 bits"),
    "another BLAS": ("adds_exactly", lambda: False, "this BLAS does not multiply and add"),
}


def test_this_process_is_sound():
    platform_checks.expect_sound()


@pytest.mark.parametrize(("name", "spoilt", "message"), SPOILT.values(), ids=SPOILT)
def test_an_unsound_process_is_refused_before_training(name, spoilt, message, monkeypatch):
    monkeypatch.setattr(platform_checks, name, spoilt)
    task, recipe = JOBS["lion"]
    with pytest.raises(BadInput, match=message):
        prepare(recipe, examples(task))


@pytest.mark.parametrize(
    "worse",
    [
        lambda a, b: (a.astype(np.float32) @ b.astype(np.float32)).astype(float),
        lambda a, b: (a + 1e9) @ b - 1e9 * b.sum(axis=0),  # adds entries before it multiplies
    ],
)
def test_a_blas_that_is_not_exact_is_noticed(worse, monkeypatch):
    monkeypatch.setattr(platform_checks, "blas", worse)
    platform_checks.adds_exactly.cache_clear()
    try:
        assert not platform_checks.adds_exactly()
    finally:
        platform_checks.adds_exactly.cache_clear()


# The arguments of fesetround on these processors.
MODES = {
    "x86_64": {"downward": 0x400, "upward": 0x800, "to zero": 0xC00},
    "aarch64": {"upward": 0x400000, "downward": 0x800000, "to zero": 0xC00000},
}.get(platform.machine(), {})


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_every_other_rounding_mode_is_noticed(mode):
    name = ctypes.util.find_library("m")
    if name is None:
        pytest.skip("there is no library to change the rounding mode with")
    library = ctypes.CDLL(name)
    library.fesetround(mode)
    try:
        told = [platform_checks.rounds_to_nearest(dtype) for dtype in (np.float64, np.float32)]
    finally:
        library.fesetround(0)
    assert told == [False, False]
    assert platform_checks.rounds_to_nearest(np.float64)


@pytest.mark.parametrize("name", ["rounds_to_nearest", "flushes_to_zero"])
def test_a_process_that_becomes_unsound_after_prepare_records_no_more_states(
    name, monkeypatch, tmp_path
):
    task, recipe = JOBS["lion"]
    job = prepare(recipe, examples(task))
    with create_run(tmp_path / "run", job, examples(task)) as recording:
        steps = record(recording, run(job), every=2)
        for _ in range(3):
            next(steps)
        monkeypatch.setattr(platform_checks, name, lambda dtype: name == "flushes_to_zero")
        with pytest.raises(BadInput, match="so portable arithmetic has other bits"):
            list(steps)
    monkeypatch.undo()
    assert Run.open(tmp_path / "run").iterations == 2
