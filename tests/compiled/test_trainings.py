"""Whole trainings: the engines give the same bits, and one replays what the other recorded."""

import golden_jobs
import numpy as np
import pytest
from golden_jobs import DTYPES, JOBS
from test_golden_jobs import GOLDEN

pytest.importorskip("numba", reason="the compiled engine needs numba")

import pydnn as nn
from pydnn import engines
from pydnn.compiled import layers
from pydnn.engines import using_engine
from pydnn.fingerprints import fingerprint


@pytest.fixture
def every_size(monkeypatch):
    """Activations of any size are compiled, not only large ones."""
    monkeypatch.setattr(layers, "_LEAST", 0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", JOBS)
def test_golden_jobs_have_the_same_fingerprints(name, dtype, every_size):
    with using_engine("compiled"):
        assert golden_jobs.result(name, dtype) == GOLDEN[f"{name}, {dtype}"]
        assert engines.engine_in_use() == "compiled"  # it did not give up


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stage", ["relu()", "leaky_relu()", "elu()", "tanh()", "sigmoid()"])
def test_fast_arithmetic_gives_the_same_bits(stage, dtype, every_size):
    key = nn.Key(1)
    batch = nn.Batch(key.at("X").normal((5, 40)).astype(dtype), np.arange(40).reshape(1, 40) % 3)
    recipe = nn.Recipe(
        "three classes",
        f"serial(dense(7), {stage}, batch_norm(), dropout(keep_prob=0.8), dense(3))",
        "softmax_cross_entropy()",
        "chain(clip_by_global_norm(1.0), adamw(weight_decay=0.1))",
        iterations=6,
        dtype=dtype,
    )
    found = set()
    for engine in ("numpy", "compiled"):
        with using_engine(engine):
            trained = nn.train(recipe, batch)
            found.add(fingerprint({"all": trained.state.parameters.vector, "c": trained.costs}))
            assert engines.engine_in_use() == engine
    assert len(found) == 1


def test_a_run_recorded_with_one_engine_replays_with_the_other(tmp_path, capsys, monkeypatch):
    from pydnn.cli import main

    monkeypatch.chdir(tmp_path)
    rows = np.column_stack([nn.Key(1).normal((30, 3)), np.arange(30) % 2])
    np.savetxt("points.csv", rows, delimiter=",", header="a,b,c,y", comments="")
    options = ["--optimizer", "momentum(learning_rate=0.1)", "--iterations", "4"]
    network = ["--network", "serial(dense(3), relu(), dense(1))"]
    data = ["--data", "points.csv", "--target", "y", "--loss", "sigmoid_cross_entropy()"]
    train = ["train", *data, *network, *options, "--quiet"]
    assert main([*train, "--run", "run", "--engine", "compiled"]) == 0
    assert '"engine": "compiled"' in (tmp_path / "run" / "environment.json").read_text()
    assert main(["replay", "run", "--engine", "numpy"]) == 0
    assert main(["resume", "run", "--iterations", "6", "--engine", "numpy", "--quiet"]) == 0
    assert main(["replay", "run", "--engine", "compiled"]) == 0
    assert "differ" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam()", "adamw()", "lion()", "nadam()"])
def test_trainings_in_a_stack_have_the_same_bits(optimizer, monkeypatch):
    from pydnn.compiled import passes
    from pydnn.sweeps import run_sweep, sweep

    loops, run = [], passes.run
    monkeypatch.setattr(passes, "run", lambda loop, *rest: loops.append(loop) or run(loop, *rest))
    batch = nn.Batch(nn.Key(1).normal((4, 30)), np.arange(30).reshape(1, 30) % 2)
    network = "serial(dense(3), relu(), dense(1))"
    recipe = nn.Recipe("points", network, "sigmoid_cross_entropy()", optimizer, iterations=5)
    rates = {"optimizer.learning_rate": [0.1, 0.01, 0.001]}
    found = set()
    for engine in ("numpy", "compiled"):
        with using_engine(engine):
            for outcome in run_sweep(sweep(recipe, batch, over=rates)).outcomes:
                found.add(fingerprint({"all": outcome.model.parameters.vector}))
    assert len(found) == 3
    assert any("factor_" in loop.text for loop in loops)  # those of a stack
