"""`--video FILE`: what happens as an MP4 (H.264) that every browser plays, rendered without a window."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from robot_rl.errors import UserError, require_packages
from robot_rl.play_stage import FRAME_RATE, Stage
from sim.camera_model import camera_model
from sim.cameras import Cameras
from sim.scene import Camera

WIDTH, HEIGHT = 640, 480
_QUALITY = "21"
"""x264's constant rate factor: 18 cannot be told from the original, 28 is visibly worse."""


class VideoFile:
    """An MP4 that images are appended to."""

    def __init__(self, path: Path, *, width: int = WIDTH, height: int = HEIGHT, rate: int = FRAME_RATE) -> None:
        """Create the file.

        Args:
            path: Where; its folder is made.
            width: Pixels, even.
            height: Pixels, even.
            rate: Frames per second.

        Raises:
            UserError: PyAV is missing, the size is odd, or the file's name does not end in `.mp4`.
        """
        require_packages("--video", "play", ("av",))
        if width % 2 or height % 2:
            raise UserError(f"a video of {width} x {height} pixels can't be encoded: width and height must be even")
        if path.suffix.lower() != ".mp4":
            raise UserError(f"--video {str(path)!r}: the name has to end in .mp4")
        import av

        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.frames = path, 0
        self._av = av
        self._container: Any = av.open(str(path), "w", options={"movflags": "faststart"})
        self._stream: Any = self._container.add_stream("libx264", rate=rate)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = Fraction(1, rate)
        self._stream.options = {"crf": _QUALITY, "preset": "fast"}
        self._stream.thread_count = 1

    def write(self, image: np.ndarray) -> None:
        """Append an image (H, W, 3) uint8, red-green-blue."""
        expected = (self._stream.height, self._stream.width, 3)
        if image.shape != expected:
            raise ValueError(f"image has shape {image.shape}; the video takes {expected}")
        frame = self._av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = self.frames
        self.frames += 1
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file; closing twice does nothing."""
        if self._container is None:
            return
        container, self._container = self._container, None
        if self.frames:
            for packet in self._stream.encode():
                container.mux(packet)
        container.close()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Filming:
    """Renders what is on a stage and writes it to a file."""

    def __init__(self, stage: Stage, path: Path, camera: str = "") -> None:
        """Render one image, so that a machine that can't render says so before anything is played.

        Args:
            stage: What is filmed.
            path: The MP4.
            camera: Camera of the scene; empty for a view of everything.

        Raises:
            UserError: There is no such camera, PyAV is missing, or no GL library works; says what to install.
        """
        self.stage, self.path, self.camera = stage, path, camera
        self.cameras = open_cameras(stage)
        image = self.image()
        self.file = VideoFile(path, width=image.shape[1], height=image.shape[0])

    def image(self) -> np.ndarray:
        """Image (H, W, 3) uint8 of now."""
        return render(self.cameras, self.stage, self.camera)

    def show(self) -> None:
        """Append a frame."""
        self.file.write(self.image())

    def close(self) -> None:
        """Finish the file and give the GL context back."""
        self.file.close()
        self.cameras.close()


def open_cameras(stage: Stage) -> Cameras:
    """Renders a stage in the quality for people, the cameras of its scene as large as the view of everything."""
    engine = stage.look.engine
    large = {c.name: camera_model(replace(c, width=WIDTH, height=HEIGHT)) for c in engine.scene.cameras}
    return Cameras(engine, models=large, quality="picture")


def render(cameras: Cameras, stage: Stage, camera: str = "") -> np.ndarray:
    """Image (H, W, 3) uint8 of a stage, from a camera of its scene or from one that sees everything.

    Raises:
        UserError: There is no such camera, or no image can be rendered here.
    """
    chosen = scene_camera(stage, camera)
    try:
        return cameras.render(0, chosen if camera in ("", "overview") else camera)
    except RuntimeError as error:
        raise UserError(f"no image can be rendered here: {error}") from error


def scene_camera(stage: Stage, name: str) -> Camera:
    """A camera of the scene by name; empty or `overview` for the view of everything.

    Raises:
        UserError: There is no such camera.
    """
    found = {camera.name: camera for camera in stage.look.engine.scene.cameras}
    if name in ("", "overview"):
        return stage.look.camera()
    if name not in found:
        raise UserError(f"there is no camera {name!r}; the scene has {', '.join(['overview', *sorted(found)])}")
    return found[name]
