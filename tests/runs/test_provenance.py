import importlib
import json
import shutil
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest
from small_runs import recorded, resumed, small_data, small_recipe

from pydnn import BadInput, Batch, dense, describe, serial
from pydnn.data import DataSet
from pydnn.descriptions import builders
from pydnn.descriptions.builders import NotAllowed, described
from pydnn.recipes.toml import read_toml
from pydnn.runs import Run
from pydnn.runs.provenance import (
    data_differences,
    function_differences,
    pins_of,
    pins_text,
    read_pins,
    unpinned,
)

PARTS = ("forward", "cost", "backward", "update")


def pinned(data, folder):
    return pins_of(small_recipe(folder), data, PARTS)


def test_pins_come_back_from_the_text_of_a_recipe(tmp_path):
    for data in (small_data(), small_data().train, weighted(small_data())):
        pins = pinned(data, tmp_path)
        assert read_pins(read_toml(pins_text(small_recipe(tmp_path), pins))) == pins
        assert pins.shape == (5,)
        assert data_differences(pins, data) == []
    assert set(pins.data) == {"train", "test"}
    assert set(pins.data["train"]) == {"X", "Y", "weights"}
    assert pins.place == str(tmp_path / "data-1.h5")


def weighted(data):
    return attrs.evolve(data, train=attrs.evolve(data.train, weights=np.ones((1, 40))))


def test_the_order_of_numbers_in_memory_is_not_pinned(tmp_path):
    data = small_data()
    X = data.train.X
    other = attrs.evolve(
        data, train=Batch(np.ascontiguousarray(X), np.asfortranarray(data.train.Y))
    )
    assert data_differences(pinned(data, tmp_path), other) == []
    assert data_differences(pinned(other, tmp_path), data) == []


def with_train(**arrays):
    data = small_data()
    return attrs.evolve(data, train=attrs.evolve(data.train, **arrays))


def nudged(array):
    array = array.copy()
    array[1, 2] = np.nextafter(array[1, 2], 9)
    return array


TRAIN = small_data().train
DIFFERENT = {
    "a bit of X": (
        with_train(X=nudged(TRAIN.X)),
        [r"train X differs (recorded float64 (5, 40) sha256 {}, here float64 (5, 40) sha256 {})"],
    ),
    "float32": (
        with_train(X=TRAIN.X.astype(np.float32)),
        ["train X differs (recorded float64 (5, 40) sha256 {}, here float64 (5, 40) sha256 {})"],
    ),
    "fewer examples": (
        with_train(X=TRAIN.X[:, 1:], Y=TRAIN.Y[:, 1:]),
        ["train X differs (recorded float64 (5, 40) sha256 {}, here float64 (5, 39) sha256 {})",
         "train Y differs (recorded float64 (1, 40) sha256 {}, here float64 (1, 39) sha256 {})"],
    ),
    "weights": (
        weighted(small_data()),
        ["train weights differs (recorded none, here float64 (1, 40) sha256 {})"],
    ),
    "another test part": (
        DataSet(TRAIN, small_data(2).test),
        ["test X differs (recorded float64 (5, 10) sha256 {}, here float64 (5, 10) sha256 {})",
         "test Y differs (recorded float64 (1, 10) sha256 {}, here float64 (1, 10) sha256 {})"],
    ),
    "no test part": (TRAIN, []),
}  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), DIFFERENT.values(), ids=DIFFERENT)
def test_differences_of_the_data_are_reported_in_words(tmp_path, data, expected):
    recorded_here = pinned(small_data(), tmp_path)
    here = pinned(data, tmp_path)
    differences = data_differences(recorded_here, data)
    assert len(differences) == len(expected)
    for line, pattern in zip(differences, expected, strict=True):
        part, name = pattern.split()[:2]
        pins = (recorded_here.data[part].get(name), here.data[part].get(name))
        digests = [pin.sha256[:16] for pin in pins if pin]
        assert line == pattern.format(*digests)


def test_classes_are_pinned_and_compared_where_both_have_names(tmp_path):
    named, turned = (
        attrs.evolve(small_data(), classes=names) for names in (("cat", "a\n\x7f"), ("b", "cat"))
    )
    pins = pinned(named, tmp_path)
    assert read_pins(read_toml(pins_text(small_recipe(tmp_path), pins))) == pins
    assert data_differences(pins, named) == data_differences(pins, small_data()) == []
    assert data_differences(pinned(small_data(), tmp_path), named) == []
    [line] = data_differences(pinned(turned, tmp_path), attrs.evolve(turned, classes=("cat", "b")))
    assert line == "the list of classes differs (recorded b, cat; here cat, b)"


