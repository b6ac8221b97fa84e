"""What a proof is: laws that were tried, what broke them, and what was measured on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import attrs

from pydnn.checks import BadInput
from pydnn.testing.global_state import kept_world

__all__ = ["BrokenLaw", "Proof", "Trial", "called", "one_line"]

_Result = TypeVar("_Result")


@attrs.frozen(eq=False)
class Proof:
    """The laws that something was found to keep.

    Attributes:
        subject: What it is, e.g. "stage dense".
        laws: Their names, in the order in which they were tried.
        tables: What was measured, such as the reports of gradient checks.
    """

    subject: str
    laws: tuple[str, ...]
    tables: tuple[object, ...] = attrs.field(default=(), repr=False)

    def __str__(self) -> str:
        lines = [f"{self.subject} keeps {len(self.laws)} laws: {', '.join(self.laws)}"]
        return "\n\n".join([*lines, *map(str, self.tables)])


class BrokenLaw(AssertionError):  # noqa: N818 - it names what was found
    """Something does not keep the laws of what it is.

    Attributes:
        subject: What it is.
        broken: What was found, by the names of laws.
    """

    def __init__(self, subject: str, broken: dict[str, list[str]]) -> None:  # noqa: D107
        lines = [f"{subject} breaks {', '.join(map(repr, broken))}:"]
        for law, faults in broken.items():
            lines += [f"- {law}: {fault}" for fault in faults]
        super().__init__("\n".join(lines))
        self.subject = subject
        self.broken = broken


class Trial:
    """Gathers what breaks which law, so that one run tells all of it."""

    def __init__(self, subject: str) -> None:
        """Begin with no law tried of the `subject`."""
        self.subject = subject
        self.laws: list[str] = []
        self.tables: list[object] = []
        self.broken: dict[str, list[str]] = {}

    @contextmanager
    def law(self, name: str) -> Iterator[Callable[[str], None]]:
        """Try the law `name`: the block calls what it is given with each fault that it finds.

        A block that fails an assertion, or in which something raises, has found one, too.
        """
        if name not in self.laws:
            self.laws.append(name)

        def fault(text: str) -> None:
            faults = self.broken.setdefault(name, [])
            if text not in faults:
                faults.append(text)

        try:
            with kept_world():
                yield fault
        except BrokenLaw as error:
            for other, faults in error.broken.items():
                self.broken.setdefault(other, []).extend(f"{error.subject} {f}" for f in faults)
        except AssertionError as error:
            fault(str(error))
        except Exception as error:  # whatever a function of the user's own may do
            fault(f"raised {one_line(error)}")

    def proof(self) -> Proof:
        """What was proved.

        Raises:
            BrokenLaw: If any law was broken.
        """
        if self.broken:
            raise BrokenLaw(self.subject, self.broken)
        return Proof(self.subject, tuple(self.laws), tuple(self.tables))


def one_line(error: BaseException) -> str:
    """An error as one line of text."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def called(what: str, function: Callable[..., _Result], *args: object, hint: str) -> _Result:
    """`function(*args)`, whose error is told in one line as that of `what`."""
    try:
        return function(*args)
    except Exception as error:  # whatever a function of the user's own may do
        raise BadInput(f"{what} raised {one_line(error).rstrip('.')}: {hint}.") from error
