"""A Crazyflie on the wire: CRTP packets, one per UDP datagram as cflib's `udp://` link carries them.

Written from the firmware's protocol (docs/functional-areas/crtp, crtp_commander_generic.c, log.c, param_logic.c,
crtp_supervisor.c), with its own packing. It has tables of contents, log blocks, parameters, both commanders, the
supervisor, the high-level commander's landing, the two-stage watchdog, and a body that flies.
"""

import math
import struct
import time

import numpy as np
from flying_body import GRAVITY, FlyingBody
from udp_vehicle import UdpVehicle

from hardware.drivers import frames

PARAM, COMMANDER, MEM, LOG, LOCALIZATION, GENERIC, HIGH_LEVEL, SUPERVISOR, PLATFORM, LINK = (
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    13,
    15,
)
LOG_TYPES = {
    "uint8_t": (1, "<B"),
    "uint16_t": (2, "<H"),
    "uint32_t": (3, "<I"),
    "int16_t": (5, "<h"),
    "float": (7, "<f"),
}
LOG_TABLE = [
    *(("stateEstimateZ", name, "int16_t") for name in ("x", "y", "z", "vx", "vy", "vz")),
    ("stateEstimateZ", "quat", "uint32_t"),
    *(("stateEstimateZ", name, "int16_t") for name in ("rateRoll", "ratePitch", "rateYaw")),
    ("pm", "vbat", "float"),
    ("pm", "batteryLevel", "uint8_t"),
    ("supervisor", "info", "uint16_t"),
]
PARAM_TABLE = [("flightmode", "stabModeRoll"), ("flightmode", "stabModePitch"), ("flightmode", "stabModeYaw")]
STEP = 0.004


