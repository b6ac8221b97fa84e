"""Arrays in the files of Keras: `.weights.h5` and `.keras` of Keras 3, `.h5` of Keras 2.

In all of them a dense layer has its kernel (n_in, n_out), and then its bias.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from pydnn.checks import BadInput
from pydnn.interop.npz import opened_member, opened_zip
from pydnn.interop.stored import Source, Stored
from pydnn.records import AnyArray
from pydnn.storage.hdf5 import hdf5_in, holds, open_hdf5, read_array, shapes_in, texts_of

__all__ = ["CONFIG", "WEIGHTS", "open_keras_archive", "open_keras_hdf5"]

CONFIG, WEIGHTS = "config.json", "model.weights.h5"  # in a .keras file
_VARIABLE = re.compile(r"(?:(.*)/)?vars/\d+")
_NO_LAYERS = re.compile(r"_?(optimizer|metrics|compile_metrics|loss)\b|(.*/)?seed_generator\b")
_MOST_LAYERS = 10_000
_MOST_CONFIG = 1 << 26  # bytes


@contextlib.contextmanager
def open_keras_hdf5(path: Path) -> Iterator[Source]:
    """The arrays of the layers in an HDF5 file of Keras 2 or 3.

    Raises:
        BadInput: If the file is damaged, or is not one of Keras.
    """
    with open_hdf5(path) as file:
        yield _of_hdf5(file, [])


@contextlib.contextmanager
def open_keras_archive(path: Path) -> Iterator[Source]:
    """The arrays of the layers in a `.keras` file, in the order that its configuration names.

    Raises:
        BadInput: If the file is damaged.
    """
    with opened_zip(path, what="a .keras file") as archive:
        raw = io.BytesIO(_content(path, archive, WEIGHTS))
        with hdf5_in(raw, path / WEIGHTS) as file:
            yield _of_hdf5(file, _layers(path, archive))


def _content(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    with opened_member(path, archive, name) as member:
        return member.read()


def _of_hdf5(file: h5py.File, order: list[str]) -> Source:
    for group in ("", "model_weights"):
        if not group or holds(file, group):
            layers = texts_of(file, group, "layer_names")
            if layers is not None:
                names = [name for layer in layers for name in _of_layer(file, group, layer)]
                return Source([_stored(file, *each) for each in names], True, "keras")
    shapes = shapes_in(file)
    variables = [n for n in shapes if _VARIABLE.fullmatch(n) and not _NO_LAYERS.match(n)]
    if not variables:
        raise BadInput(
            f"{file.filename} has no layers of Keras: give what model.save_weights wrote, a "
            "model's file, or another format."
        )
    places = {f"{layer}/vars": number for number, layer in enumerate(order)}
    ordered = all(name.rpartition("/")[0] in places for name in variables)
    if ordered:
        variables.sort(key=lambda name: places[name.rpartition("/")[0]])
    arrays = [_stored(file, name.replace("/vars/", "/"), name, shapes[name]) for name in variables]
    return Source(arrays, ordered, "keras")


def _of_layer(
    file: h5py.File, group: str, layer: str
) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """The name to show, the name in the file and the shape of each weight of a Keras 2 layer."""
    inside = f"{group}/{layer}" if group else layer
    shapes = shapes_in(file, inside)
    for number, weight in enumerate(texts_of(file, inside, "weight_names") or []):
        name = f"{inside}/{weight}"
        if name not in shapes:
            raise BadInput(
                f"{name} is not in {file.filename}, which names it: download or save it again."
            )
        leaf = weight.rpartition("/")[2].partition(":")[0]
        yield f"{layer}/{leaf or number}", name, shapes[name]


def _stored(file: h5py.File, shown: str, name: str, shape: tuple[int, ...]) -> Stored:
    def read() -> AnyArray:
        return read_array(file, name, dtype=np.number, shape=shape)

    return Stored(shown, shape, read)


def _layers(path: Path, archive: zipfile.ZipFile) -> list[str]:
    """The groups of a model's layers in their order; [] if the configuration does not name them."""
    if CONFIG not in archive.namelist() or archive.getinfo(CONFIG).file_size > _MOST_CONFIG:
        return []
    try:
        config = json.loads(_content(path, archive, CONFIG))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{CONFIG} in {path} is not JSON: download or save it again.") from error
    groups: list[str] = []
    _walk(config, "", groups)
    return groups


def _walk(config: object, place: str, groups: list[str]) -> None:
    """Add the groups of the layers in a configuration, each named by its class and a count."""
    match config:
        case {"config": {"layers": [*layers]}} if len(groups) < _MOST_LAYERS:
            counts: dict[str, int] = {}
            for layer in layers:
                match layer:
                    case {"class_name": str(name)}:
                        snake = _snake_case(name)
                        count = counts[snake] = counts.get(snake, -1) + 1
                        group = f"{place}layers/{snake}" + (f"_{count}" if count else "")
                        groups.append(group)
                        _walk(layer, f"{group}/", groups)


def _snake_case(name: str) -> str:
    """`BatchNormalization` as `batch_normalization`, and `Conv2D` as `conv2d`, as Keras has it."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
