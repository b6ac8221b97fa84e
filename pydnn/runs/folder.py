"""The folder of a run: which files are in it, and which of them are sound.

    recipe.toml                   the job, and the fingerprints of its data and functions
    environment.json              where it was recorded; environment-….json where it was resumed
    functions/my_module.py        the modules outside pydnn that the job names, to be read
    segments/0000000500.h5        the state after 500 steps, and the rows of those since the last
    end-0000000500.json           that the training ended there, and why
    model.h5                      the model that came of it
    lock                          held by the process that writes here
    set-aside/                    what was found unsound when the run was resumed

Each is written once, under another name first, and never opened again for change.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from pydnn.builders import expect_allowed, modules
from pydnn.checks import AnyPath, BadInput, path_of
from pydnn.keys import Key
from pydnn.recipes import Recipe, own_builders_of, read_recipe, read_toml
from pydnn.runs.environment import Environment, read_environment
from pydnn.runs.model import MODEL_FILE
from pydnn.runs.pins import Pins, function_differences, read_pins, unpinned
from pydnn.runs.segments import Segment, read_segment, segment_name
from pydnn.storage import read_small_text

__all__ = [
    "ENVIRONMENT",
    "FUNCTIONS",
    "LOCK",
    "RECIPE",
    "SEGMENTS",
    "SET_ASIDE",
    "End",
    "Fault",
    "Folder",
    "end_text",
    "expect_run_folder",
    "read_folder",
    "run_folder_of",
    "sha256_of",
]

RECIPE, ENVIRONMENT, SEGMENTS, LOCK = "recipe.toml", "environment.json", "segments", "lock"
SET_ASIDE, FUNCTIONS = "set-aside", "functions"
_SEGMENT = re.compile(r"[0-9]{10,16}\.h5")
_END = re.compile(r"end-[0-9]{10,16}\.json")
_ENVIRONMENT = re.compile(r"environment(-[0-9a-f]{12})?\.json")
_LEFT_BEHIND = re.compile(r"\..*\.part")


@attrs.frozen
class Fault:
    """A file that is not sound, and the one line that says why."""

    path: Path
    message: str


@attrs.frozen
class End:
    """That a training ended in good order after so many steps, in this segment, and why."""

    path: Path
    iteration: int
    fingerprint: str
    why: str


@attrs.frozen
class Folder:
    """What is in the folder of a run.

    Attributes:
        path: The folder.
        recipe: The job.
        pins: What it met.
        environments: Where it was computed, by the SHA-256 of their texts.
        segments: The longest chain of sound ones, from iteration 0 on.
        ends: Where the training has ended so far.
        faults: What is not sound.
        left_behind: Files that a writer which was killed had not finished.
    """

    path: Path
    recipe: Recipe
    pins: Pins
    environments: Mapping[str, Environment]
    segments: tuple[Segment, ...]
    ends: tuple[End, ...]
    faults: tuple[Fault, ...]
    left_behind: tuple[Path, ...]


def sha256_of(text: str) -> str:
    """The SHA-256 of a file's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_folder(path: Path, *, anyway: bool = False, allow: Iterable[str] = ()) -> Folder:
    """Read what is in the folder of a run, and find what is not sound.

    Args:
        path: The folder.
        anyway: Whether to go on where functions of the user's own are not as they were.
        allow: Names of the modules outside pydnn that its recipe may have imported.

    Raises:
        NotAllowed: If the recipe names a module that is not allowed.
        BadInput: If it is no folder of a run, its recipe or environment is damaged, or a function
            of the user's own is absent or has changed.
    """
    expect_run_folder(path)
    try:
        names = sorted(entry.name for entry in path.iterdir())
        inside = sorted(entry.name for entry in (path / SEGMENTS).iterdir())
    except OSError as error:
        raise BadInput(f"{error.filename} cannot be read ({error.strerror}): check it.") from error
    text = read_small_text(path / RECIPE)
    recipe, pins = _read_recipe(path / RECIPE, text, anyway, modules(allow))
    environments = {}
    for name in filter(_ENVIRONMENT.fullmatch, names):
        told = read_small_text(path / name)
        environment = read_environment(told, str(path / name))
        if (digest := sha256_of(told))[:12] not in name and name != ENVIRONMENT:
            raise BadInput(f"{path / name} is not the text that its name says: get it again.")
        environments[digest] = environment
    root = _Root(sha256_of(text), Key(recipe.seed), environments)
    segments, faults = _chain(path / SEGMENTS, inside, root)
    ends, unsound = _ends(path, list(filter(_END.fullmatch, names)), segments)
    left = [path / name for name in names] + [path / SEGMENTS / name for name in inside]
    return Folder(
        path,
        recipe,
        pins,
        environments,
        tuple(segments),
        tuple(ends),
        tuple(faults + unsound),
        tuple(p for p in left if _LEFT_BEHIND.fullmatch(p.name)),
    )


def run_folder_of(path: AnyPath) -> Path:
    """The folder of the run that `path` names: itself, or the folder of the model in it."""
    path = path_of(path)
    inside = path.name == MODEL_FILE and path.is_file() and (path.parent / RECIPE).is_file()
    return path.parent if inside else path


