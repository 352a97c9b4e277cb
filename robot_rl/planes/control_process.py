"""The control process of an arm: driver, supervisor, controller, filter, driver; 500 times a second.

No ROS, no network, no file and no logging in the loop: what it has to say it writes into shared memory. It owns the
safety state. When it is told to end, or its parent dies, it stops the arm by the driver's own means and ends.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hardware.descriptions import load_arm
from hardware.drivers.driver import ArmSample, Driver, DriverError
from hardware.drivers.registry import open_driver
from hardware.kinematics import ArmKinematics, forward_kinematics
from hardware.realtime.loop import DeadlineLoop
from hardware.realtime.scheduling import become_realtime
from hardware.realtime.seqlock import Reading, SlotReader, SlotWriter
from hardware.safety.arm import ArmDecision, ArmSupervisor, ArmSupervisorConfig, blended
from hardware.safety.arm_envelope import envelope_from_dict
from hardware.safety.arm_filter import ArmFilter, ArmFilterConfig
from hardware.safety.barrier import BarrierConfig
from robot_rl.nodes.process import StopRequest
from robot_rl.planes import records
from robot_rl.planes.arm_output import make_output
from robot_rl.planes.board import Board
from robot_rl.planes.face_watch import FaceWatch
from robot_rl.planes.settings import ControlConfig
from robot_rl.rebuild import from_json

_RECOVERY_TIME = 0.2
"""s that a robot may take to forget its fault after it was told to."""


class ControlLoop:
    """One arm between its driver and its slots; one `tick` per period."""

    def __init__(self, config: ControlConfig, driver: Driver[ArmSample, Any], loop: DeadlineLoop) -> None:
        """Attach to the slots; the driver is connected."""
        self.config, self.driver, self.loop = config, driver, loop
        self.description = load_arm(config.robot)
        joints = self.description.num_joints
        envelope = envelope_from_dict(config.envelope)
        self._dt = 1.0 / loop.rate_hz
        self.supervisor = ArmSupervisor(
            self.description, envelope, config.policy_rate_hz, ArmSupervisorConfig(tick_rate_hz=loop.rate_hz)
        )
        filtering = ArmFilterConfig(barrier=BarrierConfig() if config.barrier else None)
        self.filter = ArmFilter(self.description, envelope, loop.rate_hz, filtering)
        self.output = make_output(self.description, driver.capabilities, config.controller)
        folder = Path(config.folder)
        self._command = SlotReader(folder, "command", records.command_dtype(joints))
        self._twist = SlotReader(folder, "twist", records.command_dtype(joints))
        self.face = FaceWatch(folder, config.face_timeout)
        self._state = SlotWriter(folder, "state", records.state_dtype(joints))
        self._state_record = records.new(self._state.dtype)
        self.board = Board(folder, loop, self._report)
        self._sample: ArmSample | None = None
        self._kinematics: ArmKinematics | None = None
        self._follow = "brake"
        self._latched_sequence = -1
        self._period = 1.0 / config.policy_rate_hz
        self._source = ""
        self._fault = ""
        self._interventions = dict[str, int]()
        self._recovery: tuple[int, float, bool] | None = None
        # What was said to an earlier control process is not said to this one.
        for slot in (self._command, self._twist):
            slot.last_sequence = slot.sequence

    # The loop

    def tick(self, now: float) -> ArmDecision:
        """Read, decide, write; an error of the driver is a fault of the arm, not of this process."""
        self._read(now)
        self._take_requests(now)
        self._take_commands(now)
        decision = self.supervisor.tick(now)
        try:
            self._act(decision, now)
        except DriverError as error:
            self._driver_failed(str(error))
        self._publish(decision, now)
        return decision

    def stop(self, why: str) -> None:
        """Stop the arm by the driver's means and say so; the last thing that is done."""
        try:
            self.driver.stop()
        finally:
            self.board.stopped(why)

    def close(self) -> None:
        """Let go of the memory."""
        for each in (self._command, self._twist, self._state, self.face, self.board):
            each.close()

    # In

    def _read(self, now: float) -> None:
        try:
            sample = self.driver.read()
        except DriverError as error:
            self._driver_failed(str(error))
            return
        if sample is None or sample is self._sample:
            return
        self._say_fault(sample.fault)
        refusal = self.supervisor.observe_state(sample, now)
        if refusal and self.supervisor.state_input.sample is not sample:
            return
        self._sample = sample
        self._kinematics = forward_kinematics(self.description, sample.joint_positions)

    def _driver_failed(self, why: str) -> None:
        """The driver cannot reach the robot: a fault like one that the robot says itself."""
        self._say_fault(why)
        self.supervisor.state_input.fault = why

    def _say_fault(self, fault: str) -> None:
        if fault != self._fault:
            self._fault, self.board.record["driver_fault"] = fault, records.encode(fault)

    def _take_requests(self, now: float) -> None:
        if self._recovery is not None:
            self._go_on_recovering(now)
        request = self.face.take()
        if request is None:
            return
        number, name, stopped = request
        if stopped:
            self.supervisor.estop(now)
        answer = (False, "no such request")
        if name == "arm":
            answer = self._arm(now)
        elif name == "disarm":
            answer = self.supervisor.disarm(now)
        elif name == "estop":
            answer = (True, "emergency stop")
        elif name == "recover":
            recover = getattr(self.driver, "recover", None)
            if self._fault and recover is not None:
                try:
                    recover()
                except DriverError as error:
                    self.board.answer(number, False, str(error), now)
                    return
            self._recovery = (number, now + _RECOVERY_TIME, bool(self._fault))
            self._go_on_recovering(now)
            return
        self.board.answer(number, *answer, now)

    def _arm(self, now: float) -> tuple[bool, str]:
        if problem := self.face.problem(now):
            return False, problem
        return self.supervisor.arm(now)

    def _go_on_recovering(self, now: float) -> None:
        """A robot needs a moment to forget its fault and to say so."""
        assert self._recovery is not None
        number, end, had_fault = self._recovery
        if self._fault and now < end:
            return
        self._recovery = None
        if self._fault:
            self.board.answer(number, False, f"the robot's fault stays: {self._fault}", now)
            return
        granted, why = self.supervisor.recover(now)
        if not granted and had_fault and self.supervisor.mode == "idle":
            granted, why = True, "the robot's fault is cleared; arm to move"
        self.board.answer(number, granted, why, now)

    def _take_commands(self, now: float) -> None:
        """A person's command goes before the policy's while the dead-man switch is held; none without a face."""
        self._face_dead = self.face.problem(now)
        twist, command = self._twist.read_new(), self._command.read_new()
        if self._face_dead:
            if twist is not None or command is not None:
                self.supervisor.command_input.refusal = f"commands are not taken: {self._face_dead}"
            return
        if twist is not None:
            self._held = bool(twist.record["held"])
            self._held_at = min(twist.stamp, now)
            if self._held:
                self._offer(twist, "teleop", now)
        person = self._held and now - self._held_at <= self.supervisor.envelope.teleop_age
        if command is not None and not person:
            self._offer(command, "policy", now)

    _held, _held_at, _face_dead = False, -math.inf, ""

    def _offer(self, reading: Reading, source: str, now: float) -> None:
        if source != self._source:
            # Not a second publisher by mistake: who commands is decided here.
            self.supervisor.command_input.forget()
            self._source = source
        record = reading.record
        command = records.to_command(record, self.description.num_joints)
        if not self.supervisor.observe_command(command, float(record["stamp"]), now, source):
            period = float(record["period"])
            self._period = period if 1e-3 <= period <= 1.0 else 1.0 / self.config.policy_rate_hz
            self.board.record["command_sequence"] = reading.sequence
            self.board.record["command_source"] = source.encode()

    # Out

    def _act(self, decision: ArmDecision, now: float) -> None:
        sample, kinematics, before = self._sample, self._kinematics, self._follow
        self._follow = decision.follow
        if decision.follow == "brake" or sample is None or kinematics is None:
            if before != "brake":
                self.driver.stop()
                self.output.release()
                self._state_record["commanded_torques"] = 0.0
            self._follow = "brake"
            return
        if before == "brake":
            self.filter.reset(sample)
        if before != decision.follow and (before == "brake" or decision.follow == "hold"):
            self.output.hold(sample, kinematics)
        if decision.follow == "command" and decision.sequence != self._latched_sequence:
            assert decision.command is not None
            self._latched_sequence = decision.sequence
            command = blended(decision.command, decision.blend, sample.joint_positions)
            self.output.follow(command, sample, kinematics, self._period)
        wanted = self.output.step(sample, kinematics, self._dt)
        filtered = self.filter.apply(wanted, sample, now, busy=self.supervisor.watch.looked)
        self.driver.write(filtered.command)
        if filtered.changed:
            self.board.record["explanation"] = records.encode(filtered.explain)
            self._interventions = filtered.interventions
        self._state_record["commanded_torques"] = filtered.command.values
        self.board.state_age.record(now - sample.stamp)
        if decision.follow == "command":
            self.board.command_age.record(decision.command_age)

    def _publish(self, decision: ArmDecision, now: float) -> None:
        self._write_state()
        record = self.board.record
        record["follow"], record["blend"] = self._follow.encode(), decision.blend
        record["state_age"], record["command_age"] = decision.state_age, decision.command_age
        record["interventions"] = sum(self._interventions.values())
        self.board.say(decision.mode, decision.cause, decision.latched, now)

    def _write_state(self) -> None:
        sample, kinematics = self._sample, self._kinematics
        if sample is None or kinematics is None:
            return
        record = self._state_record
        record["stamp"] = sample.stamp
        record["joint_positions"], record["joint_velocities"] = sample.joint_positions, sample.joint_velocities
        record["has_joint_torques"] = sample.joint_torques is not None
        if sample.joint_torques is not None:
            record["joint_torques"] = sample.joint_torques
        record["has_wrench"] = sample.wrench is not None
        if sample.wrench is not None:
            record["wrench"] = sample.wrench
        record["tool_pose"][:3], record["tool_pose"][3:] = kinematics.tool_position, kinematics.tool_orientation
        record["tool_twist"] = kinematics.jacobian @ sample.joint_velocities
        record["gripper_width"] = sample.gripper_width
        if self._follow != "brake":
            record["target_pose"] = self.output.target_pose
        self._state.write(record)

    def _report(self) -> dict[str, dict[str, int]]:
        return {"supervisor": dict(self.supervisor.counters), "filter": dict(self._interventions)}


def main(argument: str, stop: StopRequest) -> int:
    """Drive the arm until told to end; `argument` is a `ControlConfig` as JSON."""
    config = from_json(ControlConfig, argument)
    description = load_arm(config.robot)
    with open_driver(config.driver, description, config.driver_settings) as driver:
        capabilities = driver.capabilities
        loop = DeadlineLoop(min(config.rate_hz, capabilities.rate_hz))
        control = ControlLoop(config, driver, loop)
        why = "an error inside the control process, see its log"
        try:
            words = become_realtime(config.realtime).text
            words = words if capabilities.realtime else f"{words}; driver {config.driver!r} may block"
            control.board.say_realtime(words)
            while not stop.requested:
                control.tick(loop.wait())
            why = f"told to end by {stop.reason}"
        finally:
            control.stop(why)
            control.close()
    return 0
