"""A stand-in of a Panda's control box: Franka Control Interface version 5 on 1337, the hand's version 3 on 1338.

Written after the message definitions that libfranka publishes (libfranka-common, research_interface). The robot's model
library, which libfranka downloads, is a file given on the command line.
"""

import json
import struct
import sys
from pathlib import Path

from stand_in import StandIn

STATE_NUMBERS = (16 * 6 + 1 + 12 + 1 + 12 + 4) + (7 * 8 + 7 + 6 + 7 + 6 + 7 + 6 + 6 + 6 + 3) + (6 + 16 + 12 + 14)
STATE = struct.Struct(f"<Q{STATE_NUMBERS}dBB41?41?Bd")
COMMAND = struct.Struct("<Q38d??7d")
HEADER, HAND_HEADER = struct.Struct("<III"), struct.Struct("<HII")
CONNECT, MOVE, STOP_MOVE, RECOVERY, LOAD_MODEL = 0, 1, 2, 12, 13
SUCCESS, STARTED, PREEMPTED, NOT_POSSIBLE, REFLEX_ABORTED, EMERGENCY_ABORTED = 0, 1, 2, 3, 6, 7
IDLE_MODE, MOVE_MODE, REFLEX_MODE, USER_STOP_MODE = 1, 2, 4, 5
JOINT_REFLEX, COMMUNICATION_VIOLATION = 6, 25
IDENTITY = (1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0)
HAND_CONNECT, HAND_GRASP, HAND_MOVE = 0, 2, 3


