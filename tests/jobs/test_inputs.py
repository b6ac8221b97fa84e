import warnings

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pydnn import BadInput, Batch, Key
from pydnn.jobs.inputs import Inputs, fit_inputs
from pydnn.jobs.job import prepare
from pydnn.jobs.standardization import Standardization
from pydnn.numerics.portable.cache import unchangeable
from pydnn.parameters import pack
from pydnn.recipes import Recipe
from pydnn.stages.dense import DenseParams

FITTED = Standardization([[1.0], [2.0]], [[2.0], [4.0]])
RECIPE = Recipe("x", "dense(1)", "mean_squared()", "momentum(learning_rate=0.1)", 5, seed=3)


def test_examples_are_standardized_in_their_own_dtype_then_cast():
    X = np.array([[3.0, 1.0], [2.0, 10.0]])
    seen = Inputs("float32", "fast", FITTED)(X)
    assert seen.dtype == np.float32
    assert seen.tolist() == [[1.0, 0.0], [0.0, 2.0]]
    assert X.tolist() == [[3.0, 1.0], [2.0, 10.0]]
    assert Inputs("float64", "fast")([[1, 2]]).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("numerics", ["fast", "portable"])
@given(X=arrays(np.float64, (2, 3), elements=st.floats(-1e3, 1e3)))
def test_any_memory_order_gives_the_same_read_only_columns(numerics, X):
    inputs = Inputs("float64", numerics, FITTED)
    forms = [np.ascontiguousarray(X), np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2]]
    for form in forms:
        seen = inputs(form)
        assert seen.flags.f_contiguous
        assert seen.tobytes("A") == inputs(X).tobytes("A")
        assert inputs.plain(form).tobytes() == seen.tobytes()


def test_portable_arithmetic_gets_a_copy_that_nobody_can_change():
    seen = Inputs("float64", "portable")(np.ones((2, 3)))
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        seen.flags.writeable = True
    assert type(seen.base) is type(unchangeable(seen).base) is bytes


def test_labels_and_weights_come_in_the_same_dtype():
    batch = Batch([[1.0, 2.0]], [[1.0, 0.0]], [[0.5, 1.5]])
    seen = Inputs("float32", "fast").examples(batch)
    assert {seen.X.dtype, seen.Y.dtype, seen.weights.dtype} == {np.dtype(np.float32)}
    assert seen.weights.tolist() == [[0.5, 1.5]]
    assert Inputs("float32", "fast").examples(Batch([[1.0]], [[1.0]])).weights is None


def test_lifted_parameters_are_those_before_rotation():
    X = Key(1).normal((30, 4))
    job = prepare(attrs.evolve(RECIPE, rotate=True), Batch(X, X[:1]))
    plain = prepare(attrs.evolve(RECIPE, rotate=False), Batch(X, X[:1]))
    assert job.state.parameters["W"].shape == (1, 5)
    lifted = job.inputs.lift(job.state.parameters)
    np.testing.assert_allclose(lifted.vector, plain.state.parameters.vector, atol=1e-14)
    assert plain.inputs.lift(plain.state.parameters) is plain.state.parameters
    np.testing.assert_allclose(job.inputs(X), job.data["train"].X, atol=1e-14)
    assert job.inputs.plain == plain.inputs
    np.testing.assert_array_equal(job.inputs.plain(X), X)


def test_only_the_training_part_is_fitted():
    inputs = fit_inputs(attrs.evolve(RECIPE, standardize=True), Batch([[0.0, 4.0]], [[0, 1]]))
    assert inputs.standardization == Standardization([[2.0]], [[2.0]])
    assert fit_inputs(RECIPE, Batch([[0.0, 4.0]], [[0, 1]])).standardization is None


def test_a_number_beyond_the_dtype_is_refused_without_a_warning():
    inputs = Inputs("float32", "fast")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BadInput, match="X as float32 holds inf in row 0, column 1"):
            inputs([[1.0, 1e300]])
        with pytest.raises(BadInput, match="Y as float32 holds inf in row 0, column 0"):
            inputs.examples(Batch([[1.0]], [[1e300]]))
        with pytest.raises(BadInput, match=r"X as float32 holds .*inf"):
            prepare(attrs.evolve(RECIPE, dtype="float32"), Batch([[1.0, 1e300]], [[1.0, 2.0]]))


def test_other_features_than_those_that_were_fitted_are_refused():
    with pytest.raises(BadInput, match=r"X has shape \(3, 1\), expected \(2, m\)"):
        Inputs("float64", "fast", FITTED)(np.ones((3, 1)))
    wide = prepare(attrs.evolve(RECIPE, rotate=True), Batch(np.eye(9)[:, :2], [[0.0, 1.0]]))
    with pytest.raises(BadInput, match=r"X has shape \(3, 1\), expected \(9, m\)"):
        wide.inputs(np.ones((3, 1)))
    with pytest.raises(BadInput, match=r"W has shape \(1, 7\), expected \(n_out, 3\)"):
        wide.inputs.lift(pack(DenseParams(np.ones((1, 7)), np.ones((1, 1)))))


def test_complex_examples_are_refused_writeable_or_not():
    X = np.ones((2, 3), complex)
    for examples in (X, np.broadcast_to(X, X.shape)):
        with pytest.raises(BadInput, match="complex numbers, expected real ones"):
            Inputs("float64", "fast")(examples)
