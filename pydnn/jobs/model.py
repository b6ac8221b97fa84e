"""A trained model, and the HDF5 file that holds one.

Like the segments of a run, the file starts with a checksum (`storage.checksums`), so every byte is
verified before HDF5 parses any of it. Models of pydnn 0.1.0 have no checksum, and are read only
with `unverified=True`.
"""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import attrs
import h5py
import numpy as np
from numpy.typing import ArrayLike

from pydnn.checks import (
    AnyPath,
    BadInput,
    expect_finite,
    expect_same_dtype,
    expect_shape,
    is_count,
    path_of,
    shown,
)
from pydnn.data.stored import Stored
from pydnn.data.stored_tables import StoredTable
from pydnn.data.tables import Table, TableBatch
from pydnn.data.texts import Vocabulary
from pydnn.descriptions.builders import build
from pydnn.jobs.columns import Columns, columns_of, plain_of
from pydnn.jobs.file_kinds import MODEL, expecting
from pydnn.jobs.inputs import Inputs
from pydnn.jobs.standardization import Standardization
from pydnn.losses import Loss, class_count
from pydnn.numerics.underflow import ignoring_underflow
from pydnn.parameters import NO_PARAMS, Layout, Packed, pack
from pydnn.recipes.layouts import layouts_of, same_parameters
from pydnn.recipes.recipe import DTYPES, Recipe
from pydnn.recipes.toml import read_recipe, write_recipe
from pydnn.records import (
    AnyArray,
    Batch,
    Examples,
    FloatArray,
    IntArray,
    arrays,
    as_array,
    freeze,
    readonly,
)
from pydnn.sequences import expect_lengths
from pydnn.stages.base import Context, Shape, Stage
from pydnn.storage.checksums import NotSealed
from pydnn.storage.hdf5 import hdf5_bytes, hdf5_in, open_hdf5, read_array, read_text, write_hdf5
from pydnn.storage.run_files import MODEL_FILE, run_folder_of
from pydnn.training import output_of
from pydnn.training.evaluation import outputs_over

if TYPE_CHECKING:
    from pydnn.data import DataSet
    from pydnn.jobs.job import Job
    from pydnn.keys import Key
    from pydnn.training import TrainState

__all__ = ["Model", "load_model", "model_bytes", "model_in", "model_of"]

_FORMAT, _OLD_FORMAT = "pydnn model 3", "pydnn model 2"
_TABLE_FORMAT = "pydnn model 4"  # with columns, which readers of format 3 would pass over
_AXES_FORMAT = "pydnn model 5"  # with the shape of examples of several axes instead of features
_FORMATS = (_FORMAT, _TABLE_FORMAT, _AXES_FORMAT)
_LONGEST_COLUMNS = 1 << 26  # bytes of text, of which a thousand columns may have some megabytes
_MOST_FEATURES = 3 * 4096 * 4096  # without a limit, a damaged file could claim all memory
_MOST_AXES = 7  # of an example
_SHOWN_CLASSES = 10  # in a notebook


def _shape(shape: int | Iterable[int]) -> Shape:
    return (shape,) if isinstance(shape, int) else tuple(shape)


def _plain_inputs(model: Model) -> Inputs:
    return Inputs(model.recipe.dtype, model.recipe.numerics)


