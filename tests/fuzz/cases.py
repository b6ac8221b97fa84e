"""One case of the fuzz test: a sound thing, what was done to a copy of it, and a command."""

import random
from pathlib import Path

import attrs
from fuzz.crafted import craft_folder, craft_hdf5, craft_picture, forge_history, strange_value
from fuzz.damage import damaged_bytes, damaged_text
from fuzz.world import LARGE, MODELS, PICTURES, RECIPES, RUNS, TABLES, WEIGHTS, copied

PHOTOS = "photos"


@attrs.frozen
class Case:
    """What is run, and how it is judged.

    Attributes:
        what: The damage, in words.
        argv: The command line, run in the folder that holds the damaged copies.
        needs: What is copied there.
        judged: Whether a success must say what the sound files say.
    """

    what: str
    argv: tuple[str, ...]
    needs: tuple[str, ...]
    judged: bool = False


def make_case(seed: int, number: int, world: Path, here: Path) -> Case:
    """Case `number` of those of `seed`, with its damaged files in the folder `here`."""
    rng = random.Random(f"{seed} {number}")
    make = rng.choices(tuple(_WEIGHTS), tuple(_WEIGHTS.values()))[0]
    return make(rng, world, here)


def lay(world: Path, here: Path, needs: tuple[str, ...]) -> None:
    """Copy the sound files of these names from the world to the folder `here`."""
    for name in needs:
        copied(world, name, here)


def _few_steps(rng, *extra):
    return ("--iterations", "3", *(("--json",) if rng.random() < 0.3 else ()), *extra)


def _on_recipe(rng, name):
    return rng.choice(
        (
            ("summary", name),
            ("train", name, "--no-record", *_few_steps(rng)),
            ("train", name, "--quiet", "--run", "new", *_few_steps(rng)),
            ("sweep", name, "--seeds", "2", *_few_steps(rng)),
        )
    )


def _recipe(rng, world, here):
    """A recipe with other tokens, or other bytes."""
    name = f"{rng.choice(sorted(RECIPES))}.toml"
    needs = (name, *TABLES)
    lay(world, here, needs)
    what = _change_text(rng, here / name)
    return Case(f"{name}: {what}", _on_recipe(rng, name), needs)


def _change_text(rng, path):
    if rng.random() < 0.8:
        path.write_bytes(damaged_text(rng, path.read_bytes().decode()))
        return "other tokens"
    return _change_bytes(rng, path)


def _on_run(rng, run):
    json = ("--json",) if rng.random() < 0.3 else ()
    commands = [
        ("evaluate", run, *json), ("replay", run, *json), ("replay", run, "--segments", "2"),
        ("inspect", run, "--step", "6", *json), ("inspect", run, "--step", "11"),
        ("diff", run, f"other/{run}", *json), ("diff", f"other/{run}", run),
        ("doctor", run, *json), ("resume", run, "--json"), ("resume", run, "--json"),
        ("train", f"{run}/recipe.toml", "--no-record", *_few_steps(rng)),
        ("predict", run, "cat.png", *json), ("prune", run, *json), ("prune", run, "--every", "2"),
    ]  # fmt: skip
    return rng.choice(commands)


def _run(rng, world, here):
    """A run of which one file, or its folder, is not as it was."""
    run = rng.choice(RUNS)
    needs = (run, f"other/{run}", "cat.png", "two.h5", "steps.h5", PHOTOS)
    lay(world, here, needs)
    argv = _on_run(rng, run)
    path = rng.choice(
        sorted(p for p in (here / run).rglob("*") if p.is_file() and p.name != "lock")
    )
    judged = argv[0] not in ("train", "prune")
    if rng.random() < 0.2:
        return Case(craft_folder(rng, here / run), argv, needs, judged)
    if rng.random() < 0.2:
        return Case(forge_history(rng, here / run), argv, needs)
    if path.suffix != ".h5":
        what = _change_text(rng, path)
    elif rng.random() < 0.4:
        # Who seals a model again may say what he likes with it; a segment is one of a chain.
        what, judged = craft_hdf5(rng, path), judged and argv[0] == "replay"
    else:
        what = _change_bytes(rng, path)
    return Case(f"{path.relative_to(here)}: {what}", argv, needs, judged)


