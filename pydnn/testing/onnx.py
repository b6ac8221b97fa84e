"""The check that a stage written in ONNX computes what its forward pass computes."""

from __future__ import annotations

import attrs
import numpy as np

from pydnn.batches import examples_first, examples_last
from pydnn.checks import BadInput, import_extra
from pydnn.keys import Key
from pydnn.parameters import pack
from pydnn.records import FloatArray
from pydnn.stages.base import Shape, Stage, onnx_of
from pydnn.stages.graph import Graph
from pydnn.testing.examples import after_training, draw_stage
from pydnn.testing.reports import Proof, Trial

__all__ = ["assert_onnx"]

_TOLERANCES = {"float64": 1e-12, "float32": 1e-6}


def assert_onnx(
    stage: Stage,
    *,
    shape_in: Shape = (3,),
    examples: int = 5,
    key: Key = Key(0),  # noqa: B008 - frozen
) -> Proof:
    """Check the field `onnx` of a stage against its `forward`, outside of training.

    The package onnx checks the graph and computes it with NumPy. Outputs may differ by 1e-12 in
    float64 and by 1e-6 in float32, beside the largest output if that is above 1.

    Args:
        stage: The stage; a network is a stage.
        shape_in: The shape of one example.
        examples: The number of examples, at least 2.
        key: The key that parameters and examples are drawn from.

    Returns:
        The laws that the stage keeps.

    Raises:
        BrokenLaw: If the outputs differ, or the graph is not valid.
        BadInput: If the stage cannot be exported.
        MissingExtra: If the package onnx is missing.

    Example:
        >>> from pydnn.testing import assert_onnx
        >>> print(assert_onnx(nn.serial(nn.dense(4), nn.gelu())))  # doctest: +SKIP
        stage serial keeps 2 laws: onnx in float64, onnx in float32
    """
    if not isinstance(stage, Stage):
        raise BadInput(f"got {stage!r}, expected a stage: call its builder, e.g. dense(4).")
    onnx = import_extra("onnx", extra="onnx", purpose="computing ONNX")
    reference = import_extra("onnx.reference", extra="onnx", purpose="computing ONNX")
    from pydnn.interop.onnx_file import onnx_file  # few checks need it

    drawn = draw_stage(stage, shape_in, examples, key)
    statistics = after_training(stage, drawn).statistics
    trial = Trial(f"stage {stage.name}")
    for dtype, tolerance in _TOLERANCES.items():
        params = pack(drawn.params, dtype=dtype).tree
        gathered = pack(statistics, dtype=dtype).tree if statistics else ()
        X = drawn.A_prev.astype(dtype)
        graph = Graph(dtype)
        A = onnx_of(stage, params, graph.input("A_prev", shape_in), gathered)
        graph.output("A", A, drawn.shape_out)
        with trial.law(f"onnx in {dtype}"):
            model = onnx.load_from_string(onnx_file(graph, producer_version="", metadata={}))
            onnx.checker.check_model(model, full_check=True)
            context = attrs.evolve(after_training(stage, drawn), statistics=gathered or None)
            expected, _ = stage.forward(params, X, context)
            with np.errstate(all="ignore"):  # it computes both sides of a choice
                rows = np.ascontiguousarray(examples_first(X))
                [outputs] = reference.ReferenceEvaluator(model).run(None, {"A_prev": rows})
            _compare(examples_last(outputs), expected, tolerance)
    return trial.proof()


def _compare(outputs: FloatArray, expected: FloatArray, tolerance: float) -> None:
    if (outputs.shape, outputs.dtype) != (expected.shape, expected.dtype):
        raise AssertionError(
            f"the graph gives {outputs.dtype} {outputs.shape}, but forward {expected.dtype} "
            f"{expected.shape}"
        )
    apart = np.abs(outputs - expected)
    bound = tolerance * max(1.0, float(np.abs(expected).max(initial=0.0)))
    if not (apart <= bound).all():
        place = tuple(int(i) for i in np.unravel_index(np.argmax(apart), apart.shape))
        raise AssertionError(
            f"the graph gives {outputs[place]:.9g} at {place}, but forward {expected[place]:.9g}"
        )
