"""A simulated quadrotor that is driven like a real one: read its sensors, write its motors.

`SimulatedQuadrotor` is one vehicle on `sim.quadrotor.step` in float64, with a ground to stand on and
the watchdog of a real vehicle's firmware: the last stop, whatever happens to the computers that
command it. Deterministic: time passes only in `advance`, noise comes from a seed.

Watchdog, on the age of the newest accepted motor command (defaults; CONTRACT.md, time limits):

| age | motors |
|---|---|
| up to 100 ms | the command |
| more | `level`: hover thrust, level, on the vehicle's own attitude |
| 500 ms | `descending`: sinks at 0.5 m/s |
| 2000 ms | `locked`: off, until a command of zeros is received |

With the motors off, or standing on the ground, it stays `off` instead. The tables of the supervisor
(`hardware.safety.quadrotor`) come first; this one only acts when that process is dead.

A process that only runs this should call `torch.set_num_threads(1)`: one vehicle fills no second core.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from hardware.controllers import quadrotor as controller
from hardware.descriptions import QuadrotorDescription
from hardware.descriptions.quadrotor import simulated_parameters
from policies import rotation
from policies.types import Array, MotorSpeeds, QuadrotorSetpoint, QuadrotorState
from sim.quadrotor import QuadrotorParameters, step

Watchdog: TypeAlias = Literal["ok", "off", "level", "descending", "locked"]


@dataclass(frozen=True, kw_only=True)
class SensorNoise:
    """Standard deviations of white noise on what is read; all zero by default."""

    position: float = 0.0
    """m per axis."""
    orientation: float = 0.0
    """rad per axis."""
    linear_velocity: float = 0.0
    """m/s per axis."""
    angular_velocity: float = 0.0
    """rad/s per axis."""
    acceleration: float = 0.0
    """m/s² per axis, of the inertial sensor."""


@dataclass(frozen=True, kw_only=True)
class SimulatedQuadrotorConfig:
    """How the vehicle is simulated."""

    dt: float = 0.005
    """s, integration step; RK4 is accurate at twice this."""
    command_age: tuple[float, float, float] = (0.1, 0.5, 2.0)
    """s of the watchdog: level, descend, motors off."""
    clock_tolerance: float = 0.02
    """s by which a command's stamp may lie in the future."""
    descent_speed: float = 0.5
    """m/s of the watchdog's descent."""
    crash_speed: float = 1.5
    """m/s of impact on the ground that breaks the vehicle."""
    crash_tilt: float = 0.6
    """rad of tilt on touching the ground that breaks it."""
    noise: SensorNoise = field(default_factory=SensorNoise)
    """Of `read` and `imu`."""


