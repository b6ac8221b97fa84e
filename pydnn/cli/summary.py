"""`pydnn summary`: what a recipe's network is made of, before it is trained."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import toolz

from pydnn.batches import batches_of
from pydnn.builders import build
from pydnn.cli.output import say, say_json, say_table
from pydnn.cli.recipe_options import add_recipe_options, recipe_of
from pydnn.data import load_data_set
from pydnn.keys import Key
from pydnn.packing import Tree, layout_of, pack
from pydnn.recipes import DTYPES, Recipe, undrawn
from pydnn.records import Batch
from pydnn.stages import Stage, map_stages
from pydnn.stages.base import Shape

__all__ = ["add_to"]


def add_to(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "summary",
        help="show a recipe's layers, shapes, parameters and memory",
        description="Show the layers of a recipe's network, their shapes and parameters, and the "
        "memory that a training step takes.",
        epilog="example: pydnn summary digits.toml",
    )
    add_recipe_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_run)


@attrs.frozen
class _Row:
    place: str
    stage: str
    arrays: str
    outputs: int
    parameters: int


def _run(args: argparse.Namespace) -> int:
    recipe = recipe_of(args)
    data = load_data_set(recipe.data, dtype=DTYPES[recipe.dtype]).train
    rows = _rows(recipe, len(data.X))
    memory = _memory(recipe, data, rows)
    if args.json:
        layers = [attrs.asdict(row) for row in rows]
        total = sum(row.parameters for row in rows)
        say_json({"layers": layers, "parameters": total, "bytes": memory})
        return 0
    _print_table(rows, len(data.X))
    say()
    for what, size in memory.items():
        say(f"{what:>34}  {_readable(size):>10}")
    return 0


def _rows(recipe: Recipe, features: int) -> list[_Row]:
    """One row for each stage that is no combinator, in the order of the network."""
    rows: list[_Row] = []

    def told(path: str, stage: Stage) -> Stage:
        def init(key: Key, shape: Shape) -> tuple[Tree, Shape]:
            params, shape_out = stage.init(key, shape)
            layout = layout_of(params)
            arrays = ", ".join(f"{slot.name} {slot.shape}" for slot in layout.slots)
            place = path.removesuffix("/")
            rows.append(_Row(place, stage.name, arrays, shape_out[0], layout.size))
            return params, shape_out

        return attrs.evolve(stage, init=init)

    network: Stage = build(undrawn(recipe.network), family="stage")
    map_stages(told, network).init(Key(0), (features,))
    return rows


def _memory(recipe: Recipe, data: Batch, rows: list[_Row]) -> dict[str, int]:
    """Bytes of what a training step holds."""
    item = np.dtype(recipe.dtype).itemsize
    network: Stage = build(undrawn(recipe.network), family="stage")
    params = pack(network.init(Key(0), (len(data.X),))[0], dtype=DTYPES[recipe.dtype])
    state = build(recipe.optimizer, family="optimizer").init(params)
    batching = build(recipe.batches, family="batches")
    m = toolz.first(batches_of(batching, data, Key(recipe.seed))).X.shape[1]
    return {
        "parameters": params.vector.nbytes,
        "gradients": params.vector.nbytes,
        "state of the optimiser": sum(_sizes(state)),
        f"activations, batch of {m}": sum(row.outputs for row in rows) * m * item,
        f"data, {data.X.shape[1]} examples": data.X.nbytes + data.Y.nbytes,
    }


def _sizes(state: Any) -> Iterator[int]:
    """Bytes of all arrays of an optimiser's state, however deep."""
    if isinstance(state, np.ndarray):
        yield state.nbytes
    elif isinstance(state, tuple):
        for part in state:
            yield from _sizes(part)
    elif attrs.has(type(state)):
        for field in attrs.fields(type(state)):
            yield from _sizes(getattr(state, field.name))


def _print_table(rows: list[_Row], features: int) -> None:
    table = [("place", "stage", "arrays", "outputs", "parameters")]
    table.append(("", "input", "", f"{features:,}", ""))
    table += [
        (r.place, r.stage, r.arrays, f"{r.outputs:,}", f"{r.parameters:,}" if r.arrays else "")
        for r in rows
    ]
    table.append(("", "", "", "", f"{sum(row.parameters for row in rows):,}"))
    say_table(table, align="<<<>>")


def _readable(size: int) -> str:
    value, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
