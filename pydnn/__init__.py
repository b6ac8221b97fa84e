"""Deep networks trained as a fold of pure functions, on NumPy alone."""

from pydnn.builders import build, describe, described
from pydnn.checks import BadInput, MissingExtra
from pydnn.keys import Key
from pydnn.losses import Loss, sigmoid_cross_entropy
from pydnn.metrics import accuracy, classes_of
from pydnn.numerics import fast
from pydnn.optimizers import GradientTransformation, chain, gradient_descent, scale
from pydnn.records import Batch
from pydnn.stages import (
    EVALUATION,
    Context,
    Stage,
    dense,
    elementwise,
    identity,
    relu,
    serial,
    sigmoid,
    tanh,
)
from pydnn.training import (
    NotFinite,
    Part,
    Step,
    StepInfo,
    TrainState,
    TrainStep,
    initial_state,
    make_train_step,
    output_of,
    part,
    progress,
    scan,
    trace,
    watch_finite,
)

__all__ = [
    "EVALUATION",
    "BadInput",
    "Batch",
    "Context",
    "GradientTransformation",
    "Key",
    "Loss",
    "MissingExtra",
    "NotFinite",
    "Part",
    "Stage",
    "Step",
    "StepInfo",
    "TrainState",
    "TrainStep",
    "accuracy",
    "build",
    "chain",
    "classes_of",
    "dense",
    "describe",
    "described",
    "elementwise",
    "fast",
    "gradient_descent",
    "identity",
    "initial_state",
    "make_train_step",
    "output_of",
    "part",
    "progress",
    "relu",
    "scale",
    "scan",
    "serial",
    "sigmoid",
    "sigmoid_cross_entropy",
    "tanh",
    "trace",
    "watch_finite",
]
