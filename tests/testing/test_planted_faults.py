"""Plant small bugs in correct stages, losses and optimizers: each must be found and named."""

import inspect

import attrs
import pytest
from testing import originals

from pydnn import (
    Batch,
    Key,
    dense,
    dropout,
    gradient_descent,
    initial_state,
    make_train_step,
    relu,
    serial,
    softmax_cross_entropy,
)
from pydnn.stages.dense import dense_backward_into
from pydnn.testing import (
    assert_gradient_transformation,
    assert_loss,
    assert_stage,
    assert_train_step,
)
from pydnn.training import step_context

SHAPES = {"largest_of_two": (4,), "affine": (3,)}
LOOPS = {
    "heavy": originals.heavy_loop,
    "moments": originals.moments_loop,
    "shorten": originals.shorten_loop,
}
STAGES = [
    "affine", "rectifier", "learned_slope", "largest_of_two", "shares", "drop", "normalize",
    "twice",
]  # fmt: skip
SEQUENCES = ["slide", "largest_in_windows", "recur", "mean_of_steps", "goes_on"]
LOSSES = ["half_squared", "log_cosh", "binary"]

# (original, text to replace, replacement, pattern of the finding; None for an edit that is right)
G = "gradients"
FAULTS = [
    # Gradients of parameters and inputs
    ("affine", "db = dZ.sum(axis=1, keepdims=True)", "db = 0 * params.b", r"b  .*WRONG"),
    ("affine", "db = dZ.sum(", "db = dZ.mean(", r"b  .*WRONG"),
    ("affine", "db = dZ.sum(axis=1, keepdims=True)",
     "db = 1.001 * dZ.sum(axis=1, keepdims=True)", r"b  .*WRONG"),
    ("affine", "dW = dZ @ A_prev.T", "dW = 1.001 * dZ @ A_prev.T", r"W  .*WRONG"),
    ("affine", "dW = dZ @ A_prev.T", "dW = dZ @ A_prev.T / dZ.shape[1]", r"W  .*WRONG"),
    ("affine", "dW = dZ @ A_prev.T", "dW = (dZ @ A_prev.T).T.copy()", r"W  .*WRONG"),
    ("affine", "dA_prev = params.W.T @ dZ", "dA_prev = params.W @ dZ", r"A_prev  .*WRONG"),
    ("affine", "dA_prev = params.W.T @ dZ", "dA_prev = params.W.T @ dZ + 1e-3", r"A_prev  .*WRONG"),
    ("affine", "dA_prev = params.W.T @ dZ",
     "dA_prev = params.W.T @ dZ; dA_prev[-1, -1] *= 1.0001", r"A_prev  .*WRONG"),
    ("affine", "Affine(freeze(dW), freeze(db))", "Affine(freeze(-dW), freeze(db))", r"W  .*WRONG"),
    ("affine", "db = dZ.sum(axis=1, keepdims=True)", "db = dZ[:, :1].copy()", r"b  .*WRONG"),
    ("affine", "db = dZ.sum(axis=1, keepdims=True)",
     "db = dZ[:, 1:].sum(axis=1, keepdims=True)", r"b  .*WRONG"),
    ("affine", "dW = dZ @ A_prev.T", "dW = dZ @ A_prev.T; dW[0, 0] = 0", r"W  .*WRONG"),
    ("rectifier", "freeze(Z > 0)", "freeze(Z < 0)", r"A_prev  .*WRONG"),
    ("rectifier", "dZ = dA * mask", "dZ = dA * 1", r"A_prev  .*WRONG"),
    ("rectifier", "freeze(Z > 0)", "freeze(Z > 0.3)", r"A_prev  .*WRONG"),
    ("learned_slope", "below = Z < 0", "below = Z > 0", r"a  .*WRONG"),
    ("learned_slope", "(dA * Z * below)", "(dA * Z)", r"a  .*WRONG"),
    ("learned_slope", "(dA * Z * below)", "(dA * below)", r"a  .*WRONG"),
    ("learned_slope", "params.a * dA, dA", "dA, params.a * dA", r"A_prev  .*WRONG"),
    ("learned_slope", ".sum(axis=1, keepdims=True)", ".sum(axis=1, keepdims=True) / dA.shape[1]",
     r"a  .*WRONG"),
    ("largest_of_two", "dZ[1::2] = np.where(first, 0, dA)", "dZ[1::2] = np.where(first, dA, 0)",
     r"A_prev  .*WRONG"),
    ("largest_of_two", "dZ[1::2] = np.where(first, 0, dA)", "dZ[1::2] = dA", r"A_prev  .*WRONG"),
    ("largest_of_two", "freeze(top >= low)", "freeze(top <= low)", r"A_prev  .*WRONG"),
    ("shares", "dZ = A * (dA - (dA * A).sum(axis=0))", "dZ = A * (1 - A) * dA", r"A_prev  .*WRONG"),
    ("shares", "(dA * A).sum(axis=0)", "(dA * A).sum(axis=1, keepdims=True)", r"A_prev  .*WRONG"),
    ("shares", "E.sum(axis=0)", "E.sum()", "- examples: A of a batch"),
    ("shares", "Z.max(axis=0)", "0.5 * Z.max()", None),  # the same, but overflows later
    ("drop", "dA.copy() if D is None else dA * D", "dA.copy()", r"A_prev  .*WRONG"),
    ("drop", "kept / keep", "kept / 1.0", "- mean of draws: over 4 keys the mean output is off"),
    ("drop", "kept / keep", "kept / keep**2", "- mean of draws: over 4 keys the mean output"),
    ("normalize", "- N * (dN * N).sum(axis=1, keepdims=True) / m", "", r"A_prev  .*WRONG"),
    ("normalize", "dN - dN.sum(axis=1, keepdims=True) / m -", "dN -", r"A_prev  .*WRONG"),
    ("normalize", "(dN * N).sum(axis=1, keepdims=True) / m",
     "(dN * N).sum(axis=1, keepdims=True) / (m - 1)", r"A_prev  .*WRONG"),
    ("normalize", "dN = dA * params.g", "dN = dA * 1", r"A_prev  .*WRONG"),
    ("normalize", "dg = (dA * N)", "dg = (dA * N * root)", r"g  .*WRONG"),
    ("normalize", "ds = dA.sum", "ds = dA.mean", r"s  .*WRONG"),
    ("normalize", "Scale(freeze(dg), freeze(ds))", "Scale(freeze(ds), freeze(dg))", r"g  .*WRONG"),
    ("normalize", "dZ = dN / root", "dZ = dN / (root * root)", r"A_prev  .*WRONG"),
    ("normalize", "if training:", "if True:", "normalize in evaluation: wrong for A_prev"),
    ("normalize", "Z.mean(axis=1, keepdims=True)", "Z.mean(axis=0, keepdims=True)",
     "- statistics: shapes are"),
    ("normalize", "Z.var(axis=1, keepdims=True)", "Z.var(axis=1, keepdims=True, ddof=1)", G),
    ("normalize", "variance + Z.dtype.type(epsilon))", "variance) + Z.dtype.type(epsilon)", G),
    # Sequences: convolutions, pools, recurrence, unequal lengths, carried states
    ("slide", "dX[k : k + T] +=", "dX[k : k + T] =", r"A_prev  .*WRONG"),
    ("slide", "n * k : n * (k + 1)]", "-n * (k + 1) : drows.shape[1] - n * k]",
     r"A_prev  .*WRONG"),
    ("slide", "[X[k : k + T] for", "[X[width - 1 - k :][:T] for", r"A_prev  .*WRONG"),
    ("slide", ".sum(axis=0)\n", ".mean(axis=0)\n", r"W  .*WRONG"),
    ("slide", "dZ.sum(axis=(0, 2))", "dZ[:-1].sum(axis=(0, 2))", r"b  .*WRONG"),
    ("slide", "shape[0] - width + 1, filters", "shape[0] - width, filters",
     "- shapes: A has shape"),
    ("largest_in_windows", "part +=", "part[...] =", r"A_prev  .*WRONG"),
    ("largest_in_windows", "first == k", "first <= k", r"A_prev  .*WRONG"),
    ("largest_in_windows", "argmax", "argmin", r"A_prev  .*WRONG"),
    ("largest_in_windows", "-(-(shape[0] - width + 1) // stride)", "(shape[0] - width) // stride",
     "- shapes: A has shape"),
    ("recur", "+ da) *", ") *", r"(W|U|A_prev)  .*WRONG"),
    ("recur", "dz @ A[t + 1].T", "dz @ A[t].T", r"U  .*WRONG"),
    ("recur", "(1 - A[t] ** 2)", "(1 - A[t + 1] ** 2)", r"W  .*WRONG"),
    ("recur", "db +=", "db =", r"b  .*WRONG"),
    ("recur", "np.where(valid[t], a, 0)", "a", "- padding: A depends on numbers in the padding"),
    ("recur", "np.where(valid[t], a, 0)", "np.where(valid[t], a, X[-1, 0])",
     "- padding: A depends on numbers in the padding"),
    ("recur", "np.where(valid[t], (dA[t] + da) * (1 - A[t] ** 2), 0)",
     "(dA[t] + da) * (1 - A[t] ** 2)", "- padding: .*\n- padding: dA_prev is not 0 in the pad"),
    ("recur", 'lengths="kept"', 'lengths="ended"', "- padding: "),
    ("mean_of_steps", "np.where(valid[:, np.newaxis], X, 0)", "X",
     "- padding: A depends on numbers in the padding"),
    ("mean_of_steps", "np.where(valid[:, np.newaxis], dA / counts, 0)",
     "np.where(valid[:, np.newaxis] | True, dA / counts, 0)",
     "- padding: dA_prev is not 0 in the padding"),
    ("mean_of_steps", "valid.sum(axis=0)", "np.full(X.shape[-1], len(X))",
     "- padding: A of a sequence without its padding differs"),
    ("mean_of_steps", 'lengths="ended"', 'lengths="kept"', "- padding: lengths is 'kept', but 5"),
    ("goes_on", "da = dA[t] + 0.5 * da", "da = dA[t]", r"a  .*WRONG"),
    ("goes_on", "if context.training else", "if False else", "- statistics: the output in tr"),
    ("goes_on", "Before(cache[1])", "state", "- statistics: a training step does not change"),
    ("goes_on", "else np.zeros_like", "else np.ones_like", None),  # any state to start from
    # Shapes of outputs and gradients
    ("affine", "Affine(freeze(dW), freeze(db))", "Affine(freeze(dW), freeze(db[:, 0]))",
     "- grads mirror params"),
    ("affine", "Affine(freeze(dW), freeze(db))", "(freeze(dW), freeze(db))",
     "- grads mirror params"),
    ("affine", "Affine(freeze(dW), freeze(db))", "Scale(freeze(dW), freeze(db))",
     "- grads mirror params"),
    ("affine", "np.zeros((units, 1))), (units,)", "np.zeros((units, 1))), (units + 1,)",
     "- shapes: A has shape"),
    ("affine", "return freeze(dA_prev), Affine", "return None, Affine", "- shapes: dA_prev has"),
    ("affine", "key.at(\"W\").normal((units, shape[0]))", "np.random.randn(units, shape[0])",
     "- init: init .*global random state"),
    # Purity
    ("affine", "return freeze(Z), A_prev", "A_prev[0] = 0; return freeze(Z), A_prev",
     "forward of stage .* breaks .*\n- purity: changes its argument A_prev"),
    ("rectifier", "A = np.maximum(Z, 0)", "A = np.maximum(Z, 0, out=Z)",
     "forward of stage .* breaks .*\n- purity: changes its argument A_prev"),
    ("rectifier", "dZ = dA * mask", "dA *= mask; dZ = dA",
     "backward of stage rectifier changes its argument dA"),
    ("rectifier", "return freeze(A), freeze", "return A, freeze", "returns A, which can be wr"),
    ("rectifier", "return freeze(A), freeze(Z > 0)", "return freeze(A), Z > 0",
     "returns cache, which can be written"),
    ("affine", "freeze(dW), freeze(db))", "dW, freeze(db))", None),  # a record freezes its arrays
    ("drop", "return freeze(A_prev.copy()), None", "return A_prev, None",
     "forward in evaluation returns A, which shares memory with its argument A_prev"),
    ("drop", "dA.copy() if", "dA if", "backward in evaluation changes its argument dA: its caller"),
    ("drop", "return freeze(dA_prev), ()", "return freeze(dA), ()", "its caller cannot write"),
    ("drop", "context.key.uniform(A_prev.shape)", "np.random.rand(*A_prev.shape)",
     "changes NumPy's global random state"),
    ("shares", "E = np.exp(", "np.seterr(over='ignore'); E = np.exp(", r"np\.seterr"),
    ("affine", "Z = params.W @ A_prev + params.b",
     "Z = params.W @ A_prev.ravel(order='K').reshape(A_prev.shape) + params.b",
     "depends on the memory layout of A_prev: in Fortran order"),
    ("affine", "def forward(params, A_prev, context):",
     "seen = []\n    def forward(params, A_prev, context):\n        seen.append(1)\n"
     "        A_prev = A_prev * len(seen)", "called twice with the same arguments, A"),
    # Examples, the training flag and keys
    ("affine", "params.W @ A_prev + params.b", "params.W @ A_prev + params.b + A_prev.mean()",
     "- examples: A of a batch is not that of its examples one by one in training"),
    ("affine", "Z = params.W @ A_prev", "Z = (1 + context.training) * params.W @ A_prev",
     "- training flag: training changes the output"),
    ("drop", "if not context.training:", "if False:", "raised|'NoneType'"),
    ("drop", "if not context.training:", "if True:", "- training flag: .* same output"),
    ("drop", "context.key.uniform", "type(context.key)(1).uniform",
     "- key: random=True is declared, but another key gives the same output"),
    ("drop", ", random=True", "", "- key: another key gives another output"),
    ("twice", "context.below(1)", "context.below(0)", None),  # the stages inside are hidden
    ("rebuild_twice", "context.below(1)", "context.below(0)",
     "- key: the stages at 0/ and 1/ draw from the same key|the stages at 1/ and 0/"),
    ("normalize", "else running.mean", "else Z.mean(axis=1, keepdims=True)",
     "in evaluation"),
    ("normalize", "0.9 * running.mean + 0.1 * mean", "(0.9 * running.mean + 0.1 * mean)[:, 0]",
     "- statistics: shapes are"),
    ("normalize", "return Running(freeze(new_mean), freeze(new_variance))", "return running",
     "- statistics: "),
    # Precision
    ("affine", "Z = params.W @ A_prev + params.b",
     "Z = np.float64(1) * params.W @ A_prev + params.b "
     "+ np.zeros(1)", "- precision: A is float64"),
    ("drop", "D = (kept / keep).astype(A_prev.dtype)", "D = kept / keep",
     "- precision: A is float64"),
    # Losses
    ("half_squared", "0.5 * D * D, D", "D * D, D", r"- gradients: .*half_squared without weights"),
    ("half_squared", "D = AL - Y", "D = Y - AL", G),
    ("log_cosh", "np.tanh(D)", "1.001 * np.tanh(D)", r"AL  .*WRONG"),
    ("regression", "shares / (shares.sum() * n)", "shares / n",
     "- mean over examples: the same batch"),
    ("regression", "shares / (shares.sum() * n)", "shares / (shares.sum() * n * m)",
     "- mean over examples: the same batch twice costs"),
    ("regression", "freeze(slopes * shares)", "freeze(slopes * shares / m)", r"AL  .*WRONG"),
    ("regression", "shares = shares / (shares.sum() * n)", "shares = shares / (m * n)",
     "- weights: weighted by"),
    ("regression", "if weights is None else weights", "", "- weights: weighted by"),
    ("regression", "losses, slopes = entries(AL, Y)",
     "losses, slopes = entries(AL, Y); losses = losses + 1", "- zero: the cost is 1 where"),
    ("regression", "freeze(slopes * shares)", "slopes * shares", "returns dAL, which can be wr"),
    ("regression", "float((losses * shares).sum())", "(losses * shares).sum(axis=1)",
     "- cost: the cost is array"),
    ("binary", "(A - Y) * shares", "(Y - A) * shares", r"AL  .*WRONG"),
    ("binary", "0.5 * (1 + np.tanh(0.5 * Z))\n        shares",
     "0.5 * (1 + np.tanh(Z))\n        shares",
     r"AL  .*WRONG"),
    ("binary", "- Z * Y", "- Z * Y * 0.9", r"AL  .*WRONG"),
    ("binary", "shares.sum() * len(Z)", "shares.sum()", None),  # a sum over labels is right too
    ("binary", "Z.shape[1]), Z.dtype)", "Z.shape[1]))", "- precision: dAL is float64"),
    # Optimizers
    ("heavy", "* grads.dtype.type(-rate)", "* grads.dtype.type(rate)", "- descent: after"),
    ("heavy", "type(0.9) + grads", "type(0.9) + grads * grads.dtype.type(0.1)",
     "- reference: param"),
    ("heavy", "Velocity(freeze(v))", "Velocity(state.v)", "- reference"),
    ("heavy", "v = state.v * grads.dtype.type(0.9) + grads",
     "v = state.v; v.flags.writeable = True; v *= grads.dtype.type(0.9); v += grads",
     "writes to an argument|changes its argument state"),
    ("heavy", "return freeze(updates), Velocity(freeze(v))", "return updates, Velocity(v)",
     "returns updates, which can be written to"),
    ("heavy", "def update(grads", "last = {}\n    def update(grads", None),
    ("heavy", "def update(grads, state, params, context=None):",
     "last = []\n    def update(grads, state, params, context=None):\n"
     "        last.append(0)\n        grads = grads / len(last)",
     "- purity: update called twice"),
    ("heavy", "np.zeros_like(params.vector)", "np.ones_like(params.vector)",
     "- zero gradients: update 0 moves entry 0"),
    ("heavy", "Velocity(freeze(v))", "Velocity(freeze(v[:3]))", "- state: state.v is"),
    ("moments", "t = state.count + 1", "t = state.count + 2", "- reference: parameters"),
    ("moments", "Moments(t, ", "Moments(t + 1, ", "- reference: parameters"),
    ("moments", "(np.sqrt(v_hat) + real(epsilon))", "np.sqrt(v_hat + real(epsilon))",
     "- reference: parameters"),
    ("moments", "grads * grads", "np.abs(grads)", "- reference"),
    ("moments", "v_hat = v / real(1 - beta2**t)", "v_hat = v", "- reference"),
    ("moments", "real(1 - beta1) * grads", "real(beta1) * grads", "- reference"),
    ("moments", "m_hat = m / real(1 - beta1**t)", "m_hat = m / real(1 - beta2**t)", "- reference"),
    ("moments", "real(-rate)", "np.float64(-rate)", "- precision: updates is float64"),
    ("shorten", "min(1.0, limit / length)", "limit / length", "- reference"),
    ("shorten", "np.sqrt((grads * grads).sum())", "(grads * grads).sum()", "- reference"),
    ("shorten", "update(grads, state, params, context=None):",
     "update(grads, state, params, context=None):\n        grads = grads + context.key.normal(8)",
     "- key: another key gives other updates"),
    # Parts of a training step
    ("clip", "vector = np.clip(step.grads.vector, -0.5, 0.5)",
     "vector = np.clip(step.grads.vector, -0.5, 0.5) + np.random.rand()",
     "- purity: changes NumPy's global random state"),
    ("clip", "vector = np.clip(", "step.state.parameters.vector[0] = 0; vector = np.clip(",
     "writes to an argument|changes its argument state"),
    ("clip", "-0.5, 0.5)", "-0.5, 0.5); calls.append(len(calls)); vector = vector * len(calls)",
     "- purity: called twice"),
]  # fmt: skip
FOUND = [fault for fault in FAULTS if fault[3] is not None]
HARMLESS = [fault for fault in FAULTS if fault[3] is None]