def _model(rng, world, here):
    """A model alone, without the rest of its run."""
    name = rng.choice(MODELS)
    needs = (name, "cat.png", "two.h5", "steps.h5", PHOTOS)
    lay(world, here, needs)
    path = here / name / "model.h5"
    crafted = rng.random() < 0.6
    what = craft_hdf5(rng, path) if crafted else _change_bytes(rng, path)
    argv = rng.choice(
        (
            ("evaluate", name), ("evaluate", name, "--json"), ("predict", name, "cat.png"),
            ("export", name, rng.choice(("m.onnx", "m.safetensors", "m.npz", "m.pt"))),
        )
    )  # fmt: skip
    return Case(f"{name}: {what}", argv, needs, not crafted)


def _weights(rng, world, here):
    """A file of weights that is damaged, or crafted."""
    name = rng.choice(WEIGHTS)
    needs = (name, "full.toml", "two.h5")
    lay(world, here, needs)
    path = here / name
    what = _change_hdf5(rng, path) if path.suffix == ".h5" else _change_bytes(rng, path)
    recorded = rng.choice((("--no-record",), ("--run", "new")))
    argv = ("train", "full.toml", "--start-from", name, *recorded, *_few_steps(rng))
    return Case(f"{name}: {what}", argv, needs)


def _table(rng, world, here):
    """A table that is damaged, or crafted."""
    name = rng.choice(TABLES)
    recipe = {
        "two.h5": "full.toml",
        "three.h5": "three.toml",
        "numbers.h5": "numbers.toml",
        "steps.h5": "steps.toml",
    }[name]
    needs = (name, recipe, RUNS[0])
    lay(world, here, needs)
    what = _change_hdf5(rng, here / name)
    commands = [_on_recipe(rng, recipe)] * 3
    commands += [("train", "--data", name, "--no-record", *_few_steps(rng))]
    if name == "two.h5":
        commands += [
            ("evaluate", RUNS[0], "--data", name), ("replay", RUNS[0], "--data", name),
            ("doctor", RUNS[0], "--data", name), ("inspect", RUNS[0], "--step=3", "--data", name),
            ("resume", RUNS[0], "--data", name, "--json"),
        ]  # fmt: skip
    argv = rng.choice(commands)
    return Case(f"{name}: {what}", argv, needs, argv[0] in ("replay", "inspect", "resume"))


def _large(rng, world, here):
    """A file to import or to map that is damaged, or crafted."""
    name = rng.choice(LARGE)
    lay(world, here, (name,))
    path = here / name
    if path.suffix == ".h5":
        what = _change_hdf5(rng, path)
    elif path.suffix == ".csv":
        what = _change_text(rng, path)
    else:
        what = _change_bytes(rng, path)
    target = ("--target", "y") if name in ("stored.h5", "table.csv") else ()
    commands = [("data", "import", name, "new.h5")] * 2
    if name == "X.npy":
        target = ("--target", "column 1")
        commands += [("data", "import", name, "new.h5", "--target", name)]
    mapped = rng.choice(MAPPED if path.suffix == ".h5" else ((),))
    commands += [
        ("train", "--data", name, *target, *mapped, "--no-record", *_few_steps(rng)),
        ("train", "--data", name, *target, *mapped, "--quiet", "--run", "new", *_few_steps(rng)),
    ]
    return Case(f"{name}: {what}", rng.choice(commands), (name,))


MAPPED = ((), ("--mapped",), ("--no-mapped",))


