"""The process of a simulated quadrotor: `sim.driver.SimulatedQuadrotor` in real time, with the watchdog of a real one.

It hears rotor speeds and speaks as its sensors do. When none have come for 100 ms it levels itself, sinks after 500 ms,
and stops its rotors after 2 s: whoever has died, hung or been cut off.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import torch

from hardware.descriptions import load_quadrotor
from hardware.drivers.bridged_quadrotor import MOTORS, MOTORS_RECORD, SENSORS, SENSORS_RECORD
from hardware.drivers.memory_quadrotor import STATE_FIELDS
from hardware.realtime.loop import DeadlineLoop
from hardware.realtime.scheduling import become_realtime
from hardware.realtime.seqlock import SlotError, SlotReader, SlotWriter, owner_of, remove_if_abandoned
from policies.types import MotorSpeeds
from robot_rl.nodes.process import StopRequest, is_running
from robot_rl.planes import quadrotor_records, records
from robot_rl.planes.quadrotor_settings import QuadrotorSimulationConfig, QuadrotorWireConfig
from robot_rl.planes.wire import Wire
from robot_rl.rebuild import from_json
from sim.driver import SimulatedQuadrotor

_CATCH_UP = 0.05
"""s of physics at most per tick. What a process that was held up longer has lost is left out, and counted:
catching up would hold it up again."""
_STATUS_PERIOD = 0.02


class SimulatedVehicle:
    """The vehicle between its slots; one `tick` per time step of physics."""

    def __init__(self, config: QuadrotorSimulationConfig, now: float) -> None:
        """Stand at the start, rotors off.

        Raises:
            ValueError: The position or an override is of no use.
        """
        self.config, self.wire = config, config.wire
        description = load_quadrotor(config.robot)
        self.vehicle = SimulatedQuadrotor(
            description,
            overrides=config.numbers,
            position=config.position,
            yaw=config.yaw,
            seed=config.seed,
            start_time=now,
        )
        self.timestep = self.vehicle.config.dt
        self._every = max(1, round(1.0 / (description.interface.state_rate_hz * self.timestep)))
        self._folder = Path(config.folder)
        self._attach()
        noise = np.random.default_rng(config.seed + 77_777)
        self._up: Wire[np.ndarray] = Wire(noise)
        self._down: Wire[np.void] = Wire(noise)
        self._record = np.zeros((), SENSORS_RECORD)
        self._wire_since = now
        self._begun, self._steps = False, 0
        self._offset = 0.0
        """s of the monotonic clock at 0 s of the vehicle's."""
        self._left_out = 0.0
        self._request = 0
        self._refusal, self._refused = "", 0

    def tick(self, now: float) -> None:
        """Let the time until `now` s pass; what was ordered meanwhile acts on its last step."""
        self._take_requests(now)
        self._leave_out(now)
        before = self._steps // self._every
        self._advance(now - self.timestep)
        self._take_orders(now)
        self._advance(now)
        if self._steps // self._every != before:
            self._measure(now)
        for record in self._up.receive(now):
            self._sensors.write(record)

    def publish(self, lost_periods: int) -> None:
        """Say how it stands."""
        record, vehicle = records.new(quadrotor_records.SIMULATION), self.vehicle
        record["ready"], record["request_id"], record["lost_periods"] = True, self._request, lost_periods
        record["watchdog"], record["crashed"] = vehicle.watchdog.encode(), vehicle.crashed
        record["on_ground"], record["left_out"] = vehicle.on_ground, self._left_out
        record["refusal"], record["refused"] = records.encode(self._refusal), self._refused
        record["json"] = json.dumps(dict(vehicle.counters)).encode()
        self._status.write(record)

    def follow_memory(self) -> None:
        """Fly on when the supervisor and its memory are gone, and speak to the next one."""
        try:
            inode = self._folder.stat().st_ino
        except FileNotFoundError:
            self._inode = 0  # the next one may have the same number
            return
        if inode == self._inode:
            if not is_running(owner_of(self._folder)):
                remove_if_abandoned(self._folder)
            return
        before = self._slots
        try:
            self._attach()
        except SlotError:  # it has gone again
            return
        for slot in before:
            slot.close()

    def close(self) -> None:
        """Let go of the memory."""
        for slot in self._slots:
            slot.close()

    # Inside

    def _attach(self) -> None:
        """Open the slots of the present memory; what was said there before counts for nothing."""
        folder, layouts = self._folder, quadrotor_records.LAYOUTS
        sensors = SlotWriter(folder, SENSORS, SENSORS_RECORD)
        status = SlotWriter(folder, "simulation", layouts["simulation"])
        motors = SlotReader(folder, MOTORS, MOTORS_RECORD)
        requests, wires = (
            SlotReader(folder, name, layouts[name]) for name in ("simulation_request", "simulation_wire")
        )
        motors.last_sequence = motors.sequence
        self._sensors, self._status, self._motors, self._requests, self._wires = (
            sensors,
            status,
            motors,
            requests,
            wires,
        )
        self._slots = (sensors, status, motors, requests, wires)
        self._inode = folder.stat().st_ino

    def _leave_out(self, now: float) -> None:
        """What is not caught up."""
        if not self._begun:
            self._begun, self._offset = True, now - self.vehicle.time
        left = now - (self.vehicle.time + self._offset) - _CATCH_UP
        if left > 0.0:
            self._offset += left
            self._left_out += left

    def _advance(self, now: float) -> None:
        """Whole steps of physics until `now`."""
        steps = max(0, int((now - (self.vehicle.time + self._offset)) / self.timestep + 1e-6))
        self.vehicle.advance(steps * self.timestep)
        self._steps += steps

    def _take_orders(self, now: float) -> None:
        wire = self.wire
        if (reading := self._motors.read_new()) is not None:
            self._down.send(reading.record, now, wire.command_latency, wire.jitter, wire.command_loss)
        for order in self._down.receive(now):
            command = MotorSpeeds(order["values"].copy())
            if refusal := self.vehicle.write(command, float(order["stamp"]) - self._offset):
                self._refusal, self._refused = refusal, self._refused + 1

    def _take_requests(self, now: float) -> None:
        if (reading := self._requests.read_new()) is not None:
            self._request = int(reading.record["id"])
            self.vehicle.reset(self.config.position, self.config.yaw)
            self._up.clear()
            self._down.clear()
            self.publish(0)
        if (reading := self._wires.read_new()) is not None:
            self.wire = from_json(QuadrotorWireConfig, records.text(reading.record["json"]))
            self._wire_since = now

    def _measure(self, now: float) -> None:
        """A sample of odometry and of the inertial sensor, as the wire lets them through."""
        wire, record = self.wire, self._record
        stamp, silent = self.vehicle.time + self._offset, now - self._wire_since
        if silent >= wire.freeze_attitude:
            record["attitude"], record["rates"], record["specific_force"] = self.vehicle.imu()
            record["attitude_stamp"] = stamp
        if silent >= wire.freeze_state:
            state = self.vehicle.read()
            for name in STATE_FIELDS:
                record[name] = getattr(state, name)
            record["state_stamp"] = stamp + wire.stamp_offset
            record["position"][0] = math.nan if wire.nan_state else record["position"][0] + wire.state_jump
            if wire.inf_state:
                record["linear_velocity"][0] = math.inf
        record["fault"] = b"crashed into the ground" if self.vehicle.crashed else b""
        self._up.send(record.copy(), now, wire.state_latency, wire.jitter, wire.state_loss)


def main(argument: str, stop: StopRequest) -> int:
    """Simulate until told to end; `argument` is a `QuadrotorSimulationConfig` as JSON."""
    config = from_json(QuadrotorSimulationConfig, argument)
    torch.set_num_threads(1)  # one vehicle fills no second core
    robot = SimulatedVehicle(config, time.monotonic())
    try:
        become_realtime(config.realtime)
        loop = DeadlineLoop(1.0 / robot.timestep)
        status_every = max(1, round(_STATUS_PERIOD / robot.timestep))
        watchdog = robot.vehicle.watchdog
        while not stop.requested:
            robot.tick(loop.wait())
            changed, watchdog = watchdog != robot.vehicle.watchdog, robot.vehicle.watchdog
            if changed or loop.ticks % status_every == 1:
                robot.publish(loop.lost_periods)
            elif loop.ticks % status_every == 0:
                robot.follow_memory()
    finally:
        robot.close()
    return 0
