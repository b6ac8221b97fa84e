import copy
import importlib
import pickle
import pkgutil
from pathlib import Path

import attrs
import numpy as np
import pytest

import pydnn
from pydnn import (
    BadInput,
    Key,
    adam,
    dense,
    initial_state,
    mean_squared,
    relu,
    serial,
    sigmoid_cross_entropy,
)
from pydnn.data import ImageSet, columns_of
from pydnn.fingerprints import fingerprint
from pydnn.jobs.standardization import fit_standardization
from pydnn.parameters import pack
from pydnn.records import Batch, FloatArray, arrays, as_array, keep_readonly, readonly
from pydnn.runs.history import Column
from pydnn.stages.base import EVALUATION
from pydnn.storage.hdf5 import write_hdf5
from pydnn.training import Step


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Pair:
    first: FloatArray
    second: FloatArray | None = None
    note: str = ""


def test_readonly_is_a_view_that_refuses_writes_and_leaves_the_caller_its_own():
    mine = np.zeros(3)
    view = readonly(mine)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    mine[0] = 2
    assert view[0] == 2


@pytest.mark.parametrize(
    ("given", "dtype"), [([1, 2], "f8"), (np.float32([1]), "f4"), (np.array([True]), "f8")]
)
def test_readonly_makes_floats_and_keeps_their_precision(given, dtype):
    assert readonly(given).dtype == dtype


def test_only_an_optional_array_may_be_none():
    class Plain:  # annotations that are types and not texts
        always: FloatArray
        perhaps: FloatArray | None = None

    Plain.__annotations__ = {"always": FloatArray, "perhaps": FloatArray | None}
    record = attrs.frozen(field_transformer=arrays)(Plain)
    for cls, names in ((record, ("always", "perhaps")), (Pair, ("first", "second"))):
        made = cls(*np.ones((2, 3)))
        assert not any(getattr(made, name).flags.writeable for name in names)
        assert getattr(cls(np.ones(2), None), names[1]) is None
        with pytest.raises(BadInput, match="got an array of object, expected numbers"):
            cls(None)


def test_records_compare_by_value():
    assert Pair(np.ones(2)) == Pair(np.ones(2))
    assert Pair(np.ones(2)) != Pair(np.zeros(2))
    assert Pair(np.ones(2)) != Pair(np.ones(3))
    assert Pair(np.ones(2), np.ones(1)) != Pair(np.ones(2))


def test_records_print_shapes_and_not_walls_of_numbers():
    assert repr(Pair(np.ones((20, 12288)))) == (
        "Pair(first=float64 (20, 12288), second=None, note='')"
    )


def test_records_are_frozen_and_have_no_hash():
    batch = Batch(np.ones((2, 3)), np.ones((1, 3)))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        batch.X = np.zeros(1)
    with pytest.raises(ValueError, match="read-only"):
        batch.X[0, 0] = 5
    with pytest.raises(TypeError, match="unhashable type: 'Batch'"):
        hash(batch)


MASKED = np.ma.array([[1.0, -999.0]], mask=[[False, True]])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Batch(MASKED, [[0, 1]]),
        lambda: Batch(np.ones((1, 2)), MASKED),
        lambda: Batch(np.ones((1, 2)), [[0, 1]], weights=MASKED),
        lambda: readonly(MASKED.astype(int)),
        lambda: readonly([MASKED[0], MASKED[0]]),
        lambda: readonly([[1.0, np.ma.masked]]),
        lambda: as_array(np.ma.masked_all((2, 2))),
        lambda: fit_standardization(MASKED),
        lambda: mean_squared()(MASKED, np.ones((1, 2))),
        lambda: mean_squared()(np.ones((1, 2)), MASKED),
        lambda: mean_squared()(np.ones((1, 2)), np.ones((1, 2)), weights=MASKED),
        lambda: sigmoid_cross_entropy().predict(MASKED),
        lambda: relu().forward((), MASKED, EVALUATION),
        lambda: adam().update(MASKED[0], adam().init(pack(())), pack(())),
        lambda: fingerprint({"a": MASKED}),
        lambda: write_hdf5(Path("never.h5"), arrays={"a": MASKED}),
        lambda: columns_of(np.ma.masked_equal(np.zeros((1, 2, 2, 3), np.uint8), 0)),
        lambda: ImageSet(np.ma.masked_equal(np.zeros((1, 2, 2, 3), np.uint8), 0), np.array([0])),
    ],
)
def test_arrays_with_masked_entries_are_refused(make):
    with pytest.raises(BadInput, match="masked entries, expected numbers everywhere: fill them"):
        make()


def test_a_mask_that_hides_nothing_is_accepted():
    np.testing.assert_array_equal(readonly(np.ma.array([[1.0, 2.0]])), [[1, 2]])
    assert type(readonly(np.ma.array([[1.0]]))) is np.ndarray


