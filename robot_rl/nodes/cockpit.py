"""`robot-rl cockpit --ros`: the page on a robot's topics.

In come `joint_states`, `tool_pose`, `wrench`, `odom`, `supervisor/status` and every `camera/<name>/compressed`, whose
JPEG goes to the pages as it is. Out goes `command/twist` while the dead-man is held and for one last twist of zeros,
`command/gripper`, and `estop`. A page that is gone sends nothing: whoever takes the twists stops after 150 ms.
"""

from __future__ import annotations

import math
import sys
import time
from typing import Any, ClassVar

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import Bool, Float64, String
from std_srvs.srv import Trigger

from hardware.descriptions import load_description
from hardware.descriptions.arm import ArmDescription
from hardware.teleop.device import Sample
from robot_rl.cockpit.config import CockpitConfig, device_config
from robot_rl.cockpit.device import PageDevice
from robot_rl.cockpit.messages import finite
from robot_rl.cockpit.opening import announce, open_server
from robot_rl.cockpit.robot_state import FORCE_SHOWN, tell_vehicle
from robot_rl.errors import UserError
from robot_rl.nodes import arm_messages, messages, qos
from robot_rl.nodes import running as nodes
from robot_rl.nodes.messages import MessageError

RATE = 30.0
"""Hz of command/twist and of the 3-D scene."""
_LOOK_AROUND = 1.0
"""s between two looks for cameras."""
_STALE = 0.5
"""s after which the page says that the robot is silent."""


