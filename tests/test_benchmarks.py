"""Test the parts of the benchmark suite, with the peers that are installed."""

import argparse
import itertools
import json
import math

import attrs
import import_speed
import numpy as np
import peers
import processes
import pytest
import recording_cost
import suite
import sweep
from helpers import IdleEngine
from import_time import IMPORTS
from peers import Absent, peer_called
from small_runs import small_data, small_recipe
from turns import costs_differ, take_turns
from works import product_shapes, sequences, work_called

from pydnn import Batch, Key, adam, dense, engines, mini_batches, sigmoid_cross_entropy
from pydnn.data import drawn_cats, save_catvnoncat
from pydnn.jobs.job import prepare

ROWS = [
    suite.Row("P1", "pydnn", (1.0, 2.0, 4.0)),
    suite.Row("P1", "pydnn compiled", (0.5, 1.0, 2.0)),
    suite.Row("P1", "PyTorch, eager", (3.0, 6.0, 12.0)),
    suite.Row("P1", "JAX, a call a step", (25.0, 50.0, 100.0)),
    suite.Row("P1", "JAX, whole loop", (20.0, 40.0, 80.0)),
    suite.Row("P1", "tutorial's listing", (25.0, 50.0, 100.0)),
]
# What takes long to compile. The bits of portable arithmetic are compared in tests/compiled.
TOO_SLOW = ("pydnn", "PyTorch, compiled", suite.PORTABLE_COMPILED)
FEW = {"P1": 2, "P2": 10, "P3": 5, "P5": 2, "P5f32": 2}  # steps; scikit-learn takes whole epochs


@pytest.fixture(scope="module")
def cats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cats") / "data"
    save_catvnoncat(folder, *drawn_cats(train_count=12, test_count=4))
    return str(folder)