def edited(name, old, new):
    """Return all originals, with `old` replaced by `new` in the source of one."""
    text = inspect.getsource(getattr(originals, name))
    assert text.count(old) == 1, (name, old)
    names = dict(vars(originals)) | {"calls": []}
    exec(compile(text.replace(old, new), f"{name}.py", "exec"), names)
    # Originals that use the edited one are defined again too.
    for user in {"regression": ["half_squared"], "rebuild_twice": ["twice"]}.get(name, []):
        exec(inspect.getsource(getattr(originals, user)), names)
    return names


def prove(names, name, seed=0, examples=5):
    key = Key(seed)
    if name in LOSSES or name == "regression":
        loss = names["half_squared" if name == "regression" else name]()
        assert_loss(loss, outputs=1 + seed % 3, examples=examples, key=key)
    elif name in LOOPS:
        assert_gradient_transformation(names[name](), reference=LOOPS[name], key=key)
    elif name == "clip":
        network, optimizer = serial(dense(3), relu(), dense(1)), gradient_descent(learning_rate=0.1)
        step = make_train_step(network, originals.half_squared(), optimizer)
        batch = Batch(key.normal((2, examples)), key.at("Y").normal((1, examples)))
        state = initial_state(network, optimizer, (2,), key=key)
        assert_train_step(step.insert_after("backward", names["clip"]()), state, batch)
    else:
        options = {"examples": examples} if name == "goes_on" else {}
        stage = names["twice" if name == "rebuild_twice" else name](**options)
        shape = (2 * (1 + seed % 3),) if name == "largest_of_two" else (1 + (seed + 2) % 5,)
        if name in SEQUENCES:
            shape = (5 + seed % 4, *shape)
        assert_stage(stage, shape_in=shape, examples=examples, key=key)


