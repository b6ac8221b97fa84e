"""One loop over the numbers of vectors, made of a function of NumPy arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from pydnn.compiled import team
from pydnn.compiled.arithmetics import Arithmetic
from pydnn.compiled.kernels import kernel_from_text
from pydnn.compiled.tracing import Program, Symbol, needed_for
from pydnn.engines import give_up
from pydnn.numerics import threads
from pydnn.numerics.memory import empty
from pydnn.records import AnyArray, AnyDType, FloatArray, IntArray

__all__ = ["Loop", "fill", "loop_of", "run", "to_read"]


@attrs.frozen
class Loop:
    """A loop that computes vectors from numbers and vectors, number by number.

    Attributes:
        text: Its source, which is the same for the same function and dtype.
        constants: The numbers that the function brought itself, and the addresses of what it
            calls; they follow the other numbers.
        names: What the text may use besides the functions of NumPy.
    """

    text: str
    constants: tuple[float | IntArray, ...]
    names: dict[str, Any] | None = None

    @functools.cached_property
    def compiled(self) -> Callable[..., Any]:
        """The loop `(*numbers, *constants, *operands, *results)`, compiled on its first call."""
        return kernel_from_text(self.text, self.names)


def loop_of(
    function: Callable[..., Any],
    dtype: AnyDType,
    *,
    numbers: Sequence[str],
    operands: Sequence[str],
    results: Sequence[str],
    truths: Sequence[bool] = (),
    axes: Sequence[str] = (),
    sums: str = "",
    kept: int = 0,
    arithmetic: Arithmetic | None = None,
) -> Loop | None:
    """Make a loop of a function that fills arrays.

    Args:
        function: The function `(*numbers, *operands, *results)`.
        dtype: The dtype of all arrays.
        numbers: The names of its numbers.
        operands: The names of the vectors that it reads.
        results: The names of the vectors that it fills.
        truths: For each operand, whether it holds truth values; by default none does.
        axes: For each operand, those of the axes "pij" that it has, where the results have all
            three, as the first operand, and operands are broadcast to them; by default all arrays
            are vectors.
        sums: The axes that are left of results that are summed up, "i" or "pj".
        kept: How many results are not summed up then.
        arithmetic: The arithmetic whose functions it may call, if all arrays are vectors.

    Returns:
        The loop; None if the function does anything that has no compiled form.
    """
    program = Program(dtype, None if arithmetic is None or axes else arithmetic.called)
    of_truths = [name for name, is_truth in zip(operands, truths, strict=False) if is_truth]
    given = [
        *(Symbol(program, name, writable=False, single=True) for name in numbers),
        *(Symbol(program, name, boolean=name in of_truths, writable=False) for name in operands),
    ]
    places = [Symbol(program, None) for _ in results]
    try:
        function(*given, *places)
        values = [program.text_of(place)[0] for place in places]
    except Exception:  # `Untraceable`, or what the function itself raises for symbols
        return None
    type_, constants = program.type, [f"c{i}" for i in range(len(program.constants))]
    used = set("\n".join(program.lines).replace("(", " ").replace(")", " ").split()) | set(values)
    every = "pij" if axes else "i"
    where = dict(zip(operands, axes or [every] * len(operands), strict=True))
    arrays = [f"{name}_" for name in (*operands, *results)]
    arguments = [*numbers, *constants, *["calls"] * bool(sums), *arrays]
    lines = [
        f"def loop({', '.join(arguments)}):",
        *(f"    {name} = {type_}({name})" for name in (*numbers, *constants)),
    ]
    for depth, axis in enumerate(every, 1):
        size = f"{arrays[0]}.shape[{depth - 1}]" if axes else f"{arrays[-1]}.size"
        lines.append("    " * depth + f"for {axis} in range({size}):")
        # Each number is read in the outermost loop that knows its place.
        lines += [
            "    " * (depth + 1) + f"{name} = {name}_[{', '.join(where[name])}]"
            for name in operands
            if name in used and where[name][-1] == axis
        ]
    names = None if arithmetic is None else arithmetic.names(dtype)
    if arithmetic is not None and program.calls:
        text = _text_in_blocks(program, (*numbers, *constants), operands, results, values)
        calls = arithmetic.calls(dtype)
        return None if calls is None else Loop(text, (*program.constants, calls), names)
    pairs = list(zip(results, values, strict=True))
    whole, summed = (pairs[:kept], pairs[kept:]) if sums else (pairs, [])
    stores = [f"{name}_[{', '.join(every)}] = {value}" for name, value in whole]
    if sums == "i":  # NumPy adds up a row at a time
        stores += [f"{name}_row[j] = {value}" for name, value in summed]
    else:
        stores += [f"{name}_[p, j] = {name}_[p, j] + {value}" for name, value in summed]
    lines += ["    " * (len(every) + 1) + line for line in (*program.lines, *stores)]
    if sums == "i":
        rows = [f"    {name}_row = empty({arrays[0]}.shape[2], {type_})" for name, _ in summed]
        lines[1:1] = rows
        lines += [f"            add_row(calls[ADD], {name}_row, {name}_, i)" for name, _ in summed]
    return Loop("\n".join(lines) + "\n", tuple(program.constants), names)


_BLOCK = 1024  # numbers of a vector, few enough that all parts stay in the first cache


def _text_in_blocks(
    program: Program,
    numbers: Sequence[str],
    operands: Sequence[str],
    results: Sequence[str],
    values: Sequence[str],
) -> str:
    """Return the text of a loop over blocks, which calls loops of NumPy for each.

    Before each call is a loop over the numbers of a block that computes the argument, from the
    beginning, except for the results of earlier calls.
    """
    kind, arrays = program.type, [*operands, *results]
    first = [f"{name} = {name}_block[i]" for name in operands]

    def over_block(lines: Sequence[str], stores: dict[str, str]) -> list[str]:
        needed = needed_for(stores.values(), [*first, *lines])
        inside = [*needed, *(f"{place}[i] = {value}" for place, value in stores.items())]
        return ["    for i in range(n):", *(f"        {line}" for line in inside)]

    rooms = range(len(program.calls) + 1)  # the first one is for arguments
    lines = [
        *(f"{name} = {kind}({name})" for name in numbers),
        *(f"room{k} = empty({_BLOCK}, {kind})" for k in rooms),
        f"for begin in range(0, {results[-1]}_.size, {_BLOCK}):",
        f"    n = min({_BLOCK}, {results[-1]}_.size - begin)",
        *(f"    {name}_block = {name}_[begin : begin + n]" for name in arrays),
        *(f"    e{k} = room{k}[:n]" for k in rooms),
    ]
    for k, call in enumerate(program.calls, start=1):
        lines += over_block(program.lines[: call.before], {"e0": call.argument})
        lines.append(f"    call(calls[{call.function}], e0, e{k})")
    places = [f"{name}_block" for name in results]
    lines += over_block(program.lines, dict(zip(places, values, strict=True)))
    arguments = ", ".join([*numbers, "calls", *(f"{name}_" for name in arrays)])
    return "\n".join([f"def loop({arguments}):", *(f"    {line}" for line in lines)]) + "\n"


def run(
    loop: Loop, numbers: Sequence[float], operands: Sequence[AnyArray], results: int
) -> list[FloatArray] | None:
    """Return new vectors that the loop fills; None if it cannot be compiled, which is said once.

    Args:
        loop: The loop.
        numbers: Its numbers.
        operands: The vectors (size,) that it reads, in C order.
        results: The number of vectors that it fills.
    """
    first = operands[0]
    made = [empty(first.shape, first.dtype) for _ in range(results)]
    try:
        fill(loop, numbers, operands, made)
    except Exception as error:  # numba may raise anything; the loop itself cannot fail
        give_up(error)
        return None
    return made


def to_read(array: AnyArray) -> AnyArray:
    """Return the array, or a read-only view if it can be written to."""
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def fill(
    loop: Loop,
    numbers: Sequence[float],
    operands: Sequence[AnyArray],
    results: Sequence[FloatArray],
) -> None:
    """Fill the vectors `results`, which share no memory with the operands."""
    compiled, values = loop.compiled, (*numbers, *loop.constants)
    # Read-only, since numba would compile the loop once more for arrays that can be written to.
    vectors = (*map(to_read, operands), *results)
    team.begin_for(vectors[-1])
    if vectors[-1].nbytes < threads.WORTH_A_THREAD:
        compiled(*values, *vectors)
        return

    def part(start: int, stop: int) -> None:
        compiled(*values, *[vector[start:stop] for vector in vectors])

    threads.shared_out(part, vectors[-1])
