"""What a run records about itself, and what has been verified of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydnn.reports.charts import table
from pydnn.reports.markup import Markup, element
from pydnn.runs.environment import Environment
from pydnn.runs.environment_changes import arithmetic_differences
from pydnn.runs.run import Run
from pydnn.runs.verified import Verification, verifications_of

__all__ = ["recorded", "share_verified", "what_is_verified"]

_MOST_SHOWN = 10  # replays
_MOST_RANGES = 5
_MOST_OPERATIONS = 3


def what_is_verified(run: Run) -> Iterator[Markup]:
    """Who has repeated the steps of a run, and whether all bits were the recorded ones."""
    notes, wrong = verifications_of(run)
    yield element("p", _summary(run, notes))
    if notes:
        columns = ["when, in UTC", "steps", "result", "by", "on", "arithmetic"]
        yield table(
            columns,
            [_row(run, note) for note in notes[:_MOST_SHOWN]],
            caption="Replays" if len(notes) <= _MOST_SHOWN else f"The last {_MOST_SHOWN} replays",
            texts=len(columns),
        )
    for line in wrong:
        yield element("p", f"A note of a replay is left out: {line}", class_="note")
    rows = [
        ["all of the record: recipe, data, every step and state", run.segments[-1].fingerprint],
        ["the last state", run.fingerprint],
    ]
    yield table(["fingerprint of", "SHA-256"], rows, texts=2)


def share_verified(run: Run) -> str:
    """How many steps of a run replays have repeated bit for bit, in a word or two.

    Example:
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=5)
        >>> data = nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]])
        >>> job = nn.jobs.prepare(recipe, data)
        >>> with nn.runs.create_run("replayed", job, data) as recording:
        ...     for state, info in nn.runs.record(recording, nn.jobs.run(job)):
        ...         pass
        >>> share_verified(nn.Run.open("replayed", data=data))
        'none'
    """
    notes, _ = verifications_of(run)
    steps = _covered(notes)
    share = "all" if steps and steps >= run.iterations else f"{steps:,}" if steps else "none"
    return share if all(note.same for note in notes) else f"{share}; one differed"


def _summary(run: Run, notes: Sequence[Verification]) -> str:
    if not notes:
        return (
            "No replay of this run has left a note. pydnn replay computes every step again, and "
            "compares all bits."
        )
    differing = sum(not note.same for note in notes)
    steps = _covered(notes)
    all_of = "All" if steps == run.iterations else f"{steps:,} of"
    verified = f"{all_of} {run.iterations:,} steps have been repeated bit for bit"
    if not differing:
        return f"{verified}."
    replays = "1 replay" if differing == 1 else f"{differing} replays"
    return f"{replays} found a difference. {verified if steps else 'No step has been repeated'}."


def _covered(notes: Sequence[Verification]) -> int:
    """The number of steps that replays without a difference have repeated."""
    covered = reached = 0
    for start, stop in sorted(r for note in notes if note.same for r in note.ranges):
        covered += max(0, stop - max(start, reached))
        reached = max(reached, stop)
    return covered


def _row(run: Run, note: Verification) -> list[str]:
    ranges = [f"{a:,} to {b - 1:,}" if b - a > 1 else f"{a:,}" for a, b in note.ranges]
    if len(ranges) > _MOST_RANGES:
        ranges[_MOST_RANGES:] = ["more"]
    steps = f"{note.steps:,} ({', '.join(ranges)})" if ranges else "the initial state"
    result = note.difference or "the same bits"
    if note.same and note.not_computed:
        result += f", without {', '.join(note.not_computed)}"
    here = note.environment
    unlike = arithmetic_differences(run.environment_of(note.iteration - 1), here)
    few = ", ".join(unlike[:_MOST_OPERATIONS])
    more = f" and {len(unlike) - _MOST_OPERATIONS} more" if len(unlike) > _MOST_OPERATIONS else ""
    arithmetic = f"{few}{more} differ from the recording" if unlike else "as recorded"
    when = note.when.replace("T", " ").removesuffix("Z")
    return [when, steps, result, note.by, _in_short(here), arithmetic]


def _in_short(environment: Environment) -> str:
    """The machine and the versions that matter most."""
    machine = environment.machine
    versions = environment.versions
    names = ("pydnn", "numpy", "python")
    blas = " ".join(filter(None, (environment.blas.get(n) for n in ("name", "version", "kernel"))))
    parts = [
        " ".join(filter(None, (machine.get("system"), machine.get("architecture")))),
        *(f"{name} {versions[name]}" for name in names if name in versions),
        blas,
        f"{environment.blas['threads']} BLAS threads" if "threads" in environment.blas else "",
    ]
    return ", ".join(filter(None, parts))


def recorded(run: Run) -> Iterator[Markup]:
    """The fingerprints of the data, and the environments of the recording."""
    pins = run.folder.pins
    rows = []
    for part, arrays in pins.data.items():
        for name, pin in arrays.items():
            size = " x ".join(map(str, pin.shape))
            rows.append([f"SHA-256 of {part} {name}, {pin.dtype} {size}", pin.sha256])
    rows += [[f"SHA-256 of {name}", digits] for name, digits in pins.functions.items()]
    yield table(["recorded", "value"], rows, texts=2)
    for i, environment in enumerate(run.environments):
        facts = {**environment.versions, **environment.machine}
        facts |= {f"BLAS {name}": str(value) for name, value in environment.blas.items()}
        facts["CPU features"] = " ".join(environment.cpu)
        facts |= environment.variables
        caption = "Environment" if i == 0 else f"Environment {i + 1}, after a change"
        yield table(["what", "was"], sorted(facts.items()), caption=caption, texts=2)
