"""The command line, as a person and as a program would use it."""

import contextlib
import itertools
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import attrs
import h5py
import numpy as np
import pytest

from pydnn import BadInput, Batch, Key, cli, plots
from pydnn.data import DataSet, ImageSet, drawn_cats, load_images, save_catvnoncat, save_table
from pydnn.jobs.job import run
from pydnn.jobs.model import load_model
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import read_recipe
from pydnn.runs import Run

SMALL = ["--iterations", "3", "--layers", "4"]
PUBLISHED = {0: 0.771749, 100: 0.672053, 1000: 0.315187, 2000: 0.113821, 2400: 0.092878}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cats(tmp_path):
    save_catvnoncat(tmp_path / "cats", *drawn_cats(train_count=12, test_count=6))
    return "cats"


def test_train_prints_costs_accuracies_and_where_the_model_is(command, cats):
    status, out, err = command("train", "--data", cats, "--iterations", 101, "--layers", "4,3")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "training on 12 images of cats, to be tested on 6"
    assert [line.split()[1] for line in lines if line.startswith("iteration")] == ["0", "100"]
    assert lines[-4].startswith("train accuracy ")
    assert lines[-3].startswith("test accuracy ")
    folder = re.escape(os.path.join("runs", "0001"))
    assert re.fullmatch(rf"recorded in {folder}, \d+\.\d MB", lines[-2])
    assert lines[-1] == f"model {os.path.join('runs', '0001', 'model.h5')}"
    model = load_model_of("runs/0001")
    assert [slot.shape for slot in model.parameters.layout.slots if slot.name[-1] == "W"] == [
        (4, 12288), (3, 4), (1, 3),
    ]  # fmt: skip
    assert f"cost {model.costs[100]:.6f}" in out


def load_model_of(folder):
    from pathlib import Path

    return load_model(Path(folder) / "model.h5")


def test_train_gives_everything_to_programs(command, cats):
    status, out, err = command("train", "--data", cats, *SMALL, "--json", "--run", "mine")
    result = json.loads(out.splitlines()[-1])
    assert (status, err) == (0, "")
    assert sorted(result) == [
        "costs", "fingerprint", "iterations", "kept_iteration", "run", "scores", "seconds",
        "test_accuracy", "train_accuracy",
    ]  # fmt: skip
    assert result["fingerprint"] == Run.open("mine").fingerprint
    assert result["run"] == "mine"
    assert result["iterations"] == 3
    assert result["seconds"] > 0
    np.testing.assert_array_equal(result["costs"], load_model_of("mine").costs)  # to the bit
    status, out, _ = command("evaluate", "mine", "--json")
    assert json.loads(out) == result["scores"]
    assert result["scores"]["test"]["accuracy"] == result["test_accuracy"]


def test_the_same_command_twice_gives_the_same_bits(command, cats):
    models = []
    for folder in ("one", "two"):
        assert command("train", "--data", cats, *SMALL, "--run", folder)[0] == 0
        models.append(load_model_of(folder))
    assert models[0] == models[1]
    assert models[0].parameters.vector.tobytes() == models[1].parameters.vector.tobytes()


def test_options_do_what_they_say(command, cats):
    for number, option in enumerate([(), ("--seed", 2), ("--learning-rate", 0.1)]):
        assert command("train", "--data", cats, *SMALL, "--run", number, *option)[0] == 0
    base, seed, rate = (load_model_of(str(number)).costs for number in range(3))
    assert base[0] != seed[0]
    assert base[0] == rate[0]
    assert base[2] != rate[2]
    assert command("train", "--data", cats, *SMALL, "--dtype", "float32", "--run", "f")[0] == 0
    assert load_model_of("f").parameters.vector.dtype == np.float32


def test_no_hidden_layers_is_logistic_regression(command, cats):
    assert command("train", "--data", cats, "--iterations", 1, "--layers", "", "--quiet")[0] == 0
    assert len(load_model_of("runs/0001").parameters.layout.slots) == 2


