import re

import attrs
import numpy as np
import pytest
from small_runs import flipping, recorded, small_data, small_recipe

from pydnn import BadInput, Key
from pydnn.cli import main
from pydnn.records import freeze
from pydnn.runs import Run
from pydnn.runs.replay import sampled, verify


def mismatches(run, numbers=None, **options):
    return [verified.mismatch for verified in verify(run, numbers, **options)]


def test_a_replay_computes_every_bit_of_a_run_again(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path, evaluate_every=3))
    run = Run.open(tmp_path / "run")
    verified = list(verify(run))
    assert [v.number for v in verified] == [0, 1, 2, 3]
    assert [v.iteration for v in verified] == [0, 4, 8, 12]
    assert [v.steps for v in verified] == [0, 4, 4, 4]
    assert [v.mismatch for v in verified] == [None] * 4
    assert verified[-1].fingerprint == run.fingerprint


def test_one_bit_of_one_weight_is_found_at_its_step(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path), change=flipping(6, bit=30))
    run = Run.open(tmp_path / "run")
    results = mismatches(run)
    assert results[:2] == [None, None]
    assert results[2].step == 6
    assert results[2].quantity == "checksum of the parameters after it"
    text = list(verify(run))[2].measured
    assert (text.step, text.quantity) == (7, "cost")
    assert text.ulps > 0
    assert results[3] is None  # it follows from the state recorded before it


def test_a_change_that_no_step_shows_is_found_in_the_state(tmp_path):
    def change(train_step):
        def shift(record):
            if record.info.iteration != 7:
                return record
            statistics = record.after.statistics
            vector = freeze(statistics.vector + 2.0**-40)
            after = attrs.evolve(record.after, statistics=statistics.with_vector(vector))
            return record.with_fields(after=after)

        return train_step.insert_after("update", shift)

    recorded(tmp_path / "run", small_recipe(tmp_path), change=change)
    results = mismatches(Run.open(tmp_path / "run"))
    assert [bool(m) for m in results] == [False, False, True, False]
    text = str(results[2])
    assert text.startswith("step 7: the state after it (8 of 8 numbers, the first 1/mean[0, 0])")
    assert re.search(
        r"recorded -?0x1\.\w+p[+-]\d+ \(.*\), here -?0x1\..*, \S+ \(\d+ ulps\) apart", text
    )


def test_a_wrong_initial_state_is_found(tmp_path):
    recipe = small_recipe(tmp_path)
    recorded(tmp_path / "run", recipe)
    run = Run.open(tmp_path / "run")
    other = attrs.evolve(run.folder, recipe=attrs.evolve(recipe, seed=4))
    first = mismatches(Run(other), [0])[0]
    assert str(first).startswith("before the first step: the state after it (")


@pytest.mark.parametrize("seed", range(3))
def test_a_sample_is_drawn_from_all_segments_but_the_first(tmp_path, seed):
    recorded(tmp_path / "run", small_recipe(tmp_path), every=1)
    run = Run.open(tmp_path / "run")
    drawn = sampled(run, 5, Key(seed))
    assert len(set(drawn)) == 5
    assert drawn == sorted(drawn)
    assert set(drawn) <= set(range(1, 13))
    assert sampled(run, 99, Key(seed)) == list(range(1, 13))


def test_segments_that_are_not_there_are_refused(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path))
    run = Run.open(tmp_path / "run")
    with pytest.raises(BadInput, match=r"there is no segment 4: .* has 0 to 3"):
        verify(run, [1, 4])
    with pytest.raises(BadInput, match=r"sample is 0"):
        sampled(run, 0, Key(1))
    with pytest.raises(BadInput, match=r"jobs is 0"):
        verify(run, jobs=0)


def test_a_step_that_is_not_finite_here_is_a_difference(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path))
    data = small_data()
    data = attrs.evolve(data, train=attrs.evolve(data.train, X=data.train.X * 1e200))
    run = Run.open(tmp_path / "run", data=data, anyway=True)
    with np.errstate(over="ignore", invalid="ignore"):
        assert mismatches(run, [1])[0].step == 0


@pytest.mark.slow
def test_a_forged_measurement_is_not_among_all_bits(tmp_path, capsys):
    from resealing import forged_column

    recorded(tmp_path / "run", small_recipe(tmp_path, evaluate_every=5, validation=0.2))
    forged_column(tmp_path / "run", 12, "test accuracy", [9], [0.99])
    results = list(verify(Run.open(tmp_path / "run")))
    assert [verified.mismatch for verified in results] == [None] * 4
    assert [verified.unchecked for verified in results] == [(), (), (), ("test accuracy",)]
    assert main(["replay", str(tmp_path / "run")]) == 0
    text = capsys.readouterr().out
    assert "the bits of 12 steps are the recorded ones, except 'test accuracy', which" in text
    assert "all bits" not in text


@pytest.mark.parametrize("name", ["train cost", "validation accuracy"])
def test_a_forged_measurement_of_a_step_that_was_not_evaluated_is_found(tmp_path, name):
    from resealing import forged_column

    recorded(tmp_path / "run", small_recipe(tmp_path, evaluate_every=5, validation=0.2))
    forged_column(tmp_path / "run", 4, name, [2], [0.99])
    mismatch = list(verify(Run.open(tmp_path / "run")))[1].mismatch
    assert (mismatch.step, mismatch.quantity) == (2, f"measured {name}")