def test_a_run_is_not_resumed_with_classes_in_another_order(tmp_path):
    data = attrs.evolve(small_data(), classes=("non-cat", "cat"))
    recorded(tmp_path / "run", small_recipe(tmp_path), data, steps=6)
    turned = attrs.evolve(data, classes=("cat", "non-cat"))
    with pytest.raises(BadInput, match="recorded non-cat, cat; here cat, non-cat"):
        resumed(tmp_path / "run", data=turned)
    assert resumed(tmp_path / "run", data=data).iteration == 12


def test_data_with_nan_cannot_be_pinned(tmp_path):
    X = TRAIN.X.copy()
    X[0, 0] = np.nan
    with pytest.raises(BadInput, match=r"^train X holds nan, which has no fingerprint"):
        pinned(with_train(X=X), tmp_path)


# The user's own functions

MODULE = """
from pathlib import Path

from pydnn import dense, relu, serial
from pydnn.descriptions.builders import described

Path({mark!r}).touch()


@described("stage")
def block(*, size):
    return serial(dense(size), relu())
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The path of a user's own imported module, and the file that importing it makes."""
    folder, mark = tmp_path / "own", tmp_path / "imported"
    folder.mkdir()
    path = folder / "my_blocks.py"
    path.write_text(MODULE.format(mark=str(mark)))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    importlib.invalidate_caches()
    yield path, mark
    sys.modules.pop("my_blocks", None)


def forgotten(mark):
    """Forget the imported module, as in a new process."""
    sys.modules.pop("my_blocks", None)
    importlib.invalidate_caches()
    mark.unlink(missing_ok=True)


@pytest.fixture
def run_of_own(own, tmp_path):
    path, mark = own
    block = importlib.import_module("my_blocks").block
    network = serial(block(size=3), dense(1))
    recorded(tmp_path / "run", small_recipe(tmp_path, network=describe(network)), steps=5)
    forgotten(mark)
    return tmp_path / "run", path, mark


def test_a_function_is_recorded_with_the_source_of_its_module(run_of_own):
    folder, path, mark = run_of_own
    run = Run.open(folder, allow=["my_blocks"])
    assert list(run.folder.pins.functions) == ["my_blocks:block"]
    assert mark.exists()
    assert resumed(folder, allow=["my_blocks"]).iteration == 12
    text = path.read_bytes()
    path.write_bytes(text.replace(b"\n", b"\r\n"))  # as an editor may do
    forgotten(mark)
    assert Run.open(folder, allow="my_blocks").state(12).iteration == 12


CHANGED = {
    "changed": (
        lambda path: path.write_text(path.read_text() + "more = 1\n"),
        r"recipe\.toml: the source of my_blocks:block has changed \(sha256 recorded [0-9a-f]{16}, "
        r"here [0-9a-f]{16}\): restore it",
    ),
    "absent": (
        lambda path: path.rename(path.with_name("renamed.py")),
        r"recipe\.toml: the source of my_blocks:block was not found: put the file of the module "
        r"my_blocks on the import path",
    ),
    "a folder of that name": (
        lambda path: (path.unlink(), path.with_suffix("").mkdir()),
        r"the source of my_blocks:block was not found",
    ),
}


@pytest.mark.parametrize(("change", "message"), CHANGED.values(), ids=CHANGED)
def test_a_function_that_is_not_as_it_was_is_refused_before_it_is_imported(
    run_of_own, change, message
):
    folder, path, mark = run_of_own
    change(path)
    importlib.invalidate_caches()
    for use in (Run.open, resumed):
        with pytest.raises(BadInput, match=message) as caught:
            use(folder, allow=["my_blocks"])
        assert "\n" not in str(caught.value)
        assert not mark.exists()
        assert "my_blocks" not in sys.modules


def in_source(old, new):
    return lambda text: text.replace(old, new)


