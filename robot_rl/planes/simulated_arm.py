"""The process of a simulated arm: MuJoCo in real time, with the brakes and the watchdog that a real arm has.

It starts braked. A torque releases the brakes; when none has come for 20 ms, the robot brakes by its own means, says
so, and takes no torques until it is told to recover: whoever has died, hung or been cut off.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from hardware.controllers.joint_position import symmetric_limit
from hardware.descriptions.arm import ArmDescription
from hardware.drivers.simulated import ORDERS, SENSORS, TORQUES, sensors_dtype, torques_dtype
from hardware.dynamics import mass_matrix
from hardware.realtime.loop import DeadlineLoop
from hardware.realtime.scheduling import become_realtime
from hardware.realtime.seqlock import SlotReader, SlotWriter
from robot_rl.nodes.process import StopRequest
from robot_rl.planes import records
from robot_rl.planes.settings import SimulationConfig, WireConfig
from robot_rl.planes.simulated_scene import SimulatedScene
from robot_rl.planes.wire import Wire
from robot_rl.rebuild import from_json

_BRAKE = 40.0
"""rad/s, how fast brakes act: the frequency of the critically damped spring that they are."""
_STANDSTILL = 0.05
"""rad/s below which brakes hold a joint in its place."""
_STATUS_PERIOD = 0.02


class Brakes:
    """What stops the joints and holds them: friction that grows with speed, then a spring in the place of rest."""

    def __init__(self, description: ArmDescription) -> None:
        inertia = np.diagonal(mass_matrix(description, description.home))
        self._stiffness, self._damping = inertia * _BRAKE**2, 2.0 * inertia * _BRAKE
        self._limit = symmetric_limit(description, "torque")
        self._place = np.full(description.num_joints, np.nan)

    def engage(self) -> None:
        """Begin to brake."""
        self._place[:] = np.nan

    def torques(self, q: np.ndarray, qd: np.ndarray) -> np.ndarray:
        """Shape (n,), N m."""
        rests = np.isnan(self._place) & (np.abs(qd) < _STANDSTILL)
        self._place[rests] = q[rests]
        spring = np.where(np.isnan(self._place), 0.0, self._stiffness * (self._place - q))
        torques: np.ndarray = np.clip(spring - self._damping * qd, -self._limit, self._limit)
        return torques


class SimulatedRobot:
    """The robot between its two slots: one `tick` per time step of physics."""

    def __init__(self, scene: SimulatedScene, config: SimulationConfig, folder: Path) -> None:
        """Stand at the first start, braked."""
        self.scene, self.config, self.wire = scene, config, config.wire
        joints = scene.description.num_joints
        self._sensors = SlotWriter(folder, SENSORS, sensors_dtype(joints))
        self._torques = SlotReader(folder, TORQUES, torques_dtype(joints))
        self._status = SlotWriter(folder, "simulation", records.SIMULATION)
        self._objects = SlotWriter(folder, "objects", records.OBJECTS) if scene.objects() else None
        self._requests = SlotReader(folder, "simulation_request", records.SIMULATION_REQUEST)
        self._wires = SlotReader(folder, "simulation_wire", records.SIMULATION_WIRE)
        self._commands = SlotReader(folder, "command", records.command_dtype(joints))
        self._noise = np.random.default_rng(scene_seed(config))
        self._up: Wire[tuple[float, np.ndarray]] = Wire(self._noise)
        self._down: Wire[np.void] = Wire(self._noise)
        self._brakes = Brakes(scene.description)
        gripper = scene.description.gripper
        self._max_width = gripper.max_width if gripper is not None and scene.has_gripper else 0.0
        self._recoveries = self._forget_old_orders()
        self._request = 0
        self._start = 0
        self.fault = ""
        """What the robot says; empty while it takes torques."""
        self.braked = True
        """Whether brakes hold it."""
        self._begin_episode(0)

    def tick(self, now: float) -> None:
        """Advance by one time step at `now` s."""
        self._take_requests()
        if (reading := self._torques.read_new()) is not None:
            wire = self.wire
            self._down.send(reading.record, now, wire.command_latency, wire.jitter, wire.command_loss)
        for order in self._down.receive(now):
            self._take_order(order, now)
        if self.wire.fault and self.fault != self.wire.fault:
            self._fail(self.wire.fault)
        if not self.braked and now - self._ordered > self.config.watchdog:
            self._fail(f"watchdog: no torque for {1e3 * self.config.watchdog:.0f} ms, the robot stopped by itself")
        engine, arm = self.scene.engine, self.scene.arm
        if self.braked:
            q, qd = engine.joints(arm)
            applied = self._brakes.torques(q[0], qd[0])
        else:
            applied = self._wanted * self.scene.strength
        engine.substep({arm: applied[None]}, {arm: np.array([self._width])})
        self._measure(now, applied)
        if self._going and not self._over:
            self._judge()

    def publish(self, lost_periods: int) -> None:
        """Say how the episode stands."""
        status = records.new(records.SIMULATION)
        goal = self.scene.goal
        status["ready"], status["request_id"], status["start"] = True, self._request, self._start
        status["has_goal"] = goal is not None
        if goal is not None:
            status["goal"] = goal
        status["time"], status["over"] = self._steps * self.scene.timestep, self._over
        status["success"], status["failed"] = self._success, self._failed
        status["braked"], status["fault"] = self.braked, records.encode(self.fault)
        status["peak_force"], status["lost_periods"] = self._peak, lost_periods
        status["failed_physics"] = bool(self.scene.engine.failed[0])
        self._status.write(status)

    def show_objects(self, now: float) -> None:
        """What perception sees."""
        if self._objects is not None:
            poses = self.scene.objects()
            record = records.new(records.OBJECTS)
            self._objects.write(records.fill_objects(record, poses, dict.fromkeys(poses, now)))

    def close(self) -> None:
        """Let go of memory and simulator."""
        for slot in (
            self._sensors,
            self._torques,
            self._status,
            self._objects,
            self._requests,
            self._wires,
            self._commands,
        ):
            if slot is not None:
                slot.close()
        self.scene.close()

    # Inside

    def _take_requests(self) -> None:
        if (reading := self._requests.read_new()) is not None:
            self._request = int(reading.record["id"])
            self._begin_episode(int(reading.record["start"]))
            self.publish(0)
        if (reading := self._wires.read_new()) is not None:
            self.wire = from_json(WireConfig, records.text(reading.record["json"]))

    def _begin_episode(self, start: int) -> None:
        """Place everything anew, as a person would: the robot stands braked and has no fault."""
        self._start = start
        self.scene.place(start)
        self._down.clear()
        self._up.clear()
        self.fault, self.braked = "", True
        self._brakes.engage()
        self._ordered = -math.inf
        self._wanted = np.zeros(self.scene.description.num_joints)
        self._width = float(self.scene.engine.width(self.scene.arm)[0])
        self._going = self._over = self._success = self._failed = False
        self._steps, self._peak, self._recent_peak = 0, 0.0, 0.0
        self._unjudged, self._seen_command = 0, self._commands.sequence

    def _forget_old_orders(self) -> int:
        """What was said before this robot was there counts for nothing."""
        reading = self._torques.read_new()
        return 0 if reading is None else int(reading.record["recoveries"])

    def _take_order(self, order: np.void, now: float) -> None:
        if int(order["recoveries"]) > self._recoveries:
            self._recoveries = int(order["recoveries"])
            if not self.wire.fault:
                self.fault = ""
        if ORDERS[min(int(order["order"]), 1)] == "stop" or self.fault:
            self._brake()
            return
        self._ordered = now
        self._wanted = order["torques"]
        self._width = 0.5 * self._max_width * (float(np.clip(order["gripper"], -1.0, 1.0)) + 1.0)
        self.braked, self._going = False, True

    def _fail(self, fault: str) -> None:
        self.fault = fault
        self._brake()

    def _brake(self) -> None:
        if not self.braked:
            self.braked = True
            self._brakes.engage()

    def _measure(self, now: float, applied: np.ndarray) -> None:
        sensed, wire = self.scene.sensors(), self.wire
        force = sensed["wrench"][:3]
        self._recent_peak = max(self._recent_peak, math.sqrt(float(force @ force)))
        record = records.new(self._sensors.dtype)
        record["joint_positions"], record["joint_velocities"] = sensed["joint_positions"], sensed["joint_velocities"]
        if wire.position_noise > 0.0:
            record["joint_positions"] += wire.position_noise * self._noise.standard_normal(applied.size)
        if wire.velocity_noise > 0.0:
            record["joint_velocities"] += wire.velocity_noise * self._noise.standard_normal(applied.size)
        if wire.nan_state:
            record["joint_positions"][0] = np.nan
        if wire.inf_state:
            record["joint_velocities"][0] = np.inf
        if wire.permute_state:
            record["joint_positions"] = record["joint_positions"][::-1].copy()
        record["joint_positions"][0] += wire.state_jump
        record["joint_torques"], record["gripper_width"] = applied, sensed["gripper_width"]
        record["has_wrench"], record["wrench"] = self.scene.has_wrench, sensed["wrench"]
        record["braked"], record["fault"] = self.braked, records.encode(self.fault)
        if not wire.freeze_state:
            self._up.send((now, record), now, wire.state_latency, wire.jitter, wire.state_loss)
        for stamp, sample in self._up.receive(now):
            self._sensors.write(sample, stamp + wire.stamp_offset)

    def _judge(self) -> None:
        self._steps += 1
        self._unjudged += 1
        every = round(self.scene.judging_period / self.scene.timestep)
        # Pure simulation looks at the policy's ticks: the same instants here, or the clock's where no command comes.
        newest = self._commands.sequence
        ticked, self._seen_command = newest != self._seen_command, newest
        if not (ticked and self._unjudged >= every // 2) and self._unjudged < 2 * every:
            return
        self._unjudged = 0
        time = self._steps * self.scene.timestep
        self._success, self._failed = self.scene.judge(time, self._recent_peak)
        self._peak, self._recent_peak = max(self._peak, self._recent_peak), 0.0
        self._success = self._success and not self._failed
        self._over = self._success or self._failed or time >= self.scene.episode_length


def scene_seed(config: SimulationConfig) -> int:
    """Of the wire's randomness: another stream than that of the starts."""
    return config.scene.seed + 77_777


def main(argument: str, stop: StopRequest) -> int:
    """Simulate until told to end; `argument` is a `SimulationConfig` as JSON."""
    config = from_json(SimulationConfig, argument)
    folder = Path(config.folder)
    robot = SimulatedRobot(SimulatedScene(config.scene), config, folder)
    try:
        rate = 1.0 / robot.scene.timestep
        robot.show_objects(0.0)
        become_realtime(config.realtime)
        loop = DeadlineLoop(rate)
        status_every = max(1, round(_STATUS_PERIOD * rate))
        objects_every = max(1, round(rate / config.objects_rate_hz))
        while not stop.requested:
            now = loop.wait()
            robot.tick(now)
            if loop.ticks % status_every == 1:
                robot.publish(loop.lost_periods)
            # In another tick than the status, to spread the work.
            if loop.ticks % objects_every == 0:
                robot.show_objects(now)
    finally:
        robot.close()
    return 0
