"""Data sets whose examples stay in their file."""

import json

import h5py
import numpy as np
import pytest

from pydnn import BadInput, Batch, read_table
from pydnn.cli import main
from pydnn.data import DataSet, Stored, load_data_set, load_table, save_table
from pydnn.jobs.loading import data_of
from pydnn.jobs.training import train
from pydnn.recipes.recipe import Recipe
from pydnn.runs import create_run
from pydnn.storage.hdf5 import write_hdf5


def arrays(m=12, shape=(7,), seed=1, **more):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 256, (m, *shape)).astype("u1")
    return {"X": X, "Y": rng.integers(0, 3, m), **more}


@pytest.fixture
def file(tmp_path):
    def write(train, test=None, name="data.h5", **rest):
        parts = {"train": train, **({} if test is None else {"test": test})}
        every = {f"{part}_{n}": a for part, some in parts.items() for n, a in some.items()}
        write_hdf5(tmp_path / name, arrays=every | rest)
        return tmp_path / name

    return write


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(7,), (4, 3, 2), (5, 2)])
def test_mapped_data_is_that_in_memory(file, dtype, shape):
    more = {"weights": np.arange(12) + 0.5}
    if len(shape) == 2:
        more["lengths"] = np.arange(12) % 5 + 1
    train, test = arrays(shape=shape, **more), arrays(5, shape, 2)
    path = file(train, test, classes=np.array([b"a", b"b", b"c"]))
    ours = load_data_set(path, dtype=dtype, mapped=True)
    theirs = load_data_set(path, dtype=dtype, mapped=False)
    assert isinstance(ours.train, Stored)
    assert isinstance(ours.test, Stored)
    for part in ("train", "test"):
        assert getattr(ours, part).in_memory() == getattr(theirs, part)
        assert getattr(ours, part).in_memory().X.dtype == dtype
    assert ours.classes == theirs.classes == ("a", "b", "c")
    assert load_data_set(path, dtype=dtype).train == theirs.train  # it is small


def test_data_without_a_test_part_has_an_empty_one(file):
    data = load_table(file(arrays()), mapped=True)
    assert (data.test.count, data.test.shape, data.test.label_shape) == (0, (7,), (1,))


def test_data_is_mapped_if_it_would_take_more_than_a_quarter_of_the_free_memory(file, monkeypatch):
    path = file(arrays())  # 12 times 8 numbers, of 8 bytes as floats
    monkeypatch.setattr("pydnn.storage.mapped.free_memory", lambda: 4 * 768)
    assert isinstance(load_data_set(path).train, Batch)
    monkeypatch.setattr("pydnn.storage.mapped.free_memory", lambda: 4 * 768 - 4)
    assert isinstance(load_data_set(path).train, Stored)
    assert isinstance(load_data_set(path, mapped=False).train, Batch)
    monkeypatch.setattr("pydnn.storage.mapped.free_memory", lambda: None)
    assert isinstance(load_data_set(path).train, Batch)


def test_files_that_cannot_be_mapped_are_read_if_they_fit_and_else_refused(tmp_path, monkeypatch):
    path = tmp_path / "chunked.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("train_X", data=np.ones((12, 7)), chunks=(4, 7), compression="gzip")
        file["train_Y"] = np.arange(12) % 2
    advice = "train_X .* is compressed .*: copy it once with pydnn data import"
    with pytest.raises(BadInput, match=advice) as refusal:
        load_data_set(path, mapped=True)
    assert "memory" not in str(refusal.value)
    monkeypatch.setattr("pydnn.storage.mapped.free_memory", lambda: 1000)
    assert isinstance(load_data_set(path).train, Batch)
    monkeypatch.setattr("pydnn.data.sets.free_memory", lambda: 700)
    with pytest.raises(BadInput, match=f"would take 768 B in memory, of 700 B free, but {advice}"):
        load_data_set(path)


def test_a_compressed_file_is_trained_on_in_windows_as_in_memory(tmp_path):
    path, every = tmp_path / "chunked.h5", arrays(100)
    with h5py.File(path, "w") as file:
        for name, array in every.items():
            file.create_dataset(f"train_{name}", data=array, chunks=True, compression="gzip")
    one = Recipe(
        str(path), "dense(3)", "softmax_cross_entropy()", "adam()", 9, standardize=True,
        batches="mini_batches(16, window=32)", validation=0.2, evaluate_every=3,
    )  # fmt: skip
    ours, theirs = (data_of(one, mapped=mapped) for mapped in (True, False))
    assert isinstance(ours.train, Stored)
    assert ours.train.in_memory() == theirs.train
    results = [train(one, data) for data in (ours, theirs)]
    assert results[0].costs.tolist() == results[1].costs.tolist()
    assert results[0].model == results[1].model
    texts = []
    for i, result in enumerate(results):
        with create_run(tmp_path / f"run {i}", result.job, result.data):
            pass
        texts.append((tmp_path / f"run {i}" / "recipe.toml").read_text())
    assert texts[0] == texts[1]


