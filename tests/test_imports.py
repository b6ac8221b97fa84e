import subprocess
import sys

import pytest

OUTSIDE = """
import sys, {module}
own = {{"pydnn", "numpy", "h5py", "toolz", "attr", "attrs"}}
known = set(sys.stdlib_module_names) | own | {{"__main__"}}
loaded = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(name for name in loaded - known if not name.startswith(("_", "cython", "Cython"))))
"""


@pytest.mark.parametrize("module", ["pydnn", "pydnn.tutorial", "pydnn.cli", "pydnn.testing"])
def test_nothing_is_imported_but_the_four_packages(module):
    command = [sys.executable, "-c", OUTSIDE.format(module=module)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
