"""What the person of a run holds, by name; apart from `person`, on which the browser's page builds."""

from __future__ import annotations

from hardware.teleop.device import Device, DeviceError
from robot_rl.devices import opening
from robot_rl.errors import UserError


def open_device(name: str) -> Device:
    """The device that `name` names, see `robot_rl.devices.opening`; `cockpit` or `cockpit:PORT` is the browser's page.

    Raises:
        UserError: There is no such device, or it cannot be opened; says what to do.
    """
    if name.partition(":")[0] == "cockpit":
        from robot_rl.cockpit.hil import open_page  # an optional extra

        return open_page(name)
    try:
        return opening.open_device(name)
    except (DeviceError, ValueError) as error:
        raise UserError(str(error)) from error
