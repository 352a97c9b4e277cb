"""A vehicle that speaks PX4's uXRCE-DDS topics: real px4_msgs over DDS, PX4's quality of service, rates and rules.

A body flies, in PX4's own frames, with a clock that is not ours. Faults are attributes.
"""

import math
import sys
import time
from pathlib import Path

import numpy as np
import px4_msgs.msg as px4
from listening import ListeningNode
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy

sys.path.insert(0, str(Path(__file__).parents[2] / "hardware" / "drivers"))

from flying_body import GRAVITY, FlyingBody  # noqa: E402

ACCEPTED, TEMPORARILY_REJECTED, DENIED, UNSUPPORTED = 0, 1, 2, 3
STATUS = px4.VehicleStatus
OFFBOARD, LOITER, LAND = STATUS.NAVIGATION_STATE_OFFBOARD, STATUS.NAVIGATION_STATE_AUTO_LOITER, 18
MODES = {(6, 0): OFFBOARD, (4, 3): LOITER, (4, 6): LAND}
OUT = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
IN = QoSProfile(depth=16, reliability=QoSReliabilityPolicy.BEST_EFFORT)
STEP = 0.005
LOSS = 1.0
"""COM_OF_LOSS_T."""


def name_of(way, name, kind):
    version = getattr(kind, "MESSAGE_VERSION", 0)
    return f"fmu/{way}/{name}_v{version}" if version else f"fmu/{way}/{name}"


