import functools
import itertools
import pickle

import attrs
import numpy as np
import pytest

pytest.importorskip("numba", reason="the compiled engine needs numba")

import pydnn as nn
from pydnn import engines
from pydnn.compiled.steps import generated_text
from pydnn.optimizers.fused import PendingUpdate
from pydnn.training.finite import NotFinite

LOGITS, NUMBERS = nn.sigmoid_cross_entropy, nn.mean_squared
slow = pytest.mark.slow  # since compiling a step takes seconds


def step_and_state(stages, loss, optimizer, dtype=np.float64, *, numerics=nn.portable, units=5):
    layers = itertools.chain(*((nn.dense(units), stage) for stage in stages))
    network = nn.serial(*layers, nn.serial(nn.dense(2)))
    step = nn.make_train_step(network, loss, optimizer, numerics=numerics)
    step = step.insert_after("update", nn.watch_finite(network, numerics=numerics))
    return step, nn.initial_state(network, optimizer, (3,), key=nn.Key(1), dtype=dtype)


def batches(dtype, *, classes=False):
    for i in range(7):
        X, Y = (nn.Key(i).at(n).normal((k, 6 + i)).astype(dtype) for n, k in (("X", 3), ("Y", 2)))
        labels = (Y[: 1 if classes else 2] > 0).astype(dtype)
        yield nn.Batch(np.asarray(X, order="CF"[i % 2]), labels)


def taken(step, state, examples):
    """Every state and info of a training, as bytes and numbers."""
    for batch in examples:
        state, info = step(state, batch)
        yield state.parameters.vector.tobytes(), info
        yield [vector.tobytes() for vector in nn.parameters.leaves((state.optimizer_state,))]


CASES = {
    "float32": (
        [nn.relu(), nn.leaky_relu(slope=0.3), nn.stages.tanh()],
        LOGITS(label_smoothing=0.1),
        nn.momentum(learning_rate=0.1),
        np.float32,
    ),
    "float64": (
        [nn.elu(), nn.selu(), nn.softplus(), nn.sigmoid()],
        nn.mean_squared(),
        nn.adam(learning_rate=nn.step_decay(0.1, factor=0.5, every=3)),
        np.float64,
    ),
    "other activations": (
        [nn.gelu(), nn.gelu(approximate=True), nn.silu(), nn.stages.identity()],
        nn.huber(delta=0.5),
        nn.adamw(learning_rate=0.01, weight_decay=0.1),
        np.float32,
    ),
    "classes": (
        [nn.dropout(keep_prob=0.7), nn.serial(nn.relu(), nn.dropout(keep_prob=0.8))],
        nn.softmax_cross_entropy(),
        nn.adam(),
        np.float32,
    ),
    "other losses": ([nn.relu()], nn.poisson(), nn.gradient_descent(learning_rate=0.1), np.float64),
}


ARITHMETICS = pytest.mark.parametrize("numerics", [nn.fast, nn.portable], ids=["fast", "portable"])


@slow
@ARITHMETICS
@pytest.mark.parametrize("name", CASES)
def test_every_step_has_the_bits_of_the_numpy_path(name, numerics):
    step, state = step_and_state(*CASES[name], numerics=numerics)
    examples = list(batches(CASES[name][-1], classes=name == "classes"))
    expected = list(taken(step, state, examples))
    with engines.using_engine("compiled"):
        assert len(list(step.whole.take(state, examples[:1]))) == 1
        assert list(taken(step, state, examples)) == expected
        assert engines.engine_in_use() == "compiled"
        # Several steps at a time give every state between, and stop at a batch of another size.
        same, few = [examples[0], examples[0], batch_like(examples[0]), examples[1]], 3
        pairs = list(step.whole.take(state, same))
        assert len(pairs) == few
        assert list(of_pairs(pairs)) == list(taken(part_by_part(step), state, same[:few]))


