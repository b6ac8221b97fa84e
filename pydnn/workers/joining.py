"""What a worker says about itself when it joins, and the refusal of one with other bits."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping

import attrs
import numpy as np

from pydnn.checks import BadInput, Json, printable

__all__ = ["Report", "own_report", "refusal"]


@attrs.frozen(unsafe_hash=False)
class Report:
    """What decides which bits a worker computes.

    Attributes:
        versions: The versions of "pydnn", "numpy" and "python".
        arithmetic: For each operation of `fast`, the SHA-256 of its results on a fixed battery of
            numbers, with one thread of BLAS.
    """

    versions: Mapping[str, str]
    arithmetic: Mapping[str, str]

    @classmethod
    def of(cls, fields: Json) -> Report:
        """The report in a worker's message, as `attrs.asdict` wrote it.

        Raises:
            BadInput: If the message holds anything else.
        """
        match fields:
            case {"versions": dict() as versions, "arithmetic": dict() as arithmetic}:
                return cls(
                    *({str(k): str(v) for k, v in x.items()} for x in (versions, arithmetic))
                )
        raise BadInput(
            f"a worker joined with {printable(fields, most=60)}, expected its versions and "
            "arithmetic: use one version of pydnn everywhere."
        )


@functools.cache
def own_report() -> Report:
    """The report of this process. The first call takes a tenth of a second.

    Example:
        >>> own_report().versions["pydnn"] == nn.__version__
        True
    """
    from pydnn import __version__
    from pydnn.numerics import fast
    from pydnn.numerics.battery import arithmetic_fingerprint
    from pydnn.numerics.blas_threads import using_blas_threads

    versions = {
        "pydnn": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    with using_blas_threads(1):
        return Report(versions, arithmetic_fingerprint(fast))


def refusal(worker: str, theirs: Report, *, portable: bool) -> str:
    """Why a worker would give other bits than this process, in one line; "" if it would not.

    Args:
        worker: The name of the worker, for the message.
        theirs: What the worker reported.
        portable: Whether the arithmetic of the task is `portable`, which gives the same bits with
            every processor and NumPy.

    Example:
        >>> refusal("worker 1", own_report(), portable=False)
        ''
    """
    ours = own_report()
    for package in ("pydnn",) if portable else ("pydnn", "numpy"):
        here, there = ours.versions[package], theirs.versions.get(package, "none")
        if here != there:
            return (
                f"{worker} has {package} {printable(there, most=40)}, expected {here} as here: "
                "install the same version everywhere."
            )
    if portable:
        return ""
    different = [
        name for name in ours.arithmetic if theirs.arithmetic.get(name) != ours.arithmetic[name]
    ]
    if not different:
        return ""
    return (
        f"{worker} computes other bits than this process ({', '.join(different[:3])}): use workers "
        'with the same processor and libraries and one thread of BLAS, or numerics = "portable".'
    )
