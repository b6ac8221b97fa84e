"""A live table of a sweep on a terminal: how far it is, the best so far, and what runs now."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from pydnn.checks import printable
from pydnn.metrics import higher_is_better
from pydnn.sweeps import Outcome, Sweep, Variation

__all__ = ["LiveTable", "live_table"]

_MOST_ROWS = 8  # of running trainings
_PAUSE = 0.25  # seconds between two updates of the terminal
_SECOND = 1.0  # after which the elapsed seconds are updated
_CHOOSING = ("validation cost", "train cost")  # the scores that choose the best by default

Called = Callable[[Variation], str]


@contextlib.contextmanager
def live_table(plan: Sweep, *, by: str, called: Called, setting: Called) -> Iterator[LiveTable]:
    """Show a sweep while it goes on, if standard error is a terminal and tqdm is installed.

    Args:
        plan: The sweep.
        by: The score that chooses the best; "" for the validation cost, or else the train cost.
        called: The name of a training.
        setting: The name of its setting.
    """
    shown = sys.stderr.isatty() and find_spec("tqdm") is not None
    table = LiveTable(plan, by, called, setting)
    try:
        if shown:
            table.show()
        yield table
    finally:
        table.close()


class LiveTable:
    """Keeps the progress and the best score of a sweep, and shows them.

    A separate thread writes to the terminal a few times a second, however fast trainings begin and
    end. So the sweep never waits for the terminal.
    """

    def __init__(self, plan: Sweep, by: str, called: Called, setting: Called) -> None:
        """Begin with nothing done, and show nothing yet."""
        self._plan, self._by, self._called, self._setting = plan, by, called, setting
        self._done = self._lost = 0
        # For each running training: the trainings that began together with it, and when.
        self._running: dict[int, tuple[Sequence[int], float]] = {}
        # The sum of scores and their count: of the best training or, with folds, of each setting.
        self._scores: dict[str, tuple[float, int]] = {}
        self._bar: Any = None
        self._rows: list[Any] = []
        self._changed, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def show(self) -> None:
        """Start to show the table."""
        from tqdm import tqdm

        rows = max(1, min(_MOST_ROWS, shutil.get_terminal_size().lines - 5))
        options: dict[str, Any] = {"leave": False, "dynamic_ncols": True}
        self._bar = tqdm(total=self._plan.steps, unit="it", position=0, **options)
        self._rows = [
            tqdm(bar_format="{desc}", position=place, **options) for place in range(1, rows + 3)
        ]
        self._thread = threading.Thread(target=self._keep_showing, daemon=True)
        self._thread.start()

    def on_progress(self, steps: int) -> None:
        """Count finished steps."""
        if self._bar is not None:
            self._bar.update(steps)

    def on_begin(self, numbers: Sequence[int]) -> None:
        """Note that trainings begin together."""
        begun = numbers, time.monotonic()
        self._running.update(dict.fromkeys(numbers, begun))
        self._changed.set()

    def on_end(self, number: int, outcome: Outcome) -> None:
        """Note the outcome of a training."""
        self._running.pop(number, None)
        self._done += 1
        self._lost += not outcome.scores
        if outcome.scores:
            self._by = self._by or next(name for name in _CHOOSING if name in outcome.scores)
            self._note_score(self._plan.runs[number], outcome.scores[self._by])
        self._changed.set()

    def _note_score(self, variation: Variation, score: float) -> None:
        if variation.recipe.fold:
            total, count = self._scores.get(name := self._setting(variation), (0.0, 0))
            self._scores[name] = total + score, count + 1
        elif not self._scores or self._signed(score) < min(map(self._signed_mean, self._scores)):
            self._scores = {self._called(variation): (score, 1)}

    def _signed(self, score: float) -> float:
        return -score if higher_is_better(self._by) else score

    def _signed_mean(self, name: str) -> float:
        total, count = self._scores[name]
        return self._signed(total / count)

    def close(self) -> None:
        """Remove the table from the terminal."""
        self._closing.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
        for bar in [*reversed(self._rows), self._bar]:
            if bar is not None:
                bar.close()

    @property
    def lines(self) -> list[str]:
        """The lines of the table, of any length."""
        lost = f", {self._lost} diverged" if self._lost else ""
        return [
            f"{self._done} of {len(self._plan.runs)} trainings done{lost}",
            self._best_line(),
            *self._running_lines(),
        ]

    def _best_line(self) -> str:
        scores = dict(self._scores)
        if not scores:
            return ""
        name = min(scores, key=self._signed_mean)
        total, count = scores[name]
        mean = f"mean {self._by} of {count}" if self._plan.runs[0].recipe.fold else self._by
        return f"best {mean} so far {total / count:.6g}: {name or 'the recipe as it is'}"

    def _running_lines(self) -> list[str]:
        groups = {id(begun): begun for begun in list(self._running.values())}.values()
        now = time.monotonic()
        return [
            f"running for {now - begin:.0f} s: {self._called(self._plan.runs[numbers[0]])}"
            + (f" and {len(numbers) - 1} more in a stack" if len(numbers) > 1 else "")
            for numbers, begin in groups
        ]

    def _keep_showing(self) -> None:
        shown: list[str] = []
        while not self._closing.wait(_PAUSE):
            self._changed.wait(_SECOND)
            self._changed.clear()
            lines = self.lines
            room = len(self._rows)
            if len(lines) > room:
                lines[room - 1 :] = [f"and {len(lines) - room + 1} more that are running"]
            wide = max(1, shutil.get_terminal_size().columns - 1)
            lines = [printable(line)[:wide] for line in lines]
            for place, row in enumerate(self._rows):
                line = lines[place] if place < len(lines) else ""
                if line != (shown[place] if place < len(shown) else ""):
                    row.set_description_str(line)
            shown = lines
