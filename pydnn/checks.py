"""Checks of what users pass in, all with one wording of errors.

A message says on one line what is wrong, what was expected and what to do.
"""

from __future__ import annotations

import errno
import functools
import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from types import ModuleType
from typing import ParamSpec, TypeAlias, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from pydnn.other_names import nearest, suggestion

__all__ = [
    "EXTRAS",
    "MOST_BITS",
    "MOST_SEED",
    "AnyPath",
    "BadInput",
    "BadRow",
    "Json",
    "MissingExtra",
    "NameTaken",
    "UnknownOption",
    "expect_count",
    "expect_epsilon",
    "expect_examples",
    "expect_finite",
    "expect_flag",
    "expect_known",
    "expect_options",
    "expect_real",
    "expect_same_dtype",
    "expect_same_size",
    "expect_shape",
    "first_line",
    "fixed",
    "import_extra",
    "install_command",
    "is_count",
    "is_shape",
    "known_options",
    "not_finite",
    "path_of",
    "plain_number",
    "printable",
    "shown",
]

_Options = ParamSpec("_Options")
_Result = TypeVar("_Result")

MOST_BITS = 1024  # the largest size of an integer in a description, and of a seed
MOST_COUNT = 2**63 - 1  # counts, and numbers computed from a few of them, stay short to print
_LARGEST_ITEM = 32  # bytes, of a complex number in the longest format
MOST_SEED = 2**MOST_BITS - 1
_LONG = 128  # a message shows a longer integer by its number of bits
_LONGEST_FIXED = 16  # a longer number with decimals is written with an exponent

_MOST_MESSAGE = 1000  # characters: nobody reads a longer line


def printable(text: object, *, most: int = _MOST_MESSAGE) -> str:
    r"""Return the text as one line that is safe to print, of at most `most` characters.

    Control characters, line breaks, direction marks, halves of surrogate pairs and other invisible
    characters become escapes, e.g. `\n` or `\u202e`, so a terminal never obeys them. Letters of
    every script stay as they are. Longer text loses its middle: a message says what is wrong at its
    beginning and what to do at its end.

    Args:
        text: What to show; anything but a `str` is converted to one.
        most: The largest number of characters in the result.

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
    # An escape is longer than its character, so both ends fill the room that they have.
    first = _escaped(text[:start])[:start]
    last = _escaped(text[max(0, len(text) - end) :])
    return (first + note + last[max(0, len(last) - end) :])[:most]


def shown(value: object) -> str:
    """Return a value as messages show it; a long integer is shown by its number of bits.

    Python refuses to write integers of more than 4,300 digits, and is slow for shorter ones.

    Example:
        >>> shown(2), shown("2"), shown(2**5000)
        ('2', "'2'", 'an integer of 5,001 bits')
    """
    if isinstance(value, int) and value.bit_length() > _LONG:
        return f"an integer of {value.bit_length():,} bits"
    try:
        return repr(value)
    except ValueError:
        return f"a {type(value).__name__} with an integer that is too long to show"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without its last dot, or the error's type.

    Our messages quote errors of other libraries, which may have many lines or none.
    """
    lines = [line for line in map(str.strip, str(error).splitlines()) if line]
    return (lines or [type(error).__name__])[0].rstrip(".: ")


