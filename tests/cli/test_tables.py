"""From a table's file to predictions, as a person at a terminal goes."""

import csv
import json
import shutil

import numpy as np
import pytest

import pydnn as nn
from pydnn.cli import main
from pydnn.data import Table, load_data_set
from pydnn.jobs import load_model, prepare, train
from pydnn.jobs.loading import table_of
from pydnn.recipes.toml import read_recipe
from pydnn.runs import Run

RECIPE = """
data = "wine.csv"
target = "quality"
test = 0.25
ignore = ["bottle"]
network = "serial(dense(6), relu(), dense(2))"
loss = "softmax_cross_entropy()"
optimizer = "adam(learning_rate=0.05)"
batches = "mini_batches(32)"
iterations = 40
standardize = true
validation = 0.1
"""


def wines(m, seed):
    key = nn.Key(seed)
    alcohol = 11 + key.at("alcohol").normal((m,))
    red = key.at("color").uniform((m,)) < 0.5
    rows = []
    for i in range(m):
        rows.append(
            {
                "bottle": f"2024-01-{i % 28 + 1:02}",
                "alcohol": "" if i % 9 == 0 else round(alcohol[i], 2),
                "color": "red" if red[i] else "white",
                "country": 7,
                "quality": "good" if alcohol[i] + red[i] > 11.5 else "bad",
            }
        )
    return rows


