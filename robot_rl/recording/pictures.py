"""Pictures as PNG or JPEG bytes and back; a picture from a file is measured before it is unpacked."""

from __future__ import annotations

import struct
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from policies.camera import opencv
from robot_rl.recording.errors import RecordingError

Packing = Literal["auto", "png", "jpeg"]
"""png: to the bit; jpeg: small; auto: png up to `SMALL` pixels, above jpeg."""
SMALL = 256 * 256
"""Most pixels of a picture that "auto" stores to the bit."""
LARGEST = 4096
"""Most pixels along a side that are unpacked."""


def pack(picture: NDArray[np.uint8], packing: Packing, quality: int = 95) -> tuple[bytes, str]:
    """The bytes of a picture (H, W, 3) red-green-blue, and which kind they are: png or jpeg."""
    cv2 = opencv()
    kind = packing if packing != "auto" else "png" if picture.shape[0] * picture.shape[1] <= SMALL else "jpeg"
    # Level 1: pictures of cameras hardly get smaller above it, but much slower.
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1] if kind == "png" else [cv2.IMWRITE_JPEG_QUALITY, quality]
    good, packed = cv2.imencode("." + kind, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not good:
        raise RecordingError(f"a picture of shape {picture.shape} cannot be packed as {kind}")
    return packed.tobytes(), kind


def unpack(data: bytes) -> NDArray[np.uint8]:
    """The picture (H, W, 3) in PNG or JPEG bytes.

    Raises:
        RecordingError: They are neither, or the picture is too large.
    """
    height, width = _size(data)
    if not (0 < height <= LARGEST and 0 < width <= LARGEST):
        raise RecordingError(f"a picture has {width} x {height} pixels; expected 1 to {LARGEST} a side")
    cv2 = opencv()
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise RecordingError("a picture cannot be unpacked: its bytes are damaged") from error
    if picture is None:
        raise RecordingError("a picture cannot be unpacked: its bytes are damaged")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _size(data: bytes) -> tuple[int, int]:
    # OpenCV would allocate whatever size the bytes claim.
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return height, width
    if data[:2] == b"\xff\xd8":
        position = 2
        while position + 9 <= len(data) and data[position] == 0xFF:
            marker, length = data[position + 1], struct.unpack_from(">H", data, position + 2)[0]
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                height, width = struct.unpack_from(">HH", data, position + 5)
                return height, width
            position += 1 if marker == 0xFF else 2 + length
    raise RecordingError("a picture is neither PNG nor JPEG")