@attrs.frozen(unsafe_hash=False, field_transformer=arrays)
class Model:
    """A trained network, which predicts from raw examples and knows how it was trained.

    Attributes:
        recipe: The recipe that it was trained by.
        parameters: The parameters of its network, for examples that are not rotated.
        costs: The cost at each iteration, shape (iterations,).
        shape: The shape of the examples that the network was trained on: (n_x,) for columns,
            (H, W, C) for images, (T, n) for sequences. A number n stands for (n,).
        statistics: The running statistics of stages such as batch normalization.
        inputs: The conversion from raw examples to network inputs.
        image_shape: (height, width, 3) of the images that it takes, if it takes images.
        classes: The names of the classes, from class 0 on, if they have names.
        iteration: The number of steps that led to the parameters, if known.
        vocabulary: The symbols behind the numbers in its examples, if it was trained on a text.

    Example:
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=5)
        >>> model = nn.train(recipe, nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]])).model
        >>> model.predict([[3.0, 4.0]]).shape
        (1, 2)
        >>> model.save("line.h5")
        >>> nn.load_model("line.h5") == model
        True
    """

    recipe: Recipe
    parameters: Packed
    costs: FloatArray
    shape: Shape = attrs.field(converter=_shape)
    statistics: Packed = attrs.field(factory=lambda: pack(NO_PARAMS))
    inputs: Inputs = attrs.field(default=attrs.Factory(_plain_inputs, takes_self=True))
    image_shape: tuple[int, int, int] | None = None
    classes: tuple[str, ...] | None = None
    iteration: int | None = None
    vocabulary: Vocabulary | None = None

    def _repr_html_(self) -> str:
        from pydnn.reports.in_notebooks import html_of_training  # here, since few processes need it

        rows = [
            ["parameters", f"{self.parameters.layout.size:,}"],
            ["examples", f"of shape {self.shape}"],
        ]
        if self.classes is not None:
            more = len(self.classes) - _SHOWN_CLASSES
            names = ", ".join(self.classes[:_SHOWN_CLASSES])
            rows.append(["classes", f"{names} and {more} more" if more > 0 else names])
        return html_of_training("model", rows, self.recipe, self.costs)

    @property
    def features(self) -> int:
        """The number of numbers in one example of `shape`."""
        return math.prod(self.shape)

    @property
    def columns(self) -> Columns | None:
        """The map of each column to features, if the model was trained on a table."""
        return self.inputs.columns

    def predict(
        self, X: ArrayLike | Table | StoredTable | Stored, *, lengths: ArrayLike | None = None
    ) -> AnyArray:
        """Predict probabilities or numbers for raw examples, or names and values for rows.

        Args:
            X: Raw examples along the last axis: columns (n_x, m), images (H, W, C, m) or columns
                of these, sequences (T, n, m) or (T, m). The model standardizes them itself if its
                recipe says so. A model of a table takes rows instead: a `Table`, a `StoredTable`,
                or anything that `Table.of` takes, such as a data frame. Examples in files are read
                block by block. Sequences may have another number of steps, and images another size,
                than in training if no parameter depends on it.
            lengths: The number of valid steps of each sequence (m,); None if all steps are valid.

        Returns:
            For arrays the same as `outputs`, shape (n_out, m), or (T, n_out, m) for an output at
            each step, of which padding holds no prediction. For the rows of a table, the names
            of their classes, or numbers in the units of the target, shape (m,); for several
            targets, shape (m, targets).

        Raises:
            BadInput: If X has other features than the examples that the model was trained on, or
                a number is beyond the range of the model's dtype.
        """
        P = self.outputs(X, lengths=lengths)
        return P if self.columns is None else self.columns.targets.of_predictions(P)

    def predict_proba(
        self, X: ArrayLike | Table | StoredTable | Stored, *, lengths: ArrayLike | None = None
    ) -> FloatArray:
        """Predict the probability of each class, in the order of `classes`.

        Args:
            X: Raw examples, as `predict` takes them.
            lengths: The number of valid steps of each sequence (m,); None if all steps are valid.

        Returns:
            Probabilities, shape (classes, m) for arrays and (m, classes) for the rows of a table;
            (T, classes, m) for an output at each step.

        Raises:
            BadInput: If X does not fit, see `predict`, or the model predicts numbers.
        """
        P = self.outputs(X, lengths=lengths)
        loss: Loss = build(self.recipe.loss, family="loss")
        n_out = P.shape[-2]
        task = loss.task(n_out)
        if class_count(task, n_out) is None:
            raise BadInput(
                f"a model trained with {loss.name} predicts numbers, which have no probabilities: "
                "call predict."
            )
        if task == "two classes":
            P = freeze(np.concatenate([1 - P, P], axis=-2))
        return P if self.columns is None else P.T

    def outputs(
        self, X: ArrayLike | Table | StoredTable | Stored, *, lengths: ArrayLike | None = None
    ) -> FloatArray:
        """Predict probabilities or numbers for raw examples of any kind, in columns.

        Args:
            X: Raw examples, as `predict` takes them.
            lengths: The number of valid steps of each sequence (m,); None if all steps are valid.

        Returns:
            Predictions, one column per example, shape (n_out, m), or (T, n_out, m) for an output
            at each step: for two classes, the
            probability of class 1; for more classes, the probability of each; for numbers, the
            network's outputs, in the units of the target.

        Raises:
            BadInput: If X does not fit, see `predict`.
        """
        if isinstance(X, Stored):
            return self._over(X)
        if self.columns is not None or isinstance(X, Table | StoredTable):
            if lengths is not None:
                raise BadInput("lengths are for sequences, but X is a table: leave them out.")
            table = X if isinstance(X, StoredTable) else Table.of(X)
            return self._over(table.without_targets())
        array = self._examples(as_array(X))
        valid = None
        if lengths is not None:
            valid = expect_lengths(lengths, array.shape[0], array.shape[-1])
        if np.iscomplexobj(array):
            return self._outputs(array, valid)  # which refuses it
        return self._over(Batch(readonly(array), np.zeros((1, array.shape[-1])), None, valid))

    def _over(self, examples: Examples) -> FloatArray:
        """The outputs for examples; those for many are computed block by block."""

        def outputs(block: Batch) -> FloatArray:
            X = block.table if isinstance(block, TableBatch) else self._examples(block.X)
            return self._outputs(X, block.lengths)

        [part] = outputs_over(outputs, examples, together=True)
        return part.AL

    @ignoring_underflow
    def _outputs(self, X: ArrayLike | Table, valid: IntArray | None) -> FloatArray:
        network: Stage = build(self.recipe.network, family="stage")
        loss: Loss = build(self.recipe.loss, family="loss")
        numerics = self.recipe.arithmetic
        AL = output_of(network, self, self.inputs(X), lengths=valid, numerics=numerics)
        P = loss.predict(AL, Context(numerics=numerics))
        if self.columns is None:
            return P
        self.columns.targets.expect_outputs(loss, len(P))  # which a damaged file may not have
        return self.columns.targets.in_units(P)

    def _examples(self, X: AnyArray) -> AnyArray:
        """Return examples in the shape that the model takes; images may also be columns.

        Raises:
            BadInput: If the model does not take examples of this shape.
        """
        if self.takes(X.shape[:-1]):
            return X
        if self.image_shape is not None and X.shape[:-1] == (self.features,):
            return X.reshape(*self.shape, -1)
        hint = "put examples in columns, e.g. pass X.T"
        if len(self.shape) > 1:
            hint = "put examples along the last axis"
            if X.shape[1:] == self.shape:
                hint += ", so pass np.moveaxis(X, 0, -1)"
        elif self.image_shape is not None and X.ndim != 2:
            hint = "make columns of pictures by pydnn.data.columns_of(pictures)"
        expect_shape("X", X, (*self.shape, "m"), hint=hint)
        return X

    def takes(self, shape: Shape) -> bool:
        """Whether the model takes examples of this shape.

        That is the shape in training, or one that differs from it only in axes on which no
        parameter depends, such as the number of steps of a sequence, or the height and width of an
        image before a global pool.

        Args:
            shape: The shape of one example, e.g. (64, 64, 3).
        """
        if shape == self.shape:
            return True
        fitted = self.inputs.standardization
        if fitted is not None and shape[-1:] != fitted.mean.shape[:1]:
            return False
        return 0 < math.prod(shape) <= _MOST_FEATURES and same_parameters(
            self.recipe, self.shape, shape
        )

    def sample(
        self,
        count: int = 1,
        *,
        key: Key | None = None,
        temperature: float = 1.0,
        most: int = 200,
        start: str = "",
    ) -> tuple[str, ...]:
        r"""Draw texts from a model that was trained on a text, symbol by symbol.

        Each symbol is drawn by the probabilities that the model gives it after the symbols before
        it, or the last of them: at most as many as an example has steps in training. If the
        examples were lines, a text ends with its line. Text i depends on `key` and i, and not on
        the number of texts; in `portable` arithmetic it is the same on every machine.

        Args:
            count: The number of texts.
            key: The key of the draws; by default `Key(1)`.
            temperature: What logits are divided by: below 1 for more probable texts, above 1 for
                more varied ones. At 0, each symbol is the most probable one.
            most: The largest number of symbols after `start`.
            start: The beginning of every text.

        Raises:
            BadInput: If the model was not trained on a text, an argument is out of range, or a
                symbol of `start` is not in the vocabulary.

        Example:
            >>> from pathlib import Path
            >>> _ = Path("names.txt").write_text("ada\n" * 9)
            >>> network, loss = nn.embedding(4, 3), nn.softmax_cross_entropy()
            >>> recipe = nn.Recipe("names.txt", network, loss, nn.adam(learning_rate=0.3), 99)
            >>> nn.train(recipe).model.sample(2, start="a", most=1)
            ('a', 'ad')
        """
        from pydnn.jobs.sampling import sample  # which few programs need

        return sample(self, count, key=key, temperature=temperature, most=most, start=start)

    def save(self, path: AnyPath, *, replace: bool = False) -> None:
        """Write the model to a new file; if writing fails, no file is left.

        Args:
            path: The file.
            replace: Whether to replace a file of that name.

        Raises:
            BadInput: If `load_model` would refuse the file, e.g. because the parameters are those
                of a rotated job, which `job.inputs.lift` converts; or if the file exists or
                cannot be written.
        """
        _expect_readable(self)
        write_hdf5(path_of(path), **_content(self), sealed=True, replace=replace)

    def to_onnx(self) -> bytes:
        """The model as the bytes of an ONNX file, for other programs and languages.

        The file takes raw examples along the first axis: `X` (m, n_x) or, for examples of several
        axes, (m, H, W, C) or (m, T, n); or `images` (m, height, width, 3) of bytes if the model
        takes images. A model of a table has an input (m,) for each column, under its name: float64
        for numbers and truth values, with NaN for missing ones, and texts, with "" for missing
        ones. Whatever the model does to raw examples is part of the file. It gives

        - `label` (m,), the name of the most probable class, or its number if the classes have no
          names, and `probabilities` (m, K), for classes;
        - `labels` (m, K), truth values, and `probabilities` (m, K), for several labels at once;
        - `values` (m, n_y), for numbers, in the units of a table's target.

        If a column has the name of an output, the output has an underscore behind its name. Floats
        have the dtype of the model, but convolutions, average pools and recurrent stages compute in
        float32, the only precision in which onnxruntime has them. All sequences of a call have the
        same length, without padding. From call to call the length may differ if the network allows
        it, as a recurrent one does. The operators are core operators of opset 17, which runtimes
        since 2022 know. Equal models give equal bytes. No other package is needed.

        Raises:
            BadInput: If a stage or the loss cannot be exported, naming it, or the file would have
                2 GB or more.

        Example:
            >>> recipe = nn.Recipe("line", "dense(1)", "mean_squared()", nn.adam(), iterations=1)
            >>> model = nn.train(recipe, nn.Batch([[0.0, 1.0]], [[1.0, 3.0]])).model
            >>> content = model.to_onnx()
            >>> b"Gemm" in content
            True
        """
        from pydnn.interop.onnx import onnx_bytes  # which knows models

        return onnx_bytes(self)

    def export(self, path: AnyPath, *, replace: bool = False) -> None:
        """Write the model, or its weights, to a new file for other tools.

        Args:
            path: The file. Its name ends in .onnx for the whole model, see `to_onnx`; or in
                .safetensors or .npz for the weights: parameters under their own names, such as
                "0/W", statistics as "statistics/1/mean", and the standardization as "inputs/mean"
                and "inputs/deviation". The recipe is in all of them. Equal models give equal bytes.
            replace: Whether the file may replace one of that name.

        Raises:
            BadInput: If the name ends in something else, the file cannot be written, or a part of
                the model cannot be written in ONNX.
        """
        from pydnn.interop.exporting import export  # which knows models

        export(self, path, replace=replace)

    @staticmethod
    def load(path: AnyPath, *, allow: Iterable[str] = (), unverified: bool = False) -> Model:
        """Read a model from a file that `save` wrote; see `load_model`."""
        return load_model(path, allow=allow, unverified=unverified)


