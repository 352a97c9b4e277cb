"""What the processes of a quadrotor are told when they start: dataclasses, as JSON on their command lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from hardware.realtime.scheduling import RealtimeConfig


@dataclass(frozen=True, kw_only=True)
class RateConfig:
    """How rotor speeds are told to a vehicle that takes body rates: `hardware.drivers.rate_command`."""

    inner_lag: float = 0.05
    """s, time constant of the vehicle's own rate loop."""
    max_rate: float = 6.0
    """rad/s, longest body rate that is commanded."""
    rotor_share: float = 0.3
    """Share of the described rotors' inertia in the commands, 0 to 1; more is smoother, and later."""


@dataclass(frozen=True, kw_only=True)
class QuadrotorControlConfig:
    """The control process of one quadrotor."""

    module: str = "quadrotor_control"
    """Which process it is, for `python -m robot_rl.planes`."""
    folder: str = ""
    """Of the slots."""
    robot: str = "crazyflie"
    """Name or path of the quadrotor's description."""
    driver: str = "sim"
    """As `hardware.drivers.registry` knows it."""
    driver_settings: dict[str, str] = field(default_factory=dict)
    """The driver's own."""
    policy: str = "quadrotor-track"
    """Whose envelope and rate are enforced: a bundle's folder, a zoo name, or `geometric`, `pid`."""
    rate_hz: float = 500.0
    """Of the loop: how finely it looks. Commands go out at the policy's rate."""
    fallback: Literal["simple", "geometric"] = "simple"
    """What holds the position while the policy does not answer."""
    rules: tuple[str, ...] = ()
    """Rules in signal temporal logic beside the bundle's: `name: formula`, or `name: formula -> brake`."""
    ground_height: float = 0.0
    """m, z of the vehicle standing on the ground."""
    rates: RateConfig = field(default_factory=RateConfig)
    """For a vehicle that takes body rates."""
    arming_timeout: float = 15.0
    """s that a vehicle with a safety of its own may take to arm; its driver gives up earlier, and says why."""
    face_timeout: float = 0.5
    """s without a sign of life of the face after which commands are not taken; 0: it needs none."""
    realtime: RealtimeConfig = field(default_factory=RealtimeConfig)
    """What to ask of the system."""


@dataclass(frozen=True, kw_only=True)
class QuadrotorPolicyConfig:
    """The policy process of one quadrotor."""

    module: str = "quadrotor_policy"
    """Which process it is, for `python -m robot_rl.planes`."""
    folder: str = ""
    """Of the slots."""
    robot: str = "crazyflie"
    """Name or path of the quadrotor's description."""
    policy: str = "quadrotor-track"
    """A bundle's folder, a zoo name, or `geometric`, `pid`."""
    max_setpoint_age: float = 0.5
    """s: an older set-point is flown as a place to stand still."""
    realtime: RealtimeConfig = field(default_factory=lambda: RealtimeConfig(priority=40, collector=True))
    """What to ask of the system."""


@dataclass(frozen=True, kw_only=True)
class QuadrotorWireConfig:
    """What lies between a simulated quadrotor and its driver; may be changed while it runs."""

    state_latency: float = 0.0
    """s from a measurement to when it can be read."""
    command_latency: float = 0.0
    """s from rotor speeds to when they act."""
    jitter: float = 0.0
    """s, most that is added to both, evenly distributed; the order stays."""
    state_loss: float = 0.0
    """Share of the samples that are lost."""
    command_loss: float = 0.0
    """Share of the commands that are lost."""
    freeze_state: float = 0.0
    """s from now on for which the odometry stops; inf: until this is changed. The inertial sensor goes on."""
    freeze_attitude: float = 0.0
    """s for which the inertial sensor stops, likewise."""
    nan_state: bool = False
    """The position's x is no number."""
    inf_state: bool = False
    """The velocity's x is infinite."""
    state_jump: float = 0.0
    """m that is added to the position's x."""
    stamp_offset: float = 0.0
    """s that is added to the odometry's stamps: below 0 they are old, above 0 from the future."""


@dataclass(frozen=True, kw_only=True)
class QuadrotorSimulationConfig:
    """The process of a simulated quadrotor."""

    module: str = "simulated_quadrotor"
    """Which process it is, for `python -m robot_rl.planes`."""
    folder: str = ""
    """Of the slots."""
    robot: str = "crazyflie"
    """Name or path of the quadrotor's description."""
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """m, where it stands at the start; the ground is z = 0."""
    yaw: float = 0.0
    """rad, its heading there."""
    seed: int = 0
    """Of the noise of sensors and wire."""
    overrides: dict[str, str] = field(default_factory=dict)
    """Physical parameters that differ from the description's, as YAML text; `numbers` has their values."""
    wire: QuadrotorWireConfig = field(default_factory=QuadrotorWireConfig)
    """What lies between it and the driver."""
    realtime: RealtimeConfig = field(default_factory=lambda: RealtimeConfig(priority=70))
    """What to ask of the system."""

    @property
    def numbers(self) -> dict[str, Any]:
        """The overrides' values by name."""
        return {name: yaml.safe_load(text) for name, text in self.overrides.items()}
