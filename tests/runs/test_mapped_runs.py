"""A run is the same whether its data is in memory or stays in files, and notices a changed file."""

import attrs
import numpy as np
import pytest
import toolz
from small_runs import recorded, small_data, small_recipe

from pydnn.checks import BadInput
from pydnn.data import DataSet, Stored
from pydnn.jobs.job import prepare, run
from pydnn.records import examples_first
from pydnn.runs import Run, create_run, record, resume_run
from pydnn.runs.replay import verify
from pydnn.storage.mapped import open_stored


def in_files(folder, batch):
    """The same examples, whose arrays are in npy files."""
    folder.mkdir(exist_ok=True)
    arrays = {}
    for name in ("X", "Y"):
        rows = np.ascontiguousarray(examples_first(getattr(batch, name)))
        np.save(folder / f"{name}.npy", rows)
        arrays[name] = open_stored(folder / f"{name}.npy")["X"]
    return Stored(**arrays)


@pytest.fixture
def forms(tmp_path):
    """The same data set in memory and in files."""
    memory = small_data()
    files = DataSet(in_files(tmp_path / "train", memory.train), memory.test)
    return {"memory": memory, "files": files}


@pytest.fixture
def recipe(tmp_path):
    return small_recipe(tmp_path, standardize=True)


@pytest.mark.slow
@pytest.mark.parametrize(("one", "other"), [("memory", "files"), ("files", "memory")])
def test_a_run_from_one_form_is_verified_and_resumed_from_the_other(
    tmp_path, forms, recipe, one, other
):
    recorded(tmp_path / "run", recipe, forms[one])
    assert all(
        done.mismatch is None for done in verify(Run.open(tmp_path / "run", data=forms[other]))
    )
    with resume_run(tmp_path / "run", iterations=20, data=forms[other]) as resumed:
        state, _ = toolz.last(record(resumed.recording, run(resumed.job)))
    whole = recorded(tmp_path / "whole", attrs.evolve(recipe, iterations=20), forms[one])
    assert whole.parameters.vector.tobytes() == state.parameters.vector.tobytes()
    texts = [(tmp_path / name / "recipe.toml").read_text() for name in ("run", "whole")]
    assert texts[0] == texts[1].replace("iterations = 20", "iterations = 12")


def test_other_data_in_a_file_is_refused(tmp_path, forms, recipe):
    recorded(tmp_path / "run", recipe, forms["memory"])
    other = DataSet(in_files(tmp_path / "other", small_data(2).train), forms["memory"].test)
    with pytest.raises(BadInput, match="train X differs"):
        _ = Run.open(tmp_path / "run", data=other).job


def test_a_file_that_changes_under_a_run_ends_it_and_loses_nothing(tmp_path, forms, recipe):
    path = tmp_path / "train" / "X.npy"
    content = path.read_bytes()
    job = prepare(recipe, forms["files"])
    recording = create_run(tmp_path / "run", job, forms["files"])

    def record_until_somebody_writes():
        with recording as running:
            for state, _ in record(running, run(job), every=4):
                if state.iteration == 6:
                    with path.open("r+b") as file:
                        file.seek(-8, 2)
                        file.write(b"\1\2\3")

    with pytest.raises(BadInput, match=r"X\.npy changed during the training") as refusal:
        record_until_somebody_writes()
    assert "\n" not in str(refusal.value)
    kept = Run.open(tmp_path / "run", data=forms["memory"])
    assert kept.iterations == 4
    path.write_bytes(content)
    files = DataSet(in_files(tmp_path / "train", forms["memory"].train), forms["memory"].test)
    with resume_run(tmp_path / "run", data=files) as resumed:
        state, _ = toolz.last(record(resumed.recording, run(resumed.job)))
    whole = recorded(tmp_path / "whole", recipe, forms["memory"])
    assert whole.parameters.vector.tobytes() == state.parameters.vector.tobytes()