def model_of(
    job: Job, state: TrainState, costs: ArrayLike, data: DataSet | Examples | None = None
) -> Model:
    """Make a model from a state of a job.

    Args:
        job: The job.
        state: A state of its training, e.g. the last one.
        costs: The cost of each step so far, shape (iterations,).
        data: The data set that the job is trained on, for the shape of its images and the names
            of its classes; a batch has neither.

    Example:
        >>> from pydnn.jobs import prepare, run
        >>> line = nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]])
        >>> rate = "gradient_descent(learning_rate=0.1)"
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", rate, iterations=200)
        >>> job = prepare(recipe, line)
        >>> steps = list(run(job))
        >>> state, info = steps[-1]
        >>> model = model_of(job, state, [info.cost for state, info in steps])
        >>> model.predict([[3.0]]).round(1)
        array([[7.]])
    """
    columns = job.inputs.columns
    return Model(
        job.recipe,
        job.inputs.lift(state.parameters),
        np.asarray(costs, np.float64),
        job.batch.shape if columns is None else (len(columns.features),),
        state.statistics,
        job.inputs.plain,
        getattr(data, "image_shape", None),
        getattr(data, "classes", None) if columns is None else columns.targets.classes or None,
        state.iteration,
        getattr(data, "vocabulary", None),
    )


