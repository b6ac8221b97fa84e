"""Training: a pure step, and the fold of it over batches."""

from pydnn.training.finite import NotFinite, watch_finite
from pydnn.training.pipeline import Part, Step, StepInfo, TrainState, TrainStep, part, trace
from pydnn.training.steps import initial_state, make_train_step, output_of
from pydnn.training.streams import progress, scan

__all__ = [
    "NotFinite",
    "Part",
    "Step",
    "StepInfo",
    "TrainState",
    "TrainStep",
    "initial_state",
    "make_train_step",
    "output_of",
    "part",
    "progress",
    "scan",
    "trace",
    "watch_finite",
]
