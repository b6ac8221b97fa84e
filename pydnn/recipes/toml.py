"""Writes recipes as TOML, and reads them back."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Container, Iterable, Mapping
from typing import Any

import attrs

from pydnn.checks import (
    MOST_BITS,
    BadInput,
    expect_known,
    shown,
)
from pydnn.descriptions.builders import Unread, modules
from pydnn.descriptions.parts import Description
from pydnn.descriptions.text import MOST_LETTERS, own_builders, read_description, write_description
from pydnn.recipes.recipe import DESCRIBED, LISTED, Recipe

__all__ = [
    "RECIPE_FORMAT",
    "RECORDED",
    "RECORDED_FORMAT",
    "own_builders_of",
    "own_modules",
    "read_recipe",
    "read_toml",
    "toml_of",
    "write_recipe",
]


RECIPE_FORMAT = 1  # a text that does not state its format has this one


def write_recipe(recipe: Recipe) -> str:
    """The text of a TOML file for a recipe, without the values that are the default.

    Example:
        >>> recipe = nn.Recipe("digits", "dense(10)", "softmax_cross_entropy()", "adam()", 100)
        >>> print(write_recipe(recipe), end="")
        format = 1
        data = "digits"
        network = "dense(10)"
        loss = "softmax_cross_entropy()"
        optimizer = "adam()"
        iterations = 100
    """
    lines = [f"format = {RECIPE_FORMAT}\n"]
    for field in attrs.fields(Recipe):
        value = getattr(recipe, field.name)
        if value == field.default and type(value) is type(field.default):
            continue
        if field.name in DESCRIBED:
            value = write_description(value)
        elif field.name in LISTED:
            value = [write_description(part) for part in value]
        lines.append(f"{field.name} = {toml_of(value)}\n")
    return "".join(lines)


def toml_of(value: object) -> str:
    """The TOML text of a number, a text, True or False, or a list or mapping of these.

    Example:
        >>> toml_of([1.0, True, "a", float("inf")])
        '[1.0, true, "a", inf]'
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_of, value))}]"
    if isinstance(value, Mapping):
        items = (f"{_quoted(name)} = {toml_of(item)}" for name, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, str):
        quoted = _quoted(value)
        if "\n" not in value:
            return quoted
        return '"""\n' + quoted[1:-1].replace("\\n", "\n") + '"""'
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.1f}"
    return repr(value)


def _quoted(text: str) -> str:
    # TOML has the same escapes as JSON, but must escape the delete character too.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


RECORDED = "recorded"  # a run's table of provenance in its recipe, which `read_recipe` ignores
RECORDED_FORMAT = 3  # the table of pydnn 0.1.0 counts as format 1, but does not state it


def read_recipe(
    text: str, *, allow: Iterable[str] = (), needed: Iterable[str] | None = None
) -> Recipe:
    """Read a recipe from the text of a TOML file.

    Args:
        text: The text.
        allow: Names of modules outside pydnn that may be imported, with their submodules, if the
            text names builders in them, e.g. ["my_package"].
        needed: The keys whose parts will be built; by default all. A part of another key that
            cannot be read is kept as `Unread`.

    Raises:
        NotAllowed: If a needed part names a module that is not allowed.
        BadInput: If the text is not TOML or has a newer format; if a key is missing or unknown,
            with the nearest known one; or if a value is refused.

    Example:
        >>> recipe = nn.recipes.tutorial_recipe()
        >>> read_recipe(write_recipe(recipe)) == recipe
        True
    """
    plain = read_toml(text)
    _expect_format(plain.get("format", RECIPE_FORMAT))
    keys = {name: value for name, value in plain.items() if name not in ("format", RECORDED)}
    recipe = _recipe_of(keys, modules(allow), None if needed is None else set(needed))
    recorded = plain.get(RECORDED)
    if isinstance(recorded, dict) and "format" not in recorded:
        return _as_recorded_before_formats(recipe)
    return recipe


def _expect_format(form: object) -> None:
    if type(form) is not int or form < 1:
        raise BadInput(
            f"format is {shown(form)}, expected {RECIPE_FORMAT}: correct the recipe, or leave the "
            "key out."
        )
    if form > RECIPE_FORMAT:
        raise BadInput(
            f"the recipe has format {form}, expected at most {RECIPE_FORMAT}: a newer pydnn wrote "
            "it, so install that one."
        )


