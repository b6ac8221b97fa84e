import re
from pathlib import Path

import pytest

RIGHT = """\
import attrs
import numpy as np
import pydnn as nn

stage, other = nn.dense(3), nn.relu()
params, _ = stage.init(nn.Key(1), (2,))
X = np.ones((2, 4))
A, cache = stage.forward(params, X, nn.Context())
B, other_cache = other.forward((), A, nn.Context())
dA_prev, grads = stage.backward(params, cache, B)
network: nn.Stage = nn.serial(stage, other)
"""
# Wrong lines, each with a part of the error that a type checker must report.
WRONG = {
    "stage.backward(params, other_cache, B)": 'incompatible type "ElementwiseCache"; expected "Den',
    "stage.forward((), X, nn.Context())": 'incompatible type "tuple[()]"; expected "DenseParams"',
    "attrs.evolve(stage, backward=lambda p, c, dA: (None, p))": "Incompatible return value type",
    "nn.Batch(X, X).weights.sum()": 'Item "None" of ',
}


@pytest.mark.slow
def test_a_type_checker_finds_wrong_parameters_and_caches(tmp_path, monkeypatch):
    api = pytest.importorskip("mypy.api")
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)  # its pyproject.toml lists the packages without types
    monkeypatch.setenv("MYPYPATH", str(root))
    program = tmp_path / "program.py"
    program.write_text(RIGHT + "\n".join(WRONG))
    output, problems, _ = api.run(["--strict", str(program)])
    assert problems == ""
    errors = re.findall(r":(\d+): error: (.*)", output)
    first = RIGHT.count("\n") + 1
    assert {int(number) for number, _ in errors} == set(range(first, first + len(WRONG)))
    for place, message in enumerate(WRONG.values(), start=first):
        assert any(int(number) == place and message in text for number, text in errors), output
