"""Small sound files of every kind that pydnn reads, made once; each case damages a copy."""

import io
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
from PIL import Image, ImageDraw

from pydnn import Batch, Key
from pydnn.cli import main
from pydnn.data import DataSet, ImageSet, import_data, save_catvnoncat, save_table
from pydnn.interop.exporting import weights_of
from pydnn.jobs import load_model

TABLES = ("two.h5", "three.h5", "numbers.h5", "steps.h5")
PICTURES = ("cat.png", "cat.jpg", "cat.gif", "cat.webp", "cat.bmp", "cat.tif", "deep.png", "p.png")
RUNS = ("run-of-table", "run-of-photos", "run-of-steps")
MODELS = ("model-of-table", "model-of-photos", "model-of-steps")
LARGE = ("stored.h5", "chunked.h5", "mapped.h5", "table.csv", "X.npy")  # or so they could be
WEIGHTS = ("weights.safetensors", "weights.npz", "weights.h5", "weights.keras")
NORM = ("1/gamma", "1/beta", "statistics/1/mean", "statistics/1/variance")
EVIL = "evilmod"  # a module on the import path that writes the file of its name when imported

# Between them they name every family of parts and most of the keys that a recipe may have.
RECIPES = {
    "bare": """
data = "two.h5"
network = "serial(dense(4), relu, dense(1))"
loss = "sigmoid_cross_entropy"
optimizer = "gradient_descent(learning_rate=0.1)"
iterations = 12
""",
    "full": '''
data = "two.h5"
network = """serial(
    dense(4, initializer=he_normal()), batch_norm(), relu(), dropout(keep_prob=0.8), dense(1)
)"""
loss = "sigmoid_cross_entropy(positive_weight=2.0)"
optimizer = "adam(learning_rate=cosine_decay(0.01, steps=12), beta1=0.9)"
penalties = ["l2_penalty(0.1)"]
batches = "mini_batches(16)"
iterations = 12
standardize = true
validation = 0.25
evaluate_every = 2
watch = "validation cost"
patience = 8
seed = 3
dtype = "float32"
''',
    "three": """
data = "three.h5"
network = "serial(residual(dense(5), tanh), layer_norm(), parallel(dense(2), dense(3)), dense(3))"
loss = "softmax_cross_entropy"
optimizer = "chain(clip_by_global_norm(1.0), momentum(learning_rate=0.05))"
batches = "mini_batches(8)"
iterations = 8
validation = 0.2
evaluate_every = 2
""",
    "numbers": '''
data = "numbers.h5"
network = """serial(
    dense(3),
    gelu(),
    dense(1),
)"""
loss = "mean_squared"
optimizer = "rmsprop(learning_rate=0.01)"
weights = "tutorial(seed=2)"
iterations = 6
rotate = false
numerics = "portable"
''',
    "steps": """
data = "steps.h5"
network = "serial(gru(3), relu, dense(2))"
loss = "softmax_cross_entropy"
optimizer = "adam"
batches = "mini_batches(8)"
iterations = 12
standardize = true
validation = 0.2
evaluate_every = 3
""",
}  # fmt: skip


