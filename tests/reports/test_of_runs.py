import re
import shutil
from datetime import UTC, datetime

import attrs
import pytest

import pydnn as nn
from pydnn.checks import BadInput
from pydnn.reports import report_of_runs
from pydnn.runs import note_verified, verify


@pytest.fixture(scope="module")
def others(tmp_path_factory, recipe, points, recorded):
    folder = tmp_path_factory.mktemp("others")
    sgd = nn.describe(nn.gradient_descent(learning_rate=0.1))
    changes = {"again": {}, "seed 2": {"seed": 2}, "plain": {"optimizer": sgd}}
    return [
        recorded(folder / name, attrs.evolve(recipe, **change), points)
        for name, change in changes.items()
    ]


def test_several_runs_show_what_differs_and_nothing_else(run, others):
    text = report_of_runs([run, *others])
    assert "<td>optimizer</td>" in text
    assert "<td>seed</td>" in text
    assert "<td>network</td>" not in text
    assert "<script" not in text


def test_runs_of_other_seeds_share_a_curve_with_a_band(run, others):
    text = report_of_runs([run, *others])
    assert "one and 2 more with other seeds" in text
    assert 'class="band s0"' in text


def test_equal_runs_are_compared_step_by_step(run, others):
    again = others[0]
    text = report_of_runs([run, again])
    assert "all 30 common steps have the same bits" in text
    assert "The recipes are equal." in text


def test_the_first_step_that_differs_is_named(run, others, points, tmp_path, recipe):
    def halved(*args, **options):
        job = nn.jobs.prepare(*args, **options)
        state = job.state
        vector = state.parameters.vector * 0.5
        state = attrs.evolve(state, parameters=state.parameters.with_vector(vector))
        return attrs.evolve(job, state=state)

    job = halved(recipe, points)
    with nn.runs.create_run(tmp_path / "half", job, points) as recording:
        for _ in nn.runs.record(recording, nn.jobs.run(job)):
            pass
    half = nn.runs.Run.open(tmp_path / "half", data=points, anyway=True)
    assert "differ from step 0 on" in report_of_runs([run, half])


def test_equal_bytes_for_equal_runs(run, others):
    assert report_of_runs([run, *others]) == report_of_runs([run, *others])


def test_one_run_is_not_several(run):
    with pytest.raises(BadInput, match="expected two or more"):
        report_of_runs([run])


def test_it_is_said_how_runs_ended_and_what_was_replayed(run, others, tmp_path, points):
    text = re.sub("<[^>]*>", " ", report_of_runs([run, *others]))
    assert re.search(r"ended +finished +finished +finished +finished", text)
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    copied = nn.Run.open(copy, data=points)
    note_verified(copied, list(verify(copied)), when=datetime(2026, 11, 29, tzinfo=UTC))
    text = re.sub("<[^>]*>", " ", report_of_runs([run, copied]))
    assert re.search(r"steps that were replayed +none +all", text)
    note_verified(
        copied, list(verify(copied)), when=datetime(2026, 11, 30, tzinfo=UTC), difference="model.h5"
    )
    text = re.sub("<[^>]*>", " ", report_of_runs([run, copied]))
    assert "all; one differed" in text


def test_the_models_are_compared_on_the_test_part(run, others, points):
    text = report_of_runs([run, others[0]])
    batch = run.job.inputs.examples(points.test)
    expected = run.job.evaluation({"test": batch})(run.state(30))["test cost"]
    assert re.search(rf"<td>test cost</td><td class=.number.>{expected:.4f}"[:-1], text)


def test_without_the_data_several_runs_are_compared_by_their_records(run, others):
    text = report_of_runs([nn.Run.open(one.path) for one in (run, others[0])])
    assert "validation cost" in text
    assert "<td>test cost</td>" not in text


def test_runs_of_one_recipe_and_seed_share_a_curve_that_says_so(run, others):
    assert "one and 1 more of the same recipe" in report_of_runs([run, others[0]])
