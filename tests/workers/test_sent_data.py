import attrs
import numpy as np
import pytest

from pydnn import BadInput, Batch, Key
from pydnn.data import DataSet, Table, Vocabulary
from pydnn.data.image_folders import Pixels
from pydnn.data.stored import Stored
from pydnn.jobs.class_weights import WeighClasses
from pydnn.storage.mapped import StoredArray
from pydnn.workers.encoding import decoded, encoded, memory_order
from pydnn.workers.failures import NoData
from pydnn.workers.sent_data import paths_in, received, sent

X = Key(1).normal((12, 5))
BATCH = Batch(X, X[:1])
IDS = Batch(np.arange(15).reshape(3, 5) % 2, np.ones((3, 5)), lengths=[1, 2, 3, 3, 2])
TABLE = Table.of({"x": [1.5, None, 3.0], "color": ["red", "blue", "red"], "y": [True, False, True]})
DATA = {
    "a batch": BATCH,
    "weights": attrs.evolve(BATCH, weights=np.ones((1, 5))),
    "examples in Fortran order": Batch(np.asfortranarray(X), np.asfortranarray(X[:2])),
    "sequences": IDS,
    "images": DataSet(BATCH, BATCH.take(slice(2)), image_shape=(2, 2, 3), classes=("cat", "dog")),
    "a text": DataSet(IDS, IDS.take(slice(0)), vocabulary=Vocabulary(["\n", "a"])),
    "a table": DataSet(TABLE.examples("y"), TABLE.examples("y").take(slice(1))),
    "ignored columns": TABLE.examples("y", ignore=["x"]),
}


def over_the_wire(data):
    facts, arrays = sent(data)
    message = decoded(b"".join(encoded({"facts": facts, **arrays})))
    return received(message.pop("facts"), message)


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_data_arrives_as_it_is(data):
    there = over_the_wire(data)
    assert type(there) is type(data)
    for part in ("train", "test") if isinstance(data, DataSet) else ("",):
        ours, theirs = (getattr(side, part) if part else side for side in (data, there))
        assert attrs.asdict(ours).keys() == attrs.asdict(theirs).keys()
        for name in ("X", "Y", "weights", "lengths"):
            a, b = getattr(ours, name), getattr(theirs, name)
            assert (a is None) == (b is None)
            if a is not None:
                assert (a.tobytes(), a.dtype) == (b.tobytes(), b.dtype)
                assert memory_order(a) == memory_order(b) or not a.size
        if hasattr(ours, "features"):
            assert (ours.features, ours.targets) == (theirs.features, theirs.targets)
            assert ours.apart == theirs.apart
    if isinstance(data, DataSet):
        assert there.image_shape == data.image_shape
        assert (there.classes, there.vocabulary) == (data.classes, data.vocabulary)


def test_examples_in_files_stay_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.arange(60, dtype=np.uint8).tofile("x.bin")
    stored = Stored(StoredArray("x.bin", 0, (5, 12), np.uint8), np.arange(5), dtype=np.float32)
    some = stored.only(np.array([4, 1]))
    facts, arrays = sent(some)
    assert sorted(arrays) == ["train Y", "train only_rows"]
    monkeypatch.chdir("/")  # a worker may work elsewhere
    there = received(facts, arrays)
    assert there.in_memory() == Batch(
        np.arange(60, dtype=np.float32).reshape(5, 12)[[4, 1]].T, np.array([[4, 1]], np.float32)
    )
    with pytest.raises(
        BadInput, match=r"go through functions of this program.*give the name of the data"
    ):
        sent(stored.then(lambda batch: batch))


def test_known_functions_of_examples_in_files_cross_and_a_file_elsewhere_is_refused(tmp_path):
    np.arange(60, dtype=np.uint8).tofile(tmp_path / "x.bin")
    array = StoredArray(tmp_path / "x.bin", 0, (5, 12), np.uint8)
    stored = Stored(array, np.arange(5) % 2).then(Pixels()).then(WeighClasses([1.0, 3.0]))
    there = over_the_wire(stored)
    assert there.in_memory() == stored.in_memory()
    facts, arrays = sent(stored)
    assert paths_in(facts) == [str(tmp_path / "x.bin")]
    other = tmp_path / "other.bin"
    facts["train"]["X"]["path"] = str(other)  # as if it were this file at the worker
    with pytest.raises(NoData, match=r"other\.bin does not exist here"):
        received(facts, arrays)
    np.ones(60, np.uint8).tofile(other)
    with pytest.raises(NoData, match=r"other\.bin has another content here"):
        received(facts, arrays)


def test_examples_of_an_unknown_class_are_refused():
    class Mine(Batch):
        pass

    with pytest.raises(BadInput, match="examples of the class Mine are not sent"):
        sent(Mine(X, X[:1]))