SAME = {
    "a comment at the end": lambda text: text + "# more\n",
    "a comment in a line": in_source("def block(*, size):", "def block(*, size):  # units"),
    "blank lines": in_source("\n", "\n\n"),
    "a docstring": in_source("def block(*, size):", 'def block(*, size):\n    """More."""'),
    "a docstring of the module": lambda text: f'"""More."""\n{text}',
    "spaces": in_source("relu())", "relu( ) )"),
    "a line in two": in_source("dense(size), ", "dense(size),\n        "),
    "other quotes": in_source('"stage"', "'stage'"),
    "line ends of Windows": in_source("\n", "\r\n"),
}
OTHER = {
    "a number": in_source("dense(size)", "dense(size + 0)"),
    "a text": in_source('"stage"', '"weights"'),
    "a text that is not a docstring": lambda text: text + "x = 'more'\n",
    "a default": in_source("*, size", "*, size=3"),
    "an indented line": lambda text: text + "if False:\n    pass\npass\n",
    "no Python": lambda text: text + "(",
    "endless brackets": lambda text: text + "(" * 1000,
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_does_not_run_is_not_a_change(run_of_own, change):
    folder, path, _ = run_of_own
    path.write_text(change(path.read_text()))
    assert Run.open(folder, allow=["my_blocks"]).changes == []


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_whatever_runs_is_a_change(run_of_own, change):
    folder, path, _ = run_of_own
    path.write_text(change(path.read_text()))
    with pytest.raises(BadInput, match=r"the source of my_blocks:block has changed \(sha256"):
        Run.open(folder, allow=["my_blocks"])


def test_a_run_keeps_the_source_of_the_users_functions_as_text(run_of_own):
    folder, path, _ = run_of_own
    text = path.read_text()
    path.write_text(text + "# more\n")
    assert (folder / "functions" / "my_blocks.py").read_text() == text
    assert dict(Run.open(folder, allow=["my_blocks"]).sources) == {"my_blocks": text}


def linked(kept):
    kept.rename(kept.with_suffix(".txt"))
    kept.symlink_to(kept.with_suffix(".txt"))


DAMAGED = [Path.unlink, lambda kept: kept.write_text("import this")]


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_source_that_is_not_the_recorded_one_proves_nothing(run_of_own, damage):
    folder, path, _ = run_of_own
    damage(folder / "functions" / "my_blocks.py")
    run = Run.open(folder, allow=["my_blocks"])
    assert (run.changes, dict(run.sources)) == ([], {})
    path.write_text("# more\n" + path.read_text())
    with pytest.raises(BadInput, match="the source of my_blocks:block has changed"):
        Run.open(folder, allow=["my_blocks"])


def test_sources_behind_a_linked_folder_are_not_read(run_of_own):
    folder, *_ = run_of_own
    kept = folder / "functions"
    kept.rename(folder / "elsewhere")
    kept.symlink_to(folder / "elsewhere")
    with pytest.raises(BadInput, match="functions is a link or a file, expected a folder"):
        Run.open(folder, allow=["my_blocks"])


def test_a_link_in_the_place_of_a_source_is_refused_until_resume_sets_it_aside(run_of_own):
    folder, _, _ = run_of_own
    linked(folder / "functions" / "my_blocks.py")
    with pytest.raises(BadInput, match=r"functions/my_blocks\.py is a symbolic link"):
        Run.open(folder, allow=["my_blocks"])
    resumed(folder, allow=["my_blocks"])
    assert (folder / "set-aside" / "my_blocks.py").is_symlink()
    assert Run.open(folder, allow=["my_blocks"]).changes == []


def test_a_function_that_has_changed_is_used_anyway(run_of_own):
    folder, path, _ = run_of_own
    path.write_text(path.read_text() + "more = 1\n")
    run = Run.open(folder, anyway=True, allow=["my_blocks"])
    [differences] = function_differences(run.folder.pins)
    assert "my_blocks:block has changed" in differences
    assert resumed(folder, anyway=True, allow=["my_blocks"]).iteration == 12


def test_a_function_in_a_package_is_found_without_running_the_package(tmp_path, monkeypatch):
    package, mark = tmp_path / "mine" / "inner", tmp_path / "imported"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text(
            f"from pathlib import Path\nPath({str(mark)!r}).touch()"
        )
    (package / "blocks.py").write_text(MODULE.format(mark=str(mark)))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    recipe = attrs.evolve(small_recipe(tmp_path), network={"mine.inner.blocks:block": {"size": 3}})
    pins = pins_of(recipe, small_data(), PARTS)
    assert list(pins.functions) == ["mine.inner.blocks:block"]
    assert function_differences(pins) == []
    (package / "blocks.py").write_text("other")
    assert len(function_differences(pins)) == 1
    assert not mark.exists()


@described("stage")
def mine():
    return serial(dense(2), dense(1))


@pytest.mark.parametrize("module", ["__main__", "nowhere_to_be_found", "sys"])
def test_a_function_without_a_lasting_name_is_refused_at_recording(tmp_path, module):
    recipe = attrs.evolve(small_recipe(tmp_path), network={f"{module}:mine": {}})
    with pytest.raises(BadInput, match=f"the source of {module}:mine was not found"):
        pins_of(recipe, small_data(), PARTS)


def test_a_function_of_main_is_refused_even_where_a_file_has_that_name(tmp_path, monkeypatch):
    (tmp_path / "__main__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.setattr(mine.__wrapped__, "__module__", "__main__")
    monkeypatch.setattr(builders, "_BUILDERS", dict(builders._BUILDERS))
    described("stage")(mine.__wrapped__)
    recipe = small_recipe(tmp_path, network={"__main__:mine": {}})
    with pytest.raises(BadInput, match="the source of __main__:mine was not found"):
        recorded(tmp_path / "run", recipe)
    assert not (tmp_path / "run").exists()


NAMED = {
    "a stage": ("network", "serial(dense(3), my_blocks:block(size=3), dense(1))"),
    "a stage in quotes": ("network", "serial('my_blocks:block'(size=3), dense(1))"),
    "a stage in disguise": ("network", "serial('my_bl\\\\x6fcks\\\\x3ablock'(size=3), dense(1))"),
    "a name alone": ("network", "my_blocks:block"),
    "an initialiser": ("network", "dense(1, initializer=my_blocks:block)"),
    "a loss": ("loss", "my_blocks:block(size=3)"),
    "an optimiser in a list": ("optimizer", "chain(parts=[my_blocks:block(size=3)])"),
    "batches": ("batches", "my_blocks:block()"),
    "weights": ("weights", "my_blocks:block()"),
}


@pytest.mark.parametrize(("field", "text"), NAMED.values(), ids=NAMED)
def test_a_recipe_of_a_strangers_imports_nothing_that_it_has_not_pinned(own, tmp_path, field, text):
    _, mark = own
    # A run of pydnn 0.1.0, whose segments do not hold the text of the recipe.
    shutil.copytree(Path(__file__).parents[1] / "old_runs" / "cut", tmp_path / "run")
    path = tmp_path / "run" / "recipe.toml"
    head, table, pins = path.read_text().partition("\n[recorded]")
    plain = {k: v for k, v in read_toml(head).items() if k != field} | {field: "?"}
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in plain.items()]
    path.write_text("".join(lines).replace('"?"', f'"{text}"') + table + pins)
    with pytest.raises(BadInput, match="has nothing about my_blocks:block, which the recipe na"):
        Run.open(tmp_path / "run", allow=["my_blocks"])
    with pytest.raises(NotAllowed, match=r"my_blocks:block is code outside pydnn.*--allow my_bl"):
        Run.open(tmp_path / "run", anyway=True)
    assert not mark.exists()


def test_penalties_are_looked_into_as_well(tmp_path):
    plain = {"penalties": ["l2(0.1)", "a.b:c(0.1)"], "recorded": {"x": "d:e()"}, "seed": 3}
    assert unpinned(plain, pinned(small_data(), tmp_path)) == [
        "recorded.functions has nothing about a.b:c, which the recipe names"
    ]


def test_a_name_of_other_letters_is_looked_at_where_it_is_called(tmp_path):
    pins = pinned(small_data(), tmp_path)
    for text in ("'é:f'(3)", "chain('é:f'(), 'no call: é:f')"):
        [differences] = unpinned({"network": text}, pins)
        assert "nothing about é:f," in differences


@pytest.mark.parametrize("name", ["élan:mine", "small_runs:outer.<locals>.mine"])
def test_a_function_that_a_recipe_cannot_name_is_refused_at_recording(tmp_path, name):
    recipe = attrs.evolve(small_recipe(tmp_path), network={"serial": {"stages": [{name: {}}]}})
    with pytest.raises(BadInput, match="cannot be named in a recipe"):
        pins_of(recipe, small_data(), PARTS)


def test_what_cannot_be_read_is_left_to_who_reads_it(tmp_path):
    pins = pinned(small_data(), tmp_path)
    for text in ("(", "(" * 10_000, "a" + "(a" * 5_000, "a:b(", "x\0", "[" * 200 + "]" * 200):
        assert unpinned({"network": text}, pins) == []


# Strange texts

SHA = "0" * 64
X = {"shape": [5, 40], "dtype": "float64", "sha256": SHA}
GOOD = {"data": "x", "parts": ["cost"], "train": {"X": X, "Y": X}}
NO_TABLE = "^the table recorded is missing or incomplete"
STRANGE = {
    "nothing": (None, NO_TABLE),
    "a list": ([], NO_TABLE),
    "an unknown key": (GOOD | {"more": 1}, NO_TABLE),
    "no data": ({k: v for k, v in GOOD.items() if k != "data"}, NO_TABLE),
    "data that is a number": (GOOD | {"data": 3}, NO_TABLE),
    "no training part": (GOOD | {"train": {}}, NO_TABLE),
    "no Y": (GOOD | {"train": {"X": X}}, NO_TABLE),
    "a training part of a number": (GOOD | {"train": 3}, r"^recorded\.train is not a table"),
    "another array": (
        GOOD | {"test": {"a\nb": X}}, r"^there is no array 'a\\nb' in recorded\.test: choose",
    ),
    "truth for a shape": (
        GOOD | {"test": {"X": X | {"shape": [True, 1]}}}, r"^recorded\.test\.X is .*True.*expected",
    ),
    "a shape below 0": (GOOD | {"test": {"X": X | {"shape": [-1, 1]}}}, r"^recorded\.test\.X is"),
    "endless features": (GOOD | {"test": {"X": X | {"shape": [2**48, 1]}}}, r"^recorded\.test\.X"),
    "a shape of one": (GOOD | {"test": {"X": X | {"shape": [3]}}}, r"^recorded\.test\.X is"),
    "a shape of nine": (GOOD | {"test": {"X": X | {"shape": [1] * 9}}}, r"^recorded\.test\.X is"),
    "lengths of two axes": (
        GOOD | {"test": {"lengths": X | {"dtype": "int64", "shape": [2, 9]}}},
        r"^recorded\.test\.lengths is",
    ),
    "lengths of floats": (
        GOOD | {"test": {"lengths": X | {"shape": [9]}}}, r"^recorded\.test\.lengths is",
    ),
    "a dtype of two lines": (GOOD | {"test": {"X": X | {"dtype": "a\nb"}}}, r"^recorded\.test\.X"),
    "no digest": (GOOD | {"test": {"X": X | {"sha256": "x"}}}, r"^recorded\.test\.X is"),
    "digest of a number": (GOOD | {"test": {"X": X | {"sha256": 3}}}, r"^recorded\.test\.X is"),
    "parts that are a text": (GOOD | {"parts": "cost"}, NO_TABLE),
    "parts of two lines": (GOOD | {"parts": ["a\nb"]}, NO_TABLE),
    "functions that are a list": (GOOD | {"functions": []}, NO_TABLE),
    "functions without a module": (GOOD | {"functions": {"f": SHA}}, NO_TABLE),
    "functions of two lines": (GOOD | {"functions": {"a\nb:c": SHA}}, NO_TABLE),
    "a basis of a number": (GOOD | {"rotated": 3}, r"^recorded\.rotated is 3, expected shape"),
    "functions without a digest": (GOOD | {"functions": {"a:b": 1}}, NO_TABLE),
}  # fmt: skip


@pytest.mark.parametrize(("recorded_table", "message"), STRANGE.values(), ids=STRANGE)
def test_a_wrong_table_is_refused_in_one_line(recorded_table, message):
    with pytest.raises(BadInput, match=message) as caught:
        read_pins({"recorded": recorded_table})
    assert "\n" not in str(caught.value)


def test_a_table_that_a_run_may_have_is_read():
    pins = read_pins({"recorded": GOOD | {"functions": {"a.b:c": SHA}}})
    assert (pins.place, pins.parts, pins.functions) == ("x", ("cost",), {"a.b:c": SHA})
    assert function_differences(pins)[0].startswith("the source of a.b:c was not found")