class CrazyflieVehicle(UdpVehicle):
    """At `uri` on this machine."""

    def __init__(self, protocol=12, true_hover=0.68):
        self.protocol = protocol
        super().__init__()
        self.true_hover = true_hover
        self.body = FlyingBody()
        self.params = [1, 1, 0]
        self.armed = self.locked = self.tumbled = self.landing = False
        self.can_be_armed = True
        self.mute = False
        self.received = []  # (port, channel, payload)
        self.warnings = []
        self._blocks, self._running, self._due = {}, {}, {}
        self._rates, self._throttle = np.zeros(3), 0.0
        self._unlocked = False
        self._last_setpoint = -math.inf
        self._watchdog_fed = math.inf  # never fed: off
        self._start = time.monotonic() - 16777.1  # its 24-bit clock of ms wraps soon
        self._peer = None
        self.uri = f"udp://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def info(self):
        flying = self.armed and not self.body.on_ground
        bits = (self.can_be_armed, self.armed, False, self.armed, flying, self.tumbled, self.locked, False)
        return sum(1 << index for index, bit in enumerate(bits) if bit)

    def payloads(self, port, channel=None):
        return [data for p, c, data in list(self.received) if p == port and channel in (None, c)]

    # The loop

    def _run(self):
        try:
            due = time.monotonic()
            while not self._end.is_set():
                now = time.monotonic()
                self._receive(now)
                while due <= now:
                    due += STEP
                    self._fly(due)
                self._log(now)
                time.sleep(0.001)
        except Exception as error:
            self.errors.append(repr(error))
            raise

    def _receive(self, now):
        while True:
            try:
                packet, self._peer = self._socket.recvfrom(64)
            except (BlockingIOError, ConnectionRefusedError):
                return
            assert 1 <= len(packet) <= 31
            port, channel, data = packet[0] >> 4, packet[0] & 3, packet[1:]
            self.received.append((port, channel, data))
            handler = {
                LINK: self._on_link,
                PLATFORM: self._on_platform,
                LOG: self._on_log,
                MEM: lambda channel, data, now: self._send(MEM, channel, bytes([data[0], 0])),
                PARAM: self._on_param,
                COMMANDER: self._on_rpyt,
                GENERIC: self._on_generic,
                HIGH_LEVEL: self._on_high_level,
                SUPERVISOR: self._on_supervisor,
            }.get(port)
            if handler:
                handler(channel, data, now)

    def _send(self, port, channel, data):
        if self._peer is not None and not self.mute:
            assert len(data) <= 30
            self._socket.sendto(bytes([port << 4 | 3 << 2 | channel]) + data, self._peer)

    # Connecting

    def _on_link(self, channel, data, now):
        self._send(LINK, channel, b"Bitcraze Crazyflie\0" if channel == 1 else data)

    def _on_platform(self, channel, data, now):
        if channel == 1 and data[0] == 0:
            self._send(PLATFORM, 1, struct.pack("<Bi", 0, self.protocol))

    def _table(self, port, data, entries):
        if data[0] == 3:
            self._send(port, 0, struct.pack("<BHIBB", 3, len(entries), 0x12345678 + port, 16, 128))
        elif data[0] == 2:
            (index,) = struct.unpack("<H", data[1:3])
            self._send(port, 0, struct.pack("<BH", 2, index) + entries[index])

    def _on_log(self, channel, data, now):
        if channel == 0:
            table = [bytes([LOG_TYPES[kind][0]]) + f"{g}\0{n}\0".encode() for g, n, kind in LOG_TABLE]
            self._table(LOG, data, table)
            return
        command, block = data[0], data[1] if len(data) > 1 else 0
        if command == 5:
            self._blocks.clear()
            self._running.clear()
        elif command in (6, 7):
            # As the firmware: whole items only. cflib fills a packet up with the first byte of one that did not fit.
            items = [struct.unpack("<BH", data[i : i + 3]) for i in range(2, len(data) - 2, 3)]
            self._blocks.setdefault(block, []).extend((kind & 0x0F, index) for kind, index in items)
        elif command == 3:
            self._running[block] = 0.01 * data[2]
        elif command in (2, 4):
            self._running.pop(block, None)
        self._send(LOG, 1, bytes([command, block, 0]))

    def _on_param(self, channel, data, now):
        if channel == 0:
            self._table(PARAM, data, [b"\x08" + f"{g}\0{n}\0".encode() for g, n in PARAM_TABLE])
        elif channel == 1:
            (index,) = struct.unpack("<H", data[:2])
            self._send(PARAM, 1, data[:2] + bytes([0, self.params[index]]))
        elif channel == 2:
            (index,) = struct.unpack("<H", data[:2])
            self.params[index] = data[2]
            self._send(PARAM, 2, data)

    # Flying

    def _on_rpyt(self, channel, data, now):
        roll, pitch, yaw, thrust = struct.unpack("<fffH", data)
        self._unlocked = self._unlocked or thrust == 0
        if thrust and not self._unlocked:
            thrust = 0
        rate_mode = self.params == [0, 0, 0]
        # Its legacy pitch is nose up, its legacy yaw input clockwise.
        self._setpoint((roll, -pitch, -yaw) if rate_mode else (0, 0, 0), thrust, now)

    def _on_generic(self, channel, data, now):
        if channel == 1:
            return
        if data[0] == 0:
            self._setpoint((0, 0, 0), 0, now)
        elif data[0] == 11:
            if self.protocol < 9:
                return
            roll, pitch, yaw, thrust, rate = struct.unpack("<fffHB", data[1:])
            assert rate == 1
            self._setpoint((roll, -pitch, yaw), thrust, now)

    def _setpoint(self, degrees, thrust, now):
        self._last_setpoint = now
        self._rates, self._throttle = np.radians(degrees), min(thrust, 60000) / 65535

    def _on_high_level(self, channel, data, now):
        self.landing = data[0] in (3, 8)

    def _on_supervisor(self, channel, data, now):
        if channel == 0 and data[0] == 0x0C:
            self._send(SUPERVISOR, 0, struct.pack("<BH", 0x8C, self.info))
        elif channel == 1 and data[0] == 1:
            wanted = bool(data[1])
            good = not wanted or (self.can_be_armed and not self.locked)
            self.armed = wanted and good
            self._send(SUPERVISOR, 1, bytes([0x81, good, self.armed]))
        elif channel == 1 and data[0] == 3:
            self.locked, self.armed = True, False
        elif channel == 1 and data[0] == 4:
            self._watchdog_fed = now

    def _fly(self, now):
        age = now - self._last_setpoint
        rates, thrust = frames.swap_body(self._rates), GRAVITY * self._throttle / self.true_hover
        if self.landing and not self.body.on_ground:
            rates, thrust = self.body.leveling_rates(), GRAVITY + 4.0 * (self.body.velocity[2] - 0.4)
        elif age > 2.0 and self.armed and not self.body.on_ground:
            self.armed = False
            self.warnings.append("watchdog: motors off")
        elif age > 0.5:
            rates = self.body.leveling_rates()
        if now - self._watchdog_fed > 1.0:
            self.locked, self.armed = True, False
        self.body.step(rates, thrust if self.armed else 0.0, STEP)

    # Log data

    def _log(self, now):
        for block, period in list(self._running.items()):
            if now >= self._due.get(block, 0.0):
                self._due[block] = max(now - period, self._due.get(block, now)) + period
                values = self._values()
                data = b""
                for kind, index in self._blocks[block]:
                    form = next(f for number, f in LOG_TYPES.values() if number == kind)
                    value = values[LOG_TABLE[index][:2]]
                    data += struct.pack(form, value if form == "<f" else int(value))
                ticks = int(1e3 * (now - self._start)) & 0xFFFFFF
                self._send(LOG, 2, bytes([block]) + struct.pack("<I", ticks)[:3] + data)

    def _values(self):
        body = self.body
        position, velocity = frames.swap_world(body.position), frames.swap_world(body.velocity)
        rates = frames.swap_body(body.rates)
        w, x, y, z = frames.swap_orientation(body.orientation)
        group = "stateEstimateZ"
        values = {(group, n): 1e3 * v for n, v in zip(("x", "y", "z"), position, strict=True)}
        values |= {(group, n): 1e3 * v for n, v in zip(("vx", "vy", "vz"), velocity, strict=True)}
        values |= {
            (group, "quat"): compress((x, y, z, w)),
            (group, "rateRoll"): 1e3 * rates[0],
            (group, "ratePitch"): -1e3 * rates[1],
            (group, "rateYaw"): 1e3 * rates[2],
            ("pm", "vbat"): 3.92,
            ("pm", "batteryLevel"): 77,
            ("supervisor", "info"): self.info,
        }
        return values


def compress(xyzw):
    """The firmware's 32 bits: index of the largest, then sign and 9 bits of the three others, in order."""
    largest = max(range(4), key=lambda i: abs(xyzw[i]))
    flip = xyzw[largest] < 0
    packed = largest
    for index in range(4):
        if index != largest:
            negative = (xyzw[index] < 0) != flip
            packed = packed << 10 | negative << 9 | int(511 * min(1.0, abs(xyzw[index]) * math.sqrt(2)) + 0.5)
    return packed
