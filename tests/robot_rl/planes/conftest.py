"""Robots without a simulator behind their control loops, in a time that the test makes."""

import sys
from pathlib import Path

import numpy as np
import pytest

from hardware.descriptions import load_arm
from hardware.drivers.driver import ArmSample, Capabilities, DriverError
from hardware.dynamics import mass_matrix
from hardware.realtime.loop import DeadlineLoop
from hardware.realtime.seqlock import SlotWriter
from policies.types import CartesianTwist
from robot_rl.planes import records
from robot_rl.planes.client import PlanesClient
from robot_rl.planes.control_process import ControlLoop
from robot_rl.planes.settings import ControlConfig

sys.path.insert(0, str(Path(__file__).parent))

from plain_quadrotor import HOVER, PlainQuadrotor, QuadrotorCell  # noqa: E402

PANDA = load_arm("panda")


class PlainArm:
    """A driver of joints with inertia that takes torques; every command that it gets is kept."""

    def __init__(self):
        self.q, self.qd, self.now = PANDA.home.copy(), np.zeros(7), 0.0
        self.commands, self.stops, self.recoveries = [], 0, 0
        self.fault, self.frozen, self.broken = "", False, ""
        self.nan = False
        self._inverse = np.linalg.inv(mass_matrix(PANDA, PANDA.home))
        self._torques = np.zeros(7)
        self._sample = None

    capabilities = Capabilities(
        name="plain",
        kind="arm",
        actuators=PANDA.interface.actuators,
        commands=("JointTorques",),
        signals=("joint_positions", "joint_velocities", "gripper_width"),
        rate_hz=500.0,
        realtime=True,
        simulated=True,
        watchdog_s=0.02,
    )

    def advance(self, now):
        dt, self.now = now - self.now, now
        if 0.0 < dt < 0.1:
            self.qd = self.qd + dt * (self._inverse @ self._torques - 0.5 * self.qd)
            self.q = self.q + dt * self.qd
        if not self.frozen:
            angles = np.full(7, np.nan) if self.nan else self.q.copy()
            self._sample = ArmSample(
                stamp=now, joint_positions=angles, joint_velocities=self.qd.copy(), gripper_width=0.04, fault=self.fault
            )

    def read(self):
        if self.broken:
            raise DriverError(self.broken)
        return self._sample

    def write(self, command):
        if self.broken:
            raise DriverError(self.broken)
        self.commands.append(command)
        self._torques = np.asarray(command.values)

    def stop(self):
        self.stops += 1
        self._torques, self.qd = np.zeros(7), np.zeros(7)

    def recover(self):
        self.recoveries += 1
        self.fault = ""


class Cell:
    """A control loop, its arm and its client; `run` makes time go by."""

    def __init__(self, folder: Path, **settings):
        self.driver, self.now = PlainArm(), 1000.0
        self.driver.advance(self.now)
        self.config = ControlConfig(folder=str(folder), face_timeout=settings.pop("face_timeout", 0.0), **settings)
        self.loop = DeadlineLoop(500.0)
        self.control = ControlLoop(self.config, self.driver, self.loop)
        self.client = PlanesClient(folder, 7)
        self.policy = SlotWriter(folder, "command", records.command_dtype(7))
        self.decision = None
        self.modes = []

    def run(self, seconds, each=None):
        for _ in range(round(500 * seconds)):
            self.now += 0.002
            self.loop.ticks += 1
            self.driver.advance(self.now)
            if each is not None:
                each()
            self.decision = self.control.tick(self.now)
            if not self.modes or self.modes[-1] != self.decision.mode:
                self.modes.append(self.decision.mode)
        return self.decision

    def ask(self, request):
        number = self.client.request(request)
        self.run(0.002)
        while self.client.status().request_id != number:
            self.run(0.002)
        status = self.client.status()
        return status.request_ok, status.request_text

    def command(self, values=(0.05, 0, 0, 0, 0, 0), stamp=None, command=None):
        command = command or CartesianTwist(values=np.array(values, dtype=float), frame="base", gripper=1.0)
        record = records.new(self.policy.dtype)
        self.policy.write(records.fill_command(record, command, self.now if stamp is None else stamp, 0.1))

    def commanding(self, values=(0.05, 0, 0, 0, 0, 0)):
        """A policy at 10 Hz, for `run(each=…)`."""
        self._due = self.now

        def each():
            if self.now >= self._due - 1e-9:
                self._due += 0.1
                self.command(values)

        return each

    def close(self):
        self.control.close()
        self.client.close()
        self.policy.close()


@pytest.fixture
def make_cell(tmp_path):
    """Settings of `ControlConfig` → a `Cell`."""
    made = []

    def make(**settings):
        made.append(Cell(tmp_path, **settings))
        return made[-1]

    yield make
    for cell in made:
        cell.close()


@pytest.fixture
def cell(make_cell):
    """Without a face's sign of life."""
    return make_cell()


@pytest.fixture
def active(cell):
    """Armed, and moved by a policy."""
    cell.run(0.05)
    assert cell.ask("arm") == (True, "armed")
    cell.run(1.0, cell.commanding())
    assert cell.decision.mode == "active"
    return cell


@pytest.fixture
def make_flight(tmp_path):
    """Settings of `QuadrotorControlConfig`, perhaps with a driver → a `QuadrotorCell`."""
    made = []

    def make(**settings):
        made.append(QuadrotorCell(tmp_path, **settings))
        return made[-1]

    yield make
    for cell in made:
        cell.close()


@pytest.fixture
def ground(make_flight):
    """A vehicle that follows whoever speaks to it, standing on the ground with a policy that commands."""
    cell = make_flight()
    cell.run(0.5, cell.commanding())
    return cell


@pytest.fixture
def flight(ground):
    """The same, armed, at 1 m."""
    assert ground.ask("arm") == (True, "armed")
    ground.driver.velocity[2] = 1.0
    for height in np.linspace(0.0, 1.0, 20):
        ground.driver.position[2] = height
        ground.run(0.05, ground.commanding())
    ground.driver.velocity[2] = 0.0
    ground.run(0.1, ground.commanding())
    assert ground.status.mode == "active"
    return ground


@pytest.fixture
def own(make_flight):
    """A vehicle with a safety of its own, on the ground, not armed."""
    cell = make_flight(driver=PlainQuadrotor(own_arming=True))
    cell.run(0.5, cell.commanding())
    return cell


@pytest.fixture
def following(own):
    """The same at 1 m, armed and flown from here."""
    own.ask("arm")
    own.driver.follow()
    own.run(0.05, own.commanding())
    own.driver.position[2] = 0.1
    for height in np.linspace(0.0, 1.0, 20):
        own.driver.position[2] = height
        own.run(0.05, own.commanding())
    assert own.status.mode == "active" and np.array_equal(own.driver.values[-1], HOVER)
    return own
