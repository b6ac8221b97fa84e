"""Segments of a run as tasks of an executor: each worker opens the run, and computes some again."""

from __future__ import annotations

import importlib
from typing import Any

import attrs
import numpy as np

from pydnn.checks import BadInput
from pydnn.data import DataSet, lasting_name
from pydnn.data.stored import Stored
from pydnn.jobs.job import prepare
from pydnn.jobs.rebuilding import Prepare
from pydnn.recipes.toml import own_modules
from pydnn.records import AnyArray, Batch
from pydnn.runs.mismatches import Mismatch
from pydnn.runs.replay import Verified, verified_in_turn
from pydnn.runs.run import Run
from pydnn.workers.interface import Arguments, Result, Spec, Task, Value
from pydnn.workers.sent_data import received, sent
from pydnn.workers.tasks import Kind

__all__ = ["SEGMENT", "task_of", "verified_in"]


def task_of(run: Run, numbers: list[int]) -> Task:
    """The task of computing segments of a run again, one after the other.

    Args:
        run: The run.
        numbers: The numbers of the segments.
    """
    return Task("segment", _spec_of(run), {"numbers": list(numbers)})


_MISMATCHES = ("mismatch", "measured")
_NUMBERS = ("recorded", "here")


def verified_in(result: Result, numbers: list[int]) -> list[Verified]:
    """The results about these segments.

    Raises:
        BadInput: If the worker reports about other segments.
    """
    values: Any = result
    reports = values["reports"]
    if [report["number"] for report in reports] != numbers:
        raise BadInput(
            f"a worker that verified segments {', '.join(map(str, numbers))} reported something "
            "else: use the same version of pydnn everywhere."
        )
    return [_verified(values, place, report) for place, report in enumerate(reports)]


def _verified(values: dict[str, Any], place: int, report: dict[str, Any]) -> Verified:
    for name in _MISMATCHES:
        if report[name] is not None:
            numbers = {which: values.get(f"{place} {name} {which}") for which in _NUMBERS}
            # A number is sent as an array without axes, which keeps its dtype and every bit.
            found: Any = {which: n if n is None else n[()] for which, n in numbers.items()}
            report = {**report, name: Mismatch(**report[name], **found)}
    return Verified(**{**report, "unchecked": tuple(report["unchecked"])})


def _spec_of(run: Run) -> Spec:
    """What each worker prepares once: the run, which it opens itself."""
    facts: dict[str, Any] = {
        "run": str(run.path.absolute()),
        "text": run.folder.text_sha256,
        "anyway": run.anyway,
        "prepare": _name_of(run.prepare),
    }
    if run.mapped is not None:
        facts["mapped"] = run.mapped
    arrays: dict[str, AnyArray] = {}
    if isinstance(run.given, DataSet | Batch | Stored):
        facts["sent"], arrays = sent(run.given)
    elif run.given is not None:
        facts["place"] = lasting_name(str(run.given))
    return Spec(
        facts=facts,
        arrays=arrays,
        allow=tuple(dict.fromkeys((*run.allow, *own_modules(run.recipe)))),
        portable=run.numerics.exact,
        live=run,
    )


def _name_of(function: Prepare) -> str:
    """The name `module:function` of a `prepare`; "" for pydnn's own."""
    if function is prepare:
        return ""
    return f"{function.__module__}:{getattr(function, '__qualname__', function)}"


# What a worker does


def _prepared(spec: Spec) -> Run:
    facts: Any = spec.facts
    data: Any = received(facts["sent"], spec.arrays) if "sent" in facts else facts.get("place")
    try:
        run = Run.open(
            facts["run"],
            data=data,
            prepare=_function_of(facts["prepare"]),
            anyway=facts["anyway"],
            allow=spec.allow,
            mapped=facts.get("mapped"),
        )
    except BadInput as error:
        raise BadInput(f"a worker cannot open the run: {error}") from error
    if run.folder.text_sha256 != facts["text"]:
        raise BadInput(
            f"a worker finds another run in {run.path}: give a folder that all workers share."
        )
    return run


def _function_of(name: str) -> Prepare:
    """The function of a name, which the program that opened the run has imported already.

    Raises:
        BadInput: If there is none of that name here.
    """
    if not name:
        return prepare
    module, _, place = name.partition(":")
    try:
        found: Any = importlib.import_module(module) if module != "__main__" else None
        for part in place.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise BadInput(
            f"prepare is {place}, which another process cannot find: define it as a function at "
            "the top level of a module."
        ) from error
    return found  # type: ignore[no-any-return]


def _run(run: Run, arguments: Arguments) -> Result:
    values: Any = arguments
    result: dict[str, Value] = {}
    reports = []
    for place, verified in enumerate(verified_in_turn(run, values["numbers"])):
        report = attrs.asdict(verified)
        for name in _MISMATCHES:
            for which in _NUMBERS if report[name] is not None else ():
                number = report[name].pop(which)
                if number is not None:
                    result[f"{place} {name} {which}"] = np.asarray(number)
        reports.append(report)
    result["reports"] = reports
    return result


SEGMENT = Kind(prepare=_prepared, run=_run)
