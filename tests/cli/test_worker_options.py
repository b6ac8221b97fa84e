"""Who does the work: options of train and resume, and the same bits whatever they say."""

import argparse
import json
import re

import numpy as np
import pytest

import pydnn as nn
from pydnn.cli import main
from pydnn.cli.worker_options import add_worker_options, executor_of
from pydnn.processors import usable_cores

TRAIN = ["--network", "serial(dense(3), relu(), dense(1))", "--loss", "sigmoid_cross_entropy()"]


@pytest.fixture
def points(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = nn.Key(1).normal((40, 3))
    rows = np.column_stack([X, X[:, 0] > 0])
    np.savetxt("points.csv", rows, delimiter=",", header="a,b,c,y", comments="")
    return ["--data", "points.csv", "--target", "y", "--optimizer", "adam()", *TRAIN]


def printed(capsys, argv):
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def asked(*argv):
    parser = argparse.ArgumentParser()
    add_worker_options(parser, example="")
    return parser.parse_args(argv)


def test_train_and_resume_take_any_executor_and_give_the_same_bits(points, capsys):
    train = ["train", *points, "--shards", "3"]
    whole = printed(capsys, [*train, "--iterations", "6", "--run", "whole"])
    threads = ["--executor", "threads", "--workers", "2"]
    first = printed(capsys, [*train, "--iterations", "4", "--run", "first", *threads])
    assert first["costs"] == whole["costs"][:4]
    resumed = printed(
        capsys, ["resume", "first", "--iterations", "6", "--executor", "threads", "--workers", "3"]
    )
    assert resumed["fingerprint"] == whole["fingerprint"]


def test_several_workers_without_shards_are_refused_before_anything_is_written(
    points, capsys, tmp_path
):
    threads = ["--executor", "threads", "--workers", "2"]
    assert main(["train", *points, "--iterations", "2", "--run", "run", *threads]) == 2
    error = capsys.readouterr().err
    assert "not cut into shards" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert main(["train", *points, "--iterations", "2", "--run", "run"]) == 0
    assert main(["resume", "run", "--iterations", "3", *threads]) == 2


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["--workers", "0"], "--workers is 0"),
        (["--workers", "-1"], "--workers is -1"),
        (["--workers", "257"], "--workers is 257"),
        (["--executor", "serial", "--workers", "2"], "--executor serial has one worker"),
        (["--executor", "threads", "--cluster", "local:2"], "--cluster and --executor contradict"),
        (["--workers", "2", "--cluster", "local:2"], "--cluster and --workers contradict"),
    ],
)
def test_wrong_options_are_refused_in_one_line(argv, shown):
    with pytest.raises(nn.BadInput, match=re.escape(shown)), executor_of(asked(*argv)):
        pass


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], None),
        (["--executor", "serial"], "serial()"),
        (["--executor", "threads", "--workers", "3"], "threads(3)"),
        (["--executor", "threads"], f"threads({usable_cores()})"),
        (["--workers", "3"], "processes(3)"),
        (["--executor", "processes", "--workers", "5"], "processes(5)"),
    ],
)
def test_options_name_an_executor_which_is_closed_at_the_end(argv, expected, monkeypatch):
    started = []

    class Pretended:
        def __init__(self, count):
            self.count, self.closed = count, False
            started.append(self)

        def __repr__(self):
            return f"processes({self.count})"

        def __enter__(self):
            return self

        def __exit__(self, *ended):
            self.closed = True

    monkeypatch.setattr("pydnn.workers.processes", Pretended)
    with executor_of(asked(*argv)) as executor:
        assert (executor and repr(executor)) == expected
    assert all(one.closed for one in started)
