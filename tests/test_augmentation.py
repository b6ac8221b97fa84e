import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pydnn as nn
from pydnn import BadInput, Batch, Key
from pydnn.augmentation import (
    augmented,
    random_brightness,
    random_crop,
    random_flip,
    random_shift,
)
from pydnn.cli import main

ALL = [
    random_flip(),
    random_flip(direction="up-down"),
    random_shift(2),
    random_crop(0.6),
    random_brightness(0.3),
]
IMAGES = nn.Key(5).uniform((5, 7, 3, 6))


@pytest.mark.parametrize("augmentation", ALL, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_augmentation_is_a_pure_function_of_key_and_batch(augmentation, dtype):
    X = IMAGES.astype(dtype)
    X.flags.writeable = False
    first = augmentation(Key(1), X)
    assert first.shape == X.shape
    assert first.dtype == dtype
    assert not first.flags.writeable
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, augmentation(Key(1), X))
    assert not np.array_equal(first, augmentation(Key(2), X))
    np.testing.assert_array_equal(X, IMAGES.astype(dtype))
    other_order = np.asfortranarray(X)
    assert augmentation(Key(1), other_order).tobytes() == first.tobytes()


@pytest.mark.parametrize("augmentation", ALL, ids=str)
def test_an_example_does_not_depend_on_those_after_it(augmentation):
    whole = augmentation(Key(3), IMAGES)
    np.testing.assert_array_equal(augmentation(Key(3), IMAGES[..., :4]), whole[..., :4])


@pytest.mark.parametrize(("direction", "axis"), [("left-right", 1), ("up-down", 0)])
def test_a_flip_mirrors_about_half_of_the_images(direction, axis):
    X = Key(1).uniform((2, 3, 1, 1000))
    flipped = random_flip(direction=direction)(Key(1), X)
    mirrored = (flipped == np.flip(X, axis)).all(axis=(0, 1, 2))
    same = (flipped == X).all(axis=(0, 1, 2))
    assert (mirrored ^ same).all()
    assert 440 < mirrored.sum() < 560
    all_of_them = random_flip(1, direction=direction)(Key(1), X)
    np.testing.assert_array_equal(all_of_them, np.flip(X, axis))


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 9))
def test_a_shift_moves_whole_pixels_and_repeats_the_edge(seed, most):
    [shifted] = np.moveaxis(random_shift(most)(Key(seed), IMAGES[..., :1]), -1, 0)
    image = IMAGES[..., 0]
    padded = np.pad(image, ((most, most), (most, most), (0, 0)), mode="edge")
    places = [
        (y, x)
        for y in range(2 * most + 1)
        for x in range(2 * most + 1)
        if np.array_equal(padded[y : y + 5, x : x + 7], shifted)
    ]
    assert places


def test_all_shifts_are_equally_probable_in_both_directions():
    X = np.zeros((9, 9, 1, 900))
    X[4, 4] = 1
    shifted = random_shift(1)(Key(1), X)
    rows, columns, _, _ = np.nonzero(shifted)
    counts = np.zeros((3, 3))
    np.add.at(counts, (rows - 3, columns - 3), 1)
    assert counts.sum() == 900
    assert counts.min() > 70


def test_a_sequence_is_shifted_in_time_alone():
    X = np.arange(24.0).reshape(6, 2, 2)
    shifted = random_shift(3)(Key(1), X)
    np.testing.assert_array_equal(shifted[:, 1] - shifted[:, 0], X[:, 1] - X[:, 0])


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0.6, 0.95))
def test_a_crop_of_a_slope_is_a_flatter_slope_inside_of_it(seed, least):
    y, x = np.mgrid[:6, :8]
    image = np.stack([y, x], axis=-1).astype(float)[..., np.newaxis]
    [cropped] = np.moveaxis(random_crop(least)(Key(seed), image), -1, 0)
    steps_y, steps_x = np.diff(cropped[:, 0, 0]), np.diff(cropped[0, :, 1])
    inside_y, inside_x = steps_y[1:-1], steps_x[1:-1]  # at the edge the last pixel is repeated
    share = inside_x[0]
    assert least <= share + 1e-12 <= 1 + 1e-12
    np.testing.assert_allclose(inside_x, share, atol=1e-12)
    np.testing.assert_allclose(inside_y, share, atol=1e-12)
    assert cropped.min() >= 0
    assert cropped[..., 0].max() <= 5
    assert cropped[..., 1].max() <= 7


