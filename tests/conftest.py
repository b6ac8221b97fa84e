import os
from pathlib import Path

import numpy as np
import pytest

PHOTOS = Path(__file__).parents[1] / ".." / "shared" / "data" / "catvnoncat"


@pytest.fixture(autouse=True)
def arithmetic_warnings_are_errors():
    with np.errstate(all="raise", under="ignore"):
        yield


@pytest.fixture(scope="session")
def cats_directory():
    directory = Path(os.environ.get("PYDNN_CATS", PHOTOS))
    if not (directory / "train_catvnoncat.h5").is_file():
        pytest.skip("the real photos are not here: set PYDNN_CATS to their directory")
    return directory
