"""The numbers of a training as comma-separated values: a line for each step, a column per number.

Numbers have enough digits to restore all their bits. A cell is empty if the step lacks the number.
The columns are in the order in which the training first has these numbers. So the log of a
training, its log after a resume, and the output of `pydnn inspect --csv` are the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydnn.checks import AnyPath, BadInput, NameTaken, path_of, printable
from pydnn.storage.files import open_regular, write_atomically, writing
from pydnn.training import StepInfo, values_of
from pydnn.training.streams import Stream, logged

__all__ = ["CsvLog", "log_csv"]

_ALWAYS = ("cost", "gradient_norm")


def csv_lines(infos: Sequence[StepInfo]) -> Iterator[str]:
    """The lines of a log of these steps, beginning with the names of the columns."""
    names = list(_ALWAYS)
    for info in infos:
        names += [name for name in values_of(info) if name not in names]
    yield _heading(names)
    for info in infos:
        yield _line(names, info)


def _heading(names: Iterable[str]) -> str:
    return ",".join(map(_quoted, ("step", *names)))


def _quoted(name: str) -> str:
    name = printable(name)
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"') else name


def _line(names: Iterable[str], info: StepInfo) -> str:
    values = values_of(info)
    cells = (repr(values[name]) if name in values else "" for name in names)
    return ",".join((str(info.iteration), *cells))


class CsvLog:
    """A file of comma-separated values to which steps are added one by one; see `log_csv`.

    Raises:
        BadInput: If the file exists and is not a log of this training, or it cannot be written.
    """

    def __init__(
        self, path: AnyPath, *, resumed: bool = False, before: Iterable[StepInfo] = ()
    ) -> None:
        """Write the steps `before`, so that the log can go on after them.

        Args:
            path: The file.
            resumed: Whether the training is resumed, so that the file may be its log; then the log
                is written again from its first step on.
            before: The infos of the steps before the first new step.
        """
        before = list(before)
        self.path = path_of(path)
        self._names = list(_ALWAYS)
        for info in before:
            self._names += self._new_names(info)
        lines = [_line(self._names, info) for info in before]
        if resumed and os.path.lexists(self.path):
            _expect_own_log(self.path, lines[:1])
        else:
            expect_new_log(self.path)
        self._write_again(lines, replace=resumed)

    def write(self, info: StepInfo) -> None:
        """Write the numbers of one step."""
        if new := self._new_names(info):
            self.close()
            # The file is written again once for each new name, with empty cells for earlier steps.
            with writing(self.path):  # somebody may have removed it
                old = self.path.read_text(encoding="utf-8").splitlines()[1:]
            self._names += new
            self._write_again([line + "," * len(new) for line in old], replace=True)
        with writing(self.path):
            self._file.write(_line(self._names, info) + "\n")

    def close(self) -> None:
        """Write the rest, and close the file."""
        with writing(self.path):
            self._file.close()

    def _new_names(self, info: StepInfo) -> list[str]:
        return [name for name in values_of(info) if name not in self._names]

    def _write_again(self, lines: Iterable[str], *, replace: bool) -> None:
        text = "".join(f"{line}\n" for line in (_heading(self._names), *lines))
        write_atomically(
            self.path, lambda new: new.write_bytes(text.encode("utf-8")), replace=replace
        )
        with writing(self.path):
            # Line by line, so that people can follow the training in the file.
            self._file = self.path.open("a", buffering=1, encoding="utf-8", newline="\n")


def log_csv(stream: Stream, path: AnyPath) -> Stream:
    """Write the numbers of every step to a new file, and hand the pairs of `stream` on.

    The file can be read while it grows. For a recorded run, `record(…, csv=…)` does this, and
    continues the log when the run is resumed.

    Raises:
        BadInput: If something has that name already, or the file cannot be written.

    Example:
        >>> from pathlib import Path
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=3)
        >>> line = nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]])
        >>> trained = nn.train(recipe, line, through=lambda stream: log_csv(stream, "line.csv"))
        >>> lines = Path("line.csv").read_text().splitlines()
        >>> lines[0], len(lines)
        ('step,cost,gradient_norm,learning_rate', 4)
    """
    return logged(stream, CsvLog(path))


def expect_new_log(path: Path) -> None:
    """Refuse a file that exists already, because somebody may still need it."""
    if os.path.lexists(path):
        raise NameTaken(f"{path} exists already, expected a new file: choose another name.")


def _expect_own_log(path: Path, first: Sequence[str]) -> None:
    """Refuse to replace a file unless it begins as the log of this training does."""
    with open_regular(path, what="a log that pydnn wrote", links=False) as file:
        heading, line = (file.readline(1 << 16).decode(errors="replace") for _ in range(2))
    cells = 1 + len(_ALWAYS)
    same = heading.rstrip("\n").split(",")[:cells] == ["step", *_ALWAYS]
    if same and line.endswith("\n") and first:
        same = line.rstrip("\n").split(",")[:cells] == first[0].split(",")[:cells]
    if not same:
        raise BadInput(
            f"{path} is not a log of this training, expected that or a new file: choose another "
            "name."
        )
