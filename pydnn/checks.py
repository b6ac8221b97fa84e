"""The one wording of errors: what was wrong, what was expected, what to do."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pydnn.other_names import suggestion

__all__ = [
    "EXTRAS",
    "MOST_BITS",
    "MOST_SEED",
    "AnyPath",
    "BadInput",
    "Json",
    "MissingExtra",
    "NameTaken",
    "expect_count",
    "expect_epsilon",
    "expect_examples",
    "expect_finite",
    "expect_flag",
    "expect_known",
    "expect_real",
    "expect_same_dtype",
    "expect_shape",
    "first_line",
    "fixed",
    "import_extra",
    "install_command",
    "path_of",
    "plain_number",
    "printable",
    "shown",
]

MOST_BITS = 1024  # of an integer that a description or a seed may be
MOST_COUNT = 2**63 - 1  # so that every count, and what is computed of a few, has few digits
MOST_SEED = 2**MOST_BITS - 1
_LONG = 128  # bits of an integer that is too long for people to read
_LONGEST_FIXED = 16  # characters of a number with decimals, before it needs an exponent

_MOST_MESSAGE = 1000  # characters: a line of more than that is not read anyway


def printable(text: object, *, most: int = _MOST_MESSAGE) -> str:
    r"""Text that a terminal shows as one line of at most `most` characters, and never obeys.

    Control characters, line breaks, direction marks, halves of surrogate pairs and whatever else
    has no shape of its own are written as escapes, e.g. `\n` or `\u202e`. Letters of every script
    stay as they are. Of longer text the middle is left out: a message names what is wrong at its
    beginning and what to do at its end.

    Args:
        text: What to show; anything but a `str` is converted to one.
        most: The number of characters that the result may have.

    Example:
        >>> printable("cat\x1b[2J\n猫")
        'cat\\x1b[2J\\n猫'
        >>> printable("a" * 5000, most=50)
        'aaaaaaaaaa ... [5,000 characters in all] ... aaaaa'
    """
    text = str(text)
    if len(text) <= most:
        if text.isprintable():
            return text
        if len(whole := _escaped(text)) <= most:
            return whole
    note = f" ... [{len(text):,} characters in all] ... "
    room = max(0, most - len(note))
    start, end = room - room // 3, room // 3
    # An escape is longer than its character, so these pieces are never too short.
    first = _escaped(text[:start])[:start]
    last = _escaped(text[max(0, len(text) - end) :])
    return (first + note + last[max(0, len(last) - end) :])[:most]


def shown(value: object) -> str:
    """How a message shows a value that does not fit; of an endless integer, how long it is.

    Python refuses to write integers of more than 4,300 digits, and takes long for shorter ones.
    """
    if isinstance(value, int) and value.bit_length() > _LONG:
        return f"an integer of {value.bit_length():,} bits"
    try:
        return repr(value)
    except ValueError:
        return f"a {type(value).__name__} that holds an endless integer"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without the punctuation at its end; else its type.

    For messages that go on after it: those of other libraries may have many lines.
    """
    lines = [line for line in map(str.strip, str(error).splitlines()) if line]
    return (lines or [type(error).__name__])[0].rstrip(".: ")


def fixed(value: float, decimals: int) -> str:
    """The number with this many decimals, or with an exponent if that would be long.

    >>> fixed(0.25, 4), fixed(-1e300, 4)
    ('0.2500', '-1.0000e+300')
    """
    text = f"{value:.{decimals}f}"
    return text if len(text) <= _LONGEST_FIXED else f"{value:.{decimals}e}"


def _escaped(text: str) -> str:
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


AnyPath = str | PathLike[str]
# What can be written as JSON; of what is read, sequences are lists and mappings dicts.
Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


def path_of(path: AnyPath) -> Path:
    """The path that a caller names: a `~` at its beginning is the folder of the user.

    Raises:
        BadInput: If it is not a path, or names a user who is unknown here.
    """
    text = fspath(path) if isinstance(path, str | PathLike) else None
    if not isinstance(text, str):  # some paths are bytes
        raise BadInput(f"{path!r} is not a path: give a text such as 'runs/0001', or a Path.")
    if "\0" in text:
        raise BadInput(f"{text!r} is not a path, since it holds a zero byte: remove it.")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise BadInput(f"{text} cannot be found ({error}): write the whole path.") from error


class BadInput(ValueError):  # noqa: N818 - it names the user's input, not our failure
    """Something from outside does not fit; the message is one line for the person who gave it.

    Whatever the message quotes, it is safe to print: see `printable`.
    """

    def __init__(self, message: str) -> None:
        """Keep the `message` in its printable form."""
        super().__init__(printable(message))


class NameTaken(BadInput):
    """There is something already where something new was to be made."""


class MissingExtra(BadInput, ImportError):  # noqa: N818
    """A package that only an extra of pydnn installs is not there."""


def expect_shape(
    name: str, array: NDArray[np.generic], expected: Sequence[int | str], *, hint: str
) -> None:
    """Refuse an `array` without the `expected` shape, where a string names an axis of any size."""
    sizes = zip(expected, array.shape, strict=False)
    if array.ndim != len(expected) or any(not isinstance(e, str) and e != n for e, n in sizes):
        wanted = "(" + ", ".join(map(str, expected)) + ("," if len(expected) == 1 else "") + ")"
        raise BadInput(f"{name} has shape {array.shape}, expected {wanted}: {hint}.")