def _content(model: Model) -> dict[str, Any]:
    """The arrays and texts of a model's file."""
    fitted, columns = model.inputs.standardization, model.columns
    text, described = ("", {}) if columns is None else plain_of(columns)
    return {
        "arrays": {
            "parameters": model.parameters.vector,
            "statistics": model.statistics.vector,
            "costs": model.costs,
        }
        | ({"mean": fitted.mean, "deviation": fitted.deviation} if fitted else {})
        | described,
        "attributes": {
            "format": _format_of(model),
            "recipe": write_recipe(model.recipe),
            "inputs": _inputs_text(model),
        }
        | ({"columns": text} if columns else {}),
        "most": _LONGEST_COLUMNS,
    }


def model_bytes(model: Model) -> bytes:
    """The content of the file that `Model.save` writes, for another process.

    Raises:
        BadInput: If `load_model` would refuse the file, see `Model.save`.
    """
    _expect_readable(model)
    return b"".join(hdf5_bytes(**_content(model), sealed=True))


def model_in(content: bytes | memoryview, *, where: str, allow: Iterable[str] = ()) -> Model:
    """The model in the content of a file, see `load_model`.

    Args:
        content: What `model_bytes` returned.
        where: Where the content comes from, for messages.
        allow: Names of modules outside pydnn that may be imported.

    Raises:
        BadInput: If the content is damaged, inconsistent, or not a model.
    """
    with hdf5_in(io.BytesIO(content), Path(where), sealed=True) as file:
        return _read(file, _FORMATS, allow)


