"""A joystick and twists over DDS as devices: what they say, and what is not believed."""

import math
import os
import re
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import TwistStamped  # noqa: E402
from listening import ListeningNode  # noqa: E402
from sensor_msgs.msg import Joy  # noqa: E402
from std_msgs.msg import Float64  # noqa: E402

from hardware.teleop.gamepad_mapping import FOLDER, load_mapping  # noqa: E402
from robot_rl.devices.opening import open_device  # noqa: E402
from robot_rl.nodes import arm_messages, messages  # noqa: E402

XBOX = load_mapping(FOLDER / "xbox.yaml")


@pytest.fixture(scope="module")
def sender(domain):
    before = os.environ.get("ROS_DOMAIN_ID")
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    node = ListeningNode("sender", domain)
    node.start()
    yield node
    node.close()
    if before is None:
        del os.environ["ROS_DOMAIN_ID"]
    else:
        os.environ["ROS_DOMAIN_ID"] = before


class Stick:
    """Somebody with a joystick at another machine."""

    def __init__(self, sender, topic):
        self.publisher = sender.node.create_publisher(Joy, topic, 10)
        self.axes, self.buttons = dict.fromkeys(XBOX.axes, 0.0), dict.fromkeys(XBOX.buttons, 0)

    def send(self, offset=0.0, **values):
        """`ABS_Y=1.0` as ROS 2 counts: left and up are positive."""
        for code, value in values.items():
            (self.axes if code.startswith("ABS") else self.buttons)[code] = value
        message = Joy(axes=[float(v) for v in self.axes.values()], buttons=list(self.buttons.values()))
        message.header.stamp = messages.to_stamp(time.time() + offset)
        self.publisher.publish(message)

    def hold(self, device, seconds=0.25, **values):
        """At 50 Hz; the last sample and everything that was pressed."""
        pressed, end = set(), time.monotonic() + seconds
        while time.monotonic() < end:
            self.send(**values)
            time.sleep(0.02)
            sample = device.read()
            pressed |= sample.pressed
        return sample, pressed


@pytest.fixture
def joy(sender, request):
    topic = f"/joy_{request.node.name[:20].replace('[', '_').replace(']', '_')}"
    stick, device = Stick(sender, topic), open_device(f"joy:{topic},exponent=1,deadzone=0,linear=0.2,angular=1.0")
    end = time.monotonic() + 10.0
    while stick.publisher.get_subscription_count() == 0 and time.monotonic() < end:
        time.sleep(0.02)
    yield stick, device
    device.close()


def test_a_remote_joystick_drives_as_a_local_one(joy):
    stick, device = joy
    assert not device.read().connected and "no message on" in device.help()
    sample, _ = stick.hold(device)
    assert sample.connected and not sample.dead_man and sample.age < 0.15
    sample, pressed = stick.hold(device, ABS_Y=1.0, BTN_SOUTH=1)
    assert not np.any(sample.twist) and pressed == {"gripper"}
    sample, _ = stick.hold(device, BTN_TR=1)
    np.testing.assert_allclose(sample.twist, [0.2, 0, 0, 0, 0, 0], atol=1e-6)
    sample, _ = stick.hold(device, ABS_Y=0.0, ABS_X=0.5, ABS_RX=-1.0)
    np.testing.assert_allclose(sample.twist, [0, 0.1, 0, 0, 0, -1.0], atol=1e-6)
    assert sample.dead_man and sample.engaged


def test_silence_stops_it_and_a_dead_man_that_is_held_on_return_does_not_count(joy):
    stick, device = joy
    stick.hold(device)
    assert np.any(stick.hold(device, ABS_Y=1.0, BTN_TR=1)[0].twist)
    time.sleep(0.2)
    sample = device.read()
    assert not np.any(sample.twist) and sample.age > 0.15
    time.sleep(0.5)
    assert not device.read().connected
    sample, _ = stick.hold(device)  # back, still held
    assert sample.connected and not sample.dead_man
    stick.hold(device, BTN_TR=0)
    assert stick.hold(device, BTN_TR=1)[0].dead_man


@pytest.mark.parametrize(("offset", "words"), [(-0.5, r"is 0\.[56]\d* s old"), (0.4, r"is -0\.[34]\d* s old")])
def test_old_and_future_messages_are_refused(joy, offset, words):
    stick, device = joy
    stick.hold(device)
    time.sleep(0.6)
    end = time.monotonic() + 0.4
    while time.monotonic() < end:
        stick.send(offset=offset, BTN_TR=1)
        time.sleep(0.02)
    assert not device.read().connected
    assert "s old (limits -0.05 and 0.15 s); are its stamps set" in device.help()
    assert re.search(words, device.help())


def test_a_second_joystick_is_refused(sender, joy):
    stick, device = joy
    other = Stick(sender, device._listener.topic)
    stick.hold(device)
    end = time.monotonic() + 5.0
    while other.publisher.get_subscription_count() == 0 and time.monotonic() < end:
        time.sleep(0.02)
    pressed = set()
    for _ in range(15):
        stick.send()
        other.send(BTN_TR=1, BTN_SOUTH=1)
        time.sleep(0.02)
        sample = device.read()
        pressed |= sample.pressed
        assert not sample.dead_man
    assert not pressed and sample.connected


def test_too_few_axes_for_the_mapping_are_refused_in_words(joy):
    stick, device = joy
    stick.axes = {"ABS_X": 0.0, "ABS_Y": 0.0}
    stick.hold(device)
    assert not device.read().connected
    assert "has 2 axes and 11 buttons, too few for" in device.help() and "mapping=mine.yaml" in device.help()


def test_twists_are_a_device_too(sender):
    device = open_device("twist:/there/twist,gripper=/there/gripper,linear=0.3,angular=1.0")
    twists = sender.node.create_publisher(TwistStamped, "/there/twist", 10)
    grippers = sender.node.create_publisher(Float64, "/there/gripper", 10)
    end = time.monotonic() + 10.0
    while not (twists.get_subscription_count() and grippers.get_subscription_count()) and time.monotonic() < end:
        time.sleep(0.02)

    def send(twist, frame="base", offset=0.0):
        for _ in range(10):
            message = arm_messages.twist_message(np.array(twist, dtype=float), time.time() + offset, frame)
            twists.publish(message)
            time.sleep(0.02)
        return device.read()

    try:
        sample = send([0.1, 0, 0, 0, 0, 0.5])
        np.testing.assert_allclose(sample.twist, [0.1, 0, 0, 0, 0, 0.5])
        assert sample.engaged and sample.dead_man and sample.gripper is None
        assert send([3.0, 4.0, 0, 0, 0, 0]).twist[:2].tolist() == pytest.approx([0.18, 0.24])  # held to 0.3 m/s
        grippers.publish(Float64(data=-1.0))
        time.sleep(0.2)
        sample = device.read()
        assert sample.gripper == -1.0 and not sample.dead_man and not np.any(sample.twist)  # 0.2 s silent
        time.sleep(0.5)
        assert not device.read().connected and device.read().age > 0.5
        send([0.1, 0, 0, 0, 0, 0], frame="camera")
        assert not device.read().connected and "twist has frame 'camera'" in device.help()
        send([math.nan, 0, 0, 0, 0, 0])
        assert not device.read().connected and "not finite" in device.help()
    finally:
        device.close()
        device.close()
