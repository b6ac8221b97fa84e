"""Weights of other libraries for a network of pydnn: from files, mappings and fitted estimators."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike

from pydnn.checks import (
    AnyPath,
    BadInput,
    expect_count,
    expect_finite,
    expect_known,
    expect_shape,
    path_of,
    shown,
)
from pydnn.descriptions.builders import build, describe
from pydnn.interop.keras import WEIGHTS, open_keras_archive, open_keras_hdf5
from pydnn.interop.npz import open_npz, opened_zip
from pydnn.interop.recurrent_weights import with_our_gates
from pydnn.interop.safetensors import is_safetensors, open_safetensors, safetensors_bytes
from pydnn.interop.stored import Source, Stored
from pydnn.keys import Key
from pydnn.parameters import NO_PARAMS, Layout, Packed, layout_of, pack
from pydnn.recipes.layouts import without_weights
from pydnn.recipes.recipe import DTYPES
from pydnn.records import FloatArray, as_array, freeze
from pydnn.stages.base import Shape, Stage
from pydnn.storage.files import open_regular, write_atomically
from pydnn.storage.run_files import MODEL_FILE
from pydnn.tables import text_table
from pydnn.training import output_of

__all__ = ["KINDS", "Weights", "load_weights"]


@attrs.frozen(eq=False)
class Weights:
    """The parameters and statistics of a network, and where they come from.

    With them `nn.output_of(network, weights, X)` computes the network's output, and
    `attrs.evolve(state, parameters=weights.parameters, statistics=weights.statistics)` trains on.

    Attributes:
        parameters: The parameters.
        statistics: What stages such as batch normalization have gathered.
        table: For each array its name in the source, its shape there, its name in the network, and
            its shape here.
        features: The names of the features that the weights are for; empty if the source, like
            all but a model of a table, does not name them.
    """

    parameters: Packed
    statistics: Packed
    table: tuple[tuple[str, str, str, str], ...]
    features: tuple[str, ...] = ()

    @property
    def arrays(self) -> dict[str, FloatArray]:
        """All arrays by name, those of the statistics with "statistics/" in front."""
        return {
            prefix + slot.name: packed[slot.name]
            for prefix, packed in (("", self.parameters), ("statistics/", self.statistics))
            for slot in packed.layout.slots
        }

    def __str__(self) -> str:
        """The table as text."""
        return text_table(["source", "shape", "parameter", "shape"], self.table)

    def save(self, path: AnyPath) -> None:
        """Write the arrays to a new safetensors file, which `start_from` of a recipe takes.

        Raises:
            BadInput: If the file exists or cannot be written, or its name does not end in
                .safetensors.
        """
        path = path_of(path)
        if path.suffix.lower() != ".safetensors":
            raise BadInput(f"{path} is to be a file of weights, expected a .safetensors name.")
        content = safetensors_bytes(self.arrays, about="")
        write_atomically(path, lambda temporary: temporary.write_bytes(content))


@attrs.frozen
class Kind:
    """How a library lays out its arrays: the order of axes that gives those of pydnn, by rank."""

    axes: Mapping[int, tuple[int, ...]]

    def shape(self, shape: Shape) -> Shape:
        """The shape of an array of this library here."""
        axes = self.axes.get(len(shape))
        return shape if axes is None else tuple(shape[axis] for axis in axes)


# pydnn has W (n_out, n_in), and of a convolution W (height, width, channels in, channels out), or
# (size, channels in, channels out) for sequences.
KINDS: Mapping[str, Kind] = {
    "pytorch": Kind({3: (2, 1, 0), 4: (2, 3, 1, 0)}),
    "keras": Kind({2: (1, 0)}),  # as flax and scikit-learn have it, too
}


def load_weights(
    network: Stage,
    source: object,
    *,
    shape_in: Shape | None = None,
    kind: str | None = None,
    dtype: str | None = None,
    new_layers: int = 0,
    key: Key = Key(1),  # noqa: B008 - it is a value
    check: tuple[ArrayLike, ArrayLike] | None = None,
    allow: Iterable[str] = (),
    on_table: Callable[[str], object] | None = print,
) -> Weights:
    """The weights of another library's model, or of one of pydnn's, for a network.

    Layers and their arrays are matched by order and shape; nothing is skipped. PyTorch's weights
    (n_out, n_in) are taken as they are, and the kernels (n_in, n_out) of Keras, flax and
    scikit-learn transposed. The gates of PyTorch's RNN, GRU and LSTM are put in the order of `rnn`,
    `gru` and `lstm`, and their two biases are added.

    Args:
        network: The network. It must have the layers of the other model, each with a bias.
        source: A file (`.safetensors`, `.npz`, `.weights.h5`, `.keras` or `.h5` of Keras, a model
            or a run of pydnn); a mapping from names to arrays, such as the `state_dict` of PyTorch
            or the parameters of flax; a fitted MLP of scikit-learn; or a `Model`.
        shape_in: The shape of one example; by default, what the first arrays ask for.
        kind: "pytorch" or "keras", how the arrays are laid out, if their names do not say it.
        dtype: "float64" or "float32"; by default, float64 if an array has it.
        new_layers: The number of layers with parameters at the end of the network that get drawn
            weights instead of those of as many layers at the end of the source, for fine-tuning
            on another task.
        key: The randomness of these weights.
        check: Examples X (n_x, m), and what the other model gives for them (n_y, m), before any
            softmax or sigmoid of the loss: the network must give the same.
        allow: Names of the modules outside pydnn that a model of pydnn may name, see `load_model`.
        on_table: Called with a table of where each array goes; None for no table.

    Raises:
        BadInput: If the source is missing, damaged or a pickle; if an array is left over, missing,
            of another shape, not finite or not of floats, naming it; if names and shapes fit in two
            ways; or if the network gives something else for the examples of `check`.

    Example:
        >>> state_dict = {"0.weight": np.ones((2, 3)), "0.bias": np.zeros(2)}
        >>> weights = load_weights(nn.serial(nn.dense(2)), state_dict)
        source    shape   parameter  shape
        0.weight  (2, 3)  0/W        (2, 3)
        0.bias    (2,)    0/b        (2, 1)
        >>> print(nn.output_of(nn.serial(nn.dense(2)), weights, np.ones((3, 1))))
        [[3.]
         [3.]]
        >>> three = nn.serial(nn.dense(2), nn.dense(3))
        >>> more = {**state_dict, "1.weight": np.ones((7, 2)), "1.bias": np.zeros(7)}
        >>> start = load_weights(three, more, new_layers=1, on_table=None)
        >>> start.parameters["0/W"].tolist(), start.parameters["1/W"].shape
        ([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], (3, 2))
    """
    if not isinstance(network, Stage):
        raise BadInput(f"network is {shown(network)}, expected a stage: give e.g. nn.serial(...).")
    if kind is not None:
        expect_known("kind of weights", kind, KINDS)
    if dtype is not None:
        expect_known("dtype", dtype, DTYPES)
    hint = "give the number of layers at the end of the network to draw"
    new = expect_count("new_layers", new_layers, least=0, hint=hint)
    with _opened(source, allow) as opened:
        arrays = with_our_gates(opened)
        arrays = _without_last(arrays, new) if new else arrays
        shape, layouts, pairs = _fitting(network, arrays, shape_in, kind, new)
        weights = attrs.evolve(_filled(layouts, pairs, dtype), features=arrays.features)
    if new:
        weights = _with_drawn(weights, network, key, shape, new)
    if check is not None:
        _expect_outputs(network, weights, *check)
    if on_table is not None:
        on_table(str(weights))
    return weights


# Where weights come from


@contextlib.contextmanager
def _opened(source: Any, allow: Iterable[str]) -> Iterator[Source]:
    """The arrays of anything that `load_weights` takes."""
    if isinstance(source, str | os.PathLike):
        with _opened_file(path_of(source), allow) as stored:
            yield stored
    elif isinstance(getattr(source, "parameters", None), Packed):
        yield _own(source)
    elif isinstance(source, Mapping):
        yield Source(list(_of_mapping(source, "")), ordered=not _is_nested(source))
    elif hasattr(source, "coefs_") and hasattr(source, "intercepts_"):
        rows = zip(source.coefs_, source.intercepts_, strict=True)
        yield Source(
            [
                _in_memory(f"{name}[{number}]", array)
                for number, row in enumerate(rows)
                for name, array in zip(("coefs_", "intercepts_"), row, strict=True)
            ],
            True,
            "keras",
        )
    else:
        raise BadInput(
            f"source is {shown(source)}, expected a file, a mapping from names to arrays, a fitted "
            "MLP of scikit-learn, or a model: give e.g. network.state_dict()."
        )


def _own(source: Any) -> Source:
    """Parameters and statistics of pydnn's, as `Model.export` names them."""
    arrays = [
        _in_memory(prefix + slot.name, packed[slot.name])
        for prefix, packed in (("", source.parameters), ("statistics/", source.statistics))
        for slot in packed.layout.slots
    ]
    columns = getattr(source, "columns", None)
    return Source(arrays, ordered=True, features=columns.features if columns else ())


