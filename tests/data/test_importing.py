"""Imported data is the data of its source, to the bit, whatever it was read from."""

import itertools
import os
import subprocess
import sys
import zlib
from pathlib import Path

import attrs
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

try:
    import resource
except ImportError:  # on Windows
    resource = None

from pydnn import Batch, Key, Recipe, read_table
from pydnn.checks import BadInput
from pydnn.cli import main
from pydnn.data import (
    DataSet,
    Stored,
    csv_files,
    importing,
    load_data_set,
    save_table,
    stored_tables,
)
from pydnn.data.importing import import_data
from pydnn.jobs import train
from pydnn.storage.mapped import open_stored

CELLS = st.sampled_from(
    ["", "1", "-2.5", "0.1", "-0", "NA", "x", "Zoë", "true", "False", "2020-01-02"]
)
COLUMN = st.one_of(
    st.lists(CELLS, min_size=9, max_size=9),
    st.lists(st.sampled_from(["1", "2.25", "", "12345678901234567890"]), min_size=9, max_size=9),
    st.lists(st.sampled_from(["true", "false", ""]), min_size=9, max_size=9),
)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few rows, so that small files have several."""
    monkeypatch.setattr(csv_files, "_BLOCK", 32)
    monkeypatch.setattr(csv_files, "_CELLS", 6)
    monkeypatch.setattr(csv_files, "_ROWS", 1)
    monkeypatch.setattr(importing, "_CELLS", 6)
    monkeypatch.setattr(importing, "_MOST", 40)


@given(columns=st.lists(COLUMN, min_size=1, max_size=3), quoted=st.booleans())
@settings(max_examples=12)
def test_an_imported_csv_file_is_the_table_of_its_source(tmp_path_factory, columns, quoted):
    folder = tmp_path_factory.mktemp("csv")
    names = ",".join(f"c{i}" for i in range(len(columns)))
    quote = '"' if quoted else ""
    lines = [
        ",".join(f"{quote}{cell}{quote}" for cell in row) for row in zip(*columns, strict=True)
    ]
    (folder / "t.csv").write_text("\n".join([names, *lines, ""]))
    source = said(lambda: read_table(folder / "t.csv"))
    imported = said(lambda: import_data(folder / "t.csv", folder / "t.h5"))
    if isinstance(source, str):
        assert imported == source
        assert not (folder / "t.h5").exists()
        return
    copy = read_table(folder / "t.h5")
    assert copy == source
    assert copy.fingerprint == source.fingerprint
    assert imported.rows == source.rows


def said(action):
    try:
        return action()
    except BadInput as error:
        return str(error)


def test_kinds_that_show_late_are_those_of_the_whole_column(tmp_path, small_blocks):
    rows = [f"{i}.5,{i},{'true' if i % 2 else 'false'}" for i in range(50)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c", *rows, "x,,NA", "1,2,true"]))
    import_data(tmp_path / "t.csv", tmp_path / "t.h5")
    assert read_table(tmp_path / "t.h5") == read_table(tmp_path / "t.csv")
    assert [c.kind for c in read_table(tmp_path / "t.h5").columns] == ["text", "number", "boolean"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.csv", "t.h5"]


def test_texts_that_would_fill_the_memory_are_refused_while_they_are_read(
    tmp_path, small_blocks, monkeypatch
):
    monkeypatch.setattr(stored_tables, "_MOST_TEXT", 100)
    monkeypatch.setattr(importing, "_SOME", 1)
    rows = "".join(f"customer {i},{i % 2}\n" for i in range(500))
    (tmp_path / "t.csv").write_text("name,y\n" + rows)
    with pytest.raises(BadInput, match=r"column 'name' has at least [12]\d different texts"):
        import_data(tmp_path / "t.csv", tmp_path / "t.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_numbers_of_a_csv_file_are_stored_in_the_smallest_dtype(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n0,255\n17,3\n")
    import_data(tmp_path / "t.csv", tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5") as file:
        assert file["values"].dtype == np.uint8


def test_an_imported_parquet_file_is_the_table_of_its_source(tmp_path, small_blocks):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "whole": [1, 2, None, 4, 2**53 + 1, 6],
        "text": [None, None, None, None, "b", "a"],
        "truth": [None, True, False, None, True, False],
        "day": arrow.array([0, 1, 2, None, 4, 5], arrow.date32()),
        "coded": arrow.array(["x", None, "y", "x", "x", "y"]).dictionary_encode(),
    }
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet", row_group_size=4)
    import_data(tmp_path / "t.parquet", tmp_path / "t.h5")
    source = read_table(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.h5") == source
    assert read_table(tmp_path / "t.h5").fingerprint == source.fingerprint


def columns_of(count):
    rows = np.arange(count)
    return {
        "x": rows % 7 / 4,
        "wide": np.stack([rows, -rows], axis=1).astype(np.int16),
        "new": rows % 3 == 0,
        "city": np.array(["Rome", "Oslo", "Bern"])[rows % 3],
    }


@pytest.mark.parametrize("form", ["npz", "h5", "chunked.h5", "npy"])
def test_an_imported_file_of_arrays_is_the_table_of_its_source(tmp_path, small_blocks, form):
    path, columns = tmp_path / f"t.{form}", columns_of(20)
    if form == "npz":
        np.savez_compressed(path, **columns)
    elif form == "npy":
        np.save(path, np.asfortranarray(columns["wide"]))
    else:
        options = {"chunks": True, "compression": "gzip"} if form == "chunked.h5" else {}
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                texts = {"data": [str(v) for v in values]} if name == "city" else {"data": values}
                file.create_dataset(name, **texts, **({} if name == "city" else options))
    import_data(path, tmp_path / "new.h5")
    assert read_table(tmp_path / "new.h5") == read_table(path)


def pixels(count, shape=(4, 3)):
    return (Key(1).at("pixels").uniform((count, *shape)) * 255).astype(np.uint8)


LAYOUTS = {
    "chunks": {"chunks": (3, 2, 3)},
    "gzip": {"chunks": (4, 4, 2), "compression": "gzip", "shuffle": True},
    "one row": {"chunks": (1, 4, 3), "compression": "gzip"},
    "all in one": {"chunks": (20, 4, 3)},
    "contiguous": {},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_foreign_arrays_become_contiguous_and_keep_their_dtype(tmp_path, small_blocks, layout):
    X, Y = pixels(20), np.arange(20) % 3
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("train_X", data=X, **LAYOUTS[layout])
        file.create_dataset("train_Y", data=Y.astype(">i4"), chunks=(7,))
        file.create_dataset(
            "test_X", data=X[:5], **(LAYOUTS[layout] if layout != "all in one" else {})
        )
        file["test_Y"], file["classes"], file["extra"] = Y[:5], ["a", "b", "ü"], [1.0]
    counts = []
    done = import_data(
        tmp_path / "a.h5", tmp_path / "b.h5", on_progress=lambda *c: counts.append(c)
    )
    assert (done.rows, done.what) == (25, "examples of 4 x 3 numbers (uint8)")
    stored = open_stored(tmp_path / "b.h5")
    assert {name: array.dtype.str for name, array in stored.items()} == {
        "train_X": "|u1", "train_Y": "<i4", "test_X": "|u1", "test_Y": "<i8"
    }  # fmt: skip
    np.testing.assert_array_equal(stored["train_X"].rows, X)
    assert load_data_set(tmp_path / "b.h5") == load_data_set(tmp_path / "a.h5")
    assert counts[-1][1] == counts[-1][2]
    assert all(a[1] <= b[1] for a, b in itertools.pairwise(counts))


@pytest.mark.parametrize("form", ["npz", "h5"])
def test_arrays_of_any_name_become_inputs_and_labels(tmp_path, small_blocks, form):
    for name in ("a", "b"):
        arrays = {"images": pixels(9), "labels": np.arange(9) > 4}
        if form == "npz":
            np.savez(tmp_path / f"{name}.npz", **arrays)
        else:
            with h5py.File(tmp_path / f"{name}.h5", "w") as file:
                for key, value in arrays.items():
                    file.create_dataset(f"deep/{key}", data=value, chunks=True)
    label = "labels" if form == "npz" else "deep/labels"
    test = tmp_path / f"b.{form}"
    import_data(tmp_path / f"a.{form}", tmp_path / "new.h5", target=label, test=test)
    data = load_data_set(tmp_path / "new.h5")
    np.testing.assert_array_equal(data.train.X, np.moveaxis(pixels(9), 0, -1))
    assert data.train.Y.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 1]]
    assert data.test == data.train


def test_two_npy_files_become_inputs_and_labels(tmp_path, small_blocks):
    np.save(tmp_path / "X.npy", np.asfortranarray(pixels(9)))
    np.save(tmp_path / "Y.npy", np.arange(9.0))
    import_data(tmp_path / "X.npy", tmp_path / "new.h5", target="Y.npy")
    data = load_data_set(tmp_path / "new.h5")
    np.testing.assert_array_equal(data.train.X, np.moveaxis(pixels(9), 0, -1))
    assert data.train.Y.tolist() == [list(range(9))]


def test_training_gives_the_same_bits_from_the_source_and_from_the_copy(tmp_path):
    X = Key(2).normal((3, 40))
    data = DataSet(Batch(X, X[:1] > 0), Batch(X[:, :5], X[:1, :5] > 0))
    save_table(tmp_path / "a.h5", data)
    import_data(tmp_path / "a.h5", tmp_path / "b.h5")
    recipe = Recipe(
        data="x", network="serial(dense(4), relu, dense(1))", loss="sigmoid_cross_entropy",
        optimizer="adam", batches="mini_batches(8)", iterations=6, standardize=True,
    )  # fmt: skip
    vectors = [
        train(recipe, load_data_set(tmp_path / name)).state.parameters.vector
        for name in ("a.h5", "b.h5")
    ]
    assert vectors[0].tobytes() == vectors[1].tobytes()


@pytest.fixture
def pictures(tmp_path):
    for number in range(12):
        folder = tmp_path / "pictures" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(12, (6, 8, 3))[number]).save(folder / f"{number:02}.png")
    return tmp_path / "pictures"


@pytest.mark.parametrize("test", ["", 0.3])
def test_imported_pictures_are_those_of_the_folder(tmp_path, pictures, monkeypatch, test):
    monkeypatch.setenv("PYDNN_CACHE", str(tmp_path / "cache"))
    done = import_data(pictures, tmp_path / "new.h5", image_size=(4, 5), test=test)
    assert (done.rows, done.what) == (12, "images of 4 x 5 pixels")
    copy = load_data_set(tmp_path / "new.h5")
    assert copy == load_data_set(pictures, image_size=(4, 5), test=test)
    assert copy.test.X.shape[1] == (4 if test else 0)
    stored = open_stored(tmp_path / "new.h5")
    assert stored["train_images"].dtype == np.uint8
    for dtype, flat in itertools.product(("float64", "float32"), (True, False)):
        options = {"dtype": dtype, "flat": flat}
        memory = load_data_set(tmp_path / "new.h5", **options)
        mapped = load_data_set(tmp_path / "new.h5", mapped=True, **options)
        assert isinstance(mapped.train, Stored)
        assert (
            attrs.evolve(
                mapped, train=mapped.train.take(slice(None)), test=mapped.test.take(slice(None))
            )
            == memory
        )
        rows = np.array([5, 0, 3])
        np.testing.assert_array_equal(mapped.train.take(rows).X, memory.train.take(rows).X)
        assert mapped.train.take(rows).X.strides == memory.train.take(rows).X.strides


def test_a_share_of_mapped_pictures_is_held_back_as_in_memory(tmp_path, pictures):
    import_data(pictures, tmp_path / "new.h5", image_size=(4, 5))
    memory, mapped = (load_data_set(tmp_path / "new.h5", test=0.3, mapped=m) for m in (False, True))
    assert mapped.train.take(slice(None)) == memory.train
    assert mapped.test.take(slice(None)) == memory.test


FORGED = {
    "labels": ("train_labels", lambda a: a + 5),
    "pixels": ("train_images", lambda a: a.astype("f4")),
    "gray": ("train_images", lambda a: a[..., 0]),
    "fewer": ("train_labels", lambda a: a[1:]),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_pictures_are_not_mapped(tmp_path, pictures, case):
    import_data(pictures, tmp_path / "new.h5", image_size=(4, 5))
    name, change = FORGED[case]
    with h5py.File(tmp_path / "new.h5", "r+") as file:
        values = file[name][()]
        del file[name]
        file[name] = change(values)
    with pytest.raises(BadInput, match=r"do not number 2 classes|has shape") as refusal:
        load_data_set(tmp_path / "new.h5", mapped=True)
    assert "\n" not in str(refusal.value)


def test_pictures_that_cannot_be_read_are_refused_or_left_out(tmp_path, pictures):
    (pictures / "cat" / "bad.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"1 of 13 pictures in .* cannot be read .*cat/bad\.png"):
        import_data(pictures, tmp_path / "new.h5")
    done = import_data(pictures, tmp_path / "new.h5", skip_unreadable=True)
    assert done.rows == 12
    assert "1 picture of" in done.notes[0]
    assert len(load_data_set(tmp_path / "new.h5").train.Y[0]) == 12


REFUSED = {
    "a stored table": ({"a": [1, 2]}, {}, "is an imported table already"),
    "rows": ({"a": np.ones(3), "b": np.ones(4)}, {}, "b in .* has 4 rows, but a has 3"),
    "nothing": ({}, {}, "has no arrays, expected columns of a table"),
    "target": ({"a": np.ones((3, 1)), "b": np.ones(3)}, {"target": "c"}, "is no array 'c' in "),
    "inputs": (
        {"a": np.ones((3, 1)), "b": np.ones(3), "c": np.ones(3)},
        {"target": "b"},
        "has a, c, expected one array of inputs beside b",
    ),
    "no target": ({"a": np.ones((3, 1))}, {"inputs": "a"}, "no target is named"),
    "labels": (
        {"a": np.ones((3, 1)), "b": np.ones(4)}, {"target": "b"},
        "train_Y in .* has 4 rows, but the inputs have 3",
    ),
    "no features": (
        {"train_X": np.ones((3, 0)), "train_Y": np.ones(3)}, {}, r"\(3, 0\), expected examples with"
    ),
    "no rows": (
        {"train_X": np.ones((0, 3)), "train_Y": np.ones(0)}, {}, r"\(0, 3\), expected examples with"
    ),
    "no training part": (
        {"test_X": np.ones((3, 1)), "test_Y": np.ones(3)}, {}, "no array 'train_X' in"
    ),
    "negative weight": (
        {"train_X": np.ones((3, 1)), "train_Y": np.ones(3), "train_weights": [1, 2, -1]}, {},
        "train_weights in .* holds -1 in row 2, expected 0 or more",
    ),
    "no weight": (
        {"train_X": np.ones((3, 1)), "train_Y": np.ones(3), "train_weights": np.zeros(3)}, {},
        "train_weights in .* sums to 0, expected a number above 0",
    ),
    "two weights each": (
        {"train_X": np.ones((3, 1)), "train_Y": np.ones(3), "train_weights": np.ones((3, 2))}, {},
        r"train_weights in .* has shape \(3, 2\), expected \(m,\)",
    ),
    "length": (
        {"train_X": np.ones((3, 4)), "train_Y": np.ones(3), "train_lengths": [1, 4, 5]}, {},
        "train_lengths in .* holds 5 in row 2, expected 1 to 4",
    ),
    "test features": (
        {"train_X": np.ones((3, 2)), "train_Y": np.ones(3), "test_X": np.ones((2, 3)),
         "test_Y": np.ones(2)}, {}, r"test_X in .* has shape \(2, 3\), expected \(m, 2\)",
    ),
    "test labels": (
        {"train_X": np.ones((3, 2)), "train_Y": np.ones(3), "test_X": np.ones((2, 2)),
         "test_Y": np.ones((2, 2))}, {}, r"test_Y in .* has shape \(2, 2\), expected \(m,\)",
    ),
    "one axis": ({"a": np.ones(3), "b": np.ones(3)}, {"target": "b"}, "expected .*'m', 'n_x'"),
    "not finite": (
        {"a": np.array([[1.0], [np.nan]]), "b": np.ones(2)}, {"target": "b"},
        "train_X in .* holds nan in row 1, column 0, expected finite",
    ),
    "complex": ({"a": np.ones((2, 1), "c16"), "b": np.ones(2)}, {"target": "b"}, "holds complex"),
    "share": ({"a": np.ones((2, 1))}, {"test": 0.2}, "choose the test part when you train"),
    "share of arrays": (
        {"a": np.ones((2, 1)), "b": np.ones(2)}, {"target": "b", "test": 0.2}, "expected a second"
    ),
    "size": ({"a": np.ones((2, 1))}, {"image_size": (3, 3)}, "image_size is .*: leave it out"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_imported_is_refused_and_leaves_nothing(tmp_path, case):
    arrays, options, message = REFUSED[case]
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    if case == "a stored table":
        import_data(path, tmp_path / "b.h5")
        path = tmp_path / "b.h5"
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BadInput, match=message) as refusal:
        import_data(path, tmp_path / "new.h5", **options)
    assert "\n" not in str(refusal.value)
    assert sorted(tmp_path.iterdir()) == before


def test_test_sequences_of_other_lengths_are_imported(tmp_path):
    def sequences(steps, m):
        return Batch(np.ones((steps, 2, m)), np.ones((steps, m)), None, np.ones(m, int))

    save_table(tmp_path / "a.h5", DataSet(sequences(3, 4), sequences(5, 2)))
    import_data(tmp_path / "a.h5", tmp_path / "b.h5")
    assert load_data_set(tmp_path / "b.h5") == load_data_set(tmp_path / "a.h5")


def test_a_name_of_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    for name in ("out.txt", "out", "out.csv"):
        with pytest.raises(BadInput, match=f"{name} is .*expected a name that ends in .h5"):
            import_data(tmp_path / "a.csv", tmp_path / name)
    assert import_data(tmp_path / "a.csv", tmp_path / "out.HDF5").rows == 1


def test_a_name_that_is_taken_and_a_missing_source_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a\n1\n")
    with pytest.raises(BadInput, match=r"t\.csv exists already"):
        import_data(tmp_path / "t.csv", tmp_path / "t.csv")
    with pytest.raises(BadInput, match=r"no\.csv does not exist, expected a file of data"):
        import_data(tmp_path / "no.csv", tmp_path / "t.h5")
    with pytest.raises(BadInput, match=r"t\.h5 cannot be written"):
        import_data(tmp_path / "t.csv", tmp_path / "nowhere" / "t.h5")


@pytest.mark.parametrize("form", ["csv", "h5", "npy"])
def test_a_source_that_changes_meanwhile_is_refused_and_leaves_nothing(
    tmp_path, form, small_blocks
):
    path = tmp_path / f"t.{form}"
    if form == "csv":
        path.write_text("a,b\n" + "1,2\n" * 40)
    elif form == "npy":
        np.save(path, np.ones((40, 2)))
    else:
        with h5py.File(path, "w") as file:
            file["a"] = np.ones(40)

    def change(*_):
        with path.open("ab") as file:
            file.write(b"3")

    with pytest.raises(BadInput, match="has changed while it was read"):
        import_data(path, tmp_path / "new.h5", on_progress=change)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_file_larger_than_its_disk_is_refused_before_it_is_written(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["train_X"], file["train_Y"] = np.ones((4, 2)), np.ones(4)
    monkeypatch.setattr(importing.shutil, "disk_usage", lambda path: type("", (), {"free": 9}))
    with pytest.raises(BadInput, match=r"new\.h5 takes 96 B, but its disk has 9 B free"):
        import_data(tmp_path / "a.h5", tmp_path / "new.h5")


@pytest.mark.skipif(resource is None, reason="needs a limit on the size of files")
@pytest.mark.parametrize("form", ["csv", "h5", "pictures"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, form, small_blocks, pictures):
    path = pictures if form == "pictures" else tmp_path / f"t.{form}"
    if form == "csv":
        path.write_text("a,b\n" + "0.1,2\n" * 500)
    elif form == "h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("train_X", data=np.ones((500, 2)), chunks=(50, 2))
            file["train_Y"] = np.ones(500)
    before, limits = sorted(tmp_path.rglob("*")), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(BadInput, match=r"new\.h5 cannot be written \(File too large\)") as one:
            import_data(path, tmp_path / "new.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(one.value)
    assert sorted(tmp_path.rglob("*")) == before


# A fresh process that forks for each moment. The N-th fork kills itself at its N-th operation:
# a block that was read or written, a flush, a new name; until one fork comes to its end.
KILLED = """
import os, signal, sys
from pathlib import Path
from pydnn.data import csv_files, importing

