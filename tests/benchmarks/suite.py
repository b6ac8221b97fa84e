"""Compare pydnn with its peers on a CPU: works of training, start-up and memory.

    python tests/benchmarks/suite.py [P1 P2 P3 P4 P5 P5f32 P6 sweep startup memory] [--data photos/]

P1 is the tutorial's job, 12288-20-7-5-1 on all photos at once by gradient descent, in float64;
P2 784-512-256-10, batches of 128, Adam, float32; P3 2-16-16-1, batches of 32, gradient descent,
float32; P4 4096-4096-4096-10, batches of 1024, momentum, float32; P5 the network of `cats_recipe`
on 32 images of 64 x 64, Adam, float64, beside PyTorch alone with both of its layouts of images, and
P5f32 the same in float32; P6 two LSTMs of 128 units over 32 steps of 64 inputs and a layer of 32
classes at each step, batches of 128, momentum, float64, beside PyTorch alone. The peers are the
tutorial's listing, PyTorch, JAX and scikit-learn (extra `bench`); a peer that is not installed is
left out.
"NumPy in place" is written by hand for one network, with all arrays allocated beforehand.

pydnn takes part with both of its engines, and in P1, P2 and P3 also with its portable arithmetic;
P1 is rotated with all of them. Its fold is what its users write. In P3 it also takes part with one
call of the step after the other, as does JAX. The sweep trains 32 networks at once, and one by one.
Of the compiled engine, the start-up is measured with an empty and with a filled cache.

All peers start with the same parameters and take the same steps. Their costs are compared before
anything is timed: to 1e-9 of the first cost in float64, to 1e-5 in float32, and to 5e-4 after 50
steps of Adam, which turns even the smallest gradients into large steps. Each peer runs in its own
process on the same cores. They take turns; the first two turns warm up, so that no compilation is
timed. A step of pydnn also computes the norm of the gradients, and in P1 it checks that all new
numbers are finite.

Unset OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE, which make OpenBLAS use slower kernels.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import attrs
from environment import environment
from import_time import import_times
from peers import FRAMEWORKS
from processes import (
    FIRST,
    draw_cats,
    first_steps,
    large_memory,
    start_up,
    sweeps,
    tutorial_memory,
)
from turns import take_turns

OURS, COMPILED = "pydnn", "pydnn compiled"
PORTABLE, PORTABLE_COMPILED = "pydnn portable", "pydnn portable compiled"
A_CALL = "pydnn compiled, a call a step"
COLD, WARM = "pydnn compiled, cold cache", "pydnn compiled, warm cache"
EVERYBODY = (
    OURS,
    COMPILED,
    "NumPy in place",
    "PyTorch, eager",
    "PyTorch, compiled",
    "JAX, a call a step",
    "JAX, whole loop",
    "scikit-learn",
)
IMAGES = (OURS, COMPILED, "PyTorch, eager", "PyTorch, channels last", "PyTorch, compiled")
BOTH = (PORTABLE, PORTABLE_COMPILED)
PEERS_OF = {
    "P1": (*EVERYBODY, *BOTH, "tutorial's listing"),
    "P2": (*EVERYBODY, *BOTH),
    "P3": (*EVERYBODY, A_CALL, *BOTH),
    "P4": (*EVERYBODY, "products alone"),
    "P5": IMAGES,
    "P5f32": IMAGES,
    "P6": (OURS, COMPILED, "PyTorch, eager"),
}
BLOCKS = {
    "P1": 15,
    "P2": 25,
    "P3": 25,
    "P4": 5,
    "P5": 9,
    "P5f32": 9,
    "P6": 7,
    "sweep": 3,
    "startup": 3,
}
CHOICES = (*PEERS_OF, "sweep", "startup", "memory")
SCALES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
PACKAGES = ("numba", "torch", "jax", "jaxlib", "optax", "scikit-learn")
OLD_KERNELS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


@attrs.frozen
class Limit:
    """The largest allowed median of pydnn, as a ratio to the best of some peers or in seconds.

    Attributes:
        work: The work.
        ours: Which of pydnn's rows is judged.
        against: The names of peers, or of frameworks; none for a limit in seconds.
        most: The limit.
    """

    work: str
    ours: str
    against: tuple[str, ...]
    most: float

    def concerns(self, row):
        """Whether it compares with a row: of a peer, or of one of the forms of a framework."""
        name = row.peer.partition(",")[0] if row.peer.startswith(FRAMEWORKS) else row.peer
        return row.work == self.work and (row.peer in self.against or name in self.against)


LIMITS = (
    Limit("P1", COMPILED, (), 0.10e-3),
    Limit("P1", COMPILED, ("JAX",), 1 / 40),
    Limit("P1", COMPILED, ("tutorial's listing",), 1 / 60),
    Limit("P1", PORTABLE_COMPILED, (OURS,), 2.0),
    Limit("P2", COMPILED, ("JAX",), 0.9),
    Limit("P2", PORTABLE_COMPILED, (OURS,), 1.8),
    Limit("P3", A_CALL, ("JAX, a call a step",), 0.5),
    Limit("P3", COMPILED, ("JAX, whole loop",), 0.9),
    Limit("P3", PORTABLE_COMPILED, (), 15e-6),
    Limit("P4", COMPILED, ("JAX",), 1.0),
    Limit("P4", COMPILED, ("products alone",), 1.08),
    Limit("P5", COMPILED, FRAMEWORKS, 0.8),
    Limit("P5f32", COMPILED, FRAMEWORKS, 1.0),
    Limit("P6", COMPILED, FRAMEWORKS, 0.8),
    Limit("whole process", OURS, FRAMEWORKS, 0.1),
    *(Limit(f"first step, {name}", COLD, (), 3.0) for name in FIRST),
    Limit("import", OURS, ("dependencies",), 1.1),
    Limit("memory, P1", OURS, ("allowed",), 1.0),
    Limit("memory, P4", OURS, ("allowed",), 1.0),
)


@attrs.frozen
class Row:
    """The measurements of one peer for one work: seconds or bytes, one number per turn."""

    work: str
    peer: str
    values: tuple[float, ...]
    unit: str = "s"

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def quartiles(self):
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high


def main():
    args = arguments()
    if forced := [name for name in OLD_KERNELS if name in os.environ]:
        print(f"unset {' and '.join(forced)}: OpenBLAS uses slower kernels", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        if args.data is None:
            args.data = str(Path(folder) / "cats")
            draw_cats(args.data)
        rows, absent = measure(args)
    verdicts = judge(rows)
    print(table(rows))
    for verdict in verdicts:
        print(verdict)
    for peer, speed in product_speeds(rows).items():
        print(f"P4: the products of {peer} at {speed / 1e9:.0f} GFLOP/s or more")
    for (work, peer), reason in absent.items():
        print(f"{work}: {peer} is left out: {reason}")
    versions = _versions()
    print(f"{args.threads} threads each; {environment()}; {versions}")
    if forced:
        print(f"with the kernel of {', '.join(f'{n}={os.environ[n]}' for n in forced)}")
    if args.json:
        plain = as_plain(rows, verdicts, absent, threads=args.threads)
        args.json.write_text(json.dumps(plain, indent=1) + "\n")
    if args.plot:
        from bars import save_bars  # imported here to keep the suite small

        save_bars(args.plot, rows, note=f"{args.threads} threads; {environment()}\n{versions}")


def arguments(options=None):
    """Parse the options on the command line, or in a list."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "works", nargs="*", metavar="WORK", help=f"one of {', '.join(CHOICES)} (default: all)"
    )
    parser.add_argument(
        "--data", metavar="DIR", help="folder of the real photos (default: drawn cats)"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of each peer (default: 2)")
    parser.add_argument("--blocks", type=int, help="turns of each peer (default: 3 to 25, by work)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to FILE")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw a bar chart to FILE, e.g. suite.png"
    )
    args = parser.parse_args(options)
    args.works = args.works or CHOICES
    if unknown := set(args.works) - set(CHOICES):
        parser.error(f"no work {', '.join(sorted(unknown))}, expected one of {', '.join(CHOICES)}")
    cores = len(os.sched_getaffinity(0))
    if not 1 <= args.threads <= cores:
        parser.error(f"--threads is {args.threads}, expected 1 to {cores}, the cores there are")
    if args.blocks is not None and args.blocks < 1:
        parser.error(f"--blocks is {args.blocks}, expected 1 or more turns")
    for path in (args.json, args.plot):
        if path is not None and not path.parent.is_dir():
            parser.error(f"{path.parent} is not a directory: create it")
    if args.data is not None:
        args.data = str(Path(args.data).resolve())
    return args


