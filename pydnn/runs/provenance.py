"""Provenance: hashes of the data and of the source code that a run was recorded with.

A recipe holds only the names of its data and functions. The hashes lie beside it in `recipe.toml`,
in the table `recorded`. They show whether the data and functions of these names are still the same.
"""

from __future__ import annotations

import ast
import hashlib
import math
import reprlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TypeGuard

import attrs
import numpy as np
from numpy.typing import DTypeLike

from pydnn.batches import examples_first
from pydnn.checks import BadInput, expect_known, is_count, is_shape
from pydnn.data import DataSet, Stored, TableBatch, lasting_name
from pydnn.data.tables import TableExamples
from pydnn.descriptions.parts import is_description
from pydnn.descriptions.text import OWN_BUILDER
from pydnn.fingerprints import fingerprint
from pydnn.recipes.recipe import DTYPES, Recipe
from pydnn.recipes.toml import RECORDED, RECORDED_FORMAT, own_builders_of, toml_of, write_recipe
from pydnn.records import Examples, FloatArray
from pydnn.runs.data_files import DataFiles, sha256_of_blocks
from pydnn.stages.base import Shape
from pydnn.storage.files import RESTORE, open_regular

__all__ = [
    "Pins",
    "data_differences",
    "data_files",
    "function_differences",
    "parts_of",
    "pins_of",
    "pins_text",
    "read_pins",
    "read_sources",
    "rotated_pin",
    "start_pin",
    "unpinned",
    "write_sources",
]

_PARTS = ("train", "test")
_ARRAYS = ("X", "Y", "weights", "lengths")
_MOST_FEATURES = 1 << 48
_MOST_AXES = 8
_PLAIN_FORMAT = 2  # without arrays of other than two axes, which older versions cannot read
_MOST_SOURCE = 1 << 20  # bytes of a module that a run keeps


@attrs.frozen
class Pin:
    """The shape of one array of the data, whose last axis is the examples, dtype and SHA-256."""

    shape: tuple[int, ...]
    dtype: str
    sha256: str


@attrs.frozen
class Pins:
    """The provenance of a run.

    Attributes:
        data: The pins of the data's arrays, by part ("train", "test") and array ("X", "Y",
            "weights", "lengths").
        place: Where the data was: its name in the recipe or, if the name was a path, the full path.
        parts: The names of the parts of the training step, each with those of the parts inside it.
        functions: By `module:function`, the SHA-256 of the source of each module outside pydnn that
            the recipe names.
        rotated: The pin of the training examples in the basis that they were trained in, if it
            differs from their own; then the states hold weights in that basis.
        classes: The names of the classes, from number 0 on, if the data has names.
        format: The format of the table: 1 is that of pydnn 0.1.0, and 3 has arrays of any number
            of axes.
        test_place: The whole path of the file of the test part, if it has one of its own.
        encoded: The number of features that the columns of a table became; 0 for arrays.
        start: The SHA-256 of the weights that `start_from` of the recipe names; None without it.
    """

    data: Mapping[str, Mapping[str, Pin]]
    place: str
    parts: tuple[str, ...]
    functions: Mapping[str, str] = attrs.field(factory=dict)
    rotated: Pin | None = None
    classes: tuple[str, ...] | None = None
    format: int = _PLAIN_FORMAT
    test_place: str = ""
    encoded: int = 0
    start: str | None = None

    @property
    def shape(self) -> Shape:
        """The shape of an example in the basis that it was trained in."""
        if self.rotated is None and self.encoded:
            return (self.encoded,)
        return (self.rotated or self.data["train"]["X"]).shape[:-1]


