"""The folder of a run: which files are in it, and which of them are intact.

    recipe.toml                   the recipe, and the fingerprints of its data and functions
    environment.json              the machine that recorded it; environment-….json: resumed it
    functions/my_module.py        copies of the modules outside pydnn that the recipe names
    start.safetensors             the weights that training started from, if they were not drawn
    segments/0000000500.h5        the state after 500 steps, and the rows since the last segment
    end-0000000500.json           the reason why the training ended there
    verified-0001.json            what a replay of the run has verified, see `runs.verified`
    model.h5                      the trained model
    live-0000000500.jsonl         rows since that segment, while the training goes on
    lock                          held by the process that writes here
    set-aside/                    files that were damaged when the run was resumed

Each file is written once: under a temporary name, then renamed. Only a segment can be written
again, without its state, and the live rows, which are no part of the record, grow (see `live`). A
damaged or missing file can be restored from the others: each segment holds the texts of the recipe
and of its environment, and each segment can be computed from the one before it, the first from the
recipe.
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

from pydnn.checks import BadInput, is_count, printable
from pydnn.descriptions.builders import expect_allowed, modules
from pydnn.jobs.file_kinds import kind_of
from pydnn.keys import Key
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import own_builders_of, read_recipe, read_toml
from pydnn.runs.environment import Environment, read_environment
from pydnn.runs.provenance import Pins, function_differences, read_pins, unpinned
from pydnn.runs.segments import Segment, read_segment, segment_name, sha256_of
from pydnn.storage.files import RESTORE, read_small_text
from pydnn.storage.run_files import RECIPE

__all__ = [
    "ENVIRONMENT",
    "FUNCTIONS",
    "LOCK",
    "SEGMENTS",
    "SET_ASIDE",
    "START",
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
SET_ASIDE, FUNCTIONS, START = "set-aside", "functions", "start.safetensors"
_SEGMENT = re.compile(r"[0-9]{10,16}\.h5")
_END = re.compile(r"end-[0-9]{10,16}\.json")
_ENVIRONMENT = re.compile(r"environment(-[0-9a-f]{12})?\.json")
_LEFT_BEHIND = re.compile(r"\..*\.part")


@attrs.frozen
class Fault:
    """A damaged or missing file, and one printable line that says what is wrong and what to do."""

    path: Path
    message: str = attrs.field(converter=printable)

    @property
    def cause(self) -> str:
        """The message without its advice."""
        return self.message.rpartition(": ")[0] or self.message.rstrip(".")


@attrs.frozen
class End:
    """The end of a training: the number of steps, the last segment's fingerprint, the reason."""

    path: Path
    iteration: int
    fingerprint: str
    why: str


@attrs.frozen
class Folder:
    """The content of the folder of a run.

    Attributes:
        path: The folder.
        recipe: The recipe.
        pins: The provenance.
        text: The text of both, from `recipe.toml` or, if that is damaged, from a segment.
        environments: The environments that computed the run, by the SHA-256 of their texts.
        environment_texts: The known texts of the environments, by their SHA-256.
        segments: The longest chain of intact segments, from iteration 0 on.
        later: The intact segments after a gap in the chain, which form a chain of their own.
        gap: The fault between the two chains; None if there is no gap.
        ends: The ends of the training so far; a resumed run may have several.
        faults: The damaged and missing files.
        lost: The texts of those faulty files that the segments hold, by the name of the file.
        left_behind: The files that a killed writer has not finished.
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
        """The SHA-256 of the recipe's text, which the first segment holds as `before`."""
        return sha256_of(self.text)

    @property
    def whole(self) -> Folder:
        """The folder as if there were no gap: all intact segments in one chain."""
        return attrs.evolve(self, segments=self.segments + self.later, later=(), gap=None)

    @property
    def holding(self) -> tuple[Segment, ...]:
        """The segments whose states are stored, in ascending order."""
        return tuple(filter(Segment.holds_state, self.segments))

    def segment_at(self, iteration: int) -> Segment | None:
        """The segment that ends after `iteration` steps; None if there is none."""
        return next((one for one in self.segments if one.iteration == iteration), None)

    def nearest_holding(self, iteration: int) -> Segment | None:
        """The last segment with a stored state up to an iteration; None if there is none."""
        earlier = (one for one in reversed(self.segments) if one.iteration <= iteration)
        return next(filter(Segment.holds_state, earlier), None)

    @property
    def staying(self) -> set[int]:
        """The iterations of states that must stay: the first, the last, those before a change."""
        ends = {self.segments[0].iteration, self.segments[-1].iteration}
        return ends | set(before_changes(self.segments))

    @property
    def lost_all_segments(self) -> Fault | None:
        """The first fault if two or more segments are damaged and none is left; else None.

        A single lost segment can be restored.
        """
        damaged = [fault for fault in self.faults if fault.path.parent == self.path / SEGMENTS]
        return damaged[0] if len(damaged) > 1 and not self.whole.segments else None

    @property
    def problem(self) -> Fault | None:
        """The first fault of the run; None if the run is intact."""
        order = (self.path, self.path / FUNCTIONS, self.path / SEGMENTS)
        faults = [*self.faults, *([] if self.gap is None else [self.gap])]
        # The end-….json of a damaged segment is a fault, too, but the segment is the cause.
        faults = [fault for fault in faults if not _END.fullmatch(fault.path.name)] or faults
        return min(faults, key=lambda f: (order.index(f.path.parent), f.path), default=None)


