"""The form in which a network gets the images of a data set: as columns, or with all axes."""

import attrs
import numpy as np
import pytest

import pydnn as nn
from pydnn import BadInput
from pydnn.batches import Batching
from pydnn.data import DataSet, drawn_cats, to_batch
from pydnn.descriptions.builders import described
from pydnn.jobs.loading import data_of, examples_of


@nn.described("stage")
def needs_images(at_most: int = 100):
    """The mean of each channel of an image, which must be at most so high."""

    def init(key, shape):
        if len(shape) != 3 or shape[0] > at_most:
            raise BadInput(f"examples have shape {shape}, expected small images.")
        return (), shape[2:]

    def forward(params, A_prev, context):
        A = A_prev.mean(axis=(0, 1))
        A.flags.writeable = False
        return A, A_prev.shape

    def backward(params, cache, dA):
        raise NotImplementedError

    return nn.Stage("needs_images", init, forward, backward)


def recipe_with(*stages, **entries):
    loss, optimizer = nn.sigmoid_cross_entropy(), nn.adam()
    return nn.Recipe("drawn-cats", nn.serial(*stages), loss, optimizer, 2, **entries)


@pytest.fixture(scope="module")
def few():
    train, test = drawn_cats(train_count=8, test_count=2)
    return DataSet(to_batch(train), to_batch(test), image_shape=(64, 64, 3))


@pytest.mark.parametrize(
    ("stages", "images"),
    [
        ([nn.dense(1)], False),
        ([nn.relu(), nn.dense(1)], False),
        ([needs_images(), nn.dense(1)], True),
        ([nn.relu(), needs_images(), nn.dense(1)], True),
        ([nn.parallel(needs_images(), needs_images()), nn.dense(1)], True),
        # Of two errors, the one of the form that is taken further is more helpful.
        ([nn.conv(1, 99), nn.stages.flatten(), nn.dense(1)], True),
        ([nn.relu(), nn.conv(1, 99), nn.stages.flatten(), nn.dense(1)], True),
        ([nn.dense(10**18)], False),
        ([nn.dense(3), needs_images()], False),
        ([nn.parallel(nn.dense(1), needs_images(8)), nn.dense(1)], False),
    ],
)
def test_images_have_all_their_axes_if_the_network_does_not_take_columns(few, stages, images):
    data = examples_of(recipe_with(*stages), few)
    assert data == (few.unflattened() if images else few)
    by_hand = few.unflattened()
    assert examples_of(recipe_with(*stages), by_hand) is by_hand  # they stay as they are given
    assert examples_of(recipe_with(*stages), few.train) is few.train


def test_augmented_images_have_all_their_axes(few):
    recipe = recipe_with(nn.dense(1), augment=["random_flip()"])
    assert examples_of(recipe, few).train.X.shape == (64, 64, 3, 8)


def test_a_recipe_trains_on_the_images_that_it_names(tmp_path, few):
    nn.data.save_catvnoncat(tmp_path / "photos", *drawn_cats(train_count=8, test_count=2))
    recipe = recipe_with(nn.relu(), needs_images(), nn.dense(1))
    recipe = attrs.evolve(recipe, data=str(tmp_path / "photos"))
    data = data_of(recipe)
    assert data.train.X.shape == (64, 64, 3, 8)
    job = nn.jobs.prepare(recipe, data)
    assert job.state.parameters["2/W"].shape == (1, 3)
    with pytest.raises(
        BadInput, match=r"stage 0 \(conv\): a window reaches over 99 places of axis"
    ):
        nn.jobs.prepare(recipe_with(nn.conv(1, 99), nn.stages.flatten(), nn.dense(1)), few)


def test_a_text_is_read_as_its_recipe_says(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("Ab\nba\naa\nbb\n" * 5)
    recipe = attrs.evolve(recipe_with(nn.dense(1)), data=str(path))
    assert data_of(recipe) == nn.text(path)
    assert recipe.is_of_text
    lower = attrs.evolve(recipe, text="lines(lower=True)", test=0.2)
    assert data_of(lower) == nn.text(path, nn.data.lines(lower=True), test=0.2)
    (tmp_path / "more.txt").write_text("aab\n")
    more = attrs.evolve(lower, test=str(tmp_path / "more.txt"))
    assert data_of(more).test.X.shape[1] == 1
    known = nn.data.Vocabulary(["\n", "A", "a", "b", "c"])
    assert data_of(recipe, vocabulary=known).vocabulary == known
    streams = attrs.evolve(recipe, text="windows(3, streams=2)")
    assert data_of(streams).train.X.shape[0] == 3
    with pytest.raises(BadInput, match=r"^validation is 0.2, which would hold back windows in the"):
        data_of(attrs.evolve(streams, validation=0.2))
    with pytest.raises(BadInput, match=r"^text: .*line"):
        attrs.evolve(recipe, text="lins()")
    with pytest.raises(BadInput, match=r"^test is 'more.txt', but there is no target"):
        attrs.evolve(recipe, data="drawn-cats", test="more.txt")
    np.testing.assert_array_equal(data_of(recipe).train.lengths, [3] * 20)


CARRIED = "serial(one_hot(4), rnn(2, initial='carried', examples=2), dense(4))"


@described("batches")
def the_first_again(size):
    """Batches that are all the first one, after which no window goes on."""
    batches = nn.mini_batches(size, shuffle=False)
    return Batching(lambda data, key, k: batches.at(data, key, 0), batches.per_epoch)


def test_a_carried_state_goes_on_in_the_same_stream(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("abba" * 50)
    windows = attrs.evolve(
        recipe_with(nn.dense(1)), network=CARRIED, data=str(path), validation=0.0
    )
    right = attrs.evolve(
        windows, text="windows(3, streams=2)", batches="mini_batches(2, shuffle=False)"
    )
    assert data_of(right).train.X.shape[0] == 3
    for wrong in [
        {"text": "windows(3)"},  # window 2 would go on from window 0
        {"batches": "mini_batches(2)"},
        {"batches": "mini_batches(4, shuffle=False)"},
        {"batches": "mini_batches(1000, shuffle=False)"},
        {"batches": "full_batch()"},
        {"batches": the_first_again(2)},
    ]:
        with pytest.raises(BadInput, match=r"^batches is .*expected the next window of each"):
            data_of(attrs.evolve(right, **wrong))
    one = attrs.evolve(right, text="windows(3)", batches="mini_batches(1, shuffle=False)")
    data_of(one)
    with pytest.raises(BadInput, match=r"^validation is 0.2, which would hold back windows in the"):
        data_of(attrs.evolve(one, validation=0.2))
    # lines do not continue each other: the tutorial carries the state from name to name
    data_of(attrs.evolve(right, text="lines()", batches="mini_batches(2)", validation=0.2))
    data_of(attrs.evolve(right, network="dense(4)", batches="full_batch()"))
