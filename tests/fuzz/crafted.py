"""Files that no accident makes: HDF5 that is not what it says, runs with links, picture bombs."""

import contextlib
import json
import os
import re
import struct
import zlib
from hashlib import sha256

import h5py
import numpy as np
from fuzz.damage import ESCAPES, NUMBERS, call, damaged_bytes, damaged_text, strange_line, with_line
from PIL import Image
from resealing import reseal

# HDF5


def craft_hdf5(rng, path) -> str:
    """Change one thing in an HDF5 file as somebody would who knows HDF5; seal it again."""
    with h5py.File(path, "r+") as file:
        room = file.userblock_size
        attributes = [name for name in file.attrs if name != "format" or rng.random() < 0.1]
        if attributes and rng.random() < 0.4:
            what = _craft_attribute(rng, file, rng.choice(attributes))
        else:
            what = _craft_data_set(rng, file, rng.choice(_data_sets(file)))
    if room:
        reseal(path, {}, room=room)
    return what


def _data_sets(file):
    names = []
    file.visititems(
        lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
    )
    return sorted(names)


def _craft_attribute(rng, file, name):
    value = file.attrs[name]
    text = value.decode() if isinstance(value, bytes) else str(value)
    kind = type(value)

    def as_before(text):
        data = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
        return np.bytes_(data[:60_000] or b" ") if kind is np.bytes_ else data.decode("latin-1")

    make = {
        "edited": lambda: as_before(_damaged_json(rng, text)),
        "bytes": lambda: as_before(damaged_bytes(rng, text.encode())),
        "array": lambda: np.array([1.0, 2.0]),
        "number": lambda: 3,
        "texts": lambda: [text, text],
        "of varying size": lambda: text,
        "long": lambda: as_before(text * 50),
        "empty": lambda: h5py.Empty("S3"),
        "not UTF-8": lambda: np.bytes_(b"\xff\xfe" + text.encode()),
    }
    what = rng.choice(["edited"] * 6 + list(make))
    file.attrs.create(name, make[what]())
    return f"attribute {name}: {what}"


def _damaged_json(rng, text, *, sound=False):
    """JSON with another value in it, or, unless it must be sound, any text with edits."""
    try:
        plain = json.loads(text)
    except ValueError:
        return damaged_text(rng, text)
    if not isinstance(plain, dict) or (not sound and rng.random() < 0.2):
        return damaged_text(rng, text)
    plain[rng.choice(sorted(plain))] = _value(rng)
    return json.dumps(plain)


def _value(rng):
    return rng.choice(
        (
            None, True, -1, 0, 1, 10**9, 2**53, 2**64, 10**400, 1e300, float("nan"), "", [], {},
            ["one"], ["a", "b", "c"], ["\x1b[2J", "b"], ["\ud800", "b"], ["x" * 100_000, "b"],
            [["a"], "b"], [8, 8, 3], [1, 64, 3], [64, 1, 3], [0, 0, 3], rng.choice(ESCAPES),
            "0" * 64, [["observed", "\u202e"]], [["observed", "x"]] * 3, {"a": {"b": {}}},
        )
    )  # fmt: skip


