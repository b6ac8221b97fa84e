"""`pydnn summary`: the layers, shapes, parameters and memory of a recipe's network."""

from __future__ import annotations

import argparse

import attrs

from pydnn.checks import BadInput, Json, import_extra
from pydnn.cli.output import complain, say, say_json, say_table
from pydnn.cli.recipe_options import add_recipe_options, recipe_for_data, recipe_of
from pydnn.cli.run_options import Commands, unlike_recorded
from pydnn.free_memory import readable
from pydnn.jobs.job import columns_for, prepare
from pydnn.jobs.loading import data_of
from pydnn.jobs.memory import bytes_of, expect_room
from pydnn.recipes.layouts import Layer, layers_of
from pydnn.records import Batch
from pydnn.stages.base import Shape

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "summary",
        help="show a recipe's layers, shapes, parameters and memory",
        description="Show the layers of a recipe's network, their shapes and parameters, and the "
        "memory that a training step takes. Nothing is trained.",
    )
    add_recipe_options(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object instead")
    form.add_argument(
        "--generated",
        action="store_true",
        help="print instead the text that the compiled engine makes of the whole training step of "
        "a network of dense layers",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    recipe = recipe_of(args)
    whole = data_of(recipe)
    recipe, data = recipe_for_data(args, recipe, whole), whole.train
    if args.generated:
        import_extra("numba", extra="compiled", purpose="the compiled engine")
        from pydnn.compiled.steps import generated_text  # here, since it imports numba

        job = prepare(recipe, whole)
        for line in generated_text(job.train_step, job.state).splitlines():
            say(line)
        return 0
    columns = columns_for(recipe, data)
    if columns is not None and args.recipe and unlike_recorded(args.recipe, whole):
        complain(
            f"{recipe.data} is not the data that {args.recipe} was trained on: what its columns "
            "become is shown for the data as it is now"
        )
    shape = data.shape if columns is None else (len(columns.features),)
    layers, layout = layers_of(recipe, shape)
    m = data.count
    needed = bytes_of(recipe, layers, layout, shape=shape, examples=m)
    memory = needed
    if isinstance(data, Batch):
        memory |= {f"data, {m} examples": data.X.nbytes + data.Y.nbytes}
    if args.json:
        rows = [attrs.asdict(layer) | {"outputs": layer.outputs} for layer in layers]
        result: dict[str, Json] = {"layers": rows, "parameters": layout.size, "bytes": memory}
        if columns is not None:
            heading, *cells = columns.summary
            result["columns"] = [dict(zip(heading, row, strict=True)) for row in cells]
        say_json(result)
        return 0
    if columns is not None:
        say_table(columns.summary, align="<<><")
        say()
    _print_table(layers, shape)
    say()
    for what, size in memory.items():
        say(f"{what:>34}  {readable(size):>10}")
    try:
        expect_room(needed)
    except BadInput as error:
        complain(error)
    return 0


def _print_table(rows: list[Layer], shape: Shape) -> None:
    table = [("place", "stage", "arrays", "outputs", "parameters")]
    table.append(("", "input", "", _size(shape), ""))
    table += [
        (r.place, r.stage, r.arrays, _size(r.shape), f"{r.parameters:,}" if r.arrays else "")
        for r in rows
    ]
    table.append(("", "", "", "", f"{sum(row.parameters for row in rows):,}"))
    say_table(table, align="<<<>>")


def _size(shape: Shape) -> str:
    """The shape of an example in a table: of columns the number of features."""
    return f"{shape[0]:,}" if len(shape) == 1 else str(shape)