class ControlBox(StandIn):
    period = 0.001

    def __init__(self, host, q, model):
        super().__init__(host)
        self.model = Path(model).read_bytes()
        self.q, self.dq, self.tau = list(q), [0.0] * 7, [0.0] * 7
        self.gravity = [0.0, -20.0, 0.0, 10.0, 0.0, 1.0, 0.0]
        """What the torque sensors show at rest, N m."""
        self.force = [0.0] * 6
        self.errors = []
        self.robot_mode = IDLE_MODE
        self.silent = False
        self.version = 5
        self.commands = {}
        self.moves, self.commands_seen, self.last_tau, self.missed = 0, 0, [0.0] * 7, 0
        self.modes = (0, 3)
        self.move_id = None
        self.message = 0
        self.client, self.address, self.unparsed = None, None, b""
        self.width, self.hand_orders = 0.04, []
        self.hand, self.hand_address, self.hand_unparsed, self.hand_message = None, None, b"", 0
        self.udp = self.listen_udp(self.command)
        self.hand_udp = self.listen_udp(lambda data: None)
        self.listen(1337, self.open_robot, self.robot)
        self.listen(1338, self.open_hand, self.serve_hand)

    def open_robot(self, client):
        self.client, self.unparsed = client, b""

    def robot(self, client, data):
        if client is not self.client:
            return  # one that a new connection has replaced
        if not data:
            self.client, self.address = None, None
            self.end_move(None)
            return
        self.unparsed += data
        while len(self.unparsed) >= HEADER.size:
            command, number, size = HEADER.unpack_from(self.unparsed)
            if len(self.unparsed) < size:
                return
            payload, self.unparsed = self.unparsed[HEADER.size : size], self.unparsed[size:]
            self.commands[command] = self.commands.get(command, 0) + 1
            self.answer(command, number, payload)

    def reply(self, command, number, payload):
        if self.client is not None:
            self.send(self.client, HEADER.pack(command, number, HEADER.size + len(payload)) + payload)

    def answer(self, command, number, payload):
        if command == CONNECT:
            version, port = struct.unpack("<HH", payload)
            fits = version == self.version
            self.reply(command, number, struct.pack("<BH", 0 if fits else 1, self.version))
            self.address = (self.client.getpeername()[0], port) if fits else None
        elif command == MOVE:
            if self.robot_mode != IDLE_MODE:
                self.reply(command, number, bytes([NOT_POSSIBLE]))
                return
            controller, generator = struct.unpack_from("<II", payload)
            self.moves += 1
            self.modes, self.move_id, self.robot_mode, self.missed = (generator + 1, controller), number, MOVE_MODE, 0
            self.reply(command, number, bytes([STARTED]))
        elif command == STOP_MOVE:
            self.reply(command, number, bytes([SUCCESS]))
            self.end_move(PREEMPTED)
        elif command == RECOVERY:
            if self.robot_mode == USER_STOP_MODE:
                self.reply(command, number, bytes([NOT_POSSIBLE]))
                return
            self.errors, self.robot_mode = [], IDLE_MODE
            self.reply(command, number, bytes([SUCCESS]))
        elif command == LOAD_MODEL:
            self.reply(command, number, bytes([SUCCESS]) + self.model)
        else:
            self.reply(command, number, bytes([SUCCESS]))

    def end_move(self, status):
        if self.move_id is not None:
            number, self.move_id = self.move_id, None
            self.modes, self.tau = (0, 3), [0.0] * 7
            if self.robot_mode == MOVE_MODE:
                self.robot_mode = IDLE_MODE
            if status is not None:
                self.reply(MOVE, number, bytes([status]))

    def command(self, data):
        values = COMMAND.unpack(data)
        if self.move_id is None:
            return
        self.missed, self.commands_seen = 0, self.commands_seen + 1
        finished, self.tau = values[40], list(values[41:48])
        self.last_tau = self.tau
        if finished:
            self.end_move(SUCCESS)

    def tick(self):
        if self.move_id is not None:
            self.missed += 1
            if self.missed > 20 * 50:  # 20 packets on the robot; fifty times that for a busy machine
                self.errors = [COMMUNICATION_VIOLATION]
        if self.robot_mode == USER_STOP_MODE:
            self.end_move(EMERGENCY_ABORTED)
        elif self.errors and self.robot_mode != REFLEX_MODE:
            self.robot_mode = REFLEX_MODE
            self.end_move(REFLEX_ABORTED)
        for joint in range(7):
            moving = self.move_id is not None
            push = 2.0 * self.tau[joint] - 2.0 * self.dq[joint] if moving else -50.0 * self.dq[joint]
            self.dq[joint] += self.period * push
            self.q[joint] += self.period * self.dq[joint]
        self.message = max(self.message + 1, int(1e3 * self.time))
        if self.address is not None and not self.silent:
            self.udp.sendto(self.state(), self.address)
        if self.hand_address is not None and self.message % 20 == 0:
            self.hand_message += 1
            state = struct.pack("<Idd?H", self.hand_message, self.width, 0.08, False, 30)
            self.hand_udp.sendto(state, self.hand_address)

    def state(self):
        zeros7 = [0.0] * 7
        flags = [index in self.errors for index in range(41)]
        measured = [gravity + torque for gravity, torque in zip(self.gravity, self.tau, strict=True)]
        return STATE.pack(
            self.message, *IDENTITY * 6, 0.73, *[0.0] * 12, 0.0, *[0.0] * 12, *[0.0] * 4,
            *measured, *self.tau, *zeros7, *self.q, *self.q, *self.dq, *zeros7, *zeros7,
            *zeros7, *[0.0] * 6, *zeros7, *[0.0] * 6, *zeros7, *[0.0] * 6, *self.force, *[0.0] * 6, *[0.0] * 3,
            *[0.0] * 6, *IDENTITY, *[0.0] * 12, *self.q, *self.dq,
            *self.modes, *flags, *flags, self.robot_mode, 1.0,
        )  # fmt: skip

    def open_hand(self, client):
        self.hand, self.hand_unparsed = client, b""

    def serve_hand(self, client, data):
        if client is not self.hand:
            return
        if not data:
            self.hand, self.hand_address = None, None
            return
        self.hand_unparsed += data
        while len(self.hand_unparsed) >= HAND_HEADER.size:
            command, number, size = HAND_HEADER.unpack_from(self.hand_unparsed)
            if len(self.hand_unparsed) < size:
                return
            payload, self.hand_unparsed = self.hand_unparsed[HAND_HEADER.size : size], self.hand_unparsed[size:]
            answer = struct.pack("<H", SUCCESS)
            if command == HAND_CONNECT:
                self.hand_address = (client.getpeername()[0], struct.unpack("<HH", payload)[1])
                answer = struct.pack("<HH", SUCCESS, 3)
            elif command in (HAND_MOVE, HAND_GRASP):
                numbers = struct.unpack(f"<{len(payload) // 8}d", payload)
                self.hand_orders.append(["move" if command == HAND_MOVE else "grasp", *numbers])
                self.width = numbers[0]
            self.send(client, HAND_HEADER.pack(command, number, HAND_HEADER.size + len(answer)) + answer)


if __name__ == "__main__":
    ControlBox(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]).run()
