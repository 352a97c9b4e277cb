"""Devices that come as messages: somebody's joystick (`sensor_msgs/Joy`) or twist (`geometry_msgs/TwistStamped`).

They have the interface of a device at this machine, so that whatever takes one takes these too. Each has a node and a
thread of its own, and works in any process. A message that is older than a device may be, from the future, or from a
second publisher is refused, and `help` says so; silence is a device that is gone.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Joy
from std_msgs.msg import Float64

from hardware.teleop.clutch import limited
from hardware.teleop.device import DeviceConfig, Motion, Sample
from hardware.teleop.gamepad import GamepadConfig, by_code, to_help, to_sample
from hardware.teleop.gamepad_mapping import find_mapping, named_mapping
from hardware.teleop.joydev import Layout, State
from robot_rl.nodes import arm_messages, messages, qos
from robot_rl.nodes.publishers import FirstPublisher, source_of
from robot_rl.nodes.transport import without_shared_memory

_LOST_AFTER = 0.5
"""s of silence after which it counts as gone: what is held when it comes back has to be let go first."""
_FUTURE = 0.05
"""s that a stamp may be ahead of this machine's clock."""


@dataclass(frozen=True, kw_only=True)
class JoyConfig(GamepadConfig):
    """How messages of a joystick drive."""

    topic: str = "joy"
    """Of the messages."""


@dataclass(frozen=True, kw_only=True)
class TwistConfig(DeviceConfig):
    """How twists drive; they are held to `linear` and `angular`."""

    topic: str = "command/twist"
    """Of the twists; one is a held dead-man."""
    gripper: str = "command/gripper"
    """Of a gripper's width from -1 to 1, std_msgs/Float64."""
    frame: str = ""
    """Frame that twists must have; empty: base, base_link, or none."""


