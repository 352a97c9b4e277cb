"""An arm's cell; one simulated flight under the supervisor, with faults to inject and no real clock."""

from copy import deepcopy

import numpy as np
import pytest

from hardware import load_description
from hardware.controllers import quadrotor as controller
from hardware.safety.arm_envelope import ArmEnvelope, Box, RoundRegion
from hardware.safety.quadrotor import QuadrotorSupervisor
from policies import rotation
from policies.manifest import Envelope
from policies.types import MotorSpeeds, QuadrotorSetpoint
from sim.driver import SimulatedQuadrotor

PERIOD = 0.01
ENVELOPE = Envelope(
    geofence=((-2.0, 2.0), (-2.0, 2.0), (-0.2, 3.0)),
    max_tilt=1.2,
    tumble_time=0.3,
    max_speed=5.0,
    state_age=(0.1, 0.5, 2.0),
    command_age_periods=3.0,
)


class Flight:
    """Vehicle, supervisor and a stand-in for the policy that flies to `target`."""

    def __init__(self, **overrides):
        description = load_description("crazyflie")
        self.vehicle = SimulatedQuadrotor(description, overrides=overrides)
        self.supervisor = QuadrotorSupervisor(description, ENVELOPE, 1.0 / PERIOD)
        self.parameters = description.parameters
        self.target = np.array([0.0, 0.0, 1.0])
        self.odometry = self.imu = self.policy = True
        self.state_filter = lambda state: state
        self.command_filter = lambda values: values
        self.outputs = []
        self.times = []
        self.heights = []
        self._integral = np.zeros(3)
        self._command = np.zeros(4)

    @property
    def now(self):
        return self.vehicle.time

    def run(self, seconds):
        """Let time pass in control periods; returns the outputs of that time."""
        first = len(self.outputs)
        for _ in range(round(seconds / PERIOD)):
            now = self.now
            if self.odometry:
                self.supervisor.observe_state(self.state_filter(self.vehicle.read()), now, now)
            if self.imu:
                orientation, rates, _ = self.vehicle.imu()
                self.supervisor.observe_attitude(orientation, rates, now, now)
            if self.policy and self.supervisor.state_input.age(now) < ENVELOPE.state_age[0]:
                self._think()
                self.supervisor.observe_command(self.command_filter(self._command), now, now, "policy")
            output = self.supervisor.tick(now)
            self.vehicle.write(MotorSpeeds(output.motor_speeds), now)
            self.vehicle.advance(PERIOD)
            self.outputs.append(output)
            self.times.append(now)
            self.heights.append(float(self.vehicle.truth().position[2]))
        return self.outputs[first:]

    def _think(self):
        state = self.vehicle.truth()
        zero = np.zeros(3)
        setpoint = QuadrotorSetpoint(self.target, zero, zero, rotation.yaw_of(state.orientation))
        if self.supervisor.mode != "active":
            self._integral = zero
        self._command, self._integral = controller.hold_position(
            self.parameters, state, setpoint, self._integral, PERIOD
        )

    def take_off(self):
        """Stand, arm, and fly to the target."""
        self.run(0.5)
        accepted, reason = self.supervisor.arm(self.now)
        assert accepted, reason
        self.run(6.0)
        assert self.supervisor.mode == "active"
        assert np.linalg.norm(self.vehicle.truth().position - self.target) < 0.1
        return self

    def modes(self, outputs):
        """Modes of some outputs in the order in which they first followed each other."""
        order = []
        for output in outputs:
            if not order or order[-1] != output.mode:
                order.append(output.mode)
        return order

    def when(self, mode, since):
        """s from `since` until the first output in `mode`."""
        return next(t for t, o in zip(self.times, self.outputs, strict=True) if t >= since and o.mode == mode) - since


@pytest.fixture
def on_ground():
    return Flight()


@pytest.fixture(scope="session")
def taken_off():
    return Flight().take_off()


@pytest.fixture
def in_air(taken_off):
    return deepcopy(taken_off)  # of one take-off, for it costs seconds


@pytest.fixture
def make_flight():
    return Flight


@pytest.fixture
def cell():
    """A table, a workspace, and both kinds of forbidden regions."""
    return ArmEnvelope(
        table_height=0.0,
        workspace=(Box(lower=(-0.2, -0.6, 0.0), upper=(0.75, 0.6, 1.0)),),
        forbidden=(
            Box(lower=(0.3, 0.3, 0.0), upper=(0.6, 0.5, 0.4)),
            RoundRegion(start=(0.4, -0.5, 0.2), end=(0.4, -0.5, 0.4), radius=0.1),
        ),
    )