def _is_nested(source: Mapping[object, object]) -> bool:
    return any(isinstance(value, Mapping) for value in source.values())


def _of_mapping(source: Mapping[object, object], prefix: str) -> Iterator[Stored]:
    for name, value in source.items():
        if isinstance(value, Mapping):
            yield from _of_mapping(value, f"{prefix}{name}/")
        else:
            yield _in_memory(f"{prefix}{name}", value)


def _in_memory(name: str, value: Any) -> Stored:
    if hasattr(value, "detach"):  # a tensor of PyTorch; NumPy has no floats of its bfloat16
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
        value = value.numpy()
    array = as_array(value)
    return Stored(name, array.shape, lambda: array)


@contextlib.contextmanager
def _opened_file(path: Path, allow: Iterable[str]) -> Iterator[Source]:
    """The arrays of a file, whose kind is recognized from its contents."""
    if path.is_dir():
        path = path / MODEL_FILE
    with open_regular(path, what="a file of weights") as file:
        head = file.read(16)
    if head.startswith(b"PK"):
        with _opened_archive(path) as stored:
            yield stored
    elif head.startswith(b"\x89HDF\r\n\x1a\n"):
        with open_keras_hdf5(path) as stored:
            yield stored
    elif is_safetensors(head):  # the length that it begins with may look like a pickle
        with open_safetensors(path) as arrays:
            yield Source(arrays, ordered=False)
    elif head[:1] == b"\x80":
        raise _pickled(path)
    else:
        from pydnn.jobs.model import load_model  # models know all of pydnn

        yield _own(load_model(path, allow=allow))