class MessageListener:
    """A node in a thread: hands on what may be believed, and knows its age."""

    def __init__(self, topic: str, message_type: type, feed: Callable[[Any], None], stale_after: float) -> None:
        """Listen; `feed` is called in the thread, and refuses a message with a `MessageError`."""
        without_shared_memory()
        self._feed, self._stale_after = feed, stale_after
        self._first = FirstPublisher()
        self._measured = self._received = -math.inf
        self.refusal = ""
        """Why the last message that was refused was."""
        self.returned = True
        """The next message is the first one after silence."""
        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node(f"device_{os.getpid()}_{id(self):x}", context=self._context)
        self.topic = self.node.resolve_topic_name(topic)
        qos.subscription(self.node, message_type, topic, self._on_message, qos.SENSOR_READER)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, name=f"listen {topic}", daemon=True)
        self._thread.start()

    @property
    def age(self) -> float:
        """Time since what was last believed was measured, s."""
        return time.monotonic() - self._measured

    @property
    def connected(self) -> bool:
        """Whether something was heard a short while ago."""
        return time.monotonic() - self._received <= _LOST_AFTER

    @property
    def state(self) -> str:
        """What is wrong, in words; empty where nothing is."""
        if self.connected:
            return ""
        return f" (not connected: {self.refusal or f'no message on {self.topic}'})"

    def close(self) -> None:
        """End the thread and the node; harmless when done twice."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join(2.0)
        self.node.destroy_node()
        self._context.try_shutdown()

    def _spin(self) -> None:
        executor = SingleThreadedExecutor(context=self._context)
        executor.add_node(self.node)
        while not self._stop.is_set():
            executor.spin_once(timeout_sec=0.05)
        executor.shutdown()

    def _on_message(self, message: Any, info: Mapping[str, Any]) -> None:
        now = time.monotonic()
        try:
            if refusal := self._first.refusal(source_of(info), now):
                raise messages.MessageError(refusal)
            stamp = messages.to_seconds(message.header.stamp)
            age = 1e-9 * self.node.get_clock().now().nanoseconds - stamp
            if not -_FUTURE <= age <= self._stale_after:
                raise messages.MessageError(
                    f"a message on {self.topic} is {age:.3g} s old (limits {-_FUTURE:g} and {self._stale_after:g} s); "
                    "are its stamps set, and the clocks of both machines the same?"
                )
            self.returned = now - self._received > _LOST_AFTER
            self._feed(message)
        except messages.MessageError as error:
            self.refusal = str(error)
            self.node.get_logger().warning(f"refused: {error}", throttle_duration_sec=1.0)
            return
        self._measured, self._received, self.refusal = now - max(0.0, age), now, ""


class JoyDevice:
    """A joystick or gamepad at another machine, as `ros2 run joy joy_node` sends it, until `close`."""

    motion: Motion = "twist"

    def __init__(self, config: JoyConfig | None = None) -> None:
        """Listen.

        Raises:
            ValueError: The mapping is wrong.
        """
        self.config = config or JoyConfig()
        self._mapping = named_mapping(self.config.mapping) if self.config.mapping else find_mapping("")
        self._layout = Layout(self._mapping.axes, self._mapping.buttons)
        self._lock = threading.Lock()
        self._state = State()
        self._first: tuple[list[float], list[int]] = ([], [])
        self._listener = MessageListener(self.config.topic, Joy, self._feed, self.config.stale_after)
        self.name = f"joystick on {self._listener.topic}"

    def read(self) -> Sample:
        """The newest sample. Never blocks."""
        with self._lock:
            axes, down, pressed = by_code(self._layout, self._state)
        listener = self._listener
        age, connected = listener.age, listener.connected
        return to_sample(
            self._mapping, self.config, axes=axes, down=down, pressed=pressed, age=age, connected=connected
        )

    def help(self) -> str:
        """Its sticks and buttons."""
        return to_help(self._mapping, f"{self.name}{self._listener.state}")

    def close(self) -> None:
        """Let it go."""
        self._listener.close()

    def _feed(self, message: Joy) -> None:
        # ROS 2 counts left and up as positive, the kernel right and down.
        axes, buttons = [-float(value) for value in message.axes], [int(value != 0) for value in message.buttons]
        if not all(math.isfinite(value) for value in axes):
            raise messages.MessageError(f"a message on {self._listener.topic} has an axis that is not finite")
        there = Layout(self._layout.axes[: len(axes)], self._layout.buttons[: len(buttons)])
        if missing := self._mapping.missing(there):
            raise messages.MessageError(
                f"a message on {self._listener.topic} has {len(axes)} axes and {len(buttons)} buttons, too few for "
                f"{', '.join(missing)} of mapping {self._mapping.name!r}; name one that fits: joy,mapping=mine.yaml"
            )
        with self._lock:
            if self._listener.returned:
                self._state, self._first = State(), (axes, buttons)
            for number, value in enumerate(axes[: len(self._first[0])]):
                if number in self._state.axes or value != self._first[0][number]:
                    self._state.axes[number] = max(-1.0, min(1.0, value))
            for number, value in enumerate(buttons[: len(self._first[1])]):
                if number in self._state.buttons or value != self._first[1][number]:
                    if value and not self._state.buttons.get(number, False):
                        self._state.pressed.add(number)
                    self._state.buttons[number] = bool(value)


class TwistDevice:
    """Somebody's twists, with the dead-man at the other end: one is sent only while it is held. Until `close`."""

    motion: Motion = "twist"

    def __init__(self, config: TwistConfig | None = None) -> None:
        """Listen."""
        self.config = config or TwistConfig()
        self._twist = np.zeros(6)
        self._gripper: float | None = None
        self._listener = MessageListener(self.config.topic, TwistStamped, self._feed, self.config.stale_after)
        qos.subscription(self._listener.node, Float64, self.config.gripper, self._on_gripper, qos.COMMAND_READER)
        self.name = f"twists on {self._listener.topic}"

    def read(self) -> Sample:
        """The newest sample. Never blocks."""
        age, connected = self._listener.age, self._listener.connected
        held = connected and age <= self.config.stale_after
        return Sample(
            twist=limited(self._twist, self.config.linear, self.config.angular) if held else np.zeros(6),
            gripper=self._gripper,
            engaged=held,
            dead_man=held,
            age=age,
            connected=connected,
        )

    def help(self) -> str:
        """What is expected."""
        return f"{self.name}{self._listener.state}: m/s and rad/s, sent while the dead-man there is held"

    def close(self) -> None:
        """Let it go."""
        self._listener.close()

    def _feed(self, message: TwistStamped) -> None:
        frame = message.header.frame_id
        allowed = (self.config.frame,) if self.config.frame else ("", arm_messages.BASE_FRAME, messages.BODY_FRAME)
        if frame not in allowed:
            raise messages.MessageError(
                f"twist has frame {frame!r}; expected one of {', '.join(repr(name) for name in allowed)}"
            )
        self._twist, _, _ = arm_messages.twist_from_message(message, frame, frame)

    def _on_gripper(self, message: Float64) -> None:
        if math.isfinite(message.data):
            self._gripper = min(1.0, max(-1.0, message.data))
