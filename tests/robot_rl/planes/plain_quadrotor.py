"""A quadrotor without physics behind its control process, in a time that the test makes."""

import numpy as np

from hardware.descriptions import load_quadrotor
from hardware.drivers.driver import Capabilities, DriverError
from hardware.drivers.quadrotor import QuadrotorSample
from hardware.realtime.loop import DeadlineLoop
from hardware.realtime.seqlock import SlotWriter
from policies.types import QuadrotorState
from robot_rl.planes import quadrotor_records, records
from robot_rl.planes.quadrotor_client import QuadrotorClient
from robot_rl.planes.quadrotor_control import QuadrotorControl, make_supervisor
from robot_rl.planes.quadrotor_settings import QuadrotorControlConfig
from robot_rl.planes.quadrotor_vehicle import Vehicle

CRAZYFLIE = load_quadrotor("crazyflie")
HOVER = np.array([1700.0, 1710.0, 1720.0, 1730.0])


class PlainQuadrotor:
    """A driver whose vehicle is where the test says; every command that it gets is kept, with its time."""

    def __init__(self, own_arming=False, commands=("MotorSpeeds",), rate_hz=500.0, kind="quadrotor"):
        self.capabilities = Capabilities(
            name="plain",
            kind=kind,
            actuators=CRAZYFLIE.interface.actuators,
            commands=commands,
            signals=("position", "orientation", "linear_velocity", "angular_velocity"),
            rate_hz=rate_hz,
            realtime=True,
            simulated=True,
            watchdog_s=0.1,
            own_arming=own_arming,
        )
        self.now = 0.0
        self.position, self.velocity, self.rates = np.zeros(3), np.zeros(3), np.zeros(3)
        self.armed = self.accepting = not own_arming
        self.arming, self.arming_problem = ("idle" if own_arming else "done"), ""
        self.fault, self.broken, self.deaf = "", "", ""
        self.frozen = self.blind = False
        self.sent = []  # (time, command)
        self.stops = self.kills = self.requests = 0
        self._sample = None

    @property
    def values(self):
        """Of the commands so far."""
        return [command.values for _, command in self.sent]

    def follow(self):
        """As an autopilot that has armed and listens."""
        self.arming, self.armed, self.accepting = "done", True, True

    def advance(self, now):
        self.now = now
        if self.frozen:
            return
        level = np.array([1.0, 0.0, 0.0, 0.0])
        state = QuadrotorState(self.position.copy(), level, self.velocity.copy(), self.rates.copy())
        self._sample = QuadrotorSample(
            stamp=now,
            state=None if self.blind else state,
            attitude_stamp=now,
            orientation=level,
            angular_velocity=self.rates.copy(),
            armed=self.armed,
            accepting=self.accepting,
            fault=self.fault,
            battery_voltage=4.0,
        )

    def read(self):
        if self.broken:
            raise DriverError(self.broken)
        return self._sample

    def write(self, command):
        if self.broken or self.deaf:
            raise DriverError(self.broken or self.deaf)
        self.sent.append((self.now, command))

    def request_arming(self):
        self.requests += 1
        self.arming, self.arming_problem = "streaming", ""

    def stop(self):
        self.stops += 1
        if self.capabilities.own_arming:
            self.arming = "idle"

    def kill(self):
        self.kills += 1
        if self.broken:
            raise DriverError(self.broken)
        if self.capabilities.own_arming:
            self.arming, self.armed, self.accepting = "idle", False, False


class QuadrotorCell:
    """A control process's inside, its vehicle and its client; `run` makes time go by."""

    def __init__(self, folder, driver=None, **settings):
        self.driver, self.begin, self.ticks = driver or PlainQuadrotor(), 1000.0, 0
        settings = {"policy": "geometric", "face_timeout": 0.0, **settings}
        self.config = QuadrotorControlConfig(folder=str(folder), **settings)
        self.loop = DeadlineLoop(500.0)
        self.core = make_supervisor(self.config)
        self.vehicle = Vehicle(self.driver, CRAZYFLIE, self.config.rates, self.config.arming_timeout)
        self.policy = SlotWriter(folder, "command", quadrotor_records.COMMAND)
        self.face = SlotWriter(folder, "face", records.FACE)
        self.client = QuadrotorClient(folder)
        self.control = QuadrotorControl(self.config, self.core, self.vehicle, self.loop)

    @property
    def now(self):
        return self.begin + 0.002 * self.ticks

    @property
    def status(self):
        return self.client.status()

    def run(self, seconds, each=None):
        for _ in range(max(1, round(500 * seconds))):
            self.ticks += 1
            self.loop.ticks += 1
            self.driver.advance(self.now)
            if each is not None:
                each()
            self.control.tick(self.now)

    def command(self, values=HOVER, stamp=None):
        record = records.new(quadrotor_records.COMMAND)
        record["values"], record["stamp"] = values, self.now if stamp is None else stamp
        self.policy.write(record)

    def commanding(self, values=HOVER):
        """A policy at 100 Hz, for `run(each=…)`."""

        def each():
            if self.ticks % 5 == 0:
                self.command(values)

        return each

    def beat(self):
        """The face's sign of life."""
        self.face.write(records.new(records.FACE), self.now)

    def ask(self, request):
        number = self.client.request(request)
        self.run(0.002)
        assert self.status.request_id == number  # answered in the tick that finds it
        return self.status.request_ok, self.status.request_text

    def sent_since(self, moment):
        return [command for when, command in self.driver.sent if when > moment]

    def close(self):
        for each in (self.control, self.client, self.policy, self.face):
            each.close()
