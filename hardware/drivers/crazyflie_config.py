"""Settings of the Crazyflie driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hardware.drivers.support import check_range


@dataclass(frozen=True, kw_only=True)
class CrazyflieConfig:
    """Settings of the driver."""

    uri: str = "radio://0/80/2M/E7E7E7E7E7"
    """Where it is, as cflib writes it: radio://DONGLE/CHANNEL/RATE/ADDRESS, usb://0, udp://HOST:PORT."""
    rate_hz: float = 100.0
    """Hz of the state; the firmware offers 100, 50, 33, 25, …"""
    setpoints: Literal["auto", "manual", "rpyt", "full_state"] = "auto"
    """`manual`: rates and thrust. `rpyt`: the same for older firmware. `full_state`: `QuadrotorSetpoint`s for the
    firmware's own controller. `auto`: manual, or rpyt where the firmware is older."""
    hover_throttle: float = 0.0
    """Share of full thrust that hovers; 0: from the description's mass and rotor curve."""
    on_stop: Literal["off", "land"] = "off"
    """`stop` turns the motors off, or hands over to the firmware's landing (needs its position estimate)."""
    landing_speed: float = 0.4
    """m/s of that landing."""
    link_watchdog: bool = False
    """Whether `write` also feeds the firmware's emergency watchdog: motors off 1 s after the last write."""
    timeout: float = 15.0
    """s that connecting may take; its tables come over the radio."""
    status_timeout: float = 1.0
    """s without a state block after which the link counts as lost."""

    def __post_init__(self) -> None:
        check_range("rate_hz", self.rate_hz, 1.0, 100.0)
        check_range("hover_throttle", self.hover_throttle, 0.0, 0.95)
        check_range("landing_speed", self.landing_speed, 0.1, 2.0)
