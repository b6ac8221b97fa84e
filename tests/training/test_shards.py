import copy
import pickle

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pydnn as nn
from pydnn.numerics.blas_threads import blas_threads, using_blas_threads
from pydnn.testing import strategies
from pydnn.training import Part, Shard, trace
from pydnn.training.shards import ShardResult, add_up, examples_of_shard, gradient_of_shard
from pydnn.workers import Spec, Task, serial
from pydnn.workers.encoding import decoded, encoded


def parts_of(stage, loss, *, shards, n_x=3, m=13, seed=1, **options):
    """A step with shards, a state and a batch for it."""
    optimizer = nn.adam()
    step = nn.make_train_step(stage, loss, optimizer, shards=shards, **options)
    state = nn.initial_state(stage, optimizer, (n_x,), key=nn.Key(seed))
    X = nn.Key(2).normal((n_x, m))
    return step, state, nn.Batch(X, X.sum(axis=0, keepdims=True))


NETWORK = nn.serial(nn.dense(5), nn.stages.tanh(), nn.dense(1))


class TestAddUp:
    def test_adds_neighbors_first_and_moves_an_odd_one_up(self):
        texts = [_Text(letter) for letter in "abcdefg"]
        assert add_up(texts).text == "(((a+b)+(c+d))+((e+f)+g))"

    @pytest.mark.parametrize("count", range(1, 18))
    def test_is_the_tree_level_by_level(self, count):
        level = [f"{number}" for number in range(count)]
        while len(level) > 1:
            pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
            level = [f"({'+'.join(pair)})" if len(pair) > 1 else pair[0] for pair in pairs]
        assert add_up(_Text(str(number)) for number in range(count)).text == level[0]

    def test_refuses_nothing(self):
        with pytest.raises(nn.BadInput, match="no results to add"):
            add_up([])


@attrs.frozen
class _Text:
    """Stands for a result, and writes down the additions."""

    text: str

    def __add__(self, other):
        return _Text(f"({self.text}+{other.text})")


