"""Training on a table that takes 1 GB in memory, in a process that holds less than 400 MB."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from anonymous_memory import MOST, WATCHING

from pydnn.storage.contiguous import Blocks, write_contiguous

M, COLUMNS = 5_000_000, 24
TRAIN = (
    WATCHING
    + """
import pydnn as nn
from pydnn.data import StoredTableBatch
from pydnn.jobs.loading import data_of

recipe = nn.Recipe(
    sys.argv[1], "dense(3)", "softmax_cross_entropy()", "adam()", 20, target="kind",
    batches="mini_batches(256)", validation=0.01, standardize=True, rotate=False,
)
data = data_of(recipe, mapped=True)
assert isinstance(data.train, StoredTableBatch)
trained = nn.train(recipe, data)
done.set()
print(json.dumps({
    "highest": max(highest, anonymous()),
    "costs": trained.costs.tolist(),
    "fills": {part.name: part.fill for part in trained.job.inputs.columns.parts[:3]},
    "parts": {name: part.count for name, part in trained.job.data.items()},
}))
"""
)


def written(path):
    """Write a table of equal blocks of rows: numbers, of which some are missing, and two texts."""
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(M // 80, COLUMNS)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.02] = np.nan
    rows[:, -1] = rng.integers(3, size=len(rows))
    rows[:, -2] = rng.integers(2, size=len(rows))
    columns = [[f"x{place}", "number"] for place in range(COLUMNS - 2)]
    columns += [["city", "text", "Oslo", "Rome"], ["kind", "text", "a", "b", "c"]]
    facts = np.zeros((COLUMNS, 4))
    facts[:-2, 0] = 80 * np.isnan(rows[:, :-2]).sum(axis=0)
    write_contiguous(
        path,
        {
            "values": Blocks((M, COLUMNS), "f4", (rows for _ in range(80))),
            "facts": Blocks((COLUMNS, 4), "f8", [facts]),
        },
        texts={"format": "pydnn table 1", "columns": json.dumps(columns)},
        most=1 << 20,
    )
    return rows


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose memory is whose")
def test_a_table_of_1_gb_is_trained_on_in_a_process_of_less_than_400_mb(tmp_path):
    if shutil.disk_usage(tmp_path).free < 5_000_000_000:
        pytest.skip("there is too little free space for a file of 0.5 GB")
    path = tmp_path / "large.h5"
    try:
        rows = written(path)
        command = [sys.executable, "-c", TRAIN, str(path)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    finally:
        path.unlink(missing_ok=True)
    assert not ended.returncode, ended.stderr
    result = json.loads(ended.stdout)
    assert result["highest"] < MOST, result
    assert sum(result["parts"].values()) == M
    assert result["parts"]["validation"] == pytest.approx(0.01 * M, abs=3)
    assert all(np.isfinite(result["costs"]))
    # Each number occurs 80 times, so 99 % of the rows have nearly the medians of one block.
    for place, name in enumerate(("x0", "x1", "x2")):
        assert result["fills"][name] == pytest.approx(np.nanmedian(rows[:, place]), abs=1e-3)