def test_brightness_adds_one_number_to_each_image():
    brighter = random_brightness(0.3)(Key(1), IMAGES)
    added = (brighter - IMAGES).reshape(-1, 6)
    np.testing.assert_allclose(added, added[:1].repeat(len(added), 0), atol=1e-15)
    assert np.unique(added[0]).size == 6
    assert np.abs(added).max() <= 0.3


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda: random_flip(0), "probability is 0, expected a number above 0"),
        (lambda: random_flip(1.5), "probability is 1.5, expected a number of at most 1"),
        (lambda: random_flip(direction="left"), "direction"),
        (lambda: random_shift(0), "most is 0, expected an integer of at least 1"),
        (lambda: random_shift(10**400), "most is an integer of .* bits, expected at most"),
        (lambda: random_crop(1), "least is 1, expected a number below 1"),
        (lambda: random_crop(0), "least is 0, expected a number above 0"),
        (lambda: random_brightness(-1), "most is -1, expected a number above 0"),
        (lambda: random_brightness(float("inf")), "most is inf, expected a finite number"),
    ],
)
def test_options_out_of_range_are_refused(build, problem):
    with pytest.raises(BadInput, match=problem):
        build()


def test_examples_without_places_are_refused():
    with pytest.raises(BadInput, match=r"^random_flip got X of shape \(6, 2\), expected images"):
        random_flip()(Key(1), np.zeros((6, 2)))
    with pytest.raises(BadInput, match=r"expected images .* or sequences \(T, n, m\): give it"):
        random_shift()(Key(1), np.zeros((6, 2)))
    batch = Batch(np.zeros((4, 1, 2)), np.zeros((1, 2)), lengths=[4, 2])
    with pytest.raises(BadInput, match="random_shift got sequences of unequal length, into which"):
        augmented([random_shift()], Key(1), batch)
    brighter = augmented([random_brightness()], Key(1), batch)
    np.testing.assert_array_equal(brighter.lengths, [4, 2])


# In a training step and in a recipe. A stage that only needs images, since it takes their mean.


@nn.described("stage")
def channel_means():
    def init(key, shape):
        if len(shape) != 3:
            raise BadInput(f"channel_means got examples of shape {shape}, expected images.")
        return (), shape[2:]

    def forward(params, A_prev, context):
        # The place matters, so that a flip changes it.
        weights = np.arange(A_prev.shape[1], dtype=A_prev.dtype)[:, np.newaxis, np.newaxis]
        A = (A_prev * weights).mean(axis=(0, 1))
        A.flags.writeable = False
        return A, A_prev.shape

    def backward(params, cache, dA):
        return np.zeros(cache, dA.dtype), ()

    return nn.Stage("channel_means", init, forward, backward)


NETWORK = nn.serial(channel_means(), nn.dense(1))
RECIPE = nn.Recipe(
    "drawn-cats",
    NETWORK,
    "sigmoid_cross_entropy()",
    "adam(learning_rate=0.01)",
    4,
    batches="mini_batches(8)",
    augment=["random_flip()", "random_shift(2)"],
    validation=0.2,
    evaluate_every=2,
)


@pytest.fixture(scope="module")
def few_cats():
    train, test = nn.data.drawn_cats(train_count=30, test_count=5)
    batches = map(nn.data.to_batch, (train, test))
    return nn.data.DataSet(*batches, image_shape=(64, 64, 3), classes=("non-cat", "cat"))


