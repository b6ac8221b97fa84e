"""The folder of a run: which files are in it, and which of them are sound.

    recipe.toml                   the job, and the fingerprints of its data and functions
    environment.json              where it was recorded; environment-….json where it was resumed
    functions/my_module.py        the modules outside pydnn that the job names, to be read
    segments/0000000500.h5        the state after 500 steps, and the rows of those since the last
    end-0000000500.json           that the training ended there, and why
    model.h5                      the model that came of it
    lock                          held by the process that writes here
    set-aside/                    what was found unsound when the run was resumed

Each is written once, under another name first, and never opened again for change; only a segment
can be written again without its state. A damaged or missing file can be restored from the others:
each segment holds the texts of the recipe and of its environment, and a segment follows from the
one before it, the first from the recipe.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import attrs

from pydnn.checks import BadInput, printable
from pydnn.descriptions.builders import expect_allowed, modules
from pydnn.jobs.file_kinds import kind_of
from pydnn.keys import Key
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import own_builders_of, read_recipe, read_toml
from pydnn.runs.environment import Environment, read_environment
from pydnn.runs.provenance import Pins, function_differences, read_pins, unpinned
from pydnn.runs.segments import Segment, read_segment, segment_name, sha256_of
from pydnn.storage.files import read_small_text
from pydnn.storage.run_files import RECIPE

__all__ = [
    "ENVIRONMENT",
    "FUNCTIONS",
    "LOCK",
    "SEGMENTS",
    "SET_ASIDE",
    "End",
    "Fault",
    "Folder",
    "before_changes",
    "end_text",
    "expect_real_folder",
    "expect_run_folder",
    "free_name",
    "read_folder",
]

ENVIRONMENT, SEGMENTS, LOCK = "environment.json", "segments", "lock"
SET_ASIDE, FUNCTIONS = "set-aside", "functions"
_SEGMENT = re.compile(r"[0-9]{10,16}\.h5")
_END = re.compile(r"end-[0-9]{10,16}\.json")
_ENVIRONMENT = re.compile(r"environment(-[0-9a-f]{12})?\.json")
_LEFT_BEHIND = re.compile(r"\..*\.part")


@attrs.frozen
class Fault:
    """A file that is not sound, and the one line that says why, safe to print."""

    path: Path
    message: str = attrs.field(converter=printable)


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
        text: The text of both, from `recipe.toml` or else from a segment.
        environments: Where it was computed, by the SHA-256 of their texts.
        environment_texts: These texts, by their SHA-256, as far as they are known.
        segments: The longest chain of sound ones, from iteration 0 on.
        later: The sound segments, each following the one before it, after a gap in the chain.
        gap: What is missing or not sound between the two; None where there is no gap.
        ends: Where the training has ended so far.
        faults: The files that are missing or not sound.
        lost: The texts of those that the segments hold, by the file's name.
        left_behind: Files that a writer which was killed had not finished.
    """

    path: Path
    recipe: Recipe
    pins: Pins
    text: str
    environments: Mapping[str, Environment]
    environment_texts: Mapping[str, str]
    segments: tuple[Segment, ...]
    later: tuple[Segment, ...]
    gap: Fault | None
    ends: tuple[End, ...]
    faults: tuple[Fault, ...]
    lost: Mapping[str, str]
    left_behind: tuple[Path, ...]

    @property
    def text_sha256(self) -> str:
        """The SHA-256 of the recipe's text, from which the first segment follows."""
        return sha256_of(self.text)

    @property
    def whole(self) -> Folder:
        """The folder as if nothing were missing: with the segments after the gap, too."""
        return attrs.evolve(self, segments=self.segments + self.later, later=(), gap=None)

    @property
    def holding(self) -> tuple[Segment, ...]:
        """The segments of the chain whose states are stored, in their order."""
        return tuple(filter(Segment.holds_state, self.segments))

    def segment_at(self, iteration: int) -> Segment | None:
        """The segment of the state after this number of steps; None if there is none."""
        return next((one for one in self.segments if one.iteration == iteration), None)

    def nearest_holding(self, iteration: int) -> Segment | None:
        """The last segment up to an iteration whose state is stored; None if there is none."""
        earlier = (one for one in reversed(self.segments) if one.iteration <= iteration)
        return next(filter(Segment.holds_state, earlier), None)

    @property
    def staying(self) -> set[int]:
        """The iterations of the states that no pruning drops: the ends, and before changes."""
        ends = {self.segments[0].iteration, self.segments[-1].iteration}
        return ends | set(before_changes(self.segments))

    @property
    def lost_all_segments(self) -> Fault | None:
        """Why no segment is left, where two or more are damaged; one alone can be restored."""
        damaged = [fault for fault in self.faults if fault.path.parent == self.path / SEGMENTS]
        return damaged[0] if len(damaged) > 1 and not self.whole.segments else None

    @property
    def problem(self) -> Fault | None:
        """The first reason why the run cannot be read as it is; None if there is none."""
        # Ends come last, which are of segments.
        order = (self.path, self.path / FUNCTIONS, self.path / SEGMENTS)
        found = [*self.faults, *([] if self.gap is None else [self.gap])]
        found = [fault for fault in found if not _END.fullmatch(fault.path.name)] or found
        return min(found, key=lambda f: (order.index(f.path.parent), f.path), default=None)