STATE = initial_state(serial(dense(2)), adam(), (3,), key=Key(1))
BATCH = Batch(np.ones((3, 2)), np.ones((1, 2)))
RECORDS = {
    "Batch": BATCH,
    "Batch with weights": Batch(BATCH.X, BATCH.Y, np.ones((1, 2))),
    "DenseParams": STATE.parameters.tree[0],
    "Packed": STATE.parameters,
    "Adam's state": STATE.optimizer_state,
    "TrainState": STATE,
    "Standardization": fit_standardization(np.array([[1.0, 2.0]])),
    "ImageSet": ImageSet(np.zeros((1, 2, 2, 3), np.uint8), np.array([1])),
    "Column": Column(np.array([1]), np.array([0.5])),
    "Step": Step(STATE, BATCH).with_fields(dAL=readonly(np.ones((1, 2)))),
    "complex": Batch(readonly(np.ones((1, 2))), BATCH.Y).X.astype(complex),
}
RECORDS["complex"].flags.writeable = False
RECORDS["complex"] = Batch(RECORDS["complex"], BATCH.Y)
COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy} | {
    f"pickle {protocol}": lambda x, p=protocol: pickle.loads(pickle.dumps(x, p))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
}


def arrays_in(value):
    if isinstance(value, np.ndarray):
        yield value
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from arrays_in(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from arrays_in(item)


@pytest.mark.parametrize("how", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_copies_of_records_are_equal_and_refuse_writes(record, how):
    new = how(record)
    pairs = list(zip(arrays_in(new), arrays_in(record), strict=True))
    assert pairs
    for ours, theirs in pairs:
        if theirs.flags.writeable:  # only Column keeps arrays as they come
            assert isinstance(record, Column)
        np.testing.assert_array_equal(ours, theirs, strict=True)
        assert how is copy.copy or not ours.flags.writeable
        if how is not copy.copy:
            assert not np.shares_memory(ours, theirs)
            with pytest.raises(ValueError, match="read-only"):
                ours[...] = 9


def test_a_record_of_the_users_own_with_private_and_keyword_fields_is_copied():
    @keep_readonly
    @attrs.frozen(eq=False)
    class Own:
        _hidden: object
        named: dict = attrs.field(kw_only=True)
        made: int = attrs.field(init=False, default=3)

    own = copy.deepcopy(Own(np.ones(2), named={"a": [np.ones(2)]}))
    assert own.made == 3
    for array in (own._hidden, own.named["a"][0]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 2


def test_every_record_of_the_package_that_holds_arrays_keeps_them_read_only():
    # Nobody keeps records of one drawing, comparison, piece of a file or sum so far. Records of
    # functions, Recording with its open file and weak references cannot be copied. Examples may
    # hold a sparse matrix.
    exempt = {"Pen", "Chance", "Derivative", "_StageRecord", "Problem"}
    exempt |= {"Piece", "CodedBlock", "_AtOnce", "_LabelTally", "_NumberTally"}
    exempt |= {"Examples", "PendingUpdate", "Recording", "Stretch", "_Entry"}
    missing = []
    for info in pkgutil.walk_packages(pydnn.__path__, "pydnn."):
        if info.name.endswith(("__main__", "pytest_pydnn")):
            continue
        module = importlib.import_module(info.name)
        for cls in vars(module).values():
            if isinstance(cls, type) and attrs.has(cls) and cls.__module__ == info.name:
                types = [str(field.type) for field in attrs.fields(cls)]
                holds = any(
                    "Callable" not in t and ("NDArray" in t or "FloatArray" in t) for t in types
                )
                if holds and cls.__reduce__ is object.__reduce__:
                    missing.append(cls.__name__)
    assert set(missing) <= exempt


WRONG_ROWS = {
    "beyond the end": (np.array([0, 3]), "rows hold 3, expected numbers from 0 to 2"),
    "a list": ([0, 5], "rows hold 5, expected numbers from 0 to 2"),
    "before the start": (np.array([-9]), "rows hold -9, expected numbers from 0 to 2"),
    "fractions": (np.array([0.5]), "rows are float64 (1,), expected a slice or a list of whole"),
    "truth values": (np.array([True, False, True]), "rows are bool (3,), expected a slice"),
    "two axes": (np.array([[0, 1]]), "rows are int64 (1, 2), expected a slice"),
    "one number": (1, "rows are 1, expected a slice"),
    "several lengths": ([[0], [1, 2]], "rows are [[0], [1, 2]], expected a slice"),
}


@pytest.mark.parametrize(("rows", "message"), WRONG_ROWS.values(), ids=WRONG_ROWS)
@pytest.mark.parametrize("order", ["examples first", "examples last"])
def test_rows_that_are_not_in_a_batch_are_refused(rows, message, order):
    X = np.ones((2, 3)) if order == "examples last" else np.ones((3, 2)).T
    batch = Batch(X, np.ones((1, 3)), np.ones((1, 3)))
    for take in (batch.take, batch.only):
        with pytest.raises(BadInput) as refused:
            take(rows)
        assert message in str(refused.value)
    assert batch.take([2, 0]).count == batch.take(np.array([2, 0], np.uint32)).count == 2