def _photos(rng, world, here):
    """A folder of photos of which one file is damaged, or crafted."""
    needs = (PHOTOS, RUNS[1])
    lay(world, here, needs)
    name = rng.choice(("train_catvnoncat.h5", "test_catvnoncat.h5"))
    what = _change_hdf5(rng, here / PHOTOS / name)
    argv = rng.choice(
        (
            ("data", "info", PHOTOS), ("data", "info", PHOTOS, "--json"),
            ("data", "show", PHOTOS, "--png", "sheet.png", "--count", "4"),
            ("train", "--data", PHOTOS, "--layers", "3", "--no-record", *_few_steps(rng)),
            ("evaluate", RUNS[1], "--data", PHOTOS), ("replay", RUNS[1], "--data", PHOTOS),
            ("summary", "--data", PHOTOS, "--layers", "3"),
        )
    )  # fmt: skip
    return Case(f"{name}: {what}", argv, needs, argv[0] == "replay")


def _change_hdf5(rng, path):
    if rng.random() < 0.7:
        return craft_hdf5(rng, path)
    return _change_bytes(rng, path)


def _change_bytes(rng, path):
    path.write_bytes(damaged_bytes(rng, path.read_bytes()))
    return "other bytes"


def _picture(rng, world, here):
    """A picture that is damaged, or a bomb."""
    name = rng.choice(PICTURES)
    lay(world, here, (name, RUNS[1]))
    path = here / name
    if rng.random() < 0.4:
        what = craft_picture(rng, path)
    else:
        what = f"{name}: {_change_bytes(rng, path)}"
        if rng.random() < 0.1:
            name = path.rename(here / rng.choice(("\x1b[2J.png", "\udce9.png", "a\nb.png"))).name
    return Case(what, ("predict", RUNS[1], name), ())


def _command_line(rng, world, here):
    """Sound files, and an option that may mean anything."""
    lay(world, here, (*RUNS, *TABLES, "cat.png", PHOTOS, *(f"{name}.toml" for name in RECIPES)))
    value = strange_value(rng)
    options = {
        ("train", "bare.toml", "--no-record", *_few_steps(rng)): (*_OF_RECIPES, "--plot", "--run"),
        ("summary", "three.toml"): _OF_RECIPES,
        ("sweep", "bare.toml", *_few_steps(rng)): (
            *_OF_RECIPES, "--seeds", "--learning-rates", "--penalty-strengths", "--vary", "--vary",
            "--best-by", "--save-best", "--plot",
        ),
        ("replay", RUNS[0]): ("--segments", "--sample", "--data"),
        ("inspect", RUNS[0]): ("--step", "--step=5 --part", "--step=5 --layer", "--step=5 --data"),
        ("diff", *RUNS[:2]): ("--data", "--other-data"),
        ("evaluate", RUNS[1]): ("--data",),
        ("predict", RUNS[1]): ("cat.png", "--"),
        ("doctor", RUNS[0]): ("--data",),
        ("resume", RUNS[0], "--json"): ("--data", "--checkpoint-every"),
        ("data", "info"): ("",),
        ("parts",): ("",),
        ("data", "show", PHOTOS, "--png", "s.png"): ("--count",),
        ("data", "draw", "new", "--count", "1"): ("--seed", "--test-count=1 --seed"),
    }  # fmt: skip
    command = rng.choice(sorted(options))
    option = rng.choice(options[command]).split()
    typed = [f"{option[-1]}={value}"] if option and rng.random() < 0.5 else [*option[-1:], value]
    return Case(f"{option} {value[:40]!r}", (*command, *option[:-1], *typed), ())


_OF_RECIPES = (
    "--data", "--layers", "--learning-rate", "--network", "--loss", "--optimizer", "--batches",
    "--weights", "--start-from", "--penalty", "--validation", "--evaluate-every", "--watch",
    "--patience", "--seed", "--dtype", "--numerics",
)  # fmt: skip
_WEIGHTS = {
    _recipe: 30,
    _run: 30,
    _table: 12,
    _large: 10,
    _photos: 8,
    _picture: 10,
    _command_line: 12,
    _model: 8,
    _weights: 8,
}
