"""A node beside the others that commands nothing: it hears nodes and what a vehicle is sent, and asks services.

For benchmarks, in a thread of its own. What it knows comes from the topics only, never from a node's memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import MultiDOFJointTrajectory

from hardware import setpoints
from policies.types import QuadrotorState
from robot_rl.nodes import messages, qos
from robot_rl.nodes.process import ask_for_priority
from robot_rl.nodes.publishers import source_of
from robot_rl.nodes.transport import without_shared_memory

_LATCHED = QoSProfile(depth=200, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
"""Deeper than `qos.STATUS`: changes within milliseconds of each other count."""
_ALL = QoSProfile(depth=500)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sent:
    """A motor command on its way to the vehicle."""

    stamp: float
    """s, the publisher's."""
    heard: float
    """s, the system's clock."""
    names: tuple[str, ...]
    """Rotors."""
    values: np.ndarray
    """rad/s, as sent."""
    source: str
    """Publisher."""


class Witness:
    """Listens to one namespace. `close` it at the end."""

    def __init__(self, domain: int, namespace: str = "") -> None:
        """Join a ROS domain."""
        without_shared_memory()
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("witness", context=self._context, namespace=namespace)
        self.namespace = namespace
        self.statuses: list[messages.SupervisorStatus] = []
        """Every change of the safety state, oldest first."""
        self.words: list[tuple[float, str, str]] = []
        """s of arrival, part and summary of every diagnostic."""
        self.values: dict[str, Mapping[str, str]] = {}
        """Newest values of diagnostics by part."""
        self.sent: list[Sent] = []
        """Motor commands to the vehicle."""
        self.states: list[tuple[float, QuadrotorState]] = []
        """Stamp and content of the vehicle's odometry."""
        self._stop = threading.Event()
        listen = self.node.create_subscription
        listen(String, "supervisor/status", self._on_status, _LATCHED)
        listen(DiagnosticArray, "/diagnostics", self._on_diagnostics, _ALL)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def watch_vehicle(self) -> None:
        """Hear a quadrotor's motor commands and odometry, too."""
        self.node.create_subscription(JointState, "motor_commands", self._on_motors, _ALL)
        self.node.create_subscription(Odometry, "odom", self._on_odometry, _ALL)

    # Asking

    def wait(self, condition: Callable[[], Any], timeout: float) -> Any:
        """What `condition` returns once it is truthy, or its last answer."""
        end = time.monotonic() + timeout
        while not (found := condition()) and time.monotonic() < end:
            time.sleep(0.002)
        return found

    def arm(self, timeout: float = 20.0) -> str:
        """Arm as soon as the supervisor agrees; why it does not, or an empty string."""
        end, why = time.monotonic() + timeout, ""
        while time.monotonic() < end:
            granted, why = self.call_arm()
            if granted:
                return ""
            time.sleep(0.1)
        return why

    def call_arm(self) -> tuple[bool, str]:
        """Ask once to arm."""
        return self.call(SetBool, "arm", data=True)

    def disarm(self) -> tuple[bool, str]:
        """Whether it was, and what was said."""
        return self.call(SetBool, "arm", data=False)

    def trigger(self, name: str) -> tuple[bool, str]:
        """Call a service without arguments."""
        return self.call(Trigger, name)

    def call(self, kind: type, name: str, timeout: float = 10.0, **request: Any) -> tuple[bool, str]:
        """Success and message of a service; what is wrong with it otherwise."""
        client = self.node.create_client(kind, name)
        try:
            if not self.wait(client.service_is_ready, timeout):
                return False, f"there is no service {name}"
            future = client.call_async(kind.Request(**request))  # type: ignore[attr-defined]
            if not self.wait(future.done, timeout):
                return False, f"service {name} does not answer"
            result = future.result()
            return bool(result.success), str(result.message)
        finally:
            self.node.destroy_client(client)

    def say(self, topic: str, content: str | float | bool) -> float:
        """Publish a String, Float64 or Bool once somebody listens; returns when, on the system's clock."""
        kind = Bool if isinstance(content, bool) else String if isinstance(content, str) else Float64
        publisher = self.node.create_publisher(kind, topic, qos.STATUS_READER)
        self.wait(publisher.get_subscription_count, 10.0)
        begin = time.time()
        publisher.publish(kind(data=content))
        time.sleep(0.02)  # on its way before the publisher is gone
        self.node.destroy_publisher(publisher)
        return begin

    def command_motors(self, names: Sequence[str], values: Sequence[float], topic: str, seconds: float) -> None:
        """Publish motor commands as somebody else would, 100 times a second."""
        publisher = self.node.create_publisher(JointState, topic, qos.command_publisher(0.01))
        self.wait(publisher.get_subscription_count, 5.0)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            message = JointState(name=list(names), velocity=[float(value) for value in values])
            message.header.stamp = messages.to_stamp(time.time())
            publisher.publish(message)
            time.sleep(0.01)
        self.node.destroy_publisher(publisher)

    def send_setpoints(self, place: np.ndarray, seconds: float) -> None:
        """Publish set-points at `place` (3,) m as somebody else would, 50 times a second."""
        publisher = self.node.create_publisher(MultiDOFJointTrajectory, "setpoint", qos.command_publisher(0.02))
        self.wait(publisher.get_subscription_count, 5.0)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            publisher.publish(messages.trajectory_from_setpoint(setpoints.hover(place, like=place), time.time()))
            time.sleep(0.02)
        self.node.destroy_publisher(publisher)

    def close(self) -> None:
        """Leave."""
        self._stop.set()
        self._thread.join(5.0)
        self.node.destroy_node()
        self._context.try_shutdown()

    # Hearing

    def _spin(self) -> None:
        ask_for_priority(5)  # below every node: it must not be late to see them on a busy machine
        executor = SingleThreadedExecutor(context=self._context)
        executor.add_node(self.node)
        while not self._stop.is_set():
            executor.spin_once(timeout_sec=0.05)
        executor.shutdown()

    def _on_status(self, message: String) -> None:
        self.statuses.append(messages.status_from_message(message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for entry in message.status:
            part = entry.name.rpartition(": ")[2]
            if not self.namespace or self.namespace.strip("/") in entry.name:
                self.values[part] = {pair.key: pair.value for pair in entry.values}
                self.words.append((time.time(), part, entry.message))

    def _on_motors(self, message: JointState, info: Mapping[str, Any]) -> None:
        self.sent.append(
            Sent(stamp=messages.to_seconds(message.header.stamp), heard=time.time(), names=tuple(message.name),
                 values=np.array(message.velocity), source=source_of(info))
        )  # fmt: skip

    def _on_odometry(self, message: Odometry) -> None:
        try:
            state, stamp = messages.state_from_odometry(message)
        except messages.MessageError:
            return  # spoiled; the witness needs to know the vehicle before and after
        self.states.append((stamp, state))
