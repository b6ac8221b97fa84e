r"""Texts as sequences of letters or words, each of which a network predicts from those before it.

A `Vocabulary` numbers the symbols of a text. An example is a line, see `lines`, or a window of a
longer text, see `windows`: X (T, m) holds the numbers of its symbols, and Y (T, m) the number of
the symbol that comes next at each step.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import DTypeLike, NDArray

from pydnn.checks import AnyPath, BadInput, expect_count, expect_flag, shown
from pydnn.descriptions.builders import described
from pydnn.descriptions.parts import DescribedPart
from pydnn.free_memory import free_memory, readable
from pydnn.keys import Key
from pydnn.records import Batch, freeze
from pydnn.storage.files import open_regular, unchanged

__all__ = ["TextExamples", "Vocabulary", "is_text", "lines", "read_plain_text", "windows"]

END, UNKNOWN = "\n", "\ufffd"  # the end of a line, and a symbol outside the vocabulary
_MOST_SYMBOLS = 100_000  # of a vocabulary
_LONGEST_SYMBOL = 200  # characters of a word
_BYTES_OF_A_BYTE = 40  # of memory for a byte of a file: its symbols as numbers, in X and Y
_WORD = re.compile(r"[\w'\u2019]+|[^\w\s]|\n")
_BEFORE_A_MARK = re.compile(r" (?=[.,;:!?)])|(?<=\() |(?<=\n) | (?=\n)")

_Ids = NDArray[np.int64]
_Rows = tuple[_Ids, _Ids, "_Ids | None"]


def _symbols(symbols: Iterable[str]) -> tuple[str, ...]:
    return tuple(symbols)


@attrs.frozen
class Vocabulary:
    r"""The symbols of a text: letters or words, numbered from 0.

    Symbol 0 is the end of a line, "\n". The number after the last one, `start`, stands before the
    first symbol of a line, where there is nothing yet: `one_hot` makes zeros of it.

    Attributes:
        symbols: The letters or words.
        words: Whether they are words instead of letters.
        lines: Whether an example is a line, so that a text ends with it.

    Raises:
        BadInput: If the first symbol is not the end of a line, a symbol occurs twice or is too
            long, or there are too few or too many.

    Example:
        >>> vocabulary = Vocabulary(["\n", "a", "b"])
        >>> vocabulary.ids("abba\n"), vocabulary.start
        (array([1, 2, 2, 1, 0]), 3)
        >>> vocabulary.text([2, 1])
        'ba'
    """

    symbols: tuple[str, ...] = attrs.field(converter=_symbols, repr=lambda s: f"{len(s)} symbols")
    words: bool = attrs.field(default=False, kw_only=True)
    lines: bool = attrs.field(default=True, kw_only=True)

    def __attrs_post_init__(self) -> None:
        right = all(
            isinstance(symbol, str) and 0 < len(symbol) <= _LONGEST_SYMBOL
            for symbol in self.symbols
        )
        if not right or self.symbols[:1] != (END,) or len(set(self.symbols)) < len(self.symbols):
            raise BadInput(
                "a vocabulary has wrong symbols, expected distinct texts of at most "
                rf"{_LONGEST_SYMBOL} characters, '\n' first: list each symbol once."
            )
        if not 2 <= len(self.symbols) <= _MOST_SYMBOLS:
            raise BadInput(
                f"a vocabulary has {len(self.symbols):,} symbols, expected 2 to {_MOST_SYMBOLS:,}: "
                "keep the most frequent ones."
            )

    @property
    def start(self) -> int:
        """The number that stands before the first symbol of a line."""
        return len(self.symbols)

    def ids(self, text: str) -> _Ids:
        """The numbers of the symbols of a text.

        Raises:
            BadInput: If a symbol is not in the vocabulary, unless that has one for unknown symbols.
        """
        return _numbered(_cut(text, words=self.words), self.symbols)

    def text(self, ids: Iterable[float]) -> str:
        """The text of numbers, with spaces between words; `start` stands for nothing.

        Raises:
            BadInput: If a number is not one of the vocabulary.
        """
        numbers = [int(i) for i in ids]
        if wrong := [i for i in numbers if not 0 <= i <= self.start]:
            raise BadInput(
                f"there is no symbol {wrong[0]}, expected 0 to {self.start}: give the numbers of "
                "this vocabulary."
            )
        symbols = [self.symbols[i] for i in numbers if i < self.start]
        return _BEFORE_A_MARK.sub("", " ".join(symbols)) if self.words else "".join(symbols)


@attrs.frozen(eq=False, repr=False)
class TextExamples(DescribedPart):
    """A way to make examples of a text; see `lines` and `windows`.

    Attributes:
        name: Its name in messages.
        vocabulary: `(text) -> vocabulary`, the symbols of a text.
        rows: `(text, vocabulary, T) -> (X, Y, lengths)` with one example in each row, padded to T
            steps or more. `lengths` (m,) is None if all examples have the same number of steps.
        clean: `(text) -> text`: the text as it is cut into symbols.
        held_back: `(rows, share) -> (train, test)`: the numbers of the rows of each part.
        streams: The number of streams that consecutive examples belong to; 0 if no example
            continues another.
    """

    name: str
    vocabulary: Callable[[str], Vocabulary]
    rows: Callable[[str, Vocabulary, int], _Rows]
    clean: Callable[[str], str]
    held_back: Callable[[int, float], tuple[_Ids, _Ids]]
    streams: int = 0


@described("text")
def lines(
    *, words: bool = False, lower: bool = False, longest: int = 1000, vocabulary: int = 10_000
) -> TextExamples:
    r"""Make an example of each line: a name, a verse, a sentence.

    X begins with the number `start` of the vocabulary, and Y ends with 0, the end of the line.
    Lines are padded to the longest one, and `Batch.lengths` holds the number of steps of each, its
    symbols and the end. Empty lines are left out, and so are spaces at both ends of a line.

    Args:
        words: Whether symbols are words and punctuation marks instead of letters.
        lower: Whether to make all letters lower-case.
        longest: The largest number of symbols in a line.
        vocabulary: The largest number of different symbols. If there are more, the rarest become
            "\ufffd", which stands for an unknown symbol.

    Raises:
        BadInput: If a number is below 1.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("two.txt").write_text("ab\n\nb\n")
        >>> data = nn.text("two.txt", lines())
        >>> data.vocabulary.symbols, data.train.lengths
        (('\n', 'a', 'b'), array([3, 2]))
        >>> data.train.X.T
        array([[3., 1., 2.],
               [3., 2., 0.]])
        >>> data.train.Y.T
        array([[1., 2., 0.],
               [2., 0., 0.]])
    """
    expect_count("longest", longest, hint="give the largest number of symbols in a line")
    making = _making(words=words, lower=lower, vocabulary=vocabulary, lines=True)

    def clean(text: str) -> str:
        stripped = map(str.strip, (text.lower() if lower else text).split("\n"))
        kept = [line for line in stripped if line]
        return "\n".join(kept) + "\n" if kept else ""

    def rows(text: str, known: Vocabulary, T: int) -> _Rows:
        ids = known.ids(text)
        ends = np.flatnonzero(ids == 0)
        lengths = np.diff(ends, prepend=-1)
        steps = max(T, int(lengths.max()))
        if steps > longest + 1:
            number = int(lengths.argmax())
            what = "words" if words else "letters"
            raise BadInput(
                f"the line {text.split(END)[number][:40]!r} has {lengths[number] - 1:,} {what}, "
                f"expected at most {longest:,}: shorten it, allow more with longest, or train on "
                "windows(…)."
            )
        _expect_room(len(lengths) * steps, f"{len(lengths):,} lines of up to {steps:,} symbols")
        Y = np.zeros((len(lengths), steps), np.int64)
        Y[np.arange(steps) < lengths[:, np.newaxis]] = ids
        # A line ends with 0, and padding is 0, so what is shifted into the padding is 0, too.
        X = np.concatenate([np.full((len(Y), 1), known.start), Y[:, :-1]], axis=1)
        return X, Y, lengths

    def held_back(m: int, share: float) -> tuple[_Ids, _Ids]:
        order = _TEST_KEY.permutation(m)
        count = min(max(1, round(share * m)), m - 1)
        return np.sort(order[count:]), np.sort(order[:count])

    return TextExamples("lines", making, rows, clean, held_back)


@described("text")
def windows(
    size: int,
    *,
    streams: int = 1,
    words: bool = False,
    lower: bool = False,
    vocabulary: int = 10_000,
) -> TextExamples:
    r"""Cut one long text into windows of `size` symbols; each step predicts the next symbol.

    The text is cut into `streams` streams of equal length, and each stream into windows. Examples
    are ordered by window, then by stream. So with `mini_batches(streams, shuffle=False)` each
    example of a batch continues the same example of the batch before, and a recurrent stage can
    carry its state on: truncated backpropagation through time. Symbols that do not fill a window
    are left out.

    A test share is the last windows of each stream.

    Args:
        size: The number of symbols in a window, T.
        streams: The number of streams.
        words: Whether symbols are words and punctuation marks instead of letters.
        lower: Whether to make all letters lower-case.
        vocabulary: The largest number of different symbols. If there are more, the rarest become
            "\ufffd", which stands for an unknown symbol.

    Raises:
        BadInput: If a number is below 1.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("long.txt").write_text("abcabcabc")
        >>> data = nn.text("long.txt", windows(2, streams=2))
        >>> [data.vocabulary.text(ids) for ids in data.train.X.T]
        ['ab', 'bc', 'ca', 'ab']
        >>> [data.vocabulary.text(ids) for ids in data.train.Y.T]
        ['bc', 'ca', 'ab', 'bc']
    """
    size = expect_count("size", size, hint="give the number of symbols in a window")
    streams = expect_count("streams", streams, hint="give the number of streams")
    making = _making(words=words, lower=lower, vocabulary=vocabulary, lines=False)

    def rows(text: str, known: Vocabulary, T: int) -> _Rows:
        ids = known.ids(text)
        length = (len(ids) - 1) // streams
        count = length // size
        if count < 1:
            raise BadInput(
                f"the text has {len(ids):,} symbols, expected at least {streams * size + 1:,} for "
                f"{streams} streams with a window of {size}: choose fewer or smaller ones."
            )
        places = (
            np.arange(count)[:, np.newaxis, np.newaxis] * size
            + np.arange(streams)[:, np.newaxis] * length
            + np.arange(size)
        ).reshape(-1, size)
        return ids[places], ids[places + 1], None

    def held_back(m: int, share: float) -> tuple[_Ids, _Ids]:
        count = min(max(1, round(share * m / streams)), m // streams - 1) * streams
        return np.arange(m - count), np.arange(m - count, m)

    def clean(text: str) -> str:
        return text.lower() if lower else text

    return TextExamples("windows", making, rows, clean, held_back, streams)


_TEST_KEY = Key(0).at("test")


def text_batches(
    path: Path,
    examples: TextExamples,
    *,
    test: Path | float | None = None,
    vocabulary: Vocabulary | None = None,
    dtype: DTypeLike = np.float64,
) -> tuple[Batch, Batch, Vocabulary]:
    """The examples of a text's file for training and for testing, and the symbols in it.

    Args:
        path: The file, in UTF-8.
        examples: How to make examples of the text.
        test: The file of the test part, or the share of the examples to hold back for it.
        vocabulary: The symbols, if they are known already; by default those of the file.
        dtype: The dtype of the examples.

    Raises:
        BadInput: If a file cannot be read, is empty or not text; if a line is too long, a symbol of
            the test part is not in the training part, or the text is too short.
    """
    text = _read(path, examples)
    known = examples.vocabulary(text) if vocabulary is None else vocabulary
    train = _rows_of(path, examples, text, known)
    if isinstance(test, Path):
        steps = train[0].shape[1]
        judged = _rows_of(test, examples, _read(test, examples), known, steps)
        if (longer := judged[0].shape[1]) > steps:
            train = _rows_of(path, examples, text, known, longer)
    elif test is None:
        judged = _chosen(train, np.arange(0))
    else:
        m = len(train[0])
        least = 2 * max(1, examples.streams)
        if m < least:
            raise BadInput(
                f"{path} has {m} examples, expected {least} or more, of which some "
                "are for testing: leave test out, or give a longer text."
            )
        kept, held_back = examples.held_back(m, test)
        train, judged = _chosen(train, kept), _chosen(train, held_back)
    return _batch(train, dtype), _batch(judged, dtype), known


def _chosen(rows: _Rows, numbers: _Ids) -> _Rows:
    X, Y, lengths = rows
    return X[numbers], Y[numbers], None if lengths is None else lengths[numbers]


def _batch(rows: _Rows, dtype: DTypeLike) -> Batch:
    X, Y = (freeze(ids.astype(dtype)).T for ids in rows[:2])
    return Batch(X, Y, lengths=rows[2])


def _rows_of(path: Path, examples: TextExamples, text: str, known: Vocabulary, T: int = 0) -> _Rows:
    try:
        return examples.rows(text, known, T)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def is_text(path: AnyPath) -> bool:
    """Whether the name of a file says that it is a text, and not a table or a picture."""
    return str(path).lower().endswith(".txt")


def _read(path: Path, examples: TextExamples) -> str:
    text = examples.clean(read_plain_text(path))
    if not text:
        raise BadInput(f"{path} has only empty lines, expected a text: get the file again.")
    return text


def read_plain_text(path: Path) -> str:
    """The text in a UTF-8 file of any size, with every end of a line as a line feed.

    Raises:
        BadInput: If the file cannot be read, is empty, is not UTF-8, or is too large for memory.
    """
    with open_regular(path, what="a text's file") as file, unchanged(file, path):
        size = file.seek(0, 2)
        file.seek(0)
        free = free_memory()
        if free is not None and size * _BYTES_OF_A_BYTE > free:
            raise BadInput(
                f"{path} has {readable(size)}, and its symbols as numbers take "
                f"{readable(size * _BYTES_OF_A_BYTE)}, but {readable(free)} are free: give a part "
                "of it."
            )
        content = file.read(size)
    if not content:
        raise BadInput(f"{path} is empty, expected a text: get the file again.")
    if b"\0" in content:
        what = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "not text"
        raise BadInput(f"{path} is {what}, expected UTF-8: save the text in UTF-8.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise BadInput(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#x} in line {number}), expected "
            "it: save the text in UTF-8."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _expect_room(symbols: int, what: str) -> None:
    needed = symbols * _BYTES_OF_A_BYTE
    if (free := free_memory()) is not None and needed > free:
        raise BadInput(
            f"{what} take {readable(needed)}, but {readable(free)} are free: shorten the longest "
            "lines, or train on windows(…)."
        )


# Symbols. Letters are cut as numbers, which for a large text takes a hundredth of the time.


def _making(
    *, words: bool, lower: bool, vocabulary: int, lines: bool
) -> Callable[[str], Vocabulary]:
    expect_flag("words", words)
    expect_flag("lower", lower)
    hint = "give the largest number of different symbols"
    expect_count("vocabulary", vocabulary, least=2, most=_MOST_SYMBOLS, hint=hint)

    def make(text: str) -> Vocabulary:
        counts = _counted(_cut(text, words=words))
        counts.pop(END, None)
        room = vocabulary - 1
        # New texts have words of their own, but hardly letters.
        unknown = bool(counts.pop(UNKNOWN, 0)) or words or len(counts) > room
        if unknown:
            # Of equally frequent symbols the first ones in the order of code points are kept.
            ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            counts = dict(ranked[: room - 1])
        more = [UNKNOWN] if unknown else []
        return Vocabulary([END, *sorted(counts), *more], words=words, lines=lines)

    return make


def _cut(text: str, *, words: bool) -> Sequence[str] | NDArray[np.uint32]:
    """The symbols of a text: words, or the code points of letters."""
    if words:
        return [word[:_LONGEST_SYMBOL] for word in _WORD.findall(text)]
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def _counted(symbols: Sequence[str] | NDArray[np.uint32]) -> dict[str, int]:
    if isinstance(symbols, np.ndarray):
        codes, counts = np.unique(symbols, return_counts=True)
        return dict(zip(map(chr, codes.tolist()), counts.tolist(), strict=True))
    return dict(collections.Counter(symbols))


def _numbered(symbols: Sequence[str] | NDArray[np.uint32], known: Sequence[str]) -> _Ids:
    """The number of each symbol."""
    unknown = known.index(UNKNOWN) if UNKNOWN in known else -1
    if isinstance(symbols, np.ndarray):
        codes = np.array([ord(symbol) if len(symbol) == 1 else 0 for symbol in known], np.uint32)
        order = np.argsort(codes, kind="stable")
        places = np.searchsorted(codes, symbols, sorter=order)
        numbers = order[np.minimum(places, len(order) - 1)]
        ids = np.where(codes[numbers] == symbols, numbers, unknown).astype(np.int64)
    else:
        number_of = {symbol: number for number, symbol in enumerate(known)}
        ids = np.array([number_of.get(symbol, unknown) for symbol in symbols], np.int64)
    if ids.size and ids.min() < 0:
        first = symbols[int(ids.argmin())]
        what, name = ("word", first) if isinstance(first, str) else ("letter", chr(int(first)))
        raise BadInput(
            f"the {what} {shown(name)} is not one of the {len(known)} symbols of the vocabulary: "
            "leave it out, or train on a text that has it."
        )
    return ids
