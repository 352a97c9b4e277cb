"""A policy for an arm as a managed node: the face of the policy process.

Configuring loads the bundle and checks it against the robot; activating starts inference in a process of its own,
which gives commands only while the arm is armed; deactivating ends it, and an active arm holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus

import policies
from robot_rl.errors import UserError
from robot_rl.native.cache import compiled
from robot_rl.nodes.arm_face import ArmFace, ArmFaceConfig
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.plane_face import PlaneProcess
from robot_rl.nodes.running import run
from robot_rl.planes.settings import PolicyConfig

PROVIDED = ("joint_positions", "joint_velocities", "joint_torques", "tool_pose", "tool_twist", "gripper_width",
            "wrench", "objects")  # fmt: skip
"""What comes to the policy process through shared memory, where the robot measures it; pictures do not yet."""


@dataclass(frozen=True, kw_only=True)
class PolicyNodeConfig(ArmFaceConfig):
    """Parameters of the node."""

    policy: str = parameter("arm-reach", "Policy bundle: a folder, or a name in the zoo.")
    native: bool = parameter(False, "Run the policy as compiled C in a thread of its own; needs a C compiler.")
    max_object_age: float = parameter(
        0.5, "s: an object that was seen longer ago is not seen, and there is no command.", low=0.02, high=60.0
    )


class PolicyNode(ArmFace):
    """See the module."""

    part = "policy"
    period = 0.05

    def __init__(self) -> None:
        super().__init__("policy", PolicyNodeConfig)
        self._said = ""

    def configure(self) -> None:
        """Load the bundle, replay its stored actions, and check it against the robot's description."""
        super().configure()
        manifest = policies.load(self.settings.policy, robot=self.interface).manifest
        check_signals(self.settings.policy, manifest.robot.signals)
        if self.settings.native:
            try:
                compiled(self.settings.policy)
            except UserError as error:
                raise ValueError(f"parameter native: {error}") from error
        self.get_logger().info(
            f"policy {manifest.name} (task {manifest.task}) for {self.interface.name} at "
            f"{manifest.control_rate_hz:g} Hz"
        )

    def work(self) -> None:
        """Start the process once there is memory; end with it when it dies."""
        planes = self.planes
        if planes is None:
            return
        if self.child is None:
            config = self.settings
            self.child = PlaneProcess(
                "policy",
                PolicyConfig(
                    folder=str(self.slots.path),
                    robot=config.robot,
                    bundle=config.policy,
                    native=config.native,
                    max_object_age=config.max_object_age,
                ),
            )
        self.child.runs = bool(planes.policy())
        self.child.check()

    def describe(self) -> tuple[bytes, str, Mapping[str, Any]]:
        """Whether it commands, and how long it takes."""
        planes = self.planes
        policy = {} if planes is None else planes.policy()
        if planes is None or not policy:
            return DiagnosticStatus.WARN, "waits for the supervisor" if planes is None else "the policy loads", {}
        reason = str(policy["reason"])
        values = {
            "policy": self.settings.policy,
            "control rate": policy["rate_hz"],
            **{name: policy[name] for name in ("active", "ticks", "commands", "resets", "realtime")},
            "lost periods": policy["lost_periods"],
            "skipped periods": self.schedule.skipped,
        }
        if "inference" in (histograms := planes.histograms()):
            values["timing.policy_step"] = histograms["inference"].to_chart()
        if not policy["active"]:
            return DiagnosticStatus.OK, "ready; the arm is not armed", values
        if reason:
            return DiagnosticStatus.WARN, f"no command: {reason}", values
        return DiagnosticStatus.OK, "commanding", values


def check_signals(policy: str, signals: Sequence[str]) -> None:
    """Whether the nodes bring a policy what it observes.

    Raises:
        ValueError: They do not; names what is missing.
    """
    if missing := [name for name in signals if name not in PROVIDED]:
        raise ValueError(
            f"policy {policy!r} is refused: robot.signals has {', '.join(missing)}, which the nodes do not bring to a "
            f"policy; they bring {', '.join(PROVIDED)}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(PolicyNode, argv)
