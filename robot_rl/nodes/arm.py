"""Arms a vehicle and ends: asks the supervisor again and again until it agrees, or time is up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rclpy.task import Future
from std_srvs.srv import SetBool

from robot_rl.nodes import parameters
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.running import Face, NodeError, run


@dataclass(frozen=True, kw_only=True)
class ArmConfig:
    """Parameters of the node."""

    timeout: float = parameter(30.0, "s after which it gives up.", low=0.1, high=3600.0)


class ArmNode(Face):
    """Status 0 once armed; 3, with the supervisor's last reason, if that did not happen in time."""

    period = 0.2

    def __init__(self) -> None:
        super().__init__("arm")
        self.config = parameters.read(self, ArmConfig)
        self._client = self.create_client(SetBool, "arm")
        self._answer: Future | None = None
        self._reason = f"no service {self._client.service_name}: is the supervisor running in this namespace?"
        self._give_up = time.monotonic() + self.config.timeout

    def tick(self) -> None:
        """Ask, or look at the answer."""
        if self._answer is not None and self._answer.done():
            response = self._answer.result()
            self._answer, self._reason = None, response.message
            if response.success:
                self.get_logger().info(response.message)
                self.finished = True
                return
            self.get_logger().info(f"not yet: {response.message}", throttle_duration_sec=2.0)
        if time.monotonic() > self._give_up:
            raise NodeError(f"not armed after {self.config.timeout:g} s: {self._reason}")
        if self._answer is None and self._client.service_is_ready():
            self._answer = self._client.call_async(SetBool.Request(data=True))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(ArmNode, argv)
