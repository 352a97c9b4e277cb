"""What may fly a quadrotor: a policy bundle, or a controller written by hand in its place.

A controller is named where a bundle is: `robot-rl eval geometric`, `robot-rl up quadrotor policy:=pid`. It follows
`robot_rl.control.FlightPolicy` as `policies.load` does, batched too, and believes what the robot's description says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import policies
from hardware.controllers import cascaded_pid, geometric
from hardware.controllers.quadrotor import motor_speeds_from_thrust, predict_motor_speeds
from hardware.descriptions import QuadrotorDescription, load_quadrotor
from policies.actions import ActionConfig
from policies.manifest import Envelope
from policies.types import MotorSpeeds, QuadrotorSetpoint, QuadrotorState, RobotInterface
from robot_rl.control import FlightPolicy

CONTROLLERS = ("geometric", "pid")
"""Controllers by the names that stand for them where a bundle is asked for."""
_JERK_TIME = 0.05
"""s, time constant of the set-point's jerk: set-points may come more rarely than states."""


@dataclass(frozen=True, kw_only=True)
class ControllerManifest:
    """What a node, a supervisor or an evaluation wants to know of a controller, as of a bundle's manifest."""

    name: str
    """One of `CONTROLLERS`."""
    control_rate_hz: float
    """Rate at which `step` must be called."""
    action: ActionConfig
    """Rotor speeds."""
    task: str = "quadrotor-track"
    """What it does."""
    envelope: Envelope = dataclasses.field(
        default_factory=lambda: Envelope(
            geofence=((-3.0, 3.0), (-3.0, 3.0), (-0.2, 3.0)),
            max_tilt=2.1,
            tumble_time=0.5,
            max_speed=5.0,
            state_age=(0.1, 0.5, 2.0),
            command_age_periods=3.0,
        )
    )
    """Limits for the supervisor: those of the shipped quadrotor policies."""


class ControllerPolicy:
    """A controller with its memory of one flight or of a batch of them; numpy."""

    def __init__(self, name: str, description: QuadrotorDescription) -> None:
        """Use `load_flight_policy`."""
        self._parameters = description.parameters
        high = float(description.parameters["max_speed"])
        self.manifest = ControllerManifest(
            name=name,
            control_rate_hz=description.interface.state_rate_hz,
            action=ActionConfig(name="motor_speeds", parameters={"low": 0.0, "high": high}),
        )
        self._period, self._high = 1.0 / self.manifest.control_rate_hz, high
        self._step: Callable[..., np.ndarray] = self._geometric if name == "geometric" else self._pid
        self._memory: Any = None
        self._motor_speeds: np.ndarray | None = None
        self._acceleration: np.ndarray | None = None
        self._jerk = np.zeros(3)
        self.last_action: np.ndarray | None = None
        """Rotor speeds (..., 4) of the last step mapped to [-1, 1]; None after a reset."""

    def reset(self, mask: Any = None) -> None:
        """Forget the past; a controller forgets that of all vehicles or of none.

        Raises:
            ValueError: `mask` chooses some of the vehicles.
        """
        if mask is not None and not np.all(mask):
            if np.any(mask):
                raise ValueError("a controller's memory is reset for all vehicles at once; leave the mask out")
            return
        self._memory = self._motor_speeds = self._acceleration = self.last_action = None

    def step(self, state: QuadrotorState, setpoint: QuadrotorSetpoint) -> MotorSpeeds:
        """The rotor speeds for a state and a set-point, single or batched. Call it once per control period."""
        state, setpoint = (_doubles(record) for record in (state, setpoint))
        if self._motor_speeds is None:
            # Not measured, and predicted from here on: what hovers is the best guess.
            weight = float(self._parameters["mass"]) * 9.81
            hover = motor_speeds_from_thrust(self._parameters, np.full(4, 0.25 * weight))
            self._motor_speeds = np.broadcast_to(hover, (*state.position.shape[:-1], 4))
        command = self._step(dataclasses.replace(state, motor_speeds=self._motor_speeds), setpoint)
        self._motor_speeds = predict_motor_speeds(self._parameters, self._motor_speeds, command, self._period)
        self.last_action = np.asarray(2.0 * command / self._high - 1.0, dtype=np.float32)
        return MotorSpeeds(command)

    def _geometric(self, state: QuadrotorState, setpoint: QuadrotorSetpoint) -> np.ndarray:
        integral = np.zeros_like(state.position) if self._memory is None else self._memory
        if self._acceleration is None:
            self._jerk = np.zeros_like(state.position)
        else:
            share = self._period / (self._period + _JERK_TIME)
            slope = (setpoint.acceleration - self._acceleration) / self._period
            self._jerk = self._jerk + share * (slope - self._jerk)
        self._acceleration = setpoint.acceleration
        speeds, self._memory = geometric.track(
            self._parameters, state, setpoint, integral, self._period, jerk=self._jerk
        )
        return np.asarray(speeds)

    def _pid(self, state: QuadrotorState, setpoint: QuadrotorSetpoint) -> np.ndarray:
        memory = cascaded_pid.initial_memory(state) if self._memory is None else self._memory
        speeds, self._memory = cascaded_pid.track(self._parameters, state, setpoint, memory, self._period)
        return np.asarray(speeds)


def load_flight_policy(name: str, robot: RobotInterface | None = None, description: str = "") -> FlightPolicy:
    """A controller of `CONTROLLERS`, or else the policy bundle `name`.

    Args:
        name: A controller, a bundle's folder, or the name of a shipped bundle.
        robot: The robot that shall run a bundle; what does not fit is refused.
        description: Name or path of the robot's description, which a controller believes; empty: the robot's name.

    Raises:
        BundleError: The bundle is refused, in one sentence.
        ValueError: A controller does not fly this robot.
    """
    if name not in CONTROLLERS:
        return policies.load(name, robot=robot)
    if robot is not None and robot.kind != "quadrotor":
        raise ValueError(f"controller {name!r} flies quadrotors, but robot {robot.name!r} is of kind {robot.kind!r}")
    return ControllerPolicy(name, load_quadrotor(description or (robot.name if robot is not None else "crazyflie")))


def _doubles(record: Any) -> Any:
    values = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    return type(record)(**{k: None if v is None else np.asarray(v, np.float64) for k, v in values.items()})
