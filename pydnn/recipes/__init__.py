"""Recipes: training jobs as plain data, and as TOML files."""

from pydnn.recipes.automatic import recipe_for
from pydnn.recipes.cats import cats_network, cats_recipe
from pydnn.recipes.letters import letters_network, letters_recipe
from pydnn.recipes.recipe import Recipe, with_seed
from pydnn.recipes.toml import read_recipe, write_recipe
from pydnn.recipes.tutorial import tutorial_network, tutorial_recipe

__all__ = [
    "Recipe",
    "cats_network",
    "cats_recipe",
    "letters_network",
    "letters_recipe",
    "read_recipe",
    "recipe_for",
    "tutorial_network",
    "tutorial_recipe",
    "with_seed",
    "write_recipe",
]