ACTIVATIONS = {
    **{
        name: getattr(nn, name)()
        for name in ["elu", "gelu", "leaky_relu", "relu", "selu", "sigmoid", "silu"]
    },
    "gelu by tanh": nn.gelu(approximate=True),
    "softplus": nn.softplus(),
    "tanh": nn.stages.tanh(),
    "dropout": nn.dropout(keep_prob=0.7),
}
LOSSES = {
    "sigmoid": LOGITS(),
    "smoothed": LOGITS(label_smoothing=0.1),
    "squared": NUMBERS(),
    "absolute": nn.mean_absolute(),
    "huber": nn.huber(),
    "poisson": nn.poisson(),
    "softmax": nn.softmax_cross_entropy(),
}
OPTIMIZERS = {"gradient_descent": nn.gradient_descent, "momentum": nn.momentum, "adam": nn.adam}
SIZES = [
    (1, 1, 1, 2),
    (3, 1, 8, 9),
    (5, 7, 1, 33),
    (2, 16, 4, 32),
    (90, 5, 3, 129),
    (4, 3, 9, 200),
]


@slow
@ARITHMETICS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_all_parts_have_the_bits_of_the_numpy_path(
    activation, loss, dtype, numerics, texts_as_they_stand
):
    number = list(ACTIVATIONS).index(activation) + 3 * list(LOSSES).index(loss)
    n_in, units, n_out, m = SIZES[number % len(SIZES)]
    n_out += loss == "softmax"
    network = nn.serial(nn.dense(units), ACTIVATIONS[activation], nn.dense(n_out))
    optimizer = list(OPTIMIZERS.values())[number % 3](learning_rate=0.01)
    step = nn.make_train_step(network, LOSSES[loss], optimizer, numerics=numerics)
    state = nn.initial_state(network, optimizer, (n_in,), key=nn.Key(number), dtype=dtype)
    X = np.asarray(0.3 * nn.Key(1).normal((n_in, m)), dtype, order="CF"[number % 2])
    Y = nn.Key(2).integers(
        n_out if loss == "softmax" else 2, (1 if loss == "softmax" else n_out, m)
    )
    examples = [nn.Batch(X, Y.astype(dtype))] * 3
    expected = list(taken(step, state, examples))
    with engines.using_engine("compiled"):
        assert list(of_pairs(step.whole.take(state, examples))) == expected
        assert list(taken(step, state, examples)) == expected
        assert engines.engine_in_use() == "compiled"


def part_by_part(step):
    def by_numpy(state, batch):
        with engines.using_engine("numpy"):
            return step(state, batch)

    return by_numpy


def batch_like(batch):
    return nn.Batch(np.ascontiguousarray(batch.X[:, ::-1]), batch.Y)


def of_pairs(pairs):
    for state, info in pairs:
        yield state.parameters.vector.tobytes(), info
        yield [vector.tobytes() for vector in nn.parameters.leaves((state.optimizer_state,))]


@slow
@ARITHMETICS
def test_infinities_are_left_to_the_numpy_path_which_says_where_they_are(numerics):
    step, state = step_and_state(*CASES["other losses"], numerics=numerics)
    with engines.using_engine("compiled"):
        for number in (np.inf, np.nan, 1e308):
            batch = nn.Batch(np.full((3, 4), number), np.ones((2, 4)))
            assert not list(step.whole.take(state, [batch]))
            with (
                pytest.raises(NotFinite, match=r"in (forward, stage 0|cost)"),
                np.errstate(all="ignore"),
            ):
                step(state, batch)
        weighted = nn.Batch(np.ones((3, 4)), np.ones((2, 4)), weights=np.ones((1, 4)))
        assert not list(step.whole.take(state, [weighted]))
        few = 2000 if numerics is nn.portable else 1 << 20
        many = nn.Batch(np.ones((3, few)), np.ones((2, few)))  # left to BLAS
        assert not list(step.whole.take(state, [many]))


def test_the_text_is_the_same_for_the_same_description_and_numbers_are_no_part_of_it():
    texts = {
        generated_text(*step_and_state([nn.leaky_relu(slope=s)], NUMBERS(), nn.adam(beta1=b)))
        for s, b in ((0.1, 0.9), (0.1, 0.9), (0.2, 0.8))
    }
    (text,) = texts
    assert text.startswith(
        "def loop(table, stages, X, Y, p, x0, x1, moved_, y0_, y1_, room, calls):"
    )
    assert "n2 = float64(table[k, 6])" in text


