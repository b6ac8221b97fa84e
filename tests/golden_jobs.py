"""Small jobs that together use every builder, whose results are the same on every machine.

As a program, it prints the fingerprints of their results on this machine, as entries of a Python
dictionary. With --json it also prints the fingerprints of both arithmetics, and the engine:

    python tests/golden_jobs.py [--json]
"""

from __future__ import annotations

import itertools
import json
import sys

import attrs
import numpy as np

from pydnn import Batch, Key, fast, portable
from pydnn.descriptions.text import read_description
from pydnn.engines import chosen_engine, engine_in_use, using_engine
from pydnn.fingerprints import fingerprint
from pydnn.jobs.job import prepare, run
from pydnn.numerics.battery import arithmetic_fingerprint
from pydnn.recipes.recipe import Recipe
from pydnn.records import freeze
from pydnn.runs.state_arrays import state_fingerprint

DTYPES = ("float64", "float32")
FEATURES, EXAMPLES = 120, 130  # some products then cut slices, and others do not


def examples(task):
    """Return the data of one task, made with correctly rounded operations only."""
    key = Key(7)
    X = key.at("X").normal((FEATURES, EXAMPLES))
    X[3] = 0.0
    X[:, 5] *= 2.0**-40
    X[7] *= 2.0**30
    if task == "images":
        X, task = X.reshape(6, 10, 2, EXAMPLES), "many classes"
    if task == "letters":  # whose next ones are to be predicted
        steps, words = 12, 9
        ids = key.at("ids").integers(words, (steps + 1, EXAMPLES)).astype(float)
        lengths = 1 + key.at("lengths").integers(steps, EXAMPLES)
        return Batch(freeze(ids[:-1]), freeze(ids[1:]), None, lengths)
    Y = {
        "two classes": X[:1] + X[1:2] * X[2:3] > 0,
        "many classes": key.at("Y").integers(4, (1, EXAMPLES)),
        "several labels": key.at("Y").integers(2, (3, EXAMPLES)),
        "regression": X[10:12] - X[12:14] * X[14:16],
        "counts": key.at("Y").integers(9, (1, EXAMPLES)),
    }[task]
    weights = 0.5 + key.at("weights").uniform((1, EXAMPLES))
    return Batch(freeze(X), freeze(Y.astype(float)), freeze(weights) if task == "counts" else None)


def job(
    task,
    network,
    loss,
    optimizer,
    *,
    penalties=(),
    augment=(),
    batches="full_batch",
    weights=None,
    **rest,
):
    def described(text, family):
        return read_description(text, family=family)

    return task, Recipe(
        data="golden",
        network=described(f"serial({network})", "stage"),
        loss=described(loss, "loss"),
        optimizer=described(optimizer, "optimizer"),
        penalties=[described(text, "penalty") for text in penalties],
        augment=[described(text, "augmentation") for text in augment],
        batches=described(batches, "batches"),
        weights=weights and described(weights, "weights"),
        iterations=6,
        numerics="portable",
        **rest,
    )


