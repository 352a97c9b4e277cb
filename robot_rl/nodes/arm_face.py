"""What the nodes of an arm share: its description, its client, and the names of its frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hardware.descriptions import load_arm
from hardware.descriptions.arm import ArmDescription
from robot_rl.nodes.arm_messages import BASE_FRAME, TOOL_FRAME
from robot_rl.nodes.managed import ManagedConfig
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.plane_face import PlaneFace
from robot_rl.planes.client import PlanesClient


@dataclass(frozen=True, kw_only=True)
class ArmFaceConfig(ManagedConfig):
    """Parameters that every node of an arm has."""

    robot: str = parameter("panda", "Robot description: a name, or the path of a YAML file.")
    frame_prefix: str = parameter(
        "", "Before the names of frames, e.g. left/, as robot_state_publisher's: two robots in one tree of frames."
    )


class ArmFace(PlaneFace[PlanesClient]):
    """A node of an arm; see the module."""

    description: ArmDescription

    def load(self) -> None:
        """Read the description and name the frames."""
        self.description = load_arm(self.settings.robot)
        self.interface = self.description.interface
        self.base_frame = f"{self.settings.frame_prefix}{BASE_FRAME}"
        self.tool_frame = f"{self.settings.frame_prefix}{TOOL_FRAME}"

    def attach(self, folder: Path) -> PlanesClient:
        """An arm's client."""
        return PlanesClient(folder, self.description.num_joints)
