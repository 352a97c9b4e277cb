"""Opening a device file, and a sentence that helps where that is not allowed."""

from __future__ import annotations

import grp
import os
import stat

from hardware.teleop.device import DeviceError

RULES = "config/99-robot-rl-devices.rules"
"""File of this repository that lets whoever sits at the machine use every device that it knows."""


def open_path(path: str, flags: int) -> int:
    """Open a device without waiting for it, and without making it the terminal of this process.

    Raises:
        DeviceError: It cannot be opened; says why and what to do.
    """
    try:
        return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    except PermissionError as error:
        raise DeviceError(f"may not open {path}: {permission_advice(path)}") from error
    except OSError as error:
        raise DeviceError(f"cannot open {path}: {error.strerror}") from error


def permission_advice(path: str) -> str:
    """Whose the file is, and how to become one of those who may use it."""
    status = os.stat(path)
    group = _group_name(status.st_gid)
    rules = f"install the rules in {RULES} (`sudo cp {RULES} /etc/udev/rules.d/`) and plug it in again"
    if group == "root" or not status.st_mode & (stat.S_IRGRP | stat.S_IWGRP):
        return f"only root may use it; {rules}"
    return f"it belongs to the group {group!r}; run `sudo usermod -aG {group} $USER` and log in again, or {rules}"


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
