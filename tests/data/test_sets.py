import sys

import h5py
import numpy as np
import pytest

from pydnn import BadInput, Batch, MissingExtra
from pydnn.data import DataSet, drawn_cats, load_data_set, load_table, save_catvnoncat, save_table

TRAIN = Batch(np.arange(12.0).reshape(3, 4) / 7, [[0.0, 1, 2, 1]])
TEST = Batch(np.arange(6.0).reshape(3, 2), [[2.0, 0]])


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.h5"
    save_table(path, DataSet(TRAIN, TEST))
    return path


def test_a_table_is_loaded_as_it_was_saved(table):
    data = load_table(table)
    assert data == DataSet(TRAIN, TEST)
    assert load_data_set(str(table)) == data
    assert data.train.X.flags.f_contiguous  # examples one after the other in memory
    assert not data.train.X.flags.writeable


def test_a_table_has_one_example_per_row_and_takes_any_numbers(tmp_path):
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file["train_X"] = np.array([[1, 2], [3, 4], [5, 6]], np.uint8)
        file["train_Y"] = np.array([0, 1, 1])
        file["test_X"] = np.array([[7, 8]], np.float32)
        file["test_Y"] = np.array([[1]])
    data = load_data_set(str(tmp_path / "own.h5"), dtype=np.float32)
    np.testing.assert_array_equal(data.train.X, [[1, 3, 5], [2, 4, 6]])
    np.testing.assert_array_equal(data.train.Y, [[0, 1, 1]])
    np.testing.assert_array_equal(data.test.X, [[7], [8]])
    assert data.train.X.dtype == data.test.Y.dtype == np.float32


def test_a_table_keeps_weights_names_and_the_shape_of_images(tmp_path):
    weighted = [
        Batch(part.X, part.Y, np.arange(1.0, 1 + part.Y.size)[None]) for part in (TRAIN, TEST)
    ]
    data = DataSet(*weighted, image_shape=(1, 1, 3), classes=("ä cat", "Hund", "鸟"))
    save_table(tmp_path / "all.h5", data)
    again = load_table(tmp_path / "all.h5")
    assert again == data
    assert again.image_shape == (1, 1, 3)
    cast = load_data_set(str(tmp_path / "all.h5"), dtype=np.float32)
    assert cast.train.weights.dtype == np.float32
    assert cast.classes == data.classes


@pytest.mark.parametrize("rows", [0, None])
def test_a_table_may_be_without_test_examples(table, rows):
    with h5py.File(table, "a") as file:
        del file["test_X"], file["test_Y"]
        if rows is not None:
            file["test_X"], file["test_Y"] = np.zeros((0, 3)), np.zeros((0,))
    for data in (load_table(table), load_data_set(str(table), dtype=np.float32)):
        assert data.test.X.shape == (3, 0)
        assert data.test.Y.shape == (1, 0)
    save_table(table.with_name("again.h5"), load_table(table))
    assert load_table(table.with_name("again.h5")) == load_table(table)


@pytest.mark.parametrize("name", ["train_X", "train_Y", "test_X", "test_Y"])
def test_a_number_that_is_not_finite_is_located_by_its_row_in_the_table(table, name):
    with h5py.File(table, "a") as file:
        rows = file[name][...]
        rows[1, rows.shape[1] - 1] = np.nan
        del file[name]
        file[name] = rows if name == "test_X" else rows[:, 0] if rows.shape[1] == 1 else rows
        column = rows.shape[1] - 1
    with pytest.raises(BadInput, match=f"^{name} in .* holds nan in row 1, column {column}, "):
        load_table(table)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    nan = Batch([[1.0, 2], [3, np.inf]], [[0, 1]])
    with pytest.raises(BadInput, match="test_X holds inf in row 1, column 1"):
        save_table(tmp_path / "t.h5", DataSet(Batch(np.ones((2, 2)), [[0, 1]]), nan))
    with pytest.raises(BadInput, match="is not Unicode text: rename it"):
        save_table(tmp_path / "t.h5", DataSet(TRAIN, TEST, classes=("a", "\ud800")))
    assert list(tmp_path.iterdir()) == []


