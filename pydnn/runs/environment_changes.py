"""The differences between two environments, and what they mean for the bits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pydnn.numerics import ARITHMETICS
from pydnn.numerics.battery import operations
from pydnn.numerics.blas_threads import THREADS
from pydnn.processors import THREADS_OF_OPENBLAS
from pydnn.runs.environment import NOT_SET, UNKNOWN, VARIABLES, Environment, cut

__all__ = ["arithmetic_differences", "environment_changes", "variables_to_repeat", "what_to_expect"]


# Version 0.1.0 rounded squares to 28 digits inside the portable cosine, so cosines below 1e-15 had
# other last bits than now. Schedules add 1 to every cosine, which removes those bits. So trainings
# with either fingerprint have the same bits.
_SAME_TRAININGS = {
    "1d9be03515f99b14816a2bc036bcba9eeef5b083ba3a0f8371779735afc0a7e5": (
        "4f1b74611cb2bfa085408145613e6956c5048414fec5556acef49ea856d18792"
    )
}


def arithmetic_differences(recorded: Environment, here: Environment) -> tuple[str, ...]:
    """The recorded operations whose fingerprints differ here, or which are missing here.

    An operation that exists only here is newer than the run, so the run did not use it.
    """
    ordered = [n for n in operations() if n in recorded.arithmetic]
    ordered += sorted({*recorded.arithmetic}.difference(ordered))
    a, b = (
        {name: _SAME_TRAININGS.get(digits, digits) for name, digits in side.arithmetic.items()}
        for side in (recorded, here)
    )
    return tuple(name for name in ordered if a.get(name) != b.get(name))


_NAMED = 3


def what_to_expect(recorded: Environment, here: Environment) -> str | None:
    """Why a run recorded in one environment has other bits in another; None if it should not.

    Portable arithmetic has the same bits on every machine, so no difference between machines or
    threads can explain other bits.

    Args:
        recorded: The environment of the run.
        here: The environment of this process.
    """
    operations = arithmetic_differences(recorded, here)
    if not operations:
        return None
    named = "; ".join(
        f"{cut(name)}: recorded {recorded.arithmetic.get(name, 'none')[:8]}, "
        f"here {here.arithmetic.get(name, 'none')[:8]}"
        for name in operations[:_NAMED]
    )
    if _is_exact(recorded):
        expected = (
            f"portable arithmetic has the same bits on every machine, but that of "
            f"{_enumerated(operations)} differs ({named}): the code of one of the two is another, "
            "or its process was not sound: ask pydnn doctor about this one"
        )
    else:
        expected = (
            f"this machine computes {_enumerated(operations)} differently ({named}): "
            f"{cut(recorded.numerics)} runs will not match"
        )
    return "; ".join([expected, *itertools.islice(_causes(recorded, here), _NAMED)])


def _enumerated(names: tuple[str, ...]) -> str:
    shown = [cut(name) for name in names[:_NAMED]]
    shown += [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if shown[1:] else shown)


def _causes(recorded: Environment, here: Environment) -> Iterator[str]:
    """Possible causes of other bits, the likeliest first."""
    changes = environment_changes(recorded, here)
    rows = {what: (cut(a), cut(b)) for what, a, b in changes if UNKNOWN not in (a, b)}
    if _is_exact(recorded):
        rows = {what: rows[what] for what in rows if what == "pydnn version"}
    variables = list(VARIABLES)
    if "BLAS threads" in rows:
        yield "recorded with {} BLAS threads, here {}".format(*rows["BLAS threads"])
        variables = [name for name in variables if name not in THREADS]
    libraries = ("BLAS", "BLAS kernel", "BLAS version", "numpy version")
    for what in (*variables, *libraries, "CPU features", "pydnn version"):
        if what in rows:
            yield "recorded with {} {}, here {}".format(what, *rows[what])


def _is_exact(environment: Environment) -> bool:
    numerics = ARITHMETICS.get(environment.numerics)
    return numerics is not None and numerics.exact


def environment_changes(a: Environment, b: Environment) -> list[tuple[str, str, str]]:
    """The differences between two environments: rows of a name, its value in `a`, and in `b`."""
    in_a, in_b = _facts(a), _facts(b)
    return [
        (what, in_a.get(what, UNKNOWN), in_b.get(what, UNKNOWN))
        for what in dict.fromkeys([*in_a, *in_b])
        if in_a.get(what) != in_b.get(what)
    ]


def _facts(environment: Environment) -> dict[str, str]:
    """Everything about an environment, by the name that messages use."""
    blas = environment.blas
    return {
        **{f"{name} version": text for name, text in sorted(environment.versions.items())},
        **environment.machine,
        **{"BLAS" if name == "name" else f"BLAS {name}": blas[name] for name in sorted(blas)},
        "CPU features": " ".join(environment.cpu) or "none",
        **{name: environment.variables.get(name, NOT_SET) for name in VARIABLES},
        "numerics": environment.numerics,
        **{f"arithmetic of {n}": digits[:16] for n, digits in environment.arithmetic.items()},
    }


def variables_to_repeat(environment: Environment) -> dict[str, str | None]:
    """The environment variables with which a child process computes the bits of `environment`.

    Returns:
        The values by name; None for a variable that must not be set.
    """
    variables = {name: environment.variables.get(name) for name in VARIABLES}
    threads = environment.blas.get("threads")
    said = next((variables[name] for name in THREADS_OF_OPENBLAS if variables[name]), None)
    # A worker has another number of threads than its variables say, see `workers.processes`.
    if threads is not None and threads != said:
        variables |= {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    return variables
