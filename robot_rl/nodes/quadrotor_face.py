"""What the nodes of a quadrotor share: its description and the client of its shared memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hardware.descriptions import QuadrotorDescription, load_quadrotor
from robot_rl.nodes.managed import ManagedConfig
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.plane_face import PlaneFace
from robot_rl.planes.quadrotor_client import QuadrotorClient


@dataclass(frozen=True, kw_only=True)
class QuadrotorFaceConfig(ManagedConfig):
    """Parameters that every node of a quadrotor has."""

    robot: str = parameter("crazyflie", "Robot description: a name, or the path of a YAML file.")


class QuadrotorFace(PlaneFace[QuadrotorClient]):
    """A node of a quadrotor; see `robot_rl.nodes.plane_face`."""

    description: QuadrotorDescription

    def load(self) -> None:
        """Read the quadrotor's description."""
        self.description = load_quadrotor(self.settings.robot)
        self.interface = self.description.interface

    def attach(self, folder: Path) -> QuadrotorClient:
        """The client of its slots."""
        return QuadrotorClient(folder)
