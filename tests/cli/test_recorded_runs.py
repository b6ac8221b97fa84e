"""train, resume, replay, inspect and diff, as a person and as a program would use them."""

import importlib
import json
import linecache
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_runs import saved_data, small_data, small_recipe

from pydnn import Batch, Key
from pydnn.cli import main
from pydnn.data import DataSet, save_table
from pydnn.jobs.model import load_model
from pydnn.recipes.toml import write_recipe
from pydnn.runs import Run
from pydnn.training.stopping import Watched

RECIPE = """
data = "data-1.h5"
network = "serial(dense(4), batch_norm(), relu(), dropout(keep_prob=0.8), dense(1))"
loss = "sigmoid_cross_entropy()"
optimizer = "adam(learning_rate=0.01)"
batches = "mini_batches(16)"
iterations = 12
seed = 3
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved_data(tmp_path)
    (tmp_path / "recipe.toml").write_text(RECIPE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the recipe; tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("trained")
    data = saved_data(folder)
    (folder / "recipe.toml").write_text(RECIPE)
    argv = ["train", folder / "recipe.toml", "--data", data, "--run", folder / "run", "--quiet"]
    assert main([*map(str, argv)]) == 0
    return folder / "run"


@pytest.fixture
def results(command):
    """The JSON object that a command ends with, and its status."""

    def run(*argv):
        status, out, err = command(*argv, "--json")
        assert err == ""
        return status, json.loads(out.splitlines()[-1])

    return run


def test_a_run_holds_its_recipe_environment_and_segments(command):
    assert command("train", "recipe.toml", "--checkpoint-every", 5)[0] == 0
    assert sorted(os.listdir("runs/0001")) == [
        "end-0000000012.json", "environment.json", "lock", "model.h5", "recipe.toml", "segments",
    ]  # fmt: skip
    assert sorted(os.listdir("runs/0001/segments")) == [
        "0000000000.h5", "0000000005.h5", "0000000010.h5", "0000000012.h5",
    ]  # fmt: skip
    run = Path("runs/0001")
    assert json.loads((run / "end-0000000012.json").read_text())["why"] == "finished"
    assert 'optimizer = "adam(learning_rate=0.01)"' in (run / "recipe.toml").read_text()
    with h5py.File("runs/0001/segments/0000000005.h5") as file:  # plain HDF5, readable by anybody
        assert file["cost"].shape == (5,)
        assert file["parameters"].shape == (37,)


def test_a_runs_recipe_is_a_recipe(results):
    first = results("train", "recipe.toml")[1]
    assert results("train", "runs/0001/recipe.toml")[1]["fingerprint"] == first["fingerprint"]


def test_resume_goes_on_to_the_bits_of_a_run_without_a_pause(command, results):
    whole = results("train", "recipe.toml", "--iterations", 30, "--run", "whole")[1]
    results("train", "recipe.toml", "--run", "short")
    status, resumed = results("resume", "short", "--iterations", 30)
    assert status == 0
    assert sorted(resumed) == sorted(whole)
    for name in ("fingerprint", "costs", "scores", "iterations", "kept_iteration"):
        assert resumed[name] == whole[name], name
    ours, theirs = (load_model(Run.open(name).path / "model.h5") for name in ("short", "whole"))
    assert ours == theirs
    status, out, err = command("resume", "short")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "going on from iteration 30 of 30 in short"
    assert out.splitlines()[-1] == "model short/model.h5"


def test_files_that_were_set_aside_are_reported(command):
    command("train", "recipe.toml", "--run", "run", "--checkpoint-every", 4)
    damaged = Path("run/segments/0000000008.h5")
    content = bytearray(damaged.read_bytes())
    content[3000] ^= 255
    damaged.write_bytes(content)
    for argv in (["replay"], ["inspect", "--step", "1"], ["diff", "run"]):
        status, out, err = command(argv[0], "run", *argv[1:])
        assert (status, out) == (2, "")
        assert re.fullmatch(r"pydnn: .* in run/segments/0000000008.h5 is damaged: .*\n", err)
    status, out, err = command("resume", "run", "--quiet")
    assert (status, out) == (0, "run/model.h5\n")
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("is damaged; it is now run/set-aside/0000000008.h5")
    assert lines[1] == f"pydnn: {damaged} is restored from the other files of the run"
    assert command("replay", "run")[0] == 0


def test_replay_says_whether_every_bit_is_the_recorded_one(command, results):
    trained = results("train", "recipe.toml", "--run", "run", "--checkpoint-every", 1)[1]
    status, out, err = command("replay", "run")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "replaying 12 steps of run, in 12 segments"
    assert re.fullmatch(r"all bits of 12 steps are the recorded ones, \d+\.\d s", lines[1])
    status, replayed = results("replay", "run")
    assert (status, replayed["same"], replayed["steps"]) == (0, True, 12)
    assert replayed["fingerprint"] == trained["fingerprint"]
    assert replayed["difference"] is None


def test_replay_of_a_portable_run_promises_its_bits_on_any_machine(command, results):
    trained = results("train", "recipe.toml", "--numerics", "portable")[1]
    assert 'numerics = "portable"' in Path("runs/0001/recipe.toml").read_text()
    assert json.loads(Path("runs/0001/environment.json").read_text())["numerics"] == "portable"
    status, out, err = command("replay", "runs/0001")
    assert (status, err) == (0, "")
    assert "its arithmetic is portable" in out
    result = results("replay", "runs/0001")[1]
    assert (result["same"], result["numerics"]) == (True, "portable")
    assert result["fingerprint"] == trained["fingerprint"]
    status, out, _ = command("doctor", "runs/0001")
    assert status == 0
    assert out.splitlines()[-1].endswith("here, and on any machine: its arithmetic is portable")
    assert results("train", "recipe.toml")[1]["fingerprint"] != trained["fingerprint"]


@pytest.mark.slow
def test_replay_of_some_segments(command, results):
    results("train", "recipe.toml", "--run", "run", "--checkpoint-every", 1)
    assert command("replay", "run", "--segments", "3,7")[1].startswith(
        "replaying segments 3, 7 of run\nall bits of 2 steps"
    )
    drawn = results("replay", "run", "--sample", 5)[1]["segments"]
    assert len(set(drawn)) == 5
    assert results("replay", "run", "--jobs", 2)[1]["steps"] == 12


def other_data(path="data-1.h5"):
    """The same file with one pixel changed."""
    with h5py.File(path, "a") as file:
        table = file["train_X"][:]
        table[17, 3] += 0.25
        file["train_X"][:] = table


def test_replay_prints_what_to_expect_and_the_first_difference(command, results):
    results("train", "recipe.toml", "--run", "run")
    other_data()
    status, out, err = command("replay", "run")
    assert status == 1
    assert re.fullmatch(r"pydnn: train X differs \(recorded float64 \(5, 40\) sha256 .*\)\n", err)
    assert (
        re.search(
            r"\nstep [012]: cost differs, recorded (-?0x1\.\w+p[+-]\d+) \(\S+\), here "
            r"(-?0x1\.\w+p[+-]\d+) \(\S+\), \S+ \([\d.e+]+ ulps\) apart\n"
            r"run does not repeat here\n$",
            out,
        )
        or "gradient norm differs" in out
    )
    status, out, _ = command("replay", "run", "--json")
    shown = json.loads(out)
    assert (status, shown["same"]) == (1, False)
    assert shown["difference"]["step"] in (0, 1, 2)
    assert shown["difference"]["recorded"] != shown["difference"]["here"]
    assert shown["difference"]["ulps"] > 0
    status, out, err = command("resume", "run", "--iterations", 20)
    assert (status, out) == (2, "")
    assert "so this is not the data of run: " in err
    shutil.copy("data-1.h5", "other.h5")
    assert command("doctor", "run")[0] == 1


@pytest.mark.slow
def test_replay_on_another_machine_is_expected_not_to_match(command, tmp_path, trained):
    shutil.copytree(trained, "run")
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL"}
    done = subprocess.run(
        [sys.executable, "-m", "pydnn", "replay", "run"], env=environment, cwd=tmp_path,
        capture_output=True, text=True,
    )  # fmt: skip
    if "this machine computes" not in done.stderr:
        pytest.skip("this CPU has not those features, or this NumPy other names for them")
    assert re.search(r"computes exp, .* differently \(exp: recorded \w{8}, here \w{8}", done.stderr)
    assert "fast runs will not match; recorded with NPY_DISABLE_CPU_FEATURES not set" in done.stderr
    assert done.returncode in (0, 1)  # such a small run may still match


def test_inspect_shows_every_tensor_of_a_step(command, trained):
    shutil.copytree(trained, "run")
    status, out, err = command("inspect", "run", "--step", 7)
    assert (status, err) == (0, "")
    step = Run.open("run").at(7)
    lines = out.splitlines()
    assert lines[0] == "step 7 of run"
    assert lines[1] == f"cost {step.info.cost:.9g} ({step.info.cost.hex()})"
    assert lines[4].split() == ["part", "layer", "stage", "tensor", "shape", "min", "max", "norm",
                                "dead", "units"]  # fmt: skip
    assert re.search(r"^forward +2 +relu +A +4 x 16 .* \d+%$", out, flags=re.M)
    assert re.search(r"^update +0 +update of W +4 x 5 ", out, flags=re.M)


def test_inspect_shows_one_stage_or_layer_and_writes_arrays(command, results, trained):
    shutil.copytree(trained, "run")
    argv = ("inspect", "run", "--step", 3, "--part", "backward", "--layer", 2, "--out", "s.h5")
    status, out, _ = command(*argv)
    assert status == 0
    assert [line.split()[:4] for line in out.splitlines()[5:-2]] == [
        ["backward", "2", "relu", "dA"], ["backward", "2", "relu", "dA_prev"],
    ]  # fmt: skip
    assert out.splitlines()[-1] == "arrays in s.h5"
    with h5py.File("s.h5") as file:
        assert file["backward/2/dA"].shape == (4, 16)
    shown = results("inspect", "run", "--step", 3, "--layer", 0)[1]
    assert {row["layer"] for row in shown["tensors"]} == {"0"}
    assert shown["tensors"][0]["shape"] == [4, 5]


def test_diff_prints_the_first_difference_of_two_runs(command, results):
    for seed in (3, 3, 4):
        results("train", "recipe.toml", "--seed", seed)
    assert command("diff", "runs/0001", "runs/0002") == (
        0,
        "             runs/0001 | runs/0002\niterations   12 | 12\n"
        "all bits of the 12 steps that both have are the same\n",
        "",
    )
    status, out, _ = command("diff", "runs/0001", "runs/0003")
    assert status == 1
    assert "recipe       seed: 3 | 4\n" in out
    assert "they part before the first step\n  first in state, layer 0, W: 20 of 20 num" in out
    status, shown = results("diff", "runs/0001", "runs/0003")
    assert (status, shown["parting"]["step"]) == (1, -1)
    assert shown["parting"]["tensor"]["tensor"] == "state, layer 0, W"


def test_diff_finds_a_pixel(command, results):
    results("train", "recipe.toml", "--run", "a")
    save_table("copy.h5", small_data())
    other_data("copy.h5")
    results("train", "recipe.toml", "--run", "b", "--data", "copy.h5")
    status, out, _ = command("diff", "a", "b")
    assert status == 1
    assert "train X: 1 of 200 numbers differs, the first is feature 3 of example 17: " in out
    assert re.search(r"they part at step [012]\n  recorded (cost|gradient norm): ", out)
    assert "  first in batch, X: 1 of 80 numbers differs, by at most " in out


def test_evaluate_and_predict_take_a_run_without_its_recording(command):
    assert command("train", "recipe.toml", "--run", "model", "--no-record")[0] == 0
    assert os.listdir("model") == ["model.h5"]
    assert command("evaluate", "model")[0] == 0
    status, _, err = command("resume", "model")
    assert (status, err) == (
        2, "pydnn: model has no recipe.toml, expected the folder of a run: check the path.\n",
    )  # fmt: skip


def test_a_training_without_a_first_step_leaves_no_run(command):
    status, _, err = command("train", "recipe.toml", "--batches", "mini_batches(1)")
    assert (status, err.count("\n")) == (2, 1)
    assert "batch_norm needs 2 or more in every batch" in err
    assert not Path("runs").exists()


def test_a_run_without_a_model_says_how_to_get_it(command, trained):
    shutil.copytree(trained, "run")
    os.remove("run/model.h5")
    for verb in (["evaluate", "run"], ["predict", "run", "photo.png"]):
        status, out, err = command(*verb)
        assert (status, out) == (2, "")
        assert err.startswith("pydnn: run has 12 steps but no model.h5: run pydnn resume run, ")
        assert err.count("\n") == 1
    assert command("resume", "run")[0] == 0
    assert command("evaluate", "run")[0] == 0


MODULE = '''
import numpy as np
from pydnn import described
from pydnn.stages import Stage
from pydnn.stages.base import elementwise


@described("stage")
def cube(*, scale: float = {scale}) -> Stage:
    """A = scale Z^3."""
    return elementwise(
        "cube", lambda Z, _: scale * Z * Z * Z, lambda dA, Z, A, _: dA * 3 * scale * Z * Z
    )
'''


def child(*argv, **options):
    return subprocess.run(
        [sys.executable, "-m", "pydnn", *map(str, argv)], capture_output=True, text=True, **options
    )


ALLOW = ("--allow", "my_stages")


@pytest.fixture
def afresh(command, tmp_path, monkeypatch):
    """Run a command as in a new process, which has imported none of the user's modules."""
    monkeypatch.syspath_prepend(tmp_path)

    def run(*argv):
        monkeypatch.delitem(sys.modules, "my_stages", raising=False)
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        importlib.invalidate_caches()
        linecache.checkcache()
        return command(*argv)

    return run