def before_changes(segments: Iterable[Segment]) -> list[int]:
    """The iterations of the last states before each change of the environment, which must stay."""
    return [
        before.iteration
        for before, after in itertools.pairwise(segments)
        if before.environment != after.environment
    ]


def read_folder(path: Path, *, anyway: bool = False, allow: Iterable[str] = ()) -> Folder:
    """Read what is in the folder of a run, and find what is not sound.

    Args:
        path: The folder.
        anyway: Whether to go on where functions of the user's own are not as they were.
        allow: Names of the modules outside pydnn that its recipe may have imported.

    Raises:
        NotAllowed: If the recipe names a module that is not allowed.
        BadInput: If it is not the folder of a run, its recipe is damaged and no segment holds the
            text, or a function of the user's own is absent or has changed.
    """
    expect_run_folder(path)
    try:
        names = sorted(entry.name for entry in path.iterdir())
        inside = sorted(entry.name for entry in (path / SEGMENTS).iterdir())
    except OSError as error:
        raise BadInput(f"{error.filename} cannot be read ({error.strerror}): check it.") from error
    found, damaged = _read_segments(path / SEGMENTS, inside)
    text, of_recipe = _recipe_text(path, found)
    recipe, pins = _read_recipe(path / RECIPE, text, anyway, modules(allow))
    environments = _read_environments(path, list(filter(_ENVIRONMENT.fullmatch, names)), found)
    if path / ENVIRONMENT in {f.path for f in environments.faults} or ENVIRONMENT not in names:
        # A run of pydnn 0.1.0 that has lost it goes on, for no number depends on it.
        old = [segment.environment for segment in found if segment.recipe is None]
        unknown = Environment({}, {}, {}, (), {}, recipe.numerics, {})
        environments.known.update(dict.fromkeys(set(old) - set(environments.known), unknown))
    root = _Root(sha256_of(text), Key(recipe.seed), environments.known)
    chain = _chain(path / SEGMENTS, found, damaged, root)
    ends, unsound = _ends(path, list(filter(_END.fullmatch, names)), chain.sound + chain.later)
    left = [path / name for name in names] + [path / SEGMENTS / name for name in inside]
    return Folder(
        path,
        recipe,
        pins,
        text,
        environments.known,
        environments.texts,
        tuple(chain.sound),
        tuple(chain.later),
        chain.gap,
        tuple(ends),
        (*of_recipe, *environments.faults, *_linked_sources(path), *chain.faults, *unsound),
        {RECIPE: text, **environments.lost} if of_recipe else environments.lost,
        tuple(p for p in left if _LEFT_BEHIND.fullmatch(p.name)),
    )


