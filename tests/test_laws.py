"""Check the laws of all stages, losses, optimizers, transformations and schedules, by tables."""

import numpy as np
import pytest
from helpers import arrays_in, can_be_written_to, frozen
from loops import LOOPS, parameters
from optimizers.test_schedules import WORKED as SCHEDULES
from optimizers.test_transformations import PARAMS
from optimizers.test_transformations import WORKED as TRANSFORMATIONS
from test_losses import WORKED as LOSSES

from pydnn import (
    BadInput,
    Batch,
    Context,
    Key,
    adam,
    attention,
    average_pool,
    batch_norm,
    bidirectional,
    conv,
    dense,
    depthwise_conv,
    describe,
    dropout,
    elu,
    embedding,
    flatten,
    gelu,
    global_average_pool,
    global_max_pool,
    gru,
    initial_state,
    l1_penalty,
    l2_penalty,
    layer_norm,
    leaky_relu,
    lstm,
    make_train_step,
    max_pool,
    one_hot,
    parallel,
    positions,
    relu,
    residual,
    rnn,
    selu,
    serial,
    sigmoid,
    sigmoid_cross_entropy,
    silu,
    softmax_cross_entropy,
    softplus,
    stages,
    transposed_conv,
)
from pydnn.optimizers import (
    heavy_ball,
    scale_by_adagrad,
    scale_by_adam,
    scale_by_amsgrad,
    scale_by_nadam,
    scale_by_rms,
    sign_of_momentum,
    skip_not_finite,
)
from pydnn.stages import crop, identity, pad, reshape, tanh
from pydnn.stages.initializers import normal, xavier_normal
from pydnn.testing import (
    assert_gradient_transformation,
    assert_loss,
    assert_schedule,
    assert_stage,
    assert_train_step,
)
from pydnn.testing.examples import after_training, draw_stage

STAGES = {
    "dense": dense(4),
    "dense, at every step": dense(4),
    "dense, one unit": dense(1, initializer=xavier_normal()),
    "identity": identity(),
    "relu": relu(),
    "leaky relu": leaky_relu(slope=0.2),
    "elu": elu(alpha=0.7),
    "selu": selu(),
    "gelu": gelu(),
    "gelu, approximate": gelu(approximate=True),
    "silu": silu(),
    "softplus": softplus(),
    "tanh": tanh(),
    "sigmoid": sigmoid(),
    "dropout": dropout(keep_prob=0.6),
    "dropout of channels": dropout(keep_prob=0.6, per_channel=True),
    "batch norm": batch_norm(),
    "conv": conv(3, (2, 3), stride=(1, 2), padding="same"),
    "conv of sequences": conv(2, 2, dilation=2, groups=2, padding=[(3, 0)]),
    "depthwise conv": depthwise_conv(2, multiplier=2),
    "layer norm": layer_norm(),
    "batch norm of sequences": batch_norm(),
    "layer norm of images": layer_norm(),
    "reshape": reshape(2, 3, -1),
    "flatten": flatten(),
    "crop": crop(((1, 0), (0, 1))),
    "pad": pad([(1, 2)]),
    "max pool": max_pool((2, 3), stride=(1, 2), padding="same"),
    "average pool": average_pool(2, padding=[(1, 0)]),
    "global average pool": global_average_pool(),
    "global max pool": global_max_pool(),
    "transposed conv": transposed_conv(2, 3, stride=2, padding=1, output_padding=1),
    "serial": serial(dense(4), tanh(), dense(2), sigmoid()),
    "serial in serial": serial(relu(), serial(dense(3, initializer=normal(scale=1)), tanh())),
    "serial, from a stage without backward_into": serial(layer_norm(), tanh(), dense(2)),
    "residual": residual(dense(4), tanh(), dense(3)),
    "parallel": parallel(dense(2), serial(tanh(), dense(3)), identity()),
    "parallel, of images": parallel(tanh(), serial(sigmoid(), identity()), relu()),
    "rnn": rnn(3),
    "rnn, last, learned, reverse": rnn(2, output="last", initial="learned", reverse=True),
    "rnn, relu": rnn(2, activation="relu"),
    "gru": gru(2),
    "gru, reset before, learned": gru(2, reset="before", initial="learned"),
    "lstm": lstm(2),
    "bidirectional": bidirectional(gru(2)),
    "bidirectional, last, sum": bidirectional(lstm(2, output="last"), merge="sum"),
    "embedding": embedding(5, 2),
    "one hot": one_hot(4),
    "positions": positions(),
    "positions, learned": positions("learned"),
    "attention": attention(2),
    "attention, causal": attention(3, units=6, causal=True),
    "a network of ids": serial(
        parallel(one_hot(5), embedding(5, 2)), positions(), residual(attention(1)), dense(2)
    ),
    "everything in everything": serial(
        parallel(residual(batch_norm(), dense(3), dropout(keep_prob=0.5)), layer_norm()),
        residual(layer_norm(), dense(6), batch_norm(decay=0.5)),
        dense(2),
    ),
}
SHAPES = {  # of one example; (3,) for all other stages
    "reshape": (4, 3),
    "flatten": (2, 3, 2),
    "crop": (3, 4, 2),
    "pad": (3, 2),
    "dropout of channels": (2, 3, 2),
    "conv": (3, 4, 2),
    "conv of sequences": (4, 2),
    "depthwise conv": (3, 3, 2),
    "max pool": (3, 4, 1),
    "average pool": (5, 2),
    "global average pool": (4, 2),
    "global max pool": (2, 3, 2),
    "transposed conv": (2, 3, 2),
    "parallel, of images": (4, 5, 5),
    "dense, at every step": (2, 3),
    "batch norm of sequences": (3, 2),
    "layer norm of images": (2, 2, 3),
    "embedding": (4,),
    "one hot": (3,),
    "positions": (4, 3),
    "positions, learned": (3, 2),
    "attention": (4, 6),
    "attention, causal": (3, 4),
    "a network of ids": (3,),
    "rnn": (4, 3),
    "rnn, relu": (3, 2),
    "gru": (3, 2),
    "gru, reset before, learned": (3, 3),
    "lstm": (4, 3),
    "bidirectional": (3, 2),
    "bidirectional, last, sum": (3, 2),
    "rnn, last, learned, reverse": (4, 3),
}
# Stages whose output may share memory with their input
SHARING = {
    "identity",
    "dropout",
    "dropout of channels",
    "reshape",
    "flatten",
    "positions",
    "positions, learned",
}