source, out = map(Path, sys.argv[1:])
csv_files._BLOCK, csv_files._CELLS, csv_files._ROWS = 32, 6, 1
importing._CELLS, importing._MOST = 6, 400
count = at = 0

def operation(perform, *args, **options):
    global count
    count += 1
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)
    result = perform(*args, **options)
    count += 1
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

def watch(owner, name):
    perform = getattr(owner, name)
    setattr(owner, name, lambda *args, **options: operation(perform, *args, **options))

for owner, name in ((os, "fsync"), (Path, "hardlink_to"), (Path, "unlink")):
    watch(owner, name)
before, complete = source.read_bytes(), None
while True:
    at += 1
    if not (child := os.fork()):
        try:
            importing.import_data(source, out, on_progress=lambda *_: operation(lambda: None))
            os._exit(0)
        finally:
            os._exit(1)  # whatever happens, no child goes on in this loop
    status = os.waitpid(child, 0)[1]
    assert source.read_bytes() == before, at
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, at
        break
    if out.exists():
        complete = out.read_bytes()
        os.remove(out)
assert complete in (None, out.read_bytes()), "a partial file"
print(at)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
@pytest.mark.parametrize("form", ["csv", "h5"])
def test_an_import_killed_at_any_moment_leaves_the_source_and_no_partial_file(tmp_path, form):
    path = tmp_path / f"t.{form}"
    if form == "csv":
        path.write_text("a,b\n" + "".join(f"{i}.5,x{i % 3}\n" for i in range(12)) + "y,1\n")
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("train_X", data=pixels(60), chunks=(7, 4, 3), compression="gzip")
            file["train_Y"] = np.arange(60)
    command = [sys.executable, "-c", KILLED, str(path), str(tmp_path / "new.h5")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10  # moments
    loaded = read_table if form == "csv" else load_data_set
    assert loaded(tmp_path / "new.h5") == loaded(path)


MEASURED = """
import re, sys
from pathlib import Path
from pydnn.data import import_data

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10

before, most = anonymous(), 0
def measure(*_):
    global most
    most = max(most, anonymous())

import_data(sys.argv[1], sys.argv[2], on_progress=measure)
print(most - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say it")
@pytest.mark.parametrize("form", ["csv", "h5"])
def test_less_than_50_megabytes_of_a_far_larger_file_are_in_memory(tmp_path, form):
    path = tmp_path / f"t.{form}"
    if form == "csv":
        block = "".join(f"{i}.25,{i}.5,{i}.75,{i}\n" for i in range(1_000_000, 1_020_000))
        with path.open("w") as file:
            file.write("a,b,c,d\n")
            for _ in range(130):
                file.write(block)
    else:
        with h5py.File(path, "w") as file:
            options = {"chunks": (500, 784), "compression": "gzip"}
            X = file.create_dataset("train_X", (400_000, 784), "u1", **options)
            chunk = zlib.compress(bytes(500 * 784))
            for first in range(0, len(X), 500):
                X.id.write_direct_chunk((first, 0), chunk)
            file["train_Y"] = np.zeros(len(X), np.uint8)
    command = [sys.executable, "-c", MEASURED, str(path), str(tmp_path / "new.h5")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    largest = max(path.stat().st_size, (tmp_path / "new.h5").stat().st_size)
    assert largest > 100_000_000
    assert int(done.stdout) < 50_000_000
    (tmp_path / "new.h5").unlink()
    path.unlink()


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (h5py.SoftLink("/rows"), "train_X in .* is a link, expected the data itself"),
        (h5py.ExternalLink("b.h5", "rows"), "train_X in .* is a link, expected the data itself"),
        (None, "has train_Y without train_X, expected both"),
    ],
)
def test_a_file_without_the_data_of_its_examples_is_not_imported_as_a_table(
    tmp_path, entry, reason
):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["train_Y"] = [0, 1]
        if entry is None:
            file["train_X/rows"] = np.zeros((2, 3))
        else:
            file["train_X"] = entry
    with pytest.raises(BadInput, match=reason):
        import_data(tmp_path / "a.h5", tmp_path / "new.h5")


def test_a_table_is_not_imported_without_its_columns_that_are_links(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["size"], file["price"] = [1.0, 2.0], h5py.SoftLink("/size")
    with pytest.raises(BadInput, match=r"price in .* is a link, expected the data itself"):
        import_data(tmp_path / "a.h5", tmp_path / "new.h5")


def test_a_link_beside_the_examples_does_not_matter(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["train_X"], file["train_Y"] = np.ones((2, 3)), [0, 1]
        file["raw"] = h5py.ExternalLink("raw.h5", "/")
    assert import_data(tmp_path / "a.h5", tmp_path / "new.h5").rows == 2


def test_a_first_line_of_numbers_can_be_a_header(tmp_path, capsys):
    source, out = tmp_path / "t.csv", str(tmp_path / "t.h5")
    source.write_text("2019,2020\n1,2\n3,4\n")
    assert main(["data", "import", str(source), out]) == 0
    said = capsys.readouterr()
    assert "holds numbers and is a row" in said.err
    assert "import it with --header" in said.err
    assert read_table(out).rows == 3
    out = str(tmp_path / "named.h5")
    assert main(["data", "import", str(source), out, "--header"]) == 0
    assert capsys.readouterr().err == ""
    assert read_table(out).names == ("2019", "2020")