def test_quiet_prints_the_path_alone_and_runs_are_numbered(command, cats):
    for number in ("0001", "0002"):
        _, out, _ = command("train", "--data", cats, *SMALL, "--quiet")
        assert out == f"{os.path.join('runs', number, 'model.h5')}\n"


def test_the_cost_curve_is_plotted(command, cats, tmp_path):
    pytest.importorskip("matplotlib")
    assert command("train", "--data", cats, *SMALL, "--plot", "costs.png")[0] == 0
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")


def test_costs_that_are_measured_are_plotted_too_also_those_before_an_interruption(
    command, cats, monkeypatch
):
    pytest.importorskip("matplotlib")
    figures = []
    monkeypatch.setattr(plots, "save_plot", lambda figure, path: figures.append(figure))
    options = ("--validation", 0.25, "--evaluate-every", 1, "--plot", "costs.png")
    assert command("train", "--data", cats, *SMALL, *options)[0] == 0
    assert command("resume", "runs/0001", "--iterations", 4, "--plot", "costs.png")[0] == 0
    for figure, steps in zip(figures, (3, 4), strict=True):
        batch, train, validation = figure.axes[0].lines
        assert [line.get_label() for line in (train, validation)] == ["train", "validation"]
        assert batch.get_xdata().tolist() == list(range(steps))
        assert list(train.get_xdata()) == list(validation.get_xdata()) == [*range(1, steps + 1)]
        # The cost of a step of all examples is that of the state before it.
        np.testing.assert_allclose(batch.get_ydata()[1:], train.get_ydata()[:-1])


