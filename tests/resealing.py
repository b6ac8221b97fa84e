"""Files that a stranger made: changed at will, and sealed again so that no seal tells."""

import json

import h5py
import numpy as np

from pydnn.storage.checksums import seal


def resealed(path, change):
    """Let `change` do what it wants with the open file, and seal what comes of it."""
    with h5py.File(path, "r+") as file:
        room = file.userblock_size
        change(file)
    reseal(path, {}, room=room)


def replaced(name, values, **options):
    """The change that puts another array, or link, in the place of that called `name`."""

    def change(file):
        del file[name]
        if options:
            file.create_dataset(name, data=values, **options)
        else:
            file[name] = values

    return change


def in_about(**changes):
    """The change that has a segment say something else of itself."""
    return lambda file: about(json.dumps(json.loads(file.attrs["about"]) | changes))(file)


def about(text):
    """The change that puts another text in the place of what a segment says of itself."""
    return lambda file: file.attrs.create("about", np.bytes_(text))


def flip(path, position, bits=0xFF):
    """Change some bits of one byte of a file; twice is as before."""
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ bits]))


def reseal(path, places, *, room):
    """Put a new seal into the room before a file, whatever is in it."""
    image = path.read_bytes()[room:]
    path.write_bytes(seal(image, places, room=room) + image)


def forged_column(run, iteration, name, steps, values):
    """Add a column of measurements to a segment of a run, and chain all segments to it anew."""
    from pydnn.fingerprints import fingerprint
    from pydnn.runs.history import row_arrays
    from pydnn.runs.segments import read_segment

    paths = sorted(path for path in (run / "segments").iterdir() if path.suffix == ".h5")
    before = None
    for path in paths:
        segment = read_segment(path)
        changes = {} if before is None else {"before": before}
        if segment.iteration == iteration:
            number = len(segment.columns)
            changes["columns"] = [*map(list, segment.columns), ["measured", name]]
            added = {f"column.{number}.steps": np.array(steps, np.int64),
                     f"column.{number}.values": np.array(values, np.float64)}  # fmt: skip
            rows = {**row_arrays(segment.rows()), **added}
            changes["rows_sha256"] = fingerprint(rows, nan=True)
        else:
            added = {}

        def change(file, changes=changes, added=added):
            for array, numbers in added.items():
                file[array] = numbers
            in_about(**changes)(file)

        resealed(path, change)
        before = read_segment(path).fingerprint
    for path in run.glob("end-*"):
        path.unlink()
