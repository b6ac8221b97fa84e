import hashlib
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import attrs
import h5py
import numpy as np
import pytest
from resealing import about, flip, in_about, replaced, resealed
from small_runs import recorded, small_recipe

from pydnn import BadInput, Key
from pydnn.runs import Run
from pydnn.runs.history import rows_of
from pydnn.runs.segments import (
    Texts,
    drop_state,
    following,
    read_segment,
    segment_name,
    write_segment,
)
from pydnn.runs.state_arrays import arrays_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segments")
    recorded(folder / "run", small_recipe(folder, evaluate_every=3))
    return Run.open(folder / "run")


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the segment of iteration 8, which has the rows of the steps 4 to 7."""
    path = tmp_path / "0000000008.h5"
    path.write_bytes(run.segments[2].path.read_bytes())
    return path


def used(path, run):
    """Everything that a segment holds."""
    segment = read_segment(path)
    return segment, segment.rows(), segment.state(run.recipe, (5,))


def refusal(path, use):
    with pytest.raises(BadInput) as caught:
        use()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_segment_is_read_as_it_was_written(run, copy):
    segment, rows, state = used(copy, run)
    assert attrs.evolve(segment, path=run.segments[2].path) == run.segments[2]
    assert (segment.start, segment.iteration, segment.goal) == (4, 8, 12)
    assert segment.before == run.segments[1].fingerprint
    assert list(rows.infos()) == list(run.infos)[4:8]
    assert state == run.state(8)
    assert {type(part) for part in attrs.astuple(state.optimizer_state[0], recurse=False)} == {
        int, np.ndarray
    }  # fmt: skip


def test_a_fingerprint_is_of_all_that_a_segment_says(run):
    segment = run.segments[2]
    others = {
        "start": 3, "iteration": 9, "goal": 13, "state_sha256": "0" * 64, "rows_sha256": "0" * 64,
        "before": "0" * 64, "environment": "0" * 64, "key": Key(4), "columns": (),
        "recipe": "0" * 64,
    }  # fmt: skip
    assert {*others, "path"} == {field.name for field in attrs.fields(type(segment))}
    result = {attrs.evolve(segment, **{name: value}).fingerprint for name, value in others.items()}
    assert len({*result, segment.fingerprint}) == len(others) + 1
    assert attrs.evolve(segment, path=Path("elsewhere")).fingerprint == segment.fingerprint


def test_names_are_sorted_as_numbers_are():
    numbers = [0, 7, 500, 9_999_999_999]
    assert sorted(map(segment_name, numbers)) == [segment_name(n) for n in numbers]
    assert segment_name(500) == "0000000500.h5"


# Damage


@pytest.mark.parametrize(
    "stride", [pytest.param(1, id="every byte", marks=pytest.mark.slow), 23], ids=str
)
def test_any_changed_byte_is_noticed_before_anything_is_read(copy, stride):
    for position in range(0, copy.stat().st_size, stride):
        bits = position * 37 % 255 + 1
        flip(copy, position, bits)
        with pytest.raises(BadInput, match=" is damaged: ") as caught:
            read_segment(copy)
        assert str(copy) in str(caught.value), position
        flip(copy, position, bits)
    read_segment(copy)


@pytest.mark.slow
def test_a_segment_of_another_length_is_refused_wherever_it_ends(copy):
    whole = copy.read_bytes()
    tracemalloc.start()
    for size in range(0, len(whole), 64):
        copy.write_bytes(whole[:size])
        assert "is damaged" in refusal(copy, lambda: read_segment(copy)), size
    for more in (b"\0", b"\n", bytes(4096), whole):
        copy.write_bytes(whole + more)
        assert "the length, " in refusal(copy, lambda: read_segment(copy))
    assert tracemalloc.get_traced_memory()[1] < 4 * len(whole) + (3 << 20)
    tracemalloc.stop()


def outcome(read):
    """The result of `read`, or the refusal; any other error fails the test."""
    try:
        return read()
    except BadInput as error:
        return error


def refused_for(result, path):
    return isinstance(result, BadInput) and "\n" not in str(result) and str(path) in str(result)


@pytest.mark.parametrize(
    "stride", [pytest.param(7, id="every seventh byte", marks=pytest.mark.slow), 499], ids=str
)
def test_damage_after_a_run_was_opened_never_gives_wrong_numbers(run, copy, stride):
    segment, rows, state = used(copy, run)
    expected = list(rows.infos())
    for position in range(0, copy.stat().st_size, stride):
        bits = position * 37 % 255 + 1
        flip(copy, position, bits)
        for read, original in (
            (lambda: list(segment.rows().infos()), expected),
            (lambda: segment.state(run.recipe, (5,)), state),
        ):
            result = outcome(read)
            assert result == original or refused_for(result, copy), position
        flip(copy, position, bits)


# Forged segments


def without(name):
    return lambda file: file.__delitem__(name)


def nested(name, depth):
    def change(file):
        del file[name]
        file.create_group("/".join([name, *["x"] * depth]))

    return change


def looped(name):
    def change(file):
        del file[name]
        group = file.create_group(name)
        group["self"] = group

    return change


def virtual(name, dtype):
    def change(file):
        shape = file[name].shape
        del file[name]
        layout = h5py.VirtualLayout(shape=shape, dtype=dtype)
        layout[:] = h5py.VirtualSource("other.h5", "a", shape=shape)
        file.create_virtual_dataset(name, layout)

    return change


def made(name, shape, dtype, **options):
    def change(file):
        del file[name]
        file.create_dataset(name, shape, dtype, **options)

    return change


def referring(dtype):
    def change(file):
        del file["parameters"]
        made = file.create_dataset("parameters", (3,), dtype)
        target = file["statistics"]
        made[0] = target.ref if dtype is h5py.ref_dtype else target.regionref[:]

    return change


def numbers(name, function):
    def change(file):
        file[name][...] = function(file[name][...])

    return change


def first(value):
    return lambda array: np.r_[value, array[1:]].astype(array.dtype)


def every_iteration(value):
    def change(file):
        file["iteration"][...] = value

    return change


STEPS = "column.0.steps"
HUGE = 1 << 40
ADAM = "optimizer.0.gradients"
ARRAYS = {
    "external link": (replaced("parameters", h5py.ExternalLink("/etc/passwd", "/a")), "is a link"),
    "soft link": (replaced("parameters", h5py.SoftLink("/statistics")), "is a link"),
    "link to nothing": (replaced("parameters", h5py.SoftLink("/nothing")), "is a link"),
    "link to itself": (replaced("parameters", h5py.SoftLink("/parameters")), "is a link"),
    "references": (referring(h5py.ref_dtype), "parameters in .* holds object"),
    "references to regions": (referring(h5py.regionref_dtype), "parameters in .* holds object"),
    "virtual": (virtual("parameters", "f8"), "parameters in .* is kept in other files"),
    "kept elsewhere": (
        made(STEPS, (4,), "i8", external=[("/etc/hostname", 0, 32)]), "is kept in other files",
    ),
    "huge, in chunks": (
        made(STEPS, (HUGE,), "i8", chunks=(1 << 16,), compression="gzip"), "is in chunks",
    ),
    "endless, in chunks": (
        made(STEPS, (4,), "i8", chunks=(1 << 27,), maxshape=(None,), compression="gzip"),
        "is in chunks",
    ),
    "huge, never allocated": (
        made(STEPS, (HUGE,), "i8"), f"steps in .* claims {8 * HUGE} bytes, but the file holds 0",
    ),
    "many axes": (made(STEPS, (1,) * 32, "i8"), r"steps in .* has shape \(1, 1"),
    "compressed parameters": (
        lambda file: replaced("parameters", file["parameters"][...], compression="gzip")(file),
        "parameters in .* is in chunks",
    ),
    "float32": (
        lambda file: replaced("parameters", file["parameters"][...].astype("f4"))(file),
        "parameters in .* holds float32, expected float64",
    ),
    "integers": (replaced("cost", np.arange(4)), "cost in .* holds int64, expected float64"),
    "records": (replaced("cost", np.zeros(4, "f8,i4")), "cost in .* holds .*expected float64"),
    "rows of numbers": (replaced("cost", np.zeros(4, "(2,)f8")), r"cost in .* has shape \(4, 2\)"),
    "texts": (replaced("cost", ["x"] * 4), "cost in .* holds object"),
    "texts of fixed size": (replaced("cost", np.array([b"x"] * 4)), r"cost in .* holds \|S1"),
    "lists": (made("cost", (4,), h5py.vlen_dtype("f8")), "cost in .* holds object"),
    "no dataspace": (replaced("cost", h5py.Empty("f8")), "cost in .* is empty"),
    "a dtype": (replaced("cost", np.dtype("f8")), "cost in .* is not an array"),
    "a group": (nested("cost", 0), "cost in .* is not an array"),
    "deep groups": (nested("cost", 500), "cost in .* is not an array"),
    "a group in itself": (looped("cost"), "cost in .* is not an array"),
    "no parameters": (without("parameters"), "no array 'parameters' in .*"),
    "no iteration": (without("iteration"), "no array 'iteration' in .*"),
    "no checksums": (without("checksum"), "no array 'checksum' in .*"),
    "no column": (without("column.0.values"), "no array 'column.0.values' in .*"),
    "fewer parameters": (replaced("parameters", np.zeros(3)), r"parameters in .* has shape \(3,\)"),
    "more costs": (replaced("cost", np.zeros(5)), r"cost in .* has shape \(5,\), expected \(4,\)"),
    "values without steps": (
        replaced("column.0.values", np.zeros(9)), r"column.0.values in .* has shape \(9,\)",
    ),
    "optimiser of another shape": (replaced(ADAM, np.zeros(2)), rf"{ADAM} in .* has shape \(2,\)"),
    "optimiser of two axes": (replaced(ADAM, np.zeros((2, 2))), rf"{ADAM} in .* has shape \(2, 2"),
    "a count that is a float": (
        replaced("optimizer.0.count", 8.0), "optimizer.0.count in .* holds float64",
    ),
    "a count of two": (
        replaced("optimizer.0.count", [8, 8]), r"optimizer.0.count in .* has shape \(2,\)",
    ),
    "nan in parameters": (numbers("parameters", first(np.nan)), "parameters holds nan at index"),
    "infinity in parameters": (numbers("parameters", first(np.inf)), "parameters holds inf at ind"),
    "nan in statistics": (numbers("statistics", first(np.nan)), "statistics holds nan at index"),
    "nan in the optimiser": (numbers(ADAM, first(np.nan)), f"{ADAM} holds nan"),
    "infinity in the optimiser": (numbers(ADAM, first(np.inf)), "does not match its fingerprint"),
    "another parameter": (numbers("parameters", first(0.5)), "does not match its fingerprint"),
    "another cost": (numbers("cost", first(0.5)), "rows in .* do not match their fingerprint"),
    "nan for a cost": (numbers("cost", first(np.nan)), "rows in .* do not match their finger"),
    "another iteration": (every_iteration(7), "state in .* does not match its fingerprint"),
    "iteration below 0": (every_iteration(-1), "state in .* does not match its fingerprint"),
    "several iterations": (replaced("iteration", [8, 8]), r"iteration in .* has shape \(2,\)"),
    "steps before": (numbers(STEPS, lambda k: k - 1), f"{STEPS} in .* are not those of the"),
    "steps after": (numbers(STEPS, lambda k: k + 1), f"{STEPS} in .* are not those of the"),
    "steps backwards": (numbers(STEPS, lambda k: k[::-1]), f"{STEPS} in .* are not those of the"),
    "a step twice": (numbers(STEPS, lambda k: k[[0, 0, 2, 3]]), f"{STEPS} in .* are not those of"),
    "steps that overflow": (
        numbers(STEPS, lambda k: np.r_[k[0], -(2**63), -1, k[3]]), f"{STEPS} in .* are not those",
    ),
}  # fmt: skip

NO_ABOUT = "about in .* is not the header of a segment"
DEEP = 20_000
ABOUTS = {
    "no about": (lambda file: file.attrs.__delitem__("about"), "no attribute 'about' in .*"),
    "no format": (lambda file: file.attrs.__delitem__("format"), "no attribute 'format' in .*"),
    "another format": (
        lambda file: file.attrs.create("format", np.bytes_("pydnn segment 3")),
        "format in .* is 'pydnn segment 3', expected 'pydnn segment 2'",
    ),
    "a text that claims its size": (
        lambda file: file.attrs.create("about", file.attrs["about"].decode()),
        "attribute about in .* is not a text of fixed size",
    ),
    "several texts": (
        lambda file: file.attrs.create("about", np.array([b"x", b"y"])),
        "attribute about in .* is not a single short text",
    ),
    "a number": (lambda file: file.attrs.create("about", 1), "is not a text of fixed size"),
    "no dataspace": (
        lambda file: file.attrs.create("about", h5py.Empty("S3")), "is not a single short text",
    ),
    "no utf-8": (about(b"\xff\xfe"), "attribute about in .* is damaged"),
    "no JSON": (about("{"), NO_ABOUT),
    "nothing": (about("null"), NO_ABOUT),
    "a list": (about("[1, 2]"), NO_ABOUT),
    "deep": (about("[" * DEEP), NO_ABOUT),
    "deep, and closed": (about("[" * DEEP + "]" * DEEP), NO_ABOUT),
    "not a number": (in_about(goal=float("nan")), NO_ABOUT),
    "too many digits": (about('{"seed": ' + "9" * 5000 + "}"), NO_ABOUT),
    "no goal": (in_about(goal=None), NO_ABOUT),
    "goal 0": (in_about(goal=0), NO_ABOUT),
    "endless goal": (in_about(goal=2**53 + 1), NO_ABOUT),
    "truth for a goal": (in_about(goal=True), NO_ABOUT),
    "truth for a start": (in_about(start=False), NO_ABOUT),
    "start below 0": (in_about(start=-1), NO_ABOUT),
    "start after the end": (in_about(start=9), NO_ABOUT),
    "endless iteration": (in_about(iteration=2**53), NO_ABOUT),
    "iteration in words": (in_about(iteration="8"), NO_ABOUT),
    "iteration of a float": (in_about(iteration=8.0), NO_ABOUT),
    "another iteration": (in_about(iteration=9), "iteration in .* is 9, expected the one in"),
    "another start": (in_about(start=5), r"cost in .* has shape \(4,\), expected \(3,\)"),
    "a start far before": (in_about(start=0), r"cost in .* has shape \(4,\), expected \(8,\)"),
    "no digest": (in_about(before="x" * 64), NO_ABOUT),
    "a digest and more": (in_about(state_sha256="0" * 64 + "\n"), NO_ABOUT),
    "another digest": (in_about(state_sha256="0" * 64), "state in .* does not match its finger"),
    "another digest of rows": (in_about(rows_sha256="0" * 64), "rows in .* do not match their"),
    "seed below 0": (in_about(seed=-1), NO_ABOUT),
    "truth for a seed": (in_about(seed=True), NO_ABOUT),
    "key of floats": (in_about(key=[0.5]), NO_ABOUT),
    "key of truths": (in_about(key=[True]), NO_ABOUT),
    "key of lists": (in_about(key=[["a"]]), NO_ABOUT),
    "key of mappings": (in_about(key=[{}]), NO_ABOUT),
    "key that is a text": (in_about(key="ab"), NO_ABOUT),
    "columns that are texts": (in_about(columns=["ab"]), NO_ABOUT),
    "columns that are numbers": (in_about(columns=[[1, 2]]), NO_ABOUT),
    "columns of three": (in_about(columns=[["observed", "a", "b"]]), NO_ABOUT),
    "columns of another kind": (in_about(columns=[["seen", "a"]]), NO_ABOUT),
    "columns of two lines": (in_about(columns=[["observed", "a\nb"]]), NO_ABOUT),
    "columns that drive a terminal": (in_about(columns=[["observed", "\x1b[2J"]]), NO_ABOUT),
    "columns that are not there": (
        in_about(columns=[["observed", f"{i}"] for i in range(99)]), "no array 'column.",
    ),
    "a column twice": (
        in_about(columns=[["observed", "a"]] * 2), "rows in .* do not match their fingerprint",
    ),
    "no columns": (in_about(columns=[]), "rows in .* do not match their fingerprint"),
}  # fmt: skip
STRANGE = ARRAYS | {f"about: {name}": case for name, case in ABOUTS.items()}


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("change", "message"), STRANGE.values(), ids=STRANGE)
def test_a_forged_segment_is_refused_in_one_line(run, copy, change, message):
    resealed(copy, change)
    with pytest.raises(BadInput, match=message):
        used(copy, run)
    refusal(copy, lambda: used(copy, run))


CHILD = """
import sys
from pathlib import Path
from pydnn import BadInput
from pydnn.runs.segments import read_segment
from pydnn.recipes import read_recipe

