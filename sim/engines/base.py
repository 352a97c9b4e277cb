"""What every engine offers: N copies of a scene, stepped together, numpy arrays in and out.

Arrays are float64 with the N environments first, in SI units. Poses are world poses (xyz + wxyz), twists are
(linear, angular) in the world. Engines know nothing of tasks: controllers, delays and noise are the environment's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from hardware.kinematics import ArmKinematics
from sim.scene import Scene

TORQUE_HISTORY = 8
"""Past torques that an engine keeps: the longest torque latency, in time steps."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How K environments begin: everything at rest."""

    joints: Mapping[str, np.ndarray]
    """Joint angles (K, n) rad by arm."""
    widths: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Distances (K,) m between the fingers by arm; open where an arm is missing."""
    poses: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Poses (K, 7) of free and placed bodies; those that are missing stand as the scene says."""


class ArmEngine(Protocol):
    """N simulated scenes."""

    scene: Scene
    num_envs: int
    failed: np.ndarray
    """Shape (N,) bool: the physics of these broke down since they were last placed; up to date after `refresh`."""

    def place(self, ids: np.ndarray, placement: Placement) -> None:
        """Begin anew in the environments `ids` (K,) int."""

    def substep(self, torques: Mapping[str, np.ndarray], widths: Mapping[str, np.ndarray]) -> None:
        """Advance by one time step of physics.

        Args:
            torques: Joint torques (N, n) N m by arm; gravity is compensated by the robot itself.
            widths: Wanted finger distances (N,) m by arm.
        """

    def joints(self, arm: str) -> tuple[np.ndarray, np.ndarray]:
        """Angles (N, n) rad and velocities (N, n) rad/s of now; not to be written to."""

    def kinematics(self, arm: str) -> ArmKinematics:
        """Tool pose and Jacobian in the world; after a substep, those of its beginning.

        The first arm stands at the world's origin, so that its base frame is the world.
        """

    def width(self, arm: str) -> np.ndarray:
        """Distance (N,) m between the fingers."""

    def wrench(self, arm: str) -> np.ndarray:
        """Force and torque (N, 6) of the world on the tool, tool frame, its weight taken off; zero without a sensor."""

    def pose(self, body: str) -> np.ndarray:
        """World pose (N, 7) of a body; of an arm's tool as `<arm>/tool`."""

    def twist(self, body: str) -> np.ndarray:
        """World twist (N, 6) of a free body's origin."""

    def vary(self, names: Sequence[str]) -> dict[str, str]:
        """Prepare for `set_variables` of these variables of the model, see `sim.arm_randomization`; all are nominal.

        Returns:
            What this engine cannot vary, by name, with a reason: `PyBullet: does nothing`.
        """

    def set_variables(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Write variables (K, size) by name into the model of environments `ids` (K,), from the next substep on.

        Where the place or shape of something changes, poses follow at the next `place`.
        """

    def push(self, body: str, force: np.ndarray) -> None:
        """Put world forces (N, 3) N on a body's centre of mass, or an arm's tool `<arm>/tool`.

        They last until the next `push` of that body, or until the environment is placed.
        """

    def refresh(self) -> None:
        """Bring poses and kinematics up to date with the newest positions."""

    def state(self) -> dict[str, np.ndarray]:
        """Everything that is needed to go on later, bit by bit."""

    def load_state(self, stored: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""

    def close(self) -> None:
        """Give back what the engine holds."""