def pins_of(
    recipe: Recipe,
    data: DataSet | Examples,
    parts: Sequence[str],
    *,
    rotated: FloatArray | None = None,
    encoded: int = 0,
    start: Mapping[str, FloatArray] | None = None,
) -> Pins:
    """The provenance of a run: fingerprints of the data and of the user's own functions.

    Args:
        recipe: The recipe of the run.
        data: The data that it is trained on.
        parts: The titles of the parts of its training step.
        rotated: The training examples in the basis that they are trained in, if it differs from
            their own.
        encoded: The number of features that the columns of a table became; 0 for arrays.
        start: The weights that `start_from` of the recipe names; None without it.

    Raises:
        BadInput: If the source of a function cannot be found, or the data holds a NaN.
    """
    functions = {}
    for name in sorted(_own_builders(recipe)):
        if not OWN_BUILDER.fullmatch(name):
            raise BadInput(
                f"{name!r} cannot be named in a recipe: define it at the top level of a module "
                "whose name begins with one of the letters A to Z."
            )
        functions[name] = _sha256(_source(name))
    dtype = DTYPES[recipe.dtype]
    pinned = {part: _pins_of(part, batch, dtype) for part, batch in parts_of(data).items()}
    basis = None if rotated is None else rotated_pin(rotated)
    place, classes = lasting_name(recipe.data), getattr(data, "classes", None)
    test = lasting_name(recipe.test) if recipe.test and isinstance(recipe.test, str) else ""
    return Pins(
        pinned,
        place,
        tuple(parts),
        functions,
        basis,
        classes,
        format=_format_of(pinned),
        test_place=test,
        encoded=encoded,
        start=None if start is None else start_pin(start),
    )


def _format_of(data: Mapping[str, Mapping[str, Pin]]) -> int:
    """The first format of the table that has pins of such arrays."""
    plain = all(len(pin.shape) == 2 for arrays in data.values() for pin in arrays.values())
    return _PLAIN_FORMAT if plain else RECORDED_FORMAT


def start_pin(start: Mapping[str, FloatArray]) -> str:
    """The fingerprint of the weights from which a training starts."""
    return fingerprint(start)


def rotated_pin(X: FloatArray) -> Pin:
    """The pin of training examples in the basis that they are trained in."""
    return _pin("rotated", X)


def parts_of(data: DataSet | Examples) -> dict[str, Examples]:
    """The parts of the data that have examples, "train" and perhaps "test"."""
    if not isinstance(data, DataSet):
        return {"train": data}
    parts = {part: getattr(data, part) for part in _PARTS}
    return {part: examples for part, examples in parts.items() if examples.count}


def _pins_of(part: str, batch: Examples, dtype: DTypeLike) -> dict[str, Pin]:
    """The pins of the arrays of examples, in the recipe's `dtype`, which is used for training."""
    if isinstance(batch, Stored):
        return _pins_of_stored(part, batch, dtype)
    pins = {}
    for name in _ARRAYS:
        array = getattr(batch, name)
        if array is not None and isinstance(batch, TableBatch):
            pins[name] = _pin_of_table(part, name, array, batch)
        elif array is not None:
            numbers = array if name == "lengths" else array.astype(dtype, copy=False)
            pins[name] = _pin(f"{part} {name}", numbers)
    return pins


def _pins_of_stored(part: str, stored: Stored, dtype: DTypeLike) -> dict[str, Pin]:
    """The pins of examples that stay in files, which are those of the same ones in memory."""
    hashes = sha256_of_blocks(part, stored, dtype)
    one = stored.take(slice(0, 1))
    name_of_dtype = one.X.dtype.name if isinstance(stored, TableExamples) else np.dtype(dtype).name
    pins = {}
    for name, sha256 in hashes.items():
        shape = (*getattr(one, name).shape[:-1], stored.count)
        pins[name] = Pin(shape, "int64" if name == "lengths" else name_of_dtype, sha256)
    return pins


def _pin_of_table(part: str, name: str, array: FloatArray, batch: TableBatch) -> Pin:
    """The fingerprint of numbers and of what they mean; some may be missing."""
    columns = f"{part} columns"
    meant = {columns: batch.described["columns"], f"{part} {name}": array.T}
    return Pin(array.shape, array.dtype.name, fingerprint(meant, nan=True))