def _as_recorded_before_formats(recipe: Recipe) -> Recipe:
    """The recipe of a run of pydnn 0.1.0 in today's terms.

    In that version `tutorial()` always drew from seed 1; now it draws from the job's seed.
    """
    if recipe.seed == 1 or recipe.weights != {"tutorial": {}}:
        return recipe
    return attrs.evolve(recipe, weights={"tutorial": {"seed": 1}})


def read_toml(text: str) -> dict[str, object]:
    """Read TOML text as plain data, without checking or importing what it names.

    Raises:
        BadInput: If the text is not TOML, too long, or has an integer or a key that is too long.

    Example:
        >>> read_toml('iterations = 3')
        {'iterations': 3}
    """
    _expect_small(text)
    try:
        plain = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        endless = not isinstance(error, tomllib.TOMLDecodeError | RecursionError)
        reason = "it has a number that is too long" if endless else str(error)
        if isinstance(error, RecursionError):
            reason = "it is nested too deeply"
        raise BadInput(
            f"the recipe is not TOML ({reason}): correct it, or give data with --data."
        ) from error
    for name, value in plain.items():
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise BadInput(f"{name} is {shown(value)}, expected a shorter one: correct the recipe.")
    return plain


_MOST_LETTERS = 2 * MOST_LETTERS  # twice a description's, since a run's recipe has more tables
_MOST_DOTS = 16  # in a key, because Python's TOML reader keeps every prefix of a dotted key
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*"?|\'[^\'\n]*\'?')
_BETWEEN_KEYS = re.compile(r"[=,\[\]{}()\n]")


def _expect_small(text: str) -> None:
    """Refuse text that Python's TOML reader would take too long to read.

    Raises:
        BadInput: If there are too many characters, or too many dots in a key.
    """
    if len(text) > _MOST_LETTERS:
        raise BadInput(
            f"the recipe has {len(text):,} characters, expected at most {_MOST_LETTERS:,}: "
            "shorten it."
        )
    # Dots in quoted text do not count, so the text is removed first.
    keys = _BETWEEN_KEYS.split(_QUOTED.sub("", text))
    if max(key.count(".") for key in keys) > _MOST_DOTS:
        raise BadInput(f"the recipe has a key of more than {_MOST_DOTS} dots: correct it.")


def own_builders_of(plain: Mapping[str, object]) -> list[str]:
    """The distinct names `module:function` in the parts of a recipe's plain data.

    Example:
        >>> own_builders_of({"network": "serial([my_package:layer(3), relu()])"})
        ['my_package:layer']
    """
    texts = [plain.get(name) for name in DESCRIBED]
    for name in LISTED:
        parts = plain.get(name)
        texts += parts if isinstance(parts, list) else [parts]
    names = (own_builders(text) for text in texts if isinstance(text, str))
    return list(dict.fromkeys(itertools.chain.from_iterable(names)))


def own_modules(recipe: Recipe) -> list[str]:
    """The modules outside pydnn whose builders a recipe names."""
    names = own_builders_of(read_toml(write_recipe(recipe)))
    return [name.partition(":")[0] for name in names]


def _recipe_of(
    plain: Mapping[str, object], allow: tuple[str, ...], needed: Container[str] | None
) -> Recipe:
    fields = attrs.fields_dict(Recipe)
    for name in plain:
        expect_known("key of a recipe", name, fields)
    missing = [
        name for name, f in fields.items() if f.default is attrs.NOTHING and name not in plain
    ]
    if missing:
        raise BadInput(f"the recipe lacks {', '.join(missing)}: add them.")

    def described(name: str, text: object, family: str) -> Description | Unread:
        if not isinstance(text, str):
            raise BadInput(
                f"{name} is {shown(text)}, expected a text: write a builder call in quotes, "
                'e.g. "adam(learning_rate=0.01)".'
            )
        try:
            return read_description(text, family=family, allow=allow)
        except BadInput as error:
            reason = type(error)(f"{name}: {error}")
            if needed is None or name in needed:
                raise reason from error
            return Unread(text, reason)

    values: dict[str, Any] = dict(plain)  # `Recipe` checks the types
    for name, family in DESCRIBED.items():
        if name in values:
            values[name] = described(name, values[name], family)
    for name, family in LISTED.items():
        if isinstance(values.get(name), list):
            values[name] = [described(name, item, family) for item in values[name]]
    return Recipe(**values)
