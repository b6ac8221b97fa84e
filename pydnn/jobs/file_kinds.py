"""Finds out from its contents what a file is, so that an error can name the actual kind."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from pydnn.checks import BadInput
from pydnn.recipes.toml import read_toml
from pydnn.storage.checksums import may_be_sealed
from pydnn.storage.files import open_regular
from pydnn.storage.hdf5 import holds, open_hdf5, read_text

__all__ = ["MODEL", "RECIPE_TEXT", "TEXT", "UNKNOWN", "expecting", "kind_of"]

MODEL, RECIPE_TEXT, TEXT = "a model", "a recipe", "a text"
UNKNOWN = "a file of an unknown kind"

_HEAD = 1 << 16  # bytes that are read
_HDF5 = b"\x89HDF\r\n\x1a\n"
_BY_BEGINNING = {
    b"\x89PNG\r\n\x1a\n": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"GIF8": "a picture (GIF)",
    b"BM": "a picture (BMP)",
    b"II*\0": "a picture (TIFF)",
    b"MM\0*": "a picture (TIFF)",
    b"RIFF": "a picture (WEBP) or a sound",
    b"%PDF": "a PDF document",
    b"\x93NUMPY": "a NumPy array",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a file compressed by gzip",
    b"\x80\4": "a Python pickle",
    b"\x80\5": "a Python pickle",
}
_BY_NAME_INSIDE = {
    "train_X": "a table of examples",
    "train_set_x": "a file of photos",
    "test_set_x": "a file of photos",
    "train_images": "a file of decoded pictures",
}


@contextlib.contextmanager
def expecting(path: Path, *kinds: str, expected: str, hint: str) -> Iterator[None]:
    """A context in which an error about `path` says what the file is, if it is of a wrong kind.

    Args:
        path: The file that the code inside the context reads.
        kinds: The kinds that it may have, as `kind_of` names them.
        expected: The message's words for what was expected.
        hint: The message's words for what to do.

    Raises:
        BadInput: If the code inside raises it, with a message that names the kind of the file if
            that is the wrong one.
    """
    try:
        yield
    except BadInput as error:
        kind = kind_of(path)
        if kind in (None, *kinds):
            raise  # the kind is right, so the error itself says what is wrong
        raise BadInput(f"{path} is {kind}, expected {expected}: {hint}.") from error


def kind_of(path: Path) -> str | None:
    """The kind of the file `path`, with its article, e.g. "a table of examples".

    None if it is missing, is not a regular file, or is a damaged file of pydnn's own, because
    then the function that reads it gives a better message.

    Example:
        >>> from pathlib import Path
        >>> file = Path("notes.txt")
        >>> _ = file.write_text("some words")
        >>> kind_of(file)
        'a text'
    """
    try:
        with open_regular(path, what="a file") as file:
            head = file.read(_HEAD)
    except BadInput:
        return None
    if not head:
        return "an empty file"
    if may_be_sealed(head) or head.startswith(_HDF5):
        return _kind_of_hdf5(path, sealed=not head.startswith(_HDF5))
    for beginning, kind in _BY_BEGINNING.items():
        if head.startswith(beginning):
            return kind
    try:
        # The end of a partial read may split a letter, which takes at most 4 bytes in UTF-8.
        return _kind_of_text(head.decode() if len(head) < _HEAD else head[:-4].decode())
    except UnicodeDecodeError:
        return UNKNOWN


def _kind_of_hdf5(path: Path, *, sealed: bool) -> str | None:
    try:
        with open_hdf5(path, sealed=sealed) as file:
            for name, kind in _BY_NAME_INSIDE.items():
                if holds(file, name):
                    return kind
            written = read_text(file, "format", fixed=False)
    except BadInput:
        # Only pydnn writes checksums, so a file that has one and cannot be read is damaged.
        return None if sealed else "an HDF5 file that pydnn did not write"
    kinds = {"pydnn model": MODEL, "pydnn segment": "a segment of a run"}
    return kinds.get(written.rpartition(" ")[0], f"an HDF5 file of the format {written!r}")


def _kind_of_text(text: str) -> str:
    with contextlib.suppress(ValueError, RecursionError):
        plain = json.loads(text)
        if isinstance(plain, dict):
            ours = {"why": "the end of a run", "arithmetic": "the environment of a run"}
            return next((kind for name, kind in ours.items() if name in plain), "a JSON file")
    with contextlib.suppress(BadInput):
        if {"network", "optimizer", "iterations"} & set(read_toml(text.removeprefix("\ufeff"))):
            return RECIPE_TEXT
    return TEXT