@contextlib.contextmanager
def _opened_archive(path: Path) -> Iterator[Source]:
    with opened_zip(path, what="a file of weights") as archive:
        names = archive.namelist()
    if any(name.endswith(".pkl") for name in names):
        raise _pickled(path)
    if WEIGHTS in names:
        with open_keras_archive(path) as stored:
            yield stored
    else:
        with open_npz(path) as arrays:
            yield Source(arrays, ordered=True)


def _pickled(path: Path) -> BadInput:
    return BadInput(
        f"{path} is a Python pickle, which can run any code when it is read: where you trust it, "
        'write it again, for PyTorch with safetensors.torch.save_file(state_dict, "m.safetensors").'
    )


# Layers


@attrs.frozen
class _Target:
    """One array of the network: its name in the table, and its place."""

    name: str
    shape: Shape
    start: int
    statistics: bool


@attrs.frozen(eq=False)
class _Layer:
    """The arrays of one layer of the source, in the order that pydnn has them in."""

    name: str
    arrays: tuple[Stored, ...]

    def __str__(self) -> str:
        return ", ".join(f"{array.name} {array.shape}" for array in self.arrays)


_Pair = tuple[Stored, _Target, Kind]
_Layouts = tuple[Layout, Layout]  # of parameters and statistics

# What libraries call the arrays of a layer, in the order in which pydnn has them.
_ROLES = tuple(
    set(names.split())
    for names in (
        "weight kernel w gamma scale coefs_ embedding embeddings",
        "bias b beta intercepts_",
        "running_mean moving_mean mean",
        "running_var moving_variance variance var",
    )
)
_STATISTICS = "statistics/"
_COUNTERS = {"num_batches_tracked"}  # which pydnn does without
_PARENTS = ("params/", "batch_stats/")  # of flax
_NUMBERED = re.compile(r"([A-Za-z_]*?)_?\[?(\d+)\]?")


def _parts(name: str) -> tuple[str, str]:
    """The layer of an array, and what it is there: of "0.weight", "W1" and "coefs_[1]"."""
    for parent in _PARENTS:
        name = name.removeprefix(parent)
    at = max(name.rfind("."), name.rfind("/"))
    if at >= 0:
        return name[:at], name[at + 1 :]
    numbered = _NUMBERED.fullmatch(name)
    return (numbered[2], numbered[1]) if numbered else ("", name)


def _role(leaf: str) -> float:
    return next((i for i, names in enumerate(_ROLES) if leaf.lower() in names), math.inf)


