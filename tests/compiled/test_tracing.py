import numpy as np
import pytest

pytest.importorskip("numba", reason="the compiled engine needs numba")

from pydnn.compiled import tracing
from pydnn.compiled.kernels import TEXT_NAMES
from pydnn.compiled.loops import loop_of
from pydnn.compiled.tracing import Program, Symbol, Untraceable, needed_for

SPECIALS = [0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.5, 1e-40, 5e-324, 3e38]


def text_of(expression, dtype="float32"):
    """The loop of an expression of `x`; None if NumPy computes it."""
    return loop_of(
        lambda x, out: np.copyto(out, expression(x)),
        np.dtype(dtype),
        numbers=(),
        operands=["x"],
        results=["out"],
    )


def executed(loop, x):
    """The result of a loop that Python executes as it stands."""
    names = dict(TEXT_NAMES)
    exec(loop.text, names)
    out = np.empty_like(x)
    names["loop"](*loop.constants, x, out)
    return out


def same(a, b):
    return np.array_equal(a, b, equal_nan=True) and np.array_equal(
        np.signbit(a)[a == a], np.signbit(b)[b == b]
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "expression",
    [
        lambda x: np.clip(x, 0, 1),
        lambda x: np.clip(x, -0.0, 0.0),
        lambda x: np.clip(x, 3, 1),
        lambda x: np.clip(x, np.nan, 1),
        lambda x: np.clip(x, 0, np.nan),
        lambda x: np.maximum(x, 0) - np.minimum(0, x),
        lambda x: np.sign(x) * (x > 0),
        lambda x: np.where(np.logical_or(x > 0, x < -1), x, 0.1 * x),
    ],
)
def test_loops_give_the_bits_of_numpy_for_special_numbers(expression, dtype):
    with np.errstate(all="ignore"):
        x = np.array(SPECIALS).astype(dtype)
        assert same(executed(text_of(expression, dtype), x), expression(x))


@pytest.mark.parametrize(
    "expression",
    [
        lambda x: x * ((x > 0) * 0.5),
        lambda x: x * ((x > 0) + (x > 1)),
        lambda x: x * np.sqrt(x > 0),
        lambda x: x * np.where(x > 0, 1, 0.5),
        lambda x: np.clip(x, -1, x),
        lambda x: np.clip(x > 0, 0, 1),
    ],
    ids=["a factor", "a sum", "a root", "a choice", "a vector as limit", "clipped"],
)
def test_expressions_whose_dtype_or_zeros_numpy_chooses_in_another_way_stay_with_it(expression):
    assert text_of(expression) is None


def test_truth_values_become_numbers_where_they_are_copied():
    def expression(x):
        room = np.empty_like(x)
        np.copyto(room, x > 0)
        return x * room + room

    x = np.array([0.1, -2.0, 3.0], np.float32)
    loop = text_of(expression)
    assert "float32(1.0) if" in loop.text
    assert same(executed(loop, x), expression(x))


def test_an_operation_of_which_numpy_gives_other_bits_here_stays_with_numpy(monkeypatch):
    assert text_of(lambda x: np.maximum(x, 0)) is not None
    other = (lambda type, x, y: f"{x} if {x} >= {y} or {x} != {x} else {y}", False, False)
    monkeypatch.setitem(tracing._OPERATIONS, np.maximum, other)  # the first of two zeros
    tracing.same_as_numpy.cache_clear()
    assert not tracing.same_as_numpy(np.maximum, np.dtype("f4"))
    assert text_of(lambda x: np.maximum(x, 0)) is None
    assert text_of(lambda x: np.minimum(x, 0)) is not None
    tracing.same_as_numpy.cache_clear()


def test_functions_of_numpy_are_called_between_two_loops():
    program = Program(np.dtype("f4"), {np.exp: "EXP", np.log1p: "LOG1P"})
    x, y = (Symbol(program, name, writable=False) for name in ("x", "y"))
    result = np.log1p(np.exp(-x)) * y
    assert program.lines == ["t0 = -x", "t1 = e1[i]", "t2 = e2[i]", "t3 = t2 * y"]
    assert [(call.function, call.argument, call.result) for call in program.calls] == [
        ("EXP", "t0", "t1"),
        ("LOG1P", "t1", "t2"),
    ]
    assert [call.before for call in program.calls] == [1, 2]
    assert needed_for([result.name], program.lines) == ["t2 = e2[i]", "t3 = t2 * y"]
    for refused in (lambda: np.exp(x > 0), lambda: np.tanh(x), lambda: np.exp(x, where=x > 0)):
        with pytest.raises(Untraceable):
            refused()


def test_signs_are_copied_and_constants_fill_arrays():
    def expression(x):
        return np.copysign(np.full_like(x, 2.5), x)

    with np.errstate(all="ignore"):
        x = np.array([number for number in SPECIALS if number == number])
        assert same(executed(text_of(expression), x), expression(x))