def largest():
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

def used(path):
    segment = read_segment(path)
    return segment.rows(), segment.state(recipe, (5,))

recipe = read_recipe(Path(sys.argv[1]).read_text())
used(Path(sys.argv[2]))
before = largest()
for path in Path(sys.argv[3]).glob("*/*.h5"):
    try:
        used(path)
    except BadInput:
        continue
    print(path)
print(largest() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to measure with")
def test_no_memory_is_taken_for_claimed_sizes(run, tmp_path):
    sound = run.segments[2].path
    for i, (change, _) in enumerate(STRANGE.values()):
        (tmp_path / f"{i}").mkdir()
        path = tmp_path / f"{i}" / sound.name
        path.write_bytes(sound.read_bytes())
        resealed(path, change)
    claim_of_a_text(tmp_path, sound)
    arguments = [run.path / "recipe.toml", sound, tmp_path]
    result = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)], capture_output=True, text=True
    )
    assert result.stderr == ""
    assert int(result.stdout) < 8 << 10  # KiB


def claim_of_a_text(folder, sound):
    """A text of varying size that claims almost 2 GiB, which HDF5 would allocate."""
    (folder / "claim").mkdir()
    path = folder / "claim" / sound.name
    path.write_bytes(sound.read_bytes())
    text = "x" * 1234
    resealed(path, lambda file: file.attrs.create("about", text))
    content = path.read_bytes()
    size = len(text).to_bytes(4, "little")
    with h5py.File(path) as file:
        start = file.userblock_size
    place = content.index(size, start)
    path.write_bytes(content[:place] + (0x7FFFFFF0).to_bytes(4, "little") + content[place + 4 :])
    resealed(path, lambda file: None)


