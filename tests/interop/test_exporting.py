import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import pydnn as nn
from pydnn import BadInput, Batch, Key
from pydnn.interop.exporting import weights_of
from pydnn.interop.npz import npz_bytes, open_npz
from pydnn.interop.safetensors import open_safetensors, safetensors_bytes
from pydnn.recipes.toml import read_recipe

SUFFIXES = ["onnx", "safetensors", "npz"]


@pytest.fixture(scope="module")
def model():
    recipe = nn.Recipe(
        "drawn",
        "serial(dense(3), batch_norm(), relu(), dense(2))",
        nn.softmax_cross_entropy(),
        nn.adam(),
        iterations=2,
        standardize=True,
        numerics="portable",
        dtype="float32",
    )
    return nn.train(recipe, Batch(Key(1).normal((4, 6)), [[0, 1, 0, 1, 1, 0]])).model


def test_weights_have_the_names_of_parameters_and_say_what_else_they_are(model):
    arrays = weights_of(model)
    assert {name: array.shape for name, array in arrays.items()} == {
        "0/W": (3, 4), "0/b": (3, 1), "1/gamma": (3, 1), "1/beta": (3, 1), "3/W": (2, 3),
        "3/b": (2, 1), "statistics/1/mean": (3, 1), "statistics/1/variance": (3, 1),
        "inputs/mean": (4, 1), "inputs/deviation": (4, 1),
    }  # fmt: skip
    np.testing.assert_array_equal(arrays["3/W"], model.parameters["3/W"])


def test_a_safetensors_file_is_read_by_its_own_package(tmp_path, model):
    numpy = pytest.importorskip("safetensors.numpy")
    from safetensors import safe_open

    model.export(tmp_path / "model.safetensors")
    arrays = weights_of(model)
    read = numpy.load_file(tmp_path / "model.safetensors")
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
        about = json.loads(file.metadata()["pydnn"])
    assert read_recipe(about["recipe"]) == model.recipe


