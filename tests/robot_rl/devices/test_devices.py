"""Devices by name, the list of what there is, and the files that the wizards write."""

import json
import os
import struct
import sys
import threading
import time
import tty
from pathlib import Path

import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[2] / "hardware" / "teleop"))

from servo_bus import FeetechBus  # noqa: E402

from hardware.teleop.device import DeviceError  # noqa: E402
from hardware.teleop.gamepad_mapping import load_mapping  # noqa: E402
from hardware.teleop.joydev import AXIS, BUTTON, INITIAL, Layout  # noqa: E402
from hardware.teleop.leader_calibration import load_calibration  # noqa: E402
from robot_rl.cli import main  # noqa: E402
from robot_rl.devices import calibrating, mapping  # noqa: E402
from robot_rl.devices.opening import KINDS, open_device  # noqa: E402


@pytest.fixture
def terminal():
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


def test_settings_come_with_the_name(terminal):
    master, path = terminal
    device = open_device(f"gamepad:{path},mapping=playstation,deadzone=0.3,wait=true", linear=0.5)
    try:
        assert device.config.deadzone == 0.3 and device.config.wait is True and device.config.linear == 0.5
        assert "cross" in device.help()
    finally:
        device.close()


def test_a_keyboard_with_its_own_keys(terminal, tmp_path):
    master, path = terminal
    keys = tmp_path / "keys.yaml"
    keys.write_text("motions: {z: +x}\nbuttons: {space: gripper}\n")
    device = open_device(f"keyboard:{path},mapping={keys},first_hold=1.0", linear=0.2)
    try:
        os.write(master, b"z")
        end = time.monotonic() + 3.0
        while not np.any((sample := device.read()).twist) and time.monotonic() < end:
            time.sleep(0.01)
        np.testing.assert_allclose(sample.twist, [0.2, 0, 0, 0, 0, 0])
    finally:
        device.close()


def test_two_devices_are_one(terminal, tmp_path):
    master, path = terminal
    device = open_device(f"spacemouse:{tmp_path / 'hidraw0'},wait=true+keyboard:{path}")
    try:
        os.write(master, b"Y")
        end, pressed = time.monotonic() + 3.0, set()
        while "success" not in pressed and time.monotonic() < end:
            pressed |= device.read().pressed
            time.sleep(0.01)
        assert "success" in pressed
        assert not device.read().connected and "SpaceMouse" in device.help() and "keyboard" in device.help()
    finally:
        device.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("spacemose", "unknown device 'spacemose'; did you mean 'spacemouse'"),
        ("gamepad:/nowhere/js0", "no gamepad at /nowhere/js0; plug one in"),
        ("gamepad,deadzon=0.2", "no setting 'deadzon'; did you mean 'deadzone'"),
        ("gamepad,deadzone=wide", "setting deadzone is 'wide'; expected a number"),
        ("gamepad,deadzone=1.5", "deadzone of a gamepad is 1.5"),
        ("gamepad,wait=yes", "setting wait is 'yes'; expected true or false"),
        ("gamepad,deadzone", "'deadzone' is not of the form setting=value"),
        ("gamepad,mapping=nowhere.yaml", "'nowhere.yaml' is neither a file nor one of"),
        ("spacemouse:/nowhere/hidraw0", "cannot open /nowhere/hidraw0"),
        ("leader", "named by its calibration file"),
        ("leader:nowhere.yaml", "cannot read the calibration nowhere.yaml"),
        ("keyboard,mapping=nowhere.yaml", "cannot read the keyboard mapping nowhere.yaml"),
    ],
)
def test_what_is_wrong_with_a_name_is_one_sentence(name, words):
    with pytest.raises((DeviceError, ValueError)) as caught:
        open_device(name)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("motions: {w: +w}\nbuttons: {}", "key 'w' moves '+w'"),
        ("motions: {}\nbuttons: {a: jump}", "unknown button 'jump'"),
        ("motions: [w]\nbuttons: {}", "motions is ['w']; expected a mapping"),
        ("motion: {}\nbuttons: {}", "unknown entry 'motion'; did you mean 'motions'"),
    ],
)
def test_wrong_keys_are_refused_in_words(tmp_path, text, words):
    keys = tmp_path / "keys.yaml"
    keys.write_text(text)
    with pytest.raises(ValueError, match="key") as caught:
        open_device(f"keyboard,mapping={keys}")
    assert words in str(caught.value)