# Writing


def test_a_state_with_nan_is_not_written(run, tmp_path):
    state = run.state(8)
    vector = state.parameters.vector.copy()
    vector[3] = np.nan
    bad = attrs.evolve(state, parameters=state.parameters.with_vector(vector))
    with pytest.raises(BadInput, match=r"^parameters holds nan, which has no fingerprint"):
        written(tmp_path, bad, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\ud800"], ids=ascii)
def test_a_column_whose_name_cannot_be_shown_is_not_written(run, tmp_path, name):
    info = attrs.evolve(next(run.infos), observed={name: 1.0})
    with pytest.raises(BadInput, match="cannot name a column") as caught:
        written(tmp_path, run.state(1), [(info, 0)])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_segment_of_any_named_column_and_key_is_read_again(run, tmp_path):
    info = attrs.evolve(next(run.infos), observed={"Länge ½": 1.5, "": 2.0}, measured={"a/b": 3.0})
    state = attrs.evolve(run.state(1), key=Key(2**70, ("a", -3, "ü")))
    segment = written(tmp_path, state, [(info, 2**64 - 1)])
    again = read_segment(segment.path)
    assert again == segment
    assert list(again.rows().infos()) == [info]
    assert again.state(run.recipe, (5,)) == state


def written(folder, state, seen):
    rows = rows_of(seen, start=0)
    segment = following(folder, state, rows, before="0" * 64, texts=TEXTS, goal=9)
    return write_segment(segment, state, rows, TEXTS)


TEXTS = Texts('data = "é"', "{}")


def test_an_existing_segment_is_kept(run, tmp_path):
    written(tmp_path, run.state(0), [])
    with pytest.raises(BadInput, match=r"0000000000\.h5 exists already"):
        written(tmp_path, run.state(0), [])


def test_what_a_file_holds_is_the_state_and_the_rows_by_name(run):
    with h5py.File(run.segments[2].path) as file:
        columns = len(run.segments[2].columns)
        named = {f"column.{i}.{part}" for i in range(columns) for part in ("steps", "values")}
        texts = {"text.recipe", "text.environment"}
        rows = {"cost", "gradient_norm", "checksum"} | named
        assert set(file) == {*arrays_of(run.state(8))} | rows | texts
        assert json.loads(file.attrs["about"])["seed"] == 3


def test_a_segment_holds_the_texts_that_it_follows_from(run, tmp_path):
    assert run.segments[2].texts().recipe == (run.path / "recipe.toml").read_text()
    assert run.segments[2].texts().environment == (run.path / "environment.json").read_text()
    segment = written(tmp_path, run.state(0), [])
    assert segment.texts() == TEXTS


def test_a_text_that_a_stranger_changed_is_refused_when_it_is_needed(copy):
    resealed(copy, replaced("text.recipe", np.frombuffer(b"data = 1", np.uint8)))
    segment = read_segment(copy)
    refusal(copy, segment.texts)


@pytest.mark.parametrize("name", ["recipe", "environment"])
@pytest.mark.parametrize("text", [b"\xed\xa0\x80", b"\xff", b"ab\xc3"])
def test_a_forged_text_that_is_not_utf_8_is_refused(copy, name, text):
    def forge(file):
        replaced(f"text.{name}", np.frombuffer(text, np.uint8))(file)
        in_about(**{name: hashlib.sha256(text).hexdigest()})(file)

    resealed(copy, forge)
    with pytest.raises(BadInput, match=r"texts in .* are not UTF-8"):
        read_segment(copy).texts()


def test_a_dropped_state_leaves_the_segment_its_fingerprint_and_its_rows(run, copy):
    before, size = read_segment(copy), copy.stat().st_size
    assert before.holds_state()
    drop_state(before)
    after = read_segment(copy)
    assert not after.holds_state()
    assert (after, after.fingerprint) == (before, before.fingerprint)
    assert list(after.rows().infos()) == list(run.infos)[4:8]
    assert after.texts() == run.segments[2].texts()
    assert copy.stat().st_size < size
    assert "there is no array" in refusal(copy, lambda: after.state(run.recipe, (5,)))
    drop_state(after)
    assert read_segment(copy) == before
