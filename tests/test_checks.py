import copy
import math
import pickle
import re
import tomllib
from pathlib import Path, PurePath

import numpy as np
import pytest
from helpers import texts
from hypothesis import given
from hypothesis import strategies as st

import pydnn
from pydnn.checks import (
    EXTRAS,
    BadInput,
    MissingExtra,
    NameTaken,
    expect_count,
    expect_finite,
    expect_flag,
    expect_known,
    expect_real,
    expect_same_dtype,
    expect_shape,
    first_line,
    fixed,
    import_extra,
    install_command,
    is_count,
    is_shape,
    path_of,
    plain_number,
    printable,
    shown,
)

TOP = Path(__file__).parents[1]
COMMENT = "`pip install 'pydnn[plot]'` would install another project"  # in pydnn/checks.py


@pytest.mark.parametrize("expected", [(2, 3), ("n", 3), ("n", "m")])
def test_shapes_that_fit_pass(expected):
    expect_shape("A", np.ones((2, 3)), expected, hint="unused")


@pytest.mark.parametrize(
    ("number", "plain"), [(np.int64(3), 3), (np.float32(0.5), 0.5), (np.False_, False), ("a", "a")]
)
def test_scalars_of_numpy_are_the_python_values_they_stand_for(number, plain):
    assert plain_number(number) == plain
    assert type(plain_number(number)) is type(plain)


NOT_COUNTS = [True, False, 3.0, float("nan"), -1, 2**63, 10**400, "3", None, [3], np.int64(3)]


@pytest.mark.parametrize("value", NOT_COUNTS, ids=shown)
def test_only_a_whole_number_in_its_range_is_a_count(value):
    assert not is_count(value)
    assert not is_shape([2, value])
    assert is_count(0)
    assert is_count(3, least=3, most=3)
    assert not is_count(3, least=4)
    assert not is_count(3, most=2)


