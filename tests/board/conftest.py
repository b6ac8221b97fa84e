import shutil

import attrs
import pytest
from small_board import HOSTILE, served
from small_runs import recorded, small_recipe


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A folder with two runs, one of them in a folder of its own, and a damaged copy."""
    base = tmp_path_factory.mktemp("board")
    folder = base / "runs"
    folder.mkdir()
    recipe = small_recipe(base, validation=0.25, evaluate_every=4)
    recorded(folder / "0001", recipe)
    (folder / "more").mkdir()
    recorded(folder / "more" / "0002", attrs.evolve(recipe, seed=4), steps=8)
    shutil.copytree(folder / "0001", folder / "damaged")
    last = sorted((folder / "damaged" / "segments").iterdir())[-1]
    content = bytearray(last.read_bytes())
    content[-100] ^= 1
    last.write_bytes(content)
    shutil.copytree(folder / "0001", folder / HOSTILE)
    return folder


@pytest.fixture(scope="session")
def client(runs):
    with served(runs) as one:
        yield one