JOBS = {
    "tutorial": job(
        "two classes",
        "dense(20), relu, dense(7), relu, dense(5), relu, dense(1)",
        "sigmoid_cross_entropy",
        "gradient_descent(learning_rate=0.0075)",
        weights="tutorial(seed=1)",
        standardize=True,
        evaluate_every=3,
    ),
    "adam": job(
        "many classes",
        "dense(24, initializer=he_uniform), batch_norm, gelu, dropout(keep_prob=0.8), dense(4)",
        "softmax_cross_entropy(label_smoothing=0.1)",
        "adam(learning_rate=cosine_decay(0.01, steps=9))",
        penalties=["l2_penalty(0.3)"],
        batches="mini_batches(48)",
        standardize=True,
        validation=0.2,
        evaluate_every=2,
        seed=2,
    ),
    "adamw": job(
        "several labels",
        "dense(24, initializer=xavier_normal), layer_norm, tanh, dense(3)",
        "sigmoid_cross_entropy(positive_weight=[1.0, 2.0, 0.5], label_smoothing=0.1)",
        "adamw(learning_rate=warm_up(3, then=polynomial_decay(0.01, steps=9, power=1.7)))",
        batches="mini_batches(50, shuffle=False)",
        standardize=True,
        evaluate_every=3,
    ),
    "amsgrad": job(
        "regression",
        "dense(21, initializer=xavier_uniform), elu(alpha=0.7),"
        " residual(dense(21), gelu(approximate=True)), dense(2)",
        "mean_squared",
        "amsgrad(learning_rate=exponential_decay(0.01, factor=0.9, every=3))",
        penalties=["l1_penalty(0.1)"],
        standardize=True,
        evaluate_every=3,
    ),
    "nadam": job(
        "regression",
        "dense(20, initializer=lecun_normal), selu, dense(2, initializer=lecun_uniform)",
        "huber(delta=0.5)",
        "nadam(learning_rate=one_cycle(0.01, steps=6))",
        standardize=True,
    ),
    "momentum": job(
        "counts",
        "dense(18, initializer=orthogonal), silu, dense(1, initializer=normal)",
        "poisson",
        "momentum(learning_rate=joined([constant_rate(0.001), inverse_time_decay(0.001, decay=1)],"
        " starts=[2]))",
        standardize=True,
        evaluate_every=3,
    ),
    "nesterov": job(
        "two classes",
        "dense(19, initializer=uniform), softplus, parallel(dense(5), identity), sigmoid,"
        " dense(1, initializer=truncated_normal(scale=0.1))",
        "mean_absolute",
        "nesterov(learning_rate=step_decay(0.01, factor=0.5, every=2))",
        evaluate_every=4,
        standardize=True,
    ),
    "rmsprop": job(
        "many classes",
        "dense(18), leaky_relu, dense(9, initializer=constant(0.01)),"
        " dense(4, initializer=he_normal)",
        "softmax_cross_entropy(class_weights=[1.0, 2.0, 1.0, 0.5])",
        "rmsprop(learning_rate=0.001)",
        batches="mini_batches(32, keep_last=False)",
    ),
    "adagrad": job(
        "two classes",
        "dense(18), relu, dense(1, initializer=zeros)",
        "sigmoid_cross_entropy(positive_weight=2)",
        "adagrad",
        standardize=True,
    ),
    "lion": job(
        "two classes",
        "dense(18), tanh, dense(1)",
        "sigmoid_cross_entropy",
        "lion(learning_rate=0.001, weight_decay=0.1)",
        standardize=True,
    ),
    "clipped": job(
        "two classes",
        "dense(18), tanh, dense(1)",
        "sigmoid_cross_entropy",
        "skip_not_finite(accumulate(chain(look('before'), clip_by_value(0.5),"
        " clip_by_global_norm(0.5), gradient_noise(0.01), heavy_ball(averaged=True),"
        " decay_l1(0.01),"
        " scale_layers('b', factor=0.5), freeze_layers('2/b'), scale(2), decay_weights(0.01),"
        " descend(0.1), average_parameters), batches=2))",
        standardize=True,
    ),
    "by hand": job(
        "regression",
        "dense(18), silu, dense(2)",
        "mean_squared",
        "chain(scale_by_adam, scale_by_amsgrad, scale_by_nadam, scale_by_rms, scale_by_adagrad,"
        " sign_of_momentum, descend(0.001))",
        standardize=True,
    ),
    "rotated": job(
        "two classes",
        "dense(9), relu, dense(1)",
        "sigmoid_cross_entropy",
        "momentum(learning_rate=0.01)",
        penalties=["l2_penalty(0.3)"],
        standardize=True,
        rotate=True,
        validation=0.6,
        evaluate_every=2,
    ),
    "rnn": job(
        "many classes",
        "reshape(5, 24), rnn(21, initial='learnt'), "
        "rnn(9, output='last', activation='relu', reverse=True), dense(4)",
        "softmax_cross_entropy",
        "adam",
        batches="mini_batches(32)",
        standardize=True,
    ),
    "gru": job(
        "many classes",
        "reshape(5, 24), bidirectional(gru(11)), gru(9, output='last', reset='before'), dense(4)",
        "softmax_cross_entropy",
        "adam",
        batches="mini_batches(32)",
        standardize=True,
    ),
    "lstm": job(
        "many classes",
        "reshape(5, 24), lstm(12, initial='carried', examples=32), lstm(5, output='last'),"
        " dense(4)",
        "softmax_cross_entropy",
        "adam",
        batches="mini_batches(32, keep_last=False)",
        standardize=True,
    ),
    "pools": job(
        "many classes",
        "reshape(6, 5, 4), max_pool(2, stride=1),"
        " average_pool((2, 3), stride=(2, 1), padding='same'),"
        " parallel(global_average_pool, global_max_pool), dense(4)",
        "softmax_cross_entropy",
        "momentum(learning_rate=0.01)",
        batches="mini_batches(32)",
        standardize=True,
    ),
    "transposed": job(
        "many classes",
        "reshape(6, 5, 4), transposed_conv(6, 3, stride=2, padding=1, groups=2), relu,"
        " max_pool(3), flatten, dense(4)",
        "softmax_cross_entropy",
        "momentum(learning_rate=0.01)",
        batches="mini_batches(32)",
        standardize=True,
    ),
    "letters": job(
        "letters",
        "parallel(one_hot(9), embedding(9, 7)), positions(kind='learnt'), batch_norm,"
        " residual(layer_norm, attention(2, causal=True)), dense(9)",
        "softmax_cross_entropy",
        "adam(learning_rate=0.01)",
        batches="mini_batches(32)",
    ),
    "attention": job(
        "many classes",
        "reshape(5, 24), positions, residual(attention(3, units=21)), gelu, flatten, dense(4)",
        "softmax_cross_entropy",
        "momentum(learning_rate=0.01)",
        batches="mini_batches(32)",
        standardize=True,
    ),
    "shapes": job(
        "many classes",
        "reshape(4, 5, -1), pad([(0, 1), 1]), crop(1), tanh, flatten, dense(4)",
        "softmax_cross_entropy",
        "momentum(learning_rate=0.01)",
        batches="mini_batches(32)",
        standardize=True,
    ),
    "images": job(
        "many classes",
        "reshape(6, 10, 2), conv(6, 3, stride=2, padding='same'), relu,"
        " conv(4, (2, 3), groups=2, padding=[(0, 2), 4], dilation=(1, 2), bias=False), tanh,"
        " depthwise_conv(2, multiplier=2), relu, flatten, dense(4)",
        "softmax_cross_entropy",
        "momentum(learning_rate=0.01)",
        batches="mini_batches(32)",
        standardize=True,
    ),
    "sequences": job(
        "many classes",
        "reshape(40, 3), conv(5, 4, stride=3), relu, depthwise_conv(3, padding=1), flatten,"
        " dense(4)",
        "softmax_cross_entropy",
        "momentum(learning_rate=0.01)",
        batches="mini_batches(32)",
        standardize=True,
    ),
    "augmented": job(
        "images",
        "conv(4, 3), relu, flatten, dense(4)",
        "softmax_cross_entropy",
        "momentum(learning_rate=0.01)",
        augment=[
            "random_flip",
            "random_flip(0.3, direction='up-down')",
            "random_shift(2)",
            "random_crop(0.7)",
            "random_brightness(0.1)",
        ],
        batches="mini_batches(32)",
        standardize=True,
        evaluate_every=3,
    ),
    "sharded": job(
        "counts",
        "dense(18), batch_norm(per_shard=True), relu, dropout(keep_prob=0.8), dense(1)",
        "poisson",
        "adam(learning_rate=0.01)",
        penalties=["l2_penalty(0.3)"],
        batches="mini_batches(48)",
        standardize=True,
        evaluate_every=3,
        shards=5,
    ),
}


