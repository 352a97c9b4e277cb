"""What the processes of an arm are told when they start: dataclasses that travel as JSON on their command lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hardware.controllers.arm_config import ArmControllerConfig
from hardware.realtime.scheduling import RealtimeConfig
from hardware.safety.arm_envelope import envelope_from_dict
from policies.manifest import Manifest
from robot_rl.rebuild import rebuild


@dataclass(frozen=True, kw_only=True)
class ControlConfig:
    """The control process of one arm."""

    folder: str = ""
    """Of the slots."""
    robot: str = "panda"
    """Name or path of the arm's description."""
    driver: str = "sim"
    """As `hardware.drivers.registry` knows it."""
    driver_settings: dict[str, str] = field(default_factory=dict)
    """The driver's own."""
    rate_hz: float = 500.0
    """Of the loop; a driver that reaches less sets its own."""
    policy_rate_hz: float = 10.0
    """Of the commands: their age is limited in periods of it."""
    controller: ArmControllerConfig = field(default_factory=ArmControllerConfig)
    """Gains and bounds."""
    envelope: dict[str, Any] = field(default_factory=dict)
    """Fields of `ArmEnvelope` that differ from their defaults."""
    barrier: bool = False
    """Whether a control-barrier filter keeps distances, by the smallest change of a motion; needs `daqp`."""
    face_timeout: float = 0.5
    """s without a sign of life of the face after which an active arm holds; 0: it needs none."""
    realtime: RealtimeConfig = field(default_factory=RealtimeConfig)
    """What to ask of the system."""


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """The policy process of one arm."""

    folder: str = ""
    """Of the slots."""
    robot: str = "panda"
    """Name or path of the arm's description."""
    bundle: str = ""
    """Path or zoo name."""
    native: bool = False
    """Whether it runs as compiled C in a thread of its own (`robot_rl.native`), without an interpreter in the loop."""
    max_state_age: float = 0.1
    """s: on an older state the policy gives no command."""
    max_object_age: float = 0.5
    """s: an object that was seen longer ago is not seen."""
    realtime: RealtimeConfig = field(default_factory=lambda: RealtimeConfig(priority=40, collector=True))
    """What to ask of the system."""


@dataclass(frozen=True, kw_only=True)
class WireConfig:
    """What lies between a simulated arm and its driver; may be changed while it runs."""

    state_latency: float = 0.0
    """s from a measurement to when it can be read."""
    command_latency: float = 0.0
    """s from a torque to when it acts."""
    jitter: float = 0.0
    """s, most that is added to both, evenly distributed; the order stays."""
    state_loss: float = 0.0
    """Share of the samples that are lost."""
    command_loss: float = 0.0
    """Share of the torques that are lost."""
    position_noise: float = 0.0
    """rad, standard deviation of the encoders, beside the task's own."""
    velocity_noise: float = 0.0
    """rad/s, likewise."""
    freeze_state: bool = False
    """Samples stop coming."""
    nan_state: bool = False
    """The first joint's angle is no number."""
    inf_state: bool = False
    """The first joint's velocity is infinite."""
    permute_state: bool = False
    """The joints' angles come in the opposite order."""
    state_jump: float = 0.0
    """rad that is added to the first joint's angle."""
    stamp_offset: float = 0.0
    """s that is added to the samples' stamps: below 0 they are old, above 0 from the future."""
    fault: str = ""
    """The robot says this, brakes, and takes no torques until it is told to recover and this is empty again."""


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """What is simulated."""

    task: str = ""
    """An arm task by name; empty: a bare arm at a table."""
    robot: str = "panda"
    """Description of a bare arm; a task has its own."""
    settings: dict[str, float] = field(default_factory=dict)
    """The task's own, by name."""
    starts: int = 1
    """How many beginnings of episodes are drawn at once: as many as the environments that pure simulation has."""
    seed: int = 0
    """Of starts, robots and noise: those of `robot-rl eval --seed`."""
    randomization: Literal["default", "none"] = "none"
    """Whether robot and sensors vary as the task declares."""
    wall: float | None = None
    """m, x of a wall before a bare arm, 0.33 m high, for the fingers to press against; None: no wall."""


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """The process of a simulated arm."""

    folder: str = ""
    """Of the slots."""
    scene: SceneConfig = field(default_factory=SceneConfig)
    """What is simulated."""
    wire: WireConfig = field(default_factory=WireConfig)
    """What lies between it and the driver."""
    watchdog: float = 0.02
    """s without a torque after which it brakes and says so."""
    objects_rate_hz: float = 30.0
    """Of the poses that perception sees."""
    realtime: RealtimeConfig = field(default_factory=lambda: RealtimeConfig(priority=70))
    """What to ask of the system."""


def arm_envelope(manifest: Manifest) -> dict[str, Any]:
    """What a bundle says about an arm's limits, for `ControlConfig`.

    Raises:
        ValueError: They protect nothing.
    """
    limits = manifest.envelope.of_arm()
    try:
        envelope_from_dict(limits)
    except ValueError as error:
        raise ValueError(f"policy {manifest.name!r}: envelope.arm: {error}") from error
    return limits


def arm_controller(manifest: Manifest, otherwise: ArmControllerConfig | None = None) -> ArmControllerConfig:
    """What a bundle says about the controller that its policy was trained with.

    Args:
        manifest: Of the bundle.
        otherwise: The task's, with which bundles were trained that are older than this part of the manifest; None:
            the defaults.

    Raises:
        ValueError: There is no such setting, or its value is of no use.
    """
    if not manifest.controller and otherwise is not None:
        return otherwise
    try:
        controller = rebuild(ArmControllerConfig, manifest.controller)
    except (ValueError, TypeError) as error:
        raise ValueError(f"policy {manifest.name!r}: controller: {error}") from error
    return controller
