"""The policy node with commands that can be spoiled on the way out: for the matrix of faults, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sensor_msgs.msg import JointState
from std_msgs.msg import String

from robot_rl.nodes import qos
from robot_rl.nodes.policy import PolicyNode
from robot_rl.nodes.running import run
from robot_rl.nodes.spoiling import command_fault


class SpoiledPolicy(PolicyNode):
    """Commands as its parent does, until `~/fault` says otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self._spoil = command_fault("")
        qos.subscription(self, String, "~/fault", self._on_fault, qos.STATUS_READER)

    def configure(self) -> None:
        """As the parent does, with a publisher that spoils."""
        super().configure()
        self._commands = _Spoiling(self._commands, self)

    def cleanup(self) -> None:
        """Give the parent its publisher back."""
        if isinstance(self._commands, _Spoiling):
            self._commands = self._commands.publisher
        super().cleanup()

    def spoiled(self, message: JointState) -> JointState:
        """What leaves in place of a command."""
        return self._spoil(message)

    def _on_fault(self, message: String) -> None:
        self._spoil = command_fault(message.data)
        self.get_logger().warning(f"fault injected: {message.data or 'none'}")


class _Spoiling:
    """A publisher behind which commands are spoiled."""

    def __init__(self, publisher: Any, node: SpoiledPolicy) -> None:
        self.publisher, self._node = publisher, node

    def publish(self, message: JointState) -> None:
        self.publisher.publish(self._node.spoiled(message))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(SpoiledPolicy, argv)
