"""Checks for your own stages, losses, optimizers, schedules and training steps.

`pydnn.testing.strategies` has strategies for hypothesis; it needs the extra "testing".
"""

from pydnn.testing.differential import FrameworkReport, compare_with, framework_report
from pydnn.testing.gradients import (
    ArrayReport,
    GradientReport,
    check_function,
    check_gradients,
    gradient_report,
)
from pydnn.testing.losses import assert_loss
from pydnn.testing.onnx import assert_onnx
from pydnn.testing.optimizers import assert_gradient_transformation
from pydnn.testing.purity import assert_pure
from pydnn.testing.reports import BrokenLaw, Proof
from pydnn.testing.same_bits import BitsReport, bits_report, same_bits
from pydnn.testing.stages import assert_stage
from pydnn.testing.steps import assert_schedule, assert_train_step

__all__ = [
    "ArrayReport",
    "BitsReport",
    "BrokenLaw",
    "FrameworkReport",
    "GradientReport",
    "Proof",
    "assert_gradient_transformation",
    "assert_loss",
    "assert_onnx",
    "assert_pure",
    "assert_schedule",
    "assert_stage",
    "assert_train_step",
    "bits_report",
    "check_function",
    "check_gradients",
    "compare_with",
    "framework_report",
    "gradient_report",
    "same_bits",
]
