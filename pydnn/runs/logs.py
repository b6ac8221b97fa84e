"""The logs that a recorded training writes for other programs while it goes on."""

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
    """The logs of a training, which begin with the steps `before`.

    Args:
        tensorboard: The folder for the folders of event files; None to write no event files.
        csv: The file for comma-separated values; None to write no such file.
        name: The name of the folder for this training's event files.
        owner: The ending of the names of these files.
        before: The infos of the steps before the first new step.
        resumed: Whether the training is resumed, so that its logs may exist already.

    Raises:
        BadInput: If the log of another training is in the way, or a log cannot be written.
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