@pytest.mark.parametrize("name", FEW)
def test_each_work_has_the_same_falling_costs_in_every_turn(name, cats):
    work = attrs.evolve(work_called(name, cats), steps=FEW[name])
    begin = peer_called("pydnn")(work)
    costs = begin()()
    assert len(costs) == work.steps
    assert costs[-1] < costs[0]
    assert begin()() == costs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "peer"),
    [(n, p) for n in FEW for p in suite.PEERS_OF[n] if p not in TOO_SLOW],
)
@pytest.mark.slow
def test_a_peer_does_the_same_work(name, peer, cats):
    work = attrs.evolve(work_called(name, cats), steps=FEW[name])
    expected = peer_called("pydnn")(work)()()
    try:
        begin = peer_called(peer)(work)
    except Absent as reason:
        pytest.skip(str(reason))
    for _ in range(2):  # the second turn starts again
        costs = begin()()
        assert len(costs) in (work.steps, work.steps // len(work.batches))
        assert not costs_differ(costs, expected, work.rtol)


def test_pydnn_and_pytorch_do_the_same_with_sequences():
    work = sequences(None, T=3, m=4, sizes=(5, 6, 6, 4))
    expected = peer_called("pydnn")(work)()()
    assert expected[-1] < expected[0]
    try:
        begin = peer_called("PyTorch, eager")(work)
    except Absent as reason:
        pytest.skip(str(reason))
    assert not costs_differ(begin()(), expected, work.rtol)


def test_a_peer_whose_package_is_not_installed_is_absent(monkeypatch):
    monkeypatch.setitem(peers.PEERS, "another", "no_such_module:loop")
    with pytest.raises(Absent, match="no_such_module is not installed"):
        peer_called("another")


def test_costs_of_epochs_are_compared_with_means_and_nan_differs():
    expected = [1.0, 0.5, 0.25, 0.25]
    assert not costs_differ([0.75, 0.25], expected, 1e-9)
    assert costs_differ([0.75, 0.26], expected, 1e-3)
    assert costs_differ([1.0, 0.5, 0.25, math.nan], expected, 1e-3)
    assert not costs_differ([], expected, 1e-9)


@pytest.mark.slow
def test_peers_take_turns_in_separate_processes():
    seconds, absent = take_turns("P3", ("pydnn",), data=None, threads=1, blocks=2)
    assert absent == {}
    assert len(seconds["pydnn"]) == 2
    assert all(value > 0 for value in seconds["pydnn"])


def test_products_of_a_step_leave_out_the_gradient_of_the_examples():
    shapes = [(3, 4, 5), (3, 5, 4), (2, 3, 5), (2, 5, 3), (3, 2, 5)]
    assert list(product_shapes((4, 3, 2), 5)) == shapes


def test_a_product_of_n_k_p_counts_as_2_n_k_p_operations():
    assert suite.product_speeds(ROWS) == {}
    flops = 2 * 1024 * (5 * 4096 * 4096 + 3 * 4096 * 10)
    assert suite.product_speeds([suite.Row("P4", "pydnn", (2.0,))]) == {"pydnn": flops / 2}


def test_every_way_to_multiply_gives_the_product():
    products = pytest.importorskip("peers.products")
    ways = products.ways_to((3, 4, 5), np.float64)
    results = [way() for way in ways]
    results = [result if result.shape == (3, 5) else result.T for result in results]
    for one, other in itertools.pairwise(results):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_limit_is_judged_against_the_fastest_of_its_peers():
    assert list(map(str, suite.judge(ROWS))) == [
        "P1: pydnn compiled takes 1 s, at most 100 us: MISSED",
        "P1: pydnn compiled takes 0.025 of JAX, whole loop, at most 0.025: met",
        "P1: pydnn compiled takes 0.02 of tutorial's listing, at most 0.0167: MISSED",
    ]
    assert suite.judge(ROWS[2:]) == []


def test_every_limit_compares_rows_that_are_measured():
    measured = {work: {*peers} for work, peers in suite.PEERS_OF.items()}
    measured["whole process"] = {"pydnn", *suite.FRAMEWORKS}
    for name in processes.FIRST:
        measured[f"first step, {name}"] = {"pydnn", *processes.CACHES}
    measured["import"] = {*IMPORTS}
    measured["memory, P1"] = measured["memory, P4"] = {"pydnn", "allowed"}
    for limit in suite.LIMITS:
        rows = [suite.Row(limit.work, peer, (1.0,)) for peer in measured[limit.work]]
        assert limit.ours in measured[limit.work]
        assert any(map(limit.concerns, rows)) == bool(limit.against)


def test_the_table_shows_times_and_ratios():
    lines = suite.table(ROWS).splitlines()
    assert lines[1].split() == ["P1", "pydnn", "2", "s", "1.5", "s", "-", "3", "s", "1.00"]
    assert lines[3].endswith("3.00")


def test_a_forced_kernel_is_reported_in_one_line(monkeypatch, capsys):
    for name in suite.OLD_KERNELS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(suite, "measure", lambda args: (ROWS, {}))
    options = suite.arguments(["P1", "--data", "."])
    monkeypatch.setattr(suite, "arguments", lambda: options)
    suite.main()
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    suite.main()
    streams = capsys.readouterr()
    assert streams.err == "unset OPENBLAS_CORETYPE: OpenBLAS uses slower kernels\n"
    assert "kernel" in streams.out
    assert streams.out.endswith("with the kernel of OPENBLAS_CORETYPE=Haswell\n")


def test_a_sweep_is_timed_in_every_way_to_the_same_bits(monkeypatch):
    points = Batch(Key(1).at("X").normal((2, 32)), np.arange(32).reshape(1, 32) % 2)
    recipe = sweep.recipe(dense(1), sigmoid_cross_entropy(), adam(), mini_batches(16))
    recipe = attrs.evolve(recipe, iterations=3, dtype="float64")
    args = argparse.Namespace(seeds=2, blocks=1)
    monkeypatch.setattr(engines, "_load", IdleEngine)
    monkeypatch.setattr(sweep, "find_spec", bool)
    ways = sweep.compared(recipe, points, args)
    names = ("pydnn", "pydnn compiled", "pydnn, one by one", "pydnn compiled, one by one")
    assert tuple(ways) == names
    assert all(len(taken) == 1 for taken in ways.values())


def test_plain_results_are_json_and_the_picture_is_drawn(tmp_path):
    bars = pytest.importorskip("bars")
    plain = suite.as_plain(ROWS, suite.judge(ROWS), {("P1", "scikit-learn"): "gone"}, threads=2)
    assert json.loads(json.dumps(plain))["limits"][0]["met"] is False
    of_all_works = [suite.Row(limit.work, "pydnn", (1.0,)) for limit in suite.LIMITS]
    bars.save_bars(tmp_path / "bars.png", [*ROWS, *of_all_works], note="here")
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["P9"], "no work P9, expected one of P1"),
        (["--threads", "0"], "--threads is 0, expected 1 to"),
        (["--blocks", "0"], "--blocks is 0, expected 1 or more"),
        (["--plot", "no-such/a.png"], "no-such is not a directory"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_measured(options, message, capsys):
    with pytest.raises(SystemExit):
        suite.arguments(options)
    assert message in capsys.readouterr().err


def test_recording_is_timed_against_the_same_job_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = small_data()
    job = prepare(small_recipe(tmp_path, iterations=40), data.train)
    result = recording_cost.measured(job, data, blocks=2)
    for clock in ("wall", "CPU"):
        in_memory, recorded = result[clock]["seconds"].values()
        assert min(in_memory, recorded) > 0
        low, high = result[clock]["ratio_range"]
        assert low <= result[clock]["ratio"] <= high
    # Training such a small job is less work than writing its folder, however busy the machine is.
    assert result["CPU"]["ratio_range"][0] > 1
    assert recording_cost.in_words("small", result | {"limit": 1.05}).count("limit 1.05") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["data-1.h5"]  # no other files are left


@pytest.mark.parametrize("name", ["CSV, integers", "HDF5, gzip"])
def test_the_speed_of_imports_is_measured_beside_what_the_machine_gives(tmp_path, name):
    kind, best = import_speed.measured(name, tmp_path, 300_000, 1)
    assert kind in import_speed.GOALS
    assert set(best) == {"import", "loadtxt" if kind == "csv" else "copy"}
    assert all(wall > 0 for wall, _ in best.values())
    assert not (tmp_path / "out.h5").exists()
