"""Programs that compute ONNX files, for tests: the evaluator of onnx, and onnxruntime."""

import numpy as np
import pytest


def evaluator(content):
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    evaluator = ReferenceEvaluator(model)

    def run(names, inputs):
        with np.errstate(all="ignore"):  # it computes both sides of a choice
            return evaluator.run(names, inputs)

    return run


def runtime(content):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options).run


RUNNERS = {"onnx": evaluator, "onnxruntime": runtime}
# Between casts, inputs and parameters of float64 are rounded too, before anything is computed.
TOLERANCE = {"float64": 1e-12, "float32": 1e-6, "float32 between casts": 1e-5}


def assert_near(found, expected, dtype, *, computed=None):
    """Compare results of a dtype, which were computed in that dtype or a smaller one."""
    assert found.dtype == dtype
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    atol = TOLERANCE[computed or dtype] * scale
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
