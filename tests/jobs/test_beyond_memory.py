"""Training on 20 GB of examples in a process that holds less than 400 MB."""

import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from anonymous_memory import MOST, WATCHING

from pydnn.keys import Key

M, FEATURES = 25_500_000, 784
TRAIN = (
    WATCHING
    + """
import numpy as np
import pydnn as nn
from pydnn.data import Stored
from pydnn.jobs import prepare
from pydnn.jobs.job import run
from pydnn.jobs.loading import data_of

recipe = nn.Recipe(
    sys.argv[1], "dense(10)", "softmax_cross_entropy()", "adam()", int(sys.argv[2]),
    batches="mini_batches(256)", validation=0.004,
)
data = data_of(recipe)
assert isinstance(data.train, Stored)
job = prepare(recipe, data)
batches = list(job.batching.at(job.data["train"], job.state.key, k) for k in (0, 7))
costs = []
for state, info in run(job):
    costs.append(info.cost)
measured = job.evaluation({"validation": job.data["validation"]})(state)
done.set()
print(json.dumps({
    "highest": max(highest, anonymous()), "costs": costs, "measured": measured,
    "sums": [int(batch.X.sum()) for batch in batches],
    "counts": {name: part.count for name, part in job.data.items()},
}))
"""
)


def sparse_file(path):
    """Write 20 GB of zeros, except for the labels and every 1000th row, which take no place."""
    with h5py.File(path, "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((M, FEATURES))
        h5py.h5d.create(file.id, b"train_X", h5py.h5t.STD_U8LE, space, plan)
        rows = Key(1).integers(256, (50, FEATURES)).astype(np.uint8)
        file["train_X"][: 1000 * len(rows) : 1000] = rows
        file["train_Y"] = np.arange(M, dtype=np.uint8) % 10


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose memory is whose")
def test_20_gb_are_trained_on_in_a_process_of_less_than_400_mb(tmp_path):
    if shutil.disk_usage(tmp_path).free < 30_000_000_000:
        pytest.skip("there is too little free space for a file of 20 GB, even if it is sparse")
    path = tmp_path / "large.h5"
    try:
        sparse_file(path)
        if path.stat().st_blocks * 512 > 1_000_000_000:
            pytest.skip("the file system does not keep sparse files")
        assert path.stat().st_size > 19_900_000_000
        command = [sys.executable, "-c", TRAIN, str(path), "20"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    finally:
        path.unlink(missing_ok=True)
    assert not ended.returncode, ended.stderr
    result = json.loads(ended.stdout)
    assert result["highest"] < MOST, result["highest"]
    assert sum(result["counts"].values()) == M
    assert result["counts"]["validation"] == pytest.approx(0.004 * M, abs=10)
    assert all(np.isfinite(result["costs"]))
    assert 0 < result["measured"]["validation cost"] < 3