def _craft_data_set(rng, file, name):
    array = file[name][()]
    group, last = file[name].parent, name.rpartition("/")[2]
    del file[name]

    def chunked(payload, filters, shape=None):
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        shape = shape or (array.shape or (1,))
        plan.set_chunk(shape)
        for level in range(filters):
            plan.set_deflate(9 - level)
        space = h5py.h5s.create_simple(shape)
        kind = h5py.h5t.py_create(array.dtype)
        made = h5py.h5d.create(group.id, last.encode(), kind, space, plan)
        made.write_direct_chunk((0,) * len(shape), payload, 0)

    def store(values, **options):
        group.create_dataset(last, data=values, **options)

    def other_values():
        changed = np.array(array)
        with np.errstate(all="ignore"):
            number = rng.choice((0, -1, 1e-310, 1e200, np.nan, np.inf, -np.inf, 255, 2**62))
            if changed.dtype.kind in "iuS":
                number = rng.choice((0, 1, 2, 100))
            changed.reshape(-1)[rng.randrange(max(1, changed.size)) :][: rng.choice((1, 999))] = (
                number
            )
        store(changed)

    def external(target):
        options = {"external": [(target, 0, h5py.h5f.UNLIMITED)]}
        group.create_dataset(last, array.shape or (1,), array.dtype, **options)

    def virtual():
        layout = h5py.VirtualLayout(array.shape or (1,), array.dtype)
        layout[...] = h5py.VirtualSource("/dev/zero", "x", array.shape or (1,))
        group.create_virtual_dataset(last, layout)

    whole = array.tobytes()
    numeric = array if array.dtype.kind in "iuf" else np.zeros(array.shape)
    huge = tuple(1 << 20 for _ in array.shape) or (1 << 40,)
    make = {
        "missing": lambda: None,
        "group": lambda: group.create_group(last),
        "named type": lambda: group.__setitem__(last, np.dtype("f8")),
        "link onto itself": lambda: group.__setitem__(last, h5py.SoftLink(f"/{name}")),
        "soft link": lambda: group.__setitem__(last, h5py.SoftLink("/nowhere")),
        "external link": lambda: group.__setitem__(last, h5py.ExternalLink("/dev/zero", "x")),
        "link to a pipe": lambda: group.__setitem__(last, h5py.ExternalLink("pipe", "x")),
        "external": lambda: external(rng.choice(("/dev/zero", "pipe", "/etc/hostname"))),
        "virtual": virtual,
        "other values": other_values,
        "other type": lambda: store(
            numeric.astype(
                rng.choice(("f2", "g", ">f8", "f4", "i1", "u2", "?", "c16", "S5")), copy=False
            )
        ),
        "texts": lambda: store([rng.choice(ESCAPES).encode(errors="surrogatepass")] * 2),
        "texts of varying size": lambda: group.__setitem__(last, ["a", "b"]),
        "records": lambda: store(np.zeros(array.shape, [("a", "f8"), ("b", "i4")])),
        "other shape": lambda: store(
            rng.choice((array[..., None], array.reshape(-1), array.T, array[None], array[:0]))
            if array.ndim
            else array.reshape(1, 1)
        ),
        "fewer rows": lambda: store(array[: len(array) // 2] if array.ndim else array),
        "empty": lambda: store(h5py.Empty("f8")),
        "huge claim": lambda: group.create_dataset(
            last, huge, "f8", chunks=tuple(min(n, 64) for n in huge), fillvalue=1.0
        ),
        "enumeration": lambda: store(
            np.zeros(array.shape, h5py.enum_dtype({"A": 0, "B": 1}, basetype="i8"))
        ),
        "one chunk": lambda: chunked(whole or b"\0" * 8, 0) if array.size else None,
        "compressed": lambda: chunked(zlib.compress(whole), 1) if array.size else None,
        "short chunk": lambda: chunked(zlib.compress(whole[:8]), 1) if array.size else None,
        "long chunk": lambda: chunked(zlib.compress(whole * 9), 1) if array.size else None,
        "bomb": lambda: chunked(_BOMB, 2) if array.size else None,
        "bad stream": lambda: chunked(zlib.compress(whole)[:-9], 1) if array.size else None,
        "shuffled": lambda: store(array, shuffle=True, compression="gzip") if array.ndim else None,
        "lzf": lambda: store(array, compression="lzf") if array.size and array.ndim else None,
        "checksums": lambda: store(array, fletcher32=True) if array.size and array.ndim else None,
        "scaled": lambda: (
            store(numeric.astype("i4"), scaleoffset=0) if array.size and array.ndim else None
        ),
    }
    what = rng.choice(sorted(make))
    with contextlib.suppress(ValueError, TypeError, OSError):  # or it stays missing
        make[what]()
    return f"data set {name}: {what}"


def _zeros(count: int) -> bytes:
    """What zlib makes of so many zeros, put together without compressing them all."""
    writer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = writer.compress(bytes(1 << 20)) + writer.flush(zlib.Z_FULL_FLUSH)
    last = writer.compress(bytes(count % (1 << 20))) + writer.flush()
    adler = count % 65521 << 16 | 1
    return b"\x78\xda" + block * (count >> 20) + last + adler.to_bytes(4, "big")


_BOMB = zlib.compress(_zeros(1 << 30), 9)

# Folders of runs


def craft_folder(rng, run) -> str:
    """Put links, pipes, devices or strange files where those of a run are."""
    files = sorted(path for path in run.rglob("*") if path.is_file())
    path = rng.choice(files)
    if rng.random() < 0.3:
        path = rng.choice(
            (run / "lock", run / "set-aside", run / "segments", run / "end-0000000012.json")
        )
    elsewhere = run.parent / "elsewhere"
    aside = run.parent / f"aside-{path.name}"
    make = {
        "missing": lambda: None,
        "empty": path.touch,
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link to zeros": lambda: path.symlink_to("/dev/zero"),
        "link elsewhere": lambda: path.symlink_to(elsewhere),
        "link to itself": lambda: path.symlink_to(path.name),
        "link to the file": lambda: path.symlink_to(aside),
        "link to nothing": lambda: path.symlink_to(elsewhere / "new"),
        "sparse": lambda: (path.touch(), os.truncate(path, 1 << 36)),
        "another's": lambda: path.write_bytes(rng.choice(files).read_bytes()),
    }
    what = rng.choice(sorted(make))
    if path.exists():
        path.rename(aside)
    files = [file for file in files if file.exists()]
    make[what]()
    if rng.random() < 0.3:
        name = rng.choice(
            ("\x1b[2J.h5", "\udcff", "a\nb", "0000000099.h5", "0000000004.h5.h5", "end-1.json")
        )
        folders = [f for f in (run, run / "segments") if f.is_dir() and not f.is_symlink()]
        (rng.choice(folders) / name).write_bytes(b"x")
        what += f", and a file {name!r}"
    return f"{path.relative_to(run)}: {what}"


def forge_history(rng, run) -> str:
    """Change what a run says of itself, and every seal and fingerprint so that they fit it."""
    segments = sorted((run / "segments").iterdir())
    texts = {"recipe": run / "recipe.toml", "environment": run / "environment.json"}
    what = rng.choice((*texts, "about"))
    if what == "recipe":
        text = texts[what].read_text()
        line = f"{rng.choice(re.findall('(?m)^([a-z_]+) = ', text))} = {rng.choice(NUMBERS)}\n"
        line = rng.choice((line, strange_line(rng), strange_line(rng)))
        texts[what].write_bytes(with_line(text, line).encode(errors="surrogatepass"))
    elif what == "environment":
        texts[what].write_text(_damaged_json(rng, texts[what].read_text(), sound=True))
    changed, value = rng.choice(segments), _value(rng)
    key = rng.choice(("goal", "seed", "key", "columns", "start", "iteration"))
    digests = {name: sha256(path.read_bytes()).hexdigest() for name, path in texts.items()}
    before = digests["recipe"]
    for path in segments:
        with h5py.File(path, "r+") as file:
            room = file.userblock_size
            about = json.loads(file.attrs["about"]) | digests | {"before": before}
            if what == "about" and path == changed:
                about[key] = value
            said = json.dumps(about).encode()[:60_000]
            file.attrs.create("about", np.bytes_(said))
            for name, text in texts.items():
                del file[f"text.{name}"]
                file[f"text.{name}"] = np.frombuffer(text.read_bytes(), np.uint8)
        reseal(path, {}, room=room)
        before = sha256(said).hexdigest()
    for path in run.glob("end-*.json"):
        path.unlink()
    return f"forged {what} {key if what == 'about' else ''}"


# Pictures


def craft_picture(rng, path) -> str:
    """A picture that takes far more memory than it has bytes, or is none."""
    make = {
        "large PNG": lambda: _png(path, 30_000, 30_000),
        "wide PNG": lambda: _png(path, 2**31 - 1, 1),
        "PNG of 80 megapixels": lambda: _png(path, 9000, 8900),
        "no size": lambda: _png(path, 0, 0),
        "large GIF": lambda: path.write_bytes(
            b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + bytes(6)
            + b"," + struct.pack("<HHHH", 0, 0, 65535, 65535) + b"\0\x02\x02L\x01\0;"
        ),
        "large BMP": lambda: path.write_bytes(
            b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 30000, 30000, 1, 24, 0, 0,
            0, 0, 0, 0)
        ),
        "large WEBP": lambda: path.write_bytes(
            b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f"
            + struct.pack("<I", 16382 | 5399 << 14) + bytes(8)
        ),
        "large TIFF": lambda: _large(path, "TIFF", "F"),
        "tall JPEG": lambda: _large(path, "JPEG", "L"),
        "PostScript": lambda: path.write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(evilmod) (w) file\n"
        ),
        "NaN": lambda: Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(path, "TIFF"),
        "infinite": lambda: Image.fromarray(np.full((4, 4), np.inf, np.float32)).save(path, "TIFF"),
        "negative": lambda: Image.fromarray(np.full((4, 4), -5, np.int32)).save(path, "TIFF"),
        "tiny": lambda: Image.new("1", (1, 1)).save(path, "PNG"),
        "thin": lambda: Image.new("RGB", (1, 50_000)).save(path, "PNG"),
        "CMYK": lambda: Image.new("CMYK", (9, 9)).save(path, "JPEG"),
        "text of a gigabyte": lambda: _png(path, 4, 4, _zeros(1 << 28)),
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "missing": lambda: None,
        "SVG": lambda: path.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>'),
        "Python": lambda: path.write_text("import evilmod"),
    }  # fmt: skip
    path.unlink()
    what = rng.choice(sorted(make))
    make[what]()
    return f"{path.name}: {what}"


def _png(path, width, height, text=b""):
    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        + (chunk(b"zTXt", b"Comment\0\0" + text) if text else b"")
        + chunk(b"IDAT", _zeros(height * (width + 1))) + chunk(b"IEND", b"")
    )  # fmt: skip


def _large(path, form, mode):
    options = {"compression": "tiff_adobe_deflate"} if form == "TIFF" else {}
    Image.new(mode, (4000, 4500)).save(path, form, **options)


# The command line


def strange_value(rng) -> str:
    """What somebody may type after an option."""
    typed = rng.choice(
        (
            rng.choice(NUMBERS), rng.choice(ESCAPES), call(rng), "", " ", ",", "0,1,2", "1,,2",
            "a" * 5000, "9" * 5000, "-5", "0.1,0.3", "validation cost", "/dev/zero", "~", "..",
            "network.0.units=1,2", "optimizer.learning_rate=0.1,nan", "seed=1,99999999999999999999",
            "network=relu,", "=", "a=b", "data='a$^_$.h5','b.h5'", "1/0", "-1/0", "0/0/0", "1e9",
        )
    )  # fmt: skip
    # No argument holds a zero byte; and a stranger's part is allowed to who types it himself.
    return typed.replace("\0", "0").replace(":", ";")
