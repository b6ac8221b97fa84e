"""Compare the compiled engine with NumPy: single passes, and whole steps, in turns in one process.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python tests/benchmarks/engines.py [--json]

Each row is the same function on the same arrays; both engines give the same bits, which is checked
first. Compiling is not part of the times; `--cold` says how long it takes with an empty cache.
"""

import json
import statistics
import time

import numpy as np
from environment import environment
from processes import FIRST, first_steps
from side_by_side import arguments

import pydnn as nn
from pydnn.engines import using_engine
from pydnn.optimizers import updated
from pydnn.parameters import layout_of, pack

SIZES = (784, 512, 256, 10)  # P2 of the suite
BATCH = 128
OPTIMIZERS = {
    "momentum": nn.momentum(learning_rate=0.01),
    "adam": nn.adam(),
    "adamw": nn.adamw(),
    "amsgrad": nn.amsgrad(),
    "nadam": nn.nadam(),
    "rmsprop": nn.rmsprop(),
    "lion": nn.lion(weight_decay=0.01),
}
ACTIVATIONS = {
    "relu": nn.relu(),
    "leaky_relu": nn.leaky_relu(),
    "tanh": nn.stages.tanh(),
    "sigmoid": nn.sigmoid(),
    "elu": nn.elu(),
    "gelu": nn.gelu(),
}


def main():
    parser = arguments(__doc__, blocks=15, steps=20)
    parser.add_argument("--cold", action="store_true", help="time the first step, cold and warm")
    parser.add_argument(
        "--busy",
        action="store_true",
        help="count the time of the processor instead of that of the clock; for one thread "
        "(OPENBLAS_NUM_THREADS=1) on a machine where others work",
    )
    args = parser.parse_args()
    works = dict(all_works())
    rows = {name: compared(work, args) for name, work in works.items()}
    result = {"microseconds": rows, "environment": environment()}
    if args.cold:
        result["first step, s"] = {n: first_steps(n, blocks=1, threads=2) for n in FIRST}
    print(json.dumps(result) if args.json else in_words(result))


def network():
    inner = [part for size in SIZES[1:-1] for part in (nn.dense(size), nn.relu())]
    return nn.serial(*inner, nn.dense(SIZES[-1]))


def all_works():
    """Yield the name of each work, and a function without arguments that does it once."""
    key = nn.Key(1)
    for name, optimizer in OPTIMIZERS.items():
        state = nn.initial_state(network(), optimizer, SIZES[:1], key=key, dtype=np.float32)
        grads = key.at("g").normal(state.parameters.vector.shape).astype(np.float32)
        grads.flags.writeable = False
        yield f"update by {name}", update(optimizer, grads, state)
    Z, dA = (key.at(n).normal((SIZES[1], BATCH)).astype(np.float32) for n in ("Z", "dA"))
    for name, stage in ACTIVATIONS.items():
        cache = stage.forward((), Z, nn.Context())[1]
        yield f"{name} forward", lambda stage=stage: stage.forward((), Z, nn.Context())[0]
        yield (
            f"{name} backward",
            lambda stage=stage, cache=cache: stage.backward((), cache, dA)[0],
        )
    yield from normalizations(key)
    yield from convolutions(key)
    yield from pools(key)
    yield "dense and relu forward", layer(key)
    yield "step of P2", step_of_p2(key)


def normalizations(key):
    """Columns of P2, images of P5f32, and steps of sequences."""
    for kind, shape in {
        "batch_norm": (SIZES[1], BATCH),
        "layer_norm": (SIZES[1], BATCH),
        "batch_norm of images": (32, 32, 16, 32),
        "layer_norm of steps": (32, 64, BATCH),
    }.items():
        stage = getattr(nn, kind.partition(" ")[0])()
        params = pack(stage.init(key, shape[:-1])[0], dtype=np.float32).tree
        Z, dA = (key.at(n).normal(shape).astype(np.float32) for n in ("Z", "dA"))
        context = nn.Context(training=True)
        cache = stage.forward(params, Z, context)[1]
        yield (
            f"{kind} forward",
            lambda s=stage, p=params, Z=Z, c=context: s.forward(p, Z, c)[0],
        )
        yield (
            f"{kind} backward",
            lambda s=stage, p=params, c=cache, dA=dA: s.backward(p, c, dA)[0],
        )