def test_an_npz_file_is_read_by_numpy_without_pickles(tmp_path, model):
    model.export(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as read:
        for name, array in weights_of(model).items():
            assert read[name].dtype == array.dtype
            np.testing.assert_array_equal(read[name], array)
        about = json.loads(read["about.json"])
    assert read_recipe(about["recipe"]) == model.recipe


ARRAYS = {
    "rows": np.arange(6, dtype=np.float32).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "every other": np.arange(12.0)[::2],
    "big-endian": np.arange(4, dtype=">i8"),
    "猫": np.array([True, False]),
    "one": np.array(1.5),
    "none": np.zeros((0, 3), np.float16),
    "bytes": np.arange(5, dtype=np.uint8),
}


def made(suffix):
    if suffix == "npz":
        return npz_bytes(ARRAYS, texts={"about.json": "{}"})
    return safetensors_bytes(ARRAYS, about="{}")


@pytest.mark.parametrize(
    ("suffix", "opened"), [("npz", open_npz), ("safetensors", open_safetensors)]
)
def test_arrays_of_every_memory_order_come_back(suffix, opened, tmp_path):
    path = tmp_path / f"arrays.{suffix}"
    path.write_bytes(made(suffix))
    with opened(path) as arrays:
        assert {array.name for array in arrays} == ARRAYS.keys()
        for array in arrays:
            expected = ARRAYS[array.name]
            found = array.read()
            assert found.shape == array.shape == expected.shape
            assert found.dtype == expected.dtype.newbyteorder("=")
            np.testing.assert_array_equal(found, expected)


def test_the_package_reads_arrays_of_every_memory_order(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    read = numpy.load(made("safetensors"))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)


def test_what_the_package_writes_is_read(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    arrays = {"b": np.arange(3.0), "a": np.ones((2, 2), np.float32)}
    numpy.save_file(arrays, tmp_path / "theirs.safetensors", {"one": "1", "two": "2"})
    with open_safetensors(tmp_path / "theirs.safetensors") as read:
        for array in read:
            np.testing.assert_array_equal(array.read(), arrays[array.name])


def test_numbers_of_16_bits_are_read(tmp_path):
    header = {"half": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    raw = np.array([1.5, -3.0], "<f4").view("<u2")[1::2].tobytes()
    (tmp_path / "half.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + raw)
    with open_safetensors(tmp_path / "half.safetensors") as [array]:
        np.testing.assert_array_equal(array.read(), np.float32([1.5, -3.0]))


# Of every machine: a changed byte would make a colleague's checksum differ.
BYTES = {"npz": "0c1b453784eb62ab", "safetensors": "900936a1e393a875"}


@pytest.mark.parametrize("suffix", BYTES)
def test_equal_arrays_give_the_same_bytes_on_every_machine(suffix):
    assert made(suffix) == made(suffix)
    assert hashlib.sha256(made(suffix)).hexdigest()[:16] == BYTES[suffix]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_command_writes_what_the_model_exports(suffix, tmp_path, model, command):
    model.save(tmp_path / "model.h5")
    model.export(tmp_path / f"one.{suffix}")
    status, out, _ = command("export", tmp_path / "model.h5", tmp_path / f"two.{suffix}")
    assert status == 0
    size = (tmp_path / f"two.{suffix}").stat().st_size
    assert out == f"{tmp_path / 'two'}.{suffix}, {size:,} bytes\n"
    assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()
    status, out, _ = command(
        "export", tmp_path / "model.h5", tmp_path / f"two.{suffix}", "--replace", "--json"
    )
    assert json.loads(out) == {"file": str(tmp_path / f"two.{suffix}"), "bytes": size}


def test_a_file_is_not_replaced_unless_that_is_asked_for(tmp_path, model, command):
    model.save(tmp_path / "model.h5")
    (tmp_path / "mine.onnx").write_text("mine")
    status, _, err = command("export", tmp_path / "model.h5", tmp_path / "mine.onnx")
    assert (status, err.count("\n")) == (2, 1)
    assert "exists already" in err
    assert (tmp_path / "mine.onnx").read_text() == "mine"


def test_a_name_of_another_kind_is_refused(model):
    with pytest.raises(BadInput, match=r"ends in '\.pt', expected one of \.onnx, \.safetensors"):
        model.export("model.pt")


# Files from strangers


def safetensors_with(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def tensor(start, stop, shape=None, dtype="U8"):
    shape = [stop - start] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


DAMAGED = {
    "empty": b"",
    "too short": b"\7\0\0",
    "header past the end": safetensors_with({}, length=1000),
    "header of exabytes": safetensors_with({}, length=2**63),
    "not JSON": safetensors_with(b"{a: 1}"),
    "not a mapping": safetensors_with([1, 2]),
    "not UTF-8": safetensors_with(b'{"\xff": 1}'),
    "nested deeply": safetensors_with(b"[" * 100_000),
    "a name twice": safetensors_with(
        f'{{"a": {json.dumps(tensor(0, 2))}, "a": {json.dumps(tensor(0, 2))}}}'.encode(), b"12"
    ),
    "array not a mapping": safetensors_with({"a": 7}),
    "no offsets": safetensors_with({"a": {"dtype": "U8", "shape": [1]}}, b"1"),
    "negative size": safetensors_with({"a": tensor(0, 2, [-2])}, b"12"),
    "size true": safetensors_with({"a": tensor(0, 1, [True])}, b"1"),
    "size with decimals": safetensors_with({"a": tensor(0, 2, [2.0])}, b"12"),
    "unknown dtype": safetensors_with({"a": tensor(0, 1, dtype="F8_E4M3")}, b"1"),
    "other size": safetensors_with({"a": tensor(0, 4, [3])}, b"1234"),
    "sizes that wrap around": safetensors_with({"a": tensor(0, 0, [2**32, 2**32])}),
    "no entries of a huge array": safetensors_with({"a": tensor(0, 0, [0, 2**62, 4])}),
    "no entries, and false": safetensors_with({"a": tensor(0, 0, [False])}),
    "overlap": safetensors_with({"a": tensor(0, 3), "b": tensor(2, 4)}, b"1234"),
    "the same bytes twice": safetensors_with({"a": tensor(0, 4), "b": tensor(0, 4)}, b"1234"),
    "a hole": safetensors_with({"a": tensor(0, 1), "b": tensor(2, 4)}, b"1234"),
    "past the end": safetensors_with({"a": tensor(0, 5)}, b"1234"),
    "bytes left": safetensors_with({"a": tensor(0, 3)}, b"1234"),
    "stop before start": safetensors_with({"a": tensor(3, 1, [])}, b"1234"),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_safetensors_file_is_refused_in_one_line(content, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(content)
    with (
        pytest.raises(BadInput, match=r"not a whole safetensors file|expected one of F64"),
        open_safetensors(tmp_path / "a.safetensors"),
    ):
        pass


def test_every_byte_of_a_cut_or_changed_file_is_refused_or_read(tmp_path):
    """Whatever is wrong, there is one line, and no array is larger than the file."""
    for suffix, opened in (("npz", open_npz), ("safetensors", open_safetensors)):
        content, path = made(suffix), tmp_path / f"a.{suffix}"
        changes = [content[:length] for length in range(0, len(content), 97)]
        for place in range(0, len(content), 41):
            changed = bytearray(content)
            changed[place] ^= 1 << (place % 8)
            changes.append(bytes(changed))
        for changed in changes:
            path.write_bytes(changed)
            with contextlib.suppress(BadInput), opened(path) as arrays:
                assert sum(array.read().nbytes for array in arrays) <= len(content)


def archive(tmp_path, *members, **options):
    import zipfile

    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def npy(header, data=b""):
    text = repr(header).encode() if isinstance(header, dict) else header
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + data


def header_of(descr="<f8", shape=(2,), order=False):
    return {"descr": descr, "fortran_order": order, "shape": shape}


NPY = {
    "no npy file": b"hello",
    "objects": npy(header_of("|O"), b"12345678" * 2),
    "texts": npy(header_of("<U2"), b"12345678" * 2),
    "records": npy(header_of([("a", "<f8")]), b"12345678" * 2),
    "no entries of a huge array": npy(header_of(shape=(0, 2**62, 4))),
    "no entries, and false": npy(header_of(shape=(False,))),
    "beyond 64 bits": npy(header_of(shape=(0, 2**70))),
    "too few bytes": npy(header_of(), b"12345678"),
    "too many bytes": npy(header_of(), b"12345678" * 3),
    "terabytes": npy(header_of(shape=(2**40,)), b"12345678"),
    "sizes that wrap around": npy(header_of(shape=(2**32, 2**32))),
    "negative sizes": npy(header_of(shape=(-1, -2)), b"12345678" * 2),
    "code in the header": npy(b"__import__('os').getcwd()"),
    "nested deeply": npy(b"(" * 9000),
    "version 9": b"\x93NUMPY\x09\0" + bytes(20),
}


@pytest.mark.parametrize("content", NPY.values(), ids=NPY)
def test_a_damaged_array_of_an_npz_file_is_refused_in_one_line(content, tmp_path):
    path = archive(tmp_path, ("a.npy", content))
    with pytest.raises(BadInput, match=r"a\.npy in .* is damaged"), open_npz(path):
        pass


def test_an_npz_file_that_grows_without_end_is_refused(tmp_path):
    import zipfile

    path = archive(tmp_path, ("a.npy", bytes(1 << 20)), compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\1\2") + 24  # the size of the member, in the directory
    content[at : at + 4] = (2**31).to_bytes(4, "little")
    path.write_bytes(bytes(content))
    with pytest.raises(BadInput, match="claims 2147483648 bytes"), open_npz(path):
        pass


def test_an_npz_file_with_one_name_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = archive(tmp_path, ("a.npy", b""), ("a.npy", b""))
    with pytest.raises(BadInput, match="two files of the same name"), open_npz(path):
        pass


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for opened in (open_npz, open_safetensors):
        with pytest.raises(BadInput, match="does not exist"), opened(tmp_path / "none"):
            pass
    assert not list(Path(tmp_path).iterdir())
