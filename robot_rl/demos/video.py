"""Pictures as videos that can be entered at any second frame: one file holds many episodes, frame after frame."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.realtime.scheduling import scheduling_kept
from robot_rl.errors import UserError

_ENCODERS = {
    "h264": ("libx264", {"crf": "18", "preset": "veryfast", "bf": "0", "tune": "fastdecode"}),
    "av1": ("libsvtav1", {"crf": "30", "preset": "10"}),
}


class VideoWriter:
    """An MP4 file whose frame number k is shown at k / fps, exactly."""

    def __init__(self, path: Path, fps: Fraction, shape: tuple[int, int], codec: str) -> None:
        """Make the file.

        Args:
            path: Of the file; its folder is made.
            fps: Frames per second.
            shape: Height and width, pixels.
            codec: `h264` or `av1`.

        Raises:
            UserError: The codec has no such pictures, or this machine's PyAV has no such encoder.
        """
        import av

        name, options = _ENCODERS[codec]
        if codec == "av1" and (min(shape) < 64 or shape[0] % 2 or shape[1] % 2):
            raise UserError(f"AV1 takes even sizes from 64 pixels on, not {shape[0]} x {shape[1]}; give --codec h264")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.frames = path, 0
        self._container: Any = av.open(str(path), "w", options={"movflags": "faststart"})
        try:
            self._stream: Any = self._container.add_stream(name, rate=fps, options=options)
        except (ValueError, av.error.FFmpegError) as error:
            self._container.close()
            raise UserError(f"PyAV has no encoder {name!r}; choose another --codec: {error}") from error
        height, width = shape
        self._stream.height, self._stream.width = height, width
        # Halved colours need even sides.
        self._stream.pix_fmt = "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"
        self._stream.codec_context.gop_size = 2
        self._stream.codec_context.time_base = 1 / fps
        self.pixel_format = str(self._stream.pix_fmt)
        # This starts the encoder, and SVT-AV1 takes real-time priority 99 wherever it may.
        with scheduling_kept():
            self._stream.codec_context.open()

    def write(self, pictures: Iterable[NDArray[np.uint8]]) -> None:
        """Add frames (H, W, 3), red-green-blue."""
        import av

        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = self.frames, self._stream.codec_context.time_base
            self.frames += 1
            self._container.mux(self._stream.encode(frame))

    @property
    def size(self) -> int:
        """Bytes so far, about."""
        return self.path.stat().st_size if self.path.exists() else 0

    def close(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._stream.encode(None))
        self._container.close()


def read_frames(path: Path) -> Iterable[tuple[float, NDArray[np.uint8]]]:
    """Time and picture of every frame of a video."""
    import av

    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield float(frame.time), frame.to_ndarray(format="rgb24")
