import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import pydnn as nn
from pydnn.checks import BadInput
from pydnn.data import DataSet, Table
from pydnn.descriptions.text import write_description
from pydnn.jobs import prepare, run
from pydnn.recipes import recipe_for


def examples(m=40, target="y", **columns):
    table = Table.of({"x": np.arange(float(m))} | columns)
    return table.examples(target)


COIN = ["tail", "head"] * 20
TASKS = {
    "texts": ({"y": COIN}, "sigmoid_cross_entropy()", 1),
    "truth values": ({"y": [True, False] * 20}, "sigmoid_cross_entropy()", 1),
    "three texts": ({"y": ["a", "b", "c", "a"] * 10}, "softmax_cross_entropy()", 3),
    "whole numbers": ({"y": [3.0, 4.0, 5.0, 6.0] * 10}, "softmax_cross_entropy()", 4),
    "20 whole numbers": ({"y": list(range(20)) * 2}, "softmax_cross_entropy()", 20),
    "21 whole numbers": ({"y": [*range(21), *range(19)]}, "mean_squared()", 1),
    "numbers that occur once": ({"y": np.arange(40.0) ** 2}, "mean_squared()", 1),
    "halves": ({"y": [0.5, 1.0] * 20}, "mean_squared()", 1),
}


@pytest.mark.parametrize(("columns", "loss", "outputs"), TASKS.values(), ids=TASKS)
def test_loss_and_outputs_follow_from_what_the_target_holds(columns, loss, outputs):
    recipe = recipe_for(examples(**columns))
    assert write_description(recipe.loss) == loss
    assert write_description(recipe.network).endswith(f"dense({outputs}))")


@pytest.mark.parametrize(
    ("columns", "loss"),
    [
        ({"y": [True, False] * 20, "z": [False, True] * 20}, "sigmoid_cross_entropy()"),
        ({"y": [1.0, 2.0] * 20, "z": np.arange(40.0)}, "mean_squared()"),
    ],
    ids=["labels", "numbers"],
)
def test_several_targets_are_labels_or_numbers(columns, loss):
    recipe = recipe_for(examples(target=["y", "z"], **columns))
    assert write_description(recipe.loss) == loss
    assert write_description(recipe.network).endswith("dense(2))")


def test_few_examples_of_nearly_as_many_values_are_a_quantity():
    ages = [*range(16), *range(14)]  # 30 examples
    assert write_description(recipe_for(examples(30, y=ages)).loss) == "mean_squared()"
    ages = [*range(15), *range(15)]
    assert write_description(recipe_for(examples(30, y=ages)).loss) == "softmax_cross_entropy()"


# 0.05 / (0.003 * steps of an epoch) to two digits, but at most 1.
@pytest.mark.parametrize(("m", "decay"), [(40, 1.0), (999, 0.69), (5000, 0.98), (50_000, 0.095)])
def test_an_epoch_shrinks_weights_by_the_same_share_however_many_steps_it_has(m, decay):
    recipe = recipe_for(examples(m, y=(["no", "yes"] * m)[:m]))
    expected = f"adamw(learning_rate=0.003, weight_decay={decay})"
    assert write_description(recipe.optimizer) == expected


def test_a_task_that_is_stated_replaces_the_rule():
    ages = examples(y=[1.0, 2.0] * 20)
    assert write_description(recipe_for(ages).loss) == "sigmoid_cross_entropy()"
    assert write_description(recipe_for(ages, task="numbers").loss) == "mean_squared()"


SIZES = {  # examples: units, batch, steps an epoch, validation
    40: (64, 16, 2, 0.2),
    999: (64, 32, 24, 0.2),
    1000: (64, 32, 28, 0.1),
    5000: (128, 256, 17, 0.1),
    50_000: (256, 256, 175, 0.1),
}