def measure(args):
    """Return the rows of the chosen works, and the reasons why peers were left out."""
    rows, absent = [], {}

    def add(work, seconds, reasons):
        rows.extend(Row(work, peer, tuple(values)) for peer, values in seconds.items())
        absent.update({(work, peer): reason for peer, reason in reasons.items()})

    for work in args.works:
        print(f"{work} …", file=sys.stderr)
        blocks = args.blocks or BLOCKS.get(work)
        shared = {"data": args.data, "threads": args.threads}
        if work in PEERS_OF:
            add(work, *take_turns(work, PEERS_OF[work], blocks=blocks, **shared))
        elif work == "sweep":
            for name, seconds in sweeps(blocks=blocks, threads=args.threads).items():
                add(f"sweep, {name}", seconds, {})
        elif work == "startup":
            add("whole process", *start_up(blocks=blocks, **shared))
            for name in FIRST:
                seconds = first_steps(name, blocks=blocks, threads=args.threads)
                add(f"first step, {name}", seconds, {})
            add("import", import_times(15), {})
        else:
            rows.extend(_memory(**shared))
    return rows, absent


def _memory(*, data, threads):
    peak = tutorial_memory(data=data, threads=threads)
    yield Row("memory, P1", "pydnn", (peak,), "B")
    yield Row("memory, P1", "allowed", (200e6,), "B")
    sizes = large_memory(threads=threads)
    yield Row("memory, P4", "pydnn", (max(sizes.values()),), "B")
    yield Row("memory, P4", "allowed", (1.3 * sizes["arrays"] + sizes["interpreter"],), "B")
    for part in ("initial state", "training", "arrays", "interpreter"):
        yield Row("memory, P4", f"({part})", (sizes[part],), "B")


