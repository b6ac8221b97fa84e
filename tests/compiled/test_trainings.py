"""Whole trainings: the engines give the same bits, and one replays what the other recorded."""

import itertools

import golden_jobs
import numpy as np
import pytest
from golden_jobs import DTYPES, JOBS
from small_runs import NETWORK, recorded, resumed, small_recipe
from test_golden_jobs import GOLDEN

pytest.importorskip("numba", reason="the compiled engine needs numba")

import pydnn as nn
from pydnn import engines
from pydnn.cli import main
from pydnn.descriptions.builders import builders_of
from pydnn.engines import using_engine
from pydnn.fingerprints import fingerprint
from pydnn.jobs.job import prepare, run
from pydnn.numerics import passes
from pydnn.optimizers import number_by_number
from pydnn.optimizers.fused import PendingUpdate
from pydnn.runs.state_arrays import state_fingerprint


@pytest.fixture
def every_size(monkeypatch):
    """Activations of any size are compiled, not only large ones."""
    monkeypatch.setattr(passes, "WORTH_A_LOOP", 0)


# A training with each builder of pydnn, whatever there is


# What options get that have no default, by their names. Of several texts, the first that fits.
GIVEN = {
    "batches": ["2"], "decay": ["0.5"], "every": ["2"], "factor": ["0.5"], "filters": ["2"],
    "heads": ["1"], "initial": ["0.01"], "inner": ["adam(learning_rate=0.01)"],
    "keep_prob": ["0.8"], "learning_rate": ["0.01"], "limit": ["0.5"], "name": ["'x'"],
    "names": ["'0/b'"], "parts": ["clip_by_value(0.5), scale_by_adam, descend(0.1)"],
    "peak": ["0.01"], "places": ["1"], "rate": ["0.01"], "schedules": ["[0.01, 0.001]"],
    "shape": ["-1"], "size": ["2"], "stages": ["dense(3), tanh, dense(3)", "gru(2)"],
    "starts": ["[2]"], "steps": ["4"], "strength": ["0.1"], "then": ["0.01"], "units": ["3"],
    "value": ["0.01"], "variance": ["0.01"], "words": ["5"],
}  # fmt: skip
# Networks around a stage, by the shape of an example
AROUND = {
    (3,): "serial(dense(3), {}, dense(4), selu, dense(2))",
    (4, 3): "serial({}, flatten, dense(2))",
    (5, 4, 3): "serial({}, flatten, dense(2))",
}
X, Y = nn.Key(1).at("X"), nn.Key(1).at("Y")
LABELS = [
    Y.normal((2, 21)), Y.integers(4, (2, 21)), Y.integers(2, (2, 21)), Y.integers(2, (1, 21)),
]  # fmt: skip
FAMILIES = ("augmentation", "batches", "loss", "optimizer", "penalty", "schedule", "stage")
BUILDERS = {
    f"{each.family} {each.name}": each
    for each in builders_of()
    if each.family in FAMILIES and ":" not in each.name
}


def jobs_with(builder):
    """Yield recipes with a part of a builder, and examples; some are refused."""
    needed = [o for o in builder.signature.parameters.values() if o.default is o.empty]
    takes = set(builder.signature.parameters)
    for values in itertools.product(*(GIVEN[option.name] for option in needed)):
        given = [
            value if option.kind is option.VAR_POSITIONAL else f"{option.name}={value}"
            for option, value in zip(needed, values, strict=True)
        ]
        text = f"{builder.name}({', '.join(given)})"
        parts = {
            "network": AROUND[3,].format("relu"),
            "loss": "mean_squared",
            "optimizer": "momentum(learning_rate=0.01)",
        }
        match builder.family:
            case "stage":
                for shape, network in AROUND.items():
                    numbers = X.normal((*shape, 21))
                    if "words" in takes:
                        numbers, network = X.integers(5, (*shape, 21)), AROUND[4, 3]
                    parts["network"] = network.format(text)
                    yield parts, nn.Batch(numbers, LABELS[0])
                continue
            case "augmentation":
                parts["network"] = AROUND[5, 4, 3].format("conv(2, 3), relu")
                yield parts | {"augment": [text]}, nn.Batch(X.normal((5, 4, 3, 21)), LABELS[0])
                continue
            case "optimizer" if not takes & {"learning_rate", "inner", "parts"}:
                parts["optimizer"] = f"chain({text}, descend(0.01))"
            case "schedule":
                parts["optimizer"] = f"adam(learning_rate={text})"
            case "penalty":
                parts["penalties"] = [text]
            case family:
                parts[family] = text
        for labels in LABELS:
            yield parts, nn.Batch(X.normal((3, 21)), labels.astype(float))