class TestExamplesOfShard:
    @pytest.mark.parametrize(("m", "shards"), [(13, 5), (5, 5), (64, 8), (9, 2)])
    def test_cuts_neighbors_of_almost_equal_number(self, m, shards):
        batch = nn.Batch(np.arange(2.0 * m).reshape(2, m), np.zeros((1, m)), np.ones((1, m)))
        cut = [examples_of_shard(batch, shard, shards) for shard in range(shards)]
        assert np.array_equal(np.concatenate([part.X for part in cut], axis=1), batch.X)
        assert {part.X.shape[1] for part in cut} <= {m // shards, m // shards + 1}

    def test_has_one_memory_order_whatever_that_of_the_batch_is(self):
        for order in "CF":
            X = np.asarray(np.arange(12.0).reshape(3, 4), order=order)
            part = examples_of_shard(nn.Batch(X, np.ones((1, 4))), 1, 2)
            assert part.X.flags.f_contiguous
            assert not part.X.flags.writeable


class TestByHand:
    # Predictions 0 for labels 1, 2, 6: costs 1, 4 and 36, slopes of W and b -2 x y and -2 y.
    batch = nn.Batch([[1.0, 2.0, 3.0]], [[1.0, 2.0, 6.0]], [[1.0, 0.0, 3.0]])
    network = nn.dense(1, initializer=nn.constant(0.0))

    def results(self, batch):
        optimizer = nn.adam()
        step = nn.make_train_step(self.network, nn.mean_squared(), optimizer, shards=2)
        state = nn.initial_state(self.network, optimizer, (1,), key=nn.Key(1))
        records = [step.of_shard(state, batch, shard) for shard in (0, 1)]
        return [(record.cost, record.grads.vector.tolist()) for record in records]

    def test_without_weights_divides_by_the_number_of_examples(self):
        first, second = self.results(attrs.evolve(self.batch, weights=None))
        assert first[0] == pytest.approx(1 / 3)
        assert first[1] == pytest.approx([-2 / 3, -2 / 3])
        assert second[0] == pytest.approx((4 + 36) / 3)
        assert second[1] == pytest.approx([(-8 - 36) / 3, (-4 - 12) / 3])

    def test_with_weights_divides_by_their_sum(self):
        first, second = self.results(self.batch)
        assert first == (0.25, [-0.5, -0.5])
        assert second == (27.0, [-27.0, -9.0])

    @pytest.mark.parametrize("scale", [0.0, 1e-310, 5e307])
    def test_weights_of_any_size(self, scale):
        results = self.results(attrs.evolve(self.batch, weights=self.batch.weights * scale))
        expected = [(0.0, [0.0, 0.0])] * 2 if not scale else self.results(self.batch)
        for (cost, vector), (right, right_vector) in zip(results, expected, strict=True):
            assert cost == pytest.approx(right)
            assert vector == pytest.approx(right_vector)


class TestStep:
    def test_agrees_with_the_whole_batch(self):
        step, state, batch = parts_of(NETWORK, nn.mean_squared(), shards=5)
        whole, *_ = parts_of(NETWORK, nn.mean_squared(), shards=1)
        (_, ours), (_, theirs) = step(state, batch), whole(state, batch)
        assert ours.cost == pytest.approx(theirs.cost, rel=1e-14)
        assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-13)

    def test_is_the_sum_of_its_shards_in_any_order(self):
        step, state, batch = parts_of(NETWORK, nn.mean_squared(), shards=4)
        gradients = step.parts[0]
        shares = [(13 * (s + 1) // 4 - 13 * s // 4) / 13 for s in range(4)]
        results = {
            s: gradient_of_shard(
                gradients, state, examples_of_shard(batch, s, 4), Shard(s, 4, shares[s])
            )
            for s in (2, 0, 3, 1)
        }
        total = add_up(results[s] for s in range(4))
        _, record = next(trace(step, state, batch))
        assert total.vector.tobytes() == record.grads.vector.tobytes()
        assert total.cost == record.cost

    def test_has_its_parts_by_name(self):
        step, state, batch = parts_of(NETWORK, nn.mean_squared(), shards=4)
        assert repr(step) == "TrainStep(gradients(forward, cost, backward), update)"
        assert step.names == ("gradients", "update")

        @nn.part(needs=["grads"], gives=["grads"])
        def halve(record):
            return attrs.evolve(record, grads=record.grads.with_vector(record.grads.vector / 2))

        inside = step.insert_after("backward", halve)
        assert repr(inside) == "TrainStep(gradients(forward, cost, backward, halve), update)"
        after = step.insert_after("gradients", halve)
        assert repr(after) == "TrainStep(gradients(forward, cost, backward), halve, update)"
        assert repr(inside.without("halve")) == repr(step)
        norms = [one(state, batch)[1].gradient_norm for one in (step, inside, after)]
        assert norms[1:] == [norms[0] / 2] * 2
        with pytest.raises(nn.BadInput, match="no part gives 'grads', so a shard would have"):
            step.without("backward")
        with pytest.raises(nn.BadInput, match="two parts are called 'cost'"):
            step.insert_after("gradients", attrs.evolve(halve, name="cost"))

    def test_says_where_a_field_of_a_shard_is(self):
        step, *_ = parts_of(NETWORK, nn.mean_squared(), shards=4)
        look = Part("look", lambda record: record, needs=frozenset(["dAL"]))
        with pytest.raises(nn.BadInput, match="that 'cost' gives for each shard alone"):
            step.insert_after("gradients", look)

    def test_trace_goes_through_one_shard(self):
        step, state, batch = parts_of(NETWORK, nn.mean_squared(), shards=4)
        names = [name for name, _ in trace(step, state, batch, shard=3)]
        assert names == ["forward", "cost", "backward"]
        record = step.of_shard(state, batch, 3)
        assert record.AL.shape == (1, 4)
        assert record.shard == Shard(3, 4, share=4 / 13)
        *_, (_, whole) = trace(step, state, batch)
        assert whole.shards[3] == record
        assert len(whole.shards) == 4
        with pytest.raises(nn.BadInput, match="shard is 4, expected at most 3"):
            step.of_shard(state, batch, 4)
        single, *_ = parts_of(NETWORK, nn.mean_squared(), shards=1)
        with pytest.raises(nn.BadInput, match="does not cut batches into shards"):
            single.of_shard(state, batch, 0)

    def test_refuses_fewer_examples_than_shards(self):
        step, state, batch = parts_of(NETWORK, nn.mean_squared(), shards=14)
        with pytest.raises(nn.BadInput, match="13 examples, expected one or more for each of 14"):
            step(state, batch)


class Copying:
    """An executor that gives workers only what can be written in a message."""

    workers = 1

    def __init__(self):
        self.inner = serial()

    def map(self, tasks):
        results = []
        for task in tasks:
            task.spec.expect_sendable()
            arguments = decoded(b"".join(map(bytes, encoded(task.arguments))))
            texts = decoded(b"".join(map(bytes, encoded(task.spec.texts))))
            results += self.inner.map([Task(task.name, Spec(**texts), arguments)])
        return results


class TestExecutor:
    network = nn.serial(nn.dense(5), nn.relu(), nn.dropout(keep_prob=0.5), nn.dense(1))

    @pytest.mark.parametrize("executor", [serial(), Copying()], ids=["serial", "copying"])
    def test_changes_no_bit(self, executor):
        step, state, batch = parts_of(self.network, nn.mean_squared(), shards=5)
        given, *_ = parts_of(self.network, nn.mean_squared(), shards=5, executor=executor)
        for _ in range(3):
            (after, info), (state, expected) = given(state, batch), step(state, batch)
            assert after.parameters.vector.tobytes() == state.parameters.vector.tobytes()
            assert info == expected

    def test_in_other_processes_is_refused_for_parts_that_they_do_not_have(self):
        def same(record):
            return record

        step, state, batch = parts_of(self.network, nn.mean_squared(), shards=5, executor=Copying())
        changed = step.insert_after("backward", same)
        with pytest.raises(nn.BadInput, match="the step has the part 'same' inside gradients"):
            changed(state, batch)
        own = attrs.evolve(nn.mean_squared(), name="own")
        step, *_ = parts_of(self.network, own, shards=5, executor=Copying())
        with pytest.raises(nn.BadInput, match="the step has the loss"):
            step(state, batch)
        inside, *_ = parts_of(self.network, nn.mean_squared(), shards=5, executor=serial())
        expected, _ = inside(state, batch)
        after, _ = inside.insert_after("backward", same)(state, batch)
        assert after == expected


def test_results_are_readonly():
    vector = np.ones(2)
    total = ShardResult(1.0, vector, vector) + ShardResult(2.0, vector, vector)
    assert total == ShardResult(3.0, 2 * vector, 2 * vector)
    assert not total.vector.flags.writeable


@pytest.mark.skipif(blas_threads() is None, reason="the threads of this BLAS cannot be changed")
def test_the_number_of_blas_threads_changes_no_bit():
    batch = nn.Batch(nn.Key(2).normal((128, 301)), nn.Key(3).normal((1, 301)))
    recipe = nn.Recipe(
        data="normal numbers",
        network="serial(dense(100, initializer=orthogonal()), relu, dense(1))",
        loss="mean_squared()",
        optimizer="chain(clip_by_global_norm(0.1), adam())",
        iterations=2,
        shards=2,
    )
    results = []
    for threads in (1, 2):
        with using_blas_threads(threads):
            trained = nn.train(recipe, batch)
        results.append((trained.model.parameters.vector.tobytes(), trained.costs))
    (first, costs), (second, again) = results
    assert first == second
    assert list(costs) == list(again)


# Every loss agrees with the whole batch


def agree(shards_step, whole_step, state, batch, *, rel=1e-12):
    """The two steps have the same cost and gradients, up to rounding."""
    _, ours = next(trace(shards_step, state, batch))
    theirs = next(r for name, r in trace(whole_step, state, batch) if name == "backward")
    assert ours.cost == pytest.approx(theirs.cost, rel=rel)
    scale = np.abs(theirs.grads.vector).max()
    assert np.abs(ours.grads.vector - theirs.grads.vector).max() <= rel * scale


def steps_of(network, loss, shape_in, *, shards, dtype=np.float64, **options):
    optimizer = nn.adam()
    state = nn.initial_state(network, optimizer, shape_in, key=nn.Key(1), dtype=dtype)
    ours = nn.make_train_step(network, loss, optimizer, shards=shards, **options)
    return ours, nn.make_train_step(network, loss, optimizer, **options), state


BINARY = (nn.Key(5).uniform((3, 13)) < 0.5).astype(float)
CLASSES = nn.Key(5).integers(3, (1, 13)).astype(float)
COUNTS = nn.Key(5).integers(9, (3, 13)).astype(float)
LOSSES = {
    "sigmoid": (nn.sigmoid_cross_entropy(), BINARY),
    "sigmoid, positive weight": (nn.sigmoid_cross_entropy(positive_weight=[1.0, 2, 3]), BINARY),
    "softmax": (nn.softmax_cross_entropy(), CLASSES),
    "softmax, smoothed": (nn.softmax_cross_entropy(label_smoothing=0.1), CLASSES),
    "softmax, class weights": (nn.softmax_cross_entropy(class_weights=[1.0, 0, 4]), CLASSES),
    "softmax, one-hot": (
        nn.softmax_cross_entropy(class_weights=[1.0, 2.0, 4.0]),
        (np.arange(3)[:, np.newaxis] == CLASSES).astype(float),
    ),
    "squared": (nn.mean_squared(), COUNTS),
    "absolute": (nn.mean_absolute(), COUNTS),
    "huber": (nn.huber(), COUNTS),
    "poisson": (nn.poisson(), COUNTS),
}
WEIGHTS = nn.Key(6).uniform((1, 13)) * np.array([0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 1, 1, 1])


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_agrees_with_the_whole_batch(name, weights):
    loss, Y = LOSSES[name]
    network = nn.serial(nn.dense(4), nn.stages.tanh(), nn.dense(3))
    ours, whole, state = steps_of(network, loss, (3,), shards=5)
    agree(ours, whole, state, nn.Batch(nn.Key(4).normal((3, 13)), Y, weights))


T = 6
STEPS = {
    "mean": nn.softmax_cross_entropy(),
    "sum": nn.softmax_cross_entropy(steps="sum"),
    "class weights": nn.softmax_cross_entropy(class_weights=[1.0, 0.5, 3.0]),
    "sigmoid": nn.sigmoid_cross_entropy(),
}
LENGTHS = 1 + nn.Key(7).integers(T, 13)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["", "lengths"])
@pytest.mark.parametrize("labels", ["each", "last"])
@pytest.mark.parametrize("name", STEPS)
def test_sequences_agree_with_the_whole_batch(name, labels, lengths, weights):
    loss, binary = STEPS[name], name == "sigmoid"
    shape = (T, 3, 13) if binary and labels == "each" else (T, 13)
    Y = nn.Key(8).integers(2 if binary else 3, shape).astype(float)
    if labels == "last":
        Y = np.concatenate([Y[:1]] * 3) if binary else Y[:1]
    output = "all" if labels == "each" else "last"
    network = nn.serial(nn.rnn(4, output=output), nn.dense(3))
    batch = nn.Batch(nn.Key(4).normal((T, 2, 13)), Y, weights, lengths)
    ours, whole, state = steps_of(network, loss, (T, 2), shards=5)
    agree(ours, whole, state, batch)


@given(st.data())
@settings(max_examples=8)
def test_shards_add_up_for_any_network_batch_and_number_of_shards(data):
    task = data.draw(st.sampled_from(nn.losses.TASKS))
    n_out = {"two classes": 1, "many classes": 3, "several labels": 2}.get(task, 1)
    network = data.draw(strategies.networks(n_out=n_out, random=False, statistics=False))
    weighted = data.draw(st.booleans())
    batch = data.draw(strategies.batches(task, m=data.draw(st.integers(2, 9)), weighted=weighted))
    loss = data.draw(strategies.losses(task))
    ours, whole, state = steps_of(
        network, loss, (2,), shards=data.draw(st.integers(2, batch.count))
    )
    _, sum_of_shards = next(trace(ours, state, batch))
    theirs = next(r for name, r in trace(whole, state, batch) if name == "backward")
    assert sum_of_shards.cost == pytest.approx(theirs.cost, rel=1e-12, abs=1e-14)
    scale = 1 + np.abs(theirs.grads.vector).max(initial=0.0)
    assert np.abs(sum_of_shards.grads.vector - theirs.grads.vector).max(initial=0.0) < 1e-12 * scale


def test_weights_of_steps_by_hand():
    lengths = np.array([1, 3])
    batch = nn.Batch(np.zeros((3, 1, 2)), np.array([[0, 1.0], [1, 1], [0, 0]]), [[2, 1]], lengths)
    for loss, weight in (
        (nn.softmax_cross_entropy(), 2 + 3),
        (nn.softmax_cross_entropy(steps="sum"), 2 + 1),
        (nn.softmax_cross_entropy(class_weights=[1.0, 10.0]), 2 * 1 + 10 + 10 + 1),
    ):
        assert loss.weight_of((3, 2, 2), batch, nn.fast) == weight
        assert loss.weight_of((3, 2, 2), attrs.evolve(batch, weights=None), nn.fast) == {
            5: 4, 3: 2, 23: 1 + 10 + 10 + 1
        }[weight]  # fmt: skip


class TestOwnLosses:
    """A loss of a user's own that is a weighted mean needs no change."""

    def function(self, AL, Y, weights, context):
        w = np.ones((1, AL.shape[1])) if weights is None else weights
        total = w.sum()
        if total == 0:
            return 0.0, np.zeros_like(AL)
        return float((w * np.cosh(AL - Y)).sum() / total), w * np.sinh(AL - Y) / total

    @pytest.mark.parametrize("weights", [None, WEIGHTS])
    def test_agree_with_the_whole_batch(self, weights):
        loss = attrs.evolve(nn.mean_squared(), name="cosh", function=self.function)
        batch = nn.Batch(nn.Key(4).normal((3, 13)), nn.Key(5).normal((1, 13)), weights)
        ours, whole, state = steps_of(NETWORK, loss, (3,), shards=4)
        agree(ours, whole, state, batch)

    def test_may_say_by_what_their_mean_divides(self):
        def function(AL, Y, weights, context):  # an example counts by its label
            return float((Y * AL * AL).sum() / Y.sum()), 2 * Y * AL / Y.sum()

        loss = attrs.evolve(
            nn.mean_squared(), function=function, weight=lambda shape, Y, weights, context: Y.sum()
        )
        batch = nn.Batch(nn.Key(4).normal((3, 13)), 0.1 + nn.Key(5).uniform((1, 13)))
        ours, whole, state = steps_of(NETWORK, loss, (3,), shards=4)
        agree(ours, whole, state, batch)

    def test_are_refused_by_name_if_they_are_no_mean(self):
        loss = attrs.evolve(nn.mean_squared(), name="contrastive", mixes_examples=True)
        with pytest.raises(nn.BadInput, match="contrastive is not a mean over examples"):
            nn.make_train_step(NETWORK, loss, nn.adam(), shards=2)


# Everything random, and everything that is kept


class TestBatchNorm:
    network = nn.serial(nn.dense(4), nn.batch_norm(per_shard=True), nn.dense(1))

    def test_is_refused_unless_it_says_per_shard(self):
        deep = nn.serial(nn.residual(nn.serial(nn.dense(3), nn.batch_norm())), nn.dense(1))
        with pytest.raises(nn.BadInput, match="batch_norm mixes all examples of a batch"):
            nn.make_train_step(deep, nn.mean_squared(), nn.adam(), shards=2)

    def test_running_statistics_are_the_mean_of_those_of_the_shards(self):
        step, state, batch = parts_of(self.network, nn.mean_squared(), shards=3)
        after, _ = step(state, batch)
        own = [step.of_shard(state, batch, s).statistics.vector for s in range(3)]
        expected = ((own[0] + own[1]) + own[2]) / 3
        assert np.array_equal(after.statistics.vector, expected)
        W, b = state.parameters["0/W"], state.parameters["0/b"]
        for s in range(3):
            Z = W @ examples_of_shard(batch, s, 3).X + b
            mean = step.of_shard(state, batch, s).statistics["1/mean"]
            assert mean == pytest.approx(0.1 * Z.mean(axis=1, keepdims=True))

    def test_keeps_out_nan_where_the_optimizer_tolerates_it(self):
        optimizer = nn.optimizers.skip_not_finite(nn.adam())
        step = nn.make_train_step(self.network, nn.mean_squared(), optimizer, shards=2)
        state = nn.initial_state(self.network, optimizer, (3,), key=nn.Key(1))
        X = np.array(nn.Key(2).normal((3, 8)))
        X[0, 6] = np.nan
        with np.errstate(invalid="ignore"):
            after, _ = step(state, nn.Batch(X, X[:1] * 0 + 1))
        assert np.isfinite(after.statistics.vector).all()


def test_carried_states_are_refused_by_name():
    network = nn.serial(nn.lstm(3, output="last", initial="carried", examples=4), nn.dense(1))
    with pytest.raises(nn.BadInput, match="lstm carries a state from batch to batch"):
        nn.make_train_step(network, nn.mean_squared(), nn.adam(), shards=2)


class TestRandomness:
    network = nn.serial(
        nn.dropout(keep_prob=0.9), nn.dense(8), nn.dropout(keep_prob=0.5), nn.dense(1)
    )

    def test_a_shard_has_its_own_key_below_that_of_the_step(self):
        step, state, batch = parts_of(self.network, nn.mean_squared(), shards=4)
        record = step.of_shard(attrs.evolve(state, iteration=7), batch, 2)
        key = nn.Key(1).at("step", 7, "shard", 2)
        context = nn.Context(training=True, key=key)
        AL, _ = self.network.forward(state.parameters.tree, record.batch.X, context)
        assert AL.tobytes() == record.AL.tobytes()

    def test_shards_differ(self):
        step, state, batch = parts_of(self.network, nn.mean_squared(), shards=2, m=8)
        twice = nn.Batch(np.tile(batch.X[:, :4], 2), np.tile(batch.Y[:, :4], 2))
        first, second = (step.of_shard(state, twice, s) for s in (0, 1))
        assert np.array_equal(first.batch.X, second.batch.X)
        assert not np.array_equal(first.AL, second.AL)

    def test_augmentation_is_of_the_shard(self):
        augment = [nn.augmentation.random_brightness()]
        network = nn.serial(nn.stages.flatten(), nn.dense(1))
        optimizer = nn.adam()
        step = nn.make_train_step(network, nn.mean_squared(), optimizer, augment=augment, shards=2)
        assert repr(step) == "TrainStep(gradients(augment, forward, cost, backward), update)"
        state = nn.initial_state(network, optimizer, (2, 2, 1), key=nn.Key(1))
        batch = nn.Batch(np.zeros((2, 2, 1, 4)), np.ones((1, 4)))
        records = [step.of_shard(state, batch, s) for s in (0, 1)]
        for s, record in enumerate(records):
            key = nn.Key(1).at("step", 0, "shard", s, "augment", 0)
            X = augment[0](key, examples_of_shard(batch, s, 2).X)
            assert np.array_equal(record.batch.X, X)
        assert not np.array_equal(records[0].batch.X, records[1].batch.X)

    def test_penalties_and_gradient_noise_come_once_after_the_sum(self):
        network, loss, penalties = nn.dense(1), nn.mean_squared(), [nn.l2_penalty(0.7)]
        optimizer = nn.optimizers.chain(
            nn.optimizers.gradient_noise(0.1), nn.gradient_descent(learning_rate=0.1)
        )
        state = nn.initial_state(network, optimizer, (3,), key=nn.Key(1))
        X = nn.Key(2).normal((3, 13))
        batch = nn.Batch(X, X[:1])
        steps = [
            nn.make_train_step(network, loss, optimizer, penalties=penalties, shards=shards)
            for shards in (1, 5)
        ]
        assert steps[1].names == ("gradients", "penalties", "update")
        (one, info), (other, sharded) = (step(state, batch) for step in steps)
        assert sharded.cost == pytest.approx(info.cost, rel=1e-14)
        assert other.parameters.vector == pytest.approx(one.parameters.vector, rel=1e-13)


@pytest.mark.parametrize("numerics", [nn.fast, nn.portable], ids=["fast", "portable"])
def test_float32_stays_float32(numerics):
    network = nn.serial(nn.dense(4), nn.batch_norm(per_shard=True), nn.relu(), nn.dense(1))
    ours, _, state = steps_of(
        network, nn.mean_squared(), (3,), shards=3, dtype=np.float32, numerics=numerics
    )
    X = nn.Key(2).normal((3, 13)).astype(np.float32)
    batch = nn.Batch(X, X[:1], np.ones((1, 13), np.float32))
    _, record = next(trace(ours, state, batch))
    assert record.grads.vector.dtype == record.statistics.vector.dtype == np.float32
    after, _ = ours(state, batch)
    assert after.parameters.vector.dtype == np.float32


class TestWatchFinite:
    network = nn.serial(nn.dense(4), nn.relu(), nn.dense(1))

    def where(self, batch, change=lambda step: step):
        ours, _, state = steps_of(self.network, nn.mean_squared(), (3,), shards=4)
        ours = change(ours).insert_after("update", nn.watch_finite(self.network))
        with np.errstate(all="ignore"), pytest.raises(nn.NotFinite) as raised:
            ours(state, batch)
        return raised.value.where

    def test_names_the_shard_and_the_stage(self):
        X = np.ones((3, 8))
        X[1, 5] = np.nan
        assert self.where(nn.Batch(X, np.ones((1, 8)))) == "shard 2, forward, stage 0 (dense)"

    def test_names_the_shard_and_the_part(self):
        Y = np.ones((1, 8))
        Y[0, 7] = np.inf
        assert self.where(nn.Batch(np.ones((3, 8)), Y)) == "shard 3, cost"

    def test_names_the_sum(self):
        @nn.part(needs=["grads"], gives=["grads"])
        def enlarge(record):
            vector = np.full_like(record.grads.vector, 1e308)
            return attrs.evolve(record, grads=record.grads.with_vector(vector))

        batch = nn.Batch(np.ones((3, 8)), np.ones((1, 8)))
        where = self.where(batch, change=lambda step: step.insert_after("backward", enlarge))
        assert where == "gradients, the sum over shards"


def test_steps_with_shards_can_be_pickled():
    ours, _, state = steps_of(NETWORK, nn.mean_squared(), (3,), shards=4, executor=serial())
    ours = ours.insert_after("update", nn.watch_finite(NETWORK))
    batch = nn.Batch(nn.Key(2).normal((3, 13)), nn.Key(3).normal((1, 13)))
    again = pickle.loads(pickle.dumps(ours))
    assert repr(again) == repr(ours)
    assert again.parts[0].inside.executor is None
    for one in (again, copy.deepcopy(ours)):
        assert one(state, batch) == ours(state, batch)
    (_, record), *_ = trace(ours, state, batch)
    assert pickle.loads(pickle.dumps(record)).shards[1] == record.shards[1]
