"""What flies a quadrotor while its policy does not: hold, sink, or level, as far as it can be known.

Keeps what the fallback controllers need across a flight: the believed rotor speeds, the thrust that
really hovers, and while it holds, where it holds and what its integral has learned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from hardware.controllers import geometric
from hardware.controllers import quadrotor as controller
from policies import rotation
from policies.types import QuadrotorSetpoint, QuadrotorState


@dataclass(frozen=True, kw_only=True)
class FallbackConfig:
    """How the fallback flies."""

    descent_speed: float = 0.5
    """m/s of a controlled descent with position."""
    blind_thrust: float = 0.95
    """Share of the hover thrust in a descent without position."""
    stopping_time: float = 0.3
    """s: it holds where the velocity would have led in this time, not where it was at full speed."""
    reference_lead: float = 0.3
    """m by which a sinking reference may be ahead of the vehicle, so that it does not push on the ground."""
    hover_time: float = 1.0
    """s, time constant with which the hover thrust is learned."""
    hover_range: tuple[float, float] = (0.6, 1.5)
    """Bounds of the learned hover thrust, in nominal ones."""
    controller: controller.QuadrotorControllerConfig = field(default_factory=controller.QuadrotorControllerConfig)
    """Gains."""
    geometric: geometric.GeometricConfig | None = None
    """Gains of Lee's controller, which then holds the position; None: the simple one does, which is slower, and rights
    itself from any attitude of any vehicle of the randomization."""


class QuadrotorFallback:
    """Fallback controllers with their memory. One vehicle."""

    def __init__(self, parameters: Mapping[str, np.ndarray], config: FallbackConfig | None = None) -> None:
        self.config = config or FallbackConfig()
        self.parameters = parameters
        self.weight = float(controller.hover_thrust(parameters, self.config.controller))
        self.hover_thrust = self.weight
        """N of believed collective thrust that hovers, learned in flight: it makes up for a wrong mass,
        battery or thrust curve."""
        self.motor_speeds = np.zeros(4)
        """Believed rotor speeds, rad/s."""
        self._reference: QuadrotorSetpoint | None = None
        self._integral = np.zeros(3)

    def reset(self) -> None:
        """Before a flight: forget what the last one taught."""
        self.hover_thrust = self.weight
        self.release()

    def release(self) -> None:
        """Stop holding: the next `hold` chooses its place anew."""
        self._reference = None

    def hold(self, state: QuadrotorState, geofence: np.ndarray, sinking: bool, dt: float) -> np.ndarray:
        """Rotor set-points (4,) that stand still inside the fence (3, 2), or sink there."""
        if self._reference is None:
            self._integral = np.array([0.0, 0.0, (self.hover_thrust - self.weight) / float(self.parameters["mass"])])
            stop = state.position + self.config.stopping_time * state.linear_velocity
            stop = np.clip(stop, geofence[:, 0], geofence[:, 1])
            self._reference = QuadrotorSetpoint(stop, np.zeros(3), np.zeros(3), rotation.yaw_of(state.orientation))
        if sinking:
            velocity = np.array([0.0, 0.0, -self.config.descent_speed])
            place = self._reference.position + velocity * dt
            lead = self.config.reference_lead
            place[2] = np.clip(place[2], state.position[2] - lead, state.position[2] + lead)
            self._reference = replace(self._reference, position=place, velocity=velocity)
        now = replace(state, motor_speeds=self.motor_speeds)
        if self.config.geometric is not None:
            speeds, self._integral = geometric.track(
                self.parameters, now, self._reference, self._integral, dt, self.config.geometric
            )
        else:
            speeds, self._integral = controller.hold_position(
                self.parameters, now, self._reference, self._integral, dt, self.config.controller
            )
        return speeds

    def level(self, attitude: tuple[np.ndarray, np.ndarray] | None, sinking: bool) -> np.ndarray:
        """Rotor set-points (4,) without position: level by (orientation, body rates), else all equal."""
        self.release()
        thrust = np.asarray(self.hover_thrust * (self.config.blind_thrust if sinking else 1.0))
        if attitude is None:
            return controller.motor_speeds_from_wrench(self.parameters, thrust, np.zeros(3))
        return controller.level(self.parameters, *attitude, thrust, self.motor_speeds, self.config.controller)

    def sent(self, command: np.ndarray, dt: float) -> None:
        """Tell what the motors were told, whoever decided it."""
        self.motor_speeds = controller.predict_motor_speeds(self.parameters, self.motor_speeds, command, dt)

    def learn_hover_thrust(self, orientation: np.ndarray, dt: float) -> None:
        """Follow the vertical part of the believed thrust: in steady flight it carries the weight."""
        total = float(np.sum(controller.thrust_from_motor_speeds(self.parameters, self.motor_speeds)))
        vertical = total * math.cos(float(rotation.tilt_of(orientation)))
        learned = self.hover_thrust + (vertical - self.hover_thrust) * min(1.0, dt / self.config.hover_time)
        lower, upper = self.config.hover_range
        self.hover_thrust = min(max(learned, lower * self.weight), upper * self.weight)
