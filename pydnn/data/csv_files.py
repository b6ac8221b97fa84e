"""Tables from text files: CSV, TSV, and their relatives with semicolons.

Every number is the float64 that is nearest to the written one, as Python's `float` gives it. The
file is read in pieces, and a piece of a column is read as numbers; a column in which that fails is
read again as texts from the beginning, so that no text is ever made of a number. `pydnn.data.cells`
reads numbers and finds equal texts; `float` and `str` read the rest, and the csv module the pieces
in which quotes hold a line break or a quote.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from pydnn.checks import BadInput
from pydnn.data.cells import cut
from pydnn.data.frames import numbered
from pydnn.data.tables import BOOLEAN, DATE, TEXT, Column, Table
from pydnn.free_memory import readable
from pydnn.long_work import report_work
from pydnn.records import FloatArray, freeze
from pydnn.storage.files import open_regular, unchanged

__all__ = ["MISSING", "CsvTable", "HoldsTexts", "open_csv", "read_csv"]

# What stands for a missing value; other libraries take the same texts for one.
MISSING = frozenset(
    {"", "NA", "N/A", "n/a", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "<NA>", "#N/A"}
    | {"#N/A N/A", "#NA", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"}
)
_TRUTHS = {"true": 1.0, "True": 1.0, "TRUE": 1.0, "false": 0.0, "False": 0.0, "FALSE": 0.0}
_DELIMITERS = "\t;,|"  # in this order, since numbers may hold commas
_CELLS = 1 << 15  # of a piece: enough to be fast, and they stay in the cache
_ROWS, _WIDTH = 32, 16  # the fewest rows of a piece, and the usual characters of a cell
_SNIFFED = 20  # records that a delimiter must cut alike
_BLOCK = 1 << 18  # bytes that are read at once
_LONGEST = 1 << 24  # bytes of a line, or characters of a record, which is in memory as a whole
_MOST_COLUMNS = 1 << 20
_LARGE = 1 << 26  # bytes of a file that takes so long to read that progress is worth showing

_DAY = r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})"
_TIME = r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?(\s?[AaPp][Mm])?"
_A_DATE = re.compile(rf"(({_DAY})([T ]{_TIME})?|{_TIME})\s?(Z|UTC|[+-]\d{{2}}:?\d{{2}})?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}([,.'\u2019\s]\d{3})+([.,]\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")


def read_csv(
    path: Path,
    *,
    header: bool | None = None,
    delimiter: str | None = None,
    texts: Collection[str] = (),
    known: Collection[str] = (),
    ignored: Collection[str] = (),
) -> Table:
    """Read a table from a file of delimited text in UTF-8.

    Args:
        path: The file.
        header: Whether the first line names the columns; None to decide by whether its cells are
            numbers. Without names, columns are called "column 1" and so on.
        delimiter: What separates the cells of a line; None to find it in the first lines.
        texts: Names of columns that hold texts, even if all of them could be read as numbers.
        known: Names of columns that the table is expected to have. A first line with all of them
            names the columns, even if all its cells are numbers.
        ignored: Names of columns that nobody uses, so they may hold numbers with commas.

    Raises:
        BadInput: If the file cannot be read, changes while it is read, is empty, or is not UTF-8;
            if a line is longer than 16 MiB, or has more or fewer cells than the first; if there are
            more than 1,048,576 columns, a column has no name, or two have one; or if numbers are
            written with commas or separated thousands.
    """
    with open_csv(
        path, header=header, delimiter=delimiter, texts=texts, known=known, ignored=ignored
    ) as table:
        size = path.stat().st_size
        while True:
            try:
                blocks = []
                for values, _ in table.blocks():
                    blocks.append(values)
                    if size > _LARGE:
                        report_work("reading", min(table.place, size), size)
                break
            except HoldsTexts:
                continue  # with those columns as texts
        columns, meanings = zip(*table.settled(), strict=True)
    values = np.empty((len(columns), sum(block.shape[1] for block in blocks)))  # column by column
    np.concatenate(blocks, axis=1, out=values)
    for row, codes in zip(values, meanings, strict=True):
        if codes is not None:
            row[:] = codes[row.astype(np.int64)]
    return Table(columns, freeze(values))


@contextlib.contextmanager
def open_csv(
    path: Path,
    *,
    header: bool | None = None,
    delimiter: str | None = None,
    texts: Collection[str] = (),
    known: Collection[str] = (),
    ignored: Collection[str] = (),
) -> Iterator[CsvTable]:
    """Open a table for reading its rows block by block; see `read_csv`.

    Raises:
        BadInput: As `read_csv` does.
    """
    with open_regular(path, what="a table's file") as file, unchanged(file, path):
        look = _look(path, file)
        text = io.TextIOWrapper(file, "utf-8-sig", newline="")
        source = _Source(path, file, text, delimiter or "", look.quoted, look.bare_returns)
        try:
            source = attrs.evolve(source, delimiter=delimiter or _delimiter(source))
            yield CsvTable(
                source, header, frozenset(texts), look.plain, frozenset(known), frozenset(ignored)
            )
        except UnicodeDecodeError as error:
            raise BadInput(
                f"{path} is not UTF-8 (byte {error.object[error.start]:#x}), expected it: save the "
                "table as CSV in UTF-8."
            ) from error
        finally:
            source.text.detach()  # the one who opened the file closes it


class HoldsTexts(Exception):  # noqa: N818 - no error: a request to read the file once more
    """Columns that seemed to hold numbers hold texts, so the file has to be read again."""


class CsvTable:
    """A table in a file, whose rows are read block by block; made by `open_csv`.

    Attributes:
        names: The names of its columns.
        headed: Whether they are those of its first line.
    """

    def __init__(
        self,
        source: _Source,
        header: bool | None,
        forced: frozenset[str],
        plain: bool,
        known: frozenset[str],
        ignored: frozenset[str],
    ) -> None:
        """Read the first line, and decide whether it names the columns."""
        first = list(itertools.islice(source.records(), 2))
        if not first:
            raise BadInput(
                f"{source.path} has only blank lines, expected a table: download or save it again."
            )
        line, names = first[0]
        if len(names) > _MOST_COLUMNS:
            raise BadInput(
                f"line {line} of {source.path} has {len(names)} cells, expected a table of at most "
                f"{_MOST_COLUMNS} columns: leave some out."
            )
        headed = header
        if headed is None:
            has_known = bool(known) and known <= {*names}
            headed = has_known or _is_header(*(record for _, record in first))
        if headed:
            _expect_names(source.path, line, names)
        else:
            plain = plain and "_" not in "".join(names)  # a line without names counts as well
            names = numbered(len(names))
        if headed and len(first) == 1:
            raise BadInput(
                f"{source.path} has only names of columns, expected rows below them: download or "
                "save it again."
            )
        self.names, self.headed, self._ignored = tuple(names), headed, ignored
        self._source, self._skipped, self._forced, self._plain = source, int(headed), forced, plain
        self._as_texts = {place for place, name in enumerate(names) if name in forced}
        self._columns: list[_Numbers | _Texts] = []

    @property
    def place(self) -> int:
        """The number of bytes that are read in this pass, about."""
        return self._source.raw.tell()

    def texts(self) -> dict[str, Collection[str]]:
        """The different texts that have been read in this pass, by the name of their column."""
        columns = zip(self.names, self._columns, strict=True)
        return {name: column.places for name, column in columns if isinstance(column, _Texts)}

    def blocks(self) -> Iterator[tuple[FloatArray, list[int]]]:
        """All rows in order, in one pass through the file.

        Yields:
            The values (columns, rows) of some rows, and the places of the columns whose values are
            codes, of which `settled` knows the meanings in the end.

        Raises:
            HoldsTexts: After all blocks, or the first, if a column of numbers turned out to hold
                texts. The blocks are to be forgotten; the next call reads that column as texts.
            BadInput: As `read_csv` does.
        """
        columns: list[_Numbers | _Texts] = [
            _Texts() if place in self._as_texts else _Numbers(self._plain)
            for place in range(len(self.names))
        ]
        self._columns = columns
        numbers = [p for p, column in enumerate(columns) if isinstance(column, _Numbers)]
        coded = sorted(self._as_texts)
        turned: set[int] = set()
        pieces = self._source.pieces(len(columns), skipped=self._skipped, numbers=numbers)
        for number, piece in enumerate(pieces):
            values = piece.values(columns, turned)
            if turned and not number:
                break  # nothing is lost yet
            if not turned:
                yield values, coded
        if turned:
            self._as_texts |= turned
            raise HoldsTexts

    def settled(self) -> list[tuple[Column, FloatArray | None]]:
        """The columns, each with the values that its codes mean, once all blocks are read.

        Raises:
            BadInput: If a column holds numbers with commas or separated thousands.
        """
        settled: list[tuple[Column, FloatArray | None]] = []
        for place, (name, column) in enumerate(zip(self.names, self._columns, strict=True)):
            if isinstance(column, _Numbers):
                settled.append((Column(name), None))
                continue
            forced = name in self._forced
            if strange := None if forced or name in self._ignored else column.with_commas():
                what, example, hint = strange
                row = self._row_of(place, example)
                raise BadInput(
                    f"column {name!r} of {self._source.path} holds {what}, e.g. {example!r} in row "
                    f"{row}, expected numbers such as 1234.5: {hint}."
                )
            settled.append(column.settled(name, forced=forced))
        return settled

    def _row_of(self, place: int, text: str) -> int:
        """The number, from 1 on, of the first row that holds a text."""
        rows = itertools.islice(self._source.records(), self._skipped, None)
        return next(n for n, (_, record) in enumerate(rows, 1) if record[place] == text)


@attrs.frozen(eq=False)
class Stretch:
    """A piece of a column, as far as it can be read without knowing what the column holds.

    Attributes:
        texts: The texts that the column has to read.
        places: The place of each cell's text among them; the places of their cells if there are
            numbers.
        numbers: The numbers of all other cells; None if all cells are among the texts.
    """

    texts: Sequence[str] = ()
    places: NDArray[np.intp] | slice = slice(0)
    numbers: FloatArray | None = None

    def values(self, read: FloatArray) -> FloatArray:
        """The value of each cell, from those of the texts."""
        if self.numbers is None:
            return read[self.places]
        self.numbers[self.places] = read
        return self.numbers


@attrs.frozen(eq=False)
class Piece:
    """Some rows of a table.

    Attributes:
        numbers: The columns that are read already, (columns, rows).
        whole: The places of these columns in the table.
        stretches: The other columns, by place.
    """

    numbers: FloatArray
    whole: Sequence[int]
    stretches: Mapping[int, Stretch]

    def values(self, columns: Sequence[_Numbers | _Texts], turned: set[int]) -> FloatArray:
        """The values (columns, rows); what `columns` refuse to read is added to `turned`."""
        if len(self.whole) == len(columns):
            return self.numbers
        read: dict[int, FloatArray] = {}
        for place, stretch in self.stretches.items():
            part = None if place in turned else columns[place].read(stretch.texts)
            if part is None:
                turned.add(place)
            else:
                read[place] = stretch.values(part)
        if turned:
            return self.numbers  # nobody needs the rest
        values = np.empty((len(columns), len(next(iter(read.values())))))
        values[list(self.whole)] = self.numbers
        for place, part in read.items():
            values[place] = part
        return values


@attrs.frozen
class _Source:
    """A file that is read from its beginning as often as is needed."""

    path: Path
    raw: io.BufferedReader
    text: io.TextIOWrapper
    delimiter: str
    quoted: bool
    bare_returns: bool

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Each record that is not blank, with the number of the line in which it begins."""
        self.text.seek(0)
        lines = _Lines(self)
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
        line = 1
        try:
            for record in reader:
                if record:
                    yield line, record
                lines.room, line = _LONGEST, reader.line_num + 1
        except csv.Error as error:
            raise self.refused(line, error) from error

    def pieces(self, columns: int, *, skipped: int, numbers: Sequence[int]) -> Iterator[Piece]:
        """The cells of each column, in pieces of some records.

        Args:
            columns: How many there are.
            skipped: The number of records at the beginning that are left out.
            numbers: The places of the columns that may be numbers.
        """
        self.text.seek(0)
        # A line of a single empty cell in quotes is a record, and without them it is blank.
        simple = columns > 1 and not self.bare_returns and self.delimiter.isascii()
        if self.quoted and not simple:
            return self._cut_at_quotes(columns, skipped)
        return self._cut_at_delimiters(columns, skipped, numbers)

    def _cut_at_quotes(self, columns: int, skipped: int) -> Iterator[Piece]:
        lines = _Lines(self)
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
        records = itertools.islice(filter(None, lines.each(reader)), skipped, None)
        rows = max(_ROWS, _CELLS // columns)
        piece: list[list[str]] = []
        try:
            for record in records:
                piece.append(record)
                if len(piece) == rows:
                    yield self._of_records(piece, columns)
                    piece = []
        except csv.Error as error:
            if any(len(record) != columns for record in piece):  # the first fault is named
                raise self.ragged(columns) from error
            raise self.refused(reader.line_num, error) from error
        if piece:
            yield self._of_records(piece, columns)

    def _of_records(self, records: Sequence[list[str]], columns: int) -> Piece:
        if set(map(len, records)) != {columns}:
            raise self.ragged(columns)
        cells = enumerate(zip(*records, strict=True))
        stretches = {place: Stretch(texts, slice(None)) for place, texts in cells}
        return Piece(np.empty((0, len(records))), (), stretches)

    def _unquoted(self, size: int, skipped: int) -> Iterator[tuple[bytes, str] | list[list[str]]]:
        """Pieces of a file with quotes: as lines without them, with a delimiter, or as records.

        The csv module reads the pieces that have a line break or a quote inside of quotes, and the
        first one, if records are left out.
        """
        line = 0
        for piece in self._lines(size):
            plain = None if skipped else _without_quotes(piece, self.delimiter)
            if plain is not None:
                line += piece.count(b"\n")
                yield plain
                continue
            count = piece.count(b"\n") + (not piece.endswith(b"\n"))
            lines = _Lines(self, self._from(piece), line)
            reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
            records, failed = [], None
            try:
                for record in lines.each(reader):
                    records.append(record)
                    if reader.line_num >= count:  # the last record may end behind the piece
                        break
            except csv.Error as error:
                failed = error
            line += reader.line_num
            records = list(filter(None, records))
            left_out = min(skipped, len(records))
            skipped -= left_out
            if len(records) > left_out:
                yield records[left_out:]
            if failed is not None:  # after the records before it, of which one may be wrong, too
                raise self.refused(line, failed) from failed

    def _from(self, piece: bytes) -> Iterator[str]:
        """The lines of a piece, and those after it."""
        yield from io.StringIO(piece.decode(), newline="\n")
        while line := self.raw.readline():
            yield line.decode()

    def _cut_at_delimiters(
        self, columns: int, skipped: int, numbers: Sequence[int]
    ) -> Iterator[Piece]:
        """The same, most cells of which are read many at once."""
        likely = list(numbers)  # the columns in which most cells were numbers up to now
        size = self._piece_size(columns)
        plain = ((lines, self.delimiter) for lines in self._lines(size))
        pieces = self._unquoted(size, skipped) if self.quoted else plain
        skipped = 0 if self.quoted else skipped
        for one in pieces:
            if isinstance(one, list):
                yield self._of_records(one, columns)
                continue
            piece, delimiter = one
            # Only a line of a single column looks like a record if it is blank.
            cells = None if skipped or columns == 1 else cut(piece, delimiter, columns)
            if cells is None:
                piece = _without_blank_lines(piece)
                while skipped and piece:
                    piece, skipped = piece.partition(b"\n")[2], skipped - 1
                if not piece:
                    continue
                cells = cut(piece, delimiter, columns)
            if cells is None:
                raise self.ragged(columns)
            values, right = cells.decimals(likely)
            are_right: NDArray[np.bool_] = np.all(right, axis=1)
            whole = [likely[row] for row in np.flatnonzero(are_right)]
            if len(whole) == columns:
                yield Piece(values, whole, {})
                continue
            parts: dict[int, Stretch] = {}
            for row in np.flatnonzero(~are_right):
                others = np.flatnonzero(~right[row])
                if 2 * len(others) < right.shape[1]:
                    place = likely[row]
                    parts[place] = Stretch(cells.texts(place, others), others, values[row])
            likely = sorted([*whole, *parts])
            for place in set(range(columns)).difference(likely):
                own, places = cells.different(place)
                parts[place] = Stretch(cells.texts(place, own), places)
            yield Piece(values[are_right], whole, parts)

    def _piece_size(self, columns: int) -> int:
        """The bytes of a piece whose cells are enough to be fast and stay in the cache."""
        start = self.raw.read(_BLOCK)
        cells = start.count(self.delimiter.encode()) + start.count(b"\n")
        return max(_ROWS * _WIDTH * columns, min(_BLOCK, len(start) * _CELLS // max(1, cells)))

    def _lines(self, size: int) -> Iterator[bytes]:
        """Whole lines of a file, with line feeds, about `size` bytes at once."""
        if self.bare_returns:
            self.text.seek(0)
            while text := self.text.read(size):
                text += self.text.readline()
                yield text.replace("\r\n", "\n").replace("\r", "\n").encode()
            return
        self.raw.seek(0)
        if self.raw.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            self.raw.seek(0)
        while piece := self.raw.read(size):
            piece += self.raw.readline()
            if not piece.isascii():
                piece.decode()  # refuses whatever is not UTF-8
            yield piece.replace(b"\r\n", b"\n") if b"\r" in piece else piece

    def ragged(self, columns: int) -> BadInput:
        """The error about the first record with a different number of cells."""
        for line, record in self.records():
            if len(record) != columns:
                return BadInput(
                    f"line {line} of {self.path} has {len(record)} cells, expected {columns} as in "
                    "the first line: correct it, or put cells that hold the delimiter "
                    f"{self.delimiter!r} in quotes."
                )
        return BadInput(f"{self.path} has changed while it was read: read it again.")

    def refused(self, line: int, error: csv.Error) -> BadInput:
        """The error about a record that cannot be read."""
        return BadInput(
            f"line {line} of {self.path} cannot be read ({error}): correct the quotes in it, or "
            "write the table again."
        )


class _Lines:
    """The lines of a file, of which one record must not take too many.

    Attributes:
        room: The characters that the present record may still have.
    """

    def __init__(
        self, source: _Source, lines: Iterable[str] | None = None, before: int = 0
    ) -> None:
        """Begin at the present place of the text.

        Args:
            source: The file.
            lines: The lines; by default those of the text.
            before: The number of lines before them.
        """
        self.room, self._source, self._before = _LONGEST, source, before
        self._lines = source.text if lines is None else lines

    def __iter__(self) -> Iterator[str]:
        # Without quotes, each line is a record, of which `_look` knows that it is not too long.
        return self._bounded() if self._source.quoted else iter(self._lines)

    def _bounded(self) -> Iterator[str]:
        for number, line in enumerate(self._lines, self._before + 1):
            self.room -= len(line)
            if self.room < 0:
                raise _too_long(self._source.path, f"the record around line {number}")
            yield line

    def each(self, records: Iterable[list[str]]) -> Iterator[list[str]]:
        """Each of the records, after which the next one may take as many lines."""
        for record in records:
            self.room = _LONGEST
            yield record


def _too_long(path: Path, what: str) -> BadInput:
    return BadInput(
        f"{what} of {path} is longer than {readable(_LONGEST)}, expected a table of one line for "
        "each row: check what the file is."
    )


@attrs.frozen
class _Look:
    """The result of a first look at the bytes of a file.

    Attributes:
        plain: Whether `float` needs no second look. It takes digits of every script, and
            underscores between them.
        quoted: Whether there are quotes, which may hold delimiters and line breaks.
        bare_returns: Whether lines may end with a carriage return and no line feed.
    """

    plain: bool
    quoted: bool
    bare_returns: bool


def _without_blank_lines(lines: bytes) -> bytes:
    lines = lines.strip(b"\n")
    while b"\n\n" in lines:
        lines = lines.replace(b"\n\n", b"\n")
    return lines


_QUOTE, _FEED = b'"\n'


def _without_quotes(lines: bytes, delimiter: str) -> tuple[bytes, str] | None:
    """The same cells without quotes, and the delimiter between them.

    None if a quote does not begin or end a cell, a cell has a line break, a line has nothing else
    than a cell in quotes, or one is so long that the csv module would refuse it.
    """
    if b'"' not in lines:
        return lines, delimiter
    chars = np.frombuffer(lines if lines.endswith(b"\n") else lines + b"\n", np.uint8)
    feeds = np.flatnonzero(chars == _FEED)
    quotes = np.flatnonzero(chars == _QUOTE)
    if len(quotes) % 2 or np.diff(feeds, prepend=-1).max() > csv.field_size_limit():
        return None
    between = ord(delimiter)
    before = chars.take(quotes[::2] - 1)  # of the first byte it is the last one, a line feed
    after = chars.take(quotes[1::2] + 1)
    begins, ends = before == _FEED, after == _FEED
    if not ((begins | (before == between)) & (ends | (after == between))).all():
        return None
    if (begins & ends).any() or (np.searchsorted(quotes, feeds) % 2).any():
        return None
    delimiters = np.flatnonzero(chars == between)
    are_text = np.searchsorted(quotes, delimiters) % 2 == 1
    if are_text.any():  # no file of text holds a zero byte, which becomes the delimiter
        chars = chars.copy()
        chars[delimiters[~are_text]] = 0
        lines, delimiter = chars.tobytes(), "\0"
    return lines.translate(None, b'"'), delimiter


def _look(path: Path, file: io.BufferedReader) -> _Look:
    """Look at all bytes of a file, which is refused if it is not text."""
    plain, quoted, bare, first, carried, size, line = True, False, False, b"", b"", 0, 0
    while block := file.read(_BLOCK):
        size += len(block)
        cells = block if first else block[block.find(b"\n") + 1 :]  # names may have underscores
        first = first or block[:4]
        plain = plain and block.isascii() and b"_" not in cells
        quoted = quoted or b'"' in block
        end = max(block.rfind(b"\n"), block.rfind(b"\r"))
        line = line + len(block) if end < 0 else len(block) - 1 - end  # bytes of the present one
        if line > _LONGEST:
            raise _too_long(path, f"line {_line_at(file, size - line)}")
        if b"\r" in block or carried:
            block = carried + block
            carried = block[-1:] if block.endswith(b"\r") else b""  # a line feed may follow
            bare = bare or b"\r" in block[: len(block) - len(carried)].replace(b"\r\n", b"")
        if b"\0" in block:
            what = "UTF-16" if first[:2] in (b"\xff\xfe", b"\xfe\xff") else "not text"
            raise BadInput(f"{path} is {what}, expected UTF-8: save the table as CSV in UTF-8.")
    if not size:
        raise BadInput(f"{path} is empty, expected a table: get the file again.")
    file.seek(0)
    return _Look(plain, quoted, bare or bool(carried))


def _line_at(file: io.BufferedReader, place: int) -> int:
    """The number of the line that begins at a place in a file."""
    file.seek(0)
    breaks = np.zeros(2, np.int64)  # either kind, or both for each line
    while place:
        block = file.read(min(_BLOCK, place))
        breaks += block.count(b"\n"), block.count(b"\r")
        place -= len(block)
    return 1 + int(breaks.max())


def _delimiter(source: _Source) -> str:
    """The delimiter that cuts the first records into equally many cells, and more than one."""
    if source.path.suffix.lower() in (".tsv", ".tab"):
        return "\t"
    for delimiter in _DELIMITERS:
        records = attrs.evolve(source, delimiter=delimiter).records()
        try:
            counts = {len(record) for _, record in itertools.islice(records, _SNIFFED)}
        except BadInput:
            continue  # quotes that this delimiter does not go with
        if len(counts) == 1 and counts != {1}:
            return delimiter
    # Ragged records are refused later, by their line.
    _, first = next(attrs.evolve(source, delimiter=",").records(), (1, [""]))
    return next((d for d in _DELIMITERS if d in first[0]), ",") if len(first) == 1 else ","


def _is_header(first: Sequence[str], second: Sequence[str] = ()) -> bool:
    """Whether the first record names the columns.

    That is so if none of its cells is a number, or if a text of it stands over a number.
    """
    # A decimal comma is refused later, as in the rows below. Each text is looked at once, since a
    # stranger's file may have millions of equal ones.
    numbers = {cell for cell in {*first} if _is_number(cell) or _DECIMAL_COMMA.fullmatch(cell)}
    if not numbers:
        return True
    return any(
        cell not in numbers and cell not in MISSING and _is_number(below)
        for cell, below in zip(first, second, strict=False)
    )


def _is_number(cell: str) -> bool:
    if cell in MISSING:
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell and cell.isascii()


def _expect_names(path: Path, line: int, names: Sequence[str]) -> None:
    places: dict[str, int] = {}
    for place, name in enumerate(names, 1):
        if not name.strip():
            raise BadInput(
                f"column {place} has no name in line {line} of {path}, expected one: name it, or "
                "remove it (pandas writes its index like this unless you pass index=False)."
            )
        if places.setdefault(name, place) != place:
            raise BadInput(
                f"columns {places[name]} and {place} of {path} are both called {name!r}, expected "
                "two names: rename one."
            )


class _Numbers:
    """A column of numbers, as long as all its cells are numbers or missing."""

    def __init__(self, plain: bool) -> None:
        self.plain = plain  # whether `float` needs no second look
        self.whole = True  # whether nothing was missing up to now

    def read(self, cells: Sequence[str]) -> FloatArray | None:
        """The numbers in cells; None if one is not a number."""
        if not self.plain:
            together = "".join(cells)
            if "_" in together or not together.isascii():
                return self._one_by_one(cells)
        if self.whole:
            try:
                return np.fromiter(map(float, cells), np.float64, len(cells))
            except ValueError:
                self.whole = False
        try:
            return np.array([math.nan if cell in MISSING else float(cell) for cell in cells])
        except ValueError:
            return self._one_by_one(cells)

    def _one_by_one(self, cells: Sequence[str]) -> FloatArray | None:
        """The same of cells with blanks, or texts such as "1_000" that only Python takes."""
        numbers = []
        for cell in cells:
            if _is_number(cell):
                numbers.append(float(cell))
            elif cell.strip() in MISSING:
                numbers.append(math.nan)
            else:
                return None
        return np.array(numbers)


class _Texts:
    """A column of texts; equal texts are kept once."""

    def __init__(self) -> None:
        self.places: defaultdict[str, int] = defaultdict()
        self.places.default_factory = self.places.__len__

    def read(self, cells: Sequence[str]) -> FloatArray:
        """The places of cells among the texts."""
        place: Callable[[str], int] = self.places.__getitem__
        return np.fromiter(map(place, cells), np.float64, len(cells))

    def settled(self, name: str, *, forced: bool) -> tuple[Column, FloatArray]:
        """The column, and its values: places among the sorted texts, or truth values."""
        present = self._present()
        if not forced and present and all(text in _TRUTHS for text in present):
            column, meaning = Column(name, BOOLEAN), _TRUTHS
        else:
            dates = not forced and present and all(map(_A_DATE.fullmatch, present))
            column = Column(name, DATE if dates else TEXT, tuple(present))
            meaning = {text: float(place) for place, text in enumerate(present)}
        return column, np.array([meaning.get(text, math.nan) for text in self.places])

    def _present(self) -> list[str]:
        return sorted(text for text in self.places if text.strip() not in MISSING)

    def with_commas(self) -> tuple[str, str, str] | None:
        """What numbers the column holds that are written for people, an example, and advice.

        They would become texts. None if there are other texts, or none.
        """
        strange = [text for text in self._present() if not _is_number(text)]
        if not strange:
            return None
        if all(map(_THOUSANDS.fullmatch, strange)):
            return "numbers with separated thousands", strange[0], "remove the separators"
        if all(_DECIMAL_COMMA.fullmatch(t) or _THOUSANDS.fullmatch(t) for t in strange):
            return "numbers with decimal commas", strange[0], "write decimal points"
        return None