def test_at_least_60_faults_are_planted():
    assert len(FOUND) >= 60


# Every second one is a slow test.
@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        pytest.param(
            *fault, marks=[pytest.mark.slow] * (number % 2), id=f"{fault[0]}-{fault[2]}"[:70]
        )
        for number, fault in enumerate(FOUND)
    ],
)
def test_every_planted_fault_is_found_and_named(name, old, new, message):
    with pytest.raises(AssertionError, match=message):
        prove(edited(name, old, new), name)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [fault[:3] for fault in HARMLESS],
    ids=[fault[2][:50] for fault in HARMLESS],
)
def test_harmless_edits_are_not_reported(name, old, new):
    prove(edited(name, old, new), name)


def halved(params, cache, dA, out, needs_dA_prev):
    dA_prev = dense_backward_into(params, cache, dA, out, needs_dA_prev)
    out[0][...] /= 2
    return dA_prev


def unfilled_if_not_needed(params, cache, dA, out, needs_dA_prev):
    return dense_backward_into(params, cache, dA, out, True) if needs_dA_prev else None


@pytest.mark.parametrize("backward_into", [halved, unfilled_if_not_needed])
def test_a_backward_into_that_writes_wrong_gradients_is_found(backward_into):
    with pytest.raises(AssertionError, match="- backward_into: from backward_into"):
        assert_stage(attrs.evolve(dense(2), backward_into=backward_into), shape_in=(3,))


