"""The gamepad from the kernel's bytes, through a pseudo-terminal in place of the device, and through uinput."""

import contextlib
import fcntl
import glob
import os
import pty
import struct
import time
import tty

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hardware.teleop import gamepad as gamepad_module
from hardware.teleop.device import BUTTONS, DeviceError
from hardware.teleop.gamepad import Gamepad, GamepadConfig
from hardware.teleop.gamepad_mapping import FOLDER, find_mapping, load_mapping
from hardware.teleop.joydev import AXIS, AXIS_CODES, BUTTON, BUTTON_CODES, INITIAL, Layout, State

XBOX = load_mapping(FOLDER / "xbox.yaml")


def event(kind, code, value, mapping=XBOX):
    """The kernel's eight bytes; `value` of an axis in [-1, 1]."""
    what = AXIS if code.startswith("ABS") else BUTTON
    number = (mapping.axes if what == AXIS else mapping.buttons).index(code)
    raw = round(32767 * value) if what == AXIS else int(value)
    return struct.pack("=IhBB", 1234, raw, what | kind, number)


def moved(code, value):
    return event(0, code, value)


OPENED = b"".join(event(INITIAL, code, 0) for code in (*XBOX.axes, *XBOX.buttons))
"""What the kernel sends first."""


class Plug:
    """A stand-in for the device: what is written here is read from `path`."""

    def __init__(self, path):
        self.path = path
        self.master = None

    def insert(self, first=OPENED):
        self.master, slave = pty.openpty()
        tty.setraw(slave)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(slave))
        self.slave = slave
        self.send(first)

    def send(self, *events):
        os.write(self.master, b"".join(events))

    def pull(self):
        if self.master is not None:
            os.close(self.master)
            os.close(self.slave)
            self.master = None
        self.path.unlink(missing_ok=True)


@pytest.fixture
def plug(tmp_path):
    plug = Plug(tmp_path / "js0")
    yield plug
    plug.pull()


@pytest.fixture
def open_gamepad(plug):
    opened = []

    def build(**settings):
        settings = {
            "path": str(plug.path),
            "linear": 0.2,
            "angular": 1.0,
            "exponent": 1.0,
            "stale_after": 1.0,
            **settings,
        }
        opened.append(Gamepad(GamepadConfig(**settings)))
        return opened[-1]

    yield build
    for device in opened:
        device.close()


def wait_for(device, wanted, seconds=5.0):
    pressed, end = set(), time.monotonic() + seconds
    while time.monotonic() < end:
        sample = device.read()
        pressed |= sample.pressed
        if wanted(sample):
            return sample, pressed
        time.sleep(0.005)
    raise AssertionError(f"not within {seconds} s; last was {sample}, pressed so far {pressed}")


@pytest.mark.parametrize(
    ("axis", "value", "twist"),
    [
        ("ABS_Y", -1.0, [0.2, 0, 0, 0, 0, 0]),
        ("ABS_X", 1.0, [0, -0.2, 0, 0, 0, 0]),
        ("ABS_RY", 1.0, [0, 0, -0.2, 0, 0, 0]),
        ("ABS_RX", -1.0, [0, 0, 0, 0, 0, 1.0]),
        ("ABS_HAT0X", 1.0, [0, 0, 0, 1.0, 0, 0]),
        ("ABS_Y", -0.56, [0.1, 0, 0, 0, 0, 0]),  # halfway from the edge of the dead zone to the end
    ],
)
def test_sticks_move_the_robot_while_the_dead_man_is_held(plug, open_gamepad, axis, value, twist):
    plug.insert()
    device = open_gamepad(deadzone=0.12)
    plug.send(moved(axis, value), moved("BTN_SOUTH", 1))
    sample, pressed = wait_for(device, lambda sample: "gripper" in sample.buttons)
    assert not sample.engaged and not np.any(sample.twist) and pressed == {"gripper"}
    plug.send(moved("BTN_TR", 1))
    sample, _ = wait_for(device, lambda sample: sample.engaged)
    np.testing.assert_allclose(sample.twist, twist, atol=1e-4)
    assert sample.dead_man and sample.connected and sample.age < 1.0
    plug.send(moved("BTN_TR", 0))
    sample, _ = wait_for(device, lambda sample: not sample.engaged)
    assert not np.any(sample.twist)