@pytest.mark.slow
def test_a_user_s_own_functions_are_found_again_or_refused(tmp_path, afresh):
    (tmp_path / "my_stages.py").write_text(MODULE.format(scale=0.1))
    network = "serial(dense(4), my_stages:cube(), dense(1))"
    done = child("train", "recipe.toml", "--network", network, "--run", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"my_stages:cube" = "' in (tmp_path / "run" / "recipe.toml").read_text()
    assert afresh("replay", "run", *ALLOW)[0] == 0
    (tmp_path / "my_stages.py").write_text(MODULE.format(scale=0.2))
    for verb in ("replay", "resume"):
        status, _, err = afresh(verb, "run", *ALLOW)
        assert status == 2
        assert re.fullmatch(
            r"pydnn: run/recipe.toml: the source of my_stages:cube has changed \(sha256 recorded "
            r"\w{16}, here \w{16}\): restore it.*\n",
            err,
        )
    status, _, err = afresh("replay", "run", "--anyway", *ALLOW)
    assert (status, err.count("\n")) == (1, 1)
    assert "the source of my_stages:cube has changed" in err
    os.remove(tmp_path / "my_stages.py")
    status, _, err = afresh("replay", "run", *ALLOW)
    assert status == 2
    assert "the source of my_stages:cube was not found: put the file of the module" in err
    assert err.count("\n") == 1


BAD = {
    "no run": (["replay", "none"], "pydnn: none does not exist, expected the folder of a run"),
    "a file": (["resume", "recipe.toml"], "pydnn: recipe.toml is a recipe, expected the folder"),
    "no such step": (["inspect", "run", "--step", "12"], "pydnn: there is no step 12: run has the"),
    "no such stage": (
        ["inspect", "run", "--step", "1", "--part", "forwart"],
        "pydnn: there is no part of the step 'forwart': did you mean 'forward'?",
    ),
    "no such layer": (
        ["inspect", "run", "--step", "1", "--layer", "9"], "pydnn: there is no layer '9': choose",
    ),
    "no such segment": (["replay", "run", "--segments", "13"], "pydnn: there is no segment 13"),
    "no segments": (["replay", "run", "--segments", "x"], "pydnn: --segments is 'x', expected num"),
    "no sample": (["replay", "run", "--sample", "0"], "pydnn: sample is 0, expected an integer"),
    "no jobs": (["replay", "run", "--jobs", "0"], "pydnn: jobs is 0, expected an integer"),
    "no data": (["replay", "run", "--data", "none"], "pydnn: there is no data set 'none'"),
    "fewer iterations": (["resume", "run", "--iterations", "3"], "pydnn: run has 12 iterations al"),
    "no interval": (
        ["train", "recipe.toml", "--checkpoint-every", "0"], "pydnn: --checkpoint-every is 0",
    ),
    "an existing file": (
        ["inspect", "run", "--step", "1", "--out", "recipe.toml"], "pydnn: recipe.toml exists al",
    ),
    "one run too few": (["diff", "run"], "pydnn diff: the following arguments are required: RUN_B"),
}  # fmt: skip


@pytest.mark.parametrize(("argv", "message"), BAD.values(), ids=BAD)
def test_a_mistake_gets_one_line_and_status_2(command, argv, message, trained):
    shutil.copytree(trained, "run")
    status, out, err = command(*argv)
    assert (status, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


@pytest.mark.slow
def test_the_bits_depend_on_nothing_but_recipe_data_and_seed(tmp_path, results):
    expected = results("train", "recipe.toml")[1]["fingerprint"]
    (tmp_path / "elsewhere").mkdir()
    environments = [
        {"PYTHONHASHSEED": "1", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "2", "LANG": "tr_TR.UTF-8", "LC_ALL": "de_DE.UTF-8", "TZ": "Asia/Tokyo"},
    ]
    for number, changes in enumerate(environments):
        argv = ("train", tmp_path / "recipe.toml", "--data", tmp_path / "data-1.h5", "--json")
        options = ("--run", f"run{number}", "--checkpoint-every", 2 * number + 1)
        done = child(*argv, *options, "--evaluate-every", number, cwd=tmp_path / "elsewhere",
                     env=os.environ | changes)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["fingerprint"] == expected


def test_a_run_is_resumed_from_any_folder(tmp_path, results, monkeypatch):
    whole = results("train", "recipe.toml", "--iterations", 20)[1]["fingerprint"]
    results("train", "recipe.toml")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    status, shown = results("resume", "../runs/0002", "--iterations", 20)
    assert (status, shown["fingerprint"]) == (0, whole)
    status, scores = results("evaluate", "../runs/0002")
    assert (status, scores) == (0, shown["scores"])


@pytest.mark.parametrize("name", ["data 😀", 'a "quoted" one', "back\\slash", "del\x7fete"])
def test_data_of_any_name_can_be_found_again(tmp_path, results, name):
    (tmp_path / name).mkdir()
    shutil.copy("data-1.h5", tmp_path / name)
    place = tmp_path / name / "data-1.h5"
    assert results("train", "recipe.toml", "--data", place, "--run", "run")[0] == 0
    assert results("replay", "run")[1]["same"]


@pytest.mark.slow
def test_data_whose_name_is_not_a_text_is_refused_at_once(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/x\xff")
    os.mkdir(folder)
    shutil.copy(tmp_path / "data-1.h5", folder)
    done = child("train", "recipe.toml", "--data", f"{folder}/data-1.h5", cwd=tmp_path)
    assert done.returncode == 2
    assert "the recipe cannot be read again" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_disk_without_locks_is_reported_once(command, monkeypatch):
    def unlocked(handle):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("pydnn.storage.files._lock", unlocked)
    status, _, err = command("train", "recipe.toml")
    assert (status, err.count("\n")) == (2, 1)
    assert "cannot be locked (No locks available)" in err
    assert len(os.listdir("runs")) <= 1


def test_a_run_without_steps_has_none_to_sample(command):
    command("train", "recipe.toml", "--run", "run", "--checkpoint-every", 12)
    os.remove("run/segments/0000000012.h5")
    os.remove("run/end-0000000012.json")
    os.remove("run/model.h5")
    assert command("replay", "run")[0] == 0
    status, out, err = command("replay", "run", "--sample", 2)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "run has no steps to sample from" in err
    assert command("inspect", "run", "--step", 0)[2].startswith(
        "pydnn: there is no step 0: run has"
    )
    assert command("resume", "run")[0] == 0


def test_a_module_that_cannot_be_imported_is_reported_in_one_line(tmp_path, afresh):
    (tmp_path / "my_stages.py").write_text(MODULE.format(scale=0.1))
    network = "serial(dense(4), my_stages:cube(), dense(1))"
    assert afresh("train", "recipe.toml", "--network", network, "--run", "run")[0] == 0
    (tmp_path / "my_stages.py").write_text("this is no Python")
    for argv in (["replay", "run", "--anyway"], ["resume", "run", "--anyway"], ["evaluate", "run"]):
        status, _, err = afresh(*argv, *ALLOW)
        assert status == 2
        assert err.count("\n") == 1
        assert "the module of my_stages:cube cannot be imported (SyntaxError: " in err


def test_layers_of_a_part_without_layers_are_refused(command, trained):
    shutil.copytree(trained, "run")
    argv = ("inspect", "run", "--step", 1, "--part", "batch", "--layer", 0)
    assert command(*argv)[2] == (
        "pydnn: --layer is '0', but part 'batch' has no layers: leave it out.\n"
    )


@pytest.mark.slow
def test_a_change_of_basis_is_reported_in_one_line_and_can_be_refused(command, results):
    X = Key(1).normal((400, 20))
    data = Batch(X, [[0, 1] * 10])
    save_table(Path("wide.h5"), DataSet(data, data))
    argv = ["train", "--data", "wide.h5", "--layers", "3", "--iterations", 300]
    status, out, _ = command(*argv)
    assert status == 0
    assert out.splitlines()[1] == (
        "in 23 directions, which the examples and the first weights span, instead of 400 features "
        "(--no-rotate: in those)"
    )
    status, out, _ = command(*argv, "--no-rotate")
    assert "directions" not in out
    rotated, plain = (load_model(Path(f"runs/000{i}/model.h5")) for i in (1, 2))
    assert rotated.parameters["0/W"].shape == (3, 400)
    np.testing.assert_allclose(
        rotated.parameters.vector, plain.parameters.vector, rtol=1e-9, atol=1e-12
    )
    assert results("replay", "runs/0001")[0] == 0
    assert "in 23 directions" in command("inspect", "runs/0001", "--step", 7)[1]
    status, _, err = command(*argv, "--rotate", "--optimizer", "adam")
    assert (status, err) == (
        2, "pydnn: rotate is true, but the optimizer treats each number by itself: leave it out.\n",
    )  # fmt: skip


@pytest.mark.parametrize("record", [True, False])
def test_what_is_watched_is_followed_by_the_stop_and_by_who_records_it(
    tmp_path, monkeypatch, record, command
):
    steps = []
    after = Watched.after

    def counting(seen, state, info):
        steps.append(info.iteration)
        return after(seen, state, info)

    monkeypatch.setattr(Watched, "after", counting)
    recipe = small_recipe(tmp_path, watch="cost", patience=3, iterations=40)
    (tmp_path / "r.toml").write_text(write_recipe(recipe))
    options = [] if record else ["--no-record"]
    argv = ["train", tmp_path / "r.toml", "--run", tmp_path / "run", *options]
    assert command(*argv)[0] == 0
    assert sorted(steps) == [k for k in range(max(steps) + 1) for _ in range(1 + record)]
