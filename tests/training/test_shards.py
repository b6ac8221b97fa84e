import attrs
import numpy as np
import pytest

import pydnn as nn
from pydnn.numerics.blas_threads import blas_threads, using_blas_threads
from pydnn.training import Shard, trace
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


def test_results_are_readonly():
    vector = np.ones(2)
    total = ShardResult(1.0, vector, vector) + ShardResult(2.0, vector, vector)
    assert total == ShardResult(3.0, 2 * vector, 2 * vector)
    assert not total.vector.flags.writeable


@pytest.mark.skipif(blas_threads() is None, reason="the threads of this BLAS cannot be changed")
def test_the_number_of_blas_threads_changes_no_bit():
    batch = nn.Batch(nn.Key(2).normal((300, 256)), nn.Key(3).normal((1, 256)))
    recipe = nn.Recipe(
        data="normal numbers",
        network="serial(dense(200, initializer=orthogonal()), relu, dense(1))",
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
