"""The pieces of the benchmark suite; the peers are those that are installed."""

import itertools
import json
import math

import attrs
import numpy as np
import pytest
import suite
from peers import Absent, peer_called
from turns import costs_differ, take_turns
from works import product_shapes, work_called

from pydnn.data import drawn_cats, save_catvnoncat

FEW = {"P1": 2, "P2": 10, "P3": 5}  # steps: scikit-learn's are whole epochs


@pytest.fixture(scope="module")
def cats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cats") / "data"
    save_catvnoncat(folder, *drawn_cats(12, 4))
    return str(folder)


@pytest.mark.parametrize("name", FEW)
def test_each_work_is_the_same_from_turn_to_turn_and_its_cost_falls(name, cats):
    work = attrs.evolve(work_called(name, cats), steps=FEW[name])
    begin = peer_called("pydnn")(work)
    costs = begin()()
    assert len(costs) == work.steps
    assert costs[-1] < costs[0]
    assert begin()() == costs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "peer"),
    [(n, p) for n in FEW for p in suite.PEERS_OF[n] if p not in ("pydnn", "PyTorch, compiled")],
)
def test_a_peer_does_the_same_work(name, peer, cats):
    work = attrs.evolve(work_called(name, cats), steps=FEW[name])
    expected = peer_called("pydnn")(work)()()
    try:
        begin = peer_called(peer)(work)
    except Absent as reason:
        pytest.skip(str(reason))
    for _ in range(2):  # from the start again
        costs = begin()()
        assert len(costs) in (work.steps, work.steps // len(work.batches))
        assert not costs_differ(costs, expected, work.rtol)


def test_a_peer_that_needs_what_is_not_installed_is_absent(monkeypatch):
    monkeypatch.setitem(suite.peers.PEERS, "another", "no_such_module:loop")
    with pytest.raises(Absent, match="no_such_module is not installed"):
        peer_called("another")
