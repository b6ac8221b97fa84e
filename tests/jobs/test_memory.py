import subprocess
import sys
import tracemalloc

import attrs
import numpy as np
import pytest

from pydnn import BadInput, Batch, adam, describe, serial
from pydnn import dense as dense_layer
from pydnn.descriptions.text import read_description
from pydnn.free_memory import _left_in_group, free_memory, readable
from pydnn.jobs.job import prepare
from pydnn.jobs.memory import bytes_of, expect_room
from pydnn.numerics import memory
from pydnn.recipes.layouts import layers_of
from pydnn.recipes.recipe import Recipe
from pydnn.sweeps import sweep

DATA = Batch(np.ones((12, 20)), np.arange(20)[np.newaxis] % 2)
SMALL = Recipe(
    data="x",
    network=describe(serial(dense_layer(3), dense_layer(1))),
    loss={"sigmoid_cross_entropy": {}},
    optimizer=describe(adam()),
    iterations=4,
)


def needs(**changes):
    recipe = attrs.evolve(SMALL, **changes)
    return bytes_of(recipe, *layers_of(recipe, (12,)), shape=(12,), examples=20)


def test_bytes_are_those_of_the_arrays_that_a_step_makes():
    parameters = 3 * 12 + 3 + 3 + 1
    assert needs() == {
        "parameters": 8 * parameters,
        "gradients": 8 * parameters,
        "state of the optimizer": 2 * 8 * parameters,
        "activations, batch of 20": 8 * 20 * (3 + 1),
    }
    halved = needs(dtype="float32", batches={"mini_batches": {"size": 7}})
    assert halved["parameters"] == 4 * parameters
    assert halved["activations, batch of 7"] == 4 * 7 * (3 + 1)


@pytest.mark.parametrize(
    ("optimizer", "vectors"),
    [
        ("gradient_descent(learning_rate=0.1)", 0),
        ("momentum(learning_rate=0.1)", 1),
        ("adam", 2),
        ("chain(adam(), average_parameters(decay=0.9))", 3),
        ("chain(clip_by_value(1.0), adam())", 2),
        ("accumulate(adam(), batches=2)", 3),
    ],
)
def test_the_state_of_an_optimizer_is_as_large_as_the_one_that_it_makes(optimizer, vectors):
    recipe = attrs.evolve(SMALL, optimizer=read_description(optimizer))
    worked_out = needs(optimizer=recipe.optimizer)["state of the optimizer"]
    assert worked_out == vectors * 8 * 43
    state = prepare(recipe, DATA).state.optimizer_state
    arrays = [a for a in _arrays(state) if a.size == 43]
    assert sum(a.nbytes for a in arrays) == vectors * 8 * 43


def _arrays(value):
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _arrays(part)
    elif attrs.has(type(value)):
        for part in attrs.astuple(value, recurse=False):
            yield from _arrays(part)


CLAIMED = [
    "serial(dense(100000000), relu, dense(1))",
    "serial(dense(10000000000), dense(1))",
    "serial(dense(100000000), batch_norm, layer_norm, residual(relu), dense(1))",
    "serial(residual(dense(30000), dense(10000000), dense(12)), dense(1))",
    "serial(embedding(10000000000, 4), attention(2), flatten, dense(1))",
    "serial(embedding(2, 4), attention(1, units=10000000000), flatten, dense(1))",
    "serial(one_hot(1000000000000), flatten, dense(1))",
]


@pytest.mark.parametrize("network", CLAIMED)
@pytest.mark.parametrize("optimizer", ["adam", "chain(lion, average_parameters)"])
def test_a_huge_network_is_refused_before_anything_is_allocated(monkeypatch, network, optimizer):
    monkeypatch.setattr("pydnn.jobs.memory.free_memory", lambda: 2 << 30)
    recipe = attrs.evolve(
        SMALL, network=read_description(network), optimizer=read_description(optimizer)
    )
    tracemalloc.start()
    try:
        for make in (prepare, sweep):
            with pytest.raises(BadInput, match=r"takes at least .* this machine has 2\.0 GiB free"):
                make(recipe, DATA)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 20e6


