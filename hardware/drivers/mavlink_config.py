"""Settings of the MAVLink driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hardware.drivers.support import check_range


@dataclass(frozen=True, kw_only=True)
class MavlinkConfig:
    """Settings of the driver."""

    connection: str = "udp:0.0.0.0:14540"
    """Where the vehicle is; the table of `mavlink_wire`."""
    system: int = 0
    """MAVLink id of the vehicle; 0: the first one heard."""
    source_system: int = 1
    """Our own system id; a companion computer takes the vehicle's."""
    source_component: int = 191
    """Our own component id, MAV_COMP_ID_ONBOARD_COMPUTER."""
    rate_hz: float = 100.0
    """Hz of state messages that are asked for, and of commands that the link is meant to carry."""
    state: Literal["local", "odometry"] = "local"
    """Where the state comes from: LOCAL_POSITION_NED with ATTITUDE_QUATERNION, or ODOMETRY (PX4)."""
    mode: str = ""
    """Mode in which set-points are followed; empty: OFFBOARD or GUIDED. GUIDED_NOGPS flies without a position."""
    hover_throttle: float = 0.0
    """Throttle at which this vehicle hovers, 0 to 1; 0: ask the autopilot (MPC_THR_HOVER, MOT_THST_HOVER)."""
    thrust_square: float = 0.0
    """Share of the square in throttle → thrust; 0 where its own curve is set (THR_MDL_FAC, MOT_THST_EXPO)."""
    max_throttle: float = 0.9
    """Highest throttle that is sent."""
    output: Literal["rates", "mixer"] = "rates"
    """`rates`: SET_ATTITUDE_TARGET. `mixer`: also rotor speeds by SET_ACTUATOR_CONTROL_TARGET; PX4 to 1.13, quad x."""
    timeout: float = 5.0
    """s that each step of connecting may take."""

    def __post_init__(self) -> None:
        check_range("rate_hz", self.rate_hz, 10.0, 1000.0)
        check_range("hover_throttle", self.hover_throttle, 0.0, 0.95)
        check_range("max_throttle", self.max_throttle, 0.1, 1.0)
        check_range("thrust_square", self.thrust_square, 0.0, 1.0)