def convolutions(key):
    """The second and the first convolution of P5f32, of whose input nobody needs the gradient."""
    for shape, filters in (((16, 16, 16), 32), ((32, 32, 3), 16)):
        stage = nn.conv(filters, 3, padding="same")
        params, shape_out = stage.init(key, shape)
        layout = layout_of(params)
        params = pack(params, dtype=np.float32).tree
        A, dZ = (key.at(*s).normal((*s, 32)).astype(np.float32) for s in (shape, shape_out))
        cache = stage.forward(params, A, nn.Context())[1]

        def backward(stage=stage, params=params, cache=cache, dZ=dZ, layout=layout):
            gradients = np.empty(layout.size, np.float32)
            needed = len(cache.A_prev[0]) == 16
            stage.backward_into(params, cache, dZ, layout.views(gradients), needed)
            return gradients

        name = f"conv {shape[2]} to {filters}"
        yield f"{name} forward", lambda s=stage, p=params, A=A: s.forward(p, A, nn.Context())[0]
        yield f"{name} backward", backward


def pools(key):
    """The first pool of P5f32, and pools whose windows overlap."""
    for kind, size in (("max", 2), ("max", 3), ("average", 3)):
        stage = getattr(nn, f"{kind}_pool")(size, stride=2)
        A_prev = np.maximum(key.at(kind).normal((32, 32, 16, 32)), 0).astype(np.float32)
        A, cache = stage.forward((), A_prev, nn.Context())
        yield f"{kind}_pool {size} backward", lambda s=stage, c=cache, A=A: s.backward((), c, A)[0]


def update(optimizer, grads, state):
    return lambda: updated(optimizer, grads, state.optimizer_state, state.parameters)[1]


def layer(key):
    stage = nn.serial(nn.dense(SIZES[1]), nn.relu())
    state = nn.initial_state(stage, nn.adam(), SIZES[:1], key=key, dtype=np.float32)
    X = key.at("X").normal((SIZES[0], BATCH)).astype(np.float32)
    return lambda: stage.forward(state.parameters.tree, X, nn.Context())[0]


def step_of_p2(key):
    optimizer = nn.adam()
    train_step = nn.make_train_step(network(), nn.softmax_cross_entropy(), optimizer)
    state = nn.initial_state(network(), optimizer, SIZES[:1], key=key, dtype=np.float32)
    X = key.at("X").normal((SIZES[0], BATCH)).astype(np.float32)
    labels = np.arange(BATCH) % SIZES[-1]
    batch = nn.Batch(X, np.eye(SIZES[-1], dtype=np.float32)[labels].T)
    return lambda: train_step(state, batch)[0].parameters.vector


def compared(work, args):
    """Return the median microseconds of each engine, and the median of the ratios of turns."""
    results, times = {}, {"numpy": [], "compiled": []}
    now = time.process_time if args.busy else time.perf_counter
    for engine in times:
        with using_engine(engine):
            results[engine] = work().tobytes()
    if len(set(results.values())) != 1:
        raise SystemExit("the engines give different bits")
    for _ in range(args.blocks):
        for engine, taken in times.items():
            with using_engine(engine):
                begin = now()
                for _ in range(args.steps):
                    work()
                taken.append((now() - begin) / args.steps * 1e6)
    ratios = [b / a for a, b in zip(*times.values(), strict=True)]
    medians = {engine: statistics.median(taken) for engine, taken in times.items()}
    return {**medians, "ratio": statistics.median(ratios)}


def in_words(result):
    rows = [f"{'':29} {'numpy':>9} {'compiled':>9} {'ratio':>6}"]
    for name, row in result["microseconds"].items():
        rows.append(f"{name:29} {row['numpy']:9.1f} {row['compiled']:9.1f} {row['ratio']:6.2f}")
    for work, peers in result.get("first step, s", {}).items():
        for name, (seconds,) in peers.items():
            rows.append(f"first step of {work}, {name}: {seconds:.2f} s")
    return "\n".join([*rows, result["environment"]])


if __name__ == "__main__":
    main()
