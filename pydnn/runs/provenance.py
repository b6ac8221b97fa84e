"""What a run's recipe met when it was recorded: the bits of its data, the source of its functions.

A name is no data: these fingerprints stand beside the recipe in `recipe.toml`, in the table
`recorded`, and say whether what is found under the names today is what was trained on.
"""

from __future__ import annotations

import ast
import hashlib
import reprlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TypeGuard

import attrs
from numpy.typing import DTypeLike

from pydnn.checks import BadInput, expect_known
from pydnn.data import DataSet, lasting_name
from pydnn.descriptions.parts import is_description
from pydnn.descriptions.text import OWN_BUILDER
from pydnn.fingerprints import fingerprint
from pydnn.recipes.recipe import DTYPES, Recipe
from pydnn.recipes.toml import RECORDED, RECORDED_FORMAT, own_builders_of, toml_of, write_recipe
from pydnn.records import Batch, FloatArray
from pydnn.storage.files import open_regular

__all__ = [
    "Pins",
    "data_differences",
    "function_differences",
    "pins_of",
    "pins_text",
    "read_pins",
    "read_sources",
    "rotated_pin",
    "unpinned",
    "write_sources",
]

_PARTS = ("train", "test")
_ARRAYS = ("X", "Y", "weights")
_MOST_FEATURES = 1 << 48
_MOST_SOURCE = 1 << 20  # bytes of a module that a run keeps


@attrs.frozen
class Pin:
    """One array of the data: its shape, examples being columns, its dtype and its SHA-256."""

    shape: tuple[int, ...]
    dtype: str
    sha256: str


@attrs.frozen
class Pins:
    """What was met.

    Attributes:
        data: By part, "train" or "test", and array, "X", "Y" or "weights".
        place: Where the data was: its name in the recipe, or the whole path that this was.
        parts: Names of the parts that the training step was made of.
        functions: The SHA-256 of the source of the module of each builder of the user's own, by
            `module:function`.
        rotated: The training examples as they were trained on, where that was in another basis:
            states mean weights in that one.
        classes: Names of the classes, from number 0 on, where the data names them.
        format: Of the table in which this was recorded; 1 is that of pydnn 0.1.0.
    """

    data: Mapping[str, Mapping[str, Pin]]
    place: str
    parts: tuple[str, ...]
    functions: Mapping[str, str] = attrs.field(factory=dict)
    rotated: Pin | None = None
    classes: tuple[str, ...] | None = None
    format: int = RECORDED_FORMAT

    @property
    def features(self) -> int:
        """Numbers of one example, as it was trained on."""
        return (self.rotated or self.data["train"]["X"]).shape[0]


def pins_of(
    recipe: Recipe,
    data: DataSet | Batch,
    parts: Sequence[str],
    *,
    rotated: FloatArray | None = None,
) -> Pins:
    """The fingerprints of `data` and of the functions that the recipe names.

    Args:
        recipe: The job.
        data: What it is trained on.
        parts: Names of the parts of its training step.
        rotated: The training examples in the basis in which it is trained, if that is another.

    Raises:
        BadInput: If a function's source cannot be found, or data holds a NaN.
    """
    functions = {}
    for name in sorted(_own_builders(recipe)):
        if not OWN_BUILDER.fullmatch(name):
            raise BadInput(
                f"{name!r} is no name that a recipe can have: define it at the top of a module "
                "whose name begins with one of the letters A to Z."
            )
        functions[name] = _sha256(_source(name))
    dtype = DTYPES[recipe.dtype]
    pinned = {part: _pins_of(part, batch, dtype) for part, batch in _parts(data)}
    basis = None if rotated is None else rotated_pin(rotated)
    place, classes = lasting_name(recipe.data), getattr(data, "classes", None)
    return Pins(pinned, place, tuple(parts), functions, basis, classes)


def rotated_pin(X: FloatArray) -> Pin:
    """The fingerprint of training examples in the basis in which they are trained on."""
    return _pin("rotated", X)


def _parts(data: DataSet | Batch) -> list[tuple[str, Batch]]:
    if isinstance(data, Batch):
        return [("train", data)]
    parts = [(part, getattr(data, part)) for part in _PARTS]
    return [(part, batch) for part, batch in parts if batch.X.shape[1]]  # there may be no test part


def _pins_of(part: str, batch: Batch, dtype: DTypeLike) -> dict[str, Pin]:
    """Fingerprints of the arrays in the recipe's `dtype`, in which they are trained on."""
    pins = {}
    for name in _ARRAYS:
        array = getattr(batch, name)
        if array is not None:
            pins[name] = _pin(f"{part} {name}", array.astype(dtype, copy=False))
    return pins


def _pin(name: str, array: FloatArray) -> Pin:
    # Examples lie one after the other in memory, and are read in that order.
    return Pin(array.shape, array.dtype.name, fingerprint({name: array.T}))


def data_differences(pins: Pins, data: DataSet | Batch) -> list[str]:
    """What of `data` is not as it was recorded, each in words; [] where all is.

    A part that was not recorded, or is not there now, does not count, but for the training part.
    Names of classes count where both have them.
    """
    dtype = pins.data["train"]["X"].dtype
    found = {part: _pins_of(part, batch, dtype) for part, batch in _parts(data)}
    told = []
    for part, recorded in pins.data.items():
        for name in dict.fromkeys([*recorded, *found.get(part, recorded)]):
            was, here = recorded.get(name), found.get(part, recorded).get(name)
            if was != here:
                told.append(f"{part} {name} differs (recorded {_told(was)}, here {_told(here)})")
    classes = getattr(data, "classes", None)
    if classes != pins.classes and None not in (classes, pins.classes):
        recorded_names, names = (", ".join(each or ()) for each in (pins.classes, classes))
        told.append(f"the list of classes differs (recorded {recorded_names}; here {names})")
    return told


