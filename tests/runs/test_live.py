import itertools
import json
import os

import pytest
import toolz
from hypothesis import given
from hypothesis import strategies as st
from small_runs import recorded, resumed, small_data, small_recipe

from pydnn.checks import BadInput
from pydnn.jobs.job import prepare, run
from pydnn.runs import Run, create_run, record
from pydnn.runs.live import LiveRow, LiveWriter, live_files, read_live
from pydnn.training import StepInfo, values_of

posix = pytest.mark.skipif(os.name != "posix", reason="needs the files of POSIX")


def infos(steps, start=0):
    return [(StepInfo(i, 1 / (i + 1), 2.0, {"rate": 0.1, "vector": [1.0]}), 7) for i in steps]


def writer(folder, **options):
    return LiveWriter(folder, **{"now": 0.0, "in_place": lambda: True} | options)


def live_rows(path):
    return [row for file in live_files(path)[-1:] for row in read_live(file)]


def test_rows_of_two_writes_by_hand(tmp_path):
    live = writer(tmp_path)
    assert live.due == 0.0
    taken = infos(range(500, 502))
    live.publish(taken, after=500, now=1.25)
    assert live.due == 1.75
    live.publish([*taken, (StepInfo(502, float("nan"), 3.0, {}, {"test f1": 1.0}), 7)], after=500,
                 now=2.0)  # fmt: skip
    [path] = live_files(tmp_path)
    assert path.name == "live-0000000500.jsonl"
    first, _, third = path.read_text().splitlines()
    assert json.loads(first) == [
        500,
        1.25,
        {"cost": 1 / 501, "gradient_norm": 2.0, "rate": 0.1},
        [],
    ]
    assert third == '[502, 2.0, {"cost": NaN, "gradient_norm": 3.0, "test f1": 1.0}, ["test f1"]]'
    assert [row.step for row in read_live(path)] == [500, 501, 502]
    live.segment_written()
    assert live_files(tmp_path) == []
    live.publish(infos([503]), after=503, now=2.5)
    assert [path.name for path in live_files(tmp_path)] == ["live-0000000503.jsonl"]
    live.close()


def test_of_many_steps_the_last_and_the_measured_ones_are_published(tmp_path):
    live = writer(tmp_path)
    taken = infos(range(1000))
    for step in (3, 777):
        taken[step] = (StepInfo(step, 1.0, 2.0, {}, {"validation cost": 0.5}), 7)
    live.publish(taken, after=0, now=1.0)
    steps = [row.step for row in live_rows(tmp_path)]
    assert len(steps) <= 8
    assert {3, 777, 999} <= set(steps)
    live.publish([*taken, *infos([1000])], after=0, now=2.0)
    assert [row.step for row in live_rows(tmp_path)] == [*steps, 1000]
    live.close()


def test_a_run_publishes_rows_until_its_segments_hold_them(tmp_path):
    data = small_data()
    job = prepare(small_recipe(tmp_path), data.train)
    times = itertools.count()
    with create_run(tmp_path / "run", job, data) as recording:
        stream = record(recording, run(job), every=5, clock=lambda: next(times))
        seen = []
        for _, info in stream:
            rows = live_rows(tmp_path / "run")
            seen.append([row.step for row in rows])
            if rows:
                assert rows[-1].values == values_of(info)
    within = [list(range(n)) for n in range(1, 5)]
    after_5 = [list(range(5, 5 + n)) for n in range(1, 5)]
    assert seen == [*within, [], *after_5, [], [10], [10, 11]]
    assert live_files(tmp_path / "run") == []
    assert Run.open(tmp_path / "run").iterations == 12


def test_a_reader_changes_no_bit_and_disturbs_no_run(tmp_path):
    recipe = small_recipe(tmp_path)
    plain = recorded(tmp_path / "plain", recipe)
    data = small_data()
    job = prepare(recipe, data.train)
    times = itertools.count()
    states = []
    with create_run(tmp_path / "run", job, data) as recording:
        for state, _ in record(recording, run(job), every=4, clock=lambda: next(times)):
            states.append(state)
            assert len(live_rows(tmp_path / "run")) < 4
    assert states[-1] == plain
    names = [path.name for path in (tmp_path / "run").rglob("*")]
    assert sorted(names) == sorted(path.name for path in (tmp_path / "plain").rglob("*"))
    for path in (tmp_path / "plain" / "segments").iterdir():
        assert path.read_bytes() == (tmp_path / "run" / "segments" / path.name).read_bytes()


