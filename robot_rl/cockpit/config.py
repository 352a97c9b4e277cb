"""Arguments of `robot-rl cockpit`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from hardware.teleop.device import DeviceConfig

SPEEDS = {"arm": (0.15, 0.8), "quadrotor": (1.0, 1.0)}
"""m/s and rad/s at full deflection, by kind of robot."""


def device_config(config: CockpitConfig, kind: str) -> DeviceConfig:
    """How fast the page drives a kind of robot."""
    linear, angular = SPEEDS[kind]
    return DeviceConfig(linear=config.linear or linear, angular=config.angular or angular)


@dataclass(frozen=True, kw_only=True)
class CockpitConfig:
    """Serve a page to watch a robot, drive it, correct its policy and record demonstrations."""

    task: Positional[str] = ""
    """Task, see `robot-rl list`; with `--ros` the robot decides."""
    policy: str = "none"
    """Who drives while you do not: `none`, `expert` (the task's scripted solution), or a bundle's folder or name. A
    quadrotor is always flown by a policy, yours is the set-point: `none` is the task's shipped bundle."""
    out: Path = Path("runs/cockpit")
    """Data set that recorded episodes are added to."""
    record: bool = False
    """Record from the first episode on; the page turns recording on and off."""
    seed: int = 0
    """Of the first episode of a data set; every further one has the next seed, also in a later session."""
    randomization: str = "default"
    """`default`, `none`, or a YAML file of randomization terms."""
    settings: dict[str, float] = field(default_factory=dict)
    """The task's own settings, e.g. `clearance 0.0005`."""
    cameras: tuple[str, ...] = ()
    """Cameras whose pictures go into the recorded steps, for policies that learn from pictures."""
    resolution: int = 64
    """Pixels of both sides of those pictures."""
    linear: float = 0.0
    """m/s at full deflection; 0: as fits the robot, 0.15 for an arm and 1 for a quadrotor."""
    angular: float = 0.0
    """rad/s at full deflection; 0: as fits the robot, 0.8 for an arm and 1 for a quadrotor."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 lets other machines in, over TLS."""
    port: int = 8765
    """Port, or the next one that is free."""
    names: tuple[str, ...] = ()
    """Further names of this machine under which the page may be opened."""
    tls: Literal["auto", "off"] = "auto"
    """`auto`: encrypted where other machines may connect; there it can't be turned off."""
    certificate: Path | None = None
    """Own certificate, PEM; without, a self-signed one is made and kept."""
    key: Path | None = None
    """Its key, PEM."""
    picture: tuple[int, int] = (480, 360)
    """Width and height of the camera views, pixels."""
    ros: bool = False
    """Drive the robot of this ROS 2 domain instead of a simulated one."""
    robot: str = "panda"
    """With `--ros`: description of the robot."""
    namespace: str = ""
    """With `--ros`: namespace of its topics."""
    stamped: bool = False
    """Draw a code into the pictures, by which the page measures latency."""