def test_networks_that_differ_only_in_sizes_and_order_share_one_text():
    stages = [nn.relu(), nn.stages.tanh(), nn.relu()], [nn.relu(), nn.stages.tanh()]
    made = [
        step_and_state(each, NUMBERS(), nn.adam(), units=u)
        for each, u in zip(stages, (4, 9), strict=True)
    ]
    assert len({generated_text(*each) for each in made}) == 1


def doubled(stage):
    """The stage with twice its outputs, by a function that has the attributes of its `forward`."""

    @functools.wraps(stage.forward)
    def forward(params, A, context):
        A, cache = stage.forward(params, A, context)
        return 2 * A, cache

    return attrs.evolve(stage, forward=forward)


class Other:
    """Steps that have no compiled form, and what the message says of each."""

    def arithmetic():
        changed = attrs.evolve(nn.fast, exp=lambda x: 2 * np.exp(x))
        return step_and_state([nn.relu()], LOGITS(), nn.adam(), numerics=changed)

    def statistics():
        return step_and_state([nn.batch_norm()], LOGITS(), nn.adam())

    def optimizer():
        return step_and_state([nn.relu()], LOGITS(), nn.optimizers.chain(
            nn.clip_by_global_norm(1.0), nn.optimizers.descend(0.1)))  # fmt: skip

    def loss():
        smoothed = nn.softmax_cross_entropy(label_smoothing=0.1)
        return step_and_state([nn.relu()], smoothed, nn.adam())

    def part():
        step, state = step_and_state([nn.relu()], LOGITS(), nn.adam())
        return step.insert_after("backward", lambda step: step), state

    def evolved_backward():
        stage = nn.dropout(keep_prob=0.5)
        stage = attrs.evolve(stage, backward=lambda params, cache, dA: (dA, ()))
        return step_and_state([stage], LOGITS(), nn.adam())

    def wrapped_stage():
        return step_and_state([doubled(nn.relu())], LOGITS(), nn.adam())

    def wrapped_dropout():
        return step_and_state([doubled(nn.dropout(keep_prob=0.5))], LOGITS(), nn.adam())

    def wrapped_network():
        return step_and_state([doubled(nn.serial(nn.relu(), nn.dense(2)))], LOGITS(), nn.adam())

    def other_backward_into():
        stage = nn.relu()

        @functools.wraps(stage.backward_into)
        def halved(*arguments):
            return stage.backward_into(*arguments) / 2

        stage_ = attrs.evolve(stage, backward_into=halved)
        return step_and_state([stage_], LOGITS(), nn.adam())

    def vectors_of_another_dtype():
        @engines.compilable
        def kernel(factor, g, p, v, u, w):
            np.add(g, v, w)
            np.multiply(g, factor, u)

        own = nn.optimizers.number_by_number(
            lambda params: np.zeros(params.vector.size, np.float32),
            lambda state, *_: PendingUpdate(kernel, (state,), lambda w: w, -0.1),
        )
        return step_and_state([nn.relu()], LOGITS(), own)

    def activation():
        own = nn.elementwise("own", lambda Z, _: Z * Z, lambda dA, Z, A, _: dA * 2 * Z)
        return step_and_state([own], LOGITS(), nn.adam())


@pytest.mark.parametrize("name", [name for name in vars(Other) if not name.startswith("_")])
def test_other_steps_are_taken_part_by_part_and_the_reason_is_named(name):
    words = {
        "arithmetic": "'fast' arithmetic",
        "statistics": "other parts than forward, cost, backward and update",
        "optimizer": "not number by number",
        "part": "the part '<lambda>', which is not pydnn's own",
    }
    step, state = vars(Other)[name]()
    with pytest.raises(nn.BadInput, match=words.get(name, "not compiled as a whole")):
        generated_text(step, state)
    with engines.using_engine("compiled"):
        whole = step.whole
        assert whole is None or not list(
            whole.take(state, [nn.Batch(np.ones((3, 2)), np.ones((2, 2)))])
        )


