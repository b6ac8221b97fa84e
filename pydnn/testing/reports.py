"""The result of checking laws: a proof with its measurements, or the faults that were found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import attrs

from pydnn.checks import BadInput
from pydnn.testing.global_state import restored_global_state

__all__ = ["BrokenLaw", "Proof", "Trial", "checked_call", "one_line"]

_Result = TypeVar("_Result")


@attrs.frozen(eq=False)
class Proof:
    """The laws that the checked object keeps; printing it gives the laws and all tables.

    Attributes:
        subject: What was checked, e.g. "stage dense".
        laws: The names of the laws, in the order in which they were tried.
        tables: The measurements, such as the reports of gradient checks.

    Example:
        >>> from pydnn.testing import assert_schedule
        >>> print(assert_schedule(nn.cosine_decay(0.1, steps=100)))
        the schedule keeps 3 laws: value, purity, description
    """

    subject: str
    laws: tuple[str, ...]
    tables: tuple[object, ...] = attrs.field(default=(), repr=False)

    def __str__(self) -> str:
        lines = [f"{self.subject} keeps {len(self.laws)} laws: {', '.join(self.laws)}"]
        return "\n\n".join([*lines, *map(str, self.tables)])


class BrokenLaw(AssertionError):  # noqa: N818 - named after the finding, like pytest's Failed
    """The checked object breaks a law of its kind.

    Attributes:
        subject: What was checked, e.g. "stage dense".
        broken: The faults, as lists of texts by the name of the law.
    """

    def __init__(self, subject: str, broken: dict[str, list[str]]) -> None:  # noqa: D107
        lines = [f"{subject} breaks {', '.join(map(repr, broken))}:"]
        for law, faults in broken.items():
            lines += [f"- {law}: {fault}" for fault in faults]
        super().__init__("\n".join(lines))
        self.subject = subject
        self.broken = broken


class Trial:
    """Collects the faults by law, so that one check reports all of them at once."""

    def __init__(self, subject: str) -> None:
        """Start without any laws tried."""
        self.subject = subject
        self.laws: list[str] = []
        self.tables: list[object] = []
        self.broken: dict[str, list[str]] = {}

    @contextmanager
    def law(self, name: str) -> Iterator[Callable[[str], None]]:
        """Try the law `name`: the block gets a function, and calls it with the text of each fault.

        An assertion that fails in the block, or any other exception, is a fault too.
        """
        if name not in self.laws:
            self.laws.append(name)

        def fault(text: str) -> None:
            faults = self.broken.setdefault(name, [])
            if text not in faults:
                faults.append(text)

        try:
            with restored_global_state():
                yield fault
        except BrokenLaw as error:
            for other, faults in error.broken.items():
                self.broken.setdefault(other, []).extend(f"{error.subject} {f}" for f in faults)
        except AssertionError as error:
            fault(str(error))
        except Exception as error:  # a user's function may raise anything
            fault(f"raised {one_line(error)}")

    def proof(self) -> Proof:
        """Return the proof of all laws that were tried.

        Raises:
            BrokenLaw: If any law was broken.
        """
        if self.broken:
            raise BrokenLaw(self.subject, self.broken)
        return Proof(self.subject, tuple(self.laws), tuple(self.tables))


def one_line(error: BaseException) -> str:
    """Return the type and message of an error as one line of text."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def checked_call(what: str, function: Callable[..., _Result], *args: object, hint: str) -> _Result:
    """Return `function(*args)`; raise any error as one line of BadInput that names `what`."""
    try:
        return function(*args)
    except Exception as error:  # a user's function may raise anything
        raise BadInput(f"{what} raised {one_line(error).rstrip('.')}: {hint}.") from error