def test_every_stage_is_in_the_table():
    def names(description):
        for name, options in description.items():
            yield name
            for part in options.get("stages", ()):
                yield from names(part)

    table = {name for stage in STAGES.values() for name in names(describe(stage))}
    builders = {name for name in stages.__all__ if hasattr(getattr(stages, name), "family")}
    assert table == builders


GATHERING = [name for name, stage in STAGES.items() if stage.statistics]  # from few examples, too


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("name", "examples"), [*((name, 5) for name in STAGES), *((name, 2) for name in GATHERING)]
)
def test_stages(name, examples):
    assert_stage(
        STAGES[name],
        shape_in=SHAPES.get(name, (3,)),
        examples=examples,
        shares_input=name in SHARING,
        entries=6,  # one by one, and lines through all of them
    )


TAKE_LENGTHS = [
    name
    for name, shape in SHAPES.items()
    if STAGES[name].lengths != "refused" and len(shape) == 2  # (T, n)
]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", TAKE_LENGTHS)
def test_stages_of_sequences_of_unequal_length(name):
    shape = SHAPES[name]
    lengths = np.array([shape[0], 1, shape[0] - 1])
    options = {"lengths": lengths, "shares_input": name in SHARING, "entries": 6}
    assert_stage(STAGES[name], shape_in=shape, examples=3, **options)


CARRIED = {"rnn": rnn, "gru": gru, "lstm": lstm}


@pytest.mark.parametrize("build", CARRIED.values(), ids=CARRIED)
def test_stages_that_carry_their_state_from_batch_to_batch(build):
    stage = build(2, initial="carried", examples=3)
    assert_stage(stage, shape_in=(3, 2), examples=3, lengths=np.array([3, 1, 2]), entries=6)


@pytest.mark.parametrize("shape", [(6,), (4, 6), (3, 4, 6)], ids=str)
@pytest.mark.parametrize("name", STAGES)
def test_the_shape_that_init_promises_is_that_of_forward(name, shape):
    """Or `init` refuses the examples, and so does `forward`."""
    stage = STAGES[name]
    m = 2
    A_prev = frozen(Key(2).normal((*shape, m)) if stage.ids is None else np.ones((*shape, m)))
    try:
        _, shape_out = stage.init(Key(1), shape)
    except BadInput:
        drawn = draw_stage(stage, SHAPES.get(name, (3,)), m, Key(1))
        with pytest.raises(BadInput):
            stage.forward(drawn.params, A_prev, drawn.training)
        return
    drawn = draw_stage(stage, shape, m, Key(1), A_prev=A_prev)
    for context in (drawn.training, after_training(stage, drawn)):
        A, cache = stage.forward(drawn.params, A_prev, context)
        assert A.shape == (*shape_out, m)
        dA_prev, _ = stage.backward(drawn.params, cache, drawn.dA)
        assert dA_prev.shape == A_prev.shape