# 100 shapes and seeds in all, of which 96 are slow tests.
@pytest.mark.parametrize(
    "seeds", [range(4), pytest.param(range(4, 100), marks=pytest.mark.slow)], ids=["4", "96"]
)
@pytest.mark.parametrize("name", [*STAGES, *SEQUENCES, *LOSSES, *LOOPS, "clip"])
@pytest.mark.slow
def test_the_originals_keep_all_laws_for_all_shapes_and_seeds(name, seeds):
    for seed in seeds:
        prove(vars(originals), name, seed, examples=2 + seed % 6)


# Parts of a step with shards, and losses that do not say by what their mean divides


def own_key_forgotten(step, network):
    """Draw from the key of the step instead of that of the shard."""

    def forward(record):
        state = record.state
        context = step_context(state.key, state.iteration)
        AL, cache = network.forward(state.parameters.tree, record.batch.X, context)
        return attrs.evolve(record, AL=AL, cache=cache)

    return step.replace("forward", forward)


def share_forgotten(step, network):
    """Count every shard the same, although the shards have different numbers of examples."""

    def cost(record):
        cost, dAL = originals.half_squared()(record.AL, record.batch.Y)
        count = record.shard.count
        return attrs.evolve(record, cost=cost / count, dAL=dAL / count)

    return step.replace("cost", cost)


