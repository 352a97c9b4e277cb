"""The native policy process of an arm stands in for the one in Python."""

import sys
import time

import numpy as np
import pytest

import policies
from hardware.realtime.seqlock import SlotReader, SlotWriter
from policies.bundle import read_manifest
from policies.types import ArmSetpoint, ArmState
from robot_rl.export_c.compiled import CompiledPolicy, compile_library, find_compiler
from robot_rl.export_c.writer import write_c
from robot_rl.native.arm import NativeArmPolicy
from robot_rl.planes import records
from robot_rl.planes.settings import PolicyConfig

pytestmark = [
    pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler: the native process is not tested"),
    pytest.mark.skipif(sys.platform != "linux", reason="the native loop needs Linux"),
]
GOAL, TOOL, BOX = ([x, y, 0.03, 0.0, 1.0, 0.0, 0.0] for x, y in ((0.6, 0.1), (0.45, -0.05), (0.5, 0.02)))


def write(folder, writers, **fields):
    for name, (dtype, values) in fields.items():
        record = records.new(dtype)
        for field, value in values.items():
            record[field] = value
        writers.setdefault(name, None)
        if writers[name] is None:
            writers[name] = SlotWriter(folder, name, dtype)
        writers[name].write(record)


def test_commands_are_those_of_the_bundle_and_follow_the_face(tmp_path):
    bundle = "arm-push"
    library = compile_library(write_c(bundle, tmp_path / "c", vectors=4))
    policy = CompiledPolicy(library, read_manifest(bundle)[1])
    writers = {}
    config = PolicyConfig(folder=str(tmp_path), bundle=bundle, max_state_age=1e6, max_object_age=1e6)
    native = NativeArmPolicy(policy, 7, config, tmp_path)
    commands = SlotReader(tmp_path, "command", records.command_dtype(7))
    status = SlotReader(tmp_path, "policy", records.POLICY)
    try:
        assert native.tick() == "not active"
        write(tmp_path, writers, face=(records.FACE, {"policy_active": True, "episode": 1}))
        assert native.tick() == "no set-point yet"
        write(tmp_path, writers, setpoint=(records.SETPOINT, {"has_tool_pose": True, "tool_pose": GOAL}))
        assert native.tick() == "object 'box' was never seen"
        now = time.monotonic()
        state = {"stamp": now, "tool_pose": TOOL, "gripper_width": 0.0}
        objects = records.fill_objects(
            records.new(records.OBJECTS), {"cup": np.array(TOOL), "box": np.array(BOX)}, {"cup": now, "box": now}
        )
        writers["objects"] = SlotWriter(tmp_path, "objects", records.OBJECTS)
        writers["objects"].write(objects)
        write(tmp_path, writers, state=(records.state_dtype(7), state))
        assert native.tick() == ""
        deadline = time.monotonic() + 5.0
        while (reading := commands.read()) is None or reading.sequence < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        zero = np.zeros(7, np.float32)
        pose = {name: np.asarray(value, np.float32) for name, value in (("tool", TOOL), ("box", BOX), ("goal", GOAL))}
        given = ArmState(zero, zero, pose["tool"], np.zeros(6, np.float32), np.float32(0.0),
                         objects={"box": pose["box"]})  # fmt: skip
        runtime = policies.load(bundle)
        for _ in range(reading.sequence):
            expected = runtime.step(given, ArmSetpoint(tool_pose=pose["goal"]))
        command = records.to_command(reading.record, 7)
        np.testing.assert_allclose(command.values, expected.values, atol=1e-5)
        assert command.frame == "base" and command.gripper == -1.0
        assert reading.record["stamp"] == now and bool(reading.record["held"])
        assert float(reading.record["period"]) == pytest.approx(0.1)
        native.publish(ticks=1)
        said = status.read().record
        assert bool(said["active"]) and int(said["commands"]) >= 2 and records.text(said["bundle"]) == "arm-push"
        write(tmp_path, writers, face=(records.FACE, {"policy_active": False, "episode": 1}))
        assert native.tick() == "not active"
        time.sleep(0.15)
        silent = commands.sequence
        time.sleep(0.3)
        assert commands.sequence == silent
    finally:
        native.close()
        for slot in (commands, status, *writers.values()):
            slot.close()