def _format_of(model: Model) -> str:
    if model.columns is not None:
        return _TABLE_FORMAT
    return _FORMAT if len(model.shape) == 1 else _AXES_FORMAT


def _inputs_text(model: Model) -> str:
    flat = len(model.shape) == 1
    return json.dumps(
        ({"features": model.features} if flat else {"shape": model.shape})
        | {
            "image_shape": model.image_shape,
            "classes": model.classes,
            "iteration": model.iteration,
        }
        | ({} if model.vocabulary is None else {"vocabulary": attrs.asdict(model.vocabulary)})
    )


def _expect_readable(model: Model) -> None:
    """Refuse a model whose file `load_model` would refuse.

    Raises:
        BadInput: If it would, naming what is wrong.
    """
    inputs = _json("the model", _inputs_text(model))
    _inputs("the model", inputs, axes=len(model.shape) > 1)
    layouts = layouts_of(model.recipe, model.shape)
    for name, layout in zip(("parameters", "statistics"), layouts, strict=True):
        packed: Packed = getattr(model, name)
        _expect_layout(name, packed.layout, layout, model.shape)
        expect_same_dtype(name, packed.vector, np.dtype(DTYPES[model.recipe.dtype]))
        expect_finite(name, packed.vector)
    expect_shape("costs", model.costs, ("iterations",), hint="give one number per iteration")
    _iteration("the model", inputs, len(model.costs))
    if model.columns is not None:
        _expect_columns("the model", model.columns, model.features, model.classes)
    standardizes = model.inputs.standardization is not None
    if model.columns is None and model.recipe.standardize != standardizes:
        verb = "lacks" if model.recipe.standardize else "has"
        raise BadInput(
            f"the model {verb} a standardization, but standardize in its recipe is "
            f"{model.recipe.standardize}: give inputs=job.inputs.plain."
        )


def _expect_layout(name: str, actual: Layout, expected: Layout, shape: Shape) -> None:
    takes = f"{shape[0]} features" if len(shape) == 1 else f"examples of shape {shape}"
    for slots in itertools.zip_longest(actual.slots, expected.slots):
        a, b = ("none" if slot is None else f"{slot.name} {slot.shape}" for slot in slots)
        if a != b:
            raise BadInput(
                f"{name} have {a}, expected {b} for the recipe on {takes}: give "
                "those of a job of the recipe; job.inputs.lift(…) converts those of a rotated job."
            )