def shard_before_remembered(step, network):
    """Add a little of the gradient of the shard that was computed before."""
    before = []

    def remember(record):
        vector = record.grads.vector
        if record.shard.number == 0:
            before.clear()
        changed = vector + 1e-3 * before[-1] if before else vector
        before.append(vector)
        return attrs.evolve(record, grads=record.grads.with_vector(changed))

    return step.insert_after("backward", remember)


def last_example_left_out(step, network):
    def shorten(record):
        batch = record.batch
        return attrs.evolve(record, batch=Batch(batch.X[:, :-1], batch.Y[:, :-1]))

    return step.insert_before("forward", shorten)


SHARD_FAULTS = {
    own_key_forgotten: "- shards: two shards with the same examples draw the same numbers",
    share_forgotten: r"- shards: the cost of all shards\[0\] is",
    shard_before_remembered: "- shards: computed in reverse order, vector",
    last_example_left_out: r"- shards: the (cost|gradients) of all shards",
}


def proved_with_shards(change):
    random = change is own_key_forgotten
    middle = dropout(keep_prob=0.5) if random else relu()
    network, optimizer = serial(dense(3), middle, dense(1)), gradient_descent(learning_rate=0.1)
    step = make_train_step(network, originals.half_squared(), optimizer, shards=3)
    batch = Batch(Key(1).normal((2, 8)), Key(2).normal((1, 8)))
    state = initial_state(network, optimizer, (2,), key=Key(3))
    return assert_train_step(change(step, network), state, batch, entries=4)


