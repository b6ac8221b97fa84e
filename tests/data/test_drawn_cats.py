import hashlib

import attrs
import numpy as np
import pytest
from helpers import frozen

from pydnn import BadInput, Key
from pydnn.data import ImageSet, draw_cats, to_batch
from pydnn.data.drawn_cats import TRAIN_COUNT
from pydnn.jobs.job import prepare
from pydnn.metrics import accuracy, classes_of
from pydnn.recipes.tutorial import tutorial_recipe
from pydnn.training import output_of, scan

# The fingerprint of the drawings of Key(7), which must be the same on every machine.
DIGEST = "8c37f7c6eaddc157b2827e275612f62ed5b4e7157a7def52acb97ba06bd03dad"


def test_drawings_are_the_same_on_every_machine():
    images, labels = draw_cats(Key(7), 24)
    assert images.shape == (24, 64, 64, 3)
    assert (images.dtype, labels.dtype, labels.shape) == (np.uint8, np.int64, (24,))
    assert hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest() == DIGEST


@pytest.fixture(scope="module")
def drawings():
    images, labels = draw_cats(Key(11), 300)
    return frozen(images), frozen(labels)


@pytest.mark.slow
def test_a_drawing_depends_on_its_key_and_number_alone(drawings):
    images, labels = drawings
    fewer, their_labels = draw_cats(Key(11), 270)
    np.testing.assert_array_equal(images[:270], fewer)
    np.testing.assert_array_equal(labels[:270], their_labels)
    assert not np.array_equal(fewer[:5], draw_cats(Key(4), 5)[0])
    assert len({image.tobytes() for image in images}) == 300


def test_about_half_are_cats(drawings):
    _, labels = drawings
    assert 0.45 < labels.mean() < 0.55


def test_no_function_that_differs_between_machines_is_used(monkeypatch):
    expected, _ = draw_cats(Key(5), 3)

    def refuse(*args, **options):
        raise AssertionError("not exactly rounded")

    for name in ("exp", "log", "sin", "cos", "tan", "arctan2", "tanh", "power", "hypot", "matmul",
                 "dot", "einsum", "sum", "mean"):  # fmt: skip
        monkeypatch.setattr(np, name, refuse)
    images, _ = draw_cats(Key(5), 3)
    monkeypatch.undo()
    np.testing.assert_array_equal(images, expected)


@pytest.mark.parametrize("count", [0, -1, 2.5])
def test_a_count_that_is_not_a_positive_integer_is_refused(count):
    with pytest.raises(BadInput, match=r"count is .*, expected an integer of at least 1: draw"):
        draw_cats(Key(1), count)


def least_squares_accuracy(features, labels):
    """Of the best linear rule fitted on one half and tested on the other."""
    features = np.column_stack([features, np.ones(len(features))])
    half = len(labels) // 2
    rule, *_ = np.linalg.lstsq(features[:half], 2.0 * labels[:half] - 1, rcond=None)
    return ((features[half:] @ rule > 0) == labels[half:]).mean()


def test_neither_color_nor_brightness_nor_position_reveals_the_class(drawings):
    images, labels = drawings
    floats = images / 255.0
    colours = floats.mean(axis=(1, 2))
    spread = floats.std(axis=(1, 2))
    assert least_squares_accuracy(np.column_stack([colours, spread]), labels) < 0.65
    quadrants = floats.reshape(-1, 2, 32, 2, 32, 3).mean(axis=(2, 4, 5)).reshape(len(labels), -1)
    assert least_squares_accuracy(quadrants, labels) < 0.65


def trained_accuracy(hidden, train, test):
    job = prepare(tutorial_recipe(hidden=hidden), to_batch(train))
    for state, _ in scan(job.train_step, job.state, job.batches):
        last = state
    batch = to_batch(test)
    lifted = attrs.evolve(last, parameters=job.inputs.lift(last.parameters))
    probable = job.loss.predict(output_of(job.network, lifted, batch.X))
    return accuracy(classes_of(probable), batch.Y)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_drawings_can_be_learned(seed):
    train = ImageSet(*draw_cats(Key(seed).at("train"), TRAIN_COUNT))
    test = ImageSet(*draw_cats(Key(seed).at("test"), 1000))
    network = trained_accuracy((20, 7, 5), train, test)
    logistic = trained_accuracy((), train, test)
    assert 0.80 <= network <= 0.97
    assert logistic <= network - 0.05
