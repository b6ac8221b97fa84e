import pytest

from pydnn.cli import main


@pytest.fixture
def command(capsys):
    def run(*argv):
        try:
            status = main(list(map(str, argv)))
        except SystemExit as stop:  # argparse
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err

    return run
