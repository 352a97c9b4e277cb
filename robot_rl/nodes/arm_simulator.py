"""A simulated arm at a task as a managed node: starts its process, tells how the episode stands, begins another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from std_msgs.msg import String
from std_srvs.srv import Trigger

from robot_rl.nodes import qos
from robot_rl.nodes.arm_face import ArmFace, ArmFaceConfig
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.plane_face import PlaneProcess
from robot_rl.nodes.running import run
from robot_rl.planes.settings import SceneConfig, SimulationConfig, WireConfig

_EPISODE = ("start", "over", "success", "failed")
_SIZED = ("state_jump", "stamp_offset")
"""Faults with a size in place of a duration."""
_RESTING = ("idle", "fault", "stopped")


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig(ArmFaceConfig):
    """Parameters of the node."""

    task: str = parameter("", "What is simulated: an arm task, e.g. arm-reach; empty: the arm alone.")
    starts: int = parameter(10, "Beginnings of episodes that are drawn; ~/reset goes to the next.", low=1, high=1000)
    seed: int = parameter(0, "Seed of the starts and of the noise.", low=0, high=2**31 - 1)
    randomization: str = parameter("none", "Whether robot and sensors vary.", choices=("default", "none"))
    state_latency: float = parameter(0.0, "s from a measurement to when it can be read.", low=0.0, high=1.0)
    command_latency: float = parameter(0.0, "s from a torque to when it acts.", low=0.0, high=1.0)
    jitter: float = parameter(0.0, "s, most that is added to both.", low=0.0, high=1.0)
    state_loss: float = parameter(0.0, "Share of the samples that are lost.", low=0.0, high=1.0)
    command_loss: float = parameter(0.0, "Share of the torques that are lost.", low=0.0, high=1.0)
    position_noise: float = parameter(0.0, "rad, standard deviation of the encoders.", low=0.0, high=0.1)
    velocity_noise: float = parameter(0.0, "rad/s, likewise.", low=0.0, high=1.0)


class SimulatorNode(ArmFace):
    """See the module."""

    part = "simulation"
    period = 0.05

    def __init__(self) -> None:
        super().__init__("sim", SimulatorConfig)
        self._said: tuple = ()
        self._episode = qos.publisher(self, String, "~/episode", qos.STATUS)
        qos.subscription(self, String, "~/fault", self.when_active(self._on_fault), qos.STATUS_READER)
        self.create_service(Trigger, "~/reset", self._on_reset)

    def work(self) -> None:
        """Start the process once there is memory; tell about each change of the episode."""
        planes = self.planes
        if planes is None:
            return
        if self.child is None:
            config = self.settings
            self.child = PlaneProcess(
                "simulation",
                SimulationConfig(
                    folder=str(self.slots.path),
                    scene=SceneConfig(
                        task=config.task,
                        robot=config.robot,
                        starts=config.starts,
                        seed=config.seed,
                        randomization=config.randomization,
                    ),
                    wire=self._wire(),
                ),
            )
        self.child.check()
        found = planes.simulation()
        self.child.runs = bool(found)
        episode = tuple(found.get(name) for name in _EPISODE)
        if found and episode != self._said:
            self._said = episode
            told = {**{name: found[name] for name in _EPISODE}, "time": found["time"], "task": self.settings.task}
            self._episode.publish(String(data=json.dumps(told)))
            if found["over"]:
                how = "success" if found["success"] else "failure" if found["failed"] else "time is over"
                self.get_logger().info(f"episode from start {found['start']}: {how} after {found['time']:.2f} s")

    def describe(self) -> tuple[bytes, str, Mapping[str, Any]]:
        """The robot's own state and the episode."""
        planes = self.planes
        found = {} if planes is None else planes.simulation()
        if not found:
            return DiagnosticStatus.WARN, "waits for the supervisor" if planes is None else "the simulation loads", {}
        values = {name: value for name, value in found.items() if name not in ("stamp", "goal", "request_id")}
        if found["fault"]:
            return DiagnosticStatus.WARN, f"the robot says: {found['fault']}", values
        return DiagnosticStatus.OK, "brakes closed" if found["braked"] else "moves", values

    def _wire(self, **changes: Any) -> WireConfig:
        config = self.settings
        names = ("state_latency", "command_latency", "jitter", "state_loss", "command_loss", "position_noise",
                 "velocity_noise")  # fmt: skip
        return WireConfig(**{**{name: getattr(config, name) for name in names}, **changes})

    def _on_fault(self, message: String) -> None:
        """Fault injection: fields of `WireConfig`; empty for none.

        `freeze_state`, `nan_state`, `inf_state`, `permute_state`, each perhaps with `=SECONDS`; `state_jump=RAD`,
        `stamp_offset=SECONDS`, `fault=TEXT`.
        """
        planes = self.planes
        name, _, value = message.data.partition("=")
        try:
            number = float(value) if value and name != "fault" else 0.0
            changes: dict[str, Any] = (
                {"fault": value} if name == "fault" else {name: number if name in _SIZED else True}
            )
            wire = self._wire(**changes) if name else self._wire()
        except (TypeError, ValueError):
            self.get_logger().warning(
                f"no fault {message.data!r}; there are freeze_state, nan_state, inf_state, permute_state, each perhaps "
                "with =SECONDS; state_jump=RAD, stamp_offset=SECONDS, fault=TEXT"
            )
            return
        seconds = 0.0 if name in _SIZED else number
        if planes is None:
            return
        planes.set_wire(wire)
        if seconds > 0.0:
            self._end_of_fault = self.create_timer(seconds, self._end_fault)
        self.get_logger().warning(f"fault injected: {message.data or 'none'}")

    def _end_fault(self) -> None:
        self._end_of_fault.cancel()
        if (planes := self.planes) is not None:
            planes.set_wire(self._wire())

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Place arm and objects anew at the next start; only while the arm does not follow anybody."""
        planes = self.planes if self.active else None
        found = {} if planes is None else planes.simulation()
        if planes is None or not found:
            response.success, response.message = False, "there is no simulation yet"
            return response
        status = planes.status()
        if status is not None and status.mode not in _RESTING:
            response.success, response.message = False, f"the arm is {status.mode}: disarm it first"
            return response
        start = (int(found["start"]) + 1) % self.settings.starts
        try:
            planes.begin_episode(start, timeout=1.0)
        except TimeoutError as error:
            response.success, response.message = False, str(error)
            return response
        response.success, response.message = True, f"standing at start {start}; arm to begin"
        return response


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(SimulatorNode, argv)