@pytest.mark.parametrize("fault", SHARD_FAULTS, ids=lambda fault: fault.__name__)
def test_every_fault_of_shards_is_found_and_named(fault):
    with pytest.raises(AssertionError, match=SHARD_FAULTS[fault]):
        proved_with_shards(fault)


def test_a_right_step_with_shards_obeys_their_law():
    assert proved_with_shards(lambda step, network: step).laws[-1] == "shards"


def test_a_loss_that_does_not_say_by_what_it_divides_is_found():
    def function(AL, Y, weights, context):  # class 1 counts three times
        own = (1 + 2 * Y[:1]) * (1 if weights is None else weights)
        cost, dAL = softmax_cross_entropy()(AL, Y, own, context)
        return cost, dAL

    wrong = attrs.evolve(softmax_cross_entropy(), name="weighing", function=function)
    with pytest.raises(AssertionError, match="- shards: without weights the costs of two parts"):
        assert_loss(wrong, outputs=2, zero_at=None)

    def weight(shape, Y, weights, context):
        return ((1 + 2 * Y[:1]) * (1 if weights is None else weights)).sum()

    assert_loss(attrs.evolve(wrong, weight=weight), outputs=2, zero_at=None)
    laws = assert_loss(attrs.evolve(wrong, mixes_examples=True), outputs=2, zero_at=None).laws
    assert "shards" not in laws
