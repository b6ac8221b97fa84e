import numpy as np
import pytest

import pydnn as nn
from pydnn.data import DataSet, drawn_cats, load_data_set, to_batch
from pydnn.metrics import classes_of
from pydnn.recipes import cats_network, cats_recipe, read_recipe, write_recipe


def test_the_recipe_is_one_that_a_file_can_hold():
    recipe = cats_recipe(data="photos", iterations=7, seed=3, dtype="float64")
    assert read_recipe(write_recipe(recipe)) == recipe
    assert (recipe.data, recipe.iterations, recipe.seed, recipe.dtype) == (
        "photos", 7, 3, "float64",
    )  # fmt: skip


def test_the_learning_rate_falls_to_0_at_the_last_step():
    recipe = cats_recipe(iterations=7)
    assert recipe.optimizer["adam"]["learning_rate"]["cosine_decay"]["steps"] == 7


def test_the_network_has_the_parameters_of_three_convolutions_and_a_logit():
    params, shape = cats_network(4).init(nn.Key(1), (64, 64, 3))
    expected = (9 * 3 + 1) * 4 + (9 * 4 + 1) * 8 + (9 * 8 + 1) * 8 + 4 * 4 * 8 + 1
    assert nn.parameters.pack(params).vector.size == expected
    assert shape == (1,)


def test_the_recipe_trains_on_images_and_its_model_takes_columns_too():
    images = drawn_cats(train_count=32, test_count=2)
    few = DataSet(*(to_batch(part, dtype=np.float32) for part in images), (64, 64, 3))
    model = nn.train(cats_recipe(iterations=2), few).model
    assert model.shape == (64, 64, 3)
    predicted = model.predict(few.test.X)
    assert predicted.shape == (1, 2)
    np.testing.assert_array_equal(model.predict(few.unflattened().test.X), predicted)


@pytest.mark.slow
def test_nearly_all_unseen_drawings_are_recognized():
    model = nn.train(cats_recipe()).model
    data = load_data_set("drawn-cats")
    assert nn.accuracy(classes_of(model.predict(data.test.X)), data.test.Y) >= 0.975
    others, _ = drawn_cats(seed=2, train_count=1000, test_count=1)
    X = np.moveaxis(others.images, 0, -1) / 255
    assert nn.accuracy(classes_of(model.predict(X)), others.labels[np.newaxis]) >= 0.975


@pytest.mark.slow
def test_most_of_the_test_photos_are_recognized(cats_directory):
    model = nn.train(cats_recipe(data=str(cats_directory))).model
    data = load_data_set(cats_directory)
    # A photo is 0.02, and which ones are right depends on the rounding of the machine.
    assert nn.accuracy(classes_of(model.predict(data.test.X)), data.test.Y) >= 0.8