def _natural(name: str) -> list[tuple[int, str]]:
    """A key for sorting that puts "layer10" after "layer9"."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", name)]


def _layers_of(source: Source) -> tuple[list[_Layer], bool]:
    """The layers of a source, and whether their order is known."""
    groups: dict[str, list[Stored]] = {}
    for array in source.arrays:
        layer, leaf = _parts(array.name)
        if leaf not in _COUNTERS:
            groups.setdefault(array.layer or layer, []).append(array)
    ordered = source.ordered
    if not ordered:
        groups = dict(sorted(groups.items(), key=lambda item: _natural(item[0])))
        ordered = all(re.split(r"[./]", layer)[-1].isdigit() for layer in groups)
    layers = [_Layer(name, _in_roles(arrays)) for name, arrays in groups.items()]
    if all(len(layer.arrays) == 1 for layer in layers):  # named one by one, as arr_0, arr_1, …
        layers = [_Layer("", tuple(array for layer in layers for array in layer.arrays))]
    return layers, ordered


def _in_roles(arrays: Sequence[Stored]) -> tuple[Stored, ...]:
    """The arrays of a layer in the order of pydnn's, where all of them have known names."""
    roles = [_role(_parts(array.name)[1]) for array in arrays]
    if math.inf in roles:
        return tuple(arrays)
    return tuple(array for _, array in sorted(zip(roles, arrays, strict=True), key=lambda r: r[0]))


def _targets(layouts: _Layouts) -> list[list[_Target]]:
    """The arrays of each stage of the network, statistics after parameters."""
    stages: dict[str, list[_Target]] = {}
    for layout, prefix in zip(layouts, ("", "statistics/"), strict=True):
        for slot in layout.slots:
            target = _Target(prefix + slot.name, slot.shape, slot.start, bool(prefix))
            stages.setdefault(slot.name.rpartition("/")[0], []).append(target)
    return list(stages.values())


# Which array goes where


def _without_last(source: Source, count: int) -> Source:
    """The source without its last layers."""
    layers, ordered = _layers_of(source)
    names = [_path(layer.name) for layer in layers if not layer.name.startswith("inputs")]
    names = list(dict.fromkeys(names))
    if not ordered:
        raise BadInput(
            "the source does not say which of its layers come last, expected an order for "
            "new_layers: give a mapping from names to arrays in the order of the layers."
        )
    if count >= len(names):
        raise BadInput(
            f"new_layers is {count}, but the source has {len(names)} layers, expected fewer: leave "
            "it out, or train from drawn weights."
        )
    dropped = set(names[-count:])
    kept = [a for a in source.arrays if _path(a.layer or _parts(a.name)[0]) not in dropped]
    return attrs.evolve(source, arrays=kept)


def _path(layer: str) -> str:
    """The path of a layer, whose parameters and statistics pydnn names apart."""
    return layer.removeprefix(_STATISTICS)


def _with_drawn(weights: Weights, network: Stage, key: Key, shape: Shape, count: int) -> Weights:
    """The weights with drawn ones in the last layers of the network."""
    params, _ = network.init(key, shape)
    gathered = network.statistics.init(params) if network.statistics else NO_PARAMS
    new = {target.name for stage in _targets(_layouts_of(weights))[-count:] for target in stage}

    def filled(loaded: Packed, tree: Any, prefix: str) -> Packed:
        drawn = pack(tree, dtype=loaded.vector.dtype)
        vector = np.array(loaded.vector)
        for slot in loaded.layout.slots:
            if prefix + slot.name in new:
                place = slice(slot.start, slot.start + math.prod(slot.shape))
                vector[place] = drawn.vector[place]
        return loaded.with_vector(freeze(vector))

    return attrs.evolve(
        weights,
        parameters=filled(weights.parameters, params, ""),
        statistics=filled(weights.statistics, gathered, _STATISTICS),
    )


def _layouts_of(weights: Weights) -> _Layouts:
    return weights.parameters.layout, weights.statistics.layout