def make_world(folder: Path) -> None:
    """Fill `folder`, which becomes the current one, with everything that cases copy from."""
    data = {
        "two.h5": _examples("two", lambda X: X[:1] + X[1:2] > 0),
        "three.h5": _examples("three", lambda X: np.digitize(X[:1], [-0.4, 0.4])),
        "numbers.h5": _examples("numbers", lambda X: X[:1] - 2 * X[1:2]),
    }
    data["steps.h5"] = DataSet(_sequences("train", 20), _sequences("test", 6))
    for name, table in data.items():
        save_table(folder / name, table)
    for name, text in RECIPES.items():
        (folder / f"{name}.toml").write_text(text)
    save_catvnoncat(folder / "photos", _images("train", 12), _images("test", 6))
    _write_large(folder)
    _draw_pictures(folder)
    run = ("train", "--quiet", "--checkpoint-every", "4", "--iterations", "12", "--run")
    _succeed(*run, "run-of-table", "full.toml")
    _succeed(*run, "run-of-steps", "steps.toml")
    _succeed(*run, "run-of-photos", "--data", "photos", "--layers", "5,3")
    _export_weights(folder)
    for run, model in zip(RUNS, MODELS, strict=True):
        shutil.copytree(folder / run, folder / "other" / run)
        (folder / model).mkdir()
        shutil.copyfile(folder / run / "model.h5", folder / model / "model.h5")
    (folder / "path").mkdir()
    (folder / "path" / f"{EVIL}.py").write_text(
        f"open({str(folder / EVIL)!r}, 'w').close()\n"
        "from pydnn.descriptions.builders import described\nfrom pydnn import relu\n"
        "f = described('stage')(lambda: relu())\n"
    )
    # Modules that only a careless child process would import: they lie in the current folder.
    (folder / "here").mkdir()
    for name in ("toolz", "multiprocessing", "json", "numpy"):
        (folder / "here" / f"{name}.py").write_text(f"open({str(folder / EVIL)!r}, 'w').close()\n")


def _write_large(folder):
    X = Key(4).normal((30, 4))
    rows = [f"{a:.3f},{b:.0f},{'xyz'[n % 3]},{n % 2}" for n, (a, b, *_) in enumerate(X.tolist())]
    (folder / "table.csv").write_text("\n".join(["a,b,text,y", *rows, ""]))
    import_data(folder / "table.csv", folder / "stored.h5")
    np.save(folder / "X.npy", X)
    with h5py.File(folder / "chunked.h5", "w") as file:
        file.create_dataset("train_X", data=X, chunks=(7, 3), compression="gzip", shuffle=True)
        file.create_dataset("train_Y", data=np.arange(30) % 2, chunks=(11,))
    import_data(folder / "chunked.h5", folder / "mapped.h5")


def _export_weights(folder):
    model = load_model(folder / RUNS[0] / "model.h5")
    for name in WEIGHTS[:2]:
        model.export(folder / name)
    shutil.copyfile(folder / RUNS[0] / "model.h5", folder / WEIGHTS[2])
    arrays = weights_of(model)
    layers = {
        "dense": (arrays["0/W"].T, arrays["0/b"][:, 0]),
        "batch_normalization": [arrays[name][:, 0] for name in NORM],
        "dense_1": (arrays["4/W"].T, arrays["4/b"][:, 0]),
    }
    raw = io.BytesIO()
    with h5py.File(raw, "w") as file:
        for layer, values in layers.items():
            for number, array in enumerate(values):
                file[f"layers/{layer}/vars/{number}"] = array
    with zipfile.ZipFile(folder / WEIGHTS[3], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", raw.getvalue())


def copied(world: Path, name: str, to: Path) -> None:
    """Copy one sound file or folder, under its own name."""
    source, target = world / name, to / name
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copyfile(source, target)


def _examples(name, labels):
    X = Key(1).at(name).normal((5, 40))
    Y = labels(X).astype(float)
    return DataSet(Batch(X, Y), Batch(X[:, :10], Y[:, :10]))


def _sequences(part, count):
    X = Key(3).at(part).normal((5, 2, count))
    return Batch(X, X[:, 0] > 0, lengths=1 + np.arange(count) % 5)


def _images(part, count):
    pixels = Key(2).at(part).uniform((count, 8, 8, 3)) * 255
    return ImageSet(pixels.astype(np.uint8), np.arange(count) % 2)


def _draw_pictures(folder):
    picture = Image.new("RGB", (24, 16), "gray")
    ImageDraw.Draw(picture).ellipse((4, 2, 18, 14), "orange")
    for name in PICTURES[:6]:
        picture.save(folder / name)
    ramp = np.arange(24 * 16, dtype=np.uint16).reshape(16, 24) * 170
    Image.fromarray(ramp).save(folder / "deep.png")
    picture.convert("P").save(folder / "p.png", transparency=0)


def _succeed(*argv):
    if main(argv) != 0:
        raise RuntimeError(f"pydnn {' '.join(argv)} failed on sound input")
