import attrs
import pytest

from pydnn import (
    BadInput,
    adam,
    cosine_decay,
    dense,
    describe,
    gradient_descent,
    l1_penalty,
    l2_penalty,
    mini_batches,
    relu,
    serial,
    sigmoid_cross_entropy,
)
from pydnn.recipes.recipe import Recipe
from pydnn.recipes.toml import write_recipe
from pydnn.stages.initializers import tutorial
from pydnn.sweeps.plans import variations, varied

RECIPE = Recipe(
    data="points",
    network=describe(serial(dense(4), relu(), dense(1))),
    loss=describe(sigmoid_cross_entropy()),
    optimizer=describe(gradient_descent(learning_rate=0.1)),
    penalties=[describe(l2_penalty(0.5))],
    iterations=3,
    seed=5,
)
VARIED = {
    "a field": ("dtype", "float32", {"dtype": "float32"}),
    "a part": ("batches", mini_batches(8), {"batches": {"mini_batches": {"size": 8}}}),
    "its description": ("optimizer", {"adam": {}}, {"optimizer": describe(adam())}),
    "an option": (
        "optimizer.learning_rate",
        0.3,
        {"optimizer": describe(gradient_descent(learning_rate=0.3))},
    ),
    "an option that is a part": (
        "optimizer.learning_rate",
        cosine_decay(0.1, steps=3),
        {"optimizer": describe(gradient_descent(learning_rate=cosine_decay(0.1, steps=3)))},
    ),
    "the one penalty": ("penalties.strength", 2, {"penalties": [describe(l2_penalty(2))]}),
    "a penalty by number": ("penalties.0.strength", 2, {"penalties": [describe(l2_penalty(2))]}),
    "a stage": ("network.0.units", 7, {"network": describe(serial(dense(7), relu(), dense(1)))}),
    "an option with a default": (
        "loss.label_smoothing",
        0.1,
        {"loss": describe(sigmoid_cross_entropy(label_smoothing=0.1))},
    ),
}


@pytest.mark.parametrize(("name", "value", "changes"), VARIED.values(), ids=VARIED)
def test_any_place_of_a_recipe_can_be_varied(name, value, changes):
    found = varied(RECIPE, name, value)
    assert write_recipe(found) == write_recipe(attrs.evolve(RECIPE, **changes))
    assert write_recipe(found) != write_recipe(RECIPE)
    assert varied(RECIPE, "dtype", RECIPE.dtype) == RECIPE


def test_every_combination_is_trained_with_every_seed():
    rates, strengths = [0.1, 0.3], [0, 1, 2]
    runs = variations(
        RECIPE, seeds=2, over={"optimizer.learning_rate": rates, "penalties.strength": strengths}
    )
    assert len(runs) == 12
    assert [run.recipe.seed for run in runs] == [5, 6] * 6
    assert runs[3].setting == {"optimizer.learning_rate": 0.1, "penalties.strength": 1}
    assert runs[3].recipe.penalties == (describe(l2_penalty(1)),)
    assert [run.recipe.optimizer["gradient_descent"]["learning_rate"] for run in runs[5:7]] == rates
    assert len({repr(run.recipe) for run in runs}) == 12


def test_seeds_are_a_number_from_the_recipes_own_on_or_a_list():
    for seeds, expected in ((3, [5, 6, 7]), ([9, 2], [9, 2]), (range(2), [0, 1])):
        runs = variations(RECIPE, seeds=seeds, over={})
        assert [run.recipe.seed for run in runs] == expected
        assert [run.setting for run in runs] == [{}] * len(expected)


def test_a_stream_of_all_weights_gets_the_seed_too():
    recipe = attrs.evolve(RECIPE, weights=describe(tutorial(seed=1)))
    runs = variations(recipe, seeds=[4], over={})
    assert runs[0].recipe.weights == describe(tutorial(seed=4))


def test_each_seed_is_trained_once_for_each_fold():
    recipe = attrs.evolve(RECIPE, validation=0.2, evaluate_every=1, watch="validation cost",
                          patience=2)  # fmt: skip
    runs = variations(recipe, seeds=2, over={"dtype": ["float32", "float64"]}, folds=3)
    folds = [(run.recipe.dtype, run.recipe.seed, run.recipe.fold) for run in runs]
    assert folds[:4] == [("float32", 5, (n, 3)) for n in (1, 2, 3)] + [("float32", 6, (1, 3))]
    assert len(set(folds)) == 12
    assert {run.recipe.validation for run in runs} == {0.0}
    assert runs[0].setting == {"dtype": "float32"}


@pytest.mark.parametrize(
    ("folds", "over", "message"),
    [
        (1, {}, "folds is 1, expected an integer of at least 2: give the number of folds"),
        (2.5, {}, r"folds is 2\.5, expected an integer"),
        (3, {"validation": [0.1, 0.2]}, "validation is varied and folds is 3, expected only one"),
        (3, {"fold": [[1, 5]]}, "fold is varied and folds is 3, expected only one"),
    ],
)
def test_folds_that_do_not_fit_are_refused(folds, over, message):
    with pytest.raises(BadInput, match=message):
        variations(RECIPE, over=over, folds=folds)


REFUSALS = [
    ("optimiser.learning_rate", 1, "no part of a recipe to vary 'optimiser': did you mean 'optim"),
    ("optimizer.rate", 1, "no option of gradient_descent 'rate'"),
    ("network.7.units", 1, r"network\.7\.units names none of the 3 parts"),
    ("network.0.units.more", 1, "goes into 4, which has no parts"),
    ("seed", 1, "seed is not a value to vary"),
    (
        "data",
        "other.h5",
        "data is not a value to vary, since a whole sweep trains on the same",
    ),
    ("validation", 2, "validation is 2, expected a number below 1"),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSALS)
def test_places_that_are_not_there_are_refused(name, value, message):
    with pytest.raises(BadInput, match=message):
        varied(RECIPE, name, value)


def test_one_of_two_penalties_needs_its_number():
    two = attrs.evolve(RECIPE, penalties=[describe(l2_penalty(1)), describe(l1_penalty(1))])
    with pytest.raises(BadInput, match="names none of the 2 parts there: give the number"):
        varied(two, "penalties.strength", 1)
    assert varied(two, "penalties.1.strength", 3).penalties[1] == describe(l1_penalty(3))


@pytest.mark.parametrize(
    ("seeds", "over", "message"),
    [
        (10**19, {}, "seeds is 10000000000000000000, expected at most 100000: give how"),
        (10**400, {}, "seeds is an integer of 1,329 bits, expected at most 100000"),
        (2000, {"iterations": list(range(1, 100))}, "the sweep has 198,000 trainings, expected at"),
        (
            1,
            {f"network.0.{name}": [1] * 400 for name in "abc"},
            "has 64,000,000 trainings, expected",
        ),
        (0, {}, "seeds is 0, expected an integer of at least 1"),
        ([1, 1], {}, r"seeds are \[1, 1\], expected one or more, each once"),
        ([], {}, r"seeds are \[\], expected one or more"),
        ("3", {}, "seeds is '3'"),
        (1, {"dtype": []}, r"values of dtype are \[\], expected a list"),
        (1, {"dtype": "float32"}, "values of dtype are 'float32', expected a list"),
    ],
)
def test_plans_without_trainings_are_refused(seeds, over, message):
    with pytest.raises(BadInput, match=message):
        variations(RECIPE, seeds=seeds, over=over)
