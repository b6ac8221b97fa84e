"""`pydnn doctor`, alone and with a run, with a parser of this command alone."""

import argparse
import json
import sys

import pytest
from small_runs import recorded, saved_data, small_recipe

from pydnn.checks import BadInput
from pydnn.cli import doctor, main
from pydnn.numerics.portable import platform_checks
from pydnn.runs.environment import VARIABLES, current_environment
from pydnn.workers import threads


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def command(capsys):
    def run(*argv):
        parser = argparse.ArgumentParser()
        doctor.add_to(parser.add_subparsers())
        args = parser.parse_args(["doctor", *map(str, argv)])
        status = args.run(args)
        out, err = capsys.readouterr()
        assert err == ""
        return status, out

    return run


@pytest.fixture
def run_folder(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path))
    return tmp_path / "run"


def table_of(out):
    """The lines of a report by their first column."""
    return {line.partition("  ")[0]: line.partition("  ")[2].strip() for line in out.splitlines()}


def test_the_report_shows_what_bits_depend_on(command):
    status, out = command()
    shown, here = table_of(out), current_environment()
    assert status == 0
    assert shown["numpy"] == here.versions["numpy"]
    assert shown["BLAS"].startswith(here.blas["name"])
    assert shown["CPU features"].split() == list(here.cpu)
    assert shown["exp"] == here.arithmetic["exp"][:16]
    assert shown["note"].startswith("thread count: set by no variable; ")
    assert "hazard" not in shown