def result(name, dtype):
    """Return fingerprints of the state after the job's last step, and of all observed numbers."""
    task, recipe = JOBS[name]
    return result_of(recipe, examples(task), dtype)


def result_of(recipe, batch, dtype):
    numbers, states = [], []
    for state, info in run(prepare(attrs.evolve(recipe, dtype=dtype), batch)):
        states = [state]
        numbers += [info.cost, info.gradient_norm, *info.measured.values()]
        numbers += [v for v in info.observed.values() if isinstance(v, int | float)]
    # The name "seen" is a part of the recorded fingerprints.
    return f"{state_fingerprint(*states)[:16]} {fingerprint({'seen': np.array(numbers)})[:16]}"


def results():
    return {
        f"{name}, {dtype}": result(name, dtype) for name, dtype in itertools.product(JOBS, DTYPES)
    }


def main():
    fingerprints = results()
    if "--json" not in sys.argv:
        for name, digits in fingerprints.items():
            print(f'    "{name}": "{digits}",')
        return
    with using_engine(chosen_engine()):
        arithmetic = {one.name: arithmetic_fingerprint(one) for one in (fast, portable)}
        engine = engine_in_use()
    print(json.dumps({"golden": fingerprints, "engine": engine, **arithmetic}))


if __name__ == "__main__":
    main()