@pytest.mark.parametrize(
    "shape",
    [
        (),
        (0,),
        (3, 2),
        (2**57,),
        (0, 2**57),
        (0, 2**60),
        (2**62, 0, 4),
        (1 << 40, 1 << 40),
        (1,) * 40,
    ],
)
def test_numpy_makes_arrays_of_every_shape_that_passes(shape):
    if is_shape(shape):
        assert np.broadcast_to(np.longdouble(1), shape).shape == shape
    else:
        assert math.prod(n or 1 for n in shape) > 2**57 or len(shape) > 32


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
    "a number is not a truth value": (
        lambda: expect_flag("nesterov", np.int64(1)),
        "nesterov is np.int64(1), expected True or False: give one of them.",
    ),
    "a truth value of NumPy's is not a count": (
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
    "a truth value is not a count": (
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
    "nothing known": (
        lambda: expect_known("data set", "train_X", []),
        "there is no data set 'train_X': there is none at all.",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals_say_what_was_wrong_what_was_expected_and_what_to_do(call, message):
    with pytest.raises(BadInput) as refusal:
        call()
    assert str(refusal.value) == message


def test_a_missing_extra_names_the_command_that_installs_it():
    with pytest.raises(
        MissingExtra,
        match=r"^a plot needs no_such_thing, which is not installed"
        r": run pip install 'matplotlib>=3\.9'\.$",
    ):
        import_extra("no_such_thing.part", extra="plot", purpose="a plot")


COMMANDS = {
    ("testing", "hypothesis"): "pip install 'hypothesis>=6.100'",
    ("testing", ""): "pip install 'hypothesis>=6.100' 'pytest>=8.2'",
    ("image", "PIL"): "pip install 'pillow>=10.3'",
    ("bench", "torch"): "pip install 'torch>=2.4'",
}


@pytest.mark.parametrize(("needed", "command"), COMMANDS.items(), ids=COMMANDS.values())
def test_commands_name_packages_since_pydnn_is_another_project(needed, command):
    assert install_command(*needed) == command


def test_extras_are_those_of_the_project():
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "pydnn-pure"
    for extra, needed in EXTRAS.items():
        theirs = project["optional-dependencies"][extra]
        assert set(needed) == {one for one in theirs if not one.startswith("pydnn-pure[")}


def test_no_text_installs_the_other_project():
    files = [TOP / "README.md", TOP / "pyproject.toml", TOP / ".ci" / "run"]
    for folder in ("pydnn", "examples", ".docs"):
        files += [p for p in (TOP / folder).rglob("*") if p.suffix in {".py", ".md", ".toml"}]
    for path in files:
        text = path.read_text(encoding="utf-8").replace(COMMENT, "")
        assert not re.search(r"pip install '?pydnn(?!-pure)", text), path


@pytest.mark.parametrize(
    "failure", ["raise ValueError('no backend\\nof this name')", "1 / 0", "import no_such_part"]
)
def test_a_package_that_cannot_be_imported_gives_one_line(tmp_path, monkeypatch, failure):
    (tmp_path / "failing_package.py").write_text(failure, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        MissingExtra, match=r"^a plot needs failing_package, which cannot be imported .*$"
    ):
        import_extra("failing_package", extra="plot", purpose="a plot")


SHOWN = {
    "plain": ("a cat", "a cat"),
    "letters of other scripts": ("cafe\u0301 猫 кошка قط 🐈", "cafe\u0301 猫 кошка قط 🐈"),
    "backslashes stay single": ("C:\\new", "C:\\new"),
    "line breaks": ("a\nb\r\u2028\x85", "a\\nb\\r\\u2028\\x85"),
    "terminal codes": ("\x1b[2Jcat\x9b1m\x07", "\\x1b[2Jcat\\x9b1m\\x07"),
    "direction marks": ("\u202ecat\u2066\u200f", "\\u202ecat\\u2066\\u200f"),
    "invisible letters": ("a\u200bb\ufeffc\xad", "a\\u200bb\\ufeffc\\xad"),
    "a byte of a file name": ("caf\udce9.png", "caf\\udce9.png"),
    "half a surrogate pair": ("\ud83d", "\\ud83d"),
    "private use": ("\ue000\U000f0000", "\\ue000\\U000f0000"),
    "what is not text": (OSError(2, "no\tsuch file"), "[Errno 2] no\\tsuch file"),
}


@pytest.mark.parametrize(("text", "shown"), SHOWN.values(), ids=SHOWN)
def test_text_is_shown_and_not_obeyed(text, shown):
    assert printable(text) == shown
    assert str(BadInput(text)) == shown


def test_long_text_keeps_its_beginning_and_its_end():
    shown = printable("name " + "a" * 10**6 + ": choose another.", most=200)
    assert len(shown) == 200
    assert shown.startswith("name aaa")
    assert shown.endswith("aaa: choose another.")
    assert " [1,000,022 characters in all] " in shown


def test_escapes_count_towards_the_length():
    assert len(printable("\x1b" * 999)) <= 1000
    assert len(printable("\x1b" * 30, most=100)) <= 100


@given(texts(), st.integers(0, 60))
def test_any_text_becomes_one_printable_line_of_bounded_length(text, most):
    shown = printable(text, most=most)
    assert shown.isprintable()
    assert len(shown) <= most
    assert printable(shown, most=most) == shown
    shown.encode("utf-8")


@pytest.mark.parametrize("kind", [BadInput, NameTaken, MissingExtra])
def test_a_refusal_survives_pickle_and_copy(kind):
    error = kind("no\nsuch file")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert str(again) == "no\\nsuch file"


def test_a_path_may_be_text_or_any_path_and_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for path in ("~/a.h5", Path("~/a.h5"), PurePath("~/a.h5"), tmp_path / "a.h5"):
        assert path_of(path) == tmp_path / "a.h5"
    assert path_of("a~/~b") == Path("a~/~b")


def test_an_empty_path_is_not_taken_for_the_current_folder():
    with pytest.raises(BadInput, match=r"^the path is empty: give the name of a file or folder"):
        path_of("")


@pytest.mark.parametrize("path", [3, None, b"a.h5", ["a"], np.zeros(2), "a\0b", "a\ud800"])
def test_what_is_not_a_path_is_refused(path):
    with pytest.raises(BadInput, match="is not a path"):
        path_of(path)


def test_an_unknown_home_is_refused():
    with pytest.raises(BadInput, match=r"^~no-such-user/a cannot be found"):
        path_of("~no-such-user/a")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, "0.2500"),
        (-1234567.5, "-1234567.5000"),
        (1e300, "1.0000e+300"),
        (-20137209103963131233692690115723264.0, "-2.0137e+34"),
        (math.inf, "inf"),
        (math.nan, "nan"),
        (1e-300, "0.0000"),
        (np.float32(3.5), "3.5000"),
    ],
)
def test_numbers_are_shown_in_few_characters(value, text):
    assert fixed(value, 4) == text


@given(st.floats(), st.integers(0, 9))
def test_no_number_is_long(value, decimals):
    assert len(fixed(value, decimals)) <= 16 + 8


@pytest.mark.parametrize("builder", ["dense", "mini_batches", "warm_up"])
def test_counts_that_no_machine_has_are_refused_in_few_characters(builder):
    make = {
        "dense": lambda n: pydnn.dense(n),
        "mini_batches": lambda n: pydnn.mini_batches(n),
        "warm_up": lambda n: pydnn.warm_up(n, then=1.0),
    }[builder]
    make(2**63 - 1)
    for number in (2**63, 10**300):
        with pytest.raises(BadInput, match="expected at most 9223372036854775807") as refusal:
            make(number)
        assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one.\ntwo"), "one"),
        (ValueError("\n\n  late: \n"), "late"),
        (ValueError(""), "ValueError"),
        (MemoryError(), "MemoryError"),
        (KeyError("a"), "'a'"),
    ],
)
def test_the_first_line_of_an_error_goes_on(error, line):
    assert first_line(error) == line
