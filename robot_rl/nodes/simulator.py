"""A simulated quadrotor as a managed node: the face of its process, which has faults on demand and a way back."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from std_msgs.msg import String
from std_srvs.srv import Trigger

from hardware.descriptions.quadrotor import simulated_parameters
from hardware.realtime.seqlock import SlotError
from robot_rl.nodes import qos
from robot_rl.nodes.managed import Values
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.plane_face import PlaneProcess
from robot_rl.nodes.quadrotor_face import QuadrotorFace, QuadrotorFaceConfig
from robot_rl.nodes.running import StartError, run
from robot_rl.planes.quadrotor_settings import QuadrotorSimulationConfig, QuadrotorWireConfig

_FAULTS = ("freeze_state", "freeze_attitude", "nan_state", "inf_state", "state_jump=METRES", "stamp_offset=SECONDS")
"""What `~/fault` takes; the first two perhaps with =SECONDS."""
_FLYING = ("active", "holding", "level", "descending")
_STILL = 0.5
"""s without a word of the control process after which nobody flies the vehicle."""


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig(QuadrotorFaceConfig):
    """Parameters of the node."""

    position: list[float] = parameter([0.0, 0.0, 0.0], "Start position x, y, z in m, frame odom; the ground is z = 0.")
    yaw: float = parameter(0.0, "Start heading in rad.", low=-6.3, high=6.3)
    seed: int = parameter(0, "Seed of sensor noise.", low=0, high=2**31 - 1)
    overrides: list[str] = parameter(
        [""], "Physical parameters that differ from the description, each as name=value, e.g. mass=0.035."
    )
    state_latency: float = parameter(0.0, "s from a measurement to when it can be read.", low=0.0, high=1.0)
    command_latency: float = parameter(0.0, "s from rotor speeds to when they act.", low=0.0, high=1.0)
    jitter: float = parameter(0.0, "s, most that is added to both.", low=0.0, high=1.0)
    state_loss: float = parameter(0.0, "Share of the samples that are lost.", low=0.0, high=1.0)
    command_loss: float = parameter(0.0, "Share of the commands that are lost.", low=0.0, high=1.0)


class SimulatorNode(QuadrotorFace):
    """See the module."""

    part = "vehicle"
    period = 0.02
    outlives_memory = True

    def __init__(self) -> None:
        super().__init__("sim", SimulatorConfig)
        qos.subscription(self, String, "~/fault", self.when_active(self._on_fault), qos.STATUS_READER)
        self.create_service(Trigger, "~/reset", self._on_reset)

    def configure(self) -> None:
        """Check that such a vehicle can be simulated."""
        super().configure()
        config = self.settings
        if len(config.position) != 3:
            raise StartError(f"position has {len(config.position)} values, expected x, y, z in m")
        self._config = QuadrotorSimulationConfig(
            robot=config.robot,
            position=tuple(config.position),
            yaw=config.yaw,
            seed=config.seed,
            overrides=parse_overrides(config.overrides),
            wire=self._wire(),
        )
        # What it would refuse is refused now, and not by a process that has started.
        simulated_parameters(self.description, self._config.numbers)
        if not (np.all(np.isfinite(config.position)) and config.position[2] >= 0.0):
            raise StartError(f"position is {config.position}; expected finite values in m with z at or above 0")

    def work(self) -> None:
        """Start the process once there is memory; end with it when it dies."""
        planes = self.planes
        if planes is None:
            return
        if self.child is None:
            self.child = PlaneProcess("simulation", dataclasses.replace(self._config, folder=str(self.slots.path)))
        self.child.runs = bool(planes.simulation())
        self.child.check()

    def describe(self) -> tuple[bytes, str, Values]:
        """Whether its watchdog or the ground has stopped it."""
        planes = self.planes
        found = {} if planes is None else planes.simulation()
        if not found:
            return DiagnosticStatus.WARN, "waits for the supervisor" if planes is None else "the simulation loads", {}
        values: Mapping[str, Any] = {
            **{name: found[name] for name in ("watchdog", "crashed", "on_ground")},
            "last refusal": found["refusal"],
            "commands refused": found["refused"],
            "lost periods": found["lost_periods"],
            "seconds left out": found["left_out"],
            "skipped periods": self.schedule.skipped,
            **found["counters"],
        }
        if found["crashed"]:
            return DiagnosticStatus.ERROR, "crashed into the ground; call ~/reset", values
        level = DiagnosticStatus.OK if found["watchdog"] in {"ok", "off"} else DiagnosticStatus.WARN
        return level, f"motor watchdog: {found['watchdog']}", values

    def _wire(self, **changes: Any) -> QuadrotorWireConfig:
        names = ("state_latency", "command_latency", "jitter", "state_loss", "command_loss")
        return QuadrotorWireConfig(**{**{name: getattr(self.settings, name) for name in names}, **changes})

    def _on_fault(self, message: String) -> None:
        """Fault injection: one of `_FAULTS`; empty for none."""
        planes = self.planes
        if planes is None:
            return
        name, equals, value = message.data.partition("=")
        try:
            if name and name not in [fault.partition("=")[0] for fault in _FAULTS]:
                raise ValueError(name)
            changes: dict[str, Any] = {}
            if name in ("nan_state", "inf_state"):
                changes[name] = True
            elif name:
                changes[name] = float(value) if equals or not name.startswith("freeze") else math.inf
            planes.set_wire(self._wire(**changes))
        except ValueError:
            self.get_logger().warning(
                f"no fault {message.data!r}; there are {', '.join(_FAULTS)}, the first two perhaps with =SECONDS"
            )
            return
        except SlotError as error:
            self.get_logger().warning(f"no fault injected: {error}")
            return
        self.get_logger().warning(f"fault injected: {message.data or 'none'}")

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Stand at the start again; only while nobody flies it."""
        planes = self.planes if self.active else None
        response.success, response.message = False, "there is no simulation yet"
        if planes is None or not planes.simulation():
            return response
        try:
            status = planes.status()
            if status is not None and status.mode in _FLYING and time.monotonic() - status.stamp < _STILL:
                response.message = f"the supervisor is {status.mode}: disarm it first"
                return response
            planes.reset_vehicle()
        except (TimeoutError, SlotError) as error:
            response.message = str(error)
            return response
        response.success, response.message = True, f"standing at {self.settings.position} m, rotors off"
        return response


def parse_overrides(texts: Sequence[str]) -> dict[str, str]:
    """`["mass=0.035", "drag=[0, 0, 0]"]` as a dict."""
    values = {}
    for text in filter(None, texts):
        name, equals, value = text.partition("=")
        if not equals:
            raise StartError(f"override {text!r} is not of the form name=value")
        values[name.strip()] = value.strip()
    return values


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(SimulatorNode, argv)