def _fitting(
    network: Stage, source: Source, shape_in: Shape | None, kind: str | None, new: int = 0
) -> tuple[Shape, _Layouts, list[_Pair]]:
    """The shape of an example, the layouts of the parameters, and the array for each of them.

    The last `new` layers get none.

    Raises:
        BadInput: If there is no way, with the reason; or more than one.
    """
    if not source.arrays:
        raise BadInput("the source has no arrays, expected weights: check it.")
    kinds = _kinds(source) if kind is None else [kind]
    ways: list[tuple[str, Shape, _Layouts, list[_Pair]]] = []
    reasons: list[tuple[int, BadInput]] = []
    for name in kinds:
        for shape in [tuple(shape_in)] if shape_in is not None else _inputs(source, KINDS[name]):
            matched: list[_Pair] = []
            try:
                layouts = _laid_out(network, shape)
                for pair in _matches(layouts, source, KINDS[name], new):
                    matched.append(pair)
                ways.append((name, shape, layouts, matched))
            except BadInput as error:
                reasons.append((len(matched), error))
    if not ways:
        raise max(reasons, key=lambda reason: reason[0])[1]
    first, *others = ways
    for name, shape, _, matched in others:
        if shape != first[1]:
            raise BadInput(
                f"the weights fit examples of shape {first[1]} and {shape}: give shape_in=…."
            )
        if any(_differ(a, b) for a, b in zip(first[3], matched, strict=True)):
            raise BadInput(
                f"the weights fit the layouts of {first[0]} and of {name}, which differ by a "
                f"transpose: give kind={first[0]!r} or kind={name!r}."
            )
    return first[1:]


def _differ(one: _Pair, other: _Pair) -> bool:
    axes = [pair[2].axes.get(len(pair[0].shape)) for pair in (one, other)]
    return axes[0] != axes[1]


def _kinds(source: Source) -> list[str]:
    """The kinds that the names of a source leave possible."""
    leaves = {_parts(array.name)[1] for array in source.arrays}
    if source.kind is not None:
        return [source.kind]
    for kind, names in (("keras", {"kernel"}), ("pytorch", {"weight", "W"})):
        if leaves & names:
            return [kind]
    return list(KINDS)


def _inputs(source: Source, kind: Kind) -> list[Shape]:
    """The shapes of one example that the first matrix, or else any array, may ask for."""
    shapes = [array.shape for array in source.arrays]
    matrices = [kind.shape(shape)[1] for shape in shapes if len(shape) == 2 and shape[1] != 1]
    others = [shape[0] for shape in shapes if shape]
    return [(size,) for size in dict.fromkeys(matrices + others) if size > 0]


def _laid_out(network: Stage, shape_in: Shape) -> _Layouts:
    if network.description is not None:  # then no weight has to be drawn
        network = build(without_weights(describe(network)), family="stage")
    params, _ = network.init(Key(0), shape_in)
    gathered = network.statistics.init(params) if network.statistics else NO_PARAMS
    return layout_of(params), layout_of(gathered)


def _matches(layouts: _Layouts, source: Source, kind: Kind, new: int) -> Iterator[_Pair]:
    """Each array of the source with its place, in the order of the network."""
    stages = _targets(layouts)
    if new >= len(stages):
        raise BadInput(
            f"new_layers is {new}, but the network has {len(stages)} layers with parameters, "
            "expected fewer: leave it out, or train from drawn weights."
        )
    stages = stages[: len(stages) - new]
    by_name = {array.name: array for array in source.arrays}
    wanted = [target for stage in stages for target in stage]
    if all(target.name in by_name for target in wanted):
        yield from _by_name(by_name, wanted)
        return
    layers, ordered = _layers_of(source)
    if len(layers) == 1 and not layers[0].name:
        stages = [wanted]
    left = list(layers)
    for stage in stages:
        place = f"{_listed(stage)} of the network"
        if not left:
            raise BadInput(f"the source has nothing left for {place}: give weights of all layers.")
        layer = left[0] if ordered else _chosen(left, stage, kind)
        left.remove(layer)
        for array, target in itertools.zip_longest(layer.arrays, stage):
            if array is None or target is None:
                raise BadInput(
                    f"the source has {layer}, but here come {place}: change the network to the "
                    "layers of the source."
                )
            _expect_fit(array, target, kind)
            yield array, target, kind
    if left:
        raise BadInput(
            f"{', '.join(map(str, left))} of the source is left over: the network has no "
            "parameters for it."
        )


def _by_name(by_name: Mapping[str, Stored], wanted: Sequence[_Target]) -> Iterator[_Pair]:
    """Each array with the place of its name, of a source that pydnn wrote."""
    kind = Kind({})
    known = {target.name for target in wanted}
    left = [name for name in by_name if name not in known and not name.startswith("inputs/")]
    if left:
        raise BadInput(
            f"{', '.join(left)} of the source is left over: the network has no parameters for it."
        )
    for target in wanted:
        array = by_name[target.name]
        _expect_fit(array, target, kind)
        yield array, target, kind