def test_a_stick_at_rest_that_does_not_quite_centre_moves_nothing(plug, open_gamepad):
    plug.insert()
    device = open_gamepad(deadzone=0.12)
    plug.send(moved("ABS_X", 0.11), moved("ABS_Y", -0.11), moved("BTN_TR", 1))
    sample, _ = wait_for(device, lambda sample: sample.engaged)
    assert not np.any(sample.twist)


def test_what_is_held_while_it_is_plugged_in_does_not_count(plug, open_gamepad):
    held = OPENED + event(INITIAL, "BTN_TR", 1) + event(INITIAL, "ABS_Y", -1.0)
    plug.insert(held)
    device = open_gamepad()
    plug.send(moved("BTN_EAST", 1))
    sample, _ = wait_for(device, lambda sample: "hand_back" in sample.buttons)
    assert not sample.engaged
    plug.send(moved("BTN_TR", 0), moved("BTN_TR", 1))
    sample, _ = wait_for(device, lambda sample: sample.engaged)
    assert not np.any(sample.twist)


def test_the_kernel_says_the_state_anew_after_an_overflow(plug, open_gamepad):
    plug.insert()
    device = open_gamepad()
    plug.send(moved("ABS_Y", -1.0), moved("BTN_TR", 1))
    wait_for(device, lambda sample: np.any(sample.twist))
    plug.send(event(INITIAL, "ABS_Y", 0.0), event(INITIAL, "BTN_TR", 0))
    sample, _ = wait_for(device, lambda sample: not sample.engaged)
    assert not np.any(sample.twist)


def test_pulled_out_it_rests_and_plugged_in_again_it_works(plug, open_gamepad):
    plug.insert()
    device = open_gamepad()
    plug.send(moved("ABS_Y", -1.0), moved("BTN_TR", 1))
    wait_for(device, lambda sample: np.any(sample.twist))
    plug.pull()
    sample, _ = wait_for(device, lambda sample: not sample.connected)
    assert not np.any(sample.twist) and not sample.engaged and not sample.buttons
    assert "not connected" in device.help()
    plug.insert(OPENED + event(INITIAL, "BTN_TR", 1))  # the person has not let go meanwhile
    sample, _ = wait_for(device, lambda sample: sample.connected)
    assert not sample.engaged
    plug.send(moved("BTN_TR", 0), moved("BTN_TR", 1), moved("ABS_X", -1.0))
    sample, _ = wait_for(device, lambda sample: np.any(sample.twist))
    np.testing.assert_allclose(sample.twist[1], 0.2, atol=1e-4)


def test_it_may_come_later(plug, open_gamepad):
    with pytest.raises(DeviceError, match="joydev"):
        open_gamepad()
    device = open_gamepad(wait=True)
    assert not device.read().connected and "no gamepad" in device.help()
    plug.insert()
    wait_for(device, lambda sample: sample.connected)


def test_a_silent_wireless_pad_can_be_given_up(plug, open_gamepad):
    plug.insert()
    device = open_gamepad(quiet_after=0.3, stale_after=0.15)
    plug.send(moved("ABS_Y", -1.0), moved("BTN_TR", 1))
    wait_for(device, lambda sample: np.any(sample.twist))
    sample, _ = wait_for(device, lambda sample: not np.any(sample.twist))
    assert sample.connected and sample.age > 0.15