def test_what_is_not_a_file_of_arrays_cannot_stay_in_it(tmp_path):
    np.savez(tmp_path / "data.npz", train_X=np.ones((3, 2)), train_Y=np.ones(3))
    for name in (tmp_path / "data.npz", "drawn-cats"):
        with pytest.raises(BadInput, match=r"mapped is True, but .* is not an HDF5 file of arrays"):
            load_data_set(name, mapped=True)


@pytest.mark.parametrize("form", ["t.csv", "t.parquet", "t.npz", "t.h5"])
def test_tables_in_other_forms_cannot_stay_in_their_files(tmp_path, capsys, form):
    path = tmp_path / form
    columns = {"a": np.arange(4.0), "b": np.arange(4.0)}
    if form == "t.csv":
        path.write_text("a,b\n1,2\n3,4\n")
    elif form == "t.npz":
        np.savez(path, **columns)
    elif form == "t.h5":
        write_hdf5(path, arrays=columns)
    else:
        pytest.importorskip("pyarrow.parquet").write_table(
            pytest.importorskip("pyarrow").table(columns), path
        )
    arguments = ["train", "--data", str(path), "--target", "b", "--mapped"]
    assert main([*arguments, "--run", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert f"{path} is not an HDF5 file of arrays or a table in the stored form" in err
    assert "pydnn data import" in err
    assert err.count("\n") == 1
    assert read_table(path).rows == read_table(path, mapped=False).rows


def test_texts_cannot_stay_in_their_files(tmp_path):
    (tmp_path / "names.txt").write_text("Ada\nBob\n")
    with pytest.raises(BadInput, match=r"mapped is True, but .*names\.txt is not"):
        load_data_set(tmp_path / "names.txt", mapped=True)


def test_mapped_arrays_that_do_not_fit_are_refused_as_in_memory(file):
    for changes, message in (
        ({"Y": np.zeros(11)}, r"train_Y in .* has shape \(11,\), expected \(12,\)"),
        ({"X": np.zeros(12)}, r"train_X in .* has shape \(12,\), expected \(m, n_x\)"),
        ({"weights": np.zeros(3)}, r"train_weights in .* has shape \(3,\)"),
        ({"lengths": np.ones(12)}, "train_lengths in .* holds float64, expected integers"),
    ):
        path = file(arrays() | changes, name=f"{next(iter(changes))}.h5")
        with pytest.raises(BadInput, match=message):
            load_table(path, mapped=True)
    other = file(arrays(), arrays(5, (6,)), name="other.h5")
    with pytest.raises(
        BadInput, match=r"test_X, transposed, has shape \(6, 5\), expected \(7, m\)"
    ):
        load_table(other, mapped=True)


@pytest.mark.parametrize("mapped", [True, False])
def test_links_and_missing_arrays_are_refused_alike_in_files_and_in_memory(tmp_path, mapped):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["train_X"], file["labels"] = np.zeros((2, 3)), [0, 1]
    with pytest.raises(BadInput, match=r"^there is no array 'train_Y' in .*a\.h5: "):
        load_table(tmp_path / "a.h5", mapped=mapped)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["train_Y"] = h5py.SoftLink("/labels")
    with pytest.raises(BadInput, match=r"^train_Y in .*a\.h5 is a link, expected the data"):
        load_table(tmp_path / "a.h5", mapped=mapped)


def test_images_in_files_become_what_the_network_takes(file):
    path = file(arrays(shape=(48,)), image_shape=np.array([4, 4, 3]))
    images = Recipe(
        str(path), "serial(conv(2, 3), flatten, dense(3))", "softmax_cross_entropy()", "adam()", 3
    )
    ours, theirs = (data_of(images, mapped=mapped) for mapped in (True, False))
    assert ours.train.shape == (4, 4, 3)
    assert ours.train.in_memory() == theirs.train


def test_the_command_line_trains_on_a_file_as_on_memory(file, tmp_path, capsys):
    path = file(arrays(40), arrays(10, seed=2))
    results = []
    for option in ("--mapped", "--no-mapped"):
        arguments = ["train", "--data", str(path), "--network", "dense(3)", "--json"]
        arguments += ["--loss", "softmax_cross_entropy", "--batches", "mini_batches(16)"]
        arguments += ["--iterations", "3", "--standardize", "--run", str(tmp_path / option), option]
        assert main(arguments) == 0
        result = json.loads(capsys.readouterr().out)
        recorded = (tmp_path / option / "recipe.toml").read_text()
        results.append(({k: v for k, v in result.items() if k not in ("run", "seconds")}, recorded))
    assert results[0] == results[1]


def test_a_mapped_data_set_can_be_saved_again(file, tmp_path):
    data = load_table(file(arrays(), arrays(3)), mapped=True)
    save_table(tmp_path / "again.h5", data)
    again = load_table(tmp_path / "again.h5")
    assert again == DataSet(data.train.in_memory(), data.test.in_memory())


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("name", ["X", "Y"])
def test_a_number_that_is_missing_is_refused_in_one_form_with_its_file(tmp_path, name, mapped):
    arrays = {"train_X": np.ones((9, 2)), "train_Y": np.ones((9, 2))}
    arrays[f"train_{name}"][5, 1] = np.nan
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key, array in arrays.items():
            file[key] = array
    one = Recipe(
        "a", "dense(2)", "mean_squared()", "adam()", 2, validation=0.5, batches="mini_batches(2)"
    )
    message = rf"{name} in .*a\.h5 holds nan in row 5, column 1, expected finite numbers"
    with pytest.raises(BadInput, match=message):
        train(one, load_data_set(tmp_path / "a.h5", mapped=mapped))


@pytest.mark.parametrize("mapped", [3, "yes", 1])
def test_whether_data_is_mapped_is_true_or_false(file, mapped):
    path = file(arrays())
    for function in (load_data_set, load_table, read_table):
        with pytest.raises(BadInput, match=r"mapped is .*, expected True or False"):
            function(path, mapped=mapped)


def save_npy(folder, prefix="train_", **named):
    for name, array in named.items():
        np.save(folder / f"{prefix}{name}.npy", array)
    return folder / f"{prefix}X.npy"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(7,), (4, 3, 2), (5, 2)])
