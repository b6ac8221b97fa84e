"""A plugin of pytest: laws by a mark, tables of what was measured, and fixtures.

    @pytest.mark.pydnn_stage(my_stage(0.5), shape_in=(4,))
    @pytest.mark.pydnn_stage(my_stage(2.0))
    def test_my_stage(): ...

runs all laws of both before the test's own body, which may ask for the stage by the fixture
`pydnn_stage`. `pydnn_loss` and `pydnn_optimizer` are the same for theirs.

It is installed as a module of its own, so that pytest loads it without loading pydnn: that is
imported where a mark, a fixture or the option is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydnn import Key

_REPORTS = pytest.StashKey[list[tuple[str, Any]]]()

_LAWS = {
    "pydnn_stage": ("assert_stage", "stage"),
    "pydnn_loss": ("assert_loss", "loss"),
    "pydnn_optimizer": ("assert_gradient_transformation", "gradient transformation"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --pydnn-report."""
    parser.getgroup("pydnn").addoption(
        "--pydnn-report",
        metavar="FILE",
        help="write the tables of what pydnn's laws have measured, worst first, to this file",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Name the marks."""
    config.stash[_REPORTS] = []
    for mark, (_, what) in _LAWS.items():
        config.addinivalue_line("markers", f"{mark}(made, **options): run the laws of a {what}")


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(obj: object) -> None:
    """Have laws tried of a mark though the test does not ask for the fixture of its name."""
    for mark in {m.name for m in getattr(obj, "pytestmark", ())} & _LAWS.keys():
        pytest.mark.usefixtures(mark)(obj)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each mark, in the order in which they are read."""
    for mark in _LAWS:
        marks = list(metafunc.definition.iter_markers(mark))[::-1]
        if not marks:
            continue
        metafunc.parametrize(
            mark, marks, indirect=True, scope="function", ids=[_name_of(m) for m in marks]
        )


def _name_of(mark: pytest.Mark) -> str:
    made = mark.args[0] if mark.args else None
    return str(getattr(made, "name", None) or type(made).__name__)


def _proved(request: pytest.FixtureRequest, mark: str) -> Any:
    """What a mark was given, after its laws were tried; a test that fails shows what broke."""
    import pydnn.testing

    given: pytest.Mark | None = getattr(request, "param", None)
    law, what = _LAWS[mark]
    if given is None or len(given.args) != 1:
        pytest.fail(
            f"give the mark one {what}, e.g. @pytest.mark.{mark}(my_part()).", pytrace=False
        )
    prove: Callable[..., Any] = getattr(pydnn.testing, law)
    broken = ""
    try:
        proof = prove(given.args[0], **given.kwargs)
    except (pydnn.testing.BrokenLaw, pydnn.BadInput) as error:
        broken = str(error)
    if broken:
        pytest.fail(broken, pytrace=False)
    request.config.stash[_REPORTS].append((request.node.nodeid, proof))
    return given.args[0]


@pytest.fixture
def pydnn_stage(request: pytest.FixtureRequest) -> Any:
    """The stage of the mark of that name, whose laws were tried."""
    return _proved(request, "pydnn_stage")


@pytest.fixture
def pydnn_loss(request: pytest.FixtureRequest) -> Any:
    """The loss of the mark of that name, whose laws were tried."""
    return _proved(request, "pydnn_loss")


@pytest.fixture
def pydnn_optimizer(request: pytest.FixtureRequest) -> Any:
    """The gradient transformation of the mark of that name, whose laws were tried."""
    return _proved(request, "pydnn_optimizer")


@pytest.fixture
def pydnn_key(request: pytest.FixtureRequest) -> Key:
    """A key of the test's own, the same in every run."""
    from pydnn import Key

    return Key(0, ("test", request.node.nodeid))


@pytest.fixture
def pydnn_report(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """A function that adds a proof or a report to what --pydnn-report writes."""
    return lambda report: request.config.stash[_REPORTS].append((request.node.nodeid, report))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was measured, if it is wanted."""
    target = session.config.getoption("--pydnn-report")
    if target:
        reports = session.config.stash[_REPORTS]
        ordered = sorted(reports, key=lambda pair: -_worst(pair[1]))
        texts = [
            f"{test}: worst error {_worst(report):.1e}\n{report}\n" for test, report in ordered
        ]
        Path(target).write_text("\n".join(texts) or "no laws were tried\n", encoding="utf-8")


def _worst(report: Any) -> float:
    tables = getattr(report, "tables", (report,))
    return max((float(getattr(table, "worst", 0.0)) for table in tables), default=0.0)
