import pytest

from pydnn import BadInput, build, dense, describe, positions, rnn, serial
from pydnn.descriptions import renames
from pydnn.descriptions.builders import builders_of, find_builder
from pydnn.descriptions.text import read_description
from pydnn.optimizers import adam
from pydnn.recipes import read_recipe, write_recipe

OLD = """
data = "cats"
network = "serial(fully_connected(count=3), dense(1))"
loss = "sigmoid_cross_entropy()"
optimizer = "adaptive_moments(rate=0.1)"
iterations = 5
"""


@pytest.fixture
def renamed(monkeypatch):
    """Three builders and options as they might have been called before."""
    builders = {"fully_connected": "dense", "adaptive_moments": "adam"}
    options = {("dense", "count"): "units", ("adam", "rate"): "learning_rate"}
    monkeypatch.setattr(renames, "BUILDERS", builders)
    monkeypatch.setattr(renames, "OPTIONS", options)


@pytest.mark.usefixtures("renamed")
def test_an_old_recipe_is_read_as_the_one_of_today():
    recipe = read_recipe(OLD)
    assert recipe.network == describe(serial(dense(3), dense(1)))
    assert recipe.optimizer == describe(adam(learning_rate=0.1))
    assert "fully_connected" not in write_recipe(recipe)
    assert read_recipe(write_recipe(recipe)) == recipe


@pytest.mark.usefixtures("renamed")
def test_an_old_description_makes_the_part_of_today():
    assert build({"serial": {"stages": [{"fully_connected": {"count": 3}}]}}) == serial(dense(3))
    assert build({"dense": {"count": 3}}, family="stage") == dense(3)


@pytest.mark.usefixtures("renamed")
def test_an_option_under_both_of_its_names_is_refused():
    with pytest.raises(BadInput, match="units twice"):
        build({"dense": {"count": 3, "units": 3}})
    with pytest.raises(BadInput, match="gives units twice"):
        read_description("dense(units=3, count=3)")


def test_each_rename_leads_from_an_unused_name_to_one_in_use():
    names = {builder.name for builder in builders_of()}
    assert not names & set(renames.BUILDERS)
    assert set(renames.BUILDERS.values()) <= names
    for (builder, old), new in renames.OPTIONS.items():
        assert old not in find_builder(builder).options
        assert new in find_builder(builder).options
    for (builder, option), words in renames.WORDS.items():
        assert option in find_builder(builder).options
        for old, new in words.items():
            build({builder: {option: new} | ({"units": 2} if option == "initial" else {})})
            with pytest.raises(BadInput):
                find_builder(builder).function(*[2] * (option == "initial"), **{option: old})


def test_an_old_word_is_read_as_the_one_of_today():
    today = rnn(2, initial="learned")
    assert build({"rnn": {"units": 2, "initial": "learnt"}}) == today
    assert read_description("rnn(2, initial='learnt')") == describe(today)
    assert read_description("positions('learnt')") == describe(positions("learned"))
