import numpy as np
import pytest

from pydnn.checks import (
    BadInput,
    MissingExtra,
    expect_count,
    expect_finite,
    expect_flag,
    expect_known,
    expect_real,
    expect_same_dtype,
    expect_shape,
    import_extra,
    plain_number,
)


@pytest.mark.parametrize("expected", [(2, 3), ("n", 3), ("n", "m")])
def test_shapes_that_fit_pass(expected):
    expect_shape("A", np.ones((2, 3)), expected, hint="unused")


@pytest.mark.parametrize(
    ("number", "plain"), [(np.int64(3), 3), (np.float32(0.5), 0.5), (np.False_, False), ("a", "a")]
)
def test_scalars_of_numpy_are_the_python_values_they_stand_for(number, plain):
    assert plain_number(number) == plain
    assert type(plain_number(number)) is type(plain)


REFUSED = {
    "shape": (
        lambda: expect_shape("A_prev", np.ones((5, 3)), (3, "m"), hint="pass X.T"),
        "A_prev has shape (5, 3), expected (3, m): pass X.T.",
    ),
    "axes": (
        lambda: expect_shape("Y", np.ones(3), (3, 1), hint="h"),
        "Y has shape (3,), expected (3, 1): h.",
    ),
    "an axis of an integer of NumPy's": (
        lambda: expect_shape("X", np.ones((2, 3)), (np.int64(4), "m"), hint="h"),
        "X has shape (2, 3), expected (4, m): h.",
    ),
    "a number is no truth value": (
        lambda: expect_flag("nesterov", np.int64(1)),
        "nesterov is np.int64(1), expected True or False: give one of them.",
    ),
    "a truth value of NumPy's is no count": (
        lambda: expect_count("units", np.True_, hint="give one"),
        "units is np.True_, expected an integer of at least 1: give one.",
    ),
    "dtype": (
        lambda: expect_same_dtype("X", np.ones(1, np.float32), np.dtype(np.float64)),
        "X is float32, but the parameters are float64: convert it with X.astype(np.float64).",
    ),
    "NaN": (
        lambda: expect_finite("X", np.array([[1.0, np.nan]])),
        "X holds nan in row 0, column 1, expected finite numbers: remove or replace it.",
    ),
    "count": (
        lambda: expect_count("units", 0, hint="give one"),
        "units is 0, expected an integer of at least 1: give one.",
    ),
    "a truth value is no count": (
        lambda: expect_count("units", True, hint="give one"),
        "units is True, expected an integer of at least 1: give one.",
    ),
    "infinite": (
        lambda: expect_real("rate", float("inf"), hint="h"),
        "rate is inf, expected a finite number: h.",
    ),
    "text for a number": (
        lambda: expect_real("rate", "1", hint="h"),
        "rate is '1', expected a finite number: h.",
    ),
    "not positive": (
        lambda: expect_real("rate", 0, positive=True, hint="h"),
        "rate is 0, expected a number above 0: h.",
    ),
    "nearly known": (
        lambda: expect_known("loss", "sigmoid_crossentropy", ["sigmoid_cross_entropy", "mse"]),
        "there is no loss 'sigmoid_crossentropy': did you mean 'sigmoid_cross_entropy'?",
    ),
    "unknown": (
        lambda: expect_known("loss", "xyz", ["b", "a"]),
        "there is no loss 'xyz': choose one of a, b.",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals_say_what_was_wrong_what_was_expected_and_what_to_do(call, message):
    with pytest.raises(BadInput) as refusal:
        call()
    assert str(refusal.value) == message


def test_a_missing_extra_names_the_command_that_brings_it():
    with pytest.raises(
        MissingExtra,
        match=r"^a plot needs no_such_thing, which is not installed"
        r": run pip install 'pydnn\[plot\]'\.$",
    ):
        import_extra("no_such_thing.part", extra="plot", purpose="a plot")
