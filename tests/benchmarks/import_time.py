"""Importing pydnn against importing the four packages that it needs.

    python tests/benchmarks/import_time.py

Each import runs in a fresh process, turn by turn; the time is that of the import statement
alone. What counts is the ratio of the medians: pydnn is to take at most 1.3.
"""

import os
import statistics
import subprocess
import sys

from environment import environment

LIMIT = 1.3
TIMED = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
# Compiled modules are kept after the first round, as they are for whoever has installed pydnn.
ENVIRONMENT = {n: v for n, v in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}
IMPORTS = {"dependencies": "numpy, h5py, toolz, attrs", "pydnn": "pydnn"}


def main():
    times = import_times(15)
    medians = {name: statistics.median(values) * 1e3 for name, values in times.items()}
    for name, milliseconds in medians.items():
        print(f"{name:13} {milliseconds:6.1f} ms")
    print(
        f"ratio         {medians['pydnn'] / medians['dependencies']:6.2f}, at most {LIMIT} wanted"
    )
    print(environment())


def import_times(repeats):
    """Seconds of each import, turn by turn."""
    times = {name: [] for name in IMPORTS}
    for repeat in range(1 + repeats):
        for name, modules in IMPORTS.items():
            command = [sys.executable, "-c", TIMED.format(modules)]
            run = subprocess.run(command, capture_output=True, check=True, env=ENVIRONMENT)
            if repeat:  # the first round warms the file cache
                times[name].append(float(run.stdout))
    return times


if __name__ == "__main__":
    main()