def load_model(path: AnyPath, *, allow: Iterable[str] = (), unverified: bool = False) -> Model:
    """Read a model from a file that `Model.save` wrote.

    Predicting needs only the network and the loss. If another part of the recipe comes from a
    module that is missing or not allowed, the model is still read, with that part as `Unread`.

    Args:
        path: The file, or the folder of a run, which has one.
        allow: Names of modules outside pydnn that may be imported, with their submodules, because
            the recipe names builders in them, e.g. ["my_package"].
        unverified: Whether to read a model of pydnn 0.1.0, in which damage cannot be detected.
            Newer models are verified even so.

    Raises:
        NotAllowed: If the network has a part from a module that is not allowed.
        BadInput: If the file is missing, damaged, inconsistent, or not a model.

    Example:
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=5)
        >>> nn.train(recipe, nn.Batch([[0.0, 1.0]], [[1.0, 3.0]])).model.save("short.h5")
        >>> load_model("short.h5").recipe.iterations
        5
    """
    path = path_of(path)
    if (path / MODEL_FILE).is_file():  # the folder of a run
        path = path / MODEL_FILE
    hint = "give the folder of a run, or the model.h5 in it"
    with expecting(path, MODEL, expected="a run or a model", hint=hint):
        return _loaded(path, allow, unverified)


def _loaded(path: Path, allow: Iterable[str], unverified: bool) -> Model:
    links = run_folder_of(path) == path  # a model in a run's folder may not be a symbolic link
    try:
        with open_hdf5(path, sealed=True, links=links) as file:
            return _read(file, _FORMATS, allow)
    except NotSealed as error:
        if not unverified:
            raise BadInput(
                f"{path} has no checksum, like models of pydnn 0.1.0: write it again with pydnn "
                "resume RUN, or read it with --unverified, in Python load_model(path, "
                "unverified=True)."
            ) from error
    with open_hdf5(path, links=links) as file:
        return _read(file, (_OLD_FORMAT,), allow)


def _read(file: h5py.File, expected: tuple[str, ...], allow: Iterable[str]) -> Model:
    path, fixed = file.filename, _FORMAT in expected
    if (written := read_text(file, "format", fixed=fixed)) not in expected:
        newer = written in [f"pydnn model {number}" for number in range(6, 100)]
        advice = "a newer pydnn wrote it, so install that one" if newer else "train it again"
        raise BadInput(f"{path} has format {written!r}, expected {expected[0]!r}: {advice}.")
    try:
        text = read_text(file, "recipe", fixed=fixed)
        recipe = read_recipe(text, allow=allow, needed=["network"])
    except BadInput as error:
        raise type(error)(f"recipe in {path}: {error}") from error
    inputs = _json(path, read_text(file, "inputs", fixed=fixed, most=_LONGEST_COLUMNS))
    shape, image_shape, classes = _inputs(path, inputs, axes=written == _AXES_FORMAT)
    layouts = _layouts(path, recipe, shape)
    parameters, statistics = (
        _packed(file, name, recipe.dtype, layout)
        for name, layout in zip(("parameters", "statistics"), layouts, strict=True)
    )
    costs = _stretch(file, "costs", "float64", ("iterations",))
    columns = _columns(file, shape[0], classes) if written == _TABLE_FORMAT else None
    standardizes = recipe.standardize and columns is None
    return Model(
        recipe,
        parameters,
        costs,
        shape,
        statistics,
        Inputs(
            recipe.dtype,
            recipe.numerics,
            _standardization(file, shape[-1]) if standardizes else None,
            columns=columns,
        ),
        image_shape,
        classes,
        _iteration(path, inputs, len(costs)),
        _vocabulary(path, inputs),
    )


def _stretch(file: h5py.File, name: str, dtype: str, shape: tuple[int | str, ...]) -> FloatArray:
    return read_array(file, name, dtype=np.dtype(dtype), shape=shape, compressed=False)


def _packed(file: h5py.File, name: str, dtype: str, layout: Layout) -> Packed:
    where = f"{name} in {file.filename}"
    vector = _stretch(file, name, dtype, (name,))
    expect_shape(where, vector, (layout.size,), hint="train it again")
    expect_finite(where, vector)
    return layout.packed(vector)


