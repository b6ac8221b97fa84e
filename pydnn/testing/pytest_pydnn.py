"""A pytest plugin: marks that check laws, a table of measured errors, and fixtures.

    @pytest.mark.pydnn_stage(my_stage(0.5), shape_in=(4,))
    @pytest.mark.pydnn_stage(my_stage(2.0))
    def test_my_stage(): ...

makes two tests. Each checks all laws of its stage, and then runs the test's own body, which gets
the stage from the fixture `pydnn_stage`. The marks `pydnn_loss` and `pydnn_optimizer` do the same
for losses and optimizers.

A mark may be on a function, a class or a `unittest.TestCase`, in the `pytestmark` of a module, in
`pytest.param(…, marks=…)`, or added by `add_marker`. Its laws always run before the test's body.
Where pytest cannot make one test per mark, one test checks the laws of all its marks.

The plugin is installed as a separate module, so that pytest can load it without loading pydnn:
only a mark, a fixture or the option imports pydnn. It examines only tests and plain functions, and
never other objects in a test module.
"""

from __future__ import annotations

from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from pydnn import Key

    class _Worker(Protocol):
        """A worker of pytest-xdist."""

        config: pytest.Config


_REPORTS = pytest.StashKey[list[tuple[str, object]]]()
_MEASURED_BY_WORKERS = pytest.StashKey[list[tuple[float, str]]]()
_TRIED = pytest.StashKey[list[pytest.Mark]]()  # the marks of a test whose laws have run