def fixed(value: float, decimals: int) -> str:
    """Return the number with this many decimals, or with an exponent if it would be long.

    Example:
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
# What can be written as JSON. What is read back has lists for sequences and dicts for mappings.
Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


def path_of(path: AnyPath) -> Path:
    """Return the path that a caller names; a `~` at its beginning stands for a home folder.

    Raises:
        BadInput: If it is not a path, or names a user that this machine does not know.
    """
    text = fspath(path) if isinstance(path, str | PathLike) else None
    if not isinstance(text, str):  # the path of a PathLike may be bytes
        raise BadInput(f"{path!r} is not a path: give a text such as 'runs/0001', or a Path.")
    if text == "":  # which pathlib takes for the folder that we are in
        raise BadInput("the path is empty: give the name of a file or folder, or '.' for this one.")
    if "\0" in text:
        raise BadInput(f"{text!r} is not a path, since it holds a zero byte: remove it.")
    try:
        named = Path(text).expanduser()
        named.lstat()  # only to learn whether anything can have that name
    except RuntimeError as error:
        raise BadInput(f"{text} cannot be found ({error}): write the whole path.") from error
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise BadInput(
            f"{text!r} is not a path, since file names cannot hold the character "
            f"{error.object[error.start]!r}: remove it."
        ) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise BadInput(
                f"{text} is not a path, since no file can have so long a name: shorten it."
            ) from error
    return named


class BadInput(ValueError):  # noqa: N818 - it names the user's input, not our failure
    """An argument, a file or an option is wrong; the message is one line for the user.

    The message says what is wrong, what was expected and what to do. It is safe to print, whatever
    it quotes: see `printable`.
    """

    def __init__(self, message: str) -> None:
        """Keep the `message` in its printable form."""
        super().__init__(printable(message))


class BadRow(BadInput):
    """A row of a table is wrong; the message says which one, counted from 1 on.

    Attributes:
        what: What is wrong.
        row: The number of the row, from 0 on, among those that were given.
        advice: The rest of the message.

    Example:
        >>> error = BadRow("column 'x' holds inf", 2, ", expected a number: correct it.")
        >>> print(error.after(100))
        column 'x' holds inf in row 103, expected a number: correct it.
    """

    def __init__(self, what: str, row: int, advice: str) -> None:
        """Put the message together."""
        super().__init__(f"{what} in row {row + 1}{advice}")
        self.what, self.row, self.advice = what, row, advice

    def after(self, rows: int) -> BadRow:
        """The error where these rows come after some other `rows`."""
        return BadRow(self.what, self.row + rows, self.advice)

    def __reduce__(self) -> tuple[type[BadRow], tuple[str, int, str]]:
        return BadRow, (self.what, self.row, self.advice)


class NameTaken(BadInput):
    """The name for something new, such as a file or a folder, is taken already."""


class UnknownOption(BadInput, TypeError):  # noqa: N818
    """A call names an option that the function does not have."""


class MissingExtra(BadInput, ImportError):  # noqa: N818
    """A package of an extra is missing; the message shows the command that installs it."""


def expect_shape(
    name: str, array: NDArray[np.generic], expected: Sequence[int | str], *, hint: str
) -> None:
    """Refuse an `array` that does not have the `expected` shape.

    Args:
        name: The name of the array in the message.
        array: The array to check.
        expected: The size of each axis; a string, e.g. "m", stands for any size.
        hint: What the user should do, without a full stop.

    Raises:
        BadInput: If the shape differs.

    Example:
        >>> expect_shape("b", np.ones((3, 2)), (3, 1), hint="give one bias per unit")
        Traceback (most recent call last):
        pydnn.checks.BadInput: b has shape (3, 2), expected (3, 1): give one bias per unit.
    """
    sizes = zip(expected, array.shape, strict=False)
    if array.ndim != len(expected) or any(not isinstance(e, str) and e != n for e, n in sizes):
        shape = "(" + ", ".join(map(str, expected)) + ("," if len(expected) == 1 else "") + ")"
        raise BadInput(f"{name} has shape {array.shape}, expected {shape}: {hint}.")


def expect_same_dtype(
    name: str, array: NDArray[np.generic], expected: np.dtype[np.generic]
) -> None:
    """Refuse an array of another precision than the parameters: they are never mixed silently."""
    if array.dtype != expected:
        raise BadInput(
            f"{name} is {array.dtype}, but the parameters are {expected}: "
            f"convert it with {name}.astype(np.{expected})."
        )


def expect_same_size(shape: Sequence[int], old: Sequence[int]) -> None:
    """Refuse a new shape that holds another count of numbers than the old one.

    Raises:
        BadInput: If the counts differ.

    Example:
        >>> expect_same_size((2, 2), (5,))
        Traceback (most recent call last):
        pydnn.checks.BadInput: shape (2, 2) has 4 numbers, expected 5 as in shape (5,): give ...
    """
    if (new := math.prod(shape)) != (count := math.prod(old)):
        raise BadInput(
            f"shape {tuple(shape)} has {new} numbers, expected {count} as in shape {tuple(old)}: "
            "give a shape of as many numbers."
        )


def expect_examples(m: int) -> None:
    """Refuse a batch without examples: its cost, a mean over them, would be undefined."""
    if not m:
        raise BadInput("the batch has no examples, expected one or more: give it some.")


def expect_finite(name: str, array: NDArray[np.generic]) -> None:
    """Refuse an array with a NaN or an infinity, and name the first such entry."""
    finite = np.isfinite(array)
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise not_finite(name, array[index], index)


def not_finite(name: str, value: object, index: tuple[int, ...]) -> BadInput:
    """The refusal of an entry of an array that is NaN or infinite, by its place."""
    where = f"in row {index[0]}, column {index[1]}" if len(index) == 2 else f"at index {index}"
    return BadInput(f"{name} holds {value} {where}, expected finite numbers: remove or replace it.")


def plain_number(value: object) -> object:
    """Return a scalar of NumPy as the Python number or truth value that it stands for.

    Computations with NumPy give `np.int64(3)` where people write 3, so pydnn takes both as the same
    value. Everything else is returned unchanged.
    """
    for kind, convert in ((np.bool_, bool), (np.integer, int), (np.floating, float)):
        if isinstance(value, kind):
            return convert(value)
    return value


def expect_count(
    name: str, value: object, *, least: int = 1, most: int = MOST_COUNT, hint: str
) -> int:
    """Return `value` as an int, and refuse it if it is not an integer from `least` to `most`."""
    number = plain_number(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise BadInput(
            f"{name} is {shown(value)}, expected an integer of at least {least}: {hint}."
        )
    if number > most:
        raise BadInput(f"{name} is {shown(number)}, expected at most {shown(most)}: {hint}.")
    return number


def is_count(value: object, *, least: int = 0, most: int = MOST_COUNT) -> TypeGuard[int]:
    """Return whether a value that was read from a file is an integer from `least` to `most`.

    Every size, count and shape in the JSON, TOML or header of a file must pass this before NumPy
    meets it. `isinstance` and patterns such as `int(n)` also accept True, which JSON can write.

    Example:
        >>> is_count(3), is_count(True), is_count(3.0), is_count(-1), is_count(2**63)
        (True, False, False, False, False)
    """
    return type(value) is int and least <= value <= most


def is_shape(value: Sequence[object]) -> TypeGuard[Sequence[int]]:
    """Return whether sizes that were read from a file are those of an array that NumPy can make.

    Even an array without entries cannot have a shape such as (0, 2**62, 4).

    Example:
        >>> is_shape((2, 3)), is_shape((2, True)), is_shape((0, 2**62, 4))
        (True, False, False)
    """
    sizes = [max(n, 1) for n in value if is_count(n)]
    return len(sizes) == len(value) <= 32 and math.prod(sizes) <= MOST_COUNT // _LARGEST_ITEM


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
    """Return `value` as a float, and refuse it if it is not a finite number within the bounds.

    Args:
        name: The name of the value in messages.
        value: The value to check.
        positive: Whether the number must be above 0.
        least: The smallest number allowed.
        below: A bound that the number must stay below.
        most: The largest number allowed.
        hint: What the user should do, without a full stop.

    Raises:
        BadInput: If it is not a number, not finite, or out of bounds.
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
    """Return `epsilon` as a float; refuse one that would not keep a divisor above 0."""
    hint = "give a small number that keeps the division from 0, e.g. 1e-8"
    return expect_real("epsilon", value, positive=True, hint=hint)


