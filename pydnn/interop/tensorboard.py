"""Event files that TensorBoard opens, without TensorBoard or protobuf.

An event file is a sequence of records. A record is the length of its payload, the masked CRC-32C
of that length, the payload, and the masked CRC-32C of the payload. A payload is one protobuf
message, an Event, which holds a time, a step and named numbers.
"""

from __future__ import annotations

import functools
import math
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from pydnn.checks import AnyPath, BadInput, path_of
from pydnn.storage.files import open_regular, writing
from pydnn.training import StepInfo, values_of
from pydnn.training.streams import Stream, logged

__all__ = ["EventLog", "log_tensorboard"]

_MOST_FLOAT32 = 3.4028235677973366e38  # what is this large or larger rounds to infinity
_FLUSH_SECONDS = 1.0  # a reader of the file sees each step at most this much later


@functools.cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


def crc32c(data: bytes) -> int:
    """The CRC-32C (Castagnoli) of bytes.

    References:
        RFC 3720, section 12.1 and appendix B.4.

    Example:
        >>> from pydnn.interop.tensorboard import crc32c
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    """The CRC-32C, rotated and shifted, so that it still finds errors in data that contain CRCs."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record_of(payload: bytes) -> bytes:
    """The record of an event file that holds `payload`."""
    length = struct.pack("<Q", len(payload))
    return length + _masked(length) + payload + _masked(payload)


def event(
    wall_time: float, step: int, values: Mapping[str, float], *, starts: bool = False
) -> bytes:
    """The protobuf message of one step.

    Args:
        wall_time: Seconds since 1970.
        step: The number of the step.
        values: The numbers by name. They become float32, as TensorBoard has them; what is beyond
            the range of float32 becomes infinity.
        starts: Whether a training starts, or starts again, at this step. TensorBoard then forgets
            the numbers of this step and of all later ones that it has read before.
    """
    message = struct.pack("<Bd", 0x09, wall_time) + b"\x10" + _varint(step)
    if starts:
        message += b"\x3a\x02\x08\x01"  # session_log, of which the status is START
    if values:
        summary = b"".join(
            _field(0x0A, _field(0x0A, name.encode(errors="replace")) + b"\x15" + _float32(value))
            for name, value in values.items()
        )
        message += _field(0x2A, summary)
    return message


def _field(tag: int, payload: bytes) -> bytes:
    return bytes([tag]) + _varint(len(payload)) + payload


def _varint(number: int) -> bytes:
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def _float32(value: float) -> bytes:
    if math.isfinite(value) and abs(value) >= _MOST_FLOAT32:
        value = math.copysign(math.inf, value)
    return struct.pack("<f", value)


class EventLog:
    """An event file that takes one step after the other; see `log_tensorboard`.

    Raises:
        BadInput: If the folder holds event files that are not this log's, or cannot be written.
    """

    def __init__(
        self,
        folder: AnyPath,
        *,
        owner: str = "pydnn",
        resumed: bool = False,
        before: Iterable[StepInfo] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin a new event file.

        Args:
            folder: Where it is written; it is made where it is missing.
            owner: What the names of the files of this log end in.
            resumed: Whether the training goes on, so that the folder may hold files of this log.
            before: The steps before this one's first. Those that no file of the log holds yet are
                written first.
            clock: The time of an event, in seconds since 1970.
        """
        self._clock, self._flushed = clock, clock()
        before = list(before)
        first, path = 0, path_of(folder)
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            ours = _ours(path, owner, resumed)
            if ours and before:
                first = min(_next_step(ours[-1]), len(before))
            self.path = path / f"{_PREFIX}{first:010}.{owner}"
            for old in ours:
                if old.name >= self.path.name:
                    old.unlink()  # its steps are taken again, to the same bits
            self._file = self.path.open("xb")
        now = clock()
        opening = struct.pack("<Bd", 0x09, now) + _field(0x1A, b"brain.Event:2")
        start = record_of(opening) + record_of(event(now, first, {}, starts=True))
        with writing(self.path):
            self._file.write(start)
            for info in before[first:]:
                self.write(info)
            self._file.flush()

    def write(self, info: StepInfo) -> None:
        """Write the numbers of one step."""
        now = self._clock()
        with writing(self.path):
            self._file.write(record_of(event(now, info.iteration, values_of(info))))
            if not 0 <= now - self._flushed < _FLUSH_SECONDS:
                self._file.flush()
                self._flushed = now

    def close(self) -> None:
        """Write what is still in memory, and close the file."""
        with writing(self.path):
            self._file.close()


_PREFIX = "events.out.tfevents."  # by which TensorBoard knows a file


def log_tensorboard(
    stream: Stream, folder: AnyPath, *, clock: Callable[[], float] = time.time
) -> Stream:
    """Write the numbers of every step to an event file, and hand the pairs of `stream` on.

    For a recorded run, `record(…, tensorboard=…)` does this, and goes on with the log when the
    run is resumed.

    Args:
        stream: What is logged.
        folder: A folder without event files, such as "logs/first"; `tensorboard --logdir logs`
            then shows the trainings of all folders in "logs" together.
        clock: The time of an event, in seconds since 1970.

    Raises:
        BadInput: If the folder holds event files already, or cannot be written.

    Example:
        >>> from pathlib import Path
        >>> recipe = nn.Recipe("a line", "dense(1)", "mean_squared()", "adam()", iterations=3)
        >>> line = nn.Batch([[0.0, 1.0, 2.0]], [[1.0, 3.0, 5.0]])
        >>> trained = nn.train(recipe, line, through=lambda s: log_tensorboard(s, "logs/first"))
        >>> [path.name for path in Path("logs/first").iterdir()]
        ['events.out.tfevents.0000000000.pydnn']
    """
    return logged(stream, EventLog(folder, clock=clock))


def _ours(folder: Path, owner: str, resumed: bool) -> list[Path]:
    """The files that this log has written before, in their order."""
    found = sorted(path for path in folder.iterdir() if "tfevents" in path.name)
    for path in found:
        if not (resumed and path.name.startswith(_PREFIX) and path.name.endswith(f".{owner}")):
            raise BadInput(
                f"{path} is a log of another training, expected a folder without event files: "
                "give another folder."
            )
    return found


def _next_step(path: Path) -> int:
    """The step after the last one in an event file, which may have been cut short."""
    last = -1
    for payload in _payloads(path):
        # As `event` writes them: a time in 9 bytes, then the step, then what there is of it.
        if len(payload) > 10 and payload[9] == 0x10:
            step, place = 0, 10
            while place < len(payload):
                step |= (payload[place] & 0x7F) << 7 * (place - 10)
                place += 1
                if payload[place - 1] < 0x80:
                    break
            if payload[place : place + 1] == b"\x2a":
                last = max(last, step)
    return last + 1


def _payloads(path: Path) -> Iterator[bytes]:
    with open_regular(path, what="an event file", links=False) as file:
        size = path.stat().st_size
        while len(head := file.read(12)) == 12:
            length = int.from_bytes(head[:8], "little")
            if length > size or len(body := file.read(length + 4)) < length + 4:
                return
            yield body[:-4]
