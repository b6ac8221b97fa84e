"""pydnn trains neural networks as a fold of pure functions, on NumPy.

Import it as `nn`. `__all__` below is the table of contents: it lists what most programs use. The
rest is in the module of its family, e.g. `nn.optimizers.chain` or `nn.stages.tanh`. A module is
loaded when one of its names is first used.

Example:
    >>> X, Y = [[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]]
    >>> optimizer = nn.gradient_descent(learning_rate=0.1)
    >>> recipe = nn.Recipe("a line", nn.dense(1), nn.mean_squared(), optimizer, iterations=200)
    >>> nn.train(recipe, nn.Batch(X, Y)).model.predict([[3.0]]).round(1)
    array([[7.]])
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from pydnn.processors import set_up_openblas

if "numpy" not in sys.modules:  # OpenBLAS reads its variables when NumPy is loaded
    set_up_openblas()

if TYPE_CHECKING:
    from pydnn import (  # noqa: F401 - for type checkers alone
        augmentation,
        batches,
        data,
        interop,
        jobs,
        losses,
        metrics,
        numerics,
        optimizers,
        penalties,
        plots,
        recipes,
        reports,
        runs,
        stages,
        sweeps,
        testing,
        training,
        tutorial,
        workers,
    )
    from pydnn.batches import batches_of, full_batch, mini_batches
    from pydnn.checks import BadInput, MissingExtra
    from pydnn.data import Table, read_table, text
    from pydnn.descriptions.builders import build, describe, described
    from pydnn.jobs import Model, Trained, load_model, train
    from pydnn.keys import Key
    from pydnn.losses import (
        Loss,
        huber,
        mean_absolute,
        mean_squared,
        poisson,
        sigmoid_cross_entropy,
        softmax_cross_entropy,
    )
    from pydnn.metrics import (
        accuracy,
        confusion_matrix,
        f1_score,
        log_loss,
        most_likely,
        precision,
        r_squared,
        recall,
        roc_auc,
    )
    from pydnn.numerics import fast, portable
    from pydnn.optimizers import (
        GradientTransformation,
        adagrad,
        adam,
        adamw,
        amsgrad,
        average_parameters,
        clip_by_global_norm,
        clip_by_value,
        decay_weights,
        freeze_layers,
        gradient_descent,
        lion,
        momentum,
        nadam,
        nesterov,
        rmsprop,
    )
    from pydnn.optimizers.schedules import (
        cosine_decay,
        exponential_decay,
        inverse_time_decay,
        one_cycle,
        polynomial_decay,
        step_decay,
        warm_up,
    )
    from pydnn.penalties import l1_penalty, l2_penalty
    from pydnn.recipes.automatic import recipe_for
    from pydnn.recipes.recipe import Recipe
    from pydnn.records import Batch
    from pydnn.runs.run import Run
    from pydnn.stages import (
        Context,
        Stage,
        attention,
        average_pool,
        batch_norm,
        bidirectional,
        conv,
        dense,
        depthwise_conv,
        dropout,
        elementwise,
        elu,
        embedding,
        flatten,
        gelu,
        global_average_pool,
        global_max_pool,
        gru,
        layer_norm,
        leaky_relu,
        lstm,
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
        silu,
        softplus,
        transposed_conv,
    )
    from pydnn.stages.initializers import (
        constant,
        he_normal,
        he_uniform,
        lecun_normal,
        lecun_uniform,
        normal,
        orthogonal,
        truncated_normal,
        uniform,
        xavier_normal,
        xavier_uniform,
    )
    from pydnn.training import (
        NotFinite,
        TrainState,
        TrainStep,
        best,
        initial_state,
        make_train_step,
        measure,
        output_of,
        part,
        progress,
        scan,
        stop_after,
        stop_early,
        watch_finite,
    )
    from pydnn.training.evaluation import evaluation

__version__ = "0.2.0.dev0"

# No name in it is one of NumPy, toolz, itertools or Python itself, beside which it is used.
__all__ = [  # noqa: RUF022 - in the order of a reader
    # Jobs: a recipe, the model that training gives, and the recorded run
    "Recipe",
    "recipe_for",
    "train",
    "Trained",
    "Model",
    "load_model",
    "Run",
    # Stages: layers, and combinators that make networks of them; see also nn.stages.reshape
    "Stage",
    "Context",
    "dense",
    "conv",
    "depthwise_conv",
    "transposed_conv",
    "dropout",
    "batch_norm",
    "layer_norm",
    "rnn",
    "gru",
    "lstm",
    "bidirectional",
    "embedding",
    "one_hot",
    "positions",
    "attention",
    "max_pool",
    "average_pool",
    "global_max_pool",
    "global_average_pool",
    "flatten",
    "serial",
    "residual",
    "parallel",
    # Activations: elementwise functions; see also nn.stages.tanh and nn.stages.identity
    "elementwise",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "sigmoid",
    "softplus",
    # Initializers: how a layer draws its initial weights; see also nn.stages.initializers
    "constant",
    "normal",
    "truncated_normal",
    "uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "xavier_normal",
    "xavier_uniform",
    "orthogonal",
    # Losses: the cost of a network's output, and its gradient
    "Loss",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "mean_squared",
    "mean_absolute",
    "huber",
    "poisson",
    # Penalties: terms of the cost that grow with the weights
    "l1_penalty",
    "l2_penalty",
    # Optimizers: from gradients to updates of the parameters
    "GradientTransformation",
    "gradient_descent",
    "momentum",
    "nesterov",
    "adagrad",
    "rmsprop",
    "adam",
    "adamw",
    "amsgrad",
    "nadam",
    "lion",
    # Gradient transformations to combine with an optimizer, by nn.optimizers.chain
    "clip_by_global_norm",
    "clip_by_value",
    "decay_weights",
    "freeze_layers",
    "average_parameters",
    # Schedules: learning rates that depend on the iteration
    "cosine_decay",
    "exponential_decay",
    "inverse_time_decay",
    "polynomial_decay",
    "step_decay",
    "one_cycle",
    "warm_up",
    # Data: examples in columns, and their batches; see also nn.batches, nn.data, nn.augmentation
    "Batch",
    "Table",
    "read_table",
    "text",
    "full_batch",
    "mini_batches",
    "batches_of",
    # Training by hand: a pure step, made of parts, and its fold over batches
    "TrainState",
    "TrainStep",
    "part",
    "initial_state",
    "make_train_step",
    "scan",
    "output_of",
    # Streams of training steps: functions from stream to stream; see also nn.training
    "progress",
    "evaluation",
    "measure",
    "stop_after",
    "stop_early",
    "best",
    "watch_finite",
    # Metrics: how good predictions are; see also nn.metrics
    "accuracy",
    "confusion_matrix",
    "f1_score",
    "log_loss",
    "most_likely",
    "precision",
    "r_squared",
    "recall",
    "roc_auc",
    # Arithmetic: the fastest on this machine, or the same bits on every machine
    "fast",
    "portable",
    # Randomness: keys, from which numbers are drawn by address
    "Key",
    # Descriptions: parts as plain data
    "build",
    "describe",
    "described",
    # Errors: wrong input, a missing package, and numbers that are not finite
    "BadInput",
    "MissingExtra",
    "NotFinite",
]

# Where `__getattr__` looks for names, in this order, since each module imports only earlier ones.
_HOMES = [
    "checks",
    "keys",
    "records",
    "descriptions.builders",
    "numerics",
    "stages",
    "stages.initializers",
    "losses",
    "metrics",
    "penalties",
    "batches",
    "optimizers",
    "training",
    "data",
    "recipes",
    "jobs",
    "runs",
]
_MODULES = [
    "augmentation",
    "batches",
    "data",
    "interop",
    "jobs",
    "losses",
    "metrics",
    "numerics",
    "optimizers",
    "penalties",
    "plots",
    "recipes",
    "reports",
    "runs",
    "stages",
    "sweeps",
    "testing",
    "training",
    "tutorial",
    "workers",
]


if not TYPE_CHECKING:  # it would hide misspelled names from type checkers

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return importlib.import_module(f"pydnn.{name}")
        if name in __all__:
            for home in _HOMES:
                module = importlib.import_module(f"pydnn.{home}")
                if name in module.__all__:
                    value = globals()[name] = getattr(module, name)
                    return value
        raise AttributeError(f"module 'pydnn' has no attribute {name!r}{_hint(name)}")


def _hint(name: str) -> str:
    """Advice for an unknown name: the loaded module that has it, or the nearest name in pydnn."""
    from pydnn.other_names import suggestion

    for module in _MODULES:
        loaded = sys.modules.get(f"pydnn.{module}")
        if loaded is not None and name in getattr(loaded, "__all__", ()):
            return f": use pydnn.{module}.{name}"
    near = "" if name.startswith("_") else suggestion(name, __all__)
    return f": {near}" if near else ""


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
