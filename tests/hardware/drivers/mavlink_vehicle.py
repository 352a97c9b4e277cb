"""A vehicle on the wire: real MAVLink 2 packets over UDP, PX4's or ArduPilot's rules, a body that flies.

Its own thread, its own clock (not ours), its own packing and parsing by pymavlink. Faults are attributes.
"""

import heapq
import itertools
import math
import time

import numpy as np
from flying_body import GRAVITY, FlyingBody
from udp_vehicle import UdpVehicle

ACCEPTED, TEMPORARILY_REJECTED, DENIED, UNSUPPORTED, FAILED = 0, 1, 2, 3, 4
PX4_LOITER, PX4_LAND, PX4_OFFBOARD = 4 << 16 | 3 << 24, 4 << 16 | 6 << 24, 6 << 16
GUIDED, GUIDED_NOGPS, STABILIZE, LAND = 4, 20, 0, 9
STEP = 0.004


class MavlinkVehicle(UdpVehicle):
    """Sends to `port` on this machine, as PX4's simulator does."""

    def __init__(self, port, firmware="px4", true_hover=0.42, delay=0.002, jitter=0.003, clock_offset=-1234.5):
        from pymavlink.dialects.v20 import ardupilotmega as dialect

        super().__init__()
        self._dialect = dialect
        self.firmware = firmware
        self.body = FlyingBody()
        self.true_hover = true_hover
        self.parameters = (
            {"MPC_THR_HOVER": 0.4, "COM_OF_LOSS_T": 1.0}
            if firmware == "px4"
            else {"MOT_THST_HOVER": 0.4, "GUID_OPTIONS": 8.0, "GUID_TIMEOUT": 1.0}
        )
        self.mode = PX4_LOITER if firmware == "px4" else STABILIZE
        self.armed = False
        self.preflight_problem = ""
        self.mute = False  # sends nothing
        self.deaf_to_timesync = False
        self.no_position = False
        self.corrupt = False  # a flipped bit in every packet
        self.nan = False
        self.modes_seen = [self.mode]
        self.setpoints = []  # (time, message)
        self.heartbeats = 0  # of the companion
        self._offset = clock_offset
        self._delay, self._jitter = delay, jitter
        self._rng = np.random.default_rng(5)
        self._mav = dialect.MAVLink(None, 1, 1)
        self._parser = dialect.MAVLink(None, 1, 1)
        self._parser.robust_parsing = True
        self._peer = ("127.0.0.1", port)
        self._intervals, self._due = {}, {}
        self._outbox, self._counter = [], itertools.count()
        self._stream_start = self._last_setpoint = -math.inf
        self._rates, self._throttle = np.zeros(3), 0.0

    @property
    def offboard(self):
        return self.mode == PX4_OFFBOARD if self.firmware == "px4" else self.mode in (GUIDED, GUIDED_NOGPS)

    def clock(self, now=None):
        """s since its boot."""
        return (time.monotonic() if now is None else now) - self._offset

    # The loop

    def _run(self):
        try:
            due, heartbeat = time.monotonic(), 0.0
            while not self._end.is_set():
                now = time.monotonic()
                self._receive(now)
                while due <= now:
                    due += STEP
                    self._fly(due)
                if now - heartbeat >= 0.25:  # faster than the usual 1 s, so that tests are short
                    heartbeat = now
                    self._send_heartbeat()
                self._stream(now)
                self._flush(now)
                time.sleep(0.001)
        except Exception as error:
            self.errors.append(repr(error))
            raise

    def _receive(self, now):
        while True:
            try:
                data, _ = self._socket.recvfrom(4096)
            except (BlockingIOError, ConnectionRefusedError):
                return
            for message in self._parser.parse_buffer(data) or ():
                kind = message.get_type()
                assert kind != "BAD_DATA", "the driver sent a broken packet"
                handler = getattr(self, f"_on_{kind.lower()}", None)
                if handler is not None:
                    handler(message, now)

    def _send(self, message, at_once=False):
        if self.mute:
            return
        data = bytearray(message.pack(self._mav))
        self._mav.seq = (self._mav.seq + 1) % 256
        if self.corrupt:
            data[len(data) // 2] ^= 0x10
        delay = 0.0 if at_once else self._delay + self._rng.exponential(self._jitter)
        heapq.heappush(self._outbox, (time.monotonic() + delay, next(self._counter), bytes(data)))

    def _flush(self, now):
        while self._outbox and self._outbox[0][0] <= now:
            self._socket.sendto(heapq.heappop(self._outbox)[2], self._peer)

    # What it hears

    def _on_heartbeat(self, message, now):
        assert message.type != 6 or message.autopilot == 8
        self.heartbeats += 1

    def _on_timesync(self, message, now):
        if message.tc1 == 0 and not self.deaf_to_timesync:
            self._send(self._dialect.MAVLink_timesync_message(int(1e9 * self.clock(now)), message.ts1))

    def _on_param_request_read(self, message, now):
        name = message.param_id
        if name in self.parameters:
            self._send(self._dialect.MAVLink_param_value_message(name.encode(), self.parameters[name], 9, 1, 0))

    def _on_set_attitude_target(self, message, now):
        self._take_setpoint(message, now)
        assert message.type_mask == 128
        if self.firmware == "px4" or self.offboard:
            self._rates = np.array([message.body_roll_rate, message.body_pitch_rate, message.body_yaw_rate])
            self._throttle = message.thrust

    def _on_set_actuator_control_target(self, message, now):
        self._take_setpoint(message, now)

    def _take_setpoint(self, message, now):
        assert (message.target_system, message.target_component) == (1, 1)
        if now - self._last_setpoint > 0.5:
            self._stream_start = now
        self._last_setpoint = now
        self.setpoints.append((now, message))

    def _on_command_long(self, message, now):
        result = ACCEPTED
        if message.command == 511:
            self._intervals[int(message.param1)] = 1e-6 * message.param2
        elif message.command == 176:
            result = self._change_mode(message, now)
        elif message.command == 400:
            result = self._arm(message, now)
        else:
            result = UNSUPPORTED
        self._send(self._dialect.MAVLink_command_ack_message(message.command, result))

    def _change_mode(self, message, now):
        assert message.param1 == 1.0
        if self.firmware == "px4":
            mode = int(message.param2) << 16 | int(message.param3) << 24
            streamed = now - self._stream_start > 1.0 and now - self._last_setpoint < 0.5
            if mode == PX4_OFFBOARD and not streamed:
                self._say(4, "Offboard rejected: no set-points")
                return TEMPORARILY_REJECTED
        else:
            mode = int(message.param2)
        self.set_mode(mode)
        return ACCEPTED

    def _arm(self, message, now):
        if message.param1 == 1.0:
            if self.preflight_problem:
                self._say(3, f"Arm: {self.preflight_problem}")
                return DENIED if self.firmware == "px4" else FAILED
            self.armed = True
        else:
            if not self.body.on_ground and message.param2 != 21196.0:
                self._say(3, "Disarm refused: not landed")
                return DENIED
            self.armed = False
        return ACCEPTED

    def set_mode(self, mode):
        self.mode = mode
        self.modes_seen.append(mode)

    # What it does

    def _fly(self, now):
        silence = now - self._last_setpoint
        rates, thrust = np.zeros(3), 0.0
        full = GRAVITY / self.true_hover
        if self.armed and self.offboard:
            if self.firmware == "px4" and silence > self.parameters["COM_OF_LOSS_T"]:
                self._say(2, "Failsafe: offboard signal lost, landing")
                self.set_mode(PX4_LAND)
            elif silence > self.parameters.get("GUID_TIMEOUT", math.inf):
                rates, thrust = self._hold(0.0)
            elif int(self.parameters.get("GUID_OPTIONS", 8)) & 8:
                rates, thrust = self._rates, full * self._throttle
            else:
                rates, thrust = self._hold(2.5 * (self._throttle - 0.5))
        if self.armed and self.mode in ((PX4_LAND,) if self.firmware == "px4" else (LAND,)):
            rates, thrust = self._hold(-0.7)
            if self.body.on_ground:
                self.armed = False
        if self.armed and self.mode == PX4_LOITER and self.firmware == "px4":
            rates, thrust = self._hold(0.0)
        self.body.step(rates, thrust if self.armed else 0.0, STEP)

    def _hold(self, climb):
        thrust = GRAVITY + 4.0 * (climb + self.body.velocity[2])
        return self.body.leveling_rates(), 0.0 if self.body.on_ground and climb <= 0.0 else max(0.0, thrust)

    # What it says

    def _say(self, severity, text):
        self._send(self._dialect.MAVLink_statustext_message(severity, text.encode()))

    def _send_heartbeat(self):
        autopilot = 12 if self.firmware == "px4" else 3
        flags = 1 | (128 if self.armed else 0)
        self._send(self._dialect.MAVLink_heartbeat_message(2, autopilot, flags, self.mode, 4, 3))

    def _stream(self, now):
        for number, interval in list(self._intervals.items()):
            if now >= self._due.get(number, 0.0):
                self._due[number] = max(now - interval, self._due.get(number, now)) + interval
                self._send(self._measure(number, now))

    def _measure(self, number, now):
        d, body = self._dialect, self.body
        boot_ms = int(1e3 * self.clock(now))
        p, v, q, w = body.position, body.velocity, body.orientation, body.rates
        if self.nan:
            q = q * math.nan
        if number == 32 and not self.no_position:
            return d.MAVLink_local_position_ned_message(boot_ms, *p, *v)
        if number == 31:
            return d.MAVLink_attitude_quaternion_message(boot_ms, *q, *w)
        if number == 331:
            r = rotation_matrix(q)
            covariance = [math.nan] * 21
            return d.MAVLink_odometry_message(
                int(1e6 * self.clock(now)), 1, 12, *p, list(q), *(r.T @ v), *w, covariance, covariance
            )
        if number == 1:
            return d.MAVLink_sys_status_message(0, 0, 0, 0, 15200, -1, 83, 0, 0, 0, 0, 0, 0)
        if number == 245:
            return d.MAVLink_extended_sys_state_message(0, 1 if body.on_ground else 2)
        return d.MAVLink_system_time_message(0, boot_ms)


def rotation_matrix(q):
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