@attrs.frozen
class Verdict:
    """What a limit says about the measurements.

    Attributes:
        limit: The limit.
        peer: The best of the peers that it compares with; None for a limit in seconds.
        measured: The ratio to that peer, or the seconds.
    """

    limit: Limit
    peer: str | None
    measured: float

    @property
    def met(self):
        return self.measured <= self.limit.most

    def __str__(self):
        limit, word = self.limit, "met" if self.met else "MISSED"
        if self.peer is None:
            measured, most = _shown(self.measured, "s"), _shown(limit.most, "s")
        else:
            measured, most = f"{self.measured:.3g} of {self.peer}", f"{limit.most:.3g}"
        return f"{limit.work}: {limit.ours} takes {measured}, at most {most}: {word}"


def ratio(row, other):
    """Return the median over turns of a row's value divided by the other's in the same turn."""
    return statistics.median(a / b for a, b in zip(row.values, other.values, strict=True))


def to_ours(row, rows):
    """Return the ratio of a row to that of pydnn with NumPy."""
    return ratio(row, next(r for r in rows if (r.work, r.peer) == (row.work, OURS)))


def product_speeds(rows):
    """Return the flops of P4's products divided by the time of a whole step, by peer."""
    from works import product_flops, work_called  # here, since the suite must stay small

    of_large = [row for row in rows if row.work == "P4"]
    flops = product_flops(work_called("P4", None)) if of_large else 0
    return {row.peer: flops / row.median for row in of_large}


def judge(rows):
    """Return the verdict of each limit whose rows were measured."""
    verdicts = []
    for limit in LIMITS:
        ours = [row for row in rows if (row.work, row.peer) == (limit.work, limit.ours)]
        peers = [row for row in rows if limit.concerns(row)]
        if ours and not limit.against:
            verdicts.append(Verdict(limit, None, ours[0].median))
        elif ours and peers:
            best = min(peers, key=lambda row: row.median)
            verdicts.append(Verdict(limit, best.peer, ratio(ours[0], best)))
    return verdicts


def table(rows):
    """Return all rows as text."""
    lines = [("work", "peer", "median", "quartiles", "/ pydnn")]
    for row in rows:
        low, high = row.quartiles
        spread = "" if low == high else f"{_shown(low, row.unit)} - {_shown(high, row.unit)}"
        shown = _shown(row.median, row.unit)
        lines.append((row.work, row.peer, shown, spread, f"{to_ours(row, rows):.2f}"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _shown(value, unit):
    if unit == "B":
        return f"{value / 1e6:.0f} MB"
    factor, name = next((scale for scale in SCALES if value >= scale[0]), SCALES[-1])
    return f"{value / factor:.3g} {name}"


def as_plain(rows, verdicts, absent, *, threads):
    """Return all measurements as plain data for a JSON file."""
    return {
        "rows": [
            {
                "work": row.work,
                "peer": row.peer,
                "unit": row.unit,
                "median": row.median,
                "quartiles": row.quartiles,
                "ratio_to_pydnn": to_ours(row, rows),
                "values": row.values,
            }
            for row in rows
        ],
        "limits": [
            {
                "work": verdict.limit.work,
                "ours": verdict.limit.ours,
                "against": verdict.peer,
                "measured": verdict.measured,
                "at_most": verdict.limit.most,
                "met": verdict.met,
            }
            for verdict in verdicts
        ],
        "product_flops_per_second": product_speeds(rows),
        "left_out": [{"work": w, "peer": p, "reason": r} for (w, p), r in absent.items()],
        "threads": threads,
        "environment": environment(),
        "versions": _versions(),
    }


def _versions():
    installed = {package.name.lower(): package.version for package in metadata.distributions()}
    known = [f"{name} {installed[name]}" for name in PACKAGES if name in installed]
    return ", ".join(known)


if __name__ == "__main__":
    main()
