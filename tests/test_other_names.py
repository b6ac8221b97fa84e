import attrs
import pytest

import pydnn
from pydnn.descriptions.builders import builders_of
from pydnn.other_names import _ELSEWHERE, _form, suggestion
from pydnn.recipes.recipe import Recipe

FAMILIES = {
    family: [b.name for b in builders_of(family) if ":" not in b.name]
    for family in {b.family for b in builders_of()}
}
KEYS = [field.name for field in attrs.fields(Recipe)]

ELSEWHERE = [
    ("optimizer", "sgd", "gradient_descent"),
    ("optimizer", "SGD", "gradient_descent"),
    ("optimizer", "Adam", "adam"),
    ("optimizer", "AdamW", "adamw"),
    ("optimizer", "nag", "nesterov"),
    ("optimizer", "clip_grad_norm", "clip_by_global_norm"),
    ("optimizer", "adm", "adam"),
    ("loss", "mse", "mean_squared"),
    ("loss", "MSELoss", "mean_squared"),
    ("loss", "mae", "mean_absolute"),
    ("loss", "ce", "softmax_cross_entropy"),
    ("loss", "cross_entropy", "softmax_cross_entropy"),
    ("loss", "bce", "sigmoid_cross_entropy"),
    ("loss", "BCEWithLogitsLoss", "sigmoid_cross_entropy"),
    ("loss", "categorical_crossentropy", "softmax_cross_entropy"),
    ("loss", "CrossEntropyLoss", "softmax_cross_entropy"),
    ("stage", "Linear", "dense"),
    ("stage", "BatchNorm1d", "batch_norm"),
    ("stage", "swish", "silu"),
    ("stage", "Sequential", "serial"),
    ("stage", "LeakyReLU", "leaky_relu"),
    ("initializer", "kaiming_normal_", "he_normal"),
    ("initializer", "glorot_uniform", "xavier_uniform"),
    ("schedule", "StepLR", "step_decay"),
    ("schedule", "CosineAnnealingLR", "cosine_decay"),
    ("schedule", "OneCycleLR", "one_cycle"),
    ("batches", "minibatch", "mini_batches"),
    ("penalty", "l2", "l2_penalty"),
    ("augmentation", "RandomHorizontalFlip", "random_flip"),
    ("augmentation", "ColorJitter", "random_brightness"),
    ("text", "letters", "lines"),
]


@pytest.mark.parametrize(("family", "name", "here"), ELSEWHERE)
def test_names_of_other_libraries_lead_to_those_of_pydnn(family, name, here):
    assert suggestion(name, FAMILIES[family]).startswith(f"did you mean {here!r}?")


OPTIONS = [
    ("momentum", "beta", "decay"),
    ("adam", "beta_1", "beta1"),
    ("adam", "b2", "beta2"),
    ("adam", "eps", "epsilon"),
    ("adam", "lr", "learning_rate"),
    ("adamw", "wd", "weight_decay"),
    ("mini_batches", "batch_size", "size"),
    ("dense", "out_features", "units"),
    ("dropout", "rate", "keep_prob"),
    ("dropout", "p", "keep_prob"),
    ("step_decay", "steps", "every"),
    ("cosine_decay", "every", "steps"),
    ("cosine_decay", "T_max", "steps"),
    ("softmax_cross_entropy", "class_weight", "class_weights"),
    ("l2_penalty", "lambd", "strength"),
    ("leaky_relu", "negative_slope", "slope"),
]


@pytest.mark.parametrize(("builder", "name", "here"), OPTIONS)
def test_options_of_other_libraries_lead_to_those_of_pydnn(builder, name, here):
    [options] = [b.options for b in builders_of() if b.name == builder]
    assert suggestion(name, options).startswith(f"did you mean {here!r}?")


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("epochs", "iterations"),
        ("max_iter", "iterations"),
        ("model", "network"),
        ("criterion", "loss"),
        ("batch_size", "batches"),
        ("validation_split", "validation"),
        ("random_state", "seed"),
        ("early_stopping", "patience"),
        ("monitor", "watch"),
        ("lr", "optimizer"),
        ("normalize", "standardize"),
        ("optimiser", "optimizer"),
    ],
)
def test_keys_of_other_libraries_lead_to_those_of_a_recipe(name, here):
    assert suggestion(name, KEYS).startswith(f"did you mean {here!r}?")


def test_a_suggestion_says_where_meanings_differ():
    assert suggestion("epochs", KEYS) == (
        "did you mean 'iterations'? (it counts steps: epochs times the batches of an epoch)"
    )
    assert suggestion("drop_last", ["keep_last"]).endswith("(it means the opposite)")
    assert suggestion("keep_rate", ["keep_prob"]) == "did you mean 'keep_prob'?"


def test_a_name_like_no_other_gets_no_suggestion():
    assert suggestion("zebra", KEYS) == ""
    assert suggestion("x" * 100_000, KEYS) == ""
    assert suggestion("", KEYS) == ""


def test_the_table_is_in_the_form_in_which_it_is_looked_up():
    for here, elsewhere in _ELSEWHERE.items():
        assert [*map(_form, elsewhere.split())] == elsewhere.split()
        assert here not in elsewhere.split()


CALLS = {
    "a builder": (
        lambda: pydnn.adam(lr=0.1),
        "no option of adam 'lr': did you mean 'learning_rate'",
    ),
    "a builder of several parts": (lambda: pydnn.serial(layers=[]), "no option of serial 'layers'"),
    "a recipe": (
        lambda: Recipe("x", "dense(1)", "mean_squared()", "adam()", max_iter=5),
        "no option of Recipe 'max_iter': did you mean 'iterations'",
    ),
    "training": (
        lambda: pydnn.train(None, dta=None),
        "no option of train 'dta': did you mean 'data'",
    ),
}


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS)
def test_an_option_that_a_function_does_not_have_gets_the_nearest(call, message):
    with pytest.raises(TypeError, match=message) as refusal:
        call()
    assert isinstance(refusal.value, pydnn.BadInput)
    assert "self" not in str(refusal.value)


def test_a_changed_recipe_is_refused_the_same_way():
    recipe = Recipe("x", "dense(1)", "mean_squared()", "adam()", iterations=5)
    with pytest.raises(
        pydnn.BadInput, match="no option of Recipe 'random_state': did you mean 'see"
    ):
        attrs.evolve(recipe, random_state=3)
    assert attrs.evolve(recipe, seed=3).seed == 3


def test_a_name_that_pydnn_does_not_have_gets_the_nearest():
    with pytest.raises(AttributeError, match="no attribute 'SGD': did you mean 'gradient_descent'"):
        _ = pydnn.SGD
    with pytest.raises(AttributeError, match=r"no attribute 'qqqqq'$"):
        _ = pydnn.qqqqq
    assert not hasattr(pydnn, "_adam")
