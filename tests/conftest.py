import collections
import contextlib
import functools
import gc
import hashlib
import importlib.util
import marshal
import os
import shutil
import tempfile
import time
from pathlib import Path

# BLAS uses one thread, unless the user sets another number: products this small are no faster with
# two, and threads that share a core with other processes wait for each other. This must come before
# NumPy is imported. A test of several threads starts its own process.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Tests of compiled kernels wait for them. Otherwise they would compare NumPy with NumPy until
# another process has compiled the kernels.
os.environ["PYDNN_COMPILE"] = "here"

import hypothesis
import numpy as np
import pytest

# No deadline, since a shared machine may be slow for a moment. `.ci/run` checks all properties
# again with `-m "slow or hypothesis" --hypothesis-profile=thorough`.
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=100)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=25)
hypothesis.settings.load_profile("quick")

PHOTOS = Path(__file__).parents[1] / ".." / "shared" / "data" / "catvnoncat"


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run the whole suite on all cores if pytest-xdist is installed and no option forbids it."""
    option = config.option
    if (
        getattr(option, "numprocesses", 0) is None  # pytest-xdist is installed, without -n
        and not hasattr(config, "workerinput")  # this process is not one of its workers
        and config.args_source is pytest.Config.ArgsSource.TESTPATHS  # no test files were named
        and option.capture != "no"
        and not (option.usepdb or option.collectonly)
    ):
        option.numprocesses = _cores()
        if option.dist == "no":
            option.dist = (
                "worksteal"  # most tests of a file stay in one process, which shares their fixtures
            )


def _cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # the workers of pytest-xdist inherit the variable
        _use_private_cache(config)
    _keep_rewritten(config)


def _use_private_cache(config):
    """Let all processes of this run share a cache of pydnn that is not the user's.

    What they compile is kept for the next run, in pytest's own cache folder; or in PYDNN_CACHE,
    e.g. of a checkout that others also work in. This comes before any test module is imported,
    since pydnn.compiled looks for its folder when it is imported.
    """
    before = os.environ.get("PYDNN_CACHE")
    if before:
        folder = Path(before) / "tests"
    elif getattr(config, "cache", None) is not None:
        folder = config.cache.mkdir("pydnn")
    else:  # `-p no:cacheprovider`
        folder = Path(tempfile.mkdtemp())
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # kernels are not kept where others may write
    yesterday = time.time() - 24 * 3600
    kernels = (folder / "compiled").glob("*")  # one folder for each version of pydnn's sources
    for old in [path for path in kernels if path.stat().st_mtime < yesterday]:
        shutil.rmtree(old, ignore_errors=True)
    for name in ("hashes", "images"):
        shutil.rmtree(folder / name, ignore_errors=True)
    os.environ["PYDNN_CACHE"] = str(folder)
    config.add_cleanup(lambda: os.environ.update(PYDNN_CACHE=before or ""))


def _keep_rewritten(config):
    """Keep the code of test files, with its rewritten asserts, in pytest's own cache folder.

    Rewriting takes two thirds of the time before the first test. pytest keeps its results only
    where Python may write bytecode, which PYTHONDONTWRITEBYTECODE forbids in many containers.
    """
    from _pytest.assertion import rewrite

    original = getattr(rewrite, "_rewrite_test", None)
    if original is None or getattr(config, "cache", None) is None:
        return  # another version of pytest, or `-p no:cacheprovider`
    folder = config.cache.mkdir("rewritten")

    def rewritten(path, config):
        text = repr((importlib.util.MAGIC_NUMBER, pytest.__version__, str(path))).encode()
        source = path.read_bytes()
        kept = folder / f"{path.stem}-{hashlib.sha256(text).hexdigest()[:16]}"
        wanted = hashlib.sha256(text + source).digest()
        try:
            digest, first, code = marshal.loads(kept.read_bytes())
            if digest == wanted:
                return first, code
        except (OSError, ValueError, EOFError, TypeError):
            pass  # not there yet, or damaged
        first, code = original(path, config)
        if isinstance(first, bytes):  # the hash of the source; in older versions a stat_result
            temporary = kept.with_suffix(f".{os.getpid()}")
            temporary.write_bytes(marshal.dumps((wanted, first, code)))
            temporary.replace(kept)
        return first, code

    rewrite._rewrite_test = rewritten
    config.add_cleanup(lambda: setattr(rewrite, "_rewrite_test", original))


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session):
    """Rewrite a share of the test files first, so that each is rewritten by one worker alone."""
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return  # this process is alone, or test files were named
    from _pytest.assertion import rewrite

    files = sorted(Path(__file__).parent.rglob("test_*.py"))
    for path in files[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]:
        rewrite._rewrite_test(path, session.config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark most cases of tests that are `sampled` as slow, before slow tests are left out."""
    cases = collections.Counter()
    for item in items:
        mark = item.get_closest_marker("sampled")
        if mark is not None:
            (every,) = mark.args
            name = item.nodeid.partition("[")[0]
            if cases[name] % every:
                item.add_marker(pytest.mark.slow)
            cases[name] += 1


