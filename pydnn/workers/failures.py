"""Errors of tasks as plain data, so that workers can send them to the process that asked."""

from __future__ import annotations

from pydnn.checks import (
    BadInput,
    Json,
    MissingExtra,
    NameTaken,
    UnknownOption,
    first_line,
    printable,
)

__all__ = ["NoData", "TaskFailed", "as_error", "as_json"]


class NoData(BadInput):
    """The data of a task is not at the place that the task names, or is other data there."""


class TaskFailed(RuntimeError):  # noqa: N818
    """A task failed in a worker with an error that pydnn does not know, e.g. of the user's code."""


_OURS = {cls.__name__: cls for cls in (BadInput, MissingExtra, NameTaken, NoData, UnknownOption)}


def as_json(error: BaseException) -> Json:
    """The class and the message of an error as JSON, and the fields that only its class has.

    Example:
        >>> as_json(nn.BadInput("size is 0."))
        {'class': 'BadInput', 'line': 'size is 0.'}
    """
    from pydnn.training import NotFinite

    name = next((cls.__name__ for cls in type(error).__mro__ if cls in _OURS.values()), "")
    if isinstance(error, NotFinite):
        return {"class": "NotFinite", "iteration": error.iteration, "where": error.where}
    if name or isinstance(error, MemoryError):
        return {"class": name or "MemoryError", "line": str(error)}
    return {"class": type(error).__name__, "line": first_line(error)}


def as_error(described: Json) -> Exception:
    """The error that `as_json` described: of the same class if pydnn has it, else `TaskFailed`.

    A `NotFinite` comes without its state, which the process that asked has.

    Example:
        >>> as_error({"class": "BadInput", "line": "size is 0."})
        BadInput('size is 0.')
    """
    from pydnn.training import NotFinite

    match described:
        case {"class": "NotFinite", "iteration": int() as iteration, "where": str() as where}:
            return NotFinite(iteration, printable(where), None)  # type: ignore[arg-type]
        case {"class": str() as name, "line": str() as line} if name in _OURS:
            return _OURS[name](printable(line))
        case {"class": "MemoryError", "line": str() as line}:
            return MemoryError(printable(line))
        case {"class": str() as name, "line": str() as line}:
            return TaskFailed(f"a task failed in a worker: {printable(name)}: {printable(line)}")
    return TaskFailed(f"a task failed in a worker: {printable(described)}")
