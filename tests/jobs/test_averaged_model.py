"""The model with averaged parameters, as the docstring of `average_parameters` makes it."""

import attrs
import numpy as np
import pytest
import toolz

from pydnn import Batch, Key
from pydnn.cli import main
from pydnn.data import DataSet, save_table
from pydnn.jobs.job import run
from pydnn.jobs.model import load_model
from pydnn.optimizers import averaged
from pydnn.runs import Run

X = Key(1).at("X").normal((40, 8))
DATA = DataSet(Batch(X, (X[:1] > 0).astype(float)), Batch(X[:, :4], (X[:1, :4] > 0).astype(float)))
OPTIMIZER = "chain(gradient_descent(learning_rate=0.5), average_parameters)"


@pytest.mark.parametrize("rotate", ["--rotate", "--no-rotate"])
def test_a_run_gives_a_model_of_its_average(tmp_path, monkeypatch, capsys, rotate):
    monkeypatch.chdir(tmp_path)
    save_table("data.h5", DATA)
    network = "serial(dense(3), relu, dense(1))"
    options = ["--data", "data.h5", "--network", network, "--optimizer", OPTIMIZER, rotate]
    assert main(["train", *options, "--iterations", "6", "--run", "mine"]) == 0

    opened, model = Run.open("mine"), load_model("mine/model.h5")
    state = opened.state(opened.iterations)
    average = opened.job.inputs.lift(averaged(state.optimizer_state, state.parameters))
    attrs.evolve(model, parameters=average).save("averaged.h5")

    steps = [opened.job.inputs.lift(after.parameters).vector for after, _ in run(opened.job)]
    found = load_model("averaged.h5").parameters.vector
    np.testing.assert_allclose(found, np.mean(steps, axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.parameters.vector, toolz.last(steps), rtol=1e-12)
    assert main(["evaluate", "averaged.h5", "--data", "data.h5"]) == 0
    assert "accuracy" in capsys.readouterr().out
