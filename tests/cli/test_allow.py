"""No file causes an import or a call until the user allows the module by name."""

import sys

import h5py
import numpy as np
import pytest
from small_runs import small_recipe

from pydnn.checks import BadInput
from pydnn.descriptions.builders import NotAllowed, build, import_own
from pydnn.descriptions.text import read_description, read_values
from pydnn.jobs.model import load_model
from pydnn.recipes.toml import read_recipe, write_recipe

MODULE = """
from pathlib import Path

from pydnn import described, gradient_descent, relu, serial, sigmoid_cross_entropy
from pydnn.batches import full_batch

Path({mark!r}).touch()


@described("stage")
def bend():
    return relu()


@described("loss")
def lose():
    return sigmoid_cross_entropy()


@described("optimizer")
def go():
    return gradient_descent(learning_rate=0.1)


@described("batches")
def all_of_them():
    return full_batch()
"""
NETWORK = "serial(dense(3), strangers_code.inner:bend(), dense(1))"
PARTS = {
    "network": NETWORK,
    "loss": "strangers_code.inner:lose",
    "optimizer": "strangers_code.inner:go()",
    "batches": "strangers_code.inner:all_of_them",
}


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported, the mark, and a function to forget it."""
    package, mark = tmp_path / "code" / "strangers_code", tmp_path / "imported"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text(MODULE.format(mark=str(mark)))
    (package / "quits.py").write_text(
        f"import pathlib, sys; pathlib.Path({str(mark)!r}).touch(); sys.exit(0)"
    )
    (package / "fails.py").write_text("raise BaseException('two\\nlines')")
    (package / "hands_on.py").write_text("from strangers_code.inner import bend as bent")
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.chdir(tmp_path)

    def forget():
        for name in [n for n in sys.modules if n.partition(".")[0] == "strangers_code"]:
            del sys.modules[name]
        mark.unlink(missing_ok=True)

    yield mark, forget
    forget()


def recipe_with(folder, **texts):
    text = write_recipe(small_recipe(folder))
    lines = [line for line in text.splitlines() if line.partition(" = ")[0] not in texts]
    return "\n".join(lines + [f"{key} = '{text}'" for key, text in texts.items()]) + "\n"


@pytest.fixture
def files(stranger, command, tmp_path):
    """A recipe and a run whose network names a stranger's code, not imported yet."""
    (tmp_path / "recipe.toml").write_text(recipe_with(tmp_path, network=NETWORK))
    for run in ("run", "other"):
        status, _, err = command("train", "recipe.toml", "--allow", "strangers_code", "--run", run)
        assert (status, err) == (0, "")
    stranger[1]()


READERS = {
    "train": ["train", "recipe.toml"],
    "summary": ["summary", "recipe.toml"],
    "sweep": ["sweep", "recipe.toml"],
    "replay": ["replay", "run"],
    "replay in processes": ["replay", "run", "--jobs", "2"],
    "resume": ["resume", "run"],
    "inspect": ["inspect", "run", "--step", "3"],
    "diff": ["diff", "run", "other"],
    "doctor": ["doctor", "run"],
    "evaluate": ["evaluate", "run"],
    "predict": ["predict", "run", "photo.png"],
}


def test_no_command_imports_what_a_file_names_before_it_is_allowed(files, command, stranger):
    mark, _ = stranger
    for argv in READERS.values():
        for more in ([], ["--allow", "strangers"], ["--allow", "strangers_code.other"]):
            status, out, err = command(*argv, *more)
            assert (status, out) == (2, ""), argv
            assert "strangers_code.inner:bend is code outside pydnn, which a file may" in err
            assert "say --allow strangers_code, or allow=['strangers_code'] in Python" in err
            assert err.count("\n") == 1
            assert not mark.exists()
            assert "strangers_code.inner" not in sys.modules


@pytest.mark.slow
def test_every_command_works_with_what_the_user_allows(files, command, stranger):
    for name, argv in READERS.items():
        if name in ("predict", "replay in processes"):  # one needs pictures, one starts processes
            continue
        for allowed in ("strangers_code", "strangers_code.inner"):
            status, _, err = command(*argv, "--allow", allowed, "--allow", "nothing")
            assert (status, err) == (0, ""), (name, err)


