"""Leader arms from their servos' bytes: a stand-in for the bus behind a pseudo-terminal."""

import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from servo_bus import BUSES, DynamixelBus, FeetechBus  # noqa: E402

from hardware.teleop import dynamixel, feetech  # noqa: E402
from hardware.teleop.device import DeviceError, Sample  # noqa: E402
from hardware.teleop.leader_arm import LeaderArm, LeaderConfig  # noqa: E402
from hardware.teleop.leader_calibration import LeaderJoint, load_calibration, to_text  # noqa: E402
from hardware.teleop.paired import Paired  # noqa: E402

TURN = 4096


@pytest.fixture(params=sorted(BUSES))
def bus(request):
    bus = BUSES[request.param](range(1, 4))
    bus.protocol = request.param
    bus.place(s1=2048, s2=2048, s3=2500)
    yield bus
    bus.close()


def write(path, bus, **changes):
    data = {
        "protocol": bus.protocol,
        "port": bus.path,
        "baud": 1000000,
        "joints": [{"servo": 1, "zero": 2048}, {"servo": 2, "zero": 1024, "sign": -1}],
        "trigger": {"servo": 3, "open": 2500, "closed": 2000, "role": "gripper"},
        "strength": 0,
        **changes,
    }
    path.write_text(yaml.safe_dump(data))
    return str(path)


@pytest.fixture
def open_leader(bus, tmp_path):
    opened = []

    def build(changes=(), **settings):
        calibration = write(tmp_path / "leader.yaml", bus, **dict(changes))
        opened.append(LeaderArm(LeaderConfig(calibration=calibration, **settings)))
        return opened[-1]

    yield build
    for device in opened:
        device.close()


def wait_for(condition, seconds=3.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.005)
    return found


def test_it_says_the_angles_of_its_joints(bus, open_leader):
    device = open_leader()
    np.testing.assert_allclose(device.read().joints, [0.0, -math.pi / 2], atol=1e-9)
    bus.place(s1=2048 + 512, s2=1024 - 256)
    sample = wait_for(lambda: (s := device.read()).joints[0] > 0.7 and s)
    np.testing.assert_allclose(sample.joints, [math.pi / 4, math.pi / 8], atol=1e-9)
    assert sample.connected and sample.age < 0.1 and not sample.dead_man and not sample.engaged


def test_it_is_asked_often_and_answers_are_young(bus, open_leader):
    device = open_leader()
    before, ages = bus.reads, []
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        ages.append(device.read().age)
        time.sleep(0.005)
    assert bus.reads - before > 20  # asked for at 100 Hz; a loaded machine has less
    assert float(np.median(ages)) < 0.03
    assert not bus.written  # nobody switches motors on, nor sends them anywhere


def test_the_trigger_is_the_gripper(bus, open_leader):
    device = open_leader()
    assert device.read().gripper == 1.0
    bus.place(s3=2125)
    wait_for(lambda: device.read().gripper == -0.5)
    bus.place(s3=1500)
    wait_for(lambda: device.read().gripper == -1.0)


def test_the_trigger_as_the_dead_man_has_to_be_let_go_first(bus, open_leader):
    bus.place(s3=2000)
    device = open_leader({"trigger": {"servo": 3, "open": 2500, "closed": 2000, "role": "dead_man"}})
    time.sleep(0.1)
    assert not device.read().dead_man and device.read().gripper is None
    bus.place(s3=2490)
    time.sleep(0.1)
    assert not device.read().dead_man
    bus.place(s3=2050)
    assert wait_for(lambda: device.read().dead_man) and device.read().engaged
    bus.place(s3=2250)  # half way: neither
    time.sleep(0.1)
    assert device.read().dead_man
    bus.place(s3=2450)
    wait_for(lambda: not device.read().dead_man)


def test_a_servo_that_falls_silent_makes_the_sample_old(bus, open_leader):
    device = open_leader()
    bus.silent = {2}
    time.sleep(0.4)
    sample = device.read()
    assert sample.age > 0.3
    time.sleep(0.4)
    assert device.silent == [2] and "no answer from servo 2" in device.help()
    bus.silent = set()
    wait_for(lambda: device.read().age < 0.1)


def test_noise_on_the_bus_is_skipped(bus, open_leader):
    bus.noise = b"\xff\xff\x01\x02\xff\xff\xfd\x00\x01\xff"
    device = open_leader()
    bus.place(s1=2048 + 1024)
    wait_for(lambda: abs(device.read().joints[0] - math.pi / 2) < 1e-6)


