import attrs
import numpy as np
import pytest
import toolz
from small_runs import flipping, recorded, small_data, small_recipe

from pydnn import (
    batch_norm,
    dense,
    describe,
    dropout,
    full_batch,
    gradient_descent,
    l2_penalty,
    layer_norm,
    parallel,
    relu,
    residual,
    serial,
)
from pydnn.jobs.job import prepare, run
from pydnn.runs import NotRepeated, Run
from pydnn.runs.inspect import (
    Tensor,
    look_into,
    look_into_steps,
    read_tensors,
    summary_of,
    write_tensors,
)

DEEP = serial(
    residual(dense(5), batch_norm(), relu()),
    parallel(dense(2), serial(dense(3), dropout(keep_prob=0.5))),
    layer_norm(),
    dense(1),
)


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspection")
    recipe = small_recipe(folder, network=describe(DEEP), penalties=[describe(l2_penalty(0.1))])
    recorded(folder / "run", recipe)
    return Run.open(folder / "run")


def by_name(tensors):
    return {str(tensor): tensor.array for tensor in tensors}


def test_every_tensor_is_that_of_a_network_by_hand(tmp_path):
    recipe = small_recipe(
        tmp_path,
        network=describe(serial(dense(3), relu(), dense(1))),
        optimizer=describe(gradient_descent(learning_rate=0.5)),
        batches=describe(full_batch()),
        iterations=3,
    )
    recorded(tmp_path / "run", recipe)
    step, tensors = look_into(Run.open(tmp_path / "run"), 1)
    named = by_name(tensors)
    X, Y, W, b = (named[n] for n in ("batch, X", "batch, Y", "state, layer 0, W",
                                     "state, layer 0, b"))  # fmt: skip
    V, c = named["state, layer 2, W"], named["state, layer 2, b"]
    Z = W @ X + b
    A = np.maximum(Z, 0)
    AL = V @ A + c
    dAL = (1 / (1 + np.exp(-AL)) - Y) / X.shape[1]
    dA = V.T @ dAL
    dZ = dA * (Z > 0)
    expected = {
        "forward, layer 0 (dense), A": Z,
        "forward, layer 0 (dense), cache.A_prev": X,
        "forward, layer 1 (relu), A": A,
        "forward, layer 1 (relu), cache.Z": Z,
        "forward, layer 2 (dense), A": AL,
        "forward, AL": AL,
        "cost, dAL": dAL,
        "backward, layer 2 (dense), dA": dAL,
        "backward, layer 2 (dense), dW": dAL @ A.T,
        "backward, layer 2 (dense), db": dAL.sum(axis=1, keepdims=True),
        "backward, layer 2 (dense), dA_prev": dA,
        "backward, layer 1 (relu), dA_prev": dZ,
        "backward, layer 0 (dense), dW": dZ @ X.T,
        "update, layer 0, update of W": -0.5 * dZ @ X.T,
        "update, layer 2, W": V - 0.5 * dAL @ A.T,
    }
    for name, array in expected.items():
        np.testing.assert_allclose(named[name], array, rtol=1e-12, atol=1e-15, err_msg=name)
    assert named["cost, cost"] == step.cost
    assert "backward, layer 0 (dense), dA_prev" not in named  # no stage needs it
    assert not any(tensor.array.flags.writeable for tensor in tensors if tensor.array.ndim)


def test_inspecting_a_step_changes_no_bit(deep):
    job = prepare(deep.recipe, small_data().train)
    pairs = list(run(job))
    for number in (0, 5, 11):
        step, tensors = look_into(deep, number)
        assert step == deep.at(number)
        after, info = pairs[number]
        assert step.after == after
        assert (step.info.cost, step.info.gradient_norm) == (info.cost, info.gradient_norm)
        named = by_name(tensors)
        for slot in after.parameters.layout.slots:
            layer, _, name = slot.name.rpartition("/")
            shown = named[f"update, layer {layer}, {name}"]
            np.testing.assert_array_equal(shown, after.parameters[slot.name])


def test_stages_of_stages_have_their_place_in_the_network(deep):
    _, tensors = look_into(deep, 3)
    names = [str(tensor) for tensor in tensors]
    for name in (
        "forward, layer 0/1 (batch_norm), cache.norm.Z_norm",
        "forward, layer 1/1/1 (dropout), cache.D",
        "backward, layer 0/1 (batch_norm), dgamma",
        "penalties, layer 1/0, gradient of W",
        "gather, layer 0/1, running mean",
        "state, optimizer.0.gradients",
    ):
        assert any(n.endswith(name) for n in names), (name, names)


def test_a_record_that_is_not_repeated_is_not_shown_as_if_it_were(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path), change=flipping(5))
    with pytest.raises(NotRepeated, match="step 5"):
        look_into(Run.open(tmp_path / "run"), 5)


def test_a_summary_by_hand():
    A = Tensor("forward", "1", "relu", "A", np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
    summary = summary_of(A)
    assert (summary.shape, summary.low, summary.high) == ((3, 2), 0.0, 4.0)
    assert summary.norm == pytest.approx(np.sqrt(26))
    assert summary.dead == pytest.approx(1 / 3)
    assert summary_of(attrs.evolve(A, part="backward")).dead is None
    empty = summary_of(attrs.evolve(A, array=np.zeros((0, 2))))
    assert (empty.low, empty.high, empty.norm, empty.dead) == (None, None, 0.0, None)
    huge = summary_of(attrs.evolve(A, array=np.full(4, 1e300)))
    assert huge.norm == pytest.approx(2e300)


def test_tensors_are_read_as_they_were_written(tmp_path, deep):
    _, tensors = look_into(deep, 3)
    write_tensors(tmp_path / "step.h5", tensors)
    again = read_tensors(tmp_path / "step.h5")
    assert list(map(str, again)) == list(map(str, tensors))
    for a, b in zip(again, tensors, strict=True):
        assert a.array.tobytes() == b.array.tobytes()
        assert a.array.dtype == b.array.dtype


def test_a_stage_that_is_called_twice_is_kept_twice(tmp_path):
    tensor = Tensor("forward", "0", "dense", "A", np.ones(2))
    other = attrs.evolve(tensor, array=np.zeros(2))
    write_tensors(tmp_path / "step.h5", [tensor, other])
    assert [t.array.tolist() for t in read_tensors(tmp_path / "step.h5")] == [[1, 1], [0, 0]]
    assert toolz.first(read_tensors(tmp_path / "step.h5")).name == "A"


def test_several_steps_show_what_each_shows_alone(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path))
    run = Run.open(tmp_path / "run")
    for step, (record, tensors) in zip((0, 5), look_into_steps(run, (0, 5)), strict=True):
        alone, expected = look_into(run, step)
        assert record.info == alone.info
        assert [t.place for t in tensors] == [t.place for t in expected]
        for ours, theirs in zip(tensors, expected, strict=True):
            np.testing.assert_array_equal(ours.array, theirs.array)