def test_numbers_beyond_float32_are_refused_for_float32(tmp_path):
    X = np.ones((2, 3))
    X[1, 2] = 1e200
    save_table(
        tmp_path / "t.h5", DataSet(Batch(np.ones((2, 3)), [[0, 1, 1]]), Batch(X, [[0, 1, 1]]))
    )
    assert load_data_set(str(tmp_path / "t.h5")).test.X[1, 2] == 1e200
    with pytest.raises(BadInput, match=r"test_X holds 1e\+200 in row 2, column 1, which float32"):
        load_data_set(str(tmp_path / "t.h5"), dtype=np.float32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataSet(TRAIN, TEST, classes="aba"), "classes 0 and 2 are both called 'a'"),
        (
            lambda: DataSet(TRAIN, Batch(TEST.X[:2], TEST.Y)),
            r"test X has shape \(2, 2\), expected \(3",
        ),
        (lambda: DataSet(TRAIN, Batch(TEST.X, TEST.X)), r"test Y has shape \(3, 2\), expected \(1"),
        (lambda: DataSet(TRAIN, TEST, (2, 2, 3)), "have 3 features, but images of .* have 12"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(make, message):
    with pytest.raises(BadInput, match=message):
        make()


def without(file):
    del file["test_Y"]


def of_texts(file):
    del file["train_X"]
    file["train_X"] = ["a", "b", "c", "d"]


def of_other_columns(file):
    del file["test_X"]
    file["test_X"] = np.zeros((2, 5))


def of_unequal_length(file):
    del file["train_Y"]
    file["train_Y"] = np.zeros(3)


def of_one_weight(file):
    file["test_weights"] = np.ones(1)


def of_other_images(file):
    file["image_shape"] = [4, 4, 3]


def of_images_with_decimals(file):
    file["image_shape"] = [0.5, 2.0, 3.0]


def of_images_below_0(file):
    file["image_shape"] = [-1, -1, 3]


def of_names_in_latin(file):
    file["classes"] = np.array(["é".encode("latin-1")])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without, "there is no array 'test_Y' in .*table.h5"),
        (of_texts, "train_X in .*table.h5 holds object, expected numbers"),
        (of_other_columns, r"test_X, transposed, has shape \(5, 2\), expected \(3, m\)"),
        (of_one_weight, r"test_weights in .*table.h5 has shape \(1,\), expected \(2,\)"),
        (of_other_images, r"examples have 3 features, but images of \(4, 4, 3\) have 48"),
        (of_images_with_decimals, "image_shape in .*table.h5 holds float64, expected integers"),
        (of_images_below_0, "image_shape is -1, expected an integer of at least 1"),
        (of_names_in_latin, "classes in .* expected UTF-8"),
        (of_unequal_length, r"train_Y in .*table.h5 has shape \(3,\), expected \(4,\)"),
    ],
)
def test_a_damaged_table_is_refused(table, damage, message):
    with h5py.File(table, "a") as file:
        damage(file)
    with pytest.raises(BadInput, match=message):
        load_table(table)


def test_files_that_are_not_tables_are_refused(tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(BadInput, match="is not a readable HDF5 file"):
        load_data_set(str(tmp_path / "text.h5"))
    with pytest.raises(BadInput, match=r"no\.h5 does not exist"):
        load_table(tmp_path / "no.h5")


def test_a_table_is_never_overwritten(table):
    with pytest.raises(BadInput, match="exists already"):
        save_table(table, DataSet(TEST, TRAIN))
    assert load_table(table).train == TRAIN


def test_photos_come_with_their_shape_and_the_names_of_classes(tmp_path):
    save_catvnoncat(tmp_path / "cats", *drawn_cats(train_count=4, test_count=2))
    data = load_data_set(str(tmp_path / "cats"), dtype=np.float32)
    assert data.image_shape == (64, 64, 3)
    assert data.classes == ("non-cat", "cat")
    assert data.train.X.shape == (12288, 4)
    assert data.train.X.dtype == np.float32
    assert data.train.X.max() <= 1


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(BadInput, match="no data set 'iris', and no file"):
        load_data_set("iris")


def test_without_scikit_learn_one_line_says_what_to_install(monkeypatch):
    for name in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"digits.*pip install 'scikit-learn>=1.6'"):
        load_data_set("digits")