def test_a_user_s_own_pictures_are_classified(command, cats, tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    command("train", "--data", cats, *SMALL)
    train, _ = load_images(cats)
    for i in range(2):
        image_module.fromarray(train.images[i]).resize((300, 200)).save(f"photo{i}.png")
    status, out, _ = command("predict", "runs/0001", "photo0.png")
    assert status == 0
    name, probability = out.split()
    assert name in ("cat", "non-cat")
    assert 0.5 <= float(probability.strip("()")) <= 1
    _, both, _ = command("predict", "runs/0001", "photo0.png", "photo1.png")
    assert both.splitlines()[0] == f"photo0.png: {out.strip()}"
    _, out, _ = command("predict", "runs/0001", "photo0.png", "--json")
    assert json.loads(out)["predictions"][0]["class"] == name


def test_data_is_drawn_described_and_shown(command, tmp_path):
    pytest.importorskip("PIL")
    status, out, _ = command("data", "draw", "out", "--count", 8, "--seed", 7)
    assert (status, out) == (0, "8 training and 2 test images in out\n")
    assert load_images("out") == drawn_cats(7, train_count=8, test_count=2)
    status, out, _ = command("data", "info", "out")
    cats = int(load_images("out")[0].labels.sum())
    assert out.startswith(
        f"train  8 images of 64 x 64 pixels: {8 - cats} non-cat, {cats} cat; mean"
    )
    _, out, _ = command("data", "info", "out", "--json")
    assert json.loads(out)["train"]["labels"] == {"non-cat": 8 - cats, "cat": cats}
    assert command("data", "show", "out", "--png", "sheet.png")[:2] == (0, "sheet.png\n")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_a_text_is_described_by_its_symbols(command, tmp_path):
    (tmp_path / "names.txt").write_text("Ab\nabc\n")
    assert command("data", "info", "names.txt")[:2] == (
        0,
        "2 examples of 3 to 4 steps\n5 symbols: '\\n', 'A', 'a', 'b', 'c'\n",
    )
    _, out, _ = command("data", "info", "names.txt", "--text", "windows(2, lower=True)", "--json")
    assert json.loads(out) == {
        "examples": 3,
        "fewest_steps": 2,
        "most_steps": 2,
        "symbols": ["\n", "a", "b", "c"],
    }
    status, _, err = command("data", "info", "names.txt", "--text", "lins()")
    assert (status, err.count("\n")) == (2, 1)
    assert "--text: there is no text 'lins': did you mean 'lines'?" in err


def damaged(path):
    path.write_bytes(path.read_bytes()[:5000])


def without(path):
    with h5py.File(path, "a") as file:
        del file["train_set_y"]


def labelled_2(path):
    with h5py.File(path, "a") as file:
        file["train_set_y"][3] = 2


def resized(path):
    with h5py.File(path, "a") as file:
        del file["train_set_x"]
        file["train_set_x"] = np.zeros((12, 32, 32, 3), np.uint8)


MISTAKES = {
    "unknown data": (["train", "--data", "no-such"], "there is no data set 'no-such'"),
    "directory without files": (["train", "--data", "."], ". has one class, cats, expected two"),
    "zero layers": (["train", "--layers", "20,0"], "units is 0"),
    "negative layers": (["train", "--layers", "-3"], "units is -3"),
    "endless layers": (["train", "--layers", "9" * 18], "more than any machine holds"),
    "too large a layer": (["train", "--layers", "9" * 9], "a training step takes at least"),
    "endless iterations": (
        ["train", "--iterations", "9" * 30],
        "expected at most 900719925474",
    ),
    "endless drawings": (["data", "draw", "out", "--count", "9" * 12], "not enough memory"),
    "layers of text": (["train", "--layers", "a,b"], "--layers is 'a,b', expected numbers"),
    "rate not finite": (["train", "--learning-rate", "nan"], "learning_rate is nan"),
    "rate of text": (["train", "--learning-rate", "fast"], "invalid float value: 'fast'"),
    "no iterations": (["train", "--iterations", "0"], "iterations is 0"),
    "negative seed": (["train", "--seed", "-1"], "seed is -1"),
    "existing folder": (["train", "--data", "cats", "--run", "cats"], "cats exists already"),
    "folder in a file": (["train", "--data", "cats", "--run", "file/x"], "file/x cannot be made"),
    "plot of no format": (["train", "--plot", "costs"], "costs has no extension"),
    "layers and network": (
        ["train", "--layers", "3", "--network", "dense(1)"],
        "--layers and --network are both",
    ),
    "rate and optimizer": (
        ["train", "--learning-rate", "1", "--optimizer", "adam"],
        "make the former part of --optimizer",
    ),
    "unknown optimizer": (
        ["train", "--optimizer", "adm"],
        "--optimizer: there is no optimizer 'adm': did you mean",
    ),
    "unknown stage": (
        ["summary", "--network", "serial(rellu)"],
        "--network: there is no builder 'rellu': did",
    ),
    "a call that does not end": (["train", "--loss", "huber("], "--loss: "),
    "stages that do not fit": (
        ["summary", "--network", "residual(dense(3))"],
        "residual",
    ),
    "more outputs than labels": (
        ["train", "--network", "dense(2)"],
        "Y has shape (1, 12), expected (2, m)",
    ),
    "negative penalty": (["train", "--penalty", "l2_penalty(-1)"], "strength is -1"),
    "batch larger than data": (
        ["train", "--batches", "mini_batches(13)"],
        "batches of 13 are larger than the data",
    ),
    "patience alone": (["train", "--patience", "5"], "expected both or neither"),
    "nothing to watch": (
        ["train", "--patience", "5", "--watch", "loss"],
        "there is no value to watch 'loss'",
    ),
    "no recipe": (["train", "no.toml"], "no.toml does not exist, expected a recipe: check"),
    "recipe of no text": (["summary", "bytes"], "bytes is not a UTF-8 text"),
    "recipe that is a folder": (["train", "cats"], "cats is a folder without recipe.toml"),
    "unknown key": (["train", "bad.toml"], "bad.toml: there is no key of a recipe 'netwrk': did"),
    "no command of data": (["data"], "the following arguments are required: COMMAND"),
    "unknown command": (["trian"], "invalid choice: 'trian'"),
    "no such run": (["evaluate", "no-such"], "model.h5 does not exist"),
    "predict without a run": (["predict", "no-such", "x.png"], "model.h5 does not exist"),
    "draw nothing": (["data", "draw", "out", "--count", "0"], "--count is 0"),
    "draw over": (["data", "draw", "cats", "--count", "2"], "train_catvnoncat.h5 exists already"),
    "draw too many": (["data", "draw", "out", "--count", "1" + "0" * 30], "expected at most 92233"),
    "show nowhere": (["data", "show", "cats", "--png", "no/such.png"], "no/such.png cannot be"),
    "show over a file": (["data", "show", "cats", "--png", "file"], "file does not end in .png"),
    "show without a name": (["data", "show", "cats", "--png", ""], "the path is empty"),
    "predict nothing": (["predict", "no-such", "--", "--"], "no file is named"),
    "unknown user": (["evaluate", "~no-such-user/x"], "RUN: ~no-such-user/x cannot be found"),
    "unknown user's run": (["doctor", "~no-such-user/x"], "~no-such-user/x cannot be found"),
}


@pytest.mark.parametrize(("argv", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_get_one_line_and_status_2(command, cats, tmp_path, argv, message):
    (tmp_path / "file").touch()
    (tmp_path / "bytes").write_bytes(b"\xff")
    (tmp_path / "bad.toml").write_text('netwrk = "dense(1)"')
    before = sorted(tmp_path.rglob("*"))
    if argv[0] in ("train", "summary") and "--data" not in argv:
        argv = [*argv, "--data", cats]  # instead of drawing many
    status, out, err = command(*argv)
    assert status == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damaged, "is not a readable HDF5 file"),
        (without, "there is no array"),
        (labelled_2, "label of image 3 is 2, expected 0 or 1"),
        (resized, "images in cats differ in size"),
    ],
)
def test_damaged_data_gets_one_line_and_status_2(command, cats, tmp_path, damage, message):
    damage(tmp_path / "cats" / "train_catvnoncat.h5")
    status, out, err = command("train", "--data", cats, *SMALL)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_picture_that_is_none_gets_one_line_and_status_2(command, cats, tmp_path):
    pytest.importorskip("PIL")
    command("train", "--data", cats, *SMALL)
    (tmp_path / "text.jpg").write_text("hello")
    status, out, err = command("predict", "runs/0001", "text.jpg")
    assert (status, out) == (2, "")
    assert err == "pydnn: text.jpg is not a picture that pillow can read: give a photo.\n"