@pytest.mark.parametrize("key", [key for key in PARTS if key != "network"])
def test_parts_that_a_prediction_does_not_need_may_be_a_strangers(stranger, command, tmp_path, key):
    mark, _ = stranger
    command("train", "--data", small_recipe(tmp_path).data, "--layers", 3, "--iterations", 3,
            "--run", "run")  # fmt: skip
    with h5py.File(tmp_path / "run" / "model.h5") as file:
        text = file.attrs["recipe"]
    text = text.decode() if isinstance(text, bytes) else str(text)
    lines = [line for line in text.splitlines() if not line.startswith(f"{key} = ")]
    changed = "\n".join([*lines, f'{key} = "{PARTS[key]}"']) + "\n"
    recipe = read_recipe(changed, needed=["network"])
    assert not mark.exists()
    assert write_recipe(recipe).count(PARTS[key]) == 1  # it is written as it was read
    assert read_recipe(write_recipe(recipe), needed=["network"]) == recipe
    with pytest.raises(NotAllowed, match=f"^{key}: strangers_code.inner:"):
        build(getattr(recipe, key))
    with pytest.raises(NotAllowed, match=f"^{key}: strangers_code.inner:"):
        read_recipe(changed, needed=["network", key])
    unknown = changed.replace(PARTS[key], "from_a_newer_pydnn(3)")
    with pytest.raises(BadInput, match="there is no"):
        build(getattr(read_recipe(unknown, needed=["network"]), key))


def test_a_model_is_loaded_without_the_module_of_its_optimizer(stranger, command, tmp_path):
    mark, forget = stranger
    (tmp_path / "recipe.toml").write_text(
        recipe_with(tmp_path, **{"optimizer": PARTS["optimizer"]})
    )
    assert command("train", "recipe.toml", "--allow", "strangers_code", "--run", "run")[0] == 0
    forget()
    status, out, err = command("evaluate", "run")
    assert (status, err) == (0, "")
    assert out.startswith("train accuracy")
    assert not mark.exists()
    model = load_model(tmp_path / "run" / "model.h5")
    assert model.recipe.optimizer.text == "strangers_code.inner:go()"


NAMES = [
    "os:system('true')",
    "socket:socket(fileno=1)",
    "serial(socket:socket(fileno=1), dense(1))",
    "chain(parts=[unittest.mock:call()])",
    "dense(1, initializer=pytest:mark)",
    "ctypes:cdll.nothing",
    "antigravity:geohash(1)",
    "'unittest.mock:sentinel'(1)",
    "strangers_code.quits:f",
    "__main__:f()",
    "sys:exit(0)",
    "builtins:eval('1')",
]


@pytest.mark.parametrize("text", NAMES)
def test_no_name_of_a_text_is_imported_or_called(stranger, text):
    before = set(sys.modules)
    for read in (read_description, read_values):
        with pytest.raises(BadInput) as refusal:
            read(text)
        assert "\n" not in str(refusal.value)
    assert set(sys.modules) - before == set()
    assert not stranger[0].exists()


@pytest.mark.parametrize(
    "name", ["socket:socket", "unittest.mock:call", "pytest:mark", "os:system"]
)
def test_what_the_user_allows_is_still_no_builder_unless_it_was_decorated(name):
    with pytest.raises(BadInput, match=f"^{name} is not a builder: decorate a function"):
        import_own(name, [name.partition(":")[0]])


MISTAKES = {
    "strangers_code.quits:f": r"cannot be imported \(SystemExit: 0\): fix it\.",
    "strangers_code.fails:f": r"cannot be imported \(BaseException: two lines\): fix it\.",
    "strangers_code.absent:f": r"was not found: add the folder that it is in to PYTHONPATH",
    "strangers_code.inner:f": r"is not a builder: decorate a function of that name",
    "strangers_code.inner:Path": r"is not a builder: decorate a function of that name",
}


@pytest.mark.parametrize(("name", "message"), MISTAKES.items())
def test_a_module_that_does_what_it_should_not_gives_one_line(stranger, command, name, message):
    with pytest.raises(BadInput, match=message):
        read_description(name, allow=["strangers_code"])
    status, out, err = command("summary", "--network", f"serial({name}, dense(1))")
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_a_package_may_hand_on_a_builder_of_a_module_below(stranger):
    name = "strangers_code.hands_on:bent"
    stage = build(read_description(name, allow="strangers_code"), family="stage")
    assert stage.name == "relu"
    np.testing.assert_array_equal(stage.init(None, (3,))[1], (3,))