def test_npy_files_beside_each_other_are_the_data_of_an_npz_file(tmp_path, dtype, shape):
    more = {"weights": np.arange(12) + 0.5}
    if len(shape) == 2:
        more["lengths"] = np.arange(12) % 5 + 1
    train, test = arrays(shape=shape, **more), arrays(5, shape, 2)
    path = save_npy(tmp_path, **train)
    save_npy(tmp_path, "test_", **test)
    np.save(tmp_path / "classes.npy", ["a", "b", "c"])
    parts = {"train": train, "test": test}
    named = {
        f"{part}_{name}": array for part, some in parts.items() for name, array in some.items()
    }
    np.savez(tmp_path / "data.npz", classes=["a", "b", "c"], **named)
    expected = load_data_set(tmp_path / "data.npz", dtype=dtype)
    in_memory, mapped = (load_data_set(path, dtype=dtype, mapped=m) for m in (None, True))
    assert in_memory == expected
    assert isinstance(mapped.train, Stored)
    assert mapped.train.X.dtype == np.uint8
    for part in ("train", "test"):
        assert getattr(mapped, part).in_memory() == getattr(expected, part)
    assert mapped.classes == ("a", "b", "c")


def test_x_and_y_in_npy_files_are_data_without_a_test_part(tmp_path, monkeypatch):
    path = save_npy(tmp_path, "", **arrays())
    save_npy(tmp_path, "test_", **arrays())  # of another data set
    data = load_data_set(path)
    assert (data.train.count, data.test.count) == (12, 0)
    monkeypatch.setattr("pydnn.storage.mapped.free_memory", lambda: 100)
    assert load_data_set(path).train.in_memory() == data.train
    assert isinstance(load_data_set(path).train, Stored)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.array([[{}]]), "holds Python objects"),
        (np.asfortranarray(np.ones((12, 3))), "in Fortran order, expected one example after the"),
        (np.ones((12, 3), bool), "holds bool, expected integers or floats: copy it once"),
        (np.full((12, 3), "1"), "holds <U1, expected numbers"),
        (np.ones((11, 3)), "has shape (12,), expected (11,)"),
    ],
)
def test_npy_files_that_cannot_be_mapped_are_refused(tmp_path, X, message):
    path = save_npy(tmp_path, X=X, Y=np.arange(12))
    with pytest.raises(BadInput) as refused:
        load_data_set(path, mapped=True)
    assert message in str(refused.value)


def test_npy_files_train_and_predict_alike_in_their_files_and_in_memory(tmp_path, capsys):
    path = save_npy(tmp_path, **arrays(40))
    alone = save_npy(tmp_path, "new", X=arrays(3)["X"])
    out = []
    for option in ("--mapped", "--no-mapped"):
        run = str(tmp_path / option)
        arguments = ["train", "--data", str(path), "--network", "dense(3)", "--json", "--run", run]
        arguments += ["--loss", "softmax_cross_entropy", "--batches", "mini_batches(16)"]
        assert main([*arguments, "--iterations", "3", option]) == 0
        assert main(["evaluate", run, "--data", str(path), option]) == 0
        assert main(["predict", run, str(alone), "--json", option]) == 0
        lines = capsys.readouterr().out.replace(run, "").splitlines()
        out.append([line for line in lines if "seconds" not in line])
    assert out[0] == out[1]