def test_large_batches_are_not_copied_so_a_call_takes_steps_with_one_of_them(texts_as_they_stand):
    step, state, _ = trained(nn.fast, dtype=np.float64)
    one, other = (
        nn.Batch(nn.Key(k).normal((3, 4000)), nn.Key(k + 2).normal((2, 4000))) for k in (1, 2)
    )
    expected = list(of_pairs(nn.scan(step, state, [one, one, other, one])))
    with engines.using_engine("compiled"):
        assert 2 < step.whole.most(state, one) < step.whole.most(state, small_of(one))
        assert len(list(step.whole.take(state, [one, one, other, one]))) == 2
        assert len(list(step.whole.take(state, [small_of(one), small_of(other)]))) == 2
        assert list(of_pairs(nn.scan(step, state, [one, one, other, one]))) == expected


def small_of(batch):
    return nn.Batch(np.ascontiguousarray(batch.X[:, :9]), batch.Y[:, :9])


class Counted:
    """Batches that can be read again, and how many were read; one may raise an error."""

    def __init__(self, batches, *, broken=None):
        self.batches, self.broken, self.read = batches, broken, 0

    def __iter__(self):
        for number, batch in enumerate(self.batches):
            if number == self.broken:
                raise OSError("the disk is gone")
            self.read = number + 1
            yield batch


def costs_until(error, stream):
    """The costs of a stream that ends with an error, and that error."""
    costs = []
    with pytest.raises(error) as raised:
        costs.extend(until_raised(stream, costs))
    return costs, raised.value


def until_raised(stream, costs):
    for _, info in stream:
        costs.append(info.cost)
    yield from ()


def trained(numerics, *, rate=0.1, dtype=np.float32):
    step, state = step_and_state(
        [nn.relu()], NUMBERS(), nn.gradient_descent(learning_rate=rate), dtype, numerics=numerics
    )
    X, Y = (nn.Key(3).at(n).normal((k, 8)).astype(dtype) for n, k in (("X", 3), ("Y", 2)))
    return step, state, nn.Batch(X, Y)


@slow
@ARITHMETICS
def test_a_fold_takes_several_steps_in_a_call_and_nobody_can_tell(numerics):
    step, state, batch = trained(numerics)
    expected = list(of_pairs(nn.scan(step, state, [batch] * 20)))
    with engines.using_engine("compiled"):
        batches = Counted([batch] * 20)
        stream = nn.scan(step, state, batches)
        first = next(stream)
        assert batches.read == 20
        assert list(of_pairs([first, *stream])) == expected
        assert list(of_pairs(nn.scan(step, state, iter(batches), ahead=True))) == expected
        # Somebody else may go on with an iterator.
        shared = iter([batch] * 20)
        next(nn.scan(step, state, shared))
        assert len(list(shared)) == 19


@slow
@ARITHMETICS
@pytest.mark.parametrize(("scale", "steps"), [(2.0**-600, 3), (2.0**-190, 3), (2.0**190, 1)])
def test_gradients_whose_squares_are_very_small_or_large_have_the_length_that_numpy_finds(
    scale, steps, numerics
):
    step, state, batch = trained(numerics, dtype=np.float64)
    examples = [nn.Batch(batch.X * scale, np.zeros_like(batch.Y))] * steps
    with np.errstate(under="ignore"):
        expected = list(of_pairs(nn.scan(step, state, examples)))
        with engines.using_engine("compiled"):
            assert list(of_pairs(nn.scan(step, state, examples))) == expected


@slow
@ARITHMETICS
def test_an_error_of_the_batches_comes_after_the_steps_before_it(numerics):
    step, state, batch = trained(numerics)
    with engines.using_engine("compiled"):
        stream = nn.scan(step, state, Counted([batch] * 9, broken=5))
        costs, _ = costs_until(OSError, stream)
        assert len(costs) == 5


@slow
@ARITHMETICS
def test_training_stops_at_the_step_that_is_not_finite(numerics):
    step, state, batch = trained(numerics, rate=40.0)
    found = []
    for engine in ("numpy", "compiled"):
        with engines.using_engine(engine), np.errstate(all="ignore"):
            costs, error = costs_until(NotFinite, nn.scan(step, state, [batch] * 300))
            found.append((costs, error.iteration, error.where))
    assert found[0] == found[1]
    assert len(found[0][0]) == found[0][1] == 3


