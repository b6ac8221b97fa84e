"""A trained model in the file formats of other tools, chosen by the name of the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from pydnn.checks import AnyPath, BadInput, path_of
from pydnn.fingerprints import fingerprint
from pydnn.interop.npz import npz_bytes
from pydnn.interop.onnx import onnx_bytes
from pydnn.interop.safetensors import safetensors_bytes
from pydnn.jobs.model import Model
from pydnn.recipes.toml import write_recipe
from pydnn.records import AnyArray
from pydnn.storage.files import write_atomically

__all__ = ["export", "weights_of"]


def weights_of(model: Model) -> dict[str, AnyArray]:
    """All arrays that a model's predictions are made of, by name.

    Parameters have their own names, e.g. "0/W" (n_out, n_in) and "0/b" (n_out, 1); statistics have
    "statistics/" in front, e.g. "statistics/1/mean". If features are standardized, "inputs/mean"
    and "inputs/deviation" (n_x, 1) do that.
    """
    arrays: dict[str, AnyArray] = {}
    for prefix, packed in (("", model.parameters), ("statistics/", model.statistics)):
        arrays |= {prefix + slot.name: packed[slot.name] for slot in packed.layout.slots}
    fitted = model.inputs.standardization
    if fitted is not None:
        arrays |= {"inputs/mean": fitted.mean, "inputs/deviation": fitted.deviation}
    return arrays


def _about(model: Model) -> str:
    described = {
        "recipe": write_recipe(model.recipe),
        "classes": model.classes,
        "parameters_sha256": fingerprint({"parameters": model.parameters.vector}),
    }
    return json.dumps(described, ensure_ascii=False)


def _safetensors(model: Model) -> bytes:
    return safetensors_bytes(weights_of(model), about=_about(model))


def _npz(model: Model) -> bytes:
    return npz_bytes(weights_of(model), texts={"about.json": _about(model)})


_FORMATS: Mapping[str, Callable[[Model], bytes]] = {
    ".onnx": onnx_bytes,
    ".safetensors": _safetensors,
    ".npz": _npz,
}


def export(model: Model, path: AnyPath, *, replace: bool = False) -> None:
    """Write a model to a new file of another tool: see `Model.export`.

    Raises:
        BadInput: If the name ends in something else, the model cannot be written in that format,
            or the file cannot be written.
    """
    path = path_of(path)
    make = _FORMATS.get(path.suffix.lower())
    if make is None:
        known = ", ".join(_FORMATS)
        raise BadInput(f"{path} ends in {path.suffix!r}, expected one of {known}: rename it.")
    content = make(model)
    write_atomically(path, lambda temporary: temporary.write_bytes(content), replace=replace)
