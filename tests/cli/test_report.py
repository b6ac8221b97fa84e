import json

import pytest

import pydnn as nn
from pydnn.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    data = nn.Batch([[0.0, 1.0, 2.0, 3.0]], [[1.0, 3.0, 5.0, 7.0]])
    path = tmp_path_factory.mktemp("data") / "line.h5"
    nn.data.save_table(path, nn.data.DataSet(data, data))
    recipe = nn.Recipe(str(path), "dense(1)", "mean_squared()", "adam()", iterations=5)
    job = nn.jobs.prepare(recipe, nn.data.load_data_set(path))
    with nn.runs.create_run(path.parent / "run", job, nn.data.load_data_set(path)) as recording:
        for _ in nn.runs.record(recording, nn.jobs.run(job)):
            pass
    return path.parent / "run"


def test_report_writes_one_file_and_says_so(folder, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(folder), "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert capsys.readouterr().out.startswith(str(out))


def test_report_of_several_runs_as_json(folder, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(folder), str(folder), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == out.stat().st_size


def test_report_keeps_an_existing_file(folder, tmp_path, capsys):
    out = tmp_path / "page.html"
    out.write_text("mine")
    assert main(["report", str(folder), "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main(["report", str(folder), "--out", str(out), "--replace"]) == 0


def test_report_refuses_what_is_not_a_run(tmp_path, capsys):
    assert main(["report", str(tmp_path / "none"), "--out", str(tmp_path / "x.html")]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.fixture(scope="module")
def swept(folder):
    recipe = nn.Recipe(
        str(folder.parent / "line.h5"), "dense(1)", "mean_squared()", "adam()", iterations=5
    )
    plan = nn.sweeps.sweep(recipe, over={"optimizer.learning_rate": [0.1, 0.2]})
    nn.sweeps.run_sweep(plan, record=folder.parent / "swept")
    return folder.parent / "swept"


def test_report_of_a_sweep(swept, tmp_path, capsys):
    out = tmp_path / "page.html"
    score = ["--best-by", "test r_squared"]
    assert main(["report", str(swept), "--out", str(out), *score]) == 0
    text = out.read_text(encoding="utf-8")
    assert "Which options matter" in text
    assert "The best test R squared is" in text


def test_a_sweep_is_reported_alone(swept, folder, tmp_path, capsys):
    assert main(["report", str(folder), str(swept), "--out", str(tmp_path / "x.html")]) == 2
    assert "is a sweep, expected it alone" in capsys.readouterr().err


def test_the_best_of_one_run_is_refused(folder, tmp_path, capsys):
    options = ["--out", str(tmp_path / "x.html"), "--best-by", "train cost"]
    assert main(["report", str(folder), *options]) == 2
    assert "is not a sweep: leave it out" in capsys.readouterr().err