def test_the_step_augments_its_batch_by_a_key_of_its_own():
    optimizer, loss = nn.adam(), nn.sigmoid_cross_entropy()
    augmentations = [random_flip(), random_brightness()]
    step = nn.make_train_step(NETWORK, loss, optimizer, augment=augmentations)
    assert step.names == ("augment", "forward", "cost", "backward", "update")
    plain = nn.make_train_step(NETWORK, loss, optimizer)
    assert plain.names == ("forward", "cost", "backward", "update")
    state = nn.initial_state(NETWORK, optimizer, (5, 7, 3), key=Key(1))
    batch = Batch(IMAGES, [[0, 1, 1, 0, 1, 0]])
    for k in range(3):
        key = Key(1).at("step", k, "augment")
        by_hand = plain(state, augmented(augmentations, key, batch))
        state, info = step(state, batch)
        assert (state, info) == by_hand


def test_a_recipe_augments_in_training_alone_and_round_trips(few_cats):
    assert RECIPE.augment == ({"random_flip": {}}, {"random_shift": {"most": 2}})
    job = nn.jobs.prepare(RECIPE, few_cats)
    assert job.train_step.names[0] == "augment"
    assert job.data["train"].X.shape == (64, 64, 3, 24)
    trained = nn.train(RECIPE, few_cats)
    again = nn.train(RECIPE, few_cats)
    np.testing.assert_array_equal(trained.costs, again.costs)
    plain = nn.train(attrs.evolve(RECIPE, augment=()), few_cats)
    assert (plain.costs != trained.costs).all()
    # Outside of training the examples stay as they are.
    P = trained.model.outputs(few_cats.unflattened().test.X)
    by_hand = nn.output_of(NETWORK, trained.state, few_cats.unflattened().test.X)
    np.testing.assert_array_equal(P, RECIPE_LOSS.predict(by_hand))


RECIPE_LOSS = nn.sigmoid_cross_entropy()


def test_a_step_with_augmentation_can_be_pickled_and_built_from_its_text():
    import pickle

    text = nn.recipes.toml.write_recipe(attrs.evolve(RECIPE, network=nn.dense(1)))
    assert 'augment = ["random_flip()", "random_shift(2)"]' in text
    assert nn.recipes.toml.read_recipe(text).augment == RECIPE.augment
    step = nn.make_train_step(
        nn.dense(1), nn.mean_squared(), nn.adam(), augment=[random_brightness()]
    )
    assert pickle.loads(pickle.dumps(step)).names == step.names


def test_wrong_entries_are_refused_by_name(few_cats):
    with pytest.raises(BadInput, match=r"^augment is 'random_flip\(\)', expected a list"):
        attrs.evolve(RECIPE, augment="random_flip()")
    with pytest.raises(BadInput, match=r"augment: .*random_flip"):
        attrs.evolve(RECIPE, augment=["random_flp()"])
    table = Batch(np.zeros((3, 8)), [[0, 1] * 4])
    recipe = attrs.evolve(RECIPE, network=nn.dense(1), batches=nn.full_batch())
    with pytest.raises(BadInput, match=r"random_flip got X of shape \(3, 1\), expected images"):
        nn.jobs.prepare(recipe, attrs.evolve(few_cats, train=table, test=table, image_shape=None))


def test_the_command_line_augments_and_replays(few_cats, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    nn.data.save_catvnoncat("photos", *nn.data.drawn_cats(train_count=12, test_count=2))
    network = "serial(conv(2, 9, stride=9), flatten, dense(1))"
    options = ["--iterations", "3", "--batches", "mini_batches(4)", "--augment", "random_flip"]
    train = ["train", "--data", "photos", "--network", network, *options]
    assert main([*train, "--augment", "random_brightness(0.1)", "--quiet"]) == 0
    recipe = nn.load_model("runs/0001").recipe
    assert recipe.augment == ({"random_flip": {}}, {"random_brightness": {"most": 0.1}})
    assert main(["replay", "runs/0001"]) == 0
    assert "all bits of 3 steps are the recorded ones" in capsys.readouterr().out
    assert main(["inspect", "runs/0001", "--step", "2"]) == 0
    assert main([*train, "--augment", "random_flp"]) == 2
    assert "--augment: " in capsys.readouterr().err