def test_a_step_that_fits_exactly_is_not_refused(monkeypatch):
    for free in (100, None):
        monkeypatch.setattr("pydnn.jobs.memory.free_memory", lambda free=free: free)
        expect_room({"all": 100})
    monkeypatch.setattr("pydnn.jobs.memory.free_memory", lambda: 99)
    with pytest.raises(BadInput, match=r"at least 100 B \(all 100 B\), but .* has 99 B free"):
        expect_room({"all": 100})


def test_sizes_are_shown_in_readable_units():
    assert [readable(n) for n in (0, 1023, 1024, 1536 << 20, 5 << 50)] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 GiB", "5,120.0 TiB",
    ]  # fmt: skip


def test_some_memory_is_free_here():
    assert free_memory() is None or free_memory() > 1 << 24


def test_the_least_limit_of_the_control_groups_around_a_process_counts(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("10\n")
    (inner.parent / "memory.max").write_text("1000\n")
    (inner.parent / "memory.current").write_text("400\n")
    (inner.parent / "memory.stat").write_text("anon 300\ninactive_file 100\n")
    assert _left_in_group(tmp_path, "0::/a/b\n") == 700
    assert _left_in_group(tmp_path, "0::/elsewhere\n") is None
    assert _left_in_group(tmp_path, "nonsense\n") is None


def test_a_group_of_version_1_has_no_limit_or_a_limit(tmp_path):
    group = tmp_path / "memory" / "a"
    group.mkdir(parents=True)
    (group / "memory.usage_in_bytes").write_text("400\n")
    (group / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert _left_in_group(tmp_path, "4:memory:/a\n") is None
    (group / "memory.limit_in_bytes").write_text("1000\n")
    assert _left_in_group(tmp_path, "4:memory:/a\n") == 600


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_limit_on_the_address_space_counts():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30));"
        "from pydnn.free_memory import free_memory; print(free_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 3 << 30


IMAGES = Batch(np.ones((16, 16, 3, 64)), np.arange(64)[np.newaxis] % 2)
STEPS = Batch(np.ones((30, 8, 64)), np.arange(64)[np.newaxis] % 2)
OF_AXES = {
    "convolution": (
        "serial(conv(16, 3, padding='same'), relu, max_pool(2), conv(16, 3), relu, flatten, "
        "dense(1))", IMAGES,
    ),
    "channels": ("serial(conv(16, 5), batch_norm, relu, global_average_pool, dense(1))", IMAGES),
    "steps": ("serial(lstm(24), gru(16, output='last'), dense(1))", STEPS),
    "a carried state": (
        "serial(rnn(32, initial='carried', examples=64), rnn(16, output='last'), dense(1))", STEPS
    ),
}  # fmt: skip


@pytest.mark.parametrize(("network", "data"), OF_AXES.values(), ids=OF_AXES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_activations_of_images_and_sequences_are_about_what_a_step_takes(
    network, data, dtype, monkeypatch
):
    recipe = attrs.evolve(SMALL, network=read_description(network), dtype=dtype)
    shape = data.X.shape[:-1]
    worked_out = bytes_of(recipe, *layers_of(recipe, shape), shape=shape, examples=64)
    activations = worked_out["activations, batch of 64"]
    assert activations > 20 * worked_out["parameters"]
    job = prepare(recipe, data)
    batch = next(job.batches)
    memory._free.clear()  # of earlier tests, which would not be counted
    monkeypatch.setattr(memory, "_OF_A_SLAB", 0)  # a slab counts once, and with all its room
    tracemalloc.start()
    try:
        job.train_step(job.state, batch)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert activations / 1.5 < peak + batch.X.nbytes < activations * 1.5


def test_a_network_that_cannot_be_tried_on_zeros_counts_its_outputs(monkeypatch):
    recipe = attrs.evolve(SMALL, network=read_description("serial(conv(2, 3), flatten, dense(1))"))
    shape = (8, 8, 3)
    layers, layout = layers_of(recipe, shape)
    for error in (BadInput("it refuses zeros."), MemoryError(), ZeroDivisionError()):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr("pydnn.jobs.memory.map_stages", fail)
        needed = bytes_of(recipe, layers, layout, shape=shape, examples=5)
        assert needed["activations, batch of 5"] == 8 * 5 * (72 + 72 + 1)
