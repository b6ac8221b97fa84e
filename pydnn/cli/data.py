"""`pydnn data`: draw image sets, show and describe them; describe texts; import large data."""

from __future__ import annotations

import argparse

import attrs
import numpy as np

from pydnn.checks import MOST_SEED, expect_count, path_of
from pydnn.cli.output import complain, say, say_json
from pydnn.cli.progress import progress_shown
from pydnn.cli.recipe_options import (
    add_picture_options,
    add_text_option,
    test_part,
    text_examples,
)
from pydnn.cli.run_options import Commands, option_group
from pydnn.data import (
    DataSet,
    ImageFolder,
    ImageSet,
    contact_sheet,
    drawn_cats,
    import_data,
    save_catvnoncat,
    save_sheet,
    text,
)
from pydnn.data.sets import images_of
from pydnn.data.texts import is_text
from pydnn.free_memory import readable

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command and its four subcommands to those of the parser."""
    parser = commands.add_parser(
        "data",
        help="draw, show and describe image sets, describe texts, and import large data",
        description="Draw image sets, show them and describe them; describe texts; copy data into "
        "a file that may be larger than memory.",
        epilog="example: pydnn data draw cats/ --count 2000 --seed 7",
    )
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_draw(verbs)
    _add_show(verbs)
    _add_info(verbs)
    _add_import(verbs)


def _add_draw(verbs: Commands) -> None:
    draw = verbs.add_parser(
        "draw",
        help="draw cats and other things into two HDF5 files",
        description="Draw images of cats and of other things, in the layout of the real photos.",
    )
    images = option_group(draw, "what to draw, and where", "cats/ --count 2000 --seed 7")
    option = images.add_argument
    option("folder", type=path_of, metavar="OUT", help="the folder for the two files")
    option("--count", type=int, default=2000, metavar="N", help="training images")
    option(
        "--test-count", type=int, metavar="N", help="test images (default: a quarter of --count)"
    )
    option(
        "--seed", "--key", type=int, default=1, metavar="N", help="another seed draws other images"
    )
    draw.set_defaults(run=_draw)


def _add_show(verbs: Commands) -> None:
    show = verbs.add_parser(
        "show",
        help="save a contact sheet with labels",
        description="Save a contact sheet of training images, each with its label.",
    )
    images = option_group(show, "what to show, and where", "drawn-cats --png sheet.png")
    option = images.add_argument
    option("data", metavar="drawn-cats|DIR", help="the images")
    option("--png", type=path_of, required=True, metavar="FILE", help="the file for the sheet")
    option("--count", type=int, default=60, metavar="N", help="images on the sheet")
    add_picture_options(images)
    show.set_defaults(run=_show)


def _add_info(verbs: Commands) -> None:
    info = verbs.add_parser(
        "info",
        help="describe an image set or a text",
        description="Print the size, the labels and the brightness of training and test images, "
        "or the examples and the symbols of a text.",
    )
    images = option_group(info, "what to describe", "photos/")
    images.add_argument("data", metavar="drawn-cats|DIR|TEXT", help="the images, or a text's file")
    add_picture_options(images)
    add_text_option(images)
    info.add_argument("--json", action="store_true", help="print one JSON object instead")
    info.set_defaults(run=_info)


def _add_import(verbs: Commands) -> None:
    parser = verbs.add_parser(
        "import",
        help="copy data once into a file that may be larger than memory",
        description="Copy a table, arrays or pictures into an HDF5 file of contiguous arrays, from "
        "which a training reads only the examples that it needs. The copy gives the same results "
        "as the source, and about 100 MB of it are in memory at a time. An interrupted import "
        "leaves no file.",
    )
    files = option_group(parser, "what to copy, and where", "trips.csv trips.h5")
    files.add_argument(
        "source",
        type=path_of,
        metavar="SRC",
        help="a CSV, TSV, Parquet, npz, npy or HDF5 file, or a folder of pictures",
    )
    files.add_argument(
        "out", type=path_of, metavar="OUT.h5", help="the file to write, .h5 or .hdf5"
    )
    files.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first line of a CSV file names the columns (default: unless its cells "
        "are numbers)",
    )
    arrays = option_group(
        parser, "which arrays of an HDF5, npz or npy file", "big.h5 OUT.h5 --target labels"
    )
    arrays.add_argument(
        "--inputs",
        default="",
        metavar="NAME",
        help="the array of inputs, with one example per row (default: the only other one)",
    )
    arrays.add_argument(
        "--target",
        default="",
        metavar="NAME",
        help="the array of labels, or the npy file of labels for an npy file of inputs; tables "
        "with named columns need none",
    )
    part = option_group(parser, "test part and pictures", "photos/ OUT.h5 --test 0.2")
    part.add_argument(
        "--test",
        type=test_part,
        default="",
        metavar="FILE|SHARE",
        help="for named arrays a second file like SRC, for pictures the share to hold back; of "
        "tables, the training chooses the test part",
    )
    add_picture_options(part)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.set_defaults(run=_import)


def _import(args: argparse.Namespace) -> int:
    with progress_shown() as on_progress:
        imported = import_data(
            args.source,
            args.out,
            inputs=args.inputs,
            target=args.target,
            test=args.test,
            image_size=args.image_size,
            skip_unreadable=bool(args.skip_unreadable),
            header=args.header,
            on_progress=on_progress,
        )
    for note in imported.notes:
        complain(note)
    size = args.out.stat().st_size
    if args.json:
        facts = {"file": str(imported.path), "rows": imported.rows, "bytes": size}
        say_json({**facts, "what": imported.what})
        return 0
    say(f"{imported.rows} rows in {imported.path} ({readable(size)}): {imported.what}")
    return 0


def _draw(args: argparse.Namespace) -> int:
    count = expect_count("--count", args.count, hint="draw one training image or more")
    tests = args.test_count if args.test_count is not None else max(1, count // 4)
    expect_count("--test-count", tests, hint="draw one test image or more")
    hint = "another seed draws other images"
    expect_count("--seed", args.seed, least=0, most=MOST_SEED, hint=hint)
    train, test = drawn_cats(args.seed, train_count=count, test_count=tests)
    save_catvnoncat(args.folder, train, test)
    say(f"{count} training and {tests} test images in {args.folder}")
    return 0


def _show(args: argparse.Namespace) -> int:
    shown = _some_of_each(_images(args).train, args.count)
    save_sheet(args.png, contact_sheet(shown, count=args.count))
    say(args.png)
    return 0


def _some_of_each(images: ImageSet, count: int) -> ImageSet:
    """The images, or evenly spaced ones if the first `count` of them lack a class.

    In a folder of pictures, all pictures of a class come before those of the next class.
    """
    if len(np.unique(images.labels[: max(1, count)])) == len(np.unique(images.labels)):
        return images
    places = np.linspace(0, len(images) - 1, min(max(1, count), len(images))).astype(np.int64)
    return ImageSet(images.images[places], images.labels[places], images.classes)


def _info(args: argparse.Namespace) -> int:
    examples = text_examples(args)
    if examples is not None or is_text(args.data):
        return _info_of_text(args, text(args.data, examples))
    images = _images(args)
    sets = {"train": images.train, "test": images.test}
    parts = {part: _facts(one) for part, one in sets.items() if one is not None}
    about = {"sha256": images.fingerprint}
    if images.kept is not None:
        about["decoded"] = str(images.kept)
    if args.json:
        say_json({**{part: attrs.asdict(facts) for part, facts in parts.items()}, **about})
        return 0
    for part, facts in parts.items():
        height, width, _ = facts.image_shape
        counts = ", ".join(f"{count} {name}" for name, count in facts.labels.items())
        say(
            f"{part:5}  {facts.images} images of {height} x {width} pixels: {counts}; "
            f"mean brightness {facts.brightness:.3f}"
        )
    say(f"sha256 {images.fingerprint}")
    if images.kept is not None:
        say(f"decoded in {images.kept}")
    return 0


def _info_of_text(args: argparse.Namespace, data: DataSet) -> int:
    vocabulary = data.vocabulary
    assert vocabulary is not None
    batch = data.train.in_memory()
    (steps, m), lengths = batch.X.shape, batch.lengths
    if args.json:
        shortest = steps if lengths is None else int(lengths.min())
        facts = {"examples": m, "fewest_steps": shortest, "most_steps": steps}
        say_json({**facts, "symbols": vocabulary.symbols})
        return 0
    of = f"{steps}" if lengths is None else f"{lengths.min()} to {steps}"
    say(f"{m} examples of {of} steps")
    symbols = ", ".join(map(repr, vocabulary.symbols[:_MOST_SYMBOLS]))
    more = ", …" if len(vocabulary.symbols) > _MOST_SYMBOLS else ""
    say(f"{len(vocabulary.symbols)} symbols: {symbols}{more}")
    return 0


_MOST_SYMBOLS = 100  # that are shown


def _images(args: argparse.Namespace) -> ImageFolder:
    images = images_of(
        args.data, image_size=args.image_size, skip_unreadable=bool(args.skip_unreadable)
    )
    for note in (*images.notes, *images.skipped):
        complain(note)
    return images


@attrs.frozen
class _Facts:
    """What `data info` shows of one part of an image set: the fields of its JSON object."""

    images: int
    image_shape: tuple[int, ...]
    labels: dict[str, int]
    brightness: float


def _facts(images: ImageSet) -> _Facts:
    counts = np.bincount(images.labels, minlength=len(images.classes)).tolist()
    return _Facts(
        len(images),
        images.images.shape[1:],
        dict(zip(images.classes, counts, strict=True)),
        float(images.images.mean()) / 255,
    )
