"""What a recipe leaves out: the defaults of builders, which must never change in silence."""

import inspect

import pytest

import pydnn
from pydnn.descriptions.builders import _BUILDERS
from pydnn.stages.initializers import he_normal, normal, orthogonal, xavier_normal, xavier_uniform

ADAM = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
RECURRENT = {
    "output": "all", "reverse": False, "initial": "zero", "examples": None,
    "initializer": xavier_uniform(), "recurrent_initializer": orthogonal(),
}  # fmt: skip
DEFAULTS = {
    "attention": {"units": None, "causal": False, "initializer": xavier_normal()},
    "embedding": {"initializer": normal(scale=1.0)},
    "positions": {"kind": "sinusoidal", "initializer": normal(scale=0.02)},
    "average_pool": {"stride": None, "padding": "valid", "count_padding": False},
    "transposed_conv": {
        "stride": 1, "padding": "valid", "output_padding": 0, "dilation": 1, "groups": 1,
        "bias": True, "initializer": he_normal(),
    },
    "max_pool": {"stride": None, "padding": "valid"},
    "batch_norm": {"decay": 0.9, "epsilon": 1e-5, "per_shard": False},
    "conv": {
        "stride": 1, "padding": "valid", "dilation": 1, "groups": 1, "bias": True,
        "initializer": he_normal(),
    },
    "dense": {"initializer": he_normal()},
    "dropout": {"per_channel": False},
    "depthwise_conv": {
        "multiplier": 1, "stride": 1, "padding": "valid", "dilation": 1, "bias": True,
        "initializer": he_normal(),
    },
    "layer_norm": {"epsilon": 1e-5},
    "bidirectional": {"merge": "concat"},
    "gru": {**RECURRENT, "reset": "after"},
    "lstm": {**RECURRENT, "forget_bias": 1.0},
    "rnn": {**RECURRENT, "activation": "tanh"},
    "elu": {"alpha": 1.0},
    "gelu": {"approximate": False},
    "leaky_relu": {"slope": 0.01},
    "huber": {"delta": 1.0},
    "sigmoid_cross_entropy": {"positive_weight": 1.0, "label_smoothing": 0.0},
    "softmax_cross_entropy": {
        "label_smoothing": 0.0, "class_weights": None, "steps": "mean",
    },
    "adagrad": {"learning_rate": 0.01, "epsilon": 1e-10},
    "adam": {"learning_rate": 0.001, **ADAM},
    "adamw": {"learning_rate": 0.001, **ADAM, "weight_decay": 0.01, "only": ("W",)},
    "amsgrad": {"learning_rate": 0.001, **ADAM},
    "heavy_ball": {"decay": 0.9, "averaged": False, "nesterov": False},
    "lion": {
        "learning_rate": 0.0001, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0, "only": ("W",),
    },
    "momentum": {"decay": 0.9, "averaged": False},
    "nadam": {"learning_rate": 0.002, **ADAM, "momentum_decay": 0.004},
    "nesterov": {"decay": 0.9},
    "rmsprop": {"learning_rate": 0.001, "decay": 0.9, "epsilon": 1e-8},
    "scale_by_adagrad": {"epsilon": 1e-10},
    "scale_by_adam": ADAM,
    "scale_by_amsgrad": ADAM,
    "scale_by_nadam": {**ADAM, "momentum_decay": 0.004},
    "scale_by_rms": {"decay": 0.9, "epsilon": 1e-8},
    "sign_of_momentum": {"beta1": 0.9, "beta2": 0.99},
    "average_parameters": {"decay": None},
    "decay_l1": {"only": ("W",)},
    "decay_weights": {"only": ("W",)},
    "gradient_noise": {"decay": 0.55},
    "look": {"at": "norm"},
    "cosine_decay": {"final": 0.0},
    "exponential_decay": {"every": 1, "staircase": False},
    "inverse_time_decay": {"every": 1, "power": 1.0, "staircase": False},
    "one_cycle": {"rising": 0.3, "start_divisor": 25.0, "final_divisor": 1e4},
    "polynomial_decay": {"final": 0.0, "power": 1.0},
}  # fmt: skip
MODULES = (pydnn.stages, pydnn.losses, pydnn.optimizers)


def is_builder(thing):
    return any(builder.function is thing for builder in _BUILDERS.values())


def defaults_of(builder):
    parameters = inspect.signature(builder).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def plain(value):
    return getattr(value, "description", value)


def test_every_builder_with_defaults_is_in_the_table():
    found = {
        name
        for module in MODULES
        for name in module.__all__
        if is_builder(getattr(module, name)) and defaults_of(getattr(module, name))
    }
    assert found == set(DEFAULTS)


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_those_of_the_recipes_that_people_have(name):
    [builder] = {getattr(m, name) for m in MODULES if hasattr(m, name)}
    found = defaults_of(builder)
    expected = DEFAULTS[name]
    assert {k: plain(v) for k, v in found.items()} == {k: plain(v) for k, v in expected.items()}
