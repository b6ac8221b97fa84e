import attrs
import numpy as np
import pytest

from pydnn import BadInput, batch_norm, dense, relu, serial
from pydnn.records import freeze
from pydnn.stages import Stage, tanh
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


def places(forward, shape_out, onnx):
    """A stage without parameters on examples of any shape."""
    return Stage(
        "places",
        lambda key, shape: ((), shape_out(shape)),
        lambda params, A_prev, context: (freeze(forward(A_prev)), ()),
        lambda params, cache, dA: (dA, ()),
        onnx=onnx,
    )


def test_a_stage_of_images_has_the_examples_first_and_each_example_as_it_is():
    pooled = places(
        lambda A: A.mean(axis=(0, 1)),
        lambda shape: shape[2:],
        lambda params, A, statistics: A.op("ReduceMean", axes=(1, 2), keepdims=0),
    )
    assert_onnx(pooled, shape_in=(4, 3, 2))
    convolved = places(  # by a kernel of 1 x 1, with channels before places as ONNX has them
        lambda A: np.einsum("hwcm,fc->hwfm", A, np.full((5, 2), 0.5, A.dtype)),
        lambda shape: (*shape[:2], 5),
        lambda params, A, statistics: (
            A.op("Transpose", perm=(0, 3, 1, 2))
            .op("Conv", np.full((5, 2, 1, 1), 0.5))
            .op("Transpose", perm=(0, 2, 3, 1))
        ),
    )
    assert_onnx(convolved, shape_in=(4, 3, 2))


def test_an_operator_may_have_several_outputs():
    last = places(
        lambda A: A[1:],
        lambda shape: (shape[0] - 1,),
        lambda params, A, statistics: A.op("Split", np.array([1, 2]), axis=1, outputs=2, output=1),
    )
    assert_onnx(last)
