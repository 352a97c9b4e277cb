"""Mapping files of keyboards: which key means what.

motions: {w: +x, s: -x, up: +x}       direction of the robot by key
buttons: {space: gripper}             what keys do, see `device.BUTTONS`
Names of keys as in `keys`. What is not named does nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hardware.descriptions.fields import check_keys
from hardware.teleop.mapping_files import read_file


def load_keys(path: Path) -> dict[str, dict[str, str]]:
    """The fields `motions` and `buttons` of a `KeyboardConfig`, which checks what they say.

    Raises:
        ValueError: The file is no mapping; says what is wrong with it.
    """
    return read_file("keyboard mapping", path, lambda _, data: _keys(data))


def _keys(data: Any) -> dict[str, dict[str, str]]:
    check_keys("entry", data, ("motions", "buttons"))
    for name, entries in data.items():
        if not isinstance(entries, dict) or not all(isinstance(value, str) for value in entries.values()):
            raise ValueError(f"{name} is {entries!r}; expected a mapping from keys to words")
    return {name: {str(key): value for key, value in entries.items()} for name, entries in data.items()}
