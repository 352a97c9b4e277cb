"""Settings of an arm's controller: what a policy was trained with, and what its bundle therefore carries."""

from __future__ import annotations

from dataclasses import dataclass, field

from hardware.controllers.cartesian_impedance import ImpedanceGains
from hardware.controllers.joint_impedance import JointImpedanceGains


@dataclass(frozen=True, kw_only=True)
class ArmControllerConfig:
    """Gains of every mode and bounds of the targets."""

    compliant: ImpedanceGains = field(default_factory=ImpedanceGains)
    """Cartesian gains to run with: contact forces stay small."""
    precise: ImpedanceGains = field(
        default_factory=lambda: ImpedanceGains(
            translational_stiffness=(3000.0, 3000.0, 3000.0),
            rotational_stiffness=(250.0, 250.0, 250.0),
            clip_lower=(-0.03, -0.03, -0.03, -0.2, -0.2, -0.2),
            clip_upper=(0.03, 0.03, 0.03, 0.2, 0.2, 0.2),
        )
    )
    """Cartesian gains for resets and scripted motion in free space."""
    joint: JointImpedanceGains = field(default_factory=JointImpedanceGains)
    """Gains of joint position commands."""
    joint_limit_fraction: float = 0.5
    """Share of the limits of velocity, acceleration and jerk that joint references use. Inertia is not fed forward:
    a Panda's joints lag up to 0.03 rad behind references that start and stop at the default, more at a larger share."""
    joint_limit_margin: float = 0.05
    """rad that joint references keep from the position limits; more than that lag."""
    posture: tuple[float, ...] | None = None
    """rad per joint, where the nullspace draws the arm; None: the description's home."""
    workspace_lower: tuple[float, float, float] | None = None
    """m, base frame: targets of the tool are kept above it along each axis; None: no bound."""
    workspace_upper: tuple[float, float, float] | None = None
    """m, base frame: targets of the tool are kept below it; None: no bound."""
    slow_speed: float | None = None
    """m/s, at which a twist moves the tool in its slow zone; None: there is none. Outside a twist leads no further than
    the zone's border and one period at this speed beyond it, so that the tool arrives slowly however fast it came."""
    slow_lower: tuple[float, float, float] | None = None
    """m, base frame: the slow zone lies above it along each axis; None: no bound."""
    slow_upper: tuple[float, float, float] | None = None
    """m, base frame: the slow zone lies below it; None: no bound."""
    torque_hold_periods: float = 3.0
    """Periods after which a torque command is given up and the pose is held."""

    def __post_init__(self) -> None:
        if self.slow_speed is not None and not self.slow_speed > 0.0:
            raise ValueError(f"slow_speed is {self.slow_speed} m/s; it must be positive, or None for no slow zone")
        if self.slow_speed is None and not (self.slow_lower is None and self.slow_upper is None):
            raise ValueError("slow_lower and slow_upper bound the slow zone; give its slow_speed too")
