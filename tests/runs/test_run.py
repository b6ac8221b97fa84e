import itertools
import pickle
import tracemalloc

import attrs
import numpy as np
import pytest
import toolz
from helpers import arrays_in
from small_runs import flipping, recorded, resumed, small_data, small_recipe

from pydnn import BadInput, dense, describe, described, measure, scan, serial, sigmoid_cross_entropy
from pydnn.jobs.job import prepare, run
from pydnn.jobs.model import load_model
from pydnn.records import freeze
from pydnn.runs import NotRepeated, Run, create_run, record, resume_run
from pydnn.runs.inspect import look_into
from pydnn.runs.recording import RunMoved, default_interval
from pydnn.runs.replay import verify
from pydnn.stages import Stage
from pydnn.training import trace


def straight(recipe, data=None):
    """All pairs (state, info) of a job that is not recorded."""
    return list(run(prepare(recipe, (data or small_data()).train)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recorded")


@pytest.fixture(scope="module")
def recipe(folder):
    return small_recipe(folder, evaluate_every=5, validation=0.2)


@pytest.fixture(scope="module")
def opened(folder, recipe):
    recorded(folder / "run", recipe)
    return Run.open(folder / "run")


def test_a_run_has_the_info_of_every_step(opened, recipe):
    pairs = straight(recipe)
    assert list(opened.infos) == [info for _, info in pairs]
    np.testing.assert_array_equal(opened.costs, [info.cost for _, info in pairs])
    assert (opened.iterations, opened.goal, opened.recipe) == (12, 12, recipe)


def test_every_state_can_be_read_whether_it_is_stored_or_not(opened, recipe):
    states = [state for state, _ in straight(recipe)]
    for iteration in range(1, 13):
        assert opened.state(iteration) == states[iteration - 1]
    assert opened.state(0) == prepare(recipe, small_data().train).state
    assert [state.iteration for state in opened.states()] == [0, 4, 8, 12]
    assert opened.parameters() == states[-1].parameters
    assert opened.parameters(7) == states[6].parameters


@pytest.mark.parametrize("step", [0, 3, 4, 7, 11])
def test_a_step_is_rebuilt_as_the_record_that_flowed_through_it(opened, recipe, step):
    job = prepare(recipe, small_data().train)
    pairs = scan(job.train_step, job.state, job.batches)
    state, _ = toolz.last([(job.state, None), *itertools.islice(pairs, step)])
    batch = toolz.nth(step, job.batches)
    _, expected = toolz.last(trace(job.train_step, state, batch))
    result = opened.at(step)
    assert result == attrs.evolve(expected, info=result.info)
    assert result.info == attrs.evolve(expected.info, measured={})
    assert not any(array.flags.writeable for array in arrays_in(result))


def test_a_bug_in_a_run_becomes_a_unit_test_in_two_lines(opened):
    step = Run.open(opened.path).at(7)
    assert sigmoid_cross_entropy()(step.AL, step.batch.Y)[0] == step.cost


def test_a_run_is_read_without_its_data_until_a_step_is_asked_for(folder, recipe):
    recorded(folder / "gone", attrs.evolve(recipe, data=str(folder / "gone.h5")))
    gone = Run.open(folder / "gone")
    assert gone.iterations == 12
    assert len(gone.costs) == 12
    assert gone.parameters().vector.size > 0
    assert gone.state(8).iteration == 8
    with pytest.raises(
        BadInput, match=r"there is no data set .*; or give its place now with --data"
    ):
        gone.at(3)
    assert Run.open(folder / "gone", data=small_data()).at(3).info == gone_info(gone, 3)
    assert Run.open(folder / "gone", data=small_data().train).at(3).info == gone_info(gone, 3)


def gone_info(run, step):
    return attrs.evolve(toolz.nth(step, run.infos), measured={})


def test_a_step_that_does_not_come_out_again_is_refused_unless_anyway(folder, recipe):
    recorded(folder / "flipped", recipe, change=flipping(5))
    flipped = Run.open(folder / "flipped")
    flipped.at(4)
    with pytest.raises(NotRepeated, match=r"step 5: checksum of the parameters after it differs"):
        flipped.at(5)
    with pytest.raises(NotRepeated, match=r"a record or the code has changed\.$"):
        flipped.at(7)
    assert Run.open(folder / "flipped", anyway=True).at(7).info.iteration == 7
    flipped.at(9)  # from a later segment


def shortened(recipe, batch, **options):
    """The job of a recipe with a user's own part in its step."""
    job = prepare(recipe, batch, **options)

    def shorten(step):
        return step.with_fields(grads=step.grads.with_vector(freeze(step.grads.vector / 2)))

    step = job.train_step.insert_after("backward", shorten)
    return attrs.evolve(job, train_step=step)


@pytest.mark.slow
def test_a_step_composed_by_hand_is_recorded_and_repeated_with_what_made_it(folder, recipe):
    data = small_data()
    job = shortened(recipe, data.train)
    with create_run(folder / "composed", job, data) as recording:
        whole, _ = toolz.last(run(job))
        toolz.last(record(recording, itertools.islice(run(job), 7)))
    with pytest.raises(
        BadInput,
        match=r"made of forward, cost, backward, shorten, gather, update, watch_finite, but here "
        r"it is made of forward, cost, backward, gather, .*: open it with prepare=…",
    ):
        Run.open(folder / "composed").at(3)
    assert resumed(folder / "composed", prepare=shortened) == whole
    composed = Run.open(folder / "composed", prepare=shortened)
    assert all(verified.mismatch is None for verified in verify(composed))
    assert all(verified.mismatch is None for verified in verify(composed, jobs=2))
    assert composed.at(9).cost == composed.costs[9]
    assert look_into(composed, 9)[0] == composed.at(9)
    again = pickle.loads(pickle.dumps(composed))
    assert again.path == composed.path
    assert again.at(9) == composed.at(9)
    unnamed = Run.open(folder / "composed", prepare=lambda *args, **options: job)
    with pytest.raises(BadInput, match="<lambda>, which another process cannot find"):
        list(verify(unnamed, jobs=2))


REFUSED = {
    "step past the end": (lambda run: run.at(12), "there is no step 12: .* has the steps 0 to 11"),
    "step before the first": (lambda run: run.at(-1), "step is -1, expected"),
    "no step": (lambda run: run.at("3"), "step is '3'"),
    "state past the end": (lambda run: run.state(13), "iteration is 13, but .* has 12 steps"),
}


@pytest.mark.parametrize(("ask", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_there_is_refused(opened, ask, message):
    with pytest.raises(BadInput, match=message):
        ask(opened)
    for path in ("none", "data-1.h5"):
        with pytest.raises(BadInput, match=r"expected the folder of a run"):
            Run.open(opened.path.parent / path)


# Recording


def segments(path):
    return [segment.iteration for segment in Run.open(path).segments]


def test_segments_lie_where_they_are_wanted_and_at_the_end(folder, recipe):
    recorded(folder / "fives", recipe, every=5)
    assert segments(folder / "fives") == [0, 5, 10, 12]
    recorded(folder / "seven", recipe, every=5, steps=7)
    assert segments(folder / "seven") == [0, 5, 7]
    assert [default_interval(n) for n in (1, 20, 21, 2500)] == [1, 1, 2, 125]


def test_a_minute_without_a_segment_is_the_most(folder, recipe):
    times = itertools.count(0, 25)
    data = small_data()
    job = prepare(recipe, data.train)
    with create_run(folder / "slow", job, data) as recording:
        toolz.last(record(recording, run(job), every=100, clock=lambda: next(times)))
    assert segments(folder / "slow") == [0, 3, 6, 9, 12]


class Clock:
    """A clock for steps and segments that take given numbers of seconds."""

    def __init__(self, step, segment):
        self.time, self.step, self.segment = 0.0, step, segment

    def __call__(self):
        return self.time

    def stepping(self, stream):
        for pair in stream:
            self.time += self.step
            yield pair

    def writing(self, write):
        def timed(*args, **options):
            self.time += self.segment
            return write(*args, **options)

        return timed


@pytest.mark.parametrize(
    ("step", "segment", "expected"),
    [
        (0.1, 0.0, [0, 3, 6, 9, 12]),  # at most four a second
        # After the first segment, it is known how long one takes. From then on, all segments,
        # including the last one, take at most 2 % of the time.
        (1.0, 0.04, [0, 1, 6, 8, 10, 12]),
        (1.0, 0.2, [0, 1, 12]),  # only for the last one is there time
        (70.0, 30.0, [0, 1, 12]),  # not even after a minute
    ],
)
def test_by_default_writing_takes_little_of_the_time(
    tmp_path, recipe, monkeypatch, step, segment, expected
):
    from pydnn.runs import recording as module

    clock, data = Clock(step, segment), small_data()
    job = prepare(recipe, data.train)
    with create_run(tmp_path / "run", job, data) as recording:
        monkeypatch.setattr(module, "write_segment", clock.writing(module.write_segment))
        toolz.last(record(recording, clock.stepping(run(job)), clock=clock))
    assert segments(tmp_path / "run") == expected


def test_a_run_from_python_has_an_end_and_a_model(tmp_path, recipe):
    data = small_data()
    job = prepare(recipe, data.train)
    with create_run(tmp_path / "run", job, data) as recording:
        state, _ = toolz.last(record(recording, run(job)))
    [end] = Run.open(tmp_path / "run").folder.ends
    assert (end.iteration, end.why) == (12, "finished")
    model = load_model(tmp_path / "run" / "model.h5")
    assert model.parameters == state.parameters
    np.testing.assert_array_equal(model.costs, Run.open(tmp_path / "run").costs)


def test_a_stream_that_is_still_held_is_recorded_when_the_run_ends(tmp_path, recipe):
    data = small_data()
    job = prepare(recipe, data.train)
    with create_run(tmp_path / "run", job, data) as recording:
        held = record(recording, run(job), every=2)
        for _ in range(3):
            state, _ = next(held)
    opened = Run.open(tmp_path / "run")
    assert opened.iterations == state.iteration == 3
    assert load_model(tmp_path / "run" / "model.h5").costs.size == 3
    assert list(held) == []


def test_a_resumed_run_from_python_has_the_costs_of_all_steps_in_its_model(tmp_path, recipe):
    recorded(tmp_path / "run", recipe, steps=5)
    resumed(tmp_path / "run")
    assert len(load_model(tmp_path / "run" / "model.h5").costs) == 12
    assert [end.iteration for end in Run.open(tmp_path / "run").folder.ends] == [5, 12]


def test_an_error_of_a_reader_leaves_no_end_and_an_interruption_one(tmp_path, recipe):
    data = small_data()
    job = prepare(recipe, data.train)

    def train(path, error):
        with create_run(path, job, data) as recording:
            for _, info in record(recording, run(job), every=2):
                if info.iteration == 6:
                    raise error

    for error, why in ((ZeroDivisionError, []), (KeyboardInterrupt, ["interrupted"])):
        path = tmp_path / error.__name__
        with pytest.raises(error):
            train(path, error)
        ended = [end.why for end in Run.open(path).folder.ends]
        assert ended == why
        assert (path / "model.h5").exists() == bool(why)


def test_a_run_that_is_renamed_while_it_is_recorded_writes_into_no_other(tmp_path, recipe):
    data = small_data()
    job = prepare(recipe, data.train)
    path, moved = tmp_path / "run", tmp_path / "moved"
    before = []

    def train():
        with create_run(path, job, data) as recording:
            for _, info in record(recording, run(job), every=2):
                if info.iteration == 4:
                    path.rename(moved)
                    recorded(path, recipe, steps=2)
                    before.extend(sorted(path.rglob("*")))

    with pytest.raises(RunMoved, match="was renamed or removed during the training"):
        train()
    assert sorted(path.rglob("*")) == before
    assert Run.open(path).iterations == 2
    assert Run.open(moved).iterations == 4
    assert resumed(moved).iteration == 12


def test_all_steps_are_recorded_however_the_stream_ends(folder, recipe):
    def failing(stream):
        yield from itertools.islice(stream, 6)
        raise KeyboardInterrupt

    data = small_data()
    job = prepare(recipe, data.train)
    with (
        create_run(folder / "interrupted", job, data) as recording,
        pytest.raises(KeyboardInterrupt),
    ):
        toolz.last(record(recording, failing(run(job)), every=4))
    assert segments(folder / "interrupted") == [0, 4, 6]
    with create_run(folder / "closed", job, data) as recording:
        stream = record(recording, run(job), every=4)
        next(stream)
        stream.close()
    assert segments(folder / "closed") == [0, 1]


def test_the_way_a_stream_is_consumed_changes_no_bit(folder, recipe, opened):
    data = small_data()
    job = prepare(recipe, data.train)
    with create_run(folder / "thinned", job, data) as recording:
        for _ in itertools.islice(record(recording, run(job), every=1), 0, None, 3):
            pass
    recorded(folder / "sevens", recipe, every=7)
    for name in ("thinned", "sevens"):
        assert Run.open(folder / name).fingerprint == opened.fingerprint


def test_steps_that_do_not_follow_are_refused(folder, recipe):
    data = small_data()
    job = prepare(recipe, data.train)
    with (
        create_run(folder / "thin", job, data) as recording,
        pytest.raises(BadInput, match=r"the stream is at step 2, expected step 1"),
    ):
        toolz.last(record(recording, itertools.islice(run(job), 0, None, 2)))


def test_a_state_that_is_not_a_number_is_never_recorded(folder, recipe):
    def poison(train_step):
        def spoil(step):
            if step.info.iteration != 5:
                return step
            bad = step.after.parameters.with_vector(step.after.parameters.vector * np.nan)
            return step.with_fields(after=attrs.evolve(step.after, parameters=bad))

        return train_step.insert_after("watch_finite", spoil)

    with pytest.raises(BadInput, match=r"parameters holds nan, which has no fingerprint"):
        recorded(folder / "nan", recipe, change=poison, every=3)
    assert segments(folder / "nan") == [0, 3]


def test_a_folder_that_exists_is_not_touched(folder, recipe, opened):
    before = sorted(path.name for path in opened.path.iterdir())
    with pytest.raises(BadInput, match=r"run exists already, expected a new name"):
        recorded(opened.path, recipe)
    assert sorted(path.name for path in opened.path.iterdir()) == before


def test_only_the_beginning_of_a_job_makes_a_new_run_and_only_with_its_own_data(folder, recipe):
    data = small_data()
    job = prepare(recipe, data.train)
    later, _ = next(run(job))
    for change, given, message in (
        (attrs.evolve(job, state=later), data, "the job is at iteration 1, expected 0"),
        (job, small_data(2), "data is not what the job was prepared with"),
    ):
        with (
            pytest.raises(BadInput, match=message),
            create_run(folder / "refused", change, given),
        ):
            pass
    assert not (folder / "refused").exists()


def test_numbers_of_numpys_in_a_recipe_are_recorded_as_plain_ones(folder, recipe):
    numbers = {"iterations": np.int64(3), "validation": np.float64(0.25), "seed": np.int32(5)}
    recorded(folder / "numpy", attrs.evolve(recipe, **numbers))
    again = Run.open(folder / "numpy")
    assert again.recipe.iterations == 3
    assert type(again.recipe.validation) is float


def test_a_stream_of_another_training_is_refused(folder, recipe):
    data = small_data()
    recorded(folder / "own", recipe, steps=6)
    other = prepare(attrs.evolve(recipe, seed=9), data.train)
    with (
        resume_run(folder / "own") as result,
        pytest.raises(BadInput, match=r"the stream has seed 9, but .* has seed 3"),
    ):
        toolz.last(record(result.recording, run(other)))
    job = prepare(recipe, data.train)
    with (
        resume_run(folder / "own") as result,
        pytest.raises(BadInput, match=r"the stream is at step 0, expected step 6"),
    ):
        toolz.last(record(result.recording, run(job)))
    assert segments(folder / "own") == [0, 4, 6]


def test_what_a_reader_has_measured_is_not_asked_of_a_replay(folder, recipe):
    data = small_data()
    job = prepare(recipe, data.train)
    with create_run(folder / "measured", job, data) as recording:
        stream = measure(run(job), every=5, function=lambda state: {"mine": 1.0})
        toolz.last(record(recording, stream))
    assert all(verified.mismatch is None for verified in verify(Run.open(folder / "measured")))


def test_float64_data_of_a_float32_job_is_the_data_of_its_file(folder, recipe):
    recorded(folder / "single", attrs.evolve(recipe, dtype="float32"))
    assert Run.open(folder / "single").at(3).AL.dtype == np.float32


@described("stage")
def block(*, units: int) -> Stage:
    """A user's own stage with an option that dense has, too, but without initializer."""
    return dense(units)


def test_a_stage_of_ones_own_with_units_is_read_again(folder, recipe):
    network = describe(serial(block(units=3), dense(1)))
    recorded(folder / "units", attrs.evolve(recipe, network=network))
    opened = Run.open(folder / "units", allow=[block.__module__])
    assert opened.parameters()["0/W"].shape == (3, 5)


@pytest.mark.parametrize("units", [10**7, 5])
def test_a_recipe_that_claims_another_network_is_refused_before_that_is_made(tmp_path, units):
    recorded(tmp_path / "run", small_recipe(tmp_path))
    run = Run.open(tmp_path / "run")
    claimed = attrs.evolve(
        run.recipe, network={"serial": {"stages": [{"dense": {"units": units}}]}}
    )
    run = attrs.evolve(run, folder=attrs.evolve(run.folder, recipe=claimed))
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match=r"parameters .*has shape \(\d+,\), expected \(\d+,\)"):
            _ = run.job
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 20e6
