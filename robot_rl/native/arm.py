"""The native policy process of an arm: in place of `robot_rl.planes.policy_process`, with the policy in a thread of C.

Python only starts it, passes on what the face wants, and says how it goes, some times a second.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hardware.descriptions import load_arm
from hardware.realtime.loop import DeadlineLoop
from hardware.realtime.seqlock import SlotReader, SlotWriter
from policies.bundle import read_manifest
from policies.manifest import Manifest
from robot_rl.export_c.compiled import CompiledPolicy
from robot_rl.native.cache import compiled
from robot_rl.native.loop import Input, NativeConfig, NativeLoop, Output
from robot_rl.nodes.process import StopRequest
from robot_rl.planes import records
from robot_rl.planes.settings import PolicyConfig
from robot_rl.rebuild import from_json

_HOUSEKEEPING_HZ = 50.0
_BOOT_ERROR = 1e-4
"""Largest difference to the bundle's stored, normalized actions with which a compiled policy may start."""


class NativeArmPolicy:
    """A compiled policy between the slots of an arm's processes."""

    def __init__(self, policy: CompiledPolicy, joints: int, config: PolicyConfig, folder: Path) -> None:
        """Attach to the slots that need no knowledge of the objects."""
        self.policy, self.config, self._joints, self._folder = policy, config, joints, folder
        self._face = SlotReader(folder, "face", records.FACE)
        self._setpoint = SlotReader(folder, "setpoint", records.SETPOINT)
        self._objects = SlotReader(folder, "objects", records.OBJECTS)
        self._status = SlotWriter(folder, "policy", records.POLICY)
        self._loop: NativeLoop | None = None
        self._places: dict[str, int] = {}
        self._episode = 0
        self.reason = "not active"
        """Why it may not give commands; empty where it may."""

    def tick(self) -> str:
        """Pass on what the face wants; returns why there are no commands, or ""."""
        self.reason = self._blocked()
        if self._loop is None and not self.reason:
            self._loop = self._make()
            self._loop.start()
        if self._loop is not None:
            self._loop.activate(not self.reason)
        return self.reason

    def publish(self, ticks: int) -> None:
        """Say how it goes."""
        record, manifest = records.new(records.POLICY), self.policy.manifest
        record["bundle"], record["rate_hz"] = manifest.name.encode()[:128], manifest.control_rate_hz
        record["ready"], record["active"] = True, not self.reason
        record["reason"] = records.encode(self.reason)
        if self._loop is not None:
            now = self._loop.statistics()
            record["ticks"], record["commands"], record["resets"] = now.ticks, now.commands, now.resets
            record["lost_periods"], record["realtime"] = now.lost_periods, records.encode(f"native: {now.granted}")
            records.fill_histogram(record, "inference", now.work)
        else:
            record["ticks"] = ticks
        self._status.write(record)

    def close(self) -> None:
        """Stop the thread and let go of the memory."""
        if self._loop is not None:
            self._loop.close()
        for slot in (self._face, self._setpoint, self._objects, self._status):
            slot.close()

    def _blocked(self) -> str:
        face = self._face.read()
        if face is None or not bool(face.record["policy_active"]):
            return "not active"
        if int(face.record["episode"]) != self._episode:
            self._episode = int(face.record["episode"])
            if self._loop is not None:
                self._loop.reset()
        if self.policy.layout.uses_setpoint:
            setpoint = self._setpoint.read()
            if setpoint is None or not bool(setpoint.record["has_tool_pose"]):
                return "no set-point yet"
        return self._find_objects()

    def _find_objects(self) -> str:
        """Where the policy's objects are in the record; a change of the order needs a new loop."""
        needed = [name.split(".", 1)[1] for name, _ in self.policy.layout.state if "." in name]
        if not needed:
            return ""
        reading = self._objects.read()
        poses = {} if reading is None else records.to_objects(reading.record)[0]
        if missing := [name for name in needed if name not in poses]:
            return f"object {missing[0]!r} was never seen"
        places = {name: list(poses).index(name) for name in needed}
        if places != self._places and self._loop is not None:
            self._loop.close()
            self._loop = None
        self._places = places
        return ""

    def _make(self) -> NativeLoop:
        layout, manifest = self.policy.layout, self.policy.manifest
        dtype = records.state_dtype(self._joints)
        plain = {name: name for name, _ in layout.state if "." not in name}
        inputs = [Input(name="state", dtype=dtype, target="state", fields=plain, max_age=self.config.max_state_age,
                        stamp_field="stamp")]  # fmt: skip
        for name, index in self._places.items():
            poses, stamps = records.OBJECTS.fields["poses"][1], records.OBJECTS.fields["stamps"][1]  # type: ignore[index]
            inputs.append(Input(name="objects", dtype=records.OBJECTS, target="state",
                                fields={f"objects.{name}": poses + 7 * 8 * index},
                                max_age=self.config.max_object_age, stamp_field=stamps + 8 * index))  # fmt: skip
        if layout.uses_setpoint:
            inputs.append(Input(name="setpoint", dtype=records.SETPOINT, target="setpoint",
                                fields={"tool_pose": "tool_pose"}, max_age=np.inf))  # fmt: skip
        blank = _blank_command(manifest, records.command_dtype(self._joints))
        fields: dict[str, str | int] = {layout.command[0][0]: "values", "gripper": "gripper"}
        return NativeLoop(
            self.policy,
            self._folder,
            inputs,
            Output(name="command", blank=blank, fields=fields, stamp_field="stamp"),
            NativeConfig(priority=self.config.realtime.priority, lock_memory=self.config.realtime.lock_memory),
        )


def _blank_command(manifest: Manifest, dtype: np.dtype) -> np.ndarray:
    record = records.new(dtype)
    record["held"], record["period"] = True, 1.0 / manifest.control_rate_hz
    record["kind"] = {"cartesian_twist": 0, "joint_position_targets": 1}[manifest.action.name]
    record["in_tool_frame"] = manifest.action.parameters.get("frame") == "tool"
    return record


def main(argument: str, stop: StopRequest) -> int:
    """Run the policy until told to end; `argument` is a `PolicyConfig` as JSON."""
    config = from_json(PolicyConfig, argument)
    description = load_arm(config.robot)
    _, manifest = read_manifest(config.bundle, description.interface)
    policy = CompiledPolicy(compiled(config.bundle), manifest)
    if not (error := policy.boot_test()) <= _BOOT_ERROR:
        raise ValueError(f"policy {config.bundle!r} in C differs from its stored actions by {error:.1e}")
    native = NativeArmPolicy(policy, description.num_joints, config, Path(config.folder))
    try:
        loop = DeadlineLoop(_HOUSEKEEPING_HZ)
        while not stop.requested:
            loop.wait()
            native.tick()
            native.publish(loop.ticks)
    finally:
        native.close()
    return 0
