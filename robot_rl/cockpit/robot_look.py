"""A robot of which only the joint angles are known, such as a real one, as a scene to look at."""

from __future__ import annotations

import dataclasses

import numpy as np

from sim.cameras import overview_camera
from sim.engines.base import Placement
from sim.engines.mujoco import MujocoEngine
from sim.scene import ArmMount, Camera, Scene


class RobotLook:
    """An arm on its table, as a `sim.look.Look`."""

    marks: tuple[str, ...] = ()

    def __init__(self, robot: str) -> None:
        """Build the scene.

        Args:
            robot: Description of the arm.
        """
        self.scene = Scene(arms=(ArmMount(robot=robot),))
        self.engine = MujocoEngine(self.scene, 1)
        self._only = np.arange(1)

    def begin(self) -> None:
        """Nothing changes its shape."""

    def update(self) -> None:
        """It is where `place` put it."""

    def place(self, positions: np.ndarray, width: float | None) -> None:
        """Put the arm where its joints (n,) rad are, and its fingers `width` m apart."""
        widths = {} if width is None else {"arm": np.array([width])}
        self.engine.place(self._only, Placement(joints={"arm": positions[None]}, widths=widths, poses={}))

    def camera(self) -> Camera:
        """From front left."""
        return dataclasses.replace(overview_camera(self.scene))
