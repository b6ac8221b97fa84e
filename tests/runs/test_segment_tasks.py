"""Segments verified by workers: every field of every result arrives as it is."""

import attrs
import numpy as np
import pytest
from sending import Sending
from small_runs import flipping, recorded, small_data, small_recipe

from pydnn import BadInput
from pydnn.jobs.job import prepare
from pydnn.runs import Run
from pydnn.runs.replay import verify
from pydnn.runs.segment_tasks import task_of, verified_in
from pydnn.workers import threads


@pytest.mark.slow
def test_workers_find_every_difference_that_one_process_finds(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path), change=flipping(6, bit=30))
    run = Run.open(tmp_path / "run")
    alone = list(verify(run))
    there = list(verify(run, executor=Sending(2)))
    assert there == alone
    assert [type(v.mismatch.recorded) for v in there if v.mismatch] == [np.uint64]
    assert there[2].measured.ulps == alone[2].measured.ulps
    assert list(verify(run, [3, 1], executor=Sending())) == list(verify(run, [3, 1]))
    with threads(2) as executor:
        assert list(verify(run, executor=executor)) == alone


@pytest.mark.slow
def test_data_that_is_not_where_it_was_goes_along(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path))
    (tmp_path / "data-1.h5").rename(tmp_path / "moved.h5")
    for data in (small_data(), str(tmp_path / "moved.h5")):
        run = Run.open(tmp_path / "run", data=data)
        assert [v.mismatch for v in verify(run, executor=Sending())] == [None] * 4
    with pytest.raises(BadInput, match=r"data-1\.h5"):
        list(verify(Run.open(tmp_path / "run"), executor=Sending()))


def test_a_worker_that_does_not_find_the_run_is_an_error_in_one_line(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path))
    recorded(tmp_path / "other", small_recipe(tmp_path, seed=9))
    task = task_of(Run.open(tmp_path / "run"), [1])
    (tmp_path / "run").rename(tmp_path / "moved")
    with pytest.raises(BadInput, match=r"a worker cannot open the run: .*run does not exist"):
        next(Sending().each([task]))
    (tmp_path / "other").rename(tmp_path / "run")
    with pytest.raises(BadInput, match="a worker finds another run in"):
        next(Sending().each([task]))


def test_the_function_that_made_a_job_is_found_by_its_name_or_refused(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path))

    def here(*args, **options):
        return prepare(*args, **options)

    for function, name in ((here, "<locals>.here"), (lambda *a, **o: prepare(*a, **o), "<lambda>")):
        run = Run.open(tmp_path / "run", prepare=function)
        with pytest.raises(BadInput, match=f"{name}, which another process cannot find: define it"):
            list(verify(run, executor=Sending()))
        with threads(1) as executor:  # which has the function itself
            assert [v.mismatch for v in verify(run, executor=executor)] == [None] * 4


def test_a_report_about_other_segments_is_refused(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path))
    task = task_of(Run.open(tmp_path / "run"), [1])
    result = next(Sending().each([task]))[1]
    assert [verified.number for verified in verified_in(result, [1])] == [1]
    with pytest.raises(BadInput, match="verified segments 2, 3 reported something else"):
        verified_in(result, [2, 3])


@pytest.mark.slow
def test_measurements_that_cannot_be_made_are_named(tmp_path):
    from resealing import forged_column

    recorded(tmp_path / "run", small_recipe(tmp_path, evaluate_every=5, validation=0.2))
    forged_column(tmp_path / "run", 12, "test accuracy", [9], [0.99])
    results = list(verify(Run.open(tmp_path / "run"), executor=Sending()))
    assert [verified.unchecked for verified in results] == [(), (), (), ("test accuracy",)]
    assert results == [attrs.evolve(verified) for verified in verify(Run.open(tmp_path / "run"))]