def before_changes(segments: Iterable[Segment]) -> list[int]:
    """The iterations of the last state before each change of the environment."""
    return [
        before.iteration
        for before, after in itertools.pairwise(segments)
        if before.environment != after.environment
    ]


def read_folder(path: Path, *, anyway: bool = False, allow: Iterable[str] = ()) -> Folder:
    """Read the content of the folder of a run, and list its faults.

    Args:
        path: The folder.
        anyway: Whether to continue even if the user's own functions have changed.
        allow: The names of the modules outside pydnn that may be imported for the recipe.

    Raises:
        NotAllowed: If the recipe names a module that is not allowed.
        BadInput: If `path` is not the folder of a run, the recipe is damaged and no segment holds
            its text, or one of the user's own functions is missing or has changed.
    """
    expect_run_folder(path)
    try:
        names = sorted(entry.name for entry in path.iterdir())
        inside = sorted(entry.name for entry in (path / SEGMENTS).iterdir())
    except OSError as error:
        raise BadInput(f"{error.filename} cannot be read ({error.strerror}): check it.") from error
    readable, damaged = _read_segments(path / SEGMENTS, inside)
    text, of_recipe = _recipe_text(path, readable)
    recipe, pins = _read_recipe(path / RECIPE, text, anyway, modules(allow))
    environments = _read_environments(path, list(filter(_ENVIRONMENT.fullmatch, names)), readable)
    if path / ENVIRONMENT in {f.path for f in environments.faults} or ENVIRONMENT not in names:
        # A run of pydnn 0.1.0 can go on without this file, because no number depends on it.
        old = [segment.environment for segment in readable if segment.recipe is None]
        unknown = Environment({}, {}, {}, (), {}, recipe.numerics, {})
        environments.known.update(dict.fromkeys(set(old) - set(environments.known), unknown))
    root = _Root(sha256_of(text), Key(recipe.seed), environments.known)
    chain = _chain(path / SEGMENTS, readable, damaged, root)
    intact = chain.segments + chain.later
    ends, of_ends = _ends(path, list(filter(_END.fullmatch, names)), intact)
    left = [path / name for name in names] + [path / SEGMENTS / name for name in inside]
    return Folder(
        path,
        recipe,
        pins,
        text,
        environments.known,
        environments.texts,
        tuple(chain.segments),
        tuple(chain.later),
        chain.gap,
        tuple(ends),
        (*of_recipe, *environments.faults, *_linked_sources(path), *chain.faults, *of_ends),
        {RECIPE: text, **environments.lost} if of_recipe else environments.lost,
        tuple(p for p in left if _LEFT_BEHIND.fullmatch(p.name)),
    )


def expect_run_folder(path: Path) -> None:
    """Refuse a path that is not the folder of a run.

    Raises:
        BadInput: If it is missing, is not a folder, has neither a recipe nor segments, or holds a
            link where a folder belongs.
    """
    if not path.is_dir():
        what = f"is {kind_of(path) or 'not a folder'}" if path.exists() else "does not exist"
        raise BadInput(f"{path} {what}, expected the folder of a run: check the path.")
    if not (path / RECIPE).is_file() and not (path / SEGMENTS).is_dir():
        raise BadInput(f"{path} has no {RECIPE}, expected the folder of a run: check the path.")
    for name in (SEGMENTS, SET_ASIDE, FUNCTIONS):
        expect_real_folder(path / name)


def expect_real_folder(path: Path) -> None:
    """Refuse anything called `path` except a real folder, because a link could lead out of the run.

    Raises:
        BadInput: If something has that name and is not a folder.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise BadInput(
                f"{path} is a link or a file, expected a folder: move it away; links inside a "
                "run are not followed."
            )


@attrs.frozen
class _Root:
    """What all segments of a run must agree with: its recipe's digest, its key, environments."""

    recipe: str
    key: Key
    environments: Mapping[str, Environment]


