"""The law of padding: numbers beyond the length of a sequence change no bit of a result."""

import numpy as np
import pytest
from helpers import arrays_in, frozen

from pydnn import (
    Context,
    Key,
    attention,
    batch_norm,
    dense,
    dropout,
    embedding,
    fast,
    gelu,
    layer_norm,
    one_hot,
    parallel,
    portable,
    positions,
    residual,
    serial,
)
from pydnn.sequences import valid_steps
from pydnn.testing.examples import draw_stage

T, M = 6, 5
LENGTHS = frozen(np.array([6, 1, 4, 2, 4]))
VALID = valid_steps(LENGTHS, T)[:, np.newaxis]

# Each takes sequences (T, 4), or ids (T,) below 4, and says that it keeps lengths.
STAGES = {
    "dense": (dense(3), (T, 4)),
    "wide dense": (dense(70), (T, 4)),  # of which `portable` cuts slices
    "layer norm": (layer_norm(), (T, 4)),
    "batch norm": (batch_norm(), (T, 4)),
    "dropout": (dropout(keep_prob=0.5), (T, 4)),
    "embedding": (embedding(4, 3), (T,)),
    "one hot": (one_hot(4), (T,)),
    "positions": (positions(), (T, 4)),
    "positions, learned": (positions("learned"), (T, 4)),
    "attention": (attention(2), (T, 4)),
    "attention, causal": (attention(1, units=70, causal=True), (T, 4)),
    "transformer": (
        serial(
            parallel(embedding(4, 3), one_hot(4)),
            positions(),
            residual(layer_norm(), attention(1)),
            dense(2),
        ),
        (T,),
    ),
    "network": (
        serial(dense(4), residual(layer_norm(), dense(4), gelu()), batch_norm(), dense(2)), (T, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("numerics", [fast, portable], ids=lambda one: one.name)
@pytest.mark.parametrize(("stage", "shape"), STAGES.values(), ids=STAGES)
def test_padding_changes_no_bit(stage, shape, numerics):
    assert stage.lengths == "kept"
    drawn = draw_stage(stage, shape, M, Key(4))
    context = Context(training=True, key=Key(5), numerics=numerics, lengths=LENGTHS)
    valid = VALID if drawn.A_prev.ndim == 3 else VALID[:, 0]
    results = []
    for padding in (0.0, 1e6, -3.7):
        A_prev = frozen(np.where(valid, drawn.A_prev, padding))
        A, cache = stage.forward(drawn.params, A_prev, context)
        # No gradient comes back from the padding: losses and stages that mix steps see to that.
        dA_prev, grads = stage.backward(drawn.params, cache, frozen(np.where(VALID, drawn.dA, 0)))
        assert np.isfinite(A).all()
        assert not np.where(valid, 0, dA_prev).any()
        bits = [np.where(VALID, A, 0), dA_prev, *arrays_in(grads)]
        if stage.statistics is not None:
            bits += arrays_in(stage.statistics.absorb(stage.statistics.init(drawn.params), cache))
        results.append([one.tobytes() for one in bits])
    assert results[0] == results[1] == results[2]