@pytest.mark.parametrize("first", [0, 3])  # the first step whose number depends on a vector
@pytest.mark.parametrize("is_so", [lambda v: v.max() < 1e9, lambda v: np.abs(v).max() > 1e-9])
def test_an_optimizer_may_choose_its_numbers_by_comparing_vectors(
    is_so, first, texts_as_they_stand
):
    @engines.compilable
    def kernel(factor, g, p, v, u, w):
        np.add(v / 2, g, w)
        np.multiply(w, factor, u)

    def begin(state, dtype, numerics):
        count, v = state
        factor = -0.1 if count >= first and is_so(v) else -0.01
        return PendingUpdate(kernel, (v,), lambda w: (count + 1, w), factor)

    own = nn.optimizers.number_by_number(lambda params: (0, np.zeros(params.vector.size)), begin)
    step, state = step_and_state([nn.relu()], NUMBERS(), own, numerics=nn.fast)
    examples = [next(batches(np.float64))] * 6
    expected = list(of_pairs(nn.scan(step, state, examples)))
    with engines.using_engine("compiled"):
        assert list(of_pairs(nn.scan(step, state, examples))) == expected
        assert len(list(step.whole.take(state, examples))) == 1


def with_vectors(state, change):
    """The state with changed vectors of Adam."""
    (adam, *others), evolve = state.optimizer_state, attrs.evolve
    vectors = change(adam.gradients), change(adam.squares)
    adam = evolve(adam, gradients=vectors[0], squares=vectors[1])
    return evolve(state, optimizer_state=(adam, *others))


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v[:-1].copy(),
        lambda v: np.append(v, [1.0]),
        lambda v: v.astype(np.float32),
        lambda v: np.repeat(v, 2)[::2],
        lambda v: np.append(np.zeros(1, np.uint8), v.view(np.uint8))[1:].view(v.dtype),
    ],
    ids=["shorter", "longer", "narrower", "with gaps", "not aligned"],
)
def test_vectors_that_a_kernel_cannot_read_are_left_to_numpy(change, texts_as_they_stand):
    step, state = step_and_state([nn.relu()], NUMBERS(), nn.adam(), numerics=nn.fast)
    batch = next(batches(np.float64))
    with engines.using_engine("compiled"):
        assert len(list(step.whole.take(state, [batch]))) == 1
        assert not list(step.whole.take(with_vectors(state, change), [batch]))


def test_arrays_that_were_pickled_are_taken_too(texts_as_they_stand):
    step, state, batch = trained(nn.fast)
    with engines.using_engine("compiled"):
        for examples in (batch, pickle.loads(pickle.dumps(batch))):
            for before in (state, pickle.loads(pickle.dumps(state))):
                assert len(list(step.whole.take(before, [examples]))) == 1


@ARITHMETICS
def test_a_batch_shows_what_its_memory_holds_now(numerics, texts_as_they_stand):
    step, state, batch = trained(numerics)
    X, Y = (np.array(array, order="F") for array in (batch.X, batch.Y))
    batch, results = nn.Batch(X, Y), {"numpy": [], "compiled": []}
    for engine, made in results.items():
        with engines.using_engine(engine):
            for array in (X, Y):
                made += of_pairs([step(state, batch)])
                array *= 2
                made += of_pairs([step(state, batch)])
                array /= 2
    assert results["numpy"] == results["compiled"]


def test_a_fold_asks_for_few_steps_after_one_without_a_form(texts_as_they_stand, monkeypatch):
    step, state, batch = trained(nn.fast)
    asked = []

    def take(self, state, batches):
        asked.append(len(batches))
        return iter(())

    with engines.using_engine("compiled"):
        monkeypatch.setattr(type(step.whole), "take", take)
        assert len(list(nn.scan(step, state, [batch] * 20))) == 20
    assert asked[0] == 20
    assert sum(asked) < 20 + 20 * 4