def test_a_thread_that_hangs_makes_the_input_stale(plug, open_gamepad):
    plug.insert()
    device = open_gamepad(stale_after=0.15)
    plug.send(moved("ABS_Y", -1.0), moved("BTN_TR", 1))
    wait_for(device, lambda sample: np.any(sample.twist))
    device._reader._feed = lambda data, now: time.sleep(2.0)
    plug.send(moved("ABS_Y", -1.0))
    sample, _ = wait_for(device, lambda sample: not np.any(sample.twist))
    assert sample.age > 0.15


def test_permission_is_refused_in_words(plug, monkeypatch):
    plug.insert()

    def refuse(path, flags):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(gamepad_module.os, "open", refuse)
    with pytest.raises(DeviceError, match=r"may not open .*js0: .*99-robot-rl-devices.rules"):
        Gamepad(GamepadConfig(path=str(plug.path)))


def test_help_shows_the_dead_man_first(plug, open_gamepad):
    plug.insert()
    assert open_gamepad().help().splitlines()[0] == "gamepad: HOLD right bumper to drive; nothing moves without it"


@pytest.mark.parametrize(
    ("name", "mapping"),
    [
        ("Microsoft X-Box 360 pad", "xbox"),
        ("Sony Interactive Entertainment DualSense Wireless Controller", "playstation"),
        ("DragonRise Inc.   Generic   USB  Joystick", "generic"),
        ("something nobody has heard of", "xbox"),
    ],
)
def test_the_mapping_is_found_by_the_name_that_the_kernel_gives(name, mapping):
    assert find_mapping(name).name == mapping


def layout_of(name):
    mapping = load_mapping(FOLDER / f"{name}.yaml")
    return Layout(mapping.axes, mapping.buttons)


@pytest.mark.parametrize(
    ("name", "has", "mapping"),
    [
        ("Xbox Wireless Controller", "xbox", "xbox"),
        ("Xbox Wireless Controller", "xbox_bluetooth", "xbox_bluetooth"),
        ("Wireless Controller", "playstation", "playstation"),
        ("something nobody has heard of", "generic", "generic"),
    ],
)
def test_a_mapping_must_have_the_axes_that_the_device_has(name, has, mapping):
    assert find_mapping(name, layout_of(has)).name == mapping


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_mapping_drives_in_all_directions_with_all_buttons(path):
    mapping = load_mapping(path)
    assert set(mapping.motions) == {"x", "y", "z", "rx", "ry", "rz"} and set(mapping.roles) == set(BUTTONS)
    used = [mapping.dead_man, *mapping.roles.values(), *(stick.axis for stick in mapping.motions.values())]
    assert len(set(used)) == len(used) and set(used) <= set(mapping.labels)
    assert list(mapping.axes) == sorted(mapping.axes, key=list(AXIS_CODES.values()).index)  # as the kernel numbers
    assert list(mapping.buttons) == sorted(mapping.buttons, key=list(BUTTON_CODES.values()).index)


def test_a_device_without_the_sticks_it_needs_is_refused_in_words(plug, open_gamepad, monkeypatch):
    plug.insert()
    wheel = Layout(("ABS_WHEEL", "ABS_GAS"), ("BTN_SOUTH",))
    monkeypatch.setattr(gamepad_module, "device_layout", lambda descriptor: wheel)
    with pytest.raises(DeviceError, match=r"has no ABS_Y.*no BTN_TR.*it has ABS_WHEEL, ABS_GAS, BTN_SOUTH"):
        open_gamepad()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("roles", {"griper": "BTN_SOUTH"}, "did you mean 'gripper'"),
        ("dead_man", "BTN_NONE", "dead_man is on 'BTN_NONE'"),
        ("motions", {"x": {"axis": "ABS_X", "sign": 2}}, "motion 'x'"),
        ("motions", {"forward": {"axis": "ABS_X"}}, "motions has 'forward'"),
        ("motions", 3, "motions is 3"),
    ],
)
def test_wrong_mappings_are_named(tmp_path, key, value, message):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load((FOLDER / "xbox.yaml").read_text()), key: value}))
    with pytest.raises(ValueError, match=message):
        load_mapping(path)


