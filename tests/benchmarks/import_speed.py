"""Measure how fast `import_data` copies files into the form that can be mapped.

    python tests/benchmarks/import_speed.py [--megabytes 200] [--folder /tmp] [--json]

The goals are 50 MB/s of the source from a CSV file of numbers and 300 MB/s of the copy from chunked
HDF5. The speeds of NumPy's `loadtxt` and of a plain copy on the same machine at the same time say
what the machine gives: other programs slow all of them alike. CPU time leaves out the waiting for
them and for the disk, and counts threads together.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from environment import environment

from pydnn.data import import_data

GOALS = {"csv": 50.0, "hdf5": 300.0}  # MB/s


def numbers(count):
    return np.random.default_rng(1).normal(size=count)


def write_csv(path, size, cell):
    """A file of at least `size` bytes with 20 columns of numbers, each written by `cell`."""
    lines = [",".join(map(cell, row)) for row in numbers(20_000).reshape(-1, 20).tolist()]
    block = "\n".join(lines) + "\n"
    with path.open("w") as file:
        file.write(",".join(f"c{i}" for i in range(20)) + "\n")
        for _ in range(-(-size // len(block))):
            file.write(block)


def write_hdf5(path, size, shape, chunks, **options):
    """Images of 784 bytes, most of which are zero as in pictures of digits."""
    pixels = np.zeros((4096, 28, 28), np.uint8)
    pixels[:, 8:20, 10:18] = np.random.default_rng(1).integers(0, 255, (4096, 12, 8))
    rows = -(-size // 784)
    with h5py.File(path, "w") as file:
        X = file.create_dataset("train_X", (rows, *shape), "u1", chunks=chunks, **options)
        for first in range(0, rows, 4096):
            count = min(4096, rows - first)
            X[first : first + count] = pixels[:count].reshape(count, *shape)
        file.create_dataset("train_Y", data=np.arange(rows) % 10, chunks=(min(rows, 4096),))


CASES = {
    "CSV, 17 digits": ("csv", lambda path, size: write_csv(path, size, repr)),
    "CSV, 4 decimals": ("csv", lambda path, size: write_csv(path, size, "{:.4f}".format)),
    "CSV, integers": ("csv", lambda path, size: write_csv(path, size, lambda x: str(int(x * 100)))),
    "HDF5, chunks of 256": (
        "hdf5", lambda path, size: write_hdf5(path, size, (784,), (256, 784)),
    ),
    "HDF5, chunks of h5py": ("hdf5", lambda path, size: write_hdf5(path, size, (28, 28), True)),
    "HDF5, gzip": (
        "hdf5",
        lambda path, size: write_hdf5(path, size, (784,), (256, 784), compression="gzip"),
    ),
}  # fmt: skip


def timed(action):
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def measured(name, folder, size, turns):
    """The best speeds in MB/s of the wall clock and of CPU time, and of the yardstick's."""
    kind, write = CASES[name]
    source, out = folder / f"source.{kind}", folder / "out.h5"
    write(source, size)
    best = {}
    for _ in range(turns):
        times = {"import": timed(lambda: import_data(source, out))}
        megabytes = (source if kind == "csv" else out).stat().st_size / 1e6
        if kind == "csv":
            times["loadtxt"] = timed(lambda: np.loadtxt(source, delimiter=",", skiprows=1))
        else:
            times["copy"] = timed(lambda: shutil.copyfile(out, folder / "copy"))
        out.unlink()
        for what, (wall, cpu) in times.items():
            before = best.get(what, (0.0, 0.0))
            best[what] = max(before[0], megabytes / wall), max(before[1], megabytes / cpu)
    source.unlink()
    return kind, best


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=200, help="the size of each file")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are made")
    parser.add_argument("--only", default="", help="the beginning of the names of the cases to run")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for name in CASES:
            if not name.startswith(args.only):
                continue
            kind, best = measured(name, Path(folder), args.megabytes * 1_000_000, args.turns)
            results[name] = {what: {"wall": w, "cpu": c} for what, (w, c) in best.items()}
            if not args.json:
                speeds = "; ".join(f"{what} {w:.0f} ({c:.0f})" for what, (w, c) in best.items())
                print(f"{name}: {speeds} MB/s (of CPU time), goal {GOALS[kind]:.0f}", flush=True)
    if args.json:
        print(json.dumps({"environment": environment(), "MB/s": results}))


if __name__ == "__main__":
    main()