def expect_run_folder(path: Path) -> None:
    """Refuse a path where there is no folder of a run.

    Raises:
        BadInput: If it is missing, no folder, or has no recipe.
    """
    if not path.is_dir():
        what = "is no folder" if path.exists() else "does not exist"
        raise BadInput(f"{path} {what}, expected the folder of a run: check the path.")
    if not (path / RECIPE).is_file():
        raise BadInput(f"{path} has no {RECIPE}, expected the folder of a run: check the path.")


@attrs.frozen
class _Root:
    """What the segments of a run must follow from: digest and key of its recipe, environments."""

    recipe: str
    key: Key
    environments: Mapping[str, Environment]


def _read_recipe(
    path: Path, text: str, anyway: bool, allow: tuple[str, ...]
) -> tuple[Recipe, Pins]:
    try:
        plain = read_toml(text)
        for name in own_builders_of(plain):
            expect_allowed(name, allow)
        pins = read_pins(plain)
        changed = [*unpinned(plain, pins), *function_differences(pins, path.parent / FUNCTIONS)]
        if changed and not anyway:
            raise BadInput(f"{changed[0]}: restore it, or go on anyway, to other bits.")
        return read_recipe(text, allow=allow), pins  # only now are the user's modules imported
    except BadInput as error:
        raise type(error)(f"{path}: {error}") from error


def _chain(folder: Path, names: list[str], root: _Root) -> tuple[list[Segment], list[Fault]]:
    """The longest chain of sound segments, and what else is there."""
    numbered = sorted(filter(_SEGMENT.fullmatch, names), key=lambda name: int(name[:-3]))
    faults = [
        Fault(folder / name, f"{_shown(folder / name)} is no segment: move it elsewhere.")
        for name in names
        if not (_SEGMENT.fullmatch(name) or _LEFT_BEHIND.fullmatch(name))
    ]
    chain: list[Segment] = []
    broken = not numbered or int(numbered[0][:-3]) != 0
    if broken:
        first = folder / segment_name(0)
        faults.append(Fault(first, f"{first} is missing, where the run begins: get it again."))
    for name in numbered:
        path = folder / name
        try:
            if broken:
                raise BadInput(f"{path} follows a segment that is not sound.")
            segment = read_segment(path)
            _expect_next(segment, chain, root)
        except BadInput as error:
            faults.append(Fault(path, str(error)))
            broken = True
        else:
            chain.append(segment)
    return chain, faults


def _shown(path: Path) -> str:
    """The path in one line that any terminal can show, whatever letters a name in it has."""
    return str(path) if str(path).isprintable() else ascii(str(path))


def _expect_next(segment: Segment, chain: list[Segment], root: _Root) -> None:
    before = chain[-1].fingerprint if chain else root.recipe
    start = chain[-1].iteration if chain else 0
    if segment.before != before or segment.start != start:
        to = f"{chain[-1].path.name}, the one before it" if chain else f"{RECIPE} as it is now"
        raise BadInput(
            f"before in {segment.path} is not the fingerprint of {to}: "
            "one is missing, has changed, or is of another run."
        )
    if segment.key != root.key:
        raise BadInput(
            f"key in {segment.path} is not that of the seed in {RECIPE}: get the file again."
        )
    if segment.environment not in root.environments:
        raise BadInput(
            f"environment in {segment.path} is that of no {ENVIRONMENT} as it is now: "
            "get the file again."
        )


def end_text(segment: Segment, why: str) -> str:
    """The text of the file which says that training ended in `segment`."""
    return _end_text(segment.iteration, segment.fingerprint, why)


def _end_text(iteration: int, fingerprint: str, why: str) -> str:
    plain = {"iteration": iteration, "fingerprint": fingerprint, "why": why}
    return json.dumps(plain | {"sha256": sha256_of(json.dumps(plain))}) + "\n"


def _ends(path: Path, names: list[str], segments: list[Segment]) -> tuple[list[End], list[Fault]]:
    sound = {segment.iteration: segment.fingerprint for segment in segments}
    ends, faults = [], []
    for name in names:
        try:
            end = _read_end(path / name)
            if sound.get(end.iteration) != end.fingerprint:
                missing = path / SEGMENTS / segment_name(end.iteration)
                raise BadInput(
                    f"{missing} is missing or another than {name} says: get the files again."
                )
            ends.append(end)
        except BadInput as error:
            faults.append(Fault(path / name, str(error)))
    return ends, faults


def _read_end(path: Path) -> End:
    plain: Any = None
    text = read_small_text(path)
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is damaged ({error}): get the file again.") from error
    match plain:
        case {"iteration": int(iteration), "fingerprint": str(digits), "why": str(why)}:
            if text != _end_text(iteration, digits, why):
                raise BadInput(f"sha256 in {path} is not that of its text: get the file again.")
            named = path.name == f"end-{iteration:010}.json" and type(iteration) is int
            if named and why.isprintable():
                return End(path, iteration, digits, why)
    raise BadInput(f"{path} does not say where the training ended: get the file again.")


def free_name(folder: Path, name: str) -> Path:
    """A path in `folder` that nothing has: `name`, or that with a number after it."""
    return next(path for path in _numbered(folder, name) if not path.exists())


def _numbered(folder: Path, name: str) -> Iterator[Path]:
    yield folder / name
    number = 2
    while True:
        yield folder / f"{name}.{number}"
        number += 1