def test_images_of_another_size_than_the_models_are_refused(command, cats, tmp_path):
    command("train", "--data", cats, *SMALL)
    small = ImageSet(np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1]))
    save_catvnoncat(tmp_path / "small", small, small)
    status, _, err = command("evaluate", "runs/0001", "--data", "small")
    assert status == 2
    assert "images of (8, 8, 3) shape, but the model takes images of (64, 64, 3) shape" in err


def test_training_that_diverges_keeps_what_was_trained_before(command, cats):
    argv = ["train", "--data", cats, "--network", "serial(dense(4), identity, dense(1))"]
    status, _, err = command(*argv, "--learning-rate", "1e200")
    assert status == 2
    assert err.count("\n") == 1
    assert "stopped being finite at iteration" in err
    assert "in forward, stage" in err
    assert "the training so far is in runs/0001/model.h5" in err
    model = load_model_of("runs/0001")
    assert np.isfinite(model.parameters.vector).all()
    assert len(model.costs) >= 1


def test_a_disk_that_is_full_leaves_nothing_half_written(command, cats, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, _, err = command("train", "--data", cats, *SMALL, "--run", "mine")
    assert status == 2
    assert err.startswith("pydnn: mine/recipe.toml cannot be written (No space left on device)")
    assert not (tmp_path / "mine").exists()


def test_help_shows_an_example_everywhere(command):
    for argv in (["train"], ["summary"], ["evaluate"], ["predict"], ["data"], ["data", "draw"],
                 ["data", "show"], ["data", "info"], []):  # fmt: skip
        status, out, _ = command(*argv, "--help")
        assert status == 0
        assert f"example: pydnn {' '.join(argv)}" in out


def test_an_interrupt_keeps_what_was_trained_before(cats, tmp_path):
    # pytest may run in the background, where a shell makes it ignore interruptions.
    program = (
        "import signal; from pydnn.cli import main; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); raise SystemExit(main())"
    )
    argv = [sys.executable, "-c", program, "train", "--data", cats, "--iterations", "1000000"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert any("iteration" in line for line in child.stdout), child.stderr.read()
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=300)
    assert child.returncode == 130
    assert err == "pydnn: interrupted; the training so far is in runs/0001/model.h5\n"
    assert len(load_model_of("runs/0001").costs) > 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no terminals here")
def test_a_terminal_shows_a_bar_with_the_cost_that_changes_no_bit(command, cats):
    pytest.importorskip("tqdm")
    import fcntl
    import termios

    master, slave = os.openpty()
    fcntl.ioctl(
        slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0)
    )  # otherwise its width is 0
    argv = [sys.executable, "-m", "pydnn", "train", "--data", cats, "--iterations", "200"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=slave, text=True)
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal is an error on Linux
        while chunk := os.read(master, 4096):
            shown += chunk
    out, _ = child.communicate(timeout=300)
    os.close(master)
    assert child.returncode == 0
    assert b"/200" in shown
    assert b"cost 0." in shown
    assert "iteration   100  cost" in out
    assert command("train", "--data", cats, "--iterations", "200", "--quiet")[0] == 0
    assert Run.open("runs/0001").fingerprint == Run.open("runs/0002").fingerprint