def test_rows_of_a_killed_process_do_not_count_and_end_with_a_resume(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path), steps=8)
    left = tmp_path / "run" / "live-0000000008.jsonl"
    left.write_text('[8, 1.0, {"cost": 5.0}, []]\n[9, 1.0, {"co')
    assert read_live(left) == [LiveRow(8, 1.0, {"cost": 5.0})]
    run = Run.open(tmp_path / "run")
    assert (run.iterations, run.folder.faults, run.folder.left_behind) == (8, (), ())
    resumed(tmp_path / "run")
    assert live_files(tmp_path / "run") == []
    assert Run.open(tmp_path / "run").iterations == 12


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.data())
def test_a_reader_takes_whole_lines_alone(tmp_path_factory, costs, data):
    path = tmp_path_factory.mktemp("live") / "live-0000000000.jsonl"
    rows = [LiveRow(i, 0.5, {"cost": cost}) for i, cost in enumerate(costs)]
    text = "".join(
        json.dumps([row.step, row.seconds, row.values, []]) + "\n" for row in rows
    ).encode()
    cut = data.draw(st.integers(0, len(text)))
    path.write_bytes(text[:cut])
    assert read_live(path) == rows[: text[:cut].count(b"\n")]


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[0, 1.0]", b"[true, 1.0, {}, []]", b"[-1, 1.0, {}, []]",
     b"[1.0, 1.0, {}, []]", b"[4, NaN, {}, []]", b"[4, 1.0, [], []]",
     b'[4, 1.0, {"cost": "x"}, []]', b'[4, 1.0, {"cost": 1}, []]', b"[4, 1.0, {}, {}]",
     b"[4, 1.0, {}, [1]]", b"[4, 1.0, {}]", b"[" * 100_000, b"\xff\xfe",
     b"[4, 1" + b"0" * 400 + b", {}, []]", b"[1, 1" + b"0" * 5000 + b", {}, []]",
     b'[3, 1.0, {"cost": 1.0}, []]'],
)  # fmt: skip
def test_reading_ends_before_a_line_that_is_not_a_row(tmp_path, line):
    path = tmp_path / "live-0000000003.jsonl"
    good = b'[3, 1.0, {"cost": 1.0}, []]\n'
    path.write_bytes(good + line + b"\n" + b'[5, 1.0, {"cost": 1.0}, []]\n')
    assert [row.step for row in read_live(path)] == [3]


@posix
def test_links_and_other_names_are_not_followed(tmp_path):
    (tmp_path / "secret").write_text('[1, 1.0, {"cost": 1.0}]\n')
    (tmp_path / "live-0000000000.jsonl").symlink_to(tmp_path / "secret")
    (tmp_path / "live-1.jsonl").write_text("")
    [path] = live_files(tmp_path)
    with pytest.raises(BadInput, match="is a symbolic link"):
        read_live(path)
    live = writer(tmp_path)
    live.publish(infos([0]), after=0, now=1.0)  # does not write through the link
    assert (tmp_path / "secret").read_text().count("\n") == 1
    assert live_files(tmp_path / "nowhere") == []


@posix
def test_what_cannot_be_written_ends_no_training(tmp_path):
    live = writer(tmp_path / "nowhere")
    live.publish(infos([0]), after=0, now=1.0)
    live.publish(infos([0, 1]), after=0, now=2.0)
    live.segment_written()
    moved = writer(tmp_path, in_place=lambda: False)
    moved.publish(infos([0]), after=0, now=1.0)
    (tmp_path / "live-0000000000.jsonl").write_text("of another run")
    moved.segment_written()
    assert len(live_files(tmp_path)) == 1


def test_rows_are_published_while_a_training_goes_on_without_a_segment(tmp_path):
    data = small_data()
    job = prepare(small_recipe(tmp_path, iterations=30), data.train)
    with create_run(tmp_path / "run", job, data) as recording:
        stream = record(recording, run(job), every=1000)
        next(stream)
        assert [row.step for row in live_rows(tmp_path / "run")] == [0]  # the first one at once
        toolz.last(stream)
    assert live_files(tmp_path / "run") == []