def test_motors_follow_the_robot_slowly_and_are_off_again_when_nobody_leads(bus, open_leader):
    device = open_leader({"strength": 300}, follow_speed=2.0, follow_timeout=0.3)
    time.sleep(0.1)
    assert bus.on() == set()
    goal, begin, places = np.array([0.5, -math.pi / 2 - 0.3]), time.monotonic(), []
    while time.monotonic() - begin < 0.8:
        device.follow(goal)
        places.append((time.monotonic() - begin, float(device.read().joints[0])))
        time.sleep(0.01)
    np.testing.assert_allclose(device.read().joints, goal, atol=0.01)
    assert bus.on() == {1, 2}  # the trigger never
    assert all(place <= 2.0 * at + 0.1 for at, place in places)  # no faster than asked for
    wait_for(lambda: bus.on() == set(), 1.0)  # nobody has called for 0.3 s
    device.follow(goal)
    wait_for(lambda: bus.on() == {1, 2})
    device.follow(None)
    wait_for(lambda: bus.on() == set())
    bus.place(s1=2048)  # a hand may move it
    wait_for(lambda: abs(device.read().joints[0]) < 1e-6)


def test_motors_are_off_after_closing(bus, open_leader):
    device = open_leader({"strength": 300})
    device.follow(np.array([0.0, -math.pi / 2]))
    wait_for(bus.on)
    device.close()
    wait_for(lambda: not bus.on())  # the servos read at their own pace


def test_without_strength_no_motor_is_ever_switched_on(bus, open_leader):
    device = open_leader()
    device.follow(np.array([1.0, 1.0]))
    time.sleep(0.2)
    assert not bus.written


def test_servos_that_do_not_answer_are_named(bus, tmp_path):
    bus.silent = {2, 3}
    with pytest.raises(DeviceError, match=r"no answer from servo 2, 3 \(heard: 1\); check its power.*1000000"):
        LeaderArm(LeaderConfig(calibration=write(tmp_path / "leader.yaml", bus)))


def test_it_may_be_unplugged_and_plugged_in_again(bus, open_leader, tmp_path):
    link = tmp_path / "ttyLeader"
    device = open_leader(port=str(link), wait=True)
    assert not device.read().connected and "not connected" in device.help()
    link.symlink_to(bus.path)
    wait_for(lambda: device.read().joints is not None)
    bus.pull()
    wait_for(lambda: not device.read().connected)
    assert device.read().joints is None and device.read().age == math.inf
    link.unlink()
    again = BUSES[bus.protocol](range(1, 4))
    again.place(s1=2048, s2=1024, s3=2500)
    link.symlink_to(again.path)
    wait_for(lambda: device.read().joints is not None)
    device.close()
    again.close()


class Pedal:
    """A device with a dead-man only."""

    name, motion = "pedal", "twist"

    def __init__(self):
        self.held, self.connected = False, True

    def read(self):
        return Sample(dead_man=self.held, engaged=self.held, connected=self.connected, age=0.0)

    def help(self):
        return "pedal"

    def close(self):
        self.closed = True


def test_a_pedal_gives_it_a_dead_man(open_leader):
    pedal = Pedal()
    pair = Paired(open_leader(), pedal)
    assert pair.motion == "joints" and not pair.read().dead_man and pair.read().joints is not None
    pedal.held = True
    sample = pair.read()
    assert sample.dead_man and sample.engaged and sample.gripper == 1.0
    pedal.connected = False
    sample = pair.read()
    assert not sample.connected and not sample.dead_man
    pair.close()
    assert pedal.closed


# The makers' own packages speak to the same stand-in


def test_the_makers_dynamixel_package_agrees():
    sdk = pytest.importorskip("dynamixel_sdk", reason="dynamixel-sdk, which is compared with, is not installed")
    bus = DynamixelBus((1, 2))
    bus.place(s1=1234, s2=-7)
    try:
        port, handler = sdk.PortHandler(bus.path), sdk.PacketHandler(2.0)
        assert port.openPort()
        group = sdk.GroupSyncRead(port, handler, 132, 4)
        assert group.addParam(1) and group.addParam(2) and group.txRxPacket() == sdk.COMM_SUCCESS
        assert group.getData(1, 132, 4) == 1234 and group.getData(2, 132, 4) == 2**32 - 7
        port.closePort()
    finally:
        bus.close()
    sent = handler_bytes(sdk, lambda port, handler: handler.syncReadTx(port, 132, 4, [1, 2], 2, False))
    assert sent == dynamixel.Dynamixel().read((1, 2))
    sent = handler_bytes(sdk, lambda port, handler: handler.syncWriteTxOnly(port, 116, 4, [1, 0xD2, 4, 0, 0], 5))
    assert sent == dynamixel.Dynamixel().go({1: 1234})


def test_a_goal_that_looks_like_a_header_arrives():
    """FF FF FD within a packet is sent with one more FD; the maker's package for Python computes that and drops it."""
    bus = DynamixelBus((1, 2))
    goal = 0x00FDFFFF
    os.write(bus.slave, dynamixel.Dynamixel().go({2: goal, 1: goal}))
    wait_for(lambda: len(bus.written) == 2)
    bus.close()
    assert {servo: int.from_bytes(data, "little") for servo, _, data in bus.written} == {1: goal, 2: goal}
    buffer = bytearray(bus.status(1, goal.to_bytes(4, "little")))
    assert [answer.ticks for answer in dynamixel.Dynamixel().parse(buffer)] == [goal] and not buffer


