"""PX4 and ArduPilot behind one protocol: their modes, parameters and rules, as data.

| | PX4 | ArduPilot (Copter 4.2 or newer) |
|---|---|---|
| mode that listens | OFFBOARD | GUIDED, or GUIDED_NOGPS without a position |
| before it | > 1 s of set-points at ≥ 2 Hz | nothing; zero thrust on the ground |
| order | mode, then arm | mode, then arm |
| thrust field | thrust | climb rate, unless `GUID_OPTIONS` has 8: then thrust; the driver refuses otherwise |
| stream stops | after `COM_OF_LOSS_T` (1 s): `COM_OBL_RC_ACT` | after `GUID_TIMEOUT` (3 s): levels, holds its height |
| hover throttle | `MPC_THR_HOVER` | `MOT_THST_HOVER` |
| actuators | `SET_ACTUATOR_CONTROL_TARGET`, up to 1.13 | not taken from outside |

Numbers are those of the MAVLink definitions (MAV_AUTOPILOT, MAV_CMD) and of the firmwares' custom modes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hardware.drivers.driver import DriverError


@dataclass(frozen=True, kw_only=True)
class Autopilot:
    """One firmware's rules."""

    name: str
    """`px4` or `ardupilot`."""
    modes: Mapping[str, int]
    """`custom_mode` of the heartbeat by mode name."""
    offboard: tuple[str, ...]
    """Modes in which set-points are followed; the first is asked for unless a setting says otherwise."""
    land: str
    """Mode that lands here and now."""
    hover_parameter: str
    """Throttle at which it hovers."""
    required_bits: Mapping[str, tuple[int, str]]
    """Parameters that must have a bit set: bit and why."""
    loss_parameter: str
    """s without set-points after which it helps itself."""
    loss_default: float
    """That parameter's default, s."""
    actuators: bool
    """Whether some version takes actuator set-points."""

    def mode_name(self, custom_mode: int) -> str:
        """The name of a heartbeat's mode, or its number."""
        for name, number in self.modes.items():
            if number == custom_mode:
                return name
        return f"mode {custom_mode:#x}"

    def mode_parameters(self, mode: str) -> tuple[float, float]:
        """Second and third parameter of MAV_CMD_DO_SET_MODE."""
        number = self.modes[mode]
        if self.name == "px4":
            return float(number >> 16 & 0xFF), float(number >> 24 & 0xFF)
        return float(number), 0.0


def _px4(main: int, sub: int = 0) -> int:
    return main << 16 | sub << 24


PX4 = Autopilot(
    name="px4",
    modes={
        "MANUAL": _px4(1),
        "ALTCTL": _px4(2),
        "POSCTL": _px4(3),
        "AUTO.READY": _px4(4, 1),
        "AUTO.TAKEOFF": _px4(4, 2),
        "AUTO.LOITER": _px4(4, 3),
        "AUTO.MISSION": _px4(4, 4),
        "AUTO.RTL": _px4(4, 5),
        "AUTO.LAND": _px4(4, 6),
        "ACRO": _px4(5),
        "OFFBOARD": _px4(6),
        "STABILIZED": _px4(7),
    },
    offboard=("OFFBOARD",),
    land="AUTO.LAND",
    hover_parameter="MPC_THR_HOVER",
    required_bits={},
    loss_parameter="COM_OF_LOSS_T",
    loss_default=1.0,
    actuators=True,
)

ARDUPILOT = Autopilot(
    name="ardupilot",
    modes={
        "STABILIZE": 0,
        "ACRO": 1,
        "ALT_HOLD": 2,
        "AUTO": 3,
        "GUIDED": 4,
        "LOITER": 5,
        "RTL": 6,
        "LAND": 9,
        "BRAKE": 17,
        "GUIDED_NOGPS": 20,
    },
    offboard=("GUIDED", "GUIDED_NOGPS"),
    land="LAND",
    hover_parameter="MOT_THST_HOVER",
    required_bits={
        "GUID_OPTIONS": (8, "without it the thrust of a set-point is taken for a climb rate: set the parameter's bit 3")
    },
    loss_parameter="GUID_TIMEOUT",
    loss_default=3.0,
    actuators=False,
)

_BY_NUMBER = {12: PX4, 3: ARDUPILOT}
"""By MAV_AUTOPILOT of the heartbeat."""


def autopilot_of(number: int) -> Autopilot:
    """The firmware by MAV_AUTOPILOT of its heartbeat.

    Raises:
        DriverError: It is another one.
    """
    if number not in _BY_NUMBER:
        raise DriverError(f"autopilot {number} is neither PX4 (12) nor ArduPilot (3): its modes are not known here")
    return _BY_NUMBER[number]