def test_the_list_says_what_there_is_and_why_not(capsys):
    assert main(["devices", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = {entry["name"].partition(":")[0] for entry in found}
    assert {"keyboard", "gamepad", "spacemouse", "joy, twist"} <= names
    assert all(set(entry) == {"name", "what", "problem"} for entry in found)
    assert main(["devices"]) == 0
    text = capsys.readouterr().out
    assert all(kind in text for kind in KINDS) and ("plug one in" in text or "ready" in text)


def test_trying_a_device_shows_it_and_says_whether_it_answers(terminal, tmp_path, capsys):
    _, path = terminal
    assert main(["devices", "try", f"keyboard:{path}", "--seconds", "0.3"]) == 0
    assert "dead-man up" in capsys.readouterr().out
    assert main(["devices", "try", f"spacemouse:{tmp_path / 'hidraw0'},wait=true", "--seconds", "0.2"]) == 1
    assert "not connected" in capsys.readouterr().out
    assert main(["devices", "try", "gamepad:/nowhere/js0"]) == 2


# Wizards

LAYOUT = Layout(("ABS_X", "ABS_Y", "ABS_Z", "ABS_RZ", "ABS_HAT0X"), tuple(f"BTN_{n}" for n in range(11)))


def test_pressing_each_axis_and_button_makes_a_mapping(terminal, tmp_path):
    master, path = terminal
    descriptor = os.open(path, os.O_RDONLY | os.O_NOCTTY)

    def put(kind, number, value):
        os.write(master, struct.pack("=IhBB", 0, value, kind, number))

    def stick(number, sign):
        for value in (9000, 20000, 32767, 15000, 0):
            put(AXIS, number, sign * value)

    # Forward on axis 1 is negative; then one that is taken, and so on; tilt forward is left out.
    sticks = iter([(1, -1), (0, -1), (1, -1), (3, -1), (2, -1), (4, 1), None])
    buttons = iter([5, 4, 2, 9, 0, 1, 8, 3, 5, 6, 5])
    said = []

    def say(text):
        said.append(text)
        if text.startswith(("Move", "  ABS")) and ("taken" in text or text.startswith("Move")):
            if (found := next(sticks)) is not None:
                threading.Timer(0.15, stick, found).start()
        elif text.startswith("Press"):
            number = next(buttons)

            def press():
                put(BUTTON, number, 1)
                put(BUTTON, number, 0)

            threading.Timer(0.15, press).start()

    for number in range(5):
        put(AXIS | INITIAL, number, 0)
    data = mapping.ask(mapping.Presses(descriptor, LAYOUT, patience=1.0), LAYOUT, "My Pad", say)
    os.close(descriptor)
    assert any("taken already" in text for text in said)
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(data))
    made = load_mapping(file)
    assert {name: (s.axis, s.sign) for name, s in made.motions.items()} == {
        "x": ("ABS_Y", -1), "y": ("ABS_X", -1), "z": ("ABS_RZ", -1), "rz": ("ABS_Z", -1), "rx": ("ABS_HAT0X", 1),
    }  # fmt: skip
    assert made.dead_man == "BTN_5" and made.names == ("My Pad",)
    assert made.roles == {  # the dead-man leaves out failure and reset
        "take_over": "BTN_4", "hand_back": "BTN_2", "pause": "BTN_9", "gripper": "BTN_0", "next_arm": "BTN_1",
        "slow": "BTN_8", "success": "BTN_3", "discard": "BTN_6",
    }  # fmt: skip


def test_nobody_presses_anything(terminal):
    _, path = terminal
    descriptor = os.open(path, os.O_RDONLY | os.O_NOCTTY)
    with pytest.raises(DeviceError, match="nothing was moved for forward"):
        mapping.ask(mapping.Presses(descriptor, LAYOUT, patience=0.1), LAYOUT, "pad", lambda text: None)
    os.close(descriptor)


def test_a_leader_arm_is_calibrated_by_two_poses(tmp_path):
    bus = FeetechBus((1, 2, 3))
    plan = calibrating.Plan(port=bus.path, protocol="feetech", servos=(1, 2), trigger=3, pose=(0.0, np.pi / 2))
    poses = iter([{"s1": 100, "s2": 1500, "s3": 3000}, {"s1": 4000, "s2": 1800, "s3": 3000}, {"s3": 2200}])
    out = tmp_path / "arm.yaml"
    try:
        calibrating.calibrate(plan, out, lambda text: bus.place(**next(poses)))
    finally:
        bus.close()
    made = load_calibration(out)
    assert [joint.sign for joint in made.joints] == [-1, 1]  # 100 to 4000 is the short way, across the seam
    resolution = 4096
    np.testing.assert_allclose(
        [made.joints[0].angle(100, resolution), made.joints[1].angle(1500, resolution)], [0.0, np.pi / 2], atol=1e-3
    )
    assert made.joints[0].angle(4000, resolution) > 0.2 and made.joints[1].angle(1800, resolution) > np.pi / 2
    assert (made.trigger.open, made.trigger.closed, made.strength) == (3000, 2200, 0)


def test_a_joint_that_was_not_moved_is_named(tmp_path):
    plan = calibrating.Plan(port="p", protocol="feetech", servos=(1, 2))
    ticks = {1: 100, 2: 200}
    with pytest.raises(DeviceError, match=r"joint 2 \(servo 2\) was moved by 5 ticks"):
        calibrating.solve(plan, (0.0, 0.0), ticks, {1: 500, 2: 205}, ticks)
