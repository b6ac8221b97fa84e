import attrs
import numpy as np
import pytest

from pydnn import BadInput, batch_norm, dense, relu, serial
from pydnn.stages import tanh
from pydnn.testing import BrokenLaw, assert_onnx

pytest.importorskip("onnx")


def test_a_stage_that_is_written_as_it_computes_is_proved_right():
    proof = assert_onnx(serial(dense(4), batch_norm(), tanh()))
    assert proof.laws == ("onnx in float64", "onnx in float32")


WRONG = {
    "other numbers": (lambda params, Z, statistics: Z.op("Sigmoid"), "the graph gives .* forward"),
    "another shape": (
        lambda params, Z, statistics: Z.op("Tanh").op("Concat", Z, axis=1),
        r"shape|gives float64 \(6, 5\), but forward float64 \(3, 5\)",
    ),
    "no such operator": (lambda params, Z, statistics: Z.op("Tnah"), "No Op registered for Tnah"),
    "half of the precision": (
        lambda params, Z, statistics: Z.cast("float32").op("Tanh").cast(Z.graph.dtype),
        "breaks 'onnx in float64'",
    ),
}


@pytest.mark.parametrize(("onnx", "message"), WRONG.values(), ids=WRONG)
def test_a_stage_that_is_written_otherwise_is_told(onnx, message):
    with pytest.raises(BrokenLaw, match=message):
        assert_onnx(attrs.evolve(tanh(), onnx=onnx))


def test_a_stage_that_is_not_written_is_refused():
    with pytest.raises(BadInput, match="does not say how it is written in ONNX"):
        assert_onnx(attrs.evolve(relu(), onnx=None))
    with pytest.raises(BadInput, match="expected a stage"):
        assert_onnx(np.ones(3))
