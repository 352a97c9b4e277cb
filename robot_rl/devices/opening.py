"""Devices by name: `KIND`, `KIND:PATH`, either with `,setting=value`, and two of them joined by `+`.

keyboard                              gamepad:/dev/input/js1,mapping=mine.yaml,deadzone=0.2
spacemouse                            spacemouse+keyboard: the first one moves, the buttons of both count
leader:arm.yaml                       a leader arm by its calibration file
joy:/joy, twist:/command/twist        messages of ROS 2
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hardware.teleop.device import Device, DeviceError
from hardware.teleop.gamepad import Gamepad, GamepadConfig
from hardware.teleop.keyboard import Keyboard, KeyboardConfig
from hardware.teleop.keyboard_mapping import load_keys
from hardware.teleop.leader_arm import LeaderArm, LeaderConfig
from hardware.teleop.paired import Paired
from hardware.teleop.spacemouse import SpaceMouse, SpaceMouseConfig

KINDS: Mapping[str, str] = {
    "keyboard": "this terminal's keys; another one's: keyboard:/dev/pts/3",
    "gamepad": "wired or wireless; the first one, or gamepad:/dev/input/js1",
    "spacemouse": "3Dconnexion; the first one, or spacemouse:/dev/hidraw3",
    "leader": "a leader arm, by its calibration file: leader:arm.yaml",
    "joy": "sensor_msgs/Joy over ROS 2, e.g. joy:/joy",
    "twist": "geometry_msgs/TwistStamped over ROS 2, e.g. twist:/command/twist",
}
"""Kinds of device, and how to name one."""


def open_device(name: str, **defaults: float) -> Device:
    """The device that `name` names.

    Args:
        name: See the module.
        defaults: Settings where the name says nothing, of those that the kind of device has.

    Raises:
        DeviceError: It cannot be opened; says why and what to do.
        ValueError: There is no such kind or setting.
    """
    first, plus, second = name.partition("+")
    device = _open_one(first, defaults)
    if not plus:
        return device
    try:
        return Paired(device, open_device(second, **defaults))
    except (OSError, ValueError):
        device.close()
        raise


def _open_one(name: str, defaults: Mapping[str, float]) -> Device:
    head, *texts = name.split(",")
    kind, _, path = head.partition(":")
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown device {kind!r}; {hint}known: {', '.join(KINDS)}")
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"device {name!r}: {text!r} is not of the form setting=value")
        settings[key.strip()] = value.strip()
    return _OPENERS[kind](path, settings, defaults)


def _keyboard(path: str, texts: dict[str, str], defaults: Mapping[str, float]) -> Device:
    keys = load_keys(Path(mapping)) if (mapping := texts.pop("mapping", "")) else {}
    config = dataclasses.replace(_config(KeyboardConfig, texts, defaults), **keys)
    return Keyboard(config, path) if path else Keyboard(config)


def _gamepad(path: str, texts: dict[str, str], defaults: Mapping[str, float]) -> Device:
    return Gamepad(_config(GamepadConfig, _with_path(path, texts), defaults))


def _spacemouse(path: str, texts: dict[str, str], defaults: Mapping[str, float]) -> Device:
    return SpaceMouse(_config(SpaceMouseConfig, _with_path(path, texts), defaults))


def _leader(path: str, texts: dict[str, str], defaults: Mapping[str, float]) -> Device:
    if not path:
        raise DeviceError("a leader arm is named by its calibration file: leader:arm.yaml; see docs/teleoperation.md")
    return LeaderArm(_config(LeaderConfig, {**texts, "calibration": path}, defaults))


def _ros(kind: str) -> Callable[[str, dict[str, str], Mapping[str, float]], Device]:
    def build(path: str, texts: dict[str, str], defaults: Mapping[str, float]) -> Device:
        try:
            from robot_rl.nodes.message_devices import JoyConfig, JoyDevice, TwistConfig, TwistDevice
        except ImportError as error:
            raise DeviceError(
                f"device {kind!r} needs ROS 2, and {error.name} is not installed; pip install 'robot_rl[ros]'"
            ) from error
        texts = {**texts, "topic": path} if path else texts
        if kind == "joy":
            return JoyDevice(_config(JoyConfig, texts, defaults))
        return TwistDevice(_config(TwistConfig, texts, defaults))

    return build


_OPENERS: Mapping[str, Callable[[str, dict[str, str], Mapping[str, float]], Device]] = {
    "keyboard": _keyboard,
    "gamepad": _gamepad,
    "spacemouse": _spacemouse,
    "leader": _leader,
    "joy": _ros("joy"),
    "twist": _ros("twist"),
}


def _with_path(path: str, texts: dict[str, str]) -> dict[str, str]:
    return {**texts, "path": path} if path else texts


def _config(config_type: type, texts: Mapping[str, str], defaults: Mapping[str, float]) -> Any:
    """A config from texts, each read as the type that its default has."""
    fields = {field.name: field for field in dataclasses.fields(config_type)}
    values: dict[str, Any] = {name: value for name, value in defaults.items() if name in fields}
    for name, text in texts.items():
        simple = {key for key, field in fields.items() if isinstance(field.default, bool | float | str)}
        if name not in simple:
            near = get_close_matches(name, simple, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(simple))}"
            raise ValueError(f"{config_type.__name__} has no setting {name!r}; {hint}")
        values[name] = _value(name, text, fields[name].default)
    return config_type(**values)


def _value(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise ValueError(f"setting {name} is {text!r}; expected true or false")
        return text == "true"
    if isinstance(default, str):
        return text
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"setting {name} is {text!r}; expected a number") from error
