"""Thousands of damaged recipes, runs, models, tables and pictures, through every command.

Whatever a file holds, pydnn answers in one line: no traceback, no hang, no gigabytes, no import
of what the file names, and no success that the sound file would not have. See tests/fuzz.
"""

import sys

import pytest
from fuzz.run import fuzz

SEED = 1
COUNT = 6000  # and no time limit: a faster machine that ran more cases could fail where others pass
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the watchdog selects on a pipe")


def complaints(verdicts):
    return [
        f"{verdict['wrong']} in {verdict['what']}: pydnn {' '.join(verdict['argv'])}\n"
        f"  again: python tests/fuzz/run.py --seed {SEED} --case {verdict['case']} --keep FOLDER"
        for verdict in verdicts
        if verdict["wrong"]
    ]


def test_damaged_inputs_are_answered_in_one_line():
    verdicts = list(fuzz(SEED, 0, 15, lanes=1))
    assert complaints(verdicts) == []
    # Some of them do no harm, so that commands get to their end; most are refused.
    assert {verdict["status"] for verdict in verdicts} >= {0, 2}


@pytest.mark.slow
def test_thousands_of_damaged_inputs_are_answered_in_one_line():
    verdicts = list(fuzz(SEED, 15, COUNT))
    assert complaints(verdicts) == []
    assert len(verdicts) == COUNT - 15