def pytest_collection_finish():
    """Exclude the modules and thousands of tests from garbage collection, and collect less often.

    Both save time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


@pytest.fixture(scope="session", autouse=True)
def shared_bytecode(tmp_path_factory):
    """Compile pydnn once for all processes that tests start, where no bytecode may be written.

    PYTHONDONTWRITEBYTECODE is set in many containers. Compiling takes half of a process's start.
    """
    with pytest.MonkeyPatch.context() as patch:
        if os.environ.get("PYTHONDONTWRITEBYTECODE"):
            folder = tmp_path_factory.getbasetemp()
            folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
            patch.delenv("PYTHONDONTWRITEBYTECODE")
            patch.setenv("PYTHONPYCACHEPREFIX", str(folder / "bytecode"))
        yield


@pytest.fixture(scope="session", autouse=True)
def saved_time():
    """Skip flushing files to disk, since no test cuts the power, and compute some results once.

    These are the drawn cats, and what each recorded run begins with: the arithmetic fingerprint,
    the versions of packages, and the BLAS in use.
    """
    from pydnn.data import image_sets  # here, since the process that only waits does not need it
    from pydnn.runs import environment

    threadpoolctl = None
    with contextlib.suppress(ImportError):
        import threadpoolctl

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        for module, name in (
            (image_sets, "draw_cats"),
            (environment, "arithmetic_fingerprint"),
            (environment, "_versions"),
            (threadpoolctl, "threadpool_info"),
        ):
            if module is not None:
                patch.setattr(module, name, functools.cache(getattr(module, name)))
        yield


# In these tests underflow is an error in the caller's error state, which must not affect pydnn.
# Other tests have their own arithmetic, which underflows.
MATHEMATICS = {"optimizers", "stages", "sweeps", "training", "test_golden_jobs.py", "test_laws.py"}
MATHEMATICS |= {f"test_{name}.py" for name in ("losses", "metrics", "penalties")}
MATHEMATICS |= {f"test_{name}.py" for name in ("batches", "rotation", "tutorial", "underflow")}


@pytest.fixture(autouse=True)
def arithmetic_warnings_are_errors(request):
    path = request.path.relative_to(Path(__file__).parent)  # without the checkout's own folder
    under = "raise" if MATHEMATICS & set(path.parts) else "ignore"
    with np.errstate(all="raise", under=under):
        yield


@pytest.fixture(scope="session")
def cats_directory():
    directory = Path(os.environ.get("PYDNN_CATS", PHOTOS))
    if not (directory / "train_catvnoncat.h5").is_file():
        pytest.skip("the real photos are not here: set PYDNN_CATS to their directory")
    return directory


@pytest.fixture
def command(capsys):
    """A function that runs `pydnn` in this process, and returns its exit status and its output."""
    from pydnn.cli import main

    def run(*argv):
        try:
            status = main(list(map(str, argv)))
        except SystemExit as stop:  # argparse
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err

    return run
