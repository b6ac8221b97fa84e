"""A plugin of pytest: laws by a mark, tables of what was measured, and fixtures.

    @pytest.mark.pydnn_stage(my_stage(0.5), shape_in=(4,))
    @pytest.mark.pydnn_stage(my_stage(2.0))
    def test_my_stage(): ...

makes two tests, and each runs all laws of its stage before the test's own body, which may ask for
the stage by the fixture `pydnn_stage`. `pydnn_loss` and `pydnn_optimizer` do the same for theirs.

A mark may be on a function, on a class or a `unittest.TestCase`, in `pytestmark` of a module, in
`pytest.param(…, marks=…)`, or added by `add_marker`: its laws run before the test's body in every
case. Where pytest does not multiply tests by their marks, one test runs the laws of all of them.

The plugin is installed as a module of its own, so that pytest loads it without loading pydnn,
which is imported where a mark, a fixture or the option is used. It looks at tests and at plain
functions alone, and never at other objects in people's modules.
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
        """What pytest-xdist says of a worker."""

        config: pytest.Config


_REPORTS = pytest.StashKey[list[tuple[str, object]]]()
_MEASURED_BY_WORKERS = pytest.StashKey[list[tuple[float, str]]]()
_TRIED = pytest.StashKey[list[pytest.Mark]]()  # of a test: the marks whose laws have run

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
    config.stash[_MEASURED_BY_WORKERS] = []
    for mark, (_, what) in _LAWS.items():
        config.addinivalue_line("markers", f"{mark}(made, **options): run the laws of a {what}")


class _Case(NamedTuple):
    """The mark of one of several tests that pytest makes of one function, and all their marks."""

    mark: pytest.Mark
    of: Sequence[pytest.Mark]


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> None:
    """Have a test made of each mark, even if the test does not ask for the fixture of its name."""
    for name in _LAWS:
        if next(collector.iter_markers(name), None) and name not in _used(collector):
            collector.add_marker(pytest.mark.usefixtures(name))
    # Whatever else is in a module may be a stranger that does not bear being looked at: a mock, a
    # proxy, a query builder. Marks on callables of other kinds are met when their tests run.
    if type(obj) is FunctionType:
        marks = vars(obj).get("pytestmark", ())
        own = {mark.name for mark in marks if isinstance(mark, pytest.Mark)}
        for name in own & _LAWS.keys():
            pytest.mark.usefixtures(name)(obj)


def _used(collector: pytest.Collector) -> set[str]:
    return {name for mark in collector.iter_markers("usefixtures") for name in mark.args}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each mark, in the order in which they are read."""
    for name in _LAWS:
        marks = list(metafunc.definition.iter_markers(name))[::-1]
        if not marks or name not in metafunc.fixturenames:
            continue
        cases = [_Case(mark, marks) for mark in marks]
        ids = [_name_of(mark) for mark in marks]
        metafunc.parametrize(name, cases, indirect=True, scope="function", ids=ids)


def _name_of(mark: pytest.Mark) -> str:
    made = mark.args[0] if mark.args else None
    return str(getattr(made, "name", None) or type(made).__name__)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Run the laws of all marks that no fixture has run: before the test's body."""
    item.stash.setdefault(_TRIED, [])
    _try_rest(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Run the laws of marks that were added while the test ran; of one that was skipped, none."""
    if _TRIED in item.stash:
        try:
            _try_rest(item)
        finally:
            del item.stash[_TRIED]  # another attempt at a test that failed tries the laws again


def _try_rest(item: pytest.Item) -> None:
    params = getattr(getattr(item, "callspec", None), "params", {})
    for name in _LAWS:
        case = params.get(name)
        others = [m for m in case.of if m is not case.mark] if isinstance(case, _Case) else []
        for mark in item.iter_markers(name):
            # By identity: what is marked may be of any kind, and not bear being compared.
            if not any(mark is known for known in (*others, *item.stash[_TRIED])):
                _try(item, mark)


def _try(item: pytest.Item, mark: pytest.Mark) -> object:
    """Run the laws of what is marked, and return it; a test that fails shows what broke."""
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
    """What the test is marked with, after its laws have run; of several marks, the nearest one."""
    case = getattr(request, "param", None)
    if isinstance(case, _Case):
        return _try(request.node, case.mark)
    if case is not None:  # by pytest's own parametrize, with indirect=True
        return _try(request.node, getattr(pytest.mark, name).with_args(case).mark)
    made = [_try(request.node, mark) for mark in request.node.iter_markers(name)]
    if not made:
        pytest.fail(
            f"the test asks for {name} and has no mark of that name: "
            f"put @pytest.mark.{name}(my_part()) on it.",
            pytrace=False,
        )
    return made[0]


@pytest.fixture
def pydnn_stage(request: pytest.FixtureRequest) -> object:
    """The stage of the mark of that name, whose laws were tried."""
    return _proved(request, "pydnn_stage")


@pytest.fixture
def pydnn_loss(request: pytest.FixtureRequest) -> object:
    """The loss of the mark of that name, whose laws were tried."""
    return _proved(request, "pydnn_loss")


@pytest.fixture
def pydnn_optimizer(request: pytest.FixtureRequest) -> object:
    """The gradient transformation of the mark of that name, whose laws were tried."""
    return _proved(request, "pydnn_optimizer")


@pytest.fixture
def pydnn_key(request: pytest.FixtureRequest) -> Key:
    """A key of the test's own, the same in every run."""
    from pydnn import Key

    return Key(0, ("test", request.node.nodeid))


@pytest.fixture
def pydnn_report(request: pytest.FixtureRequest) -> Callable[[object], None]:
    """A function that adds a proof or a report to what --pydnn-report writes."""
    return lambda report: request.config.stash[_REPORTS].append((request.node.nodeid, report))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was measured, if it is wanted; a worker of pytest-xdist passes it on."""
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
    """Collect what a worker of pytest-xdist has measured; one that crashed passes on nothing."""
    measured = getattr(node, "workeroutput", {}).get("pydnn_report", ())
    node.config.stash[_MEASURED_BY_WORKERS].extend((worst, text) for worst, text in measured)


def _worst(report: object) -> float:
    tables = getattr(report, "tables", (report,))
    return max((float(getattr(table, "worst", 0.0)) for table in tables), default=0.0)
