"""A stand-in of a UR controller: RTDE version 2 on 30004, dashboard on 29999, script ports 30001 to 30003.

Written after the RTDE guide and the dashboard manual of Universal Robots. It does not run URScript: a script that is
sent to it counts as running, and the registers of ur_rtde's control script are served as that script serves them.
"""

import json
import math
import struct
import sys

from stand_in import StandIn

FORMATS = {"DOUBLE": "d", "UINT64": "Q", "UINT32": "I", "INT32": "i", "VECTOR3D": "3d", "VECTOR6D": "6d",
           "VECTOR6INT32": "6i", "BOOL": "?", "UINT8": "B"}  # fmt: skip
TYPES = {
    "timestamp": "DOUBLE", "actual_q": "VECTOR6D", "actual_qd": "VECTOR6D", "target_moment": "VECTOR6D",
    "actual_current_as_torque": "VECTOR6D", "actual_TCP_pose": "VECTOR6D", "actual_TCP_force": "VECTOR6D",
    "robot_mode": "INT32", "safety_mode": "INT32", "runtime_state": "UINT32", "robot_status_bits": "UINT32",
    "safety_status_bits": "UINT32", "speed_scaling": "DOUBLE",
}  # fmt: skip
READY, DONE = 1, 2
SERVOJ, SERVO_STOP, STOPJ, SET_WATCHDOG, TORQUE, STOP_SCRIPT = 11, 16, 34, 35, 66, 255
AT_ONCE = {6, 9, 10, 11, 24, 25, 26, 27, 38, 58, 66, 67, 68, 69, 70, 71}
"""Commands that ur_rtde's script takes every cycle, without waiting for the register to be cleared."""


