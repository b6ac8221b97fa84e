import csv
import itertools

import pytest
from helpers import texts
from hypothesis import given
from hypothesis import strategies as st
from small_runs import recorded, saved_data, small_data, small_recipe

from pydnn import BadInput
from pydnn.cli import main
from pydnn.jobs.job import prepare, run
from pydnn.recipes.toml import write_recipe
from pydnn.runs import Run, create_run, record, resume_run
from pydnn.runs.csv_log import csv_lines, log_csv
from pydnn.training import StepInfo, values_of

STEPS = [
    StepInfo(0, 0.1, 2.0, {"rate": 1}),
    StepInfo(1, float("nan"), float("inf"), {"rate": 0.5, "vector": [1.0]}),
    StepInfo(2, 1e-300, 0.0, {"rate": 0.5}, {"a, b": -0.0, "rate": 7.0}),
]
TEXT = """step,cost,gradient_norm,rate,"a, b"
0,0.1,2.0,1.0,
1,nan,inf,0.5,
2,1e-300,0.0,7.0,-0.0
"""


def pairs(infos):
    return [(object(), info) for info in infos]


def test_three_steps_by_hand(tmp_path):
    stream = pairs(STEPS)
    assert list(log_csv(iter(stream), tmp_path / "log.csv")) == stream
    assert (tmp_path / "log.csv").read_bytes() == TEXT.encode()
    assert list(csv_lines(STEPS)) == TEXT.splitlines()


def test_the_file_can_be_read_while_it_grows(tmp_path):
    stream = log_csv(iter(pairs(STEPS)), tmp_path / "log.csv")
    next(stream)
    assert (tmp_path / "log.csv").read_text() == "step,cost,gradient_norm,rate\n0,0.1,2.0,1.0\n"
    stream.close()


NAMES = texts(max_size=4)
INFOS = st.builds(
    StepInfo,
    st.integers(0, 2**62),
    st.floats(),
    st.floats(),
    st.dictionaries(NAMES, st.floats(), max_size=2),
    st.dictionaries(NAMES, st.floats(), max_size=2),
)


@given(st.lists(INFOS, max_size=6))
def test_every_number_is_read_back_with_its_bits(tmp_path_factory, infos):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    list(log_csv(iter(pairs(infos)), path))
    assert path.read_bytes().decode() == "".join(f"{line}\n" for line in csv_lines(infos))
    with path.open(newline="", encoding="utf-8") as file:
        heading, *lines = csv.reader(file)
    assert heading[:3] == ["step", "cost", "gradient_norm"]
    for info, line in zip(infos, lines, strict=True):
        expected = [str(info.iteration), *map(repr, values_of(info).values())]
        assert sorted(expected) == sorted(cell for cell in line if cell)


@pytest.mark.parametrize("recorded_steps", [0, 5])
def test_resumed_it_is_the_log_of_a_training_without_a_pause(tmp_path, recorded_steps):
    recipe = small_recipe(tmp_path, evaluate_every=3, validation=0.2)
    job = prepare(recipe, small_data().train)
    with create_run(tmp_path / "whole", job, small_data()) as recording:
        list(record(recording, run(job), csv=tmp_path / "whole.csv"))
    with create_run(tmp_path / "cut", job, small_data()) as recording:
        stream = itertools.islice(run(job), recorded_steps)
        list(record(recording, stream, csv=tmp_path / "cut.csv"))
    with (tmp_path / "cut.csv").open("a") as file:  # as a killed process leaves it
        file.write("5,0.25,1.0\n6,0.1")
    with resume_run(tmp_path / "cut", data=small_data()) as found:
        stream = run(found.job, watched=found.watched)
        list(record(found.recording, stream, csv=tmp_path / "cut.csv"))
    text = (tmp_path / "whole.csv").read_bytes()
    assert (tmp_path / "cut.csv").read_bytes() == text
    infos = list(Run.open(tmp_path / "whole").infos)
    assert "".join(f"{line}\n" for line in csv_lines(infos)).encode() == text


def test_a_log_changes_nothing_of_what_is_recorded(tmp_path):
    recipe, data = small_recipe(tmp_path), small_data()
    job = prepare(recipe, data.train)
    recorded(tmp_path / "plain", recipe, data)
    with create_run(tmp_path / "logged", job, data) as recording:
        logs = {"csv": tmp_path / "log.csv", "tensorboard": tmp_path / "logs"}
        list(record(recording, run(job), every=4, **logs))
    plain, logged = (
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        for folder in (tmp_path / "plain", tmp_path / "logged")
    )
    assert plain == logged


def test_what_is_not_a_log_of_this_training_is_kept(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path), steps=5)
    other = "step,cost,gradient_norm\n0,0.5,0.5\n"
    for text in ("my,own,data\n1,2,3\n", other, ""):
        (tmp_path / "file.csv").write_text(text)
        with (
            pytest.raises(BadInput, match=r"file\.csv is not a log of this training"),
            resume_run(tmp_path / "run", data=small_data()) as found,
        ):
            record(found.recording, run(found.job), csv=tmp_path / "file.csv")
        assert (tmp_path / "file.csv").read_text() == text
    with pytest.raises(BadInput, match=r"file\.csv exists already"):
        log_csv(iter([]), tmp_path / "file.csv")


def test_the_command_line_logs_and_prints_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = small_recipe(tmp_path, data=saved_data(tmp_path), evaluate_every=4)
    (tmp_path / "small.toml").write_text(write_recipe(recipe))
    logs = ["--csv", "log.csv", "--tensorboard", "logs", "--quiet"]
    assert main(["train", "small.toml", *logs]) == 0
    assert [p.name for p in (tmp_path / "logs").iterdir()] == ["0001"]
    capsys.readouterr()
    assert main(["inspect", "runs/0001", "--csv"]) == 0
    assert capsys.readouterr().out == (tmp_path / "log.csv").read_text()
    assert main(["inspect", "runs/0001", "--csv", "--out", "rows.csv"]) == 0
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "log.csv").read_bytes()
    resume = ["resume", "runs/0001", "--iterations", "14"]
    assert main([*resume, *logs]) == 0
    assert (tmp_path / "log.csv").read_text().splitlines()[-1].startswith("13,")
    capsys.readouterr()
    assert main(["train", "small.toml", "--csv", "log.csv"]) == 2
    assert "log.csv exists already" in capsys.readouterr().err
    assert main(["train", "small.toml", "--no-record", "--tensorboard", "logs"]) == 0
    assert sorted(p.name for p in (tmp_path / "logs").iterdir()) == ["0001", "0002"]
    assert main(["inspect", "runs/0001", "--csv", "--layer", "0"]) == 2
    assert "--layer is about one step" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "0003").exists()
