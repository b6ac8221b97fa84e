"""Descriptions as text, for recipes and command lines: `adam(learning_rate=0.01)`.

The text looks like the Python call that makes the part, but it is only read and never run. It can
hold names of builders, numbers, texts, True, False, None and lists of these. TOML's true and false
are accepted, too.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Iterable, Mapping

import attrs

from pydnn.checks import MOST_BITS, BadInput, shown
from pydnn.descriptions.builders import (
    Unread,
    find_builder,
    import_own,
    modules,
)
from pydnn.descriptions.parts import Description, written
from pydnn.descriptions.renames import current_name, current_option, current_value

__all__ = [
    "DEEPEST",
    "MOST_LETTERS",
    "MOST_VALUES",
    "OWN_BUILDER",
    "own_builders",
    "read_description",
    "read_values",
    "write_description",
]

OWN_BUILDER = re.compile(r"(?<![\w\"'.])([A-Za-z_][\w.]*:[A-Za-z_][\w.]*)")
# Limits for one text, which may be a stranger's: reading it takes at most a second and 300 MB.
MOST_LETTERS = 1 << 17
MOST_VALUES = 10_000  # numbers, texts, lists and parts together
DEEPEST = 64  # levels of parts and lists inside one another


def read_description(
    text: str, *, family: str | None = None, allow: Iterable[str] = ()
) -> Description:
    """Return the description that a text such as "dense(20)" or "relu" stands for.

    Args:
        text: One call of a builder. A builder outside pydnn is written module:function(…).
        family: The family that the part must have, e.g. "loss"; None allows any.
        allow: The names of modules outside pydnn that may be imported, each with all below it.

    Raises:
        NotAllowed: If the text names a module that is not allowed.
        BadInput: If the text is not a call of a builder, or a builder or option is unknown.

    Example:
        >>> read_description("serial(dense(20), relu)")
        {'serial': {'stages': [{'dense': {'units': 20}}, {'relu': {}}]}}
    """
    tree = _parsed(text.strip(), text, _EXAMPLE)
    read = _Reader(text, allow).call(tree, family)
    if read is None:
        raise BadInput(f"{_short(text)} is not a call of a builder: {_EXAMPLE}.")
    return read


def read_values(text: str, *, allow: Iterable[str] = ()) -> list[object]:
    """Return the values in a text such as "0.1, 0.3" or "relu, tanh".

    Raises:
        NotAllowed: If the text names a module that is not allowed, see `read_description`.
        BadInput: If the text has no value, or one that a description cannot hold.
    """
    values = _Reader(text, allow).value(_parsed(f"[{text}\n]", text, _VALUES))
    if not isinstance(values, list) or not values:
        raise BadInput(f"{_short(text)} lists no values: {_VALUES}.")
    return values


def own_builders(text: str) -> list[str]:
    """Return the names `module:function` of the builders outside pydnn in `text`, each once.

    It imports nothing. The command line allows the modules that a user types as an option.
    """
    try:
        nodes = list(ast.walk(_parsed(f"[{text}\n]", text, _EXAMPLE)))
    except BadInput:
        return []  # `read_description` reads the text in the same way and will say what is wrong
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    names: dict[str, None] = {}
    for node in nodes:
        match node:
            case ast.Constant(value=str(name)) if ":" in name and (
                id(node) in called or OWN_BUILDER.fullmatch(name)
            ):
                names[name] = None
    return list(names)


_VALUES = "give values with commas between, e.g. 0.1,0.3"
_EXAMPLE = "write it like a call, e.g. adam(learning_rate=0.01)"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else line[:57] + "…")


def _parsed(source: str, text: str, hint: str) -> ast.expr:
    """Return the syntax tree of `source`, which was made from `text`; messages quote `text`."""
    if len(text) > MOST_LETTERS:
        raise BadInput(
            f"a description has {len(text):,} characters, expected at most {MOST_LETTERS:,}: "
            "shorten it."
        )
    try:
        # Python's names have no colon, but a text in quotes can stand where a function's name does.
        source = OWN_BUILDER.sub(r'"\1"', source)
        with warnings.catch_warnings():  # Python warns e.g. about unknown escapes in the text
            warnings.simplefilter("ignore")
            return ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        if isinstance(error, RecursionError | MemoryError):
            reason = "it is nested too deeply"
        if "int_max_str_digits" in reason:
            reason = "it has a number that is too long"
        raise BadInput(f"{_short(text)} cannot be read ({reason}): {hint}.") from error


@attrs.define
class _Reader:
    """Reads one text, counts its values, and refuses a text beyond the limits.

    Attributes:
        text: The text, which messages quote.
        allow: The modules outside pydnn that the text may name.
        depth: The number of parts and lists around the value that is being read.
        values: The number of values read so far.
    """

    text: str
    allow: Iterable[str] = attrs.field(converter=modules)
    depth: int = 0
    values: int = 0

    def call(self, node: ast.expr, family: str | None) -> Description | None:
        """Return the description that a call stands for; None if the node is not a call."""
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Constant(value=str(name))):
                args, keywords = node.args, node.keywords
            case ast.Name(id=name):
                args, keywords = [], []
            case ast.Constant(value=str(name)) if OWN_BUILDER.fullmatch(name):
                args, keywords = [], []
            case _:
                return None
        if ":" in name:
            import_own(name, self.allow)
        name = current_name(name)
        builder = find_builder(name, family)
        options: dict[str, object] = {}
        values = [self.value(arg) for arg in args]
        for keyword in keywords:
            if keyword.arg is None:
                raise BadInput(f"{_short(self.text)} has ** in it: {_EXAMPLE}.")
            option = current_option(name, keyword.arg)
            if option in options:
                raise self._twice(option)
            options[option] = self.value(keyword.value)
        for parameter in builder.options.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                options[parameter.name], values = values, []
            elif values and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                if parameter.name in options:
                    raise self._twice(parameter.name)
                options[parameter.name] = values.pop(0)
        if values:
            known = ", ".join(builder.options) or "none"
            raise BadInput(
                f"{name} got {shown(values[0])} without a name: "
                f"name its options, which are {known}."
            )
        return {name: {o: current_value(name, o, value) for o, value in options.items()}}

    def _twice(self, option: str) -> BadInput:
        return BadInput(f"{_short(self.text)} gives {option} twice: give it once.")

    def value(self, node: ast.expr) -> object:
        """Return the number, text, list or part that a node stands for."""
        self.values += 1
        self.depth += 1
        if self.depth > DEEPEST or self.values > MOST_VALUES:
            limit = (
                f"{DEEPEST} parts inside one another"
                if self.depth > DEEPEST
                else f"{MOST_VALUES:,} values"
            )
            raise BadInput(f"{_short(self.text)} has more than {limit}: simplify it.")
        value = self._value(node)
        self.depth -= 1
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise BadInput(f"{_short(self.text)} has {shown(value)} in it: give a shorter one.")
        return value

    def _value(self, node: ast.expr) -> object:
        match node:
            case ast.Constant(value=value) if not _is_own(value) and isinstance(
                value, bool | int | float | str | None
            ):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
            case ast.Name(id="true" | "false" as word):  # as in TOML, the format of recipes
                return word == "true"
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self.value(item) for item in items]
        description = self.call(node, None)
        if description is None:
            raise BadInput(
                f"{_short(_source(node, self.text))} is not a value: "
                "give a number, a text in quotes, True, False, None, a list of these, or a part."
            )
        return description


def _source(node: ast.expr, text: str) -> str:
    """Return the text of a node, or all of `text` if Python cannot write the node."""
    try:
        return ast.unparse(node)
    except (ValueError, RecursionError):  # an integer is too long, or the node is nested too deeply
        return text


def _is_own(value: object) -> bool:
    return isinstance(value, str) and OWN_BUILDER.fullmatch(value) is not None


def write_description(description: Description | Unread) -> str:
    """Return the text from which `read_description` reads an equal description.

    A call too long for a line has a line for each argument. The text of an `Unread` part is
    returned unchanged.

    Raises:
        BadInput: If a text cannot hold a value, e.g. a number that is not finite.
    """
    if isinstance(description, Unread):
        return description.text
    return written(description, _plain, find_builder)


def _plain(value: object) -> str:
    if isinstance(value, Mapping) or (isinstance(value, float) and not math.isfinite(value)):
        raise BadInput(f"{shown(value)} cannot be written: give finite numbers, texts or parts.")
    return repr(value)
