"""Files that a stranger made: changed at will, and sealed again so that no seal tells."""

import json

import h5py
import numpy as np

from pydnn.seals import seal


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