class Controller(StandIn):
    def __init__(self, host, q):
        super().__init__(host)
        self.actual_q = list(q)
        self.actual_qd = [0.0] * 6
        self.target_moment = [0.0] * 6
        self.actual_current_as_torque = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        self.actual_TCP_pose = [0.4, 0.1, 0.3, 0.0, math.pi, 0.0]
        self.actual_TCP_force = [0.0] * 6
        self.robot_mode, self.safety_mode, self.speed_scaling = 7, 1, 1.0
        self.running = False
        """Whether a program runs."""
        self.version = [5, 26, 0, 0]
        self.remote = True
        self.unlock_answer = "Protective stop releasing"
        self.silent = False
        """Whether RTDE sends nothing, as when a cable is pulled."""
        self.scripts, self.dashboard, self.commands, self.watchdog = [], [], {}, 0.0
        self.setpoint, self.last_command, self.stops, self.watchdog_trips = None, [], 0, 0
        self.inputs = {}
        self.output_int = [0] * 48
        self.last_input = 0.0
        self.executing = False
        self.torque = None
        self.sessions = {}
        self.dashboard_rest = {}
        self.listen(30004, self.open_rtde, self.rtde)
        self.listen(29999, self.open_dashboard, self.talk)
        self.gripper = {"STA": 3, "POS": 100, "GTO": 0}
        self.gripper_orders = []
        self.listen(63352, lambda client: None, self.talk_gripper)
        for port in (30001, 30002, 30003):
            self.listen(port, lambda client: None, self.script)

    @property
    def safety_status_bits(self):
        return {1: 1, 3: 1 << 2, 7: 1 << 7}.get(self.safety_mode, 0)

    @property
    def robot_status_bits(self):
        return 1 | (self.running << 1)

    @property
    def runtime_state(self):
        return 2 if self.running else 1

    @property
    def timestamp(self):
        return self.time + 1000.0

    def open_rtde(self, client):
        self.sessions[client] = {"data": b"", "inputs": {}, "outputs": [], "started": False, "next": 0.0}

    def rtde(self, client, data):
        session = self.sessions[client]
        if not data:
            del self.sessions[client]
            return
        session["data"] += data
        while len(session["data"]) >= 3:
            size, kind = struct.unpack(">HB", session["data"][:3])
            if len(session["data"]) < size:
                return
            payload, session["data"] = session["data"][3:size], session["data"][size:]
            answer = self.answer(session, kind, payload)
            if answer is not None:
                self.send(client, struct.pack(">HB", 3 + len(answer), kind) + answer)

    def answer(self, session, kind, payload):
        if kind == ord("V"):
            return bytes([struct.unpack(">H", payload)[0] == 2])
        if kind == ord("v"):
            return struct.pack(">4I", *self.version)
        if kind == ord("O"):
            (frequency,) = struct.unpack(">d", payload[:8])
            session["period"] = 1.0 / frequency
            session["outputs"] = [name for name in payload[8:].decode().split(",") if name]
            return b"\x01" + ",".join(self.type(name) for name in session["outputs"]).encode()
        if kind == ord("I"):
            names = [name for name in payload.decode().split(",") if name]
            recipe = len(session["inputs"]) + 1
            session["inputs"][recipe] = names
            return bytes([recipe]) + ",".join(self.type(name) for name in names).encode()
        if kind == ord("S"):
            session["started"], session["next"] = True, self.time
            return b"\x01"
        if kind == ord("P"):
            session["started"] = False
            return b"\x01"
        if kind == ord("U"):
            names = session["inputs"][payload[0]]
            values = struct.unpack(">" + "".join(FORMATS[self.type(name)] for name in names), payload[1:])
            self.inputs.update(zip(names, values, strict=True))
            self.last_input = self.time
            return None
        raise ValueError(f"RTDE package {kind}")

    def type(self, name):
        if name in TYPES:
            return TYPES[name]
        if "_int_register_" in name:
            return "INT32"
        return "DOUBLE" if "_double_register_" in name else "NOT_FOUND"

    def value(self, name):
        if "_register_" in name:
            return self.output_int[int(name.rsplit("_", 1)[1])] if "_int_" in name else 0.0
        return getattr(self, name)

    def open_dashboard(self, client):
        self.dashboard_rest[client] = b""
        self.send(client, b"Connected: Universal Robots Dashboard Server\n")

    def talk(self, client, data):
        if not data:
            del self.dashboard_rest[client]
            return
        *lines, self.dashboard_rest[client] = (self.dashboard_rest[client] + data).split(b"\n")
        for line in lines:
            text = line.decode().strip()
            self.dashboard.append(text)
            self.send(client, self.reply(text).encode() + b"\n")

    def reply(self, text):
        if text == "unlock protective stop":
            if self.unlock_answer == "Protective stop releasing":
                self.safety_mode = 1
            return self.unlock_answer
        if text == "stop":
            self.running = False
            return "Stopped"
        return {
            "PolyscopeVersion": "URSoftware {}.{}.{}.{} (Jan 01 2025)".format(*self.version),
            "is in remote control": str(self.remote).lower(),
            "get serial number": "20205500001",
            "get robot model": "UR5",
            "running": f"Program running: {str(self.running).lower()}",
            "robotmode": "Robotmode: RUNNING",
            "safetystatus": "Safetystatus: NORMAL",
            "quit": "Disconnected",
            "close safety popup": "closing safety popup",
        }.get(text, "could not understand: " + text)

    def talk_gripper(self, client, data):
        for line in data.decode().splitlines():
            verb, name, *value = line.split()
            if verb == "SET":
                self.gripper_orders.append(line)
                self.gripper[name] = int(value[0])
            self.send(client, b"ack" if verb == "SET" else f"{name} {self.gripper[name]}\n".encode())

    def script(self, client, data):
        if not data:
            return
        if data.startswith(b"def rtde_control():"):
            self.scripts.append("")
        if self.scripts:
            self.scripts[-1] += data.decode()
        if self.scripts and self.scripts[-1].endswith("\nend\n"):  # its last line, not indented
            self.running, self.watchdog, self.output_int[0] = True, 0.0, READY
            self.inputs["input_int_register_0"] = 0

    def tick(self):
        if self.safety_mode != 1 or self.robot_mode != 7:
            self.halt()
        if self.running:
            self.cycle()
        self.move()
        for client, session in list(self.sessions.items()):
            if session["started"] and session["next"] <= self.time and not self.silent:
                session["next"] = max(session["next"] + session["period"], self.time)
                payload = b"\x01"
                for name in session["outputs"]:
                    value = self.value(name)
                    values = value if isinstance(value, list) else [value]
                    payload += struct.pack(">" + FORMATS[self.type(name)], *values)
                self.send(client, struct.pack(">HB", 3 + len(payload), ord("U")) + payload)

    def halt(self):
        self.running, self.setpoint, self.torque = False, None, None

    def cycle(self):
        """One cycle of the script's main loop."""
        if self.watchdog and self.time - self.last_input > 1.0 / self.watchdog:
            self.watchdog_trips += 1
            self.halt()
            return
        command = self.inputs.get("input_int_register_0", 0)
        if command in AT_ONCE:
            self.execute(command)
            self.output_int[0] = READY
        elif command == 0:
            self.executing = False
            self.output_int[0] = READY
        elif not self.executing:
            self.executing = True
            self.execute(command)
            self.output_int[0] = DONE

    def execute(self, command):
        self.commands[command] = self.commands.get(command, 0) + 1
        numbers = [self.inputs.get(f"input_double_register_{index}", 0.0) for index in range(18)]
        self.last_command = numbers
        if command == SERVOJ:
            self.setpoint, self.torque = numbers[:6], None
        elif command == TORQUE:
            self.setpoint, self.torque = None, numbers[:6]
        elif command in (SERVO_STOP, STOPJ):
            self.stops += 1
            self.setpoint, self.torque = None, None
        elif command == SET_WATCHDOG:
            self.watchdog = numbers[0]
        elif command == STOP_SCRIPT:
            self.halt()

    def move(self):
        for joint in range(6):
            if self.torque is not None:
                self.actual_qd[joint] += self.period * (self.torque[joint] / 2.0 - self.actual_qd[joint])
            elif self.setpoint is not None:
                self.actual_qd[joint] = max(-3.0, min(3.0, 20.0 * (self.setpoint[joint] - self.actual_q[joint])))
            else:
                self.actual_qd[joint] *= 0.9
            self.actual_q[joint] += self.period * self.actual_qd[joint]


if __name__ == "__main__":
    Controller(sys.argv[1], json.loads(sys.argv[2])).run()
