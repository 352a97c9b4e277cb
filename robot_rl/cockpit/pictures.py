"""The camera views, rendered in a thread of their own.

It takes the newest state there is, and what it is too slow for is never rendered. The simulation hands over a copy of
its state and goes on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim.arm_randomization import ModelVariables
from sim.camera_model import camera_model
from sim.cameras import Cameras
from sim.engines.mujoco import MujocoEngine
from sim.look import Look
from sim.randomization import RandomizationTerm
from sim.scene import Camera

CODE_BITS = 16
CODE_PIXELS = 8
"""Side of a square of the code in the picture's upper left corner, by which latency is measured."""
_logger = logging.getLogger(__name__)
_ONLY = np.arange(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """The world at an instant."""

    at: float
    """s, monotonic."""
    state: Mapping[str, np.ndarray]
    """Of the look's engine."""
    values: Mapping[str, Any]
    """Randomized variables of the episode."""
    overview: Camera | None = None
    """Where the camera of a scene without cameras is now; where it was at first, if not given."""


class PictureMaker:
    """Renders what it is given, as fast as it can and no more often."""

    def __init__(
        self,
        look: Look,
        terms: tuple[RandomizationTerm, ...],
        publish: Callable[[int, float, bytes], None],
        *,
        size: tuple[int, int] = (480, 360),
        quality: int = 80,
        stamped: bool = False,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Start.

        Args:
            look: Whose scene it is; not touched again.
            terms: Randomization of the task: shapes and sizes.
            publish: Takes number of the camera, time of the snapshot, JPEG.
            size: Width and height, pixels.
            quality: Of the JPEG, 1 to 100.
            stamped: Draw the number of each picture into it as black and white squares.
            wanted: Whether anybody looks on.
        """
        scene = look.engine.scene
        self._overview = look.camera()
        self.cameras = [camera.name for camera in scene.cameras] or ["overview"]
        """Names, in the order of their numbers."""
        self._scene, self._terms, self._publish = scene, terms, publish
        self._size, self._quality, self._stamped, self._wanted = size, quality, stamped, wanted
        self._changed = threading.Condition()
        self._newest: Snapshot | None = None
        self._closed = False
        self.problem = ""
        """Why there are no pictures; empty while there are."""
        self.made = 0
        """Snapshots of which pictures were made."""
        self._thread = threading.Thread(target=self._run, name="pictures", daemon=True)
        self._thread.start()

    def show(self, snapshot: Snapshot) -> None:
        """Render this next; what waited is forgotten."""
        with self._changed:
            if self._wanted():
                self._newest = snapshot
                self._changed.notify()

    def close(self) -> None:
        """End."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(5.0)

    def _run(self) -> None:
        try:
            self._render_all()
        except (RuntimeError, ValueError, OSError) as error:  # no GL library, say: the robot and the page go on
            self.problem = f"no camera pictures: {error}"
            _logger.exception("no camera pictures")

    def _render_all(self) -> None:
        width, height = self._size
        engine = MujocoEngine(self._scene, 1)
        variables = ModelVariables(engine, self._terms)
        large = {c.name: camera_model(replace(c, width=width, height=height)) for c in self._scene.cameras}
        values: Mapping[str, Any] | None = None
        with Cameras(engine, models=large) as cameras:
            while (snapshot := self._take()) is not None:
                if snapshot.values is not values:
                    values = snapshot.values
                    variables.begin(_ONLY, values)
                engine.load_state(snapshot.state)
                for number, name in enumerate(self.cameras):
                    overview = replace(snapshot.overview or self._overview, width=width, height=height)
                    view: str | Camera = name if name in large else overview
                    self._publish(number, snapshot.at, self._encode(cameras.render(0, view)))
                self.made += 1

    def _take(self) -> Snapshot | None:
        with self._changed:
            while self._newest is None and not self._closed:
                self._changed.wait()
            newest, self._newest = self._newest, None
            return None if self._closed else newest

    def _encode(self, image: np.ndarray) -> bytes:
        import cv2

        if self._stamped:
            draw_code(image, self.made)
        _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        return bytes(data)


def draw_code(image: np.ndarray, number: int) -> None:
    """Write the last `CODE_BITS` bits of a number into a picture, the highest one first, 1 in white."""
    for bit in range(CODE_BITS):
        one = (number >> (CODE_BITS - 1 - bit)) & 1
        image[:CODE_PIXELS, bit * CODE_PIXELS : (bit + 1) * CODE_PIXELS] = 255 * one