def trained_with(builder, **options):
    """Return the fingerprints of the first training that fits."""
    for parts, batch in jobs_with(builder):
        try:
            job = prepare(nn.Recipe("points", **parts, iterations=4, **options), batch)
        except nn.BadInput as error:
            refused = error
            continue
        steps = list(run(job))
        numbers = [number for _, info in steps for number in (info.cost, info.gradient_norm)]
        return state_fingerprint(steps[-1][0]), numbers
    raise refused


@pytest.mark.sampled(20)
@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_training_with_each_builder_gives_the_same_bits(name, every_size, texts_as_they_stand):
    for numerics, dtype in itertools.product(("fast", "portable"), DTYPES):
        found = []
        for engine in ("numpy", "compiled"):
            with using_engine(engine):
                found.append(trained_with(BUILDERS[name], numerics=numerics, dtype=dtype))
                assert engines.engine_in_use() == engine  # it did not give up
        assert found[0] == found[1], (numerics, dtype)


def test_numbers_that_depend_on_vectors_of_the_state_are_those_of_each_step(texts_as_they_stand):
    @engines.compilable
    def kernel(factor, number, g, p, before, u, after):
        np.add(g, before, after)
        np.multiply(g, number, u)
        np.multiply(u, factor, u)

    def begin(state, dtype, numerics):
        numbers = (1.0 / (1.0 + float(np.abs(state).max())),)
        return PendingUpdate(kernel, (state,), lambda after: after, -0.1, numbers)

    own = number_by_number(lambda params: np.zeros(params.vector.size), begin)
    network = nn.serial(nn.dense(3), nn.relu(), nn.dense(2))
    batches = [nn.Batch(X.normal((3, 20)), Y.normal((2, 20)))] * 5
    found = []
    for engine in ("numpy", "compiled"):
        step = nn.make_train_step(network, nn.mean_squared(), own, numerics=nn.portable)
        state = nn.initial_state(network, own, (3,), key=nn.Key(1))
        with using_engine(engine):
            found.append([s.parameters.vector.tobytes() for s, _ in nn.scan(step, state, batches)])
            assert (step.whole is None) == (engine == "numpy")
    assert found[0] == found[1]


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


SMALL = nn.serial(nn.dense(4), nn.relu(), nn.dense(1))  # which has a compiled step


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "first", "numerics", "dtype"),
    [
        (SMALL, "compiled", "portable", "float32"),
        (SMALL, "numpy", "portable", "float64"),
        (NETWORK, "compiled", "fast", "float32"),
        (NETWORK, "numpy", "portable", "float64"),
    ],
)
def test_an_interrupted_run_goes_on_with_the_other_engine(
    network, first, numerics, dtype, every_size, texts_as_they_stand, tmp_path
):
    second = "numpy" if first == "compiled" else "compiled"
    recipe = small_recipe(
        tmp_path, network=nn.describe(network), dtype=dtype, numerics=numerics, iterations=9
    )
    with using_engine("numpy"):
        whole = recorded(tmp_path / "whole", recipe)
    with using_engine(first):
        recorded(tmp_path / "run", recipe, steps=2)
    with using_engine(second):
        resumed(tmp_path / "run", steps=3)
    with using_engine(first):
        assert state_fingerprint(resumed(tmp_path / "run")) == state_fingerprint(whole)
    for engine in (first, second):
        assert main(["replay", str(tmp_path / "run"), "--engine", engine]) == 0
    assert main(["diff", str(tmp_path / "run"), str(tmp_path / "whole")]) == 0


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