def expect_flag(name: str, value: object) -> bool:
    """Return `value` as a bool, and refuse it if it is neither True nor False."""
    flag = plain_number(value)
    if not isinstance(flag, bool):
        raise BadInput(f"{name} is {shown(value)}, expected True or False: give one of them.")
    return flag


def expect_known(
    what: str, name: str, known: Iterable[str], *, place: object = "", listed_by: str = ""
) -> None:
    """Refuse a `name` that is not among the `known` ones, and suggest the nearest of them.

    Args:
        what: What the name is of, for the message.
        name: The name.
        known: All names that exist.
        place: The file or the like that has them, for the message.
        listed_by: What shows all of them, if they are too many for one line; then the message has
            the five nearest of more than 12.

    Example:
        >>> expect_known("optimizer", "adm", ["adam", "lion"])
        Traceback (most recent call last):
        pydnn.checks.BadInput: there is no optimizer 'adm': did you mean 'adam'?
    """
    known = sorted(known)
    if name not in known:
        few = nearest(name, known, count=5) if listed_by and len(known) > 12 else known
        advice = suggestion(name, known) or (
            "there is none at all."
            if not known
            else f"choose one of {', '.join(known)}."
            if len(few) == len(known)
            else f"the nearest are {', '.join(few)}, and {listed_by} lists all {len(known)}."
        )
        where = f" in {place}" if place else ""
        raise BadInput(f"there is no {what} {name!r}{where}: {advice}")


