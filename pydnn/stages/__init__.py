"""Stages: one file each, with its records, forward, and backward right under it."""

from pydnn.stages.base import EVALUATION, Context, Stage, elementwise
from pydnn.stages.dense import dense
from pydnn.stages.identity import identity
from pydnn.stages.relu import relu
from pydnn.stages.serial import serial
from pydnn.stages.sigmoid import sigmoid
from pydnn.stages.tanh import tanh

__all__ = [
    "EVALUATION",
    "Context",
    "Stage",
    "dense",
    "elementwise",
    "identity",
    "relu",
    "serial",
    "sigmoid",
    "tanh",
]