@pytest.mark.parametrize(("m", "chosen"), SIZES.items(), ids=str)
def test_sizes_follow_from_the_number_of_examples(m, chosen):
    units, size, steps, validation = chosen
    recipe = recipe_for(examples(m, y=["no", "yes"] * (m // 2) + ["no"] * (m % 2)))
    assert f"dense({units})" in write_description(recipe.network)
    assert write_description(recipe.batches) == f"mini_batches({size})"
    assert recipe.evaluate_every == steps
    assert recipe.patience == max(20 * steps, 200)
    assert recipe.validation == validation
    assert recipe.iterations == steps * min(max(200_000 // m, 50), 400)


@pytest.mark.parametrize(
    ("loss", "outputs"),
    [("mean_absolute()", 1), ("softmax_cross_entropy()", 2), ("sigmoid_cross_entropy()", 1)],
)
def test_a_loss_that_is_stated_decides_the_outputs(loss, outputs):
    recipe = recipe_for(examples(y=[1.0, 2.0] * 20), loss=loss)
    assert write_description(recipe.loss) == loss
    assert write_description(recipe.network).endswith(f"dense({outputs}))")


def test_hidden_layers_can_be_stated():
    recipe = recipe_for(examples(y=COIN), hidden=(5, 4, 3))
    expected = "serial(dense(5), relu(), dense(4), relu(), dense(3), relu(), dense(1))"
    assert write_description(recipe.network) == expected


def test_without_a_validation_part_nothing_is_watched():
    recipe = recipe_for(examples(y=COIN), validation=0.0)
    assert (recipe.watch, recipe.patience, recipe.validation) == ("", 0, 0.0)


@pytest.mark.parametrize("iterations", [1, 2])
def test_a_short_training_is_measured_at_its_end(iterations):
    batch = examples(y=COIN)
    recipe = recipe_for(batch, iterations=iterations)
    assert (recipe.evaluate_every, recipe.watch) == (iterations, "validation cost")
    *_, (_, last) = run(prepare(recipe, batch))
    assert "validation cost" in last.measured
    asked = recipe_for(batch, iterations=iterations, evaluate_every=5, watch="", patience=0)
    assert asked.evaluate_every == 5


def test_entries_can_be_replaced():
    recipe = recipe_for(examples(y=COIN), seed=7, optimizer=nn.adam(), data="coins.csv")
    assert (recipe.seed, recipe.data) == (7, "coins.csv")
    assert write_description(recipe.optimizer).startswith("adam(")


@pytest.mark.slow
@given(m=st.integers(4, 300), target=st.sampled_from(["two", "three", "number"]))
def test_a_job_can_start_from_the_recipe_of_any_table(m, target):
    values = np.arange(m)
    table = Table.of({"x": values, "two": [["a", "b"][i % 2] for i in values.tolist()],
                      "three": values // 2 % 3, "number": np.sqrt(values)})  # fmt: skip
    batch = table.examples(target)
    assume(target == "number" or min(np.unique(batch.Y, return_counts=True)[1]) > 1)
    job = prepare(recipe_for(batch), batch)
    state, _ = next(iter(run(job)))
    assert state.iteration == 1


def test_it_learns_what_a_table_holds():
    x = np.linspace(-1, 1, 200)
    table = Table.of({"x": x, "side": ["left" if value < 0.2 else "right" for value in x]})
    batch = table.examples("side")
    trained = nn.train(recipe_for(batch, iterations=300), batch)
    assert np.mean(trained.model.predict(table) == table["side"]) > 0.98


def test_a_data_set_of_a_table_is_taken_by_its_training_part():
    batch = examples(y=COIN)
    assert recipe_for(DataSet(batch, batch)) == recipe_for(batch)


REFUSED = {
    "an array": (
        lambda: recipe_for(nn.Batch(np.ones((1, 2)), np.ones((1, 2)))),
        r"data is not a table, expected the examples of one",
    ),
    "a task": (lambda: recipe_for(examples(y=COIN), task="class"), "no task 'class'"),
    "an entry": (lambda: recipe_for(examples(y=COIN), epochs=3), "no entry of a recipe 'epochs'"),
    "one class": (
        lambda: recipe_for(examples(y=["a"] * 40)),
        "target 'y' is 'a' in every row, expected two or more classes",
    ),
    "texts as numbers": (
        lambda: recipe_for(examples(y=COIN), task="numbers"),
        "target 'y' holds texts, e.g. 'head', expected numbers: choose the task 'classes'",
    ),
    "two targets as classes": (
        lambda: recipe_for(examples(target=["y", "z"], y=COIN, z=COIN), task="classes"),
        "there are 2 targets, expected one for classes",
    ),
}


@pytest.mark.parametrize(("call", "match"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_recipe_is_refused(call, match):
    with pytest.raises(BadInput, match=match):
        call()


def test_a_text_gets_a_recurrent_network_with_an_output_for_each_symbol(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("".join(f"{a}{b}\n" for a in "abcdef" for b in "ghij"))
    data = nn.text(path)
    recipe = recipe_for(data, hidden=[4, 3])
    network = nn.serial(nn.embedding(12, 32), nn.gru(4), nn.gru(3), nn.dense(11))
    assert recipe.network == nn.describe(network)
    assert (recipe.validation, recipe.watch, recipe.iterations) == (0.1, "validation cost", 1000)
    assert recipe.batches == {"mini_batches": {"size": 12}}
    short = recipe_for(data, hidden=[3], iterations=4)
    assert (short.watch, short.evaluate_every) == ("validation cost", 4)
    assert nn.train(short, data).model.sample(1, most=3)
    windows = recipe_for(nn.text(path, nn.data.windows(4, streams=2)))
    assert (windows.validation, windows.watch, windows.evaluate_every) == (0, "", 0)
    few = recipe_for(nn.text(path, nn.data.windows(60)))
    assert few.batches == {"mini_batches": {"size": 1}}
    with pytest.raises(
        BadInput, match=r"^task is 'classes', but a text has only one: leave it out"
    ):
        recipe_for(data, task="classes")
