"""`pydnn parts`: list the parts that recipes and options can name, with their options."""

from __future__ import annotations

import argparse
import inspect
from itertools import groupby

from pydnn.checks import Json, expect_known
from pydnn.cli.output import say, say_json, say_table
from pydnn.cli.run_options import Commands, complete_with, option_group
from pydnn.descriptions.builders import builders_of, describe, import_own
from pydnn.descriptions.parts import Builder
from pydnn.descriptions.text import write_description

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "parts",
        help="list the stages, losses, optimizers and other parts that a recipe can name",
        description="List the parts that a recipe or an option can name, with their options and "
        "defaults: all of them, those of one family, or one part with its full description.",
    )
    which = option_group(parser, "which parts", "adam")
    name = which.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="a part, e.g. adam, or my_module:my_part; or a family, e.g. optimizer (default: all)",
    )
    complete_with(name, _names)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    chosen = _chosen(args.name)
    if args.json:
        say_json({"parts": [_as_json(builder) for builder in chosen]})
    elif len(chosen) == 1 and args.name == chosen[0].name:
        [builder] = chosen
        say(f"{_call(builder)}, a part of family {builder.family}", "")
        say(*inspect.cleandoc(builder.function.__doc__ or "").splitlines())
    else:
        for number, (family, builders) in enumerate(groupby(chosen, lambda b: b.family)):
            say(*([""] if number else []), family)
            say_table(
                [("", _call(builder), _first_line(builder)) for builder in builders], align="<<<"
            )
    return 0


def _names() -> set[str]:
    """The names of all families, and of all parts that come with pydnn."""
    own = [builder for builder in builders_of() if ":" not in builder.name]
    return {builder.name for builder in own} | {builder.family for builder in own}


def _chosen(name: str | None) -> list[Builder]:
    if name is not None and ":" in name:
        import_own(name, allow=[name.partition(":")[0]])  # whoever types a name allows it
    known = builders_of()
    if name is None:
        return [builder for builder in known if ":" not in builder.name]
    families = {builder.family for builder in known}
    expect_known("part", name, {builder.name for builder in known} | families)
    # A part may have the name of a family, such as "weights"; then the name means the part.
    named = [builder for builder in known if builder.name == name]
    return named or [b for b in builders_of(name) if ":" not in b.name]


def _call(builder: Builder) -> str:
    options = []
    for name, option in builder.options.items():
        if option.kind is option.VAR_POSITIONAL:
            options.append(f"*{name}")
        else:
            default = "" if option.default is option.empty else f"={_written(option.default)}"
            options.append(f"{name}{default}")
    return f"{builder.name}({', '.join(options)})"


def _written(value: object) -> str:
    return write_description(describe(value)) if hasattr(value, "description") else repr(value)


def _first_line(builder: Builder) -> str:
    return (builder.function.__doc__ or "").strip().partition("\n")[0]


def _as_json(builder: Builder) -> dict[str, Json]:
    options: list[dict[str, Json]] = []
    for name, option in builder.options.items():
        options.append({"name": name, "several": option.kind is option.VAR_POSITIONAL})
        if option.default is not option.empty:
            described = hasattr(option.default, "description")
            options[-1]["default"] = describe(option.default) if described else option.default
    about = inspect.cleandoc(builder.function.__doc__ or "")
    return {"name": builder.name, "family": builder.family, "options": options, "about": about}