def test_an_own_mapping_can_use_a_trigger(tmp_path, plug, open_gamepad):
    data = yaml.safe_load((FOLDER / "xbox.yaml").read_text())
    data["motions"] = {"z": {"axis": "ABS_RZ", "sign": 1, "rest": -1}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data))
    plug.insert()
    device = open_gamepad(mapping=str(tmp_path / "mine.yaml"), deadzone=0.0)
    plug.send(moved("BTN_TR", 1))  # the kernel says 0 of a trigger that was never touched: half pressed
    sample, _ = wait_for(device, lambda sample: sample.engaged)
    assert not np.any(sample.twist)
    plug.send(moved("ABS_RZ", 0.0))
    sample, _ = wait_for(device, lambda sample: np.any(sample.twist))
    np.testing.assert_allclose(sample.twist[2], 0.1, atol=1e-4)


@given(data=st.binary(max_size=80), cuts=st.lists(st.integers(0, 80), max_size=5))
def test_bytes_may_come_in_any_pieces(data, cuts):
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces, whole = State(), State()
    for i, j in zip(edges, edges[1:], strict=False):
        pieces.feed(data[i:j])
    whole.feed(data)
    assert pieces == whole
    assert all(-1.0 <= value <= 1.0 for value in whole.axes.values())


def test_through_the_kernel(tmp_path):
    if not os.access("/dev/uinput", os.W_OK):
        pytest.skip("no writable /dev/uinput: this kernel makes no virtual gamepads")
    before = set(glob.glob("/dev/input/js*"))
    with virtual_xbox_pad() as send:
        end = time.monotonic() + 5.0
        while not (new := set(glob.glob("/dev/input/js*")) - before) and time.monotonic() < end:
            time.sleep(0.05)
        if not new:
            pytest.skip("uinput made a device without /dev/input/js*: the kernel's module joydev is not loaded")
        device = Gamepad(GamepadConfig(path=new.pop(), linear=0.2, exponent=1.0))
        try:
            assert device.name == "Microsoft X-Box 360 pad"
            send((3, 0x01, -32768), (1, 0x137, 1))
            sample, _ = wait_for(device, lambda sample: sample.engaged and np.any(sample.twist))
            np.testing.assert_allclose(sample.twist, [0.2, 0, 0, 0, 0, 0], atol=1e-3)
            send((1, 0x130, 1))
            wait_for(device, lambda sample: "gripper" in sample.pressed)
        finally:
            device.close()


@contextlib.contextmanager
def virtual_xbox_pad():
    """A gamepad made by the kernel; yields what sends (type, code, value) of events."""
    descriptor = os.open("/dev/uinput", os.O_WRONLY | os.O_NONBLOCK)
    axes, buttons = (0, 1, 2, 3, 4, 5, 0x10, 0x11), (0x130, 0x131, 0x133, 0x134, 0x136, 0x137, *range(0x13A, 0x13F))
    try:
        for request, codes in ((100, (1, 3)), (101, buttons), (103, axes)):  # UI_SET_EVBIT, _KEYBIT, _ABSBIT
            for code in codes:
                fcntl.ioctl(descriptor, (1 << 30) | (4 << 16) | (ord("U") << 8) | request, code)
        high, low = [0] * 64, [0] * 64
        for code in axes:
            high[code], low[code] = (1, -1) if code >= 0x10 else (32767, -32768)
        rest = [0] * 64
        setup = struct.pack("80sHHHHI", b"Microsoft X-Box 360 pad", 3, 0x45E, 0x28E, 1, 0)
        os.write(descriptor, setup + struct.pack("256i", *high, *low, *rest, *rest))
        fcntl.ioctl(descriptor, (ord("U") << 8) | 1)  # UI_DEV_CREATE

        def send(*events):
            for kind, code, value in (*events, (0, 0, 0)):
                os.write(descriptor, struct.pack("llHHi", 0, 0, kind, code, value))

        yield send
    finally:
        os.close(descriptor)