def expect_run_folder(path: Path) -> None:
    """Refuse a path where there is no folder of a run.

    Raises:
        BadInput: If it is missing, is not a folder, or has neither a recipe nor segments; or if
            what should be a folder in it is a link.
    """
    if not path.is_dir():
        what = f"is {kind_of(path) or 'not a folder'}" if path.exists() else "does not exist"
        raise BadInput(f"{path} {what}, expected the folder of a run: check the path.")
    if not (path / RECIPE).is_file() and not (path / SEGMENTS).is_dir():
        raise BadInput(f"{path} has no {RECIPE}, expected the folder of a run: check the path.")
    for name in (SEGMENTS, SET_ASIDE, FUNCTIONS):
        expect_real_folder(path / name)


def expect_real_folder(path: Path) -> None:
    """Refuse anything called `path` but a folder itself: a link could lead out of the run.

    Raises:
        BadInput: If there is something of that name which is not a folder.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise BadInput(
                f"{path} is a link or a file, expected a folder: move it away; links inside a "
                "run are not followed."
            )


@attrs.frozen
class _Root:
    """What the segments of a run must follow from: digest and key of its recipe, environments."""

    recipe: str
    key: Key
    environments: Mapping[str, Environment]


def _read_segments(folder: Path, names: list[str]) -> tuple[list[Segment], list[Fault]]:
    """The segments that are sound when each is read alone, and what is wrong with other files."""
    numbered = sorted(filter(_SEGMENT.fullmatch, names), key=lambda name: int(name[:-3]))
    faults = [
        Fault(folder / name, f"{folder / name} is not a segment: move it elsewhere.")
        for name in names
        if not (_SEGMENT.fullmatch(name) or _LEFT_BEHIND.fullmatch(name))
    ]
    found = []
    for name in numbered:
        try:
            found.append(read_segment(folder / name))
        except BadInput as error:
            faults.append(Fault(folder / name, str(error)))
    return found, faults


def _recipe_text(path: Path, found: list[Segment]) -> tuple[str, list[Fault]]:
    """The text of the recipe, from its file or else from a segment; what is wrong with the file.

    Raises:
        BadInput: If neither has it.
    """
    text, message = None, f"{path / RECIPE} is not the recipe that the segments of the run hold."
    try:
        text = read_small_text(path / RECIPE, links=False, exact=True)
    except BadInput as error:
        message = str(error)
    held = Counter(segment.recipe for segment in found if segment.recipe is not None)
    if text is not None and (not held or sha256_of(text) in held):
        return text, []
    if not held:
        raise BadInput(message)
    digest = held.most_common(1)[0][0]
    texts = next(segment for segment in found if segment.recipe == digest).texts()
    assert texts is not None
    return texts.recipe, [Fault(path / RECIPE, _mendable(message, path))]


def _linked_sources(path: Path) -> list[Fault]:
    """The links in the place of modules, of which anybody could change the text elsewhere."""
    folder = path / FUNCTIONS
    links = sorted(p for p in folder.iterdir() if p.is_symlink()) if folder.is_dir() else []
    advice = "copy the file there, or have pydnn resume set it aside"
    return [Fault(p, f"{p} is a symbolic link, expected a source: {advice}.") for p in links]


def _mendable(message: str, path: Path, *, restored: bool = True) -> str:
    """The message with what resume does about it: only texts in segments can be restored."""
    does = "restores it" if restored else f"moves it to {SET_ASIDE}, and goes on without it"
    return f"{message.rpartition(': ')[0] or message.rstrip('.')}: pydnn resume {path} {does}."


@attrs.frozen
class _Environments:
    """The environments by digest, their texts, files that are not sound, and texts of the lost."""

    known: dict[str, Environment]
    texts: dict[str, str]
    faults: list[Fault]
    lost: dict[str, str]


def _read_environments(path: Path, names: list[str], found: list[Segment]) -> _Environments:
    """The environments of all segments, from their files or else from the segments."""
    read = _Environments({}, {}, [], {})
    messages: dict[str, str] = {}
    needed = {segment.environment: segment for segment in found}
    whole = bool(found) and found[0].iteration == 0
    for name in names:
        try:
            text = read_small_text(path / name, links=False, exact=True)
            environment = read_environment(text, str(path / name))
            digest = sha256_of(text)
            if digest[:12] not in name and name != ENVIRONMENT:
                raise BadInput(f"{path / name} is not the text that its name says: get it again.")
            if name == ENVIRONMENT and whole and digest not in needed:
                raise BadInput(
                    f"{path / name} is not the environment of any segment: get it again."
                )
        except BadInput as error:
            messages[name] = str(error)
        else:
            read.known[digest], read.texts[digest] = environment, text
    sound = set(names) - set(messages)
    for digest, segment in needed.items():
        try:
            texts = None if digest in read.known else segment.texts()
            if texts is None:
                continue
            read.known[digest] = read_environment(texts.environment, str(segment.path))
        except BadInput:
            continue  # so that the segment has no environment, and will be refused for that
        read.texts[digest] = texts.environment
        name = f"environment-{digest[:12]}.json"
        if ENVIRONMENT not in {*sound, *read.lost}:
            name = ENVIRONMENT
        read.lost[name] = texts.environment
        if name not in names:
            messages[name] = f"{path / name} is missing: get it again."
    for name, message in messages.items():
        fault = Fault(path / name, _mendable(message, path, restored=name in read.lost))
        read.faults.append(fault)
    return read


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


@attrs.frozen
class _Chain:
    """The sound segments before and after a gap, if there is one; and files that do not belong."""

    sound: list[Segment]
    later: list[Segment]
    gap: Fault | None
    faults: list[Fault]


def _chain(folder: Path, found: list[Segment], damaged: list[Fault], root: _Root) -> _Chain:
    faults = {fault.path: fault for fault in damaged}
    sound: list[Segment] = []
    later: list[Segment] = []
    gap = None
    for segment in found:
        try:
            _expect_of_run(segment, root)
        except BadInput as error:
            faults[segment.path] = Fault(segment.path, str(error))
            continue
        if gap is None:
            try:
                _expect_next(segment, sound, root)
            except BadInput as error:  # of what is before it, which may have been lost
                gap = Fault(segment.path, str(error))
            else:
                sound.append(segment)
                continue
        if not later or _follows(segment, later[-1]):
            later.append(segment)
        else:
            message = f"{segment.path} follows a segment that is not sound."
            faults[segment.path] = Fault(segment.path, message)
    if not sound:
        first = folder / segment_name(0)
        missing = Fault(first, f"{first} is missing, where the run begins: get it again.")
        gap = faults.get(first, missing)
    return _Chain(sound, later, gap, list(faults.values()))


def _expect_of_run(segment: Segment, root: _Root) -> None:
    if segment.recipe not in (None, root.recipe):
        raise BadInput(
            f"recipe in {segment.path} is not {RECIPE} as it is now: get the file again."
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


def _expect_next(segment: Segment, chain: list[Segment], root: _Root) -> None:
    start = segment.iteration == segment.start == 0 and segment.before == root.recipe
    if not (_follows(segment, chain[-1]) if chain else start):
        to = f"{chain[-1].path.name}, the one before it" if chain else f"{RECIPE} as it is now"
        raise BadInput(
            f"before in {segment.path} is not the fingerprint of {to}: "
            "one is missing, has changed, or is of another run."
        )


def _follows(segment: Segment, other: Segment) -> bool:
    return (segment.before, segment.start) == (other.fingerprint, other.iteration)


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
    text = read_small_text(path, links=False, exact=True)
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
    return next(path for path in _numbered(folder, name) if not os.path.lexists(path))


def _numbered(folder: Path, name: str) -> Iterator[Path]:
    yield folder / name
    number = 2
    while True:
        yield folder / f"{name}.{number}"
        number += 1