def _standardization(file: h5py.File, features: int) -> Standardization:
    mean, deviation = (
        _stretch(file, name, "float64", (features, 1)) for name in ("mean", "deviation")
    )
    expect_finite(f"mean in {file.filename}", mean)
    expect_finite(f"deviation in {file.filename}", deviation)
    if not (deviation > 0).all():
        raise BadInput(f"deviation in {file.filename} is not above 0: train it again.")
    return Standardization(mean, deviation)


def _columns(file: h5py.File, features: int, classes: tuple[str, ...] | None) -> Columns:
    columns = columns_of(
        file.filename,
        read_text(file, "columns", most=_LONGEST_COLUMNS),
        lambda count: _stretch(file, "column_numbers", "float64", (count, 3)),
        _stretch(file, "target_scales", "float64", ("targets", 2)),
    )
    _expect_columns(file.filename, columns, features, classes)
    return columns


def _expect_columns(
    where: str, columns: Columns, features: int, classes: tuple[str, ...] | None
) -> None:
    if len(columns.features) != features or columns.targets.classes != (classes or ()):
        raise BadInput(
            f"{where} has {features} features and the classes {classes}, but its columns make "
            f"{len(columns.features)} features and the classes {columns.targets.classes}: train it "
            "again."
        )


def _layouts(path: str, recipe: Recipe, shape: Shape) -> tuple[Layout, Layout]:
    try:
        return layouts_of(recipe, shape)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def _json(path: str, text: str) -> Mapping[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"inputs in {path} are damaged ({error}): train the model again.") from error
    if not isinstance(value, dict):
        raise BadInput(f"inputs in {path} are not a mapping: train the model again.")
    return value


def _inputs(
    path: str, plain: Mapping[str, object], *, axes: bool
) -> tuple[Shape, tuple[int, int, int] | None, tuple[str, ...] | None]:
    shape = plain.get("shape") if axes else [plain.get("features")]
    match plain:
        case {"image_shape": image_shape, "classes": classes}:
            if (
                _is_shape(shape, least_axes=2 if axes else 1)
                and _is_image_shape(image_shape, shape)
                and (classes is None or _are_names(classes))
            ):
                height_width_3 = None
                if image_shape is not None:
                    height_width_3 = image_shape[0], image_shape[1], 3
                return tuple(shape), height_width_3, None if classes is None else tuple(classes)
    raise BadInput(
        f"inputs in {path} are {dict(plain)!r}, expected {'shape' if axes else 'features'}, an "
        "image's shape and names of classes: train the model again."
    )


def _is_shape(shape: object, *, least_axes: int) -> TypeGuard[list[int]]:
    """Whether these are the sizes of the axes of an example that is not too large."""
    return (
        isinstance(shape, list)
        and least_axes <= len(shape) <= _MOST_AXES
        and all(is_count(size, least=1) for size in shape)
        and math.prod(shape) <= _MOST_FEATURES
    )


def _iteration(path: str, plain: Mapping[str, object], costs: int) -> int | None:
    iteration = plain.get("iteration")
    if iteration is None or is_count(iteration, most=costs):
        return iteration
    raise BadInput(
        f"inputs in {path} say iteration {shown(iteration)}, expected at most {costs}, the number "
        "of costs: train the model again."
    )


def _vocabulary(path: str, plain: Mapping[str, object]) -> Vocabulary | None:
    match plain.get("vocabulary"):
        case None:
            return None
        case {"symbols": [*symbols], "words": bool(words), "lines": bool(lines)}:
            try:
                return Vocabulary(symbols, words=words, lines=lines)
            except BadInput as error:
                raise BadInput(f"inputs in {path}: {error}") from error
    raise BadInput(f"inputs in {path} have no readable vocabulary: train the model again.")


def _is_image_shape(image: object, shape: list[int]) -> TypeGuard[list[int] | None]:
    """Whether examples of a shape can be images of another: of the same, or flat columns of it."""
    if image is None:
        return True
    match image:
        case [height, width, 3]:
            if is_count(height, least=1, most=4096) and is_count(width, least=1, most=4096):
                return shape in ([height, width, 3], [height * width * 3])
    return False


def _are_names(classes: object) -> TypeGuard[list[str]]:
    """Whether these are two or more distinct names that can be written to a file."""
    return (
        isinstance(classes, list)
        and all(isinstance(name, str) and _is_unicode(name) for name in classes)
        and len(set(classes)) == len(classes) >= 2
    )


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