def expect_options(function: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that a function does not have, and suggest the nearest that it has.

    Raises:
        UnknownOption: If it does not have one of them. It is a TypeError, as Python itself raises.
    """
    for option in options:
        if option not in known:
            try:
                expect_known(f"option of {function}", option, known)
            except BadInput as error:
                raise UnknownOption(str(error)) from None


def known_options(function: Callable[_Options, _Result]) -> Callable[_Options, _Result]:
    """Decorate a function to refuse unknown options and suggest the nearest known one.

    Example:
        >>> @known_options
        ... def area(height, width): return height * width
        >>> area(1, widht=2)
        Traceback (most recent call last):
        pydnn.checks.UnknownOption: there is no option of area 'widht': did you mean 'width'?
    """
    known = [name for name in inspect.signature(function).parameters if name != "self"]
    *_, owner, name = (".", *function.__qualname__.split("."))

    @functools.wraps(function)
    def checked(*args: _Options.args, **options: _Options.kwargs) -> _Result:
        expect_options(owner if name == "__init__" else name, options, known)
        return function(*args, **options)

    return checked


# What each extra installs, as in pyproject.toml. Messages name the packages, since
# `pip install 'pydnn[plot]'` would install another project, which is published as pydnn.
EXTRAS = {
    "plot": ("matplotlib>=3.9",),
    "progress": ("tqdm>=4.66",),
    "image": ("pillow>=10.3",),
    "parquet": ("pyarrow>=16",),
    "sklearn": ("scikit-learn>=1.6",),
    "onnx": ("onnx>=1.16", "onnxruntime>=1.17"),
    "doctor": ("threadpoolctl>=3.5",),
    "completion": ("argcomplete>=3.5",),
    "compiled": ("numba>=0.61",),
    "dask": ("distributed>=2024.8",),
    "testing": ("hypothesis>=6.100", "pytest>=8.2"),
    "bench": ("autograd>=1.7", "jax>=0.4.30", "optax>=0.2.3", "torch>=2.4"),
}


def install_command(extra: str, package: str = "") -> str:
    """Return the command that installs an extra, or only its `package` if it has that.

    Example:
        >>> install_command("plot")
        "pip install 'matplotlib>=3.9'"
    """
    needed = EXTRAS[extra]
    chosen = [one for one in needed if one.partition(">=")[0] == package] or needed
    return " ".join(["pip install", *(f"'{one}'" for one in chosen)])


def import_extra(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import a module that an extra of pydnn installs, or say in one line why that fails.

    Args:
        module: The name of the module.
        extra: The name of the extra, see `EXTRAS`.
        purpose: What needs the module; the message begins with it.

    Raises:
        MissingExtra: If the module is not installed, or cannot be imported.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except Exception as error:  # a package may raise anything, e.g. for a wrong setting of its own
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