@pytest.mark.slow
def test_a_reader_that_has_gone_is_not_an_error(cats):
    argv = [sys.executable, "-m", "pydnn", "train", "--data", cats, *SMALL]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    with child.stderr:
        assert child.stderr.read() == b""
    assert child.wait(timeout=300) == 1


@pytest.mark.slow
def test_a_reader_that_goes_while_training_loses_nothing(cats, tmp_path):
    argv = [sys.executable, "-u", "-m", "pydnn", "train", "--data", cats, "--iterations", "100000"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not child.stdout.readline().startswith(b"iteration"):
        assert child.poll() is None  # no step is taken yet, so there is nothing to lose
    child.stdout.close()
    with child.stderr:
        assert child.stderr.read() == b""
    assert child.wait(timeout=300) == 1
    assert len(load_model_of("runs/0001").costs) >= 1


RECIPE = """
data = "table.h5"
network = "serial(dense(6), batch_norm, relu, dense(3))"
loss = "softmax_cross_entropy"
optimizer = "adam(learning_rate=0.02)"
batches = "mini_batches(20)"
iterations = 60
standardize = true
validation = 0.25
evaluate_every = 20
watch = "validation accuracy"
higher_is_better = true
patience = 40
"""


@pytest.fixture
def recipe(tmp_path):
    """Three classes on a line, far from 0, and a recipe to learn them."""
    key = Key(6)
    parts = {}
    for part, m in (("train", 120), ("test", 30)):
        Y = np.arange(m)[np.newaxis] % 3
        X = 100 + np.concatenate([Y, -Y]) + 0.2 * key.at(part).normal((2, m))
        parts[part] = Batch(X, Y)
    save_table(tmp_path / "table.h5", DataSet(**parts))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return "recipe.toml"


def test_a_recipe_is_trained_evaluated_and_described(command, recipe):
    status, out, err = command("train", recipe)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "training on 120 examples of table.h5, to be tested on 30"
    assert lines[1].startswith("after    20 iterations  cost ")
    assert "  train accuracy " in lines[1]
    assert "  validation cost " in lines[1]
    model = load_model_of("runs/0001")
    assert model.inputs.standardization.mean[0] > 99
    assert model.statistics.vector.size == 12
    status, out, _ = command("evaluate", "runs/0001")
    train, test = out.splitlines()
    assert float(test.split()[2]) > 0.9
    assert [part.rpartition(" ")[0] for part in train.partition("; ")[2].split(", ")] == [
        "macro precision", "macro recall", "macro f1", "macro roc_auc", "log_loss",
    ]  # fmt: skip
    status, _, err = command("predict", "runs/0001", "photo.png")
    assert status == 2
    assert "runs/0001 was not trained on images" in err


@pytest.mark.slow
def test_the_best_state_is_kept_and_said_to_be(command, recipe):
    status, out, _ = command("train", recipe, "--iterations", 400, "--json")
    result = json.loads(out)
    assert status == 0
    assert result["kept_iteration"] < result["iterations"] < 400
    assert result["kept_iteration"] == result["iterations"] - 40
    _, out, _ = command("train", recipe, "--iterations", 400)
    assert f"best validation accuracy after {result['kept_iteration']} iterations" in out


# Each option, and its entry in the model's recipe afterwards.
OPTIONS = {
    "--network": ("dense(3)", "network", {"dense": {"units": 3}}),
    "--loss": ("softmax_cross_entropy(label_smoothing=0.1)", "loss",
               {"softmax_cross_entropy": {"label_smoothing": 0.1}}),
    "--optimizer": ("lion(learning_rate=0.001)", "optimizer", {"lion": {"learning_rate": 0.001}}),
    "--batches": ("full_batch", "batches", {"full_batch": {}}),
    "--weights": ("tutorial(seed=4)", "weights", {"tutorial": {"seed": 4}}),
    "--penalty": ("l2_penalty(0.5)", "penalties", ({"l2_penalty": {"strength": 0.5}},)),
    "--numerics": ("portable", "numerics", "portable"),
    "--iterations": ("50", "iterations", 50),
    "--no-standardize": (None, "standardize", False),
    "--skip-unreadable": (None, "skip_unreadable", True),
    "--no-rotate": (None, "rotate", False),
    "--validation": ("0.5", "validation", 0.5),
    "--evaluate-every": ("10", "evaluate_every", 10),
    "--watch": ("train cost", "watch", "train cost"),
    "--patience": ("30", "patience", 30),
    "--no-higher-is-better": (None, "higher_is_better", False),
    "--class-weights": ("1,0.5,2", "class_weights", (1.0, 0.5, 2.0)),
    "--seed": ("9", "seed", 9),
    "--dtype": ("float32", "dtype", "float32"),
    "--data": ("copy.h5", "data", "copy.h5"),
}  # fmt: skip


def test_a_training_that_ends_in_a_refusal_keeps_what_was_trained_before(
    command, recipe, monkeypatch
):
    def refusing(job, **options):
        yield from itertools.islice(run(job, **options), 4)
        raise BadInput("a step was refused: mend it.")

    monkeypatch.setattr("pydnn.jobs.training.run", refusing)
    status, _, err = command("train", recipe)
    assert status == 2
    assert err.count("\n") == 1
    assert "a step was refused: mend it; the training so far is in runs/0001/model.h5" in err
    assert len(load_model_of("runs/0001").costs) == 4


REFUSED_BEFORE = {
    "patience": (["--patience", 10], "patience is 10 and evaluate_every is 20, so 'validation acc"),
    "iterations": (["--iterations", 10], "iterations is 10 and evaluate_every is 20, so"),
    "a last batch of one": (
        ["--validation", 0.325], "batches of 20 leave a batch of 1 of 81 training examples",
    ),
    "an empty phase": (
        ["--optimizer", "adam(learning_rate=one_cycle(1.0, steps=10, rising=0.1))"],
        "steps is 10 and rising is 0.1, which leaves no iteration for the way up",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "message"), REFUSED_BEFORE.values(), ids=REFUSED_BEFORE)
def test_options_that_do_not_fit_are_refused_before_anything_is_made(
    command, recipe, options, message
):
    status, out, err = command("train", recipe, *options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not Path("runs").exists()


def test_a_schedule_that_ends_before_the_training_is_noted_also_when_resumed(command, recipe):
    optimizer = ["--optimizer", "adam(learning_rate=cosine_decay(0.01, steps=40))"]
    status, _, err = command("train", recipe, *optimizer, "--iterations", 40)
    assert (status, err) == (0, "")
    status, _, err = command("resume", "runs/0001", "--iterations", 60)
    assert status == 0
    assert err == (
        "pydnn: the schedule ends after 40 of 60 iterations, and the learning rate stays 0 after "
        "that: give a schedule of 60\n"
    )
    accumulating = ["--optimizer", "accumulate(adam, batches=80)", "--watch", "cost"]
    status, _, err = command("train", recipe, *accumulating, "--no-higher-is-better")
    assert status == 0
    assert "nothing is updated in 60 iterations, because the optimizer accumulates" in err


def test_a_network_of_ones_own_draws_its_own_weights(command, cats):
    argv = ["train", "--data", cats, "--iterations", 1, "--network", "serial(dense(4), dense(1))"]
    assert command(*argv)[0] == 0
    assert load_model_of("runs/0001").recipe.weights is None
    assert command(*argv, "--weights", "tutorial(seed=3)")[0] == 0
    assert load_model_of("runs/0002").recipe.weights == {"tutorial": {"seed": 3}}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("option", OPTIONS)
def test_everything_in_a_recipe_is_an_option_too(command, recipe, tmp_path, option):
    (tmp_path / "copy.h5").write_bytes((tmp_path / "table.h5").read_bytes())
    value, field, expected = OPTIONS[option]
    short = RECIPE.replace("iterations = 60", "iterations = 20").replace("e = 40", "e = 20")
    Path(recipe).write_text(short)
    status, _, err = command("train", recipe, option, *([] if value is None else [value]))
    assert (status, err) == (0, "")
    changed = load_model_of("runs/0001").recipe
    plain = read_recipe(short)
    assert getattr(changed, field) == expected
    assert attrs.evolve(changed, **{field: getattr(plain, field)}) == plain


def test_every_field_of_a_recipe_has_its_option():
    fields = {field.name for field in attrs.fields(Recipe)}
    commands = cli._parser()._subparsers._group_actions[0].choices
    assert fields <= {option.dest for option in commands["train"]._actions}
    # These need other data, another network, or a file of weights, and are tested with those.
    others = {"image_size", "target", "test", "ignore", "example_weights", "start_from"}
    others |= {"augment", "text", "fold", "shards"}
    assert {field for _, field, _ in OPTIONS.values()} | others == fields


def test_regression_is_measured_by_its_own_metrics(command, recipe):
    argv = [recipe, "--network", "dense(1)", "--loss", "mean_squared", "--watch", "validation cost",
            "--no-higher-is-better", "--iterations", 300]  # fmt: skip
    status, out, _ = command("train", *argv, "--json")
    result = json.loads(out)
    assert status == 0
    assert "test_accuracy" not in result
    assert result["scores"]["test"]["r_squared"] > 0.8
    _, out, _ = command("evaluate", "runs/0001")
    assert out.splitlines()[1].startswith("test r_squared 0.")
    assert "; mean_absolute_error 0." in out


def test_a_summary_counts_every_layers_parameters(command, recipe):
    status, out, _ = command("summary", recipe)
    rows = [line.split() for line in out.splitlines()]
    assert status == 0
    assert rows[1] == ["input", "2"]
    assert rows[2] == ["0", "dense", "W", "(6,", "2),", "b", "(6,", "1)", "6", "18"]
    assert rows[3][-2:] == ["6", "12"]
    assert rows[4] == ["2", "relu", "6"]
    assert rows[5][-2:] == ["3", "21"]
    assert rows[6] == ["51"]
    _, out, _ = command("summary", recipe, "--json")
    report = json.loads(out)
    assert report["parameters"] == sum(layer["parameters"] for layer in report["layers"]) == 51
    assert report["bytes"]["parameters"] == 51 * 8
    assert report["bytes"]["state of the optimizer"] == 2 * 51 * 8  # both means of Adam
    assert report["bytes"]["activations, batch of 20"] == (6 + 6 + 6 + 3) * 20 * 8


def test_a_summary_prints_the_text_of_a_compiled_step(command, recipe):
    pytest.importorskip("numba", reason="the compiled engine needs numba")
    argv = ["summary", recipe, "--network", "dense(1)", "--loss", "mean_squared", "--generated"]
    argv += ["--watch", "validation cost", "--no-higher-is-better"]
    for numerics in ("fast", "portable"):
        status, out, err = command(*argv, "--numerics", numerics)
        assert not err
        assert (status, out.partition("\n")[0]) == (
            0, "def loop(table, stages, X, Y, p, x0, x1, moved_, y0_, y1_, room, calls):"
        )  # fmt: skip
        assert command(*argv, "--numerics", numerics)[1] == out
    status, _, err = command(*argv, "--optimizer", "chain(clip_by_global_norm(1.0), descend(0.1))")
    assert (status, "because it has an optimizer whose update is not" in err) == (2, True)


@pytest.mark.parametrize("units", [10**8, 10**10])
def test_a_summary_of_a_claimed_size_takes_no_memory_of_that_size(command, recipe, units):
    network = f"serial(dense({units}), batch_norm, relu, dense(3))"
    tracemalloc.start()
    try:
        status, out, err = command("summary", recipe, "--network", network)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert status == 0
    assert f"{8 * units + 3:,}" in out
    assert err.startswith("pydnn: a training step takes at least ") or units == 10**8
    assert most < 20e6


def test_large_counts_are_printed_readably(command, recipe):
    status, out, _ = command("summary", recipe, "--network", "serial(dense(90000), dense(3))")
    assert status == 0
    assert "540,003" in out.replace("\n", " ")


@pytest.mark.slow
def test_the_published_costs_come_through_the_command_line(command, cats_directory):
    status, out, _ = command("train", "--data", cats_directory, "--json")
    result = json.loads(out)
    assert status == 0
    assert {i: round(result["costs"][i], 6) for i in PUBLISHED} == PUBLISHED
    assert round(result["train_accuracy"], 6) == 0.985646
    assert result["test_accuracy"] == 0.8


OTHER_OPTIONS = {
    ("train", "--epochs"): "pydnn train: unrecognized arguments: --epochs 5; did you mean '--itera",
    ("train", "--lr=0.1"): "pydnn train: unrecognized arguments: --lr=0.1 5; did you mean '--learn",
    ("train", "--save"): "pydnn train: unrecognized arguments: --save 5; did you mean '--run'?: ",
    ("train", "--batch-size"): "pydnn train: unrecognized arguments: --batch-size 5; did you mean",
    ("sweep", "--output"): "pydnn sweep: unrecognized arguments: --output 5; did you mean '--save-",
    ("summary", "--hidden"): "pydnn summary: unrecognized arguments: --hidden 5; did you mean '--l",
    ("train", "--zzz"): "pydnn train: unrecognized arguments: --zzz 5: see pydnn train --help",
}


@pytest.mark.parametrize(("given", "message"), OTHER_OPTIONS.items(), ids=map(str, OTHER_OPTIONS))
def test_an_unknown_option_names_the_nearest_and_the_help_of_its_command(command, given, message):
    verb, option = given
    status, out, err = command(verb, "recipe.toml", option, 5)
    assert (status, out) == (2, "")
    assert err.startswith(message)
    assert err.endswith(f": see pydnn {verb} --help\n")
