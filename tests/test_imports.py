import ast
import subprocess
import sys
from pathlib import Path

PYDNN = Path(__file__).parents[1] / "pydnn"
UNPICKLE = {"pickle.load", "pickle.loads", "pickle.Unpickler"}
MAY_RUN_CODE = {"marshal", "shelve", "dill", "cloudpickle", "joblib"}


def test_no_file_is_read_by_what_may_run_code_in_it():
    """Parts can be pickled by a user's own processes, but pydnn itself never unpickles a file."""
    found = set()
    for path in PYDNN.rglob("*.py"):
        text = path.read_text()
        if not any(name in text for name in ("pickle", *MAY_RUN_CODE)):
            continue  # it cannot name one of them
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not MAY_RUN_CODE & modules, path
            if isinstance(node, ast.Attribute) and ast.unparse(node) in UNPICKLE:
                found.add(path.relative_to(PYDNN).as_posix())
        assert "allow_pickle=True" not in text, path
    # These read what the process that started them hands over, in a pipe or as an argument.
    assert found == {"runs/diff.py", "testing/same_bits.py"}


OUTSIDE = """
import sys, {module}
own = {{"pydnn", "numpy", "h5py", "toolz", "attr", "attrs"}}
known = set(sys.stdlib_module_names) | own | {{"__main__"}}
loaded = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(name for name in loaded - known if not name.startswith(("_", "cython", "Cython"))))
"""


def test_nothing_is_imported_but_the_four_packages():
    modules = "pydnn, pydnn.tutorial, pydnn.cli, pydnn.testing"
    command = [sys.executable, "-c", OUTSIDE.format(module=modules)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
