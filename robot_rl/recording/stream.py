"""One topic of a recording. Its messages stay in the file until they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys.store import Typestore

from robot_rl.recording import pictures
from robot_rl.recording.errors import RecordingError
from robot_rl.recording.numbers import flatten, quaternions_in
from robot_rl.recording.scan import Channel, read_chunk
from robot_rl.recording.types import PICTURE, deserialize


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """The N messages of one topic, in the order of their receipt."""

    topic: str
    """Name of the topic."""
    type: str
    """ROS 2 type of its messages, such as sensor_msgs/msg/JointState."""
    measured: NDArray[np.float64]
    """When each was measured, s on the recording's clock. Shape (N,)."""
    received: NDArray[np.float64]
    """When each came in, s on the recording's clock. Shape (N,)."""
    sequence: NDArray[np.int64]
    """Sequence numbers. Shape (N,)."""
    source: Path
    """The file."""
    types: Typestore
    """Knows the type."""
    channel: Channel
    """Where the messages are."""
    chunks: list[tuple[int, int, str, int]]
    """Packed chunks of the file."""

    def __len__(self) -> int:
        """N."""
        return len(self.measured)

    def raws(self) -> Iterator[bytes]:
        """The messages' bytes, one after the other."""
        return self.raws_at(range(len(self)))

    def raws_at(self, rows: Iterable[int]) -> Iterator[bytes]:
        """The bytes of the messages with these numbers.

        Raises:
            RecordingError: The file is not what it was.
        """
        try:
            file = os.open(self.source, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise RecordingError(f"cannot open {self.source}: {error.strerror}") from error
        unpacked, data = -1, b""
        place = self.channel
        try:
            for row in rows:
                offset, length, chunk = place.offset[row], place.length[row], place.chunk[row]
                if chunk >= 0 and chunk != unpacked:
                    unpacked, data = chunk, read_chunk(file, self.chunks[chunk])
                found = os.pread(file, length, offset) if chunk < 0 else data[offset : offset + length]
                if len(found) != length:
                    raise RecordingError(f"{self.source} became shorter while it was read")
                yield found
        finally:
            os.close(file)

    def messages(self) -> Iterator[Any]:
        """The messages, one after the other: objects with the fields of the type.

        Raises:
            RecordingError: One is damaged.
        """
        return (deserialize(data, self.type, self.types) for data in self.raws())

    def message(self, row: int) -> Any:
        """One message."""
        return deserialize(next(self.raws_at([row])), self.type, self.types)

    def picture(self, row: int) -> NDArray[np.uint8]:
        """The picture of one CompressedImage message. Shape (H, W, 3), red-green-blue."""
        return next(self.pictures_at([row]))

    def pictures_at(self, rows: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
        """Pictures of CompressedImage messages, one after the other."""
        if self.type != PICTURE:
            raise RecordingError(f"{self.topic} has messages of type {self.type}; pictures are {PICTURE}")
        for data in self.raws_at(rows):
            yield pictures.unpack(bytes(deserialize(data, self.type, self.types).data))

    def values(self, field: str = "") -> NDArray[np.float64]:
        """The numbers of a field in every message, with those of a field made of others in their order. Shape (N, K).

        Args:
            field: Such as position, or pose.orientation, which comes as wxyz; all of the message if not given. Text
                and headers are left out.

        Raises:
            RecordingError: There is no such field, it has no numbers, or its length changes.
        """
        rows = [flatten(message, field, self.topic) for message in self.messages()]
        lengths = {len(row) for row in rows}
        if len(lengths) > 1:
            raise RecordingError(
                f"{self.source}: {self.topic} {field} has {min(lengths)} to {max(lengths)} numbers; expected as many"
                " in every message"
            )
        return np.array(rows, np.float64).reshape(len(rows), lengths.pop() if lengths else 0)

    def quaternions(self, field: str = "") -> list[int]:
        """At which numbers of `values(field)` a quaternion begins."""
        return quaternions_in(self.message(0), field, self.topic) if len(self) else []


class RecordedPictures(Mapping[str, NDArray[np.uint8]]):
    """Pictures of an episode by camera, which are read when they are looked up.

    Raises:
        RecordingError: On a look-up, if the file is not what it was.
    """

    def __init__(self, streams: Mapping[str, tuple[Stream, NDArray[np.int64]]], shapes: Mapping[str, Any]) -> None:
        """Of streams of pictures.

        Args:
            streams: Of each camera the stream and which of its messages, in order.
            shapes: Shape (H, W, 3) of each camera.
        """
        self._streams, self._shapes = dict(streams), dict(shapes)

    def __getitem__(self, camera: str) -> NDArray[np.uint8]:
        """Shape (T + 1, H, W, 3), or (T, H, W, 3) where what followed the last action is not known."""
        stream, rows = self._streams[camera]
        shape = tuple(self._shapes[camera])
        found = np.empty((len(rows), *shape), np.uint8)
        for row, picture in enumerate(stream.pictures_at(rows.tolist())):
            if picture.shape != shape:
                raise RecordingError(
                    f"{stream.source}: {stream.topic} has a picture of shape {picture.shape}; expected {shape}"
                )
            found[row] = picture
        return found

    def __iter__(self) -> Iterator[str]:
        """The cameras."""
        return iter(self._streams)

    def __len__(self) -> int:
        """How many cameras."""
        return len(self._streams)
