"""A SpaceMouse from its report bytes, through a pipe that keeps reports apart as the kernel's device file does."""

import contextlib
import os
import struct
import time

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hardware.teleop import opening
from hardware.teleop.device import BUTTONS, DeviceError
from hardware.teleop.hidraw import MULTI_AXIS, find_hid
from hardware.teleop.spacemouse import SpaceMouse, SpaceMouseConfig, find_spacemice
from hardware.teleop.spacemouse_mapping import FOLDER, Reports, find_mapping, load_mapping

TWO_BUTTONS = load_mapping(FOLDER / "two_buttons.yaml")
# Recorded from a SpaceNavigator: at rest, turned about its second axis, button 1, button 2, both, none.
RECORDED = [
    bytes.fromhex(text) for text in ("01000000000000", "020000e2ff0000", "030100", "030200", "030303", "030000")
]


def translation(x=0, y=0, z=0):
    return struct.pack("<Bhhh", 1, x, y, z)


def rotation(x=0, y=0, z=0):
    return struct.pack("<Bhhh", 2, x, y, z)


def combined(*values):
    return struct.pack("<Bhhhhhh", 1, *values)


class Plug:
    """A stand-in for the device file: every write is one report, and so is every read."""

    def __init__(self, folder):
        self.path = folder / "hidraw0"
        self.descriptor = None

    def insert(self):
        self.reading, self.descriptor = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
        self.path.symlink_to(f"/proc/{os.getpid()}/fd/{self.reading}")

    def send(self, *reports):
        for report in reports:
            os.write(self.descriptor, report)

    def pull(self):
        """The reader sees the end of the data."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            os.close(self.reading)
            self.path.unlink()
            self.descriptor = None


@pytest.fixture
def plug(tmp_path):
    plug = Plug(tmp_path)
    yield plug
    plug.pull()


@pytest.fixture
def open_mouse(plug):
    opened = []

    def build(wait_for_rest=True, **settings):
        settings = {"path": str(plug.path), "linear": 0.2, "angular": 1.0, "exponent": 1.0, "deadzone": 0.0, **settings}
        opened.append(SpaceMouse(SpaceMouseConfig(**settings)))
        if wait_for_rest:
            time.sleep(opened[-1].config.quiet_after + 0.02)  # silent: it stands in its centre
        return opened[-1]

    yield build
    for device in opened:
        device.close()


def hold(plug, device, reports, seconds=0.15):
    """Send them over and over, as a cap out of its centre does; the samples meanwhile."""
    samples, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        plug.send(*reports)
        time.sleep(0.008)
        samples.append(device.read())
    return samples


@pytest.mark.parametrize(
    ("reports", "twist"),
    [
        ([translation(y=-350)], [0.2, 0, 0, 0, 0, 0]),  # pushed away from the person
        ([translation(x=175)], [0, -0.1, 0, 0, 0, 0]),  # to the right
        ([translation(z=-350)], [0, 0, 0.2, 0, 0, 0]),  # pulled up
        ([translation(), rotation(z=350)], [0, 0, 0, 0, 0, -1.0]),  # clockwise, seen from above
        ([translation(), rotation(y=-350)], [0, 0, 0, 1.0, 0, 0]),  # over to the right
        ([translation(), rotation(x=-175)], [0, 0, 0, 0, 0.5, 0]),  # over to the front: the nose goes down
        ([combined(0, -350, 0, 0, 0, -175)], [0.2, 0, 0, 0, 0, 0.5]),  # both in one report
        ([translation(y=-30000)], [0.2, 0, 0, 0, 0, 0]),  # more than full is full
    ],
)
def test_both_report_layouts_move_the_robot(plug, open_mouse, reports, twist):
    plug.insert()
    device = open_mouse()
    sample = hold(plug, device, reports)[-1]
    np.testing.assert_allclose(sample.twist, twist, atol=1e-9)
    assert sample.engaged and sample.dead_man and sample.connected


def test_recorded_reports(plug, open_mouse):
    plug.insert()
    device = open_mouse()
    seen = []
    for report in RECORDED:
        plug.send(report)
        time.sleep(0.02)
        seen.append(device.read())
    np.testing.assert_allclose(seen[1].twist, [0, 0, 0, 30 / 350, 0, 0], atol=1e-9)
    assert [set(sample.pressed) for sample in seen] == [set(), set(), {"gripper"}, {"hand_back"}, {"gripper"}, set()]
    assert seen[4].buttons == {"gripper", "hand_back"} and not seen[5].buttons


def test_the_newest_report_counts_however_slowly_it_is_read(plug, open_mouse):
    plug.insert()
    device = open_mouse(clutch_hold=0.01)
    ages = []
    for _ in range(4):  # read at 3 Hz what comes at 250 Hz: one that queues would lag by seconds
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            plug.send(translation(x=-350))
            time.sleep(0.004)
        sample = device.read()
        ages.append(sample.age)
        np.testing.assert_allclose(sample.twist[:2], [0, 0.2], atol=1e-9)
    plug.send(translation(x=70))
    time.sleep(0.01)
    np.testing.assert_allclose(device.read().twist[:2], [0, -0.04], atol=1e-9)
    plug.send(translation())
    time.sleep(0.02)
    assert not np.any(device.read().twist) and not device.read().engaged
    assert float(np.median(ages)) < 0.02


def test_a_device_that_falls_silent_while_it_is_pushed_stops_the_robot(plug, open_mouse):
    plug.insert()
    device = open_mouse(quiet_after=0.08)
    assert np.any(hold(plug, device, [translation(y=-350)])[-1].twist)
    time.sleep(0.12)
    sample = device.read()
    assert not np.any(sample.twist) and not sample.dead_man and sample.age >= 0.1
    assert np.any(hold(plug, device, [translation(y=-350)])[-1].twist)  # it speaks again


def test_a_cap_that_is_leaned_on_while_it_is_opened_does_not_drive(plug, open_mouse):
    plug.insert()
    device = open_mouse(wait_for_rest=False)
    samples = hold(plug, device, [translation(y=-350)], 0.3)
    assert not any(np.any(sample.twist) or sample.dead_man for sample in samples)
    plug.send(translation())
    assert np.any(hold(plug, device, [translation(y=-350)])[-1].twist)


def test_it_may_be_unplugged_and_plugged_in_again(plug, open_mouse):
    device = open_mouse(wait=True, wait_for_rest=False)
    assert not device.read().connected and "not connected" in device.help()
    for _ in range(2):
        plug.insert()
        end = time.monotonic() + 3.0
        while not device.read().connected and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.1)
        assert np.any(hold(plug, device, [translation(y=-350)])[-1].twist)
        plug.pull()
        time.sleep(0.05)
        sample = device.read()
        assert not sample.connected and not np.any(sample.twist) and sample.age == float("inf")


def test_a_button_can_be_the_dead_man(plug, open_mouse, tmp_path):
    data = yaml.safe_load((FOLDER / "two_buttons.yaml").read_text())
    data |= {"dead_man": "LEFT", "roles": {"gripper": "RIGHT"}}
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(data))
    plug.insert()
    device = open_mouse(mapping=str(mine))
    assert "HOLD left button" in device.help()
    sample = hold(plug, device, [translation(y=-350)])[-1]
    assert not np.any(sample.twist) and not sample.engaged
    sample = hold(plug, device, [b"\x03\x01\x00", translation(y=-350)])[-1]
    assert sample.engaged and np.any(sample.twist)


# Which device it is


def hid(folder, number, product, name, *, descriptor=MULTI_AXIS + b"\xa1\x01"):
    device = folder / f"hidraw{number}" / "device"
    device.mkdir(parents=True)
    device.joinpath("uevent").write_text(f"DRIVER=hid-generic\nHID_ID=0003:{product}\nHID_NAME={name}\n")
    device.joinpath("report_descriptor").write_bytes(descriptor)


def test_it_is_found_by_model_among_other_devices(tmp_path):
    hid(tmp_path, 0, "0000046D:0000C52B", "Logitech Receiver")
    hid(tmp_path, 1, "0000256F:0000C652", "3Dconnexion Universal Receiver", descriptor=b"\x05\x01\x09\x06\xa1\x01")
    hid(tmp_path, 2, "0000256F:0000C652", "3Dconnexion Universal Receiver")
    hid(tmp_path, 10, "0000256F:0000C635", "SpaceMouse Compact")
    found = find_spacemice(find_hid(tmp_path))
    assert [(device.path, mapping.name) for device, mapping in found] == [
        ("/dev/hidraw2", "pro"),
        ("/dev/hidraw10", "two_buttons"),
    ]
    assert found[1][0].name == "SpaceMouse Compact" and found[1][0].number == "256f:c635"


def test_none_there_is_one_sentence(tmp_path):
    with pytest.raises(DeviceError, match="no SpaceMouse found .*plug one in"):
        SpaceMouse(SpaceMouseConfig(), sys=tmp_path)


def test_one_that_may_not_be_opened_says_whose_it_is_and_names_the_rules(plug, monkeypatch):
    plug.insert()

    def refuse(path, flags):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(opening.os, "open", refuse)
    with pytest.raises(DeviceError, match=r"may not open .*hidraw0: only root may use it; .*99-robot-rl-devices.rules"):
        SpaceMouse(SpaceMouseConfig(path=str(plug.path)))


# Mapping files


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_mappings_reach_every_direction(path):
    mapping = load_mapping(path)
    assert set(mapping.motions) == {"x", "y", "z", "rx", "ry", "rz"}
    assert set(mapping.roles) <= set(BUTTONS) and len(set(mapping.roles.values())) == len(mapping.roles)
    assert len(set(mapping.buttons.values())) == len(mapping.buttons)
    assert all(find_mapping(number).name == mapping.name for number in mapping.ids)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"roles": {"grip": "LEFT"}}, "unknown button 'grip'; did you mean 'gripper'"),
        ({"roles": {"gripper": "TOP"}}, "gripper is on 'TOP', which is none of its buttons"),
        ({"dead_man": "TOP"}, "dead_man is on 'TOP'"),
        ({"full": 0}, "full is 0"),
        ({"reports": {1: ["X", "W"]}}, "report 1 is"),
        ({"reports": {0: ["X"]}}, "report 0; expected a number from 1 to 255"),
        ({"motions": {"x": {"axis": "Q"}}}, "motion 'x'"),
        ({"buttons": {"LEFT": -1, "RIGHT": 1}}, "number of a bit"),
        ({"bottons": {}}, "unknown entry 'bottons'; did you mean 'buttons'"),
    ],
)
def test_a_wrong_mapping_is_refused_in_words(tmp_path, change, words):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load((FOLDER / "two_buttons.yaml").read_text()), **change}))
    with pytest.raises(ValueError, match="wrong.yaml") as caught:
        load_mapping(path)
    assert words in str(caught.value)


@given(st.lists(st.binary(min_size=1, max_size=70), max_size=20))
def test_any_reports_are_survived(reports):
    state = Reports()
    for report in reports:
        state.feed(report, TWO_BUTTONS)
    assert all(-1.0 <= value <= 1.0 for value in state.axes.values()) and state.down <= set(TWO_BUTTONS.buttons)


# The kernel itself


UHID, CREATE2, INPUT2, DESTROY = "/dev/uhid", 11, 12, 1
DESCRIPTOR = bytes.fromhex(
    "05010908a101"  # multi-axis controller
    "a100850116a2fe265e01751095060930093109320933093409358102c0"  # report 1: six axes of 16 bits
    "a1028503050919012902150025017501950281029501750e8103c0"  # report 3: two buttons, and bits that mean nothing
    "c0"
)


def test_a_device_of_the_kernel(open_mouse):
    """The whole way through the kernel, where it lets programs make HID devices."""
    if not os.access(UHID, os.R_OK | os.W_OK):
        pytest.skip(f"{UHID} is not there or may not be used: load the module uhid, and run as root")
    descriptor = os.open(UHID, os.O_RDWR)
    try:
        name = b"robot_rl test SpaceMouse"
        head = struct.pack("<I128s64s64sHHIIII", CREATE2, name, b"", b"", len(DESCRIPTOR), 3, 0x256F, 0xC635, 0, 0)
        os.write(descriptor, head + DESCRIPTOR.ljust(4096, b"\0"))
        end, found = time.monotonic() + 5.0, []
        while not found and time.monotonic() < end:
            found = [device for device in find_hid() if device.name == name.decode() and os.path.exists(device.path)]
            time.sleep(0.05)
        assert found, "the kernel has made no device"
        device = open_mouse(path=found[0].path)
        sample = None
        for _ in range(20):
            report = combined(0, -350, 0, 0, 0, 0)
            os.write(descriptor, struct.pack("<IH", INPUT2, len(report)) + report.ljust(4096, b"\0"))
            time.sleep(0.008)
            sample = device.read()
        np.testing.assert_allclose(sample.twist, [0.2, 0, 0, 0, 0, 0], atol=1e-9)
    finally:
        with contextlib.suppress(OSError):
            os.write(descriptor, struct.pack("<I", DESTROY))
        os.close(descriptor)