class Px4Vehicle(ListeningNode):
    poll = 0.002

    def __init__(self, domain, namespace, true_hover=0.42, clock_offset=-1234.5):
        super().__init__("px4_stand_in", domain, namespace)
        self.body, self.true_hover, self.offset = FlyingBody(), true_hover, clock_offset
        self.mode, self.armed, self.failsafe = LOITER, False, False
        self.preflight, self.mute, self.no_position, self.deaf = True, False, False, False
        self.frame, self.system = 1, 1
        self.modes_seen, self.commands, self.setpoints, self.thrusts = [self.mode], [], [], []
        self.stream_start = self.heard = -math.inf
        self.rates, self.throttle = np.zeros(3), 0.0
        self.out, self.due, self.stepped = {}, {}, time.monotonic()
        for kind, name, period in (
            (px4.VehicleOdometry, "vehicle_odometry", 0.01),
            (px4.VehicleLocalPosition, "vehicle_local_position", 0.02),
            (px4.VehicleStatus, "vehicle_status", 0.2),
            (px4.VehicleLandDetected, "vehicle_land_detected", 0.2),
            (px4.FailsafeFlags, "failsafe_flags", 0.2),
            (px4.BatteryStatus, "battery_status", 1.0),
            (px4.VehicleCommandAck, "vehicle_command_ack", math.inf),
        ):
            publisher = self.node.create_publisher(kind, name_of("out", name, kind), OUT)
            self.out[name], self.due[name] = (publisher, getattr(self, f"_{name}", None), period), 0.0
        for kind, name in (
            (px4.OffboardControlMode, "offboard_control_mode"),
            (px4.VehicleRatesSetpoint, "vehicle_rates_setpoint"),
            (px4.VehicleCommand, "vehicle_command"),
        ):
            self.node.create_subscription(kind, name_of("in", name, kind), getattr(self, f"_on_{name}"), IN)
        self.node.create_timer(STEP, self.work)
        self.start()

    def clock(self):
        """us since its boot."""
        return int(1e6 * (time.monotonic() - self.offset))

    def set_mode(self, mode):
        self.mode = mode
        self.modes_seen.append(mode)

    # What it hears

    def _on_offboard_control_mode(self, message):
        assert message.body_rate and not (message.position or message.velocity or message.attitude)
        assert message.timestamp == 0
        now = time.monotonic()
        if now - self.heard > 0.5:
            self.stream_start = now
        self.heard = now

    def _on_vehicle_rates_setpoint(self, message):
        self.setpoints.append(time.monotonic())
        self.thrusts.append(message.thrust_body.tolist())
        self.rates = np.array([message.roll, message.pitch, message.yaw])
        self.throttle = -float(message.thrust_body[2])

    def _on_vehicle_command(self, message):
        assert message.target_system == 1 and message.from_external
        if self.deaf:
            return
        parameters = (message.param1, message.param2, message.param3)
        self.commands.append((message.command, *parameters))
        result = UNSUPPORTED
        if message.command == 176:
            result = self._change_mode(parameters)
        elif message.command == 400:
            result = self._arm(parameters)
        self.acknowledge(message.command, result, message.source_system, message.source_component)

    def acknowledge(self, command, result, system, component):
        self.out["vehicle_command_ack"][0].publish(
            px4.VehicleCommandAck(
                timestamp=self.clock(), command=command, result=result, target_system=system, target_component=component
            )
        )

    def _change_mode(self, parameters):
        assert parameters[0] == 1.0
        mode, now = MODES[int(parameters[1]), int(parameters[2])], time.monotonic()
        if mode == OFFBOARD and not (now - self.stream_start > 1.0 and now - self.heard < 0.5):
            return TEMPORARILY_REJECTED
        self.set_mode(mode)
        return ACCEPTED

    def _arm(self, parameters):
        if parameters[0] == 1.0:
            if not self.preflight:
                return TEMPORARILY_REJECTED
            self.armed = True
            return ACCEPTED
        if not self.body.on_ground and parameters[1] != 21196.0:
            return DENIED
        self.armed = False
        return ACCEPTED

    # What it does

    def work(self):
        now = time.monotonic()
        while self.stepped + STEP <= now:
            self.stepped += STEP
            self._fly(now)
        for name, (publisher, measure, period) in self.out.items():
            if measure is not None and not self.mute and now >= self.due[name]:
                self.due[name] = now + period - 0.5 * STEP
                publisher.publish(measure())

    def _fly(self, now):
        rates, thrust = np.zeros(3), 0.0
        if self.armed and self.mode == OFFBOARD:
            if now - self.heard > LOSS:
                self.failsafe = True
                self.set_mode(LAND)
            else:
                rates, thrust = self.rates, GRAVITY / self.true_hover * self.throttle
        if self.armed and self.mode == LAND:
            rates, thrust = self._hold(-0.7)
            if self.body.on_ground:
                self.armed = self.failsafe = False
        if self.armed and self.mode == LOITER:
            rates, thrust = self._hold(0.0)
        self.body.step(rates, thrust if self.armed else 0.0, STEP)

    def _hold(self, climb):
        thrust = GRAVITY + 4.0 * (climb + self.body.velocity[2])
        return self.body.leveling_rates(), 0.0 if self.body.on_ground and climb <= 0.0 else max(0.0, thrust)

    # What it says

    def _vehicle_odometry(self):
        now, body = self.clock(), self.body
        return px4.VehicleOdometry(
            timestamp=now + 800, timestamp_sample=now, pose_frame=self.frame, velocity_frame=1,
            position=[float(v) for v in body.position], q=[float(v) for v in body.orientation],
            velocity=[float(v) for v in body.velocity], angular_velocity=[float(v) for v in body.rates],
        )  # fmt: skip

    def _vehicle_local_position(self):
        known = not self.no_position
        return px4.VehicleLocalPosition(xy_valid=known, z_valid=True, v_xy_valid=known, v_z_valid=True)

    def _vehicle_status(self):
        return px4.VehicleStatus(
            timestamp=self.clock(), arming_state=2 if self.armed else 1, nav_state=self.mode, failsafe=self.failsafe,
            pre_flight_checks_pass=self.preflight, system_id=self.system,
        )  # fmt: skip

    def _vehicle_land_detected(self):
        return px4.VehicleLandDetected(landed=bool(self.body.on_ground))

    def _failsafe_flags(self):
        return px4.FailsafeFlags(attitude_invalid=not self.preflight)

    def _battery_status(self):
        return px4.BatteryStatus(connected=True, voltage_v=15.2, remaining=0.83)