def test_digits_do_not_need_the_import_of_scikit_learn(monkeypatch):
    pytest.importorskip("sklearn.datasets")
    monkeypatch.setattr("pydnn.data.sets._file_of_digits", lambda: None)
    imported = load_data_set("digits")
    monkeypatch.undo()
    monkeypatch.setattr("pydnn.data.sets.import_extra", None)
    read = load_data_set("digits")
    assert read == imported
    assert read.train.X.flags.c_contiguous == imported.train.X.flags.c_contiguous
    assert read.train.X.strides == imported.train.X.strides


def test_digits_are_of_ten_classes_of_which_each_part_has_its_share():
    datasets = pytest.importorskip("sklearn.datasets")
    data = load_data_set("digits")
    assert data.train.X.shape == (64, 1438)
    assert data.test.X.shape == (64, 359)
    counts = np.bincount(data.test.Y[0].astype(int))
    whole = np.bincount(datasets.load_digits().target)
    assert (abs(counts - whole / 5) <= 0.5).all()
    assert data.classes == tuple("0123456789")
    assert load_data_set("digits") == data


def test_diabetes_is_of_ten_measurements_of_442_patients():
    datasets = pytest.importorskip("sklearn.datasets")
    data = load_data_set("diabetes")
    assert data.train.X.shape == (10, 354)
    both = np.concatenate([data.train.Y[0], data.test.Y[0]])
    np.testing.assert_array_equal(np.sort(both), np.sort(datasets.load_diabetes().target))
    assert data.classes is None


SEQUENCES = Batch(
    np.arange(24.0).reshape(4, 3, 2), np.array([[0.0, 1]]), np.ones((1, 2)), np.array([4, 2])
)
STEPS = Batch(np.arange(8.0).reshape(4, 2), np.arange(8.0).reshape(4, 2) % 3, lengths=[1, 4])


@pytest.mark.parametrize(
    "part", [SEQUENCES, STEPS, Batch(np.ones((2, 4, 3, 5)), np.ones((2, 4, 1, 5)))]
)
def test_examples_of_any_number_of_axes_are_saved_with_their_lengths(tmp_path, part):
    data = DataSet(part, part)
    save_table(tmp_path / "some.h5", data)
    again = load_data_set(tmp_path / "some.h5")
    assert again == data
    assert np.moveaxis(again.train.X, -1, 0).flags.c_contiguous
    cast = load_data_set(tmp_path / "some.h5", dtype=np.float32)
    np.testing.assert_array_equal(cast.train.X, part.X)
    assert np.moveaxis(cast.train.X, -1, 0).flags.c_contiguous
    assert (cast.train.lengths is None) == (part.lengths is None)


