"""Training: a pure step, and its fold over batches."""

from pydnn.training.evaluation import evaluation, measure, value_of, values_of
from pydnn.training.finite import NotFinite, watch_finite
from pydnn.training.pipeline import Part, Shard, Step, StepInfo, TrainState, TrainStep, part, trace
from pydnn.training.step import initial_state, make_train_step, output_of, step_context
from pydnn.training.stopping import best, stop_after, stop_at, stop_early
from pydnn.training.streams import progress, scan, tee, thin

__all__ = [
    "NotFinite",
    "Part",
    "Shard",
    "Step",
    "StepInfo",
    "TrainState",
    "TrainStep",
    "best",
    "evaluation",
    "initial_state",
    "make_train_step",
    "measure",
    "output_of",
    "part",
    "progress",
    "scan",
    "step_context",
    "stop_after",
    "stop_at",
    "stop_early",
    "tee",
    "thin",
    "trace",
    "value_of",
    "values_of",
    "watch_finite",
]