def _pin(name: str, array: FloatArray) -> Pin:
    # The examples lie one after the other in memory, so with them first this needs no copy.
    return Pin(array.shape, array.dtype.name, fingerprint({name: examples_first(array)}))


def data_files(pins: Pins, data: DataSet | Examples) -> DataFiles:
    """The files that data of these pins stays in, to be watched during the training.

    Raises:
        BadInput: If one of them is missing.
    """
    hashes = {
        part: {name: pin.sha256 for name, pin in arrays.items()}
        for part, arrays in pins.data.items()
    }
    return DataFiles.with_hashes(parts_of(data), hashes, pins.data["train"]["X"].dtype)


def data_differences(pins: Pins, data: DataSet | Examples) -> list[str]:
    """The differences between `data` and the recorded data, in words; empty if there are none.

    A test part that was not recorded, or that is missing now, does not count. The names of the
    classes count only if both have them.
    """
    dtype = pins.data["train"]["X"].dtype
    now = {part: _pins_of(part, batch, dtype) for part, batch in parts_of(data).items()}
    differences = []
    for part, recorded in pins.data.items():
        for name in dict.fromkeys([*recorded, *now.get(part, recorded)]):
            was, here = recorded.get(name), now.get(part, recorded).get(name)
            if was != here:
                words = f"(recorded {_in_words(was)}, here {_in_words(here)})"
                differences.append(f"{part} {name} differs {words}")
    classes = getattr(data, "classes", None)
    if classes != pins.classes and None not in (classes, pins.classes):
        recorded_names, names = (", ".join(each or ()) for each in (pins.classes, classes))
        differences.append(f"the list of classes differs (recorded {recorded_names}; here {names})")
    return differences


def _in_words(pin: Pin | None) -> str:
    return "none" if pin is None else f"{pin.dtype} {pin.shape} sha256 {pin.sha256[:16]}"


def function_differences(pins: Pins, sources: Path | None = None) -> list[str]:
    """The changes of the user's own functions since the recording, in words; none is imported.

    Comments, docstrings, blank lines and layout do not count.

    Args:
        pins: The recorded provenance.
        sources: The folder in which `write_sources` kept the modules. Without it, or for a module
            that is not in it, every character counts.
    """
    differences = []
    for name, recorded in pins.functions.items():
        try:
            here = _source(name)
        except BadInput as error:
            differences.append(str(error).rstrip("."))
            continue
        current = _sha256(here)
        if current != recorded and not _same_code(_kept(sources, name, recorded), here):
            was, now = recorded[:16], current[:16]
            differences.append(
                f"the source of {name} has changed (sha256 recorded {was}, here {now})"
            )
    return differences


def write_sources(pins: Pins, folder: Path) -> None:
    """Copy the modules of the user's own functions into a new folder, for people to read.

    Nothing runs these copies. A module that is larger than a mebibyte, or that has changed since it
    was pinned, is left out.
    """
    for name, recorded in pins.functions.items():
        path, source = folder / _kept_name(name), _source(name)
        if _sha256(source) == recorded and len(source) <= _MOST_SOURCE and not path.exists():
            folder.mkdir(exist_ok=True)
            path.write_bytes(source)


def read_sources(pins: Pins, folder: Path) -> dict[str, str]:
    """The texts of the modules that `write_sources` copied, by the name of the module.

    A module that is missing, or that does not match its pin, is left out.
    """
    kept = ((name, _kept(folder, name, sha256)) for name, sha256 in pins.functions.items())
    return {
        name.partition(":")[0]: source.decode("utf-8", "replace")
        for name, source in kept
        if source is not None
    }


def _kept_name(name: str) -> str:
    return f"{name.partition(':')[0]}.py"


def _kept(folder: Path | None, name: str, sha256: str) -> bytes | None:
    """The copied source of the module of `module:function`; None if it is missing or damaged."""
    if folder is None or folder.is_symlink():
        return None
    path = folder / _kept_name(name)
    try:
        with open_regular(path, what="a source", most=_MOST_SOURCE, links=False) as file:
            source = file.read(_MOST_SOURCE + 1).replace(b"\r\n", b"\n")
    except BadInput:
        return None
    return source if _sha256(source) == sha256 else None


