"""A job for a table without a recipe: the command chooses one, prints it and records it."""

import json

import numpy as np
import pytest

from pydnn.descriptions.text import write_description
from pydnn.recipes.toml import read_recipe
from pydnn.runs import Run


@pytest.fixture(autouse=True)
def wine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    alcohol = np.linspace(8, 14.9, 60).round(2).tolist()
    rows = [f"{a},{['red', 'white'][i % 2]},{'good' if a > 11 else 'bad'},{int(a)}"
            for i, a in enumerate(alcohol)]  # fmt: skip
    (tmp_path / "wine.csv").write_text("\n".join(["alcohol,color,quality,stars", *rows]))


TRAIN = ("train", "--data", "wine.csv")
CLASSES = (*TRAIN, "--target", "quality", "--ignore", "stars")


def test_the_recipe_is_chosen_printed_and_recorded(command):
    status, out, err = command(*CLASSES, "--iterations", 90)
    assert (status, err) == (0, "")
    begin, _, rest = out.partition("with this recipe, chosen for it:\n")
    assert begin == "training on 60 examples of wine.csv, to be tested on none\n"
    lines = [line for line in rest.splitlines() if line.startswith("    ")]
    printed = read_recipe("\n".join(lines))
    assert printed == Run.open("runs/0001").recipe
    assert write_description(printed.loss) == "sigmoid_cross_entropy()"
    assert (printed.target, printed.ignore) == ("quality", ("stars",))
    assert printed.iterations == 90
    status, out, _ = command("evaluate", "runs/0001", "--data", "wine.csv", "--json")
    assert status == 0
    assert json.loads(out)["test"]["accuracy"] > 0.9


def test_the_recorded_recipe_is_taken_as_it_is(command):
    assert command(*CLASSES, "--iterations", 30)[0] == 0
    status, out, _ = command("train", "runs/0001")
    assert status == 0
    assert "chosen for it" not in out
    assert Run.open("runs/0001").fingerprint == Run.open("runs/0002").fingerprint


TASKS = {
    "by the rule": ((), "softmax_cross_entropy()"),
    "stated": (("--task", "numbers"), "mean_squared()"),
    "by the loss": (("--loss", "huber"), "huber()"),
}


@pytest.mark.parametrize(("options", "loss"), TASKS.values(), ids=TASKS)
def test_the_task_can_be_stated(command, options, loss):
    argv = (*TRAIN, "--target", "stars", "--ignore", "quality", "--iterations", 4, "--layers", 5)
    assert command(*argv, *options)[0] == 0
    recipe = Run.open("runs/0001").recipe
    assert write_description(recipe.loss).startswith(loss.rstrip(")"))
    assert write_description(recipe.network).startswith("serial(dense(5), relu(), dense(")


def test_summary_and_sweep_choose_it_too(command):
    options = ("--data", "wine.csv", "--target", "quality", "--iterations", 4)
    status, out, _ = command("summary", *options)
    assert status == 0
    assert "W (64, 64)" in out
    assert command("sweep", *options, "--seeds", 2)[0] == 0


def test_a_task_without_a_table_is_refused(command):
    pytest.importorskip("sklearn")
    status, out, err = command("train", "--data", "digits", "--task", "classes")
    assert (status, out) == (2, "")
    assert "--task is classes, but it only helps to choose a recipe for a table" in err


def test_a_target_of_one_class_is_refused_before_anything_is_made(command, tmp_path):
    (tmp_path / "wine.csv").write_text("a,b\n1,x\n2,x\n3,x\n")
    status, out, err = command(*TRAIN, "--target", "b")
    assert (status, out) == (2, "")
    assert err.startswith("pydnn: target 'b' is 'x' in every row, expected two or more classes")
    assert not (tmp_path / "runs").exists()
