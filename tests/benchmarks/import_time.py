"""Compare the time to import pydnn with the time to import the four packages it needs.

    python tests/benchmarks/import_time.py

Each import runs in a fresh process, in turns, and only the import statement is timed. The ratio of
the medians must be at most 1.1. `import pydnn` loads each of its modules when one of its names is
first used; the last row is the time to load all names.
"""

import os
import statistics
import subprocess
import sys

from environment import environment

LIMIT = 1.1
TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
# Python keeps the compiled modules after the first round, as for any installed pydnn.
ENVIRONMENT = {n: v for n, v in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}
IMPORTS = {
    "dependencies": "import numpy, h5py, toolz, attrs",
    "pydnn": "import numpy, h5py, toolz, attrs; import pydnn",
    "all names": "import numpy, h5py, toolz, attrs; from pydnn import *",
}


def main():
    times = import_times(15)
    medians = {name: statistics.median(values) * 1e3 for name, values in times.items()}
    for name, milliseconds in medians.items():
        print(f"{name:13} {milliseconds:6.1f} ms")
    print(f"ratio         {medians['pydnn'] / medians['dependencies']:6.2f}, limit {LIMIT}")
    print(environment())


def import_times(repeats):
    """Return the seconds of each import in each turn."""
    times = {name: [] for name in IMPORTS}
    for repeat in range(1 + repeats):
        for name, statements in IMPORTS.items():
            command = [sys.executable, "-c", TIMED.format(statements)]
            run = subprocess.run(command, capture_output=True, check=True, env=ENVIRONMENT)
            if repeat:  # the first round warms the file cache
                times[name].append(float(run.stdout))
    return times


if __name__ == "__main__":
    main()