def _same_code(recorded: bytes | None, here: bytes) -> bool:
    """Whether two sources run the same code.

    The same Python parses both, because the syntax trees of other versions differ.
    """
    if recorded is None:
        return False
    try:
        return _code(recorded) == _code(here)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _code(source: bytes) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case (
                ast.Module(body=[ast.Expr(value=ast.Constant(value=str())), *rest])
                | ast.ClassDef(body=[ast.Expr(value=ast.Constant(value=str())), *rest])
                | ast.FunctionDef(body=[ast.Expr(value=ast.Constant(value=str())), *rest])
                | ast.AsyncFunctionDef(body=[ast.Expr(value=ast.Constant(value=str())), *rest])
            ):
                node.body = rest
    return ast.dump(tree)


def _sha256(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()


def _own_builders(description: object) -> Iterator[str]:
    """The names of all builders outside pydnn in a recipe, or in a part of one."""
    if isinstance(description, Recipe):
        for field in attrs.fields(Recipe):
            yield from _own_builders(getattr(description, field.name))
    elif isinstance(description, list | tuple):
        for part in description:
            yield from _own_builders(part)
    elif is_description(description):
        [(name, options)] = description.items()
        if ":" in name:
            yield name
        for value in options.values():
            yield from _own_builders(value)


def _source(name: str) -> bytes:
    """The source of the module of `module:function`, with Unix line ends; the module is not run."""
    module = name.partition(":")[0]
    try:
        # In another program, __main__ is another module.
        spec = None if module == "__main__" else _spec(module)
        text = Path(spec.origin).read_bytes() if spec and spec.origin else None
    except (ImportError, ValueError, OSError):
        text = None
    if text is None:
        raise BadInput(
            f"the source of {name} was not found: put the file of the module {module} on the "
            "import path under its original name, e.g. with PYTHONPATH."
        )
    return text.replace(b"\r\n", b"\n")


def _spec(module: str) -> ModuleSpec | None:
    """The spec of a module. Unlike `importlib.util.find_spec`, this runs no parent package."""
    spec: ModuleSpec | None = None
    path: Sequence[str] | None = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        specs = (finder.find_spec(name, path) for finder in sys.meta_path)
        spec = next(filter(None, specs), None) if part and (path or name == part) else None
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return spec


def unpinned(plain: Mapping[str, object], pins: Pins) -> list[str]:
    """Messages about builders outside pydnn that a recipe names without a recorded hash."""
    return [
        f"{RECORDED}.functions has nothing about {name}, which the recipe names"
        for name in own_builders_of(plain)
        if name not in pins.functions
    ]


# The text of recipe.toml


def pins_text(recipe: Recipe, pins: Pins) -> str:
    """The text of a run's recipe.toml: the recipe, followed by the provenance."""
    lines = [
        write_recipe(recipe),
        f"\n[{RECORDED}]\nformat = {pins.format}\ndata = {toml_of(pins.place)}\n",
        f"parts = {toml_of(list(pins.parts))}\n",
    ]
    if pins.rotated is not None:
        lines.append(f"rotated = {_pin_text(pins.rotated)}\n")
    if pins.classes is not None:
        lines.append(f"classes = {toml_of(list(pins.classes))}\n")
    if pins.test_place:
        lines.append(f"test_place = {toml_of(pins.test_place)}\n")
    if pins.encoded:
        lines.append(f"encoded = {pins.encoded}\n")
    if pins.start is not None:
        lines.append(f"start = {toml_of(pins.start)}\n")
    for part, arrays in pins.data.items():
        lines.append(f"\n[{RECORDED}.{part}]\n")
        lines += [f"{name} = {_pin_text(pin)}\n" for name, pin in arrays.items()]
    if pins.functions:
        lines.append(f"\n[{RECORDED}.functions]\n")
        lines += [f"{toml_of(name)} = {toml_of(v)}\n" for name, v in pins.functions.items()]
    return "".join(lines)


def _pin_text(pin: Pin) -> str:
    shape, dtype, sha256 = list(pin.shape), toml_of(pin.dtype), toml_of(pin.sha256)
    return f"{{ shape = {shape}, dtype = {dtype}, sha256 = {sha256} }}"


def read_pins(plain: Mapping[str, object]) -> Pins:
    """Read the provenance from the parsed TOML of a run's recipe.toml.

    Raises:
        BadInput: If it is missing, or differs from what `pins_text` writes.
    """
    recorded = plain.get(RECORDED)
    known = {*_PARTS, "format", "data", "parts", "functions", "rotated", "classes", "start"}
    known |= {"test_place", "encoded"}  # of tables
    if isinstance(recorded, dict) and set(recorded) <= known:
        form = recorded.get("format", 1)
        if not is_count(form, least=1, most=RECORDED_FORMAT):
            raise BadInput(
                f"{RECORDED}.format is {reprlib.repr(form)}, expected at most {RECORDED_FORMAT}: "
                "open the run with a newer pydnn."
            )
        rotated = _read_pin("rotated", recorded["rotated"]) if "rotated" in recorded else None
        data = {part: _read_part(part, recorded[part]) for part in _PARTS if part in recorded}
        functions = recorded.get("functions", {})
        place, parts = recorded.get("data"), recorded.get("parts")
        named = isinstance(parts, list) and all(map(_is_name, parts))
        pinned = isinstance(functions, dict) and all(
            OWN_BUILDER.fullmatch(name) and _is_sha256(sha256) for name, sha256 in functions.items()
        )
        whole = {"X", "Y"} <= set(data.get("train", ()))
        classes = recorded.get("classes")
        called = classes is None or (
            isinstance(classes, list) and all(isinstance(name, str) for name in classes)
        )
        test = recorded.get("test_place", "")
        encoded = recorded.get("encoded", 0)
        placed = isinstance(test, str) and is_count(encoded, most=_MOST_FEATURES - 1)
        start = recorded.get("start")
        begun = start is None or _is_sha256(start)
        whole = whole and begun
        if pinned and named and called and placed and isinstance(place, str) and whole:
            names = None if classes is None else tuple(classes)
            return Pins(
                data,
                place,
                tuple(parts or ()),
                functions,
                rotated,
                names,
                form,
                test,
                encoded,
                start if _is_sha256(start) else None,
            )
    raise BadInput(
        f"the table {RECORDED} is missing or incomplete, expected data, parts, train.X and "
        "train.Y as in a recorded run: give the folder of a run."
    )


def _read_part(part: str, plain: object) -> dict[str, Pin]:
    pins = {}
    if not isinstance(plain, dict):
        raise BadInput(f"{RECORDED}.{part} is not a table, expected one: {RESTORE}.")
    for name, value in plain.items():
        expect_known("array", name, _ARRAYS, place=f"{RECORDED}.{part}")
        pins[name] = _read_pin(f"{part}.{name}", value)
    return pins


def _read_pin(name: str, value: object) -> Pin:
    axes, dtypes = range(2, _MOST_AXES + 1), set(DTYPES)
    if name.endswith(".lengths"):
        axes, dtypes = range(1, 2), {"int64"}
    match value:
        case {"shape": [*shape], "dtype": str(dtype), "sha256": sha256} if (
            _is_shape(shape, axes) and dtype in dtypes and _is_sha256(sha256)
        ):
            return Pin(tuple(shape), dtype, sha256)
    raise BadInput(
        f"{RECORDED}.{name} is {reprlib.repr(value)}, expected shape, dtype and sha256: {RESTORE}."
    )


def _is_shape(shape: Sequence[object], axes: range) -> bool:
    """Whether these are the sizes of the axes of an array whose last one is the examples."""
    return (
        len(shape) in axes
        and is_shape(shape)
        and min(shape) > 0
        and math.prod(shape[:-1]) < _MOST_FEATURES
    )


def _is_name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.isprintable()


def _is_sha256(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
