"""The logs that a training is written to while it runs, besides the record of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from pydnn.checks import AnyPath, path_of
from pydnn.interop.tensorboard import EventLog
from pydnn.runs.csv_log import CsvLog, expect_new_log
from pydnn.training import StepInfo
from pydnn.training.streams import Log

__all__ = ["logs_of"]


def logs_of(
    tensorboard: AnyPath | None,
    csv: AnyPath | None,
    *,
    name: str,
    owner: str = "pydnn",
    before: Iterable[StepInfo] = (),
    resumed: bool = False,
) -> list[Log]:
    """The logs that are wanted, which go on after the steps `before`.

    Args:
        tensorboard: The folder of the event files' folders, if there are to be any.
        csv: The file of comma-separated values, if there is to be one.
        name: What the folder of this training's event files is called.
        owner: What the names of these files end in.
        before: The steps before the first that is logged.
        resumed: Whether the training goes on, so that there may be logs of it.

    Raises:
        BadInput: If there is another training's log at the place of one, or it cannot be written.
    """
    before = list(before)
    logs: list[Log] = []
    if csv is not None and not resumed:
        expect_new_log(path_of(csv))  # before anything is written
    with contextlib.ExitStack() as stack:
        if tensorboard is not None:
            folder = path_of(tensorboard) / name
            logs.append(EventLog(folder, owner=owner, resumed=resumed, before=before))
            stack.callback(logs[-1].close)
        if csv is not None:
            logs.append(CsvLog(csv, resumed=resumed, before=before))
        stack.pop_all()
    return logs
