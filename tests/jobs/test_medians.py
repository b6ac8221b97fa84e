import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydnn.jobs.medians import medians

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([-1.0, -0.0, 0.0, 5e-324, 1.0, 2.0, 1e308, -1e308]),
)
COLUMN = st.lists(st.none() | NUMBERS, min_size=24, max_size=24)
WAYS = {  # numbers that are sorted in the end, and ranges that are counted in one pass
    "sorted at once": (1 << 22, 1 << 12),
    "one pass, then sorted": (20, 1 << 12),
    "never sorted": (0, 1 << 12),
    "cut until one place is left": (0, 16),
}


def sorted_median(numbers):
    ordered = np.sort(numbers[~np.isnan(numbers)])
    a, b = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return (a if a == b else a / 2 + b / 2) + 0.0


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=25)
@given(columns=st.lists(COLUMN, min_size=1, max_size=3), cut=st.integers(0, 24), seen=st.integers())
def test_medians_of_blocks_are_those_of_sorted_numbers(way, columns, cut, seen):
    numbers = np.array(columns, np.float64)
    numbers[:, 0] = np.where(np.isnan(numbers[:, 0]), 1.0, numbers[:, 0])
    blocks = [numbers[:, :cut], numbers[:, cut:]]
    sample = [numbers, numbers[:, :0], numbers[:, :22], np.ones((len(columns), 30))][seen % 4]
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr("pydnn.jobs.medians._MOST_SORTED", WAYS[way][0])
        changed.setattr("pydnn.jobs.medians._RANGES", WAYS[way][1])
        found = medians(lambda: iter(blocks), (~np.isnan(numbers)).sum(axis=1), lambda: sample)
    assert found.tobytes() == np.array([sorted_median(column) for column in numbers]).tobytes()


@pytest.mark.parametrize("sample", ["typical", "far away"])
def test_few_passes_find_the_medians_of_many_numbers(sample, monkeypatch):
    monkeypatch.setattr("pydnn.jobs.medians._MOST_SORTED", 4000)
    rows = 30_000
    numbers = np.arange(rows * 2.0).reshape(rows, 2).T[:, ::-1]
    passes = []

    def blocks():
        passes.append(1)
        return (numbers[:, start : start + (1 << 13)] for start in range(0, rows, 1 << 13))

    few = numbers[:, ::10] if sample == "typical" else np.full((2, 3000), -1.0)
    found = medians(blocks, np.array([rows, rows]), lambda: few)
    assert found.tolist() == [rows - 1.0, float(rows)]
    assert len(passes) <= (2 if sample == "typical" else 4)