def _read_segments(folder: Path, names: list[str]) -> tuple[list[Segment], list[Fault]]:
    """The segments whose files are intact, and the faults of the other files."""
    numbered = sorted(filter(_SEGMENT.fullmatch, names), key=lambda name: int(name[:-3]))
    faults = [
        Fault(folder / name, f"{folder / name} is not a segment: move it elsewhere.")
        for name in names
        if not (_SEGMENT.fullmatch(name) or _LEFT_BEHIND.fullmatch(name))
    ]
    segments = []
    for name in numbered:
        try:
            segments.append(read_segment(folder / name))
        except BadInput as error:
            faults.append(Fault(folder / name, str(error)))
    return segments, faults


def _recipe_text(path: Path, segments: list[Segment]) -> tuple[str, list[Fault]]:
    """The text of the recipe, from its file or else from a segment, and the fault of the file.

    Raises:
        BadInput: If neither has the text.
    """
    text, message = None, f"{path / RECIPE} is not the recipe that the segments of the run hold."
    try:
        text = read_small_text(path / RECIPE, links=False, exact=True)
    except BadInput as error:
        message = str(error)
    held = Counter(segment.recipe for segment in segments if segment.recipe is not None)
    if text is not None and (not held or sha256_of(text) in held):
        return text, []
    if not held:
        raise BadInput(message)
    digest = held.most_common(1)[0][0]
    texts = next(segment for segment in segments if segment.recipe == digest).texts()
    assert texts is not None
    return texts.recipe, [_repairable(path / RECIPE, message, path)]


def _linked_sources(path: Path) -> list[Fault]:
    """The faults of links among the copied modules; a link's target could change unnoticed."""
    folder = path / FUNCTIONS
    links = sorted(p for p in folder.iterdir() if p.is_symlink()) if folder.is_dir() else []
    advice = "copy the file there, or let pydnn resume move it to set-aside"
    return [Fault(p, f"{p} is a symbolic link, expected a source: {advice}.") for p in links]


def _repairable(file: Path, message: str, run: Path, *, restored: bool = True) -> Fault:
    """A fault that `pydnn resume` repairs; its advice says whether that restores the file."""
    does = "restores it" if restored else f"moves it to {SET_ASIDE}, and goes on without it"
    return Fault(file, f"{Fault(file, message).cause}: pydnn resume {run} {does}.")


@attrs.frozen
class _Environments:
    """What was read: environments and texts by digest; faults; texts of environments at fault."""

    known: dict[str, Environment]
    texts: dict[str, str]
    faults: list[Fault]
    lost: dict[str, str]


def _read_environments(path: Path, names: list[str], segments: list[Segment]) -> _Environments:
    """The environments of all segments, from their files or else from the segments."""
    read = _Environments({}, {}, [], {})
    messages: dict[str, str] = {}
    needed = {segment.environment: segment for segment in segments}
    has_first = bool(segments) and segments[0].iteration == 0
    for name in names:
        try:
            text = read_small_text(path / name, links=False, exact=True)
            environment = read_environment(text, str(path / name))
            digest = sha256_of(text)
            if digest[:12] not in name and name != ENVIRONMENT:
                raise BadInput(f"{path / name} does not match the hash in its name: {RESTORE}.")
            if name == ENVIRONMENT and has_first and digest not in needed:
                raise BadInput(f"{path / name} is not the environment of any segment: {RESTORE}.")
        except BadInput as error:
            messages[name] = str(error)
        else:
            read.known[digest], read.texts[digest] = environment, text
    intact = set(names) - set(messages)
    for digest, segment in needed.items():
        try:
            texts = None if digest in read.known else segment.texts()
            if texts is None:
                continue
            read.known[digest] = read_environment(texts.environment, str(segment.path))
        except BadInput:
            continue  # `_expect_of_run` refuses this segment, which has no known environment
        read.texts[digest] = texts.environment
        name = f"environment-{digest[:12]}.json"
        if ENVIRONMENT not in {*intact, *read.lost}:
            name = ENVIRONMENT
        read.lost[name] = texts.environment
        if name not in names:
            messages[name] = f"{path / name} is missing: {RESTORE}."
    for name, message in messages.items():
        read.faults.append(_repairable(path / name, message, path, restored=name in read.lost))
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
            raise BadInput(
                f"{changed[0]}: restore it, or go on with --anyway (anyway=True), which leads to "
                "other bits."
            )
        return read_recipe(text, allow=allow), pins  # this imports the user's modules, all allowed
    except BadInput as error:
        raise type(error)(f"{path}: {error}") from error


