"""A stand-in for servos on a serial bus: speaks their makers' protocols byte for byte through a pseudo-terminal.

Written from the makers' tables with its own packet code, so that a mistake in ours is not made twice; the makers' own
packages are tested against it too. Motors that are on go to their goals at once.
"""

import os
import pty
import select
import threading
import time
import tty


def crc16(data):
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1) ^ 0x8005 if value & 0x8000 else value << 1
        value &= 0xFFFF
    return value


class Bus:
    """Servos by number, each a table of bytes."""

    def __init__(self, servos, position, length, torque, goal):
        self.tables = {servo: bytearray(256) for servo in servos}
        self.position, self.length, self.torque, self.goal = position, length, torque, goal
        self.silent = set()
        self.noise = b""
        self.written = []
        self.reads = 0
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        self.path = os.ttyname(self.slave)
        self.pending = b""
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def place(self, **ticks):
        """`s3=2048`: servo 3 stands there."""
        with self.lock:
            for name, value in ticks.items():
                self._put(int(name[1:]), self.position, self.encode(value))

    def ticks(self, servo):
        with self.lock:
            return self.decode(bytes(self.tables[servo][self.position : self.position + self.length]))

    def on(self):
        with self.lock:
            return {servo for servo, table in self.tables.items() if table[self.torque]}

    def pull(self):
        """The cable is pulled out."""
        self.stop.set()
        self.thread.join(2.0)
        if self.master is not None:
            os.close(self.master)
            os.close(self.slave)
            self.master = None

    close = pull

    def _put(self, servo, address, data):
        table = self.tables[servo]
        table[address : address + len(data)] = data
        if table[self.torque] and address in (self.goal, self.torque):
            table[self.position : self.position + self.length] = table[self.goal : self.goal + self.length]

    def _run(self):
        while not self.stop.is_set():
            if not select.select([self.master], [], [], 0.05)[0]:
                continue
            self.pending += os.read(self.master, 4096)
            while (found := self.next_packet()) is not None:
                time.sleep(0.0003)
                with self.lock:
                    self._obey(*found)

    def _obey(self, servo, instruction, content):
        if instruction == 0x82:
            address, size, servos = self.sync_head(content)
            self.reads += 1
            for number in servos:
                if number in self.tables and number not in self.silent:
                    data = bytes(self.tables[number][address : address + size])
                    os.write(self.master, self.noise + self.status(number, data))
        elif instruction == 0x83:
            address, size, rest = self.sync_head(content)
            for place in range(0, len(rest), size + 1):
                number, data = rest[place], rest[place + 1 : place + 1 + size]
                self.written.append((number, address, data))
                if number in self.tables:
                    self._put(number, address, data)


class DynamixelBus(Bus):
    def __init__(self, servos):
        super().__init__(servos, position=132, length=4, torque=64, goal=116)

    def encode(self, ticks):
        return ticks.to_bytes(4, "little", signed=True)

    def decode(self, data):
        return int.from_bytes(data, "little", signed=True)

    def next_packet(self):
        start = self.pending.find(b"\xff\xff\xfd\x00")
        if start < 0 or len(self.pending) < start + 7:
            return None
        size = int.from_bytes(self.pending[start + 5 : start + 7], "little")
        whole = self.pending[start : start + 7 + size]
        if len(whole) < 7 + size:
            return None
        self.pending = self.pending[start + 7 + size :]
        assert crc16(whole[:-2]) == int.from_bytes(whole[-2:], "little"), whole.hex()
        content = whole[7:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
        return whole[4], content[0], content[1:]

    def sync_head(self, content):
        return int.from_bytes(content[:2], "little"), int.from_bytes(content[2:4], "little"), content[4:]

    def status(self, servo, data):
        content = (b"\x55\x00" + data).replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")
        head = b"\xff\xff\xfd\x00" + bytes((servo,)) + (len(content) + 2).to_bytes(2, "little") + content
        return head + crc16(head).to_bytes(2, "little")


class FeetechBus(Bus):
    def __init__(self, servos):
        super().__init__(servos, position=56, length=2, torque=40, goal=42)

    def encode(self, ticks):
        return (abs(ticks) | (0x8000 if ticks < 0 else 0)).to_bytes(2, "little")

    def decode(self, data):
        raw = int.from_bytes(data, "little")
        return -(raw & 0x7FFF) if raw & 0x8000 else raw

    def next_packet(self):
        start = self.pending.find(b"\xff\xff")
        if start < 0 or len(self.pending) < start + 4:
            return None
        size = self.pending[start + 3]
        whole = self.pending[start : start + 4 + size]
        if len(whole) < 4 + size:
            return None
        self.pending = self.pending[start + 4 + size :]
        assert (sum(whole[2:]) & 0xFF) == 0xFF, whole.hex()
        return whole[2], whole[4], whole[5:-1]

    def sync_head(self, content):
        return content[0], content[1], content[2:]

    def status(self, servo, data):
        body = bytes((servo, len(data) + 2, 0)) + data
        return b"\xff\xff" + body + bytes((~sum(body) & 0xFF,))


BUSES = {"dynamixel": DynamixelBus, "feetech": FeetechBus}
