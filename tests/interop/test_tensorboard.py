import itertools
import math
import struct

import numpy as np
import pytest
from helpers import texts
from hypothesis import given
from hypothesis import strategies as st
from small_runs import recorded, small_data, small_recipe

from pydnn import BadInput
from pydnn.interop.tensorboard import EventLog, crc32c, event, log_tensorboard, record_of
from pydnn.jobs.job import prepare, run
from pydnn.runs import Run, create_run, record, resume_run
from pydnn.training import StepInfo

STEPS = [StepInfo(i, 1 / (i + 1), 2.0, {"rate": 0.1}) for i in range(6)]


# The check values of RFC 3720, appendix B.4
@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_crc32c_has_the_values_of_the_standard(data, crc):
    assert crc32c(data) == crc


def bitwise_crc32c(data):
    crc = 0xFFFFFFFF
    for bit in (byte >> i & 1 for byte in data for i in range(8)):
        crc = crc >> 1 ^ (0x82F63B78 if (crc ^ bit) & 1 else 0)
    return crc ^ 0xFFFFFFFF


@given(st.binary(max_size=40))
def test_crc32c_is_the_remainder_bit_by_bit(data):
    assert crc32c(data) == bitwise_crc32c(data)


def test_an_event_by_hand():
    # Event: double wall_time = 1, int64 step = 2, Summary summary = 5; Summary: repeated
    # Value value = 1; Value: string tag = 1, float simple_value = 2.
    value = b"\x0a\x04cost" + b"\x15" + bytes.fromhex("0000803e")  # 0.25 is 0x3e800000
    summary = b"\x0a\x0b" + value
    expected = b"\x09" + bytes.fromhex("000000000000f03f") + b"\x10\xac\x02" + b"\x2a\x0d" + summary
    assert event(1.0, 300, {"cost": 0.25}) == expected


def test_a_record_by_hand():
    masked = [(c >> 15 | c << 17 & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF for c in (
        bitwise_crc32c(b"\x03" + bytes(7)), bitwise_crc32c(b"abc"),
    )]  # fmt: skip
    expected = b"\x03" + bytes(7) + struct.pack("<I", masked[0]) + b"abc"
    assert record_of(b"abc") == expected + struct.pack("<I", masked[1])


def read(folder):
    """What TensorBoard's reader finds in a folder: for each name the pairs of step and number."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        events.Reload()
    tags = events.Tags()
    found = {
        tag: [(e.step, e.tensor_proto.float_val[0]) for e in events.Tensors(tag)]
        for tag in tags["tensors"]
    }
    return found | {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]
    }


def as_float32(history, name):
    values = history[name]
    return [
        (int(step), float(np.float32(value)))
        for step, value in zip(history["step"], values, strict=True)
        if not math.isnan(value)
    ]


def logs_the_run(folder, run):
    found = read(folder)
    assert set(found) == set(run.history) - {"step"}
    return all(found[name] == as_float32(run.history, name) for name in found)


def test_tensorboard_reads_every_number_of_a_recorded_run(tmp_path):
    recipe = small_recipe(tmp_path, evaluate_every=3, validation=0.2)
    job = prepare(recipe, small_data().train)
    with create_run(tmp_path / "0007", job, small_data()) as recording:
        list(record(recording, run(job), tensorboard=tmp_path / "logs"))
    opened = Run.open(tmp_path / "0007")
    assert "validation cost" in opened.history
    assert logs_the_run(tmp_path / "logs" / "0007", opened)


@pytest.mark.parametrize("lost", [0, 2, 5])
def test_a_log_goes_on_when_the_run_is_resumed(tmp_path, lost):
    """Steps that were logged and not recorded are logged once, and those in between are filled."""
    logs = tmp_path / "logs"
    recipe = small_recipe(tmp_path)
    recorded(tmp_path / "run", recipe, steps=6)
    run_of = Run.open(tmp_path / "run")
    owner = run_of.folder.text_sha256[:12]
    # As a process leaves it that was killed: two steps more than are recorded, or fewer.
    log = EventLog(logs / "run", owner=owner)
    for info in [*run_of.infos, *(StepInfo(i, 9.0, 9.0) for i in (6, 7))][: 8 - lost]:
        log.write(info)
    log.close()
    with (logs / "run" / log.path.name).open("ab") as file:
        file.write(record_of(event(0.0, 9, {"cost": 1.0}))[:-9])
    with resume_run(tmp_path / "run", data=small_data()) as found:
        stream = run(found.job, watched=found.watched)
        list(record(found.recording, stream, tensorboard=logs))
    assert logs_the_run(logs / "run", Run.open(tmp_path / "run"))
    files = sorted(path.name for path in (logs / "run").iterdir())
    second = min(6, 8 - lost)
    assert files == [f"events.out.tfevents.{n:010}.{owner}" for n in (0, second)]


@pytest.mark.slow
def test_a_log_that_begins_with_a_resume_has_all_recorded_steps(tmp_path):
    recorded(tmp_path / "run", small_recipe(tmp_path), steps=6)
    for steps in (2, 0, None):
        with resume_run(tmp_path / "run", data=small_data()) as found:
            stream = itertools.islice(run(found.job, watched=found.watched), steps)
            list(record(found.recording, stream, tensorboard=tmp_path / "logs"))
    assert logs_the_run(tmp_path / "logs" / "run", Run.open(tmp_path / "run"))


def test_a_log_of_a_stream_hands_on_its_pairs(tmp_path):
    stream = [(object(), info) for info in STEPS]
    assert list(log_tensorboard(iter(stream), tmp_path / "a" / "b", clock=lambda: 5.0)) == stream
    [path] = (tmp_path / "a" / "b").iterdir()
    events = [event(5.0, i, {"cost": 1 / (i + 1), "gradient_norm": 2.0, "rate": 0.1})
              for i in range(6)]  # fmt: skip
    first = struct.pack("<Bd", 9, 5.0)
    opening = [first + b"\x1a\x0dbrain.Event:2", first + b"\x10\x00\x3a\x02\x08\x01"]
    assert path.read_bytes() == b"".join(map(record_of, opening + events))


def test_a_log_can_be_read_while_it_grows(tmp_path):
    times = iter([0.0, 0.0, 0.5, 0.9, 1.5])
    log = EventLog(tmp_path, clock=lambda: next(times))
    sizes = [log.path.stat().st_size]
    for info in STEPS[:3]:
        log.write(info)
        sizes.append(log.path.stat().st_size)
    assert sizes[0] == sizes[1] == sizes[2] < sizes[3]
    log.close()


@given(st.floats(), st.integers(0, 2**63 - 1), texts(max_size=5))
def test_any_number_step_and_name_is_written(value, step, name):
    message = event(0.0, step, {name: value})
    with np.errstate(over="ignore"):
        expected = np.float32(value)
    np.testing.assert_array_equal(np.frombuffer(message[-4:], "<f4")[0], expected)


def test_another_log_is_refused_and_left_alone(tmp_path):
    EventLog(tmp_path).close()
    before = [path.read_bytes() for path in tmp_path.iterdir()]
    with pytest.raises(BadInput, match=r"tfevents\.0000000000\.pydnn is a log of another training"):
        EventLog(tmp_path)
    with pytest.raises(BadInput, match="is a log of another training"):
        EventLog(tmp_path, owner="somebody", resumed=True)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == before


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="file exists already"):
        EventLog(tmp_path / "file")
