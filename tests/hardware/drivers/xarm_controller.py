"""A stand-in of an xArm control box: commands on 502 (or another port), reports on 30003.

Written after the protocol in UFACTORY's developer manual: a request is transaction, protocol, length, function and
data; an answer has a state byte before its data, with a flag for an error, a warning, and for not being ready.
"""

import json
import struct
import sys

from stand_in import StandIn

VERSION, SERIAL, MOTION_ENABLE, SET_STATE, GET_STATE, COMMANDS_LEFT, GET_ERROR = 1, 2, 11, 12, 13, 14, 15
CLEAN_ERROR, CLEAN_WARNING, SET_MODE, SERVO_J, JOINT_STATES, RS485, READ_REGISTER = 16, 17, 19, 29, 42, 124, 128
BAUD_2M = 11
GRIPPER_TARGET, GRIPPER_POSITION, GRIPPER_ERROR = 0x0700, 0x0702, 0x000F


class ControlBox(StandIn):
    def __init__(self, host, q, command_port):
        super().__init__(host)
        self.q = list(q) + [0.0] * (7 - len(q))
        self.axes = len(q)
        self.qd = [0.0] * 7
        self.torques = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
        self.mode, self.state, self.error, self.warning = 0, 4, 0, 0
        self.enabled, self.silent, self.stays = False, False, False
        self.target = None
        self.functions, self.stops = {}, 0
        self.gripper = {str(GRIPPER_TARGET): 0, str(GRIPPER_POSITION): 425, str(GRIPPER_ERROR): 0}
        self.partial = {}
        self.reports = []
        self.next_report = 0.0
        self.listen(command_port, self.open, self.receive)
        self.listen(30003, lambda client: self.reports.append(client), self.gone)

    def open(self, client):
        self.partial[client] = b""

    def gone(self, client, data):
        if not data:
            self.reports.remove(client)

    def receive(self, client, data):
        if not data:
            del self.partial[client]
            return
        data = self.partial[client] + data
        while len(data) >= 6:
            transaction, protocol, length = struct.unpack(">HHH", data[:6])
            if len(data) < 6 + length:
                break
            function, payload, data = data[6], data[7 : 6 + length], data[6 + length :]
            if protocol == 1:
                continue  # heartbeat
            self.functions[function] = self.functions.get(function, 0) + 1
            answer = self.answer(function, payload)
            ready = self.enabled and self.state not in (4, 5) and not self.error
            state = (0x40 if self.error else 0) | (0x20 if self.warning else 0) | (0 if ready else 0x10)
            if not self.silent:
                head = struct.pack(">HHHBB", transaction, protocol, 2 + len(answer), function, state)
                self.send(client, head + answer)
        if client in self.partial:
            self.partial[client] = data

    def answer(self, function, payload):
        if function == VERSION:
            return f"{self.axes},{self.axes},XI1305,AC1305,v2.5.0".encode().ljust(40, b"\0")
        if function == SERIAL:
            return b"XI130500000001".ljust(40, b"\0")
        if function == MOTION_ENABLE:
            self.enabled = bool(payload[1]) and not self.error
        elif function == SET_STATE and not self.error:
            self.stops += payload[0] == 4
            self.state = 2 if payload[0] == 0 else payload[0]
            self.target = None
        elif function == GET_STATE:
            return bytes([self.state])
        elif function == COMMANDS_LEFT:
            return b"\0\0"
        elif function == GET_ERROR:
            return bytes([self.error, self.warning])
        elif function == CLEAN_ERROR and not self.stays:
            self.error = 0
        elif function == CLEAN_WARNING:
            self.warning = 0
        elif function == SET_MODE:
            self.mode, self.target = payload[0], None
        elif function == SERVO_J:
            if self.mode == 1 and self.state != 4 and self.enabled and not self.error:
                self.target = list(struct.unpack("<7f", payload[:28]))
        elif function == JOINT_STATES:
            count = payload[0] & 0x0F if payload else 1
            return struct.pack(f"<{7 * count}f", *(self.q + self.qd + self.torques)[: 7 * count])
        elif function == READ_REGISTER:
            return struct.pack(">i", BAUD_2M)
        elif function == RS485:
            return self.modbus(payload)
        return b""

    def modbus(self, payload):
        """Modbus RTU without its checksum, behind the number of the bus."""
        _, unit, function, address, count = struct.unpack(">BBBHH", payload[:7])
        if function == 0x10:
            self.gripper[str(address)] = int.from_bytes(payload[8 : 8 + 2 * count], "big")
            if address == GRIPPER_TARGET:  # quick fingers
                self.gripper[str(GRIPPER_POSITION)] = self.gripper[str(address)]
            return payload[:7]
        value = self.gripper.get(str(address), 0)
        return bytes([payload[0], unit, function, 2 * count]) + value.to_bytes(2 * count, "big")

    def tick(self):
        if self.error:
            self.state, self.target = 4, None
        for joint in range(7):
            goal = self.q[joint] if self.target is None else self.target[joint]
            self.qd[joint] = max(-3.0, min(3.0, 30.0 * (goal - self.q[joint])))
            self.q[joint] += self.period * self.qd[joint]
        if self.time >= self.next_report and not self.silent:
            self.next_report = self.time + 0.01
            report = struct.pack(">IBH", 135, self.state | self.mode << 4, 0)
            report += struct.pack("<32f", *self.q, *[0.0] * 6, *self.torques, *[0.0] * 12)
            for client in list(self.reports):
                self.send(client, report)


if __name__ == "__main__":
    ControlBox(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])).run()
