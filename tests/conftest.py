import functools
import gc
import os
from pathlib import Path

# One thread of BLAS for a process, unless the user says otherwise: products this small gain nothing
# by a second one, and threads that share a core with other processes wait for one another. This
# must stand before NumPy is imported. A test of several threads starts a process of its own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest

from pydnn.cli import main
from pydnn.data import image_sets
from pydnn.runs import environment

# No deadline: a machine that others use, too, may be slow for a moment. `.ci/run` tries all
# properties again by `-m "slow or hypothesis" --hypothesis-profile=thorough`.
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=100)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=25)
hypothesis.settings.load_profile("quick")

PHOTOS = Path(__file__).parents[1] / ".." / "shared" / "data" / "catvnoncat"


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run the whole suite on all cores, where pytest-xdist is installed and no option says how."""
    option = config.option
    if (
        getattr(option, "numprocesses", 0) is None  # there is pytest-xdist, and nobody gave -n
        and not hasattr(config, "workerinput")  # this is not one of its workers
        and config.args_source is pytest.Config.ArgsSource.TESTPATHS  # no files were named
        and option.capture != "no"
        and not (option.usepdb or option.collectonly)
    ):
        option.numprocesses = _cores()
        if option.dist == "no":
            option.dist = "worksteal"  # which leaves most tests of a file in one process


def _cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pytest_collection_finish():
    """Let no collection of garbage look at modules and thousands of tests again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory):
    """What pydnn keeps is kept apart from what the user has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYDNN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def time_is_saved():
    """Files are not flushed to the disk: no test cuts the power. Some results are worked out once.

    These are drawings, and the fingerprint of an arithmetic that every recorded run begins with.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        for module, name in ((image_sets, "draw_cats"), (environment, "arithmetic_fingerprint")):
            patch.setattr(module, name, functools.cache(getattr(module, name)))
        yield


# Where underflow is an error, too: it may be none for pydnn, whatever a caller's error state is.
# Elsewhere tests have arithmetic of their own that underflows.
MATHEMATICS = {"optimizers", "stages", "sweeps", "training", "test_golden_jobs.py", "test_laws.py"}
MATHEMATICS |= {f"test_{name}.py" for name in ("losses", "metrics", "penalties")}
MATHEMATICS |= {f"test_{name}.py" for name in ("batches", "rotation", "tutorial", "underflow")}


@pytest.fixture(autouse=True)
def arithmetic_warnings_are_errors(request):
    below = request.path.relative_to(
        Path(__file__).parent
    )  # whatever the checkout's folder is called
    under = "raise" if MATHEMATICS & set(below.parts) else "ignore"
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
    """`pydnn` with these arguments, in this process: its exit status and what it printed."""

    def run(*argv):
        try:
            status = main(list(map(str, argv)))
        except SystemExit as stop:  # argparse
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err

    return run
