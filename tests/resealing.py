"""Make files as an attacker could: changed at will, with checksums that match again."""

import json

import h5py
import numpy as np

from pydnn.storage.checksums import seal


def resealed(path, change):
    """Apply `change` to the open file, and write a new checksum."""
    with h5py.File(path, "r+") as file:
        room = file.userblock_size
        change(file)
    reseal(path, {}, room=room)


def replaced(name, values, **options):
    """Return a change that replaces the array called `name` by another array or link."""

    def change(file):
        del file[name]
        if options:
            file.create_dataset(name, data=values, **options)
        else:
            file[name] = values

    return change


def in_about(**changes):
    """Return a change that replaces fields of a segment's description."""
    return lambda file: about(json.dumps(json.loads(file.attrs["about"]) | changes))(file)


def about(text):
    """Return a change that replaces the whole description of a segment by another text."""
    return lambda file: file.attrs.create("about", np.bytes_(text))


def flip(path, position, bits=0xFF):
    """Flip some bits of one byte of a file; doing it twice restores the file."""
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ bits]))


def reseal(path, places, *, room):
    """Write a new checksum into the user block of a file, whatever its contents are."""
    image = path.read_bytes()[room:]
    path.write_bytes(seal(image, places, room=room) + image)


def forged_column(run, iteration, name, steps, values):
    """Add a column of measurements to a segment of a run, and update the chain of fingerprints."""
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