@pytest.mark.parametrize("name", STAGES)
def test_a_cache_keeps_no_array_that_its_caller_can_write_to(name):
    stage = STAGES[name]
    drawn = draw_stage(stage, SHAPES.get(name, (3,)), 5, Key(4))
    A_prev, dA = np.array(drawn.A_prev), np.array(drawn.dA)  # writable
    A, cache = stage.forward(drawn.params, A_prev, Context(training=True, key=Key(8)))
    outputs = (A, cache, stage.backward(drawn.params, cache, dA))
    assert not any(a.flags.writeable for a in arrays_in(outputs))
    assert A_prev.flags.writeable
    assert dA.flags.writeable


# A read-only view is not enough for an array that pydnn made: its base must be read-only too.
@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("training", [True, False], ids=["in training", "afterwards"])
def test_results_of_a_stage_are_not_views_of_writeable_arrays(name, training):
    stage = STAGES[name]
    drawn = draw_stage(stage, SHAPES.get(name, (3,)), 5, Key(4))
    A_prev, dA = frozen(drawn.A_prev), frozen(drawn.dA)
    context = drawn.training if training else after_training(stage, drawn)
    A, cache = stage.forward(drawn.params, A_prev, context)
    results = [A, cache, stage.backward(drawn.params, cache, dA)]
    if stage.statistics and training:
        results.append(stage.statistics.absorb(stage.statistics.init(drawn.params), cache))
    assert not any(map(can_be_written_to, arrays_in(results)))


# No prediction equals a smoothed label, and the Poisson loss omits a term of the likelihood.
NEVER_ZERO = {"sigmoid, smoothed to 0.25 and 0.75", "softmax, smoothed", "poisson"}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    loss, AL, *_ = LOSSES[name]
    by_class = {"outputs": len(AL)} if "weighted" in name else {}
    zero = {"zero_at": None} if name in NEVER_ZERO else {}
    assert_loss(loss, **by_class, **zero)


def test_a_loss_with_one_weight_per_label_keeps_its_laws():
    assert_loss(sigmoid_cross_entropy(positive_weight=[2, 0.5, 3]), outputs=3)


def test_a_loss_of_one_hot_labels_keeps_its_laws():
    Y = np.eye(3)[:, [0, 2, 1, 1]]
    assert_loss(softmax_cross_entropy(), AL=Key(1).normal((3, 4)), Y=Y, zero_at=lambda Y: 1e3 * Y)


@pytest.mark.parametrize(("optimizer", "loop"), LOOPS.values(), ids=LOOPS)
def test_optimizers_agree_with_the_loops_of_their_papers(optimizer, loop):
    assert_gradient_transformation(optimizer, params=parameters(), reference=loop)


PARTS = {
    "heavy_ball": heavy_ball(decay=0.5),
    "heavy_ball, averaged": heavy_ball(averaged=True),
    "heavy_ball, ahead": heavy_ball(nesterov=True),
    "sign_of_momentum": sign_of_momentum(),
    "scale_by_adagrad": scale_by_adagrad(),
    "scale_by_rms": scale_by_rms(),
    "scale_by_adam": scale_by_adam(),
    "scale_by_amsgrad": scale_by_amsgrad(),
    "scale_by_nadam": scale_by_nadam(),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_parts_of_optimizers(part):
    assert_gradient_transformation(part)


OPTIMIZERS = {
    **{name: optimizer for name, (optimizer, _) in LOOPS.items()},
    **{name: transformation for name, (transformation, _) in TRANSFORMATIONS.items()},
    **PARTS,
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_results_of_an_optimizer_are_not_views_of_writeable_arrays(optimizer):
    params = PARAMS.with_vector(frozen(PARAMS.vector))
    state = optimizer.init(params)
    results = optimizer.update(frozen(params.vector), state, params, Context(key=Key(3)))
    assert not any(map(can_be_written_to, arrays_in((state, results))))


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_transformations(name):
    assert_gradient_transformation(TRANSFORMATIONS[name][0], params=PARAMS)


@pytest.mark.parametrize("schedule", [s for s, _ in SCHEDULES.values()], ids=SCHEDULES)
def test_schedules(schedule):
    assert_schedule(schedule)


NETWORK = serial(batch_norm(), dense(4), tanh(), dropout(keep_prob=0.5), dense(1))
STEPS = {
    "plain": {},
    "with penalties": {"penalties": [l2_penalty(0.7), l1_penalty(0.3)]},
}


@pytest.mark.parametrize("options", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("weighted", [False, True])
def test_training_steps(options, weighted):
    optimizer = skip_not_finite(adam())
    step = make_train_step(NETWORK, sigmoid_cross_entropy(), optimizer, **options)
    X = Key(5).normal((3, 8))
    weights = 0.5 + Key(6).uniform((1, 8)) if weighted else None
    state = initial_state(NETWORK, optimizer, (3,), key=Key(7))
    assert_train_step(step, state, Batch(X, X[:1] > 0, weights))