def _told(pin: Pin | None) -> str:
    return "none" if pin is None else f"{pin.dtype} {pin.shape} sha256 {pin.sha256[:16]}"


def function_differences(pins: Pins, sources: Path | None = None) -> list[str]:
    """What differs of the user's own functions since they were recorded; none is imported.

    Comments, docstrings, blank lines and the way in which lines are laid out do not count.

    Args:
        pins: What was recorded.
        sources: The folder in which `write_sources` kept the modules. Without it, or for a module
            that is not there, every character counts.
    """
    differences = []
    for name, recorded in pins.functions.items():
        try:
            here = _source(name)
        except BadInput as error:
            differences.append(str(error).rstrip("."))
            continue
        found = _sha256(here)
        if found != recorded and not _same_code(_kept(sources, name, recorded), here):
            was, now = recorded[:16], found[:16]
            differences.append(
                f"the source of {name} has changed (sha256 recorded {was}, here {now})"
            )
    return differences


def write_sources(pins: Pins, folder: Path) -> None:
    """Keep the modules of the user's own functions in a new folder: for readers, never to be run.

    A module that is larger than a mebibyte, or has changed since it was pinned, is left out.
    """
    for name, recorded in pins.functions.items():
        path, source = folder / _kept_name(name), _source(name)
        if _sha256(source) == recorded and len(source) <= _MOST_SOURCE and not path.exists():
            folder.mkdir(exist_ok=True)
            path.write_bytes(source)


def read_sources(pins: Pins, folder: Path) -> dict[str, str]:
    """The texts of the modules that `write_sources` kept, by the module's name.

    One that is missing, or is not the text that was pinned, is left out.
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
    """The recorded source of the module of `module:function`, if it is there and sound."""
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
    """Whether two sources differ in nothing that runs.

    Both are parsed by the Python that is here: its trees differ from those of other versions.
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
    """The names of all builders of a user's own in a recipe, or in a part of one."""
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
    """The source of the module of `module:function`, with Unix line ends; it is not run for it."""
    module = name.partition(":")[0]
    try:
        # __main__ is another module in every other program.
        spec = None if module == "__main__" else _spec(module)
        text = Path(spec.origin).read_bytes() if spec and spec.origin else None
    except (ImportError, ValueError, OSError):
        text = None
    if text is None:
        raise BadInput(
            f"the source of {name} was not found: put the file of the module {module} on the "
            "import path, under the name it had, e.g. with PYTHONPATH."
        )
    return text.replace(b"\r\n", b"\n")


def _spec(module: str) -> ModuleSpec | None:
    """Where a module is; `importlib.util.find_spec` would run the packages that it is in."""
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
    """What a recipe names outside pydnn without a record of its source; nothing is imported."""
    return [
        f"{RECORDED}.functions has nothing about {name}, which the recipe names"
        for name in own_builders_of(plain)
        if name not in pins.functions
    ]


# The text of recipe.toml


def pins_text(recipe: Recipe, pins: Pins) -> str:
    """The recipe as a TOML file with what was recorded under it."""
    lines = [
        write_recipe(recipe),
        f"\n[{RECORDED}]\nformat = {RECORDED_FORMAT}\ndata = {toml_of(pins.place)}\n",
        f"parts = {toml_of(list(pins.parts))}\n",
    ]
    if pins.rotated is not None:
        lines.append(f"rotated = {_pin_text(pins.rotated)}\n")
    if pins.classes is not None:
        lines.append(f"classes = {toml_of(list(pins.classes))}\n")
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
    """What was recorded beside a recipe, from the plain data of its file.

    Raises:
        BadInput: If it is missing, or not as `pins_text` writes it.
    """
    recorded = plain.get(RECORDED)
    known = {*_PARTS, "format", "data", "parts", "functions", "rotated", "classes"}
    if isinstance(recorded, dict) and set(recorded) <= known:
        form = recorded.get("format", 1)
        if type(form) is not int or not 1 <= form <= RECORDED_FORMAT:
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
        if pinned and named and called and isinstance(place, str) and whole:
            names = None if classes is None else tuple(classes)
            return Pins(data, place, tuple(parts or ()), functions, rotated, names, form)
    raise BadInput(
        f"the table {RECORDED} is not that of a recorded run, with data, parts, train.X and "
        "train.Y: give the folder of a run."
    )


def _read_part(part: str, plain: object) -> dict[str, Pin]:
    pins = {}
    if not isinstance(plain, dict):
        raise BadInput(f"{RECORDED}.{part} is no table, expected one: get the file again.")
    for name, value in plain.items():
        expect_known(f"array in {RECORDED}.{part}", name, _ARRAYS)
        pins[name] = _read_pin(f"{part}.{name}", value)
    return pins


def _read_pin(name: str, value: object) -> Pin:
    match value:
        case {"shape": [int(n), int(m)], "dtype": str(dtype), "sha256": sha256} if (
            bool not in (type(n), type(m))
            and 0 < n < _MOST_FEATURES
            and m > 0
            and dtype in DTYPES
            and _is_sha256(sha256)
        ):
            return Pin((n, m), dtype, sha256)
    raise BadInput(
        f"{RECORDED}.{name} is {reprlib.repr(value)}, expected shape, dtype and sha256: "
        "get the file again."
    )


def _is_name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.isprintable()


def _is_sha256(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