def test_the_makers_feetech_package_agrees():
    sdk = pytest.importorskip("scservo_sdk", reason="feetech-servo-sdk, which is compared with, is not installed")
    bus = FeetechBus((1, 2))
    bus.place(s1=1234, s2=77)
    try:
        port, handler = sdk.PortHandler(bus.path), sdk.PacketHandler(0)
        assert port.openPort()
        group = sdk.GroupSyncRead(port, handler, 56, 2)
        assert group.addParam(1) and group.addParam(2) and group.txRxPacket() == sdk.COMM_SUCCESS
        assert group.getData(1, 56, 2) == 1234 and group.getData(2, 56, 2) == 77
        port.closePort()
    finally:
        bus.close()
    sent = handler_bytes(sdk, lambda port, handler: handler.syncReadTx(port, 56, 2, [1, 2], 2), version=0)
    assert sent == feetech.Feetech().read((1, 2))
    sent = handler_bytes(sdk, lambda port, handler: handler.syncWriteTxOnly(port, 42, 2, [1, 0xD2, 4], 3), version=0)
    assert sent == feetech.Feetech().go({1: 1234})


def handler_bytes(sdk, call, version=2.0):
    """What a maker's package writes."""

    class Port:
        is_using, sent = False, b""

        def writePort(self, packet):  # noqa: N802
            self.sent += bytes(packet)
            return len(packet)

        def clearPort(self):  # noqa: N802
            pass

        def setPacketTimeout(self, *_):  # noqa: N802
            pass

    port = Port()
    call(port, sdk.PacketHandler(version))
    return port.sent


# Packets and calibrations


@pytest.mark.parametrize("protocol", [dynamixel.Dynamixel(), feetech.Feetech()], ids=["dynamixel", "feetech"])
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes_are_survived_and_an_answer_after_them_is_found(protocol, data, cuts):
    stand_in = DynamixelBus if protocol.resolution and protocol.goes_round else FeetechBus
    answer = stand_in.status(None, 9, b"\x12\x03\x00\x00" if protocol.goes_round else b"\x12\x03")
    # Noise may look like the beginning of a long packet: as much as the longest one must follow.
    stream, buffer, found = data + b"\x00" * 80 + answer, bytearray(), []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(stream)], strict=True):
        buffer += stream[start:end]
        found += protocol.parse(buffer)
    assert found and (found[-1].servo, found[-1].ticks) == (9, 0x312)
    assert len(buffer) < 100


@given(angle=st.floats(-3.0, 3.0), zero=st.integers(0, 4095), sign=st.sampled_from((-1, 1)))
def test_an_angle_survives_the_way_through_ticks(angle, zero, sign):
    joint = LeaderJoint(servo=1, zero=zero, sign=sign)
    there = joint.goal(angle, zero, dynamixel.Dynamixel())
    assert abs(joint.angle(there, TURN) - angle) <= math.pi / TURN + 1e-9
    assert abs(joint.angle(there % TURN, TURN) - angle) <= math.pi / TURN + 1e-9  # counts that wrap
    assert 0 <= joint.goal(angle, zero, feetech.Feetech()) < TURN


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol": "canopen"}, "protocol is 'canopen'; choose from dynamixel, feetech"),
        ({"joints": []}, "joints are []"),
        ({"joints": [{"servo": 1, "zero": 0, "sign": 2}]}, "servo 1 has sign 2"),
        ({"joints": [{"servo": 3, "zero": 0}]}, "servos are [3, 3]"),
        ({"trigger": {"servo": 3, "open": 2000, "closed": 2001, "role": "gripper"}}, "at least 20 ticks"),
        ({"trigger": {"servo": 3, "open": 2000, "closed": 2100, "role": "horn"}}, "role 'horn'"),
        ({"strength": -1}, "strength is -1"),
        ({"boud": 1}, "unknown entry 'boud'; did you mean 'baud'"),
    ],
)
def test_a_wrong_calibration_is_refused_in_words(bus, tmp_path, change, words):
    with pytest.raises(ValueError, match="leader.yaml") as caught:
        load_calibration(Path(write(tmp_path / "leader.yaml", bus, **change)))
    assert words in str(caught.value)


def test_a_calibration_survives_its_file(bus, tmp_path):
    calibration = load_calibration(Path(write(tmp_path / "leader.yaml", bus)))
    (tmp_path / "again.yaml").write_text(to_text(calibration))
    assert load_calibration(tmp_path / "again.yaml") == calibration


def test_a_speed_that_no_port_has_is_one_sentence(bus, tmp_path):
    with pytest.raises(DeviceError, match="baud 1234 is none that a serial port knows"):
        LeaderArm(LeaderConfig(calibration=write(tmp_path / "leader.yaml", bus, baud=1234)))
