"""A model as an ONNX file: from raw examples to labels and probabilities, or to numbers.

It has core operators alone, of opset 17, which every runtime since 2022 computes.
"""

from __future__ import annotations

import json

from pydnn import __version__
from pydnn.checks import BadInput
from pydnn.descriptions.builders import build
from pydnn.fingerprints import fingerprint
from pydnn.interop.onnx_file import onnx_file
from pydnn.jobs.model import Model
from pydnn.keys import Key
from pydnn.losses import Loss
from pydnn.recipes.layouts import without_weights
from pydnn.recipes.recipe import DTYPES
from pydnn.recipes.toml import write_recipe
from pydnn.stages.base import Shape, Stage, onnx_of
from pydnn.stages.graph import Graph, Value

__all__ = ["IN_FLOAT32", "graph_of", "onnx_bytes"]

# onnxruntime, the program that most people use, has these operators for float32 only.
IN_FLOAT32 = frozenset({"AveragePool", "Conv", "ConvTranspose", "GRU", "LSTM", "RNN"})


def onnx_bytes(model: Model) -> bytes:
    """The bytes of an ONNX file that computes what a model predicts: see `Model.to_onnx`.

    Raises:
        BadInput: If a stage or the loss cannot be exported, or the file would be larger than the
            format allows.
    """
    return onnx_file(graph_of(model), producer_version=__version__, metadata=_metadata(model))


def _metadata(model: Model) -> dict[str, str]:
    described = {
        "recipe": write_recipe(model.recipe),
        "parameters_sha256": fingerprint({"parameters": model.parameters.vector}),
    }
    if model.classes is not None:
        described["classes"] = json.dumps(model.classes, ensure_ascii=False)
    return described


def graph_of(model: Model) -> Graph:
    """The graph of a model, with its inputs and outputs.

    Sequences may have any number of steps if no part of the graph depends on it.
    """
    graph = _graph_for(model, model.shape)
    longer = (model.shape[0] + 1, *model.shape[1:])
    if model.columns is None and model.image_shape is None and model.takes(longer):
        return graph.with_any_steps(_graph_for(model, longer))
    return graph


def _graph_for(model: Model, shape_in: Shape) -> Graph:
    network: Stage = build(model.recipe.network, family="stage")
    loss: Loss = build(model.recipe.loss, family="loss")
    known = {
        slot.name: packed[slot.name]
        for packed in (model.statistics, model.parameters)
        for slot in packed.layout.slots
    }
    graph = Graph(DTYPES[model.recipe.dtype], known, in_float32=IN_FLOAT32)
    X = _prepared(graph, model, shape_in).shaped(lambda: shape_in)
    AL = onnx_of(network, model.parameters.tree, X, model.statistics.tree)
    if loss.onnx is None:
        raise BadInput(
            f"loss {loss.name} does not say how its predictions are written in ONNX: give its Loss "
            "the field onnx, (AL) -> predictions; see help(pydnn.stages.graph)."
        )
    # Laid out with zeros, which take no memory, only to learn how many outputs there are.
    _, shape = build(without_weights(model.recipe.network)).init(Key(0), shape_in)
    P = loss.onnx(AL)
    P = P if model.columns is None else model.columns.targets.onnx(P)
    _write_outputs(graph, loss.task(shape[-1]), P, shape, model.classes)
    return graph


def _prepared(graph: Graph, model: Model, shape_in: Shape) -> Value:
    """The examples as the network sees them, from the inputs of the graph."""
    if model.columns is not None:
        return model.columns.onnx(graph).cast(graph.dtype)
    if model.image_shape is None:
        X = graph.input("X", shape_in)
    else:  # as `data.columns_of` makes columns of bytes
        X = graph.input("images", model.image_shape, "uint8").cast(graph.dtype).op("Div", 255.0)
        if len(model.shape) == 1:
            X = X.op("Flatten", axis=1)
    fitted = model.inputs.standardization
    if fitted is None:
        return X
    return X.op("Sub", fitted.mean[:, 0]).op("Div", fitted.deviation[:, 0])


def _write_outputs(
    graph: Graph, task: str, P: Value, shape: Shape, names: tuple[str, ...] | None
) -> None:
    *steps, n_out = shape  # there are steps if the network has an output for each
    if task == "regression":
        graph.output("values", P, shape)
        return
    if task == "several labels":
        graph.output("labels", P.op("Greater", 0.5, dtype=bool), shape)
        graph.output("probabilities", P, shape)
        return
    axis = len(shape)  # after that of the examples
    if task == "two classes":  # the network gives the probability of class 1 alone
        n_out, P = 2, P.constant(1.0).op("Sub", P).op("Concat", P, axis=axis)
    number = P.op("ArgMax", axis=axis, keepdims=0, dtype="int64")
    label = number if names is None else P.constant(names, object).op("Gather", number)
    graph.output("label", label, tuple(steps))
    graph.output("probabilities", P, (*steps, n_out))