def written(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "wine.csv", wines(120, 1))
    written(tmp_path / "new.csv", wines(20, 2))
    (tmp_path / "wine.toml").write_text(RECIPE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wine")
    path = written(folder / "wine.csv", wines(120, 1))
    (folder / "wine.toml").write_text(RECIPE)
    argv = ["train", folder / "wine.toml", "--data", path, "--run", folder / "run", "--quiet"]
    assert main(list(map(str, argv))) == 0
    return folder / "run"


def test_a_run_of_a_table_is_recorded_resumed_and_repeated_anywhere(tmp_path, trained, command):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    assert command("replay", run)[0] == 0
    status, out, _ = command("resume", run, "--iterations", 60)
    assert (status, "accuracy" in out) == (0, True)
    assert command("replay", run)[0] == 0
    (tmp_path / "longer.toml").write_text(RECIPE.replace("= 40", "= 60"))
    assert command("train", "longer.toml", "--run", "longer", "--quiet")[0] == 0
    longer, resumed = (load_model(tmp_path / name / "model.h5") for name in ("longer", "run"))
    assert longer.parameters == resumed.parameters
    assert longer.columns == resumed.columns
    assert Run.open(run).job.inputs.columns == longer.columns


def test_a_test_part_in_a_file_of_its_own_is_found_from_anywhere(tmp_path, command, monkeypatch):
    (tmp_path / "two.toml").write_text(RECIPE.replace("0.25", '"new.csv"'))
    assert command("train", "two.toml", "--run", "two", "--quiet")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    status, out, err = command("evaluate", tmp_path / "two")
    assert (status, err) == (0, "")
    assert "of 20 right" in out
    assert command("replay", tmp_path / "two")[0] == 0
    assert command("train", tmp_path / "two", "--iterations", 2, "--no-record", "--quiet")[0] == 0


def test_the_same_table_from_a_parquet_file_is_the_data_of_the_run(tmp_path, trained, command):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [dict(row, alcohol=row["alcohol"] or None) for row in wines(120, 1)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "wine.parquet")
    status, _, err = command("replay", trained, "--data", "wine.parquet")
    assert (status, err) == (0, "")


@pytest.mark.slow
def test_the_same_table_in_a_file_that_is_mapped_is_the_data_of_the_run(trained, command):
    assert command("data", "import", "wine.csv", "wine.h5")[0] == 0
    status, _, err = command("replay", trained, "--data", "wine.h5")
    assert (status, err) == (0, "")
    argv = ["train", "wine.toml", "--data", "wine.h5", "--mapped", "--quiet", "--run", "mapped"]
    assert command(*argv)[0] == 0
    for data in ("wine.csv", "wine.h5"):
        status, out, _ = command("replay", "mapped", "--data", data)
        assert (status, "are the recorded ones" in out) == (0, True)
    outputs = [command("evaluate", name) for name in ("mapped", trained)]
    assert outputs[0][1] == outputs[1][1]
    predicted = [command("predict", "mapped", f"wine.{form}")[1] for form in ("csv", "h5")]
    assert predicted[0] == predicted[1]


def test_classes_of_a_table_are_weighted_by_name(tmp_path):
    recipe = read_recipe(RECIPE + "class_weights = {good = 3.0}\n")
    weights = prepare(recipe, load_data_set("wine.csv", target="quality", ignore=["bottle"]))
    assert set(np.unique(weights.data["train"].weights)) == {1.0, 3.0}
    with pytest.raises(nn.BadInput, match="no class 'fine'"):
        train(read_recipe(RECIPE + "class_weights = {fine = 3.0}\n"))


def test_a_run_of_a_table_is_inspected_and_compared(trained, tmp_path, command):
    assert command("inspect", trained, "--step", 3)[0] == 0
    run = tmp_path / "copy"
    shutil.copytree(trained, run)
    assert command("diff", trained, run)[0] == 0


def test_other_data_of_a_run_is_noticed(tmp_path, trained, command):
    rows = wines(120, 1)
    rows[3]["color"] = "rosé"
    other = written(tmp_path / "other.csv", rows)
    status, out, err = command("replay", trained, "--data", other)
    assert status == 1
    assert "train X differs" in out + err


def test_evaluate_prints_each_class_and_the_confusion_matrix(trained, command):
    status, out, err = command("evaluate", trained, "--data", "new.csv")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("test accuracy")
    assert [line.split()[0] for line in lines[2:4]] == ["bad", "good"]
    assert lines[5].split() == ["class", "\\", "predicted", "as", "bad", "good"]
    plain = json.loads(command("evaluate", trained, "--data", "new.csv", "--json")[1])
    assert np.sum(plain["test"]["confusion"]) == 20
    assert [row["class"] for row in plain["test"]["classes"]] == ["bad", "good"]


def test_predict_writes_names_and_probabilities(tmp_path, trained, command):
    status, out, err = command("predict", trained, "new.csv")
    assert (status, err) == (0, "")
    names = out.splitlines()
    assert names[0] == "quality"
    model = load_model(trained / "model.h5")
    table = nn.read_table("new.csv")
    assert names[1:] == model.predict(table).tolist()
    assert command("predict", trained, "new.csv", "--out", "p.csv", "--proba")[0] == 0
    written = nn.read_table(tmp_path / "p.csv")
    assert written.names == ("quality", "P(bad)", "P(good)")
    P = model.predict_proba(table)
    assert written["P(good)"].tolist() == P[:, 1].tolist()
    plain = json.loads(command("predict", trained, "new.csv", "--json")[1])["predictions"]
    assert plain[0] == {"row": 1, "class": names[1], "probability": P[0].max()}


def test_a_row_needs_no_target_and_no_column_that_nobody_looks_at(tmp_path, trained, command):
    (tmp_path / "one.csv").write_text("color,alcohol\nred,13.5\nblue,\n")
    status, out, _ = command("predict", trained, "one.csv")
    assert (status, out.splitlines()[1]) == (0, "good")


def test_numbers_are_predicted_in_the_units_of_the_table(tmp_path, command):
    options = ["--target", "alcohol", "--ignore", "bottle", "--network", "dense(1)"]
    options += ["--loss", "mean_squared()", "--optimizer", "adam(learning_rate=0.1)"]
    rows = [row for row in wines(120, 1) if row["alcohol"]]
    written(tmp_path / "wine.csv", rows)
    more = ["--data", "wine.csv", "--iterations", 300, "--run", "r", "--quiet"]
    assert command("train", *options, *more)[0] == 0
    status, out, _ = command("predict", "r", "wine.csv")
    assert status == 0
    assert out.startswith("alcohol\n")
    numbers = np.array(out.split()[1:], float)
    assert abs(numbers.mean() - np.mean([row["alcohol"] for row in rows])) < 0.2
    status, _, err = command("predict", "r", "wine.csv", "--proba")
    assert (status, "predicts numbers, which have no probabilities" in err) == (2, True)


def test_summary_shows_what_becomes_of_each_column(command):
    status, out, _ = command("summary", "wine.toml")
    assert status == 0
    assert "one of red, white" in out
    assert "it is always 7" in out
    plain = json.loads(command("summary", "wine.toml", "--json")[1])
    assert plain["columns"][0]["column"] == "alcohol"


def test_summary_of_a_run_says_that_its_table_has_changed(command, tmp_path):
    assert command("train", "wine.toml", "--run", "r", "--iterations", 5, "--quiet")[0] == 0
    assert command("summary", "r")[2] == ""
    path = tmp_path / "wine.csv"
    path.write_text(path.read_text().replace("red", "blue"))
    status, out, err = command("summary", "r")
    assert (status, "blue, white" in out) == (0, True)
    assert "is not the data that r was trained on" in err


def test_a_sweep_trains_on_a_table(command):
    argv = ["sweep", "wine.toml", "--seeds", 2, "--save-best", "best", "--iterations", 5]
    status, _, err = command(*argv)
    assert status == 0, err
    assert command("predict", "best", "new.csv")[0] == 0


def test_python_takes_the_same_table_as_the_command_line(trained):
    recipe = read_recipe(RECIPE)
    rows = [dict(row, alcohol=row["alcohol"] or None) for row in wines(120, 1)]
    for data in (rows, table_of(recipe, rows), Table.of(rows)):
        model = train(recipe, data).model
        assert model.parameters == load_model(trained / "model.h5").parameters
    pandas = pytest.importorskip("pandas")
    assert train(recipe, pandas.DataFrame(rows)).model.parameters == model.parameters
    assert model.predict(pandas.DataFrame(rows[:3])).tolist() == model.predict(rows[:3]).tolist()


REFUSED = {
    "no target": (["train", "--data", "wine.csv"], "is a table with the columns bottle, alcohol"),
    "absent target": (["train", "wine.toml", "--target", "qualty"], "did you mean 'quality'?"),
    "dates": (
        ["train", "wine.toml", "--ignore", "country"],
        "column 'bottle' holds dates, e.g. '2024-01-01', expected numbers",
    ),
    "constant target": (
        ["train", "wine.toml", "--target", "country"],
        "target 'country' is '7' in every row, expected two classes or more",
    ),
    "a test part without a target": (
        ["train", "--data", "digits", "--test", "test.csv"],
        "there is no target: name the column to predict",
    ),
    "a share for testing of arrays": (
        ["train", "--data", "digits", "--test", "0.2"],
        "test is 0.2, but digits is not a table with named columns",
    ),
    "target for arrays": (["train", "--data", "digits", "--target", "y"], "digits is not a table"),
    "weights": (
        ["train", "wine.toml", "--example-weights", "color"],
        "column 'color' holds texts, expected weights",
    ),
}


@pytest.mark.parametrize(("argv", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_a_table_is_refused_in_one_line(command, argv, message):
    status, out, err = command(*argv, "--run", "never")
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


MODEL_REFUSES = {
    "missing column": ("color\nred\n", "the table has no column 'alcohol', which the model was"),
    "new column": ("alcohol,color,sugar\n1,red,3\n", "column 'sugar' "),
    "text for numbers": ("alcohol,color\nmuch,red\n", "column 'alcohol' holds texts, e.g. 'much'"),
    "ragged": ("alcohol,color\n1,red,3\n", "line 2 of new.csv has 3 cells, expected 2"),
    "infinite": ("alcohol,color\ninf,red\n", "column 'alcohol' holds inf in row 1"),
}


@pytest.mark.parametrize(("text", "message"), MODEL_REFUSES.values(), ids=MODEL_REFUSES)
def test_rows_that_do_not_fit_the_model_are_refused_in_one_line(
    tmp_path, trained, command, text, message
):
    (tmp_path / "new.csv").write_text(text)
    status, out, err = command("predict", trained, "new.csv")
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_predictions_replace_no_file(trained, command):
    status, _, err = command("predict", trained, "new.csv", "--out", "wine.csv")
    assert (status, "wine.csv exists already" in err) == (2, True)
    status, _, err = command("predict", trained, "new.csv", "wine.csv")
    assert (status, "there are 2 files, expected one table" in err) == (2, True)


def test_the_job_of_a_table_is_prepared_without_its_test_part_too():
    data = load_data_set("wine.csv", target="quality", ignore=["bottle"])
    recipe = read_recipe(RECIPE)
    assert prepare(recipe, data).inputs == prepare(recipe, data.train).inputs