def expect_same_dtype(
    name: str, array: NDArray[np.generic], expected: np.dtype[np.generic]
) -> None:
    """Refuse to mix precisions in silence."""
    if array.dtype != expected:
        raise BadInput(
            f"{name} is {array.dtype}, but the parameters are {expected}: "
            f"convert it with {name}.astype(np.{expected})."
        )


def expect_examples(m: int) -> None:
    """Refuse a batch without examples, since the cost is a mean over them."""
    if not m:
        raise BadInput("the batch has no examples, expected one or more: give it some.")


def expect_finite(name: str, array: NDArray[np.generic]) -> None:
    """Refuse NaN and infinity, naming the first entry that holds one."""
    finite = np.isfinite(array)
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        where = f"in row {index[0]}, column {index[1]}" if len(index) == 2 else f"at index {index}"
        raise BadInput(
            f"{name} holds {array[index]} {where}, expected finite numbers: remove or replace it."
        )


def plain_number(value: object) -> object:
    """The Python number or truth value that a scalar of NumPy's stands for.

    NumPy computes `np.int64(3)` where people write 3, so pydnn takes both as the same value. This
    function makes them the same, and returns everything else unchanged.
    """
    for kind, convert in ((np.bool_, bool), (np.integer, int), (np.floating, float)):
        if isinstance(value, kind):
            return convert(value)
    return value


def expect_count(
    name: str, value: object, *, least: int = 1, most: int = MOST_COUNT, hint: str
) -> int:
    """Refuse what is not an integer from `least` to `most`; give it back as an int."""
    number = plain_number(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise BadInput(
            f"{name} is {shown(value)}, expected an integer of at least {least}: {hint}."
        )
    if number > most:
        raise BadInput(f"{name} is {shown(number)}, expected at most {shown(most)}: {hint}.")
    return number


def expect_real(
    name: str,
    value: object,
    *,
    positive: bool = False,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    hint: str,
) -> float:
    """Refuse what is not a finite real number within the bounds; give it as a float.

    Args:
        name: What messages call it.
        value: What was given.
        positive: Whether it must be above 0.
        least: The least that it may be.
        below: What it must be less than.
        most: The most that it may be.
        hint: What to do instead.
    """
    plain = plain_number(value)
    number = math.nan
    try:
        if isinstance(plain, int | float) and not isinstance(plain, bool):
            number = float(plain)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadInput(f"{name} is {shown(value)}, expected a finite number: {hint}.")
    for fits, bound in (
        (not positive or number > 0, "above 0"),
        (least is None or number >= least, f"of at least {least}"),
        (below is None or number < below, f"below {below}"),
        (most is None or number <= most, f"of at most {most}"),
    ):
        if not fits:
            raise BadInput(f"{name} is {shown(value)}, expected a number {bound}: {hint}.")
    return number


def expect_epsilon(value: object) -> float:
    """Refuse a number that would not keep a division from 0."""
    hint = "give a small number that keeps the division from 0, e.g. 1e-8"
    return expect_real("epsilon", value, positive=True, hint=hint)


def expect_flag(name: str, value: object) -> bool:
    """Refuse what is neither True nor False; return it as a bool."""
    flag = plain_number(value)
    if not isinstance(flag, bool):
        raise BadInput(f"{name} is {shown(value)}, expected True or False: give one of them.")
    return flag


def expect_known(what: str, name: str, known: Iterable[str]) -> None:
    """Refuse a `name` that is not among the `known` ones, with the nearest of them."""
    known = sorted(known)
    if name not in known:
        advice = suggestion(name, known) or (
            f"choose one of {', '.join(known)}." if known else "there is none at all."
        )
        raise BadInput(f"there is no {what} {name!r}: {advice}")


# What each extra installs, as in pyproject.toml, for messages. They name the packages, since
# `pip install 'pydnn[plot]'` would install another project, which is published as pydnn.
EXTRAS = {
    "plot": ("matplotlib>=3.9",),
    "progress": ("tqdm>=4.66",),
    "image": ("pillow>=10.3",),
    "sklearn": ("scikit-learn>=1.5",),
    "doctor": ("threadpoolctl>=3.5",),
    "testing": ("hypothesis>=6.100", "pytest>=8.2"),
    "bench": ("autograd>=1.7", "jax>=0.4.30", "optax>=0.2.3", "torch>=2.4"),
}


def install_command(extra: str, package: str = "") -> str:
    """The command that installs what an extra brings; of the `package` alone if it is one of these.

    >>> install_command("plot")
    "pip install 'matplotlib>=3.9'"
    """
    needed = EXTRAS[extra]
    chosen = [one for one in needed if one.partition(">=")[0] == package] or needed
    return " ".join(["pip install", *(f"'{one}'" for one in chosen)])


def import_extra(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import a `module` that the `extra` of pydnn brings, or say in one line why that fails."""
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except Exception as error:  # a package may fail in any way, e.g. over a setting of its own
        if isinstance(error, ModuleNotFoundError) and error.name in (package, module):
            raise MissingExtra(
                f"{purpose} needs {package}, which is not installed: "
                f"run {install_command(extra, package)}."
            ) from error
        raise MissingExtra(
            f"{purpose} needs {package}, which cannot be imported "
            f"({type(error).__name__}: {first_line(error)}): fix what that says, or install "
            "it again."
        ) from error