def test_the_report_says_how_to_learn_of_the_kernel(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    _, out = command()
    assert "pip install 'threadpoolctl>=3.5' shows the BLAS's kernel" in out
    assert "BLAS kernel" not in table_of(out)


def test_the_report_names_the_engine_and_the_folder_of_compiled_loops(
    command, monkeypatch, tmp_path
):
    kernels = pytest.importorskip("pydnn.compiled.kernels", reason="needs numba")
    monkeypatch.setenv("PYDNN_ENGINE", "numpy")
    monkeypatch.setenv("PYDNN_CACHE", str(tmp_path / "cache"))
    assert table_of(command()[1])["engine"] == "numpy: numpy does all the work"
    monkeypatch.setenv("PYDNN_ENGINE", "auto")
    (kernels.make_kernel_folder() / "a.nbc").write_bytes(b"1" * 2000)
    shown = table_of(command()[1])
    assert "compiles for long trainings, numpy does the others" in shown["engine"]
    assert shown["compiled loops"] == f"kept in {kernels.make_kernel_folder()}, 2.0 KiB"
    monkeypatch.setenv("PYDNN_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    shown = table_of(command()[1])
    assert shown["compiled loops"].startswith("compiled in each process: ")
    assert "cannot keep them" in shown["compiled loops"]


def test_the_report_says_how_to_get_the_compiled_engine(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    shown = table_of(command()[1])
    assert "needs numba, which is not installed: run pip install" in shown["engine"]
    assert "compiled loops" not in shown


def test_the_report_names_hazards(command, monkeypatch):
    monkeypatch.setenv("OMP_DYNAMIC", "true")
    _, out = command()
    assert table_of(out)["OMP_DYNAMIC"] == "true"
    assert table_of(out)["hazard"].startswith("OMP_DYNAMIC: true; ")


def test_the_report_for_programs(command):
    status, out = command("--json")
    shown = json.loads(out)
    assert status == 0
    assert [*sorted(shown)] == ["engine", "environment", "hazards", "seconds_of_a_product"]
    assert sorted(shown["engine"]) == ["chosen", "folder", "kept", "numba", "problem"]
    assert shown["environment"]["arithmetic"] == current_environment().arithmetic
    assert [hazard["breaks"] for hazard in shown["hazards"]] == [False]


def test_data_without_a_run_is_refused(command):
    with pytest.raises(BadInput, match="--data is there without a run"):
        command("--data", "digits")


def test_a_run_can_be_replayed_where_it_was_recorded(command, run_folder, tmp_path):
    status, out = command(run_folder)
    assert out.splitlines() == [
        "the environment is as it was recorded",
        f"data {saved_data(tmp_path)!r}: as it was recorded",
        "this run can be replayed here",
    ]
    assert status == 0


@pytest.fixture
def other_arithmetic(monkeypatch):
    """Pretend that this process has another exp and more variables than the recording one."""
    here = current_environment()
    here.arithmetic["exp"] = "ab" * 32
    here.variables["NPY_DISABLE_CPU_FEATURES"] = "X86_V4"
    monkeypatch.setenv("NPY_DISABLE_CPU_FEATURES", "X86_V4")
    monkeypatch.setattr("pydnn.runs.run.current_environment", lambda numerics, **options: here)


def test_a_run_cannot_be_replayed_with_other_arithmetic(command, run_folder, other_arithmetic):
    status, out = command(run_folder)
    table, last = table_of(out), out.splitlines()[-1]
    assert status == 1
    assert table["NPY_DISABLE_CPU_FEATURES"].split() == ["not", "set", "X86_V4"]
    assert table["arithmetic of exp"].endswith("ab" * 8)
    assert table["hazard"].startswith("NPY_DISABLE_CPU_FEATURES: X86_V4; ")
    assert last.startswith(
        "this run cannot be replayed here: this machine computes exp differently (exp: recorded "
    )
    assert last.endswith("recorded with NPY_DISABLE_CPU_FEATURES not set, here X86_V4")


def test_a_run_cannot_be_replayed_without_its_data(command, run_folder, tmp_path):
    (tmp_path / "data-1.h5").unlink()
    status, out = command(run_folder)
    last = out.splitlines()[-1]
    assert status == 1
    assert last.startswith("this run cannot be replayed here: there is no data set ")


def test_a_run_finds_its_data_elsewhere(command, run_folder, tmp_path):
    moved = (tmp_path / "data-1.h5").rename(tmp_path / "moved.h5")
    assert command(run_folder, "--data", moved)[0] == 0


def test_a_run_cannot_be_replayed_with_other_data(command, run_folder, tmp_path):
    other = saved_data(tmp_path, key=2)
    status, out = command(run_folder, "--data", other)
    assert status == 1
    assert f"data {other!r}: train X differs" in out
    assert out.splitlines()[-1].startswith(
        "this run cannot be replayed here: train X differs (recorded float64 (5, 40) sha256 "
    )


def test_the_verdict_for_programs(command, run_folder, other_arithmetic):
    status, out = command(run_folder, "--json")
    shown = json.loads(out)
    assert (status, shown["replayable"]) == (1, False)
    assert shown["reason"] == shown["expected"]
    assert shown["run"] == str(run_folder)
    assert shown["data"]["differences"] == []
    assert [change["what"] for change in shown["changes"]] == [
        "NPY_DISABLE_CPU_FEATURES",
        "arithmetic of exp",
    ]


def test_a_folder_that_is_not_a_run_is_refused(command, tmp_path):
    with pytest.raises(BadInput, match=r"expected the folder of a run"):
        command(tmp_path)


def test_a_run_with_a_damaged_environment_cannot_be_replayed(command, run_folder):
    path = run_folder / "environment.json"
    path.write_text(path.read_text().replace('"numerics": "fast"', '"numerics": 3'))
    status, out = command(run_folder)
    assert status == 1
    assert "cannot be replayed here" in out
    assert "environment.json: numerics is 3" in out
    status, out = command(run_folder, "--json")
    assert status == 1
    assert json.loads(out)["replayable"] is False


@pytest.mark.parametrize("name", ["flushes_to_zero", "rounds_to_nearest", "pointer_bits"])
def test_doctor_gives_the_answer_of_replay(name, tmp_path, capsys, monkeypatch):
    recorded(tmp_path / "run", small_recipe(tmp_path, numerics="portable"))
    spoilt = {"flushes_to_zero": True, "rounds_to_nearest": False, "pointer_bits": 32}[name]
    for command in ("doctor", "replay"):
        assert main([command, str(tmp_path / "run")]) == 0
    monkeypatch.setattr(platform_checks, name, lambda *dtype: spoilt)
    capsys.readouterr()
    assert main(["doctor", str(tmp_path / "run")]) == 1
    reason = capsys.readouterr().out.splitlines()[-1]
    assert reason.startswith("this run cannot be replayed here: this ")
    assert main(["replay", str(tmp_path / "run")]) == 2
    out, err = capsys.readouterr()
    assert out == ""  # the check comes before any promise
    assert reason.removeprefix("this run cannot be replayed here: ") in err


@pytest.fixture
def two_threads(monkeypatch):
    """Two threads where a cluster is asked for."""
    monkeypatch.setattr("pydnn.workers.dask", lambda address, on_refused: threads(2))


@pytest.mark.usefixtures("two_threads")
def test_the_report_on_a_cluster_ends_with_the_size_from_which_it_pays(command):
    status, out = command("--cluster", "local:2")
    shown = table_of(out)
    assert status == 0
    assert shown["workers"] == "2, with the bits of this process"
    assert shown["each worker"].endswith("GFLOP/s in float64, fast arithmetic")
    assert out.splitlines()[-1].startswith("networks of dense layers gain from shards of about ")


@pytest.mark.usefixtures("two_threads")
def test_the_report_on_a_cluster_can_be_about_a_recipe(command, run_folder):
    recipe = (run_folder / "recipe.toml").read_text().replace("batch_norm(), ", "")
    (run_folder / "other.toml").write_text(recipe)
    status, out = command("--cluster", "local:2", run_folder / "other.toml")
    assert status == 0
    assert out.splitlines()[-1].startswith("this recipe gains ")
    status, out = command("--cluster", "local:2", run_folder / "other.toml", "--json")
    assert json.loads(out)["workers"] == 2
    with pytest.raises(BadInput, match="shards do not fit the network: batch_norm"):
        command("--cluster", "local:2", run_folder)


def test_one_worker_does_not_pay(command, monkeypatch):
    monkeypatch.setattr("pydnn.workers.dask", lambda address, on_refused: threads(1))
    assert "gain nothing: there is one worker" in command("--cluster", "tcp://a:1")[1]


def test_the_usage_names_runs_and_recipes(capsys):
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    assert "[RUN|RECIPE]" in capsys.readouterr().out


def test_the_report_says_how_fast_products_are_and_when_fewer_threads_help(command, monkeypatch):
    monkeypatch.setattr(doctor, "seconds_of_a_product", lambda: {1: 0.00124, 2: 0.0365})
    shown = table_of(command()[1])
    assert shown["BLAS speed"].endswith("takes 1.2 ms with 1 thread, 36 ms with 2 threads")
    assert shown["advice"].startswith("one thread is 29.4 times as fast as 2, because other")
    monkeypatch.setattr(doctor, "seconds_of_a_product", lambda: {1: 0.00124, 2: 0.0007})
    assert "advice" not in table_of(command()[1])