class SimulatedQuadrotor:
    """One simulated vehicle; stands on the ground with its rotors off at the start."""

    def __init__(
        self,
        description: QuadrotorDescription,
        config: SimulatedQuadrotorConfig | None = None,
        *,
        overrides: Mapping[str, Array | float] | None = None,
        position: Array = (0.0, 0.0, 0.0),
        yaw: float = 0.0,
        seed: int = 0,
        start_time: float = 0.0,
    ) -> None:
        """Build the vehicle.

        Args:
            description: Nominal parameters, also what the watchdog's controller believes.
            config: Integration, watchdog, ground, noise.
            overrides: True values that differ, by field name of `sim.quadrotor.QuadrotorParameters`, and
                `battery_sag`, the fraction of rotor speed that is lost while all rotors run at full speed.
            position: Shape (3,), m; z ≥ 0.
            yaw: rad.
            seed: Of the sensor noise.
            start_time: s that the vehicle's clock shows now.
        """
        self.config = config or SimulatedQuadrotorConfig()
        self._battery_sag = float(simulated_parameters(description, overrides)["battery_sag"])
        self.parameters = single_parameters(description, overrides)
        self._believed = description.parameters
        self._rng = np.random.default_rng(seed)
        self._start_time = start_time
        self._steps = 0
        self._due = 0.0
        self._counters = dict.fromkeys(
            ("not_finite", "stale", "future", "not_newer", "clipped", "watchdog_trips", "crashes"), 0
        )
        self._stamp = -math.inf
        self.reset(position, yaw)

    def reset(self, position: Array = (0.0, 0.0, 0.0), yaw: float = 0.0) -> None:
        """Stand at `position` (3,) m, z ≥ 0, with rotors off and whole again; the clock goes on."""
        place = np.array(position, dtype=np.float64)
        if place.shape != (3,) or not np.all(np.isfinite(place)) or place[2] < 0.0:
            raise ValueError(f"position is {place.tolist()}; expected 3 finite values in m with z at or above 0")
        zero = torch.zeros(3, dtype=torch.float64)
        self._state = QuadrotorState(
            torch.as_tensor(place),
            torch.as_tensor(rotation.from_yaw(np.asarray(yaw, dtype=np.float64))),
            zero,
            zero,
            torch.zeros(4, dtype=torch.float64),
        )
        self._acceleration = zero
        """World frame, of the last step, without gravity: what an accelerometer feels."""
        self._command = np.zeros(4)
        self._on_ground = place[2] == 0.0
        self._feel(None)
        self.crashed = False
        """Hit the ground too fast or too tilted: rotors stay off until `reset`."""
        self._watchdog: Watchdog = "off"
        self._descent: QuadrotorSetpoint | None = None
        self._integral = np.zeros(3)

    @property
    def time(self) -> float:
        """The vehicle's clock in s: the start time plus all whole steps."""
        return self._start_time + self._steps * self.config.dt

    @property
    def on_ground(self) -> bool:
        """Stands on z = 0."""
        return self._on_ground

    @property
    def watchdog(self) -> Watchdog:
        """What drives the motors: `ok` the command, `off` nothing, else the watchdog."""
        return self._watchdog

    @property
    def counters(self) -> Mapping[str, int]:
        """Refused and clipped commands, watchdog trips and crashes; the keys never change."""
        return dict(self._counters)

    # The driver's face

    def read(self) -> QuadrotorState:
        """State as measured, float64 numpy; it has no sensor for rotor speeds."""
        true, noise = self.truth(), self.config.noise
        return QuadrotorState(
            true.position + self._white(noise.position),
            self._turned(true.orientation, noise.orientation),
            true.linear_velocity + self._white(noise.linear_velocity),
            true.angular_velocity + self._white(noise.angular_velocity),
        )

    def truth(self) -> QuadrotorState:
        """True state with rotor speeds, float64 numpy."""
        return QuadrotorState(*(getattr(self._state, f.name).numpy().copy() for f in fields(QuadrotorState)))

    def imu(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inertial sensor: orientation (4,) wxyz, body rates (3,) rad/s, specific force (3,) m/s².

        The specific force is in the body frame and what an accelerometer feels: +9.81 along z at
        rest, zero in free fall.
        """
        true, noise = self.truth(), self.config.noise
        felt = rotation.rotate_inverse(true.orientation, self._acceleration.numpy())
        return (
            self._turned(true.orientation, noise.orientation),
            true.angular_velocity + self._white(noise.angular_velocity),
            felt + self._white(noise.acceleration),
        )

    def write(self, command: MotorSpeeds, time: float) -> str:
        """Take rotor speeds (4,) rad/s, stamped `time` on the vehicle's clock.

        Returns:
            An empty string, or why the command was refused; then it is as if it had not come.
        """
        values = np.asarray(command.values, dtype=np.float64)
        if values.shape != (4,) or not np.all(np.isfinite(values)) or not math.isfinite(time):
            return self._refuse("not_finite", f"motor command {values.tolist()} at {time} s is not 4 finite speeds")
        age = self.time - time
        if age > self.config.command_age[0]:
            limit = 1e3 * self.config.command_age[0]
            return self._refuse("stale", f"motor command is {1e3 * age:.0f} ms old (limit {limit:.0f} ms)")
        if age < -self.config.clock_tolerance - self.config.dt:
            return self._refuse("future", f"motor command is stamped {-1e3 * age:.0f} ms in the future")
        if time < self._stamp:
            return self._refuse("not_newer", f"motor command of {time:.4f} s came after that of {self._stamp:.4f} s")
        limited = np.clip(values, 0.0, float(self.parameters.max_speed))
        self._counters["clipped"] += int(np.any(limited != values))
        self._command, self._stamp = limited, time
        if self._watchdog == "locked" and not np.any(limited):
            self._watchdog = "off"
        return ""

    def advance(self, dt: float) -> None:
        """Let `dt` s pass. Less than a step is carried over to the next call."""
        if not (math.isfinite(dt) and dt >= 0.0):
            raise ValueError(f"dt is {dt} s; time can only advance")
        self._due += dt / self.config.dt
        # 1e-9 of a step: twenty calls with a twentieth of a step each are one step, in spite of rounding.
        while self._due >= 1.0 - 1e-9:
            self._due -= 1.0
            self._step()

    # One step

    def _step(self) -> None:
        motors = torch.as_tensor(self._motor_speeds())
        before = self._state
        parameters = self.parameters
        with torch.inference_mode():
            if self._battery_sag > 0.0:
                assert before.motor_speeds is not None
                load = (before.motor_speeds / parameters.max_speed).square().mean()
                parameters = replace(parameters, supply=parameters.supply * (1.0 - self._battery_sag * load))
            self._state = self._touch(before, step(before, motors, parameters, self.config.dt))
        self._feel(before)
        self._steps += 1

    def _motor_speeds(self) -> np.ndarray:
        """Rotor set-points (4,): the command, or what the watchdog makes of its absence."""
        age = self.time - self._stamp
        level_age, descent_age, off_age = self.config.command_age
        mode: Watchdog
        if self._watchdog == "locked":
            mode = "locked"
        elif age <= level_age:
            mode = "ok" if np.any(self._command) else "off"
        elif self._watchdog == "off" or self._on_ground:
            mode = "off"
        elif age >= off_age:
            mode = "locked"
        else:
            mode = "descending" if age >= descent_age else "level"
        if mode != self._watchdog and mode in ("level", "descending", "locked"):
            self._counters["watchdog_trips"] += 1
        self._watchdog = mode
        if mode != "descending":
            self._descent = None
        if self.crashed or mode in ("off", "locked"):
            return np.zeros(4)
        if mode == "ok":
            return self._command
        state = self.truth()
        if mode == "level":
            thrust = np.asarray(controller.hover_thrust(self._believed))
            return controller.level(
                self._believed, state.orientation, state.angular_velocity, thrust, state.motor_speeds
            )
        return self._sink(state)

    def _sink(self, state: QuadrotorState) -> np.ndarray:
        if self._descent is None:
            self._integral = np.zeros(3)
            sink = np.array([0.0, 0.0, -self.config.descent_speed])
            heading = rotation.yaw_of(state.orientation)
            self._descent = QuadrotorSetpoint(state.position, sink, np.zeros(3), heading)
        dt = self.config.dt
        self._descent = replace(self._descent, position=self._descent.position + self._descent.velocity * dt)
        speeds, self._integral = controller.hold_position(self._believed, state, self._descent, self._integral, dt)
        return speeds

    def _touch(self, before: QuadrotorState, state: QuadrotorState) -> QuadrotorState:
        """The ground: nothing sinks into it, bounces, slides or turns on it."""
        if float(state.position[2]) > 0.0:
            self._on_ground = False
            return state
        zero = torch.zeros_like(state.position)
        if self._on_ground:
            return QuadrotorState(before.position, before.orientation, zero, zero, state.motor_speeds)
        self._on_ground = True
        impact = -float(state.linear_velocity[2])
        tilt = float(rotation.tilt_of(state.orientation))
        orientation = rotation.from_yaw(rotation.yaw_of(state.orientation))
        if impact > self.config.crash_speed or tilt > self.config.crash_tilt:
            self.crashed = True
            self._counters["crashes"] += 1
            orientation = state.orientation  # a whole vehicle settles on its feet, a broken one stays as it fell
        place = torch.stack([state.position[0], state.position[1], zero[2]])
        return QuadrotorState(place, orientation, zero, zero, state.motor_speeds)

    def _feel(self, before: QuadrotorState | None) -> None:
        """Mean specific force of the last step, world frame; at rest if there was none."""
        change = torch.zeros(3, dtype=torch.float64)
        if before is not None:
            change = (self._state.linear_velocity - before.linear_velocity) / self.config.dt
        elif not self._on_ground:
            change[2] = -self.parameters.gravity
        up = torch.zeros(3, dtype=torch.float64)
        up[2] = self.parameters.gravity
        self._acceleration = change + up

    # Details

    def _refuse(self, key: str, sentence: str) -> str:
        self._counters[key] += 1
        return sentence

    def _white(self, deviation: float) -> np.ndarray:
        return deviation * self._rng.standard_normal(3)

    def _turned(self, orientation: np.ndarray, deviation: float) -> np.ndarray:
        return rotation.multiply(orientation, rotation.from_rotation_vector(self._white(deviation)))


def single_parameters(
    description: QuadrotorDescription, overrides: Mapping[str, Array | float] | None = None
) -> QuadrotorParameters:
    """Float64 parameters of one vehicle (no batch axes): as described, with overrides, in still air.

    Raises:
        ValueError: An override is unknown, has the wrong shape or is not finite.
    """
    values = simulated_parameters(description, overrides)
    names = {field_.name for field_ in fields(QuadrotorParameters)}
    tensors: dict[str, Tensor] = {
        name: torch.tensor(value, dtype=torch.float64) for name, value in values.items() if name in names
    }
    return QuadrotorParameters(**tensors)
