"""The written form of descriptions, for recipes and command lines: `adam(learning_rate=0.01)`.

It looks like the call in Python that makes the part, and is only read, never run: builders'
names, numbers, texts, True, False, None and lists of these are all there is. TOML's own true
and false will do, too.
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
from pydnn.descriptions.renames import current_name, current_option

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
# Limits of one text, which may be a stranger's: reading it takes a second and 300 MB at most.
MOST_LETTERS = 1 << 17
MOST_VALUES = 10_000  # numbers, texts, lists and parts together
DEEPEST = 64  # parts and lists inside one another


def read_description(
    text: str, *, family: str | None = None, allow: Iterable[str] = ()
) -> Description:
    """The description that `text` writes, e.g. "dense(20)"; a name alone takes no options.

    Args:
        text: One call of a builder; that of a builder outside pydnn is written module:function(…).
        family: What is wanted, e.g. "loss".
        allow: Names of the modules outside pydnn that may be imported, with all below them.

    Raises:
        NotAllowed: If it names a module that is not allowed.
        BadInput: If it is not such a call, or names no builder, or a builder lacks the option.
    """
    tree = _parsed(text.strip(), text, _EXAMPLE)
    read = _Reader(text, allow).call(tree, family)
    if read is None:
        raise BadInput(f"{_short(text)} is not a call of a builder: {_EXAMPLE}.")
    return read


def read_values(text: str, *, allow: Iterable[str] = ()) -> list[object]:
    """The values that `text` lists, with commas between, e.g. "0.1, 0.3" or "relu, tanh".

    Raises:
        NotAllowed: If it names a module that is not allowed, see `read_description`.
        BadInput: If there is no value, or one that no description can hold.
    """
    values = _Reader(text, allow).value(_parsed(f"[{text}\n]", text, _VALUES))
    if not isinstance(values, list) or not values:
        raise BadInput(f"{_short(text)} lists no values: {_VALUES}.")
    return values


def own_builders(text: str) -> list[str]:
    """The names `module:function` of which `text` would make parts, each once.

    Nothing is imported for it. What a user types as an option is allowed by typing it.
    """
    try:
        nodes = list(ast.walk(_parsed(f"[{text}\n]", text, _EXAMPLE)))
    except BadInput:
        return []  # as `read_description` will say, which reads it in the same way
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
    """The tree of `source`; it comes from `text`, which messages quote."""
    if len(text) > MOST_LETTERS:
        raise BadInput(
            f"a description has {len(text):,} characters, expected at most {MOST_LETTERS:,}: "
            "shorten it."
        )
    try:
        # Python has no name with a colon; in quotes it can stand where a function's name does.
        source = OWN_BUILDER.sub(r'"\1"', source)
        with warnings.catch_warnings():  # of Python about escapes and the like in the text
            warnings.simplefilter("ignore")
            return ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        if isinstance(error, RecursionError | MemoryError):
            reason = "it is nested too deeply"
        if "int_max_str_digits" in reason:
            reason = "it has an endless number"
        raise BadInput(f"{_short(text)} cannot be read ({reason}): {hint}.") from error


@attrs.define
class _Reader:
    """Reads one text: it is quoted in messages, and may name the modules in `allow`.

    Counts what it reads, and refuses what goes beyond the limits.
    """

    text: str
    allow: Iterable[str] = attrs.field(converter=modules)
    depth: int = 0
    values: int = 0

    def call(self, node: ast.expr, family: str | None) -> Description | None:
        """The description that a call writes; None if it is not a call."""
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
        given: dict[str, object] = {}
        values = [self.value(arg) for arg in args]
        for keyword in keywords:
            if keyword.arg is None:
                raise BadInput(f"{_short(self.text)} has ** in it: {_EXAMPLE}.")
            option = current_option(name, keyword.arg)
            if option in given:
                raise self._twice(option)
            given[option] = self.value(keyword.value)
        for parameter in builder.options.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                given[parameter.name], values = values, []
            elif values and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                if parameter.name in given:
                    raise self._twice(parameter.name)
                given[parameter.name] = values.pop(0)
        if values:
            options = ", ".join(builder.options) or "none"
            raise BadInput(
                f"{name} got {shown(values[0])} without a name: "
                f"name its options, which are {options}."
            )
        return {name: given}

    def _twice(self, option: str) -> BadInput:
        return BadInput(f"{_short(self.text)} gives {option} twice: give it once.")

    def value(self, node: ast.expr) -> object:
        """The number, text, list or part that a node writes."""
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
            case ast.Name(id="true" | "false" as word):  # as in TOML, of which recipes are made
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
    """The text of a node; all of `text` where Python cannot write the node again."""
    try:
        return ast.unparse(node)
    except (ValueError, RecursionError):  # it holds an endless integer, or is nested too deeply
        return text


def _is_own(value: object) -> bool:
    return isinstance(value, str) and OWN_BUILDER.fullmatch(value) is not None


def write_description(description: Description | Unread) -> str:
    """The text from which `read_description` reads the same description again.

    Combinators that do not fit on a line have a line for each part. Of a part that was not read
    it is the text as it was.
    """
    if isinstance(description, Unread):
        return description.text
    return written(description, _plain, find_builder)


def _plain(value: object) -> str:
    if isinstance(value, Mapping) or (isinstance(value, float) and not math.isfinite(value)):
        raise BadInput(f"{shown(value)} cannot be written: give finite numbers, texts or parts.")
    return repr(value)