@pytest.mark.parametrize("kind", ["h5", "npz"])
def test_arrays_have_their_examples_first_in_files(tmp_path, kind):
    arrays = {
        "train_X": np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
        "train_Y": np.array([1, 0]) if kind == "h5" else np.array([True, False]),
        "train_lengths": np.array([4, 1]),
        "test_X": np.zeros((1, 5, 3)),
        "test_Y": np.zeros((1, 1)),
        "test_lengths": np.array([5], np.uint8),
        "classes": np.array(["ä", "b"]) if kind == "npz" else np.array([b"\xc3\xa4", b"b"]),
    }
    path = tmp_path / f"own.{kind}"
    if kind == "npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    data = load_data_set(path)
    np.testing.assert_array_equal(data.train.X[:, :, 1], arrays["train_X"][1])
    np.testing.assert_array_equal(data.train.Y, [[1, 0]])
    np.testing.assert_array_equal(data.train.lengths, [4, 1])
    assert data.test.X.shape == (5, 3, 1)  # sequences of another part may be longer
    assert data.classes == ("ä", "b")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"train_lengths": [4, 9]}, r"the train part in .*: the length of example 1 is 9, expecte"),
        ({"train_lengths": [4.5, 1]}, r"train_lengths in .* holds float64, expected integers"),
        ({"train_lengths": [4]}, r"train_lengths in .* has shape \(1,\), expected \(2,\)"),
        ({"train_Y": np.zeros(3)}, r"train_Y in .* has shape \(3,\), expected \(2,\)"),
        ({"train_Y": np.array(["a", "b"])}, r"train_Y in .* holds <U1, expected numbers"),
        ({"train_X": np.zeros(2)}, r"train_X in .* has shape \(2,\), expected \(m, n_x\)"),
        ({"train_X": np.full((2, 4, 3), np.nan)}, r"^train_X in .* holds nan at index \(0, 0, 0\)"),
        ({"classes": np.zeros(2)}, r"classes in .* holds float64, expected texts"),
        (
            {"test_X": np.zeros((1, 4, 2)), "test_Y": np.zeros(1)},
            r"^test_X, with its first axis last, has shape \(4, 2, 1\), expected \(4, 3, m\)",
        ),
    ],
)
def test_arrays_of_an_npz_file_that_do_not_fit_are_named(tmp_path, changes, problem):
    arrays = {"train_X": np.zeros((2, 4, 3)), "train_Y": np.array([1, 0])}
    np.savez(tmp_path / "own.npz", **arrays | changes)
    with pytest.raises(BadInput, match=problem):
        load_data_set(tmp_path / "own.npz")


def test_an_npz_file_without_examples_is_a_table(tmp_path):
    np.savez(tmp_path / "table.npz", x=np.arange(3), y=np.arange(3))
    with pytest.raises(BadInput, match="is a table with the columns x, y, expected one of them as"):
        load_data_set(tmp_path / "table.npz")
    np.savez(tmp_path / "half.npz", train_X=np.zeros((2, 3)))
    with pytest.raises(BadInput, match="train_Y"):
        load_data_set(tmp_path / "half.npz")


@pytest.mark.slow
def test_images_are_columns_or_have_all_their_axes():
    flat = load_data_set("drawn-cats")
    images = load_data_set("drawn-cats", flat=False)
    assert images.test.X.shape == (64, 64, 3, 250)
    assert images == flat.unflattened()
    assert np.shares_memory(flat.unflattened().train.X, flat.train.X)
    np.testing.assert_array_equal(images.test.X[1, 2, :, 3], flat.test.X[(64 + 2) * 3 :, 3][:3])
    train, _ = drawn_cats()
    np.testing.assert_array_equal(images.train.X[..., 7] * 255, train.images[7])
    assert images.unflattened() == images
    with pytest.raises(BadInput, match="the examples are not images, expected a data set with an"):
        DataSet(TRAIN, TEST).unflattened()
    with pytest.raises(BadInput, match=r"examples have the shape \(64, 64, 3\), but images of \(6"):
        DataSet(images.train, images.test, image_shape=(64, 32, 6))


def test_parts_may_differ_in_the_steps_of_sequences_alone():
    longer = Batch(np.zeros((9, 3, 2)), [[0.0, 1]], lengths=[9, 1])
    assert DataSet(SEQUENCES, longer).test.X.shape == (9, 3, 2)
    without = Batch(SEQUENCES.X, SEQUENCES.Y)
    with pytest.raises(BadInput, match=r"^test X has shape \(9, 3, 2\), expected \(4, 3, m\)"):
        DataSet(without, longer)
    with pytest.raises(BadInput, match=r"^test X has shape \(4, 2, 2\), expected \(T, 3, m\)"):
        DataSet(SEQUENCES, Batch(np.zeros((4, 2, 2)), [[0.0, 1]]))