def _listed(stage: Sequence[_Target]) -> str:
    return ", ".join(f"{target.name} {target.shape}" for target in stage)


def _chosen(left: Sequence[_Layer], stage: Sequence[_Target], kind: Kind) -> _Layer:
    """The first layer whose shapes fit, in a source that does not state the order of layers."""
    fitting = [
        layer
        for layer in left
        if len(layer.arrays) == len(stage)
        and all(_fits(a.shape, t.shape, kind) for a, t in zip(layer.arrays, stage, strict=True))
    ]
    if not fitting:
        raise BadInput(
            f"no layer of the source has the shapes of {_listed(stage)} of the network; the layers "
            f"that are left have {'; '.join(map(str, left))}: change the network to match them."
        )
    stems = {re.sub(r"\d+", "", layer.name) for layer in fitting}
    if len(stems) > 1:
        raise BadInput(
            f"{' and '.join(layer.name for layer in fitting)} of the source both fit "
            f"{_listed(stage)} of the network, and the source does not say which comes first: give "
            "a mapping from names to arrays in the order of the layers."
        )
    return fitting[0]


def _expect_fit(array: Stored, target: _Target, kind: Kind) -> None:
    if not _fits(array.shape, target.shape, kind):
        turned = kind.shape(array.shape)
        as_here = f", here {turned}," if turned != array.shape else ""
        raise BadInput(
            f"{array.name} of the source has shape {array.shape}{as_here} but {target.name} of the "
            f"network has {target.shape}: change the network to the layers of the source."
        )


def _fits(shape: Shape, wanted: Shape, kind: Kind) -> bool:
    return kind.shape(shape) == wanted or (*shape, 1) == wanted or _same_column(shape, wanted)


def _same_column(shape: Shape, wanted: Shape) -> bool:
    """Whether both are one column of the same numbers, as biases of other libraries may be rows."""
    return wanted[1:] == (1,) and shape in ((1, wanted[0]), wanted)


# The numbers


def _filled(layouts: _Layouts, pairs: Sequence[_Pair], dtype: str | None) -> Weights:
    read = [(target, _turned(array, target, kind)) for array, target, kind in pairs]
    if dtype is None:
        dtype = "float64" if any(values.dtype == np.float64 for _, values in read) else "float32"
    vectors = [np.zeros(layout.size, DTYPES[dtype]) for layout in layouts]
    for target, values in read:
        with np.errstate(over="ignore"):
            vector = values.ravel().astype(DTYPES[dtype])
        expect_finite(f"{target.name} of the source", vector)
        vectors[target.statistics][target.start : target.start + vector.size] = vector
    parameters, statistics = (
        layout.packed(freeze(vector)) for layout, vector in zip(layouts, vectors, strict=True)
    )
    table = [
        (array.name, str(array.shape), target.name, str(target.shape)) for array, target, _ in pairs
    ]
    return Weights(parameters, statistics, tuple(table))


def _turned(array: Stored, target: _Target, kind: Kind) -> FloatArray:
    values: Any = array.read()
    if values.dtype.kind != "f" or values.dtype.itemsize > 8:
        raise BadInput(
            f"{array.name} of the source holds {values.dtype}, expected floats of at most 64 bits: "
            "convert it."
        )
    axes = kind.axes.get(values.ndim)
    if axes is not None and kind.shape(values.shape) == target.shape:
        values = values.transpose(axes)
    turned: FloatArray = values.reshape(target.shape)
    return turned


def _expect_outputs(network: Stage, weights: Weights, X: ArrayLike, expected: ArrayLike) -> None:
    dtype = weights.parameters.vector.dtype
    inputs, wanted = as_array(X).astype(dtype), as_array(expected).astype(np.float64)
    AL = output_of(network, weights, inputs)
    expect_shape("expected", wanted, AL.shape, hint="give one column per example, e.g. pass Y.T")
    tolerance = math.sqrt(np.finfo(dtype).eps) * max(1.0, float(np.abs(wanted).max(initial=0.0)))
    apart = np.abs(AL - wanted)
    if not (apart <= tolerance).all():
        place = tuple(int(i) for i in np.argwhere(~(apart <= tolerance))[0])
        raise BadInput(
            f"with these weights output {place[0]} of example {place[-1]} is {AL[place]:g}, "
            f"expected {wanted[place]:g}: check the order of the layers, and options such as "
            "epsilon that the weights do not say."
        )