class CockpitNode(nodes.Face):
    """See the module."""

    config: ClassVar[CockpitConfig]
    priority = 5

    def __init__(self) -> None:
        super().__init__("cockpit")
        config, self.period = self.config, 1.0 / RATE
        self._description: Any = load_description(config.robot)
        self._kind = self._description.interface.kind
        self.server = open_server(config, PageDevice(device_config(config, self._kind)))
        self.server.on_stop = self._stop
        self._cameras: dict[str, int] = {}
        self._arm: dict[str, Any] = {}
        self._vehicle: dict[str, str] = {}
        self._status, self._heard, self._looked, self._ticks = "", -math.inf, -math.inf, 0
        self._held, self._gripper = False, 1.0
        frame = arm_messages.BASE_FRAME if self._kind == "arm" else messages.BODY_FRAME
        self._frame = frame
        command = qos.command_publisher(self.period)
        self._twists = qos.publisher(self, TwistStamped, "command/twist", command)
        self._grippers = qos.publisher(self, Float64, "command/gripper", command)
        self._estops = qos.publisher(self, Bool, "estop", qos.STATUS)
        self._hand_back = self.create_client(Trigger, "hand_back")
        reader = qos.SENSOR_READER
        if self._kind == "arm":
            qos.subscription(self, JointState, "joint_states", self._on_joints, reader)
            qos.subscription(self, PoseStamped, "tool_pose", self._on_tool, reader)
            qos.subscription(self, WrenchStamped, "wrench", self._on_wrench, reader)
        else:
            qos.subscription(self, Odometry, "odom", self._on_odometry, reader)
        qos.subscription(self, String, "supervisor/status", self._on_status, qos.STATUS)
        self._look, self._shapes = self._build_look()
        self._describe()
        self.server.publish("episodes", {"rows": [], "curves": {}, "total": 0})

    def started(self) -> None:
        """Say where the page is."""
        announce(self.server)

    def tick(self) -> None:
        """Pass on what the driver wants, and tell the pages what the robot does."""
        sample = self.server.device.read()
        held = sample.dead_man and sample.engaged and sample.connected
        if held or self._held:
            self._twists.publish(
                arm_messages.twist_message(sample.twist if held else np.zeros(6), self.now(), self._frame)
            )
        self._press(sample, held)
        self._held = held
        self._ticks += 1
        self._show_scene()
        if self._ticks % 2 == 0:
            self._tell()
        if time.monotonic() - self._looked > _LOOK_AROUND:
            self._looked = time.monotonic()
            self._find_cameras()

    def close(self) -> None:
        """Stand, and stop to serve."""
        if self._held:
            self._twists.publish(arm_messages.twist_message(np.zeros(6), self.now(), self._frame))
        self.server.device.close()
        self.server.close()

    # Commands

    def _press(self, sample: Sample, held: bool) -> None:
        if "gripper" in sample.pressed and held:
            self._gripper = -self._gripper
            self._grippers.publish(Float64(data=self._gripper))
        if "hand_back" in sample.pressed and self._hand_back.service_is_ready():
            self._hand_back.call_async(Trigger.Request())

    def _stop(self) -> None:
        """From the server's thread: publishing needs no other one."""
        self._estops.publish(Bool(data=True))
        self.get_logger().warning("emergency stop from the page")

    # Measurements

    def _on_joints(self, message: JointState) -> None:
        try:
            positions, velocities, _, _ = arm_messages.joints_from_message(
                message, self._description.interface.actuators
            )
        except MessageError as error:
            self._status = str(error)
            return
        self._heard = time.monotonic()
        fingers = dict(zip(message.name, message.position, strict=False))
        found = [fingers[name] for name in arm_messages.FINGERS if name in fingers]
        self._arm.update(
            positions=[finite(x) for x in positions],
            velocities=[finite(x) for x in velocities],
            width=finite(sum(found)) if len(found) == len(arm_messages.FINGERS) else None,
        )
        if self._look is not None:
            self._look.place(positions, self._arm["width"])

    def _on_tool(self, message: PoseStamped) -> None:
        p, q = message.pose.position, message.pose.orientation
        pose, now = np.array([p.x, p.y, p.z, q.w, q.x, q.y, q.z]), time.monotonic()
        before, at = self._arm.get("_tool", (pose, now - 1.0))
        speed = (pose[:3] - before[:3]) / max(1e-3, now - at)
        self._arm["_tool"] = (pose, now)
        self._arm.update(tool=[finite(x) for x in pose], twist=[*(finite(x) for x in speed), 0.0, 0.0, 0.0])

    def _on_wrench(self, message: WrenchStamped) -> None:
        force = message.wrench.force
        self._arm["force"] = finite(math.hypot(force.x, force.y, force.z), 2)

    def _on_odometry(self, message: Odometry) -> None:
        try:
            state, _ = messages.state_from_odometry(message)
        except MessageError as error:
            self._status = str(error)
            return
        self._heard = time.monotonic()
        self._vehicle = tell_vehicle(state)

    def _on_status(self, message: String) -> None:
        try:
            status = messages.status_from_message(message)
        except MessageError as error:
            self._status = str(error)
            return
        self._status = f"{status.mode}: {status.cause}" if status.cause else status.mode
        self.server.publish("says", {"lines": [{"at": time.time(), "text": self._status}]})

    def _find_cameras(self) -> None:
        """New `camera/<name>/compressed` topics of this namespace."""
        prefix = self.resolve_topic_name("camera") + "/"
        for topic, types in sorted(self.get_topic_names_and_types()):
            name, _, rest = topic.removeprefix(prefix).partition("/")
            wanted = topic.startswith(prefix) and rest == "compressed" and "sensor_msgs/msg/CompressedImage" in types
            if wanted and name not in self._cameras:
                number = self._cameras[name] = len(self._cameras)
                qos.subscription(
                    self,
                    CompressedImage,
                    topic,
                    lambda message, n=number: self._on_picture(message, n),
                    qos.SENSOR_READER,
                )
                self._describe()

    def _on_picture(self, message: CompressedImage, camera: int) -> None:
        if "jpeg" not in message.format and "jpg" not in message.format:
            self._status = f"camera {camera}: the format {message.format!r} is not shown; publish jpeg"
            return
        age = self.now() - messages.to_seconds(message.header.stamp)
        age = age if 0.0 <= age < 10.0 else 0.0  # another clock says nothing of how old it is
        self.server.publish_picture(camera, time.monotonic() - age, bytes(message.data))

    # What the pages are told

    def _build_look(self) -> tuple[Any, Any]:
        """The 3-D scene of an arm, where MuJoCo is installed."""
        if not isinstance(self._description, ArmDescription):
            return None, None
        try:
            from robot_rl.cockpit.robot_look import RobotLook
            from robot_rl.cockpit.shapes import SceneShapes
        except ImportError as error:
            self.get_logger().warning(f"no 3-D scene: {error.name} is not installed; pip install 'robot_rl[sim]'")
            return None, None
        look = RobotLook(self.config.robot)
        return look, SceneShapes(look)

    def _show_scene(self) -> None:
        if self._shapes is None or not self.server.watched:
            return
        self.server.publish_poses(time.monotonic(), self._shapes.poses())
        if (shapes := self._shapes.changed()) is not None:
            self.server.publish("scene", shapes)

    def _describe(self) -> None:
        description, config = self._description, self.config
        arm = self._kind == "arm"
        axes = ["x", "y", "z", "rx", "ry", "rz"] if arm else ["x", "y", "z", "rz"]
        arms = []
        if isinstance(description, ArmDescription):
            limits, gripper = description.interface.limits, description.gripper
            arms = [
                {
                    "name": "arm",
                    "robot": description.interface.name,
                    "joints": list(description.interface.actuators),
                    "position_limits": [list(pair) for pair in limits["position"]],
                    "velocity_limits": [pair[1] for pair in limits["velocity"]],
                    "gripper": gripper.max_width if gripper is not None else None,
                    "force": FORCE_SHOWN,
                }
            ]
        self.server.publish(
            "setup",
            {
                "kind": self._kind,
                "task": config.robot,
                "policy": "",
                "robot": True,
                "arms": arms,
                "cameras": list(self._cameras),
                "axes": [*axes, *(["gripper"] if arms and arms[0]["gripper"] else [])],
                "limit": 0.0,
                "records": False,
                "folder": "",
                "stamped": config.stamped,
                "stale_after": self.server.device.config.stale_after,
            },
        )

    def _tell(self) -> None:
        device, silent = self.server.device, time.monotonic() - self._heard
        told = {name: value for name, value in self._arm.items() if not name.startswith("_")}
        whole = {"positions", "tool", "twist"} <= set(told)
        source = "joint_states" if self._kind == "arm" else "odom"
        waiting = f"no {source} yet" if self._heard == -math.inf else f"no {source} for {silent:.1f} s"
        self.server.publish(
            "state",
            {
                "mode": "correcting" if self._held else "autonomous",
                "latched": False,
                "barred": False,
                "arm": 0,
                "episode": 0,
                "time": 0.0,
                "outcome": "",
                "arms": {"arm": {"width": None, "force": None, **told}} if whole else {},
                "vehicle": self._vehicle or None,
                "action": [],
                "recording": None,
                "command_ms": finite(1e3 * device.latency, 1),
                "refused": device.counts.stale + device.counts.disordered,
                "problem": waiting if silent > _STALE else "",
                "status": self._status,
            },
        )


def run(config: CockpitConfig) -> int:
    """Serve the page of the robot in this ROS 2 domain until it is stopped."""
    if config.task:
        raise UserError(f"task {config.task!r} is simulated; with --ros name the robot: --robot {config.robot}")
    node = type("CockpitNode", (CockpitNode,), {"config": config})
    namespace = config.namespace.strip("/")
    arguments = ["--ros-args", "-r", f"__ns:=/{namespace}"] if namespace else []
    sys.stderr.flush()
    return nodes.run(node, arguments)