_LAWS = {
    "pydnn_stage": ("assert_stage", "stage"),
    "pydnn_loss": ("assert_loss", "loss"),
    "pydnn_optimizer": ("assert_gradient_transformation", "gradient transformation"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option --pydnn-report."""
    parser.getgroup("pydnn").addoption(
        "--pydnn-report",
        metavar="FILE",
        help="write the errors that pydnn's laws measured to FILE, as tables, largest error first",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks."""
    config.stash[_REPORTS] = []
    config.stash[_MEASURED_BY_WORKERS] = []
    for mark, (_, what) in _LAWS.items():
        config.addinivalue_line("markers", f"{mark}(part, **options): check the laws of a {what}")


class _Case(NamedTuple):
    """One of several tests that pytest makes of one function: its mark, and the marks of all."""

    mark: pytest.Mark
    all_marks: Sequence[pytest.Mark]


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> None:
    """Make one test per mark, even if the test does not use the fixture of the mark's name."""
    for name in _LAWS:
        if next(collector.iter_markers(name), None) and name not in _used(collector):
            collector.add_marker(pytest.mark.usefixtures(name))
    # Anything else in a test module may react badly to being inspected, e.g. a mock, a proxy or a
    # query builder. Marks on other kinds of callables are handled when their tests run.
    if type(obj) is FunctionType:
        marks = vars(obj).get("pytestmark", ())
        own = {mark.name for mark in marks if isinstance(mark, pytest.Mark)}
        for name in own & _LAWS.keys():
            pytest.mark.usefixtures(name)(obj)


def _used(collector: pytest.Collector) -> set[str]:
    return {name for mark in collector.iter_markers("usefixtures") for name in mark.args}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test per mark, in the order in which they are written."""
    for name in _LAWS:
        marks = list(metafunc.definition.iter_markers(name))[::-1]
        if not marks or name not in metafunc.fixturenames:
            continue
        cases = [_Case(mark, marks) for mark in marks]
        ids = [_name_of(mark) for mark in marks]
        metafunc.parametrize(name, cases, indirect=True, scope="function", ids=ids)


def _name_of(mark: pytest.Mark) -> str:
    part = mark.args[0] if mark.args else None
    return str(getattr(part, "name", None) or type(part).__name__)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Check the laws of all marks that no fixture has checked, before the test's body."""
    item.stash.setdefault(_TRIED, [])
    _try_rest(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Check the laws of marks that were added while the test ran, unless it was skipped."""
    if _TRIED in item.stash:
        try:
            _try_rest(item)
        finally:
            del item.stash[_TRIED]  # so that a rerun of a failed test checks the laws again


def _try_rest(item: pytest.Item) -> None:
    params = getattr(getattr(item, "callspec", None), "params", {})
    for name in _LAWS:
        case = params.get(name)
        others = (
            [m for m in case.all_marks if m is not case.mark] if isinstance(case, _Case) else []
        )
        for mark in item.iter_markers(name):
            # By identity, since comparing the marks would compare their arguments, such as arrays.
            if not any(mark is known for known in (*others, *item.stash[_TRIED])):
                _try(item, mark)


def _try(item: pytest.Item, mark: pytest.Mark) -> object:
    """Check the laws of the part in a mark, and return the part; the test fails if one breaks."""
    import pydnn.testing

    item.stash.setdefault(_TRIED, []).append(mark)
    law, what = _LAWS[mark.name]
    if len(mark.args) != 1:
        pytest.fail(
            f"give the mark one {what}, e.g. @pytest.mark.{mark.name}(my_part()).", pytrace=False
        )
    prove: Callable[..., object] = getattr(pydnn.testing, law)
    broken = ""
    try:
        proof = prove(mark.args[0], **mark.kwargs)
    except (pydnn.testing.BrokenLaw, pydnn.BadInput) as error:
        broken = str(error)
    if broken:
        pytest.fail(broken, pytrace=False)
    item.config.stash[_REPORTS].append((item.nodeid, proof))
    return mark.args[0]


def _proved(request: pytest.FixtureRequest, name: str) -> object:
    """Check the laws of the test's marks, and return the part in the nearest one."""
    case = getattr(request, "param", None)
    if isinstance(case, _Case):
        return _try(request.node, case.mark)
    if case is not None:  # from pytest's own parametrize, with indirect=True
        return _try(request.node, getattr(pytest.mark, name).with_args(case).mark)
    parts = [_try(request.node, mark) for mark in request.node.iter_markers(name)]
    if not parts:
        pytest.fail(
            f"the test uses the fixture {name} and has no mark of that name, expected one: "
            f"put @pytest.mark.{name}(my_part()) on it.",
            pytrace=False,
        )
    return parts[0]


@pytest.fixture
def pydnn_stage(request: pytest.FixtureRequest) -> object:
    """The stage in the test's mark of the same name, after its laws were checked."""
    return _proved(request, "pydnn_stage")


@pytest.fixture
def pydnn_loss(request: pytest.FixtureRequest) -> object:
    """The loss in the test's mark of the same name, after its laws were checked."""
    return _proved(request, "pydnn_loss")


@pytest.fixture
def pydnn_optimizer(request: pytest.FixtureRequest) -> object:
    """The optimizer in the test's mark of the same name, after its laws were checked."""
    return _proved(request, "pydnn_optimizer")


@pytest.fixture
def pydnn_key(request: pytest.FixtureRequest) -> Key:
    """A key that is the same each time the test runs, and different from other tests' keys."""
    from pydnn import Key

    return Key(0, ("test", request.node.nodeid))


@pytest.fixture
def pydnn_report(request: pytest.FixtureRequest) -> Callable[[object], None]:
    """A function that adds a proof or a report to the file of --pydnn-report."""
    return lambda report: request.config.stash[_REPORTS].append((request.node.nodeid, report))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the file of --pydnn-report; a worker of pytest-xdist sends its tables instead."""
    target = session.config.getoption("--pydnn-report")
    if not target:
        return
    measured: list[tuple[float, str]] = [
        (worst, f"{test}: worst error {worst:.1e}\n{report}\n")
        for test, report in session.config.stash[_REPORTS]
        for worst in [_worst(report)]
    ]
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["pydnn_report"] = measured
        return
    others = session.config.stash[_MEASURED_BY_WORKERS]
    ordered = sorted(measured + others, key=lambda pair: (-pair[0], pair[1]))
    texts = [text for _, text in ordered]
    Path(target).write_text("\n".join(texts) or "no laws were tried\n", encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: _Worker) -> None:
    """Collect the tables of a worker of pytest-xdist; one that crashed has sent none."""
    measured = getattr(node, "workeroutput", {}).get("pydnn_report", ())
    node.config.stash[_MEASURED_BY_WORKERS].extend((worst, text) for worst, text in measured)


def _worst(report: object) -> float:
    tables = getattr(report, "tables", (report,))
    return max((float(getattr(table, "worst", 0.0)) for table in tables), default=0.0)