@attrs.frozen
class _Chain:
    """The intact segments before a gap and after it, the fault in between, and all faults."""

    segments: list[Segment]
    later: list[Segment]
    gap: Fault | None
    faults: list[Fault]


def _chain(folder: Path, readable: list[Segment], damaged: list[Fault], root: _Root) -> _Chain:
    faults = {fault.path: fault for fault in damaged}
    chain: list[Segment] = []
    later: list[Segment] = []
    gap = None
    for segment in readable:
        try:
            _expect_of_run(segment, root)
        except BadInput as error:
            faults[segment.path] = Fault(segment.path, str(error))
            continue
        if gap is None:
            try:
                _expect_next(segment, chain, root)
            except BadInput as error:  # the segment before it may be lost
                gap = Fault(segment.path, str(error))
            else:
                chain.append(segment)
                continue
        if not later or _follows(segment, later[-1]):
            later.append(segment)
        else:
            message = f"{segment.path} follows a damaged segment."
            faults[segment.path] = Fault(segment.path, message)
    if not chain:
        first = folder / segment_name(0)
        missing = Fault(first, f"{first}, the first segment, is missing: {RESTORE}.")
        gap = faults.get(first, missing)
    return _Chain(chain, later, gap, list(faults.values()))


def _expect_of_run(segment: Segment, root: _Root) -> None:
    if segment.recipe not in (None, root.recipe):
        raise BadInput(f"recipe in {segment.path} is not the present {RECIPE}: {RESTORE}.")
    if segment.key != root.key:
        raise BadInput(f"key in {segment.path} is not that of the seed in {RECIPE}: {RESTORE}.")
    if segment.environment not in root.environments:
        raise BadInput(
            f"environment in {segment.path} is not that of any present {ENVIRONMENT}: {RESTORE}."
        )


def _expect_next(segment: Segment, chain: list[Segment], root: _Root) -> None:
    start = segment.iteration == segment.start == 0 and segment.before == root.recipe
    if not (_follows(segment, chain[-1]) if chain else start):
        to = f"{chain[-1].path.name}, the one before it" if chain else f"the present {RECIPE}"
        raise BadInput(
            f"before in {segment.path} is not the fingerprint of {to}: "
            "one is missing, has changed, or belongs to another run."
        )


def _follows(segment: Segment, other: Segment) -> bool:
    return (segment.before, segment.start) == (other.fingerprint, other.iteration)


def end_text(segment: Segment, why: str) -> str:
    """The text of the file which records that training ended with `segment`, and why."""
    return _end_text(segment.iteration, segment.fingerprint, why)


def _end_text(iteration: int, fingerprint: str, why: str) -> str:
    plain = {"iteration": iteration, "fingerprint": fingerprint, "why": why}
    return json.dumps(plain | {"sha256": sha256_of(json.dumps(plain))}) + "\n"


def _ends(path: Path, names: list[str], segments: list[Segment]) -> tuple[list[End], list[Fault]]:
    fingerprints = {segment.iteration: segment.fingerprint for segment in segments}
    ends, faults = [], []
    for name in names:
        try:
            end = _read_end(path / name)
            if fingerprints.get(end.iteration) != end.fingerprint:
                missing = path / SEGMENTS / segment_name(end.iteration)
                raise BadInput(f"{missing} is missing or does not match {name}: {RESTORE}.")
            ends.append(end)
        except BadInput as error:
            faults.append(Fault(path / name, str(error)))
    return ends, faults


def _read_end(path: Path) -> End:
    text = read_small_text(path, links=False, exact=True)
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is damaged ({error}): {RESTORE}.") from error
    match plain:
        case {"iteration": iteration, "fingerprint": str(digits), "why": str(why)} if is_count(
            iteration
        ):
            if text != _end_text(iteration, digits, why):
                raise BadInput(f"sha256 in {path} is not that of its text: {RESTORE}.")
            named = path.name == f"end-{iteration:010}.json"
            if named and why.isprintable():
                return End(path, iteration, digits, why)
    raise BadInput(f"{path} does not say where the training ended: {RESTORE}.")


def free_name(folder: Path, name: str) -> Path:
    """A free path in `folder`: `name`, or `name` followed by a number."""
    return next(path for path in _numbered(folder, name) if not os.path.lexists(path))


def _numbered(folder: Path, name: str) -> Iterator[Path]:
    yield folder / name
    number = 2
    while True:
        yield folder / f"{name}.{number}"
        number += 1
