"""A recipe as a TOML file, and back."""

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
from pydnn.recipes.recipe import DESCRIBED, Recipe

__all__ = [
    "RECIPE_FORMAT",
    "RECORDED",
    "RECORDED_FORMAT",
    "own_builders_of",
    "read_recipe",
    "read_toml",
    "toml_of",
    "write_recipe",
]


RECIPE_FORMAT = 1  # a text that does not state its format has this one


def write_recipe(recipe: Recipe) -> str:
    """The recipe as the text of a TOML file; what has its default is left out."""
    lines = [f"format = {RECIPE_FORMAT}\n"]
    for field in attrs.fields(Recipe):
        value = getattr(recipe, field.name)
        if value == field.default and type(value) is type(field.default):
            continue
        if field.name in DESCRIBED:
            value = write_description(value)
        elif field.name == "penalties":
            value = [write_description(penalty) for penalty in value]
        lines.append(f"{field.name} = {toml_of(value)}\n")
    return "".join(lines)


def toml_of(value: object) -> str:
    """A number, text, truth value, or a list or mapping of these, as TOML writes it."""
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
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return f"{value:.1f}"
    return repr(value)


def _quoted(text: str) -> str:
    # JSON's escapes are TOML's, too, but for the delete character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


RECORDED = "recorded"  # the table in which a run's recipe says what it met, of no use to others
RECORDED_FORMAT = 2  # 1, of pydnn 0.1.0, is not written down


def read_recipe(
    text: str, *, allow: Iterable[str] = (), needed: Iterable[str] | None = None
) -> Recipe:
    """The recipe of the text of a TOML file.

    Args:
        text: The text.
        allow: Names of the modules outside pydnn that may be imported where the text names their
            builders, with all modules below them, e.g. ["my_package"].
        needed: Keys whose parts will be built; by default all. What cannot be read of another
            key's part is kept as it stands, see `Unread`.

    Raises:
        NotAllowed: If a part that is needed names a module that is not allowed.
        BadInput: If it is not TOML, or of a newer format; a key is unknown, with the nearest known
            one, or missing; or a value does not fit.
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
    """What the recipe of a run of pydnn 0.1.0 meant, where the same words now mean another job.

    There `tutorial()` drew from seed 1, whatever the seed of the training.
    """
    if recipe.seed == 1 or recipe.weights != {"tutorial": {}}:
        return recipe
    return attrs.evolve(recipe, weights={"tutorial": {"seed": 1}})


def read_toml(text: str) -> dict[str, object]:
    """The plain data of a recipe's text; nothing of it is checked or imported.

    Raises:
        BadInput: If it is not TOML.
    """
    _expect_small(text)
    try:
        plain = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        endless = not isinstance(error, tomllib.TOMLDecodeError | RecursionError)
        reason = "it has a number that is too long" if endless else str(error)
        if isinstance(error, RecursionError):
            reason = "it is nested too deeply"
        raise BadInput(f"the recipe is no TOML ({reason}): correct it.") from error
    for name, value in plain.items():
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise BadInput(f"{name} is {shown(value)}, expected a shorter one: correct the recipe.")
    return plain


_MOST_LETTERS = 2 * MOST_LETTERS  # of a recipe; that of a run has tables beside
_MOST_DOTS = 16  # in a key: Python's reader keeps every prefix of one
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*"?|\'[^\'\n]*\'?')
_BETWEEN_KEYS = re.compile(r"[=,\[\]{}()\n]")


def _expect_small(text: str) -> None:
    """Refuse what would take a reader of TOML more than a moment.

    Raises:
        BadInput: If there are too many characters, or too many dots in a key.
    """
    if len(text) > _MOST_LETTERS:
        raise BadInput(
            f"the recipe has {len(text):,} characters, expected at most {_MOST_LETTERS:,}: "
            "shorten it."
        )
    keys = _BETWEEN_KEYS.split(_QUOTED.sub("", text))
    if max(key.count(".") for key in keys) > _MOST_DOTS:
        raise BadInput(f"the recipe has a key of more than {_MOST_DOTS} dots: correct it.")


def own_builders_of(plain: Mapping[str, object]) -> list[str]:
    """The names `module:function` in the parts of a recipe's plain data, each once."""
    texts = [plain.get(name) for name in DESCRIBED]
    penalties = plain.get("penalties")
    texts += penalties if isinstance(penalties, list) else [penalties]
    names = (own_builders(text) for text in texts if isinstance(text, str))
    return list(dict.fromkeys(itertools.chain.from_iterable(names)))


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
        raise BadInput(f"the recipe lacks {', '.join(missing)}: add what is missing.")

    def described(name: str, text: object, family: str) -> Description | Unread:
        if not isinstance(text, str):
            raise BadInput(
                f"{name} is {shown(text)}, expected a text: write a call in quotes, "
                'e.g. "adam(learning_rate=0.01)".'
            )
        try:
            return read_description(text, family=family, allow=allow)
        except BadInput as error:
            reason = type(error)(f"{name}: {error}")
            if needed is None or name in needed:
                raise reason from error
            return Unread(text, reason)

    values: dict[str, Any] = dict(plain)  # of the types of the fields, which the recipe checks
    for name, family in DESCRIBED.items():
        if name in values:
            values[name] = described(name, values[name], family)
    if isinstance(values.get("penalties"), list):
        values["penalties"] = [
            described("penalties", item, "penalty") for item in values["penalties"]
        ]
    return Recipe(**values)
