"""The policy process of an arm: from the newest state to a command, at the policy's rate.

It may die, hang or be replaced at any time: the control process sees nothing of that but the age of its commands.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np

import policies
from hardware.descriptions import load_arm
from hardware.realtime.histogram import Histogram
from hardware.realtime.loop import DeadlineLoop
from hardware.realtime.scheduling import become_realtime
from hardware.realtime.seqlock import SlotReader, SlotWriter
from policies import observations
from policies.types import ArmSetpoint, ArmState, CartesianTwist, JointPositions, JointTorques
from robot_rl.nodes.process import StopRequest
from robot_rl.planes import records
from robot_rl.planes.settings import PolicyConfig
from robot_rl.rebuild import from_json

_GAP_PERIODS = 3.0
"""Control periods without a command after which the policy's memory begins anew."""


class PolicyRunner:
    """A loaded policy between its slots; one `tick` per control period."""

    def __init__(self, policy: policies.Policy, joints: int, config: PolicyConfig, folder: Path) -> None:
        """Attach to the slots; nothing is written before the first tick."""
        self.policy, self.config, self._joints = policy, config, joints
        self.period = 1.0 / policy.manifest.control_rate_hz
        self._state = SlotReader(folder, "state", records.state_dtype(joints))
        self._objects = SlotReader(folder, "objects", records.OBJECTS)
        self._setpoint = SlotReader(folder, "setpoint", records.SETPOINT)
        self._face = SlotReader(folder, "face", records.FACE)
        self._command = SlotWriter(folder, "command", records.command_dtype(joints))
        self._status = SlotWriter(folder, "policy", records.POLICY)
        self.inference = Histogram()
        """Durations of the policy's steps."""
        self.reason = "not active"
        """Why there was no command in the last tick; empty if there was one."""
        self.active = False
        """Whether the face lets it give commands."""
        self.commands = self.resets = 0
        self._episode = 0
        self._last_command = -math.inf
        self._object_names = named_objects(policy)
        self._needs_setpoint = self._try_out()

    def tick(self, now: float) -> str:
        """One control period; returns why there was no command, or ""."""
        face = self._face.read()
        self.active = face is not None and bool(face.record["policy_active"])
        if face is not None and int(face.record["episode"]) != self._episode:
            self._episode = int(face.record["episode"])
            self._last_command = -math.inf
        self.reason = self._act(now)
        return self.reason

    def publish(self, loop: DeadlineLoop, realtime: str) -> None:
        """Say how it goes."""
        record, manifest = records.new(records.POLICY), self.policy.manifest
        record["bundle"], record["rate_hz"] = manifest.name.encode()[:128], manifest.control_rate_hz
        record["ready"], record["active"], record["reason"] = True, self.active, records.encode(self.reason)
        record["ticks"], record["commands"], record["resets"] = loop.ticks, self.commands, self.resets
        record["lost_periods"], record["realtime"] = loop.lost_periods, records.encode(realtime)
        records.fill_histogram(record, "inference", self.inference)
        self._status.write(record)

    def close(self) -> None:
        """Let go of the memory."""
        for slot in (self._state, self._objects, self._setpoint, self._face, self._command, self._status):
            slot.close()

    def _act(self, now: float) -> str:
        if not self.active:
            return "not active"
        reading = self._state.read()
        if reading is None:
            return "no state yet"
        stamp = float(reading.record["stamp"])
        if not now - stamp < self.config.max_state_age:
            limit = 1e3 * self.config.max_state_age
            return f"the state is {1e3 * (now - stamp):.0f} ms old (limit {limit:.0f} ms)"
        given = self._setpoint.read()
        if given is None and self._needs_setpoint:
            return "no set-point yet"
        setpoint = ArmSetpoint() if given is None else records.to_setpoint(given.record)
        poses, stamps = self._seen()
        for name in self._object_names:
            if name not in poses:
                return f"object {name!r} was never seen"
            if now - stamps[name] > self.config.max_object_age:
                return f"object {name!r} was seen {now - stamps[name]:.1f} s ago"
        state = records.to_state(reading.record, poses)
        if problem := _not_finite(state, setpoint):
            return problem
        if not 0.0 <= now - self._last_command <= _GAP_PERIODS * self.period:
            self.policy.reset()
            self.resets += 1
        begin = time.monotonic()
        command = self.policy.step(state, setpoint)
        self.inference.record(time.monotonic() - begin)
        if not isinstance(command, (CartesianTwist, JointPositions, JointTorques)):
            return f"the policy gives {type(command).__name__}, which no arm takes"
        if not np.all(np.isfinite(np.asarray(command.values))):
            self._last_command = -math.inf  # its memory holds what it put out
            return "the policy's command is not finite"
        self._last_command = now
        self.commands += 1
        record = records.new(self._command.dtype)
        self._command.write(records.fill_command(record, command, begin, self.period))
        return ""

    def _seen(self) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        reading = self._objects.read()
        return ({}, {}) if reading is None else records.to_objects(reading.record)

    def _try_out(self) -> bool:
        """Take one step on a made-up state, since the first one takes longer; returns whether a goal is needed."""
        pose = np.array([0.5, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0], np.float32)
        zeros = np.zeros(max(6, self._joints), np.float32)
        manifest = self.policy.manifest
        state = ArmState(
            joint_positions=zeros[: self._joints],
            joint_velocities=zeros[: self._joints],
            tool_pose=pose,
            tool_twist=zeros[:6],
            gripper_width=np.float32(0.0),
            joint_torques=zeros[: self._joints],
            wrench=zeros[:6],
            objects=dict.fromkeys(self._object_names, pose),
        )
        self.policy.step(state, ArmSetpoint(tool_pose=pose))
        self.policy.reset()
        memory = observations.initial_memory(manifest.observation, zeros[:1])
        try:
            observations.observe(manifest.observation, state, ArmSetpoint(), memory, self.period)
        except (TypeError, AttributeError, AssertionError):
            return True
        return False


def named_objects(policy: policies.Policy) -> tuple[str, ...]:
    """Names of the objects whose poses the policy observes."""
    names = [
        str(config.parameters[key])
        for config in policy.manifest.observation
        for key in observations.find_term(config).poses
        if key in config.parameters
    ]
    return tuple(dict.fromkeys(name for name in names if name not in ("tool", "goal", "base")))


def _not_finite(state: ArmState, setpoint: ArmSetpoint) -> str:
    parts = {"joint positions": state.joint_positions, "joint velocities": state.joint_velocities,
             "tool pose": state.tool_pose, "set-point": setpoint.tool_pose, **state.objects}  # fmt: skip
    bad = [name for name, value in parts.items() if value is not None and not np.all(np.isfinite(value))]
    return f"{', '.join(bad)} not finite" if bad else ""


def main(argument: str, stop: StopRequest) -> int:
    """Run the policy until told to end; `argument` is a `PolicyConfig` as JSON."""
    config = from_json(PolicyConfig, argument)
    description = load_arm(config.robot)
    policy = policies.load(config.bundle, robot=description.interface)
    if policy.manifest.images:
        raise ValueError(
            f"policy {policy.manifest.name!r} sees pictures of {', '.join(policy.manifest.images)}; pictures do not "
            "come through shared memory yet"
        )
    runner = PolicyRunner(policy, description.num_joints, config, Path(config.folder))
    try:
        granted = become_realtime(config.realtime)
        loop = DeadlineLoop(policy.manifest.control_rate_hz)
        while True:
            now = loop.wait()
            if stop.requested:  # told to end while it waited: no command more
                break
            runner.tick(now)
            runner.publish(loop, granted.text)
    finally:
        runner.close()
    return 0
