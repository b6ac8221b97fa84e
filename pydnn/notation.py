"""The written form of descriptions, for recipes and command lines: `adam(learning_rate=0.01)`.

It looks like the call in Python that makes the part, and is only read, never run: builders'
names, numbers, texts, True, False, None and lists of these are all there is. TOML's own true
and false will do, too.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Mapping
from typing import Any

from pydnn.builders import Description, find_builder, is_description
from pydnn.checks import BadInput

__all__ = ["OWN_BUILDER", "read_description", "read_values", "write_description"]

OWN_BUILDER = re.compile(r"(?<![\w\"'.])([A-Za-z_][\w.]*:[A-Za-z_][\w.]*)")
_LONGEST = 1 << 20
_WIDTH = 88


def read_description(text: str, *, family: str | None = None) -> Description:
    """The description that `text` writes, e.g. "dense(20)"; a name alone takes no options.

    Args:
        text: One call of a builder; those of a user's own are written module:function(…).
        family: What is wanted, e.g. "loss".

    Raises:
        BadInput: If it is no such call, or names no builder, or a builder lacks the option.
    """
    if len(text) > _LONGEST:
        raise BadInput(f"a description has {len(text)} letters, expected fewer: shorten it.")
    try:
        # A name with a colon is no Python; in quotes it can stand where a function's name does.
        tree = ast.parse(OWN_BUILDER.sub(r'"\1"', text.strip()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise BadInput(f"{_short(text)} cannot be read ({reason}): {_EXAMPLE}.") from error
    read = _call(tree, text, family)
    if read is None:
        raise BadInput(f"{_short(text)} is no call of a builder: {_EXAMPLE}.")
    return read


def read_values(text: str) -> list[Any]:
    """The values that `text` lists, with commas between, e.g. "0.1, 0.3" or "relu, tanh".

    Raises:
        BadInput: If there is none, or one is none that a description may hold.
    """
    try:
        tree = ast.parse(OWN_BUILDER.sub(r'"\1"', f"[{text}]"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise BadInput(f"{_short(text)} cannot be read ({reason}): {_VALUES}.") from error
    values = _value(tree, text)
    if not isinstance(values, list) or not values:
        raise BadInput(f"{_short(text)} lists no values: {_VALUES}.")
    return values


_VALUES = "give values with commas between, e.g. 0.1,0.3"
_EXAMPLE = "write it like a call, e.g. adam(learning_rate=0.01)"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else line[:57] + "…")


def _call(node: ast.expr, text: str, family: str | None) -> Description | None:
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Constant(value=str(name))):
            args, keywords = node.args, node.keywords
        case ast.Name(id=name):
            args, keywords = [], []
        case ast.Constant(value=str(name)) if OWN_BUILDER.fullmatch(name):
            args, keywords = [], []
        case _:
            return None
    signature = inspect.signature(find_builder(name, family))
    given: dict[str, Any] = {}
    values = [_value(arg, text) for arg in args]
    for keyword in keywords:
        if keyword.arg is None:
            raise BadInput(f"{_short(text)} has ** in it: {_EXAMPLE}.")
        given[keyword.arg] = _value(keyword.value, text)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            given[parameter.name], values = values, []
        elif values and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            given[parameter.name] = values.pop(0)
    if values:
        options = ", ".join(signature.parameters) or "none"
        raise BadInput(
            f"{name} got {values[0]!r} without a name: name its options, which are {options}."
        )
    return {name: given}


def _value(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Constant(value=value) if not _is_own(value) and isinstance(
            value, bool | int | float | str | None
        ):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Name(id="true" | "false" as word):  # as TOML has it, in which recipes are
            return word == "true"
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item, text) for item in items]
    description = _call(node, text, None)
    if description is None:
        raise BadInput(
            f"{_short(ast.unparse(node))} is no value: "
            "give a number, a text in quotes, True, False, None, a list of these, or a part."
        )
    return description


def _is_own(value: Any) -> bool:
    return isinstance(value, str) and OWN_BUILDER.fullmatch(value) is not None


def write_description(description: Description) -> str:
    """The text from which `read_description` reads the same description again.

    Combinators that do not fit on a line have a line for each part.
    """
    return _written(description, "")


def _written(value: Any, indent: str) -> str:
    if not is_description(value):
        return _plain(value, indent)
    [(name, options)] = value.items()
    signature = inspect.signature(find_builder(name))
    arguments: list[tuple[str, Any]] = []
    positional = True
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            arguments += [("", item) for item in options.get(parameter.name, ())]
        elif parameter.name not in options:
            positional = False
        else:
            bare = positional and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            label = "" if bare else f"{parameter.name}="
            arguments.append((label, options[parameter.name]))
    line = f"{name}({', '.join(label + _written(v, indent) for label, v in arguments)})"
    if len(indent) + len(line) <= _WIDTH and "\n" not in line:
        return line
    deeper = indent + "    "
    rows = [f"{deeper}{label}{_written(v, deeper)},\n" for label, v in arguments]
    return f"{name}(\n{''.join(rows)}{indent})"


def _plain(value: Any, indent: str) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(item, indent) for item in value)}]"
    if isinstance(value, Mapping) or (isinstance(value, float) and not math.isfinite(value)):
        raise BadInput(f"{value!r} cannot be written: give finite numbers, texts or parts.")
    return repr(value)
