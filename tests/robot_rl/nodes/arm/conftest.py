"""Arms brought up whole, in a namespace of their own, with a probe that listens and a client of their memory."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

sys.path.insert(0, str(Path(__file__).parent))

from arm_probe import PATIENCE, ArmProbe, Up  # noqa: E402

from hardware.realtime.seqlock import SlotFolder  # noqa: E402
from robot_rl.planes.client import PlanesClient  # noqa: E402


class Running:
    """`robot-rl up arm`, a probe, and an observer that no ROS stands between."""

    def __init__(self, folder, domain, *arguments, robot="panda", **keywords):
        self.up = Up(folder, domain, *arguments, **keywords)
        self.probe = ArmProbe(domain, self.up.namespace)
        self.robot = robot
        self.client = None

    def attach(self, joints=7):
        """Wait for the control process's first word and read its memory."""
        self.probe.wait(lambda: any(s.mode != "starting" for s in self.probe.statuses), PATIENCE, "control process")
        self.client = PlanesClient(SlotFolder(f"{self.up.namespace}.{self.robot}").path, joints)
        return self

    def close(self):
        if self.client is not None:
            self.client.close()
        self.probe.close()
        self.up.__exit__()


def starter(tmp_path_factory, domain):
    """A function that starts arms; all of them are ended with the fixture."""
    started = []

    def start(*arguments, **keywords):
        started.append(Running(tmp_path_factory.mktemp("up"), domain, *arguments, **keywords))
        return started[-1]

    yield start
    for running in started:
        running.close()


@pytest.fixture
def bring_up(tmp_path_factory, domain):
    """Start arms for one test."""
    yield from starter(tmp_path_factory, domain)


@pytest.fixture(scope="module")
def bring_up_once(tmp_path_factory, domain):
    """Start arms for all tests of a file."""
    yield from starter(tmp_path_factory, domain)
