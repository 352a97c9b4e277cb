"""A keyboard on a pseudo-terminal as the device: a held key is a twist, and nothing else is."""

import os
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from arm_probe import ArmProbe  # noqa: E402
from geometry_msgs.msg import TwistStamped  # noqa: E402
from std_msgs.msg import Float64  # noqa: E402

from robot_rl.nodes import arm_messages  # noqa: E402


@pytest.fixture
def keys(domain, processes):
    """(probe, twists as they come, gripper commands, a function that holds a key down)."""
    probe = ArmProbe(domain, f"teleop{os.getpid()}")
    twists, grippers = [], []
    probe.node.create_subscription(
        TwistStamped,
        "command/twist",
        lambda m: twists.append((time.monotonic(), *arm_messages.twist_from_message(m))),
        50,
    )
    probe.node.create_subscription(Float64, "command/gripper", lambda m: grippers.append(m.data), 10)
    master, slave = os.openpty()
    code = (
        f"import sys; sys.argv += ['-r', '__ns:=/{probe.namespace}']; "
        "from robot_rl.nodes.process import start; sys.exit(start('teleop'))"
    )
    processes.start("teleop", f"device:=keyboard:{os.ttyname(slave)}", "linear:=0.1", code=code)
    probe.wait(lambda: probe.diagnostics.get("teleoperation"), 60.0, "teleop")

    def hold(key, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            os.write(master, key)
            time.sleep(0.03)

    yield probe, twists, grippers, hold
    statuses = processes.end()
    probe.close()
    os.close(master)
    os.close(slave)
    assert statuses == {"teleop": 0}


def test_a_held_key_moves_and_a_released_one_stops(keys):
    probe, twists, grippers, hold = keys
    time.sleep(0.5)
    assert not twists  # nobody holds anything
    hold(b"w", 0.8)
    released = time.monotonic()
    time.sleep(1.5)
    moving = [twist for _, twist, frame, _ in twists if frame == "base" and np.any(twist)]
    assert len(moving) >= 5
    np.testing.assert_allclose(moving, np.tile([0.1, 0, 0, 0, 0, 0], (len(moving), 1)), atol=1e-9)
    last_moving = max(at for at, twist, *_ in twists if np.any(twist))
    assert last_moving - released < 0.4
    assert not np.any(twists[-1][1])  # the last word is: stand
    count = len(twists)
    time.sleep(1.0)
    assert len(twists) == count  # and after that there is none
    for toggles in ([-1.0], [-1.0, 1.0]):
        hold(b"w", 0.4)
        hold(b" ", 0.1)
        hold(b"w", 0.4)
        probe.wait(lambda toggles=toggles: grippers == toggles, 3.0, f"gripper {toggles}, it is {grippers}")
        time.sleep(1.0)


def test_a_missing_device_is_one_sentence(processes):
    process = processes.start("teleop", "device:=gamepad:/dev/input/no-such-pad")
    assert process.wait(60.0) == 1
    log = processes.log("teleop")
    assert "[FATAL] cannot start" in log and "no-such-pad" in log and "Traceback" not in log


def test_an_unknown_device_is_one_sentence(processes):
    process = processes.start("teleop", "device:=joystick")
    assert process.wait(60.0) == 1
    assert "unknown device 'joystick'; known: keyboard, gamepad, spacemouse" in processes.log("teleop")
