import re

import attrs
import numpy as np
import pytest

import pydnn as nn
from pydnn.reports import report_of_run
from pydnn.reports.ending import ending_of, how_it_ended
from pydnn.runs import Run, create_run, record
from pydnn.runs.inspect import look_into_next
from pydnn.training.finite import ignoring_overflow


@pytest.fixture
def trained(tmp_path, points):
    """The function that records a recipe until it diverges, or until a number of steps."""

    def train(recipe, steps=None, why="", name="run"):
        job = nn.jobs.prepare(recipe, points)
        with create_run(tmp_path / name, job, points) as recording:
            stream = record(recording, nn.jobs.run(job))
            try:
                with ignoring_overflow():
                    for taken, _ in enumerate(stream, start=1):
                        if taken == steps:
                            break
            except nn.training.NotFinite:
                why = "not finite"
            stream.close()
            if why:
                recording.end(why)
            recording.ended = True
        return Run.open(tmp_path / name, data=points)

    return train


@pytest.fixture
def wild(recipe):
    return attrs.evolve(
        recipe,
        network="serial(dense(4), relu, dense(1))",
        loss="mean_squared()",
        optimizer="momentum(learning_rate=1e60)",
        validation=0.0,
        evaluate_every=0,
    )


def said(run):
    ending = ending_of(run, [], data=True)
    return re.sub("<[^>]*>", " ", "".join(how_it_ended(run, ending)))


def test_a_diverged_run_names_the_step_and_its_first_numbers_that_are_not_finite(trained, wild):
    run = trained(wild)
    tensors, error = look_into_next(run)
    assert error.iteration == run.iterations
    bad = [tensor for tensor in tensors if not np.isfinite(tensor.array).all()]
    text = said(run)
    assert f"diverged: step {run.iterations} computed numbers that are not finite" in text
    assert f"first in {error.where}." in text
    assert str(bad[0]) in text
    index = np.argwhere(~np.isfinite(bad[0].array))[0].tolist()
    assert (f"[{', '.join(map(str, index))}]" if index else "inf") in text
    assert "The last steps before it" in text


def test_a_run_that_diverges_in_its_first_step_is_reported(trained, wild):
    huge = "dense(1, initializer=constant(1e160))"
    run = trained(attrs.evolve(wild, network=huge))
    assert run.iterations == 0
    text = report_of_run(run)
    assert "for 0 of 30 steps (diverged)" in text
    assert "step 0 computed numbers that are not finite, first in cost" in text
    assert "The last steps before it" not in text


def test_a_run_that_diverged_is_reported_without_its_data(trained, wild):
    run = trained(wild)
    text = report_of_run(Run.open(run.path))
    assert f"diverged: step {run.iterations} computed" in text
    assert "Arrays of step" not in text


def test_a_diverged_run_whose_step_is_finite_here_says_so(trained, recipe):
    run = trained(recipe, steps=7, why="not finite")
    notes = []
    assert ending_of(run, notes, data=True).diverged
    assert "has only finite numbers" in notes[0]


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("interrupted", "was interrupted after step 7 of 30, by whoever ran it"),
        ("cut short", "was cut short after step 7 of 30, by whoever ran it and not by its recipe"),
        ("", "reaches step 7 of 30 and has no end"),
        ("out of time", "ended after step 7 of 30 (out of time)"),
    ],
)
def test_an_unfinished_run_says_how_to_resume_it(trained, recipe, why, words):
    text = said(trained(recipe, steps=7, why=why, name="a run"))
    assert words in text
    assert "pydnn resume &#x27;a run&#x27;  goes on from there" in text


def test_a_run_that_stopped_early_says_what_it_watched(trained, recipe):
    early = attrs.evolve(recipe, watch="validation cost", patience=5)
    text = said(trained(early, steps=9, why="stopped early"))
    assert "after 9 of at most 30 steps: the validation cost was no better for 5 steps" in text


def test_a_finished_run_says_nothing_more(run):
    assert said(run) == ""
