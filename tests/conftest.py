import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# A machine that others use, too, may be slow for a moment: that is no fault of an example.
hypothesis.settings.register_profile("pydnn", deadline=None)
hypothesis.settings.load_profile("pydnn")

PHOTOS = Path(__file__).parents[1] / ".." / "shared" / "data" / "catvnoncat"


# Where underflow is an error, too: it may be none for pydnn, whatever a caller's error state is.
# Elsewhere tests have arithmetic of their own that underflows.
MATHEMATICS = {"stages", "sweeps", "training", "test_golden_jobs.py", "test_laws.py"}
MATHEMATICS |= {f"test_{name}.py" for name in ("losses", "metrics", "optimizers", "penalties")}
MATHEMATICS |= {f"test_{name}.py" for name in ("batches", "rotation", "tutorial", "underflow")}


@pytest.fixture(autouse=True)
def arithmetic_warnings_are_errors(request):
    under = "raise" if MATHEMATICS & set(request.path.parts) else "ignore"
    with np.errstate(all="raise", under=under):
        yield


@pytest.fixture(scope="session")
def cats_directory():
    directory = Path(os.environ.get("PYDNN_CATS", PHOTOS))
    if not (directory / "train_catvnoncat.h5").is_file():
        pytest.skip("the real photos are not here: set PYDNN_CATS to their directory")
    return directory
