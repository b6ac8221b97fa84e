import numpy as np
import pytest
from golden_jobs import JOBS, examples

from pydnn import BadInput
from pydnn.numerics.portable import soundness
from pydnn.recipes import prepare

SPOILT = {
    "flush to zero": ("flushes_to_zero", lambda dtype: dtype is np.float32, "flushes tiny numbers"),
    "32 bits": ("pointer_bits", lambda: 32, "this Python has 32 bits"),
    "another BLAS": ("adds_exactly", lambda: False, "this BLAS does not multiply and add"),
}


def test_this_process_is_sound():
    soundness.expect_sound()


@pytest.mark.parametrize(("name", "spoilt", "message"), SPOILT.values(), ids=SPOILT)
def test_a_process_that_is_not_is_refused_before_training(name, spoilt, message, monkeypatch):
    monkeypatch.setattr(soundness, name, spoilt)
    task, recipe = JOBS["lion"]
    with pytest.raises(BadInput, match=message):
        prepare(recipe, examples(task))


@pytest.mark.parametrize(
    "worse",
    [
        lambda a, b: (a.astype(np.float32) @ b.astype(np.float32)).astype(float),
        lambda a, b: (a + 1e9) @ b - 1e9 * b.sum(axis=0),  # sums of what was given, first
    ],
)
def test_a_blas_that_is_not_exact_is_found(worse, monkeypatch):
    monkeypatch.setattr(soundness, "blas", worse)
    soundness.adds_exactly.cache_clear()
    try:
        assert not soundness.adds_exactly()
    finally:
        soundness.adds_exactly.cache_clear()
