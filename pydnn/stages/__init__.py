"""Stages: layers, activations and combinators, each backward directly below its forward."""

from pydnn.stages import activations
from pydnn.stages.activations import *  # noqa: F403 - so a new activation changes one file only
from pydnn.stages.attention import attention
from pydnn.stages.base import EVALUATION, Context, Stage, Statistics, elementwise, map_stages
from pydnn.stages.batch_norm import batch_norm
from pydnn.stages.bidirectional import bidirectional
from pydnn.stages.convolution import conv, depthwise_conv
from pydnn.stages.dense import dense
from pydnn.stages.dropout import dropout
from pydnn.stages.embedding import embedding, one_hot
from pydnn.stages.gru import gru
from pydnn.stages.layer_norm import layer_norm
from pydnn.stages.lstm import lstm
from pydnn.stages.parallel import parallel
from pydnn.stages.pooling import average_pool, global_average_pool, global_max_pool, max_pool
from pydnn.stages.positions import positions
from pydnn.stages.residual import residual
from pydnn.stages.rnn import rnn
from pydnn.stages.serial import serial
from pydnn.stages.shapes import crop, flatten, pad, reshape
from pydnn.stages.transposed_convolution import transposed_conv

__all__ = [
    "EVALUATION",
    "Context",
    "Stage",
    "Statistics",
    "attention",
    "average_pool",
    "batch_norm",
    "bidirectional",
    "conv",
    "crop",
    "dense",
    "depthwise_conv",
    "dropout",
    "elementwise",
    "embedding",
    "flatten",
    "global_average_pool",
    "global_max_pool",
    "gru",
    "layer_norm",
    "lstm",
    "map_stages",
    "max_pool",
    "one_hot",
    "pad",
    "parallel",
    "positions",
    "reshape",
    "residual",
    "rnn",
    "serial",
    "transposed_conv",
]
__all__ += activations.__all__
