"""Parts say what they are: no module of pydnn asks for the name of a builder or an arithmetic.

What the rest of the library must know about a part is a field of its record. Names of builders are
for descriptions, for messages, and for the table that translates stages for other frameworks.
"""

import ast
import functools
import re
from pathlib import Path

import pytest

import pydnn
from pydnn import runs, sweeps  # noqa: F401 - so that all builders are known
from pydnn.descriptions.builders import builders_of
from pydnn.numerics import ARITHMETICS

ROOT = Path(pydnn.__file__).parent
NAMES = {builder.name for builder in builders_of() if ":" not in builder.name}
# Where names are what a module is about: written forms of parts, translations to frameworks, the
# tutorial's functions and rnn, which take the names of two activations, and the estimators, whose
# options are scikit-learn's words, e.g. solver="adam".
BY_NAME = ["descriptions", "interop/sklearn", "other_names.py", "testing/frameworks.py"]
BY_NAME += ["stages/rnn.py", "tutorial.py"]


@functools.cache
def texts():
    """The texts of all other modules by name."""
    return {
        str(path.relative_to(ROOT)): path.read_text()
        for path in sorted(ROOT.rglob("*.py"))
        if not any(str(path.relative_to(ROOT)).startswith(place) for place in BY_NAME)
    }


@functools.cache
def tree_of(module):
    return ast.parse(texts()[module])


def compared(tree):
    """Yield all operands of comparisons in a module: `a == b`, `a in b`, `a is b`, match cases."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for operand in (node.left, *node.comparators):
                yield node, operand
        elif isinstance(node, ast.MatchValue):
            yield node, node.value


def names_in(operand):
    """Return the texts that an operand is or lists."""
    inside = operand.elts if isinstance(operand, ast.List | ast.Tuple | ast.Set) else [operand]
    return {item.value for item in inside if isinstance(item, ast.Constant)}


def tables(tree):
    """Yield the lists, sets and mappings of texts in a module, except its exports."""
    exports = set()  # an assignment comes before its parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                exports.add(id(node.value))
        elif isinstance(node, ast.List | ast.Tuple | ast.Set) and id(node) not in exports:
            yield node, names_in(node)
        elif isinstance(node, ast.Dict):
            yield node, {key.value for key in node.keys if isinstance(key, ast.Constant)}


def faults(look, name, within):
    """Return the places where something that `look` yields for a module has `name`s in it.

    Parsing takes most of the time, so a module is parsed only if the pattern `within` is in it.
    """
    return [
        f"{module}:{node.lineno} has {sorted(found)}"
        for module, text in texts().items()
        if re.search(within, text)
        for node, what in look(tree_of(module))
        if (found := name(what))
    ]


def either(names):
    return "(?:" + "|".join(map(re.escape, sorted(names))) + ")"


QUOTED = f"[\"']{either(NAMES)}[\"']"  # as every text in a module that is a builder's name
# Both names of arithmetics are ordinary words: quoted, or beside an operator.
NAMED = either(ARITHMETICS)
COMPARED = rf"[\"']{NAMED}[\"']|\b{NAMED}\s+(?:is|in|not|[=!]=)|(?:is|in|not|[=!]=)\s+{NAMED}\b"


@pytest.mark.slow
def test_no_builder_is_recognized_by_its_name():
    assert not faults(compared, lambda operand: names_in(operand) & NAMES, QUOTED)


def test_no_module_has_a_table_of_builders():
    two = rf"(?s){QUOTED}.*{QUOTED}"
    assert not faults(tables, lambda names: len(names & NAMES) > 1 and names & NAMES, two)


def test_no_arithmetic_is_recognized_by_its_identity_or_name():
    def arithmetics(operand):
        return (names_in(operand) | {ast.unparse(operand)}) & set(ARITHMETICS)

    assert not faults(compared, arithmetics, COMPARED)


def test_the_checks_of_this_file_find_planted_violations():
    """Plant each way to recognize a part by its name."""
    planted = {
        "stage.name == 'dense'": compared,
        "'serial' in stage.description": compared,
        "name in ('adam', 'x')": compared,
        "match name:\n    case 'adam': pass": compared,
    }
    for code, look in planted.items():
        assert any(names_in(operand) & NAMES for _, operand in look(ast.parse(code))), code
        assert re.search(QUOTED, code)
    assert [texts & NAMES for _, texts in tables(ast.parse("T = {'adam': 1, 'lion': 2}"))] == [
        {"adam", "lion"}
    ]
    assert not [*tables(ast.parse("__all__ = ['adam', 'lion']"))]
    [*operands] = [ast.unparse(operand) for _, operand in compared(ast.parse("n is portable"))]
    assert "portable" in operands
    for code in ("n is portable", "fast == n", "if n in ('fast',)", "n != portable"):
        assert re.search(COMPARED, code), code
