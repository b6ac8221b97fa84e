import attrs
import numpy as np
import pytest

import pydnn as nn
from pydnn.data import Table
from pydnn.data.conversions import CONVERSIONS, conversion_of, plain_conversion
from pydnn.data.image_folders import Pixels
from pydnn.jobs.class_weights import WeighClasses
from pydnn.jobs.inputs import Inputs, InputsOfFiles
from pydnn.jobs.standardization import Standardization
from pydnn.workers.encoding import decoded, encoded

X = nn.Key(1).normal((3, 8)) * 50
BATCH = nn.Batch(X, (X[:1] > 0) * 1.0, np.arange(8.0)[np.newaxis])
TABLE = Table.of(
    {
        "x": [1.5, None, 3.0, 4.0],
        "color": ["red", "bl\\ue ü", None, "red"],
        "old": [True, False, True, True],
        "y": ["a", "b", "a", "b"],
    }
).examples("y")
COLUMNS = nn.jobs.fit_columns(TABLE, loss=nn.sigmoid_cross_entropy(), standardize=True)
CASES = {
    "pixels": (Pixels(), BATCH),
    "class weights": (WeighClasses(np.array([1.0, 3.0], np.float32)), BATCH),
    "inputs": (InputsOfFiles(Inputs("float32", "fast")), BATCH),
    "standardized": (
        InputsOfFiles(Inputs("float64", "portable", Standardization(X[:, :1], X[:, 1:2] ** 2))),
        BATCH,
    ),
    "columns": (InputsOfFiles(Inputs("float32", "fast", columns=COLUMNS)), TABLE),
}


def test_each_conversion_is_among_the_cases():
    assert {type(conversion).name for conversion, _ in CASES.values()} == set(CONVERSIONS)


@pytest.mark.parametrize(("conversion", "batch"), CASES.values(), ids=CASES)
def test_a_conversion_crosses_as_text_and_arrays_with_the_same_bits(conversion, batch):
    name, facts, arrays = plain_conversion(conversion)
    there = decoded(b"".join(encoded({"": facts, **arrays})))
    again = conversion_of(name, there.pop(""), there)
    ours, theirs = conversion(batch), again(batch)
    for field in ("X", "Y", "weights"):
        a, b = getattr(ours, field), getattr(theirs, field)
        assert (a is None) == (b is None)
        assert a is None or (a.dtype, a.tobytes("A")) == (b.dtype, b.tobytes("A"))


@pytest.mark.parametrize(("conversion", "batch"), CASES.values(), ids=CASES)
def test_labels_do_not_need_x(conversion, batch):
    without = {"features": ()} if batch is TABLE else {}
    labels = conversion.of_labels(attrs.evolve(batch, X=np.empty((0, batch.count)), **without))
    whole = conversion(batch)
    assert labels.Y.tobytes() == whole.Y.tobytes()
    assert (labels.weights is None) == (whole.weights is None)
    assert whole.weights is None or labels.weights.tobytes() == whole.weights.tobytes()


def test_other_functions_are_not_conversions_whatever_their_name():
    @attrs.frozen
    class Mine:
        name = "pixels"

        def __call__(self, batch):
            return batch

    assert plain_conversion(Mine()) is None
    assert plain_conversion(abs) is None


@pytest.mark.parametrize(
    ("name", "facts"), [("pickle", None), ("class weights", None), ("inputs", [1])]
)
def test_damaged_conversions_are_refused_in_one_line(name, facts):
    with pytest.raises(nn.BadInput) as refused:
        conversion_of(name, facts, {})
    assert "\n" not in str(refused.value)


def test_a_rotation_is_not_sent():
    inputs = attrs.evolve(Inputs("float64", "fast"), rotation=object())
    with pytest.raises(nn.BadInput, match="rotation is not sent"):
        plain_conversion(InputsOfFiles(inputs))
